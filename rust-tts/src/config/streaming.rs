//! How streamed audio is cut and trimmed, for requests that do not say.

use clap::{Args, ValueEnum};

use super::values::milliseconds;

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

/// What may wait between the stages of a streamed request.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streaming")]
pub struct QueueOptions {
    /// Slices of one request's speech tokens that may wait to become audio while tokens are decoded for others; one more,
    /// and they are rendered at once. Fewer bring each listener's audio earlier and others' first audio later. Default: no
    /// limit, a slice is rendered when its listener is about to need it
    #[arg(long, env = "TTS_SPEECH_TOKEN_QUEUE_MAX_SIZE", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub speech_token_queue_max_size: Option<u32>,

    /// Pieces of a request's audio that wait for a client which reads slowly, beside what its connection holds. When they
    /// do, no further utterance of the request is begun: more ride out longer pauses of the client, and take memory
    #[arg(long, env = "TTS_PCM_CHUNK_QUEUE_MAX_SIZE", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub pcm_chunk_queue_max_size: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
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
