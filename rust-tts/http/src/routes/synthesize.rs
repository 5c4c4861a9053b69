//! `/tts` and `/tts/json`: a text in a form, with a voice's id, or with a clip whose voice speaks this request alone.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::multipart::Multipart;
use axum::extract::{FromRequest, Request, State};
use axum::http::header;
use axum::response::Response;
use http_body_util::Limited;
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::answer::{AudioAnswer, answer};
use super::form::{Form, Upload};
use super::json::is_json;
use super::json_limit;
use super::native::read;
use crate::error::{ApiError, PlainError};
use chatterbox_audio::Format;
use chatterbox_speech::error::{Code, Error};

use crate::state::{App, Shared};
use chatterbox_speech::fields::Fields;
use chatterbox_speech::metrics;
use chatterbox_speech::params::{SpeechParams, merged};
use chatterbox_speech::request::{OneOff, SpeechRequest};
use chatterbox_speech::{self as speech, Delivery, Speech, SpeechEvent, Summary};

/// The part that is a clip.
const PART: &str = "voice_file";
/// Length of the clip that is used, in seconds.
const LONGEST: &str = "max_reference_duration_sec";

/// [`SpeechParams`] with a clip.
struct ClipRequest;

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the parts of a form")]
struct ClipParts {
    /// A clip whose voice speaks this request alone
    #[schema(value_type = Option<String>, format = Binary)]
    voice_file: Option<Vec<u8>>,
    /// Seconds of the clip that are used
    #[schema(minimum = 1, maximum = 60)]
    max_reference_duration_sec: Option<f64>,
}

impl PartialSchema for ClipRequest {
    fn schema() -> RefOr<Schema> {
        Schema::Object(merged([SpeechParams::schema(), ClipParts::schema()])).into()
    }
}

impl ToSchema for ClipRequest {
    fn name() -> Cow<'static, str> {
        "ClipRequest".into()
    }
}

/// What a request took.
#[derive(Serialize, ToSchema)]
pub struct SpeechReport {
    duration_seconds: f64,
    generation_seconds: f64,
    /// Seconds of computing for a second of audio.
    rtf: f64,
    time_to_first_audio_ms: f64,
    voice_id: String,
    model: String,
}

/// `POST /tts`: the audio.
#[utoipa::path(
    post,
    path = "/tts",
    tag = "Speech",
    operation_id = "synthesize",
    request_body(content(
        (ClipRequest = "multipart/form-data"),
        (SpeechParams = "application/x-www-form-urlencoded"),
        (SpeechParams = "application/json", example = json!({"text": "Hello."}))
    )),
    responses(AudioAnswer, PlainError)
)]
pub async fn speak(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let request = validated(&app, request, "/tts").await?;
    let speech = start(&app, &request, "/tts");
    Ok(answer(&request, speech).await?)
}

/// `POST /tts/json`: speaks to the end as the other does, and answers with what it took.
#[utoipa::path(
    post,
    path = "/tts/json",
    tag = "Speech",
    operation_id = "measure",
    request_body(content(
        (ClipRequest = "multipart/form-data"),
        (SpeechParams = "application/x-www-form-urlencoded"),
        (SpeechParams = "application/json", example = json!({"text": "Hello."}))
    )),
    responses((status = 200, description = "What was spoken.", body = SpeechReport), PlainError)
)]
pub async fn measure(
    State(app): State<Shared>,
    request: Request,
) -> Result<Json<SpeechReport>, ApiError> {
    let mut request = validated(&app, request, "/tts/json").await?;
    request.delivery = Delivery::Nothing;
    let summary = summary_of(start(&app, &request, "/tts/json")).await?;
    let seconds = summary.audio_seconds;
    Ok(Json(SpeechReport {
        duration_seconds: seconds,
        generation_seconds: seconds * summary.real_time_factor,
        rtf: summary.real_time_factor,
        time_to_first_audio_ms: summary.timing.first_audio.as_secs_f64() * 1000.0,
        voice_id: request.voice_name().to_owned(),
        model: request.model.name.clone(),
    }))
}

/// `route` is as metrics name it.
async fn validated(
    app: &Shared,
    request: Request,
    route: &'static str,
) -> Result<SpeechRequest, Error> {
    let params = receive(app, request).await;
    let request = params.and_then(|params| params.validate(&app.speech, Format::Wav, false));
    request.inspect_err(|_| metrics::refused(route))
}

fn start(app: &Shared, request: &SpeechRequest, route: &'static str) -> Speech {
    let texts = speech::whole(&request.text, request.text_chunk_size);
    speech::start(&app.speech, request.clone(), texts, route)
}

/// Reads a body of any of the kinds that clients send.
async fn receive(app: &App, request: Request) -> Result<SpeechParams, Error> {
    app.speech.ready()?;
    if is_json(request.headers()) {
        let fields = Fields::from_json(&small(app, request).await?)?;
        return SpeechParams::read(fields, &[]);
    }
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    match kind.to_ascii_lowercase().as_str() {
        "multipart/form-data" => {
            let multipart = Multipart::from_request(request, app).await;
            let mut form = Form::receive(app, multipart, PART).await?;
            let upload = form.upload()?;
            let longest = longest(&mut form)?;
            let fields = Fields::from_texts(form.into_texts());
            let mut params = SpeechParams::read(fields, &[])?;
            if let Some(upload) = upload {
                params.clip = Some(once(app, upload, longest).await?);
            }
            Ok(params)
        }
        "application/x-www-form-urlencoded" => {
            let fields = Fields::from_urlencoded(&small(app, request).await?);
            SpeechParams::read(fields, &[])
        }
        _ => {
            let message = "Expected a form (multipart/form-data) or JSON.";
            Err(Error::new(Code::BadRequest, message))
        }
    }
}

/// A body without a file in it.
async fn small(app: &App, request: Request) -> Result<Bytes, Error> {
    let request = request.map(|body| Body::new(Limited::new(body, json_limit(app))));
    read(Bytes::from_request(request, &()).await)
}

/// Seconds of the clip that are used, if the client says so.
fn longest(form: &mut Form) -> Result<Option<f64>, Error> {
    let seconds = form.text(LONGEST).map(|text| text.parse().ok());
    match seconds {
        None => Ok(None),
        Some(Some(seconds)) if (1.0..=60.0).contains(&seconds) => Ok(Some(seconds)),
        Some(_) => Err(Error::parameter(LONGEST, "expected a number from 1 to 60")),
    }
}

/// Decodes a clip that is to be a voice, of which `longest` seconds are used.
async fn once(app: &App, upload: Upload, longest: Option<f64>) -> Result<OneOff, Error> {
    // The clip stays in memory until the request has been spoken, also while it waits in the queue.
    let place = Arc::clone(&app.clips).try_acquire_owned();
    let place = place.map_err(|_| {
        let message = "Too many clips are being spoken with.";
        Error::new(Code::QueueFull, message).retry_after(app.speech.admission.retry_after())
    })?;
    let store = Arc::clone(&app.speech.voices);
    let examined = app
        .uploads
        .run(move || store.examine(&upload.name, &upload.bytes, longest));
    let named = |error| {
        let error = Error::from(error);
        error.in_field(PART)
    };
    let (key, clip) = examined.await?.map_err(named)?;
    Ok(OneOff {
        key,
        clip: Arc::new(clip),
        place: Arc::new(place),
    })
}

/// Listens to the end.
async fn summary_of(mut speech: Speech) -> Result<Summary, Error> {
    loop {
        match speech.next().await {
            Some(Ok(SpeechEvent::Finished { summary, .. })) => return Ok(summary),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(Error::engine_gone()),
        }
    }
}
