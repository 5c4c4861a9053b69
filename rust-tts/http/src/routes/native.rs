//! `POST /api/tts`.

use std::borrow::Cow;

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use bytes::Bytes;
use tower_http::timeout::TimeoutError;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, Object, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::answer::{AudioAnswer, answer};
use crate::error::{ApiError, NativeError};
use chatterbox_audio::Format;
use chatterbox_speech::error::{Code, Error};

use crate::state::Shared;
use chatterbox_speech as speech;
use chatterbox_speech::fields::Fields;
use chatterbox_speech::metrics;
use chatterbox_speech::params::{OutputParams, SamplingParams, SpeechParams, merged};

/// The route as metrics name it.
const ROUTE: &str = "/api/tts";

/// [`SpeechParams`], some of them in the objects `voice` and `audio`.
struct NativeRequest;

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `Fields` reads")]
struct VoiceReference {
    /// The voice, as `voice_id` names it
    audio_prompt_path: Option<String>,
}

impl PartialSchema for NativeRequest {
    fn schema() -> RefOr<Schema> {
        let or_null = |object| {
            AnyOfBuilder::new()
                .item(object)
                .item(Object::with_type(Type::Null))
        };
        let voice = merged([VoiceReference::schema(), SamplingParams::schema()]);
        let voice = or_null(voice)
            .item(Object::with_type(Type::String))
            .description(Some("A voice and how it speaks, or the voice's name"));
        let audio = merged([OutputParams::schema()]);
        let mut object = merged([SpeechParams::schema()]);
        object.properties.insert("voice".to_owned(), voice.into());
        object
            .properties
            .insert("audio".to_owned(), or_null(audio).into());
        Schema::Object(object).into()
    }
}

impl ToSchema for NativeRequest {
    fn name() -> Cow<'static, str> {
        "SpeechRequest".into()
    }
}

/// Speaks a text.
#[utoipa::path(
    post,
    path = "/tts",
    tag = "Speech",
    operation_id = "speak",
    request_body(content = NativeRequest, examples(
        ("shortest" = (value = json!({"text": "Hello from your own speech server."}))),
        ("a voice, its parameters and a format" = (value = json!({
            "text": "Hello, world!",
            "language_id": "en",
            "voice": {"exaggeration": 0.5, "cfg_weight": 0.5, "temperature": 0.8, "top_p": 0.95, "repetition_penalty": 1.2},
            "audio": {"format": "mp3", "sample_rate": 44100},
            "seed": 7,
            "max_audio_seconds": 30
        })))
    )),
    responses(AudioAnswer, NativeError)
)]
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
