//! Why audio cannot be encoded.

use std::fmt;

/// An encoder failed. The answer is incomplete from here on: nothing that it returns afterwards is worth sending.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{encoder}: {cause}")]
pub struct EncodeError {
    encoder: &'static str,
    cause: String,
}

impl EncodeError {
    /// `encoder` names the codec or the container that failed, `cause` says why.
    pub(crate) fn new(encoder: &'static str, cause: impl fmt::Display) -> Self {
        Self {
            encoder,
            cause: cause.to_string(),
        }
    }
}
