//! Starts the server, accepts connections, and ends it in order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{interval, sleep, timeout};
use tracing::{error, info, warn};

use crate::auth::Keys;
use crate::config::{EngineOptions, ServerOptions, VoiceCache, VoiceOptions};
use crate::connections;
use crate::engine::{self, EngineState};
use crate::loading;
use crate::metrics::Metrics;
use crate::shutdown::{self, Signals, status};
use crate::state::{App, Shared};
use crate::telemetry;
use crate::voices::{VoiceError, VoiceStore, without_voice};

/// How often the engine's pulse is felt.
const PULSE: Duration = Duration::from_millis(250);
/// What last answers get to leave before the process ends.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long the engine's thread may take to close.
const ENGINE_CLOSE: Duration = Duration::from_secs(5);

/// Why the server could not start: a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

/// Serves until a signal or the engine's death; returns the exit status.
pub fn run(server: &ServerOptions, engine: &EngineOptions, voices: &VoiceOptions) -> i32 {
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
    match runtime.block_on(serve(server, engine, voices)) {
        Ok(status) => {
            // What still runs had its time to drain.
            runtime.shutdown_background();
            status
        }
        Err(error) => {
            error!("{error}");
            status::CANNOT_START
        }
    }
}

async fn serve(
    server: &ServerOptions,
    engine: &EngineOptions,
    voices: &VoiceOptions,
) -> Result<i32, StartError> {
    let keys = Keys::from_options(server)
        .map_err(|error| StartError(format!("The API keys cannot be read: {error}")))?;
    if keys.open() {
        warn!("no API_KEY is set: everybody who reaches this server may use it");
    }
    let store = open_voices(voices)?;
    let signals = Signals::register()
        .map_err(|error| StartError(format!("Signals cannot be received: {error}")))?;
    let metrics = Metrics::install()
        .map_err(|error| StartError(format!("Metrics cannot be collected: {error}")))?;
    let listener = listen(server, keys.open()).await?;
    let address = listener
        .local_addr()
        .map_err(|error| StartError(format!("No address to listen on: {error}")))?;

    let settings = engine.load_settings(voices, server.limits.slots());
    let (handle, thread) = engine::spawn(move |worker| engine::python::run(worker, &settings))
        .map_err(|error| StartError(format!("The engine's thread cannot be started: {error}")))?;
    let app = Arc::new(App::new(
        handle,
        store,
        engine,
        voices,
        server,
        keys,
        Some(metrics),
    ));

    let signals = tokio::spawn(signals.obey(app.drain.clone()));
    let reporter = app.clone();
    tokio::spawn(async move { loading::report(reporter.engine.status()).await });
    let forgetful = app.clone();
    tokio::spawn(async move {
        let app = forgetful;
        app.enrolments.forget_gone(&app.engine, &app.voices).await;
    });
    let watchdog = tokio::spawn(watch_engine(app.clone(), address));
    let acceptor = tokio::spawn(connections::accept(
        listener,
        app.clone(),
        server.max_connections,
    ));

    let status = tokio::select! {
        status = watchdog => status.unwrap_or(status::ENGINE_FAILED),
        () = drained(&app) => status::OK,
        failed = acceptor => {
            error!(?failed, "the listener failed");
            status::CANNOT_START
        }
    };
    if status == status::ENGINE_FAILED {
        sleep(LAST_WORDS).await;
        shutdown::exit_now(status);
    }
    end_engine(&app, thread).await;
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

async fn listen(server: &ServerOptions, open: bool) -> Result<TcpListener, StartError> {
    // Without a key, only this machine may come in unless the operator says otherwise.
    let host = server
        .host
        .clone()
        .unwrap_or_else(|| if open { "127.0.0.1" } else { "0.0.0.0" }.to_owned());
    let bound = TcpListener::bind((host.as_str(), server.port)).await;
    bound.map_err(|error| {
        StartError(format!(
            "{host}:{} cannot be listened on: {error}",
            server.port
        ))
    })
}

/// Announces readiness, feels the engine's pulse, and returns an exit status when the engine has died.
async fn watch_engine(app: Shared, address: SocketAddr) -> i32 {
    let mut states = app.engine.status().subscribe();
    let mut pulse = interval(PULSE);
    let mut announced = false;
    loop {
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return status::ENGINE_FAILED },
            _ = pulse.tick() => {
                if let Some(metrics) = &app.metrics {
                    metrics.upkeep();
                }
                let limit = app.limits.engine_stall_timeout;
                if app.engine.status().in_step_for().is_some_and(|busy| busy > limit) {
                    app.engine.status().fail(format!("no step of the engine ended within {} s", limit.as_secs_f64()));
                }
            }
        }
        match app.engine.status().state() {
            EngineState::Ready(info) if !announced => {
                announced = true;
                info!(
                    models = info.names().join(","),
                    device = info.device,
                    "ready"
                );
                announce(address, &app);
                prepare_voices(&app);
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

/// Tells a person at a terminal where to look and what to try.
fn announce(address: SocketAddr, app: &App) {
    let reachable = if address.ip().is_unspecified() {
        SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), address.port())
    } else {
        address
    };
    let key = if app.keys.open() {
        ""
    } else {
        " -H \"X-API-Key: $API_KEY\""
    };
    telemetry::tell(&format!(
        "chatterbox-server {} listens on http://{reachable}\n\
         Try: curl -f http://{reachable}/api/tts{key} -H 'Content-Type: application/json' \
         -d '{{\"text\": \"Hello from your own speech server.\"}}' -o hello.wav",
        crate::VERSION
    ));
}

/// Drops what was computed of voices that are gone, and prepares those that are there.
fn prepare_voices(app: &Shared) {
    let app = app.clone();
    tokio::spawn(async move {
        let (store, folder) = (app.voices.clone(), app.voice_options.voices_dir.clone());
        let look = move || {
            let voices = store.all()?;
            let gone = without_voice(&folder, &voices);
            Ok::<_, VoiceError>((voices, gone))
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok((voices, gone))) => {
                for key in gone {
                    // An engine that is gone has nothing to drop.
                    let _ = app.engine.forget(key).await;
                }
                if app.voice_options.voice_cache == VoiceCache::Lazy {
                    return;
                }
                for voice in voices {
                    app.enrolments
                        .prepare(&app.engine, &app.voices, &voice)
                        .await;
                }
            }
            Ok(Err(error)) => warn!(%error, "the voices were not prepared"),
            Err(error) => warn!(%error, "the voices were not prepared"),
        }
    });
}

