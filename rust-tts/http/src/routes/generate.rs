//! `/tts/generate`: a text in a query, which an `<audio>` element can play, or in JSON.

use crate::error::{ApiError, PlainError};
use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;

use super::accept::preferred;
use super::answer::{AudioAnswer, answer, described, first, response};
use super::native::read;
use super::stream::collected;
use crate::auth::{ClientKey, Peer, client_of};
use crate::finished::{ByteRange, FileKey, FinishedFile};
use crate::state::{App, Shared};
use chatterbox_audio::Format;
use chatterbox_speech::error::{Code, Error};
use chatterbox_speech::fields::Fields;
use chatterbox_speech::metrics;
use chatterbox_speech::params::SpeechParams;
use chatterbox_speech::request::SpeechRequest;
use chatterbox_speech::{self as speech, Delivery, Speech};

/// The route as metrics name it.
const ROUTE: &str = "/tts/generate";

/// `GET`, with the parameters in the query. `HEAD` checks them, and nothing is spoken. A whole file (`stream=false`) is
/// kept for a minute, for players that ask for it in parts with `Range`.
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
    Extension(peer): Extension<Peer>,
    key: Option<Extension<ClientKey>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = uri.query().unwrap_or_default();
    let fields = Fields::from_urlencoded(query.as_bytes());
    let request = validated(&app, Ok(fields), &headers)?;
    if method == Method::HEAD {
        // Of a length that is not known, as the audio's.
        let body = Body::from_stream(stream::empty::<Result<Bytes, Error>>());
        let content_type = request.output.encoding.format.content_type();
        return Ok(described(&request, content_type, body));
    }
    let range = ByteRange::of(&headers);
    let voice = request.voice.key().unwrap_or(request.voice_name());
    let key = FileKey {
        client: client_of(peer, key),
        query: query.to_owned(),
        format: request.output.encoding.format,
        voice: voice.to_owned(),
    };
    let kept = range.and_then(|_| app.finished.find(&key));
    // Browsers ask for a stream from its first byte on, and take it as it is made.
    if kept.is_none() && request.stream && range != Some(ByteRange::PROBE) {
        return Ok(speak(&app, request).await?);
    }
    let place = kept.unwrap_or_else(|| app.finished.place(key));
    let file = place.get_or_try_init(|| finish(&app, &request)).await?;
    app.finished.trim();
    let is_of_file = |tag: &HeaderValue| tag.as_bytes() == file.tag.as_bytes();
    let range = range.filter(|_| headers.get(header::IF_RANGE).is_none_or(is_of_file));
    Ok(part(&request, file, range))
}

/// Speaks a request to its end, whether it asks for a stream or not.
async fn finish(app: &Shared, request: &SpeechRequest) -> Result<FinishedFile, Error> {
    let request = SpeechRequest {
        stream: false,
        delivery: Delivery::Whole,
        ..request.clone()
    };
    let mut speech = start(app, request);
    let timing = first(&mut speech).await?;
    Ok(FinishedFile::new(collected(speech).await?, timing))
}

/// A part of a finished file, or all of it.
fn part(request: &SpeechRequest, file: &FinishedFile, range: Option<ByteRange>) -> Response {
    let length = file.bytes.len();
    let found = range.map_or(Some(0..length), |range| range.within(length));
    let mut answer = if let Some(bytes) = &found {
        let content_type = request.output.encoding.format.content_type();
        let body = Body::from(file.bytes.slice(bytes.clone()));
        response(request, file.timing, content_type, body)
    } else {
        let message = format!("The file has {length} bytes.");
        ApiError::from(Error::new(Code::RangeNotSatisfiable, message)).into_response()
    };
    let place = match (range, &found) {
        (None, _) => None,
        (_, None) => Some(format!("bytes */{length}")),
        (_, Some(bytes)) => {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            let last = bytes.end.saturating_sub(1);
            Some(format!("bytes {}-{last}/{length}", bytes.start))
        }
    };
    let headers = answer.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    for (name, value) in [
        (header::CONTENT_RANGE, place),
        (header::ETAG, Some(file.tag.clone())),
    ] {
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            headers.insert(name, value);
        }
    }
    answer
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
    let speech = start(app, request.clone());
    answer(&request, speech).await
}

fn start(app: &App, request: SpeechRequest) -> Speech {
    let texts = speech::whole(&request.text, request.text_chunk_size);
    speech::start(&app.speech, request, texts, ROUTE)
}
