//! The flow-matching estimator: the velocity from a noisy mel to a clean one (`s3gen/estimator.py` has it in torch).
//!
//! Rows of a batch are computed one after another, each on all threads: its length is its own, nothing is padded, and it
//! comes out to the bit as it would alone.

mod attention;
mod estimator;
mod functions;
mod quantised;
mod resnet;
#[cfg(test)]
mod tests;
mod transformer;

pub use estimator::{Block, Estimator, Workspace};
pub use functions::Norm;
pub use resnet::{Convolution, Resnet};
pub use transformer::Transformer;

use crate::pool::Pool;
use crate::shared::SharedSlice;

/// Rows of a task of an elementwise layer.
const ROWS: usize = 32;

/// Calls `work` in parallel with every chunk of `size` elements of `whole` (the last may be shorter) and its number.
pub(crate) fn chunks<T: Send>(
    pool: &Pool,
    whole: &mut [T],
    size: usize,
    work: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    let length = whole.len();
    let shared = SharedSlice::new(whole);
    pool.run(length.div_ceil(size), &|index| {
        let start = index * size;
        // SAFETY: every task has a run of its own.
        work(index, unsafe {
            shared.slice(start, size.min(length - start))
        });
    });
}
