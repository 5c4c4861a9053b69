//! Weights of 8 bits, with a scale for each output. Inputs are rounded to 8 bits as well, with a scale for each row; the sums
//! of products are exact.

use super::dots::{DotTask, Dots, STEP, STEP_BYTES, Set, TOGETHER};
use super::drive::{Kernel, Tile};
use super::levels::Pack;
use super::quantise::{each_step, scale};
use super::source::Given;
use crate::isa::isa;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::simd::{self, LANES, Simd};

/// Panels of sixteen outputs, `[panel][step][LANES][STEP]`; filled up with zeros.
pub(crate) struct Int8 {
    outputs: usize,
    inputs: usize,
    weights: Buffer<i8>,
    scales: Buffer<f32>,
    /// The weights' sum for each output, to make up for inputs that are moved up.
    totals: Buffer<i32>,
}

impl Int8 {
    pub(crate) fn pack(pool: &Pool, given: &Given) -> Self {
        let (panels, inputs) = (given.panels(), given.inputs);
        let length = steps(inputs) * STEP_BYTES;
        let mut weights = Buffer::together(panels * length);
        let mut scales = Buffer::together(panels * LANES);
        let mut totals = Buffer::together(panels * LANES);
        let weight_parts = Shared::new(&mut weights);
        let scale_parts = Shared::new(&mut scales);
        let total_parts = Shared::new(&mut totals);
        given.each_panel(pool, &|panel, lines| {
            // SAFETY: panels do not overlap.
            let pack = unsafe {
                Pack {
                    lines,
                    weights: weight_parts.part(panel * length, length),
                    scales: scale_parts.part(panel * LANES, LANES),
                    totals: total_parts.part(panel * LANES, LANES),
                }
            };
            simd::run(isa(), pack);
        });
        Self {
            outputs: given.outputs,
            inputs,
            weights,
            scales,
            totals,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.weights.len() + size_of::<f32>() * self.scales.len()
    }

    fn steps(&self) -> usize {
        steps(self.inputs)
    }
}

/// Steps for so many inputs, filled up to whole rounds of [`TOGETHER`].
fn steps(inputs: usize) -> usize {
    inputs.div_ceil(TOGETHER * STEP) * TOGETHER
}

impl Kernel for Int8 {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn shape(&self, set: Set, _rows: usize) -> (usize, usize) {
        let mut shape = (0, 0);
        set.dots.run(Shape(&mut shape));
        shape
    }

    /// Sums of integers may stay in the registers: they are exact in any order, and eight bits fill the first cache late.
    fn depth(&self) -> usize {
        self.inputs.max(1)
    }

    /// The steps and the scale.
    fn prepared(&self, _set: Set) -> usize {
        self.steps() + 1
    }

    /// The bytes `[step][rows]`, then the scales of the rows.
    fn prepare(&self, set: Set, rows: usize, x: &[f32], stride: usize, prepared: &mut [u32]) {
        set.dots.run(Prepare {
            rows,
            steps: self.steps(),
            inputs: self.inputs,
            x,
            stride,
            prepared,
        });
    }

    unsafe fn tile(&self, set: Set, tile: &Tile) {
        set.dots.run(Product {
            weights: self,
            tile,
        });
    }
}

struct Shape<'a>(&'a mut (usize, usize));

impl DotTask for Shape<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        *self.0 = D::SHAPE8;
    }
}

struct Prepare<'a> {
    rows: usize,
    steps: usize,
    inputs: usize,
    x: &'a [f32],
    stride: usize,
    prepared: &'a mut [u32],
}

impl DotTask for Prepare<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        let (steps, scales) = self.prepared.split_at_mut(self.steps * self.rows);
        for row in 0..self.rows {
            let x = &self.x[row * self.stride..][..self.inputs];
            let (scale, inverse) = scale(x, D::LARGEST);
            scales[row] = scale.to_bits();
            each_step(
                x,
                inverse,
                D::OFFSET,
                #[inline(always)]
                |step, word| steps[step * self.rows + row] = word,
            );
        }
    }
}

struct Product<'a> {
    weights: &'a Int8,
    tile: &'a Tile,
}

impl DotTask for Product<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        macro_rules! shapes {
            ($($rows:literal)*) => {
                match (self.tile.rows, self.tile.panels) {
                    $(
                        ($rows, 1) if $rows <= D::SHAPE8.0 => self.sums::<D, $rows, 1>(),
                        ($rows, 2) if $rows <= D::SHAPE8.0 && D::SHAPE8.1 >= 2 => self.sums::<D, $rows, 2>(),
                    )*
                    _ => unreachable!("a tile has as many rows and panels as `shape` says"),
                }
            };
        }
        // SAFETY: this is compiled for `D` and runs where it may; the tile is what `Kernel::tile` asks for.
        unsafe { shapes!(1 2 3 4 5 6 7 8 9 10 11 12) }
    }
}

impl Product<'_> {
    /// # Safety
    /// The processor must have the instruction set, and the tile `R` rows and `P` panels.
    #[inline(always)]
    unsafe fn sums<D: Dots, const R: usize, const P: usize>(&self) {
        let (int8, tile) = (self.weights, self.tile);
        let steps = int8.steps();
        let output = tile.panel * LANES;
        // SAFETY: the tile's inputs, panels and rows are inside of what the pointers point to.
        unsafe {
            let mut w = [int8.weights.as_ptr(); P];
            let mut starts = [[0; LANES]; P];
            for (p, (w, starts)) in w.iter_mut().zip(&mut starts).enumerate() {
                *w = w.add((tile.panel + p) * steps * STEP_BYTES);
                let totals = int8.totals.as_ptr().add(output + p * LANES);
                for (lane, start) in starts.iter_mut().enumerate() {
                    *start = -i32::from(D::OFFSET) * *totals.add(lane);
                }
            }
            let sums = D::products::<R, P>(tile.x, w, steps / TOGETHER, &starts);
            let x = tile.x.add(steps * R);
            for (r, sums) in sums.iter().enumerate() {
                let row = <D::Floats as Simd>::splat(f32::from_bits(*x.add(r)));
                for (p, &sum) in sums.iter().enumerate() {
                    let column =
                        <D::Floats as Simd>::load(int8.scales.as_ptr().add(output + p * LANES));
                    let y = tile.y.add(r * tile.stride + p * LANES);
                    let scaled = <D::Floats as Simd>::mul(D::floats(sum), column);
                    <D::Floats as Simd>::store(y, <D::Floats as Simd>::mul(scaled, row));
                }
            }
        }
    }
}
