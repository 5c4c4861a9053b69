//! Names of uploads, replacement, and refused clips; files that were put into the folder by hand.

use std::fs;
use std::os::unix::fs::symlink;

use super::library::{details, named};
use super::{Place, clip, ids};
use crate::{Details, Existing, VoiceError};
use chatterbox_audio::decode::fixtures::{tone, wav};

#[test]
fn test_upload_without_extension_gets_that_of_its_content() {
    let place = Place::new();
    let store = place.open();
    let none = Details::default();
    let blob = store.save("blob", &clip(1.0), Existing::Keep, &none);
    assert_eq!(blob.unwrap().id, "blob.wav");
    let webm = include_bytes!("../../../../tests/data/tone.webm");
    let file = store.save("file", webm, Existing::Keep, &none);
    assert_eq!(file.unwrap().id, "file.webm");
}

#[test]
fn test_upload_of_taken_file_name_never_replaces_another_voice() {
    let place = Place::new();
    let store = place.open();
    let save = |seconds, existing, details: &Details| {
        store.save("recording.wav", &clip(seconds), existing, details)
    };
    let mut anna = details("Anna", "de");
    anna.consent = Some("yes".to_owned());
    assert_eq!(
        save(1.0, Existing::Extend, &anna).unwrap().id,
        "recording.wav"
    );

    // Another clip without a name is refused, one with a name gets an id of it.
    let refused = save(2.0, Existing::Extend, &Details::default());
    assert!(matches!(refused, Err(VoiceError::Exists)));
    let bobby = save(2.0, Existing::Extend, &details("Bobby <b> Müller", "en")).unwrap();
    assert_eq!(bobby.id, "Bobby-b-M-ller.wav");
    let info = named(&store, "recording.wav");
    assert_eq!(
        (info.name.as_str(), info.consent.as_deref()),
        ("Anna", Some("yes"))
    );

    // The same clip again is the same voice, and keeps what is not said anew.
    let again = save(1.0, Existing::Extend, &Details::default()).unwrap();
    assert_eq!(again.id, "recording.wav");
    let renamed = save(1.0, Existing::Extend, &details("Anna B.", "de")).unwrap();
    let info = named(&store, &renamed.id);
    assert_eq!(
        (info.name.as_str(), info.consent.as_deref()),
        ("Anna B.", Some("yes"))
    );
    let again = save(2.0, Existing::Extend, &details("Bobby <b> Müller", "en"));
    assert_eq!(again.unwrap(), bobby);

    // On demand it is replaced, with all that was said of it.
    save(3.0, Existing::Replace, &Details::default()).unwrap();
    let info = named(&store, "recording.wav");
    assert_eq!((info.name.as_str(), info.consent), ("recording", None));
    assert_eq!(ids(&store), ["Bobby-b-M-ller.wav", "recording.wav"]);
}

#[test]
fn test_voice_is_found_by_display_name_that_is_its_own_alone() {
    let place = Place::new();
    let store = place.open();
    for (id, name, seconds) in [
        ("a.wav", "Zoë 👋", 1.0),
        ("b.wav", "Same", 2.0),
        ("c.wav", "Same", 3.0),
    ] {
        let saved = store.save(id, &clip(seconds), Existing::Keep, &details(name, "en"));
        saved.unwrap();
    }
    assert_eq!(store.find("Zoë 👋").unwrap().id, "a.wav");
    let error = store.find("Same").unwrap_err();
    assert!(matches!(&error, VoiceError::Ambiguous(ids) if ids == &["b.wav", "c.wav"]));
    assert!(error.to_string().contains("b.wav, c.wav"), "{error}");
    assert!(matches!(store.find("Nobody"), Err(VoiceError::NotFound)));
    // An id counts before a name.
    store
        .save("Same.wav", &clip(4.0), Existing::Keep, &Details::default())
        .unwrap();
    assert_eq!(store.find("Same").unwrap().id, "Same.wav");
}

