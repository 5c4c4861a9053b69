//! The commands that speak into a file, with the server's engine and without the server.

mod convert;
mod say;
mod sink;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use chatterbox_audio::Format;
use chatterbox_engine::{EngineKind, EngineOptions, EngineState};
use chatterbox_speech::error::Error;
use chatterbox_speech::options::SpeechOptions;
use chatterbox_speech::params::OutputParams;
use chatterbox_speech::service::SpeechService;
use chatterbox_speech::{Speech, SpeechEvent, Summary};
use chatterbox_voices::VoiceOptions;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

pub use convert::{ConvertOptions, convert};
pub use say::{SayOptions, say};

use crate::log_options::LogOptions;
use crate::shutdown::{self, status};
use crate::{load_progress, python, server, telemetry};
use sink::Sink;

/// Arguments of both commands.
#[derive(Args)]
pub struct OutputOptions {
    /// The audio file; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "speech.wav")]
    output: PathBuf,

    #[command(flatten)]
    params: OutputParams,

    #[command(flatten)]
    speech: SpeechOptions,
    #[command(flatten)]
    engine: EngineOptions,
    #[command(flatten)]
    voices: VoiceOptions,
    #[command(flatten)]
    pub logs: LogOptions,
}

impl OutputOptions {
    /// The audio that was asked for. The error is a sentence.
    fn params(&self) -> Result<OutputParams, String> {
        let mut params = self.params.clone();
        params.format = self.format()?;
        // Into a file, which has time to be measured.
        params.stream = Some(false);
        Ok(params)
    }

    /// The format that was asked for, by name or by the file's.
    fn format(&self) -> Result<Option<String>, String> {
        if self.params.format.is_some() {
            return Ok(self.params.format.clone());
        }
        let Some(extension) = self.output.extension() else {
            return Ok(None);
        };
        let named = extension
            .to_str()
            .filter(|name| Format::parse(name).is_some());
        named.map(|name| Some(name.to_owned())).ok_or_else(|| {
            let known = Format::ALL.iter().map(|format| format.name());
            format!(
                "{}: no audio format is called {}; there are {}, and --format chooses one for any file name",
                self.output.display(),
                extension.display(),
                known.collect::<Vec<_>>().join(", ")
            )
        })
    }
}

/// Why nothing was spoken.
enum Failure {
    Interrupted,
    /// A sentence.
    Problem(String),
}

/// Loads the engine, does `work` with it and reports; returns the exit status.
fn run<W>(options: &OutputOptions, work: W) -> i32
where
    W: AsyncFnOnce(Arc<SpeechService>) -> Result<Summary, String>,
{
    // Before the engine is loaded, which takes its time.
    if let Err(problem) = options.format() {
        telemetry::print_error(&format!("error: {problem}"));
        return status::CANNOT_START;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let spoken = match runtime {
        Ok(runtime) => runtime.block_on(with_engine(options, work)),
        Err(error) => Err(Failure::Problem(format!(
            "the runtime could not be started: {error}"
        ))),
    };
    match spoken {
        Ok(summary) => {
            telemetry::print_error(&format!(
                "{}: {:.2} s of audio, RTF {:.3}, first audio after {} ms",
                options.output.display(),
                summary.audio_seconds,
                summary.real_time_factor,
                summary.timing.first_audio.as_millis()
            ));
            status::OK
        }
        // The engine may be in the middle of a step: Python cannot be left in order then.
        Err(Failure::Interrupted) => shutdown::exit_now(status::INTERRUPTED),
        Err(Failure::Problem(problem)) => {
            telemetry::print_error(&format!("error: {problem}"));
            shutdown::exit_now(status::CANNOT_START)
        }
    }
}

async fn with_engine<W>(options: &OutputOptions, work: W) -> Result<Summary, Failure>
where
    W: AsyncFnOnce(Arc<SpeechService>) -> Result<Summary, String>,
{
    let (service, thread) = start(options).await.map_err(Failure::Problem)?;
    let service = Arc::new(service);
    let spoken = tokio::select! {
        spoken = work(Arc::clone(&service)) => spoken.map_err(Failure::Problem),
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
    };
    if spoken.is_ok() {
        server::end_engine(&service.engine, thread).await;
    }
    spoken
}

/// Loads the engine and waits until it is ready.
async fn start(options: &OutputOptions) -> Result<(SpeechService, JoinHandle<()>), String> {
    let folder = &options.voices.voices_dir;
    let store = options.voices.open();
    let store = store.map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut settings = options
        .engine
        .load_settings(options.voices.prepared_dir(), 1);
    if let (EngineKind::Auto, Some(model)) = (settings.engine, &options.params.model) {
        // Only this one is used.
        settings.models = vec![model.clone()];
    }
    let (handle, thread) = chatterbox_engine::spawn(move |worker| python::run(worker, settings))
        .map_err(|error| format!("the engine's thread cannot be started: {error}"))?;
    load_progress::report(handle.status()).await;
    if let EngineState::Failed(reason) = handle.status().state() {
        return Err(reason);
    }
    let mut speech = options.speech.clone();
    // One request alone: a whole book may be read.
    speech.limits.max_text_length = usize::MAX;
    let service = SpeechService::new(handle, Arc::new(store), speech, options.voices.clone());
    Ok((service, thread))
}

/// Writes what is spoken; `on_event` sees every event first. The sink has all audio, but is not finished.
async fn write(
    mut speech: Speech,
    options: &OutputOptions,
    mut on_event: impl FnMut(&SpeechEvent),
) -> Result<(Sink, Summary), String> {
    let mut sink = Sink::create(&options.output)?;
    loop {
        let event = speech.next().await;
        let event = event
            .unwrap_or_else(|| Err(Error::engine_gone()))
            .map_err(|error| error.to_string())?;
        on_event(&event);
        match event {
            SpeechEvent::Audio(audio) => sink.write(&audio.chunks.concat())?,
            SpeechEvent::Finished { last, summary } => {
                sink.write(&last)?;
                return Ok((sink, summary));
            }
            SpeechEvent::Started(_) | SpeechEvent::Progress { .. } => {}
        }
    }
}

/// A progress bar that is cleared when it is dropped.
struct WorkProgress(ProgressBar);

impl WorkProgress {
    /// Hidden unless it is `wanted` and standard error is a terminal.
    fn new(length: u64, wanted: bool) -> Self {
        let style = ProgressStyle::with_template("{wide_bar} {percent} %, {eta} left");
        match style {
            Ok(style) if wanted && telemetry::shows_progress() => {
                Self(telemetry::shown(ProgressBar::new(length).with_style(style)))
            }
            _ => Self(ProgressBar::hidden()),
        }
    }
}

impl Drop for WorkProgress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
