//! Integer dot products on x86-64.

mod avx2;
mod avx512_vnni;
mod avx_vnni;

use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_loadu_si256, _mm256_setzero_si256, _mm256_srli_epi16,
};

use crate::matrix::dots::DotTask;
use crate::simd::LANES;
use avx_vnni::AvxVnni;
use avx2::Avx2;
use avx512_vnni::Avx512Vnni;

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

#[inline(always)]
unsafe fn load(p: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_si256(p.cast()) }
}

/// The low and the high nibbles of the bytes of 4-bit weights.
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

/// Calls `dot_rows` for each of `P` panels.
#[inline(always)]
unsafe fn panels<const R: usize, const P: usize>(
    x: *const u32,
    w: [*const i8; P],
    initial: &[[i32; LANES]; P],
    dot_rows: impl Fn(*const u32, *const u8, (__m256i, __m256i)) -> [(__m256i, __m256i); R],
) -> [[(__m256i, __m256i); P]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = _mm256_setzero_si256();
        let mut all = [[(zero, zero); P]; R];
        for p in 0..P {
            let start = initial[p].as_ptr().cast();
            let start = (load(start), load(start.add(32)));
            for (all, sum) in all.iter_mut().zip(dot_rows(x, w[p].cast(), start)) {
                all[p] = sum;
            }
        }
        all
    }
}
