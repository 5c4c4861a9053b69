//! The clips of voices.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Voice, VoiceError, VoiceStore, files, id, index};
use chatterbox_audio::decode::{self, Clip};

/// The content of a voice file, for the engine.
#[derive(Clone, Debug)]
pub enum Material {
    /// A recording of the speaker.
    Clip(Arc<Clip>),
    /// Conditionals that were computed elsewhere: a file in the safetensors format.
    Portable(Arc<[u8]>),
}

impl VoiceStore {
    /// Reads what a voice that was found before is made of, decoded.
    ///
    /// # Errors
    ///
    /// [`VoiceError::NotFound`] when no file has that content any more, as after an upload over it: the clip of one
    /// voice is never returned for another.
    pub fn load(&self, voice: &Voice) -> Result<Material, VoiceError> {
        self.load_within(voice, &self.limits.decode)
    }

    /// The same, decoded within other limits.
    pub(super) fn load_within(
        &self,
        voice: &Voice,
        limits: &decode::Limits,
    ) -> Result<Material, VoiceError> {
        if !id::is_id(&voice.id) {
            return Err(VoiceError::NotFound);
        }
        for folder in self.folders() {
            if let Some(material) = self.load_file(folder, &voice.id, &voice.key, limits)? {
                return Ok(material);
            }
        }
        // Renamed by hand, perhaps.
        let moved = self.find_content(&voice.key)?.ok_or(VoiceError::NotFound)?;
        let folder = moved.path.parent().ok_or(VoiceError::NotFound)?;
        self.load_file(folder, &moved.id, &voice.key, limits)?
            .ok_or(VoiceError::NotFound)
    }

    /// A file's content, if the file exists and has this hash.
    fn load_file(
        &self,
        folder: &Path,
        id: &str,
        key: &str,
        limits: &decode::Limits,
    ) -> Result<Option<Material>, VoiceError> {
        let path = folder.join(id);
        if files::stamp(&path).is_none() {
            return Ok(None);
        }
        match files::read(&path, self.limits.max_bytes) {
            Ok((_, bytes)) if index::content_key(&bytes) != key => Ok(None),
            Ok((_, bytes)) if id::is_portable(id) => Ok(Some(Material::Portable(Arc::from(bytes)))),
            Ok((_, bytes)) => {
                let clip = decode::decode(&bytes, limits)?;
                Ok(Some(Material::Clip(Arc::new(clip))))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(VoiceError::Io(error)),
        }
    }
}
