//! Options of requests: defaults of what a request leaves out, and limits.

use std::time::Duration;

use chatterbox_settings::{at_least_one, milliseconds, seconds, text, within};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Most characters of one utterance that may be asked for.
pub const TEXT_CHUNK: std::ops::RangeInclusive<i64> = 20..=1000;
/// Default number of requests that are spoken at once.
const SLOTS: usize = 3;

/// Options of every request.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Requests")]
pub struct SpeechOptions {
    /// Model of a request that names none. Default: the first loaded, in the order of the settings `LOAD_…`
    #[arg(long, env = "DEFAULT_MODEL", value_parser = text)]
    pub default_model: Option<String>,

    /// Longest piece, in characters, that a text is cut into before it is spoken
    #[arg(long, env = "TTS_TEXT_PROCESSING_CHUNK_SIZE", default_value_t = 150, value_parser = clap::value_parser!(u32).range(TEXT_CHUNK))]
    pub text_chunk_size: u32,

    /// Pieces of a request's audio that wait for a client which reads slowly, beside what its connection holds. When they
    /// do, no further utterance of the request is begun: more ride out longer pauses of the client, and take memory
    #[arg(long, env = "TTS_PCM_CHUNK_QUEUE_MAX_SIZE", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub pcm_chunk_queue_max_size: u32,

    #[command(flatten)]
    pub streaming: StreamingOptions,

    #[command(flatten)]
    pub sampling: SamplingOptions,

    #[command(flatten)]
    pub limits: SpeechLimits,
}

/// Limits of requests.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct SpeechLimits {
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
}

impl SpeechLimits {
    /// Requests spoken at once.
    pub fn slots(&self) -> usize {
        let named = self.max_concurrent_requests;
        let named = named.or(self.concurrent_requests_per_worker);
        named.unwrap_or(SLOTS)
    }
}

/// What a request may say for itself, as the operator sets it for all.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streaming")]
pub struct StreamingOptions {
    /// Speech tokens (25 are one second) that a Chatterbox model renders at once. Default: few at first, for an early
    /// start, then more and more
    #[arg(long, env = "TTS_AUDIO_TOKENS_PER_SLICE", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub audio_tokens_per_slice: Option<u32>,

    /// Speech tokens before a slice that are rendered again with it, for smooth joins. Default: the engine's choice
    #[arg(long, env = "TTS_CONTEXT_WINDOW", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub context_window: Option<u32>,

    /// Whether a slice is rendered with the context before it (`full`) or by itself (`zero`). Default: full
    #[arg(long, env = "TTS_CHUNK_OVERLAP_STRATEGY", ignore_case = true)]
    pub chunk_overlap_method: Option<Overlap>,

    /// Milliseconds over which neighbouring slices are blended, up to 1000. Default: the engine's choice
    #[arg(long, env = "TTS_CROSSFADE_DURATION_MILLISECONDS", value_parser = crossfade)]
    pub crossfade_duration_milliseconds: Option<f64>,

    /// Milliseconds cut off the start of a request's audio, up to 10000
    #[arg(long, env = "TTS_REMOVE_LEADING_MILLISECONDS", default_value = "0", value_parser = trimmed)]
    pub remove_leading_milliseconds: f64,

    /// Milliseconds cut off the end of a request's audio, up to 10000
    #[arg(long, env = "TTS_REMOVE_TRAILING_MILLISECONDS", default_value = "0", value_parser = trimmed)]
    pub remove_trailing_milliseconds: f64,
}

/// What a request may say for itself, as the operator sets it for all. Unset is each model's own.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingOptions {
    /// Emotional intensity, 0 to 2, of requests that name none. Default: the model's own
    #[arg(long, env = "TTS_VOICE_EXAGGERATION_FACTOR", value_parser = to_two)]
    pub voice_exaggeration_factor: Option<f64>,

    /// Weight of classifier-free guidance, 0 to 1, of requests that name none. Default: the model's own
    #[arg(long, env = "TTS_CFG_GUIDANCE_WEIGHT", value_parser = to_one)]
    pub cfg_guidance_weight: Option<f64>,

    /// Sampling temperature, 0 (greedy) to 2, of requests that name none. Default: the model's own
    #[arg(long, env = "TTS_SYNTHESIS_TEMPERATURE", value_parser = to_two)]
    pub synthesis_temperature: Option<f64>,
}

fn to_one(value: &str) -> Result<f64, String> {
    within(value, 1.0)
}

fn to_two(value: &str) -> Result<f64, String> {
    within(value, 2.0)
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    Full,
    Zero,
}

impl Overlap {
    /// The name that requests and the engine use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Zero => "zero",
        }
    }
}

/// Longest cross-fade in milliseconds.
pub const MAX_CROSSFADE_MS: f64 = 1000.0;
/// Most that is cut off either end of a request's audio, in milliseconds.
pub const MAX_TRIM_MS: f64 = 10_000.0;

fn crossfade(value: &str) -> Result<f64, String> {
    milliseconds(value, MAX_CROSSFADE_MS)
}

fn trimmed(value: &str) -> Result<f64, String> {
    milliseconds(value, MAX_TRIM_MS)
}
