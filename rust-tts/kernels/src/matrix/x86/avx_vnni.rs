//! AVX-VNNI: `vpdpbusd` multiplies bytes and adds in 32 bits.

use std::arch::x86_64::{
    __m256, __m256i, _mm256_cvtepi32_ps, _mm256_dpbusd_avx_epi32, _mm256_set1_epi8,
    _mm256_set1_epi32, _mm256_setzero_si256,
};

use super::{load, nibbles, panels};
use crate::matrix::dots::{DOT_BYTES, Dots, PAIR};
use crate::simd::{self, LANES};

pub(crate) struct AvxVnni;

impl Dots for AvxVnni {
    type Float = simd::x86::Avx2;
    type Acc = (__m256i, __m256i);
    const TILE_I8: (usize, usize) = (6, 1);
    const MR_I4: usize = 4;
    const MAX_INPUT: i8 = i8::MAX;
    const ZERO_POINT: u8 = 128;

    #[inline(always)]
    unsafe fn dot_products<const R: usize, const P: usize>(
        x: *const u32,
        w: [*const i8; P],
        pairs: usize,
        initial: &[[i32; LANES]; P],
    ) -> [[Self::Acc; P]; R] {
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

    #[inline(always)]
    unsafe fn dot_i4<const R: usize>(w: *const u8, x: *const u32, chunks: usize) -> [Self::Acc; R] {
        unsafe {
            let low_bits = _mm256_set1_epi8(15);
            let zero = _mm256_setzero_si256();
            let mut sums = [(zero, zero); R];
            for chunk in 0..chunks {
                let [low, high] = nibbles(w.add(chunk * DOT_BYTES), low_bits);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = x.add(2 * chunk * R + r);
                    let first = _mm256_set1_epi32((*x).cast_signed());
                    let second = _mm256_set1_epi32((*x.add(R)).cast_signed());
                    sum.0 = _mm256_dpbusd_avx_epi32(sum.0, low.0, first);
                    sum.1 = _mm256_dpbusd_avx_epi32(sum.1, low.1, first);
                    sum.0 = _mm256_dpbusd_avx_epi32(sum.0, high.0, second);
                    sum.1 = _mm256_dpbusd_avx_epi32(sum.1, high.1, second);
                }
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
        for dot in 0..pairs * PAIR {
            let w = w.add(dot * DOT_BYTES);
            let (low, high) = (load(w), load(w.add(32)));
            simd::prefetch(w);
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_epi32((*x.add(dot * R + r)).cast_signed());
                *sum = if UNSIGNED {
                    (
                        _mm256_dpbusd_avx_epi32(sum.0, low, x),
                        _mm256_dpbusd_avx_epi32(sum.1, high, x),
                    )
                } else {
                    (
                        _mm256_dpbusd_avx_epi32(sum.0, x, low),
                        _mm256_dpbusd_avx_epi32(sum.1, x, high),
                    )
                };
            }
        }
        sums
    }
}
