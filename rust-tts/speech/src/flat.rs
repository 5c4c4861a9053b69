//! What a client sends where every parameter stands in one level: a query, a form, or JSON without objects in it.

use serde::Deserialize;

use super::draft::{AudioDraft, Draft, VoiceDraft};
use super::request::{OneOff, SpeechRequest};
use crate::error::Error;
use crate::service::SpeechService;
use chatterbox_audio::Format;

/// What [`Draft`] calls fields, and what they are called here.
const NAMES: [(&str, &str); 6] = [
    ("voice.exaggeration", "exaggeration"),
    ("voice.top_p", "top_p"),
    ("voice.repetition_penalty", "repetition_penalty"),
    ("audio.format", "format"),
    ("audio.sample_rate", "sample_rate"),
    ("audio.bitrate", "bitrate"),
];

/// The parameters of [`Draft`]. Two have a second name, under which older servers knew them.
#[derive(Debug, Default, Deserialize)]
pub struct FlatDraft {
    pub text: Option<String>,
    pub model: Option<String>,
    pub language_id: Option<String>,
    pub voice_id: Option<String>,
    /// A clip whose voice speaks this request and no other, in place of `voice_id`.
    #[serde(skip)]
    pub clip: Option<OneOff>,
    /// See [`Draft::voice_or_default`].
    #[serde(skip)]
    pub voice_or_default: bool,
    pub exaggeration: Option<f64>,
    pub cfg_weight: Option<f64>,
    pub cfg_guidance_weight: Option<f64>,
    pub temperature: Option<f64>,
    pub synthesis_temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub min_p: Option<f64>,
    pub top_k: Option<u32>,
    pub repetition_penalty: Option<f64>,
    pub seed: Option<u64>,
    pub speed: Option<f64>,
    pub format: Option<String>,
    pub sample_rate: Option<u32>,
    /// In kbit/s.
    pub bitrate: Option<u32>,
    pub stream: Option<bool>,
    pub audio_normalization: Option<String>,
    pub max_audio_seconds: Option<f64>,
    pub text_processing_chunk_size: Option<u32>,
    pub audio_tokens_per_slice: Option<u32>,
    pub context_window: Option<u32>,
    pub chunk_overlap_method: Option<String>,
    pub crossfade_duration_milliseconds: Option<f64>,
    pub remove_leading_milliseconds: Option<f64>,
    pub remove_trailing_milliseconds: Option<f64>,
}

impl FlatDraft {
    /// Checks everything, as [`Draft::validate`] does. Errors name fields as they are called here.
    pub fn validate(
        self,
        service: &SpeechService,
        default_format: Format,
    ) -> Result<SpeechRequest, Error> {
        let weight = either(
            ("cfg_weight", self.cfg_weight),
            ("cfg_guidance_weight", self.cfg_guidance_weight),
        )?;
        let temperature = either(
            ("temperature", self.temperature),
            ("synthesis_temperature", self.synthesis_temperature),
        )?;
        if self.clip.is_some() && self.voice_id.is_some() {
            let problem = "the clip in voice_file is a voice already; send one of the two";
            return Err(Error::parameter("voice_id", problem));
        }
        let draft = Draft {
            text: self.text,
            model: self.model,
            language_id: self.language_id,
            voice: VoiceDraft {
                audio_prompt_path: self.voice_id,
                clip: self.clip,
                exaggeration: self.exaggeration,
                cfg_weight: weight.1,
                temperature: temperature.1,
                top_p: self.top_p,
                repetition_penalty: self.repetition_penalty,
                ..VoiceDraft::default()
            },
            voice_or_default: self.voice_or_default,
            audio: AudioDraft {
                format: self.format,
                sample_rate: self.sample_rate,
                bitrate: self.bitrate,
                ..AudioDraft::default()
            },
            seed: self.seed,
            min_p: self.min_p,
            top_k: self.top_k,
            speed: self.speed,
            max_audio_seconds: self.max_audio_seconds,
            stream: self.stream,
            audio_normalization: self.audio_normalization,
            text_processing_chunk_size: self.text_processing_chunk_size,
            audio_tokens_per_slice: self.audio_tokens_per_slice,
            context_window: self.context_window,
            chunk_overlap_method: self.chunk_overlap_method,
            crossfade_duration_milliseconds: self.crossfade_duration_milliseconds,
            remove_leading_milliseconds: self.remove_leading_milliseconds,
            remove_trailing_milliseconds: self.remove_trailing_milliseconds,
        };
        let own = [
            ("voice.cfg_weight", weight.0),
            ("voice.temperature", temperature.0),
        ];
        let name = |field: &str| {
            let mut names = NAMES.iter().chain(&own);
            names
                .find(|(native, _)| *native == field)
                .map(|(_, flat)| *flat)
        };
        let request = draft.validate(service, default_format, false);
        request.map_err(|error| error.map_field(name))
    }
}

type Named = (&'static str, Option<f64>);

/// The one of two names for the same that has a value.
fn either(usual: Named, other: Named) -> Result<Named, Error> {
    match (usual.1, other.1) {
        (Some(_), Some(_)) => {
            let problem = format!("is the same as {}; send one of the two", usual.0);
            Err(Error::parameter(other.0, problem))
        }
        (None, Some(_)) => Ok(other),
        _ => Ok(usual),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_names_the_one_that_was_sent_is_used_and_both_are_refused() {
        assert_eq!(
            either(("a", None), ("b", Some(1.0))).unwrap(),
            ("b", Some(1.0))
        );
        assert_eq!(
            either(("a", Some(1.0)), ("b", None)).unwrap(),
            ("a", Some(1.0))
        );
        let refused = either(("a", Some(1.0)), ("b", Some(1.0))).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("b"));
    }
}
