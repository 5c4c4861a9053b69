//! The description of the API, which is kept by hand: its tests hold it against what the server takes.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

/// Without the version, which the package has.
const SOURCE: &str = include_str!("../../../assets/openapi.json");
const VERSION: &str = "{version}";

static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| Bytes::from(SOURCE.replacen(VERSION, chatterbox_speech::VERSION, 1)));

/// `GET /openapi.json`
pub async fn document() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, DOCUMENT.clone()).into_response()
}
