//! Vectorised activations.

use crate::isa::{multiply_add, vectorised};
use crate::math::{ROUNDING_BIAS, exp};

/// Pi in three parts, of which the first two have so few bits that their products with thousands are exact.
const PI: [f32; 3] = [3.140_625, 9.675_026e-4, 1.509_958e-7];
/// `sin(r) / r - 1` in `r^2` from the highest power down, for `r` in -pi/2 to pi/2; a least-maximum fit of the sine, error 5e-9.
const SINE: [f32; 4] = [2.600_024_5e-6, -1.980_660_2e-4, 8.333_017e-3, -0.166_666_57];

/// The sine but for its sign, and a number whose lowest bit is set where that is to be turned. The error is below 2e-7 for
/// `x` up to a thousand.
#[inline(always)]
fn sine_and_turns<const FMA: bool>(x: f32) -> (f32, u32) {
    let rounded = multiply_add::<FMA>(x, std::f32::consts::FRAC_1_PI, ROUNDING_BIAS);
    let turns = rounded - ROUNDING_BIAS;
    let mut r = x;
    for part in PI {
        r = multiply_add::<FMA>(-turns, part, r);
    }
    let square = r * r;
    let mut sum = SINE[0];
    for coefficient in &SINE[1..] {
        sum = multiply_add::<FMA>(sum, square, *coefficient);
    }
    (multiply_add::<FMA>(sum * square, r, r), rounded.to_bits())
}

#[inline(always)]
pub(super) fn sin<const FMA: bool>(x: f32) -> f32 {
    let (sine, turns) = sine_and_turns::<FMA>(x);
    f32::from_bits(sine.to_bits() ^ (turns << 31))
}

#[inline(always)]
fn snake<const FMA: bool>(x: f32, alpha: f32, inverse: f32) -> f32 {
    // A square has no sign.
    let (sine, _) = sine_and_turns::<FMA>(x * alpha);
    multiply_add::<FMA>(sine * sine, inverse, x)
}

#[inline(always)]
fn snakes_in_place<const FMA: bool>(values: &mut [f32], alpha: &[f32], inverse: &[f32]) {
    for ((value, alpha), inverse) in values.iter_mut().zip(alpha).zip(inverse) {
        *value = snake::<FMA>(*value, *alpha, *inverse);
    }
}

vectorised! {
    /// `values += sin(alpha values)^2 inverse`.
    pub(super) fn snake_in_place(values: &mut [f32], alpha: &[f32], inverse: &[f32]) = snakes_in_place
}

#[inline(always)]
fn snakes<const FMA: bool>(x: &[f32], y: &mut [f32], alpha: &[f32], inverse: &[f32]) {
    let width = alpha.len();
    let inverse = &inverse[..width];
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        for channel in 0..width {
            y[channel] = snake::<FMA>(x[channel], alpha[channel], inverse[channel]);
        }
    }
}

vectorised! {
    /// `y = x + sin(alpha x)^2 inverse` for rows as wide as `alpha`.
    pub(super) fn snake_rows(x: &[f32], y: &mut [f32], alpha: &[f32], inverse: &[f32]) = snakes
}

#[inline(always)]
fn leaks<const FMA: bool>(x: &[f32], y: &mut [f32], scale: f32, slope: f32) {
    for (x, y) in x.iter().zip(y) {
        let x = x * scale;
        *y = if x < 0.0 { x * slope } else { x };
    }
}

vectorised! {
    /// `y = leaky_relu(scale x)`.
    pub(super) fn leaky(x: &[f32], y: &mut [f32], scale: f32, slope: f32) = leaks
}

#[inline(always)]
fn spectra<const FMA: bool>(x: &[f32], y: &mut [f32], bins: usize, largest: f32) {
    let spectra = y.chunks_exact_mut(2 * bins);
    for (x, y) in x.chunks_exact(2 * bins).zip(spectra) {
        let (logarithms, angles) = x.split_at(bins);
        let (real, imaginary) = y.split_at_mut(bins);
        for bin in 0..bins {
            let magnitude = exp::<FMA>(logarithms[bin]);
            let magnitude = if magnitude < largest {
                magnitude
            } else {
                largest
            };
            let phase = sin::<FMA>(angles[bin]);
            let half = sin::<FMA>(0.5 * phase);
            real[bin] = magnitude * multiply_add::<FMA>(-2.0 * half, half, 1.0);
            imaginary[bin] = magnitude * sin::<FMA>(phase);
        }
    }
}

vectorised! {
    /// Rows of `bins` logarithms of magnitudes and as many numbers whose sines are phases, to rows of real parts and
    /// imaginary ones. No magnitude is above `largest`.
    pub(super) fn spectrum(x: &[f32], y: &mut [f32], bins: usize, largest: f32) = spectra
}
