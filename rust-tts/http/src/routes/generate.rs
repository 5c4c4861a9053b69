//! `/tts/generate`: a text in a query, which an `<audio>` element can play, or in JSON.

use crate::error::{ApiError, PlainError};
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;

use super::accept::preferred;
use super::answer::{AudioAnswer, answer, described};
use super::native::read;
use crate::state::{App, Shared};
use chatterbox_audio::Format;
use chatterbox_speech as speech;
use chatterbox_speech::error::Error;
use chatterbox_speech::fields::Fields;
use chatterbox_speech::metrics;
use chatterbox_speech::params::SpeechParams;
use chatterbox_speech::request::SpeechRequest;

/// The route as metrics name it.
const ROUTE: &str = "/tts/generate";

/// `GET`, with the parameters in the query. `HEAD` checks them, and nothing is spoken.
#[utoipa::path(
    get,
    path = "/tts/generate",
    tag = "Speech",
    operation_id = "generateFromQuery",
    params(SpeechParams),
    responses(AudioAnswer, (status = 206, description = "A part of the finished file, which was asked for with `Range`.", content_type = "audio/*"), PlainError)
)]
pub async fn from_query(
    State(app): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let fields = Fields::from_urlencoded(uri.query().unwrap_or_default().as_bytes());
    let request = validated(&app, Ok(fields), &headers)?;
    if method == Method::HEAD {
        // Of a length that is not known, as the audio's.
        let body = Body::from_stream(stream::empty::<Result<Bytes, Error>>());
        let content_type = request.output.encoding.format.content_type();
        return Ok(described(&request, content_type, body));
    }
    Ok(speak(&app, request).await?)
}

/// `POST`, with the parameters in JSON.
#[utoipa::path(
    post,
    path = "/tts/generate",
    tag = "Speech",
    operation_id = "generate",
    request_body(content = SpeechParams, example = json!({"text": "Hello, this is a custom voice.", "format": "mp3"})),
    responses(AudioAnswer, PlainError)
)]
pub async fn from_json(
    State(app): State<Shared>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let fields = read(body).and_then(|body| Ok(Fields::from_json(&body)?));
    let request = validated(&app, fields, &headers)?;
    Ok(speak(&app, request).await?)
}

fn validated(
    app: &App,
    fields: Result<Fields, Error>,
    headers: &HeaderMap,
) -> Result<SpeechRequest, Error> {
    let offers = Format::ALL
        .iter()
        .map(|&format| (format.media_types(), format));
    let format = preferred(headers, offers).unwrap_or(Format::Wav);
    fields
        .and_then(|fields| SpeechParams::read(fields, &[]))
        .and_then(|params| params.validate(&app.speech, format, false))
        .inspect_err(|_| metrics::refused(ROUTE))
}

async fn speak(app: &Shared, request: SpeechRequest) -> Result<Response, Error> {
    let texts = speech::whole(&request.text, request.text_chunk_size);
    let speech = speech::start(&app.speech, request.clone(), texts, ROUTE);
    answer(&request, speech).await
}
