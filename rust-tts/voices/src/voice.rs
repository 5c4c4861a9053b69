//! A voice, as it is found in the folder and as it is listed.

use std::path::PathBuf;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Details, id};
use chatterbox_audio::decode::Limits;

/// Limits of a voice file.
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
    /// The clip's own rate in Hz.
    pub sample_rate: u32,
    /// When the clip was stored, in seconds since 1970.
    pub created_at: u64,
}

impl Voice {
    /// Whether it was stored under its content's hash.
    pub fn is_named_after_content(&self) -> bool {
        id::stem(&self.id) == self.key
    }
}

/// A voice as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct VoiceInfo {
    /// The name that was given to it, or the id without its extension.
    pub name: String,
    /// The file name.
    pub id: String,
    /// The folder as it was configured, and the id.
    pub path: String,
    /// Length of the clip in seconds.
    pub duration_seconds: f64,
    /// The clip's own rate in Hz.
    pub sample_rate: u32,
    /// When the clip was stored, in seconds since 1970.
    pub created_at: u64,
    /// SHA-256 of the file's content, in hexadecimal.
    pub hash: String,
    /// Language tag of the clip.
    pub language: Option<String>,
    /// The speaker's consent: its words, or the id of a recording.
    pub consent: Option<String>,
    /// Where the voice came from; unknown for a file that was put into the folder by hand.
    pub source: Option<String>,
    /// Whether it lies in the folder that is only read.
    pub preloaded: bool,
}

impl VoiceInfo {
    pub(super) fn new(voice: Voice, details: Details, preloaded: bool) -> Self {
        let of_file = || id::stem(&voice.id).to_owned();
        Self {
            name: details.name.unwrap_or_else(of_file),
            path: voice.path.display().to_string(),
            id: voice.id,
            duration_seconds: voice.duration_seconds,
            sample_rate: voice.sample_rate,
            created_at: voice.created_at,
            hash: voice.key,
            language: details.language,
            consent: details.consent,
            source: details.source,
            preloaded,
        }
    }
}

/// Which voices are listed. All that is named must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those of this language: `pt` finds `pt-br` as well.
    pub language: Option<String>,
    /// Only those whose name or id has this in it, in whatever case.
    pub search: Option<String>,
}

impl Filter {
    pub(super) fn holds(&self, voice: &VoiceInfo) -> bool {
        let language = self.language.as_deref().is_none_or(|wanted| {
            let wanted = wanted.to_lowercase();
            let rest = voice
                .language
                .as_deref()
                .and_then(|language| language.strip_prefix(wanted.as_str()));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        });
        let search = self.search.as_deref().is_none_or(|wanted| {
            let wanted = wanted.to_lowercase();
            [&voice.name, &voice.id]
                .iter()
                .any(|text| text.to_lowercase().contains(&wanted))
        });
        language && search
    }
}