/// Waits for the drain to begin, then for everything that runs to end, but not for ever.
async fn drained(app: &App) {
    app.drain.cancelled().await;
    app.tasks.close();
    if timeout(app.limits.drain_timeout, app.tasks.wait())
        .await
        .is_err()
    {
        warn!(
            tasks = app.tasks.len(),
            "the drain took too long; what still runs is cut off"
        );
        app.cut.cancel();
        // Sockets say goodbye.
        let _ = timeout(LAST_WORDS, app.tasks.wait()).await;
    }
    info!("drained");
}

/// Lets the engine close. One that does not in time is left behind.
pub async fn end_engine(app: &App, thread: std::thread::JoinHandle<()>) {
    let ended = async {
        app.engine.stop().await;
        tokio::task::spawn_blocking(move || thread.join()).await
    };
    if timeout(ENGINE_CLOSE, ended).await.is_err() {
        warn!("the engine's thread did not end");
        shutdown::exit_now(status::OK);
    }
}

impl VoiceOptions {
    /// Opens the voices folder.
    pub fn open(&self) -> std::io::Result<VoiceStore> {
        let limits = crate::voices::UploadLimits {
            max_bytes: self.max_voice_file_size as u64,
            ..Default::default()
        };
        VoiceStore::open(
            &self.voices_dir,
            self.preloaded_voices_dir.as_deref().map(Path::new),
            limits,
        )
    }
}
