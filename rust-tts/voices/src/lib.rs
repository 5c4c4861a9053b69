//! The voices: audio files in a folder, under ids that clients may name.
//!
//! The folder is the only truth. Whatever is put into it or taken out of it by hand, or by another server that shares
//! it, shows at the next call; nothing but a cache lives in memory. All calls block on the disk, and some decode audio:
//! call them off the async threads.

mod change;
mod consents;
mod default;
mod details;
mod error;
mod files;
mod id;
mod index;
mod load;
mod options;
mod portable;
mod prepared;
mod preview;
#[cfg(test)]
mod tests;
mod voice;
mod write;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tokio::sync::mpsc::UnboundedSender;

pub use self::change::{Change, Edit};
pub use self::consents::{Consent, Consents};
use self::default::DefaultFile;
pub use self::details::Details;
pub use self::error::VoiceError;
use self::index::Index;
pub use self::load::Material;
pub use self::options::{VoiceCache, VoiceOptions};
pub use self::prepared::{PREPARED, without_voice};
pub use self::voice::{Filter, UploadLimits, Voice, VoiceInfo};
pub use self::write::Existing;

/// Least similarity, from 0 to 1, of a name that is suggested instead of another.
const NEAR: f64 = 0.85;
/// Most names that an error suggests.
const NEAR_COUNT: usize = 3;

/// The voices of a folder that can be written, and of one that is only read.
#[derive(Debug)]
pub struct VoiceStore {
    folder: PathBuf,
    preloaded: Option<PathBuf>,
    limits: UploadLimits,
    prefixes: Vec<String>,
    index: Index,
    default: DefaultFile,
    /// Held while something is stored, changed or deleted.
    writers: Mutex<()>,
}

