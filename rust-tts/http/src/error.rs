//! Errors as HTTP answers. The body is written by the layer that knows the dialect of the route.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chatterbox_speech::error::{Code, Error};
use chatterbox_voices::VoiceError;

/// An [`Error`] that can be answered.
#[derive(Clone, Debug)]
pub struct ApiError(pub Error);

/// The status of an error's code.
pub fn status(code: Code) -> StatusCode {
    // The table of codes has no other.
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<VoiceError> for ApiError {
    fn from(error: VoiceError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = status(self.0.code).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.0.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}
