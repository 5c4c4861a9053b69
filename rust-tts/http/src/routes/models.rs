//! `/v1/models`, in OpenAI's shape, with what else is known of each model.
//!
//! OpenAI's own models are not listed, for none of them is here, but they are found: each is the default model.

use crate::error::ApiError;
use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::state::{App, Shared};
use chatterbox_engine::messages::{EngineInfo, Model};
use chatterbox_speech::choice::choose_model;
use chatterbox_speech::error::Error;

/// OpenAI's models that speak. Each has variants whose names go on with a date.
const OPENAI_MODELS: [&str; 3] = ["tts-1", "tts-1-hd", "gpt-4o-mini-tts"];

/// `GET /v1/models`
pub async fn list(State(app): State<Shared>) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({"object": "list", "data": all(&app)?})))
}

/// `GET /v1/audio/models`: the same under another name, for clients that look for models which speak.
pub async fn audio(State(app): State<Shared>) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({"models": all(&app)?})))
}

fn all(app: &App) -> Result<Vec<Value>, Error> {
    let info = app.speech.ready()?;
    let models = info.models.iter().map(|model| described(app, model));
    Ok(models.collect())
}

/// `GET /v1/models/{id}`
pub async fn one(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let info = app.speech.ready()?;
    let default = app.speech.options.default_model.as_deref();
    let alias = is_alias(&info, &id);
    let model = choose_model(&info, (!alias).then_some(&id), default)?;
    let mut described = described(&app, &model);
    if alias {
        described["id"] = json!(id);
        described["root"] = json!(model.name);
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

fn described(app: &App, model: &Model) -> Value {
    json!({
        "id": model.name,
        "object": "model",
        "created": app.started,
        "owned_by": "chatterbox-server",
        "sample_rate": model.sample_rate,
        "languages": model.languages,
        "tags": model.tags,
        "voices": model.voices,
        "can_clone": model.can_clone,
        "can_convert": model.can_convert,
        "watermark": model.watermark,
    })
}
