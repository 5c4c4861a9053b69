//! From what a client sent to a request that is known to be valid.
//!
//! Every dialect fills a [`Draft`] and calls [`Draft::validate`]; nothing behind it checks a parameter again.

use std::sync::Arc;

use crate::audio::{Format, SAMPLE_RATES};
use crate::engine::messages::{EngineInfo, Model, Params, Slicing};
use crate::error::{ApiError, Code};
use crate::speech::draft::{AudioDraft, Draft};
use crate::state::App;
use crate::voices::{Voice, VoiceError};

/// Largest integer that JSON carries exactly.
const MAX_SEED: u64 = (1 << 53) - 1;
/// Shortest and longest audio that a request may ask for, in seconds.
const MIN_AUDIO_SECONDS: f64 = 0.05;
const MAX_AUDIO_SECONDS: f64 = 3600.0;
/// Length of a WebSocket chunk, in milliseconds.
pub const CHUNK_MS: std::ops::RangeInclusive<u32> = 10..=5000;
const DEFAULT_CHUNK_MS: u32 = 40;

/// A request that can be spoken.
#[derive(Clone, Debug)]
pub struct SpeechRequest {
    /// Empty when the text arrives piece by piece.
    pub text: String,
    pub model: Arc<Model>,
    pub language: Option<String>,
    pub voice: VoiceChoice,
    pub params: Params,
    pub slicing: Slicing,
    /// Of the first utterance; each further one adds 1.
    pub seed: u64,
    /// Of all utterances together.
    pub max_audio_seconds: Option<f64>,
    pub stream: bool,
    pub return_tokens: bool,
    pub output: Output,
}

/// Whose voice speaks.
#[derive(Clone, Debug)]
pub enum VoiceChoice {
    /// One of the model's own, by name; `None` is its default.
    BuiltIn(Option<String>),
    Cloned(Voice),
}

/// How the audio leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    pub format: Format,
    pub sample_rate: u32,
    pub chunk_ms: u32,
    /// Binary WebSocket frames instead of base64.
    pub binary: bool,
}

