//! Causal convolutions, and the residual block made of them.

use super::functions::Norm;
use crate::math::add;
use crate::matrix::Matrix;
use crate::pool::Pool;

/// A causal convolution over time, `[frames, inputs]` to `[frames, outputs]`: before the first frame there are zeros.
pub struct Convolution {
    /// `[outputs, kernel inputs]`: the kernel's frames side by side, the latest last.
    pub weights: Matrix,
    pub bias: Vec<f32>,
    /// Channels of a frame that comes in.
    pub inputs: usize,
}

impl Convolution {
    /// Whether it maps `inputs` to `outputs` channels.
    pub(super) fn fits(&self, inputs: usize, outputs: usize) -> bool {
        let all = self.weights.inputs();
        self.inputs == inputs
            && all >= inputs
            && all.is_multiple_of(inputs.max(1))
            && self.weights.outputs() == outputs
            && self.bias.len() == outputs
    }

    /// Computes `y` from `x`; `padded` is a buffer.
    pub(super) fn run(&self, pool: &Pool, x: &[f32], y: &mut Vec<f32>, padded: &mut Vec<f32>) {
        y.resize(x.len() / self.inputs * self.weights.outputs(), 0.0);
        padded.clear();
        padded.resize(self.weights.inputs() - self.inputs, 0.0);
        padded.extend_from_slice(x);
        // A frame and those before it lie in one piece, so that a product's rows may overlap.
        self.weights
            .multiply_from(pool, padded, self.inputs, y, &|_, first, values| {
                add(values, &self.bias[first..]);
            });
    }
}

/// Two convolutions, each with its norm and mish, beside a shortcut.
pub struct Resnet {
    pub first: Convolution,
    pub first_norm: Norm,
    pub second: Convolution,
    pub second_norm: Norm,
    /// `[outputs, inputs]`
    pub shortcut: Matrix,
    pub shortcut_bias: Vec<f32>,
}

impl Resnet {
    /// Whether it maps `inputs` to `outputs` channels.
    pub(super) fn fits(&self, inputs: usize, outputs: usize) -> bool {
        self.first.fits(inputs, outputs)
            && self.first_norm.fits(outputs)
            && self.second.fits(outputs, outputs)
            && self.second_norm.fits(outputs)
            && self.shortcut.inputs() == inputs
            && self.shortcut.outputs() == outputs
            && self.shortcut_bias.len() == outputs
    }

    /// Computes `y` `[frames, outputs]` from `x` `[frames, inputs]`; `time` `[outputs]` is what a step's time adds. `normed` and
    /// `padded` are buffers.
    pub(super) fn run(
        &self,
        pool: &Pool,
        x: &[f32],
        time: &[f32],
        y: &mut Vec<f32>,
        normed: &mut Vec<f32>,
        padded: &mut Vec<f32>,
    ) {
        self.first.run(pool, x, y, padded);
        normed.resize(y.len(), 0.0);
        self.first_norm.run_mish(pool, y, normed, time);
        self.second.run(pool, normed, y, padded);
        self.second_norm
            .run_mish(pool, y, normed, &self.shortcut_bias);
        let width = self.shortcut.outputs();
        self.shortcut.multiply(pool, x, y, &|row, first, values| {
            add(values, &normed[row * width + first..]);
        });
    }
}
