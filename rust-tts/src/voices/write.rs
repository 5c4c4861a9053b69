//! Storing and deleting voices.

use std::fs;
use std::io;
use std::path::Path;

use super::{Voice, VoiceError, VoiceStore, files, id, index};

/// A clip whose loudest sample is below this, -60 dB of full scale, has no voice in it.
const SILENCE_PEAK: f32 = 0.001;

impl VoiceStore {
    /// Stores an upload under the last part of its file name. The clip is decoded first; then the file is there whole
    /// and durable, or not at all.
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
        overwrite: bool,
    ) -> Result<Voice, VoiceError> {
        let id = id::for_upload(file_name)?;
        if bytes.len() as u64 > self.limits.max_bytes {
            return Err(VoiceError::TooLarge);
        }
        let path = self.folder.join(id);
        self.check_free(id, &path, overwrite)?;
        let clip = index::decode_clip(bytes, &self.limits)?;
        let found = clip.duration_seconds();
        if found < self.limits.min_seconds {
            return Err(VoiceError::TooShort {
                found,
                min: self.limits.min_seconds,
            });
        }
        if clip
            .samples
            .iter()
            .all(|sample| sample.abs() < SILENCE_PEAK)
        {
            return Err(VoiceError::Silent);
        }
        let stamp =
            files::write_whole(&self.folder, id, bytes, overwrite).map_err(|error| match error
                .kind()
            {
                io::ErrorKind::AlreadyExists => VoiceError::Exists,
                _ => error.into(),
            })?;
        let voice = Voice {
            id: id.to_owned(),
            key: index::content_key(bytes),
            path: path.clone(),
            duration_seconds: found,
        };
        self.index.insert(path, stamp, Some(voice.clone()));
        Ok(voice)
    }

    /// Deletes a voice, found as by [`Self::find`]. If it is the default, there is none afterwards.
    ///
    /// # Errors
    ///
    /// [`VoiceError::NotFound`], [`VoiceError::ReadOnly`] for a preloaded voice, [`VoiceError::Io`].
    pub fn delete(&self, reference: &str) -> Result<Voice, VoiceError> {
        let voice = self.find(reference)?;
        if voice.path.parent() != Some(self.folder.as_path()) {
            return Err(VoiceError::ReadOnly);
        }
        files::remove(&self.folder, &voice.id).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => VoiceError::NotFound,
            _ => error.into(),
        })?;
        if self.default.read().as_deref() == Some(voice.id.as_str()) {
            self.default.clear()?;
        }
        Ok(voice)
    }

    /// Whether an upload may take an id; asked before the costly decoding, and once more by the file system.
    fn check_free(&self, id: &str, path: &Path, overwrite: bool) -> Result<(), VoiceError> {
        match fs::symlink_metadata(path) {
            // What is neither a voice nor free, such as a folder, is not replaced.
            Ok(metadata) if !overwrite || !metadata.is_file() => Err(VoiceError::Exists),
            Ok(_) => Ok(()),
            Err(_) if self.inspect(id).is_none() => Ok(()),
            Err(_) if overwrite => Err(VoiceError::ReadOnly),
            Err(_) => Err(VoiceError::Exists),
        }
    }
}
