//! OpenAI's speech API. Its voices are in [`super::voices`], its models in [`super::models`].

pub mod error;
mod events;
pub mod speech;

use axum::Json;
use serde_json::{Value, json};

/// `GET /v1/test`: says that the server answers. Bridges ask it to find out what they talk to.
#[utoipa::path(
    get,
    path = "/test",
    tag = "Operation",
    operation_id = "test",
    security(()),
    responses((status = 200, description = "The server answers.", body = Value, example = json!({"status": "ok"})))
)]
pub async fn test() -> Json<Value> {
    Json(json!({"status": "ok"}))
}
