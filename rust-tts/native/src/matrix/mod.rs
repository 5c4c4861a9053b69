//! Weights of linear layers, packed once, and their product with any number of rows.
//!
//! One packed copy serves every number of rows. With few rows a product runs as fast as the weights can be read, with many
//! as fast as the processor multiplies. What a row gives does not depend on the rows beside it, nor on the number of threads:
//! the terms of a sum are always added in the same order.

pub(crate) mod dots;
mod drive;
mod float;
mod grid;
mod int4;
mod int8;
pub(crate) mod quantise;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::cell::Cell;
use std::ops::Range;

use crate::pool::Pool;
use crate::simd::LANES;
use dots::Set;
use drive::{Finish, Kernel};
use float::Float;
use int4::Int4;
use int8::Int8;

/// Writes the rows of a range of outputs, one after the other.
pub type Fill<'a> = dyn Fn(Range<usize>, &mut [f32]) + Sync + 'a;

/// How weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    F32,
    Bf16,
    Int8,
    Int4,
}

/// The weights `W` `[outputs, inputs]` of `y = x W^T`.
pub struct Matrix {
    outputs: usize,
    inputs: usize,
    weights: Weights,
}

enum Weights {
    F32(Float<f32>),
    Bf16(Float<u16>),
    Int8(Int8),
    Int4(Int4),
}

impl Matrix {
    /// Packs `weights`, of which row `o` begins at `o * row_stride` and its columns are `column_stride` apart (so that a
    /// transposed matrix needs no copy). On one thread; [`Matrix::pack_rows`] takes a pool.
    pub fn pack(
        weights: &[f32],
        outputs: usize,
        inputs: usize,
        strides: (usize, usize),
        precision: Precision,
    ) -> Self {
        let fill = strided(weights, inputs, strides);
        Self::pack_rows(&Pool::new(1), outputs, inputs, precision, &fill)
    }

    /// Packs weights that come from `fill(outputs, rows)`, which writes the rows of a range of outputs, one after the other,
    /// on any thread: from several matrices made one, from other number formats, scaled. See [`strided`] for a plain one.
    ///
    /// # Panics
    /// If there are no outputs or no inputs.
    pub fn pack_rows(
        pool: &Pool,
        outputs: usize,
        inputs: usize,
        precision: Precision,
        fill: &Fill,
    ) -> Self {
        assert!(outputs > 0 && inputs > 0, "a matrix has outputs and inputs");
        let weights = match precision {
            Precision::F32 => Weights::F32(Float::pack(pool, outputs, inputs, fill)),
            Precision::Bf16 => Weights::Bf16(Float::pack(pool, outputs, inputs, fill)),
            Precision::Int8 => Weights::Int8(Int8::pack(pool, outputs, inputs, fill)),
            Precision::Int4 => Weights::Int4(Int4::pack(pool, outputs, inputs, fill)),
        };
        Self {
            outputs,
            inputs,
            weights,
        }
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes that a product reads of it.
    pub fn bytes(&self) -> usize {
        match &self.weights {
            Weights::F32(weights) => weights.bytes(),
            Weights::Bf16(weights) => weights.bytes(),
            Weights::Int8(weights) => weights.bytes(),
            Weights::Int4(weights) => weights.bytes(),
        }
    }

    /// `y = x W^T` for the rows of `x` `[rows, inputs]`, then `finish(row, first output, values)` on each finished run of
    /// neighbouring outputs of a row while it is in the cache (bias, activation, residual), in any order, from any thread.
    /// Runs are of sixteen outputs or more, but for a matrix's last.
    ///
    /// # Panics
    /// If `x` or `y` has not whole rows, or not as many as the other.
    pub fn multiply(
        &self,
        pool: &Pool,
        x: &[f32],
        y: &mut [f32],
        finish: &(dyn Fn(usize, usize, &mut [f32]) + Sync),
    ) {
        assert!(
            x.len() * self.outputs == y.len() * self.inputs,
            "as many rows of inputs as of outputs"
        );
        self.multiply_from(pool, x, self.inputs, y, finish);
    }

    /// As [`Matrix::multiply`] for rows that begin `stride` apart in `x`: closer than they are long, they overlap (a
    /// convolution); further, they are parts of longer ones. There are as many as in `y`.
    ///
    /// # Panics
    /// If `y` has not whole rows, or `x` ends before the last.
    pub fn multiply_from(
        &self,
        pool: &Pool,
        x: &[f32],
        stride: usize,
        y: &mut [f32],
        finish: &(dyn Fn(usize, usize, &mut [f32]) + Sync),
    ) {
        self.multiply_on(Set::best(), pool, (x, stride), y, finish);
    }

    fn multiply_on(
        &self,
        set: Set,
        pool: &Pool,
        (x, stride): (&[f32], usize),
        y: &mut [f32],
        finish: &Finish,
    ) {
        let rows = y.len() / self.outputs.max(1);
        let needed = rows.saturating_sub(1) * stride + self.inputs;
        assert!(
            y.len() == rows * self.outputs && (rows == 0 || x.len() >= needed),
            "{} inputs and {} outputs make no rows of {} and {}",
            x.len(),
            y.len(),
            self.inputs,
            self.outputs
        );
        let kernel: &dyn Kernel = match &self.weights {
            Weights::F32(weights) => weights,
            Weights::Bf16(weights) => weights,
            Weights::Int8(weights) => weights,
            Weights::Int4(weights) => weights,
        };
        drive::multiply(set, pool, kernel, (x, stride), y, finish);
    }
}

/// Rows of `weights`, of which row `o` begins at `o * row_stride` and its columns are `column_stride` apart.
pub fn strided(
    weights: &[f32],
    inputs: usize,
    (row_stride, column_stride): (usize, usize),
) -> impl Fn(Range<usize>, &mut [f32]) + Sync {
    move |outputs, rows| {
        if column_stride == 1 {
            for (output, row) in outputs.zip(rows.chunks_exact_mut(inputs)) {
                row.copy_from_slice(&weights[output * row_stride..][..inputs]);
            }
            return;
        }
        for input in 0..inputs {
            for (row, output) in outputs.clone().enumerate() {
                rows[row * inputs + input] = weights[output * row_stride + input * column_stride];
            }
        }
    }
}

/// Calls `pack(panel, rows)` for every panel of [`LANES`] outputs with its rows (fewer in the last), on all threads.
fn each_panel(
    pool: &Pool,
    outputs: usize,
    inputs: usize,
    fill: &Fill,
    pack: &(dyn Fn(usize, &[f32]) + Sync),
) {
    thread_local! {
        static ROWS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    }
    pool.run(outputs.div_ceil(LANES), &|panel| {
        let range = panel * LANES..outputs.min((panel + 1) * LANES);
        let mut rows = ROWS.take();
        rows.resize(range.len() * inputs, 0.0);
        fill(range, &mut rows);
        pack(panel, &rows);
        ROWS.set(rows);
    });
}
