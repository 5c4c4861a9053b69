//! Weights of 8 bits, with a scale for each output. Inputs are quantised to 8 bits too, with a scale for each row; the integer
//! sums are exact.

use super::dots::{DOT, DOT_BYTES, DotTask, Dots, Isas, PAIR};
use super::gemm::{Kernel, Tile};
use super::quantize::{QuantizeI8, quantize_row, row_scale};
use super::source::WeightSource;
use crate::isa::isa;
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{self, LANES, Simd};

/// Panels of sixteen outputs, `[panel][dot][LANES][DOT]`; filled up with zeros.
pub(crate) struct Int8 {
    outputs: usize,
    inputs: usize,
    weights: Buffer<i8>,
    scales: Buffer<f32>,
    /// The sum of each output's weights, which corrects for the zero point of the inputs.
    column_sums: Buffer<i32>,
}

impl Int8 {
    pub(crate) fn pack(pool: &Pool, source: &WeightSource) -> Self {
        let (panels, inputs) = (source.panels(), source.inputs);
        let length = dots(inputs) * DOT_BYTES;
        let mut weights = Buffer::in_arena(panels * length);
        let mut scales = Buffer::in_arena(panels * LANES);
        let mut column_sums = Buffer::in_arena(panels * LANES);
        let weight_parts = SharedSlice::new(&mut weights);
        let scale_parts = SharedSlice::new(&mut scales);
        let column_sum_parts = SharedSlice::new(&mut column_sums);
        source.for_each_panel(pool, &|panel, rows| {
            // SAFETY: panels do not overlap.
            let pack = unsafe {
                QuantizeI8 {
                    rows,
                    weights: weight_parts.slice(panel * length, length),
                    scales: scale_parts.slice(panel * LANES, LANES),
                    column_sums: column_sum_parts.slice(panel * LANES, LANES),
                }
            };
            simd::run(isa(), pack);
        });
        Self {
            outputs: source.outputs,
            inputs,
            weights,
            scales,
            column_sums,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.weights.len() + size_of::<f32>() * self.scales.len()
    }

    fn dots(&self) -> usize {
        dots(self.inputs)
    }
}

/// Dots for so many inputs, filled up to whole pairs.
fn dots(inputs: usize) -> usize {
    inputs.div_ceil(PAIR * DOT) * PAIR
}

impl Kernel for Int8 {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn tile_shape(&self, isas: Isas, _rows: usize) -> (usize, usize) {
        let mut tile_shape = (0, 0);
        isas.dot.run(TileShape(&mut tile_shape));
        tile_shape
    }

    /// All of `k`: integer sums are exact in any order, and a panel of 8-bit weights fits into the first-level cache.
    fn block_depth(&self) -> usize {
        self.inputs.max(1)
    }

    /// The dots and the scale.
    fn packed_words(&self, _isas: Isas) -> usize {
        self.dots() + 1
    }

    /// The bytes `[dot][rows]`, then the scales of the rows.
    fn pack_a(&self, isas: Isas, rows: usize, x: &[f32], stride: usize, packed: &mut [u32]) {
        isas.dot.run(PackA {
            rows,
            dots: self.dots(),
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

struct TileShape<'a>(&'a mut (usize, usize));

impl DotTask for TileShape<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        *self.0 = D::TILE_I8;
    }
}

struct PackA<'a> {
    rows: usize,
    dots: usize,
    inputs: usize,
    x: &'a [f32],
    stride: usize,
    packed: &'a mut [u32],
}

impl DotTask for PackA<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        let (dots, scales) = self.packed.split_at_mut(self.dots * self.rows);
        for row in 0..self.rows {
            let x = &self.x[row * self.stride..][..self.inputs];
            let (scale, inverse) = row_scale(x, D::MAX_INPUT);
            scales[row] = scale.to_bits();
            quantize_row(
                x,
                inverse,
                D::ZERO_POINT,
                #[inline(always)]
                |dot, word| dots[dot * self.rows + row] = word,
            );
        }
    }
}

struct MicroKernel<'a> {
    weights: &'a Int8,
    tile: &'a Tile,
}

impl DotTask for MicroKernel<'_> {
    #[inline(always)]
    fn run<D: Dots>(self) {
        macro_rules! shapes {
            ($($rows:literal)*) => {
                match (self.tile.rows, self.tile.panels) {
                    $(
                        ($rows, 1) if $rows <= D::TILE_I8.0 => self.multiply::<D, $rows, 1>(),
                        ($rows, 2) if $rows <= D::TILE_I8.0 && D::TILE_I8.1 >= 2 => self.multiply::<D, $rows, 2>(),
                    )*
                    _ => unreachable!("a tile has as many rows and panels as `tile_shape` says"),
                }
            };
        }
        // SAFETY: this is compiled for `D` and runs where it may; the tile is what `Kernel::micro_kernel` requires.
        unsafe { shapes!(1 2 3 4 5 6 7 8 9 10 11 12) }
    }
}

impl MicroKernel<'_> {
    /// # Safety
    /// The processor must have the instruction set, and the tile `R` rows and `P` panels.
    #[inline(always)]
    unsafe fn multiply<D: Dots, const R: usize, const P: usize>(&self) {
        let (int8, tile) = (self.weights, self.tile);
        let dots = int8.dots();
        let output = tile.panel * LANES;
        // SAFETY: the tile's inputs, panels and rows are inside of what the pointers point to.
        unsafe {
            let mut w = [int8.weights.as_ptr(); P];
            let mut initial = [[0; LANES]; P];
            for (p, (w, initial)) in w.iter_mut().zip(&mut initial).enumerate() {
                *w = w.add((tile.panel + p) * dots * DOT_BYTES);
                let column_sums = int8.column_sums.as_ptr().add(output + p * LANES);
                for (lane, initial) in initial.iter_mut().enumerate() {
                    *initial = -i32::from(D::ZERO_POINT) * *column_sums.add(lane);
                }
            }
            let sums = D::dot_products::<R, P>(tile.x, w, dots / PAIR, &initial);
            let x = tile.x.add(dots * R);
            for (r, sums) in sums.iter().enumerate() {
                let row = <D::Float as Simd>::splat(f32::from_bits(*x.add(r)));
                for (p, &sum) in sums.iter().enumerate() {
                    let column =
                        <D::Float as Simd>::load(int8.scales.as_ptr().add(output + p * LANES));
                    let y = tile.y.add(r * tile.stride + p * LANES);
                    let scaled = <D::Float as Simd>::mul(D::to_f32(sum), column);
                    <D::Float as Simd>::store(y, <D::Float as Simd>::mul(scaled, row));
                }
            }
        }
    }
}
