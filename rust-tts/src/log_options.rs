//! Options of logging.

use chatterbox_settings::{boolean, name_of, text};
use clap::{Args, ValueEnum};

/// Options of logging, shared by every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logs")]
pub struct LogOptions {
    /// What is logged, as a filter: `info`, `debug`, `chatterbox_server=debug,warn`
    #[arg(long, env = "RUST_LOG", value_parser = text)]
    pub rust_log: Option<String>,

    /// The same as a plain level, where `RUST_LOG` is not set. Default: info, or debug with `DEBUG`; warn for the commands
    #[arg(long, env = "LOG_LEVEL")]
    pub log_level: Option<LogLevel>,

    /// Log everything at level debug, unless `RUST_LOG` or `LOG_LEVEL` says otherwise. There is one process, with it and
    /// without
    #[arg(long, env = "DEBUG", value_parser = boolean, default_value = "false")]
    pub debug: bool,

    /// `text` for people, `json` for machines
    #[arg(long, env = "LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Rust's names, and those of Python and Node.js where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    Off,
    #[value(aliases = ["critical", "fatal"])]
    Error,
    #[value(alias = "warning")]
    Warn,
    #[value(aliases = ["information", "notice"])]
    Info,
    #[value(alias = "verbose")]
    Debug,
    #[value(alias = "silly")]
    Trace,
}

impl LogLevel {
    pub fn name(self) -> String {
        name_of(&self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}
