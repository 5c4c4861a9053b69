//! `chatterbox-server say`: a text into a file, with the server's engine and without the server.

mod sink;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use clap::{Args, Command, FromArgMatches};
use indicatif::{ProgressBar, ProgressStyle};

use crate::audio::Format;
use crate::auth::Keys;
use crate::config::{EngineOptions, LogOptions, ServerOptions, VoiceOptions};
use crate::engine::{self, EngineState};
use crate::error::ApiError;
use crate::shutdown::{self, status};
use crate::speech::draft::{AudioDraft, Draft, VoiceDraft};
use crate::speech::request::Output;
use crate::speech::{self, Piece, Summary};
use crate::state::{App, Shared};
use crate::{server, telemetry};
use sink::Sink;

/// A text shorter than this is over before a bar has been drawn, in characters.
const LONG_TEXT: usize = 400;

#[derive(Args)]
pub struct SayOptions {
    /// The text; `-`, or none at all, reads standard input
    text: Option<String>,

    /// Read the text from a file
    #[arg(short, long, value_name = "FILE", conflicts_with = "text")]
    input: Option<PathBuf>,

    /// The audio file; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "speech.wav")]
    output: PathBuf,

    /// Model that speaks
    #[arg(long)]
    model: Option<String>,

    /// A built-in voice, or a file of the voices folder
    #[arg(long)]
    voice: Option<String>,

    /// Language of the text
    #[arg(long)]
    language: Option<String>,

    /// The same seed and text give the same samples
    #[arg(long)]
    seed: Option<u64>,

    /// Audio format. Default: what the output file's name says, else wav
    #[arg(long)]
    format: Option<String>,

    /// Samples per second
    #[arg(long)]
    sample_rate: Option<u32>,

    /// Pace; 2 is twice as fast
    #[arg(long)]
    speed: Option<f64>,

    /// Sampling temperature; 0 is greedy
    #[arg(long)]
    temperature: Option<f64>,

    /// Emotional intensity, 0 to 2
    #[arg(long)]
    exaggeration: Option<f64>,

    /// Weight of classifier-free guidance, 0 to 1
    #[arg(long)]
    cfg_weight: Option<f64>,

    /// Longest audio in seconds
    #[arg(long)]
    max_audio_seconds: Option<f64>,

    #[command(flatten)]
    engine: EngineOptions,
    #[command(flatten)]
    voices: VoiceOptions,
    #[command(flatten)]
    pub logs: LogOptions,
}

/// Why nothing was spoken.
enum Failure {
    Interrupted,
    /// A sentence.
    Problem(String),
}

impl From<String> for Failure {
    fn from(problem: String) -> Self {
        Self::Problem(problem)
    }
}

/// Speaks and reports; returns the exit status.
pub fn run(options: &SayOptions) -> i32 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let spoken = match runtime {
        Ok(runtime) => runtime.block_on(speak(options)),
        Err(error) => Err(Failure::Problem(format!(
            "the runtime could not be started: {error}"
        ))),
    };
    match spoken {
        Ok(summary) => {
            telemetry::complain(&format!(
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
            telemetry::complain(&format!("error: {problem}"));
            shutdown::exit_now(status::CANNOT_START)
        }
    }
}

fn read_text(options: &SayOptions) -> Result<String, String> {
    if let Some(path) = &options.input {
        return std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()));
    }
    match options.text.as_deref() {
        Some(text) if text != "-" => Ok(text.to_owned()),
        _ => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| format!("standard input: {error}"))?;
            Ok(text)
        }
    }
}

async fn speak(options: &SayOptions) -> Result<Summary, Failure> {
    let text = read_text(options)?;
    let (app, thread) = start(options).await?;
    let app = Arc::new(app);
    let bar = progress(text.chars().count());
    let spoken = tokio::select! {
        spoken = write_speech(&app, options, text, &bar) => spoken.map_err(Failure::Problem),
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
    };
    bar.finish_and_clear();
    if spoken.is_ok() {
        server::end_engine(&app, thread).await;
    }
    spoken
}

