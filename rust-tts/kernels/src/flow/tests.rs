//! Against the same formulas in f64.

use super::attention::{Attention, Heads};
use super::functions::{Norm, add_and_gelu};
use super::quantised::QuantisedAttention;
use super::resnet::Convolution;
use crate::matrix::{Matrix, Precision};
use crate::pool::Pool;
use crate::testing::{assert_close, noise};

fn attention_in_f64(inputs: &[f32], heads: Heads) -> Vec<f64> {
    let channels = heads.channels();
    let rows: Vec<&[f32]> = inputs.chunks_exact(3 * channels).collect();
    let mut attended = vec![0.0; rows.len() * channels];
    for (query, attended) in rows.iter().zip(attended.chunks_exact_mut(channels)) {
        for head in (0..channels).step_by(heads.width) {
            let span = head..head + heads.width;
            let weights: Vec<f64> = rows
                .iter()
                .map(|key| {
                    let products = query[span.clone()]
                        .iter()
                        .zip(&key[channels..][span.clone()]);
                    let score: f64 = products.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                    (score / (heads.width as f64).sqrt()).exp()
                })
                .collect();
            let sum: f64 = weights.iter().sum();
            for channel in span {
                let values = rows
                    .iter()
                    .map(|row| f64::from(row[2 * channels + channel]));
                attended[channel] = values.zip(&weights).map(|(v, w)| v * w).sum::<f64>() / sum;
            }
        }
    }
    attended
}

#[test]
fn test_attention_matches_f64_softmax() {
    let mut attention = Attention::default();
    for (frames, count, width) in [
        (1, 1, 16),
        (2, 3, 16),
        (17, 2, 64),
        (193, 2, 64),
        (400, 1, 20),
    ] {
        let heads = Heads { count, width };
        // Some scores are so large that their powers alone would overflow.
        let inputs: Vec<f32> = noise(frames * 3 * count * width, 7)
            .into_iter()
            .map(|number| 9.0 * number)
            .collect();
        let wanted = attention_in_f64(&inputs, heads);
        for threads in [1, 3] {
            let mut attended = vec![f32::NAN; wanted.len()];
            attention.run(&Pool::new(threads), &inputs, &mut attended, heads);
            assert_close(&attended, &wanted, 2e-4);
        }
    }
}

#[test]
fn test_quantised_attention_handles_large_scores() {
    let heads = Heads {
        count: 1,
        width: 64,
    };
    for (frames, factor) in [(1, 400.0), (200, 30.0), (200, 400.0), (200, 1e5)] {
        let mut inputs = noise(frames * 3 * 64, 5);
        for frame in inputs.chunks_exact_mut(3 * 64) {
            for number in &mut frame[..2 * 64] {
                *number *= factor;
            }
            frame[2 * 64..].fill(1.0);
        }
        let mut attended = vec![f32::NAN; frames * 64];
        QuantisedAttention::default().run(&Pool::new(1), &inputs, &mut attended, heads);
        // Whatever the weights are, together they are one.
        assert!(attended.iter().all(|value| (value - 1.0).abs() < 0.02));
    }
}

#[test]
fn test_quantised_attention_approximates_f64() {
    let mut attention = QuantisedAttention::default();
    for (frames, count, width) in [
        (1, 1, 16),
        (2, 3, 16),
        (17, 2, 64),
        (193, 2, 64),
        (400, 1, 20),
    ] {
        let heads = Heads { count, width };
        let inputs: Vec<f32> = noise(frames * 3 * count * width, 7)
            .into_iter()
            .map(|number| 1.5 * number)
            .collect();
        let wanted = attention_in_f64(&inputs, heads);
        let mut attended = vec![f32::NAN; wanted.len()];
        attention.run(&Pool::new(1), &inputs, &mut attended, heads);
        assert_close(&attended, &wanted, 0.1);
        let squares = attended
            .iter()
            .zip(&wanted)
            .map(|(a, b)| (f64::from(*a) - b).powi(2));
        let error = (squares.sum::<f64>() / wanted.len() as f64).sqrt();
        assert!(error < 0.02, "{frames} {count} {width}: {error}");
        let mut again = vec![f32::NAN; wanted.len()];
        attention.run(&Pool::new(3), &inputs, &mut again, heads);
        assert_eq!(attended, again);
    }
}

#[test]
fn test_gelu_matches_f64() {
    let x: Vec<f32> = (-6000..6000).map(|step| step as f32 / 500.0).collect();
    let mut found = x.clone();
    add_and_gelu(&mut found, &vec![0.25; x.len()]);
    let wanted: Vec<f64> = x
        .iter()
        .map(|x| normal_gelu(f64::from(*x) + 0.25))
        .collect();
    assert_close(&found, &wanted, 6e-7);
}

/// `x Phi(x)`, with `Phi` from its series.
fn normal_gelu(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > 1e-17 {
        term *= x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    let half = sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    x * (0.5 + half)
}

#[test]
fn test_layer_norm_matches_f64() {
    for width in [20, 256, 300] {
        let (gain, bias) = (noise(width, 1), noise(width, 2));
        let after = noise(width, 3);
        // Far from 0, as activations may be.
        let x: Vec<f32> = noise(40 * width, 4)
            .into_iter()
            .map(|x| 30.0 * x + 20.0)
            .collect();
        let mut wanted = Vec::new();
        let mut wanted_mish = Vec::new();
        for row in x.chunks_exact(width) {
            let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
            let deviations = row.iter().map(|x| (f64::from(*x) - mean).powi(2));
            let deviation = (deviations.sum::<f64>() / width as f64 + 1e-5).sqrt();
            for (channel, x) in row.iter().enumerate() {
                let value = (f64::from(*x) - mean) / deviation * f64::from(gain[channel])
                    + f64::from(bias[channel]);
                wanted.push(value);
                wanted_mish.push(value * value.exp().ln_1p().tanh() + f64::from(after[channel]));
            }
        }
        let norm = Norm::new(gain, bias);
        let mut found = vec![0.0; x.len()];
        norm.run(&Pool::new(2), &x, &mut found);
        assert_close(&found, &wanted, 1e-5);
        norm.run_mish(&Pool::new(2), &x, &mut found, &after);
        assert_close(&found, &wanted_mish, 1e-5);
    }
}

#[test]
fn test_causal_convolution_matches_f64() {
    let (frames, inputs, outputs) = (9, 20, 40);
    for kernel in [1, 3, 5] {
        let (weights, bias) = (noise(outputs * kernel * inputs, 1), noise(outputs, 2));
        let x = noise(frames * inputs, 3);
        let mut wanted = Vec::new();
        for frame in 0..frames {
            for output in 0..outputs {
                let mut sum = f64::from(bias[output]);
                for back in 0..kernel.min(frame + 1) {
                    let w = &weights[(output * kernel + kernel - 1 - back) * inputs..][..inputs];
                    let x = &x[(frame - back) * inputs..][..inputs];
                    sum += w.iter().zip(x).map(|(w, x)| f64::from(w * x)).sum::<f64>();
                }
                wanted.push(sum);
            }
        }
        let strides = (kernel * inputs, 1);
        let convolution = Convolution {
            weights: Matrix::pack(&weights, outputs, kernel * inputs, strides, Precision::F32),
            bias,
            inputs,
        };
        let (mut found, mut padded) = (Vec::new(), Vec::new());
        convolution.run(&Pool::new(2), &x, &mut found, &mut padded);
        assert_close(&found, &wanted, 1e-5);
    }
}
