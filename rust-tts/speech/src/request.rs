//! From what a client sent to a request that is known to be valid.
//!
//! Every dialect fills a [`Draft`] and calls [`Draft::validate`]; nothing behind it checks a parameter again.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::choice::{check_language, check_text, choose_model, choose_seed, choose_voice, once};
use super::delivery::Delivery;
use super::draft::Draft;
use super::output::{Output, check_normalization};
use super::trim::Trim;
use crate::error::{Code, Error};
use crate::service::SpeechService;
use chatterbox_audio::decode::Clip;
use chatterbox_audio::{Format, Normalization};
use chatterbox_engine::messages::{Model, Params, Pcm, Slicing};
use chatterbox_voices::Voice;

/// Shortest and longest audio that a request may ask for, in seconds.
const MIN_AUDIO_SECONDS: f64 = 0.05;
const MAX_AUDIO_SECONDS: f64 = 3600.0;

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
    /// What is made equal from answer to answer, if anything.
    pub normalization: Option<Normalization>,
    pub return_tokens: bool,
    pub output: Output,
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

impl Draft {
    /// Checks everything. `default_format` is the dialect's. Text that arrives later (`more`) may be absent now.
    pub fn validate(
        self,
        service: &SpeechService,
        default_format: Format,
        more: bool,
    ) -> Result<SpeechRequest, Error> {
        let engine = service.ready()?;
        let streaming = &service.options.streaming;
        let (slicing, trim) = (self.slicing(streaming)?, self.trim(streaming)?);
        let text_chunk_size = self.text_chunk_size(service.options.text_chunk_size)?;
        let text = check_text(
            self.text.unwrap_or_default(),
            service.options.limits.max_text_length,
            more,
        )?;
        let model = choose_model(
            &engine,
            self.model.as_deref(),
            service.options.default_model.as_deref(),
        )?;
        let language = check_language(self.language_id, &model)?;
        let wanted = self.voice.audio_prompt_path.as_deref();
        let chosen = match self.voice.clip {
            Some(clip) => once(clip, &model),
            None => choose_voice(service, &model, wanted),
        };
        let voice = match chosen {
            Err(error) if self.voice_or_default && is_unavailable(error.code) => {
                choose_voice(service, &model, None)?
            }
            chosen => chosen?,
        };
        let usual = &service.options.sampling;
        let params = Params {
            temperature: within("voice.temperature", self.voice.temperature, 0.0, 2.0)?
                .or(usual.synthesis_temperature),
            top_p: within("voice.top_p", self.voice.top_p, 0.0, 1.0)?,
            min_p: within("min_p", self.min_p.or(self.voice.min_p), 0.0, 1.0)?,
            top_k: self.top_k.or(self.voice.top_k),
            repetition_penalty: within(
                "voice.repetition_penalty",
                self.voice.repetition_penalty,
                1.0,
                10.0,
            )?,
            exaggeration: within("voice.exaggeration", self.voice.exaggeration, 0.0, 2.0)?
                .or(usual.voice_exaggeration_factor),
            cfg_weight: within("voice.cfg_weight", self.voice.cfg_weight, 0.0, 1.0)?
                .or(usual.cfg_guidance_weight),
            speed: within("speed", self.speed.or(self.voice.speed), 0.25, 4.0)?.unwrap_or(1.0),
        };
        let stream = self.stream.or(self.audio.stream).unwrap_or(true);
        Ok(SpeechRequest {
            text,
            text_chunk_size,
            clip: None,
            model,
            language,
            voice,
            params,
            slicing,
            trim,
            seed: choose_seed(self.seed.or(self.voice.seed))?,
            max_audio_seconds: within(
                "max_audio_seconds",
                self.max_audio_seconds,
                MIN_AUDIO_SECONDS,
                MAX_AUDIO_SECONDS,
            )?,
            stream,
            delivery: Delivery::of(stream),
            normalization: check_normalization(self.audio_normalization.as_deref(), stream)?,
            return_tokens: false,
            output: self.audio.validate(default_format, "audio.")?,
        })
    }
}

/// There is no such voice, or the model cannot speak with it.
fn is_unavailable(code: Code) -> bool {
    matches!(code, Code::VoiceNotFound | Code::CannotClone)
}

pub fn within(
    field: &str,
    value: Option<f64>,
    least: f64,
    most: f64,
) -> Result<Option<f64>, Error> {
    match value {
        // NaN fails this comparison too.
        Some(number) if !(least..=most).contains(&number) => Err(Error::parameter(
            field,
            format!("expected {least} to {most}"),
        )),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_closed_and_refuse_nan() {
        assert!(within("x", Some(f64::NAN), 0.0, 1.0).is_err());
        assert!(within("x", Some(1.0), 0.0, 1.0).is_ok());
        assert!(within("x", Some(1.01), 0.0, 1.0).is_err());
        assert!(within("x", None, 0.0, 1.0).unwrap().is_none());
    }
}
