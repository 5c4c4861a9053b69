//! RIFF WAVE, 16-bit PCM, mono.
//!
//! Layout after "Multimedia Programming Interface and Data Specifications 1.0" (IBM and Microsoft, 1991), chapter 3.

use super::{EncodeError, Encoder, Length, mark, pcm};

const BYTES_PER_SAMPLE: u16 = 2;
const HEAD_BYTES: usize = 44;
/// What the RIFF chunk counts besides the samples and the trailer: all of the head but its own id and size.
const RIFF_OVERHEAD: u32 = 36;
/// The customary "read until the stream ends" size of a WAV that is sent while it is being made.
const UNKNOWN_SIZE: u32 = u32::MAX;

/// A WAV file with a plain 44-byte head, as programs expect that skip it unread. The comment comes after the samples,
/// and only in a file of known length: where the samples end with the stream it would be heard.
pub(super) struct Wav {
    sample_rate: u32,
    length: Length,
}

/// A clip as a WAV file: not an answer, and so without the comment that marks answers as made by a machine. At most 2^30
/// samples.
pub fn clip_file(samples: &[f32], sample_rate: u32) -> Vec<u8> {
    let data_size = samples.len() as u32 * u32::from(BYTES_PER_SAMPLE);
    let mut file = head(sample_rate, RIFF_OVERHEAD + data_size, data_size);
    file.extend(pcm::s16le(samples));
    file
}

fn head(sample_rate: u32, riff_size: u32, data_size: u32) -> Vec<u8> {
    let byte_rate = sample_rate.saturating_mul(u32::from(BYTES_PER_SAMPLE));
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend_from_slice(b"RIFF");
    head.extend_from_slice(&riff_size.to_le_bytes());
    head.extend_from_slice(b"WAVEfmt ");
    head.extend_from_slice(&16_u32.to_le_bytes()); // size of the format chunk
    head.extend_from_slice(&1_u16.to_le_bytes()); // WAVE_FORMAT_PCM
    head.extend_from_slice(&1_u16.to_le_bytes()); // channels
    head.extend_from_slice(&sample_rate.to_le_bytes());
    head.extend_from_slice(&byte_rate.to_le_bytes());
    head.extend_from_slice(&BYTES_PER_SAMPLE.to_le_bytes()); // bytes per frame
    head.extend_from_slice(&(8 * BYTES_PER_SAMPLE).to_le_bytes()); // bits per sample
    head.extend_from_slice(b"data");
    head.extend_from_slice(&data_size.to_le_bytes());
    head
}

impl Wav {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "codecs of other formats can fail to start"
    )]
    pub(super) fn new(
        sample_rate: u32,
        _bitrate: Option<u32>,
        length: Length,
    ) -> Result<Self, EncodeError> {
        Ok(Self {
            sample_rate,
            length,
        })
    }

    /// The sizes of the RIFF chunk and of the data chunk, in bytes; `None` for a stream, and for more than the 4 GiB that
    /// can be written down.
    fn sizes(&self) -> Option<(u32, u32)> {
        let Length::Samples(samples) = self.length else {
            return None;
        };
        let data = samples.checked_mul(u64::from(BYTES_PER_SAMPLE))?;
        let data = u32::try_from(data).ok()?;
        let around = RIFF_OVERHEAD + mark::riff_info().len() as u32;
        Some((data.checked_add(around)?, data))
    }
}

impl Encoder for Wav {
    fn head(&mut self) -> Result<Vec<u8>, EncodeError> {
        let (riff_size, data_size) = self.sizes().unwrap_or((UNKNOWN_SIZE, UNKNOWN_SIZE));
        Ok(head(self.sample_rate, riff_size, data_size))
    }

    fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>, EncodeError> {
        Ok(pcm::s16le(samples))
    }

    fn trailer(&self) -> Vec<u8> {
        self.sizes().map(|_| mark::riff_info()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(length: Length, samples: &[f32]) -> Vec<u8> {
        let mut wav = Wav::new(22050, None, length).unwrap();
        let mut bytes = wav.head().unwrap();
        for part in samples.chunks(3) {
            bytes.extend(wav.push(part).unwrap());
        }
        bytes.extend(wav.finish().unwrap());
        bytes.extend(wav.trailer());
        bytes
    }

    #[test]
    fn test_file_is_read_by_independent_decoder() -> Result<(), hound::Error> {
        let samples = [0.0, 0.5, -0.5, 1.0, -1.0, 2.0, f32::NAN];
        let bytes = file(Length::Samples(samples.len() as u64), &samples);
        assert_eq!(bytes[4..8], (bytes.len() as u32 - 8).to_le_bytes());
        let end = HEAD_BYTES + 2 * samples.len();
        assert_eq!(bytes[40..44], (2 * samples.len() as u32).to_le_bytes());
        assert_eq!(bytes[end..], mark::riff_info());
        let reader = hound::WavReader::new(bytes.as_slice())?;
        assert_eq!(
            reader.spec(),
            hound::WavSpec {
                channels: 1,
                sample_rate: 22050,
                bits_per_sample: 16,
                sample_format: hound::SampleFormat::Int,
            }
        );
        let read: Vec<i16> = reader.into_samples().collect::<Result<_, _>>()?;
        assert_eq!(read, [0, 16384, -16384, 32767, -32767, 32767, 0]);
        Ok(())
    }

    #[test]
    fn test_clip_is_read_by_independent_decoder() -> Result<(), hound::Error> {
        let bytes = clip_file(&[0.0, 0.5, -1.0, 2.0], 22_050);
        let reader = hound::WavReader::new(bytes.as_slice())?;
        assert_eq!(
            (reader.spec().channels, reader.spec().sample_rate),
            (1, 22_050)
        );
        let read: Vec<i16> = reader.into_samples().collect::<Result<_, _>>()?;
        assert_eq!(read, [0, 16_384, -32_767, 32_767]);
        Ok(())
    }

    #[test]
    fn test_stream_differs_from_file_in_sizes_only() -> Result<(), hound::Error> {
        let samples = [0.5, -0.5, 0.25];
        let mut stream = file(Length::Unknown, &samples);
        assert_eq!(stream[4..8], [0xFF; 4]);
        assert_eq!(stream[40..44], [0xFF; 4]);
        // With the sizes filled in it is the file that the decoder reads.
        stream[4..8].copy_from_slice(&(RIFF_OVERHEAD + 6).to_le_bytes());
        stream[40..44].copy_from_slice(&6_u32.to_le_bytes());
        let read: Vec<i16> = hound::WavReader::new(stream.as_slice())?
            .into_samples()
            .collect::<Result<_, _>>()?;
        assert_eq!(read, [16384, -16384, 8192]);
        let whole = file(Length::Samples(3), &samples);
        assert_eq!(stream[8..], whole[8..stream.len()]);
        Ok(())
    }

    #[test]
    fn test_length_beyond_header_field_is_unknown() {
        let around = RIFF_OVERHEAD + mark::riff_info().len() as u32;
        let largest = u64::from((u32::MAX - around) / 2);
        let wav = |samples| Wav::new(48000, None, Length::Samples(samples)).unwrap();
        assert_eq!(
            wav(largest).sizes(),
            Some((u32::MAX - 1, u32::MAX - 1 - around))
        );
        for samples in [largest + 1, u64::MAX] {
            let mut wav = wav(samples);
            assert_eq!(wav.head().unwrap()[40..44], UNKNOWN_SIZE.to_le_bytes());
            assert!(wav.trailer().is_empty());
        }
    }
}
