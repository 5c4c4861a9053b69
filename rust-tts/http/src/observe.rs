//! What every request passes on its way in and out: request ids, the log of answers, and the bodies of errors.

use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chatterbox_speech::error::{Code, Error};
use serde_json::json;
use tracing::{Instrument, info, info_span};

use crate::auth::QUERY_KEYS;
use crate::error::ApiError;
use crate::routes::openai::error as openai;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Tells OpenAI's clients whether to ask again, which they do by the status otherwise.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const NO: HeaderValue = HeaderValue::from_static("false");
const REQUEST_ID_MAX: usize = 128;
/// Probes come every few seconds; they are not worth a line each.
const QUIET: [&str; 5] = ["/livez", "/readyz", "/ping", "/health", "/metrics"];

/// Characters of a query's value, its name included, that a log has room for.
const SHOWN: usize = 80;

/// The id of a request: in its log lines, in the `x-request-id` of its answer and in error bodies.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

impl RequestId {
    /// Takes the client's own id if it is short and visible ASCII, else makes one.
    fn of(request: &Request) -> Self {
        let given = request
            .headers()
            .get(&REQUEST_ID)
            .and_then(|value| value.to_str().ok());
        let usable = |id: &&str| {
            !id.is_empty() && id.len() <= REQUEST_ID_MAX && id.bytes().all(|b| b.is_ascii_graphic())
        };
        Self(
            given
                .filter(usable)
                .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned),
        )
    }
}

/// The outermost layer: names the request, logs its end and writes its error body.
pub async fn observe(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(&request);
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let span = info_span!("request", id = %id.0, %method, uri = %redacted(request.uri()));
    request.extensions_mut().insert(id.clone());
    let began = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    if response.status().is_client_error() || response.status().is_server_error() {
        response = with_error_body(response, &path, &id);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        headers.insert(REQUEST_ID, value);
    }
    // What clients named, such as voices, is in many answers; no browser is to take it for a page.
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if !QUIET.contains(&path.as_str()) {
        let status = response.status().as_u16();
        let ms = began.elapsed().as_millis() as u64;
        span.in_scope(|| info!(status, ms, "answered"));
    }
    response
}

/// The path and query without keys, and with no more than the beginning of a text.
fn redacted(uri: &Uri) -> String {
    let Some(query) = uri.query() else {
        return uri.path().to_owned();
    };
    let is_key = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        // A name may itself be percent-encoded (`api%5Fkey`).
        form_urlencoded::parse(name.as_bytes()).any(|(name, _)| QUERY_KEYS.contains(&name.as_ref()))
    };
    let shown = query.split('&').map(|pair| {
        if is_key(pair) {
            return "[key]".to_owned();
        }
        match pair.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}[...]", &pair[..end]),
            None => pair.to_owned(),
        }
    });
    format!("{}?{}", uri.path(), shown.collect::<Vec<_>>().join("&"))
}

/// Gives every error the JSON body of its dialect, also those that the framework made in plain text.
fn with_error_body(response: Response, path: &str, id: &RequestId) -> Response {
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/json");
    let error = match response.extensions().get::<ApiError>() {
        Some(ApiError(error)) => error.clone(),
        // Health routes answer 503 with a body of their own.
        None if is_json => return response,
        None => framework_error(response.status()),
    };
    let (mut parts, _) = response.into_parts();
    let body = if path.starts_with("/api/") {
        json!({"error": error.to_string(), "code": error.code.as_str(), "request_id": id.0})
    } else if path.starts_with("/v1/") {
        parts.status = openai::status(error.code);
        if openai::repeats(parts.status) {
            parts.headers.insert(SHOULD_RETRY, NO);
        }
        openai::body(&error)
    } else {
        json!({"detail": error.to_string(), "code": error.code.as_str(), "request_id": id.0})
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Response::from_parts(parts, Body::from(body.to_string()))
}

/// What the framework means by a status it answered on its own.
fn framework_error(status: StatusCode) -> Error {
    let (code, message) = match status {
        StatusCode::NOT_FOUND => (Code::NotFound, "There is nothing at this path."),
        StatusCode::METHOD_NOT_ALLOWED => (
            Code::MethodNotAllowed,
            "This path does not take that method.",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (Code::BodyTooLarge, "The body is too large."),
        StatusCode::REQUEST_TIMEOUT => (Code::SlowBody, "The body did not arrive in time."),
        status if status.is_client_error() => (
            Code::BadRequest,
            "The request is not one that this route takes.",
        ),
        _ => (Code::GenerationError, "The server failed to answer."),
    };
    Error::new(code, message)
}

/// What is answered when a handler panics: an error like any other, not a dropped connection.
pub fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    tracing::error!("a handler panicked");
    ApiError(Error::new(
        Code::GenerationError,
        "The server failed to answer.",
    ))
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_never_reach_the_log() {
        for uri in [
            "/a?api_key=canary",
            "/a?x=1&token=canary&y=2",
            "/a?api%5Fkey=canary",
            "/a?token=a&token=canary",
        ] {
            let shown = redacted(&uri.parse().unwrap());
            assert!(!shown.contains("canary"), "{shown}");
            assert!(shown.contains("[key]"));
        }
        assert_eq!(
            redacted(&"/a?text=hi&apikey=1".parse().unwrap()),
            "/a?text=hi&apikey=1"
        );
        let long = format!("/a?text={}&format=mp3", "x".repeat(500));
        let begin = format!("/a?text={}[...]&format=mp3", "x".repeat(SHOWN - 5));
        assert_eq!(redacted(&long.parse().unwrap()), begin);
    }

    #[test]
    fn only_harmless_request_ids_are_taken_over() {
        let id = |value: &[u8]| {
            let request = Request::builder()
                .header("x-request-id", value)
                .body(Body::empty())
                .unwrap();
            RequestId::of(&request).0
        };
        assert_eq!(id(b"abc-1"), "abc-1");
        assert_eq!(id(&[b'a'; 128]).len(), 128);
        for bad in [&b"two words"[..], b"", &[b'a'; 129], "é".as_bytes()] {
            assert_ne!(id(bad).as_bytes(), bad);
        }
    }
}
