//! Winograd convolution with fewer products (S. Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, arXiv
//! 1509.09308), F(4, 4) in one dimension.
//!
//! Four taps' sums for four steps are coefficients of a product of polynomials, which is computed from their values at seven
//! points: seven products where the sums take sixteen. More taps are blocks of four of them, which share the input transform of
//! a tile of seven steps. With dilated taps, the steps of a tile are dilated too.
//!
//! The points are 0, 1, -1, 2, -2, 1/2 and infinity. The rounding error is about twice that of the plain sums in f32.

use std::cell::Cell;
use std::ops::Range;

use super::convolution::Accumulate;
use super::convolution::{Epilogue, Geometry, Weight};
use super::direct::Direct;
use crate::isa::isa;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{self, LANES, Simd, Task};

/// Output steps of a tile.
pub(super) const STEPS: usize = 4;
/// Points of evaluation, and input steps of a tile.
pub(super) const POINTS: usize = 2 * STEPS - 1;

/// The values of a tile's input steps at each point.
const INPUT_TRANSFORM: [[f32; POINTS]; POINTS] = [
    [1.0, -2.0, -1.25, 2.5, 0.25, -0.5, 0.0],
    [0.0, -1.0, 1.0, 2.25, -0.25, -0.5, 0.0],
    [0.0, -0.5, 1.5, -0.875, -0.375, 0.25, 0.0],
    [0.0, 1.0, -1.5, -2.0, 1.5, 1.0, 0.0],
    [0.0, 1.0, -2.5, 0.0, 2.5, -1.0, 0.0],
    [0.0, 4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
    [0.0, -2.0, 4.0, 2.5, -5.0, -0.5, 1.0],
];
/// The output steps from the products at the points.
const OUTPUT_TRANSFORM: [[f32; POINTS]; STEPS] = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.25, 0.0],
    [0.0, 1.0, -1.0, 8.0, -8.0, 0.125, 1.0],
];

/// Tiles of a task, about: of 256 channels they and the products of a group of outputs fill the second-level cache. A multiple
/// of the rows of AVX2's micro-kernel.
const TASK_TILES: usize = 30;
/// Outputs whose products are computed and transformed together.
const GROUP: usize = 64;

/// The values of four taps at each point.
const KERNEL_TRANSFORM: [[f64; STEPS]; POINTS] = [
    [1.0, 0.0, 0.0, 0.0],
    [2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0],
    [4.0 / 9.0, -4.0 / 9.0, 4.0 / 9.0, -4.0 / 9.0],
    [1.0 / 36.0, 2.0 / 36.0, 4.0 / 36.0, 8.0 / 36.0],
    [1.0 / 60.0, -2.0 / 60.0, 4.0 / 60.0, -8.0 / 60.0],
    [32.0 / 45.0, 16.0 / 45.0, 8.0 / 45.0, 4.0 / 45.0],
    [0.0, 0.0, 0.0, 1.0],
];
thread_local! {
    /// Buffers of a task, kept from one to the next.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Weights of a convolution, transformed to the points.
pub(super) struct Winograd {
    geometry: Geometry,
    bias: Vec<f32>,
    groups: Vec<WinogradDomain>,
}

/// A group of neighbouring outputs: its weights in the Winograd domain.
struct WinogradDomain {
    first: usize,
    width: usize,
    /// For each point, a convolution over tiles.
    points: [Direct; POINTS],
}

impl Winograd {
    /// Whether it saves products, and channels are whole vectors.
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
        let group = |first| WinogradDomain::new(pool, geometry, first, weight);
        let starts = (0..geometry.outputs).step_by(GROUP);
        Self {
            geometry,
            bias: bias.to_vec(),
            groups: starts.map(group).collect(),
        }
    }

    /// As `Convolution::run`, which has checked the lengths of `x` and `y`.
    pub(super) fn run(
        &self,
        pool: &Pool,
        x: &[f32],
        y: &mut [f32],
        accumulate: Accumulate,
        epilogue: &Epilogue,
    ) {
        let Geometry {
            inputs,
            outputs,
            dilation,
            taps,
            ..
        } = self.geometry;
        let rows = y.len() / outputs;
        // Values behind the last tap have no weight, but would add rounding errors.
        let x = &x[..self.geometry.input_rows(rows)];
        // Dilated tiles, whose steps interleave, are computed together, so that a task has neighbouring steps.
        let span = STEPS * dilation;
        let spans = rows.div_ceil(span);
        let per_task = (TASK_TILES / dilation).max(1);
        let y = SharedSlice::new(y);
        pool.run(spans.div_ceil(per_task), &|task| {
            let first = task * per_task;
            let count = per_task.min(spans - first);
            let tiles = count * dilation;
            let input_tiles = (count + taps.div_ceil(STEPS) - 1) * dilation;
            let rows = first * span..rows.min((first + count) * span);
            let mut scratch = SCRATCH.take();
            scratch.resize(POINTS * (input_tiles * inputs + tiles * GROUP), 0.0);
            let (values, products) = scratch.split_at_mut(POINTS * input_tiles * inputs);
            let input_transform = InputTransform {
                geometry: &self.geometry,
                x: &x[rows.start * inputs..],
                tiles: input_tiles,
                values,
            };
            simd::run(isa(), input_transform);
            for group in &self.groups {
                let products = &mut products[..POINTS * tiles * group.width];
                group.multiply(values, products);
                let output_transform = OutputTransform {
                    geometry: &self.geometry,
                    bias: &self.bias[group.first..][..group.width],
                    first: group.first,
                    products,
                    y: &y,
                    accumulate,
                    rows: rows.clone(),
                };
                simd::run(isa(), output_transform);
                for row in rows.clone() {
                    // SAFETY: no other task has these steps.
                    epilogue(group.first, unsafe {
                        y.slice(row * outputs + group.first, group.width)
                    });
                }
            }
            SCRATCH.set(scratch);
        });
    }
}

