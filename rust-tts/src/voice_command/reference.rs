//! Joins recordings of one speaker into one reference clip, each at the same level.

use std::ops::Range;

use chatterbox_audio::Resampler;
use chatterbox_audio::decode::Clip;

/// Level of each recording: root mean square, -23 dB of full scale.
const LEVEL: f32 = 0.0708;
/// No sample goes beyond this, -1 dB of full scale.
const PEAK: f32 = 0.891;
/// Samples this far below a recording's peak, -40 dB, are silence before or after its speech.
const FLOOR: f32 = 0.01;
/// A recording whose peak is below this, -60 dB of full scale, has no speech.
const SILENCE: f32 = 0.001;
/// Kept of the silence around the speech, and the shortest recording, in seconds.
const MARGIN_SECONDS: f64 = 0.05;
const SHORTEST_SECONDS: f64 = 0.3;
/// Silence between two recordings.
const PAUSE_SECONDS: f64 = 0.2;
/// Models use no more than this.
const LONGEST_SECONDS: f64 = 300.0;
/// Highest rate that is kept, in Hz.
const HIGHEST_RATE: u32 = 48_000;

/// The recordings so far.
#[derive(Debug, Default)]
pub struct ReferenceBuilder {
    clips: Vec<Clip>,
    seconds: f64,
}

impl ReferenceBuilder {
    /// Adds a recording without the silence around it. The error is a sentence.
    pub fn add(&mut self, clip: &Clip) -> Result<(), String> {
        let peak = loudest(&clip.samples);
        if peak < SILENCE {
            return Err("it is silent".to_owned());
        }
        let rate = f64::from(clip.sample_rate);
        let speech = speech(&clip.samples, peak * FLOOR);
        let seconds = speech.len() as f64 / rate;
        if seconds < SHORTEST_SECONDS {
            return Err("it is too short".to_owned());
        }
        let squares = clip.samples[speech.clone()]
            .iter()
            .map(|sample| f64::from(sample * sample));
        let level = (squares.sum::<f64>() / speech.len() as f64).sqrt() as f32;
        let gain = (LEVEL / level).min(PEAK / peak);
        let margin = (MARGIN_SECONDS * rate) as usize;
        let most = ((LONGEST_SECONDS - self.seconds) * rate) as usize;
        let start = speech.start.saturating_sub(margin);
        let end = (speech.end + margin).min(clip.samples.len());
        let kept = &clip.samples[start..end.min(start + most)];
        self.clips.push(Clip {
            samples: kept.iter().map(|sample| sample * gain).collect(),
            sample_rate: clip.sample_rate,
        });
        self.seconds += seconds + PAUSE_SECONDS;
        Ok(())
    }

    /// Recordings that were added.
    pub fn len(&self) -> usize {
        self.clips.len()
    }

    /// Whether nothing more is of use.
    pub fn is_full(&self) -> bool {
        self.seconds >= LONGEST_SECONDS
    }

    /// All of it, at the highest of the recordings' rates within reason.
    pub fn joined(&self) -> (Vec<f32>, u32) {
        let rates = self.clips.iter().map(|clip| clip.sample_rate);
        let rate = rates.max().unwrap_or(HIGHEST_RATE).min(HIGHEST_RATE);
        let pause = (PAUSE_SECONDS * f64::from(rate)) as usize;
        let mut joined = Vec::new();
        for clip in &self.clips {
            if !joined.is_empty() {
                joined.resize(joined.len() + pause, 0.0);
            }
            let mut resampler = Resampler::new(clip.sample_rate, rate);
            joined.extend(resampler.push(&clip.samples));
            joined.extend(resampler.finish());
        }
        (joined, rate)
    }
}

fn loudest(samples: &[f32]) -> f32 {
    samples
        .iter()
        .fold(0.0, |most, sample| sample.abs().max(most))
}

/// From the first sample above `floor` to the last.
fn speech(samples: &[f32], floor: f32) -> Range<usize> {
    let loud = |sample: &f32| sample.abs() > floor;
    let first = samples.iter().position(loud).unwrap_or(0);
    let last = samples.iter().rposition(loud).unwrap_or(0);
    first..last + 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use chatterbox_audio::decode::fixtures::tone;

    fn clip(seconds: f32, sample_rate: u32, gain: f32) -> Clip {
        let samples = tone(seconds, sample_rate);
        Clip {
            samples: samples.iter().map(|sample| sample * gain).collect(),
            sample_rate,
        }
    }

    fn level(samples: &[f32]) -> f32 {
        (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32).sqrt()
    }

    #[test]
    fn test_recordings_are_levelled_and_trimmed() {
        let mut reference = ReferenceBuilder::default();
        let mut padded = clip(1.0, 8_000, 0.01);
        padded.samples.splice(..0, std::iter::repeat_n(0.0, 8_000));
        padded.samples.resize(padded.samples.len() + 16_000, 0.0);
        reference.add(&padded).unwrap();
        reference.add(&clip(1.0, 16_000, 1.0)).unwrap();
        let (joined, rate) = reference.joined();
        assert_eq!((reference.len(), rate), (2, 16_000));
        let expected = 16_000.0 * (1.0 + 2.0 * MARGIN_SECONDS + PAUSE_SECONDS + 1.0);
        assert!(
            (joined.len() as f64 - expected).abs() < 40.0,
            "{}",
            joined.len()
        );
        let (first, second) = (&joined[2_000..15_000], &joined[joined.len() - 14_000..]);
        assert!((level(first) - LEVEL).abs() < 0.01 * LEVEL);
        assert!((level(second) - LEVEL).abs() < 0.01 * LEVEL);
        assert!(loudest(&joined) <= PEAK);
    }

    #[test]
    fn test_recordings_without_speech_are_refused() {
        let mut reference = ReferenceBuilder::default();
        assert!(reference.add(&clip(1.0, 8_000, 0.0)).is_err());
        assert!(reference.add(&clip(0.1, 8_000, 1.0)).is_err());
        assert_eq!(reference.len(), 0);
        reference.add(&clip(290.0, 8_000, 1.0)).unwrap();
        assert!(!reference.is_full());
        reference.add(&clip(30.0, 8_000, 1.0)).unwrap();
        assert!(reference.is_full());
        assert!(reference.joined().0.len() <= 301 * 8_000);
    }
}
