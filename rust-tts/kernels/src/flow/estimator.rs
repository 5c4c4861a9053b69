//! The whole network.

use super::functions::Norm;
use super::resnet::{Convolution, Resnet};
use super::transformer::{Scratch, Transformer};
use crate::pool::Pool;

/// A residual block and the transformer layers after it.
pub struct Block {
    pub resnet: Resnet,
    pub layers: Vec<Transformer>,
}

/// Weights of the network. Widths follow from them; those of neighbours must agree.
pub struct Estimator {
    pub down: Block,
    pub after_down: Convolution,
    pub middle: Vec<Block>,
    /// Its input is what comes out of the middle beside what came out of `down`.
    pub up: Block,
    pub after_up: Convolution,
    pub last: Convolution,
    pub last_norm: Norm,
    pub out: Convolution,
}

/// Memory that is kept from call to call; as large as the longest row needs.
#[derive(Default)]
pub struct Memory {
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
        memory: &'a mut Memory,
    ) -> &'a [f32] {
        let Memory {
            x: here,
            y: next,
            skip,
            padded,
            scratch,
        } = memory;
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
        self.after_down.run(pool, skip, here, padded);
        for middle in &self.middle {
            block(middle, here, next, padded);
            std::mem::swap(here, next);
        }
        beside(here, skip, self.up.resnet.first.inputs, next);
        block(&self.up, next, here, padded);
        self.after_up.run(pool, here, next, padded);
        self.last.run(pool, next, here, padded);
        next.resize(here.len(), 0.0);
        self.last_norm
            .run_mish(pool, here, next, &vec![0.0; self.width()]);
        self.out.run(pool, next, here, padded);
        here
    }

    /// Whether the layers fit together; says which do not. To be asked before the first run.
    pub fn check(&self) -> Result<(), String> {
        let width = self.width();
        let in_chain = [
            (&self.after_down, "down_blocks.0.2"),
            (&self.after_up, "up_blocks.0.2"),
            (&self.last, "final_block"),
        ];
        for (convolution, name) in in_chain {
            if !convolution.fits(width, width) {
                return Err(format!("{name} is not of {width} channels"));
            }
        }
        let middle = self.middle.iter().map(|block| (block, width));
        let blocks = [(&self.down, self.inputs()), (&self.up, 2 * width)];
        for (block, inputs) in blocks.into_iter().chain(middle) {
            if !block.resnet.fits(inputs, width) {
                return Err(format!(
                    "a residual block is not of {inputs} and {width} channels"
                ));
            }
            if !block.layers.iter().all(|layer| layer.fits(width)) {
                return Err(format!("a transformer layer is not of {width} channels"));
            }
        }
        if !self.last_norm.fits(width) || !self.out.fits(width, self.outputs()) {
            return Err(format!("the last layers are not of {width} channels"));
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
        self.out.weights.outputs()
    }

    /// Blocks, each of which has a bias for the time.
    pub fn blocks(&self) -> usize {
        self.middle.len() + 2
    }
}

/// Rows of `a` and of `b` side by side, `width` channels together.
fn beside(a: &[f32], b: &[f32], width: usize, both: &mut Vec<f32>) {
    both.clear();
    for (a, b) in a.chunks_exact(width / 2).zip(b.chunks_exact(width / 2)) {
        both.extend_from_slice(a);
        both.extend_from_slice(b);
    }
}