#[test]
fn test_stem_of_several_voices_is_none_of_them() {
    let place = Place::new();
    let store = place.open();
    let none = Details::default();
    let wav = store
        .save("anna.wav", &clip(1.0), Existing::Keep, &none)
        .unwrap();
    assert_eq!(store.find("anna").unwrap(), wav);
    let same = store
        .save("anna.ogg", &clip(1.0), Existing::Keep, &none)
        .unwrap();
    assert_eq!(store.find("anna").unwrap().key, same.key);
    let webm = include_bytes!("../../../../tests/data/tone.webm");
    store
        .save("anna.webm", webm, Existing::Keep, &none)
        .unwrap();
    let error = store.find("anna").unwrap_err();
    assert!(matches!(&error, VoiceError::Ambiguous(ids) if ids.contains(&"anna.webm".to_owned())));
    assert!(store.delete("anna").is_err());
    assert_eq!(store.find("anna.wav").unwrap(), wav);
}

#[test]
fn test_near_names_are_suggested() {
    let place = Place::new();
    let store = place.open();
    store
        .save("anna.wav", &clip(1.0), Existing::Keep, &Details::default())
        .unwrap();
    store
        .save("x.wav", &clip(2.0), Existing::Keep, &details("Bobby", "en"))
        .unwrap();
    assert_eq!(store.near("Ana"), ["anna.wav"]);
    assert_eq!(store.near("boby"), ["x.wav"]);
    assert_eq!(store.near("quite another"), [""; 0]);
}

#[test]
fn test_voice_beginning_too_late_is_refused() {
    let place = Place::new();
    let store = place.open();
    let after = |silence: usize| {
        let mut samples = vec![0.0; silence * 8_000];
        samples.extend(tone(2.0, 8_000));
        wav(&samples, 8_000, 1)
    };
    let none = Details::default();
    let late = store.save("late.wav", &after(20), Existing::Keep, &none);
    let error = late.unwrap_err();
    assert!(matches!(error, VoiceError::LateVoice { .. }));
    assert!(error.to_string().contains("after 20 s"), "{error}");
    assert!(
        store
            .save("soon.wav", &after(8), Existing::Keep, &none)
            .is_ok()
    );
    // Quiet is not silent: peaks at -40 dBFS.
    let quiet: Vec<f32> = tone(2.0, 8_000)
        .iter()
        .map(|sample| sample * 0.02)
        .collect();
    let quiet = wav(&quiet, 8_000, 1);
    assert!(
        store
            .save("quiet.wav", &quiet, Existing::Keep, &none)
            .is_ok()
    );
}

/// A mounted `ConfigMap`: every file is a link to `..data/NAME`, and `..data` one to the folder of the current version.
#[test]
fn test_links_inside_folder_are_voices() {
    let place = Place::new();
    let folder = place.folder();
    let version = folder.join("..2026_11_30");
    fs::create_dir_all(&version).unwrap();
    fs::write(version.join("anna.wav"), clip(1.0)).unwrap();
    symlink("..2026_11_30", folder.join("..data")).unwrap();
    symlink("..data/anna.wav", folder.join("anna.wav")).unwrap();
    // None of these leads to a file inside.
    let secret = place.outside.path().join("secret.wav");
    fs::write(&secret, clip(2.0)).unwrap();
    symlink("../secret.wav", folder.join("up.wav")).unwrap();
    symlink(&secret, folder.join("absolute.wav")).unwrap();
    symlink("..data/../../secret.wav", folder.join("around.wav")).unwrap();
    symlink("nowhere.wav", folder.join("broken.wav")).unwrap();
    symlink("loop.wav", folder.join("loop.wav")).unwrap();
    symlink("/proc/self/fd/0", folder.join("magic.wav")).unwrap();
    let store = place.open();
    assert_eq!(ids(&store), ["anna.wav"]);
    let anna = store.find("anna").unwrap();
    assert_eq!(super::samples(&store, &anna), 8_000);

    // The next version takes the place of the last in one moment.
    let next = folder.join("..2026_12_01");
    fs::create_dir(&next).unwrap();
    fs::write(next.join("anna.wav"), clip(3.0)).unwrap();
    symlink("..2026_12_01", folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    let anna = store.find("anna").unwrap();
    assert_eq!(super::samples(&store, &anna), 24_000);
}
