//! `/voices`: bare lists of ids, as the first servers had them.

use crate::error::ApiError;
use axum::Json;
use axum::extract::State;
use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::native::details;
use super::{Reference, blocking, decoding, prepare_soon, reference};
use crate::routes::form::Form;
use crate::state::Shared;
use chatterbox_voices::Existing;

/// `GET /voices`. A voice that is called after its content is listed as `POST /voices/register` names it.
pub async fn list(State(app): State<Shared>) -> Result<Json<Vec<String>>, ApiError> {
    let store = app.speech.voices.clone();
    let voices = blocking(move || store.all()).await?;
    let id = |voice: chatterbox_voices::Voice| {
        if voice.is_named_after_content() {
            voice.key
        } else {
            voice.id
        }
    };
    Ok(Json(voices.into_iter().map(id).collect()))
}

/// `POST /voices`: multipart `file` and, where wanted, `name`, `language`, `consent` and `overwrite`.
pub async fn upload(
    State(app): State<Shared>,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let mut form = Form::receive(&app, multipart, "file").await?;
    let file = form.file()?;
    let existing = match form.flag("overwrite")? {
        Some(true) => Existing::Replace,
        _ => Existing::Keep,
    };
    let details = details(&app, &mut form, "/voices").await?;
    let store = app.speech.voices.clone();
    let saved = move || store.save(&file.name, &file.bytes, existing, &details);
    let voice = decoding(&app, saved).await?;
    prepare_soon(&app, &voice);
    let answer = json!({"voice_id": voice.id, "message": "Voice uploaded successfully."});
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `DELETE /voices/{id}`
pub async fn delete(State(app): State<Shared>, path: Reference) -> Result<Json<Value>, ApiError> {
    let reference = reference(path)?;
    let store = app.speech.voices.clone();
    let voice = blocking(move || store.delete(&reference)).await?;
    let message = format!("Voice '{}' deleted successfully.", voice.id);
    Ok(Json(json!({"message": message})))
}
