//! FLAC, 16 bits, frame by frame (RFC 9639).

use flacenc::bitsink::ByteSink;
use flacenc::component::{BitRepr, Stream, StreamInfo};
use flacenc::config;
use flacenc::error::{Verified, Verify};
use flacenc::source::{Fill, FrameBuf};

use super::{EncodeError, Encoder, Length, mark, pcm};

const BITS_PER_SAMPLE: usize = 16;
/// `STREAMINFO` counts samples in 36 bits; 0 stands for an unknown number.
const MAX_TOTAL: u64 = (1 << 36) - 1;

/// Where the first metadata block begins, after the file's mark.
const STREAM_INFO_AT: usize = 4;
/// A metadata block's first byte: a flag and the block's type (RFC 9639, section 8.1).
const LAST_BLOCK: u8 = 0x80;
const VORBIS_COMMENT: u8 = 4;

/// A FLAC file whose head has no checksum of the audio, which is known only at the end.
pub(super) struct Flac {
    codec: Codec,
    length: Length,
    pending: Vec<i32>,
}

struct Codec {
    config: Verified<config::Encoder>,
    head: Stream,
    block: FrameBuf,
    block_samples: usize,
    frames: usize,
}

impl Flac {
    pub(super) fn new(
        sample_rate: u32,
        _bitrate: Option<u32>,
        length: Length,
    ) -> Result<Self, EncodeError> {
        Ok(Self {
            codec: Codec::new(sample_rate)?,
            length,
            pending: Vec::new(),
        })
    }
}

/// About 50 ms: short enough to be played soon, long enough that the frames' heads weigh little. A multiple of 576 is
/// written in four bits.
fn block_samples(sample_rate: u32) -> usize {
    match sample_rate {
        0..=12000 => 576,
        12001..=24000 => 1152,
        _ => 2304,
    }
}

impl Codec {
    fn new(sample_rate: u32) -> Result<Self, EncodeError> {
        let block_samples = block_samples(sample_rate);
        let mut config = config::Encoder::default();
        config.block_size = block_samples;
        let mut info = StreamInfo::new(sample_rate as usize, 1, BITS_PER_SAMPLE).map_err(failed)?;
        info.set_block_sizes(block_samples, block_samples)
            .map_err(failed)?;
        info.set_frame_sizes(0, 0).map_err(failed)?; // unknown
        Ok(Self {
            config: config.into_verified().map_err(|(_, error)| failed(error))?,
            head: Stream::with_stream_info(info),
            block: FrameBuf::with_size(1, block_samples).map_err(failed)?,
            block_samples,
            frames: 0,
        })
    }

    /// One frame of at most a block of samples.
    fn encode(&mut self, samples: &[i32]) -> Result<Vec<u8>, EncodeError> {
        let number = self.frames;
        self.frames += 1;
        self.block.fill_interleaved(samples).map_err(failed)?;
        let info = self.head.stream_info();
        let frame = flacenc::encode_fixed_size_frame(&self.config, &self.block, number, info);
        serialized(&frame.map_err(failed)?)
    }
}

fn serialized(part: &impl BitRepr) -> Result<Vec<u8>, EncodeError> {
    let mut sink = ByteSink::new();
    part.write(&mut sink).map_err(failed)?;
    Ok(sink.into_inner())
}

fn failed(error: impl std::fmt::Display) -> EncodeError {
    EncodeError::new("FLAC", error)
}

impl Encoder for Flac {
    fn head(&mut self) -> Result<Vec<u8>, EncodeError> {
        let stream = &mut self.codec.head;
        if let Length::Samples(total @ 0..=MAX_TOTAL) = self.length {
            stream.stream_info_mut().set_total_samples(total as usize);
        }
        let mut head = serialized(stream)?;
        // The comments follow the block that was last before.
        if let Some(block) = head.get_mut(STREAM_INFO_AT) {
            *block &= !LAST_BLOCK;
        }
        let comments = mark::vorbis_comments("flacenc");
        head.push(LAST_BLOCK | VORBIS_COMMENT);
        head.extend_from_slice(&(comments.len() as u32).to_be_bytes()[1..]);
        head.extend(comments);
        Ok(head)
    }

    fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::new();
        let samples = samples.iter().map(|&sample| i32::from(pcm::to_i16(sample)));
        self.pending.extend(samples);
        let block_samples = self.codec.block_samples;
        let whole = self.pending.len() - self.pending.len() % block_samples;
        for block in self.pending[..whole].chunks(block_samples) {
            bytes.extend(self.codec.encode(block)?);
        }
        self.pending.drain(..whole);
        Ok(bytes)
    }

    fn finish(&mut self) -> Result<Vec<u8>, EncodeError> {
        let rest = std::mem::take(&mut self.pending);
        if rest.is_empty() {
            return Ok(Vec::new());
        }
        self.codec.encode(&rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SAMPLE_RATES;
    use super::*;

    #[test]
    fn test_head_is_streaminfo() {
        for rate in SAMPLE_RATES {
            for (length, total) in [
                (Length::Unknown, 0),
                (Length::Samples(12_345), 12_345),
                (Length::Samples(MAX_TOTAL + 1), 0),
            ] {
                let head = Flac::new(rate, None, length).unwrap().head().unwrap();
                // A block of type 0 and 34 bytes.
                assert_eq!(head[..8], *b"fLaC\0\0\0\x22");
                let block = (block_samples(rate) as u16).to_be_bytes();
                assert_eq!(head[8..12], [block, block].concat());
                assert_eq!(head[12..18], [0; 6], "sizes of frames");
                // 20 bits of rate, 3 of channels less one, 5 of bits less one, 36 of samples.
                let expected = u64::from(rate) << 44 | 15 << 36 | total;
                assert_eq!(head[18..26], expected.to_be_bytes());
                assert_eq!(head[26..42], [0; 16], "no checksum");
                let comments = mark::vorbis_comments("flacenc");
                let size = comments.len() as u8;
                assert_eq!(
                    head[42..46],
                    [0x84, 0, 0, size],
                    "the last block, of type 4"
                );
                assert_eq!(head[46..], comments);
            }
        }
    }
}
