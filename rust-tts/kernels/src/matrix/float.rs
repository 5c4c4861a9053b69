//! Weights kept as f32 or bf16; the arithmetic is f32.

use std::ops::Range;

use super::dots::Isas;
use super::gemm::{Kernel, Tile};
use super::source::WeightSource;
use crate::memory::{Buffer, Pod};
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{self, LANES, Simd, Task};

/// Depth of a block of `k`: a panel's weights for it stay in the first-level cache beside a tile's rows.
const BLOCK_DEPTH: usize = 256;

/// The format of a weight.
pub(crate) trait Element: Pod {
    /// Packs neighbouring panels.
    fn pack(source: &WeightSource, panels: Range<usize>, packed: &mut [Self]);

    /// Sixteen weights from `p`.
    ///
    /// # Safety
    /// As for [`Simd`].
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
}

impl Element for f32 {
    fn pack(source: &WeightSource, panels: Range<usize>, packed: &mut [Self]) {
        source.read(panels, packed.as_chunks_mut().0);
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load(p) }
    }
}

/// bf16: the upper half of an f32.
impl Element for u16 {
    fn pack(source: &WeightSource, panels: Range<usize>, packed: &mut [Self]) {
        source.rows(panels, |rows| {
            for (packed, x) in packed.iter_mut().zip(rows.as_flattened()) {
                *packed = to_bf16(*x);
            }
        });
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_bf16(p) }
    }
}

/// Rounds to the nearest, ties to even.
#[inline(always)]
pub(crate) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        (bits >> 16) as u16 | 0x40
    } else {
        (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
    }
}

/// Panels of sixteen outputs, `[panel][k][LANES]`; the last one is filled up with zeros.
pub(crate) struct FloatMatrix<T: Pod> {
    outputs: usize,
    inputs: usize,
    weights: Buffer<T>,
}

impl<T: Element> FloatMatrix<T> {
    pub(crate) fn pack(pool: &Pool, source: &WeightSource) -> Self {
        let length = source.inputs * LANES;
        let mut weights = Buffer::in_arena(source.panels() * length);
        let parts = SharedSlice::new(&mut weights);
        source.for_each_group(pool, &|panels| {
            // SAFETY: panels do not overlap.
            let packed = unsafe { parts.slice(panels.start * length, panels.len() * length) };
            T::pack(source, panels, packed);
        });
        Self {
            outputs: source.outputs,
            inputs: source.inputs,
            weights,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.weights.len() * size_of::<T>()
    }
}

impl<T: Element> Kernel for FloatMatrix<T> {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn tile_shape(&self, isas: Isas, rows: usize) -> (usize, usize) {
        simd::run(isas.float, TileShape { rows })
    }

    fn block_depth(&self) -> usize {
        BLOCK_DEPTH
    }

    fn packed_words(&self, _isas: Isas) -> usize {
        self.inputs
    }

    /// Transposes, so that a tile reads in order: `[k][rows]`.
    fn pack_a(&self, isas: Isas, rows: usize, x: &[f32], stride: usize, packed: &mut [u32]) {
        simd::run(
            isas.float,
            PackA {
                rows,
                inputs: self.inputs,
                x,
                stride,
                packed,
            },
        );
    }

    unsafe fn micro_kernel(&self, isas: Isas, tile: &Tile) {
        simd::run(
            isas.float,
            MicroKernel {
                weights: self,
                tile,
            },
        );
    }
}

struct TileShape {
    rows: usize,
}

impl Task for TileShape {
    type Output = (usize, usize);

    /// With few rows, as many panels as keep the multipliers busy.
    #[inline(always)]
    fn run<S: Simd>(self) -> (usize, usize) {
        let panels = match self.rows {
            1 => 4,
            2 => 2,
            _ => S::NR,
        };
        (S::MR, panels)
    }
}

struct PackA<'a> {
    rows: usize,
    inputs: usize,
    x: &'a [f32],
    stride: usize,
    packed: &'a mut [u32],
}

