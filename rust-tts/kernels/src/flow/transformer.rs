//! A transformer layer: attention of every frame to every frame, then a feed-forward part.

use super::attention::{Attention, Heads};
use super::functions::{Norm, add_and_gelu, add_both};
use super::quantised::QuantisedAttention;
use crate::matrix::Matrix;
use crate::pool::Pool;

/// Weights of a layer of `width` channels.
pub struct Transformer {
    /// Channels of a head; how many there are follows from the weights.
    pub head_width: usize,
    /// Whether attention multiplies 8-bit integers.
    pub quantised: bool,
    pub attention_norm: Norm,
    /// `[3 heads head_width, width]`: queries, keys, values.
    pub projections: Matrix,
    /// `[width, heads head_width]`
    pub output: Matrix,
    pub output_bias: Vec<f32>,
    pub feed_forward_norm: Norm,
    pub up: Matrix,
    pub up_bias: Vec<f32>,
    pub down: Matrix,
    pub down_bias: Vec<f32>,
}

/// Buffers of the layers, kept from one to the next.
#[derive(Default)]
pub(super) struct Scratch {
    pub normed: Vec<f32>,
    pub after: Vec<f32>,
    wide: Vec<f32>,
    attended: Vec<f32>,
    attention: Attention,
    quantised: QuantisedAttention,
}

impl Transformer {
    /// Whether all parts are of `width` channels.
    pub(super) fn fits(&self, width: usize) -> bool {
        let (attended, wide) = (self.output.inputs(), self.up.outputs());
        attended > 0
            && attended.is_multiple_of(self.head_width.max(1))
            && self.head_width > 0
            && self.attention_norm.fits(width)
            && self.feed_forward_norm.fits(width)
            && (self.projections.inputs(), self.projections.outputs()) == (width, 3 * attended)
            && self.output.outputs() == width
            && (self.up.inputs(), self.up_bias.len()) == (width, wide)
            && (self.down.inputs(), self.down.outputs()) == (wide, width)
            && self.output_bias.len() == width
            && self.down_bias.len() == width
    }

    /// Replaces `x` `[frames, width]` by the layer's output.
    pub(super) fn run(&self, pool: &Pool, x: &mut [f32], scratch: &mut Scratch) {
        let frames = x.len() / self.output.outputs();
        let Scratch {
            normed,
            after,
            wide,
            attended,
            attention,
            quantised,
        } = scratch;
        let heads = Heads {
            count: self.output.inputs() / self.head_width,
            width: self.head_width,
        };
        normed.resize(x.len(), 0.0);
        after.resize(x.len(), 0.0);
        attended.resize(frames * heads.channels(), 0.0);

        self.attention_norm.run(pool, x, normed);
        wide.resize(frames * self.projections.outputs(), 0.0);
        self.projections.multiply(pool, normed, wide, &|_, _, _| ());
        if self.quantised {
            quantised.run(pool, wide, attended, heads);
        } else {
            attention.run(pool, wide, attended, heads);
        }
        add_linear(pool, &self.output, &self.output_bias, attended, x, after);

        self.feed_forward_norm.run(pool, after, normed);
        wide.resize(frames * self.up.outputs(), 0.0);
        self.up.multiply(pool, normed, wide, &|_, first, values| {
            add_and_gelu(values, &self.up_bias[first..]);
        });
        add_linear(pool, &self.down, &self.down_bias, wide, after, x);
    }
}

/// `y = x W^T + bias + residual`.
fn add_linear(
    pool: &Pool,
    weights: &Matrix,
    bias: &[f32],
    x: &[f32],
    residual: &[f32],
    y: &mut [f32],
) {
    let width = weights.outputs();
    weights.multiply(pool, x, y, &|row, first, values| {
        add_both(values, &bias[first..], &residual[row * width + first..]);
    });
}
