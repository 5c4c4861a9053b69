//! Opus in `WebM`: Matroska (RFC 9559), streamed live.
//!
//! The segment and its clusters have unknown sizes, so that each packet leaves when it is made. It plays through Media
//! Source Extensions as `audio/webm; codecs=opus`.

use super::mark::{COMMENT, WRITER};
use super::opus::{PACKET_SAMPLES, Packets, RATE};
use super::{EncodeError, Encoder, Length};

/// Element ids (RFC 9559, section 5.1, and RFC 8794, section 11.2).
mod id {
    pub const EBML: u32 = 0x1A45_DFA3;
    pub const EBML_VERSION: u32 = 0x4286;
    pub const EBML_READ_VERSION: u32 = 0x42F7;
    pub const EBML_MAX_ID_LENGTH: u32 = 0x42F2;
    pub const EBML_MAX_SIZE_LENGTH: u32 = 0x42F3;
    pub const DOC_TYPE: u32 = 0x4282;
    pub const DOC_TYPE_VERSION: u32 = 0x4287;
    pub const DOC_TYPE_READ_VERSION: u32 = 0x4285;
    pub const VOID: u32 = 0xEC;
    pub const SEGMENT: u32 = 0x1853_8067;
    pub const INFO: u32 = 0x1549_A966;
    pub const TIMESTAMP_SCALE: u32 = 0x002A_D7B1;
    pub const DURATION: u32 = 0x4489;
    pub const MUXING_APP: u32 = 0x4D80;
    pub const WRITING_APP: u32 = 0x5741;
    pub const TRACKS: u32 = 0x1654_AE6B;
    pub const TRACK_ENTRY: u32 = 0xAE;
    pub const TRACK_NUMBER: u32 = 0xD7;
    pub const TRACK_UID: u32 = 0x73C5;
    pub const TRACK_TYPE: u32 = 0x83;
    pub const FLAG_LACING: u32 = 0x9C;
    pub const LANGUAGE: u32 = 0x0022_B59C;
    pub const DEFAULT_DURATION: u32 = 0x0023_E383;
    pub const CODEC_ID: u32 = 0x86;
    pub const CODEC_PRIVATE: u32 = 0x63A2;
    pub const CODEC_DELAY: u32 = 0x56AA;
    pub const SEEK_PRE_ROLL: u32 = 0x56BB;
    pub const AUDIO: u32 = 0xE1;
    pub const SAMPLING_FREQUENCY: u32 = 0xB5;
    pub const CHANNELS: u32 = 0x9F;
    pub const TAGS: u32 = 0x1254_C367;
    pub const TAG: u32 = 0x7373;
    pub const TARGETS: u32 = 0x63C0;
    pub const SIMPLE_TAG: u32 = 0x67C8;
    pub const TAG_NAME: u32 = 0x45A3;
    pub const TAG_STRING: u32 = 0x4487;
    pub const CLUSTER: u32 = 0x1F43_B675;
    pub const TIMESTAMP: u32 = 0xE7;
    pub const SIMPLE_BLOCK: u32 = 0xA3;
    pub const BLOCK_GROUP: u32 = 0xA0;
    pub const BLOCK: u32 = 0xA1;
    pub const DISCARD_PADDING: u32 = 0x75A2;
}

