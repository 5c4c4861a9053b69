//! The clips of voices.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Voice, VoiceError, VoiceStore, files, id, index};
use crate::audio::decode::Clip;

impl VoiceStore {
    /// Reads and decodes the clip of a voice that was found before.
    ///
    /// # Errors
    ///
    /// [`VoiceError::NotFound`] when no file has that content any more, as after an upload over it: the clip of one
    /// voice is never returned for another.
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
