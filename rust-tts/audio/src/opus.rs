//! Opus packets (RFC 6716), which Ogg and `WebM` carry alike.

use super::bitrate::{Allowed, Bitrates, chosen};
use super::{EncodeError, Resampler, pcm};

/// Opus counts time in samples at this rate, in hertz, whatever rate the codec is fed with (RFC 7845, section 4).
pub(super) const RATE: u32 = 48_000;
/// What one packet lasts, in samples at [`RATE`]: 20 ms, the length for which the codec is tuned.
pub(super) const PACKET_SAMPLES: u64 = 960;

/// Mono speech with its full band is transparent to most listeners from about 40 kbit/s on. The codec goes from
/// 6 kbit/s, as RFC 6716 has it, up to where more changes nothing.
const BITRATES: Bitrates = Bitrates {
    usual: 48,
    allowed: Allowed::Range(6, 256),
};
/// Sample rates, in hertz, that the codec takes as they are.
const CODEC_RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, RATE];
/// The longest packet of one frame (RFC 6716, section 3.2.1, with its table of contents byte).
const MAX_PACKET_BYTES: usize = 1276;

/// The means of the variable bit rate.
pub(super) fn bitrates(_sample_rate: u32) -> Bitrates {
    BITRATES
}

/// Turns mono samples into packets of 20 ms.
pub(super) struct Packets {
    codec: opus::Encoder,
    resampler: Resampler,
    /// Samples at the codec's rate that do not fill a packet yet.
    pending: Vec<f32>,
    /// A packet's samples at the codec's rate.
    frame: usize,
    /// Samples at [`RATE`] for each that the codec takes.
    ratio: u64,
    /// Samples taken, at the codec's rate.
    taken: u64,
    made: u64,
    pre_skip: u16,
    sample_rate: u32,
}

impl Packets {
    /// Packets of samples at `sample_rate` hertz, of `bitrate` kbit/s.
    pub(super) fn new(sample_rate: u32, bitrate: Option<u32>) -> Result<Self, EncodeError> {
        let rate = if CODEC_RATES.contains(&sample_rate) {
            sample_rate
        } else {
            RATE
        };
        let ratio = RATE / rate;
        let (codec, lookahead) = start(rate, chosen(bitrate, BITRATES)).map_err(failed)?;
        Ok(Self {
            codec,
            resampler: Resampler::new(sample_rate, rate),
            pending: Vec::new(),
            frame: PACKET_SAMPLES as usize / ratio as usize,
            ratio: u64::from(ratio),
            taken: 0,
            made: 0,
            pre_skip: lookahead * ratio as u16,
            sample_rate,
        })
    }

    /// How far the audio lies behind the start of the first packet, in samples at [`RATE`]: what players drop.
    pub(super) fn pre_skip(&self) -> u16 {
        self.pre_skip
    }

    /// The identification header (RFC 7845, section 5.1).
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = b"OpusHead".to_vec();
        head.push(1); // version
        head.push(1); // channels
        head.extend_from_slice(&self.pre_skip.to_le_bytes());
        head.extend_from_slice(&self.sample_rate.to_le_bytes());
        head.extend_from_slice(&0_i16.to_le_bytes()); // output gain
        head.push(0); // mapping family: mono or stereo
        head
    }

    /// Takes samples at the constructor's rate and returns the packets that they fill.
    pub(super) fn push(&mut self, samples: &[f32]) -> Result<Vec<Vec<u8>>, EncodeError> {
        let clean: Vec<f32> = samples.iter().copied().map(pcm::sanitize).collect();
        let resampled = self.resampler.push(&clean);
        self.taken += resampled.len() as u64;
        self.encode(&resampled)
    }

    /// The last packets, filled up with silence, and how many samples at [`RATE`] of them are not the audio's. At least
    /// one packet, which holds the end of the audio, as the codec runs `pre_skip` samples late.
    pub(super) fn finish(&mut self) -> Result<(Vec<Vec<u8>>, u64), EncodeError> {
        let rest = self.resampler.finish();
        self.taken += rest.len() as u64;
        let mut packets = self.encode(&rest)?;
        let end = u64::from(self.pre_skip) + self.taken * self.ratio;
        let missing = end.div_ceil(PACKET_SAMPLES).saturating_sub(self.made);
        let samples = missing as usize * self.frame;
        let silence = vec![0.0; samples.saturating_sub(self.pending.len())];
        packets.extend(self.encode(&silence)?);
        let padding = (self.made * PACKET_SAMPLES).saturating_sub(end);
        Ok((packets, padding))
    }

    fn encode(&mut self, samples: &[f32]) -> Result<Vec<Vec<u8>>, EncodeError> {
        self.pending.extend_from_slice(samples);
        let mut packets = Vec::new();
        for frame in self.pending.chunks_exact(self.frame) {
            let packet = self.codec.encode_vec_float(frame, MAX_PACKET_BYTES);
            packets.push(packet.map_err(failed)?);
        }
        let used = self.pending.len() - self.pending.len() % self.frame;
        self.pending.drain(..used);
        self.made += packets.len() as u64;
        Ok(packets)
    }
}

fn failed(error: opus::Error) -> EncodeError {
    EncodeError::new("Opus", error)
}

/// A codec for mono samples at `rate` hertz and for `kbps` kbit/s, and how many of them its output lags behind.
fn start(rate: u32, kbps: u32) -> Result<(opus::Encoder, u16), opus::Error> {
    // Not `Voip`, which filters the low end and shapes formants for bad lines: the speech is clean.
    let mut codec = opus::Encoder::new(rate, opus::Channels::Mono, opus::Application::Audio)?;
    codec.set_bitrate(opus::Bitrate::Bits((1000 * kbps).cast_signed()))?;
    codec.set_vbr(true)?;
    let lookahead = codec.get_lookahead()?;
    Ok((codec, lookahead as u16))
}

#[cfg(test)]
pub(super) mod tests;
