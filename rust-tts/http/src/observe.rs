//! What every request passes on its way in and out: request ids and the log of answers.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument, info, info_span};

use crate::auth::QUERY_KEYS;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

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
