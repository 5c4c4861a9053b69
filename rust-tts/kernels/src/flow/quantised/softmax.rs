//! The online softmax, with weights of 8 bits.

use crate::isa::multiply_add;
use crate::math::{ROUNDING_BIAS, exp2};
use crate::matrix::dots::{DOT, Dots};
use crate::simd::{LANES, Simd};

/// The largest weight.
const MAX_WEIGHT: f32 = 255.0;
/// The logarithm to base 2 of a weight that surely rounds to 0.
const MIN_EXPONENT: f32 = -30.0;
/// `2^f` for `f` in -0.5 to 0.5, from the highest power down: relative error 7.5e-5, of the largest weight a fiftieth.
const POWERS: [f32; 4] = [0.055_171_67, 0.242_611_14, 0.693_261, 0.999_928_07];

/// The state of a softmax over the blocks so far, for each query.
pub(super) struct Softmax {
    /// The largest score, to base 2.
    max_score: [f32; LANES],
    /// The sum of the weights relative to it.
    pub sums: [f32; LANES],
}

impl Softmax {
    pub(super) fn new() -> Self {
        Self {
            max_score: [f32::NEG_INFINITY; LANES],
            sums: [0.0; LANES],
        }
    }

    /// Turns rows of scores, which times `score_scales` are logarithms to base 2, into words of weights relative to the largest
    /// score so far; words beyond the last row are zeros. Returns the factor that corrects what was accumulated before.
    #[inline(always)]
    pub(super) fn add<D: Dots>(
        &mut self,
        scores: &[[f32; LANES]],
        score_scales: &[f32; LANES],
        words: &mut [[u32; LANES]],
    ) -> [f32; LANES] {
        let mut block_max = [f32::MIN; LANES];
        for scores in scores {
            for (block_max, score) in block_max.iter_mut().zip(scores) {
                *block_max = if *score > *block_max {
                    *score
                } else {
                    *block_max
                };
            }
        }
        let mut correction = [0.0; LANES];
        let mut base = [0.0; LANES];
        for lane in 0..LANES {
            let now = self.max_score[lane].max(block_max[lane] * score_scales[lane]);
            correction[lane] = power::<D>(self.max_score[lane] - now);
            // The largest score comes out as its weight's logarithm, however large it is: differences are taken first.
            base[lane] = MAX_WEIGHT.log2() - (now - block_max[lane] * score_scales[lane]);
            self.max_score[lane] = now;
        }
        let mut total = [0_u32; LANES];
        let (whole, rest) = scores.as_chunks::<DOT>();
        let (full, others) = words.split_at_mut(whole.len());
        for (word, scores) in full.iter_mut().zip(whole) {
            *word = weights::<D, DOT>(scores, &block_max, score_scales, &base, &mut total);
        }
        others.fill([0; LANES]);
        for (byte, score) in rest.iter().enumerate() {
            let weight = weights::<D, 1>(&[*score], &block_max, score_scales, &base, &mut total);
            for (word, weight) in others[0].iter_mut().zip(weight) {
                *word |= weight << (8 * byte);
            }
        }
        let bias = (scores.len() as u32).wrapping_mul(ROUNDING_BIAS.to_bits());
        for lane in 0..LANES {
            let total = total[lane].wrapping_sub(bias);
            self.sums[lane] = self.sums[lane] * correction[lane] + total as f32;
        }
        correction
    }
}

/// The words of `N` rows' weights, of which `base` is the logarithm to base 2 of that of the score `block_max`. They are added to
/// `total`, each with the bits of [`ROUNDING_BIAS`].
#[inline(always)]
fn weights<D: Dots, const N: usize>(
    scores: &[[f32; LANES]; N],
    block_max: &[f32; LANES],
    score_scales: &[f32; LANES],
    base: &[f32; LANES],
    total: &mut [u32; LANES],
) -> [u32; LANES] {
    let mut words = [0; LANES];
    for (byte, scores) in scores.iter().enumerate() {
        for lane in 0..LANES {
            let below = scores[lane] - block_max[lane];
            let x = if D::Float::FMA {
                multiply_add::<true>(below, score_scales[lane], base[lane])
            } else {
                multiply_add::<false>(below, score_scales[lane], base[lane])
            };
            let x = if x > MIN_EXPONENT { x } else { MIN_EXPONENT };
            let whole = x + ROUNDING_BIAS;
            let f = x - (whole - ROUNDING_BIAS);
            let mut power = POWERS[0];
            for coefficient in &POWERS[1..] {
                power = if D::Float::FMA {
                    multiply_add::<true>(power, f, *coefficient)
                } else {
                    multiply_add::<false>(power, f, *coefficient)
                };
            }
            // The exponent's bits are the highest: adding to them multiplies by a power of two.
            let weight = power.to_bits().wrapping_add(whole.to_bits() << 23);
            let rounded = (f32::from_bits(weight) + ROUNDING_BIAS).to_bits();
            total[lane] = total[lane].wrapping_add(rounded);
            words[lane] ^= (rounded ^ ROUNDING_BIAS.to_bits()) << (8 * byte);
        }
    }
    words
}

#[inline(always)]
fn power<D: Dots>(x: f32) -> f32 {
    if D::Float::FMA {
        exp2::<true>(x)
    } else {
        exp2::<false>(x)
    }
}
