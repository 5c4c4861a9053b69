//! Storing and deleting voices.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};

use super::{Details, Voice, VoiceError, VoiceStore, details, files, id, index, portable};
use chatterbox_audio::decode::{self, Clip};

/// A clip whose loudest sample is below this, -60 dB of full scale, has no voice in it.
const SILENCE_PEAK: f32 = 0.001;
/// Length of the part of a clip that models use, in seconds.
const LISTENED_SECONDS: f64 = 10.0;

/// Whether an upload may replace a voice that has its id already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing.
    Keep,
    /// Add to what is said of it, if the content is the same. Another clip gets an id of its display name, if it has
    /// one, in place of that of the file.
    Extend,
    /// Take its place.
    Replace,
}

impl VoiceStore {
    /// Stores an upload under the last part of its file name. The clip is decoded first; then the file and what is
    /// said of it are there whole and durable, or not at all.
    ///
    /// # Errors
    ///
    /// [`VoiceError::BadName`], [`VoiceError::TooLarge`], [`VoiceError::Unsupported`], [`VoiceError::TooShort`] and
    /// [`VoiceError::Silent`] about the file, [`VoiceError::Exists`] and [`VoiceError::ReadOnly`] about a voice that
    /// is there, [`VoiceError::StorageFull`] and [`VoiceError::Io`] about the disk.
    pub fn save(
        &self,
        file_name: &str,
        bytes: &[u8],
        existing: Existing,
        details: &Details,
    ) -> Result<Voice, VoiceError> {
        let usual = decode::extension(bytes);
        let id = id::for_upload(file_name, usual)?;
        self.check_size(bytes)?;
        let overwrite = existing == Existing::Replace;
        if existing != Existing::Extend {
            self.check_free(&id, overwrite)?;
        }
        let clip = self.check_voice(bytes)?;
        let key = index::content_key(bytes);
        let _lock = self.write_lock();
        if existing != Existing::Extend {
            self.check_free(&id, overwrite)?;
            return self.store(&id, bytes, sound(&clip), overwrite, details);
        }
        let named = details.name.as_deref();
        let named = named.and_then(|name| id::of_name(name, usual));
        for id in std::iter::once(&id).chain(&named) {
            match self.check_free(id, false) {
                Ok(()) => return self.store(id, bytes, sound(&clip), false, details),
                Err(VoiceError::Exists) => {}
                Err(error) => return Err(error),
            }
            let there = self.index.inspect(&self.folder, id, &self.limits);
            if let Some(same) = there.filter(|voice| voice.key == key) {
                let merged = details.clone().or(details::read(&same));
                details::write(&self.folder, &same.id, &key, &merged)?;
                return Ok(same);
            }
        }
        // A voice of the other folder cannot be replaced on demand either.
        let is_own = fs::symlink_metadata(self.folder.join(&id)).is_ok();
        Err(if is_own {
            VoiceError::Exists
        } else {
            VoiceError::ReadOnly
        })
    }

    /// Stores an upload under an id that follows from its content, unless a voice has this content already. The file
    /// name only tells what the clip must not be.
    ///
    /// # Errors
    ///
    /// As [`Self::save`].
    pub fn register(
        &self,
        file_name: &str,
        bytes: &[u8],
        details: &Details,
    ) -> Result<Voice, VoiceError> {
        id::check_kind(file_name)?;
        self.check_size(bytes)?;
        let clip = self.check_voice(bytes)?;
        let key = index::content_key(bytes);
        let _lock = self.write_lock();
        match self.find_content(&key)? {
            Some(voice) => Ok(voice),
            None => self.store(&named(&key, bytes), bytes, sound(&clip), false, details),
        }
    }

    /// Stores an upload under an id that nothing else has.
    ///
    /// # Errors
    ///
    /// As [`Self::save`].
    pub fn create(
        &self,
        file_name: &str,
        bytes: &[u8],
        details: &Details,
    ) -> Result<Voice, VoiceError> {
        id::check_kind(file_name)?;
        self.check_size(bytes)?;
        let clip = self.check_voice(bytes)?;
        let stem = format!("voice_{}", uuid::Uuid::new_v4().simple());
        let _lock = self.write_lock();
        self.store(&named(&stem, bytes), bytes, sound(&clip), false, details)
    }

