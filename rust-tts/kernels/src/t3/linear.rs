//! Linear layers with or without a bias.

use crate::Error;
use crate::math::add;
use crate::matrix::{Layout, Matrix, Precision};
use crate::pool::Pool;

/// Weights of a linear layer, as a checkpoint holds them.
pub struct Linear<'a> {
    /// `[outputs, inputs]`, or `[inputs, outputs]` if `transposed`.
    pub weight: &'a [f32],
    pub transposed: bool,
    /// `[outputs]`, or empty for none.
    pub bias: &'a [f32],
}

impl Linear<'_> {
    /// Packs the layer, which has `inputs`.
    pub(super) fn pack(
        &self,
        pool: &Pool,
        inputs: usize,
        precision: Precision,
    ) -> Result<(Matrix, Vec<f32>), Error> {
        let outputs = self.weight.len() / inputs.max(1);
        if outputs == 0 || self.weight.len() != outputs * inputs {
            return Err(Error(format!(
                "a linear layer of {inputs} inputs cannot have {} weights",
                self.weight.len()
            )));
        }
        if !self.bias.is_empty() && self.bias.len() != outputs {
            return Err(Error(format!(
                "a linear layer of {outputs} outputs has {} biases",
                self.bias.len()
            )));
        }
        let row = |output: usize| &self.weight[output * inputs..][..inputs];
        let layout = if self.transposed {
            Layout::Transposed {
                weights: self.weight,
                stride: outputs,
            }
        } else {
            Layout::Rows(&row)
        };
        let matrix = Matrix::pack_from(pool, outputs, inputs, precision, layout);
        Ok((matrix, self.bias.to_vec()))
    }
}

/// `out = others + (x W^T + b)`
pub(super) fn add_product(
    pool: &Pool,
    (matrix, bias): &(Matrix, Vec<f32>),
    x: &[f32],
    others: &[f32],
    out: &mut [f32],
) {
    let width = matrix.outputs();
    matrix.multiply(pool, x, out, &|row, first, values| {
        if !bias.is_empty() {
            add(values, &bias[first..]);
        }
        add(values, &others[row * width + first..]);
    });
}
