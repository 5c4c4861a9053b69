//! Every option of the server: its flag, its environment variable, its default and what it does.
//!
//! The comments here are what `chatterbox-server --help` prints.

mod engine;
mod s3gen;
mod sampling;
mod streaming;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

pub use engine::{
    Backend, Device, Dtype, EngineKind, EngineOptions, MultilingualVersion, TEXT_CHUNK,
};
pub use streaming::{MAX_CROSSFADE_MS, MAX_TRIM_MS, Overlap, StreamingOptions};
use values::{at_least_one, boolean, name_of, seconds, text};

/// Requests spoken at once where nobody says.
const SLOTS: usize = 3;

/// Where voices lie, shared by every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Voices")]
pub struct VoiceOptions {
    /// Directory of voice files (wav, mp3, flac, ogg, opus, webm, m4a); made if it is missing
    #[arg(long, env = "VOICES_DIR", default_value = "./voices")]
    pub voices_dir: PathBuf,

    /// Directory of voices that are offered but never changed
    #[arg(long, env = "PRELOADED_VOICES_DIR", value_parser = text)]
    pub preloaded_voices_dir: Option<String>,

    /// Voice file used by requests that name none, until one is set over the API
    #[arg(long, env = "DEFAULT_VOICE", value_parser = text)]
    pub default_voice: Option<String>,

    /// Largest voice file in bytes
    #[arg(long, env = "MAX_VOICE_FILE_SIZE", default_value_t = 50 * 1024 * 1024)]
    pub max_voice_file_size: usize,

    /// `eager`: voices are prepared at start and after an upload; `lazy`: by the first request that uses them
    #[arg(long, env = "VOICE_CACHE", default_value = "eager")]
    pub voice_cache: VoiceCache,
}

/// Options of logging, shared by every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logs")]
pub struct LogOptions {
    /// What is logged, as a filter: `info`, `debug`, `chatterbox_server=debug,warn`
    #[arg(long, env = "RUST_LOG", value_parser = text)]
    pub rust_log: Option<String>,

    /// The same as a plain level, where `RUST_LOG` is not set. Default: info, or debug with `DEBUG`; warn for the commands
    #[arg(long, env = "LOG_LEVEL", ignore_case = true)]
    pub log_level: Option<LogLevel>,

    /// Log everything at level debug, unless `RUST_LOG` or `LOG_LEVEL` says otherwise. There is one process, with it and
    /// without
    #[arg(long, env = "DEBUG", value_parser = boolean, default_value = "false")]
    pub debug: bool,

    /// `text` for people, `json` for machines
    #[arg(long, env = "LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Options of the server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub struct ServerOptions {
    /// Address to listen on. Default: 0.0.0.0 when a key is set, 127.0.0.1 when none is
    #[arg(long, env = "HOST", value_parser = text)]
    pub host: Option<String>,

    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "PORT", default_value_t = 8081)]
    pub port: u16,

    /// Keys that open the API, comma separated (so that they can be rotated). None: open to everybody
    #[arg(long, env = "API_KEY", value_delimiter = ',', hide_env_values = true)]
    pub api_key: Vec<String>,

    /// The same under another name
    #[arg(long, env = "API_TOKEN", value_delimiter = ',', hide_env_values = true)]
    pub api_token: Vec<String>,

    /// File with keys, separated by commas or line breaks
    #[arg(long, env = "API_KEY_FILE", value_parser = text)]
    pub api_key_file: Option<String>,

    /// The same under another name
    #[arg(long, env = "API_TOKEN_FILE", value_parser = text)]
    pub api_token_file: Option<String>,

    /// Origins of web pages that may call the API, comma separated; `*` is all of them, without credentials
    #[arg(long, env = "CORS_ORIGINS", value_delimiter = ',', default_value = "*")]
    pub cors_origins: Vec<String>,

    /// Lets anybody list models and voices (`GET /v1/models`, `/v1/audio/models`, `/v1/audio/voices`), for programs that
    /// ask for the lists without their key
    #[arg(long, env = "PUBLIC_LISTINGS", value_parser = boolean, default_value = "false")]
    pub public_listings: bool,

    /// Connections held at once; further ones wait to be accepted
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 4096, value_parser = at_least_one)]
    pub max_connections: usize,

    #[command(flatten)]
    pub limits: LimitOptions,
}

