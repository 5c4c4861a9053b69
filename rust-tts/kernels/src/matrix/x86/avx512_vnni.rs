//! AVX-512 VNNI: as AVX-VNNI with wider registers, and more of them.

use std::arch::x86_64::{
    __m512, __m512i, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_loadu_si512,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_srli_epi16,
};

use crate::matrix::dots::{DOT_BYTES, Dots, PAIR};
use crate::simd::{self, LANES};

pub(crate) struct Avx512Vnni;

impl Dots for Avx512Vnni {
    type Float = simd::x86::Avx512;
    type Acc = __m512i;
    const TILE_I8: (usize, usize) = (12, 2);
    const MR_I4: usize = 12;
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
            let initial = initial.each_ref().map(
                #[inline(always)]
                |start| _mm512_loadu_si512(start.as_ptr().cast()),
            );
            let mut sums = [initial; R];
            for dot in 0..pairs * PAIR {
                for p in 0..P {
                    let w = w[p].wrapping_add(dot * DOT_BYTES);
                    let weights = _mm512_loadu_si512(w.cast());
                    simd::prefetch(w);
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let x = _mm512_set1_epi32((*x.add(dot * R + r)).cast_signed());
                        sums[p] = _mm512_dpbusd_epi32(sums[p], x, weights);
                    }
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn dot_u8<const R: usize>(x: *const u32, w: *const u8, pairs: usize) -> [Self::Acc; R] {
        unsafe {
            let mut sums = [_mm512_setzero_si512(); R];
            for dot in 0..pairs * PAIR {
                let bytes = _mm512_loadu_si512(w.add(dot * DOT_BYTES).cast());
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_epi32((*x.add(dot * R + r)).cast_signed());
                    *sum = _mm512_dpbusd_epi32(*sum, bytes, x);
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn dot_i4<const R: usize>(w: *const u8, x: *const u32, chunks: usize) -> [Self::Acc; R] {
        unsafe {
            let low_bits = _mm512_set1_epi8(15);
            let mut sums = [_mm512_setzero_si512(); R];
            for chunk in 0..chunks {
                let both = _mm512_loadu_si512(w.add(chunk * DOT_BYTES).cast());
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
    unsafe fn to_f32(sums: Self::Acc) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
}
