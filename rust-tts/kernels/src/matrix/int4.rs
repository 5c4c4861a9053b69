//! Weights of 4 bits, in groups of neighbouring inputs with a scale and a minimum each. Inputs are quantised to 8 bits, with a
//! scale for each row; the integer sums of a group are exact.

use std::hint::black_box;

use super::dots::{DOT, DotTask, Dots, GROUP, GROUP_BYTES, GROUP_CHUNKS, Isas};
use super::gemm::{Kernel, Tile};
use super::quantize::{quantize_row, row_scale};
use super::quantize_i4::QuantizeI4;
use super::source::WeightSource;
use crate::isa::isa;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{self, LANES, Simd};

/// Dots of a group, and words of a row for a group: the dots, and the sum of the inputs.
const DOTS: usize = GROUP / DOT;
const WORDS: usize = DOTS + 1;
/// `u16` elements of a group of sixteen outputs: nibbles, scales, minima.
pub(crate) const LENGTH: usize = GROUP_BYTES / 2 + 2 * LANES;
/// `u16` elements of a cache line.
const CACHE_LINE: usize = 32;

/// Panels of sixteen outputs, `[panel][group][LENGTH]`: the nibbles as [`Dots::dot_i4`] wants them, then scales and minima as
/// bf16. Filled up with zeros.
pub(crate) struct Int4 {
    outputs: usize,
    inputs: usize,
    weights: Buffer<u16>,
}

impl Int4 {
    pub(crate) fn pack(pool: &Pool, source: &WeightSource) -> Self {
        let length = source.inputs.div_ceil(GROUP) * LENGTH;
        let mut weights = Buffer::in_arena(source.panels() * length);
        let parts = SharedSlice::new(&mut weights);
        source.for_each_panel(pool, &|panel, rows| {
            // SAFETY: panels do not overlap.
            let panel: &mut [u16] = unsafe { parts.slice(panel * length, length) };
            simd::run(isa(), QuantizeI4 { rows, panel });
        });
        Self {
            outputs: source.outputs,
            inputs: source.inputs,
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

    fn tile_shape(&self, isas: Isas, _rows: usize) -> (usize, usize) {
        let mut rows = 0;
        isas.dot.run(TileRows(&mut rows));
        (rows, 1)
    }

    /// All of `k`: a panel of 4-bit weights fits into the first-level cache, or nearly.
    fn block_depth(&self) -> usize {
        self.inputs.max(1)
    }

    /// The groups and the scale.
    fn packed_words(&self, _isas: Isas) -> usize {
        self.groups() * WORDS + 1
    }

    /// For each group the bytes `[DOTS][rows]` and the sums of the inputs, then the scales of the rows.
    fn pack_a(&self, isas: Isas, rows: usize, x: &[f32], stride: usize, packed: &mut [u32]) {
        isas.dot.run(PackA {
            rows,
            groups: self.groups(),
            inputs: self.inputs,
            x,
            stride,
            packed,
        });
    }

    unsafe fn micro_kernel(&self, isas: Isas, tile: &Tile) {
        isas.dot.run(MicroKernel {
            weights: self,
            tile,
        });
    }
}

struct TileRows<'a>(&'a mut usize);

impl DotTask for TileRows<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        *self.0 = D::MR_I4;
    }
}

struct PackA<'a> {
    rows: usize,
    groups: usize,
    inputs: usize,
    x: &'a [f32],
    stride: usize,
    packed: &'a mut [u32],
}

impl DotTask for PackA<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        let rows = self.rows;
        let (groups, scales) = self.packed.split_at_mut(self.groups * WORDS * rows);
        // The last group may be shorter.
        if let Some(last) = groups.len().checked_sub(WORDS * rows) {
            groups[last..].fill(0);
        }
        for row in 0..rows {
            let x = &self.x[row * self.stride..][..self.inputs];
            let (scale, inverse) = row_scale(x, i8::MAX);
            scales[row] = scale.to_bits();
            let mut sum = 0;
            quantize_row(
                x,
                inverse,
                0,
                #[inline(always)]
                |dot, word| {
                    let group = dot / DOTS * WORDS * rows;
                    groups[group + dot % DOTS * rows + row] = word;
                    if dot % DOTS == 0 {
                        sum = 0;
                    }
                    let bytes = word.to_le_bytes();
                    sum += bytes
                        .iter()
                        .map(|&x| i32::from(x.cast_signed()))
                        .sum::<i32>();
                    groups[group + DOTS * rows + row] = (sum as f32).to_bits();
                },
            );
        }
    }
}

struct MicroKernel<'a> {
    weights: &'a Int4,
    tile: &'a Tile,
}

impl DotTask for MicroKernel<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        macro_rules! shapes {
            ($($rows:literal)*) => {
                match self.tile.rows {
                    $($rows if $rows <= D::MR_I4 => self.multiply::<D, D::Float, $rows>(),)*
                    _ => unreachable!("a tile has as many rows as `tile_shape` says"),
                }
            };
        }
        // SAFETY: this is compiled for `D` and runs where it may; the tile is what `Kernel::micro_kernel` requires.
        unsafe { shapes!(1 2 3 4 5 6 7 8 9 10 11 12) }
    }
}

impl MicroKernel<'_> {
    /// # Safety
    /// The processor must have the instruction set, and the tile `R` rows and one panel.
    #[inline(always)]
    unsafe fn multiply<D: Dots<Float = S>, S: Simd, const R: usize>(&self) {
        let (int4, tile) = (self.weights, self.tile);
        let groups = int4.groups();
        // SAFETY: the tile's inputs, panel and rows are inside of what the pointers point to.
        unsafe {
            let mut x = tile.x;
            let mut w = int4.weights.as_ptr().add(tile.panel * groups * LENGTH);
            let mut sums = [S::splat(0.0); R];
            let chunks = black_box(GROUP_CHUNKS);
            for _ in 0..groups {
                for line in 0..LENGTH / CACHE_LINE {
                    simd::prefetch(w.add(line * CACHE_LINE));
                }
                let products = D::dot_i4::<R>(w.cast(), x, chunks);
                let scale = S::load_bf16(w.add(GROUP_BYTES / 2));
                let minimum = S::load_bf16(w.add(GROUP_BYTES / 2 + LANES));
                for (r, (sum, products)) in sums.iter_mut().zip(products).enumerate() {
                    let inputs = S::splat(f32::from_bits(*x.add(DOTS * R + r)));
                    *sum = S::mul_add(D::to_f32(products), scale, *sum);
                    *sum = S::mul_add(inputs, minimum, *sum);
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
