//! AAC-LC in fragmented MP4 (ISO/IEC 14496-12 and -14), as Media Source Extensions take it: `audio/mp4; codecs="mp4a.40.2"`.
//!
//! The head describes one track without samples; fragments of whole frames follow as they are made. An edit list takes
//! the codec's priming off the start.

use super::aac::{AacLc, FRAME_SAMPLES, Transport};
use super::mark::{COMMENT, WRITER};
use super::{EncodeError, Encoder, Length};

const TRACK: u32 = 1;
/// Fragments are at most a fifth of a second long, where a frame is not longer already.
const FRAGMENTS_PER_SECOND: usize = 5;
/// A sample that depends on no other.
const SYNC_SAMPLE: u32 = 0x0200_0000;
/// One, as 16.16 and as 2.30 fixed-point numbers.
const ONE: u32 = 0x0001_0000;
const ONE_2_30: u32 = 0x4000_0000;
/// The matrix that leaves a picture as it is; audio must have one too.
const MATRIX: [u32; 9] = [ONE, 0, 0, 0, ONE, 0, 0, 0, ONE_2_30];

/// A fragmented MP4 file.
pub(super) struct Fmp4 {
    aac: AacLc,
    sample_rate: u32,
    length: Length,
    /// Frames that wait for their fragment to fill.
    waiting: Vec<Vec<u8>>,
    /// Fragments and frames written.
    fragments: u32,
    frames: u64,
}

impl Fmp4 {
    pub(super) fn new(
        sample_rate: u32,
        bitrate: Option<u32>,
        length: Length,
    ) -> Result<Self, EncodeError> {
        Ok(Self {
            aac: AacLc::new(sample_rate, bitrate, Transport::Raw)?,
            sample_rate,
            length,
            waiting: Vec::new(),
            fragments: 0,
            frames: 0,
        })
    }

    fn movie(&self) -> Vec<u8> {
        let rate = self.sample_rate;
        // 0 where it is not known: an edit of no length lasts as long as the fragments do.
        let duration = match self.length {
            Length::Samples(samples) => u32::try_from(samples).unwrap_or(0),
            Length::Unknown => 0,
        };
        let mut header = words(&[0, 0, rate, 0, ONE]);
        header.extend(words(&[0x0100_0000, 0, 0])); // volume
        header.extend(words(&MATRIX));
        header.extend(words(&[0; 6]));
        header.extend(words(&[TRACK + 1]));
        // A `free` box is as long as the one with the duration: the head can be corrected in place.
        let extent = if duration == 0 { *b"free" } else { *b"mehd" };
        let defaults = [TRACK, 1, FRAME_SAMPLES as u32, 0, SYNC_SAMPLE];
        let extends = [
            full_box(extent, 0, &words(&[duration])),
            full_box(*b"trex", 0, &words(&defaults)),
        ];
        let parts = [
            full_box(*b"mvhd", 0, &header),
            self.track(duration),
            plain_box(*b"mvex", &extends.concat()),
            plain_box(*b"udta", &tags()),
        ];
        plain_box(*b"moov", &parts.concat())
    }

    fn track(&self, duration: u32) -> Vec<u8> {
        let mut header = words(&[0, 0, TRACK, 0, 0, 0, 0, 0]);
        header.extend(words(&[0x0100_0000])); // volume
        header.extend(words(&MATRIX));
        header.extend(words(&[0, 0])); // width, height
        let edit = words(&[1, duration, self.aac.priming() as u32, ONE]);
        let media_header = words(&[0, 0, self.sample_rate, 0, u32::from(UNDETERMINED) << 16]);
        let mut handler = words(&[0]);
        handler.extend_from_slice(b"soun");
        handler.extend(words(&[0, 0, 0]));
        handler.push(0); // an empty name
        let media = [
            full_box(*b"mdhd", 0, &media_header),
            full_box(*b"hdlr", 0, &handler),
            plain_box(*b"minf", &self.media_information()),
        ];
        let parts = [
            full_box(*b"tkhd", 3, &header), // enabled, in the movie
            plain_box(*b"edts", &full_box(*b"elst", 0, &edit)),
            plain_box(*b"mdia", &media.concat()),
        ];
        plain_box(*b"trak", &parts.concat())
    }

    fn media_information(&self) -> Vec<u8> {
        let mut entry = words(&[0, 1, 0, 0]); // reserved, reference to the data in this file
        entry.extend(words(&[1 << 16 | 16, 0])); // channels, bits of the original samples
        entry.extend(words(&[self.sample_rate << 16]));
        entry.extend(full_box(*b"esds", 0, &descriptors(self.aac.config())));
        let mut description = words(&[1]);
        description.extend(plain_box(*b"mp4a", &entry));
        // The tables of samples are empty: fragments have their own.
        let tables = [
            full_box(*b"stsd", 0, &description),
            full_box(*b"stts", 0, &words(&[0])),
            full_box(*b"stsc", 0, &words(&[0])),
            full_box(*b"stsz", 0, &words(&[0, 0])),
            full_box(*b"stco", 0, &words(&[0])),
        ];
        let mut reference = words(&[1]);
        reference.extend(full_box(*b"url ", 1, &[])); // in this file
        let parts = [
            full_box(*b"smhd", 0, &words(&[0])),
            plain_box(*b"dinf", &full_box(*b"dref", 0, &reference)),
            plain_box(*b"stbl", &tables.concat()),
        ];
        parts.concat()
    }

