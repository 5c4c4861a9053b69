//! The command line: `chatterbox-server`, and its commands.

use std::ffi::OsString;

use chatterbox_engine::EngineOptions;
use chatterbox_http::HttpOptions;
use chatterbox_speech::options::SpeechOptions;
use chatterbox_voices::{Filter, VoiceOptions};
use clap::{Args, Parser, Subcommand};

use crate::log_options::{LogLevel, LogOptions};
use crate::offline::{self, ConvertOptions, SayOptions, VoiceCommand};
use crate::python;
use crate::shutdown::{self, status};
use crate::{server, telemetry};

const ABOUT: &str = "Streaming text-to-speech server for the Chatterbox models.

Without a command it serves HTTP and WebSocket. Every option can be set in the environment or in a file `.env` in the
working directory; a flag wins over the environment, and the environment over the file.

Exit status: 0 finished or drained; 1 could not start; 2 a wrong option; 70 the engine failed and the server should be
started again; 130 ended by a second signal.";

#[derive(Parser)]
#[command(name = "chatterbox-server", version, about = "Streaming text-to-speech server", long_about = ABOUT)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    logs: LogOptions,
}

/// Every option of the server.
#[derive(Args)]
pub struct ServerOptions {
    #[command(flatten)]
    pub http: HttpOptions,
    #[command(flatten)]
    pub speech: SpeechOptions,
    #[command(flatten)]
    pub engine: EngineOptions,
    #[command(flatten)]
    pub voices: VoiceOptions,
}

#[derive(Subcommand)]
enum Command {
    /// Speak a text into a file, without a server
    Say(Box<SayOptions>),
    /// Speak a clip again in another voice, into a file, without a server
    Convert(Box<ConvertOptions>),
    /// Measure the engine beside upstream's package, or a server under load
    #[command(disable_help_flag = true)]
    Bench(Passed),
    /// Make the graphs for `BACKEND=onnx` from a checkpoint of turbo or nano
    #[command(disable_help_flag = true)]
    ExportOnnx(Passed),
    /// Take jobs of RunPod's serverless platform, and serve them with a server of its own
    #[command(disable_help_flag = true)]
    Runpod(Passed),
    /// Make voice files
    Voice {
        #[command(subcommand)]
        command: VoiceCommand,
    },
    /// List the voice files
    Voices {
        #[command(flatten)]
        voices: VoiceOptions,
        #[command(flatten)]
        logs: LogOptions,
    },
}

/// What a command that is written in Python parses by itself.
#[derive(Args)]
struct Passed {
    /// `--help` lists them
    #[arg(
        value_name = "ARGUMENTS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<String>,
}

/// Runs the command line `argv` and returns the exit status.
pub fn run(argv: Vec<String>) -> i32 {
    if let Err(problem) = prepare_environment() {
        telemetry::complain(&format!("error: {problem}"));
        return status::USAGE;
    }
    shutdown::survive_file_size_limits();
    let cli = match Cli::try_parse_from(argv.into_iter().map(OsString::from)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" that go to standard output with status 0.
            let _ = error.print();
            return error.exit_code();
        }
    };
    match cli.command {
        None => with_logs(&cli.logs, LogLevel::Info, || server::run(&cli.server)),
        Some(Command::Say(options)) => with_logs(&options.output.logs, LogLevel::Warn, || {
            offline::say(&options)
        }),
        Some(Command::Convert(options)) => with_logs(&options.output.logs, LogLevel::Warn, || {
            offline::convert(&options)
        }),
        Some(Command::Bench(passed)) => {
            python::command("chatterbox_server.bench.cli", &passed.arguments)
        }
        Some(Command::ExportOnnx(passed)) => python::command(
            "chatterbox_server.chatterbox.onnx.export.command",
            &passed.arguments,
        ),
        Some(Command::Runpod(passed)) => {
            python::command("chatterbox_server.serverless.command", &passed.arguments)
        }
        Some(Command::Voice { command }) => {
            with_logs(command.logs(), LogLevel::Warn, || command.run())
        }
        Some(Command::Voices { voices, logs }) => {
            with_logs(&logs, LogLevel::Warn, || list_voices(&voices))
        }
    }
}

fn with_logs(options: &LogOptions, default_level: LogLevel, command: impl FnOnce() -> i32) -> i32 {
    match telemetry::init(options, default_level) {
        Ok(()) => command(),
        Err(problem) => {
            telemetry::complain(&format!("error: {problem}"));
            status::USAGE
        }
    }
}

/// Reads `.env` and forgets empty variables: `PORT=` in a compose file means that it is not set.
fn prepare_environment() -> Result<(), String> {
    match dotenvy::from_path(".env") {
        Err(error) if !error.not_found() => return Err(format!(".env: {error}")),
        _ => {}
    }
    let empty = std::env::vars_os()
        .filter(|(_, value)| value.is_empty())
        .map(|(name, _)| name);
    for name in empty.collect::<Vec<_>>() {
        // SAFETY: neither the runtime nor the engine has been started; this is the only thread that runs.
        unsafe { std::env::remove_var(name) };
    }
    Ok(())
}

fn list_voices(options: &VoiceOptions) -> i32 {
    let listed = options.open().map_err(|error| error.to_string());
    match listed.and_then(|store| {
        store
            .list(&Filter::default())
            .map_err(|error| error.to_string())
    }) {
        Ok(voices) => {
            for voice in &voices {
                telemetry::tell(&format!("{}\t{:.1} s", voice.id, voice.duration_seconds));
            }
            if voices.is_empty() {
                telemetry::complain(&format!("No voices in {}.", options.voices_dir.display()));
            }
            status::OK
        }
        Err(problem) => {
            telemetry::complain(&format!(
                "error: {}: {problem}",
                options.voices_dir.display()
            ));
            status::CANNOT_START
        }
    }
}
