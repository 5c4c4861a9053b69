//! Layers of every route: request ids and the log of answers.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument, info, info_span};

use crate::auth::QUERY_KEYS;
use crate::routes::health;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_MAX: usize = 128;
/// Longest name of a query's parameter that is logged, in bytes.
const LONGEST_NAME: usize = 64;

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

/// The outermost layer: names the request and logs its end.
pub async fn observe(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(&request);
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let span = info_span!("request", id = %id.0, %method, uri = %redacted(request.uri()));
    request.extensions_mut().insert(id.clone());
    let began = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        headers.insert(REQUEST_ID, value);
    }
    // Many answers contain text from clients, such as names of voices; no browser may take it for a page.
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if !is_probe(&path) {
        let status = response.status().as_u16();
        let ms = began.elapsed().as_millis() as u64;
        span.in_scope(|| info!(status, ms, "answered"));
    }
    response
}

/// Asked for every few seconds, which is not worth a line each.
fn is_probe(path: &str) -> bool {
    path == "/metrics" || health::PATHS.contains(&path)
}

/// The path, and of the query the names of its parameters and how many characters their values have: a value may be a key,
/// or what somebody has spoken.
fn redacted(uri: &Uri) -> String {
    let Some(query) = uri.query() else {
        return uri.path().to_owned();
    };
    let is_name = |name: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        name.len() <= LONGEST_NAME && name.bytes().all(is_plain)
    };
    // A name may itself be percent-encoded (`api%5Fkey`).
    let shown = form_urlencoded::parse(query.as_bytes()).map(|(name, value)| {
        let length = value.chars().count();
        match name.as_ref() {
            name if QUERY_KEYS.contains(&name) => "[key]".to_owned(),
            // A part without a value is a text, not a name.
            name if length == 0 || !is_name(name) => format!("[{}]", name.chars().count()),
            name => format!("{name}=[{length}]"),
        }
    });
    format!("{}?{}", uri.path(), shown.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn test_keys_are_not_logged() {
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
    }

    #[test]
    fn test_log_has_names_and_lengths_but_no_values() {
        for (uri, shown) in [
            ("/a?text=canary&format=mp3", "/a?text=[6]&format=[3]"),
            ("/a?te%78t=can%61ry%20x", "/a?text=[8]"),
            ("/a?text=%C3%A9", "/a?text=[1]"),
            ("/a?canary", "/a?[6]"),
            ("/a?canary%20bird=1", "/a?[11]"),
            ("/a?apikey=canary&api_key=x", "/a?apikey=[6]&[key]"),
            ("/a", "/a"),
        ] {
            assert_eq!(redacted(&uri.parse().unwrap()), shown);
        }
    }

    #[test]
    fn test_safe_request_ids_are_kept() {
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
