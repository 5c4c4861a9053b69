//! `POST /voices/register`: a voice whose id is its content's hash.

use super::fields::RegisteredForm;
use crate::error::{ApiError, PlainError};
use axum::Json;
use axum::extract::State;
use axum::extract::multipart::{Multipart, MultipartRejection};
use serde_json::{Value, json};

use super::native::details;
use super::{decoding, prepare_soon};
use crate::routes::form::Form;
use crate::state::Shared;

/// Multipart `voice_file` and, where wanted, `name`, `language` and `consent`. The same clip gives the same id; what is
/// said of a voice that is there already is left as it is.
#[utoipa::path(
    post,
    path = "/voices/register",
    tag = "Voices",
    operation_id = "registerVoice",
    request_body(content = RegisteredForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "Done.", body = Value), PlainError)
)]
pub async fn register(
    State(app): State<Shared>,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Json<Value>, ApiError> {
    let mut form = Form::receive(&app, multipart, "voice_file").await?;
    let file = form.file()?;
    let details = details(&app, &mut form, "/voices/register").await?;
    let store = app.speech.voices.clone();
    let registered = move || store.register(&file.name, &file.bytes, &details);
    let voice = decoding(&app, registered).await?;
    prepare_soon(&app, &voice);
    Ok(Json(
        json!({"voice_id": voice.key, "message": "Voice registered successfully"}),
    ))
}
