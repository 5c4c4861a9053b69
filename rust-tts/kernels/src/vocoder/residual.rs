//! Residual blocks.

use super::convolution::Accumulate;
use super::convolution::Convolution;
use super::functions::{snake_in_place, snake_rows};
use super::{padded, rows};
use crate::pool::Pool;

/// `x + sin(a x)^2 / a` by channel (arXiv 2006.08195).
pub struct Snake {
    alpha: Vec<f32>,
    inverse: Vec<f32>,
}

impl Snake {
    /// `alpha` has an element for each channel.
    pub fn new(alpha: Vec<f32>) -> Self {
        let inverse = alpha.iter().map(|alpha| 1.0 / (alpha + 1e-9)).collect();
        Self { alpha, inverse }
    }
}

/// Two convolutions, each after its activation, whose result is added to the input.
pub struct Pair {
    pub first_snake: Snake,
    pub first: Convolution,
    pub second_snake: Snake,
    pub second: Convolution,
}

/// Pairs, one after the other.
pub struct Residual(pub Vec<Pair>);

/// Buffers of a pair, kept from one to the next.
#[derive(Default)]
pub(super) struct Scratch {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Residual {
    /// Whether all layers have `width` channels.
    pub(super) fn fits(&self, width: usize) -> bool {
        self.0.iter().all(|pair| {
            let snakes = [&pair.first_snake, &pair.second_snake];
            let convolutions = [&pair.first, &pair.second];
            snakes.iter().all(|snake| snake.alpha.len() == width)
                && convolutions.iter().all(|convolution| {
                    let geometry = &convolution.geometry;
                    (geometry.inputs, geometry.outputs) == (width, width)
                        && convolution.is_centred()
                })
        })
    }

    /// Replaces `x` `[steps, width]` by the block's output.
    pub(super) fn run(&self, pool: &Pool, x: &mut [f32], scratch: &mut Scratch) {
        for pair in &self.0 {
            pair.run(pool, x, scratch);
        }
    }
}

impl Pair {
    fn run(&self, pool: &Pool, x: &mut [f32], scratch: &mut Scratch) {
        let width = self.first.geometry.inputs;
        let Scratch { first, second } = scratch;
        let Snake { alpha, inverse } = &self.first_snake;
        let edge = self.first.geometry.before * width;
        let inside = padded(first, x.len(), edge, edge);
        rows(pool, x, inside, width, &|x, y| {
            snake_rows(x, y, alpha, inverse);
        });
        let Snake { alpha, inverse } = &self.second_snake;
        let edge = self.second.geometry.before * width;
        let inside = padded(second, x.len(), edge, edge);
        self.first.run(
            pool,
            first,
            inside,
            Accumulate::Overwrite,
            &|output, values| {
                snake_in_place(values, &alpha[output..], &inverse[output..]);
            },
        );
        self.second
            .run(pool, second, x, Accumulate::Add, &|_, _| ());
    }
}
