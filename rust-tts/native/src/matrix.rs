//! Weights of linear layers, packed once, and their product with any number of rows.

use crate::pool::Pool;

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
    weights: Vec<f32>,
}

impl Matrix {
    /// Packs `weights`, of which row `o` begins at `o * row_stride` and its columns are `column_stride` apart (so that a
    /// transposed matrix needs no copy).
    pub fn pack(
        weights: &[f32],
        outputs: usize,
        inputs: usize,
        (row_stride, column_stride): (usize, usize),
        _precision: Precision,
    ) -> Self {
        let at = |o: usize, i: usize| weights[o * row_stride + i * column_stride];
        let packed = (0..outputs)
            .flat_map(|o| (0..inputs).map(move |i| at(o, i)))
            .collect();
        Self {
            outputs,
            inputs,
            weights: packed,
        }
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// `y = x W^T` for the rows of `x` `[rows, inputs]`, then `finish(row, first output, values)` on each finished run of
    /// neighbouring outputs of a row while it is in the cache (bias, activation, residual), in any order, from any thread.
    pub fn multiply(
        &self,
        pool: &Pool,
        x: &[f32],
        y: &mut [f32],
        finish: &(dyn Fn(usize, usize, &mut [f32]) + Sync),
    ) {
        let _ = pool;
        for (row, (x, y)) in x
            .chunks_exact(self.inputs)
            .zip(y.chunks_exact_mut(self.outputs))
            .enumerate()
        {
            for (y, w) in y.iter_mut().zip(self.weights.chunks_exact(self.inputs)) {
                *y = x.iter().zip(w).map(|(x, w)| x * w).sum();
            }
            finish(row, 0, y);
        }
    }
}
