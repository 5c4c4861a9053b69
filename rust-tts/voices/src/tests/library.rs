//! Details of voices, other names for them, and reports of removed contents.

use std::fs;

use tokio::sync::mpsc::unbounded_channel;

use super::{Place, clip, ids, samples};
use crate::{
    Change, Consents, Details, Edit, Existing, Filter, UploadLimits, VoiceError, VoiceInfo,
    VoiceStore,
};

pub fn details(name: &str, language: &str) -> Details {
    Details {
        name: Some(name.to_owned()),
        language: Some(language.to_owned()),
        consent: None,
        source: Some("test".to_owned()),
    }
}

fn listed(store: &VoiceStore, filter: &Filter) -> Vec<VoiceInfo> {
    store.list(filter).unwrap()
}

pub fn named(store: &VoiceStore, id: &str) -> VoiceInfo {
    store.describe(store.find(id).unwrap())
}

fn renamed(id: &str) -> Change {
    Change {
        id: Some(id.to_owned()),
        ..Change::default()
    }
}

#[test]
fn test_details_belong_to_content_and_id() {
    let place = Place::new();
    let store = place.open();
    let old = store
        .save("a.wav", &clip(1.0), Existing::Keep, &details("Anna", "de"))
        .unwrap();
    assert_eq!(
        (
            named(&place.open(), "a").name.as_str(),
            named(&store, "a").language.as_deref()
        ),
        ("Anna", Some("de"))
    );

    let moved = store.update("a", &renamed("b")).unwrap();
    assert_eq!((moved.id.as_str(), &moved.key), ("b.wav", &old.key));
    assert_eq!(store.find("b.wav").unwrap(), moved);
    assert!(matches!(store.find("a"), Err(VoiceError::NotFound)));
    assert_eq!(named(&place.open(), "b").name, "Anna");
    assert_eq!(samples(&store, &old), 8_000, "by its content, as ever");

    // Another clip is another voice, of which nothing was said.
    store
        .save("b.wav", &clip(2.0), Existing::Replace, &Details::default())
        .unwrap();
    let other = named(&store, "b");
    assert_eq!((other.name.as_str(), other.language), ("b", None));
    let kept = fs::read_dir(place.folder().join(".details")).unwrap();
    assert_eq!(kept.count(), 0);
}

#[test]
fn test_update_clears_and_keeps_fields() {
    let place = Place::new();
    let store = place.open();
    store
        .save("a.wav", &clip(1.0), Existing::Keep, &details("Anna", "de"))
        .unwrap();
    let change = Change {
        language: Edit::Clear,
        consent: Edit::Set("yes".to_owned()),
        ..Change::default()
    };
    store.update("a", &change).unwrap();
    let voice = named(&place.open(), "a");
    assert_eq!((voice.name.as_str(), voice.language), ("Anna", None));
    assert_eq!(
        (voice.consent.as_deref(), voice.source.as_deref()),
        (Some("yes"), Some("test"))
    );
}

#[test]
fn test_no_rename_replaces_voice_or_changes_its_kind() {
    let place = Place::new();
    let store = place.open();
    for (name, seconds) in [("a.wav", 1.0), ("b.wav", 2.0)] {
        store
            .save(name, &clip(seconds), Existing::Keep, &details(name, "en"))
            .unwrap();
    }
    fs::create_dir(place.folder().join("c.wav")).unwrap();
    for taken in ["b", "b.wav", "c.wav"] {
        let result = store.update("a", &renamed(taken));
        assert!(matches!(result, Err(VoiceError::Exists)), "{taken}");
    }
    for bad in [
        "",
        ".wav",
        "a.mp3",
        "a.safetensors",
        "../x",
        "x/y",
        ".x",
        "a..b",
        "x\0",
    ] {
        let result = store.update("a", &renamed(bad));
        assert!(matches!(result, Err(VoiceError::BadName)), "{bad:?}");
    }
    assert_eq!(ids(&store), ["a.wav", "b.wav"]);
    assert_eq!(named(&store, "b").name, "b.wav");
    store.set_default("a").unwrap();
    store.update("a", &renamed("z.wav")).unwrap();
    assert_eq!(place.open().default_voice().unwrap().id, "z.wav");
}

#[test]
fn test_listings_are_filtered_by_language_and_by_name() {
    let place = Place::new();
    let store = place.open();
    for (id, seconds, name, language) in [
        ("a.wav", 1.0, "Zoë <b>", "pt-br"),
        ("b.wav", 1.1, "Ben", "pt"),
        ("c.wav", 1.2, "Cleo", "ptx"),
    ] {
        store
            .save(id, &clip(seconds), Existing::Keep, &details(name, language))
            .unwrap();
    }
    let found = |language: Option<&str>, search: Option<&str>| {
        let filter = Filter {
            language: language.map(str::to_owned),
            search: search.map(str::to_owned),
        };
        let voices = listed(&store, &filter).into_iter();
        voices.map(|voice| voice.id).collect::<Vec<_>>()
    };
    assert_eq!(found(Some("PT"), None), ["a.wav", "b.wav"]);
    assert_eq!(found(Some("pt-BR"), None), ["a.wav"]);
    assert_eq!(found(None, Some("zoË <B")), ["a.wav"]);
    assert_eq!(found(None, Some("C.WAV")), ["c.wav"]);
    assert_eq!(found(Some("de"), Some("")), [""; 0]);
}

