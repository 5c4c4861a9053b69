//! T3's backbone, the transformer (Llama's or GPT-2's) that predicts speech tokens, for any number of sequences at once: from
//! embeddings to logits.

mod attention;
mod attention_kernels;
mod backbone;
mod cache;
mod elementwise;
mod layer;
mod linear;
mod page;
#[cfg(test)]
mod tests;

pub use backbone::{Backbone, Positions};
pub use cache::{Cache, CacheFormat};
pub use elementwise::Norm;
pub use layer::{Gpt2Layer, LlamaLayer};
pub use linear::Linear;
