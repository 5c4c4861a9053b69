//! Errors as OpenAI's clients read them: the class that they raise follows from the status.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use chatterbox_speech::error::{Code, Error};

/// The status, which is the native one but where all slots are busy: clients take that for a limit of their rate.
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::QueueFull => StatusCode::TOO_MANY_REQUESTS,
        code => crate::error::status(code),
    }
}

/// Whether the same request would fail in the same way again. Without it clients also repeat a conflict, and
/// whatever the server is to blame for.
pub fn repeats(status: StatusCode) -> bool {
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => false,
        StatusCode::INSUFFICIENT_STORAGE => true,
        status => status.is_client_error(),
    }
}

/// An error under `/v1`.
#[derive(Serialize, ToSchema)]
pub struct OpenAiError {
    error: OpenAiErrorDetails,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
pub struct OpenAiErrorDetails {
    #[schema(example = "input: there is nothing to say")]
    message: String,
    /// `invalid_request_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    #[schema(example = "invalid_request_error")]
    kind: &'static str,
    #[schema(example = "input")]
    param: Option<String>,
    #[schema(pattern = "^[a-z_0-9]+$", example = "missing_text")]
    code: String,
}

impl From<&Error> for OpenAiError {
    fn from(error: &Error) -> Self {
        Self {
            error: error.into(),
        }
    }
}

impl From<&Error> for OpenAiErrorDetails {
    fn from(error: &Error) -> Self {
        let kind = match status(error.code) {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let code = match error.code {
            Code::ModelNotLoaded => "model_not_found".to_owned(),
            Code::Unauthorized => "invalid_api_key".to_owned(),
            Code::QueueFull => "rate_limit_exceeded".to_owned(),
            code => code.as_str().to_ascii_lowercase(),
        };
        Self {
            message: error.to_string(),
            kind,
            param: error.field.clone(),
            code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_only_transient_errors_may_be_retried() {
        let repeated = |code| repeats(status(code));
        for code in [
            Code::QueueFull,
            Code::ServerBusy,
            Code::Draining,
            Code::SlowBody,
            Code::Timeout,
            Code::GenerationError,
        ] {
            assert!(!repeated(code), "{code:?}");
        }
        for code in [
            Code::VoiceExists,
            Code::InvalidParameter,
            Code::Unauthorized,
            Code::StorageFull,
        ] {
            assert!(repeated(code), "{code:?}");
        }
    }
}
