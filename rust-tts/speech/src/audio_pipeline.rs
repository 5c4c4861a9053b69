//! From the samples of utterances to the samples of one listener: joins, rate, level, and the limit on the whole.

use super::trim::{Trim, Trimmer, fade_out};
use chatterbox_audio::{Joiner, Leveler, Resampler};
use chatterbox_text::Pause;

/// A cut fades over 5 ms.
const FADES_PER_SECOND: u32 = 200;

/// How silence around utterances is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Trimmed, and replaced by a pause of the right length.
    Joined,
    /// Kept: the audio has the timing of a clip.
    Kept,
}

/// Makes the listener's audio; what is made waits in it until it is taken.
pub struct AudioPipeline {
    joiner: Option<Joiner>,
    resampler: Resampler,
    trimmer: Trimmer,
    leveler: Option<Leveler>,
    rate: u32,
    /// Samples that may be made in all.
    most: u64,
    made: u64,
    waiting: Vec<f32>,
}

impl AudioPipeline {
    /// `max_seconds`, `trim` and `leveler` are of all utterances together.
    pub fn new(
        model_rate: u32,
        rate: u32,
        silence: Silence,
        trim: Trim,
        leveler: Option<Leveler>,
        max_seconds: Option<f64>,
    ) -> Self {
        Self {
            joiner: (silence == Silence::Joined).then(|| Joiner::new(model_rate)),
            resampler: Resampler::new(model_rate, rate),
            trimmer: Trimmer::new(trim, rate),
            leveler,
            rate,
            most: max_seconds.map_or(u64::MAX, |seconds| (seconds * f64::from(rate)) as u64),
            made: 0,
            waiting: Vec::new(),
        }
    }

    /// Samples of the utterance that is being spoken, at the model's rate.
    pub fn push(&mut self, samples: &[f32]) {
        match &mut self.joiner {
            Some(joiner) => {
                let sure = joiner.push(samples);
                self.resample(&sure);
            }
            None => self.resample(samples),
        }
    }

    /// Another utterance follows the one before.
    pub fn pause(&mut self, pause: Pause, speed: f64) {
        if let Some(joiner) = &mut self.joiner {
            let gap = joiner.end_utterance(pause_ms(pause, speed));
            self.resample(&gap);
        }
    }

    /// No utterance follows.
    pub fn finish(&mut self) {
        if let Some(joiner) = &mut self.joiner {
            let tail = joiner.finish();
            self.resample(&tail);
        }
        let tail = self.resampler.finish();
        let mut kept = self.trimmer.push(&tail);
        kept.extend(self.trimmer.finish());
        self.keep(&kept);
        if let Some(leveler) = &mut self.leveler {
            self.waiting.extend(leveler.finish());
        }
    }

    /// Some of what was made since it was last taken.
    pub fn take(&mut self) -> Vec<f32> {
        match &mut self.leveler {
            Some(leveler) if self.waiting.is_empty() => leveler.take(),
            _ => std::mem::take(&mut self.waiting),
        }
    }

