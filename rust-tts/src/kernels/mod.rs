//! The networks of `chatterbox-kernels` as classes of the extension module. They hold packed weights and no Python object,
//! and compute without the interpreter's lock.

pub mod biquad;
pub mod flow;
pub mod linear;
pub mod sampling;
pub mod t3;
pub mod vocoder;

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use chatterbox_kernels::Pool;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// What networks made from now on compute with. One for all: they run one after the other.
static POOL: Mutex<Option<Arc<Pool>>> = Mutex::new(None);

/// The threads of the networks: as many as `set_threads` said, or as may run at once.
pub fn pool() -> Arc<Pool> {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(pool.get_or_insert_with(|| Arc::new(Pool::new(available_threads()))))
}

/// As many threads as may run at once: of the machine's, those that this process was given, by affinity or by a container's
/// quota.
#[pyfunction]
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Computes with `count` threads in networks that are made from now on; those there are keep theirs.
#[pyfunction]
pub fn set_threads(count: usize) {
    let pool = Arc::new(Pool::new(count));
    *POOL.lock().unwrap_or_else(PoisonError::into_inner) = Some(pool);
}

/// Any size, where a shape is asked for.
const ANY: isize = -1;

/// Weights of somebody else's, read where they lie: copying them first would take as long as packing them.
///
/// Whoever gives them lets no thread write to them meanwhile.
pub(super) struct Array(PyBuffer<f32>);

impl Array {
    /// Raises `ValueError` for what is not C-contiguous.
    fn new(buffer: PyBuffer<f32>) -> PyResult<Self> {
        let [array] = Self::all([buffer])?;
        Ok(array)
    }

    /// As `new`, of several.
    fn all<const N: usize>(buffers: [PyBuffer<f32>; N]) -> PyResult<[Self; N]> {
        if buffers.iter().all(|buffer| buffer.is_c_contiguous()) {
            Ok(buffers.map(Self))
        } else {
            Err(PyValueError::new_err("weights are to be contiguous"))
        }
    }

    /// What `take(name, *shape)` gives, which must have as many dimensions.
    fn take(take: &Bound<'_, PyAny>, name: &str, shape: &[isize]) -> PyResult<Self> {
        let py = take.py();
        let mut arguments = vec![name.into_pyobject(py)?.into_any()];
        for size in shape {
            arguments.push(size.into_pyobject(py)?.into_any());
        }
        let found = take.call1(PyTuple::new(py, arguments)?)?;
        let buffer = PyBuffer::<f32>::get(&found)?;
        if buffer.shape().len() != shape.len() {
            return Err(shape_error(name, &buffer));
        }
        Self::new(buffer)
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }
}

impl Deref for Array {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        if self.0.item_count() == 0 {
            return &[];
        }
        // SAFETY: a contiguous buffer of so many floats, which it keeps alive; nobody writes to them.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), self.0.item_count()) }
    }
}

fn shape_error(name: &str, buffer: &PyBuffer<f32>) -> PyErr {
    PyValueError::new_err(format!("{name} has shape {:?}", buffer.shape()))
}
