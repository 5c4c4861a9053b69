//! MP3 (MPEG-1, MPEG-2 and MPEG-2.5 layer III) at a constant bit rate, through LAME.
//!
//! Before the audio come an ID3 tag and a silent frame with a LAME info tag, from which players learn how many samples
//! the codec has put before the first one and, where the length is known, after the last. Its layout is from "Mp3 Info
//! Tag rev 1" by the makers of LAME.

use mp3lame_encoder::{Bitrate, Builder, FlushGap, MonoPcm, max_required_buffer_size};

use super::bitrate::{Allowed, Bitrates, chosen, usual};
use super::{EncodeError, Encoder, Length, mark, pcm};

/// The encoder's name in errors.
const CODEC: &str = "LAME";
/// Samples that LAME puts before the first; what a decoder adds is for the player to know.
const DELAY: u64 = 576;
/// The least silence after the last sample with which LAME flushes.
const MIN_PADDING: u64 = 576;
/// Samples encoded at once, so that a long push needs little memory.
const PART: usize = 1152;
/// Kilobits per second by `bitrate_index` (ISO/IEC 11172-3 and 13818-3, layer III).
const MPEG1_KBPS: [u32; 15] = [
    0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
];
const MPEG2_KBPS: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
/// The bit rates that LAME's binding has names for.
const LAME_BIT_RATES: [Bitrate; 16] = [
    Bitrate::Kbps8,
    Bitrate::Kbps16,
    Bitrate::Kbps24,
    Bitrate::Kbps32,
    Bitrate::Kbps40,
    Bitrate::Kbps48,
    Bitrate::Kbps64,
    Bitrate::Kbps80,
    Bitrate::Kbps96,
    Bitrate::Kbps112,
    Bitrate::Kbps128,
    Bitrate::Kbps160,
    Bitrate::Kbps192,
    Bitrate::Kbps224,
    Bitrate::Kbps256,
    Bitrate::Kbps320,
];
/// Bytes of the tag from "LAME" up to its checksum.
const TAG_BYTES: usize = 34;

/// An MP3 file. LAME takes half a decibel off, against clipping.
pub(super) struct Mp3 {
    lame: mp3lame_encoder::Encoder,
    sample_rate: u32,
    kbps: u32,
    length: Length,
}

impl Mp3 {
    pub(super) fn new(
        sample_rate: u32,
        bitrate: Option<u32>,
        length: Length,
    ) -> Result<Self, EncodeError> {
        let kbps = chosen(bitrate, bitrates(sample_rate));
        Ok(Self {
            lame: lame(sample_rate, kbps)?,
            sample_rate,
            kbps,
            length,
        })
    }
}

fn lame(sample_rate: u32, kbps: u32) -> Result<mp3lame_encoder::Encoder, EncodeError> {
    let bit_rate = LAME_BIT_RATES
        .into_iter()
        .find(|&bit_rate| bit_rate as u32 == kbps)
        .ok_or_else(|| EncodeError::new(CODEC, format_args!("no bit rate of {kbps} kbit/s")))?;
    Builder::new()
        .ok_or_else(|| EncodeError::new(CODEC, "out of memory"))?
        .with_num_channels(1)
        .and_then(|lame| lame.with_sample_rate(sample_rate))
        // Left to itself, LAME resamples where it finds the bit rate low.
        .and_then(|lame| lame.with_output_sample_rate(sample_rate.try_into().ok()))
        .and_then(|lame| lame.with_brate(bit_rate))
        .and_then(|lame| lame.with_mode(mp3lame_encoder::Mode::Mono))
        .and_then(|lame| lame.with_quality(mp3lame_encoder::Quality::Good))
        // The library's own tag is known only at the end.
        .and_then(|lame| lame.with_to_write_vbr_tag(false))
        .and_then(Builder::build)
        .map_err(|error| EncodeError::new(CODEC, error))
}

/// Less than the least here leaves a frame too short for the tag; 56 and 144 are unknown to the binding of LAME.
pub(super) fn bitrates(sample_rate: u32) -> Bitrates {
    let allowed: &[u32] = match sample_rate {
        0..=8000 => &[8, 16, 24, 32, 40, 48, 64],
        8001..=16000 => &[16, 24, 32, 40, 48, 64, 80, 96, 112, 128, 160],
        16001..=24000 => &[24, 32, 40, 48, 64, 80, 96, 112, 128, 160],
        _ => &[32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    };
    Bitrates {
        usual: usual(sample_rate),
        allowed: Allowed::OneOf(allowed),
    }
}

/// MPEG-1 has the higher rates, with longer frames.
fn is_mpeg1(sample_rate: u32) -> bool {
    sample_rate >= 32000
}

/// The header of a frame without padding: its four bytes, and the frame's size in bytes.
fn frame_header(sample_rate: u32, kbps: u32) -> ([u8; 4], usize) {
    let (version, rate_index) = match sample_rate {
        44100 => (0b11, 0),
        48000 => (0b11, 1),
        22050 => (0b10, 0),
        24000 => (0b10, 1),
        16000 => (0b10, 2),
        _ => (0b00, 2), // 8000, MPEG-2.5
    };
    let codes = if is_mpeg1(sample_rate) {
        MPEG1_KBPS
    } else {
        MPEG2_KBPS
    };
    let bit_rate_index = codes.iter().position(|&code| code == kbps).unwrap_or(0) as u8;
    let slots = if is_mpeg1(sample_rate) { 144 } else { 72 };
    let bytes = slots * kbps * 1000 / sample_rate;
    // Layer III without a checksum; one channel.
    let second = 0b1110_0011 | version << 3;
    let header = [
        0xFF,
        second,
        bit_rate_index << 4 | rate_index << 2,
        0b1100_0000,
    ];
    (header, bytes as usize)
}

/// A file's frames, but for the first with the tag, and the silence after the last sample: what LAME makes of `samples`.
fn frames_and_padding(samples: u64, sample_rate: u32) -> (u64, u64) {
    let frame = if is_mpeg1(sample_rate) { 1152 } else { 576 };
    let delayed = samples.saturating_add(DELAY);
    let mut padding = frame - delayed % frame;
    if padding < MIN_PADDING {
        padding += frame;
    }
    (delayed.saturating_add(padding) / frame, padding)
}

/// CRC-16 with the polynomial 0x8005, least significant bit first, from 0.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xA001 } else { 0 }
        })
    })
}

