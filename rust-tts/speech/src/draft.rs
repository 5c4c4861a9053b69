//! What a client sends, before it is checked: JSON into fields, errors that name them.

use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::request::OneOff;
use crate::error::{Code, Error};

/// The body of `POST /api/tts` and of a `say` message.
#[derive(Debug, Default, Deserialize)]
pub struct Draft {
    pub text: Option<String>,
    pub model: Option<String>,
    pub language_id: Option<String>,
    #[serde(default, deserialize_with = "object")]
    pub voice: VoiceDraft,
    /// The default voice speaks where the model has none of the name and can clone none.
    #[serde(skip)]
    pub voice_or_default: bool,
    #[serde(default, deserialize_with = "object")]
    pub audio: AudioDraft,
    pub seed: Option<u64>,
    pub min_p: Option<f64>,
    pub top_k: Option<u32>,
    pub speed: Option<f64>,
    pub max_audio_seconds: Option<f64>,
    pub stream: Option<bool>,
    pub audio_normalization: Option<String>,
    pub text_processing_chunk_size: Option<u32>,
    pub audio_tokens_per_slice: Option<u32>,
    pub context_window: Option<u32>,
    pub chunk_overlap_method: Option<String>,
    pub crossfade_duration_milliseconds: Option<f64>,
    pub remove_leading_milliseconds: Option<f64>,
    pub remove_trailing_milliseconds: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
pub struct VoiceDraft {
    pub audio_prompt_path: Option<String>,
    /// A clip that came with the request, in place of a voice's name.
    #[serde(skip)]
    pub clip: Option<OneOff>,
    pub exaggeration: Option<f64>,
    pub cfg_weight: Option<f64>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub min_p: Option<f64>,
    pub top_k: Option<u32>,
    pub repetition_penalty: Option<f64>,
    pub seed: Option<u64>,
    pub speed: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
pub struct AudioDraft {
    pub format: Option<String>,
    pub sample_rate: Option<u32>,
    /// In kbit/s.
    pub bitrate: Option<u32>,
    pub stream: Option<bool>,
    pub chunk_size_ms: Option<u32>,
    pub binary: Option<bool>,
}

/// Reads an object. serde would also take an array, by position.
fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    struct ObjectVisitor<T>(PhantomData<T>);

    impl<'de, T: Default + Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
        type Value = T;

        fn expecting(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            text.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }

        fn visit_unit<E>(self) -> Result<T, E> {
            Ok(T::default())
        }
    }

    deserializer.deserialize_any(ObjectVisitor(PhantomData))
}

/// Reads a JSON object into `T`; an error names the field.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // serde would take an array for the fields in order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        let json = serde_json::from_slice::<IgnoredAny>(bytes);
        let expected = Error::parameter("body", "expected an object");
        return Err(json.err().map_or(expected, |error| not_json(&error)));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner();
        // A number that no float holds (1e999) is a wrong value; anything else that is not JSON has no field to name.
        let out_of_range = inner.to_string().starts_with("number out of range");
        if inner.is_data() || (out_of_range && path != ".") {
            Error::parameter(if path == "." { "body" } else { &path }, problem(inner))
        } else {
            not_json(inner)
        }
    })?;
    deserializer.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> Error {
    let message = format!("The body is not valid JSON: {error}");
    Error::new(Code::InvalidJson, message)
}

/// The parser's words without the position, which the field's name replaces.
fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ")
        .map_or(text.clone(), |at| text[..at].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(json: &str) -> Result<Draft, Error> {
        parse_json(json.as_bytes())
    }

    #[test]
    fn wrong_types_name_their_field() {
        for (json, field) in [
            (r#"{"text": 5}"#, "text"),
            (r#"{"voice": {"temperature": "hot"}}"#, "voice.temperature"),
            (r#"{"voice": []}"#, "voice"),
            (r#"{"audio": {"sample_rate": -1}}"#, "audio.sample_rate"),
            (r#"{"voice": {"top_p": 1e999}}"#, "voice.top_p"),
            (r#"{"seed": 1.5}"#, "seed"),
            (r#"{"text": "a", "text": "b"}"#, "text"),
            ("[1]", "body"),
            (
                r#"{"audio": [null, null, null, null, null, null]}"#,
                "audio",
            ),
        ] {
            let error = draft(json).unwrap_err();
            assert_eq!(error.code, Code::InvalidParameter, "{json}: {error}");
            assert!(error.to_string().contains(field), "{json}: {error}");
        }
    }

    #[test]
    fn what_is_not_json_is_said_to_be_none() {
        let deep = "[".repeat(10_000);
        for json in [
            "",
            "{",
            r#"{"text": NaN}"#,
            r#"{"text": "\ud800"}"#,
            "{} {}",
            deep.as_str(),
        ] {
            assert_eq!(
                draft(json).unwrap_err().code,
                Code::InvalidJson,
                "{json:.20}"
            );
        }
    }

    #[test]
    fn nulls_and_unknown_fields_are_no_errors() {
        let draft =
            draft(r#"{"text": "hi", "voice": null, "audio": null, "seed": null, "other": {}}"#)
                .unwrap();
        assert_eq!(draft.text.as_deref(), Some("hi"));
        assert!(draft.seed.is_none());
    }
}