impl WinogradDomain {
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
            .map(|point| SharedSlice::new(&mut point.weights));
        let length = blocks * inputs * LANES;
        pool.run(width / LANES, &|panel| {
            // SAFETY: panels do not overlap.
            let mut packed = packed
                .each_ref()
                .map(|packed| unsafe { packed.slice(panel * length, length) });
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
                for (packed, factors) in packed.iter_mut().zip(&KERNEL_TRANSFORM) {
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

    /// Multiplies `values` `[POINTS, input tiles, inputs]` by the weights into `products` `[POINTS, tiles, width]`.
    fn multiply(&self, values: &[f32], products: &mut [f32]) {
        let tiles = products.len() / (POINTS * self.width);
        let values = values.chunks_exact(values.len() / POINTS);
        let products = products.chunks_exact_mut(tiles * self.width);
        for ((point, values), products) in self.points.iter().zip(values).zip(products) {
            let panels = 0..self.width / LANES;
            let products = SharedSlice::new(products);
            // SAFETY: `values` holds every input tile, and no other thread has the products.
            unsafe {
                point.accumulate_tiles(values, &products, Accumulate::Overwrite, 0..tiles, panels);
            };
        }
    }
}

/// Writes `values` `[POINTS, tiles, inputs]`, the tiles from the first step of `x` on at the points, with zeros after its last.
pub(super) struct InputTransform<'a> {
    pub geometry: &'a Geometry,
    pub x: &'a [f32],
    pub tiles: usize,
    pub values: &'a mut [f32],
}

impl Task for InputTransform<'_> {
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
                    for (point, factors) in INPUT_TRANSFORM.iter().enumerate() {
                        let place = (point * self.tiles + tile) * inputs + channel;
                        let value = combine::<S>(S::splat(0.0), factors, &of_steps);
                        S::store(self.values.as_mut_ptr().add(place), value);
                    }
                }
            }
        }
    }
}

/// Writes some outputs of some steps, the first of which is a tile's first, from `products` `[POINTS, tiles, width]`.
pub(super) struct OutputTransform<'a> {
    pub geometry: &'a Geometry,
    /// Of these outputs.
    pub bias: &'a [f32],
    /// The first output.
    pub first: usize,
    pub products: &'a [f32],
    pub y: &'a SharedSlice<'a, f32>,
    pub accumulate: Accumulate,
    pub rows: Range<usize>,
}

impl Task for OutputTransform<'_> {
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
                // has these steps of `y`, whose bounds `pointer` checks.
                unsafe {
                    let mut of_points = [S::splat(0.0); POINTS];
                    for (point, value) in of_points.iter_mut().enumerate() {
                        let place = (point * tiles + tile) * width + channel;
                        *value = S::load(self.products.as_ptr().add(place));
                    }
                    let bias = S::load(self.bias.as_ptr().add(channel));
                    for (step, factors) in OUTPUT_TRANSFORM.iter().enumerate() {
                        let step = (tile / dilation * STEPS + step) * dilation + tile % dilation;
                        let row = self.rows.start + step;
                        if row >= self.rows.end {
                            continue;
                        }
                        let y = self.y.pointer(row * outputs + first + channel);
                        let start = match self.accumulate {
                            Accumulate::Overwrite => bias,
                            Accumulate::Add => S::add(bias, S::load(y)),
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