impl Encoder for Mp3 {
    fn head(&mut self) -> Result<Vec<u8>, EncodeError> {
        let known = match self.length {
            Length::Samples(samples) => {
                let (frames, padding) = frames_and_padding(samples, self.sample_rate);
                u32::try_from(frames).ok().map(|frames| (frames, padding))
            }
            Length::Unknown => None,
        };
        let (header, size) = frame_header(self.sample_rate, self.kbps);
        let mut frame = header.to_vec();
        // Side information of one channel, all zeros: silence.
        let side_bytes = if is_mpeg1(self.sample_rate) { 17 } else { 9 };
        frame.resize(frame.len() + side_bytes, 0);
        frame.extend_from_slice(b"Info");
        frame.extend_from_slice(&u32::from(known.is_some()).to_be_bytes());
        if let Some((frames, _)) = known {
            frame.extend_from_slice(&frames.to_be_bytes());
        }
        let padding = known.map_or(0, |(_, padding)| padding);
        let mut tag = [0; TAG_BYTES];
        tag[..9].copy_from_slice(b"LAME3.100");
        tag[9] = 1; // revision 0, constant bit rate
        tag[20] = self.kbps.min(255) as u8;
        // Twelve bits each.
        tag[21..24].copy_from_slice(&(DELAY << 12 | padding).to_be_bytes()[5..]);
        frame.extend_from_slice(&tag);
        frame.extend_from_slice(&checksum(&frame).to_be_bytes());
        frame.resize(size, 0);
        Ok([mark::id3(), frame].concat())
    }

    fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::new();
        for part in samples.chunks(PART) {
            let part: Vec<f32> = part.iter().copied().map(pcm::sanitize).collect();
            bytes.reserve(max_required_buffer_size(part.len()));
            let encoded = self.lame.encode_to_vec(MonoPcm(&part), &mut bytes);
            encoded.map_err(|error| EncodeError::new(CODEC, error))?;
        }
        Ok(bytes)
    }

    fn finish(&mut self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::with_capacity(max_required_buffer_size(0));
        let flushed = self.lame.flush_to_vec::<FlushGap>(&mut bytes);
        flushed.map_err(|error| EncodeError::new(CODEC, error))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SAMPLE_RATES;
    use super::*;

    /// The sizes in bytes of the frames that make up `bytes`, which have the header of these rates, padded or not.
    fn frames(mut bytes: &[u8], sample_rate: u32, kbps: u32) -> Vec<usize> {
        let (header, size) = frame_header(sample_rate, kbps);
        let mut sizes = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(bytes[..2], header[..2], "frame {}", sizes.len());
            assert_eq!(bytes[2] & !2, header[2]);
            assert_eq!(bytes[3] >> 6, 0b11, "one channel");
            let size = size + usize::from(bytes[2] >> 1 & 1);
            sizes.push(size);
            bytes = &bytes[size..];
        }
        sizes
    }

    fn every_bitrate(rate: u32) -> impl Iterator<Item = (u32, u32)> {
        let Allowed::OneOf(values) = bitrates(rate).allowed else {
            unreachable!("MP3 has a table");
        };
        values.iter().map(move |&kbps| (rate, kbps))
    }

    #[test]
    fn test_xing_tag_has_frame_count_and_padding() {
        for (rate, kbps) in SAMPLE_RATES.into_iter().flat_map(every_bitrate) {
            for samples in [1, 2, 575, 576, 577, 1151, 1152, 1153, 1728, 20_000] {
                let mut mp3 = Mp3::new(rate, Some(kbps), Length::Samples(samples)).unwrap();
                let head = mp3.head().unwrap();
                let mut audio = mp3.push(&vec![0.1; samples as usize]).unwrap();
                audio.extend(mp3.finish().unwrap());
                let made = frames(&audio, rate, kbps).len() as u64;
                let (expected, padding) = frames_and_padding(samples, rate);
                assert_eq!(made, expected, "{samples} samples at {rate}, {kbps} kbit/s");
                let tag = head.strip_prefix(mark::id3().as_slice()).unwrap();
                assert_eq!(frames(tag, rate, kbps), [tag.len()]);
                let frame = if is_mpeg1(rate) { 1152 } else { 576 };
                assert_eq!(DELAY + samples + padding, made * frame);
            }
        }
    }
}
