//! Vectorised activations and layer norms.

use super::{ROWS, chunks};
use crate::isa::{multiply_add, vectorised};
use crate::math::exp;
use crate::pool::Pool;

/// What `torch.nn.LayerNorm` adds to the variance.
const EPSILON: f32 = 1e-5;
/// Lanes of a row's sum: two of the widest registers.
const PARTS: usize = 32;

/// `x tanh(log(1 + e^x))` (arXiv 1908.08681).
#[inline(always)]
fn mish<const FMA: bool>(x: f32) -> f32 {
    // From 20 on it is x to the last bit; the square of what is beyond 44 would overflow.
    let e = exp::<FMA>(if x < 20.0 { x } else { 20.0 });
    let n = e * (e + 2.0);
    x * (n / (n + 2.0))
}

/// `x Phi(x)` with the normal distribution's own `Phi` (arXiv 1606.08415).
#[inline(always)]
fn gelu<const FMA: bool>(x: f32) -> f32 {
    // erf by Abramowitz and Stegun, 7.1.26, whose error is below 1.5e-7.
    const TERMS: [f32; 5] = [
        1.061_405_4,
        -1.453_152,
        1.421_413_8,
        -0.284_496_74,
        0.254_829_6,
    ];
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / multiply_add::<FMA>(0.327_591_1, z, 1.0);
    let mut sum = TERMS[0];
    for term in &TERMS[1..] {
        sum = multiply_add::<FMA>(sum, t, *term);
    }
    // 1 - erf, which keeps its digits where x is far below 0.
    let rest = sum * t * exp::<FMA>(-z * z);
    0.5 * x * if x < 0.0 { rest } else { 2.0 - rest }
}

#[inline(always)]
fn biased_gelu<const FMA: bool>(values: &mut [f32], bias: &[f32]) {
    for (value, bias) in values.iter_mut().zip(bias) {
        *value = gelu::<FMA>(*value + bias);
    }
}

vectorised! {
    /// `values = gelu(values + bias)`.
    pub(super) fn add_and_gelu(values: &mut [f32], bias: &[f32]) = biased_gelu
}

#[inline(always)]
fn sum_of_three<const FMA: bool>(values: &mut [f32], bias: &[f32], others: &[f32]) {
    for ((value, bias), other) in values.iter_mut().zip(bias).zip(others) {
        *value += bias + other;
    }
}

vectorised! {
    /// `values += bias + others`.
    pub(super) fn add_both(values: &mut [f32], bias: &[f32], others: &[f32]) = sum_of_three
}

/// A layer norm over a row's channels, with gain and bias.
pub struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    /// `gain` and `bias` have as many elements as a row.
    pub fn new(gain: Vec<f32>, bias: Vec<f32>) -> Self {
        Self { gain, bias }
    }

    /// Whether it is one of rows of `width` channels.
    pub(super) fn fits(&self, width: usize) -> bool {
        width > 0 && self.gain.len() == width && self.bias.len() == width
    }

    /// Normalises the rows of `x` into those of `y`.
    pub(super) fn run(&self, pool: &Pool, x: &[f32], y: &mut [f32]) {
        self.each(pool, x, y, &|x, y| normalise(x, y, &self.gain, &self.bias));
    }

    /// `y = mish(norm(x)) + bias`, the same bias for every row.
    pub(super) fn run_mish(&self, pool: &Pool, x: &[f32], y: &mut [f32], bias: &[f32]) {
        self.each(pool, x, y, &|x, y| {
            normalise_mish(x, y, &self.gain, &self.bias, bias);
        });
    }

    fn each(
        &self,
        pool: &Pool,
        x: &[f32],
        y: &mut [f32],
        work: &(dyn Fn(&[f32], &mut [f32]) + Sync),
    ) {
        let size = ROWS * self.gain.len();
        chunks(pool, y, size, &|index, y| {
            work(&x[index * size..][..y.len()], y);
        });
    }
}

#[inline(always)]
fn normalised<const FMA: bool>(x: &[f32], y: &mut [f32], gain: &[f32], bias: &[f32]) {
    let width = gain.len();
    let bias = &bias[..width];
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let mean = total(x, |value| value) / width as f32;
        let variance = total(x, |value| (value - mean) * (value - mean)) / width as f32;
        let scale = 1.0 / (variance + EPSILON).sqrt();
        for channel in 0..width {
            let value = (x[channel] - mean) * scale;
            y[channel] = multiply_add::<FMA>(value, gain[channel], bias[channel]);
        }
    }
}

vectorised! {
    fn normalise(x: &[f32], y: &mut [f32], gain: &[f32], bias: &[f32]) = normalised
}

#[inline(always)]
fn normalised_mish<const FMA: bool>(
    x: &[f32],
    y: &mut [f32],
    gain: &[f32],
    bias: &[f32],
    after: &[f32],
) {
    normalised::<FMA>(x, y, gain, bias);
    for y in y.chunks_exact_mut(gain.len()) {
        for (y, after) in y.iter_mut().zip(after) {
            *y = mish::<FMA>(*y) + after;
        }
    }
}

vectorised! {
    fn normalise_mish(x: &[f32], y: &mut [f32], gain: &[f32], bias: &[f32], after: &[f32]) = normalised_mish
}

#[inline(always)]
fn total(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (wide, rest) = values.as_chunks::<PARTS>();
    let mut parts = [0.0; PARTS];
    for chunk in wide {
        for (part, value) in parts.iter_mut().zip(chunk) {
            *part += of(*value);
        }
    }
    let mut sum: f32 = rest.iter().map(|value| of(*value)).sum();
    for part in parts {
        sum += part;
    }
    sum
}
