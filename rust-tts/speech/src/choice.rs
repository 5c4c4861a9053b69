//! Validation of a request's text, model, language, voice and seed.

use std::sync::Arc;

use crate::error::{Code, Error};
use crate::request::{OneOff, VoiceChoice};
use crate::service::SpeechService;
use chatterbox_engine::MODELS;
use chatterbox_engine::messages::{EngineInfo, Model};
use chatterbox_voices::VoiceError;

/// Longest name of a voice that an error repeats, in bytes.
const MAX_SHOWN_NAME: usize = 64;
/// Largest integer that JSON carries exactly.
const MAX_SEED: u64 = (1 << 53) - 1;

pub fn check_text(text: String, max_length: usize, more: bool) -> Result<String, Error> {
    let length = text.chars().count();
    if length > max_length {
        return Err(Error::too_long(length, max_length));
    }
    if !more && chatterbox_text::clean(&text).trim().is_empty() {
        return Err(Error::nothing_to_say());
    }
    Ok(text)
}

pub fn choose_model(
    engine: &EngineInfo,
    wanted: Option<&str>,
    default: Option<&str>,
) -> Result<Arc<Model>, Error> {
    let found = if let Some(name) = wanted.or(default) {
        engine.model(name)
    } else {
        engine.models.first()
    };
    found.cloned().ok_or_else(|| {
        let loadable = wanted.or(default).filter(|name| MODELS.contains(name));
        let advice = loadable.map(|name| {
            format!(
                "; --load-{name} (LOAD_{}=true) loads it",
                name.to_uppercase()
            )
        });
        let message = format!(
            "not loaded; loaded are {}{}",
            engine.names().join(", "),
            advice.unwrap_or_default()
        );
        Error::new(Code::ModelNotLoaded, message).in_field("model")
    })
}

pub fn check_language(language: Option<String>, model: &Model) -> Result<Option<String>, Error> {
    let Some(language) = language else {
        return Ok(None);
    };
    let wanted = language.trim().to_lowercase();
    let base = wanted.split(['-', '_']).next().unwrap_or_default();
    if model.languages.iter().any(|known| *known == base) {
        return Ok(Some(base.to_owned()));
    }
    let message = format!("{} speaks {}", model.name, model.languages.join(", "));
    Err(Error::parameter("language_id", message))
}

/// A voice asked for by name must exist and be speakable; the server's default is used by models that can.
pub fn choose_voice(
    service: &SpeechService,
    model: &Model,
    wanted: Option<&str>,
) -> Result<VoiceChoice, Error> {
    let wanted = wanted.map(str::trim).filter(|voice| !voice.is_empty());
    match wanted {
        Some(name) if model.voices.iter().any(|own| own == name) => {
            Ok(VoiceChoice::BuiltIn(Some(name.to_owned())))
        }
        // Looking a voice up reads the folder, and decodes a file that it has not seen.
        Some(reference) => {
            let found = tokio::task::block_in_place(|| service.voices.find(reference));
            match found {
                Ok(voice) if model.can_clone => Ok(VoiceChoice::Cloned(voice)),
                Ok(_) => Err(cannot_clone(model)),
                Err(VoiceError::NotFound) => Err(voice_not_found(service, model, reference)),
                Err(error) => Err(error.into()),
            }
        }
        None if model.can_clone && service.may_have_default_voice() => {
            let default = tokio::task::block_in_place(|| service.default_voice());
            Ok(default.map_or(VoiceChoice::BuiltIn(None), VoiceChoice::Cloned))
        }
        None => Ok(VoiceChoice::BuiltIn(None)),
    }
}

/// The voice of a clip that came with the request.
pub fn once(clip: OneOff, model: &Model) -> Result<VoiceChoice, Error> {
    if model.can_clone {
        Ok(VoiceChoice::Once(clip))
    } else {
        Err(cannot_clone(model))
    }
}

fn voice_not_found(service: &SpeechService, model: &Model, reference: &str) -> Error {
    let Model { name, voices, .. } = model;
    let own = voices.join(", ");
    // A name, not a path or an address.
    let is_name = reference.len() <= MAX_SHOWN_NAME
        && reference.starts_with(char::is_alphanumeric)
        && reference
            .chars()
            .all(|c| c.is_alphanumeric() || "._ -".contains(c));
    let (shown, near) = if is_name {
        let near = tokio::task::block_in_place(|| service.voices.near(reference));
        (format!(" `{reference}`"), near)
    } else {
        (String::new(), Vec::new())
    };
    let near = if near.is_empty() {
        String::new()
    } else {
        format!(" Nearly the same: {}.", near.join(", "))
    };
    let message = format!(
        "The voice{shown} was not found.{near} Built-in voices of {name}: {own}; `GET /voices` lists the stored ones."
    );
    Error::new(Code::VoiceNotFound, message)
}

fn cannot_clone(model: &Model) -> Error {
    let message = format!(
        "The model {} has a voice of its own ({}) and cannot clone. Load one that can, such as turbo (LOAD_TURBO=true).",
        model.name,
        model.voices.join(", ")
    );
    Error::new(Code::CannotClone, message)
}

/// -1 is one at random, as is none.
pub fn choose_seed(seed: Option<i64>) -> u64 {
    let chosen = seed.and_then(|seed| u64::try_from(seed).ok());
    chosen.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 & MAX_SEED)
}
