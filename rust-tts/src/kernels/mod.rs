//! The networks of `chatterbox-kernels` as classes of the extension module. They hold packed weights and no Python object,
//! and compute without the interpreter's lock.

pub mod biquad;
mod buffers;
pub mod flow;
pub mod linear;
pub mod sampling;
pub mod t3;
pub mod vocoder;

use std::sync::{Arc, Mutex, PoisonError};

use chatterbox_kernels::Pool;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The thread pool of networks made from now on. They share it because they run one after the other.
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

fn value_error(error: chatterbox_kernels::Error) -> PyErr {
    PyValueError::new_err(error.0)
}
