//! `/v1/audio/voices`, in OpenAI's shape.

use axum::Json;
use axum::extract::State;
use axum::extract::multipart::{Multipart, MultipartRejection};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::fields::OpenAiVoiceForm;
use super::native::details;
use super::{Reference, blocking, decoding, prepare_soon, reference};
use crate::error::ApiError;
use crate::routes::openai::error::OpenAiError;
use chatterbox_speech::error::{Code, Error};

use crate::routes::form::Form;
use crate::state::{App, Shared};
use chatterbox_voices::{Filter, VoiceInfo};

/// A voice.
#[derive(Serialize, ToSchema)]
pub struct OpenAiVoice {
    id: String,
    object: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    /// Seconds since 1970.
    created_at: u64,
}

#[derive(Serialize, ToSchema)]
pub struct OpenAiVoices {
    object: &'static str,
    voices: Vec<OpenAiVoice>,
}

/// `GET /v1/audio/voices`: the voices of the loaded models, then those of the folder.
#[utoipa::path(
    get,
    path = "/audio/voices",
    tag = "OpenAI",
    operation_id = "listOpenAiVoices",
    responses((status = 200, description = "The voices.", body = OpenAiVoices), OpenAiError)
)]
pub async fn list(State(app): State<Shared>) -> Result<Json<OpenAiVoices>, ApiError> {
    let store = app.speech.voices.clone();
    let stored = blocking(move || store.list(&Filter::default())).await?;
    let own = own_voices(&app).into_iter().map(|name| own(&app, &name));
    let voices = own.chain(stored.iter().map(object)).collect();
    Ok(Json(OpenAiVoices {
        object: "list",
        voices,
    }))
}

/// `POST /v1/audio/voices`: multipart `name`, `audio_sample` and, where wanted, `consent` (the id of a recording, or
/// words) and `language`. Every request makes another voice.
#[utoipa::path(
    post,
    path = "/audio/voices",
    tag = "OpenAI",
    operation_id = "createOpenAiVoice",
    request_body(content = OpenAiVoiceForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "The voice.", body = OpenAiVoice), OpenAiError)
)]
pub async fn create(
    State(app): State<Shared>,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Json<OpenAiVoice>, ApiError> {
    let mut form = Form::receive(&app, multipart, "audio_sample").await?;
    let file = form.file()?;
    let details = details(&app, &mut form, "/v1/audio/voices").await?;
    if details.name.is_none() {
        return Err(Error::parameter("name", "is missing").into());
    }
    let store = app.speech.voices.clone();
    let created = move || {
        let voice = store.create(&file.name, &file.bytes, &details)?;
        Ok((store.describe(voice.clone()), voice))
    };
    let (described, voice) = decoding(&app, created).await?;
    prepare_soon(&app, &voice);
    Ok(Json(object(&described)))
}

/// `GET /v1/audio/voices/{id}`
#[utoipa::path(
    get,
    path = "/audio/voices/{id}",
    tag = "OpenAI",
    operation_id = "getOpenAiVoice",
    params(("id" = String, Path, description = "The voice's id, that without its extension, or its content's hash.", min_length = 1)),
    responses((status = 200, description = "The voice.", body = OpenAiVoice), OpenAiError)
)]
pub async fn one(
    State(app): State<Shared>,
    path: Reference,
) -> Result<Json<OpenAiVoice>, ApiError> {
    let reference = reference(path)?;
    if own_voices(&app).contains(&reference) {
        return Ok(Json(own(&app, &reference)));
    }
    let store = app.speech.voices.clone();
    let voice = blocking(move || store.find(&reference).map(|voice| store.describe(voice))).await?;
    Ok(Json(object(&voice)))
}

/// `DELETE /v1/audio/voices/{id}`
#[utoipa::path(
    delete,
    path = "/audio/voices/{id}",
    tag = "OpenAI",
    operation_id = "deleteOpenAiVoice",
    params(("id" = String, Path, description = "The voice's id, that without its extension, or its content's hash.", min_length = 1)),
    responses((status = 200, description = "Done.", body = Value), OpenAiError)
)]
pub async fn delete(State(app): State<Shared>, path: Reference) -> Result<Json<Value>, ApiError> {
    let reference = reference(path)?;
    if own_voices(&app).contains(&reference) {
        let message = "This voice belongs to a model and cannot be deleted.";
        return Err(Error::new(Code::VoiceReadOnly, message).into());
    }
    let store = app.speech.voices.clone();
    let voice = blocking(move || store.delete(&reference)).await?;
    Ok(Json(
        json!({"id": voice.id, "object": "audio.voice.deleted", "deleted": true}),
    ))
}

/// The names of the models' own voices, each once. None while the models load.
fn own_voices(app: &App) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(engine) = app.speech.engine.status().ready() {
        for name in engine.models.iter().flat_map(|model| &model.voices) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    names
}

fn own(app: &App, name: &str) -> OpenAiVoice {
    described(name, name, app.started)
}

fn object(voice: &VoiceInfo) -> OpenAiVoice {
    described(&voice.id, &voice.name, voice.created_at)
}

/// Every voice comes of an audio sample, a model's own as well: none of a description in words.
fn described(id: &str, name: &str, created_at: u64) -> OpenAiVoice {
    OpenAiVoice {
        id: id.to_owned(),
        object: "audio.voice",
        kind: "audio_sample",
        name: name.to_owned(),
        created_at,
    }
}
