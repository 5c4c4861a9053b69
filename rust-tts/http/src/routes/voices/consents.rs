//! `/v1/audio/voice_consents`: recordings in which speakers consent to the use of their voices.

use axum::Json;
use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::fields::ConsentForm;
use super::{Reference, blocking, decoding, fields, reference};
use crate::error::ApiError;
use crate::routes::openai::error::OpenAiError;
use chatterbox_speech::error::{Code, Error};

use crate::routes::form::Form;
use crate::routes::native::read;
use crate::state::Shared;
use chatterbox_speech::fields::Fields;
use chatterbox_voices::{Consent, VoiceError};

/// Most consents of one page, and how many it has unless asked otherwise.
const MAX_PAGE: usize = 100;
const PAGE: usize = 20;

/// Which page is listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<usize>,
    /// The id of the consent before the first that is listed.
    after: Option<String>,
}

#[derive(Deserialize, ToSchema)]
struct ConsentName {
    name: Option<String>,
}

/// `GET /v1/audio/voice_consents`: the latest first, `limit` of them, those that follow the id `after`.
#[utoipa::path(
    get,
    path = "/audio/voice_consents",
    tag = "OpenAI",
    operation_id = "listConsents",
    params(Page),
    responses((status = 200, description = "Done.", body = Value), OpenAiError)
)]
pub async fn list(
    State(app): State<Shared>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(page) =
        page.map_err(|rejection| Error::new(Code::BadRequest, rejection.body_text()))?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let expected = format!("expected 1 to {MAX_PAGE}");
        return Err(Error::parameter("limit", expected).into());
    }
    let store = app.speech.voices.clone();
    let all = blocking(move || store.consents().list()).await?;
    let start = match &page.after {
        Some(after) => {
            let found = all.iter().position(|consent| consent.id == *after);
            found.ok_or_else(|| Error::parameter("after", "there is no consent of this id"))? + 1
        }
        None => 0,
    };
    let rest = &all[start..];
    let shown = &rest[..limit.min(rest.len())];
    Ok(Json(json!({
        "object": "list",
        "data": shown.iter().map(object).collect::<Vec<_>>(),
        "first_id": shown.first().map(|consent| &consent.id),
        "last_id": shown.last().map(|consent| &consent.id),
        "has_more": shown.len() < rest.len(),
    })))
}

/// `POST /v1/audio/voice_consents`: multipart `name`, `language` and `recording`.
#[utoipa::path(
    post,
    path = "/audio/voice_consents",
    tag = "OpenAI",
    operation_id = "createConsent",
    request_body(content = ConsentForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "The consent.", body = ConsentObject), OpenAiError)
)]
pub async fn create(
    State(app): State<Shared>,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Json<ConsentObject>, ApiError> {
    let mut form = Form::receive(&app, multipart, "recording").await?;
    let file = form.file()?;
    let name = fields::name(&form.required("name")?)?;
    let language = fields::language(&form.required("language")?)?;
    let store = app.speech.voices.clone();
    let added = move || {
        let consents = store.consents();
        consents.add(name, language, &file.name, &file.bytes)
    };
    Ok(Json(object(&decoding(&app, added).await?)))
}

/// `GET /v1/audio/voice_consents/{id}`
#[utoipa::path(
    get,
    path = "/audio/voice_consents/{id}",
    tag = "OpenAI",
    operation_id = "getConsent",
    params(("id" = String, Path, description = "The consent's id.", min_length = 1)),
    responses((status = 200, description = "The consent.", body = ConsentObject), OpenAiError)
)]
pub async fn one(
    State(app): State<Shared>,
    path: Reference,
) -> Result<Json<ConsentObject>, ApiError> {
    let id = reference(path)?;
    let store = app.speech.voices.clone();
    let found = blocking(move || Ok(store.consents().get(&id))).await?;
    Ok(Json(object(&found.map_err(not_found)?)))
}

/// `POST /v1/audio/voice_consents/{id}`: another `name`.
#[utoipa::path(
    post,
    path = "/audio/voice_consents/{id}",
    tag = "OpenAI",
    operation_id = "renameConsent",
    request_body(content = ConsentName, example = json!({"name": "Anna's consent"})),
    params(("id" = String, Path, description = "The consent's id.", min_length = 1)),
    responses((status = 200, description = "The consent.", body = ConsentObject), OpenAiError)
)]
pub async fn rename(
    State(app): State<Shared>,
    path: Reference,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ConsentObject>, ApiError> {
    let id = reference(path)?;
    let body: ConsentName = Fields::from_json(&read(body)?)
        .map_err(Error::from)?
        .read()?;
    let name = body
        .name
        .ok_or_else(|| Error::parameter("name", "is missing"))?;
    let name = fields::name(&name)?;
    let store = app.speech.voices.clone();
    let renamed = blocking(move || Ok(store.consents().rename(&id, name))).await?;
    Ok(Json(object(&renamed.map_err(not_found)?)))
}

/// `DELETE /v1/audio/voice_consents/{id}`
#[utoipa::path(
    delete,
    path = "/audio/voice_consents/{id}",
    tag = "OpenAI",
    operation_id = "deleteConsent",
    params(("id" = String, Path, description = "The consent's id.", min_length = 1)),
    responses((status = 200, description = "Done.", body = Value), OpenAiError)
)]
pub async fn delete(State(app): State<Shared>, path: Reference) -> Result<Json<Value>, ApiError> {
    let id = reference(path)?;
    let store = app.speech.voices.clone();
    let deleted = blocking(move || Ok(store.consents().delete(&id))).await?;
    let consent = deleted.map_err(not_found)?;
    Ok(Json(
        json!({"id": consent.id, "object": "audio.voice_consent", "deleted": true}),
    ))
}

fn not_found(error: VoiceError) -> Error {
    match error {
        VoiceError::NotFound => Error::new(Code::NotFound, "The consent was not found."),
        other => other.into(),
    }
}

/// A recording of consent.
#[derive(Serialize, ToSchema)]
pub struct ConsentObject {
    id: String,
    object: &'static str,
    name: String,
    language: String,
    /// Seconds since 1970.
    created_at: u64,
}

fn object(consent: &Consent) -> ConsentObject {
    let consent = consent.clone();
    ConsentObject {
        id: consent.id,
        object: "audio.voice_consent",
        name: consent.name,
        language: consent.language,
        created_at: consent.created_at,
    }
}