impl Task for PackA<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        macro_rules! transposed {
            ($($rows:literal)*) => {
                match self.rows {
                    $($rows if $rows <= S::MR => self.transpose::<$rows>(),)*
                    _ => unreachable!("a strip has as many rows as `tile_shape` says"),
                }
            };
        }
        transposed!(1 2 3 4 5 6 7 8 9 10 11 12);
    }
}

impl PackA<'_> {
    #[inline(always)]
    fn transpose<const R: usize>(self) {
        let mut rows = [self.x; R];
        for (row, x) in rows.iter_mut().enumerate() {
            *x = &self.x[row * self.stride..][..self.inputs];
        }
        let (packed, _) = self.packed.as_chunks_mut::<R>();
        for (input, packed) in packed.iter_mut().enumerate() {
            for (packed, x) in packed.iter_mut().zip(rows) {
                *packed = x[input].to_bits();
            }
        }
    }
}

struct MicroKernel<'a, T: Pod> {
    weights: &'a FloatMatrix<T>,
    tile: &'a Tile,
}

impl<T: Element> Task for MicroKernel<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        macro_rules! shapes {
            ($($rows:literal)*) => {
                match (self.tile.rows, self.tile.panels) {
                    (1, 3) => self.multiply::<S, 1, 3>(),
                    (1, 4) => self.multiply::<S, 1, 4>(),
                    $(
                        ($rows, 1) if $rows <= S::MR => self.multiply::<S, $rows, 1>(),
                        ($rows, 2) if $rows <= 2 || $rows <= S::MR && S::NR >= 2 => self.multiply::<S, $rows, 2>(),
                    )*
                    _ => unreachable!("a tile has as many rows and panels as `tile_shape` says"),
                }
            };
        }
        // SAFETY: this is compiled for `S` and runs where it may; the tile is what `Kernel::micro_kernel` requires.
        unsafe { shapes!(1 2 3 4 5 6 7 8 9 10 11 12) }
    }
}

impl<T: Element> MicroKernel<'_, T> {
    /// # Safety
    /// The processor must have the instruction set, and the tile `R` rows and `P` panels.
    #[inline(always)]
    unsafe fn multiply<S: Simd, const R: usize, const P: usize>(&self) {
        let (weights, tile) = (self.weights, self.tile);
        let first = tile.block * BLOCK_DEPTH;
        let block_depth = BLOCK_DEPTH.min(weights.inputs - first);
        // SAFETY: the tile's inputs, panels and rows are inside of what the pointers point to.
        unsafe {
            let mut x = tile.x.cast::<f32>().add(first * R);
            let mut w = [weights.weights.as_ptr(); P];
            for (p, w) in w.iter_mut().enumerate() {
                *w = w.add(((tile.panel + p) * weights.inputs + first) * LANES);
            }
            // Tiles that reuse these weights have them in the cache; together they prefetch the next ones.
            let line = LANES * size_of::<T>();
            let (mut distance, advance) = if tile.reuses == 1 {
                (simd::PREFETCH_DISTANCE, line)
            } else {
                let advance = line / tile.reuses.min(line);
                (block_depth * (line + tile.reuse * advance), advance)
            };
            let mut acc = [[S::splat(0.0); P]; R];
            for _ in 0..block_depth {
                let mut weights = [S::splat(0.0); P];
                for (weights, w) in weights.iter_mut().zip(&mut w) {
                    *weights = T::load::<S>(*w);
                    simd::prefetch_line(w.wrapping_byte_add(distance));
                    *w = w.add(LANES);
                }
                distance = distance.wrapping_add(advance).wrapping_sub(line);
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = S::splat(*x.add(r));
                    for (acc, weights) in acc.iter_mut().zip(weights) {
                        *acc = S::mul_add(x, weights, *acc);
                    }
                }
                x = x.add(R);
            }
            for (r, acc) in acc.iter().enumerate() {
                for (p, &acc) in acc.iter().enumerate() {
                    let y = tile.y.add(r * tile.stride + p * LANES);
                    let acc = if tile.block > 0 {
                        S::add(S::load(y), acc)
                    } else {
                        acc
                    };
                    S::store(y, acc);
                }
            }
        }
    }
}
