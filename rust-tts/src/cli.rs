//! The command line: `chatterbox-server`, and its commands.

use std::ffi::OsString;

use chatterbox_engine::EngineOptions;
use chatterbox_http::HttpOptions;
use chatterbox_speech::options::SpeechOptions;
use chatterbox_voices::VoiceOptions;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use crate::announce::AnnounceOptions;
use crate::environment::{self, Environment};
use crate::help;
use crate::log_options::{LogLevel, LogOptions};
use crate::offline::{self, ConvertOptions, SayOptions};
use crate::python;
use crate::settings_docs::{self, Document};
use crate::shutdown::{self, status};
use crate::voice_command::VoiceCommand;
use crate::{doctor, server, telemetry};

#[derive(Parser)]
#[command(
    name = help::PROGRAM,
    version,
    propagate_version = true,
    about = "Streaming text-to-speech server for the Chatterbox models"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print help with all settings
    #[arg(long, global = true, action = clap::ArgAction::HelpLong, display_order = 1000)]
    help_all: Option<bool>,
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
    #[command(flatten)]
    pub logs: LogOptions,
    #[command(flatten)]
    pub announce: AnnounceOptions,
}

#[derive(Subcommand)]
enum Command {
    /// Serve HTTP and WebSocket; this is what happens without a command
    Serve(Box<ServerOptions>),
    /// Speak a text into a file, without a server
    Say(Box<SayOptions>),
    /// Speak a clip again in another voice, into a file, without a server
    Convert(Box<ConvertOptions>),
    /// List, show, delete and make voices
    Voice {
        #[command(subcommand)]
        command: VoiceCommand,
    },
    /// List the models, and which of them are loaded
    Models {
        #[command(flatten)]
        engine: EngineOptions,
        #[command(flatten)]
        logs: LogOptions,
    },
    /// Say what is there, and whether the server could start as it is configured
    Doctor(Box<ServerOptions>),
    /// Measure the engine beside upstream's package, or a server under load
    #[command(disable_help_flag = true)]
    Bench(Passed),
    /// Make the graphs for `BACKEND=onnx` from a checkpoint of turbo or nano
    #[command(disable_help_flag = true)]
    ExportOnnx(Passed),
    /// Take jobs of RunPod's serverless platform, and serve them with a server of its own
    #[command(disable_help_flag = true)]
    Runpod(Passed),
    /// Print a script that completes this command line in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a document about the settings
    #[command(hide = true)]
    Docs {
        /// The document
        document: Document,
    },
}

/// The arguments of a command in Python, which parses them itself.
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
    let environment = match environment::prepare(&Cli::command()) {
        Ok(environment) => environment,
        Err(problem) => {
            telemetry::print_error(&format!("error: {problem}"));
            return status::USAGE;
        }
    };
    shutdown::survive_file_size_limits();
    let argv = with_command(argv);
    match parse(&argv, &environment) {
        Ok(command) => command.run(&environment),
        Err(error) => {
            // Help and version are "errors" that go to standard output with status 0.
            let _ = error.print();
            error.exit_code()
        }
    }
}

/// Without a command, the server's options may follow.
fn with_command(mut argv: Vec<String>) -> Vec<String> {
    const OF_NO_COMMAND: [&str; 4] = ["-h", "--help", "-V", "--version"];
    let first = argv.get(1).map(String::as_str);
    let named = first.is_some_and(|word| !word.starts_with('-') || OF_NO_COMMAND.contains(&word));
    if !named {
        argv.insert(argv.len().min(1), "serve".to_owned());
    }
    argv
}

fn parse(argv: &[String], environment: &Environment) -> Result<Command, clap::Error> {
    let parse = |mut command: clap::Command| {
        let matches = command.try_get_matches_from_mut(argv.iter().map(OsString::from))?;
        Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    };
    let all = help::complete(Cli::command());
    let parsed = parse(all.clone());
    match parsed {
        Ok(cli) => Ok(cli.command),
        Err(error) if error.kind() == ErrorKind::DisplayHelp && !help::is_complete(argv) => {
            parse(help::short(all)).map(|cli| cli.command)
        }
        Err(mut error) => {
            environment.name_source(&mut error, &all, argv);
            Err(error)
        }
    }
}

impl Command {
    fn run(&self, environment: &Environment) -> i32 {
        let with_logs = |options: &LogOptions, level, run: &dyn Fn() -> i32| {
            if let Err(problem) = telemetry::init(options, level) {
                telemetry::print_error(&format!("error: {problem}"));
                return status::USAGE;
            }
            for warning in &environment.warnings {
                tracing::warn!("{warning}");
            }
            run()
        };
        let in_python = |module, passed: &Passed| {
            for warning in &environment.warnings {
                telemetry::print_error(&format!("warning: {warning}"));
            }
            python::command(module, &passed.arguments)
        };
        match self {
            Self::Serve(options) => {
                with_logs(&options.logs, LogLevel::Info, &|| server::run(options))
            }
            Self::Say(options) => with_logs(&options.output.logs, LogLevel::Warn, &|| {
                offline::say(options)
            }),
            Self::Convert(options) => with_logs(&options.output.logs, LogLevel::Warn, &|| {
                offline::convert(options)
            }),
            Self::Voice { command } => with_logs(command.logs(), LogLevel::Warn, &|| command.run()),
            Self::Models { engine, logs } => {
                with_logs(logs, LogLevel::Warn, &|| doctor::list_models(engine))
            }
            Self::Doctor(options) => {
                with_logs(&options.logs, LogLevel::Warn, &|| doctor::examine(options))
            }
            Self::Bench(passed) => in_python("chatterbox_server.bench.cli", passed),
            Self::ExportOnnx(passed) => {
                in_python("chatterbox_server.chatterbox.onnx.export.command", passed)
            }
            Self::Runpod(passed) => in_python("chatterbox_server.serverless.command", passed),
            Self::Completions { shell } => {
                print_completions(*shell);
                status::OK
            }
            Self::Docs { document } => {
                let serve = ServerOptions::augment_args(clap::Command::new("serve"));
                telemetry::print_line(&settings_docs::write(*document, &serve));
                status::OK
            }
        }
    }
}

fn print_completions(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), help::PROGRAM, &mut script);
    telemetry::print_line(String::from_utf8_lossy(&script).trim_end());
}
