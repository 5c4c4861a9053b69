//! `/api/voices` and `/api/voice/default`.

use axum::Json;
use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::fields::VoiceForm;
use super::{Reference, blocking, decoding, fields, prepare_soon, reference};
use crate::error::{ApiError, NativeError};
use chatterbox_speech::error::{Code, Error};

use crate::routes::form::Form;
use crate::routes::native::read;
use crate::state::Shared;
use chatterbox_speech::fields::Fields;
use chatterbox_voices::{Change, Details, Edit, Existing, Filter, VoiceInfo};

#[derive(Deserialize, ToSchema)]
struct DefaultVoice {
    voice_path: Option<String>,
}

/// Filters of the listing.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct VoiceFilter {
    language: Option<String>,
    search: Option<String>,
}

/// Changed details; `null` removes one.
#[derive(Deserialize, ToSchema)]
struct VoiceChanges {
    id: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Edit,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    language: Edit,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    consent: Edit,
}

/// `GET /api/voices`, perhaps only those of a `language`, or with `search` in their name.
#[utoipa::path(
    get,
    path = "/voices",
    tag = "Voices",
    operation_id = "listVoices",
    params(VoiceFilter),
    responses((status = 200, description = "Done.", body = Value), NativeError)
)]
pub async fn list(
    State(app): State<Shared>,
    wanted: Result<Query<VoiceFilter>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(wanted) =
        wanted.map_err(|rejection| Error::new(Code::BadRequest, rejection.body_text()))?;
    let filter = Filter {
        language: wanted.language.filter(|text| !text.is_empty()),
        search: wanted.search.filter(|text| !text.is_empty()),
    };
    let store = app.speech.voices.clone();
    let voices = blocking(move || store.list(&filter)).await?;
    Ok(Json(
        json!({"voices": voices, "directory": app.speech.voice_options.voices_dir}),
    ))
}

/// `GET /api/voices/{id}`
#[utoipa::path(
    get,
    path = "/voices/{id}",
    tag = "Voices",
    operation_id = "getVoice",
    params(("id" = String, Path, description = "The voice's id, that without its extension, or its content's hash.", min_length = 1)),
    responses((status = 200, description = "The voice.", body = VoiceInfo), NativeError)
)]
pub async fn one(State(app): State<Shared>, path: Reference) -> Result<Json<Value>, ApiError> {
    let reference = reference(path)?;
    let store = app.speech.voices.clone();
    let voice = blocking(move || store.find(&reference).map(|voice| store.describe(voice))).await?;
    Ok(Json(json!(voice)))
}

/// `GET /api/voices/{id}/preview`: the beginning of the clip, as WAV.
#[utoipa::path(
    get,
    path = "/voices/{id}/preview",
    tag = "Voices",
    operation_id = "previewVoice",
    params(("id" = String, Path, description = "The voice's id, that without its extension, or its content's hash.", min_length = 1)),
    responses((status = 200, description = "The beginning of the clip.", content_type = "audio/wav"), NativeError)
)]
pub async fn preview(State(app): State<Shared>, path: Reference) -> Result<Response, ApiError> {
    let reference = reference(path)?;
    let store = app.speech.voices.clone();
    let file = decoding(&app, move || store.preview(&store.find(&reference)?)).await?;
    let headers = [
        (header::CONTENT_TYPE, "audio/wav"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, file).into_response())
}

/// `PATCH /api/voices/{id}`: another `id`, `name`, `language` or `consent`.
#[utoipa::path(
    patch,
    path = "/voices/{id}",
    tag = "Voices",
    operation_id = "updateVoice",
    request_body(content = VoiceChanges, example = json!({"name": "Anna", "language": "en"})),
    params(("id" = String, Path, description = "The voice's id, that without its extension, or its content's hash.", min_length = 1)),
    responses((status = 200, description = "The voice.", body = VoiceInfo), NativeError)
)]
pub async fn update(
    State(app): State<Shared>,
    path: Reference,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let reference = reference(path)?;
    let wishes: VoiceChanges = Fields::from_json(&read(body)?)
        .map_err(Error::from)?
        .read()?;
    let store = app.speech.voices.clone();
    let consent = match wishes.consent {
        Edit::Set(text) => Edit::Set(consent(&app, text).await?),
        other => other,
    };
    let change = Change {
        id: wishes.id,
        name: wishes.name.checked(fields::name)?,
        language: wishes.language.checked(fields::language)?,
        consent,
    };
    let voice = blocking(move || {
        let voice = store.update(&reference, &change)?;
        Ok(store.describe(voice))
    });
    Ok(Json(json!(voice.await?)))
}

