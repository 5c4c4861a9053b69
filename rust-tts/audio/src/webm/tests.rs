use super::super::opus::tests::{decoded, encoded, error_db, tone};
use super::*;
use crate::decode::{Limits, decode};
use crate::{Format, SAMPLE_RATES};

/// A `WebM` file with a track of any codec, whose headers are `private`.
pub(crate) fn webm_file(codec: &[u8], private: &[u8], packets: &[Vec<u8>]) -> Vec<u8> {
    let audio = [
        float(id::SAMPLING_FREQUENCY, 24_000.0),
        uint(id::CHANNELS, 1),
    ];
    let track = [
        uint(id::TRACK_NUMBER, 1),
        uint(id::TRACK_UID, 1),
        uint(id::TRACK_TYPE, AUDIO_TRACK),
        element(id::CODEC_ID, codec),
        element(id::CODEC_PRIVATE, private),
        parent(id::AUDIO, &audio),
    ];
    let mut file = [ebml(), open(id::SEGMENT)].concat();
    file.extend(parent(
        id::INFO,
        &[
            uint(id::TIMESTAMP_SCALE, TIMESTAMP_SCALE),
            element(id::MUXING_APP, b"test"),
            element(id::WRITING_APP, b"test"),
        ],
    ));
    file.extend(parent(id::TRACKS, &[parent(id::TRACK_ENTRY, &track)]));
    file.extend(open(id::CLUSTER));
    file.extend(uint(id::TIMESTAMP, 0));
    for packet in packets {
        let block = [&[0x81, 0, 0, FLAG_KEYFRAME], packet.as_slice()].concat();
        file.extend(element(id::SIMPLE_BLOCK, &block));
    }
    file
}

/// Elements in file order, one level after the other; what is in a parent follows it.
const PARENTS: [u32; 9] = [
    id::SEGMENT,
    id::INFO,
    id::TRACKS,
    id::TRACK_ENTRY,
    id::AUDIO,
    id::TAGS,
    id::TAG,
    id::SIMPLE_TAG,
    id::CLUSTER,
];

/// Reads a variable-size integer (RFC 8794, section 4); `None` if it is the unknown size.
fn vint(bytes: &mut &[u8]) -> Option<u64> {
    let length = bytes[0].leading_zeros() as usize + 1;
    let (head, rest) = bytes.split_at(length);
    *bytes = rest;
    let value = head
        .iter()
        .fold(0, |value, &byte| value << 8 | u64::from(byte));
    let value = value & ((1 << (7 * length)) - 1);
    (value != (1 << (7 * length)) - 1).then_some(value)
}

fn elements(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = bytes[0].leading_zeros() as usize + 1;
        let (head, rest) = bytes.split_at(length);
        let id = head.iter().fold(0, |id, &byte| id << 8 | u32::from(byte));
        bytes = rest;
        let size = vint(&mut bytes);
        assert_eq!(
            size.is_none(),
            [id::SEGMENT, id::CLUSTER].contains(&id),
            "{id:x}"
        );
        let payload = if PARENTS.contains(&id) {
            Vec::new()
        } else {
            let (payload, rest) = bytes.split_at(size.unwrap() as usize);
            bytes = rest;
            payload.to_vec()
        };
        found.push((id, payload));
    }
    found
}

fn first(elements: &[(u32, Vec<u8>)], wanted: u32) -> &[u8] {
    &elements.iter().find(|(id, _)| *id == wanted).unwrap().1
}

