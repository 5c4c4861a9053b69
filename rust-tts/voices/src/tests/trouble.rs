//! Full disks, crashes, and everything at once.

use std::fs::{self, File};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, SystemTime};

use super::library::{details, named};
use super::{Place, clip, ids};
use crate::{Details, Existing, Material, VoiceError, VoiceStore};

/// Names the folder to a child process, which is this test run once more.
const FOLDER: &str = "VOICES_TEST_FOLDER";

/// A command that runs one test of this module in a process of its own, after a line of shell.
fn child(test: &str, place: &Place, shell: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{shell}; exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("tests::trouble::{test}"), "--nocapture"])
        .env(FOLDER, place.folder());
    command
}

fn folder_of_child() -> Option<std::path::PathBuf> {
    std::env::var_os(FOLDER).map(Into::into)
}

fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[test]
fn test_failed_write_leaves_no_file() {
    if let Some(folder) = folder_of_child() {
        let store = VoiceStore::open(&folder, None, super::UploadLimits::default()).unwrap();
        let result = store.save("big.wav", &clip(3.0), Existing::Keep, &Details::default());
        assert!(matches!(result, Err(VoiceError::StorageFull)), "{result:?}");
        let result = store.save(
            "kept.wav",
            &clip(3.0),
            Existing::Replace,
            &Details::default(),
        );
        assert!(matches!(result, Err(VoiceError::StorageFull)), "{result:?}");
        return;
    }
    let place = Place::new();
    let kept = place
        .open()
        .save("kept.wav", &clip(1.0), Existing::Keep, &Details::default())
        .unwrap();
    // Files of at most 32 KiB; a clip of 3 s has 94. The signal would otherwise end the process.
    let test = "test_failed_write_leaves_no_file";
    assert_passed(
        &child(test, &place, "trap '' XFSZ; ulimit -f 64")
            .output()
            .unwrap(),
    );
    assert_eq!(place.names(), ["kept.wav"]);
    assert_eq!(place.open().find("kept").unwrap(), kept);
}

#[test]
fn test_killed_server_keeps_acknowledged_voices() {
    if let Some(folder) = folder_of_child() {
        let store = VoiceStore::open(&folder, None, super::UploadLimits::default()).unwrap();
        for n in 0_u32.. {
            let voice = store
                .save(
                    &format!("v{n}.wav"),
                    &clip(1.0 + (n % 7) as f32 / 8.0),
                    Existing::Keep,
                    &Details::default(),
                )
                .unwrap();
            // One system call, so that a line is there whole or not at all.
            let acknowledged = format!("{}\n", voice.key);
            let log = folder.with_extension("log");
            let mut log = File::options().create(true).append(true).open(log).unwrap();
            std::io::Write::write_all(&mut log, acknowledged.as_bytes()).unwrap();
        }
    }
    let place = Place::new();
    let log = place.folder().with_extension("log");
    let test = "test_killed_server_keeps_acknowledged_voices";
    let mut running = child(test, &place, ":")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while fs::read_to_string(&log).unwrap_or_default().lines().count() < 20 {
        assert!(
            running.try_wait().unwrap().is_none(),
            "the child ended by itself"
        );
        thread::yield_now();
    }
    running.kill().unwrap();
    running.wait().unwrap();
    let store = place.open();
    store.sweep();
    let acknowledged = fs::read_to_string(&log).unwrap();
    assert!(acknowledged.lines().count() >= 20);
    for key in acknowledged.lines() {
        assert!(store.find(key).is_ok(), "{key}");
    }
    assert_eq!(
        place.names(),
        ids(&store),
        "every file is a voice, and no temporary file is left"
    );
}

