//! `/v1/models`, in OpenAI's shape, with what else is known of each model.
//!
//! OpenAI's own models are not listed, for none of them is here, but they are found: each is the default model.

use crate::error::ApiError;
use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::openai::error::OpenAiError;

use crate::state::{App, Shared};
use chatterbox_engine::messages::{EngineInfo, Model};
use chatterbox_speech::choice::choose_model;
use chatterbox_speech::error::Error;

/// OpenAI's models that speak. Each has variants whose names go on with a date.
const OPENAI_MODELS: [&str; 3] = ["tts-1", "tts-1-hd", "gpt-4o-mini-tts"];

/// A loaded model.
#[derive(Serialize, ToSchema)]
pub struct ModelInfo {
    id: String,
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    owned_by: &'static str,
    sample_rate: u32,
    languages: Vec<String>,
    /// Sounds that may stand in a text, such as `[laugh]`.
    tags: Vec<String>,
    /// The model's own.
    voices: Vec<String>,
    can_clone: bool,
    can_convert: bool,
    watermark: bool,
    /// The model that answers to this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct ModelList {
    object: &'static str,
    data: Vec<ModelInfo>,
}

#[derive(Serialize, ToSchema)]
pub struct AudioModels {
    models: Vec<ModelInfo>,
}

/// `GET /v1/models`
#[utoipa::path(
    get,
    path = "/models",
    tag = "OpenAI",
    operation_id = "listModels",
    responses((status = 200, description = "The loaded models.", body = ModelList), OpenAiError)
)]
pub async fn list(State(app): State<Shared>) -> Result<Json<ModelList>, ApiError> {
    Ok(Json(ModelList {
        object: "list",
        data: all(&app)?,
    }))
}

/// `GET /v1/audio/models`: the same under another name, for clients that look for models which speak.
#[utoipa::path(
    get,
    path = "/audio/models",
    tag = "OpenAI",
    operation_id = "listAudioModels",
    responses((status = 200, description = "The loaded models.", body = AudioModels), OpenAiError)
)]
pub async fn audio(State(app): State<Shared>) -> Result<Json<AudioModels>, ApiError> {
    let models = all(&app)?;
    Ok(Json(AudioModels { models }))
}

fn all(app: &App) -> Result<Vec<ModelInfo>, Error> {
    let info = app.speech.ready()?;
    let models = info.models.iter().map(|model| described(app, model));
    Ok(models.collect())
}

/// `GET /v1/models/{id}`
#[utoipa::path(
    get,
    path = "/models/{id}",
    tag = "OpenAI",
    operation_id = "getModel",
    params(("id" = String, Path, description = "The model's name, or one of OpenAI's that speak.", min_length = 1)),
    responses((status = 200, description = "The model.", body = ModelInfo), OpenAiError)
)]
pub async fn one(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<ModelInfo>, ApiError> {
    let info = app.speech.ready()?;
    let default = app.speech.options.default_model.as_deref();
    let alias = is_alias(&info, &id);
    let model = choose_model(&info, (!alias).then_some(&id), default)?;
    let mut described = described(&app, &model);
    if alias {
        described.id = id;
        described.root = Some(model.name.clone());
    }
    Ok(Json(described))
}

/// Whether a name is that of an OpenAI model, for which the default model stands in.
pub fn is_alias(info: &EngineInfo, name: &str) -> bool {
    let is_dated = |rest: &str| {
        let mut parts = rest.split('-');
        parts.next() == Some("")
            && parts.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let known = |model: &&str| {
        name.strip_prefix(*model)
            .is_some_and(|rest| rest.is_empty() || is_dated(rest))
    };
    info.model(name).is_none() && OPENAI_MODELS.iter().any(known)
}

fn described(app: &App, model: &Model) -> ModelInfo {
    let model = model.clone();
    ModelInfo {
        id: model.name,
        object: "model",
        created: app.started,
        owned_by: "chatterbox-server",
        sample_rate: model.sample_rate,
        languages: model.languages,
        tags: model.tags,
        voices: model.voices,
        can_clone: model.can_clone,
        can_convert: model.can_convert,
        watermark: model.watermark,
        root: None,
    }
}
