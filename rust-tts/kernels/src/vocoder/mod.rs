//! The network that turns a mel and a source signal into samples (`s3gen/generator.py` has it in torch).
//!
//! All signals are `[steps, channels]`, so that a step and its neighbours lie side by side, and all layers with weights are
//! convolutions over them, the short Fourier transforms too.

mod convolution;
mod direct;
mod functions;
mod generator;
mod residual;
mod stft;
#[cfg(test)]
mod tests;
mod winograd;

pub use convolution::{Convolution, Geometry, Weight};
pub use generator::{Generator, Stage, Workspace};
pub use residual::{Pair, Residual, Snake};

use crate::flow::chunks;
use crate::pool::Pool;

/// Steps of a task of an elementwise layer.
const ROWS: usize = 64;

/// Makes `buffer` hold `length` elements with `before` and `after` zeros around them; returns the elements, which hold anything.
fn padded(buffer: &mut Vec<f32>, length: usize, before: usize, after: usize) -> &mut [f32] {
    buffer.resize(before + length + after, 0.0);
    buffer[..before].fill(0.0);
    buffer[before + length..].fill(0.0);
    &mut buffer[before..before + length]
}

/// Calls `work` on all threads with some steps of `x`, and with the same steps of `y`; they have `width` elements in both.
fn rows(
    pool: &Pool,
    x: &[f32],
    y: &mut [f32],
    width: usize,
    work: &(dyn Fn(&[f32], &mut [f32]) + Sync),
) {
    chunks(pool, y, ROWS * width, &|index, y| {
        work(&x[index * ROWS * width..][..y.len()], y);
    });
}