    /// Frames to a fragment. The first has one, to be played at once.
    fn fragment_frames(&self) -> usize {
        let full = self.sample_rate as usize / FRAGMENTS_PER_SECOND / FRAME_SAMPLES;
        if self.fragments == 0 { 1 } else { full.max(1) }
    }

    /// The waiting frames as a fragment, whose last frame lasts `last_samples`.
    fn fragment(&mut self, last_samples: u32) -> Vec<u8> {
        let frames = std::mem::take(&mut self.waiting);
        let start = self.frames * FRAME_SAMPLES as u64;
        self.fragments += 1;
        self.frames += frames.len() as u64;

        let mut durations = vec![FRAME_SAMPLES as u32; frames.len()];
        if let Some(last) = durations.last_mut() {
            *last = last_samples;
        }
        let sizes = frames.iter().map(|frame| frame.len() as u32);
        let entries: Vec<u32> = durations
            .into_iter()
            .zip(sizes)
            .flat_map(|(duration, size)| [duration, size])
            .collect();
        let header = |data_offset: u32| {
            let mut run = words(&[frames.len() as u32, data_offset]);
            run.extend(words(&entries));
            let parts = [
                full_box(*b"tfhd", 0x02_0000, &words(&[TRACK])), // offsets count from the fragment
                full_box(*b"tfdt", 0x0100_0000, &start.to_be_bytes()), // version 1: 64 bits
                full_box(*b"trun", 0x301, &run),                 // an offset, durations and sizes
            ];
            let parts = [
                full_box(*b"mfhd", 0, &words(&[self.fragments])),
                plain_box(*b"traf", &parts.concat()),
            ];
            plain_box(*b"moof", &parts.concat())
        };
        let size = header(0).len() as u32;
        let mut bytes = header(size + BOX_HEADER);
        bytes.extend(plain_box(*b"mdat", &frames.concat()));
        bytes
    }

    /// All the fragments that are full with these frames.
    fn fragments(&mut self, frames: Vec<Vec<u8>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            self.waiting.push(frame);
            if self.waiting.len() == self.fragment_frames() {
                bytes.extend(self.fragment(FRAME_SAMPLES as u32));
            }
        }
        bytes
    }
}

/// The language "und" in three times five bits.
const UNDETERMINED: u16 = 0x55C4;
const BOX_HEADER: u32 = 8;

/// The comment and the maker, as iTunes keeps them and players show them.
fn tags() -> Vec<u8> {
    let tag = |name, text: &str| {
        let mut data = words(&[1, 0]); // UTF-8, of no country
        data.extend_from_slice(text.as_bytes());
        plain_box(name, &plain_box(*b"data", &data))
    };
    let mut handler = words(&[0]);
    handler.extend_from_slice(b"mdirappl");
    handler.extend(words(&[0, 0]));
    handler.push(0); // an empty name
    let list = [tag(*b"\xA9cmt", COMMENT), tag(*b"\xA9too", WRITER)];
    let content = [
        full_box(*b"hdlr", 0, &handler),
        plain_box(*b"ilst", &list.concat()),
    ];
    full_box(*b"meta", 0, &content.concat())
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn plain_box(name: [u8; 4], content: &[u8]) -> Vec<u8> {
    let mut bytes = words(&[BOX_HEADER + content.len() as u32]);
    bytes.extend_from_slice(&name);
    bytes.extend_from_slice(content);
    bytes
}

/// A box whose content begins with its version (the highest eight bits) and its flags.
fn full_box(name: [u8; 4], version_and_flags: u32, content: &[u8]) -> Vec<u8> {
    let mut whole = words(&[version_and_flags]);
    whole.extend_from_slice(content);
    plain_box(name, &whole)
}

/// A descriptor of ISO/IEC 14496-1, section 8.3.3; none here is longer than 127 bytes.
fn descriptor(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag, content.len() as u8];
    bytes.extend_from_slice(content);
    bytes
}

/// The elementary stream descriptor of AAC with this `AudioSpecificConfig`.
fn descriptors(config: &[u8]) -> Vec<u8> {
    let mut decoder = vec![0x40, 0x15]; // MPEG-4 audio; an audio stream
    decoder.extend([0; 11]); // buffer size and bit rates: unknown
    decoder.extend(descriptor(0x05, config));
    let mut stream = vec![0, 0, 0]; // no id, no flags
    stream.extend(descriptor(0x04, &decoder));
    stream.extend(descriptor(0x06, &[2])); // as MP4 files have it
    descriptor(0x03, &stream)
}

impl Encoder for Fmp4 {
    fn head(&mut self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = plain_box(*b"ftyp", b"iso6\0\0\0\0iso6mp41");
        bytes.extend(self.movie());
        Ok(bytes)
    }

    fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>, EncodeError> {
        let frames = self.aac.push(samples)?;
        Ok(self.fragments(frames))
    }

    fn finish(&mut self) -> Result<Vec<u8>, EncodeError> {
        let mut frames = self.aac.finish()?;
        let Some(last) = frames.pop() else {
            return Ok(Vec::new());
        };
        let mut bytes = self.fragments(frames);
        let before = (self.frames + self.waiting.len() as u64) * FRAME_SAMPLES as u64;
        let all = self.aac.samples() + self.aac.priming() as u64;
        self.waiting.push(last);
        bytes.extend(self.fragment(all.saturating_sub(before) as u32));
        Ok(bytes)
    }
}
