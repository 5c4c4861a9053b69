//! One file per dialect, each a thin adapter over the one internal request.

mod accept;
pub mod answer;
mod convert;
pub mod docs;
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
use tower::ServiceExt;
use tower_http::timeout::RequestBodyTimeoutLayer;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use crate::auth;
use crate::error::Dialect;
use crate::observe;
use crate::state::{App, Shared};

/// Room in a JSON body, in bytes, where texts are not allowed to be longer than usual.
const JSON_LIMIT: usize = 1024 * 1024;
/// Most bytes of a character in JSON: a pair of surrogates, both escaped.
const ESCAPED_CHARACTER: usize = 12;
/// Room in a body beside its file or text.
const OVERHEAD: usize = 64 * 1024;

/// Every route, with the layers that each request passes.
pub fn router(app: &Shared) -> Router {
    let (router, description) = OpenApiRouter::new()
        .nest("/api", Dialect::Native.serve(app, native_routes(app)))
        .nest("/v1", Dialect::OpenAi.serve(app, openai_routes(app)))
        .merge(Dialect::Plain.serve(app, other_routes(app)))
        .layer(DefaultBodyLimit::max(json_limit(app)))
        .layer(RequestBodyTimeoutLayer::new(app.limits.body_timeout))
        .split_for_parts();
    docs::describe(description);
    // Before a route is chosen.
    let router = router.with_state(app.clone());
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
    // A valid target stays valid without some of its slashes.
    if let Ok(uri) = target.parse() {
        *request.uri_mut() = uri;
    }
    request
}

/// Routes that want a key.
fn guarded(app: &Shared, routes: OpenApiRouter<Shared>) -> OpenApiRouter<Shared> {
    routes.route_layer(middleware::from_fn_with_state(
        app.clone(),
        auth::require_key,
    ))
}

/// Routes that read JSON, and no body that says that it is something else.
fn json_only(routes: UtoipaMethodRouter<Shared>) -> UtoipaMethodRouter<Shared> {
    routes.layer(middleware::from_fn(json::only))
}

/// Routes whose bodies may have a file in them.
fn with_file(app: &App, routes: UtoipaMethodRouter<Shared>) -> UtoipaMethodRouter<Shared> {
    let largest = app.speech.voice_options.max_voice_file_size;
    routes.layer(DefaultBodyLimit::max(largest.saturating_add(OVERHEAD)))
}

/// `/api/*`
fn native_routes(app: &Shared) -> OpenApiRouter<Shared> {
    use voices::native as voice;
    let routes = OpenApiRouter::new()
        .routes(json_only(routes!(native::speak)))
        .routes(with_file(app, routes!(convert::convert)))
        .routes(json_only(routes!(voice::set_default)))
        .routes(routes!(voice::get_default, voice::clear_default))
        .routes(routes!(voice::list))
        .routes(with_file(app, routes!(voice::upload)))
        .routes(json_only(routes!(voice::update)))
        .routes(routes!(voice::one, voice::delete))
        .routes(routes!(voice::preview));
    guarded(app, routes)
}

/// `/v1/*`
fn openai_routes(app: &Shared) -> OpenApiRouter<Shared> {
    use voices::{consents, openai as voice};
    let (guarded_listings, public_listings) = if app.public_listings {
        (OpenApiRouter::new(), listings())
    } else {
        (listings(), OpenApiRouter::new())
    };
    let routes = OpenApiRouter::new()
        .routes(json_only(routes!(openai::speech::speak)))
        .routes(with_file(app, routes!(voice::create)))
        .routes(routes!(voice::one, voice::delete))
        .routes(with_file(app, routes!(consents::create)))
        .routes(routes!(consents::list))
        .routes(json_only(routes!(consents::rename)))
        .routes(routes!(consents::one, consents::delete))
        .merge(guarded_listings);
    guarded(app, routes)
        .routes(routes!(openai::test))
        .merge(public_listings)
}

/// All others.
fn other_routes(app: &Shared) -> OpenApiRouter<Shared> {
    use voices::{library, register};
    let routes = OpenApiRouter::new()
        .routes(json_only(routes!(generate::from_json)))
        .routes(routes!(generate::from_query))
        .routes(with_file(app, routes!(synthesize::speak)))
        .routes(with_file(app, routes!(synthesize::measure)))
        .routes(with_file(app, routes!(library::upload)))
        .routes(routes!(library::list))
        .routes(with_file(app, routes!(register::register)))
        .routes(routes!(library::delete))
        .routes(routes!(ws::open))
        .routes(routes!(health::metrics))
        .routes(routes!(system_status::show));
    guarded(app, routes)
        .routes(routes!(health::health))
        .routes(routes!(health::livez))
        .routes(routes!(health::ping))
        .routes(routes!(health::readyz))
        .merge(docs::routes())
}

/// The listings, which `PUBLIC_LISTINGS` opens to requests without a key.
fn listings() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(models::list))
        .routes(routes!(models::one))
        .routes(routes!(models::audio))
        .routes(routes!(voices::openai::list))
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
