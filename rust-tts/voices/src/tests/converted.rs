//! Voices without a clip.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::library::{details, named};
use super::{Place, ids};
use crate::portable::tests::file as portable;
use crate::{Details, Existing, VoiceError};

#[test]
fn test_voice_without_clip_has_no_preview() {
    let place = Place::new();
    let store = place.open();
    let bytes = portable("chatterbox-server voice 1", 100, usize::MAX);
    fs::write(place.folder().join("anna.safetensors"), &bytes).unwrap();
    fs::write(place.folder().join("other.safetensors"), b"no voice").unwrap();
    assert_eq!(ids(&store), ["anna.safetensors"]);
    let voice = store.find("anna.pth").unwrap();
    assert!((voice.duration_seconds - 2.0).abs() < 1e-9);
    assert!(matches!(store.preview(&voice), Err(VoiceError::NoClip)));
    let refused = store.save("x.safetensors", &bytes, Existing::Keep, &Details::default());
    assert!(matches!(refused, Err(VoiceError::Unsupported(_))));
}

#[test]
fn test_converted_voice_is_stored_like_others() {
    let place = Place::new();
    let store = place.open();
    let bytes = portable("chatterbox-server voice 1", 100, usize::MAX);
    let said = details("Anna", "de");
    store.check_portable("anna", false).unwrap();
    let voice = store.save_portable("anna", &bytes, false, &said).unwrap();
    assert_eq!(store.find("anna").unwrap(), voice);
    assert_eq!(named(&place.open(), "anna").name, "Anna");
    let mode = fs::metadata(&voice.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "a server of another user reads it");
    for (stem, overwrite, content) in [
        ("anna", false, bytes.as_slice()),
        ("../anna", true, &bytes),
        ("anna", true, b"no voice"),
    ] {
        let refused = store.save_portable(stem, content, overwrite, &said);
        assert!(refused.is_err(), "{stem}");
    }
    assert!(matches!(
        store.check_portable("anna", false),
        Err(VoiceError::Exists)
    ));
    assert!(matches!(
        store.check_portable("../anna", true),
        Err(VoiceError::BadName)
    ));
    assert_eq!(store.find("anna").unwrap(), voice);
}
