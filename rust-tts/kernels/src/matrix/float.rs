//! Weights kept as floats, of 32 or 16 bits; the arithmetic is of 32 bits.

use std::ops::Range;

use super::dots::Set;
use super::drive::{Kernel, Tile};
use super::source::Given;
use crate::memory::{Buffer, Plain};
use crate::pool::Pool;
use crate::shared::Shared;
use crate::simd::{self, LANES, Simd, Task};

/// Inputs of one step: sixteen outputs' weights for them stay in the first cache beside a tile's rows.
const DEPTH: usize = 256;

/// A number format of weights.
pub(crate) trait Format: Plain {
    /// Packs neighbouring panels.
    fn pack(given: &Given, panels: Range<usize>, packed: &mut [Self]);

    /// Sixteen weights from `p`.
    ///
    /// # Safety
    /// As for [`Simd`].
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
}

impl Format for f32 {
    fn pack(given: &Given, panels: Range<usize>, packed: &mut [Self]) {
        given.read(panels, packed.as_chunks_mut().0);
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load(p) }
    }
}

/// The upper half of a float.
impl Format for u16 {
    fn pack(given: &Given, panels: Range<usize>, packed: &mut [Self]) {
        given.lines(panels, |lines| {
            for (packed, x) in packed.iter_mut().zip(lines.as_flattened()) {
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

/// Panels of sixteen outputs, `[panel][input][LANES]`; the last one is filled up with zeros.
pub(crate) struct Float<T: Plain> {
    outputs: usize,
    inputs: usize,
    weights: Buffer<T>,
}

impl<T: Format> Float<T> {
    pub(crate) fn pack(pool: &Pool, given: &Given) -> Self {
        let length = given.inputs * LANES;
        let mut weights = Buffer::together(given.panels() * length);
        let parts = Shared::new(&mut weights);
        given.each_group(pool, &|panels| {
            // SAFETY: panels do not overlap.
            let packed = unsafe { parts.part(panels.start * length, panels.len() * length) };
            T::pack(given, panels, packed);
        });
        Self {
            outputs: given.outputs,
            inputs: given.inputs,
            weights,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.weights.len() * size_of::<T>()
    }
}

impl<T: Format> Kernel for Float<T> {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn shape(&self, set: Set, rows: usize) -> (usize, usize) {
        simd::run(set.floats, Shape { rows })
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    fn prepared(&self, _set: Set) -> usize {
        self.inputs
    }

    /// Transposes, so that a tile reads on: `[input][rows]`.
    fn prepare(&self, set: Set, rows: usize, x: &[f32], stride: usize, prepared: &mut [u32]) {
        simd::run(
            set.floats,
            Prepare {
                rows,
                inputs: self.inputs,
                x,
                stride,
                prepared,
            },
        );
    }

    unsafe fn tile(&self, set: Set, tile: &Tile) {
        simd::run(
            set.floats,
            Product {
                weights: self,
                tile,
            },
        );
    }
}

struct Shape {
    rows: usize,
}

impl Task for Shape {
    type Output = (usize, usize);

    /// With few rows, as many panels as keep the multipliers busy.
    #[inline(always)]
    fn run<S: Simd>(self) -> (usize, usize) {
        let panels = match self.rows {
            1 => 4,
            2 => 2,
            _ => S::GROUPS,
        };
        (S::ROWS, panels)
    }
}

struct Prepare<'a> {
    rows: usize,
    inputs: usize,
    x: &'a [f32],
    stride: usize,
    prepared: &'a mut [u32],
}

impl Task for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        macro_rules! transposed {
            ($($rows:literal)*) => {
                match self.rows {
                    $($rows if $rows <= S::ROWS => self.transpose::<$rows>(),)*
                    _ => unreachable!("a block has as many rows as `shape` says"),
                }
            };
        }
        transposed!(1 2 3 4 5 6 7 8 9 10 11 12);
    }
}

impl Prepare<'_> {
    #[inline(always)]
    fn transpose<const R: usize>(self) {
        let mut rows = [self.x; R];
        for (row, x) in rows.iter_mut().enumerate() {
            *x = &self.x[row * self.stride..][..self.inputs];
        }
        let (prepared, _) = self.prepared.as_chunks_mut::<R>();
        for (input, prepared) in prepared.iter_mut().enumerate() {
            for (prepared, x) in prepared.iter_mut().zip(rows) {
                *prepared = x[input].to_bits();
            }
        }
    }
}

struct Product<'a, T: Plain> {
    weights: &'a Float<T>,
    tile: &'a Tile,
}

impl<T: Format> Task for Product<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        macro_rules! shapes {
            ($($rows:literal)*) => {
                match (self.tile.rows, self.tile.panels) {
                    (1, 3) => self.sums::<S, 1, 3>(),
                    (1, 4) => self.sums::<S, 1, 4>(),
                    $(
                        ($rows, 1) if $rows <= S::ROWS => self.sums::<S, $rows, 1>(),
                        ($rows, 2) if $rows <= 2 || $rows <= S::ROWS && S::GROUPS >= 2 => self.sums::<S, $rows, 2>(),
                    )*
                    _ => unreachable!("a tile has as many rows and panels as `shape` says"),
                }
            };
        }
        // SAFETY: this is compiled for `S` and runs where it may; the tile is what `Kernel::tile` asks for.
        unsafe { shapes!(1 2 3 4 5 6 7 8 9 10 11 12) }
    }
}

impl<T: Format> Product<'_, T> {
    /// # Safety
    /// The processor must have the instruction set, and the tile `R` rows and `P` panels.
    #[inline(always)]
    unsafe fn sums<S: Simd, const R: usize, const P: usize>(&self) {
        let (weights, tile) = (self.weights, self.tile);
        let first = tile.step * DEPTH;
        let depth = DEPTH.min(weights.inputs - first);
        // SAFETY: the tile's inputs, panels and rows are inside of what the pointers point to.
        unsafe {
            let mut x = tile.x.cast::<f32>().add(first * R);
            let mut w = [weights.weights.as_ptr(); P];
            for (p, w) in w.iter_mut().enumerate() {
                *w = w.add(((tile.panel + p) * weights.inputs + first) * LANES);
            }
            // Tiles that use these weights after the first one have them in the cache: what comes next is fetched by all of them.
            let line = LANES * size_of::<T>();
            let (mut ahead, pace) = if tile.turns == 1 {
                (simd::AHEAD, line)
            } else {
                let pace = line / tile.turns.min(line);
                (depth * (line + tile.turn * pace), pace)
            };
            let mut sums = [[S::splat(0.0); P]; R];
            for _ in 0..depth {
                let mut weights = [S::splat(0.0); P];
                for (weights, w) in weights.iter_mut().zip(&mut w) {
                    *weights = T::load::<S>(*w);
                    simd::prefetch_line(w.wrapping_byte_add(ahead));
                    *w = w.add(LANES);
                }
                ahead = ahead.wrapping_add(pace).wrapping_sub(line);
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = S::splat(*x.add(r));
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = S::mul_add(x, weights, *sum);
                    }
                }
                x = x.add(R);
            }
            for (r, sums) in sums.iter().enumerate() {
                for (p, &sum) in sums.iter().enumerate() {
                    let y = tile.y.add(r * tile.stride + p * LANES);
                    let sum = if tile.step > 0 {
                        S::add(S::load(y), sum)
                    } else {
                        sum
                    };
                    S::store(y, sum);
                }
            }
        }
    }
}
