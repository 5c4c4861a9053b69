//! Messages between the host and the engine: commands, events, and the description of the loaded models.
//!
//! With the feature `python` these structs are the classes that Python constructs and reads, so that nothing is defined
//! twice; that is why this crate, beside the extension module, names pyo3.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use clap::ValueEnum;

use crate::python::message;

/// Identifies one utterance, or one enrolment, for as long as the process lives.
pub type Id = u64;

/// Mono samples that are shared, not copied. In Python: `bytes` of little-endian 32-bit floats.
#[derive(Clone, PartialEq)]
pub struct Pcm(Arc<[f32]>);

impl Deref for Pcm {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl<T: Into<Arc<[f32]>>> From<T> for Pcm {
    fn from(samples: T) -> Self {
        Self(samples.into())
    }
}

impl FromIterator<f32> for Pcm {
    fn from_iter<T: IntoIterator<Item = f32>>(samples: T) -> Self {
        Self(samples.into_iter().collect())
    }
}

impl fmt::Debug for Pcm {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "Pcm({} samples)", self.len())
    }
}

/// A file's content that is shared, not copied. In Python: `bytes`.
#[derive(Clone, PartialEq)]
pub struct FileBytes(pub Arc<[u8]>);

impl fmt::Debug for FileBytes {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "FileBytes({} bytes)", self.0.len())
    }
}

