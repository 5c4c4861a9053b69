//! CPU kernels of the Chatterbox models: matrix products with packed weights, the networks made of them (`t3`, `flow`,
//! `vocoder`), and the sampling of tokens. Knows nothing of Python.

// A loop that is compiled for several instruction sets must be inlined into each of the functions that have them.
#![allow(clippy::inline_always)]

pub mod flow;
mod isa;
mod math;
pub mod matrix;
mod memory;
pub mod pool;
pub mod sampling;
mod shared;
mod simd;
pub mod t3;
#[cfg(test)]
mod testing;
pub mod vocoder;

pub use matrix::{Matrix, Precision};
pub use pool::Pool;

/// Sizes that do not fit together, or an argument that is out of range, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(pub String);

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
