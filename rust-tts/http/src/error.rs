//! Errors as HTTP answers: each dialect's router writes its own bodies.

use std::any::Any;
use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Extension, OriginalUri, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use chatterbox_speech::error::{Code, Error};
use chatterbox_voices::VoiceError;
use serde::Serialize;
use serde_json::{Value, json};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::{Content, Ref, RefOr, Response as ApiResponse, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use crate::observe::RequestId;
use crate::origins;
use crate::routes::{docs, openai};
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
#[derive(Clone, Copy, Debug)]
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
    pub fn serve(self, app: &Shared, routes: OpenApiRouter<Shared>) -> OpenApiRouter<Shared> {
        let write_errors =
            move |Extension(id): Extension<RequestId>, request: Request, next: Next| async move {
                self.write_error(next.run(request).await, &id)
            };
        routes
            .fallback(unknown_path)
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
        let (text, code, request_id) = (error.to_string(), error.code.as_str(), id.clone());
        let field = error.field.clone();
        match self {
            Self::Native => json!(NativeError {
                error: text,
                code,
                field,
                request_id
            }),
            Self::OpenAi => json!(openai::error::OpenAiError::from(error)),
            Self::Plain => json!(PlainError {
                detail: text,
                code,
                field,
                request_id
            }),
        }
    }
}

/// An error under `/api`.
#[derive(Serialize, ToSchema)]
pub struct NativeError {
    /// A sentence for a person; about a wrong value, it begins with the field's name and a colon.
    #[schema(example = "voice.temperature: expected 0 to 2")]
    error: String,
    #[schema(pattern = "^[A-Z_0-9]+$", example = "INVALID_PARAMETER")]
    code: &'static str,
    /// The field whose value is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    request_id: String,
}

/// An error elsewhere.
#[derive(Serialize, ToSchema)]
pub struct PlainError {
    /// A sentence for a person; about a wrong value, it begins with the field's name and a colon.
    #[schema(example = "The voice was not found.")]
    detail: String,
    #[schema(pattern = "^[A-Z_0-9]+$", example = "VOICE_NOT_FOUND")]
    code: &'static str,
    /// The field whose value is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    request_id: String,
}

impl IntoResponses for NativeError {
    fn responses() -> BTreeMap<String, RefOr<ApiResponse>> {
        references(Dialect::Native)
    }
}

impl IntoResponses for PlainError {
    fn responses() -> BTreeMap<String, RefOr<ApiResponse>> {
        references(Dialect::Plain)
    }
}

impl IntoResponses for openai::error::OpenAiError {
    fn responses() -> BTreeMap<String, RefOr<ApiResponse>> {
        references(Dialect::OpenAi)
    }
}

/// What an error's status means.
const STATUSES: [(u16, &str); 17] = [
    (
        400,
        "The request is not one that the route takes: no JSON or no form, a text that is too long, a form without its file.",
    ),
    (401, "A key is needed, and none that is right was sent."),
    (
        403,
        "The voice is one that is only read, or the request comes from a page of another origin.",
    ),
    (
        404,
        "There is nothing of that name: model, voice, consent or path.",
    ),
    (405, "The path does not take that method."),
    (408, "The body stopped arriving."),
    (409, "A voice of that name is there already."),
    (413, "The body, or the file in it, is too large."),
    (
        415,
        "The body is of another content type, or the file is no audio that the server reads.",
    ),
    (416, "The range begins behind the end of the file."),
    (
        421,
        "The server is not known by the name that the request was sent to.",
    ),
    (
        422,
        "A field has a wrong value; the message begins with its name.",
    ),
    (429, "All slots are busy and the queue is full."),
    (500, "The request failed in the model, or on the disk."),
    (503, "Busy, loading or shutting down."),
    (504, "No audio came in time."),
    (507, "The disk is full."),
];

fn references(dialect: Dialect) -> BTreeMap<String, RefOr<ApiResponse>> {
    let named = STATUSES.map(|(status, _)| {
        let name = format!("{dialect:?}{status}");
        (status.to_string(), Ref::from_response_name(name).into())
    });
    named.into_iter().collect()
}

/// The described responses that every operation refers to.
pub fn described_errors() -> impl Iterator<Item = (String, ApiResponse)> {
    let dialects = [
        (Dialect::Native, NativeError::name()),
        (Dialect::OpenAi, openai::error::OpenAiError::name()),
        (Dialect::Plain, PlainError::name()),
    ];
    dialects.into_iter().flat_map(|(dialect, schema)| {
        STATUSES.map(|(status, description)| {
            let body = Content::new(Some(Ref::from_schema_name(schema.clone())));
            let response = ResponseBuilder::new()
                .description(description)
                .content("application/json", body)
                .build();
            (format!("{dialect:?}{status}"), response)
        })
    })
}

/// Answers a path that is none; one that ends as a route does comes of a wrong base address.
async fn unknown_path(OriginalUri(uri): OriginalUri) -> ApiError {
    let mut error = framework_error(StatusCode::NOT_FOUND);
    if let Some(route) = docs::similar_route(uri.path()) {
        error.message = format!(
            "There is nothing at this path; did you mean {route}? The base address may be wrong."
        );
    }
    ApiError(error)
}

/// The error code of a status that the framework answered on its own.
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
