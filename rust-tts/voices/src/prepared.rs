//! Prepared voices: the conditionals that models have computed, kept in a folder of their own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{Voice, id};

/// The folder's name in the voices' own. It cannot be a voice's.
pub const PREPARED: &str = ".conditionals";

/// The content hashes in `folder`, the voices' own, of clips that are none of `voices`: replaced or taken out since.
pub fn without_voice(folder: &Path, voices: &[Voice]) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder.join(PREPARED)) else {
        // Nothing has been prepared yet.
        return BTreeSet::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| Some(name.to_str()?.split('.').next()?.to_owned()))
        .filter(|key| id::is_hash(key) && voices.iter().all(|voice| voice.key != *key))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UploadLimits;
    use crate::VoiceStore;

    #[test]
    fn test_prepared_files_of_removed_clip_are_found() {
        let folder = tempfile::tempdir().unwrap();
        assert!(without_voice(folder.path(), &[]).is_empty());
        let removed = "0".repeat(64);
        fs::create_dir(folder.path().join(PREPARED)).unwrap();
        for name in [
            format!("{removed}.turbo-1.safetensors"),
            format!("{removed}.standard-1.safetensors"),
            "notes.txt".to_owned(),
        ] {
            fs::write(folder.path().join(PREPARED).join(name), b"x").unwrap();
        }
        let store = VoiceStore::open(folder.path(), None, UploadLimits::default()).unwrap();
        let found = without_voice(folder.path(), &store.all().unwrap());
        assert_eq!(found, BTreeSet::from([removed]));
    }
}
