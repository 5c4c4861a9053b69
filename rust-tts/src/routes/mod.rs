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
    let large = || DefaultBodyLimit::max(upload_limit);
    let convert = post(convert::convert).layer(large());
    let guarded = Router::new()
        .route("/api/tts", post(native::speak))
        .route("/api/vc", convert)
        .merge(voice_routes(large))
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

/// The voices, in each dialect. `large` lets a body have a file in it.
fn voice_routes(large: impl Fn() -> DefaultBodyLimit) -> Router<Shared> {
    use voices::{consents, library, native, openai, register};
    let default_voice = get(native::get_default)
        .post(native::set_default)
        .delete(native::clear_default);
    let native_voice = get(native::one)
        .patch(native::update)
        .delete(native::delete);
    let openai_voices = post(openai::create).layer(large()).get(openai::list);
    let recorded = post(consents::create).layer(large()).get(consents::list);
    let consent = get(consents::one)
        .post(consents::rename)
        .delete(consents::delete);
    Router::new()
        .route("/api/voice/default", default_voice)
        .route("/api/voices", get(native::list))
        .route("/api/voices/upload", post(native::upload).layer(large()))
        .route("/api/voices/{id}", native_voice)
        .route("/api/voices/{id}/preview", get(native::preview))
        .route(
            "/voices",
            post(library::upload).layer(large()).get(library::list),
        )
        .route("/voices/register", post(register::register).layer(large()))
        .route("/voices/{id}", axum::routing::delete(library::delete))
        .route("/v1/audio/voices", openai_voices)
        .route(
            "/v1/audio/voices/{id}",
            get(openai::one).delete(openai::delete),
        )
        .route("/v1/audio/voice_consents", recorded)
        .route("/v1/audio/voice_consents/{id}", consent)
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
