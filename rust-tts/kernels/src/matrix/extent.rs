//! How large numbers are that become bytes.

use super::dots::{STEP, TOGETHER};

/// Inputs of a round, after which a processor's sums of 16 bits must be widened.
pub(crate) const ROUND: usize = STEP * TOGETHER;

/// What rounding may add to four numbers.
const ROUNDED: i32 = 2;

/// How large numbers are, and those of one sign among the ones that are added in 16 bits; a column each.
pub(crate) struct Extent<const N: usize> {
    single: [f32; N],
    together: [f32; N],
    /// Sums of products with zero: NaN if a number is none or has no bound. Comparing passes over what is not a number.
    zeros: [f32; N],
}

impl<const N: usize> Extent<N> {
    pub(crate) const NONE: Self = Self {
        single: [0.0; N],
        together: [0.0; N],
        zeros: [0.0; N],
    };

    /// Takes the lines of a round into account.
    #[inline(always)]
    pub(crate) fn add(&mut self, lines: [&[f32; N]; ROUND]) {
        // Every second pair of inputs of each step is added.
        for first in [0, 2] {
            let (mut above, mut below) = ([0.0; N], [0.0; N]);
            for line in [first, first + 1, first + STEP, first + STEP + 1] {
                for (column, &value) in lines[line].iter().enumerate() {
                    above[column] += larger(value, 0.0);
                    below[column] += larger(-value, 0.0);
                    self.single[column] = larger(value.abs(), self.single[column]);
                    self.zeros[column] += value * 0.0;
                }
            }
            for ((together, above), below) in self.together.iter_mut().zip(above).zip(below) {
                *together = larger(larger(above, below), *together);
            }
        }
    }

    /// How far apart the values are that numbers are rounded to so that those that are added come to `most` at most: 0 if all
    /// are zeros, NaN if one is not finite.
    #[inline(always)]
    pub(crate) fn units(&self, most: i32) -> [f32; N] {
        std::array::from_fn(
            #[inline(always)]
            |column| {
                let together = self.together[column] / (most - ROUNDED) as f32;
                let single = self.single[column] / f32::from(i8::MAX);
                larger(together, single) + self.zeros[column]
            },
        )
    }
}

/// What numbers are multiplied by for a unit that [`Extent::units`] gives: 0 for 0.
#[inline(always)]
pub(crate) fn inverse(unit: f32) -> f32 {
    if unit == 0.0 { 0.0 } else { unit.recip() }
}

/// The larger one; `b` if `a` is not a number. (`f32::max` is several instructions.)
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
