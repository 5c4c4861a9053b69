//! Float32 arrays of Python's. Every entry that takes some has them checked here, so that what it reads and writes is what it
//! was given: contiguous, of the right shape, writable where it is written, and apart from what is written.
//!
//! No other thread of Python may touch the numbers meanwhile: they are copied or used while the interpreter's lock is held.
//! Weights are the exception (see [`Weights`]).

use std::ops::{Deref, Range};
use std::ptr::{self, NonNull};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Any size, where a shape is expected.
pub(super) const ANY: usize = usize::MAX;

/// An argument's name, the argument, and the shape that it must have ([`ANY`] stands for any size).
pub(super) type Argument<'a> = (&'a str, &'a PyBuffer<f32>, &'a [usize]);

/// Raises `ValueError` for an argument of another shape or that is not C-contiguous, and for an output that is read-only or
/// overlaps another argument.
pub(super) fn check(inputs: &[Argument<'_>], outputs: &[Argument<'_>]) -> PyResult<()> {
    for (name, buffer, shape) in inputs.iter().chain(outputs) {
        check_contiguous(name, buffer)?;
        check_shape(name, buffer, shape)?;
    }
    for (index, (name, buffer, _)) in outputs.iter().enumerate() {
        if buffer.readonly() {
            return Err(error(name, "is read-only"));
        }
        for (other_name, other, _) in inputs.iter().chain(&outputs[..index]) {
            if overlap(buffer, other) {
                return Err(error(name, &format!("overlaps {other_name}")));
            }
        }
    }
    Ok(())
}

fn check_shape(name: &str, buffer: &PyBuffer<f32>, shape: &[usize]) -> PyResult<()> {
    let fits = |(size, expected): (&usize, &usize)| *expected == ANY || size == expected;
    if buffer.dimensions() == shape.len() && buffer.shape().iter().zip(shape).all(fits) {
        Ok(())
    } else {
        Err(shape_error(name, buffer))
    }
}

fn check_contiguous(name: &str, buffer: &PyBuffer<f32>) -> PyResult<()> {
    if buffer.is_c_contiguous() {
        Ok(())
    } else {
        Err(error(name, "is not C-contiguous"))
    }
}

/// Whether two contiguous buffers have a byte in common.
fn overlap(a: &PyBuffer<f32>, b: &PyBuffer<f32>) -> bool {
    let (a, b) = (bytes(a), bytes(b));
    a.start < b.end && b.start < a.end
}

fn bytes(buffer: &PyBuffer<f32>) -> Range<usize> {
    let start = buffer.buf_ptr().addr();
    start..start + buffer.len_bytes()
}

/// Calls `compute` with the numbers of `input` and `output`, which are [`check`]ed first. The interpreter's lock is held all the
/// while: a copy of each array would take a fifth of a quantised layer's time.
pub(super) fn compute_in_place(
    _py: Python<'_>,
    input: Argument<'_>,
    output: Argument<'_>,
    compute: impl FnOnce(&[f32], &mut [f32]) + Send,
) -> PyResult<()> {
    check(&[input], &[output])?;
    let (x, y) = (numbers(input.1), numbers(output.1));
    // SAFETY: each is the memory of a contiguous buffer, which outlives this call. They do not overlap, and no other thread of
    // Python runs: `_py` holds the lock, and as it is not `Send`, `compute` cannot have it to release the lock.
    unsafe { compute(&*x, &mut *y) };
    Ok(())
}

/// Like [`compute_in_place`], for an array that is only read.
pub(super) fn read_in_place<T>(
    _py: Python<'_>,
    input: Argument<'_>,
    read: impl FnOnce(&[f32]) -> T + Send,
) -> PyResult<T> {
    check(&[input], &[])?;
    // SAFETY: as above.
    Ok(read(unsafe { &*numbers(input.1) }))
}

fn numbers(buffer: &PyBuffer<f32>) -> *mut [f32] {
    let count = buffer.item_count();
    // An empty buffer may have no address.
    let start = if count == 0 {
        NonNull::dangling().as_ptr()
    } else {
        buffer.buf_ptr().cast()
    };
    ptr::slice_from_raw_parts_mut(start, count)
}

fn error(name: &str, what: &str) -> PyErr {
    PyValueError::new_err(format!("{name} {what}"))
}

pub(super) fn shape_error(name: &str, buffer: &PyBuffer<f32>) -> PyErr {
    error(name, &format!("has shape {:?}", buffer.shape()))
}

/// Weights, read where they are: copying them first would take as long as packing them.
///
/// This is the one place where an array is read without the interpreter's lock, while other threads read the next weights from
/// the disk. The classes are private to this package, which makes each of these arrays from a checkpoint and writes to none.
pub(super) struct Weights(PyBuffer<f32>);

impl Weights {
    /// Raises `ValueError` for another shape ([`ANY`] stands for any size), and for what is not C-contiguous.
    pub(super) fn new(name: &str, buffer: PyBuffer<f32>, shape: &[usize]) -> PyResult<Self> {
        check_shape(name, &buffer, shape)?;
        check_contiguous(name, &buffer)?;
        Ok(Self(buffer))
    }

    /// Like `new`, for the array that `get_weight(name, *shape)` returns; -1 stands for any size there.
    pub(super) fn get(
        get_weight: &Bound<'_, PyAny>,
        name: &str,
        shape: &[usize],
    ) -> PyResult<Self> {
        let py = get_weight.py();
        let mut arguments = vec![name.into_pyobject(py)?.into_any()];
        for size in shape {
            let size = if *size == ANY { -1 } else { size.cast_signed() };
            arguments.push(size.into_pyobject(py)?.into_any());
        }
        let array = get_weight.call1(PyTuple::new(py, arguments)?)?;
        Self::new(name, PyBuffer::get(&array)?, shape)
    }

    pub(super) fn shape(&self) -> &[usize] {
        self.0.shape()
    }
}

impl Deref for Weights {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the memory of a contiguous buffer, which it keeps alive and nobody writes to.
        unsafe { &*numbers(&self.0) }
    }
}
