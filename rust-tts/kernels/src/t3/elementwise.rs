//! Norms and activations, of each position by itself.

use crate::isa::{multiply_add, vectorised};
use crate::math::exp;
use crate::pool::Pool;
use crate::shared::SharedSlice;

/// Added to variances, in all of T3's norms.
const EPSILON: f32 = 1e-5;
/// Sums are taken in this many lanes, on every machine.
const LANES: usize = 16;
/// Positions of a task; fewer are not worth a second thread.
const POSITIONS: usize = 8;
/// Gates and values of a gated layer are interleaved in runs of so many outputs.
pub(super) const GATES: usize = 8;

vectorised! {
    /// `out = x / rms(x) * weight`.
    fn rms_norm(x: &[f32], weight: &[f32], out: &mut [f32]) = rms_norm_body
}

vectorised! {
    /// `out = (x - mean) / deviation * weight + bias`.
    fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) = layer_norm_body
}

vectorised! {
    /// `values = gelu(values + bias)`, in GPT-2's approximation by the hyperbolic tangent.
    pub(super) fn gelu(values: &mut [f32], bias: &[f32]) = gelu_body
}

vectorised! {
    /// `out = silu(gates) * values`, of `both`, in which runs of `GATES` gates and as many values alternate.
    pub(super) fn gated(both: &[f32], out: &mut [f32]) = gated_body
}

/// Weights of a norm.
#[derive(Clone, Debug)]
pub enum Norm {
    /// Llama's: scales by the root of the mean square.
    Rms { weight: Vec<f32> },
    /// GPT-2's.
    Layer { weight: Vec<f32>, bias: Vec<f32> },
}

impl Norm {
    pub(super) fn fits(&self, width: usize) -> bool {
        match self {
            Self::Rms { weight } => weight.len() == width,
            Self::Layer { weight, bias } => weight.len() == width && bias.len() == width,
        }
    }

    /// Norms each position of `x` `[positions, width]`.
    pub(super) fn apply(&self, pool: &Pool, x: &[f32], out: &mut [f32]) {
        let width = match self {
            Self::Rms { weight } | Self::Layer { weight, .. } => weight.len(),
        };
        let run = POSITIONS * width;
        if x.len() <= run {
            return self.positions(x, out, width);
        }
        let shared = SharedSlice::new(out);
        pool.run(x.len().div_ceil(run), &|task| {
            let x = &x[task * run..];
            let x = &x[..run.min(x.len())];
            // SAFETY: tasks have positions of their own.
            self.positions(x, unsafe { shared.slice(task * run, x.len()) }, width);
        });
    }

    fn positions(&self, x: &[f32], out: &mut [f32], width: usize) {
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            match self {
                Self::Rms { weight } => {
                    rms_norm(x, weight, out);
                }
                Self::Layer { weight, bias } => {
                    layer_norm(x, weight, bias, out);
                }
            }
        }
    }
}

#[inline(always)]
fn sum(x: &[f32], of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum = of(*x, *sum);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum = of(*x, *sum);
    }
    sums.iter().sum()
}

#[inline(always)]
fn rms_norm_body<const FMA: bool>(x: &[f32], weight: &[f32], out: &mut [f32]) {
    let square = sum(x, |x, sum| multiply_add::<FMA>(x, x, sum)) / x.len() as f32;
    let scale = 1.0 / (square + EPSILON).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

#[inline(always)]
fn layer_norm_body<const FMA: bool>(x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
    let mean = sum(x, |x, sum| sum + x) / x.len() as f32;
    let variance = sum(x, |x, sum| multiply_add::<FMA>(x - mean, x - mean, sum)) / x.len() as f32;
    let scale = 1.0 / (variance + EPSILON).sqrt();
    for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
        *out = multiply_add::<FMA>((x - mean) * scale, *weight, *bias);
    }
}

#[inline(always)]
fn gelu_body<const FMA: bool>(values: &mut [f32], bias: &[f32]) {
    // 0.5 (1 + tanh u) is the logistic function of 2 u.
    const TWICE: f32 = 2.0 * 0.797_884_6;
    const CUBIC: f32 = 0.044_715;
    for (value, bias) in values.iter_mut().zip(bias) {
        let x = *value + bias;
        let inner = TWICE * multiply_add::<FMA>(CUBIC * x * x, x, x);
        *value = x / (1.0 + exp::<FMA>(-inner));
    }
}

#[inline(always)]
fn gated_body<const FMA: bool>(both: &[f32], out: &mut [f32]) {
    let (both, _) = both.as_chunks::<{ 2 * GATES }>();
    let (out, _) = out.as_chunks_mut::<GATES>();
    for (both, out) in both.iter().zip(out) {
        for lane in 0..GATES {
            let gate = both[lane];
            out[lane] = gate / (1.0 + exp::<FMA>(-gate)) * both[lane + GATES];
        }
    }
}
