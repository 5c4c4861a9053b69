//! A request that is known to be valid.
//!
//! Every dialect reads [`SpeechParams`](crate::params::SpeechParams) and validates them; nothing behind it checks a parameter again.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::delivery::Delivery;
use crate::params::Names;
use crate::trim::Trim;
use chatterbox_audio::decode::Clip;
use chatterbox_audio::{Encoding, Normalization};
use chatterbox_engine::messages::{Model, Params, Pcm, Slicing};
use chatterbox_voices::Voice;

/// A request that can be spoken.
#[derive(Clone, Debug)]
pub struct SpeechRequest {
    /// Empty when the text arrives piece by piece.
    pub text: String,
    /// Most characters of one utterance.
    pub text_chunk_size: u32,
    /// Spoken again, in place of a text.
    pub clip: Option<Recording>,
    pub model: Arc<Model>,
    pub language: Option<String>,
    pub voice: VoiceChoice,
    pub params: Params,
    pub slicing: Slicing,
    pub trim: Trim,
    /// Of the first utterance; each further one adds 1.
    pub seed: u64,
    /// Of all utterances together.
    pub max_audio_seconds: Option<f64>,
    pub stream: bool,
    pub delivery: Delivery,
    /// The normalisation of the level, if any.
    pub normalization: Option<Normalization>,
    pub return_tokens: bool,
    pub output: Output,
    /// What the client calls parameters, for the errors to come.
    pub names: Names,
}

/// Format and delivery of the audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    pub encoding: Encoding,
    pub chunk_ms: u32,
    /// Binary WebSocket frames instead of base64.
    pub binary: bool,
}

impl Output {
    /// Delivery in chunks of `chunk_ms`.
    pub fn chunks(&self) -> Delivery {
        let samples = u64::from(self.encoding.sample_rate) * u64::from(self.chunk_ms) / 1000;
        Delivery::Chunks {
            samples: samples as usize,
        }
    }
}

/// A clip at its own rate.
#[derive(Clone, Debug)]
pub struct Recording {
    pub pcm: Pcm,
    pub sample_rate: u32,
    /// The place in memory that it takes up, where places are counted.
    pub place: Option<Arc<OwnedSemaphorePermit>>,
}

impl Recording {
    pub fn seconds(&self) -> f64 {
        self.pcm.len() as f64 / f64::from(self.sample_rate)
    }
}

/// Whose voice speaks.
#[derive(Clone, Debug)]
pub enum VoiceChoice {
    /// One of the model's own, by name; `None` is its default.
    BuiltIn(Option<String>),
    Cloned(Voice),
    /// That of a clip which came with the request.
    Once(OneOff),
}

/// A clip whose voice speaks one request; no file has it, and it is forgotten when the request ends.
#[derive(Clone, Debug)]
pub struct OneOff {
    /// SHA-256 of the file's content in lower-case hexadecimal.
    pub key: String,
    pub clip: Arc<Clip>,
    /// The place in memory that it takes up.
    pub place: Arc<OwnedSemaphorePermit>,
}

impl VoiceChoice {
    /// The name of a voice that the engine has to prepare: the hash of its clip.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::BuiltIn(_) => None,
            Self::Cloned(voice) => Some(&voice.key),
            Self::Once(voice) => Some(&voice.key),
        }
    }
}

impl SpeechRequest {
    /// The voice's name, as `X-Voice` shows it.
    pub fn voice_name(&self) -> &str {
        match &self.voice {
            VoiceChoice::Cloned(voice) => &voice.id,
            VoiceChoice::Once(voice) => &voice.key,
            VoiceChoice::BuiltIn(Some(name)) => name,
            VoiceChoice::BuiltIn(None) => {
                self.model.voices.first().map_or("default", String::as_str)
            }
        }
    }
}
