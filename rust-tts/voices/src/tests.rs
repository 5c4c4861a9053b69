#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod converted;
mod library;
mod tricks;
mod trouble;
mod uploads;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Details, Existing, Filter, Material, UploadLimits, Voice, VoiceError, VoiceStore};
use chatterbox_audio::decode::Clip;
use chatterbox_audio::decode::fixtures::{tone, wav};

/// A folder of voices inside a folder that no voice may leave.
struct Place {
    outside: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            outside: tempfile::tempdir().unwrap(),
        }
    }

    fn folder(&self) -> PathBuf {
        self.outside.path().join("voices")
    }

    fn open(&self) -> VoiceStore {
        VoiceStore::open(&self.folder(), None, UploadLimits::default()).unwrap()
    }

    /// The names in the folder of voices, sorted.
    fn names(&self) -> Vec<String> {
        super::files::names(&self.folder()).unwrap()
    }
}

/// A clip of a length that tells it from others.
fn clip(seconds: f32) -> Vec<u8> {
    wav(&tone(seconds, 8_000), 8_000, 1)
}

fn loaded(store: &VoiceStore, voice: &Voice) -> Arc<Clip> {
    match store.load(voice).unwrap() {
        Material::Clip(clip) => clip,
        Material::Portable(_) => panic!("a voice without a clip"),
    }
}

fn samples(store: &VoiceStore, voice: &Voice) -> usize {
    loaded(store, voice).samples.len()
}

fn ids(store: &VoiceStore) -> Vec<String> {
    store
        .list(&Filter::default())
        .unwrap()
        .into_iter()
        .map(|info| info.id)
        .collect()
}

#[test]
fn test_saved_voice_is_found_under_every_name() {
    let place = Place::new();
    let store = place.open();
    let saved = store
        .save(
            "Anna 1.wav",
            &clip(1.5),
            Existing::Keep,
            &Details::default(),
        )
        .unwrap();
    assert_eq!(saved.id, "Anna 1.wav");
    assert_eq!(saved.path, place.folder().join("Anna 1.wav"));
    assert!((saved.duration_seconds - 1.5).abs() < 1e-6);
    let configured = format!("{}/Anna 1.wav", place.folder().display());
    for reference in [
        "Anna 1.wav",
        "Anna 1",
        "voices/Anna 1.wav",
        "./voices/Anna 1.wav",
        "/app/voices/Anna 1.wav",
        "/app/voices/Anna 1",
        "Anna 1.pth",
        &saved.key,
        &saved.key.to_uppercase(),
        &configured,
    ] {
        assert_eq!(store.find(reference).unwrap(), saved, "{reference}");
    }
    assert_eq!(samples(&store, &saved), 12_000);
    let listed = serde_json::to_value(store.list(&Filter::default()).unwrap()).unwrap();
    let expected = serde_json::json!([{
        "name": "Anna 1", "id": "Anna 1.wav", "path": configured, "duration_seconds": 1.5, "sample_rate": 8000,
        "created_at": saved.created_at, "hash": saved.key, "language": null, "consent": null, "source": null,
        "preloaded": false,
    }]);
    assert_eq!(listed, expected);
}