    /// Nothing is there to be taken.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.leveler.as_ref().is_none_or(Leveler::is_empty)
    }

    /// There is audio, or there will be when its level is known.
    pub fn has_begun(&self) -> bool {
        self.made > 0
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
        let kept = self.trimmer.push(&samples);
        self.keep(&kept);
    }

    fn keep(&mut self, samples: &[f32]) {
        let room = usize::try_from(self.most - self.made).unwrap_or(usize::MAX);
        let kept = samples.len().min(room);
        self.made += kept as u64;
        let is_cut = kept < samples.len();
        let mut samples = samples[..kept].to_vec();
        if is_cut {
            fade_out(&mut samples, (self.rate / FADES_PER_SECOND) as usize);
        }
        match &mut self.leveler {
            Some(leveler) => self.waiting.extend(leveler.push(&samples)),
            None => self.waiting.append(&mut samples),
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
    use chatterbox_audio::{Extent, Normalization};

    fn pipeline(rate: u32, max_seconds: Option<f64>) -> AudioPipeline {
        AudioPipeline::new(
            24_000,
            rate,
            Silence::Joined,
            Trim::default(),
            None,
            max_seconds,
        )
    }

    fn tone(seconds: f32) -> Vec<f32> {
        let count = (seconds * 24_000.0) as usize;
        (0..count).map(|at| 0.5 * (at as f32 * 0.1).sin()).collect()
    }

    #[test]
    fn test_length_limit_is_exact_and_fades_out() {
        for rate in [8_000, 24_000, 44_100] {
            let mut pipeline = pipeline(rate, Some(0.75));
            let mut made = Vec::new();
            for piece in tone(2.0).chunks(1_000) {
                pipeline.push(piece);
                made.extend(pipeline.take());
            }
            pipeline.finish();
            made.extend(pipeline.take());
            assert!(pipeline.is_full());
            assert_eq!(made.len(), (0.75 * f64::from(rate)) as usize);
            assert!((pipeline.seconds() - 0.75).abs() < 1e-3);
            assert!(made[made.len() - 1].abs() < 1e-6);
        }
    }

    #[test]
    fn test_unlimited_audio_is_complete() {
        let mut pipeline = pipeline(24_000, None);
        let speech = tone(1.0);
        pipeline.push(&speech);
        pipeline.finish();
        assert!(!pipeline.is_full());
        assert_eq!(pipeline.take().len(), speech.len());
        assert!(pipeline.is_empty());
    }

    #[test]
    fn test_levelled_whole_answer_waits_for_end() {
        let leveler = Leveler::new(Normalization::Peak, Extent::Whole, 24_000);
        let trim = Trim::default();
        let mut pipeline =
            AudioPipeline::new(24_000, 24_000, Silence::Joined, trim, Some(leveler), None);
        let speech = tone(2.5);
        for piece in speech.chunks(1_000) {
            pipeline.push(piece);
            assert!(pipeline.has_begun() && pipeline.is_empty());
        }
        pipeline.finish();
        let mut made = Vec::new();
        while !pipeline.is_empty() {
            made.extend(pipeline.take());
        }
        assert_eq!(made.len(), speech.len());
        assert!((pipeline.seconds() - 2.5).abs() < 1e-6);
        let peak = made.iter().copied().fold(0.0, f32::max);
        assert!((20.0 * peak.log10() + 1.0).abs() < 0.01);
    }

    #[test]
    fn test_both_ends_of_all_utterances_together_are_trimmed() {
        let trim = Trim {
            leading_ms: 100.0,
            trailing_ms: 250.0,
        };
        for rate in [8_000, 24_000, 44_100] {
            let length = |trim| {
                let mut pipeline =
                    AudioPipeline::new(24_000, rate, Silence::Joined, trim, None, None);
                pipeline.push(&tone(0.5));
                pipeline.pause(Pause::Sentence, 1.0);
                pipeline.push(&tone(0.5));
                pipeline.finish();
                pipeline.seconds()
            };
            let cut = length(Trim::default()) - length(trim);
            assert!((cut - 0.35).abs() < 1e-3, "{rate}: {cut}");
        }
    }

    #[test]
    fn test_kept_silence_is_exact() {
        let mut pipeline =
            AudioPipeline::new(24_000, 24_000, Silence::Kept, Trim::default(), None, None);
        let mut speech = vec![0.0; 24_000];
        speech.extend(tone(0.5));
        speech.resize(speech.len() + 24_000, 0.0);
        for piece in speech.chunks(700) {
            pipeline.push(piece);
        }
        pipeline.finish();
        assert_eq!(pipeline.take(), speech);
    }

    #[test]
    fn test_pauses_follow_boundary_and_speed() {
        let length = |pause, speed| {
            let mut pipeline = pipeline(24_000, None);
            pipeline.push(&tone(0.5));
            pipeline.pause(pause, speed);
            pipeline.push(&tone(0.5));
            pipeline.finish();
            pipeline.seconds()
        };
        let (clause, sentence) = (length(Pause::Clause, 1.0), length(Pause::Sentence, 1.0));
        assert!((sentence - clause - 0.21).abs() < 0.01);
        assert!((length(Pause::Paragraph, 1.0) - clause - 0.56).abs() < 0.01);
        assert!((sentence - length(Pause::Sentence, 2.0) - 0.175).abs() < 0.01);
    }
}
