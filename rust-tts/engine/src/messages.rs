//! What crosses the boundary between the host and the engine.
//!
//! The twin of `python/chatterbox_server/messages.py`; `tests/engine/test_seam.py` sends every message both ways and
//! holds the two together.

use std::sync::Arc;

/// Identifies one utterance, or one enrolment, for as long as the process lives.
pub type Id = u64;

/// Sampling and style. `None` means the model's own default, which differs from model to model.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// 0 to 2; 0 is greedy.
    pub temperature: Option<f64>,
    /// Nucleus threshold, 0 to 1.
    pub top_p: Option<f64>,
    /// Least share of the most likely token's probability, 0 to 1.
    pub min_p: Option<f64>,
    /// Candidates kept; 0 keeps all.
    pub top_k: Option<u32>,
    /// At least 1.
    pub repetition_penalty: Option<f64>,
    /// Emotional intensity, 0 to 2.
    pub exaggeration: Option<f64>,
    /// Weight of classifier-free guidance, 0 to 1.
    pub cfg_weight: Option<f64>,
    /// 1 is the model's own pace; 2 is twice as fast.
    pub speed: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            temperature: None,
            top_p: None,
            min_p: None,
            top_k: None,
            repetition_penalty: None,
            exaggeration: None,
            cfg_weight: None,
            speed: 1.0,
        }
    }
}

/// How a model that renders while it decodes cuts its stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slicing {
    /// Speech tokens per slice (25 tokens are one second).
    pub tokens_per_slice: Option<u32>,
    /// Speech tokens of left context rendered again with every slice.
    pub context_window: Option<u32>,
    /// `"full"` or `"zero"`.
    pub overlap: Option<String>,
    pub crossfade_ms: Option<f64>,
}

/// One utterance to be spoken.
#[derive(Clone, Debug, PartialEq)]
pub struct Speak {
    pub id: Id,
    pub model: String,
    pub text: String,
    pub language: Option<String>,
    /// A built-in voice's name or the content hash of an enrolled clip; `None` is the model's default voice.
    pub voice: Option<String>,
    /// The same seed and text give the same samples, alone or in a batch.
    pub seed: u64,
    pub params: Params,
    pub slicing: Slicing,
    /// The utterance's audio is cut at this length.
    pub max_audio_seconds: f64,
    /// `false`: the utterance is rendered at once, as a whole.
    pub stream: bool,
    pub return_tokens: bool,
    /// Seconds of audio that the listener has yet to hear of what came before this utterance.
    pub in_hand_seconds: f64,
}

/// A reference clip, or a voice without one, to be spoken with.
#[derive(Clone, Debug, PartialEq)]
pub struct Enroll {
    pub id: Id,
    /// Content hash of the file.
    pub voice: String,
    pub model: String,
    /// Mono, at the clip's own rate: the models resample as upstream does, which no other resampler equals bit for bit.
    pub pcm: Arc<[f32]>,
    pub sample_rate: u32,
    /// A voice that was computed elsewhere, in the safetensors format; it then has no clip.
    pub portable: Option<Arc<[u8]>>,
}

/// A clip to be spoken again in another voice.
#[derive(Clone, Debug, PartialEq)]
pub struct Convert {
    pub id: Id,
    pub model: String,
    /// The target, named as in [`Speak::voice`].
    pub voice: Option<String>,
    /// Mono, at the clip's own rate, as in [`Enroll::pcm`].
    pub pcm: Arc<[f32]>,
    pub sample_rate: u32,
    /// The same seed and clip give the same samples.
    pub seed: u64,
    /// `false`: the clip is rendered at once, as a whole.
    pub stream: bool,
    /// The audio is cut at this length.
    pub max_audio_seconds: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Speak(Box<Speak>),
    Convert(Box<Convert>),
    Cancel(Id),
    Enroll(Enroll),
    /// Drop what is cached for a voice.
    Forget(String),
}

/// What an utterance cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    pub audio_seconds: f64,
    pub compute_seconds: f64,
    /// Speech tokens, where they were asked for.
    pub tokens: Option<Vec<u32>>,
}

/// Why the engine refused or gave up one request. The twin of the codes in `messages.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureCode {
    InvalidParameter,
    /// Only punctuation or emoji: skipped when other utterances of the text speak.
    NothingToSay,
    CannotClone,
    /// The voice was evicted or never enrolled; enrolling it and asking again helps.
    VoiceNotEnrolled,
    UnsupportedAudio,
    OutOfMemory,
    GenerationError,
}

impl FailureCode {
    /// A code this build does not know is an error of the generation.
    pub fn parse(code: &str) -> Self {
        match code {
            "INVALID_PARAMETER" => Self::InvalidParameter,
            "NOTHING_TO_SAY" => Self::NothingToSay,
            "CANNOT_CLONE" => Self::CannotClone,
            "VOICE_NOT_ENROLLED" => Self::VoiceNotEnrolled,
            "UNSUPPORTED_AUDIO" => Self::UnsupportedAudio,
            "OUT_OF_MEMORY" => Self::OutOfMemory,
            _ => Self::GenerationError,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidParameter => "INVALID_PARAMETER",
            Self::NothingToSay => "NOTHING_TO_SAY",
            Self::CannotClone => "CANNOT_CLONE",
            Self::VoiceNotEnrolled => "VOICE_NOT_ENROLLED",
            Self::UnsupportedAudio => "UNSUPPORTED_AUDIO",
            Self::OutOfMemory => "OUT_OF_MEMORY",
            Self::GenerationError => "GENERATION_ERROR",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Mono samples at the model's rate.
    Audio {
        id: Id,
        pcm: Vec<f32>,
    },
    Done {
        id: Id,
        stats: Stats,
    },
    Failed {
        id: Id,
        code: FailureCode,
        message: String,
    },
    Enrolled {
        id: Id,
        voice: String,
        model: String,
        cache_bytes: u64,
    },
}

impl Event {
    pub fn id(&self) -> Id {
        match self {
            Self::Audio { id, .. }
            | Self::Done { id, .. }
            | Self::Failed { id, .. }
            | Self::Enrolled { id, .. } => *id,
        }
    }
}

/// A model that the engine has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub name: String,
    pub sample_rate: u32,
    /// It speaks with the voice of a reference clip.
    pub can_clone: bool,
    /// It speaks a clip again in another voice.
    pub can_convert: bool,
    /// Language ids it takes; the first is its default.
    pub languages: Vec<String>,
    /// Built-in voices; the first is its default.
    pub voices: Vec<String>,
    /// Paralinguistic tags that its text may carry, such as `[laugh]`.
    pub tags: Vec<String>,
    pub watermark: bool,
}

/// What a loaded engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    pub device: String,
    pub models: Vec<Arc<Model>>,
}

impl EngineInfo {
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|model| model.name == name)
    }

    pub fn names(&self) -> Vec<&str> {
        self.models
            .iter()
            .map(|model| model.name.as_str())
            .collect()
    }
}
