//! A linear layer by itself, for networks that are put together in Python.

use std::sync::Arc;

use chatterbox_kernels::matrix::Layout;
use chatterbox_kernels::{Matrix, Pool};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use super::buffers::{ANY, Weights, compute_in_place, shape_error};
use super::flow::parse_precision;
use super::pool;

/// `y = x W^T + b` with packed weights. What a row gives does not depend on the rows beside it.
#[pyclass(frozen, module = "chatterbox_server._core")]
pub struct LinearLayer {
    pool: Arc<Pool>,
    weights: Matrix,
    /// One of each output, or none at all.
    bias: Vec<f32>,
}

#[pymethods]
impl LinearLayer {
    /// `weights` is `[outputs, inputs]`, `bias` `[outputs]`, both contiguous float32; `precision` is "fp32" or "int8". Raises
    /// `ValueError` for what does not fit together.
    #[new]
    fn new(
        py: Python<'_>,
        weights: PyBuffer<f32>,
        bias: Option<PyBuffer<f32>>,
        precision: &str,
    ) -> PyResult<Self> {
        let precision = parse_precision(precision)?;
        if weights.item_count() == 0 {
            return Err(shape_error("weights", &weights));
        }
        let weights = Weights::new("weights", weights, &[ANY; 2])?;
        let (outputs, inputs) = (weights.shape()[0], weights.shape()[1]);
        let bias = match bias {
            Some(bias) => Weights::new("bias", bias, &[outputs])?.to_vec(),
            None => Vec::new(),
        };
        let weights: &[f32] = &weights;
        let pool = pool();
        let row = |output: usize| &weights[output * inputs..][..inputs];
        let weights =
            py.detach(|| Matrix::pack_from(&pool, outputs, inputs, precision, Layout::Rows(&row)));
        Ok(Self {
            pool,
            weights,
            bias,
        })
    }

    /// Writes `y` `[rows, outputs]` for `x` `[rows, inputs]`, both C-contiguous float32. Raises `ValueError` for arrays that do
    /// not fit or overlap.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a buffer cannot be borrowed from Python's arguments"
    )]
    fn run(&self, py: Python<'_>, x: PyBuffer<f32>, y: PyBuffer<f32>) -> PyResult<()> {
        let (inputs, outputs) = (self.weights.inputs(), self.weights.outputs());
        let rows = x.item_count() / inputs;
        compute_in_place(
            py,
            ("x", &x, &[rows, inputs]),
            ("y", &y, &[rows, outputs]),
            |x, y| {
                self.weights.multiply_and_add(&self.pool, x, &self.bias, y);
            },
        )
    }
}