async fn write_speech(
    app: &Shared,
    options: &SayOptions,
    text: String,
    bar: &ProgressBar,
) -> Result<Summary, String> {
    let request = options.draft(text).validate(app, Format::Wav, false);
    let request = request.map_err(|error| error.message)?;
    let Output {
        format,
        sample_rate,
        ..
    } = request.output;
    let texts = speech::whole(&request.text, app.engine_options.text_chunk_size);
    let mut speech = speech::start(app, request, texts, "say");
    let mut sink = Sink::create(&options.output, format, sample_rate)?;
    loop {
        let piece = speech.next().await;
        match piece.unwrap_or_else(|| Err(ApiError::engine_gone())) {
            Ok(Piece::Started(_)) => {}
            Ok(Piece::Audio(samples)) => sink.push(&samples)?,
            Ok(Piece::Progress { characters }) => bar.inc(characters as u64),
            Ok(Piece::Finished(summary)) => {
                sink.finish()?;
                return Ok(summary);
            }
            Err(error) => return Err(error.message),
        }
    }
}

/// Loads the engine and waits until it speaks.
async fn start(options: &SayOptions) -> Result<(App, JoinHandle<()>), String> {
    let folder = &options.voices.voices_dir;
    let store = options.voices.open();
    let store = store.map_err(|error| format!("{}: {error}", folder.display()))?;
    let settings = options.engine.load_settings();
    let (handle, thread) = engine::spawn(move |worker| engine::python::run(worker, &settings))
        .map_err(|error| format!("the engine's thread cannot be started: {error}"))?;
    let mut states = handle.status().subscribe();
    let state = states
        .wait_for(|state| !matches!(state, EngineState::Loading))
        .await;
    if let EngineState::Failed(reason) = state.map_err(|error| error.to_string())?.clone() {
        return Err(reason);
    }
    let mut server = server_defaults()?;
    // Nobody else waits: a whole book may be read.
    server.limits.max_text_length = usize::MAX;
    let (engine, voices) = (&options.engine, &options.voices);
    let app = App::new(
        handle,
        Arc::new(store),
        engine,
        voices,
        &server,
        Keys::none(),
        None,
    );
    Ok((app, thread))
}

/// The server's options as the environment has them.
fn server_defaults() -> Result<ServerOptions, String> {
    let command = ServerOptions::augment_args(Command::new("chatterbox-server"));
    let matches = command
        .try_get_matches_from(["chatterbox-server"])
        .map_err(|error| error.to_string())?;
    ServerOptions::from_arg_matches(&matches).map_err(|error| error.to_string())
}

fn progress(characters: usize) -> ProgressBar {
    if characters < LONG_TEXT || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {percent} %, {eta} left");
    let bar = ProgressBar::new(characters as u64);
    style
        .map(|style| bar.clone().with_style(style))
        .unwrap_or(bar)
}

impl SayOptions {
    fn draft(&self, text: String) -> Draft {
        let named = self
            .output
            .extension()
            .and_then(|name| name.to_str())
            .filter(|name| Format::parse(name).is_some());
        Draft {
            text: Some(text),
            model: self.model.clone(),
            language_id: self.language.clone(),
            voice: VoiceDraft {
                audio_prompt_path: self.voice.clone(),
                exaggeration: self.exaggeration,
                cfg_weight: self.cfg_weight,
                temperature: self.temperature,
                ..VoiceDraft::default()
            },
            audio: AudioDraft {
                format: self.format.clone().or_else(|| named.map(str::to_owned)),
                sample_rate: self.sample_rate,
                ..AudioDraft::default()
            },
            seed: self.seed,
            speed: self.speed,
            max_audio_seconds: self.max_audio_seconds,
            ..Draft::default()
        }
    }
}
