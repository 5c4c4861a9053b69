//! The default voice: a file beside the voices that holds an id.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{files, id};

/// Begins with a dot, so it can never be the id of a voice.
const FILE_NAME: &str = ".default";

/// An id and a line break fit well.
const MAX_BYTES: u64 = 256;

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

    /// The stored id; `None` when nothing is stored, or nothing that is an id.
    pub(super) fn read(&self) -> Option<String> {
        match files::read(&self.folder.join(FILE_NAME), MAX_BYTES) {
            Ok((_, bytes)) => {
                let stored = String::from_utf8(bytes).ok()?;
                Some(stored.trim_end().to_owned()).filter(|name| id::is_id(name))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, "the default voice could not be read");
                None
            }
        }
    }

    /// Stores an id, durably and at once.
    pub(super) fn write(&self, id: &str) -> io::Result<()> {
        files::write_whole(&self.folder, FILE_NAME, format!("{id}\n").as_bytes(), true).map(|_| ())
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
