//! Every error a client can see: one code, one status, one place.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::engine::messages::FailureCode;

/// What went wrong, as the `code` of an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// `text` is absent or has nothing in it.
    MissingText,
    /// `text` is longer than `MAX_TEXT_LENGTH` characters.
    TextTooLong,
    /// A field has a value that is not allowed; the message begins with the field's name.
    InvalidParameter,
    /// The body is not JSON.
    InvalidJson,
    /// The body is not what the route takes.
    BadRequest,
    /// The model is not one of the loaded ones, which the message lists.
    ModelNotLoaded,
    /// The model speaks with its own voice only.
    CannotClone,
    /// No such voice.
    VoiceNotFound,
    /// A voice of that name exists.
    VoiceExists,
    /// The voice lies in the read-only folder.
    VoiceReadOnly,
    /// The upload has no `file` part.
    NoFile,
    /// The file is not audio that the server reads.
    UnsupportedAudio,
    /// The file is larger than `MAX_VOICE_FILE_SIZE`.
    FileTooLarge,
    /// The body is larger than the route takes.
    BodyTooLarge,
    /// The model is still loading, or something but slots is short for now.
    ServerBusy,
    /// All slots are busy and the queue is full.
    QueueFull,
    /// The server is shutting down.
    Draining,
    /// The socket has `MAX_SAYS_PER_CONNECTION` says running.
    TooManyRequests,
    /// No key, or not one of the configured.
    Unauthorized,
    /// The page's origin is not one of `CORS_ORIGINS`.
    ForbiddenOrigin,
    /// The disk is full.
    StorageFull,
    /// No such route.
    NotFound,
    MethodNotAllowed,
    /// The engine failed to speak it.
    GenerationError,
    /// No audio came within `REQUEST_TIMEOUT`.
    Timeout,
    /// The body stopped arriving for `BODY_TIMEOUT`.
    SlowBody,
    /// The client read nothing for `STALL_TIMEOUT`.
    Stalled,
    /// A WebSocket message that is not a JSON object.
    ParseError,
    /// A WebSocket message of a type that does not exist.
    UnknownType,
    /// `set_voice` without `voice_path`.
    MissingVoicePath,
}

impl Code {
    /// The HTTP status and the text of the code.
    const fn parts(self) -> (StatusCode, &'static str) {
        match self {
            Self::MissingText => (StatusCode::UNPROCESSABLE_ENTITY, "MISSING_TEXT"),
            Self::TextTooLong => (StatusCode::BAD_REQUEST, "TEXT_TOO_LONG"),
            Self::InvalidParameter => (StatusCode::UNPROCESSABLE_ENTITY, "INVALID_PARAMETER"),
            Self::InvalidJson => (StatusCode::BAD_REQUEST, "INVALID_JSON"),
            Self::BadRequest => (StatusCode::BAD_REQUEST, "BAD_REQUEST"),
            Self::ModelNotLoaded => (StatusCode::NOT_FOUND, "MODEL_NOT_LOADED"),
            Self::CannotClone => (StatusCode::UNPROCESSABLE_ENTITY, "CANNOT_CLONE"),
            Self::VoiceNotFound => (StatusCode::NOT_FOUND, "VOICE_NOT_FOUND"),
            Self::VoiceExists => (StatusCode::CONFLICT, "VOICE_EXISTS"),
            Self::VoiceReadOnly => (StatusCode::FORBIDDEN, "VOICE_READ_ONLY"),
            Self::NoFile => (StatusCode::BAD_REQUEST, "NO_FILE"),
            Self::UnsupportedAudio => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_AUDIO"),
            Self::FileTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "FILE_TOO_LARGE"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE"),
            Self::ServerBusy | Self::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, "SERVER_BUSY"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "DRAINING"),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::ForbiddenOrigin => (StatusCode::FORBIDDEN, "FORBIDDEN_ORIGIN"),
            Self::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, "STORAGE_FULL"),
            Self::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::GenerationError => (StatusCode::INTERNAL_SERVER_ERROR, "GENERATION_ERROR"),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "TIMEOUT"),
            Self::SlowBody => (StatusCode::REQUEST_TIMEOUT, "SLOW_BODY"),
            Self::Stalled => (StatusCode::REQUEST_TIMEOUT, "STALLED"),
            Self::ParseError => (StatusCode::BAD_REQUEST, "PARSE_ERROR"),
            Self::UnknownType => (StatusCode::BAD_REQUEST, "UNKNOWN_TYPE"),
            Self::MissingVoicePath => (StatusCode::UNPROCESSABLE_ENTITY, "MISSING_VOICE_PATH"),
        }
    }

    pub const fn status(self) -> StatusCode {
        self.parts().0
    }

    pub const fn as_str(self) -> &'static str {
        self.parts().1
    }
}

/// An error on its way to a client. The body is written by [`crate::telemetry`], which knows the dialect of the route.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: Code,
    /// A sentence for a person. Never holds a path of the server or a key.
    pub message: String,
    /// Seconds after which asking again may help.
    pub retry_after: Option<u64>,
}

impl ApiError {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// A field with a value that is not allowed.
    pub fn parameter(field: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidParameter, format!("{field}: {problem}"))
    }

    /// The same error in a dialect that calls fields by other names: pairs of the native one and its own.
    #[must_use]
    pub fn renamed(mut self, fields: &[(&str, &str)]) -> Self {
        let named = self.message.split_once(": ").and_then(|(field, problem)| {
            let (_, own) = fields.iter().find(|(native, _)| *native == field)?;
            Some(format!("{own}: {problem}"))
        });
        self.message = named.unwrap_or(self.message);
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The engine died: the process is about to be restarted.
    pub fn engine_gone() -> Self {
        Self::new(
            Code::ServerBusy,
            "The engine stopped; the server is about to restart. Try again.",
        )
        .retry_after(5)
    }

    /// An utterance that the engine refused or gave up.
    pub fn from_engine(code: FailureCode, message: String) -> Self {
        match code {
            FailureCode::NothingToSay => Self::new(Code::MissingText, message),
            FailureCode::InvalidParameter | FailureCode::UnsupportedAudio => {
                Self::new(Code::InvalidParameter, message)
            }
            FailureCode::CannotClone => Self::new(Code::CannotClone, message),
            FailureCode::OutOfMemory => Self::new(Code::ServerBusy, message).retry_after(1),
            FailureCode::VoiceNotEnrolled | FailureCode::GenerationError => {
                Self::new(Code::GenerationError, message)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthorized {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}
