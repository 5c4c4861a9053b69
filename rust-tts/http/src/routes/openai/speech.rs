//! `POST /v1/audio/speech`.

use crate::error::ApiError;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::{error, events};
use crate::routes::answer::answer;
use crate::routes::models::is_alias;
use crate::routes::native::read;
use crate::state::{App, Shared};
use chatterbox_audio::Format;
use chatterbox_speech::draft::parse_json;
use chatterbox_speech::error::Error;
use chatterbox_speech::flat::FlatDraft;
use chatterbox_speech::metrics;
use chatterbox_speech::request::SpeechRequest;
use chatterbox_speech::{self as speech, Delivery};

/// The route as metrics name it.
const ROUTE: &str = "/v1/audio/speech";
/// OpenAI's own voices. Clients that know no others must be able to speak here: each is a voice of the library where
/// one has its name, else the default voice.
const OPENAI_VOICES: [&str; 13] = [
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage",
    "shimmer", "verse",
];

/// OpenAI's fields that are not called so elsewhere. All others are those of [`FlatDraft`], read from the same body.
#[derive(Deserialize)]
struct Body {
    input: Option<String>,
    /// A name, or an object with an `id`.
    voice: Option<Value>,
    response_format: Option<String>,
    stream_format: Option<String>,
}

/// How the audio is put into the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamFormat {
    Audio,
    Events,
}

/// Speaks a text.
pub async fn speak(
    State(app): State<Shared>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    Ok(answered(app, body).await.map_err(error::to_openai)?)
}

async fn answered(app: Shared, body: Result<Bytes, BytesRejection>) -> Result<Response, Error> {
    let (mut request, format) = read(body)
        .and_then(|body| request(&app, &body))
        .inspect_err(|_| metrics::refused(ROUTE))?;
    if format == StreamFormat::Events {
        request.delivery = Delivery::Stream;
    }
    let texts = speech::whole(&request.text, request.text_chunk_size);
    let speech = speech::start(&app.speech, request.clone(), texts, ROUTE);
    match format {
        StreamFormat::Audio => answer(&request, speech).await,
        StreamFormat::Events => events::answer(&request, speech).await,
    }
}

fn request(app: &App, json: &[u8]) -> Result<(SpeechRequest, StreamFormat), Error> {
    let engine = app.speech.ready()?;
    let body: Body = parse_json(json)?;
    let flat: FlatDraft = parse_json(json)?;
    let format = stream_format(body.stream_format.as_deref())?;
    let voice = voice(body.voice)?.or(flat.voice_id);
    let of_openai = |name: &String| {
        let known = |voice: &&str| voice.eq_ignore_ascii_case(name);
        OPENAI_VOICES.iter().any(known)
    };
    let draft = FlatDraft {
        text: body.input,
        model: flat.model.filter(|name| !is_alias(&engine, name)),
        voice_or_default: voice.as_ref().is_some_and(of_openai),
        voice_id: voice,
        format: body.response_format.or(flat.format),
        ..flat
    };
    Ok((draft.validate(&app.speech, Format::Mp3)?, format))
}

fn stream_format(wanted: Option<&str>) -> Result<StreamFormat, Error> {
    match wanted {
        None | Some("audio") => Ok(StreamFormat::Audio),
        Some("sse") => Ok(StreamFormat::Events),
        Some(_) => Err(Error::parameter("stream_format", "expected audio or sse")),
    }
}

/// The voice that is named, if any.
fn voice(wanted: Option<Value>) -> Result<Option<String>, Error> {
    let named = match wanted {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(name)) => return Ok(Some(name)),
        Some(Value::Object(mut object)) => object.remove("id"),
        Some(_) => None,
    };
    match named {
        Some(Value::String(id)) => Ok(Some(id)),
        _ => Err(Error::parameter(
            "voice",
            r#"expected a name or {"id": "a name"}"#,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_voice_is_a_name_or_an_object() {
        assert_eq!(voice(None).unwrap(), None);
        assert_eq!(voice(Some(json!("x"))).unwrap().as_deref(), Some("x"));
        assert_eq!(
            voice(Some(json!({"id": "x", "other": 1})))
                .unwrap()
                .as_deref(),
            Some("x")
        );
        for wrong in [json!({}), json!({"id": 1}), json!(["x"]), json!(1)] {
            let error = voice(Some(wrong)).unwrap_err();
            assert!(error.to_string().starts_with("voice: "), "{error}");
        }
    }
}
