//! Inputs as bytes.

use super::dots::STEP;

/// Added to a small number, it leaves the nearest integer (ties to even) in the low bits.
const ROUND: f32 = 12_582_912.0;

/// How far apart the values are that `row`'s numbers are rounded to if the largest becomes `largest`, and the inverse of that;
/// zeros if all are zero, NaN if one of them is none or has no bound: bytes could not tell it.
#[inline(always)]
pub(crate) fn scale(row: &[f32], largest: i8) -> (f32, f32) {
    let largest = f32::from(largest);
    let mut most = [0.0_f32; 32];
    // Comparing passes over what is not a number; a product with zero does not.
    let mut zeros = [0.0_f32; 32];
    let chunks = row.chunks_exact(most.len());
    for ((most, zero), x) in most.iter_mut().zip(&mut zeros).zip(chunks.remainder()) {
        *most = x.abs();
        *zero = x * 0.0;
    }
    for chunk in chunks {
        for ((most, zero), x) in most.iter_mut().zip(&mut zeros).zip(chunk) {
            *most = if x.abs() > *most { x.abs() } else { *most };
            *zero += x * 0.0;
        }
    }
    let most = most.iter().fold(0.0_f32, |a, &b| a.max(b));
    if zeros.iter().sum::<f32>().is_nan() {
        (f32::NAN, f32::NAN)
    } else if most > 0.0 {
        (most / largest, largest / most)
    } else {
        (0.0, 0.0)
    }
}

/// The nearest integer to `x`, which must be between -2^21 and 2^21.
#[inline(always)]
pub(crate) fn round(x: f32) -> i32 {
    (x + ROUND)
        .to_bits()
        .cast_signed()
        .wrapping_sub(ROUND.to_bits().cast_signed())
}

/// The bytes of numbers whose scale has this inverse.
#[inline(always)]
pub(crate) fn quantise<const N: usize>(x: &[f32; N], inverse: f32) -> [i8; N] {
    let mut bytes = [0; N];
    for (byte, x) in bytes.iter_mut().zip(x) {
        *byte = round(x * inverse) as i8;
    }
    bytes
}

/// Calls `take(step, bytes)` for the bytes of each step of `row`; the last one is filled up with zeros.
#[inline(always)]
pub(crate) fn each_step(row: &[f32], inverse: f32, mut take: impl FnMut(usize, [i8; STEP])) {
    const CHUNK: usize = 32;
    let chunks = row.chunks_exact(CHUNK);
    let rest = chunks.remainder();
    let mut step = 0;
    let mut last = [0.0; CHUNK];
    last[..rest.len()].copy_from_slice(rest);
    let whole = chunks.filter_map(|chunk| <&[f32; CHUNK]>::try_from(chunk).ok());
    for (chunk, steps) in whole
        .map(|chunk| (chunk, CHUNK / STEP))
        .chain([(&last, rest.len().div_ceil(STEP))])
    {
        let bytes = quantise(chunk, inverse);
        for bytes in bytes.as_chunks::<STEP>().0.iter().take(steps) {
            take(step, *bytes);
            step += 1;
        }
    }
}
