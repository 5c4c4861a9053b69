//! `POST /api/vc`: a clip, spoken again in another voice.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::response::Response;

use super::answer::answer;
use super::form::Form;
use crate::error::{ApiError, Code};
use crate::metrics;
use crate::speech;
use crate::speech::convert::{ConvertDraft, decode_clip};
use crate::state::{App, Shared};

/// The route as metrics name it.
const ROUTE: &str = "/api/vc";

/// Multipart `file` and, where wanted, `voice`, `model`, `format`, `sample_rate`, `bitrate`,
/// `audio_normalization`, `seed` and `stream`.
pub async fn convert(
    State(app): State<Shared>,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Response, ApiError> {
    let request = async {
        app.ready()?;
        if app.clips.available_permits() == 0 {
            // Before the body is read: it would be read for nothing.
            return Err(too_many(&app));
        }
        let mut form = Form::receive(&app, multipart, "file").await?;
        let file = form.file()?;
        let draft = draft(&mut form)?;
        // A clip stays in memory until it has been spoken, also while it waits in the queue.
        let place = Arc::clone(&app.clips).try_acquire_owned();
        let place = place.map_err(|_| too_many(&app))?;
        let longest = app.limits.max_convert_seconds;
        let decoded = app.uploads.run(move || decode_clip(&file.bytes, longest));
        draft.validate(&app, decoded.await??, Some(Arc::new(place)))
    };
    let request = request.await.inspect_err(|_| metrics::refused(ROUTE))?;
    let speech = speech::start(&app, request.clone(), speech::clip(), ROUTE);
    answer(&request, speech).await
}

fn too_many(app: &App) -> ApiError {
    let message = "Too many clips are being converted.";
    ApiError::new(Code::QueueFull, message).retry_after(app.admission.retry_after())
}

fn draft(form: &mut Form) -> Result<ConvertDraft, ApiError> {
    Ok(ConvertDraft {
        model: form.text("model"),
        voice: form.text("voice"),
        format: form.text("format"),
        sample_rate: form.number("sample_rate")?,
        bitrate: form.number("bitrate")?,
        seed: form.number("seed")?,
        stream: form.flag("stream")?,
        audio_normalization: form.text("audio_normalization"),
    })
}
