//! Errors as HTTP answers: each dialect's router writes its own bodies.

use std::any::Any;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use chatterbox_speech::error::{Code, Error};
use chatterbox_voices::VoiceError;
use serde_json::{Value, json};
use tower_http::catch_panic::CatchPanicLayer;

use crate::observe::RequestId;
use crate::origins;
use crate::routes::openai;
use crate::state::Shared;

/// Tells OpenAI's clients whether to ask again, which they do by the status otherwise.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const NO: HeaderValue = HeaderValue::from_static("false");

/// An [`Error`] on its way to the router whose dialect gives it a body.
#[derive(Clone, Debug)]
pub struct ApiError(pub Error);

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

/// The status of an error's code.
pub fn status(code: Code) -> StatusCode {
    // The table of codes has no other.
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The shape of a router's error bodies.
#[derive(Clone, Copy)]
pub enum Dialect {
    /// `{"error", "code", "request_id"}`
    Native,
    /// `{"error": {"message", "type", "param", "code"}}`
    OpenAi,
    /// `{"detail", "code", "request_id"}`
    Plain,
}

impl Dialect {
    /// A router that refuses foreign pages, and whose every error, its unknown paths and panics included, has a body of
    /// this dialect.
    pub fn serve(self, app: &Shared, routes: Router<Shared>) -> Router<Shared> {
        let write_errors =
            move |Extension(id): Extension<RequestId>, request: Request, next: Next| async move {
                self.write_error(next.run(request).await, &id)
            };
        routes
            .fallback(async || ApiError(framework_error(StatusCode::NOT_FOUND)))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(origins::cors(app))
            .layer(middleware::from_fn_with_state(app.clone(), origins::check))
            .layer(middleware::from_fn(write_errors))
    }

    fn write_error(self, response: Response, id: &RequestId) -> Response {
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return response;
        }
        let is_json = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == "application/json");
        let error = match response.extensions().get::<ApiError>() {
            Some(ApiError(error)) => error.clone(),
            // Health routes answer 503 with a body of their own.
            None if is_json => return response,
            None => framework_error(status),
        };
        let (mut parts, _) = response.into_parts();
        if matches!(self, Self::OpenAi) {
            parts.status = openai::error::status(error.code);
            if openai::error::repeats(parts.status) {
                parts.headers.insert(SHOULD_RETRY, NO);
            }
        }
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove(header::TRANSFER_ENCODING);
        parts.headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        Response::from_parts(parts, Body::from(self.body(&error, id).to_string()))
    }

    fn body(self, error: &Error, RequestId(id): &RequestId) -> Value {
        match self {
            Self::Native => {
                json!({"error": error.to_string(), "code": error.code.as_str(), "request_id": id})
            }
            Self::OpenAi => openai::error::body(error),
            Self::Plain => {
                json!({"detail": error.to_string(), "code": error.code.as_str(), "request_id": id})
            }
        }
    }
}

/// What the framework means by a status that it answered on its own.
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

/// A handler that panics is answered like any other failure; the connection is not dropped.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a handler panicked");
    ApiError(framework_error(StatusCode::INTERNAL_SERVER_ERROR)).into_response()
}