    /// Decodes a clip that is to be a voice without being stored, and cuts it to `longest` seconds; returns the hash of
    /// what is left as well.
    ///
    /// # Errors
    ///
    /// As [`Self::save`] about the file.
    pub fn examine(
        &self,
        file_name: &str,
        bytes: &[u8],
        longest: Option<f64>,
    ) -> Result<(String, Clip), VoiceError> {
        id::check_kind(file_name)?;
        self.check_size(bytes)?;
        let mut clip = self.check_voice(bytes)?;
        let mut key = index::content_key(bytes);
        if longest.is_some_and(|longest| clip.cut(longest)) {
            if is_silent(&clip.samples) {
                return Err(VoiceError::Silent);
            }
            // The voice of a part is not that of the whole.
            key = index::content_key(format!("{key} {}", clip.samples.len()).as_bytes());
        }
        Ok((key, clip))
    }

    /// Whether a voice without a clip may be called `stem`: asked before it is made.
    ///
    /// # Errors
    ///
    /// [`VoiceError::BadName`]; [`VoiceError::Exists`] and [`VoiceError::ReadOnly`] about a voice that is there.
    pub fn check_portable(&self, stem: &str, overwrite: bool) -> Result<(), VoiceError> {
        self.check_free(&id::portable(stem)?, overwrite)
    }

    /// Stores a voice without a clip, as the offline converter makes them, under the id that belongs to `stem`.
    ///
    /// # Errors
    ///
    /// As [`Self::save`].
    pub fn save_portable(
        &self,
        stem: &str,
        bytes: &[u8],
        overwrite: bool,
        details: &Details,
    ) -> Result<Voice, VoiceError> {
        let id = id::portable(stem)?;
        self.check_size(bytes)?;
        let seconds = portable::duration_seconds(bytes)
            .ok_or_else(|| VoiceError::Unsupported(portable::NONE.to_owned()))?;
        let _lock = self.write_lock();
        self.check_free(&id, overwrite)?;
        let sound = (seconds, portable::SAMPLE_RATE);
        self.store(&id, bytes, sound, overwrite, details)
    }

    /// Deletes a voice, found as by [`Self::find`]. If it is the default, there is none afterwards.
    ///
    /// # Errors
    ///
    /// [`VoiceError::NotFound`], [`VoiceError::ReadOnly`] for a preloaded voice, [`VoiceError::Io`].
    pub fn delete(&self, reference: &str) -> Result<Voice, VoiceError> {
        let _lock = self.write_lock();
        let voice = self.find_own(reference)?;
        let was_default = self.is_default(&voice);
        files::remove(&self.folder, &voice.id).map_err(not_found)?;
        details::keep_only(&self.folder, &voice.id, None);
        self.index.remove(&voice.path);
        if was_default && let Err(error) = self.default.clear() {
            // The voice has been removed all the same, and a removed default counts as none.
            tracing::warn!(%error, "the default voice could not be forgotten");
        }
        Ok(voice)
    }

    /// One writer at a time, so that a clip and what is said of it stay together.
    pub(super) fn write_lock(&self) -> MutexGuard<'_, ()> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a voice that is there is the default.
    pub(super) fn is_default(&self, voice: &Voice) -> bool {
        self.default_voice()
            .is_some_and(|default| default.id == voice.id)
    }

    /// Writes what is said of a voice, then the voice, of so many seconds at a rate in Hz.
    fn store(
        &self,
        id: &str,
        bytes: &[u8],
        (duration_seconds, sample_rate): (f64, u32),
        overwrite: bool,
        details: &Details,
    ) -> Result<Voice, VoiceError> {
        let path = self.folder.join(id);
        let key = index::content_key(bytes);
        let before = self.index.inspect(&self.folder, id, &self.limits);
        if !details.is_empty() {
            details::write(&self.folder, id, &key, details)?;
        }
        if let Some(same) = before.filter(|before| before.key == key && overwrite) {
            // Only what is said of it is another, and that has been written whole.
            return Ok(same);
        }
        let stamp = match files::write_whole(&self.folder, id, bytes, overwrite) {
            Ok(stamp) => stamp,
            Err(error) => {
                self.undo_details(id, &key);
                return Err(match error.kind() {
                    io::ErrorKind::AlreadyExists => VoiceError::Exists,
                    _ => error.into(),
                });
            }
        };
        details::keep_only(&self.folder, id, Some(&key));
        let voice = Voice {
            id: id.to_owned(),
            key,
            path: path.clone(),
            duration_seconds,
            sample_rate,
            created_at: stamp.modified(),
        };
        self.index.insert(path, stamp, Some(voice.clone()));
        Ok(voice)
    }

