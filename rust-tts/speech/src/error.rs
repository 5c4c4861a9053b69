//! Every error that a client can see: one code, one status, one place.

use std::fmt;
use std::time::Duration;

use chatterbox_audio::EncodeError;
use chatterbox_engine::messages::{Failed, FailureCode};
use chatterbox_voices::VoiceError;

/// The `code` of an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// `text` is absent or has nothing in it.
    MissingText,
    /// `text` is longer than `MAX_TEXT_LENGTH` characters.
    TextTooLong,
    /// A field has a value that is not allowed.
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
    /// Another voice has this id.
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
    /// The queue is full.
    QueueFull,
    /// The server is shutting down.
    Draining,
    /// The socket has `MAX_SAYS_PER_CONNECTION` requests running.
    TooManyRequests,
    /// No key, or not one of the configured.
    Unauthorized,
    /// The page's origin is not one of `CORS_ORIGINS`.
    ForbiddenOrigin,
    /// The range that was asked for begins behind the end of the file.
    RangeNotSatisfiable,
    /// The name in `Host` is not one of `ALLOWED_HOSTS`.
    UnknownHost,
    /// The body is of a kind that the route does not read.
    UnsupportedMediaType,
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
    const fn parts(self) -> (u16, &'static str) {
        match self {
            Self::MissingText => (422, "MISSING_TEXT"),
            Self::TextTooLong => (400, "TEXT_TOO_LONG"),
            Self::InvalidParameter => (422, "INVALID_PARAMETER"),
            Self::InvalidJson => (400, "INVALID_JSON"),
            Self::BadRequest => (400, "BAD_REQUEST"),
            Self::ModelNotLoaded => (404, "MODEL_NOT_LOADED"),
            Self::CannotClone => (422, "CANNOT_CLONE"),
            Self::VoiceNotFound => (404, "VOICE_NOT_FOUND"),
            Self::VoiceExists => (409, "VOICE_EXISTS"),
            Self::VoiceReadOnly => (403, "VOICE_READ_ONLY"),
            Self::NoFile => (400, "NO_FILE"),
            Self::UnsupportedAudio => (415, "UNSUPPORTED_AUDIO"),
            Self::FileTooLarge => (413, "FILE_TOO_LARGE"),
            Self::BodyTooLarge => (413, "BODY_TOO_LARGE"),
            Self::ServerBusy | Self::QueueFull => (503, "SERVER_BUSY"),
            Self::Draining => (503, "DRAINING"),
            Self::TooManyRequests => (429, "TOO_MANY_REQUESTS"),
            Self::Unauthorized => (401, "UNAUTHORIZED"),
            Self::ForbiddenOrigin => (403, "FORBIDDEN_ORIGIN"),
            Self::RangeNotSatisfiable => (416, "RANGE_NOT_SATISFIABLE"),
            Self::UnknownHost => (421, "UNKNOWN_HOST"),
            Self::UnsupportedMediaType => (415, "UNSUPPORTED_MEDIA_TYPE"),
            Self::StorageFull => (507, "STORAGE_FULL"),
            Self::NotFound => (404, "NOT_FOUND"),
            Self::MethodNotAllowed => (405, "METHOD_NOT_ALLOWED"),
            Self::GenerationError => (500, "GENERATION_ERROR"),
            Self::Timeout => (504, "TIMEOUT"),
            Self::SlowBody => (408, "SLOW_BODY"),
            Self::Stalled => (408, "STALLED"),
            Self::ParseError => (400, "PARSE_ERROR"),
            Self::UnknownType => (400, "UNKNOWN_TYPE"),
            Self::MissingVoicePath => (422, "MISSING_VOICE_PATH"),
        }
    }

    pub const fn status(self) -> u16 {
        self.parts().0
    }

    pub const fn as_str(self) -> &'static str {
        self.parts().1
    }
}

/// An error on its way to a client. Each dialect writes it in its own shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub code: Code,
    /// The field that is wrong, as the client called it, where it is one.
    pub field: Option<String>,
    /// A sentence for a person, or what is wrong with the field. Never holds a path of the server or a key.
    pub message: String,
    /// Seconds after which asking again may help.
    pub retry_after: Option<u64>,
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            field: None,
            message: message.into(),
            retry_after: None,
        }
    }

    /// A field with a value that is not allowed.
    pub fn parameter(field: &str, problem: impl fmt::Display) -> Self {
        Self::new(Code::InvalidParameter, problem.to_string()).in_field(field)
    }

    /// The same error, of a field.
    #[must_use]
    pub fn in_field(mut self, field: &str) -> Self {
        self.field = Some(field.to_owned());
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The listener has taken nothing for `STALL_TIMEOUT`.
    pub fn stalled(stall_timeout: Duration) -> Self {
        let seconds = stall_timeout.as_secs_f64();
        Self::new(
            Code::Stalled,
            format!("The audio was not read for {seconds} s."),
        )
    }

    /// The engine died: the process is about to be restarted.
    pub fn engine_gone() -> Self {
        Self::new(
            Code::ServerBusy,
            "The engine stopped; the server is about to restart. Try again.",
        )
        .retry_after(5)
    }

    /// There is nothing in the text that can be spoken.
    pub fn nothing_to_say() -> Self {
        Self::new(Code::MissingText, "there is nothing to say").in_field("text")
    }

    /// The text is longer than it may be.
    pub fn too_long(length: usize, most: usize) -> Self {
        let message = format!("{length} characters; at most {most} are taken");
        Self::new(Code::TextTooLong, message).in_field("text")
    }
}

/// An utterance that the engine refused or gave up.
impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        let (code, retry_after) = match failed.code {
            FailureCode::NothingToSay => (Code::MissingText, None),
            FailureCode::InvalidParameter | FailureCode::UnsupportedAudio => {
                (Code::InvalidParameter, None)
            }
            FailureCode::CannotClone => (Code::CannotClone, None),
            FailureCode::OutOfMemory => (Code::ServerBusy, Some(1)),
            FailureCode::VoiceNotEnrolled | FailureCode::GenerationError => {
                (Code::GenerationError, None)
            }
        };
        Self {
            code,
            field: failed.field,
            message: failed.message,
            retry_after,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(text, "{field}: {}", self.message),
            None => text.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        tracing::error!(%error, "the audio could not be encoded");
        Self::new(Code::GenerationError, "The audio could not be encoded.")
    }
}

impl From<VoiceError> for Error {
    fn from(error: VoiceError) -> Self {
        let code = match &error {
            VoiceError::NotFound => Code::VoiceNotFound,
            VoiceError::NoClip => Code::NotFound,
            VoiceError::Exists => Code::VoiceExists,
            VoiceError::ReadOnly => Code::VoiceReadOnly,
            VoiceError::BadName
            | VoiceError::TooShort { .. }
            | VoiceError::Silent
            | VoiceError::LateVoice { .. }
            | VoiceError::Ambiguous(_) => Code::InvalidParameter,
            VoiceError::Unsupported(_) => Code::UnsupportedAudio,
            VoiceError::TooLarge => Code::FileTooLarge,
            VoiceError::StorageFull => Code::StorageFull,
            VoiceError::Io(cause) => {
                tracing::error!(%cause, "the voices folder failed");
                return Self::new(
                    Code::GenerationError,
                    "The voices folder could not be read or written.",
                );
            }
        };
        Self::new(code, error.to_string())
    }
}
