//! A voice's details as people gave them, in a small file beside it.
//!
//! A file is named after the voice's id *and* its content, and is written before the clip takes that name: the clip and
//! what is said of it change in one moment, that of the clip's rename. A file whose clip is not there means nothing.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Voice, VoiceStore, files, id};

/// The folder's name in the voices' own. It cannot be a voice's.
const FOLDER: &str = ".details";
const SUFFIX: &str = ".json";
/// Larger than any that is written.
const MAX_BYTES: u64 = 64 * 1024;

/// A voice's details; each may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The name that is shown; else the id without its extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Language tag of the clip, in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The speaker's consent: its words, or the id of a recording (see [`super::Consents`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<String>,
    /// Where the voice came from, such as `upload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Details {
    /// These details, and those of `before` where one is missing.
    pub(super) fn or(self, before: Self) -> Self {
        Self {
            name: self.name.or(before.name),
            language: self.language.or(before.language),
            consent: self.consent.or(before.consent),
            source: before.source.or(self.source),
        }
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads what was said of a voice. A file that cannot be read is warned of and counts as missing.
pub(super) fn read(voice: &Voice) -> Details {
    let Some(folder) = voice.path.parent() else {
        return Details::default();
    };
    let path = folder.join(FOLDER).join(file_name(&voice.id, &voice.key));
    let read = files::read(&path, MAX_BYTES)
        .and_then(|(_, bytes)| serde_json::from_slice(&bytes).map_err(io::Error::from));
    read.unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(path = %path.display(), %error, "what is said of a voice could not be read");
        }
        Details::default()
    })
}

/// Stores what is said of the voice that is, or is about to be, under this id with this content; nothing is stored as
/// no file.
pub(super) fn write(folder: &Path, id: &str, key: &str, details: &Details) -> io::Result<()> {
    let own = folder.join(FOLDER);
    if details.is_empty() {
        return ignore_not_found(files::remove(&own, &file_name(id, key)));
    }
    files::make_folder(folder, &own)?;
    let bytes = serde_json::to_vec(details)?;
    files::write_whole(&own, &file_name(id, key), &bytes, true).map(|_| ())
}

/// Removes what was said of the voice with this content, if anything was.
pub(super) fn remove(folder: &Path, id: &str, key: &str) {
    warn(id, files::remove(&folder.join(FOLDER), &file_name(id, key)));
}

/// Removes whatever was said of an id, but for what is said of the content `key`.
pub(super) fn keep_only(folder: &Path, id: &str, key: Option<&str>) {
    let own = folder.join(FOLDER);
    let names = match files::names(&own) {
        Ok(names) => names,
        Err(error) => return warn(id, Err(error)),
    };
    let of_id = names
        .iter()
        .filter(|name| parse(name).is_some_and(|(of, content)| of == id && Some(content) != key));
    for name in of_id {
        warn(id, files::remove(&own, name));
    }
}

/// A missing file counts as removed.
fn ignore_not_found(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A failure is only warned of: such a file means nothing any more.
fn warn(id: &str, removed: io::Result<()>) {
    if let Err(error) = ignore_not_found(removed) {
        tracing::warn!(id, %error, "the details of a voice could not be removed");
    }
}

impl VoiceStore {
    /// Removes what a crash or a change by hand has left behind: temporary files, and what was said of clips that are
    /// neither there nor unreadable for the moment.
    pub(super) fn sweep_details(&self) -> io::Result<()> {
        let own = self.folder.join(FOLDER);
        if !own.is_dir() {
            return Ok(());
        }
        files::sweep(&own)?;
        for name in files::names(&own)? {
            let Some((id, key)) = parse(&name) else {
                continue;
            };
            // Looked at now: another process that has the folder open may have stored the clip since.
            let voice = self.index.inspect(&self.folder, id, &self.limits);
            let meant = match &voice {
                Some(voice) => voice.key == key,
                None => self.folder.join(id).exists(),
            };
            // Details are written before their clip, which may be about to be written.
            if !meant && !files::is_fresh(&own.join(&name)) {
                ignore_not_found(files::remove(&own, &name))?;
            }
        }
        Ok(())
    }
}

/// At most 198 bytes, for the longest id.
fn file_name(id: &str, key: &str) -> String {
    format!("{id}.{key}{SUFFIX}")
}

/// The id and the content hash in a file's name.
fn parse(name: &str) -> Option<(&str, &str)> {
    let (id, key) = name.strip_suffix(SUFFIX)?.rsplit_once('.')?;
    (id::is_id(id) && id::is_hash(key)).then_some((id, key))
}
