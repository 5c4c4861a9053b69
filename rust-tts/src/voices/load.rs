//! The clips of voices.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Voice, VoiceError, VoiceStore, files, id, index};
use crate::audio::decode::Clip;

/// How often [`VoiceStore::resolve`] looks again when a voice is replaced under its hands.
const RESOLVE_ATTEMPTS: u32 = 3;

impl VoiceStore {
    /// Reads and decodes the clip of a voice that was found before.
    ///
    /// # Errors
    ///
    /// [`VoiceError::NotFound`] when no file has that content any more, as after an upload over it: the clip of one
    /// voice is never returned for another. [`Self::resolve`] does not run into that.
    pub fn load(&self, voice: &Voice) -> Result<Arc<Clip>, VoiceError> {
        if !id::is_id(&voice.id) {
            return Err(VoiceError::NotFound);
        }
        for folder in self.folders() {
            if let Some(clip) = self.load_file(folder, &voice.id, &voice.key)? {
                return Ok(clip);
            }
        }
        // Renamed by hand, perhaps.
        let moved = self.find_content(&voice.key)?.ok_or(VoiceError::NotFound)?;
        let folder = moved.path.parent().ok_or(VoiceError::NotFound)?;
        self.load_file(folder, &moved.id, &voice.key)?
            .ok_or(VoiceError::NotFound)
    }

    /// Finds a voice as [`Self::find`] does, with its clip. Both are of the same content, also while it is replaced.
    ///
    /// # Errors
    ///
    /// As [`Self::find`].
    pub fn resolve(&self, reference: &str) -> Result<(Voice, Arc<Clip>), VoiceError> {
        let mut attempts = 1..=RESOLVE_ATTEMPTS;
        loop {
            let voice = self.find(reference)?;
            match self.load(&voice) {
                Err(VoiceError::NotFound) if attempts.next().is_some() => {}
                loaded => return loaded.map(|clip| (voice, clip)),
            }
        }
    }

    /// The clip in a file, if the file is there and has this content.
    fn load_file(
        &self,
        folder: &Path,
        id: &str,
        key: &str,
    ) -> Result<Option<Arc<Clip>>, VoiceError> {
        let path = folder.join(id);
        if files::stamp(&path).is_none() {
            return Ok(None);
        }
        match files::read(&path, self.limits.max_bytes) {
            Ok((_, bytes)) if index::content_key(&bytes) == key => {
                Ok(Some(Arc::new(index::decode_clip(&bytes, &self.limits)?)))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(VoiceError::Io(error)),
        }
    }
}
