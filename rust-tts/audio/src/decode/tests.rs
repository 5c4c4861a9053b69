#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::float_cmp
)]

use std::f32::consts::TAU;
use std::time::Duration;

use super::fixtures::{flac_silence, tone, wav, wav_header};
use super::{Clip, DecodeError, Limits, decode, extension};
use crate::webm::tests::webm_file;

macro_rules! clip {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../tests/data/",
                $name
            ))
            .as_slice(),
        )
    };
}

/// Every committed clip with its rate once decoded.
const CLIPS: [((&str, &[u8]), u32); 10] = [
    (clip!("tone.mp3"), 24_000),
    (clip!("tone-vorbis.ogg"), 24_000),
    (clip!("tone-opus.ogg"), 48_000),
    (clip!("tone.webm"), 48_000),
    (clip!("tone.m4a"), 24_000),
    (clip!("tone-fragmented.m4a"), 24_000),
    (clip!("tone.aac"), 24_000),
    (clip!("tone.flac"), 8_000),
    (clip!("tone-opus.mp4"), 48_000),
    (clip!("tone-alac.m4a"), 8_000),
];

/// The share of a clip's energy that lies at 220 Hz.
fn share_of_tone(clip: &Clip) -> f32 {
    let step = TAU * 220.0 / clip.sample_rate as f32;
    let (mut re, mut im, mut energy) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (n, &sample) in clip.samples.iter().enumerate() {
        let phase = f64::from(step) * n as f64;
        re += f64::from(sample) * phase.cos();
        im += f64::from(sample) * phase.sin();
        energy += f64::from(sample) * f64::from(sample);
    }
    (2.0 * (re * re + im * im) / (energy * clip.samples.len() as f64)) as f32
}

#[test]
fn test_every_format_decodes_to_its_tone() {
    for ((name, bytes), rate) in CLIPS {
        let clip =
            decode(bytes, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(clip.sample_rate, rate, "{name}");
        let seconds = clip.duration_seconds();
        assert!((1.19..1.35).contains(&seconds), "{name}: {seconds} s");
        let share = share_of_tone(&clip);
        assert!(share > 0.9, "{name}: {share}");
    }
}

#[test]
fn test_wav_is_exact_and_channels_are_averaged() {
    let samples = tone(0.1, 24_000);
    let mono = decode(&wav(&samples, 24_000, 1), &Limits::default()).unwrap();
    assert_eq!(mono.samples, samples);
    assert!((mono.duration_seconds() - 0.1).abs() < 1e-9);

    let stereo: Vec<f32> = samples.iter().flat_map(|&sample| [sample, 0.0]).collect();
    let halved: Vec<f32> = samples.iter().map(|sample| sample * 0.5).collect();
    assert_eq!(
        decode(&wav(&stereo, 24_000, 2), &Limits::default())
            .unwrap()
            .samples,
        halved
    );
}

#[test]
fn test_nan_becomes_silence_and_loud_samples_clip() {
    let wild = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -3.0, 0.25];
    let clip = decode(&wav(&wild, 24_000, 1), &Limits::default()).unwrap();
    assert_eq!(clip.samples, [0.0, 0.0, 0.0, 1.0, -1.0, 0.25]);
}

#[test]
fn test_files_of_unknown_length_are_read_to_end() {
    let samples = tone(0.5, 24_000);
    for announced in [u32::MAX, 1_000_000] {
        let mut streamed = wav_header(24_000, 1, announced);
        streamed.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        let clip = decode(&streamed, &Limits::default()).unwrap();
        assert_eq!(clip.samples.len(), samples.len(), "announced {announced}");
    }
    for name in ["tone.mp3", "tone-opus.ogg", "tone.webm", "tone.flac"] {
        let ((_, bytes), _) = CLIPS
            .into_iter()
            .find(|((other, _), _)| *other == name)
            .unwrap();
        let clip = decode(&bytes[..bytes.len() * 9 / 10], &Limits::default());
        let clip = clip.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            clip.duration_seconds() > 0.5,
            "{name}: {} s",
            clip.duration_seconds()
        );
    }
}

fn committed(wanted: &str) -> &'static [u8] {
    let found = CLIPS.iter().find(|((name, _), _)| *name == wanted);
    found.unwrap().0.1
}

