//! Voice conversion: a clip to be spoken again in another voice, from what a client sent to a valid request.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::choice::{PREFERRED, choose_model, choose_seed, choose_voice};
use super::delivery::Delivery;
use super::draft::AudioDraft;
use super::output::check_normalization;
use super::request::{Recording, SpeechRequest};
use super::trim::Trim;
use crate::error::{Code, Error};
use crate::service::SpeechService;
use chatterbox_audio::Format;
use chatterbox_audio::decode::{self, Clip, DecodeError, Limits};
use chatterbox_engine::messages::{EngineInfo, Model, Params, Slicing};
use chatterbox_voices::VoiceError;

/// What a client sends beside the clip.
#[derive(Debug, Default)]
pub struct ConvertDraft {
    pub model: Option<String>,
    /// The target; the default voice where none is named.
    pub voice: Option<String>,
    pub format: Option<String>,
    pub sample_rate: Option<u32>,
    /// In kbit/s.
    pub bitrate: Option<u32>,
    pub seed: Option<u64>,
    pub stream: Option<bool>,
    pub audio_normalization: Option<String>,
}

impl ConvertDraft {
    /// Checks everything but the clip, which is known to be good; the request keeps its `place`.
    pub fn validate(
        self,
        service: &SpeechService,
        clip: Clip,
        place: Option<Arc<OwnedSemaphorePermit>>,
    ) -> Result<SpeechRequest, Error> {
        let engine = service.ready()?;
        let model = choose_converter(&engine, self.model.as_deref())?;
        let voice = choose_voice(service, &model, self.voice.as_deref())?;
        let audio = AudioDraft {
            format: self.format,
            sample_rate: self.sample_rate,
            bitrate: self.bitrate,
            ..AudioDraft::default()
        };
        let stream = self.stream.unwrap_or(true);
        Ok(SpeechRequest {
            text: String::new(),
            text_chunk_size: service.options.text_chunk_size,
            clip: Some(Recording {
                pcm: clip.samples.into(),
                sample_rate: clip.sample_rate,
                place,
            }),
            model,
            language: None,
            voice,
            params: Params::default(),
            slicing: Slicing::default(),
            trim: Trim::default(),
            seed: choose_seed(self.seed)?,
            max_audio_seconds: None,
            stream,
            delivery: Delivery::of(stream),
            normalization: check_normalization(self.audio_normalization.as_deref(), stream)?,
            return_tokens: false,
            output: audio.validate(Format::Wav, "")?,
        })
    }
}

/// Decodes a clip of at most `max_seconds` seconds. Blocks.
pub fn decode_clip(bytes: &[u8], max_seconds: u32) -> Result<Clip, Error> {
    let limits = Limits {
        max_seconds: f64::from(max_seconds),
        ..Limits::default()
    };
    let clip = decode::decode(bytes, &limits).map_err(|error| match error {
        DecodeError::TooLong(_) => Error::parameter("file", error),
        error => VoiceError::from(error).into(),
    })?;
    if clip.samples.is_empty() {
        return Err(Error::parameter("file", "there is no audio in it"));
    }
    Ok(clip)
}

fn choose_converter(engine: &EngineInfo, wanted: Option<&str>) -> Result<Arc<Model>, Error> {
    let able: Vec<_> = engine
        .models
        .iter()
        .filter(|model| model.can_convert)
        .collect();
    let names = able.iter().map(|model| model.name.as_str());
    let names = names.collect::<Vec<_>>().join(", ");
    if let Some(name) = wanted {
        let model = choose_model(engine, Some(name), None)?;
        if model.can_convert {
            return Ok(model);
        }
        let others = if names.is_empty() {
            "load standard, turbo or multilingual".to_owned()
        } else {
            format!("use {names}")
        };
        let problem = format!("{} cannot convert voices; {others}", model.name);
        return Err(Error::parameter("model", problem));
    }
    let by_name = |name: &&str| able.iter().find(|model| model.name == **name);
    let found = PREFERRED.iter().find_map(by_name).or(able.first());
    found.map(|model| Arc::clone(model)).ok_or_else(|| {
        let message = "none that is loaded converts voices; load standard, turbo or multilingual \
                       (LOAD_STANDARD, LOAD_TURBO, LOAD_MULTILINGUAL)";
        Error::new(Code::ModelNotLoaded, message).in_field("model")
    })
}
