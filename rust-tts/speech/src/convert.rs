//! Voice conversion: a clip to be spoken again in another voice, from what a client sent to a valid request.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::choice::{choose_model, choose_seed, choose_voice};
use crate::delivery::Delivery;
use crate::error::{Code, Error};
use crate::params::{Names, OutputParams};
use crate::request::{Recording, SpeechRequest};
use crate::service::SpeechService;
use crate::trim::Trim;
use chatterbox_audio::Format;
use chatterbox_audio::decode::{self, Clip, DecodeError, Limits};
use chatterbox_engine::messages::{EngineInfo, Model, Params, Slicing};
use chatterbox_voices::VoiceError;

/// A clip to be spoken again, which is known to be good.
pub struct Conversion {
    pub clip: Clip,
    /// The clip's place in memory, where places are counted; the request keeps it.
    pub place: Option<Arc<OwnedSemaphorePermit>>,
    pub output: OutputParams,
    pub names: Names,
}

impl Conversion {
    /// Checks everything but the clip.
    pub fn validate(self, service: &SpeechService) -> Result<SpeechRequest, Error> {
        let names = self.names.clone();
        self.checked(service)
            .map_err(|error| names.in_errors(error))
    }

    fn checked(self, service: &SpeechService) -> Result<SpeechRequest, Error> {
        let output = self.output;
        output.check_ranges()?;
        let engine = service.ready()?;
        let model = choose_converter(&engine, output.model.as_deref())?;
        let voice = choose_voice(service, &model, output.voice_id.as_deref())?;
        Ok(SpeechRequest {
            text: String::new(),
            text_chunk_size: service.options.text_chunk_size,
            clip: Some(Recording {
                pcm: self.clip.samples.into(),
                sample_rate: self.clip.sample_rate,
                place: self.place,
            }),
            model,
            language: None,
            voice,
            params: Params::default(),
            slicing: Slicing::default(),
            trim: Trim::default(),
            seed: choose_seed(output.seed),
            max_audio_seconds: None,
            stream: output.streams(),
            delivery: Delivery::of(output.streams()),
            normalization: output.normalization()?,
            return_tokens: false,
            output: output.validate(Format::Wav)?,
            names: self.names,
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
            "load one that can, such as turbo (LOAD_TURBO=true)".to_owned()
        } else {
            format!("use {names}")
        };
        let problem = format!("{} cannot convert voices; {others}", model.name);
        return Err(Error::parameter("model", problem));
    }
    able.first().map(|model| Arc::clone(model)).ok_or_else(|| {
        let message =
            "none that is loaded converts voices; load one that does, such as turbo (LOAD_TURBO=true)";
        Error::new(Code::ModelNotLoaded, message).in_field("model")
    })
}