impl VoiceStore {
    /// Opens a folder, which is made if it is not there, and reads what is in it. Files that are no voices are skipped
    /// with a warning.
    ///
    /// # Errors
    ///
    /// The folder cannot be made or read. A `preloaded` folder that cannot be read is only warned of.
    pub fn open(folder: &Path, preloaded: Option<&Path>, limits: UploadLimits) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let folders: Vec<&Path> = std::iter::once(folder).chain(preloaded).collect();
        let store = Self {
            prefixes: id::prefixes(&folders),
            folder: folder.to_owned(),
            preloaded: preloaded.map(Path::to_owned),
            limits,
            index: Index::default(),
            default: DefaultFile::new(folder),
            writers: Mutex::default(),
        };
        let voices = store.voices()?.len();
        tracing::info!(voices, folder = %folder.display(), "voices read");
        Ok(store)
    }

    /// Removes what crashes and changes by hand have left behind: temporary files, details of removed clips, and
    /// recordings that belong to no consent. A server does this once, at its start.
    pub fn sweep(&self) {
        let swept = files::sweep(&self.folder)
            .and_then(|()| self.sweep_details())
            .and_then(|()| self.consents().sweep());
        if let Err(error) = swept {
            // A folder that is only read, perhaps: what is left there does no harm.
            tracing::warn!(%error, "leftovers of removed voices could not be deleted");
        }
    }

    /// All voices, sorted by id.
    ///
    /// # Errors
    ///
    /// [`VoiceError::Io`] when the folder cannot be read.
    pub fn all(&self) -> Result<Vec<Voice>, VoiceError> {
        Ok(self.voices()?)
    }

    /// The same, as they are listed, as far as `filter` lets them through.
    ///
    /// # Errors
    ///
    /// [`VoiceError::Io`] when the folder cannot be read.
    pub fn list(&self, filter: &Filter) -> Result<Vec<VoiceInfo>, VoiceError> {
        let voices = self.voices()?.into_iter();
        let listed = voices.map(|voice| self.describe(voice));
        Ok(listed.filter(|voice| filter.holds(voice)).collect())
    }

    /// A voice as it is listed.
    pub fn describe(&self, voice: Voice) -> VoiceInfo {
        let details = details::read(&voice);
        let preloaded = self.is_preloaded(&voice);
        VoiceInfo::new(voice, details, preloaded)
    }

    /// Sets the receiver of the hashes of contents that no file has any more.
    pub fn send_removals_to(&self, listener: UnboundedSender<String>) {
        self.index.send_removals_to(listener);
    }

    /// Whether a file had this content when the folder was last looked at.
    pub fn has_content(&self, key: &str) -> bool {
        self.index.has_key(key)
    }

    /// The recordings of consent, which lie beside the voices.
    pub fn consents(&self) -> Consents<'_> {
        Consents::new(self)
    }

    /// Finds a voice by its id, its id without extension, or its content hash, with or without a folder in front, or by
    /// a display name that no other voice has. An id that ends in `.pth` finds the voice that was made of that file.
    ///
    /// # Errors
    ///
    /// [`VoiceError::NotFound`] also for every reference that leads out of the folder or is a URL: such a reference is
    /// never opened. [`VoiceError::Ambiguous`] for a name of several voices. [`VoiceError::Io`] when the folder
    /// cannot be read.
    pub fn find(&self, reference: &str) -> Result<Voice, VoiceError> {
        let Some(name) = id::reduce(reference, &self.prefixes) else {
            return self.find_name(reference)?.ok_or(VoiceError::NotFound);
        };
        // First, so that no file can be named after the content of another to stand in for it.
        if id::is_hash(name)
            && let Some(voice) = self.find_content(&name.to_ascii_lowercase())?
        {
            return Ok(voice);
        }
        if id::is_id(name)
            && let Some(voice) = self.inspect(name)
        {
            return Ok(voice);
        }
        if let Some(voice) = self.find_stem(name)? {
            return Ok(voice);
        }
        self.find_name(reference)?.ok_or(VoiceError::NotFound)
    }

    /// The one voice whose id without its extension is `name`, in the first folder that has any. What was called
    /// `NAME.pth` elsewhere is the voice that was converted, if there is one.
    fn find_stem(&self, name: &str) -> Result<Option<Voice>, VoiceError> {
        let (stem, was_converted) = match name.strip_suffix(".pth") {
            Some(stem) => (stem, true),
            None => (name, false),
        };
        for folder in self.folders() {
            let ids = self.names(folder)?;
            let of_stem = ids.iter().filter(|id| id::stem(id) == stem);
            let voices = of_stem.filter_map(|id| self.index.inspect(folder, id, &self.limits));
            let mut voices: Vec<Voice> = voices.collect();
            if was_converted {
                voices.sort_by_key(|voice| !id::is_portable(&voice.id));
                voices.truncate(1);
            }
            // The same clip is the same voice, whatever its file is called.
            voices.dedup_by(|a, b| a.key == b.key);
            if voices.len() > 1 {
                let ids = voices.into_iter().map(|voice| voice.id).collect();
                return Err(VoiceError::Ambiguous(ids));
            }
            if let Some(voice) = voices.pop() {
                return Ok(Some(voice));
            }
        }
        Ok(None)
    }

    /// The one voice with this display name.
    fn find_name(&self, name: &str) -> Result<Option<Voice>, VoiceError> {
        let mut voices = self.voices()?;
        voices.retain(|voice| details::read(voice).name.as_deref() == Some(name));
        if voices.len() > 1 {
            let ids = voices.into_iter().map(|voice| voice.id).collect();
            return Err(VoiceError::Ambiguous(ids));
        }
        Ok(voices.pop())
    }

    /// Up to three ids and display names that are nearly `reference`, the nearest first.
    pub fn near(&self, reference: &str) -> Vec<String> {
        let wanted = reference.to_lowercase();
        let likeness = |text: &str| strsim::jaro_winkler(&wanted, &text.to_lowercase());
        let voices = self.list(&Filter::default()).unwrap_or_default();
        let mut near: Vec<(f64, String)> = voices
            .into_iter()
            .map(|voice| {
                let names = [&voice.id, id::stem(&voice.id), &voice.name];
                let best = names.into_iter().map(likeness).fold(0.0, f64::max);
                (best, voice.id)
            })
            .filter(|(likeness, _)| *likeness >= NEAR)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        near.into_iter()
            .map(|(_, id)| id)
            .take(NEAR_COUNT)
            .collect()
    }

    /// Whether a default voice is set, without a look at its file.
    pub fn has_default(&self) -> bool {
        self.default.is_set()
    }

    /// The default voice; `None` when none is set, and with a warning when its file was removed.
    pub fn default_voice(&self) -> Option<Voice> {
        let ids = self.default.read();
        let voice = ids.iter().find_map(|id| self.inspect(id));
        if let (None, Some(id)) = (&voice, ids.first()) {
            self.default.warn_missing(id);
        }
        voice
    }

    /// Makes a voice, found as by [`Self::find`], the default until it is deleted or another is set, across restarts.
    ///
    /// # Errors
    ///
    /// [`VoiceError::NotFound`], [`VoiceError::StorageFull`], [`VoiceError::Io`].
    pub fn set_default(&self, reference: &str) -> Result<Voice, VoiceError> {
        let voice = self.find(reference)?;
        self.default.write(&[&voice.id])?;
        Ok(voice)
    }

    /// Forgets the default voice, if there is one.
    ///
    /// # Errors
    ///
    /// [`VoiceError::Io`].
    pub fn clear_default(&self) -> Result<(), VoiceError> {
        Ok(self.default.clear()?)
    }

    fn is_preloaded(&self, voice: &Voice) -> bool {
        !write::is_in(&voice.path, &self.folder)
    }

    /// Both folders; in the first one a file hides its namesake in the second.
    fn folders(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.folder.as_path()).chain(self.preloaded.as_deref())
    }

    fn inspect(&self, id: &str) -> Option<Voice> {
        self.folders()
            .find_map(|folder| self.index.inspect(folder, id, &self.limits))
    }

    /// All voices, sorted by id; forgets removed files.
    fn voices(&self) -> io::Result<Vec<Voice>> {
        let mut paths = HashSet::new();
        let mut voices = BTreeMap::new();
        for folder in self.folders() {
            for id in self.names(folder)? {
                paths.insert(folder.join(&id));
                if let Some(voice) = self.index.inspect(folder, &id, &self.limits) {
                    voices.entry(id).or_insert(voice);
                }
            }
        }
        self.index.retain(&paths);
        Ok(voices.into_values().collect())
    }

    /// The ids in a folder, sorted. A preloaded one that cannot be read counts as empty.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        match files::names(folder) {
            Ok(names) => {
                for name in names.iter().filter(|name| id::is_misnamed(name)) {
                    let rule = VoiceError::BadName.to_string();
                    self.index.warn_once(&folder.join(name), &rule);
                }
                Ok(names.into_iter().filter(|name| id::is_id(name)).collect())
            }
            Err(error) if folder == self.folder => Err(error),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "the preloaded voices could not be read");
                Ok(Vec::new())
            }
        }
    }

    fn find_content(&self, key: &str) -> io::Result<Option<Voice>> {
        let known = self.index.with_key(key).into_iter().find_map(|path| {
            let id = path.file_name()?.to_str()?;
            self.index
                .inspect(path.parent()?, id, &self.limits)
                .filter(|voice| voice.key == key)
        });
        match known {
            Some(voice) => Ok(Some(voice)),
            None => Ok(self.voices()?.into_iter().find(|voice| voice.key == key)),
        }
    }
}
