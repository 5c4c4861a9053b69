//! Every option of the server: its flag, its environment variable, its default and what it does.
//!
//! The comments here are what `chatterbox-server --help` prints.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::engine::python::LoadSettings;

/// Options of the engine, shared by the server and by `say`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Engine")]
pub struct EngineOptions {
    /// `auto` speaks with the loaded models; `fake` plays a tone at a chosen speed, for tests and benchmarks
    #[arg(long, env = "ENGINE", default_value = "auto")]
    pub engine: EngineKind,

    /// Device that the models run on (the embedded voice `lite` always runs on the CPU)
    #[arg(long, env = "DEVICE", default_value = "auto")]
    pub device: Device,

    /// Load `standard`, the expressive model. Default: false, as this version has no Chatterbox engine
    #[arg(long, env = "LOAD_STANDARD", value_parser = boolean)]
    pub load_standard: Option<bool>,

    /// Load `turbo`, the fast model
    #[arg(long, env = "LOAD_TURBO", value_parser = boolean, default_value = "false")]
    pub load_turbo: bool,

    /// Load `multilingual`
    #[arg(long, env = "LOAD_MULTILINGUAL", value_parser = boolean, default_value = "false")]
    pub load_multilingual: bool,

    /// Load `lite`, the embedded English voice that needs no download
    #[arg(long, env = "LOAD_LITE", value_parser = boolean, default_value = "true")]
    pub load_lite: bool,

    /// Model of a request that names none. Default: the first loaded of standard, turbo, multilingual, lite
    #[arg(long, env = "DEFAULT_MODEL", value_parser = text)]
    pub default_model: Option<String>,

    /// Cache directory of models downloaded from the Hugging Face hub (read by that library)
    #[arg(long, env = "HF_HOME", value_parser = text)]
    pub hf_home: Option<String>,

    /// CPU threads of a model. Default: the engine's own choice
    #[arg(long, env = "ENGINE_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub engine_threads: Option<u32>,

    /// Longest piece, in characters, that a text is cut into before it is spoken
    #[arg(long, env = "TTS_TEXT_PROCESSING_CHUNK_SIZE", default_value_t = 150, value_parser = clap::value_parser!(u32).range(20..=1000))]
    pub text_chunk_size: u32,

    /// Fake engine: seconds of computing per second of audio
    #[arg(long, env = "FAKE_RTF", default_value_t = 0.1, value_parser = non_negative)]
    pub fake_rtf: f64,

    /// Fake engine: milliseconds of audio that a step makes for every request
    #[arg(long, env = "FAKE_CHUNK_MS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=5000))]
    pub fake_chunk_ms: u32,

    /// Fake engine: seconds that loading takes
    #[arg(long, env = "FAKE_LOAD_SECONDS", default_value_t = 0.0, value_parser = non_negative)]
    pub fake_load_seconds: f64,
}

impl EngineOptions {
    /// What the Python side is asked to load.
    pub fn load_settings(&self) -> LoadSettings {
        let wanted = [
            ("standard", self.load_standard.unwrap_or(false)),
            ("turbo", self.load_turbo),
            ("multilingual", self.load_multilingual),
            ("lite", self.load_lite),
        ];
        let models = match self.engine {
            EngineKind::Auto => wanted
                .iter()
                .filter(|(_, load)| *load)
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            EngineKind::Fake => vec!["fake".to_owned()],
        };
        LoadSettings {
            engine: name_of(&self.engine),
            device: name_of(&self.device),
            models,
            threads: self.engine_threads,
            hf_home: self.hf_home.clone(),
            fake_rtf: self.fake_rtf,
            fake_chunk_ms: self.fake_chunk_ms,
            fake_load_seconds: self.fake_load_seconds,
        }
    }
}

/// Where voices lie, shared by the server, `say` and `voices`.
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

    /// The same as a plain level, where `RUST_LOG` is not set. Default: info; warn for `say` and `voices`
    #[arg(long, env = "LOG_LEVEL", ignore_case = true)]
    pub log_level: Option<LogLevel>,

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
    /// Requests spoken at once; further ones wait in the queue
    #[arg(long, env = "MAX_CONCURRENT_REQUESTS", default_value_t = 3, value_parser = at_least_one)]
    pub max_concurrent_requests: usize,

    /// Requests that may wait for a slot; further ones are refused with 503 and `Retry-After`
    #[arg(long, env = "MAX_QUEUE", default_value_t = 64)]
    pub max_queue: usize,

    /// Longest text of a request, in characters
    #[arg(long, env = "MAX_TEXT_LENGTH", default_value_t = 5000, value_parser = at_least_one)]
    pub max_text_length: usize,

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineKind {
    Auto,
    Fake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    Auto,
    Cpu,
    Cuda,
    Mps,
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

fn name_of(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// Environment variables spell booleans in many ways; compose files pass `"1"` and `"True"`.
fn boolean(value: &str) -> Result<bool, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" | "" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

/// Any text. An empty variable, as `.env` files have them, never reaches this: see [`crate::cli`].
#[allow(clippy::unnecessary_wraps)]
fn text(value: &str) -> Result<String, String> {
    Ok(value.trim().to_owned())
}

fn non_negative(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("expected a number, at least 0".into()),
    }
}

fn at_least_one(value: &str) -> Result<usize, String> {
    match value.parse::<usize>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a whole number, at least 1".into()),
    }
}

fn seconds(value: &str) -> Result<Duration, String> {
    match value.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 86_400.0 => Ok(Duration::from_secs_f64(number)),
        _ => Err("expected seconds, more than 0 and at most a day".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_read_as_people_write_them() {
        for (value, read) in [
            ("true", Some(true)),
            ("1", Some(true)),
            ("Yes", Some(true)),
            ("off", Some(false)),
            ("2", None),
        ] {
            assert_eq!(boolean(value).ok(), read, "{value}");
        }
    }

    #[test]
    fn seconds_are_positive_and_finite() {
        for bad in ["0", "-1", "NaN", "inf", "1e9", "x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
    }
}
