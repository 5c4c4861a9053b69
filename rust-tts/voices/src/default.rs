//! The default voice: a file beside the voices that holds an id, or, while a voice is renamed, its two ids.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{files, id};

/// Begins with a dot, so it can never be the id of a voice.
const FILE_NAME: &str = ".default";

/// Two ids and their line breaks fit well.
const MAX_BYTES: u64 = 512;

/// The stored choice of a default voice.
#[derive(Debug)]
pub(super) struct DefaultFile {
    folder: PathBuf,
    /// The id whose absence was warned of last, so that not every request does.
    missed: Mutex<Option<String>>,
}

impl DefaultFile {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            missed: Mutex::default(),
        }
    }

    /// Whether anything is stored: one look at the folder's entry.
    pub(super) fn is_set(&self) -> bool {
        self.folder.join(FILE_NAME).exists()
    }

    /// The stored ids, of which the first that is there counts; none when nothing is stored, or nothing that is an id.
    pub(super) fn read(&self) -> Vec<String> {
        match files::read(&self.folder.join(FILE_NAME), MAX_BYTES) {
            Ok((_, bytes)) => {
                let stored = String::from_utf8(bytes).unwrap_or_default();
                let ids = stored.lines().filter(|name| id::is_id(name));
                ids.map(str::to_owned).collect()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "the default voice could not be read");
                Vec::new()
            }
        }
    }

    /// Stores ids, durably and at once.
    pub(super) fn write(&self, ids: &[&str]) -> io::Result<()> {
        let text = format!("{}\n", ids.join("\n"));
        files::write_whole(&self.folder, FILE_NAME, text.as_bytes(), true).map(|_| ())
    }

    /// Forgets the stored id, if there is one.
    pub(super) fn clear(&self) -> io::Result<()> {
        match files::remove(&self.folder, FILE_NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Warns, once, that the voice of a stored id is gone.
    pub(super) fn warn_missing(&self, id: &str) {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        if missed.as_deref() != Some(id) {
            tracing::warn!(
                id,
                "the file of the default voice is gone; there is no default voice now"
            );
            *missed = Some(id.to_owned());
        }
    }
}
