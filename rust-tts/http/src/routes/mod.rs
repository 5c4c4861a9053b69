//! One file per dialect, each a thin adapter over the one internal request.

mod accept;
pub mod answer;
mod convert;
mod docs;
mod form;
mod generate;
pub mod health;
mod json;
mod models;
mod native;
pub mod openai;
mod stream;
mod synthesize;
mod system_status;
mod voices;
mod ws;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware;
use axum::routing::{MethodRouter, get, patch, post};
use tower::ServiceExt;
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::auth;
use crate::error::Dialect;
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
    let router = Router::new()
        .nest("/api", Dialect::Native.serve(app, native_routes(app)))
        .nest("/v1", Dialect::OpenAi.serve(app, openai_routes(app)))
        .merge(Dialect::Plain.serve(app, other_routes(app)))
        .layer(DefaultBodyLimit::max(json_limit(app)))
        .layer(RequestBodyTimeoutLayer::new(app.limits.body_timeout))
        .with_state(app.clone());
    // Before a route is chosen.
    let router = ServiceExt::<Request>::map_request(router, without_extra_slashes);
    Router::new()
        .fallback_service(router)
        .layer(middleware::from_fn(observe::observe))
}

/// `/v1//models/` is `/v1/models`: base addresses end in a slash, or do not.
fn without_extra_slashes(mut request: Request) -> Request {
    let uri = request.uri();
    let path = uri.path();
    if path == "/" || !(path.ends_with('/') || path.contains("//")) {
        return request;
    }
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    let mut target: String = segments.flat_map(|segment| ["/", segment]).collect();
    if target.is_empty() {
        target.push('/');
    }
    if let Some(query) = uri.query() {
        target.push('?');
        target.push_str(query);
    }
    // What was the target of a request is one without some slashes, too.
    if let Ok(uri) = target.parse() {
        *request.uri_mut() = uri;
    }
    request
}

/// Routes that want a key.
fn guarded(app: &Shared, routes: Router<Shared>) -> Router<Shared> {
    routes.route_layer(middleware::from_fn_with_state(
        app.clone(),
        auth::require_key,
    ))
}

/// Routes that read JSON, and no body that says that it is something else.
fn json_only(routes: MethodRouter<Shared>) -> MethodRouter<Shared> {
    routes.layer(middleware::from_fn(json::only))
}

/// Lets a body have a file in it.
fn with_file(app: &App) -> DefaultBodyLimit {
    let largest = app.speech.voice_options.max_voice_file_size;
    DefaultBodyLimit::max(largest.saturating_add(OVERHEAD))
}

/// `/api/*`
fn native_routes(app: &Shared) -> Router<Shared> {
    use voices::native as voice;
    let default_voice = json_only(post(voice::set_default))
        .get(voice::get_default)
        .delete(voice::clear_default);
    let one_voice = json_only(patch(voice::update))
        .get(voice::one)
        .delete(voice::delete);
    let routes = Router::new()
        .route("/tts", json_only(post(native::speak)))
        .route("/vc", post(convert::convert).layer(with_file(app)))
        .route("/voice/default", default_voice)
        .route("/voices", get(voice::list))
        .route("/voices/upload", post(voice::upload).layer(with_file(app)))
        .route("/voices/{id}", one_voice)
        .route("/voices/{id}/preview", get(voice::preview));
    guarded(app, routes)
}

/// `/v1/*`
fn openai_routes(app: &Shared) -> Router<Shared> {
    use voices::{consents, openai as voice};
    let (guarded_listings, public_listings) = if app.public_listings {
        (Router::new(), listings())
    } else {
        (listings(), Router::new())
    };
    let consent = json_only(post(consents::rename))
        .get(consents::one)
        .delete(consents::delete);
    let recorded = post(consents::create)
        .layer(with_file(app))
        .get(consents::list);
    let routes = Router::new()
        .route("/audio/speech", json_only(post(openai::speak)))
        .route("/audio/voices", post(voice::create).layer(with_file(app)))
        .route("/audio/voices/{id}", get(voice::one).delete(voice::delete))
        .route("/audio/voice_consents", recorded)
        .route("/audio/voice_consents/{id}", consent)
        .merge(guarded_listings);
    guarded(app, routes)
        .route("/test", get(openai::test))
        .merge(public_listings)
}

/// All others.
fn other_routes(app: &Shared) -> Router<Shared> {
    use voices::{library, register};
    let voices = post(library::upload)
        .layer(with_file(app))
        .get(library::list);
    let routes = Router::new()
        .route(
            "/tts/generate",
            json_only(post(generate::from_json)).get(generate::from_query),
        )
        .route("/tts", post(synthesize::speak).layer(with_file(app)))
        .route("/tts/json", post(synthesize::measure).layer(with_file(app)))
        .route("/voices", voices)
        .route(
            "/voices/register",
            post(register::register).layer(with_file(app)),
        )
        .route("/voices/{id}", axum::routing::delete(library::delete))
        .route("/ws/tts", get(ws::open))
        .route("/metrics", get(health::metrics))
        .route("/system-status", get(system_status::show));
    guarded(app, routes)
        .route("/health", get(health::health))
        .route("/livez", get(health::livez))
        .route("/ping", get(health::ping))
        .route("/readyz", get(health::readyz))
        .merge(docs::routes())
}

/// What is there to choose from, which `PUBLIC_LISTINGS` shows to everybody.
fn listings() -> Router<Shared> {
    Router::new()
        .route("/models", get(models::list))
        .route("/models/{id}", get(models::one))
        .route("/audio/models", get(models::audio))
        .route("/audio/voices", get(voices::openai::list))
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
