//! `/api/voices` and `/api/voice/default`.

use axum::Json;
use axum::extract::State;
use axum::extract::multipart::{Multipart, MultipartError, MultipartRejection};
use axum::extract::rejection::BytesRejection;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::native::timed_out;
use crate::error::{ApiError, Code};
use crate::speech::draft::parse_json;
use crate::state::Shared;
use crate::voices::VoiceError;

/// Most parts that an upload may have.
pub const MAX_PARTS: usize = 16;

#[derive(Deserialize)]
struct DefaultVoice {
    voice_path: Option<String>,
}

/// `GET /api/voices`
pub async fn list(State(app): State<Shared>) -> Result<Json<Value>, ApiError> {
    let store = app.voices.clone();
    let voices = blocking(move || store.list()).await?;
    Ok(Json(
        json!({"voices": voices, "directory": app.voice_options.voices_dir}),
    ))
}

/// `GET /api/voice/default`
pub async fn get_default(State(app): State<Shared>) -> Result<Json<Value>, ApiError> {
    let voice = blocking(move || Ok(app.default_voice())).await?;
    Ok(Json(json!({"default_voice": voice.map(|voice| voice.id)})))
}

/// `POST /api/voice/default`
pub async fn set_default(
    State(app): State<Shared>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let body: DefaultVoice = parse_json(&super::native::read(body)?)?;
    let reference = body
        .voice_path
        .ok_or_else(|| ApiError::parameter("voice_path", "is missing"))?;
    let store = app.voices.clone();
    let voice = blocking(move || store.set_default(&reference)).await?;
    Ok(Json(json!({"success": true, "voice_path": voice.id})))
}

/// `DELETE /api/voice/default`
pub async fn clear_default(State(app): State<Shared>) -> Result<Json<Value>, ApiError> {
    let store = app.voices.clone();
    blocking(move || store.clear_default()).await?;
    Ok(Json(json!({"success": true, "default_voice": null})))
}

/// `POST /api/voices/upload`: multipart `file`. A voice of the same name is replaced.
pub async fn upload(
    State(app): State<Shared>,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Json<Value>, ApiError> {
    let multipart =
        multipart.map_err(|rejection| ApiError::new(Code::BadRequest, rejection.body_text()))?;
    // Before the body is read: an upload that waits here holds no memory.
    let turn = app.uploads.acquire().await;
    let _turn = turn.map_err(|_| ApiError::engine_gone())?;
    let (name, bytes) = read_file(multipart, app.voice_options.max_voice_file_size).await?;
    let store = app.voices.clone();
    let voice = blocking(move || store.save(&name, &bytes, true)).await?;
    if app.voice_options.voice_cache == crate::config::VoiceCache::Eager {
        let (app, voice) = (app.clone(), voice.clone());
        // No drain waits for it: it is for requests to come.
        tokio::spawn(async move {
            app.enrolments
                .prepare(&app.engine, &app.voices, &voice)
                .await;
        });
    }
    let path = app.voice_options.voices_dir.join(&voice.id);
    Ok(Json(
        json!({"success": true, "filename": voice.id, "path": path}),
    ))
}

/// The part named `file`.
async fn read_file(mut multipart: Multipart, limit: usize) -> Result<(String, Bytes), ApiError> {
    let broken = |error: MultipartError| broken(&error, limit);
    for _ in 0..MAX_PARTS {
        let Some(field) = multipart.next_field().await.map_err(broken)? else {
            break;
        };
        if field.name() != Some("file") {
            continue;
        }
        let name = field.file_name().map(str::to_owned);
        let name =
            name.ok_or_else(|| ApiError::new(Code::NoFile, "The part `file` has no file name."))?;
        let bytes = field.bytes().await.map_err(broken)?;
        if bytes.len() > limit {
            return Err(too_large(limit));
        }
        return Ok((name, bytes));
    }
    Err(ApiError::new(
        Code::NoFile,
        "The upload has no part named `file`.",
    ))
}

pub fn too_large(limit: usize) -> ApiError {
    let message = format!("The file is larger than {limit} bytes.");
    ApiError::new(Code::FileTooLarge, message)
}

/// Why a multipart body could not be read, if a file may have `limit` bytes.
pub fn broken(error: &MultipartError, limit: usize) -> ApiError {
    match error.status().as_u16() {
        413 => too_large(limit),
        _ if timed_out(error) => ApiError::new(Code::SlowBody, "The body did not arrive in time."),
        _ => ApiError::new(
            Code::BadRequest,
            format!("The multipart body is broken: {}", error.body_text()),
        ),
    }
}

/// Runs work that touches the disk away from the threads that serve sockets.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VoiceError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| {
        ApiError::new(
            Code::GenerationError,
            "The voices folder could not be used.",
        )
    })??)
}
