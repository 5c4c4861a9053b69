//! Which bodies are read as JSON: not those that a form of another page can send without asking this server first.

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use chatterbox_speech::error::{Code, Error};

use crate::error::ApiError;

/// The layer of routes whose bodies are JSON, with a content type that says so or with none.
pub async fn only(request: Request, next: Next) -> Result<Response, ApiError> {
    let headers = request.headers();
    if headers.contains_key(header::CONTENT_TYPE) && !is_json(headers) {
        let message = "This route takes JSON: send it with `Content-Type: application/json`.";
        return Err(Error::new(Code::UnsupportedMediaType, message).into());
    }
    Ok(next.run(request).await)
}

/// `application/json` or `application/…+json`, with or without parameters.
pub fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let subtype = kind.to_ascii_lowercase();
    let subtype = subtype.strip_prefix("application/");
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_content_types_of_json() {
        let kind = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            is_json(&headers)
        };
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.api+json",
            " application/json ;x=y",
        ] {
            assert!(kind(json), "{json}");
        }
        for other in [
            "text/plain",
            "text/json",
            "multipart/form-data; boundary=json",
            "application/x-www-form-urlencoded",
            "application/jsonp",
            "application/json, text/plain",
            "",
        ] {
            assert!(!kind(other), "{other}");
        }
    }
}
