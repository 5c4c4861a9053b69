//! `POST /v1/audio/speech`.

use crate::error::ApiError;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use bytes::Bytes;
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
#[derive(Deserialize)]
struct OpenAiParams {
    stream_format: Option<StreamFormat>,
}

/// How the audio is put into the body.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StreamFormat {
    #[default]
    Audio,
    Sse,
}

/// Speaks a text.
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
