//! With AVX-VNNI, which multiplies and adds bytes in one instruction.

use std::arch::x86_64::{
    __m256, __m256i, _mm256_cvtepi32_ps, _mm256_dpbusd_avx_epi32, _mm256_set1_epi8,
    _mm256_set1_epi32, _mm256_setzero_si256,
};

use super::{load, nibbles, panels};
use crate::matrix::dots::{Dots, STEP_BYTES, TOGETHER};
use crate::simd::{self, LANES};

pub(crate) struct AvxVnni;

impl Dots for AvxVnni {
    type Floats = simd::x86::Avx2;
    type Sums = (__m256i, __m256i);
    const SHAPE8: (usize, usize) = (6, 1);
    const ROWS4: usize = 4;
    const LARGEST: i8 = i8::MAX;
    const OFFSET: u8 = 128;

    #[inline(always)]
    unsafe fn products<const R: usize, const P: usize>(
        x: *const u32,
        w: [*const i8; P],
        rounds: usize,
        starts: &[[i32; LANES]; P],
    ) -> [[Self::Sums; P]; R] {
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

    #[inline(always)]
    unsafe fn group<const R: usize>(w: *const u8, x: *const u32, chunks: usize) -> [Self::Sums; R] {
        unsafe {
            let low_bits = _mm256_set1_epi8(15);
            let zero = _mm256_setzero_si256();
            let mut sums = [(zero, zero); R];
            for chunk in 0..chunks {
                let [low, high] = nibbles(w.add(chunk * STEP_BYTES), low_bits);
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
        for step in 0..rounds * TOGETHER {
            let w = w.add(step * STEP_BYTES);
            let (low, high) = (load(w), load(w.add(32)));
            simd::prefetch(w);
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_epi32((*x.add(step * R + r)).cast_signed());
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
