//! `POST /v1/audio/speech`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use utoipa::openapi::schema::{Object, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{RefOr, Response as ApiResponse};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::error::OpenAiError;
use crate::error::ApiError;
use crate::routes::answer::AudioAnswer;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use bytes::Bytes;
use chatterbox_speech::params::merged;
use serde::Deserialize;

use super::events;
use crate::routes::answer::answer;
use crate::routes::models::is_alias;
use crate::routes::native::read;
use crate::state::{App, Shared};
use chatterbox_audio::Format;
use chatterbox_speech::error::Error;
use chatterbox_speech::fields::Fields;
use chatterbox_speech::metrics;
use chatterbox_speech::params::SpeechParams;
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

/// What OpenAI calls parameters.
const WORDS: [(&str, &str); 3] = [
    ("text", "input"),
    ("voice_id", "voice"),
    ("format", "response_format"),
];

/// What OpenAI's requests have beside [`SpeechParams`].
#[derive(Deserialize, ToSchema)]
struct OpenAiParams {
    /// `audio`, or `sse` for server-sent events with the audio in base64
    #[schema(inline)]
    stream_format: Option<StreamFormat>,
}

/// [`SpeechParams`] in OpenAI's words.
struct OpenAiRequest;

impl PartialSchema for OpenAiRequest {
    fn schema() -> RefOr<Schema> {
        let mut object = merged([SpeechParams::schema(), OpenAiParams::schema()]);
        for (name, word) in WORDS {
            if let Some(schema) = object.properties.remove(name) {
                object.properties.insert(word.to_owned(), schema);
            }
        }
        let id = ObjectBuilder::new()
            .property("id", Object::with_type(Type::String))
            .required("id");
        let voice = OneOfBuilder::new()
            .item(Object::with_type(Type::String))
            .item(id)
            .item(Object::with_type(Type::Null))
            .description(Some(
                "A voice's name, or an object with its `id`. OpenAI's own are the default voice.",
            ));
        object.properties.insert("voice".to_owned(), voice.into());
        object.required = vec!["input".to_owned()];
        Schema::Object(object).into()
    }
}

impl ToSchema for OpenAiRequest {
    fn name() -> Cow<'static, str> {
        "OpenAiRequest".into()
    }
}

/// The audio, or events with it.
struct AudioOrEvents;

impl IntoResponses for AudioOrEvents {
    fn responses() -> BTreeMap<String, RefOr<ApiResponse>> {
        AudioAnswer::with_content(&["text/event-stream"])
    }
}

/// How the audio is put into the body.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StreamFormat {
    #[default]
    Audio,
    Sse,
}

/// Speaks a text.
#[utoipa::path(
    post,
    path = "/audio/speech",
    tag = "OpenAI",
    operation_id = "createSpeech",
    request_body(content = OpenAiRequest, examples(
        ("usual" = (value = json!({"model": "tts-1", "input": "Hello, world!", "voice": "alloy"}))),
        ("events" = (value = json!({
            "model": "tts-1",
            "input": "Hello, world!",
            "voice": {"id": "alloy"},
            "response_format": "pcm",
            "stream_format": "sse"
        })))
    )),
    responses(AudioOrEvents, OpenAiError)
)]
pub async fn speak(
    State(app): State<Shared>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let (mut request, format) = read(body)
        .and_then(|body| request(&app, &body))
        .inspect_err(|_| metrics::refused(ROUTE))?;
    if matches!(format, StreamFormat::Sse) {
        request.delivery = Delivery::Stream;
    }
    let texts = speech::whole(&request.text, request.text_chunk_size);
    let speech = speech::start(&app.speech, request.clone(), texts, ROUTE);
    Ok(match format {
        StreamFormat::Audio => answer(&request, speech).await?,
        StreamFormat::Sse => events::answer(&request, speech).await?,
    })
}

fn request(app: &App, json: &[u8]) -> Result<(SpeechRequest, StreamFormat), Error> {
    let engine = app.speech.ready()?;
    let fields = Fields::from_json(json)?;
    let OpenAiParams { stream_format } = fields.read()?;
    let in_object = fields.is_object("voice");
    let mut params = SpeechParams::read(fields, &WORDS)?;
    let output = &mut params.output;
    if in_object && params.names.sent("voice_id") != Some("voice.id") {
        let problem = r#"expected a name or {"id": "a name"}"#;
        return Err(Error::parameter("voice", problem));
    }
    output.model = output.model.take().filter(|name| !is_alias(&engine, name));
    params.voice_or_default = output.voice_id.as_ref().is_some_and(|name| {
        let known = |voice: &&str| voice.eq_ignore_ascii_case(name);
        OPENAI_VOICES.iter().any(known)
    });
    let request = params.validate(&app.speech, Format::Mp3, false)?;
    Ok((request, stream_format.unwrap_or_default()))
}
