//! Recordings in which speakers consent to the use of their voices, kept in a folder of their own beside the voices.
//!
//! A consent is two files: the recording, and a description that is written after it and removed before it. Only the
//! description makes it count, so a recording without one is what a crash has left, and is swept.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{VoiceError, VoiceStore, files, id};
use chatterbox_audio::decode;

/// The folder's name in the voices' own. It cannot be a voice's.
const FOLDER: &str = ".consents";
const PREFIX: &str = "cons_";
const SUFFIX: &str = ".json";
/// Hexadecimal digits after the prefix.
const DIGITS: usize = 32;
/// Larger than any description that is written.
const MAX_BYTES: u64 = 64 * 1024;

/// A speaker's consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    pub id: String,
    /// The consent's name.
    pub name: String,
    /// Language tag of what is said in the recording, in lower case.
    pub language: String,
    /// When it was stored, in seconds since 1970.
    pub created_at: u64,
    /// File name of the recording.
    recording: String,
}

/// The consents of a store.
#[derive(Debug)]
pub struct Consents<'s> {
    store: &'s VoiceStore,
    folder: PathBuf,
}

impl<'s> Consents<'s> {
    pub(super) fn new(store: &'s VoiceStore) -> Self {
        Self {
            folder: store.folder.join(FOLDER),
            store,
        }
    }

    /// Whether a text is the id of a consent rather than its words.
    pub fn is_id(text: &str) -> bool {
        let digits = text.strip_prefix(PREFIX).unwrap_or_default();
        digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    }

    /// Stores a recording, whole and durably or not at all.
    ///
    /// # Errors
    ///
    /// As [`VoiceStore::save`] about the file and the disk.
    pub fn add(
        &self,
        name: String,
        language: String,
        file_name: &str,
        recording: &[u8],
    ) -> Result<Consent, VoiceError> {
        id::check_kind(file_name)?;
        self.store.check_size(recording)?;
        self.store.check_clip(recording)?;
        let id = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let consent = Consent {
            recording: format!("{id}.{}", decode::extension(recording)),
            name,
            language,
            created_at: now.map_or(0, |since| since.as_secs()),
            id,
        };
        files::make_folder(&self.store.folder, &self.folder)?;
        files::write_whole(&self.folder, &consent.recording, recording, false)?;
        if let Err(error) = self.describe(&consent) {
            // The recording is not referenced any more; if it cannot be removed now, the next start does it.
            let _ = fs::remove_file(self.folder.join(&consent.recording));
            return Err(error);
        }
        Ok(consent)
    }

    /// All consents, the latest first.
    ///
    /// # Errors
    ///
    /// [`VoiceError::Io`] when the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Consent>, VoiceError> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let names = files::names(&self.folder)?;
        let ids = names.iter().filter_map(|name| name.strip_suffix(SUFFIX));
        let mut consents: Vec<Consent> = ids.filter_map(|id| self.get(id).ok()).collect();
        consents.sort_by(|a, b| (b.created_at, &a.id).cmp(&(a.created_at, &b.id)));
        Ok(consents)
    }

    /// The consent of an id.
    ///
    /// # Errors
    ///
    /// [`VoiceError::NotFound`], [`VoiceError::Io`].
    pub fn get(&self, id: &str) -> Result<Consent, VoiceError> {
        if !Self::is_id(id) {
            return Err(VoiceError::NotFound);
        }
        match files::read(&self.folder.join(format!("{id}{SUFFIX}")), MAX_BYTES) {
            Ok((_, bytes)) => {
                let consent: Consent =
                    serde_json::from_slice(&bytes).map_err(|error| VoiceError::Io(error.into()))?;
                // Of another id, it would lead to another's recording.
                Some(consent)
                    .filter(|consent| consent.id == id && belongs(&consent.recording, id))
                    .ok_or(VoiceError::NotFound)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(VoiceError::NotFound),
            Err(error) => Err(error.into()),
        }
    }

    /// Calls a consent something else.
    ///
    /// # Errors
    ///
    /// [`VoiceError::NotFound`], [`VoiceError::StorageFull`], [`VoiceError::Io`].
    pub fn rename(&self, id: &str, name: String) -> Result<Consent, VoiceError> {
        let _lock = self.store.write_lock();
        let consent = Consent {
            name,
            ..self.get(id)?
        };
        self.describe(&consent)?;
        Ok(consent)
    }

    /// Deletes a consent and its recording.
    ///
    /// # Errors
    ///
    /// [`VoiceError::NotFound`], [`VoiceError::Io`].
    pub fn delete(&self, id: &str) -> Result<Consent, VoiceError> {
        let _lock = self.store.write_lock();
        let consent = self.get(id)?;
        files::remove(&self.folder, &format!("{id}{SUFFIX}"))?;
        files::remove(&self.folder, &consent.recording)?;
        Ok(consent)
    }

    /// Removes what a crash has left: temporary files, and recordings that nothing describes.
    pub(super) fn sweep(&self) -> io::Result<()> {
        if !self.folder.is_dir() {
            return Ok(());
        }
        files::sweep(&self.folder)?;
        for name in files::names(&self.folder)? {
            let Some((id, _)) = name.split_once('.') else {
                continue;
            };
            let described = self.folder.join(format!("{id}{SUFFIX}")).exists();
            // A recording of this minute may be one that another server is about to describe.
            if Self::is_id(id) && !described && !files::is_fresh(&self.folder.join(&name)) {
                fs::remove_file(self.folder.join(&name))?;
            }
        }
        Ok(())
    }

    fn describe(&self, consent: &Consent) -> Result<(), VoiceError> {
        let bytes = serde_json::to_vec(consent).map_err(io::Error::from)?;
        let name = format!("{}{SUFFIX}", consent.id);
        files::write_whole(&self.folder, &name, &bytes, true)?;
        Ok(())
    }
}

/// Whether a file name is that of the recording of an id.
fn belongs(recording: &str, id: &str) -> bool {
    recording
        .strip_prefix(id)
        .is_some_and(|rest| rest.starts_with('.') && !rest.contains('/'))
}