    /// Removes the details of a clip whose writing has failed, unless the clip is there all the same: what follows
    /// a rename can fail as well.
    pub(super) fn undo_details(&self, id: &str, key: &str) {
        if !self.holds(id, key) {
            details::remove(&self.folder, id, key);
        }
    }

    /// Whether the file of an id has this content.
    pub(super) fn holds(&self, id: &str, key: &str) -> bool {
        let there = self.index.inspect(&self.folder, id, &self.limits);
        there.is_some_and(|voice| voice.key == key)
    }

    /// A voice of the folder that can be written.
    pub(super) fn find_own(&self, reference: &str) -> Result<Voice, VoiceError> {
        let voice = self.find(reference)?;
        if self.is_preloaded(&voice) {
            return Err(VoiceError::ReadOnly);
        }
        Ok(voice)
    }

    pub(super) fn check_size(&self, bytes: &[u8]) -> Result<(), VoiceError> {
        if bytes.len() as u64 > self.limits.max_bytes {
            return Err(VoiceError::TooLarge);
        }
        Ok(())
    }

    /// Decodes a clip in which there must be something to be heard.
    pub(super) fn check_clip(&self, bytes: &[u8]) -> Result<Clip, VoiceError> {
        let clip = index::decode_clip(bytes, &self.limits)?;
        let found = clip.duration_seconds();
        if found < self.limits.min_seconds {
            return Err(VoiceError::TooShort {
                found,
                min: self.limits.min_seconds,
            });
        }
        if is_silent(&clip.samples) {
            return Err(VoiceError::Silent);
        }
        Ok(clip)
    }

    /// Decodes a clip whose voice models can hear.
    fn check_voice(&self, bytes: &[u8]) -> Result<Clip, VoiceError> {
        let clip = self.check_clip(bytes)?;
        let loud = |sample: &f32| sample.abs() >= SILENCE_PEAK;
        let first = clip.samples.iter().position(loud).unwrap_or_default();
        let begins = first as f64 / f64::from(clip.sample_rate);
        if begins >= LISTENED_SECONDS {
            return Err(VoiceError::LateVoice {
                begins,
                listened: LISTENED_SECONDS,
            });
        }
        Ok(clip)
    }

    /// Whether an upload may take an id; asked before the costly decoding, and once more by the file system.
    pub(super) fn check_free(&self, id: &str, overwrite: bool) -> Result<(), VoiceError> {
        match fs::symlink_metadata(self.folder.join(id)) {
            // Something that is not a voice, such as a folder, is not replaced.
            Ok(metadata) if !overwrite || !metadata.is_file() => Err(VoiceError::Exists),
            Ok(_) => Ok(()),
            Err(_) if self.inspect(id).is_none() => Ok(()),
            Err(_) if overwrite => Err(VoiceError::ReadOnly),
            Err(_) => Err(VoiceError::Exists),
        }
    }
}

/// Whether nothing can be heard.
pub(super) fn is_silent(samples: &[f32]) -> bool {
    samples.iter().all(|sample| sample.abs() < SILENCE_PEAK)
}

/// Length in seconds and rate in Hz.
fn sound(clip: &Clip) -> (f64, u32) {
    (clip.duration_seconds(), clip.sample_rate)
}

/// The id of a clip that is called `stem`: its content tells the extension.
fn named(stem: &str, bytes: &[u8]) -> String {
    format!("{stem}.{}", decode::extension(bytes))
}

pub(super) fn not_found(error: io::Error) -> VoiceError {
    match error.kind() {
        io::ErrorKind::NotFound => VoiceError::NotFound,
        _ => error.into(),
    }
}

/// Whether a path lies right in a folder.
pub(super) fn is_in(path: &Path, folder: &Path) -> bool {
    path.parent() == Some(folder)
}