fn number(payload: &[u8]) -> u64 {
    payload
        .iter()
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Every block's time in milliseconds and its packet, and the discarded nanoseconds of the last.
fn blocks(elements: &[(u32, Vec<u8>)]) -> (Vec<(u64, Vec<u8>)>, u64) {
    let mut blocks = Vec::new();
    let (mut cluster, mut discarded) = (0, None);
    for (id, payload) in elements {
        let block = match *id {
            id::TIMESTAMP => {
                cluster = number(payload);
                continue;
            }
            id::SIMPLE_BLOCK => payload.clone(),
            id::BLOCK_GROUP => {
                let group = self::elements(payload);
                discarded = Some(number(first(&group, id::DISCARD_PADDING)));
                first(&group, id::BLOCK).to_vec()
            }
            _ => continue,
        };
        assert_eq!(block[0], 0x81);
        let offset = u64::from(u16::from_be_bytes([block[1], block[2]]));
        assert!(offset < 1000);
        blocks.push((cluster + offset, block[4..].to_vec()));
    }
    (blocks, discarded.unwrap())
}

#[test]
fn test_container_is_found_by_name() {
    assert_eq!(Format::parse("WebM"), Some(Format::Webm));
    assert_eq!(Format::Webm.content_type(), "audio/webm");
    assert_eq!(Format::Webm.extension(), "webm");
}

#[test]
fn test_file_has_exactly_audio() {
    for rate in SAMPLE_RATES {
        for samples in [1, rate / 50, 5 * rate / 2 + 7] {
            let input = tone(rate, samples as usize);
            let file = encoded(
                &mut Webm::new(rate, None, Length::Unknown).unwrap(),
                &input,
                960,
            );
            let elements = elements(&file);
            let (blocks, discarded) = blocks(&elements);
            for (index, (time, _)) in (0..).zip(&blocks) {
                assert_eq!(*time, 20 * index);
            }
            let delay = number(first(&elements, id::CODEC_DELAY));
            let mut audio = decoded(blocks.iter().map(|(_, packet)| packet.as_slice()));
            let in_samples = |nanoseconds: u64| (nanoseconds as f64 * 48e-6).round() as usize;
            audio.truncate(audio.len() - in_samples(discarded));
            audio.drain(..in_samples(delay));
            let expected = (f64::from(samples) * 48_000.0 / f64::from(rate)).round() as usize;
            assert_eq!(audio.len(), expected, "{samples} samples at {rate} Hz");
            let error = error_db(&audio, &tone(48_000, expected));
            assert!(samples < rate || error < -20.0, "{rate} Hz: {error} dB");
        }
    }
}

#[test]
fn test_independent_reader_finds_track() {
    let file = encoded(
        &mut Webm::new(16_000, None, Length::Unknown).unwrap(),
        &tone(16_000, 40_000),
        1000,
    );
    let clip = decode(&file, &Limits::default()).unwrap();
    assert_eq!(clip.sample_rate, RATE);
    // That reader keeps the padding.
    assert!(
        (120_000..120_960).contains(&clip.samples.len()),
        "{}",
        clip.samples.len()
    );
}

#[test]
fn test_head_describes_track_for_browsers() {
    let head = Webm::new(22_050, None, Length::Unknown)
        .unwrap()
        .head()
        .unwrap();
    let elements = elements(&head);
    assert_eq!(first(&elements, id::CODEC_ID), b"A_OPUS");
    let private = first(&elements, id::CODEC_PRIVATE);
    assert!(private.starts_with(b"OpusHead\x01\x01"));
    let skip = u64::from(u16::from_le_bytes([private[10], private[11]]));
    assert_eq!(
        number(first(&elements, id::CODEC_DELAY)),
        skip * 1_000_000 / 48
    );
    assert_eq!(number(first(&elements, id::SEEK_PRE_ROLL)), 80_000_000);
    assert_eq!(first(&elements, id::TAG_STRING), COMMENT.as_bytes());
}

#[test]
fn test_known_length_fits_reserved_space() {
    let stream = Webm::new(8000, None, Length::Unknown)
        .unwrap()
        .head()
        .unwrap();
    let file = Webm::new(8000, None, Length::Samples(12_000))
        .unwrap()
        .head()
        .unwrap();
    assert_eq!(stream.len(), file.len());
    assert!(elements(&stream).iter().all(|(id, _)| *id != id::DURATION));
    assert_eq!(
        first(&elements(&file), id::DURATION),
        1500_f64.to_be_bytes()
    );
}

#[test]
fn test_packets_are_not_held_back() {
    let mut webm = Webm::new(24_000, None, Length::Unknown).unwrap();
    webm.head().unwrap();
    for _ in 0..200 {
        assert!(!webm.push(&[0.0; 480]).unwrap().is_empty());
    }
}

#[test]
fn test_bytes_do_not_depend_on_pushes() {
    for rate in [22_050, 24_000] {
        let input = tone(rate, 60_000);
        let whole = encoded(
            &mut Webm::new(rate, None, Length::Unknown).unwrap(),
            &input,
            60_000,
        );
        for size in [1, 479, 5000] {
            let cut = encoded(
                &mut Webm::new(rate, None, Length::Unknown).unwrap(),
                &input,
                size,
            );
            assert!(cut == whole, "{size} at {rate} Hz");
        }
    }
}

#[test]
fn test_ebml_sizes_are_minimal_and_known() {
    for (length, head) in [
        (0, vec![0xEC, 0x80]),
        (126, vec![0xEC, 0xFE]),
        (127, vec![0xEC, 0x40, 0x7F]),
        (16_382, vec![0xEC, 0x7F, 0xFE]),
        (16_383, vec![0xEC, 0x20, 0x3F, 0xFF]),
    ] {
        assert!(
            element(id::VOID, &vec![0; length]).starts_with(&head),
            "{length}"
        );
    }
    assert_eq!(uint(id::TIMESTAMP, 0), [0xE7, 0x81, 0]);
    assert_eq!(uint(id::TIMESTAMP, 256), [0xE7, 0x82, 1, 0]);
}