#[test]
fn test_invalid_uploads_leave_no_file() {
    let place = Place::new();
    let store = place.open();
    let pickle = b"\x80\x04\x95\x1d\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.";
    assert!(
        matches!(store.save("a.wav", pickle, Existing::Keep, &Details::default()), Err(VoiceError::Unsupported(why)) if why.contains("not audio"))
    );
    for extension in ["pth", "pt", "pkl", "ckpt", "bin", "safetensors", "PTH"] {
        let refused = store.save(
            &format!("a.{extension}"),
            &clip(2.0),
            Existing::Keep,
            &Details::default(),
        );
        assert!(
            matches!(refused, Err(VoiceError::Unsupported(why)) if why.contains("never loaded")),
            "{extension}"
        );
    }
    assert!(matches!(
        store.save("a.txt", &clip(2.0), Existing::Keep, &Details::default()),
        Err(VoiceError::Unsupported(_))
    ));
    assert!(matches!(
        store.save("a.wav", &clip(0.9), Existing::Keep, &Details::default()),
        Err(VoiceError::TooShort { .. })
    ));
    assert!(matches!(
        store.save(
            "a.wav",
            &wav(&vec![0.0005; 16_000], 8_000, 1),
            Existing::Keep,
            &Details::default()
        ),
        Err(VoiceError::Silent)
    ));
    assert_eq!(place.names(), [""; 0]);

    let limits = UploadLimits {
        max_bytes: 1_000,
        ..UploadLimits::default()
    };
    let narrow = VoiceStore::open(&place.folder(), None, limits).unwrap();
    assert!(matches!(
        narrow.save("a.wav", &clip(2.0), Existing::Keep, &Details::default()),
        Err(VoiceError::TooLarge)
    ));
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn test_voice_is_replaced_on_demand_only() {
    let place = Place::new();
    let store = place.open();
    let old = store
        .save("a.wav", &clip(1.0), Existing::Keep, &Details::default())
        .unwrap();
    let held = loaded(&store, &old);
    assert!(matches!(
        store.save("a.wav", &clip(2.0), Existing::Keep, &Details::default()),
        Err(VoiceError::Exists)
    ));
    assert_eq!(store.find("a").unwrap(), old);

    let new = store
        .save("a.wav", &clip(2.0), Existing::Replace, &Details::default())
        .unwrap();
    assert_ne!(new.key, old.key);
    assert_eq!(store.find("a").unwrap(), new);
    assert_eq!(held.samples.len(), 8_000);
    // The old key must never come with the new audio.
    assert!(matches!(store.load(&old), Err(VoiceError::NotFound)));
    assert!(matches!(store.find(&old.key), Err(VoiceError::NotFound)));
    assert_eq!(samples(&store, &new), 16_000);
}

#[test]
fn test_folder_may_be_changed_by_hand() {
    let place = Place::new();
    let store = place.open();
    let file = |name: &str| place.folder().join(name);
    fs::write(file("b.wav"), clip(1.0)).unwrap();
    fs::write(file("a.WAV"), clip(2.0)).unwrap();
    fs::write(file("broken.wav"), b"RIFF").unwrap();
    fs::write(file("notes.txt"), b"no voice").unwrap();
    assert_eq!(ids(&store), ["a.WAV", "b.wav"]);
    assert_eq!(store.find("a").unwrap().id, "a.WAV");
    assert!(matches!(store.find("broken"), Err(VoiceError::NotFound)));

    fs::write(file("b.wav"), clip(3.0)).unwrap();
    fs::write(file("broken.wav"), clip(1.0)).unwrap();
    let changed = store.find("b.wav").unwrap();
    assert!((changed.duration_seconds - 3.0).abs() < 1e-6);
    assert_eq!(ids(&store), ["a.WAV", "b.wav", "broken.wav"]);

    fs::rename(file("b.wav"), file("c.wav")).unwrap();
    assert_eq!(samples(&store, &changed), 24_000);
    assert_eq!(store.find(&changed.key).unwrap().id, "c.wav");
    fs::remove_file(file("c.wav")).unwrap();
    assert!(matches!(store.find("c.wav"), Err(VoiceError::NotFound)));
    assert!(matches!(store.load(&changed), Err(VoiceError::NotFound)));
    assert_eq!(ids(&store), ["a.WAV", "broken.wav"]);
}

#[test]
fn test_preloaded_voices_are_read_only_and_shadowed() {
    let place = Place::new();
    let preloaded = place.outside.path().join("preloaded");
    fs::create_dir(&preloaded).unwrap();
    fs::write(preloaded.join("p.wav"), clip(1.0)).unwrap();
    let store =
        VoiceStore::open(&place.folder(), Some(&preloaded), UploadLimits::default()).unwrap();
    let voice = store
        .find(&format!("{}/p.wav", preloaded.display()))
        .unwrap();
    assert_eq!(voice.path, preloaded.join("p.wav"));
    assert_eq!(samples(&store, &voice), 8_000);
    assert!(matches!(store.delete("p"), Err(VoiceError::ReadOnly)));
    assert!(matches!(
        store.save("p.wav", &clip(2.0), Existing::Keep, &Details::default()),
        Err(VoiceError::Exists)
    ));
    assert!(matches!(
        store.save("p.wav", &clip(2.0), Existing::Replace, &Details::default()),
        Err(VoiceError::ReadOnly)
    ));
    assert_eq!(store.set_default("p").unwrap(), voice);
    assert_eq!(store.default_voice(), Some(voice.clone()));

    fs::write(place.folder().join("p.wav"), clip(2.0)).unwrap();
    assert_eq!(ids(&store), ["p.wav"]);
    assert_eq!(
        store.delete("p").unwrap().path,
        place.folder().join("p.wav")
    );
    assert_eq!(store.find("p").unwrap(), voice);

    fs::remove_dir_all(&preloaded).unwrap();
    assert_eq!(ids(&store), [""; 0]);
}

#[test]
fn test_default_survives_restart_but_not_its_file() {
    let place = Place::new();
    let store = place.open();
    assert_eq!(store.default_voice(), None);
    store.clear_default().unwrap();
    let a = store
        .save("a.wav", &clip(1.0), Existing::Keep, &Details::default())
        .unwrap();
    store
        .save("b.wav", &clip(2.0), Existing::Keep, &Details::default())
        .unwrap();
    store.set_default("voices/a.wav").unwrap();
    assert!(matches!(
        store.set_default("c.wav"),
        Err(VoiceError::NotFound)
    ));
    assert_eq!(place.open().default_voice(), Some(a));

    store.delete("b").unwrap();
    assert!(
        place.open().default_voice().is_some(),
        "another voice was deleted"
    );
    fs::remove_file(place.folder().join("a.wav")).unwrap();
    assert_eq!(store.default_voice(), None);
    assert_eq!(place.open().default_voice(), None);

    let b = store
        .save("b.wav", &clip(2.0), Existing::Keep, &Details::default())
        .unwrap();
    assert_eq!(store.set_default("b").unwrap(), b);
    store.delete("b").unwrap();
    assert_eq!(place.names(), [""; 0], "deleting the default forgets it");
    fs::write(place.folder().join(".default"), "../secret.wav\n").unwrap();
    assert_eq!(store.default_voice(), None);
    store.clear_default().unwrap();
    assert_eq!(place.names(), [""; 0]);
}