/// The file has the packets of `tone.webm`.
#[test]
fn test_opus_in_mp4_has_samples_of_opus_in_webm() {
    let [mp4, webm] = ["tone-opus.mp4", "tone.webm"]
        .map(|name| decode(committed(name), &Limits::default()).unwrap());
    assert!(mp4.samples == webm.samples);
}

#[test]
fn test_wav_whose_recorder_was_cut_off_is_read_to_its_end() {
    let samples = tone(0.5, 24_000);
    for riff_size in [0_u32, 36, u32::MAX] {
        let mut file = wav_header(24_000, 1, 0);
        file[4..8].copy_from_slice(&riff_size.to_le_bytes());
        file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        let clip = decode(&file, &Limits::default()).unwrap();
        assert!(clip.samples == samples, "RIFF size {riff_size}");
    }
}

#[test]
fn test_wav_is_read_whatever_its_sizes_say() {
    let samples = tone(0.5, 24_000);
    let good = wav(&samples, 24_000, 1);
    let data = u32::try_from(4 * samples.len()).unwrap();
    for (riff, size) in [
        (0, data),
        (36, data),
        (1000, 1000 * 1000),
        (0, u32::MAX - 1),
        (u32::MAX, data),
        (1 << 31, u32::MAX >> 1),
    ] {
        let mut file = good.clone();
        file[4..8].copy_from_slice(&riff.to_le_bytes());
        file[40..44].copy_from_slice(&size.to_le_bytes());
        let clip = decode(&file, &Limits::default()).unwrap();
        assert!(clip.samples == samples, "{riff} {size}");
    }
    // RF64, with and without sizes, and with another chunk behind the data.
    for kind in [b"RF64", b"BW64"] {
        for size in [u64::from(data), 0] {
            let mut file = kind.to_vec();
            file.extend(u32::MAX.to_le_bytes());
            file.extend(b"WAVEds64\x1c\0\0\0");
            file.extend(size.to_le_bytes().into_iter().chain(size.to_le_bytes()));
            file.extend([0; 12]);
            file.extend(&good[12..40]);
            file.extend(u32::MAX.to_le_bytes());
            file.extend(&good[44..]);
            if size > 0 {
                file.extend(b"LIST\x04\0\0\0abcd");
            }
            let clip = decode(&file, &Limits::default()).unwrap();
            assert!(clip.samples == samples, "{size}");
        }
    }
    let big_endian = [b"RIFX".as_slice(), &good[4..]].concat();
    let error = decode(&big_endian, &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("RIFX"), "{error}");
}

#[test]
fn test_mp3_in_wav_is_mp3() {
    let mp3 = committed("tone.mp3");
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x12\0\0\0\x55\0\x01\0".to_vec();
    file.resize(12 + 8 + 18, 0);
    file.extend(b"data\0\0\0\0");
    file.extend(mp3);
    let clip = decode(&file, &Limits::default()).unwrap();
    assert!(clip.samples == decode(mp3, &Limits::default()).unwrap().samples);
}

