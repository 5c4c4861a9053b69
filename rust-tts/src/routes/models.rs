//! `/v1/models`, in OpenAI's shape, with what else is known of each model.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::engine::messages::Model;
use crate::error::{ApiError, Code};
use crate::state::{App, Shared};

/// `GET /v1/models`
pub async fn list(State(app): State<Shared>) -> Result<Json<Value>, ApiError> {
    let info = app.ready()?;
    let models = info.models.iter().map(|model| described(&app, model));
    Ok(Json(
        json!({"object": "list", "data": models.collect::<Vec<_>>()}),
    ))
}

/// `GET /v1/models/{id}`
pub async fn one(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let info = app.ready()?;
    let model = info.model(&id).ok_or_else(|| {
        let names = info.names().join(", ");
        ApiError::new(
            Code::ModelNotLoaded,
            format!("model: not loaded; loaded are {names}"),
        )
    })?;
    Ok(Json(described(&app, model)))
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