/// `DELETE /api/voices/{id}`
#[utoipa::path(
    delete,
    path = "/voices/{id}",
    tag = "Voices",
    operation_id = "deleteVoice",
    params(("id" = String, Path, description = "The voice's id, that without its extension, or its content's hash.", min_length = 1)),
    responses((status = 200, description = "Done.", body = Value), NativeError)
)]
pub async fn delete(State(app): State<Shared>, path: Reference) -> Result<Json<Value>, ApiError> {
    let reference = reference(path)?;
    let store = app.speech.voices.clone();
    let voice = blocking(move || store.delete(&reference)).await?;
    Ok(Json(json!({"success": true, "id": voice.id})))
}

/// `POST /api/voices/upload`: multipart `file` and, where wanted, `name`, `language`, `consent` and `overwrite`. The id
/// is the file's name; where another voice has it, it is made of `name`, and without one nothing is stored (409), unless
/// `overwrite` lets the upload take that voice's place.
#[utoipa::path(
    post,
    path = "/voices/upload",
    tag = "Voices",
    operation_id = "uploadVoice",
    request_body(content = VoiceForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "Done.", body = Value), NativeError)
)]
pub async fn upload(
    State(app): State<Shared>,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Json<Value>, ApiError> {
    let mut form = Form::receive(&app, multipart, "file").await?;
    let file = form.file()?;
    let existing = match form.flag("overwrite")? {
        Some(true) => Existing::Replace,
        _ => Existing::Extend,
    };
    let details = details(&app, &mut form, "/api/voices/upload").await?;
    let store = app.speech.voices.clone();
    let saved = move || store.save(&file.name, &file.bytes, existing, &details);
    let voice = decoding(&app, saved).await?;
    prepare_soon(&app, &voice);
    let path = app.speech.voice_options.voices_dir.join(&voice.id);
    Ok(Json(
        json!({"success": true, "filename": voice.id, "path": path}),
    ))
}

/// `GET /api/voice/default`
#[utoipa::path(
    get,
    path = "/voice/default",
    tag = "Voices",
    operation_id = "getDefaultVoice",
    responses((status = 200, description = "Done.", body = Value), NativeError)
)]
pub async fn get_default(State(app): State<Shared>) -> Result<Json<Value>, ApiError> {
    let voice = blocking(move || Ok(app.speech.default_voice())).await?;
    Ok(Json(json!({"default_voice": voice.map(|voice| voice.id)})))
}

/// `POST /api/voice/default`
#[utoipa::path(
    post,
    path = "/voice/default",
    tag = "Voices",
    operation_id = "setDefaultVoice",
    request_body(content = DefaultVoice, example = json!({"voice_path": "anna.wav"})),
    responses((status = 200, description = "Done.", body = Value), NativeError)
)]
pub async fn set_default(
    State(app): State<Shared>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let body: DefaultVoice = Fields::from_json(&read(body)?)
        .map_err(Error::from)?
        .read()?;
    let reference = body
        .voice_path
        .ok_or_else(|| Error::parameter("voice_path", "is missing"))?;
    let store = app.speech.voices.clone();
    let voice = blocking(move || store.set_default(&reference)).await?;
    Ok(Json(json!({"success": true, "voice_path": voice.id})))
}

/// `DELETE /api/voice/default`
#[utoipa::path(
    delete,
    path = "/voice/default",
    tag = "Voices",
    operation_id = "clearDefaultVoice",
    responses((status = 200, description = "Done.", body = Value), NativeError)
)]
pub async fn clear_default(State(app): State<Shared>) -> Result<Json<Value>, ApiError> {
    let store = app.speech.voices.clone();
    blocking(move || store.clear_default()).await?;
    Ok(Json(json!({"success": true, "default_voice": null})))
}

/// The details in a form; `source` is the route.
pub(super) async fn details(app: &Shared, form: &mut Form, source: &str) -> Result<Details, Error> {
    let name = form.text("name").as_deref().map(fields::name).transpose()?;
    let language = form.text("language");
    let language = language.as_deref().map(fields::language).transpose()?;
    let consent = match form.text("consent") {
        Some(text) => Some(self::consent(app, text).await?),
        None => None,
    };
    Ok(Details {
        name,
        language,
        consent,
        source: Some(source.to_owned()),
    })
}

async fn consent(app: &Shared, text: String) -> Result<String, Error> {
    let store = app.speech.voices.clone();
    blocking(move || Ok(fields::consent(&text, &store))).await?
}
