//! Errors as OpenAI's clients read them: the class that they raise follows from the status.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::error::{ApiError, Code};

/// What flat dialects call fields, and what they are called here.
const FIELDS: [(&str, &str); 3] = [
    ("text", "input"),
    ("voice_id", "voice"),
    ("format", "response_format"),
];

/// The same error with the names that fields have here.
pub fn in_its_words(error: ApiError) -> ApiError {
    error.renamed(&FIELDS)
}

/// The status, which is the native one but where all slots are busy: clients take that for a limit of their rate.
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::QueueFull => StatusCode::TOO_MANY_REQUESTS,
        code => code.status(),
    }
}

/// Whether the same request would fail in the same way again. Clients that are not told repeat also a conflict, and
/// whatever the server is to blame for.
pub fn repeats(status: StatusCode) -> bool {
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => false,
        StatusCode::INSUFFICIENT_STORAGE => true,
        status => status.is_client_error(),
    }
}

/// `{"error": {"message", "type", "param", "code"}}`
pub fn body(error: &ApiError) -> Value {
    json!({"error": described(error)})
}

/// What is under `error`.
pub fn described(error: &ApiError) -> Value {
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
    // The field stands before the colon, where there is one.
    let field = error.message.split_once(": ").map(|(field, _)| field);
    let param = field.filter(|field| !field.contains(' '));
    json!({"message": error.message, "type": kind, "param": param, "code": code})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_names_that_clients_sent() {
        for (message, param) in [
            ("text: there is nothing to say", Some("input")),
            ("format: expected one of wav", Some("response_format")),
            ("speed: expected 0.25 to 4", Some("speed")),
            ("No audio came within 1 s.", None),
            ("The body is not valid JSON: expected value", None),
        ] {
            let error = in_its_words(ApiError::new(Code::InvalidParameter, message));
            assert_eq!(described(&error)["param"].as_str(), param, "{message}");
        }
    }

    #[test]
    fn only_what_may_pass_is_worth_another_try() {
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
