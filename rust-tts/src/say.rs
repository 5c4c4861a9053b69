//! `chatterbox-server say`: a text into a file, with the server's engine and without the server.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Command, FromArgMatches};
use indicatif::{ProgressBar, ProgressStyle};

use crate::audio::{Format, Length, encoder};
use crate::auth::Keys;
use crate::config::{EngineOptions, LogOptions, ServerOptions, VoiceOptions};
use crate::engine::{self, EngineState};
use crate::error::ApiError;
use crate::shutdown::status;
use crate::speech::request::{AudioDraft, Draft, VoiceDraft};
use crate::speech::{self, Piece, Summary};
use crate::state::App;

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

/// Speaks and reports; returns the exit status.
pub fn run(options: &SayOptions) -> i32 {
    let spoken = read_text(options).and_then(|text| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("the runtime could not be started: {error}"))?;
        runtime.block_on(speak(options, text))
    });
    match spoken {
        Ok(summary) => {
            let name = if is_dash(&options.output) { "standard output".into() } else { options.output.display().to_string() };
            eprintln!(
                "{name}: {:.2} s of audio, RTF {:.3}, first audio after {} ms",
                summary.audio_seconds,
                summary.real_time_factor,
                summary.timing.first_audio.as_millis()
            );
            status::OK
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            status::CANNOT_START
        }
    }
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read_text(options: &SayOptions) -> Result<String, String> {
    if let Some(path) = &options.input {
        return std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    }
    match options.text.as_deref() {
        Some(text) if text != "-" => Ok(text.to_owned()),
        _ => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
            Ok(text)
        }
    }
}

async fn speak(options: &SayOptions, text: String) -> Result<Summary, String> {
    let app = Arc::new(start(options).await?);
    let characters = text.chars().count();
    let request = options.draft(text).validate(&app, Format::Wav, false).map_err(|error| error.message)?;
    let mut sink = Sink::create(&options.output, request.output.format, request.output.sample_rate)?;
    let texts = speech::whole(&request.text, app.engine_options.text_chunk_size);
    let mut speech = speech::start(&app, request, texts, "say");
    let bar = progress(characters);
    let interrupted = || "interrupted".to_owned();
    let result = loop {
        let piece = tokio::select! {
            piece = speech.next() => piece,
            _ = tokio::signal::ctrl_c() => break Err(interrupted()),
        };
        match piece.unwrap_or_else(|| Err(ApiError::engine_gone())) {
            Ok(Piece::Started(_)) => {}
            Ok(Piece::Audio(samples)) => sink.push(&samples)?,
            Ok(Piece::Progress { characters }) => bar.inc(characters as u64),
            Ok(Piece::Finished(summary)) => {
                sink.finish()?;
                break Ok(summary);
            }
            Err(error) => break Err(error.message),
        }
    };
    bar.finish_and_clear();
    result
}

/// Loads the engine and waits until it speaks.
async fn start(options: &SayOptions) -> Result<App, String> {
    let store = options.voices.open().map_err(|error| format!("{}: {error}", options.voices.voices_dir.display()))?;
    let settings = options.engine.load_settings();
    let (handle, _) = engine::spawn(move |worker| engine::python::run(worker, &settings))
        .map_err(|error| format!("the engine's thread cannot be started: {error}"))?;
    let mut states = handle.status().subscribe();
    let state = states.wait_for(|state| !matches!(state, EngineState::Loading)).await;
    if let EngineState::Failed(reason) = state.map_err(|error| error.to_string())?.clone() {
        return Err(reason);
    }
    let mut server = server_defaults()?;
    // Nobody else waits: a whole book may be read.
    server.limits.max_text_length = usize::MAX;
    let keys = Keys::none();
    Ok(App::new(handle, Arc::new(store), &options.engine, &options.voices, &server, keys, None))
}

/// The server's options as the environment has them.
fn server_defaults() -> Result<ServerOptions, String> {
    let command = ServerOptions::augment_args(Command::new("chatterbox-server"));
    let matches = command.try_get_matches_from(["chatterbox-server"]).map_err(|error| error.to_string())?;
    ServerOptions::from_arg_matches(&matches).map_err(|error| error.to_string())
}

fn progress(characters: usize) -> ProgressBar {
    if characters < LONG_TEXT || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {percent} %, {eta} left");
    let bar = ProgressBar::new(characters as u64);
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}

impl SayOptions {
    fn draft(&self, text: String) -> Draft {
        let named = self.output.extension().and_then(|name| name.to_str()).filter(|name| Format::parse(name).is_some());
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

/// The output: a file, whose head is corrected at the end, or standard output, whose head cannot be.
struct Sink {
    file: Box<dyn Target>,
    encoder: Box<dyn crate::audio::Encoder>,
    format: Format,
    sample_rate: u32,
    samples: u64,
    seekable: bool,
    path: PathBuf,
}

trait Target: Write {
    fn rewind(&mut self) -> std::io::Result<()>;
}

impl Target for File {
    fn rewind(&mut self) -> std::io::Result<()> {
        self.seek(SeekFrom::Start(0)).map(|_| ())
    }
}

impl Target for std::io::Stdout {
    fn rewind(&mut self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::NotSeekable.into())
    }
}

impl Sink {
    fn create(path: &Path, format: Format, sample_rate: u32) -> Result<Self, String> {
        let seekable = !is_dash(path);
        let file: Box<dyn Target> = if seekable {
            Box::new(File::create(path).map_err(|error| format!("{}: {error}", path.display()))?)
        } else {
            Box::new(std::io::stdout())
        };
        let encoder = encoder(format, sample_rate, Length::Unknown);
        let mut sink = Self { file, encoder, format, sample_rate, samples: 0, seekable, path: path.to_owned() };
        let head = sink.encoder.head();
        sink.write(&head)?;
        Ok(sink)
    }

    fn push(&mut self, samples: &[f32]) -> Result<(), String> {
        self.samples += samples.len() as u64;
        let bytes = self.encoder.push(samples);
        self.write(&bytes)
    }

    fn finish(&mut self) -> Result<(), String> {
        let bytes = self.encoder.finish();
        self.write(&bytes)?;
        if self.seekable {
            let head = encoder(self.format, self.sample_rate, Length::Samples(self.samples)).head();
            self.file.rewind().map_err(|error| self.problem(&error))?;
            self.write(&head)?;
        }
        self.file.flush().map_err(|error| self.problem(&error))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.file.write_all(bytes).map_err(|error| self.problem(&error))
    }

    fn problem(&self, error: &std::io::Error) -> String {
        format!("{}: {error}", self.path.display())
    }
}
