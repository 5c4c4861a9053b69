//! What the Chatterbox models spend their time on, for CPUs: matrix products from packed weights, the networks made of
//! them, and the choice of tokens. Knows nothing of Python.

// A loop that is compiled for several instruction sets must be inlined into each of the functions that have them.
#![allow(clippy::inline_always)]

pub mod floors;
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
pub mod vocoder;

pub use matrix::{Matrix, Precision};
pub use pool::Pool;
