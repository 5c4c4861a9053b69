//! AVX2 without VNNI: `vpmaddubsw` sums products of bytes in 16 bits.

use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi16, _mm256_add_epi32, _mm256_cvtepi32_ps, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_setzero_si256,
};

use super::{load, nibbles, panels};
use crate::matrix::dots::{DOT_BYTES, Dots, PAIR};
use crate::simd::{self, LANES};

pub(crate) struct Avx2;

/// Rows of a tile whose accumulators fit into the registers beside the weights of a pair of dots.
const FEW_ROWS: usize = 4;

/// `vpmaddubsw` adds two products in 16 bits, and two such sums are added before they are widened. So inputs are smaller: twice
/// [`Dots::MAX_INPUT`] times `MAX_PAIR_SUM`, or 255 times `MAX_SIGNED_PAIR_SUM`, fits into 16 bits. (Widening the weights and
/// adding with `vpmaddwd` keeps all 8 bits, at two thirds of the speed.)
impl Dots for Avx2 {
    type Float = simd::x86::Avx2;
    type Acc = (__m256i, __m256i);
    const TILE_I8: (usize, usize) = (8, 1);
    const MR_I4: usize = 4;
    const MAX_INPUT: i8 = 90;
    const ZERO_POINT: u8 = 90;

    #[inline(always)]
    unsafe fn dot_products<const R: usize, const P: usize>(
        x: *const u32,
        w: [*const i8; P],
        pairs: usize,
        initial: &[[i32; LANES]; P],
    ) -> [[Self::Acc; P]; R] {
        // SAFETY: the caller's promise, here and below.
        unsafe {
            panels(
                x,
                w,
                initial,
                #[inline(always)]
                |x, w, start| dot_rows::<false, R>(x, w, pairs, start),
            )
        }
    }

    #[inline(always)]
    unsafe fn dot_u8<const R: usize>(x: *const u32, w: *const u8, pairs: usize) -> [Self::Acc; R] {
        unsafe {
            let zero = _mm256_setzero_si256();
            dot_rows::<true, R>(x, w, pairs, (zero, zero))
        }
    }

    /// Eight products of 4 bits with 8 fit into 16.
    #[inline(always)]
    unsafe fn dot_i4<const R: usize>(w: *const u8, x: *const u32, chunks: usize) -> [Self::Acc; R] {
        unsafe {
            let low_bits = _mm256_set1_epi8(15);
            let ones = _mm256_set1_epi16(1);
            let zero = _mm256_setzero_si256();
            let mut sums = [(zero, zero); R];
            for chunk in 0..chunks {
                let [low, high] = nibbles(w.add(chunk * DOT_BYTES), low_bits);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = x.add(2 * chunk * R + r);
                    let first = _mm256_set1_epi32((*x).cast_signed());
                    sum.0 = _mm256_add_epi16(sum.0, _mm256_maddubs_epi16(low.0, first));
                    sum.1 = _mm256_add_epi16(sum.1, _mm256_maddubs_epi16(low.1, first));
                    let second = _mm256_set1_epi32((*x.add(R)).cast_signed());
                    sum.0 = _mm256_add_epi16(sum.0, _mm256_maddubs_epi16(high.0, second));
                    sum.1 = _mm256_add_epi16(sum.1, _mm256_maddubs_epi16(high.1, second));
                }
            }
            for sum in &mut sums {
                sum.0 = _mm256_madd_epi16(sum.0, ones);
                sum.1 = _mm256_madd_epi16(sum.1, ones);
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn to_f32(sums: Self::Acc) -> (__m256, __m256) {
        unsafe { (_mm256_cvtepi32_ps(sums.0), _mm256_cvtepi32_ps(sums.1)) }
    }
}

/// Dot products of `R` rows of bytes at `x` with the bytes at `w`; `UNSIGNED`: those at `w` are the unsigned ones.
///
/// # Safety
/// As for [`Dots`].
#[inline(always)]
unsafe fn dot_rows<const UNSIGNED: bool, const R: usize>(
    x: *const u32,
    w: *const u8,
    pairs: usize,
    start: (__m256i, __m256i),
) -> [(__m256i, __m256i); R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [start; R];
        if R <= FEW_ROWS {
            // Weights are read once, as they may come from memory.
            for at in 0..pairs {
                let (x, w) = (x.add(at * PAIR * R), w.add(at * PAIR * DOT_BYTES));
                let low = [load(w), load(w.add(DOT_BYTES))];
                let high = [load(w.add(32)), load(w.add(DOT_BYTES + 32))];
                simd::prefetch(w);
                simd::prefetch(w.add(DOT_BYTES));
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = (
                        dot_pair::<UNSIGNED, R>(sum.0, x.add(r), low),
                        dot_pair::<UNSIGNED, R>(sum.1, x.add(r), high),
                    );
                }
            }
            return sums;
        }
        let next = w.wrapping_add(pairs * PAIR * DOT_BYTES);
        let low = dot_half::<UNSIGNED, R>(x, w, pairs, start.0, next);
        let next = next.wrapping_add(pairs * DOT_BYTES);
        let high = dot_half::<UNSIGNED, R>(x, w.add(DOT_BYTES / 2), pairs, start.1, next);
        for (sum, both) in sums.iter_mut().zip(low.into_iter().zip(high)) {
            *sum = both;
        }
        sums
    }
}

/// As `dot_rows` for eight columns. Each pair of dots prefetches a cache line from `next` on: the first half of the next
/// weights while these come from memory, the second while these are in the cache.
///
/// # Safety
/// As for [`Dots`], with half of a dot's bytes.
#[inline(always)]
unsafe fn dot_half<const UNSIGNED: bool, const R: usize>(
    x: *const u32,
    w: *const u8,
    pairs: usize,
    start: __m256i,
    next: *const u8,
) -> [__m256i; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [start; R];
        for at in 0..pairs {
            let (x, w) = (x.add(at * PAIR * R), w.add(at * PAIR * DOT_BYTES));
            let weights = [load(w), load(w.add(DOT_BYTES))];
            if !UNSIGNED {
                simd::prefetch_line(next.wrapping_add(at * DOT_BYTES));
            }
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = dot_pair::<UNSIGNED, R>(*sum, x.add(r), weights);
            }
        }
        sums
    }
}

/// `sum` and the products of a pair of dots: a row's words, `R` apart, with the weights of both.
///
/// # Safety
/// As for [`Dots`].
#[inline(always)]
unsafe fn dot_pair<const UNSIGNED: bool, const R: usize>(
    sum: __m256i,
    x: *const u32,
    w: [__m256i; PAIR],
) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let first = maddubs::<UNSIGNED>(x, w[0]);
        let both = _mm256_add_epi16(first, maddubs::<UNSIGNED>(x.add(R), w[1]));
        _mm256_add_epi32(sum, _mm256_madd_epi16(both, _mm256_set1_epi16(1)))
    }
}

/// Products of a word's bytes with those of one dot, summed two by two in 16 bits.
///
/// # Safety
/// As for [`Dots`].
#[inline(always)]
unsafe fn maddubs<const UNSIGNED: bool>(x: *const u32, w: __m256i) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let x = _mm256_set1_epi32((*x).cast_signed());
        if UNSIGNED {
            _mm256_maddubs_epi16(w, x)
        } else {
            _mm256_maddubs_epi16(x, w)
        }
    }
}
