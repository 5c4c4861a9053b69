//! Changing what is said of voices, and their ids.

use std::io;

use serde::Deserialize;

use super::write::not_found;
use super::{Details, Voice, VoiceError, VoiceStore, details, files, id};

/// What is to be another from now on.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The id; its extension may be left out and stays.
    pub id: Option<String>,
    pub name: Edit,
    pub language: Edit,
    pub consent: Edit,
}

/// What becomes of something that was said of a voice. In JSON, `null` takes it away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Option<String>")]
pub enum Edit {
    #[default]
    Keep,
    Clear,
    Set(String),
}

impl From<Option<String>> for Edit {
    fn from(said: Option<String>) -> Self {
        said.map_or(Self::Clear, Self::Set)
    }
}

impl Edit {
    /// The same with a text that `check` lets through.
    pub fn checked<E>(self, check: impl FnOnce(&str) -> Result<String, E>) -> Result<Self, E> {
        match self {
            Self::Set(text) => check(&text).map(Self::Set),
            other => Ok(other),
        }
    }

    fn applied(&self, before: Option<&String>) -> Option<String> {
        match self {
            Self::Keep => before.cloned(),
            Self::Clear => None,
            Self::Set(text) => Some(text.clone()),
        }
    }
}

impl VoiceStore {
    /// Changes what is said of a voice, found as by [`Self::find`], and its id. The default voice stays the default.
    ///
    /// # Errors
    ///
    /// [`VoiceError::NotFound`], [`VoiceError::ReadOnly`] for a preloaded voice, [`VoiceError::BadName`] and
    /// [`VoiceError::Exists`] about the id, [`VoiceError::StorageFull`], [`VoiceError::Io`].
    pub fn update(&self, reference: &str, change: &Change) -> Result<Voice, VoiceError> {
        let _turn = self.turn();
        let voice = self.find_own(reference)?;
        let id = match &change.id {
            Some(wanted) => id::renamed(&voice.id, wanted)?,
            None => voice.id.clone(),
        };
        if id != voice.id {
            self.check_free(&id, false)?;
        }
        let before = details::read(&voice);
        let details = changed(&before, change);
        if details.is_empty() {
            details::remove(&self.folder, &id, &voice.key);
        } else if details != before || id != voice.id {
            details::write(&self.folder, &id, &voice.key, &details)?;
        }
        if id == voice.id {
            return Ok(voice);
        }
        let stamp = match files::rename(&self.folder, &voice.id, &id) {
            Ok(stamp) => stamp,
            Err(error) => {
                details::remove(&self.folder, &id, &voice.key);
                return Err(if error.kind() == io::ErrorKind::AlreadyExists {
                    VoiceError::Exists
                } else {
                    not_found(error)
                });
            }
        };
        if self.default.read().as_deref() == Some(voice.id.as_str()) {
            self.default.write(&id)?;
        }
        details::keep_only(&self.folder, &voice.id, None);
        details::keep_only(&self.folder, &id, Some(&voice.key));
        let renamed = Voice {
            path: self.folder.join(&id),
            id,
            ..voice.clone()
        };
        // In this order: at no moment is the content gone.
        self.index
            .insert(renamed.path.clone(), stamp, Some(renamed.clone()));
        self.index.remove(&voice.path);
        Ok(renamed)
    }
}

fn changed(before: &Details, change: &Change) -> Details {
    Details {
        name: change.name.applied(before.name.as_ref()),
        language: change.language.applied(before.language.as_ref()),
        consent: change.consent.applied(before.consent.as_ref()),
        source: before.source.clone(),
    }
}
