//! Short Fourier transforms of centred Hann windows, as `torch.stft` and `torch.istft` make them.

use std::f64::consts::TAU;

use super::convolution::Accumulate;
use super::convolution::{Convolution, Geometry};
use super::padded;
use crate::pool::Pool;

/// Samples of a window, and from one to the next.
const WINDOW: usize = 16;
pub(super) const HOP: usize = 4;
/// Samples of a signal that it takes at least.
pub(super) const SHORTEST: usize = WINDOW;
/// Frequencies of a spectrum.
pub(super) const BINS: usize = WINDOW / 2 + 1;

/// Both transforms. A row of a spectrum is the real parts, then the imaginary parts.
pub(super) struct Stft {
    forward: Convolution,
    inverse: Convolution,
    /// Factors of the first and the last [`HOP`] samples, where fewer windows overlap.
    head: [f32; HOP],
    tail: [f32; HOP],
}

impl Stft {
    pub(super) fn new(pool: &Pool) -> Self {
        let forward = Geometry {
            inputs: 1,
            outputs: 2 * BINS,
            taps: WINDOW,
            dilation: 1,
            stride: HOP,
            before: 0,
        };
        let whole = overlap(0..WINDOW / HOP, 0);
        // All bins but the first and the last count for their conjugates too.
        let weight = |bin: usize| if bin.is_multiple_of(BINS - 1) { 1.0 } else { 2.0 } / WINDOW as f64;
        let ends = |first: usize, last: usize| {
            std::array::from_fn(|time| (whole / overlap(first..last, time)) as f32)
        };
        Self {
            forward: Convolution::new(pool, forward, &[0.0; 2 * BINS], &|row, _, time| {
                (wave(row, time) * window(time)) as f32
            }),
            inverse: Convolution::transposed(
                pool,
                (2 * BINS, 1, WINDOW),
                (HOP, WINDOW / 2),
                &[0.0],
                &|_, row, time| {
                    (wave(row, time) * weight(row % BINS) * window(time) / whole) as f32
                },
            ),
            head: ends(0, WINDOW / HOP - 1),
            tail: ends(1, WINDOW / HOP),
        }
    }

    /// Writes `spectrum` `[n / 4 + 1, 2 bins]` of `samples`, [`SHORTEST`] or more; `scratch` is
    /// a buffer.
    pub(super) fn forward(
        &self,
        pool: &Pool,
        samples: &[f32],
        spectrum: &mut [f32],
        scratch: &mut Vec<f32>,
    ) {
        let edge = WINDOW / 2;
        let reflected = samples[samples.len() - edge - 1..].iter().rev().skip(1);
        scratch.clear();
        scratch.extend(samples[1..=edge].iter().rev());
        scratch.extend_from_slice(samples);
        scratch.extend(reflected);
        self.forward
            .run(pool, scratch, spectrum, Accumulate::Overwrite, &|_, _| ());
    }

    /// Resizes `buffer` for a spectrum of `frames`, where [`Stft::inverse`] reads it, and returns the spectrum.
    pub(super) fn room<'a>(&self, buffer: &'a mut Vec<f32>, frames: usize) -> &'a mut [f32] {
        let Geometry { inputs, before, .. } = self.inverse.geometry;
        // The last frame's own samples are behind the signal's end.
        let after = self.inverse.geometry.after() - 1;
        padded(buffer, frames * inputs, before * inputs, after * inputs)
    }

    /// Writes `samples`, one hop less than there are frames, from the spectrum in `room` (see [`Stft::room`]).
    pub(super) fn inverse(&self, pool: &Pool, room: &[f32], samples: &mut [f32]) {
        self.inverse
            .run(pool, room, samples, Accumulate::Overwrite, &|_, _| ());
        let end = samples.len() - HOP;
        for (sample, factor) in samples.iter_mut().zip(self.head) {
            *sample *= factor;
        }
        for (sample, factor) in samples[end..].iter_mut().zip(self.tail) {
            *sample *= factor;
        }
    }
}

/// A row of the transform: cosines, then sines.
fn wave(row: usize, time: usize) -> f64 {
    let angle = TAU * ((row % BINS * time) % WINDOW) as f64 / WINDOW as f64;
    if row < BINS {
        angle.cos()
    } else {
        -angle.sin()
    }
}

fn window(time: usize) -> f64 {
    0.5 - 0.5 * (TAU * time as f64 / WINDOW as f64).cos()
}

/// The sum of the squares of windows that overlap at a sample: those at `time` and some hops further in.
fn overlap(hops: std::ops::Range<usize>, time: usize) -> f64 {
    hops.map(|hop| window(hop * HOP + time).powi(2)).sum()
}
