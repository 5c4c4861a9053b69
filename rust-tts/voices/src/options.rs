//! Options of the voices.

use std::path::{Path, PathBuf};

use chatterbox_settings::text;
use clap::{Args, ValueEnum};

use crate::{PREPARED, UploadLimits, VoiceStore};

/// Where voices lie, shared by every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Voices")]
pub struct VoiceOptions {
    /// Directory of voice files (wav, mp3, flac, ogg, opus, webm, m4a); made if it is missing
    #[arg(long, env = "VOICES_DIR", default_value = "./voices")]
    pub voices_dir: PathBuf,

    /// Directory of voices that are offered but never changed
    #[arg(long, env = "PRELOADED_VOICES_DIR", value_parser = text)]
    pub preloaded_voices_dir: Option<String>,

    /// Voice file used by requests that name none, until one is set over the API
    #[arg(long, env = "DEFAULT_VOICE", value_parser = text)]
    pub default_voice: Option<String>,

    /// Largest voice file in bytes
    #[arg(long, env = "MAX_VOICE_FILE_SIZE", default_value_t = 50 * 1024 * 1024)]
    pub max_voice_file_size: usize,

    /// `eager`: voices are prepared at start and after an upload; `lazy`: by the first request that uses them
    #[arg(long, env = "VOICE_CACHE", default_value = "eager")]
    pub voice_cache: VoiceCache,
}

impl VoiceOptions {
    /// Opens the voices folder.
    pub fn open(&self) -> std::io::Result<VoiceStore> {
        let limits = UploadLimits {
            max_bytes: self.max_voice_file_size as u64,
            ..Default::default()
        };
        VoiceStore::open(
            &self.voices_dir,
            self.preloaded_voices_dir.as_deref().map(Path::new),
            limits,
        )
    }

    /// Where what was computed of voices is kept across restarts.
    pub fn prepared_dir(&self) -> PathBuf {
        self.voices_dir.join(PREPARED)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VoiceCache {
    Eager,
    Lazy,
}
