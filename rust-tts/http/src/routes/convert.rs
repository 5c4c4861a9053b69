//! `POST /api/vc`: a clip, spoken again in another voice.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::response::Response;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::answer::{AudioAnswer, answer};
use super::form::Form;
use crate::error::{ApiError, NativeError};
use chatterbox_speech::error::{Code, Error};

use crate::state::{App, Shared};
use chatterbox_speech as speech;
use chatterbox_speech::convert::{Conversion, decode_clip};
use chatterbox_speech::fields::Fields;
use chatterbox_speech::metrics;
use chatterbox_speech::params::{OutputParams, merged};

/// The route as metrics name it.
const ROUTE: &str = "/api/vc";

/// A clip, and how it is spoken again.
struct ConversionForm;

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the parts of a form")]
struct ConversionParts {
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// The target, as `voice_id` names it
    voice: Option<String>,
}

impl PartialSchema for ConversionForm {
    fn schema() -> RefOr<Schema> {
        Schema::Object(merged([ConversionParts::schema(), OutputParams::schema()])).into()
    }
}

impl ToSchema for ConversionForm {
    fn name() -> Cow<'static, str> {
        "ConversionForm".into()
    }
}

/// Multipart `file` and, where wanted, `voice`, `model`, `format`, `sample_rate`, `bitrate`,
/// `audio_normalization`, `seed` and `stream`.
#[utoipa::path(
    post,
    path = "/vc",
    tag = "Speech",
    operation_id = "convert",
    request_body(content = ConversionForm, content_type = "multipart/form-data"),
    responses(AudioAnswer, NativeError)
)]
pub async fn convert(
    State(app): State<Shared>,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Response, ApiError> {
    let request = async {
        app.speech.ready()?;
        if app.clips.available_permits() == 0 {
            // Before the body is read: it would be read for nothing.
            return Err(too_many(&app));
        }
        let mut form = Form::receive(&app, multipart, "file").await?;
        let file = form.file()?;
        let (output, names) = OutputParams::read(Fields::from_texts(form.into_texts()))?;
        // A clip stays in memory until it has been spoken, also while it waits in the queue.
        let place = Arc::clone(&app.clips).try_acquire_owned();
        let place = place.map_err(|_| too_many(&app))?;
        let longest = app.speech.options.limits.max_convert_seconds;
        let decoded = app.uploads.run(move || decode_clip(&file.bytes, longest));
        let conversion = Conversion {
            clip: decoded.await??,
            place: Some(Arc::new(place)),
            output,
            names,
        };
        conversion.validate(&app.speech)
    };
    let request = request.await.inspect_err(|_| metrics::refused(ROUTE))?;
    let speech = speech::start(&app.speech, request.clone(), speech::clip(), ROUTE);
    Ok(answer(&request, speech).await?)
}

fn too_many(app: &App) -> Error {
    let message = "Too many clips are being converted.";
    Error::new(Code::QueueFull, message).retry_after(app.speech.admission.retry_after())
}
