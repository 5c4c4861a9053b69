//! Errors of the voice store.

use std::io;

use chatterbox_audio::decode::DecodeError;

/// Why an operation on the voices failed. The texts are for the user; none repeats a path or a name that a client sent.
#[derive(Debug, thiserror::Error)]
pub enum VoiceError {
    /// No voice answers to the reference, or the reference is not one.
    #[error("The voice was not found.")]
    NotFound,
    /// The file name of an upload cannot be the id of a voice.
    #[error(
        "The file name must begin with a letter or a digit, hold only letters, digits, spaces and \"._-\", \
         no \"..\", and be at most 128 characters long."
    )]
    BadName,
    /// A voice of this id is there, and it was not to be overwritten.
    #[error(
        "Another voice has this id already: choose another file name, or send `overwrite=true` to replace it."
    )]
    Exists,
    /// The voice lies in the preloaded folder.
    #[error("This voice is preloaded and cannot be changed.")]
    ReadOnly,
    /// A display name that several voices have; their ids.
    #[error("Several voices have this name: {}; use an id.", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// Nothing can be heard in as much of the clip as models listen to.
    #[error(
        "The voice begins after {begins:.0} s of silence, and models listen to the first {listened:.0} s: cut the \
         silence off."
    )]
    LateVoice {
        /// Seconds of silence at the start.
        begins: f64,
        /// Seconds that models listen to.
        listened: f64,
    },
    /// The clip is too short to take a voice from.
    #[error("The audio is {found:.2} s long; at least {min:.2} s are needed.")]
    TooShort {
        /// Length of the clip in seconds.
        found: f64,
        /// What [`super::UploadLimits::min_seconds`] asks for.
        min: f64,
    },
    /// Nothing can be heard in the clip.
    #[error("The audio is silent.")]
    Silent,
    /// The voice was converted from a model file.
    #[error("This voice has no clip that could be heard.")]
    NoClip,
    /// Not a kind of file that can be a voice, or not within the limits of the decoder; the text says why.
    #[error("{0}")]
    Unsupported(String),
    /// More bytes than [`super::UploadLimits::max_bytes`].
    #[error("The file is larger than allowed.")]
    TooLarge,
    /// The disk or the quota is full.
    #[error("There is no space left to store the voice.")]
    StorageFull,
    /// The folder could not be read or written; the cause is for the log.
    #[error("The voices could not be read or written.")]
    Io(#[source] io::Error),
}

impl From<io::Error> for VoiceError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::StorageFull,
            _ => Self::Io(error),
        }
    }
}

impl From<DecodeError> for VoiceError {
    fn from(error: DecodeError) -> Self {
        Self::Unsupported(error.to_string())
    }
}