message! {
    /// Sampling and style. `None` means the model's own default; a model ignores what it has no use for.
    pub struct Params {
        /// Softmax temperature, 0 to 2; 0 is greedy.
        pub temperature: Option<f64> = None,
        /// Nucleus: the smallest set of tokens with this probability mass, 0 to 1; the likeliest token always stays.
        pub top_p: Option<f64> = None,
        /// Drops tokens less likely than this share of the likeliest one, 0 to 1.
        pub min_p: Option<f64> = None,
        /// Keeps this many of the likeliest tokens; 0 keeps all.
        pub top_k: Option<u32> = None,
        /// Divides the logits of tokens already spoken, at least 1 (1 = none).
        pub repetition_penalty: Option<f64> = None,
        /// Emotional intensity, 0 to 2 (0.5 = neutral).
        pub exaggeration: Option<f64> = None,
        /// Weight of classifier-free guidance, 0 to 1 (0 = none).
        pub cfg_weight: Option<f64> = None,
        /// Speaking rate relative to the model's own, 0.25 to 4; a model may allow a narrower range.
        pub speed: f64 = 1.0,
    }

    /// How a model that decodes speech tokens cuts a streamed utterance into slices of audio.
    #[derive(Default)]
    pub struct Slicing {
        /// Speech tokens rendered per slice, at least 1 (25 tokens are one second); `None` lets slices grow.
        pub tokens_per_slice: Option<u32> = None,
        /// Speech tokens of earlier slices rendered again as context.
        pub context_window: Option<u32> = None,
        /// `"full"` (also `None`) renders slices with their context and cross-fades them, `"zero"` does neither.
        pub overlap: Option<String> = None,
        /// Cross-fade between neighbouring slices in milliseconds, at least 0.
        pub crossfade_ms: Option<f64> = None,
    }

    /// Speak one utterance. Answered by any number of [`Audio`], then one [`Done`] or [`Failed`].
    pub struct Speak {
        /// Names the request in its events; not in use by another live request.
        pub id: Id,
        /// Name of a loaded model.
        pub model: String,
        /// The utterance, a sentence or a few.
        pub text: String,
        /// BCP 47 language tag; `None` is the model's first language.
        pub language: Option<String> = None,
        /// A built-in voice's name, or the content hash of an enrolled clip; `None` is the model's default voice.
        pub voice: Option<String> = None,
        /// The same seed, text and options give the same samples, alone or in a batch.
        pub seed: u64,
        pub params: Params = Params::default(),
        pub slicing: Slicing = Slicing::default(),
        /// Hard cap on this utterance's audio in seconds.
        pub max_audio_seconds: f64,
        /// `false`: the audio is delivered whole, so the utterance may be rendered at once.
        pub stream: bool = true,
        /// Whether [`Stats::tokens`] is wanted.
        pub return_tokens: bool = false,
        /// Seconds of audio from before this utterance that the listener has not played yet.
        pub in_hand_seconds: f64 = 0.0,
    }

    /// Speak a clip again in another voice. Answered like [`Speak`].
    pub struct Convert {
        pub id: Id,
        /// Name of a loaded model that can convert.
        pub model: String,
        /// The target, named as in [`Speak::voice`].
        pub voice: Option<String> = None,
        /// The clip at its own rate: the models resample as upstream does, which no other resampler equals bit for bit.
        pub pcm: Pcm,
        /// The clip's rate in Hz.
        pub sample_rate: u32,
        /// The same seed, clip and voice give the same samples.
        pub seed: u64,
        /// `false`: the audio is delivered whole, so the clip may be rendered at once.
        pub stream: bool = true,
        /// Hard cap on the audio in seconds.
        pub max_audio_seconds: f64,
    }

    /// Drop a request. No event of this id follows; an unknown id is ignored.
    pub struct Cancel {
        pub id: Id,
    }

    /// Prepare a voice for one model. Answered by one [`Enrolled`] or [`Failed`], after any number of steps.
    pub struct Enroll {
        pub id: Id,
        /// The file's key: its content hash, 64 hexadecimal digits.
        pub voice: String,
        pub model: String,
        /// The reference clip at its own rate, as in [`Convert::pcm`].
        pub pcm: Pcm,
        /// The clip's rate in Hz.
        pub sample_rate: u32,
        /// Instead of a clip, a voice that was computed elsewhere, in the safetensors format.
        pub portable: Option<FileBytes> = None,
    }

    /// Drop an enrolled voice from every model. Has no answer; an unknown key is ignored.
    pub struct Forget {
        pub voice: String,
    }

    /// Figures of an utterance.
    #[derive(Default)]
    pub struct Stats {
        /// Seconds of audio sent.
        pub audio_seconds: f64,
        /// Wall-clock seconds of the steps that worked on this utterance, shared steps counted in full.
        pub compute_seconds: f64,
        /// Speech tokens, when they were asked for and the model has them.
        pub tokens: Option<Vec<u32>> = None,
    }

    /// The next samples of an utterance at the model's rate, never empty.
    pub struct Audio {
        pub id: Id,
        pub pcm: Pcm,
    }

    /// The utterance is complete.
    pub struct Done {
        pub id: Id,
        pub stats: Stats,
    }

    /// The request ended without completing.
    pub struct Failed {
        pub id: Id,
        pub code: FailureCode,
        /// The field of the request that is wrong, where it is one.
        pub field: Option<String> = None,
        /// A sentence for the client, or what is wrong with the field.
        pub message: String,
    }

    /// The voice can be spoken with, until it is forgotten or evicted.
    pub struct Enrolled {
        pub id: Id,
        pub voice: String,
        pub model: String,
        /// Bytes that this voice holds in the model's voice cache.
        pub cache_bytes: u64,
    }

    /// A loaded model and its capabilities.
    #[derive(Eq)]
    pub struct Model {
        pub name: String,
        /// Rate of the audio it makes, in Hz.
        pub sample_rate: u32,
        /// It speaks with the voice of a reference clip.
        pub can_clone: bool,
        /// It speaks a clip again in another voice.
        pub can_convert: bool,
        /// ISO 639-1 codes; the first is the default.
        pub languages: Vec<String>,
        /// Names of built-in voices; the first is the default.
        pub voices: Vec<String>,
        /// Paralinguistic tags that a text may carry, with their brackets: `[laugh]`.
        pub tags: Vec<String>,
        /// Whether its audio carries an inaudible watermark.
        pub watermark: bool,
    }
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

#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "python", derive(pyo3::IntoPyObject))]
#[expect(
    clippy::large_enum_variant,
    reason = "a command is moved once or twice, and there are few at a time"
)]
pub enum Command {
    Speak(Speak),
    Convert(Convert),
    Cancel(Cancel),
    Enroll(Enroll),
    Forget(Forget),
}

#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub enum Event {
    Audio(Audio),
    Done(Done),
    Failed(Failed),
    Enrolled(Enrolled),
}

impl Event {
    pub fn id(&self) -> Id {
        match self {
            Self::Audio(event) => event.id,
            Self::Done(event) => event.id,
            Self::Failed(event) => event.id,
            Self::Enrolled(event) => event.id,
        }
    }
}

/// Why the engine refused or gave up one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
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

/// Description of a loaded engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    pub device: String,
    /// In the order of [`crate::MODELS`]: a request that names none gets the first.
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
