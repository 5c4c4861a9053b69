//! Audio as an HTTP answer, the same for every route that speaks.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;

use utoipa::IntoResponses;
use utoipa::openapi::{Content, Header, RefOr, Response as ApiResponse, ResponseBuilder};

use super::stream;
use chatterbox_audio::Format;
use chatterbox_speech::error::Error;
use chatterbox_speech::request::SpeechRequest;
use chatterbox_speech::{Speech, SpeechEvent, Timing};

const SAMPLE_RATE: HeaderName = HeaderName::from_static("x-sample-rate");
const MODEL: HeaderName = HeaderName::from_static("x-model");
const VOICE: HeaderName = HeaderName::from_static("x-voice");
const QUEUE_TIME: HeaderName = HeaderName::from_static("x-queue-time-ms");
const FIRST_AUDIO: HeaderName = HeaderName::from_static("x-time-to-first-audio-ms");
const WATERMARK: HeaderName = HeaderName::from_static("x-watermark");
/// Headers of audio answers that a page of another origin may read.
pub const AUDIO_HEADERS: [HeaderName; 6] = [
    SAMPLE_RATE,
    MODEL,
    VOICE,
    QUEUE_TIME,
    FIRST_AUDIO,
    WATERMARK,
];

/// The described answer of routes that speak.
pub struct AudioAnswer;

impl AudioAnswer {
    /// With further content types.
    pub fn with_content(kinds: &[&str]) -> BTreeMap<String, RefOr<ApiResponse>> {
        let mut response = ResponseBuilder::new().description(
            "The audio, as it is made. The transfer is broken off, never ended, when something fails on the way.",
        );
        for name in AUDIO_HEADERS {
            response = response.header(name.as_str(), Header::default());
        }
        let formats = Format::ALL.iter().map(|format| format.content_type());
        for kind in formats.chain(kinds.iter().copied()) {
            response = response.content(kind, Content::default());
        }
        BTreeMap::from([("200".to_owned(), response.build().into())])
    }
}

impl IntoResponses for AudioAnswer {
    fn responses() -> BTreeMap<String, RefOr<ApiResponse>> {
        Self::with_content(&[])
    }
}

/// Answers with what is spoken. The first audio is awaited before the status line, so that a failure has a status of
/// its own.
pub async fn answer(request: &SpeechRequest, mut speech: Speech) -> Result<Response, Error> {
    let timing = first(&mut speech).await?;
    let content_type = request.output.encoding.format.content_type();
    if request.stream {
        let body = Body::from_stream(stream::encoded(speech));
        return Ok(response(request, timing, content_type, body));
    }
    let bytes = stream::collected(speech).await?;
    let length = HeaderValue::from(bytes.len());
    let mut response = response(request, timing, content_type, Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length);
    Ok(response)
}

/// An answer with the headers that describe the audio in its body.
pub fn response(
    request: &SpeechRequest,
    timing: Timing,
    content_type: &'static str,
    body: Body,
) -> Response {
    let mut response = described(request, content_type, body);
    let headers = response.headers_mut();
    headers.insert(
        QUEUE_TIME,
        HeaderValue::from(timing.queued.as_millis() as u64),
    );
    headers.insert(
        FIRST_AUDIO,
        HeaderValue::from(timing.first_audio.as_millis() as u64),
    );
    response
}

/// Headers that are known before anything is spoken: the format, the model and the voice.
pub fn described(request: &SpeechRequest, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    let sample_rate = request.output.encoding.sample_rate;
    headers.insert(SAMPLE_RATE, HeaderValue::from(sample_rate));
    headers.insert(
        WATERMARK,
        HeaderValue::from_static(if request.model.watermark {
            "perth"
        } else {
            "none"
        }),
    );
    for (name, value) in [
        (MODEL, request.model.name.as_str()),
        (VOICE, request.voice_name()),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Waits until audio is there.
pub async fn first(speech: &mut Speech) -> Result<Timing, Error> {
    loop {
        match speech.next().await {
            Some(Ok(SpeechEvent::Started(timing))) => return Ok(timing),
            // An utterance may end before any of its audio is let out.
            Some(Ok(SpeechEvent::Progress { .. })) => {}
            Some(Err(error)) => return Err(error),
            Some(Ok(_)) | None => return Err(Error::engine_gone()),
        }
    }
}
