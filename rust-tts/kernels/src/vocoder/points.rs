//! Signals at the points of `winograd`, and back.

use std::ops::Range;

use super::convolution::Geometry;
use super::product::Onto;
use crate::shared::Shared;
use crate::simd::{LANES, Simd, Task};

/// Steps that a tile makes.
pub(super) const STEPS: usize = 4;
/// Points, and steps that a tile sees.
pub(super) const POINTS: usize = 2 * STEPS - 1;

/// What a tile's steps are worth at each point.
const TILE: [[f32; POINTS]; POINTS] = [
    [1.0, -2.0, -1.25, 2.5, 0.25, -0.5, 0.0],
    [0.0, -1.0, 1.0, 2.25, -0.25, -0.5, 0.0],
    [0.0, -0.5, 1.5, -0.875, -0.375, 0.25, 0.0],
    [0.0, 1.0, -1.5, -2.0, 1.5, 1.0, 0.0],
    [0.0, 1.0, -2.5, 0.0, 2.5, -1.0, 0.0],
    [0.0, 4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
    [0.0, -2.0, 4.0, 2.5, -5.0, -0.5, 1.0],
];
/// What each step has of the points' products.
const MADE: [[f32; POINTS]; STEPS] = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.25, 0.0],
    [0.0, 1.0, -1.0, 8.0, -8.0, 0.125, 1.0],
];

/// Makes `values` `[POINTS, tiles, inputs]` of the tiles from the first step of `x` on, with zeros after its last.
pub(super) struct See<'a> {
    pub geometry: &'a Geometry,
    pub x: &'a [f32],
    pub tiles: usize,
    pub values: &'a mut [f32],
}

impl Task for See<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Geometry {
            inputs, dilation, ..
        } = *self.geometry;
        let zeros = vec![0.0; inputs];
        assert_eq!(self.values.len(), POINTS * self.tiles * inputs);
        for tile in 0..self.tiles {
            let steps: [&[f32]; POINTS] = std::array::from_fn(
                #[inline(always)]
                |step| {
                    let row = (tile / dilation * STEPS + step) * dilation + tile % dilation;
                    let row = self.x.get(row * inputs..(row + 1) * inputs);
                    row.unwrap_or(&zeros)
                },
            );
            for channel in (0..inputs).step_by(LANES) {
                // SAFETY: this is compiled for `S`. A step has `inputs` channels, whole vectors, and so has a tile's value at a
                // point.
                unsafe {
                    let mut of_steps = [S::splat(0.0); POINTS];
                    for (value, step) in of_steps.iter_mut().zip(&steps) {
                        *value = S::load(step.as_ptr().add(channel));
                    }
                    for (point, factors) in TILE.iter().enumerate() {
                        let place = (point * self.tiles + tile) * inputs + channel;
                        let value = combine::<S>(S::splat(0.0), factors, &of_steps);
                        S::store(self.values.as_mut_ptr().add(place), value);
                    }
                }
            }
        }
    }
}

/// Makes some outputs of some steps, the first of which is a tile's first, from `products` `[POINTS, tiles, width]`.
pub(super) struct Make<'a> {
    pub geometry: &'a Geometry,
    /// Of these outputs, which are as many.
    pub bias: &'a [f32],
    /// The first output.
    pub first: usize,
    pub products: &'a [f32],
    pub y: &'a Shared<'a, f32>,
    pub onto: Onto,
    pub rows: Range<usize>,
}

impl Task for Make<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Geometry {
            outputs, dilation, ..
        } = *self.geometry;
        let (first, width) = (self.first, self.bias.len());
        let tiles = self.products.len() / (POINTS * width);
        for tile in 0..tiles {
            for channel in (0..width).step_by(LANES) {
                // SAFETY: this is compiled for `S`. A tile has `width` products at each point, whole vectors, and no other task
                // has these steps of `y`, of which `at` sees that they are there.
                unsafe {
                    let mut of_points = [S::splat(0.0); POINTS];
                    for (point, value) in of_points.iter_mut().enumerate() {
                        let place = (point * tiles + tile) * width + channel;
                        *value = S::load(self.products.as_ptr().add(place));
                    }
                    let bias = S::load(self.bias.as_ptr().add(channel));
                    for (step, factors) in MADE.iter().enumerate() {
                        let step = (tile / dilation * STEPS + step) * dilation + tile % dilation;
                        let row = self.rows.start + step;
                        if row >= self.rows.end {
                            continue;
                        }
                        let y = self.y.at(row * outputs + first + channel);
                        let start = match self.onto {
                            Onto::Nothing => bias,
                            Onto::Itself => S::add(bias, S::load(y)),
                        };
                        S::store(y, combine::<S>(start, factors, &of_points));
                    }
                }
            }
        }
    }
}

/// `start` and the sum of `values`, each times its factor. Factors are known to the compiler, which leaves out zeros.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn combine<S: Simd>(start: S::V, factors: &[f32; POINTS], values: &[S::V; POINTS]) -> S::V {
    let mut sum = start;
    for (factor, value) in factors.iter().zip(values) {
        if *factor != 0.0 {
            // SAFETY: the caller's promise.
            sum = unsafe { S::mul_add(S::splat(*factor), *value, sum) };
        }
    }
    sum
}
