//! Convolutions with half of the products (S. Winograd, "Arithmetic Complexity of Computations", 1980; arXiv 1509.09308).
//!
//! Four taps' sums for four steps are the coefficients of a product of polynomials. Polynomials are multiplied by multiplying
//! their values at seven points, which takes seven products where the sums take sixteen. More taps are several times four of them, and a
//! tile of seven steps that is seen at the points serves all of these. With taps further apart, a tile's steps are, too.
//!
//! Points are 0, 1, -1, 2, -2, 1/2 and infinity. Rounding is, in f32, about twice that of the plain sums.

use std::cell::Cell;

use super::convolution::{Finish, Geometry, Weight};
use super::direct::Direct;
use super::points::{Make, POINTS, STEPS, See};
use super::product::Onto;
use crate::isa::isa;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::simd::{self, LANES};

/// Tiles of a task, about: of 256 channels they, and the sums of a group of outputs, fill the second cache. A multiple of the
/// rows that AVX2's registers hold.
const TASK_TILES: usize = 30;
/// Outputs whose sums are made, and used up, together.
const GROUP: usize = 64;

/// What taps are worth at each point.
const TAPS: [[f64; STEPS]; POINTS] = [
    [1.0, 0.0, 0.0, 0.0],
    [2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0],
    [4.0 / 9.0, -4.0 / 9.0, 4.0 / 9.0, -4.0 / 9.0],
    [1.0 / 36.0, 2.0 / 36.0, 4.0 / 36.0, 8.0 / 36.0],
    [1.0 / 60.0, -2.0 / 60.0, 4.0 / 60.0, -8.0 / 60.0],
    [32.0 / 45.0, 16.0 / 45.0, 8.0 / 45.0, 4.0 / 45.0],
    [0.0, 0.0, 0.0, 1.0],
];
thread_local! {
    /// Memory of a task, kept from one to the next.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// A convolution's weights as they are at the points.
pub(super) struct Winograd {
    geometry: Geometry,
    bias: Vec<f32>,
    groups: Vec<Group>,
}

/// Neighbouring outputs.
struct Group {
    first: usize,
    width: usize,
    /// At each point, a convolution over tiles.
    points: [Direct; POINTS],
}

impl Winograd {
    /// Whether products are saved, and channels come in whole vectors.
    pub(super) fn fits(geometry: &Geometry) -> bool {
        geometry.stride == 1
            && geometry.taps > 2
            && geometry.inputs * geometry.outputs * geometry.dilation > 0
            && geometry.inputs.is_multiple_of(LANES)
            && geometry.outputs.is_multiple_of(LANES)
    }

    /// As `Convolution::new`.
    pub(super) fn new(pool: &Pool, geometry: Geometry, bias: &[f32], weight: &Weight) -> Self {
        assert_eq!(bias.len(), geometry.outputs, "as many biases as outputs");
        let group = |first| Group::new(pool, geometry, first, weight);
        let starts = (0..geometry.outputs).step_by(GROUP);
        Self {
            geometry,
            bias: bias.to_vec(),
            groups: starts.map(group).collect(),
        }
    }

    /// As `Convolution::run`, which has seen that `x` and `y` fit.
    pub(super) fn run(&self, pool: &Pool, x: &[f32], y: &mut [f32], onto: Onto, finish: &Finish) {
        let Geometry {
            inputs,
            outputs,
            dilation,
            taps,
            ..
        } = self.geometry;
        let rows = y.len() / outputs;
        // What is behind the last tap counts for nothing, but would be rounded.
        let x = &x[..self.geometry.seen(rows)];
        // Tiles whose steps alternate are made together, so that a task makes neighbouring steps.
        let span = STEPS * dilation;
        let spans = rows.div_ceil(span);
        let per_task = (TASK_TILES / dilation).max(1);
        let y = Shared::new(y);
        pool.run(spans.div_ceil(per_task), &|task| {
            let first = task * per_task;
            let count = per_task.min(spans - first);
            let tiles = count * dilation;
            let seen = (count + taps.div_ceil(STEPS) - 1) * dilation;
            let rows = first * span..rows.min((first + count) * span);
            let mut scratch = SCRATCH.take();
            scratch.resize(POINTS * (seen * inputs + tiles * GROUP), 0.0);
            let (values, products) = scratch.split_at_mut(POINTS * seen * inputs);
            let see = See {
                geometry: &self.geometry,
                x: &x[rows.start * inputs..],
                tiles: seen,
                values,
            };
            simd::run(isa(), see);
            for group in &self.groups {
                let products = &mut products[..POINTS * tiles * group.width];
                group.multiply(values, products);
                let make = Make {
                    geometry: &self.geometry,
                    bias: &self.bias[group.first..][..group.width],
                    first: group.first,
                    products,
                    y: &y,
                    onto,
                    rows: rows.clone(),
                };
                simd::run(isa(), make);
                for row in rows.clone() {
                    // SAFETY: no other task has these steps.
                    finish(group.first, unsafe {
                        y.part(row * outputs + group.first, group.width)
                    });
                }
            }
            SCRATCH.set(scratch);
        });
    }
}

impl Group {
    /// The outputs from `first` on of a convolution of `geometry`.
    fn new(pool: &Pool, geometry: Geometry, first: usize, weight: &Weight) -> Self {
        let Geometry { inputs, taps, .. } = geometry;
        let width = GROUP.min(geometry.outputs - first);
        let blocks = taps.div_ceil(STEPS);
        let over_tiles = Geometry {
            outputs: width,
            taps: blocks,
            before: 0,
            ..geometry
        };
        let mut points: [Direct; POINTS] =
            std::array::from_fn(|_| Direct::zeroed(over_tiles, &vec![0.0; width]));
        let packed = points
            .each_mut()
            .map(|point| Shared::new(&mut point.weights));
        let length = blocks * inputs * LANES;
        pool.run(width / LANES, &|panel| {
            // SAFETY: panels do not overlap.
            let mut packed = packed
                .each_ref()
                .map(|packed| unsafe { packed.part(panel * length, length) });
            for index in 0..length {
                let (lane, input) = (index % LANES, index / LANES % inputs);
                let tap = index / LANES / inputs * STEPS;
                let of_taps: [f32; STEPS] = std::array::from_fn(|next| {
                    if tap + next < taps {
                        weight(first + panel * LANES + lane, input, tap + next)
                    } else {
                        0.0
                    }
                });
                for (packed, factors) in packed.iter_mut().zip(&TAPS) {
                    let terms = of_taps.iter().zip(factors);
                    let sum: f64 = terms.map(|(tap, factor)| f64::from(*tap) * factor).sum();
                    packed[index] = sum as f32;
                }
            }
        });
        Self {
            first,
            width,
            points,
        }
    }

    /// Makes `products` `[POINTS, tiles, width]` of `values` `[POINTS, tiles that are seen, inputs]`.
    fn multiply(&self, values: &[f32], products: &mut [f32]) {
        let tiles = products.len() / (POINTS * self.width);
        let values = values.chunks_exact(values.len() / POINTS);
        let products = products.chunks_exact_mut(tiles * self.width);
        for ((point, values), products) in self.points.iter().zip(values).zip(products) {
            let panels = 0..self.width / LANES;
            let products = Shared::new(products);
            // SAFETY: all tiles that are seen are there, and nobody else has the products.
            unsafe { point.sums(values, &products, Onto::Nothing, 0..tiles, panels) };
        }
    }
}
