//! An index of the files, so that a listing reads only those that have changed.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedSender;

use super::files::{self, Stamp};
use super::{UploadLimits, Voice, id, portable};
use chatterbox_audio::decode::{self, Clip, DecodeError};

/// A cache of inspected files, by path. Broken files are remembered too, so each is read and warned about once.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Mutex<HashMap<PathBuf, Entry>>,
    /// Files that were skipped with a warning because of their names or of what they link to.
    warned: Mutex<HashSet<PathBuf>>,
    /// Receives the keys of contents that no file has any more.
    removals: OnceLock<UnboundedSender<String>>,
}

#[derive(Debug)]
struct Entry {
    stamp: Stamp,
    /// `None`: the file is no voice.
    voice: Option<Voice>,
}

impl Index {
    /// The voice in the file `id` of a folder, or `None` when it is not there or is no voice.
    pub(super) fn inspect(&self, folder: &Path, id: &str, limits: &UploadLimits) -> Option<Voice> {
        let path = folder.join(id);
        let Some(stamp) = files::stamp(&path) else {
            self.remove(&path);
            if path.is_symlink() {
                self.warn_once(
                    &path,
                    "it is a link that leads out of the folder, or nowhere",
                );
            }
            return None;
        };
        if let Some(entry) = self
            .entries()
            .get(&path)
            .filter(|entry| entry.stamp == stamp)
        {
            return entry.voice.clone();
        }
        // No lock is held here: reading and decoding take their time.
        let (stamp, examined) = match files::read(&path, limits.max_bytes) {
            Ok((stamp, bytes)) => (stamp, examine(&bytes, id, &path, stamp, limits)),
            Err(error) => (stamp, Err(Skipped::from(error))),
        };
        let voice = match examined {
            Ok(voice) => Some(voice),
            Err(skipped) => {
                let why = skipped.why;
                tracing::warn!(path = %path.display(), why, "skipping a file that is no voice");
                if !skipped.lasting {
                    return None;
                }
                None
            }
        };
        self.insert(path, stamp, voice.clone());
        voice
    }

    /// Says, once for each file, why it is no voice.
    pub(super) fn warn_once(&self, path: &Path, why: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.insert(path.to_owned()) {
            tracing::warn!(path = %path.display(), why, "skipping a file that is no voice");
        }
    }

    /// Remembers what is known of a file.
    pub(super) fn insert(&self, path: PathBuf, stamp: Stamp, voice: Option<Voice>) {
        let mut entries = self.entries();
        let before = entries.insert(path, Entry { stamp, voice });
        self.send_removals(&entries, before);
    }

    /// Forgets a file that is not there.
    pub(super) fn remove(&self, path: &Path) {
        let mut entries = self.entries();
        let before = entries.remove(path);
        self.send_removals(&entries, before);
    }

    /// Sets the receiver of the keys of contents that no file has any more; the first one stays.
    pub(super) fn send_removals_to(&self, listener: UnboundedSender<String>) {
        // A second listener would be one of another server in the same process.
        let _ = self.removals.set(listener);
    }

    /// Whether a file had this content when it was last looked at.
    pub(super) fn has_key(&self, key: &str) -> bool {
        has_key(&self.entries(), key)
    }

    fn send_removals(
        &self,
        entries: &HashMap<PathBuf, Entry>,
        before: impl IntoIterator<Item = Entry>,
    ) {
        let keys = before
            .into_iter()
            .filter_map(|entry| Some(entry.voice?.key));
        for key in keys.filter(|key| !has_key(entries, key)) {
            if let Some(listener) = self.removals.get() {
                // The receiver is dropped when the server ends.
                let _ = listener.send(key);
            }
        }
    }

    /// The files that had this content when they were last looked at, sorted.
    pub(super) fn with_key(&self, key: &str) -> Vec<PathBuf> {
        let entries = self.entries();
        let matching = entries
            .iter()
            .filter(|(_, entry)| entry.voice.as_ref().is_some_and(|v| v.key == key));
        let mut paths: Vec<PathBuf> = matching.map(|(path, _)| path.clone()).collect();
        paths.sort_unstable();
        paths
    }

    /// Forgets every file but these.
    pub(super) fn retain(&self, paths: &HashSet<PathBuf>) {
        let mut entries = self.entries();
        let removed: Vec<Entry> = entries
            .extract_if(|path, _| !paths.contains(path))
            .map(|(_, entry)| entry)
            .collect();
        self.send_removals(&entries, removed);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<PathBuf, Entry>> {
        // The map is whole after every single operation on it, so a panic elsewhere does not taint it.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a file is not taken for a voice.
struct Skipped {
    why: String,
    /// Whether that is so until the file changes, rather than a trouble of this moment.
    lasting: bool,
}

impl From<io::Error> for Skipped {
    fn from(error: io::Error) -> Self {
        Self {
            lasting: error.kind() == io::ErrorKind::FileTooLarge,
            why: error.to_string(),
        }
    }
}

impl From<DecodeError> for Skipped {
    fn from(error: DecodeError) -> Self {
        Self {
            lasting: error != DecodeError::TimedOut,
            why: error.to_string(),
        }
    }
}

/// The SHA-256 of a file's content in lower-case hexadecimal.
pub(super) fn content_key(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Decodes a clip within the limits of uploads.
pub(super) fn decode_clip(bytes: &[u8], limits: &UploadLimits) -> Result<Clip, DecodeError> {
    decode::decode(bytes, &limits.decode)
}

fn has_key(entries: &HashMap<PathBuf, Entry>, key: &str) -> bool {
    let mut voices = entries.values().filter_map(|entry| entry.voice.as_ref());
    voices.any(|voice| voice.key == key)
}

fn examine(
    bytes: &[u8],
    id: &str,
    path: &Path,
    stamp: Stamp,
    limits: &UploadLimits,
) -> Result<Voice, Skipped> {
    let (duration_seconds, sample_rate) = if id::is_portable(id) {
        let seconds = portable::duration_seconds(bytes).ok_or_else(|| Skipped {
            why: portable::NONE.to_owned(),
            lasting: true,
        })?;
        (seconds, portable::SAMPLE_RATE)
    } else {
        let clip = decode_clip(bytes, limits)?;
        (clip.duration_seconds(), clip.sample_rate)
    };
    Ok(Voice {
        id: id.to_owned(),
        key: content_key(bytes),
        path: path.to_owned(),
        duration_seconds,
        sample_rate,
        created_at: stamp.modified(),
    })
}