#[test]
fn test_same_clip_is_registered_once() {
    let place = Place::new();
    let store = place.open();
    let none = Details::default();
    let first = store.register("x.wav", &clip(1.0), &none).unwrap();
    assert_eq!(first.id, format!("{}.wav", first.key));
    assert!(first.is_named_after_content());
    assert_eq!(store.register("y.flac", &clip(1.0), &none).unwrap(), first);
    let refused = store.register("y.pth", &clip(1.0), &none);
    assert!(matches!(refused, Err(VoiceError::Unsupported(_))));
    let made = store
        .create("", &clip(1.0), &details("Anna", "de"))
        .unwrap();
    let again = store
        .create("", &clip(1.0), &details("Anna", "de"))
        .unwrap();
    assert_ne!(made.id, again.id);
    assert_eq!(ids(&store).len(), 3);
}

#[test]
fn test_removed_contents_are_reported() {
    let place = Place::new();
    let store = place.open();
    let (gone, mut removals) = unbounded_channel();
    store.send_removals_to(gone);
    let none = Details::default();
    let a = store
        .save("a.wav", &clip(1.0), Existing::Keep, &none)
        .unwrap();
    store
        .save("b.wav", &clip(1.0), Existing::Keep, &none)
        .unwrap();
    store.update("a", &renamed("c")).unwrap();
    store.delete("b").unwrap();
    assert!(removals.try_recv().is_err(), "c.wav has it still");
    assert!(store.has_content(&a.key));
    let d = store
        .save("c.wav", &clip(2.0), Existing::Replace, &none)
        .unwrap();
    assert_eq!(removals.try_recv().unwrap(), a.key);
    assert!(!store.has_content(&a.key));
    fs::write(place.folder().join("c.wav"), clip(3.0)).unwrap();
    let e = store.find("c").unwrap();
    assert_eq!(removals.try_recv().unwrap(), d.key);
    fs::remove_file(place.folder().join("c.wav")).unwrap();
    assert_eq!(ids(&store), [""; 0]);
    assert_eq!(removals.try_recv().unwrap(), e.key);
    store
        .save("f.wav", &clip(1.5), Existing::Keep, &none)
        .unwrap();
    fs::remove_file(place.folder().join("f.wav")).unwrap();
    assert!(store.find("f.wav").is_err());
    assert!(
        removals.try_recv().is_ok(),
        "a miss looks at the folder as well"
    );
}

#[test]
fn test_preview_is_beginning_of_clip() {
    let place = Place::new();
    let store = place.open();
    for (seconds, expected) in [(1.5, 12_000), (30.0, 80_000)] {
        let voice = store
            .save(
                "a.wav",
                &clip(seconds),
                Existing::Replace,
                &Details::default(),
            )
            .unwrap();
        let file = store.preview(&voice).unwrap();
        let reader = hound::WavReader::new(file.as_slice()).unwrap();
        assert_eq!((reader.spec().sample_rate, reader.len()), (8_000, expected));
    }
    // The rest is not decoded.
    let voice = store.find("a").unwrap();
    let mut limits = UploadLimits::default();
    limits.decode.max_seconds = 20.0;
    let narrow = VoiceStore::open(&place.folder(), None, limits).unwrap();
    assert!(narrow.load(&voice).is_err());
    assert_eq!(
        narrow.preview(&voice).unwrap(),
        store.preview(&voice).unwrap()
    );
}

#[test]
fn test_consents_are_kept_until_they_are_deleted() {
    let place = Place::new();
    let store = place.open();
    let add = |name: &str| {
        store
            .consents()
            .add(name.to_owned(), "en".to_owned(), "x.wav", &clip(1.0))
            .unwrap()
    };
    let (first, second) = (add("first"), add("second"));
    assert!(Consents::is_id(&first.id));
    let again = place.open();
    assert_eq!(again.consents().list().unwrap().len(), 2);
    assert_eq!(again.consents().get(&first.id).unwrap(), first);
    let renamed = again.consents().rename(&first.id, "other".to_owned());
    assert_eq!(renamed.unwrap().name, "other");
    again.consents().delete(&first.id).unwrap();
    for gone in [first.id.as_str(), "", "../x", "cons_", "cons_../../a"] {
        let found = again.consents().get(gone);
        assert!(matches!(found, Err(VoiceError::NotFound)), "{gone}");
    }
    assert_eq!(again.consents().list().unwrap(), [second]);
    assert_eq!(
        fs::read_dir(place.folder().join(".consents"))
            .unwrap()
            .count(),
        2
    );
    assert_eq!(ids(&again), [""; 0]);
    let silent = again
        .consents()
        .add("x".to_owned(), "en".to_owned(), "x.wav", b"RIFF");
    assert!(matches!(silent, Err(VoiceError::Unsupported(_))));
}
