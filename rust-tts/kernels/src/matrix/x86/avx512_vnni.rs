//! With AVX-512's VNNI, which has wider registers, and more of them.

use std::arch::x86_64::{
    __m512, __m512i, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_loadu_si512,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_srli_epi16,
};

use crate::matrix::dots::{Dots, STEP_BYTES, TOGETHER};
use crate::simd::{self, LANES};

pub(crate) struct Avx512Vnni;

impl Dots for Avx512Vnni {
    type Floats = simd::x86::Avx512;
    type Sums = __m512i;
    const SHAPE8: (usize, usize) = (12, 2);
    const ROWS4: usize = 12;
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
            let starts = starts.each_ref().map(
                #[inline(always)]
                |start| _mm512_loadu_si512(start.as_ptr().cast()),
            );
            let mut sums = [starts; R];
            for step in 0..rounds * TOGETHER {
                for p in 0..P {
                    let w = w[p].wrapping_add(step * STEP_BYTES);
                    let weights = _mm512_loadu_si512(w.cast());
                    simd::prefetch(w);
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let x = _mm512_set1_epi32((*x.add(step * R + r)).cast_signed());
                        sums[p] = _mm512_dpbusd_epi32(sums[p], x, weights);
                    }
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn unsigned<const R: usize>(
        x: *const u32,
        w: *const u8,
        rounds: usize,
    ) -> [Self::Sums; R] {
        unsafe {
            let mut sums = [_mm512_setzero_si512(); R];
            for step in 0..rounds * TOGETHER {
                let bytes = _mm512_loadu_si512(w.add(step * STEP_BYTES).cast());
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_epi32((*x.add(step * R + r)).cast_signed());
                    *sum = _mm512_dpbusd_epi32(*sum, bytes, x);
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn group<const R: usize>(w: *const u8, x: *const u32, chunks: usize) -> [Self::Sums; R] {
        unsafe {
            let low_bits = _mm512_set1_epi8(15);
            let mut sums = [_mm512_setzero_si512(); R];
            for chunk in 0..chunks {
                let both = _mm512_loadu_si512(w.add(chunk * STEP_BYTES).cast());
                let low = _mm512_and_si512(both, low_bits);
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(both), low_bits);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = x.add(2 * chunk * R + r);
                    let first = _mm512_set1_epi32((*x).cast_signed());
                    let second = _mm512_set1_epi32((*x.add(R)).cast_signed());
                    *sum = _mm512_dpbusd_epi32(*sum, low, first);
                    *sum = _mm512_dpbusd_epi32(*sum, high, second);
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn floats(sums: Self::Sums) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
}