/// The size of an element that ends where the next of its level begins (RFC 8794, section 6.2).
const UNKNOWN_SIZE: [u8; 8] = [0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
/// Timestamps are in milliseconds, as `WebM` demands.
const TIMESTAMP_SCALE: u64 = 1_000_000;
const PACKET_MS: u64 = PACKET_SAMPLES * 1000 / RATE as u64;
const NANOSECONDS: u64 = 1_000_000_000;
/// A cluster lasts one second: what a player that seeks must read over.
const PACKETS_PER_CLUSTER: u64 = 50;
/// How much earlier a player that seeks begins to decode, in nanoseconds: 80 ms, as Opus needs to settle.
const SEEK_PRE_ROLL: u64 = 80_000_000;
const TRACK: u8 = 1;
/// The track type of audio.
const AUDIO_TRACK: u64 = 2;
const FLAG_KEYFRAME: u8 = 0x80;

/// A `.webm` file.
pub(super) struct Webm {
    packets: Packets,
    sample_rate: u32,
    length: Length,
    written: u64,
}

impl Webm {
    pub(super) fn new(
        sample_rate: u32,
        bitrate: Option<u32>,
        length: Length,
    ) -> Result<Self, EncodeError> {
        Ok(Self {
            packets: Packets::new(sample_rate, bitrate)?,
            sample_rate,
            length,
            written: 0,
        })
    }

    fn info(&self) -> Vec<u8> {
        let duration = match self.length {
            Length::Samples(samples) => {
                let milliseconds = samples as f64 * 1000.0 / f64::from(self.sample_rate.max(1));
                float(id::DURATION, milliseconds)
            }
            // As long as a duration, so that one can be put in its place when the length is known.
            Length::Unknown => element(id::VOID, &[0; 9]),
        };
        parent(
            id::INFO,
            &[
                uint(id::TIMESTAMP_SCALE, TIMESTAMP_SCALE),
                duration,
                element(id::MUXING_APP, WRITER.as_bytes()),
                element(id::WRITING_APP, WRITER.as_bytes()),
            ],
        )
    }

    fn tracks(&self) -> Vec<u8> {
        let delay = nanoseconds(u64::from(self.packets.pre_skip()));
        let audio = [
            float(id::SAMPLING_FREQUENCY, f64::from(RATE)),
            uint(id::CHANNELS, 1),
        ];
        let track = [
            uint(id::TRACK_NUMBER, u64::from(TRACK)),
            uint(id::TRACK_UID, u64::from(TRACK)),
            uint(id::TRACK_TYPE, AUDIO_TRACK),
            uint(id::FLAG_LACING, 0),
            element(id::LANGUAGE, b"und"),
            uint(id::DEFAULT_DURATION, nanoseconds(PACKET_SAMPLES)),
            element(id::CODEC_ID, b"A_OPUS"),
            element(id::CODEC_PRIVATE, &self.packets.head()),
            uint(id::CODEC_DELAY, delay),
            uint(id::SEEK_PRE_ROLL, SEEK_PRE_ROLL),
            parent(id::AUDIO, &audio),
        ];
        parent(id::TRACKS, &[parent(id::TRACK_ENTRY, &track)])
    }

    /// The content of a block; begins a cluster before it where one is due.
    fn block(&mut self, out: &mut Vec<u8>, flags: u8, packet: &[u8]) -> Vec<u8> {
        let in_cluster = self.written % PACKETS_PER_CLUSTER;
        if in_cluster == 0 {
            out.extend(open(id::CLUSTER));
            out.extend(uint(id::TIMESTAMP, self.written * PACKET_MS));
        }
        self.written += 1;
        let mut block = vec![0x80 | TRACK];
        block.extend_from_slice(&((in_cluster * PACKET_MS) as i16).to_be_bytes());
        block.push(flags);
        block.extend_from_slice(packet);
        block
    }

    fn extend(&mut self, out: &mut Vec<u8>, packets: &[Vec<u8>]) {
        for packet in packets {
            let block = self.block(out, FLAG_KEYFRAME, packet);
            out.extend(element(id::SIMPLE_BLOCK, &block));
        }
    }
}

impl Encoder for Webm {
    fn head(&mut self) -> Result<Vec<u8>, EncodeError> {
        let parts = [
            ebml(),
            open(id::SEGMENT),
            self.info(),
            self.tracks(),
            tags(),
        ];
        Ok(parts.concat())
    }

    fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>, EncodeError> {
        let packets = self.packets.push(samples)?;
        let mut out = Vec::new();
        self.extend(&mut out, &packets);
        Ok(out)
    }

    fn finish(&mut self) -> Result<Vec<u8>, EncodeError> {
        let (packets, padding) = self.packets.finish()?;
        let mut out = Vec::new();
        if let Some((last, packets)) = packets.split_last() {
            self.extend(&mut out, packets);
            // Only a block in a group can say how much of its end is not audio.
            let block = self.block(&mut out, 0, last);
            let group = [
                element(id::BLOCK, &block),
                // Signed: the eight bytes keep the sign bit clear.
                element(id::DISCARD_PADDING, &nanoseconds(padding).to_be_bytes()),
            ];
            out.extend(parent(id::BLOCK_GROUP, &group));
        }
        Ok(out)
    }
}

/// The length of samples at [`RATE`], rounded.
fn nanoseconds(samples: u64) -> u64 {
    let rate = u64::from(RATE);
    (samples * NANOSECONDS + rate / 2) / rate
}

fn ebml() -> Vec<u8> {
    parent(
        id::EBML,
        &[
            uint(id::EBML_VERSION, 1),
            uint(id::EBML_READ_VERSION, 1),
            uint(id::EBML_MAX_ID_LENGTH, 4),
            uint(id::EBML_MAX_SIZE_LENGTH, 8),
            element(id::DOC_TYPE, b"webm"),
            // Codec delay and discard padding came with version 4; a reader of version 2 can do without.
            uint(id::DOC_TYPE_VERSION, 4),
            uint(id::DOC_TYPE_READ_VERSION, 2),
        ],
    )
}

fn tags() -> Vec<u8> {
    let comment = [
        element(id::TAG_NAME, b"COMMENT"),
        element(id::TAG_STRING, COMMENT.as_bytes()),
    ];
    let tag = [element(id::TARGETS, &[]), parent(id::SIMPLE_TAG, &comment)];
    parent(id::TAGS, &[parent(id::TAG, &tag)])
}

/// An id as written: its bytes carry their own length.
fn id_bytes(id: u32) -> impl Iterator<Item = u8> {
    id.to_be_bytes().into_iter().skip_while(|&byte| byte == 0)
}

/// The head of an element of unknown size.
fn open(id: u32) -> Vec<u8> {
    id_bytes(id).chain(UNKNOWN_SIZE).collect()
}

fn element(id: u32, payload: &[u8]) -> Vec<u8> {
    let size = payload.len() as u64;
    // The shortest size that is not all ones, which would mean an unknown one.
    let length = (1..8)
        .find(|length| size < (1 << (7 * length)) - 1)
        .unwrap_or(8);
    let marked = size | 1 << (7 * length);
    let mut bytes: Vec<u8> = id_bytes(id).collect();
    bytes.extend_from_slice(&marked.to_be_bytes()[8 - length..]);
    bytes.extend_from_slice(payload);
    bytes
}

fn parent(id: u32, children: &[Vec<u8>]) -> Vec<u8> {
    element(id, &children.concat())
}

fn uint(id: u32, value: u64) -> Vec<u8> {
    let zeros = (value.leading_zeros() / 8).min(7) as usize;
    element(id, &value.to_be_bytes()[zeros..])
}

fn float(id: u32, value: f64) -> Vec<u8> {
    element(id, &value.to_be_bytes())
}

#[cfg(test)]
pub(crate) mod tests;
