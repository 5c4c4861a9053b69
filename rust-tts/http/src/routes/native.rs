//! `POST /api/tts`.

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use bytes::Bytes;
use tower_http::timeout::TimeoutError;

use super::answer::answer;
use crate::error::ApiError;
use chatterbox_audio::Format;
use chatterbox_speech::error::{Code, Error};

use crate::state::Shared;
use chatterbox_speech as speech;
use chatterbox_speech::fields::Fields;
use chatterbox_speech::metrics;
use chatterbox_speech::params::SpeechParams;

/// The route as metrics name it.
const ROUTE: &str = "/api/tts";

/// Speaks a text.
pub async fn speak(
    State(app): State<Shared>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let request = read(body)
        .and_then(|body| SpeechParams::read(Fields::from_json(&body)?, &[]))
        .and_then(|params| params.validate(&app.speech, Format::Wav, false))
        .inspect_err(|_| metrics::refused(ROUTE))?;
    let texts = speech::whole(&request.text, request.text_chunk_size);
    let speech = speech::start(&app.speech, request.clone(), texts, ROUTE);
    Ok(answer(&request, speech).await?)
}

/// The whole body, or which limit it met.
pub fn read(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Error> {
    body.map_err(|rejection| match rejection.status().as_u16() {
        413 => Error::new(Code::BodyTooLarge, "The body is too large."),
        _ if timed_out(&rejection) => {
            Error::new(Code::SlowBody, "The body did not arrive in time.")
        }
        _ => Error::new(Code::BadRequest, "The body could not be read to its end."),
    })
}

/// The body's next part did not come within `BODY_TIMEOUT`.
pub fn timed_out(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(<dyn std::error::Error>::is::<TimeoutError>)
}
