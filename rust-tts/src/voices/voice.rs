//! What is told of a voice.

use std::path::PathBuf;

use serde::Serialize;

use super::id;
use crate::audio::decode::Limits;

/// What a voice file may cost.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Largest file in bytes.
    pub max_bytes: u64,
    /// Shortest clip in seconds.
    pub min_seconds: f64,
    /// Limits of decoding.
    pub decode: Limits,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self {
            max_bytes: 50 * 1024 * 1024,
            min_seconds: 1.0,
            decode: Limits::default(),
        }
    }
}

/// A voice as it was when it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Voice {
    /// The file name.
    pub id: String,
    /// SHA-256 of the file's content in lower-case hexadecimal: changes whenever the content does.
    pub key: String,
    /// Where the file lies.
    pub path: PathBuf,
    /// Length of the clip in seconds.
    pub duration_seconds: f64,
}

/// A voice as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VoiceInfo {
    /// The id without its extension.
    pub name: String,
    /// The file name.
    pub id: String,
    /// The folder as it was configured, and the id.
    pub path: String,
    /// Length of the clip in seconds.
    pub duration_seconds: f64,
}

impl From<Voice> for VoiceInfo {
    fn from(voice: Voice) -> Self {
        Self {
            name: id::stem(&voice.id).to_owned(),
            path: voice.path.display().to_string(),
            id: voice.id,
            duration_seconds: voice.duration_seconds,
        }
    }
}
