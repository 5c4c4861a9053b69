//! Changing what is said of voices, and their ids.

use std::io;

use serde::Deserialize;

use super::write::not_found;
use super::{Details, Voice, VoiceError, VoiceStore, details, files, id};

/// A change of a voice's details.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The id; its extension may be left out and stays.
    pub id: Option<String>,
    pub name: Edit,
    pub language: Edit,
    pub consent: Edit,
}

/// A change of one detail. In JSON, `null` removes it.
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
    /// The same change if `check` accepts its text.
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
        let _lock = self.write_lock();
        let voice = self.find_own(reference)?;
        let id = match &change.id {
            Some(wanted) => id::renamed(&voice.id, wanted)?,
            None => voice.id.clone(),
        };
        let before = details::read(&voice);
        let details = changed(&before, change);
        if id != voice.id {
            self.check_free(&id, false)?;
            return self.rename(&voice, id, &details);
        }
        if details != before {
            details::write(&self.folder, &id, &voice.key, &details)?;
        }
        Ok(voice)
    }

    /// Whichever step fails, the voice is whole under one of its ids, what is said of it with it, and the default if it
    /// was: only what is to be true after the clip's rename is written before it, and only what is of no use any more
    /// is removed after it.
    fn rename(&self, voice: &Voice, id: String, details: &Details) -> Result<Voice, VoiceError> {
        let was_default = self.is_default(voice);
        details::write(&self.folder, &id, &voice.key, details)?;
        let stamp = self.rename_file(voice, &id, was_default);
        let stamp = stamp.inspect_err(|_| self.undo_details(&id, &voice.key));
        let stamp = stamp.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => VoiceError::Exists,
            _ => not_found(error),
        })?;
        if was_default && let Err(error) = self.default.write(&[&id]) {
            tracing::warn!(%error, "the former id of the default voice is still stored");
        }
        details::keep_only(&self.folder, &voice.id, None);
        details::keep_only(&self.folder, &id, Some(&voice.key));
        let renamed = Voice {
            path: self.folder.join(&id),
            id,
            ..voice.clone()
        };
        // In this order, so that the content is in the index at every moment.
        self.index
            .insert(renamed.path.clone(), stamp, Some(renamed.clone()));
        self.index.remove(&voice.path);
        Ok(renamed)
    }

    /// Renames the clip; the default voice is stored under both ids meanwhile.
    fn rename_file(&self, voice: &Voice, id: &str, was_default: bool) -> io::Result<files::Stamp> {
        if was_default {
            self.default.write(&[&voice.id, id])?;
        }
        let renamed = files::rename(&self.folder, &voice.id, id);
        if renamed.is_err() && was_default && !self.holds(id, &voice.key) {
            // Where this fails as well, the first of the two ids still counts.
            let _ = self.default.write(&[&voice.id]);
        }
        renamed
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
