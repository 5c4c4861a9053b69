//! One file per dialect, each a thin adapter over the one internal request.

mod accept;
mod answer;
mod convert;
mod docs;
mod form;
mod generate;
mod health;
mod models;
mod native;
pub mod openai;
mod stream;
mod synthesize;
mod system_status;
mod voices;
mod ws;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::middleware;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::auth;
use crate::observe;
use crate::state::{App, Shared};

/// Room in a JSON body, in bytes, where texts are not allowed to be longer than usual.
const JSON_LIMIT: usize = 1024 * 1024;
/// Most bytes of a character in JSON: a pair of surrogates, both escaped.
const ESCAPED_CHARACTER: usize = 12;
/// What a body needs beside a file or a text.
const OVERHEAD: usize = 64 * 1024;

/// Every route, with the layers that each request passes.
pub fn router(app: &Shared) -> Router {
    let upload_limit = app
        .speech
        .voice_options
        .max_voice_file_size
        .saturating_add(OVERHEAD);
    let large = || DefaultBodyLimit::max(upload_limit);
    let convert = post(convert::convert).layer(large());
    let (listings, public_listings) = if app.public_listings {
        (Router::new(), listings())
    } else {
        (listings(), Router::new())
    };
    let guarded = Router::new()
        .route("/api/tts", post(native::speak))
        .route("/api/vc", convert)
        .route(
            "/tts/generate",
            get(generate::from_query).post(generate::from_json),
        )
        .route("/tts", post(synthesize::speak).layer(large()))
        .route("/tts/json", post(synthesize::measure).layer(large()))
        .merge(voice_routes(large))
        .merge(listings)
        .route("/v1/audio/speech", post(openai::speak))
        .route("/ws/tts", get(ws::open))
        .route("/metrics", get(health::metrics))
        .route("/system-status", get(system_status::show))
        .route_layer(middleware::from_fn_with_state(
            app.clone(),
            auth::require_key,
        ));
    let open = Router::new()
        .route("/health", get(health::health))
        .route("/livez", get(health::livez))
        .route("/ping", get(health::ping))
        .route("/readyz", get(health::readyz))
        .route("/v1/test", get(openai::test))
        .merge(public_listings)
        .merge(docs::routes());
    guarded
        .merge(open)
        .layer(DefaultBodyLimit::max(json_limit(app)))
        .layer(RequestBodyTimeoutLayer::new(app.limits.body_timeout))
        .layer(CatchPanicLayer::custom(observe::panicked))
        .layer(cors(&app.origins))
        .layer(middleware::from_fn(observe::observe))
        .with_state(app.clone())
}

/// What is there to choose from, which `PUBLIC_LISTINGS` shows to everybody.
fn listings() -> Router<Shared> {
    Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::one))
        .route("/v1/audio/models", get(models::audio))
        .route("/v1/audio/voices", get(voices::openai::list))
}

/// Largest JSON body in bytes: a text of the greatest allowed length, with every character escaped, fits.
fn json_limit(app: &App) -> usize {
    let text = app
        .speech
        .options
        .limits
        .max_text_length
        .saturating_mul(ESCAPED_CHARACTER);
    JSON_LIMIT.max(text.saturating_add(OVERHEAD))
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
    let openai_voices = post(openai::create).layer(large());
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
    let exposed = answer::AUDIO_HEADERS.into_iter().chain([
        observe::REQUEST_ID,
        observe::SHOULD_RETRY,
        header::RETRY_AFTER,
    ]);
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
