//! From the samples of utterances to the samples of one listener: joins, rate, and the limit on the whole.

use super::text::Pause;
use crate::audio::{Joiner, Resampler};

/// A cut fades over 5 ms.
const FADES_PER_SECOND: u32 = 200;

/// Makes the listener's audio; what is made waits in it until it is taken.
pub struct Shaper {
    joiner: Joiner,
    resampler: Resampler,
    rate: u32,
    /// Samples that may be made in all.
    most: u64,
    made: u64,
    waiting: Vec<f32>,
}

impl Shaper {
    /// `max_seconds` is of all utterances together.
    pub fn new(model_rate: u32, rate: u32, max_seconds: Option<f64>) -> Self {
        Self {
            joiner: Joiner::new(model_rate),
            resampler: Resampler::new(model_rate, rate),
            rate,
            most: max_seconds.map_or(u64::MAX, |seconds| (seconds * f64::from(rate)) as u64),
            made: 0,
            waiting: Vec::new(),
        }
    }

    /// Samples of the utterance that is being spoken, at the model's rate.
    pub fn push(&mut self, samples: &[f32]) {
        let joined = self.joiner.push(samples);
        self.resample(&joined);
    }

    /// Another utterance follows the one before.
    pub fn pause(&mut self, pause: Pause, speed: f64) {
        let gap = self.joiner.end_utterance(pause_ms(pause, speed));
        self.resample(&gap);
    }

    /// No utterance follows.
    pub fn finish(&mut self) {
        let tail = self.joiner.finish();
        self.resample(&tail);
        let tail = self.resampler.finish();
        self.keep(&tail);
    }

    /// What was made since it was last taken.
    pub fn take(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.waiting)
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The limit is reached.
    pub fn is_full(&self) -> bool {
        self.made >= self.most
    }

    /// Seconds of audio made so far.
    pub fn seconds(&self) -> f64 {
        self.made as f64 / f64::from(self.rate)
    }

    fn resample(&mut self, samples: &[f32]) {
        let samples = self.resampler.push(samples);
        self.keep(&samples);
    }

    fn keep(&mut self, samples: &[f32]) {
        let room = usize::try_from(self.most - self.made).unwrap_or(usize::MAX);
        let kept = samples.len().min(room);
        self.made += kept as u64;
        self.waiting.extend(&samples[..kept]);
        if kept < samples.len() && kept > 0 {
            self.fade_out();
        }
    }

    /// Takes the click out of a cut.
    fn fade_out(&mut self) {
        let fade = (self.rate / FADES_PER_SECOND) as usize;
        let start = self.waiting.len().saturating_sub(fade);
        let tail = &mut self.waiting[start..];
        let count = tail.len() as f32;
        for (at, sample) in tail.iter_mut().enumerate() {
            *sample *= 1.0 - (at + 1) as f32 / count;
        }
    }
}

/// Silence between two utterances, in milliseconds: what a person reading aloud leaves there.
fn pause_ms(pause: Pause, speed: f64) -> u32 {
    let ms = match pause {
        Pause::Clause => 140.0,
        Pause::Sentence => 350.0,
        Pause::Paragraph => 700.0,
    };
    (ms / speed) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(seconds: f32) -> Vec<f32> {
        let count = (seconds * 24_000.0) as usize;
        (0..count).map(|at| 0.5 * (at as f32 * 0.1).sin()).collect()
    }

    #[test]
    fn the_limit_is_kept_to_the_sample_and_ends_in_silence() {
        for rate in [8_000, 24_000, 44_100] {
            let mut shaper = Shaper::new(24_000, rate, Some(0.75));
            let mut made = Vec::new();
            for piece in tone(2.0).chunks(1_000) {
                shaper.push(piece);
                made.extend(shaper.take());
            }
            shaper.finish();
            made.extend(shaper.take());
            assert!(shaper.is_full());
            assert_eq!(made.len(), (0.75 * f64::from(rate)) as usize);
            assert!((shaper.seconds() - 0.75).abs() < 1e-3);
            assert!(made[made.len() - 1].abs() < 1e-6);
        }
    }

    #[test]
    fn without_a_limit_all_is_made() {
        let mut shaper = Shaper::new(24_000, 24_000, None);
        let speech = tone(1.0);
        shaper.push(&speech);
        shaper.finish();
        assert!(!shaper.is_full());
        assert_eq!(shaper.take().len(), speech.len());
        assert!(shaper.is_empty());
    }

    #[test]
    fn pauses_grow_with_the_boundary_and_shrink_with_the_speed() {
        let length = |pause, speed| {
            let mut shaper = Shaper::new(24_000, 24_000, None);
            shaper.push(&tone(0.5));
            shaper.pause(pause, speed);
            shaper.push(&tone(0.5));
            shaper.finish();
            shaper.seconds()
        };
        let (clause, sentence) = (length(Pause::Clause, 1.0), length(Pause::Sentence, 1.0));
        assert!((sentence - clause - 0.21).abs() < 0.01);
        assert!((length(Pause::Paragraph, 1.0) - clause - 0.56).abs() < 0.01);
        assert!((sentence - length(Pause::Sentence, 2.0) - 0.175).abs() < 0.01);
    }
}
