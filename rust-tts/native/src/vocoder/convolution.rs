//! Convolutions over time, computed from the signal as it is: no rows are copied side by side, whatever the dilation.

use super::product::{Onto, Product};
use crate::isa::isa;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::simd::{self, LANES};

/// Steps that a task makes together: whole tiles of every instruction set, and what they read stays in the second cache.
const TASK_ROWS: usize = 96;
/// Tasks for each thread, where there are enough outputs, so that none waits long for the last one.
const TASKS: usize = 4;

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub inputs: usize,
    pub outputs: usize,
    pub taps: usize,
    /// Steps from tap to tap.
    pub dilation: usize,
    /// Steps of the input for each of the output.
    pub stride: usize,
    /// Steps of the input from the first tap to the output's own.
    pub before: usize,
}

impl Geometry {
    /// Steps of the input from the output's own to the last tap.
    pub fn after(&self) -> usize {
        (self.taps.saturating_sub(1) * self.dilation).saturating_sub(self.before)
    }
}

/// Weights, packed once, and biases.
pub struct Convolution {
    pub(super) geometry: Geometry,
    /// `[panel][tap][input][LANES]`; the last panel is filled up with zeros.
    pub(super) weights: Buffer<f32>,
    /// `[panel][LANES]`
    pub(super) bias: Buffer<f32>,
    /// Inputs of an output that lie side by side, and how far apart runs of them begin.
    pub(super) run: usize,
    pub(super) skip: usize,
}

impl Convolution {
    /// Packs `weight(output, input, tap)`; `bias` has an element for each output.
    ///
    /// # Panics
    /// If a size is zero, or `bias` has another size.
    pub fn new(
        pool: &Pool,
        geometry: Geometry,
        bias: &[f32],
        weight: &(dyn Fn(usize, usize, usize) -> f32 + Sync),
    ) -> Self {
        let Geometry {
            inputs,
            outputs,
            taps,
            dilation,
            stride,
            ..
        } = geometry;
        assert!(
            inputs * outputs * taps * dilation * stride > 0 && bias.len() == outputs,
            "a convolution has sizes, and as many biases as outputs"
        );
        let panels = outputs.div_ceil(LANES);
        let length = taps * inputs * LANES;
        let mut weights = Buffer::zeroed(panels * length);
        super::chunks(pool, &mut weights, length, &|panel, weights| {
            for (index, weights) in weights.chunks_exact_mut(LANES).enumerate() {
                for (output, packed) in (panel * LANES..outputs).zip(weights) {
                    *packed = weight(output, index % inputs, index / inputs);
                }
            }
        });
        let mut biases = Buffer::zeroed(panels * LANES);
        biases[..outputs].copy_from_slice(bias);
        Self {
            geometry,
            weights,
            bias: biases,
            run: if dilation == 1 { taps * inputs } else { inputs },
            skip: dilation * inputs,
        }
    }

    /// The transposed convolution that makes `rate` steps of each, from `weight(output, input, tap)`, where the taps are
    /// `taps` steps that an input adds to, from `padding` before its own first one on.
    ///
    /// The steps that one step becomes are outputs side by side here: each of them sees a few taps, of a few neighbours.
    ///
    /// # Panics
    /// As [`Convolution::new`], or if `rate` is zero.
    pub fn transposed(
        pool: &Pool,
        (inputs, outputs, taps): (usize, usize, usize),
        (rate, padding): (usize, usize),
        bias: &[f32],
        weight: &(dyn Fn(usize, usize, usize) -> f32 + Sync),
    ) -> Self {
        let before = taps.saturating_sub(padding + 1) / rate;
        let geometry = Geometry {
            inputs,
            outputs: rate * outputs,
            taps: before + 1 + padding.div_ceil(rate),
            dilation: 1,
            stride: 1,
            before,
        };
        let of_neighbour = |output: usize, input: usize, neighbour: usize| {
            let latest = output / outputs + padding + before * rate;
            match latest.checked_sub(neighbour * rate) {
                Some(tap) if tap < taps => weight(output % outputs, input, tap),
                _ => 0.0,
            }
        };
        Self::new(pool, geometry, &bias.repeat(rate), &of_neighbour)
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Whether it makes a step of each and sees as far to either side of it.
    pub(super) fn is_centred(&self) -> bool {
        self.geometry.stride == 1 && self.geometry.before == self.geometry.after()
    }

    /// Makes `y` `[steps, outputs]` of `x` `[steps, inputs]`, which begins [`Geometry::before`] the first step; then
    /// `finish(first output, values)` on neighbouring outputs of each step, from any thread.
    ///
    /// A sum's terms are added in the same order wherever it is and whatever the number of threads.
    pub(super) fn run(
        &self,
        pool: &Pool,
        x: &[f32],
        y: &mut [f32],
        onto: Onto,
        finish: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        let Geometry {
            inputs,
            outputs,
            taps,
            stride,
            ..
        } = self.geometry;
        let rows = y.len() / outputs;
        let step = stride * inputs;
        let reach = (taps * inputs / self.run - 1) * self.skip + self.run;
        assert!(
            y.len() == rows * outputs && (rows == 0 || x.len() >= (rows - 1) * step + reach),
            "{} inputs do not make {} outputs",
            x.len(),
            y.len()
        );
        let blocks = rows.div_ceil(TASK_ROWS);
        let panels = outputs.div_ceil(LANES);
        let wanted = (TASKS * pool.threads()).div_ceil(blocks.max(1));
        // Even, as wide registers take two panels at a time.
        let width = panels.div_ceil(wanted).next_multiple_of(2);
        let parts = panels.div_ceil(width);
        let y = Shared::new(y);
        pool.run(blocks * parts, &|task| {
            let (block, part) = (task / parts, task % parts);
            let rows = block * TASK_ROWS..rows.min((block + 1) * TASK_ROWS);
            let panels = part * width..panels.min((part + 1) * width);
            let product = Product {
                convolution: self,
                x,
                step,
                y: &y,
                onto,
                rows: rows.clone(),
                panels: panels.clone(),
            };
            simd::run(isa(), product);
            let first = panels.start * LANES;
            let count = outputs.min(panels.end * LANES) - first;
            for row in rows {
                // SAFETY: no other task has these outputs of these steps.
                finish(first, unsafe { y.part(row * outputs + first, count) });
            }
        });
    }
}
