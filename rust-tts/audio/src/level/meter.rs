//! Measures levels, as amplitudes: 1 is full scale.

use ebur128::{EbuR128, Mode};

/// The level of all samples so far.
pub(super) enum Meter {
    Peak(f32),
    Rms {
        energy: f64,
        samples: u64,
    },
    /// `None` if there was no memory for it.
    Lufs(Option<Box<EbuR128>>),
}

impl Meter {
    pub(super) fn peak() -> Self {
        Self::Peak(0.0)
    }

    pub(super) fn rms() -> Self {
        Self::Rms {
            energy: 0.0,
            samples: 0,
        }
    }

    /// Loudness of samples at `rate` hertz, which come from one speaker, straight ahead.
    pub(super) fn lufs(rate: u32) -> Self {
        let meter = EbuR128::new(1, rate, Mode::I);
        let meter = meter.inspect_err(|error| tracing::error!(%error, rate, "no loudness meter"));
        Self::Lufs(meter.ok().map(Box::new))
    }

    pub(super) fn measure(&mut self, input: &[f32]) {
        match self {
            Self::Peak(peak) => {
                *peak = input
                    .iter()
                    .fold(*peak, |peak, sample| peak.max(sample.abs()));
            }
            Self::Rms { energy, samples } => {
                // Sample by sample, so that the sum is the same however the samples are cut.
                *energy = input.iter().fold(*energy, |sum, &x| sum + square(x));
                *samples += input.len() as u64;
            }
            Self::Lufs(meter) => {
                let result = meter.as_mut().map(|meter| meter.add_frames_f32(input));
                if let Some(Err(error)) = result {
                    tracing::error!(%error, "the loudness meter failed");
                    *meter = None;
                }
            }
        }
    }

    /// `None` for silence, of which no gain makes anything else.
    pub(super) fn level(&self) -> Option<f64> {
        let level = match self {
            Self::Peak(peak) => f64::from(*peak),
            Self::Rms { energy, samples } => (energy / (*samples).max(1) as f64).sqrt(),
            Self::Lufs(meter) => super::amplitude(meter.as_ref()?.loudness_global().ok()?),
        };
        (level > 0.0).then_some(level)
    }

    /// Least audio that has a level, in seconds.
    pub(super) fn shortest_seconds(&self) -> f64 {
        match self {
            Self::Peak(_) | Self::Rms { .. } => 0.0,
            // Loudness is a mean of blocks of this length (ITU-R BS.1770-5, annex 1).
            Self::Lufs(_) => 0.4,
        }
    }
}

pub(super) fn root_mean_square(samples: &[f32]) -> f64 {
    let energy: f64 = samples.iter().copied().map(square).sum();
    (energy / samples.len().max(1) as f64).sqrt()
}

fn square(sample: f32) -> f64 {
    f64::from(sample) * f64::from(sample)
}
