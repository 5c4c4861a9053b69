//! `GET /system-status`: how busy the machine is.

use axum::Json;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::error::{ApiError, Code};
use crate::machine;

/// Processors and memory; the first GPU, if there is one, and all of them.
pub async fn show() -> Result<Json<Value>, ApiError> {
    let measured = spawn_blocking(|| (machine::cpu(), machine::gpus())).await;
    let (cpu, gpus) = measured
        .map_err(|_| ApiError::new(Code::GenerationError, "The machine could not be measured."))?;
    Ok(Json(json!({"cpu": cpu, "gpu": gpus.first(), "gpus": gpus})))
}
