//! Products of small integers on x86-64.

use std::arch::x86_64::{
    __m256, __m256i, __m512, __m512i, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256,
    _mm256_cvtepi32_ps, _mm256_dpbusd_avx_epi32, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_srli_epi16, _mm512_and_si512, _mm512_cvtepi32_ps,
    _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_srli_epi16,
};

use super::dots::{DotTask, Dots, STEP_BYTES};
use crate::simd;

#[target_feature(enable = "avx2,fma")]
pub(super) fn run_avx2<T: DotTask>(task: T) {
    task.run::<Avx2>();
}

#[target_feature(enable = "avxvnni,avx2,fma")]
pub(super) fn run_avx_vnni<T: DotTask>(task: T) {
    task.run::<AvxVnni>();
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
pub(super) fn run_avx512_vnni<T: DotTask>(task: T) {
    task.run::<Avx512Vnni>();
}

pub(crate) struct Avx2;
pub(crate) struct AvxVnni;
pub(crate) struct Avx512Vnni;

#[inline(always)]
unsafe fn load(p: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_si256(p.cast()) }
}

/// The low and the high halves of [`STEP_BYTES`] bytes.
#[inline(always)]
unsafe fn nibbles(p: *const u8, low_bits: __m256i) -> [(__m256i, __m256i); 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let (first, last) = (load(p), load(p.add(32)));
        [
            (
                _mm256_and_si256(first, low_bits),
                _mm256_and_si256(last, low_bits),
            ),
            (
                _mm256_and_si256(_mm256_srli_epi16::<4>(first), low_bits),
                _mm256_and_si256(_mm256_srli_epi16::<4>(last), low_bits),
            ),
        ]
    }
}

/// `vpmaddubsw` adds two products in 16 bits, so inputs are a little smaller: twice [`Dots::LARGEST`] times [`MOST_PAIR`]
/// fits. (Widening the weights and adding with `vpmaddwd` keeps all 8 bits, at three quarters of the speed.)
impl Dots for Avx2 {
    type Floats = simd::x86::Avx2;
    type Sums = (__m256i, __m256i);
    type Weights = (__m256i, __m256i);
    const SHAPE8: (usize, usize) = (6, 1);
    const ROWS4: usize = 4;
    const LARGEST: i8 = 90;
    const OFFSET: u8 = 90;

    #[inline(always)]
    unsafe fn sums(p: *const i32) -> Self::Sums {
        // SAFETY: the caller's promise, here and below.
        unsafe { (load(p.cast()), load(p.add(8).cast())) }
    }

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> Self::Weights {
        unsafe { (load(p.cast()), load(p.add(32).cast())) }
    }

    #[inline(always)]
    unsafe fn dot(x: *const u32, w: Self::Weights, sums: Self::Sums) -> Self::Sums {
        unsafe {
            let x = _mm256_set1_epi32((*x).cast_signed());
            let ones = _mm256_set1_epi16(1);
            let low = _mm256_madd_epi16(_mm256_maddubs_epi16(x, w.0), ones);
            let high = _mm256_madd_epi16(_mm256_maddubs_epi16(x, w.1), ones);
            (
                _mm256_add_epi32(sums.0, low),
                _mm256_add_epi32(sums.1, high),
            )
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

impl Dots for AvxVnni {
    type Floats = simd::x86::Avx2;
    type Sums = (__m256i, __m256i);
    type Weights = (__m256i, __m256i);
    const SHAPE8: (usize, usize) = (6, 1);
    const ROWS4: usize = 4;
    const LARGEST: i8 = i8::MAX;
    const OFFSET: u8 = 128;

    #[inline(always)]
    unsafe fn sums(p: *const i32) -> Self::Sums {
        unsafe { (load(p.cast()), load(p.add(8).cast())) }
    }

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> Self::Weights {
        unsafe { (load(p.cast()), load(p.add(32).cast())) }
    }

    #[inline(always)]
    unsafe fn dot(x: *const u32, w: Self::Weights, sums: Self::Sums) -> Self::Sums {
        unsafe {
            let x = _mm256_set1_epi32((*x).cast_signed());
            (
                _mm256_dpbusd_avx_epi32(sums.0, x, w.0),
                _mm256_dpbusd_avx_epi32(sums.1, x, w.1),
            )
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

impl Dots for Avx512Vnni {
    type Floats = simd::x86::Avx512;
    type Sums = __m512i;
    type Weights = __m512i;
    const SHAPE8: (usize, usize) = (12, 2);
    const ROWS4: usize = 12;
    const LARGEST: i8 = i8::MAX;
    const OFFSET: u8 = 128;

    #[inline(always)]
    unsafe fn sums(p: *const i32) -> Self::Sums {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> Self::Weights {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }

    #[inline(always)]
    unsafe fn dot(x: *const u32, w: Self::Weights, sums: Self::Sums) -> Self::Sums {
        unsafe { _mm512_dpbusd_epi32(sums, _mm512_set1_epi32((*x).cast_signed()), w) }
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
