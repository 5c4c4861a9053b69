//! OpenAI's speech API. Its voices are in [`super::voices`], its models in [`super::models`].

pub mod error;
mod events;
mod speech;

use axum::Json;
use serde_json::{Value, json};

pub use speech::speak;

/// `GET /v1/test`: says that the server answers. Bridges ask it to find out what they talk to.
pub async fn test() -> Json<Value> {
    Json(json!({"status": "ok"}))
}
