//! Matrix products `y = x W^T` with packed weights, for any number of rows (GEMV and GEMM).
//!
//! With few rows a product is bound by the memory that the weights are read from, with many by the processor's arithmetic. The
//! result of a row does not depend on the rows beside it, nor on the number of threads: the terms of a sum are always added in
//! the same order.

pub(crate) mod dots;
mod float;
mod gemm;
mod int4;
mod int8;
pub(crate) mod quantize;
mod quantize_i4;
mod source;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::math::add;
use crate::pool::Pool;
use dots::Isas;
use float::FloatMatrix;
use gemm::{Epilogue, Kernel};
use int4::Int4;
use int8::Int8;
pub use source::Layout;
use source::WeightSource;

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
    F32(FloatMatrix<f32>),
    Bf16(FloatMatrix<u16>),
    Int8(Int8),
    Int4(Int4),
}

impl Matrix {
    /// Packs `weights`, of which row `o` begins at `o * row_stride` and its columns are `column_stride` apart, one of which
    /// is 1 (so that a transposed matrix needs no copy). On one thread; [`Matrix::pack_from`] takes a pool.
    ///
    /// # Panics
    /// If there are no outputs or no inputs, or fewer weights than that.
    pub fn pack(
        weights: &[f32],
        outputs: usize,
        inputs: usize,
        (row_stride, column_stride): (usize, usize),
        precision: Precision,
    ) -> Self {
        let row = |output: usize| &weights[output * row_stride..][..inputs];
        let layout = if column_stride == 1 {
            Layout::Rows(&row)
        } else {
            assert!(row_stride == 1, "rows or columns are contiguous");
            Layout::Transposed {
                weights,
                stride: column_stride,
            }
        };
        Self::pack_from(&Pool::new(1), outputs, inputs, precision, layout)
    }

    /// Packs weights that are read where they lie, on all threads.
    ///
    /// # Panics
    /// If there are no outputs or no inputs, or a row is shorter than that.
    pub fn pack_from(
        pool: &Pool,
        outputs: usize,
        inputs: usize,
        precision: Precision,
        layout: Layout<'_>,
    ) -> Self {
        assert!(outputs > 0 && inputs > 0, "a matrix has outputs and inputs");
        let source = WeightSource {
            outputs,
            inputs,
            layout,
        };
        let weights = match precision {
            Precision::F32 => Weights::F32(FloatMatrix::pack(pool, &source)),
            Precision::Bf16 => Weights::Bf16(FloatMatrix::pack(pool, &source)),
            Precision::Int8 => Weights::Int8(Int8::pack(pool, &source)),
            Precision::Int4 => Weights::Int4(Int4::pack(pool, &source)),
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

    /// Bytes of packed weights that a product reads.
    pub fn bytes(&self) -> usize {
        match &self.weights {
            Weights::F32(weights) => weights.bytes(),
            Weights::Bf16(weights) => weights.bytes(),
            Weights::Int8(weights) => weights.bytes(),
            Weights::Int4(weights) => weights.bytes(),
        }
    }

    /// `y = x W^T` for the rows of `x` `[rows, inputs]`, then `epilogue(row, first output, outputs)` on each run of neighbouring
    /// outputs of a row while it is in the cache (bias, activation, residual), in any order, from any thread. Runs are of
    /// sixteen outputs or more, but for a matrix's last.
    ///
    /// # Panics
    /// If `x` or `y` has not whole rows, or not as many as the other.
    pub fn multiply(
        &self,
        pool: &Pool,
        x: &[f32],
        y: &mut [f32],
        epilogue: &(dyn Fn(usize, usize, &mut [f32]) + Sync),
    ) {
        assert!(
            x.len() * self.outputs == y.len() * self.inputs,
            "as many rows of inputs as of outputs"
        );
        self.multiply_from(pool, x, self.inputs, y, epilogue);
    }

    /// `y = x W^T + bias`; without a bias if it is empty.
    ///
    /// # Panics
    /// As [`Matrix::multiply`], or if the bias has fewer elements than there are outputs.
    pub fn multiply_and_add(&self, pool: &Pool, x: &[f32], bias: &[f32], y: &mut [f32]) {
        if bias.is_empty() {
            return self.multiply(pool, x, y, &|_, _, _| ());
        }
        self.multiply(pool, x, y, &|_, first, values| add(values, &bias[first..]));
    }

    /// As [`Matrix::multiply`] for rows that begin `stride` apart in `x`: they overlap if that is less than `inputs` (a
    /// convolution). There are as many as in `y`.
    ///
    /// # Panics
    /// If `y` has not whole rows, or `x` ends before the last.
    pub fn multiply_from(
        &self,
        pool: &Pool,
        x: &[f32],
        stride: usize,
        y: &mut [f32],
        epilogue: &(dyn Fn(usize, usize, &mut [f32]) + Sync),
    ) {
        self.multiply_on(Isas::best(), pool, (x, stride), y, epilogue);
    }

    fn multiply_on(
        &self,
        isas: Isas,
        pool: &Pool,
        (x, stride): (&[f32], usize),
        y: &mut [f32],
        epilogue: &Epilogue,
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
        gemm::multiply(isas, pool, kernel, (x, stride), y, epilogue);
    }
}
