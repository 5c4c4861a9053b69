//! Convolutions computed from the signal as it is: no rows are copied side by side, whatever the dilation.

use std::ops::Range;

use super::convolution::{Finish, Geometry, Weight};
use super::product::{Onto, Part, Product};
use crate::isa::isa;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::simd::{self, LANES};

/// Steps that a task makes together: whole tiles of every instruction set, and what they read stays in the second cache.
const TASK_ROWS: usize = 96;
/// Tasks for each thread, where there are enough outputs, so that none waits long for the last one.
const TASKS: usize = 4;

/// A convolution's weights as its sums read them.
pub(super) struct Direct {
    pub geometry: Geometry,
    /// `[panel][tap][input][LANES]`; the last panel is filled up with zeros.
    pub weights: Buffer<f32>,
    /// `[panel][LANES]`
    pub bias: Buffer<f32>,
    pub parts: Vec<Part>,
}

impl Direct {
    /// As `Convolution::new`.
    pub(super) fn new(pool: &Pool, geometry: Geometry, bias: &[f32], weight: &Weight) -> Self {
        let Geometry {
            inputs,
            outputs,
            taps,
            ..
        } = geometry;
        let mut zeroed = Self::zeroed(geometry, bias);
        let length = taps * inputs * LANES;
        super::chunks(pool, &mut zeroed.weights, length, &|panel, weights| {
            for (index, weights) in weights.chunks_exact_mut(LANES).enumerate() {
                for (output, packed) in (panel * LANES..outputs).zip(weights) {
                    *packed = weight(output, index % inputs, index / inputs);
                }
            }
        });
        zeroed
    }

    /// One without weights.
    ///
    /// # Panics
    /// As `Convolution::new`.
    pub(super) fn zeroed(geometry: Geometry, bias: &[f32]) -> Self {
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
        let mut biases = Buffer::zeroed(panels * LANES);
        biases[..outputs].copy_from_slice(bias);
        Self {
            geometry,
            weights: Buffer::zeroed(panels * taps * inputs * LANES),
            bias: biases,
            parts: Part::all(&geometry),
        }
    }

    /// As `Convolution::run`, which has seen that `x` and `y` fit.
    pub(super) fn run(&self, pool: &Pool, x: &[f32], y: &mut [f32], onto: Onto, finish: &Finish) {
        let outputs = self.geometry.outputs;
        let rows = y.len() / outputs;
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
            // SAFETY: no other task has these outputs of these steps.
            unsafe { self.sums(x, &y, onto, rows.clone(), panels.clone()) };
            let first = panels.start * LANES;
            let count = outputs.min(panels.end * LANES) - first;
            for row in rows {
                // SAFETY: as above.
                finish(first, unsafe { y.part(row * outputs + first, count) });
            }
        });
    }

    /// Makes the outputs of some panels for some steps.
    ///
    /// # Safety
    /// `x` must hold what [`Geometry::seen`] says, and no other thread may use these outputs of these steps of `y`.
    pub(super) unsafe fn sums(
        &self,
        x: &[f32],
        y: &Shared<f32>,
        onto: Onto,
        rows: Range<usize>,
        panels: Range<usize>,
    ) {
        let product = Product {
            convolution: self,
            x,
            step: self.geometry.stride * self.geometry.inputs,
            y,
            onto,
            rows,
            panels,
        };
        simd::run(isa(), product);
    }
}
