//! References and file names that try to lead somewhere else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Place, clip};
use crate::{Details, Existing, VoiceError, VoiceStore};

/// None of these may find, delete or choose anything. `{root}` is the folder around that of the voices.
const TRICKS: &[&str] = &[
    "",
    " ",
    ".",
    "..",
    "/",
    "//",
    "\\",
    "./",
    "../",
    "...",
    "~",
    "~/secret.wav",
    "-rf.wav",
    "_a.wav",
    "../secret.wav",
    "../../etc/passwd",
    "..\\secret.wav",
    "....//secret.wav",
    "..././secret.wav",
    "voices/../../secret.wav",
    "voices/../secret.wav",
    "/app/voices/../secret.wav",
    "./voices/../secret.wav",
    "/app/voices//secret.wav",
    "/app/voices/voices/../secret.wav",
    "voices/voices/good.wav",
    "voices//good.wav",
    "good.wav/..",
    "good.wav/",
    "good.wav/.",
    "good.wav/../good.wav",
    "./good.wav",
    "sub/inner.wav",
    "voices/sub/inner.wav",
    "{root}/secret.wav",
    "{root}/voices/../secret.wav",
    "{root}/voices/link.wav",
    "{root}/voices",
    "{root}/voices/",
    "{root}voices/good.wav",
    "/etc/passwd",
    "/dev/zero",
    "/proc/self/environ",
    "%2e%2e/secret.wav",
    "%2e%2e%2fsecret.wav",
    "..%2fsecret.wav",
    "..%5csecret.wav",
    "%252e%252e%252fsecret.wav",
    "good.wav%00",
    "good.wav\0",
    "good\0.wav",
    "\0",
    "good.wav\n",
    "\ngood.wav",
    "good.wav\r\n",
    "good\t.wav",
    "C:\\secret.wav",
    "\\\\host\\share\\secret.wav",
    "voices\\good.wav",
    "good.wav:stream",
    "CON?.wav",
    "link.wav",
    "link",
    "folder.wav",
    "folder",
    "pipe.wav",
    ".hidden.wav",
    ".default",
    ".upload-x.tmp",
    "hidden",
    "http://127.0.0.1/good.wav",
    "https://example.org/good.wav",
    "file:///etc/passwd",
    "file://good.wav",
    "data:audio/wav;base64,UklGRg==",
    "ftp://h/good.wav",
    "g\u{f6}od.wav",
    "\u{ff0e}\u{ff0e}/secret.wav",
    "good\u{2215}x.wav",
    "good.wav\u{200b}",
    "\u{202e}vaw.doog",
    "good..wav",
    "a..wav",
    "$(id).wav",
    "`id`.wav",
    "good;ls.wav",
    "good|ls.wav",
    "*.wav",
    "g??d.wav",
    "[g]ood.wav",
    "{good}.wav",
    "good'.wav",
    "good\".wav",
    "<script>.wav",
    "good.wav#x",
    "good.wav?x",
    "good&x.wav",
    "good.txt",
    "notes",
    "notes.txt",
];

fn all_tricks(place: &Place) -> Vec<String> {
    let root = place.outside.path().display().to_string();
    let long = [
        "a".repeat(300),
        "a".repeat(125) + ".wav",
        format!("voices/{}", "../".repeat(5_000)),
        "0".repeat(64),
    ];
    TRICKS
        .iter()
        .map(|trick| trick.replace("{root}", &root))
        .chain(long)
        .collect()
}

/// Every file under a folder with its content; links and pipes without.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(contents(&entry.path()));
        }
        let content = if kind.is_file() {
            fs::read(entry.path()).unwrap()
        } else {
            Vec::new()
        };
        found.insert(entry.path().display().to_string(), content);
    }
    found
}

fn prepared() -> (Place, VoiceStore) {
    let place = Place::new();
    let (root, folder) = (place.outside.path().to_owned(), place.folder());
    fs::create_dir_all(folder.join("sub")).unwrap();
    fs::create_dir(folder.join("folder.wav")).unwrap();
    for name in [
        "good.wav",
        ".hidden.wav",
        "sub/inner.wav",
        "notes.txt",
        "../secret.wav",
    ] {
        fs::write(folder.join(name), clip(1.0)).unwrap();
    }
    symlink(root.join("secret.wav"), folder.join("link.wav")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(folder.join("pipe.wav"))
        .status()
        .unwrap();
    assert!(made.success());
    let store = place.open();
    (place, store)
}

#[test]
fn test_no_reference_leads_out_of_folder_or_is_repeated() {
    let (place, store) = prepared();
    assert_eq!(super::ids(&store), ["good.wav"]);
    let before = contents(place.outside.path());
    for trick in all_tricks(&place) {
        let results = [
            store.find(&trick).map(|_| ()),
            store.set_default(&trick).map(|_| ()),
            store.delete(&trick).map(|_| ()),
        ];
        for result in results {
            let error = result.expect_err(&trick);
            assert!(
                matches!(error, VoiceError::NotFound),
                "{trick:?}: {error:?}"
            );
            assert_eq!(error.to_string(), "The voice was not found.");
        }
        assert_eq!(store.default_voice(), None);
    }
    assert!(
        before == contents(place.outside.path()),
        "something was changed"
    );
    assert!(store.find("good.wav").is_ok());
}

#[test]
fn test_no_file_name_of_upload_leads_out_of_folder() {
    let (place, store) = prepared();
    let before = contents(place.outside.path());
    for trick in all_tricks(&place) {
        let Ok(voice) = store.save(&trick, &clip(1.0), Existing::Keep, &Details::default()) else {
            continue;
        };
        assert_eq!(voice.path, place.folder().join(&voice.id), "{trick:?}");
        assert!(
            (trick.ends_with(&voice.id) || trick.ends_with(crate::id::stem(&voice.id)))
                && !voice.id.contains(['/', '\\', '\0']),
            "{trick:?}"
        );
        assert!(voice.path.is_file());
        fs::remove_file(&voice.path).unwrap();
    }
    for taken in ["link.wav", "folder.wav", "pipe.wav"] {
        assert!(
            matches!(
                store.save(taken, &clip(1.0), Existing::Replace, &Details::default()),
                Err(VoiceError::Exists)
            ),
            "{taken}"
        );
    }
    for bad in [
        "",
        "..",
        ".hidden.wav",
        "a..wav",
        "g\u{f6}od.wav",
        "good\0.wav",
        "../../.x.wav",
        "a/",
    ] {
        assert!(
            matches!(
                store.save(bad, &clip(1.0), Existing::Replace, &Details::default()),
                Err(VoiceError::BadName)
            ),
            "{bad:?}"
        );
    }
    assert!(
        before == contents(place.outside.path()),
        "something was changed"
    );
}

#[test]
fn test_id_cannot_equal_content_key_of_another() {
    let (_place, store) = prepared();
    let good = store.find("good.wav").unwrap();
    store
        .save(
            &format!("{}.wav", good.key),
            &clip(2.0),
            Existing::Keep,
            &Details::default(),
        )
        .unwrap();
    assert_eq!(store.find(&good.key).unwrap(), good);
}
