//! A linear layer by itself, for networks that are put together in Python.

use std::sync::Arc;

use chatterbox_kernels::matrix::Source;
use chatterbox_kernels::{Matrix, Pool};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::flow::precision_named;
use super::{Array, pool, shape_error};

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
        let precision = precision_named(precision)?;
        let [outputs, inputs] = *weights.shape() else {
            return Err(shape_error("weights", &weights));
        };
        if outputs == 0 || inputs == 0 {
            return Err(shape_error("weights", &weights));
        }
        if let Some(bias) = bias.as_ref().filter(|bias| *bias.shape() != [outputs]) {
            return Err(shape_error("bias", bias));
        }
        let bias = bias.map_or(Ok(Vec::new()), |bias| bias.to_vec(py))?;
        let weights = Array::new(weights)?;
        let weights: &[f32] = &weights;
        let pool = pool();
        let row = |output: usize| &weights[output * inputs..][..inputs];
        let weights =
            py.detach(|| Matrix::pack_from(&pool, outputs, inputs, precision, Source::Rows(&row)));
        Ok(Self {
            pool,
            weights,
            bias,
        })
    }

    /// Writes `y` `[rows, outputs]` for `x` `[rows, inputs]`, contiguous float32 that nobody else touches meanwhile.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a buffer cannot be borrowed from Python's arguments"
    )]
    fn run(&self, py: Python<'_>, x: PyBuffer<f32>, y: PyBuffer<f32>) -> PyResult<()> {
        let rows = match *x.shape() {
            [rows, inputs] if inputs == self.weights.inputs() => rows,
            _ => return Err(shape_error("x", &x)),
        };
        if *y.shape() != [rows, self.weights.outputs()] {
            return Err(shape_error("y", &y));
        }
        let (Some(given), Some(mut found)) = (x.as_slice_ptr(), y.as_slice_ptr()) else {
            return Err(PyValueError::new_err("x and y are to be contiguous"));
        };
        if y.readonly() {
            return Err(PyValueError::new_err("y is to be writable"));
        }
        // SAFETY: both are memory of so many numbers, which `x` and `y` keep alive. Whoever calls gives arrays that are not
        // one another's and that no other thread touches until this returns; a copy of each would take a tenth of the time.
        let (given, found) = unsafe { (given.as_ref(), found.as_mut()) };
        py.detach(|| {
            self.weights
                .multiply_and_add(&self.pool, given, &self.bias, found);
        });
        Ok(())
    }
}
