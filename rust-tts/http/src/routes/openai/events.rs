//! Speech as server-sent events.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt, iter};
use serde_json::{Value, json};

use super::error::OpenAiErrorDetails;
use crate::routes::answer;
use crate::routes::stream::{self, Part};
use chatterbox_speech::error::Error;
use chatterbox_speech::request::SpeechRequest;
use chatterbox_speech::{Speech, Summary};

const CONTENT_TYPE: &str = "text/event-stream";
/// Speech tokens per second of audio, as the Chatterbox models count them.
const TOKENS_PER_SECOND: f64 = 25.0;

/// Answers with events: `speech.audio.delta` with audio in base64 as it is made, at the end `speech.audio.done` with the
/// `usage`: characters of the text in, speech tokens out. A failure on the way is an `error`, and the transfer is
/// aborted: a client that only looks for the end does not find one.
pub async fn answer(request: &SpeechRequest, mut speech: Speech) -> Result<Response, Error> {
    let timing = answer::first(&mut speech).await?;
    let characters = request.text.chars().count();
    let body = axum::body::Body::from_stream(events(speech, characters));
    Ok(answer::response(request, timing, CONTENT_TYPE, body))
}

fn events(speech: Speech, characters: usize) -> impl Stream<Item = Result<Bytes, Error>> {
    let events = stream::parts(speech).flat_map(move |part| {
        iter(match part {
            Ok(part) => vec![Ok(part_events(&part, characters))],
            Err(failure) => vec![Ok(event(&failed(&failure))), Err(failure)],
        })
    });
    stream::sent_before_errors(events)
}

fn part_events(part: &Part, characters: usize) -> Bytes {
    let delta = (!part.bytes.is_empty()).then(|| {
        event(&json!({"type": "speech.audio.delta", "audio": BASE64.encode(&part.bytes)}))
    });
    let done = part.end.as_ref().map(|end| event(&done(end, characters)));
    delta.into_iter().chain(done).flatten().collect()
}

fn done(summary: &Summary, characters: usize) -> Value {
    let tokens = (summary.audio_seconds * TOKENS_PER_SECOND).ceil() as usize;
    json!({
        "type": "speech.audio.done",
        "usage": {
            "input_tokens": characters,
            "output_tokens": tokens,
            "total_tokens": characters + tokens,
        },
    })
}

fn failed(failure: &Error) -> Value {
    json!({"type": "error", "error": OpenAiErrorDetails::from(failure)})
}

fn event(data: &Value) -> Bytes {
    format!("data: {data}\n\n").into()
}
