//! With AVX2 alone, which multiplies bytes into sums of 16 bits.

use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi16, _mm256_add_epi32, _mm256_cvtepi32_ps, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_setzero_si256,
};

use super::{load, nibbles, panels};
use crate::matrix::dots::{Dots, STEP_BYTES, TOGETHER};
use crate::simd::{self, LANES};

pub(crate) struct Avx2;

/// Rows of which registers hold the sums of sixteen outputs beside two steps' weights.
const FEW_ROWS: usize = 4;

/// `vpmaddubsw` adds two products in 16 bits, and two such sums are added before they are widened. So inputs are a little
/// smaller: twice [`Dots::LARGEST`] times `MOST_TOGETHER`, or 255 times `MOST_UNSIGNED`, fits. (Widening the weights and adding with
/// `vpmaddwd` keeps all 8 bits, at two thirds of the speed.)
impl Dots for Avx2 {
    type Floats = simd::x86::Avx2;
    type Sums = (__m256i, __m256i);
    const SHAPE8: (usize, usize) = (8, 1);
    const ROWS4: usize = 4;
    const LARGEST: i8 = 90;
    const OFFSET: u8 = 90;

    #[inline(always)]
    unsafe fn products<const R: usize, const P: usize>(
        x: *const u32,
        w: [*const i8; P],
        rounds: usize,
        starts: &[[i32; LANES]; P],
    ) -> [[Self::Sums; P]; R] {
        // SAFETY: the caller's promise, here and below.
        unsafe {
            panels(
                x,
                w,
                starts,
                #[inline(always)]
                |x, w, start| sums::<false, R>(x, w, rounds, start),
            )
        }
    }

    #[inline(always)]
    unsafe fn unsigned<const R: usize>(
        x: *const u32,
        w: *const u8,
        rounds: usize,
    ) -> [Self::Sums; R] {
        unsafe {
            let zero = _mm256_setzero_si256();
            sums::<true, R>(x, w, rounds, (zero, zero))
        }
    }

    /// Eight products of 4 bits with 8 fit into 16.
    #[inline(always)]
    unsafe fn group<const R: usize>(w: *const u8, x: *const u32, chunks: usize) -> [Self::Sums; R] {
        unsafe {
            let low_bits = _mm256_set1_epi8(15);
            let ones = _mm256_set1_epi16(1);
            let zero = _mm256_setzero_si256();
            let mut sums = [(zero, zero); R];
            for chunk in 0..chunks {
                let [low, high] = nibbles(w.add(chunk * STEP_BYTES), low_bits);
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
    unsafe fn floats(sums: Self::Sums) -> (__m256, __m256) {
        unsafe { (_mm256_cvtepi32_ps(sums.0), _mm256_cvtepi32_ps(sums.1)) }
    }
}

/// Sums of some rows, of bytes at `x` with bytes at `w`, of which `UNSIGNED` says which are unsigned.
///
/// # Safety
/// As for [`Dots`].
#[inline(always)]
unsafe fn sums<const UNSIGNED: bool, const R: usize>(
    x: *const u32,
    w: *const u8,
    rounds: usize,
    start: (__m256i, __m256i),
) -> [(__m256i, __m256i); R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [start; R];
        if R <= FEW_ROWS {
            // Weights are read once, as they may come from memory.
            for at in 0..rounds {
                let (x, w) = (x.add(at * TOGETHER * R), w.add(at * TOGETHER * STEP_BYTES));
                let low = [load(w), load(w.add(STEP_BYTES))];
                let high = [load(w.add(32)), load(w.add(STEP_BYTES + 32))];
                simd::prefetch(w);
                simd::prefetch(w.add(STEP_BYTES));
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = (
                        round::<UNSIGNED, R>(sum.0, x.add(r), low),
                        round::<UNSIGNED, R>(sum.1, x.add(r), high),
                    );
                }
            }
            return sums;
        }
        let next = w.wrapping_add(rounds * TOGETHER * STEP_BYTES);
        let low = half::<UNSIGNED, R>(x, w, rounds, start.0, next);
        let next = next.wrapping_add(rounds * STEP_BYTES);
        let high = half::<UNSIGNED, R>(x, w.add(STEP_BYTES / 2), rounds, start.1, next);
        for (sum, both) in sums.iter_mut().zip(low.into_iter().zip(high)) {
            *sum = both;
        }
        sums
    }
}

/// Sums of eight outputs. With each round a line from `next` on is fetched: the first half of what comes after these weights while
/// these come from memory themselves, or the second while they are in the cache.
///
/// # Safety
/// As for [`Dots`], with half of a step's bytes.
#[inline(always)]
unsafe fn half<const UNSIGNED: bool, const R: usize>(
    x: *const u32,
    w: *const u8,
    rounds: usize,
    start: __m256i,
    next: *const u8,
) -> [__m256i; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [start; R];
        for at in 0..rounds {
            let (x, w) = (x.add(at * TOGETHER * R), w.add(at * TOGETHER * STEP_BYTES));
            let steps = [load(w), load(w.add(STEP_BYTES))];
            if !UNSIGNED {
                simd::prefetch_line(next.wrapping_add(at * STEP_BYTES));
            }
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = round::<UNSIGNED, R>(*sum, x.add(r), steps);
            }
        }
        sums
    }
}

/// `sum` and the products of a round: a row's words, `R` apart, with two steps' bytes.
///
/// # Safety
/// As for [`Dots`].
#[inline(always)]
unsafe fn round<const UNSIGNED: bool, const R: usize>(
    sum: __m256i,
    x: *const u32,
    w: [__m256i; TOGETHER],
) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let first = pairs::<UNSIGNED>(x, w[0]);
        let both = _mm256_add_epi16(first, pairs::<UNSIGNED>(x.add(R), w[1]));
        _mm256_add_epi32(sum, _mm256_madd_epi16(both, _mm256_set1_epi16(1)))
    }
}

/// Products of a word's bytes with a step's, of which `UNSIGNED` says which are unsigned, two by two.
///
/// # Safety
/// As for [`Dots`].
#[inline(always)]
unsafe fn pairs<const UNSIGNED: bool>(x: *const u32, w: __m256i) -> __m256i {
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
