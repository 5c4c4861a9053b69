//! What probes and operators ask.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::accept::preferred;
use chatterbox_engine::EngineState;

use crate::state::{App, Shared};

/// What probes ask for, from wherever they are and under any name.
pub const PATHS: [&str; 4] = ["/health", "/livez", "/ping", "/readyz"];

/// `GET /livez`: the process serves and its engine moves. A supervisor restarts it on 503.
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
pub async fn health(State(app): State<Shared>) -> Response {
    let info = app.speech.engine.status().ready();
    let mut body = json!({
        "status": state_name(&app),
        "loaded_models": info.as_ref().map(|info| info.names()).unwrap_or_default(),
        "device": info.as_ref().map(|info| info.device.as_str()),
        "version": chatterbox_speech::VERSION,
    });
    if matches!(app.speech.engine.status().state(), EngineState::Loading) {
        body["loading"] = json!(*app.speech.engine.status().progress().borrow());
    }
    let status = if app.speech.ready().is_ok() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(body)).into_response()
}

/// `GET /ping`, as RunPod's load balancer asks: 200 takes requests, 204 is on its way, all else is to be replaced.
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
pub async fn metrics(State(app): State<Shared>, headers: HeaderMap) -> Response {
    let kinds: [(&[&str], bool); 2] = [(&["text/plain"], false), (&["application/json"], true)];
    if preferred(&headers, &kinds) == Some(true) {
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
