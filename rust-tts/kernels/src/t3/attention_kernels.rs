//! The inner loops of attention.

use std::ops::Range;

use super::page::{PAGE, PageMut, PageRef};
use crate::isa::{isa, vectorised};
use crate::math::exp;
use crate::simd::{LANES, Simd, Task, prefetch_line, run};

/// Queries of a tile, which share the keys and values that are loaded.
pub(super) const QUERIES: usize = 4;

/// Bytes of a cache line.
const LINE: usize = 64;

/// A number of a cache.
trait Element: Copy {
    fn narrow(value: f32) -> Self;

    /// # Safety
    ///
    /// As for [`Simd::load`].
    unsafe fn load<S: Simd>(from: *const Self) -> S::V;
}

impl Element for f32 {
    fn narrow(value: f32) -> Self {
        value
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::V {
        // SAFETY: the caller's.
        unsafe { S::load(from) }
    }
}

/// The bits of a bf16.
impl Element for u16 {
    /// To the nearest, ties to even; a NaN stays one.
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        if value.is_nan() {
            0x7fc0
        } else {
            rounded as Self
        }
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::V {
        // SAFETY: the caller's.
        unsafe { S::load_bf16(from) }
    }
}

/// `out[q][lane] += sum over i of factors[q][i] * matrix[i][lane]`, for `Q` queries, `count` factors each.
///
/// Sums up in the order of the factors, whatever `Q` is: a query's result is the same to the bit.
pub(super) struct WeightedSum<'a, const Q: usize> {
    /// A query's are `factor_stride` behind those of the one before.
    pub factors: &'a [f32],
    pub factor_stride: usize,
    pub count: usize,
    /// `[count or more, lanes]`
    pub matrix: PageRef<'a>,
    /// What is used after `matrix`: prefetched for a single query, which would wait for memory otherwise.
    pub next: PageRef<'a>,
    /// A multiple of 16.
    pub lanes: usize,
    /// A query's are `out_stride` behind those of the one before.
    pub out: &'a mut [f32],
    pub out_stride: usize,
}

impl<const Q: usize> WeightedSum<'_, Q> {
    pub(super) fn add(self) {
        run(isa(), self);
    }
}

impl<const Q: usize> Task for WeightedSum<'_, Q> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        assert!(self.factors.len() >= (Q - 1) * self.factor_stride + self.count);
        assert!(self.out.len() >= (Q - 1) * self.out_stride + self.lanes);
        assert!(self.lanes.is_multiple_of(LANES));
        // Sums of one query take as many registers as those of `QUERIES`.
        let next = self.next.bytes();
        match self.matrix {
            PageRef::F32(matrix) if Q == 1 && self.lanes.is_multiple_of(QUERIES * LANES) => {
                weighted_sum::<S, _, Q, QUERIES>(self, matrix, next);
            }
            PageRef::F32(matrix) => weighted_sum::<S, _, Q, 1>(self, matrix, next),
            PageRef::Bf16(matrix) if Q == 1 && self.lanes.is_multiple_of(QUERIES * LANES) => {
                weighted_sum::<S, _, Q, QUERIES>(self, matrix, next);
            }
            PageRef::Bf16(matrix) => weighted_sum::<S, _, Q, 1>(self, matrix, next),
        }
    }
}

/// `G` groups of lanes at a time.
#[inline(always)]
fn weighted_sum<S: Simd, E: Element, const Q: usize, const G: usize>(
    sizes: WeightedSum<'_, Q>,
    matrix: &[E],
    next: Range<*const u8>,
) {
    let WeightedSum {
        factors,
        factor_stride,
        count,
        lanes,
        out,
        out_stride,
        ..
    } = sizes;
    assert!(matrix.len() >= count * lanes);
    for first in (0..lanes).step_by(G * LANES) {
        // SAFETY: the caller is compiled for `S`. `out` has `lanes` for each query, `factors` `count`, and `matrix` `count`
        // rows of `lanes`, of which `G * LANES` from `first` on are used.
        unsafe {
            let mut sums = [[S::splat(0.0); G]; Q];
            for (query, sums) in sums.iter_mut().enumerate() {
                for (group, sum) in sums.iter_mut().enumerate() {
                    *sum = S::load(out.as_ptr().add(query * out_stride + first + group * LANES));
                }
            }
            for i in 0..count {
                let start = matrix.as_ptr().add(i * lanes + first);
                if Q == 1 {
                    let bytes = size_of::<E>() * G * LANES;
                    for line in (0..bytes).step_by(LINE) {
                        let at = next.start.wrapping_add(i * size_of::<E>() * lanes + line);
                        if at < next.end {
                            prefetch_line(at);
                        }
                    }
                }
                let mut row = [S::splat(0.0); G];
                for (group, values) in row.iter_mut().enumerate() {
                    *values = E::load::<S>(start.add(group * LANES));
                }
                for (query, sums) in sums.iter_mut().enumerate() {
                    let factor = S::splat(*factors.as_ptr().add(query * factor_stride + i));
                    for (sum, row) in sums.iter_mut().zip(row) {
                        *sum = S::mul_add(factor, row, *sum);
                    }
                }
            }
            for (query, sums) in sums.iter().enumerate() {
                for (group, sum) in sums.iter().enumerate() {
                    let end = out.as_mut_ptr().add(query * out_stride + first);
                    S::store(end.add(group * LANES), *sum);
                }
            }
        }
    }
}

vectorised! {
    /// Makes `scores` of them their softmax: at least one, finite.
    pub(super) fn softmax(scores: &mut [f32]) = softmax_body
}

#[inline(always)]
fn softmax_body<const FMA: bool>(scores: &mut [f32]) {
    let mut highest = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for (highest, score) in highest.iter_mut().zip(chunk) {
            *highest = highest.max(*score);
        }
    }
    let highest = highest
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |highest, score| highest.max(*score));
    let mut sums = [0.0; LANES];
    let (chunks, rest) = scores.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (sum, score) in sums.iter_mut().zip(chunk) {
            *score = exp::<FMA>(*score - highest);
            *sum += *score;
        }
    }
    for (sum, score) in sums.iter_mut().zip(rest) {
        *score = exp::<FMA>(*score - highest);
        *sum += *score;
    }
    let scale = 1.0 / sums.iter().sum::<f32>();
    for score in scores {
        *score *= scale;
    }
}

/// Stores a head's key and value of one position, counted from the page's start, in the page.
pub(super) fn store_position(position: usize, key: &[f32], value: &[f32], page: PageMut<'_>) {
    match page {
        PageMut::F32(keys, values) => store_elements(position, key, value, keys, values),
        PageMut::Bf16(keys, values) => store_elements(position, key, value, keys, values),
    }
}

fn store_elements<E: Element>(
    position: usize,
    key: &[f32],
    value: &[f32],
    keys: &mut [E],
    values: &mut [E],
) {
    for (column, key) in keys.chunks_exact_mut(PAGE).zip(key) {
        column[position] = E::narrow(*key);
    }
    let row = &mut values[position * value.len()..][..value.len()];
    for (kept, value) in row.iter_mut().zip(value) {
        *kept = E::narrow(*value);
    }
}
