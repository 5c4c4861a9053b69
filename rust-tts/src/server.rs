//! Starts the server, accepts connections, and ends it in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chatterbox_engine::{EngineHandle, EngineState};
use chatterbox_http::HttpOptions;
use chatterbox_http::auth::Keys;
use chatterbox_http::connections;
use chatterbox_http::state::{App, Shared};
use chatterbox_speech::metrics::Metrics;
use chatterbox_speech::options::SpeechOptions;
use chatterbox_speech::service::SpeechService;
use chatterbox_voices::{VoiceCache, VoiceError, VoiceOptions, VoiceStore, without_voice};
use tokio::net::TcpListener;
use tokio::time::{interval, sleep, timeout};
use tracing::{error, info, warn};

use crate::announce::{Announcement, announce};
use crate::cli::ServerOptions;
use crate::shutdown::{self, Signals, status};
use crate::{load_progress, python};

/// Time between two looks at whether the engine's step has ended.
const WATCHDOG_INTERVAL: Duration = Duration::from_millis(250);
/// Time for the last answers to be written before the process ends.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// How long the engine's thread may take to close.
const ENGINE_CLOSE: Duration = Duration::from_secs(5);

/// Why the server could not start: a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

/// Serves until a signal or the engine's death; returns the exit status.
pub fn run(options: &ServerOptions) -> i32 {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "the runtime could not be started");
            return status::CANNOT_START;
        }
    };
    match runtime.block_on(serve(options)) {
        Ok(status) => {
            // The drain has timed out.
            runtime.shutdown_background();
            status
        }
        Err(error) => {
            error!("{error}");
            status::CANNOT_START
        }
    }
}

async fn serve(options: &ServerOptions) -> Result<i32, StartError> {
    let (http, voices) = (&options.http, &options.voices);
    let keys = Keys::from_options(http)
        .map_err(|error| StartError(format!("The API keys cannot be read: {error}")))?;
    let store = open_voices(voices)?;
    let signals = Signals::register()
        .map_err(|error| StartError(format!("Signals cannot be received: {error}")))?;
    let metrics = Metrics::install()
        .map_err(|error| StartError(format!("Metrics cannot be collected: {error}")))?;
    let listener = listen(http, keys.open()).await?;
    let address = listener
        .local_addr()
        .map_err(|error| StartError(format!("No address to listen on: {error}")))?;
    if keys.open() && !address.ip().is_loopback() {
        warn!(
            "no API_KEY is set, and {address} can be reached from other machines: everybody there may use this server"
        );
    }

    let slots = options.speech.limits.slots();
    let settings = options.engine.load_settings(voices.prepared_dir(), slots);
    warn_of_default_model(&options.speech, &settings.models);
    let (handle, thread) = chatterbox_engine::spawn(move |worker| python::run(worker, settings))
        .map_err(|error| StartError(format!("The engine's thread cannot be started: {error}")))?;
    let speech = Arc::new(SpeechService::new(
        handle,
        store,
        options.speech.clone(),
        voices.clone(),
    ));
    let app = Arc::new(App::new(Arc::clone(&speech), http, keys, metrics));

    let signals = tokio::spawn(signals.drain_then_exit(speech.drain.clone()));
    let loaded = Arc::clone(&speech);
    tokio::spawn(async move { load_progress::report(loaded.engine.status()).await });
    let stored = Arc::clone(&speech);
    tokio::spawn(async move {
        let enrolments = &stored.enrolments;
        enrolments
            .forget_removed(&stored.engine, &stored.voices)
            .await;
    });
    let watchdog = tokio::spawn(watch_engine(
        app.clone(),
        address,
        options.announce.announce,
    ));
    let acceptor = tokio::spawn(connections::accept(
        listener,
        app.clone(),
        http.max_connections,
    ));

    let status = tokio::select! {
        status = watchdog => status.unwrap_or(status::ENGINE_FAILED),
        () = drained(&speech, http.limits.drain_timeout) => status::OK,
        failed = acceptor => {
            error!(?failed, "the listener failed");
            status::CANNOT_START
        }
    };
    if status == status::ENGINE_FAILED {
        sleep(SHUTDOWN_GRACE).await;
        shutdown::exit_now(status);
    }
    end_engine(&speech.engine, thread).await;
    // Until here a second signal ends the process at once.
    signals.abort();
    Ok(status)
}

fn open_voices(options: &VoiceOptions) -> Result<Arc<VoiceStore>, StartError> {
    let store = options.open().map_err(|error| {
        StartError(format!(
            "VOICES_DIR {} cannot be used: {error}",
            options.voices_dir.display()
        ))
    })?;
    store.sweep();
    if let Some(default) = options.default_voice.as_deref()
        && let Err(error) = store.find(default)
    {
        // Another can be set over the API; a missing file is no reason to be silent for everybody.
        warn!(%error, "DEFAULT_VOICE is not there");
    }
    Ok(Arc::new(store))
}

