//! The softmax, in bytes.

use crate::isa::multiply_add;
use crate::math::{ROUNDER, exp2};
use crate::matrix::dots::{Dots, STEP};
use crate::simd::{LANES, Simd};

/// The largest weight.
const LARGEST: f32 = 255.0;
/// The logarithm to base 2 of a weight that is surely none.
const LEAST: f32 = -30.0;
/// `2^f` for `f` in -0.5 to 0.5, from the highest power down: relative error 7.5e-5, of the largest weight a fiftieth.
const POWERS: [f32; 4] = [0.055_171_67, 0.242_611_14, 0.693_261, 0.999_928_07];

/// What a softmax is so far, for each query.
pub(super) struct Softmax {
    /// The greatest score, to base 2.
    greatest: [f32; LANES],
    /// Of the weights relative to that.
    pub sums: [f32; LANES],
}

impl Softmax {
    pub(super) fn new() -> Self {
        Self {
            greatest: [f32::NEG_INFINITY; LANES],
            sums: [0.0; LANES],
        }
    }

    /// Turns rows of scores, of which `units` make logarithms to base 2, into words of weights relative to the greatest so
    /// far; words beyond the last row are zeros. Gives the factor by which whatever was found with the greatest before shrinks.
    #[inline(always)]
    pub(super) fn add<D: Dots>(
        &mut self,
        scores: &[[f32; LANES]],
        units: &[f32; LANES],
        words: &mut [[u32; LANES]],
    ) -> [f32; LANES] {
        let mut most = [f32::MIN; LANES];
        for scores in scores {
            for (most, score) in most.iter_mut().zip(scores) {
                *most = if *score > *most { *score } else { *most };
            }
        }
        let mut shrink = [0.0; LANES];
        let mut base = [0.0; LANES];
        for lane in 0..LANES {
            let now = self.greatest[lane].max(most[lane] * units[lane]);
            shrink[lane] = power::<D>(self.greatest[lane] - now);
            // The greatest score comes out as its weight's logarithm, however large it is: differences are taken first.
            base[lane] = LARGEST.log2() - (now - most[lane] * units[lane]);
            self.greatest[lane] = now;
        }
        let mut total = [0_u32; LANES];
        let (whole, rest) = scores.as_chunks::<STEP>();
        let (full, others) = words.split_at_mut(whole.len());
        for (word, scores) in full.iter_mut().zip(whole) {
            *word = weights::<D, STEP>(scores, &most, units, &base, &mut total);
        }
        others.fill([0; LANES]);
        for (byte, score) in rest.iter().enumerate() {
            let weight = weights::<D, 1>(&[*score], &most, units, &base, &mut total);
            for (word, weight) in others[0].iter_mut().zip(weight) {
                *word |= weight << (8 * byte);
            }
        }
        let moved = (scores.len() as u32).wrapping_mul(ROUNDER.to_bits());
        for lane in 0..LANES {
            let total = total[lane].wrapping_sub(moved);
            self.sums[lane] = self.sums[lane] * shrink[lane] + total as f32;
        }
        shrink
    }
}

/// The words of `N` rows' weights, of which `base` is the logarithm to base 2 of that of the score `most`. They are added to
/// `total`, each with the bits of [`ROUNDER`].
#[inline(always)]
fn weights<D: Dots, const N: usize>(
    scores: &[[f32; LANES]; N],
    most: &[f32; LANES],
    units: &[f32; LANES],
    base: &[f32; LANES],
    total: &mut [u32; LANES],
) -> [u32; LANES] {
    let mut words = [0; LANES];
    for (byte, scores) in scores.iter().enumerate() {
        for lane in 0..LANES {
            let below = scores[lane] - most[lane];
            let x = if D::Floats::FMA {
                multiply_add::<true>(below, units[lane], base[lane])
            } else {
                multiply_add::<false>(below, units[lane], base[lane])
            };
            let x = if x > LEAST { x } else { LEAST };
            let whole = x + ROUNDER;
            let f = x - (whole - ROUNDER);
            let mut power = POWERS[0];
            for coefficient in &POWERS[1..] {
                power = if D::Floats::FMA {
                    multiply_add::<true>(power, f, *coefficient)
                } else {
                    multiply_add::<false>(power, f, *coefficient)
                };
            }
            // The exponent's bits are the highest: adding to them multiplies by a power of two.
            let weight = power.to_bits().wrapping_add(whole.to_bits() << 23);
            let rounded = (f32::from_bits(weight) + ROUNDER).to_bits();
            total[lane] = total[lane].wrapping_add(rounded);
            words[lane] ^= (rounded ^ ROUNDER.to_bits()) << (8 * byte);
        }
    }
    words
}

#[inline(always)]
fn power<D: Dots>(x: f32) -> f32 {
    if D::Floats::FMA {
        exp2::<true>(x)
    } else {
        exp2::<false>(x)
    }
}