#[test]
fn test_sweep_removes_only_files_of_dead_processes() {
    let place = Place::new();
    place
        .open()
        .save("a.wav", &clip(1.0), Existing::Keep, &Details::default())
        .unwrap();
    let file = |name: &str| place.folder().join(name);
    for name in [".upload-dead.tmp", ".upload-other.txt", "upload-other.tmp"] {
        fs::write(file(name), b"torn").unwrap();
    }
    let live = File::create(file(".upload-live.tmp")).unwrap();
    rustix::fs::flock(&live, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let store = place.open();
    assert_eq!(ids(&store), ["a.wav"]);
    store.sweep();
    assert_eq!(
        place.names(),
        [
            ".upload-live.tmp",
            ".upload-other.txt",
            "a.wav",
            "upload-other.tmp"
        ]
    );
    drop(live);
    store.sweep();
    assert_eq!(
        place.names(),
        [".upload-other.txt", "a.wav", "upload-other.tmp"]
    );
}

#[test]
fn test_leftovers_of_crash_are_swept() {
    let place = Place::new();
    let store = place.open();
    let a = store
        .save("a.wav", &clip(1.0), Existing::Keep, &details("Anna", "de"))
        .unwrap();
    store
        .save("b.wav", &clip(2.0), Existing::Keep, &details("Ben", "de"))
        .unwrap();
    let own = place.folder().join(".details");
    let file = |id: &str, key: &str| format!("{id}.{key}.json");
    fs::write(own.join(file("a.wav", &"0".repeat(64))), "{}").unwrap();
    fs::write(own.join(".upload-dead.tmp"), "{").unwrap();
    fs::write(own.join("notes.txt"), "mine").unwrap();
    fs::remove_file(place.folder().join("b.wav")).unwrap();
    let names = || crate::files::names(&own).unwrap();
    let before = names();
    let again = place.open();
    assert_eq!(names(), before, "other commands open the folder as well");
    again.sweep();
    assert_eq!(
        names().len(),
        before.len() - 1,
        "what is said of a clip comes before the clip"
    );
    let long_ago = SystemTime::now() - Duration::from_secs(120);
    for name in names() {
        let file = fs::File::open(own.join(name)).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    again.sweep();
    assert_eq!(names(), [file("a.wav", &a.key), "notes.txt".to_owned()]);
    fs::write(own.join(file("a.wav", &a.key)), "{").unwrap();
    assert_eq!(named(&again, "a").name, "a");
}

#[test]
fn test_sweep_spares_running_writes() {
    let place = Place::new();
    let store = place.open();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..60 {
                let length = 1.0 + n as f32 / 64.0;
                let saved = store.save(
                    "a.wav",
                    &clip(length),
                    Existing::Replace,
                    &Details::default(),
                );
                saved.unwrap();
            }
        });
        while !writer.is_finished() {
            place.open().sweep();
        }
    });
    assert_eq!(place.names(), ["a.wav"]);
}

#[test]
fn test_concurrent_changes_never_mix_voices() {
    let place = Place::new();
    let store = place.open();
    let versions = [clip(1.0), clip(1.25), clip(1.5)];
    store
        .save(
            "b.wav",
            &versions[0],
            Existing::Replace,
            &Details::default(),
        )
        .unwrap();
    thread::scope(|scope| {
        for bytes in &versions {
            let (store, bytes) = (&store, bytes.as_slice());
            scope.spawn(move || {
                for _ in 0..12 {
                    store
                        .save("a.wav", bytes, Existing::Replace, &Details::default())
                        .unwrap();
                    store
                        .save("b.wav", bytes, Existing::Replace, &Details::default())
                        .unwrap();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..12 {
                match store.delete("a") {
                    Ok(_) | Err(VoiceError::NotFound) => {}
                    Err(error) => panic!("{error:?}"),
                }
                match store.set_default("a") {
                    Ok(_) | Err(VoiceError::NotFound) => {}
                    Err(error) => panic!("{error:?}"),
                }
                store.default_voice();
            }
        });
        scope.spawn(|| {
            for _ in 0..12 {
                assert!(ids(&store).contains(&"b.wav".to_owned()));
                for reference in ["a", "b.wav"] {
                    let found = store.find(reference);
                    match found.and_then(|voice| store.load(&voice).map(|clip| (voice, clip))) {
                        Ok((voice, Material::Clip(clip))) => {
                            assert!(
                                (clip.duration_seconds() - voice.duration_seconds).abs() < 1e-9
                            );
                        }
                        Err(VoiceError::NotFound) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
        });
    });
    let listed = ids(&store);
    let left = place.names().into_iter().filter(|name| name != ".default");
    assert_eq!(left.collect::<Vec<_>>(), listed);
}
