//! `/voices`: bare lists of ids, as the first servers had them.

use super::fields::VoiceForm;
use crate::error::{ApiError, PlainError};
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
#[utoipa::path(
    get,
    path = "/voices",
    tag = "Voices",
    operation_id = "listVoiceIds",
    responses((status = 200, description = "The ids.", body = Vec<String>), PlainError)
)]
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
#[utoipa::path(
    post,
    path = "/voices",
    tag = "Voices",
    operation_id = "addVoice",
    request_body(content = VoiceForm, content_type = "multipart/form-data"),
    responses((status = 201, description = "Stored.", body = Value), PlainError)
)]
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
#[utoipa::path(
    delete,
    path = "/voices/{id}",
    tag = "Voices",
    operation_id = "removeVoice",
    params(("id" = String, Path, description = "The voice's id, that without its extension, or its content's hash.", min_length = 1)),
    responses((status = 200, description = "Done.", body = Value), PlainError)
)]
pub async fn delete(State(app): State<Shared>, path: Reference) -> Result<Json<Value>, ApiError> {
    let reference = reference(path)?;
    let store = app.speech.voices.clone();
    let voice = blocking(move || store.delete(&reference)).await?;
    let message = format!("Voice '{}' deleted successfully.", voice.id);
    Ok(Json(json!({"message": message})))
}