impl SpeechRequest {
    /// The voice's name, as `X-Voice` shows it.
    pub fn voice_name(&self) -> &str {
        match &self.voice {
            VoiceChoice::Cloned(voice) => &voice.id,
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
        app: &App,
        default_format: Format,
        more: bool,
    ) -> Result<SpeechRequest, ApiError> {
        let engine = app.ready()?;
        let text = check_text(
            self.text.unwrap_or_default(),
            app.limits.max_text_length,
            more,
        )?;
        let model = choose_model(
            &engine,
            self.model.as_deref(),
            app.engine_options.default_model.as_deref(),
        )?;
        let language = check_language(self.language_id, &model)?;
        let wanted = self.voice.audio_prompt_path.as_deref();
        let voice = choose_voice(app, &model, wanted)?;
        let params = Params {
            temperature: within("voice.temperature", self.voice.temperature, 0.0, 2.0)?,
            top_p: within("voice.top_p", self.voice.top_p, 0.0, 1.0)?,
            min_p: within("min_p", self.min_p.or(self.voice.min_p), 0.0, 1.0)?,
            top_k: self.top_k.or(self.voice.top_k),
            repetition_penalty: within(
                "voice.repetition_penalty",
                self.voice.repetition_penalty,
                1.0,
                10.0,
            )?,
            exaggeration: within("voice.exaggeration", self.voice.exaggeration, 0.0, 2.0)?,
            cfg_weight: within("voice.cfg_weight", self.voice.cfg_weight, 0.0, 1.0)?,
            speed: within("speed", self.speed.or(self.voice.speed), 0.25, 4.0)?.unwrap_or(1.0),
        };
        Ok(SpeechRequest {
            text,
            model,
            language,
            voice,
            params,
            slicing: Slicing::default(),
            seed: choose_seed(self.seed.or(self.voice.seed))?,
            max_audio_seconds: within(
                "max_audio_seconds",
                self.max_audio_seconds,
                MIN_AUDIO_SECONDS,
                MAX_AUDIO_SECONDS,
            )?,
            stream: self.stream.or(self.audio.stream).unwrap_or(true),
            return_tokens: false,
            output: self.audio.validate(default_format)?,
        })
    }
}

impl AudioDraft {
    fn validate(&self, default_format: Format) -> Result<Output, ApiError> {
        let format = match self.format.as_deref() {
            None => default_format,
            Some(name) => Format::parse(name).ok_or_else(|| {
                let known: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
                ApiError::parameter(
                    "audio.format",
                    format!("expected one of {}", known.join(", ")),
                )
            })?,
        };
        let sample_rate = self.sample_rate.unwrap_or(24_000);
        if !SAMPLE_RATES.contains(&sample_rate) {
            let known: Vec<_> = SAMPLE_RATES.iter().map(u32::to_string).collect();
            return Err(ApiError::parameter(
                "audio.sample_rate",
                format!("expected one of {}", known.join(", ")),
            ));
        }
        let chunk_ms = self.chunk_size_ms.unwrap_or(DEFAULT_CHUNK_MS);
        if !CHUNK_MS.contains(&chunk_ms) {
            let (least, most) = (CHUNK_MS.start(), CHUNK_MS.end());
            return Err(ApiError::parameter(
                "audio.chunk_size_ms",
                format!("expected {least} to {most}"),
            ));
        }
        Ok(Output {
            format,
            sample_rate,
            chunk_ms,
            binary: self.binary.unwrap_or(false),
        })
    }
}

fn check_text(text: String, max_length: usize, more: bool) -> Result<String, ApiError> {
    let length = text.chars().count();
    if length > max_length {
        let message = format!("text: {length} characters; at most {max_length} are taken");
        return Err(ApiError::new(Code::TextTooLong, message));
    }
    if !more && crate::speech::text::clean(&text).trim().is_empty() {
        return Err(ApiError::new(
            Code::MissingText,
            "text: there is nothing to say",
        ));
    }
    Ok(text)
}

fn choose_model(
    engine: &EngineInfo,
    wanted: Option<&str>,
    default: Option<&str>,
) -> Result<Arc<Model>, ApiError> {
    let found = if let Some(name) = wanted.or(default) {
        engine.model(name)
    } else {
        let preferred = ["standard", "turbo", "multilingual", "lite"];
        let loaded = preferred.iter().find_map(|name| engine.model(name));
        loaded.or_else(|| engine.models.first())
    };
    found.cloned().ok_or_else(|| {
        let message = format!(
            "model: not loaded; loaded are {}",
            engine.names().join(", ")
        );
        ApiError::new(Code::ModelNotLoaded, message)
    })
}

fn check_language(language: Option<String>, model: &Model) -> Result<Option<String>, ApiError> {
    let Some(language) = language else {
        return Ok(None);
    };
    let wanted = language.trim().to_lowercase();
    let base = wanted.split(['-', '_']).next().unwrap_or_default();
    if model.languages.iter().any(|known| *known == base) {
        return Ok(Some(base.to_owned()));
    }
    let message = format!("{} speaks {}", model.name, model.languages.join(", "));
    Err(ApiError::parameter("language_id", message))
}

/// A voice asked for by name must exist and be speakable; the server's default is used by models that can.
fn choose_voice(app: &App, model: &Model, wanted: Option<&str>) -> Result<VoiceChoice, ApiError> {
    let wanted = wanted.map(str::trim).filter(|voice| !voice.is_empty());
    match wanted {
        Some(name) if model.voices.iter().any(|own| own == name) => {
            Ok(VoiceChoice::BuiltIn(Some(name.to_owned())))
        }
        Some(_) if !model.can_clone => Err(cannot_clone(model)),
        // Looking a voice up reads the folder, and decodes a file that it has not seen.
        Some(reference) => {
            let found = tokio::task::block_in_place(|| app.voices.find(reference));
            Ok(VoiceChoice::Cloned(found?))
        }
        None if model.can_clone && app.may_have_default_voice() => {
            let default = tokio::task::block_in_place(|| app.default_voice());
            Ok(default.map_or(VoiceChoice::BuiltIn(None), VoiceChoice::Cloned))
        }
        None => Ok(VoiceChoice::BuiltIn(None)),
    }
}

fn cannot_clone(model: &Model) -> ApiError {
    let message = format!(
        "The model {} has a voice of its own ({}) and cannot clone. Load a model that can: standard, turbo or \
         multilingual (LOAD_STANDARD, LOAD_TURBO, LOAD_MULTILINGUAL).",
        model.name,
        model.voices.join(", ")
    );
    ApiError::new(Code::CannotClone, message)
}

fn choose_seed(seed: Option<u64>) -> Result<u64, ApiError> {
    match seed {
        Some(seed) if seed > MAX_SEED => Err(ApiError::parameter(
            "seed",
            format!("expected 0 to {MAX_SEED}"),
        )),
        Some(seed) => Ok(seed),
        None => Ok(uuid::Uuid::new_v4().as_u64_pair().0 & MAX_SEED),
    }
}

fn within(field: &str, value: Option<f64>, least: f64, most: f64) -> Result<Option<f64>, ApiError> {
    match value {
        // NaN fails this comparison too.
        Some(number) if !(least..=most).contains(&number) => Err(ApiError::parameter(
            field,
            format!("expected {least} to {most}"),
        )),
        value => Ok(value),
    }
}

impl From<VoiceError> for ApiError {
    fn from(error: VoiceError) -> Self {
        let code = match &error {
            VoiceError::NotFound => Code::VoiceNotFound,
            VoiceError::Exists => Code::VoiceExists,
            VoiceError::ReadOnly => Code::VoiceReadOnly,
            VoiceError::BadName | VoiceError::TooShort { .. } | VoiceError::Silent => {
                Code::InvalidParameter
            }
            VoiceError::Unsupported(_) => Code::UnsupportedAudio,
            VoiceError::TooLarge => Code::FileTooLarge,
            VoiceError::StorageFull => Code::StorageFull,
            VoiceError::Io(cause) => {
                tracing::error!(%cause, "the voices folder failed");
                return Self::new(
                    Code::GenerationError,
                    "The voices folder could not be read or written.",
                );
            }
        };
        Self::new(code, error.to_string())
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
