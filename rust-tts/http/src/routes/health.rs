//! Routes for probes and operators.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::error::PlainError;

use super::accept::preferred;
use chatterbox_engine::EngineState;

use crate::state::{App, Shared};

/// The probes, which are answered for every origin and `Host`.
pub const PATHS: [&str; 4] = ["/health", "/livez", "/ping", "/readyz"];

/// What is loaded, on what.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `healthy`, `loading`, `draining` or `failed`.
    status: &'static str,
    loaded_models: Vec<String>,
    device: Option<String>,
    version: &'static str,
    /// How far it is, while `status` is `loading`.
    #[serde(skip_serializing_if = "Option::is_none")]
    loading: Option<Value>,
}

/// `GET /livez`: the process serves and its engine moves. A supervisor restarts it on 503.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "Operation",
    operation_id = "livez",
    security(()),
    responses((status = 200, description = "The engine moves.", body = Value), (status = 503, description = "It does not: restart the process.", body = Value))
)]
pub async fn livez(State(app): State<Shared>) -> Response {
    let dead = match app.speech.engine.status().state() {
        EngineState::Failed(_) | EngineState::Stopped => true,
        EngineState::Loading | EngineState::Ready(_) => {
            let busy = app.speech.engine.status().in_step_for();
            busy.is_some_and(|busy| busy > app.limits.engine_stall_timeout)
        }
    };
    let (status, text) = if dead {
        (StatusCode::SERVICE_UNAVAILABLE, "dead")
    } else {
        (StatusCode::OK, "alive")
    };
    (status, Json(json!({"status": text}))).into_response()
}

/// `GET /readyz`: send requests here. A full queue is still ready.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Operation",
    operation_id = "readyz",
    security(()),
    responses((status = 200, description = "Requests are taken.", body = Value), (status = 503, description = "Loading, shutting down or failed.", body = Value))
)]
pub async fn readyz(State(app): State<Shared>) -> Response {
    match app.speech.ready() {
        Ok(_) => Json(json!({"status": "ready"})).into_response(),
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": state_name(&app)})),
        )
            .into_response(),
    }
}

/// `GET /health`: what is loaded, on what; how far, while it is being loaded.
#[utoipa::path(
    get,
    path = "/health",
    tag = "Operation",
    operation_id = "health",
    security(()),
    responses((status = 200, description = "Requests are taken.", body = Health), (status = 503, description = "Loading, shutting down or failed.", body = Health))
)]
pub async fn health(State(app): State<Shared>) -> Response {
    let info = app.speech.engine.status().ready();
    let names = info.as_ref().map(|info| info.names()).unwrap_or_default();
    let mut body = Health {
        status: state_name(&app),
        loaded_models: names.into_iter().map(str::to_owned).collect(),
        device: info.as_ref().map(|info| info.device.clone()),
        version: chatterbox_speech::VERSION,
        loading: None,
    };
    if matches!(app.speech.engine.status().state(), EngineState::Loading) {
        body.loading = Some(json!(*app.speech.engine.status().progress().borrow()));
    }
    let status = if app.speech.ready().is_ok() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(body)).into_response()
}

/// `GET /ping`, as RunPod's load balancer asks: 200 takes requests, 204 is on its way, all else is to be replaced.
#[utoipa::path(
    get,
    path = "/ping",
    tag = "Operation",
    operation_id = "ping",
    security(()),
    responses((status = 204, description = "The models are loading."), (status = 200, description = "Requests are taken.", body = Value), (status = 503, description = "Shutting down or failed.", body = Value))
)]
pub async fn ping(State(app): State<Shared>) -> Response {
    let state = state_name(&app);
    let body = Json(json!({"status": state}));
    match state {
        "healthy" => body.into_response(),
        "loading" => StatusCode::NO_CONTENT.into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, body).into_response(),
    }
}

fn state_name(app: &App) -> &'static str {
    match app.speech.engine.status().state() {
        EngineState::Failed(_) | EngineState::Stopped => "failed",
        _ if app.speech.drain.is_cancelled() => "draining",
        EngineState::Loading => "loading",
        EngineState::Ready(_) => "healthy",
    }
}

/// `GET /metrics` in Prometheus' text format, or a few figures in JSON for who would rather have that.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operation",
    operation_id = "metrics",
    responses((status = 200, description = "Prometheus' text, or figures as JSON where `Accept` would rather have them.", content((String = "text/plain"), (Value = "application/json"))), PlainError)
)]
pub async fn metrics(State(app): State<Shared>, headers: HeaderMap) -> Response {
    let kinds: [(&[&str], bool); 2] = [(&["text/plain"], false), (&["application/json"], true)];
    if preferred(&headers, kinds) == Some(true) {
        let figures = serde_json::to_value(app.metrics.figures());
        let mut body = figures.unwrap_or_default();
        body["active"] = json!(app.speech.admission.running());
        body["queued"] = json!(app.speech.admission.waiting());
        return Json(body).into_response();
    }
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, app.metrics.render(&app.speech, app.sockets.count())).into_response()
}
