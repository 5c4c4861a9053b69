//! Sets how loud an answer is.
//!
//! A whole answer is measured before any of it leaves, and one gain brings it to its level exactly. A stream cannot
//! know what comes: it begins as the model speaks, its gain glides to what is right for all that was spoken so far, within
//! about a second, and then hardly moves. Either way no sample goes beyond [`CEILING`]: what would is turned down for some
//! milliseconds.

mod limiter;
mod meter;
#[cfg(test)]
mod tests;

use limiter::Limiter;
use meter::Meter;

/// The greatest sample, −1 dBFS: room for what lossy codecs and converters add between samples.
const CEILING: f32 = 0.891_250_9;
/// The most that audio is amplified, 30 dB: what is fainter is taken for noise.
const MOST_GAIN: f64 = 31.622_776_601_683_79;
/// Fastest change of a stream's gain, in decibels a second.
const DECIBELS_PER_SECOND: f64 = 20.0;
/// A stream's gain is updated every 10 ms.
const BLOCKS_PER_SECOND: u32 = 100;
/// Blocks fainter than this, −60 dBFS, are pauses, which say nothing of a voice's level.
const PAUSE: f64 = 1e-3;

/// The measure that is brought to the same level in every answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalization {
    /// The greatest sample, at −1 dBFS.
    Peak,
    /// The root mean square, at −20 dBFS.
    Rms,
    /// The loudness after ITU-R BS.1770, at −18 LUFS, as AES TD1008 recommends for speech on the net; of whole answers.
    Lufs,
}

/// Whether audio leaves while it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Stream,
    Whole,
}

/// Sets the level of one answer's samples. The result does not depend on how they were cut into pushes.
pub struct Leveler {
    target: f64,
    meter: Meter,
    limiter: Limiter,
    rate: u32,
    extent: Extent,
    /// Samples that have no gain yet: a block that is not full, or all of a whole answer.
    pending: Vec<f32>,
    /// How many of a whole answer's have left, once it is complete.
    left: Option<usize>,
    /// By which the last sample was multiplied.
    gain: f64,
}

impl Leveler {
    /// For samples at `rate` hertz.
    pub fn new(normalization: Normalization, extent: Extent, rate: u32) -> Self {
        let (target, meter) = match normalization {
            Normalization::Peak => (f64::from(CEILING), Meter::peak()),
            Normalization::Rms => (amplitude(-20.0), Meter::rms()),
            Normalization::Lufs => (amplitude(-18.0), Meter::lufs(rate)),
        };
        Self {
            target,
            meter,
            limiter: Limiter::new(CEILING, rate),
            rate,
            extent,
            pending: Vec::new(),
            left: None,
            gain: 1.0,
        }
    }

    /// Takes samples and returns those whose level is set: none before the end of a whole answer.
    pub fn push(&mut self, samples: &[f32]) -> Vec<f32> {
        let finite = |&sample: &f32| if sample.is_finite() { sample } else { 0.0 };
        let start = self.pending.len();
        self.pending.extend(samples.iter().map(finite));
        match self.extent {
            Extent::Whole => {
                self.meter.measure(&self.pending[start..]);
                Vec::new()
            }
            Extent::Stream => {
                let block = (self.rate / BLOCKS_PER_SECOND) as usize;
                let full = self.pending.len() - self.pending.len() % block;
                let blocks: Vec<f32> = self.pending.drain(..full).collect();
                let mut out = Vec::with_capacity(full);
                for block in blocks.chunks(block) {
                    self.follow(block, &mut out);
                }
                out
            }
        }
    }

    /// No more samples come. Returns a stream's last; a whole answer's are then [taken](Self::take).
    pub fn finish(&mut self) -> Vec<f32> {
        let mut out = Vec::new();
        match self.extent {
            Extent::Whole => {
                self.hear_enough();
                self.gain = self.wanted_gain().unwrap_or(1.0);
                self.left = Some(0);
            }
            Extent::Stream => {
                let rest = std::mem::take(&mut self.pending);
                self.follow(&rest, &mut out);
                self.limiter.finish(&mut out);
            }
        }
        out
    }

    /// About a second of a whole answer that is complete; empty after its end. In pieces, so that the encoding task
    /// can yield between them.
    pub fn take(&mut self) -> Vec<f32> {
        let mut out = Vec::new();
        let Some(left) = self.left else { return out };
        let rest = &self.pending[left..];
        let piece = rest.len().min(self.rate as usize);
        for &sample in &rest[..piece] {
            self.limiter.push(self.gain as f32 * sample, &mut out);
        }
        if piece == rest.len() {
            self.limiter.finish(&mut out);
            self.pending = Vec::new();
            self.left = None;
        } else {
            self.left = Some(left + piece);
        }
        out
    }

    /// There is nothing to be [taken](Self::take).
    pub fn is_empty(&self) -> bool {
        self.left.is_none() || self.pending.is_empty()
    }

    /// A stream's next samples, with a gain that glides to what brings all samples so far to their level.
    fn follow(&mut self, block: &[f32], out: &mut Vec<f32>) {
        if meter::root_mean_square(block) > PAUSE {
            self.meter.measure(block);
        }
        let most = amplitude(DECIBELS_PER_SECOND / f64::from(BLOCKS_PER_SECOND));
        let wanted = self.wanted_gain().unwrap_or(self.gain);
        let next = wanted.clamp(self.gain / most, self.gain * most);
        let step = (next - self.gain) / block.len() as f64;
        for (at, &sample) in (1..).zip(block) {
            let gain = self.gain + step * f64::from(at);
            self.limiter.push((gain * f64::from(sample)) as f32, out);
        }
        self.gain = next;
    }

    /// The gain that brings all samples so far to their level; `None` if they are silence.
    fn wanted_gain(&self) -> Option<f64> {
        let level = self.meter.level()?;
        Some((self.target / level).min(MOST_GAIN))
    }

    /// Loudness has no meaning for less than its window: what is shorter is measured repeatedly.
    fn hear_enough(&mut self) {
        let window = self.meter.shortest_seconds() * f64::from(self.rate);
        let mut measured = self.pending.len();
        while measured > 0 && (measured as f64) < window {
            self.meter.measure(&self.pending);
            measured += self.pending.len();
        }
    }
}

/// The amplitude, or the factor, of a level in decibels.
fn amplitude(decibels: f64) -> f64 {
    10_f64.powf(decibels / 20.0)
}
