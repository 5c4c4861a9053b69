//! Elementary functions that the compiler can vectorise, for use inside of `vectorised!`.

use crate::isa::{multiply_add, vectorised};

/// 1.5 * 2^23: adding it rounds to the nearest integer, which the low bits of the sum then hold.
pub(crate) const ROUNDING_BIAS: f32 = 12_582_912.0;
/// `2^f` for `f` in -0.5 to 0.5, from the highest power down; a Chebyshev fit, relative error 3e-9 before rounding.
const POWERS: [f32; 7] = [
    0.000_154_697_32,
    0.001_340_043_2,
    0.009_618_026,
    0.055_503_27,
    0.240_226_5,
    std::f32::consts::LN_2,
    1.0,
];

/// `2^x`; below -126 as at -126, above 126 as at 126.
#[inline(always)]
pub(crate) fn exp2<const FMA: bool>(x: f32) -> f32 {
    let x = if x > -126.0 { x } else { -126.0 };
    let x = if x < 126.0 { x } else { 126.0 };
    let rounded = x + ROUNDING_BIAS;
    let f = x - (rounded - ROUNDING_BIAS);
    let mut power = POWERS[0];
    for coefficient in &POWERS[1..] {
        power = multiply_add::<FMA>(power, f, *coefficient);
    }
    power * f32::from_bits(rounded.to_bits().wrapping_add(127) << 23)
}

/// `e^x`, as far as `exp2` goes. The relative error grows with `x`, by 1e-7 for each of it.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    exp2::<FMA>(x * std::f32::consts::LOG2_E)
}

#[inline(always)]
fn sums<const FMA: bool>(values: &mut [f32], others: &[f32]) {
    for (value, other) in values.iter_mut().zip(others) {
        *value += other;
    }
}

vectorised! {
    /// `values += others`.
    pub(crate) fn add(values: &mut [f32], others: &[f32]) = sums
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn test_exp_matches_f64() {
        for n in -8700..=8700_i16 {
            let x = f32::from(n) / 100.0;
            let exact = f64::from(x).exp();
            for found in [exp::<true>(x), exp::<false>(x)] {
                let error = (f64::from(found) - exact).abs() / exact;
                let bound = 2e-7 + 1e-7 * f64::from(x.abs());
                assert!(error < bound, "exp({x}) is off by {error:e}");
            }
        }
    }
}
