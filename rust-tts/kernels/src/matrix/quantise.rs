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

/// Inputs that are treated at a time: whole groups of 4-bit weights.
const CHUNK: usize = 512;

/// Calls `take(step, word)` for each step of `row`, whose scale has this inverse: four bytes, moved up by `offset`; the last one
/// is filled up with zeros.
#[inline(always)]
pub(crate) fn each_step(row: &[f32], inverse: f32, offset: u8, mut take: impl FnMut(usize, u32)) {
    // Rounding into memory first is what the compiler vectorises.
    let mut bytes = [0; CHUNK];
    for (index, chunk) in row.chunks(CHUNK).enumerate() {
        for (byte, x) in bytes.iter_mut().zip(chunk) {
            *byte = round(x * inverse).wrapping_add(i32::from(offset)) as u8;
        }
        let steps = chunk.len().div_ceil(STEP);
        bytes[chunk.len()..steps * STEP].fill(offset);
        for (step, bytes) in bytes.as_chunks().0.iter().take(steps).enumerate() {
            take(index * CHUNK / STEP + step, u32::from_le_bytes(*bytes));
        }
    }
}