#[test]
fn test_mp3_is_found_behind_junk_and_tags() {
    let mp3 = committed("tone.mp3");
    let expected = decode(mp3, &Limits::default()).unwrap();
    let tag = |size: usize| {
        let mut tag = b"ID3\x03\0\0".to_vec();
        tag.extend([21, 14, 7, 0].map(|shift| (size >> shift) as u8 & 0x7F));
        tag.resize(10 + size, 0);
        tag
    };
    let junk: Vec<u8> = (0..3000_u32).map(|n| ((n * n) >> 3) as u8).collect();
    let start = mp3
        .windows(2)
        .position(|two| two[0] == 0xFF && two[1] >= 0xE0);
    let frames = &mp3[start.unwrap()..];
    for before in [
        vec![0; 500],
        junk.clone(),
        // A frame's header alone does not begin a stream.
        [frames[..4].to_vec(), junk.clone()].concat(),
        tag(200),
        [tag(10), tag(5000), vec![0; 300]].concat(),
    ] {
        let file = [before, frames.to_vec()].concat();
        assert_eq!(extension(&file), "mp3");
        let clip = decode(&file, &Limits::default()).unwrap();
        assert_eq!(clip.sample_rate, expected.sample_rate);
        let missing = expected.samples.len().abs_diff(clip.samples.len());
        // The encoder's first frames may refer to what was cut off before them.
        assert!(missing <= 3 * 1152, "{missing} samples");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn test_large_tags_are_skipped_unread() {
    if !is_alone("decode::tests::test_large_tags_are_skipped_unread") {
        return;
    }
    let mut file = b"ID3\x03\0\0\x18\0\0\0".to_vec();
    file.resize(10 + (0x18 << 21), b'x');
    file.extend(committed("tone.mp3"));
    let before = peak_kib();
    decode(&file, &Limits::default()).unwrap();
    let grown = peak_kib() - before;
    assert!(grown < 16 * 1024, "{grown} KiB");
}

#[test]
fn test_kinds_that_are_not_decoded_are_named() {
    let aiff = b"FORM\0\0\x10\0AIFFCOMM".as_slice();
    for (bytes, name) in [(aiff, "AIFF"), (b"#!AMR\n\x3C".as_slice(), "AMR")] {
        let error = decode(bytes, &Limits::default()).unwrap_err();
        assert_eq!(error, DecodeError::UnsupportedCodec(name.to_owned()));
        assert!(error.to_string().contains("convert it to WAV"), "{error}");
    }
    let ac3 = webm_file(b"A_AC3", &[], &[vec![0x0B, 0x77, 0, 0]]);
    let error = decode(&ac3, &Limits::default()).unwrap_err();
    let name = "Dolby Digital (AC-3)".to_owned();
    assert_eq!(error, DecodeError::UnsupportedCodec(name));
}

#[cfg(target_os = "linux")]
#[test]
fn test_alac_frames_out_of_proportion_are_refused() {
    if !is_alone("decode::tests::test_alac_frames_out_of_proportion_are_refused") {
        return;
    }
    let clip = committed("tone-alac.m4a");
    // The second `alac` is the box with the description, whose first number is the frame's length.
    let boxes: Vec<_> = clip
        .windows(4)
        .enumerate()
        .filter(|(_, name)| *name == b"alac")
        .collect();
    let length = boxes[1].0 + 8;
    assert_eq!(clip[length..length + 4], 4096_u32.to_be_bytes());
    for samples in [16_385_u32, 1 << 24, u32::MAX] {
        let mut bomb = clip.to_vec();
        bomb[length..length + 4].copy_from_slice(&samples.to_be_bytes());
        let before = peak_kib();
        assert!(decode(&bomb, &Limits::default()).is_err());
        assert!(peak_kib() - before < 16 * 1024, "{samples}");
    }
}

#[test]
fn test_non_audio_is_refused() {
    let pickle = b"\x80\x04\x95\x1d\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.";
    let mut zip = b"PK\x03\x04\x14\0\0\0\x08\0".to_vec();
    // The sync of MPEG audio inside of something else must not make it audio.
    zip.extend(CLIPS[0].0.1);
    let others: [&[u8]; 8] = [
        b"",
        b"R",
        b"\xFF",
        b"<!doctype html><p>404</p>",
        pickle,
        &zip,
        &[0; 4096],
        b"RIFF\0\0\0\0AVI LIST",
    ];
    for bytes in others {
        assert_eq!(
            decode(bytes, &Limits::default()).unwrap_err(),
            DecodeError::NotAudio
        );
    }
}

#[test]
fn test_channels_and_rates_outside_limits_are_refused() {
    let limits = Limits::default();
    let at = |rate, channels| decode(&wav(&[0.1; 720], rate, channels), &limits);
    assert_eq!(
        at(24_000, 9).unwrap_err(),
        DecodeError::TooManyChannels { found: 9, max: 8 }
    );
    for rate in [7_999, 192_001, u32::MAX] {
        assert!(matches!(at(rate, 1), Err(DecodeError::BadRate { found, .. }) if found == rate));
    }
    for (rate, channels) in [(8_000, 1), (192_000, 8)] {
        assert_eq!(at(rate, channels).unwrap().sample_rate, rate);
    }
    for (rate, channels) in [(0, 1), (24_000, 0)] {
        assert!(at(rate, channels).is_err());
    }
}

#[test]
fn test_decoded_length_is_limited() {
    let file = wav(&tone(2.0, 24_000), 24_000, 1);
    let seconds = |max_seconds| Limits {
        max_seconds,
        ..Limits::default()
    };
    assert!(decode(&file, &seconds(2.0)).is_ok());
    assert_eq!(
        decode(&file, &seconds(1.99)).unwrap_err(),
        DecodeError::TooLong(1.99)
    );
    let samples = |max_samples| Limits {
        max_samples,
        ..Limits::default()
    };
    assert!(decode(&file, &samples(48_000)).is_ok());
    assert_eq!(
        decode(&file, &samples(24_000)).unwrap_err(),
        DecodeError::TooLong(1.0)
    );
}

#[test]
fn test_generated_silence_is_valid_flac() {
    let clip = decode(&flac_silence(3, 48_000), &Limits::default()).unwrap();
    assert!((3.0..4.0).contains(&clip.duration_seconds()));
    assert!(clip.samples.iter().all(|&sample| sample == 0.0));
}

/// Peak resident memory of this process in KiB.
#[cfg(target_os = "linux")]
pub(super) fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Runs the test of this name in a process of its own, as the peak is the process's; whether this is that process.
#[cfg(target_os = "linux")]
pub(super) fn is_alone(test: &str) -> bool {
    const CHILD: &str = "DECODE_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let output = child
        .args(["--exact", test])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}");
    assert!(report.contains("1 passed"), "{report}");
    false
}

#[cfg(target_os = "linux")]
#[test]
fn test_ten_hours_of_silence_are_refused_in_bounded_memory() {
    if !is_alone("decode::tests::test_ten_hours_of_silence_are_refused_in_bounded_memory") {
        return;
    }
    let bomb = flac_silence(36_000, 48_000);
    assert!(bomb.len() < 1_000_000);
    let limits = Limits {
        max_seconds: 60.0,
        ..Limits::default()
    };
    let before = peak_kib();
    assert_eq!(
        decode(&bomb, &limits).unwrap_err(),
        DecodeError::TooLong(60.0)
    );
    let grown = peak_kib() - before;
    // A minute at 48 kHz is 11 MiB of the 6.4 GiB in the file; the vector may double once.
    assert!(grown < 48 * 1024, "{grown} KiB");
}

#[test]
fn test_decoding_stops_at_deadline() {
    let limits = Limits {
        deadline: Duration::ZERO,
        ..Limits::default()
    };
    for ((name, bytes), _) in CLIPS {
        assert_eq!(
            decode(bytes, &limits).unwrap_err(),
            DecodeError::TimedOut,
            "{name}"
        );
    }
}

#[test]
fn test_damaged_files_never_panic_and_stay_within_limits() {
    let limits = Limits {
        max_seconds: 5.0,
        ..Limits::default()
    };
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let made = wav(&tone(0.2, 24_000), 24_000, 1);
    for bytes in CLIPS
        .iter()
        .map(|((_, bytes), _)| *bytes)
        .chain([made.as_slice()])
    {
        for _ in 0..24 {
            let mut damaged = bytes.to_vec();
            for _ in 0..=random(8) {
                // Mostly in the headers, where a wrong size or count does most.
                let region = if random(4) == 0 {
                    damaged.len()
                } else {
                    damaged.len().min(512)
                };
                damaged[random(region)] = [0x00, 0xFF, 0x7F, 0x80, random(256) as u8][random(5)];
            }
            damaged.truncate(damaged.len() - random(damaged.len() / 2));
            if let Ok(clip) = decode(&damaged, &limits) {
                assert!(clip.duration_seconds() <= limits.max_seconds);
                assert!((limits.min_rate..=limits.max_rate).contains(&clip.sample_rate));
                assert!(
                    clip.samples
                        .iter()
                        .all(|sample| (-1.0..=1.0).contains(sample))
                );
            }
        }
    }
}

#[test]
fn test_overflowing_demuxer_does_not_panic() {
    let ((_, bytes), _) = CLIPS
        .into_iter()
        .find(|((name, _), _)| *name == "tone-fragmented.m4a")
        .unwrap();
    let mut damaged = bytes.to_vec();
    // The defaults for the samples of the fragments.
    damaged[554..559].fill(0xFF);
    // Whether this is noticed depends on the overflow checks of the build.
    if let Err(error) = decode(&damaged, &Limits::default()) {
        assert!(matches!(error, DecodeError::Corrupt(_)), "{error:?}");
    }
}

#[test]
fn test_clip_is_cut_to_limit_and_not_padded() {
    let mut clip = Clip {
        samples: vec![0.5; 1000],
        sample_rate: 100,
    };
    assert!(!clip.cut(10.0));
    assert!(!clip.cut(f64::MAX));
    assert_eq!(clip.samples.len(), 1000);
    assert!(clip.cut(2.5));
    assert_eq!(clip.samples.len(), 250);
    assert!(!clip.cut(2.5));
}
