//! `POST /api/vc`: a clip, spoken again in another voice.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::multipart::{Field, Multipart, MultipartRejection};
use axum::response::Response;
use bytes::Bytes;
use tokio::time::timeout;

use super::answer::answer;
use super::voices::{MAX_PARTS, broken, too_large};
use crate::audio::decode::Clip;
use crate::error::{ApiError, Code};
use crate::metrics;
use crate::speech;
use crate::speech::convert::{ConvertDraft, decode_clip};
use crate::state::{App, Shared};

/// The route as metrics name it.
const ROUTE: &str = "/api/vc";
/// Longest of the parts that are not the file, in bytes.
const MAX_VALUE: usize = 1024;

/// Multipart `file` and, where wanted, `voice`, `model`, `format`, `sample_rate`, `bitrate`,
/// `audio_normalization`, `seed` and `stream`.
pub async fn convert(
    State(app): State<Shared>,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Response, ApiError> {
    let request = async {
        app.ready()?;
        // Before the body is read: a clip stays in memory until it has been spoken, also while it waits in the queue.
        let place = Arc::clone(&app.clips).try_acquire_owned();
        let place = place.map_err(|_| {
            let message = "Too many clips are being converted.";
            ApiError::new(Code::ServerBusy, message).retry_after(app.admission.retry_after())
        })?;
        let (draft, clip) = receive(&app, multipart).await?;
        draft.validate(&app, clip, Some(Arc::new(place)))
    };
    let request = request.await.inspect_err(|_| metrics::refused(ROUTE))?;
    let speech = speech::start(&app, request.clone(), speech::clip(), ROUTE);
    answer(&request, speech).await
}

async fn receive(
    app: &App,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<(ConvertDraft, Clip), ApiError> {
    let multipart =
        multipart.map_err(|rejection| ApiError::new(Code::BadRequest, rejection.body_text()))?;
    let parts = read_parts(multipart, app.voice_options.max_voice_file_size);
    // In all: a client that sends a little now and then would keep its place for ever.
    let parts = timeout(app.limits.request_timeout, parts).await;
    let late = |_| ApiError::new(Code::SlowBody, "The body did not arrive in time.");
    let (draft, bytes) = parts.map_err(late)??;
    let turn = app.uploads.acquire().await;
    let _turn = turn.map_err(|_| ApiError::engine_gone())?;
    let longest = app.limits.max_convert_seconds;
    let decoded = tokio::task::spawn_blocking(move || decode_clip(&bytes, longest)).await;
    let clip = decoded
        .map_err(|_| ApiError::new(Code::GenerationError, "The clip could not be decoded."))??;
    Ok((draft, clip))
}

async fn read_parts(
    mut multipart: Multipart,
    limit: usize,
) -> Result<(ConvertDraft, Bytes), ApiError> {
    let mut draft = ConvertDraft::default();
    let mut file = None;
    for _ in 0..MAX_PARTS {
        let next = multipart.next_field().await;
        let Some(part) = next.map_err(|error| broken(&error, limit))? else {
            break;
        };
        match part.name() {
            Some("file") => {
                let bytes = part.bytes().await.map_err(|error| broken(&error, limit))?;
                if bytes.len() > limit {
                    return Err(too_large(limit));
                }
                file = Some(bytes);
            }
            Some("voice") => draft.voice = text("voice", part, limit).await?,
            Some("model") => draft.model = text("model", part, limit).await?,
            Some("format") => draft.format = text("format", part, limit).await?,
            Some("sample_rate") => draft.sample_rate = value("sample_rate", part, limit).await?,
            Some("bitrate") => draft.bitrate = value("bitrate", part, limit).await?,
            Some("seed") => draft.seed = value("seed", part, limit).await?,
            Some("audio_normalization") => {
                draft.audio_normalization = text("audio_normalization", part, limit).await?;
            }
            Some("stream") => draft.stream = value("stream", part, limit).await?,
            _ => {}
        }
    }
    let none = || ApiError::new(Code::NoFile, "The upload has no part named `file`.");
    Ok((draft, file.ok_or_else(none)?))
}

/// A part that is text; an empty one counts as left out, as forms send them.
async fn text(name: &str, part: Field<'_>, limit: usize) -> Result<Option<String>, ApiError> {
    let bytes = part.bytes().await.map_err(|error| broken(&error, limit))?;
    let text = std::str::from_utf8(&bytes)
        .ok()
        .filter(|text| text.len() <= MAX_VALUE);
    let text = text.ok_or_else(|| ApiError::parameter(name, "expected a short text"))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

async fn value<T: FromStr>(
    name: &str,
    part: Field<'_>,
    limit: usize,
) -> Result<Option<T>, ApiError> {
    let Some(text) = text(name, part, limit).await? else {
        return Ok(None);
    };
    let expected = if std::any::type_name::<T>() == "bool" {
        "expected true or false"
    } else {
        "expected a whole number"
    };
    let value = text
        .parse()
        .map_err(|_| ApiError::parameter(name, expected))?;
    Ok(Some(value))
}
