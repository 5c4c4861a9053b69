//! Weights of 4 bits, in groups of neighbouring inputs with a scale and a least value each. Inputs are rounded to 8 bits, with
//! a scale for each row; the sums of a group's products are exact.

use std::hint::black_box;

use super::dots::{DotTask, Dots, GROUP, GROUP_BYTES, GROUP_CHUNKS, STEP, Set};
use super::drive::{Kernel, Tile};
use super::grid::Pack;
use super::quantise::{each_step, scale};
use super::source::Given;
use crate::isa::isa;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::simd::{self, LANES, Simd};

/// Steps of a group, and words that a row's inputs of a group take: the steps, and the sum of the inputs.
const STEPS: usize = GROUP / STEP;
const WORDS: usize = STEPS + 1;
/// Halves (`u16`) of a group of sixteen outputs: weights, scales, least values.
pub(crate) const LENGTH: usize = GROUP_BYTES / 2 + 2 * LANES;
/// Halves in a cache line.
const LINE: usize = 32;
/// Panels of sixteen outputs, `[panel][group][LENGTH]`: the nibbles as [`Dots::group`] wants them, then scales and least
/// values as bf16. Filled up with zeros.
pub(crate) struct Int4 {
    outputs: usize,
    inputs: usize,
    weights: Buffer<u16>,
}

impl Int4 {
    pub(crate) fn pack(pool: &Pool, given: &Given) -> Self {
        let length = given.inputs.div_ceil(GROUP) * LENGTH;
        let mut weights = Buffer::together(given.panels() * length);
        let parts = Shared::new(&mut weights);
        given.each_panel(pool, &|panel, lines| {
            // SAFETY: panels do not overlap.
            let panel: &mut [u16] = unsafe { parts.part(panel * length, length) };
            simd::run(isa(), Pack { lines, panel });
        });
        Self {
            outputs: given.outputs,
            inputs: given.inputs,
            weights,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.weights.len() * size_of::<u16>()
    }

    fn groups(&self) -> usize {
        self.inputs.div_ceil(GROUP)
    }
}

impl Kernel for Int4 {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn shape(&self, set: Set, _rows: usize) -> (usize, usize) {
        let mut most = 0;
        set.dots.run(Rows(&mut most));
        (most, 1)
    }

    /// A panel of this many bits fits into the first cache whole, or nearly.
    fn depth(&self) -> usize {
        self.inputs.max(1)
    }

    /// The groups and the scale.
    fn prepared(&self, _set: Set) -> usize {
        self.groups() * WORDS + 1
    }

    /// For each group the bytes `[STEPS][rows]` and the sums of the inputs, then the scales of the rows.
    fn prepare(&self, set: Set, rows: usize, x: &[f32], stride: usize, prepared: &mut [u32]) {
        set.dots.run(Prepare {
            rows,
            groups: self.groups(),
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

struct Rows<'a>(&'a mut usize);

impl DotTask for Rows<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        *self.0 = D::ROWS4;
    }
}

struct Prepare<'a> {
    rows: usize,
    groups: usize,
    inputs: usize,
    x: &'a [f32],
    stride: usize,
    prepared: &'a mut [u32],
}

impl DotTask for Prepare<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        let rows = self.rows;
        let (groups, scales) = self.prepared.split_at_mut(self.groups * WORDS * rows);
        // The last group may have fewer steps than there is room for.
        if let Some(last) = groups.len().checked_sub(WORDS * rows) {
            groups[last..].fill(0);
        }
        for row in 0..rows {
            let x = &self.x[row * self.stride..][..self.inputs];
            let (scale, inverse) = scale(x, i8::MAX);
            scales[row] = scale.to_bits();
            let mut sum = 0;
            each_step(
                x,
                inverse,
                0,
                #[inline(always)]
                |step, word| {
                    let group = step / STEPS * WORDS * rows;
                    groups[group + step % STEPS * rows + row] = word;
                    if step % STEPS == 0 {
                        sum = 0;
                    }
                    let bytes = word.to_le_bytes();
                    sum += bytes
                        .iter()
                        .map(|&x| i32::from(x.cast_signed()))
                        .sum::<i32>();
                    groups[group + STEPS * rows + row] = (sum as f32).to_bits();
                },
            );
        }
    }
}

struct Product<'a> {
    weights: &'a Int4,
    tile: &'a Tile,
}

impl DotTask for Product<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        macro_rules! shapes {
            ($($rows:literal)*) => {
                match self.tile.rows {
                    $($rows if $rows <= D::ROWS4 => self.sums::<D, D::Floats, $rows>(),)*
                    _ => unreachable!("a tile has as many rows as `shape` says"),
                }
            };
        }
        // SAFETY: this is compiled for `D` and runs where it may; the tile is what `Kernel::tile` asks for.
        unsafe { shapes!(1 2 3 4 5 6 7 8 9 10 11 12) }
    }
}

impl Product<'_> {
    /// # Safety
    /// The processor must have the instruction set, and the tile `R` rows and one panel.
    #[inline(always)]
    unsafe fn sums<D: Dots<Floats = S>, S: Simd, const R: usize>(&self) {
        let (int4, tile) = (self.weights, self.tile);
        let groups = int4.groups();
        // SAFETY: the tile's inputs, panel and rows are inside of what the pointers point to.
        unsafe {
            let mut x = tile.x;
            let mut w = int4.weights.as_ptr().add(tile.panel * groups * LENGTH);
            let mut sums = [S::splat(0.0); R];
            let chunks = black_box(GROUP_CHUNKS);
            for _ in 0..groups {
                for line in 0..LENGTH / LINE {
                    simd::prefetch(w.add(line * LINE));
                }
                let products = D::group::<R>(w.cast(), x, chunks);
                let scale = S::load_bf16(w.add(GROUP_BYTES / 2));
                let least = S::load_bf16(w.add(GROUP_BYTES / 2 + LANES));
                for (r, (sum, products)) in sums.iter_mut().zip(products).enumerate() {
                    let inputs = S::splat(f32::from_bits(*x.add(STEPS * R + r)));
                    *sum = S::mul_add(D::floats(products), scale, *sum);
                    *sum = S::mul_add(inputs, least, *sum);
                }
                w = w.add(LENGTH);
                x = x.add(WORDS * R);
            }
            for (r, &sum) in sums.iter().enumerate() {
                let scale = S::splat(f32::from_bits(*x.add(r)));
                S::store(tile.y.add(r * tile.stride), S::mul(sum, scale));
            }
        }
    }
}