/// Limits of the server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// Requests spoken at once; further ones wait in the queue. Default: 3
    #[arg(long, env = "MAX_CONCURRENT_REQUESTS", value_parser = at_least_one)]
    pub max_concurrent_requests: Option<usize>,

    /// The same under another name, where the first is not set
    #[arg(long, env = "CONCURRENT_REQUESTS_PER_WORKER", value_parser = at_least_one)]
    pub concurrent_requests_per_worker: Option<usize>,

    /// Requests that may wait for a slot; further ones are refused with 503 and `Retry-After`
    #[arg(long, env = "MAX_QUEUE", default_value_t = 64)]
    pub max_queue: usize,

    /// Longest text of a request, in characters
    #[arg(long, env = "MAX_TEXT_LENGTH", default_value_t = 5000, value_parser = at_least_one)]
    pub max_text_length: usize,

    /// Longest clip that is converted into another voice, in seconds
    #[arg(long, env = "MAX_CONVERT_SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub max_convert_seconds: u32,

    /// Seconds within which audio must come: the first after the request, and each further piece after the last
    #[arg(long, env = "REQUEST_TIMEOUT", default_value = "120", value_parser = seconds)]
    pub request_timeout: Duration,

    /// Seconds after which a client that reads nothing is cut off
    #[arg(long, env = "STALL_TIMEOUT", default_value = "30", value_parser = seconds)]
    pub stall_timeout: Duration,

    /// Seconds after which a step of the engine that does not end counts as its death
    #[arg(long, env = "ENGINE_STALL_TIMEOUT", default_value = "60", value_parser = seconds)]
    pub engine_stall_timeout: Duration,

    /// Seconds that running streams get to finish after SIGTERM
    #[arg(long, env = "DRAIN_TIMEOUT", default_value = "30", value_parser = seconds)]
    pub drain_timeout: Duration,

    /// Seconds within which a request's headers must have arrived
    #[arg(long, env = "HEADER_TIMEOUT", default_value = "10", value_parser = seconds)]
    pub header_timeout: Duration,

    /// Seconds between two parts of a request's body
    #[arg(long, env = "BODY_TIMEOUT", default_value = "20", value_parser = seconds)]
    pub body_timeout: Duration,

    /// WebSockets open at once, in all
    #[arg(long, env = "MAX_WS_CONNECTIONS", default_value_t = 1024, value_parser = at_least_one)]
    pub max_ws_connections: usize,

    /// WebSockets open at once with one key (or from one address, where no key is set)
    #[arg(long, env = "MAX_WS_CONNECTIONS_PER_CLIENT", default_value_t = 1024, value_parser = at_least_one)]
    pub max_ws_connections_per_client: usize,

    /// Says running at once on one WebSocket
    #[arg(long, env = "MAX_SAYS_PER_CONNECTION", default_value_t = 16, value_parser = at_least_one)]
    pub max_says_per_connection: usize,

    /// Seconds between the pings that keep a WebSocket open; one that answers none of two in a row is closed
    #[arg(long, env = "WS_PING_INTERVAL", default_value = "20", value_parser = seconds)]
    pub ws_ping_interval: Duration,

    /// Seconds after which a WebSocket on which nothing is said and nothing runs is closed
    #[arg(long, env = "WS_IDLE_TIMEOUT", default_value = "600", value_parser = seconds)]
    pub ws_idle_timeout: Duration,
}

impl LimitOptions {
    /// Requests spoken at once.
    pub fn slots(&self) -> usize {
        let named = self.max_concurrent_requests;
        let named = named.or(self.concurrent_requests_per_worker);
        named.unwrap_or(SLOTS)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VoiceCache {
    Eager,
    Lazy,
}

/// Rust's names, and Python's where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    Off,
    #[value(alias = "critical")]
    Error,
    #[value(alias = "warning")]
    Warn,
    Info,
    Debug,
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
