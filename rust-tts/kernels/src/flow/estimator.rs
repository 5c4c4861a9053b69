//! The estimator's network.

use super::functions::Norm;
use super::resnet::{Convolution, Resnet};
use super::transformer::{Scratch, Transformer};
use crate::Error;
use crate::pool::Pool;

/// A residual block and the transformer layers after it.
pub struct Block {
    pub resnet: Resnet,
    pub layers: Vec<Transformer>,
}

/// Weights of the network. Widths follow from them; those of neighbours must agree.
pub struct Estimator {
    pub down: Block,
    pub down_convolution: Convolution,
    pub middle: Vec<Block>,
    /// Its input is the output of the middle and, beside it, that of `down`.
    pub up: Block,
    pub up_convolution: Convolution,
    pub final_convolution: Convolution,
    pub final_norm: Norm,
    pub projection: Convolution,
}

/// Buffers that are kept from call to call, as large as the longest row needs.
#[derive(Default)]
pub struct Workspace {
    x: Vec<f32>,
    y: Vec<f32>,
    skip: Vec<f32>,
    padded: Vec<f32>,
    scratch: Scratch,
}

impl Estimator {
    /// The direction `[frames, outputs]`, of `x` `[frames, inputs]`: the mel so far with its conditions. `biases` is what a
    /// step's time adds in each block, in their order.
    pub fn run<'a>(
        &self,
        pool: &Pool,
        x: &[f32],
        biases: &[f32],
        workspace: &'a mut Workspace,
    ) -> &'a [f32] {
        let Workspace {
            x: hidden,
            y: next,
            skip,
            padded,
            scratch,
        } = workspace;
        let mut biases = biases.chunks_exact(biases.len() / (self.middle.len() + 2));
        let mut block = |block: &Block, x: &[f32], y: &mut Vec<f32>, padded: &mut Vec<f32>| {
            let time = biases.next().unwrap_or_default();
            block
                .resnet
                .run(pool, x, time, y, &mut scratch.normed, padded);
            for layer in &block.layers {
                layer.run(pool, y, scratch);
            }
        };
        block(&self.down, x, skip, padded);
        self.down_convolution.run(pool, skip, hidden, padded);
        for middle in &self.middle {
            block(middle, hidden, next, padded);
            std::mem::swap(hidden, next);
        }
        concat_channels(hidden, skip, self.up.resnet.first.inputs, next);
        block(&self.up, next, hidden, padded);
        self.up_convolution.run(pool, hidden, next, padded);
        self.final_convolution.run(pool, next, hidden, padded);
        next.resize(hidden.len(), 0.0);
        self.final_norm
            .run_mish(pool, hidden, next, &vec![0.0; self.width()]);
        self.projection.run(pool, next, hidden, padded);
        hidden
    }

    /// Returns an error that names the layers that do not fit together. Must be called before the first run.
    pub fn check(&self) -> Result<(), Error> {
        let width = self.width();
        let in_chain = [
            (&self.down_convolution, "down_blocks.0.2"),
            (&self.up_convolution, "up_blocks.0.2"),
            (&self.final_convolution, "final_block"),
        ];
        for (convolution, name) in in_chain {
            if !convolution.fits(width, width) {
                return Err(Error(format!("{name} is not of {width} channels")));
            }
        }
        let middle = self.middle.iter().map(|block| (block, width));
        let blocks = [(&self.down, self.inputs()), (&self.up, 2 * width)];
        for (block, inputs) in blocks.into_iter().chain(middle) {
            if !block.resnet.fits(inputs, width) {
                return Err(Error(format!(
                    "a residual block is not of {inputs} and {width} channels"
                )));
            }
            if !block.layers.iter().all(|layer| layer.fits(width)) {
                return Err(Error(format!(
                    "a transformer layer is not of {width} channels"
                )));
            }
        }
        if !self.final_norm.fits(width) || !self.projection.fits(width, self.outputs()) {
            return Err(Error(format!(
                "the final_convolution layers are not of {width} channels"
            )));
        }
        Ok(())
    }

    /// Channels of a frame that comes in.
    pub fn inputs(&self) -> usize {
        self.down.resnet.first.inputs
    }

    /// Channels between the blocks.
    pub fn width(&self) -> usize {
        self.down.resnet.first.weights.outputs()
    }

    /// Channels of a direction.
    pub fn outputs(&self) -> usize {
        self.projection.weights.outputs()
    }

    /// Blocks, each of which has a bias for the time.
    pub fn blocks(&self) -> usize {
        self.middle.len() + 2
    }
}

/// Concatenates the rows of `a` and of `b`, `width` channels together.
fn concat_channels(a: &[f32], b: &[f32], width: usize, both: &mut Vec<f32>) {
    both.clear();
    for (a, b) in a.chunks_exact(width / 2).zip(b.chunks_exact(width / 2)) {
        both.extend_from_slice(a);
        both.extend_from_slice(b);
    }
}
