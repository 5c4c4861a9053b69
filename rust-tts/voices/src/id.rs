//! Derives a voice's id from client text. Nothing else in the server turns client text into a file name.

use std::path::Path;

use super::VoiceError;

/// Extensions of files that can be voices, in lower case.
const AUDIO_EXTENSIONS: [&str; 11] = [
    "wav", "mp3", "flac", "ogg", "oga", "opus", "webm", "m4a", "mp4", "aac", "weba",
];

/// Extension of a voice without a clip, which an operator puts into the folder.
const PORTABLE_EXTENSION: &str = "safetensors";

/// Extensions of model files. Most of these are Python pickles, which run code when they are loaded.
const MODEL_EXTENSIONS: [&str; 9] = [
    "pth",
    "pt",
    "pkl",
    "pickle",
    "ckpt",
    "bin",
    "safetensors",
    "npy",
    "npz",
];

/// Folders that clients write before an id, whatever the folder is called here.
const USUAL_PREFIXES: [&str; 3] = ["/app/voices/", "./voices/", "voices/"];

/// The longest id, in characters.
const MAX_LENGTH: usize = 128;

/// The prefixes that a reference may carry: those of `folders` as configured and resolved, and the usual ones.
pub(super) fn prefixes(folders: &[&Path]) -> Vec<String> {
    let resolved = folders
        .iter()
        .filter_map(|folder| folder.canonicalize().ok());
    let own = folders
        .iter()
        .map(|folder| folder.to_path_buf())
        .chain(resolved);
    own.filter_map(|folder| Some(format!("{}/", folder.to_str()?.trim_end_matches('/'))))
        .filter(|prefix| prefix != "/")
        .chain(USUAL_PREFIXES.map(str::to_owned))
        .collect()
}

/// Reduces a reference to the id, the stem or the hash it names, or to `None` when it can be none of them.
pub(super) fn reduce<'r>(reference: &'r str, prefixes: &[String]) -> Option<&'r str> {
    let stripped = prefixes
        .iter()
        .find_map(|prefix| reference.strip_prefix(prefix.as_str()));
    Some(stripped.unwrap_or(reference)).filter(|name| is_plain(name))
}

/// The id under which an upload of this file name is stored. Browsers may send a path; its last part counts. A name
/// without any extension, such as `blob`, gets `usual`, the one that belongs to the content.
pub(super) fn for_upload(file_name: &str, usual: &str) -> Result<String, VoiceError> {
    let name = file_name.rsplit(['/', '\\']).next().unwrap_or_default();
    if !is_plain(name) {
        return Err(VoiceError::BadName);
    }
    check_kind(name)?;
    if is_id(name) {
        return Ok(name.to_owned());
    }
    if name.contains('.') {
        return Err(VoiceError::Unsupported(format!(
            "The file name must end in one of: {}.",
            AUDIO_EXTENSIONS.join(", ")
        )));
    }
    Some(format!("{name}.{usual}"))
        .filter(|id| is_id(id))
        .ok_or(VoiceError::BadName)
}

/// An id for a voice that is called `name`, with the extension `usual`: what an id may not have becomes a hyphen.
/// `None` where nothing of the name is left.
pub(super) fn of_name(name: &str, usual: &str) -> Option<String> {
    let kept = |c: char| if c.is_ascii_alphanumeric() { c } else { ' ' };
    let plain: String = name.chars().map(kept).collect();
    let mut stem = plain.split_whitespace().collect::<Vec<_>>().join("-");
    stem.truncate(MAX_LENGTH - usual.len() - 1);
    Some(format!("{stem}.{usual}")).filter(|id| is_id(id))
}

/// Whether a file looks like a voice by its extension, and has a name that no id can have.
pub(super) fn is_misnamed(name: &str) -> bool {
    AUDIO_EXTENSIONS.contains(&extension(name).as_str())
        && !is_plain(name)
        && !name.starts_with('.')
}

/// Refuses model files by their names.
pub(super) fn check_kind(file_name: &str) -> Result<(), VoiceError> {
    if MODEL_EXTENSIONS.contains(&extension(file_name).as_str()) {
        return Err(VoiceError::Unsupported(
            "Model files (.pth, .pt, .pkl, .ckpt, .bin, .safetensors) are never loaded by the server; convert \
             the voice offline with `chatterbox-server voice convert`, or upload an audio clip."
                .to_owned(),
        ));
    }
    Ok(())
}

/// The id under which a voice is to be found from now on, whose id is `old`. The extension stays, and may be left out.
pub(super) fn renamed(old: &str, wanted: &str) -> Result<String, VoiceError> {
    let kept = extension(old);
    let id = if extension(wanted) == kept {
        wanted.to_owned()
    } else {
        format!("{wanted}.{kept}")
    };
    let other_kind = is_id(wanted) && id != wanted;
    if other_kind || !is_id(&id) || stem(&id).is_empty() {
        return Err(VoiceError::BadName);
    }
    Ok(id)
}

/// Whether a name can be the id of a voice: `^[A-Za-z0-9][A-Za-z0-9._ -]{0,127}$`, no `..`, and a known extension.
pub(super) fn is_id(name: &str) -> bool {
    is_plain(name) && (AUDIO_EXTENSIONS.contains(&extension(name).as_str()) || is_portable(name))
}

/// The id of a voice without a clip that is to be called `stem`.
pub(super) fn portable(stem: &str) -> Result<String, VoiceError> {
    Some(format!("{stem}.{PORTABLE_EXTENSION}"))
        .filter(|id| is_id(id))
        .ok_or(VoiceError::BadName)
}

/// Whether this is the name of a voice without a clip.
pub(super) fn is_portable(name: &str) -> bool {
    extension(name) == PORTABLE_EXTENSION
}

/// Whether a name is safe as one part of a path, by the pattern of [`is_id`].
fn is_plain(name: &str) -> bool {
    name.len() <= MAX_LENGTH
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._ -".contains(c))
        && !name.contains("..")
}

/// Whether a name has the form of a content hash: SHA-256 in hexadecimal.
pub(super) fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.chars().all(|c| c.is_ascii_hexdigit())
}

/// An id without its extension.
pub(super) fn stem(id: &str) -> &str {
    id.rsplit_once('.').map_or(id, |(stem, _)| stem)
}

/// The part after the last dot, in lower case; empty without one.
fn extension(name: &str) -> String {
    name.rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase())
        .unwrap_or_default()
}
