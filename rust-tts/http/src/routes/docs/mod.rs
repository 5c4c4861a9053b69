//! For people: a page to try the server with, and the description of the API. They hold no secret, so they need no key.

mod openapi;

pub use openapi::{describe, similar_route};

use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::{ApiError, PlainError};
use chatterbox_speech::error::{Code, Error};

use crate::state::Shared;

/// Pages load what this server has, and play what they made themselves of its answers. Nothing inline runs. Swagger UI
/// has pictures in its style sheet.
const POLICY: &str = "default-src 'self'; media-src 'self' blob:; img-src 'self' data:; object-src 'none'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of a page.
struct Asset {
    name: &'static str,
    kind: &'static str,
    /// Compressed, where it is large: every browser takes that.
    gzip: bool,
    content: &'static [u8],
}

macro_rules! assets {
    ($($name:literal, $kind:literal, $gzip:literal, $file:literal;)*) => {
        &[$(Asset {
            name: $name,
            kind: $kind,
            gzip: $gzip,
            content: include_bytes!(concat!("../../../assets/", $file)),
        }),*]
    };
}

/// The files under `/assets`.
const ASSETS: &[Asset] = assets! {
    "page.js", "text/javascript; charset=utf-8", false, "page/page.js";
    "player.js", "text/javascript; charset=utf-8", false, "page/player.js";
    "page.css", "text/css; charset=utf-8", false, "page/page.css";
    "icon.svg", "image/svg+xml", false, "page/icon.svg";
    "docs.js", "text/javascript; charset=utf-8", false, "page/docs.js";
    "swagger-ui-bundle.js", "text/javascript; charset=utf-8", true, "swagger-ui/swagger-ui-bundle.js.gz";
    "swagger-ui.css", "text/css; charset=utf-8", true, "swagger-ui/swagger-ui.css.gz";
};

/// The pages and what they are made of.
pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(page))
        .routes(routes!(docs))
        .routes(routes!(openapi::document))
        .routes(routes!(asset))
}

/// `GET /`: a text, a voice, and the sound of it.
#[utoipa::path(
    get,
    path = "/",
    tag = "Pages",
    operation_id = "page",
    security(()),
    responses((status = 200, description = "A page to try the server with.", body = String, content_type = "text/html"))
)]
async fn page() -> Response {
    html(include_bytes!("../../../assets/page/page.html"))
}

/// `GET /docs`: Swagger UI.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "Pages",
    operation_id = "docs",
    security(()),
    responses((status = 200, description = "This description as a page.", body = String, content_type = "text/html"))
)]
async fn docs() -> Response {
    html(include_bytes!("../../../assets/page/docs.html"))
}

/// `GET /assets/{name}`
#[utoipa::path(
    get,
    path = "/assets/{name}",
    tag = "Pages",
    operation_id = "asset",
    security(()),
    params(("name" = String, Path, example = "icon.svg")),
    responses((status = 200, description = "A file, compressed if it is large.", content((String = "text/javascript"), (String = "text/css"), (String = "image/svg+xml"))), PlainError)
)]
async fn asset(name: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    let found = name.ok().and_then(|Path(name)| {
        let mut assets = ASSETS.iter();
        assets.find(|asset| asset.name == name)
    });
    let none = || Error::new(Code::NotFound, "There is nothing at this path.");
    let asset = found.ok_or_else(none)?;
    let mut response = document(asset.content, asset.kind);
    if asset.gzip {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        // They change with the server's version alone, and are the only large ones.
        let day = HeaderValue::from_static("public, max-age=86400");
        headers.insert(header::CACHE_CONTROL, day);
    }
    Ok(response)
}

fn html(content: &'static [u8]) -> Response {
    let mut response = document(content, "text/html; charset=utf-8");
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn document(content: &'static [u8], kind: &'static str) -> Response {
    let mut response = Response::new(Body::from(Bytes::from_static(content)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
