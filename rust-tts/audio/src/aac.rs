//! AAC-LC (ISO/IEC 14496-3) through the Fraunhofer FDK, as ADTS or as bare frames for a container.

pub(super) use fdk_aac::enc::Transport;
use fdk_aac::enc::{AudioObjectType, BitRate, ChannelMode, EncoderError, EncoderParams};

use super::bitrate::{Allowed, Bitrates, chosen, usual};
use super::{Encoder, Length, pcm};

/// Samples in each frame.
pub(super) const FRAME_SAMPLES: usize = 1024;
/// More than the 6144 bits that a frame of one channel may have.
const MAX_FRAME_BYTES: usize = 1024;

/// Below this the codec has too few bits for a frame of speech, and no player is made for more than the greatest.
const LEAST_KBPS: u32 = 16;
const MOST_KBPS: u32 = 256;

/// Turns samples into AAC frames.
pub(super) struct AacLc {
    /// `None` if the codec could not be set up, for want of memory.
    codec: Option<fdk_aac::enc::Encoder>,
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
    pub(super) fn new(sample_rate: u32, bitrate: Option<u32>, transport: Transport) -> Self {
        let mut encoder = Self {
            codec: None,
            config: Vec::new(),
            delay: 0,
            priming: 0,
            idle_frames: 0,
            pending: Vec::new(),
            samples: 0,
        };
        if let Err(error) = encoder.open(sample_rate, bitrate, transport) {
            tracing::error!(%error, sample_rate, "the AAC encoder could not be set up");
        }
        encoder
    }

    fn open(
        &mut self,
        sample_rate: u32,
        bitrate: Option<u32>,
        transport: Transport,
    ) -> Result<(), EncoderError> {
        let kbps = chosen(bitrate, bitrates(sample_rate));
        let codec = fdk_aac::enc::Encoder::new(EncoderParams {
            bit_rate: BitRate::Cbr(1000 * kbps),
            sample_rate,
            transport,
            channels: ChannelMode::Mono,
            audio_object_type: AudioObjectType::Mpeg4LowComplexity,
        })?;
        let info = codec.info()?;
        let config_bytes = info.confBuf.len().min(info.confSize as usize);
        self.config = info.confBuf[..config_bytes].to_vec();
        self.delay = info.nDelay as usize;
        // A frame is heard together with the one before it, so one frame of lead is needed. What the codec makes before
        // that, from its look-ahead, is silence that would only delay the voice.
        self.idle_frames = (self.delay / FRAME_SAMPLES).saturating_sub(1);
        self.priming = self.delay - self.idle_frames * FRAME_SAMPLES;
        self.codec = Some(codec);
        Ok(())
    }

    /// The `AudioSpecificConfig`; `None` without a codec.
    pub(super) fn config(&self) -> Option<&[u8]> {
        self.codec.as_ref().map(|_| self.config.as_slice())
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
    pub(super) fn push(&mut self, samples: &[f32]) -> Vec<Vec<u8>> {
        self.samples += samples.len() as u64;
        self.pending
            .extend(samples.iter().copied().map(pcm::to_i16));
        let whole = self.pending.len() - self.pending.len() % FRAME_SAMPLES;
        let mut frames = Vec::new();
        for input in self.pending[..whole].chunks(FRAME_SAMPLES) {
            let Some(frame) = self.codec.as_ref().and_then(|codec| encode(codec, input)) else {
                continue;
            };
            if self.idle_frames > 0 {
                self.idle_frames -= 1;
            } else {
                frames.push(frame);
            }
        }
        self.pending.drain(..whole);
        frames
    }

    /// The frames with what the codec still holds; their last samples are silence.
    pub(super) fn finish(&mut self) -> Vec<Vec<u8>> {
        if self.samples == 0 {
            return Vec::new();
        }
        let samples = self.samples;
        let needed = self.pending.len() + self.delay;
        let silence = needed.next_multiple_of(FRAME_SAMPLES) - self.pending.len();
        let frames = self.push(&vec![0.0; silence]);
        // The silence is not the answer's.
        self.samples = samples;
        frames
    }
}

/// A frame from exactly as many samples as one has.
fn encode(codec: &fdk_aac::enc::Encoder, input: &[i16]) -> Option<Vec<u8>> {
    let mut frame = vec![0; MAX_FRAME_BYTES];
    match codec.encode(input, &mut frame) {
        Ok(done) => {
            frame.truncate(done.output_size);
            Some(frame)
        }
        Err(error) => {
            tracing::error!(%error, "an AAC frame could not be encoded");
            None
        }
    }
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
    pub(super) fn new(sample_rate: u32, bitrate: Option<u32>, _length: Length) -> Self {
        Self(AacLc::new(sample_rate, bitrate, Transport::Adts))
    }
}

impl Encoder for Adts {
    fn head(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn push(&mut self, samples: &[f32]) -> Vec<u8> {
        self.0.push(samples).concat()
    }

    fn finish(&mut self) -> Vec<u8> {
        self.0.finish().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::super::SAMPLE_RATES;
    use super::*;

    #[test]
    fn frames_cover_the_audio_after_one_of_lead() {
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
            let mut aac = AacLc::new(rate, None, Transport::Raw);
            // Five bits of object type (2: LC), four of rate, four of channels, three flags.
            let config = 2_u16 << 11 | index << 7 | 1 << 3;
            assert_eq!(aac.config(), Some(config.to_be_bytes().as_slice()));
            assert_eq!(aac.priming(), FRAME_SAMPLES);
            let frames = aac.push(&vec![0.1; 5000]).len() + aac.finish().len();
            assert_eq!(frames, (5000 + FRAME_SAMPLES).div_ceil(FRAME_SAMPLES));
            assert_eq!(aac.samples(), 5000);
        }
    }
}
