//! Why a clip cannot be decoded.

use std::io;

use symphonia::core::errors::Error as MediaError;

/// Why a clip was refused. The text of each is a sentence for the user.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The content is none of the known containers.
    #[error("The file is not audio of a known kind; send WAV, MP3, FLAC, Ogg, WebM or M4A.")]
    NotAudio,
    /// The kind of file is known, and it is not decoded.
    #[error(
        "The audio in this file is of a kind that is not supported ({0}); convert it to WAV, FLAC or MP3."
    )]
    UnsupportedCodec(String),
    /// Longer than [`super::Limits::max_seconds`] or [`super::Limits::max_samples`].
    #[error("The audio is longer than the {0:.0} seconds that are allowed.")]
    TooLong(f64),
    /// More channels than [`super::Limits::max_channels`].
    #[error("The audio has {found} channels; at most {max} are allowed.")]
    TooManyChannels {
        /// Channels in the file.
        found: usize,
        /// [`super::Limits::max_channels`].
        max: u16,
    },
    /// A sample rate outside [`super::Limits::min_rate`] and [`super::Limits::max_rate`].
    #[error("The audio has a sample rate of {found} Hz; {min} to {max} Hz are allowed.")]
    BadRate {
        /// Rate in the file in Hz.
        found: u32,
        /// [`super::Limits::min_rate`].
        min: u32,
        /// [`super::Limits::max_rate`].
        max: u32,
    },
    /// Not decoded within [`super::Limits::deadline`].
    #[error("The audio took too long to decode.")]
    TimedOut,
    /// The container or the stream is damaged, or holds no audio.
    #[error("The audio file is damaged ({0}).")]
    Corrupt(String),
}

impl From<MediaError> for DecodeError {
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::IoError(cause) if cause.kind() == io::ErrorKind::TimedOut => Self::TimedOut,
            MediaError::IoError(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Corrupt("it ends too early".to_owned())
            }
            MediaError::Unsupported(what) => Self::UnsupportedCodec(what.to_owned()),
            other => Self::Corrupt(other.to_string()),
        }
    }
}
