//! The description of the API, made of the handlers and the structs that they take.

use std::sync::OnceLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use utoipa::OpenApi as _;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, SecurityRequirement};

use crate::error::{NativeError, PlainError, described_errors};
use crate::routes::openai::error::OpenAiError;

/// The description, and the paths in it without parameters. It is the same for every server of a process.
static DESCRIPTION: OnceLock<(Bytes, Vec<String>)> = OnceLock::new();

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "chatterbox-server",
        version = chatterbox_speech::VERSION,
        license(name = "MIT", identifier = "MIT"),
        description = "Every dialect fills the same request, so what one can do, all can. Errors have the shape of their \
            dialect: `/api/*`, `/v1/*`, and all else.\n\nAn `x-request-id` of at most 128 visible ASCII characters is \
            taken over, else one is made; it is in the answer's headers, in error bodies and in the log."
    ),
    servers((url = "/")),
    tags(
        (name = "Speech"),
        (name = "OpenAI", description = "As OpenAI's API has it."),
        (name = "Voices"),
        (name = "Operation"),
        (name = "Pages")
    ),
    components(schemas(NativeError, OpenAiError, PlainError))
)]
struct Base;

/// Keeps the description of these routes, with what all of them share.
pub fn describe(routes: OpenApi) {
    DESCRIPTION.get_or_init(|| {
        let mut whole = Base::openapi();
        whole.merge(routes);
        let schemes = security_schemes();
        let wanted = schemes.iter().map(|(name, _)| {
            let scopes: [&str; 0] = [];
            SecurityRequirement::new(*name, scopes)
        });
        whole.security = Some(wanted.collect());
        let components = whole.components.get_or_insert_default();
        for (name, scheme) in schemes {
            components.security_schemes.insert(name.to_owned(), scheme);
        }
        for (name, response) in described_errors() {
            components.responses.insert(name, response.into());
        }
        let paths = whole.paths.paths.keys().filter(|path| !path.contains('{'));
        let paths = paths.cloned().collect();
        (whole.to_json().unwrap_or_default().into(), paths)
    });
}

/// Every way to send a key.
fn security_schemes() -> [(&'static str, SecurityScheme); 5] {
    let header = |name| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(name)));
    let query = |name| SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::new(name)));
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("One of `API_KEY`. A server without keys is open."));
    [
        ("apiKeyHeader", header("X-API-Key")),
        ("apiKeyQuery", query("api_key")),
        ("bearer", SecurityScheme::Http(bearer.build())),
        ("tokenQuery", query("token")),
        ("xiApiKeyHeader", header("xi-api-key")),
    ]
}

/// The route that a path ends with, or that ends with the path: it was asked for under a wrong base.
pub fn similar_route(path: &str) -> Option<&'static str> {
    let (_, paths) = DESCRIPTION.get()?;
    let path = path.trim_end_matches('/');
    let similar = |route: &&String| {
        let (route, inner) = (route.as_str(), path.len() > 1);
        inner && route.len() > 1 && (path.ends_with(route) || route.ends_with(path))
    };
    let mut found: Vec<&String> = paths.iter().filter(similar).collect();
    found.sort_by_key(|route| std::cmp::Reverse(route.len()));
    found.first().map(|route| route.as_str())
}

/// `GET /openapi.json`
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "Pages",
    operation_id = "openapi",
    security(()),
    responses((status = 200, description = "This description.", body = Value))
)]
pub async fn document() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let document = DESCRIPTION.get().map(|(document, _)| document.clone());
    (headers, document.unwrap_or_default()).into_response()
}
