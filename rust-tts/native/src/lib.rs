//! What the Chatterbox models spend their time on, for CPUs: matrix products from packed weights, and the networks made of
//! them. Knows nothing of Python.

pub mod matrix;
pub mod pool;

pub use matrix::{Matrix, Precision};
pub use pool::Pool;
