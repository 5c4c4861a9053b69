//! T3's backbone: the transformer that makes speech tokens, Llama's and GPT-2's, for any number of sequences at once.
//!
//! What goes in and out of it are embeddings and logits; which requests the sequences belong to, and how tokens are drawn,
//! is the caller's.

mod attention;
mod backbone;
mod cache;
mod elementwise;
mod kernels;
mod layer;
mod linear;
mod page;
#[cfg(test)]
mod tests;

pub use backbone::{Backbone, Positions};
pub use cache::{Cache, Keep};
pub use elementwise::Norm;
pub use layer::{Gpt2Layer, LlamaLayer};
pub use linear::Linear;

/// What cannot be computed, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub String);

impl std::fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}
