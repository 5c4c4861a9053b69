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
    /// Whether attention multiplies bytes.
    pub quantised: bool,
    pub attention_norm: Norm,
    /// `[3 heads head_width, width]`: queries, keys, values.
    pub inputs: Matrix,
    /// `[width, heads head_width]`
    pub mixed: Matrix,
    pub mixed_bias: Vec<f32>,
    pub feed_forward_norm: Norm,
    pub widen: Matrix,
    pub widen_bias: Vec<f32>,
    pub narrow: Matrix,
    pub narrow_bias: Vec<f32>,
}

/// Memory of the layers, kept from one to the next.
#[derive(Default)]
pub(super) struct Scratch {
    pub normed: Vec<f32>,
    pub after: Vec<f32>,
    wide: Vec<f32>,
    mixed: Vec<f32>,
    attention: Attention,
    quantised: QuantisedAttention,
}

impl Transformer {
    /// Whether it is one of `width` channels.
    pub(super) fn fits(&self, width: usize) -> bool {
        let (mixed, wide) = (self.mixed.inputs(), self.widen.outputs());
        mixed > 0
            && mixed.is_multiple_of(self.head_width.max(1))
            && self.head_width > 0
            && self.attention_norm.fits(width)
            && self.feed_forward_norm.fits(width)
            && (self.inputs.inputs(), self.inputs.outputs()) == (width, 3 * mixed)
            && self.mixed.outputs() == width
            && (self.widen.inputs(), self.widen_bias.len()) == (width, wide)
            && (self.narrow.inputs(), self.narrow.outputs()) == (wide, width)
            && self.mixed_bias.len() == width
            && self.narrow_bias.len() == width
    }

    /// Replaces `x` `[frames, width]` by what comes out.
    pub(super) fn run(&self, pool: &Pool, x: &mut [f32], scratch: &mut Scratch) {
        let frames = x.len() / self.mixed.outputs();
        let Scratch {
            normed,
            after,
            wide,
            mixed,
            attention,
            quantised,
        } = scratch;
        let heads = Heads {
            count: self.mixed.inputs() / self.head_width,
            width: self.head_width,
        };
        normed.resize(x.len(), 0.0);
        after.resize(x.len(), 0.0);
        mixed.resize(frames * heads.channels(), 0.0);

        self.attention_norm.run(pool, x, normed);
        wide.resize(frames * self.inputs.outputs(), 0.0);
        self.inputs.multiply(pool, normed, wide, &|_, _, _| ());
        if self.quantised {
            quantised.run(pool, wide, mixed, heads);
        } else {
            attention.run(pool, wide, mixed, heads);
        }
        product(pool, &self.mixed, &self.mixed_bias, mixed, x, after);

        self.feed_forward_norm.run(pool, after, normed);
        wide.resize(frames * self.widen.outputs(), 0.0);
        self.widen
            .multiply(pool, normed, wide, &|_, first, values| {
                add_and_gelu(values, &self.widen_bias[first..]);
            });
        product(pool, &self.narrow, &self.narrow_bias, wide, after, x);
    }
}

/// `y = x W^T + bias + residual`.
fn product(
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
