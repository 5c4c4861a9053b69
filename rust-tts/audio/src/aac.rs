//! AAC-LC (ISO/IEC 14496-3) through the Fraunhofer FDK, as ADTS or as bare frames for a container.

pub(super) use fdk_aac::enc::Transport;
use fdk_aac::enc::{AudioObjectType, BitRate, ChannelMode, EncoderError, EncoderParams};

use super::bitrate::{Allowed, Bitrates, chosen, usual};
use super::{EncodeError, Encoder, Length, pcm};

/// Samples in each frame.
pub(super) const FRAME_SAMPLES: usize = 1024;
/// More than the 6144 bits that a frame of one channel may have.
const MAX_FRAME_BYTES: usize = 1024;

/// Below this the codec has too few bits for a frame of speech, and no player is made for more than the greatest.
const LEAST_KBPS: u32 = 16;
const MOST_KBPS: u32 = 256;

/// Turns samples into AAC frames.
pub(super) struct AacLc {
    codec: fdk_aac::enc::Encoder,
    /// The `AudioSpecificConfig` by which a container describes the frames.
    config: Vec<u8>,
    /// Samples by which the codec's output lags behind its input.
    delay: usize,
    /// Samples that a decoder gives out before the first that was pushed.
    priming: usize,
    /// Frames yet to come that hold nothing and are left out.
    idle_frames: usize,
    pending: Vec<i16>,
    samples: u64,
}

impl AacLc {
    /// For samples at `sample_rate` hertz; `bitrate` is in kbit/s.
    pub(super) fn new(
        sample_rate: u32,
        bitrate: Option<u32>,
        transport: Transport,
    ) -> Result<Self, EncodeError> {
        let kbps = chosen(bitrate, bitrates(sample_rate));
        let codec = fdk_aac::enc::Encoder::new(EncoderParams {
            bit_rate: BitRate::Cbr(1000 * kbps),
            sample_rate,
            transport,
            channels: ChannelMode::Mono,
            audio_object_type: AudioObjectType::Mpeg4LowComplexity,
        })
        .map_err(failed)?;
        let info = codec.info().map_err(failed)?;
        let config_bytes = info.confBuf.len().min(info.confSize as usize);
        let delay = info.nDelay as usize;
        // A frame is decoded together with the one before it, so one frame of lead is needed. What the codec makes before
        // that, from its look-ahead, is silence that would only delay the voice.
        let idle_frames = (delay / FRAME_SAMPLES).saturating_sub(1);
        Ok(Self {
            codec,
            config: info.confBuf[..config_bytes].to_vec(),
            delay,
            priming: delay - idle_frames * FRAME_SAMPLES,
            idle_frames,
            pending: Vec::new(),
            samples: 0,
        })
    }

    /// The `AudioSpecificConfig`.
    pub(super) fn config(&self) -> &[u8] {
        &self.config
    }

    /// Samples that a decoder gives out before the first that was pushed.
    pub(super) fn priming(&self) -> usize {
        self.priming
    }

    /// Samples pushed so far.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// The frames that are complete.
    pub(super) fn push(&mut self, samples: &[f32]) -> Result<Vec<Vec<u8>>, EncodeError> {
        self.samples += samples.len() as u64;
        self.pending
            .extend(samples.iter().copied().map(pcm::to_i16));
        let whole = self.pending.len() - self.pending.len() % FRAME_SAMPLES;
        let mut frames = Vec::new();
        for input in self.pending[..whole].chunks(FRAME_SAMPLES) {
            let frame = encode(&self.codec, input)?;
            if self.idle_frames > 0 {
                self.idle_frames -= 1;
            } else {
                frames.push(frame);
            }
        }
        self.pending.drain(..whole);
        Ok(frames)
    }

    /// The frames with what the codec still holds; their last samples are silence.
    pub(super) fn finish(&mut self) -> Result<Vec<Vec<u8>>, EncodeError> {
        if self.samples == 0 {
            return Ok(Vec::new());
        }
        let samples = self.samples;
        let needed = self.pending.len() + self.delay;
        let silence = needed.next_multiple_of(FRAME_SAMPLES) - self.pending.len();
        let frames = self.push(&vec![0.0; silence])?;
        // The silence is not the answer's.
        self.samples = samples;
        Ok(frames)
    }
}

/// A frame from exactly as many samples as one has.
fn encode(codec: &fdk_aac::enc::Encoder, input: &[i16]) -> Result<Vec<u8>, EncodeError> {
    let mut frame = vec![0; MAX_FRAME_BYTES];
    let done = codec.encode(input, &mut frame).map_err(failed)?;
    frame.truncate(done.output_size);
    Ok(frame)
}

fn failed(error: EncoderError) -> EncodeError {
    EncodeError::new("AAC", error)
}

/// A frame of one channel has at most 6144 bits, which are six for each of its samples.
pub(super) fn bitrates(sample_rate: u32) -> Bitrates {
    Bitrates {
        usual: usual(sample_rate),
        allowed: Allowed::Range(LEAST_KBPS, (6 * sample_rate / 1000).min(MOST_KBPS)),
    }
}

/// Frames with ADTS headers. The format has no place for the codec's delay: a player begins with 1024 silent samples.
pub(super) struct Adts(AacLc);

impl Adts {
    pub(super) fn new(
        sample_rate: u32,
        bitrate: Option<u32>,
        _length: Length,
    ) -> Result<Self, EncodeError> {
        AacLc::new(sample_rate, bitrate, Transport::Adts).map(Self)
    }
}

impl Encoder for Adts {
    fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>, EncodeError> {
        Ok(self.0.push(samples)?.concat())
    }

    fn finish(&mut self) -> Result<Vec<u8>, EncodeError> {
        Ok(self.0.finish()?.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::super::SAMPLE_RATES;
    use super::*;

    #[test]
    fn test_frames_cover_audio_after_one_lead_frame() {
        // ISO/IEC 14496-3, table 1.18.
        let indices = [
            (8000, 11),
            (16000, 8),
            (22050, 7),
            (24000, 6),
            (44100, 4),
            (48000, 3),
        ];
        assert_eq!(indices.map(|(rate, _)| rate), SAMPLE_RATES);
        for (rate, index) in indices {
            let mut aac = AacLc::new(rate, None, Transport::Raw).unwrap();
            // Five bits of object type (2: LC), four of rate, four of channels, three flags.
            let config = 2_u16 << 11 | index << 7 | 1 << 3;
            assert_eq!(aac.config(), config.to_be_bytes());
            assert_eq!(aac.priming(), FRAME_SAMPLES);
            let frames = aac.push(&vec![0.1; 5000]).unwrap().len() + aac.finish().unwrap().len();
            assert_eq!(frames, (5000 + FRAME_SAMPLES).div_ceil(FRAME_SAMPLES));
            assert_eq!(aac.samples(), 5000);
        }
    }
}
