//! `GET /system-status`: how busy the machine is.

use std::time::{Duration, Instant};

use axum::Json;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::error::{ApiError, PlainError};
use chatterbox_speech::error::{Code, Error};

use crate::machine;

/// How long figures are reused: measuring processor use takes a thread for a while.
const FRESH: Duration = Duration::from_secs(1);
/// The latest figures of this machine, and when they were taken.
static LATEST: Mutex<Option<(Instant, Value)>> = Mutex::const_new(None);

/// Processors and memory; the first GPU, if there is one, and all of them.
#[utoipa::path(
    get,
    path = "/system-status",
    tag = "Operation",
    operation_id = "systemStatus",
    responses((status = 200, description = "Done.", body = Value), PlainError)
)]
pub async fn show() -> Result<Json<Value>, ApiError> {
    let mut latest = LATEST.lock().await;
    if let Some((taken, figures)) = latest.as_ref()
        && taken.elapsed() < FRESH
    {
        return Ok(Json(figures.clone()));
    }
    let measured = spawn_blocking(|| (machine::cpu(), machine::gpus())).await;
    let (cpu, gpus) = measured
        .map_err(|_| Error::new(Code::GenerationError, "The machine could not be measured."))?;
    let figures = json!({"cpu": cpu, "gpu": gpus.first(), "gpus": gpus});
    *latest = Some((Instant::now(), figures.clone()));
    Ok(Json(figures))
}