/// Names a `DEFAULT_MODEL` that no request could be answered with.
fn warn_of_default_model(options: &SpeechOptions, models: &[String]) {
    if let Some(name) = &options.default_model
        && !models.contains(name)
    {
        warn!(
            "DEFAULT_MODEL is {name}, which is not loaded: every request that names no model is refused; loaded are {}",
            models.join(", ")
        );
    }
}

/// Where to listen: without a key, on this machine alone unless the operator says otherwise.
pub fn bind_host(options: &HttpOptions, open: bool) -> String {
    let default = if open { "127.0.0.1" } else { "0.0.0.0" };
    options.host.clone().unwrap_or_else(|| default.to_owned())
}

async fn listen(options: &HttpOptions, open: bool) -> Result<TcpListener, StartError> {
    let host = bind_host(options, open);
    let bound = TcpListener::bind((host.as_str(), options.port)).await;
    bound.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; try --port 0, which takes a free port",
            _ => "",
        };
        StartError(format!(
            "{host}:{} cannot be listened on: {error}{advice}",
            options.port
        ))
    })
}

/// Announces readiness, and returns an exit status when the engine has failed or stalled.
async fn watch_engine(app: Shared, address: SocketAddr, form: Announcement) -> i32 {
    let mut states = app.speech.engine.status().subscribe();
    let mut watchdog = interval(WATCHDOG_INTERVAL);
    let mut announced = false;
    loop {
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return status::ENGINE_FAILED },
            _ = watchdog.tick() => {
                app.metrics.upkeep();
                let limit = app.limits.engine_stall_timeout;
                if app.speech.engine.status().in_step_for().is_some_and(|busy| busy > limit) {
                    app.speech.engine.status().fail(format!("no step of the engine ended within {} s", limit.as_secs_f64()));
                }
            }
        }
        match app.speech.engine.status().state() {
            EngineState::Ready(info) if !announced => {
                announced = true;
                info!(
                    models = info.names().join(","),
                    device = info.device,
                    "ready"
                );
                announce(form, address, &app, &info);
                prepare_voices(&app.speech);
            }
            EngineState::Failed(reason) => {
                error!(reason, "the engine failed; the process ends");
                return if announced {
                    status::ENGINE_FAILED
                } else {
                    status::CANNOT_START
                };
            }
            _ => {}
        }
    }
}

/// Deletes what was computed of removed voices, and prepares those that exist.
fn prepare_voices(service: &Arc<SpeechService>) {
    let service = Arc::clone(service);
    tokio::spawn(async move {
        let (store, folder) = (
            service.voices.clone(),
            service.voice_options.voices_dir.clone(),
        );
        let look = move || {
            let voices = store.all()?;
            let removed = without_voice(&folder, &voices);
            Ok::<_, VoiceError>((voices, removed))
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok((voices, removed))) => {
                for key in removed {
                    // An engine that has ended has nothing to delete.
                    let _ = service.engine.forget(key).await;
                }
                if service.voice_options.voice_cache == VoiceCache::Lazy {
                    return;
                }
                for voice in voices {
                    service
                        .enrolments
                        .prepare(&service.engine, &service.voices, &voice)
                        .await;
                }
            }
            Ok(Err(error)) => warn!(%error, "the voices were not prepared"),
            Err(error) => warn!(%error, "the voices were not prepared"),
        }
    });
}

/// Waits for the drain to begin, then for everything that runs to end, but not for ever.
async fn drained(service: &SpeechService, drain_timeout: Duration) {
    service.drain.cancelled().await;
    service.tasks.close();
    if timeout(drain_timeout, service.tasks.wait()).await.is_err() {
        warn!(
            tasks = service.tasks.len(),
            "the drain took too long; what still runs is cut off"
        );
        service.cut.cancel();
        // Time for close frames.
        let _ = timeout(SHUTDOWN_GRACE, service.tasks.wait()).await;
    }
    info!("drained");
}

/// Lets the engine close. One that does not in time is left behind.
pub async fn end_engine(engine: &EngineHandle, thread: std::thread::JoinHandle<()>) {
    let ended = async {
        engine.stop().await;
        tokio::task::spawn_blocking(move || thread.join()).await
    };
    if timeout(ENGINE_CLOSE, ended).await.is_err() {
        warn!("the engine's thread did not end");
        shutdown::exit_now(status::OK);
    }
}
