//! One file per dialect, each a thin adapter over the one internal request.

mod answer;
mod convert;
mod health;
mod models;
mod native;
mod stream;
mod voices;
mod ws;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::auth;
use crate::state::Shared;
use crate::telemetry;

/// Largest JSON body in bytes: a text of the greatest allowed length, with every character escaped, fits.
const JSON_LIMIT: usize = 1024 * 1024;
/// What a multipart body needs beside the file.
const MULTIPART_OVERHEAD: usize = 64 * 1024;

/// Every route, with the layers that each request passes.
pub fn router(app: &Shared) -> Router {
    let upload_limit = app
        .voice_options
        .max_voice_file_size
        .saturating_add(MULTIPART_OVERHEAD);
    let upload = post(voices::upload).layer(DefaultBodyLimit::max(upload_limit));
    let convert = post(convert::convert).layer(DefaultBodyLimit::max(upload_limit));
    let default_voice = get(voices::get_default)
        .post(voices::set_default)
        .delete(voices::clear_default);
    let guarded = Router::new()
        .route("/api/tts", post(native::speak))
        .route("/api/vc", convert)
        .route("/api/voice/default", default_voice)
        .route("/api/voices", get(voices::list))
        .route("/api/voices/upload", upload)
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::one))
        .route("/ws/tts", get(ws::open))
        .route("/metrics", get(health::metrics))
        .route_layer(middleware::from_fn_with_state(
            app.clone(),
            auth::require_key,
        ));
    let open = Router::new()
        .route("/health", get(health::health))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz));
    guarded
        .merge(open)
        .layer(DefaultBodyLimit::max(JSON_LIMIT))
        .layer(RequestBodyTimeoutLayer::new(app.limits.body_timeout))
        .layer(CatchPanicLayer::custom(telemetry::panicked))
        .layer(cors(&app.origins))
        .layer(middleware::from_fn(telemetry::observe))
        .with_state(app.clone())
}

/// `*` is everybody, and then without credentials: the layer refuses to combine the two.
fn cors(origins: &[String]) -> CorsLayer {
    let exposed = answer::AUDIO_HEADERS
        .into_iter()
        .chain([telemetry::REQUEST_ID]);
    let layer = CorsLayer::new()
        .allow_methods(Any)
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed.collect::<Vec<_>>());
    if origins.iter().any(|origin| origin == "*") {
        return layer.allow_origin(Any);
    }
    let listed: Vec<_> = origins
        .iter()
        .filter_map(|origin| origin.parse().ok())
        .collect();
    layer.allow_origin(listed)
}
