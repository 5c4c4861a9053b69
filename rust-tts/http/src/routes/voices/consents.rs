//! `/v1/audio/voice_consents`: recordings in which speakers consent to the use of their voices.

use axum::Json;
use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Reference, blocking, decoding, fields, reference};
use crate::error::ApiError;
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
#[derive(Deserialize)]
pub struct Page {
    limit: Option<usize>,
    after: Option<String>,
}

#[derive(Deserialize)]
struct Renamed {
    name: Option<String>,
}

/// `GET /v1/audio/voice_consents`: the latest first, `limit` of them, those that follow the id `after`.
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
pub async fn create(
    State(app): State<Shared>,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Json<Value>, ApiError> {
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
pub async fn one(State(app): State<Shared>, path: Reference) -> Result<Json<Value>, ApiError> {
    let id = reference(path)?;
    let store = app.speech.voices.clone();
    let found = blocking(move || Ok(store.consents().get(&id))).await?;
    Ok(Json(object(&found.map_err(not_found)?)))
}

/// `POST /v1/audio/voice_consents/{id}`: another `name`.
pub async fn rename(
    State(app): State<Shared>,
    path: Reference,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let id = reference(path)?;
    let body: Renamed = Fields::from_json(&read(body)?)
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

fn object(consent: &Consent) -> Value {
    json!({
        "id": consent.id,
        "object": "audio.voice_consent",
        "name": consent.name,
        "language": consent.language,
        "created_at": consent.created_at,
    })
}
