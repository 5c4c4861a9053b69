//! Small models with random weights, packed, and what they compute in double precision, written down plainly.

use super::super::{Backbone, Gpt2Layer, Linear, LlamaLayer, Norm, Positions};
use crate::matrix::Precision;
use crate::pool::Pool;

use super::plain::{attend, layer_norm, plus, product, rms, widen};

pub(super) const WIDTH: usize = 64;
pub(super) const HEADS: usize = 4;
pub(super) const INNER: usize = 96;
pub(super) const IDS: usize = 37;
pub(super) const LAYERS: usize = 2;

/// Numbers between -1 and 1 that do not look like a pattern.
pub(super) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0) as f32
    };
    (0..count).map(|_| next()).collect()
}

/// Weights under which values keep their size.
pub(super) fn weights(outputs: usize, inputs: usize, seed: u32) -> Vec<f32> {
    let scale = (3.0 / inputs as f32).sqrt();
    let drawn = numbers(outputs * inputs, seed);
    drawn.iter().map(|weight| weight * scale).collect()
}

pub(super) struct Llama {
    pub(super) norms: Vec<[Vec<f32>; 2]>,
    /// Query, key, value, output, gate, up, down.
    pub(super) linears: Vec<[Vec<f32>; 7]>,
    last_norm: Vec<f32>,
    head: Vec<f32>,
    frequencies: Vec<f32>,
}

impl Llama {
    pub(super) fn new() -> Self {
        let layer = |n: u32| {
            let square = |k| weights(WIDTH, WIDTH, 100 * n + k);
            [
                square(1),
                square(2),
                square(3),
                square(4),
                weights(INNER, WIDTH, 100 * n + 5),
                weights(INNER, WIDTH, 100 * n + 6),
                weights(WIDTH, INNER, 100 * n + 7),
            ]
        };
        Self {
            norms: (0..LAYERS as u32)
                .map(|n| [numbers(WIDTH, 900 + n), numbers(WIDTH, 950 + n)])
                .collect(),
            linears: (1..=LAYERS as u32).map(layer).collect(),
            last_norm: numbers(WIDTH, 990),
            head: weights(IDS, WIDTH, 991),
            frequencies: (0..WIDTH / HEADS / 2)
                .map(|n| 0.3_f32.powf(n as f32))
                .collect(),
        }
    }

    pub(super) fn packed(&self, precision: Precision) -> Backbone {
        let pool = Pool::new(2);
        let norm = Norm::Rms {
            weight: self.last_norm.clone(),
        };
        let head = Linear {
            weight: &self.head,
            transposed: false,
            bias: &[],
        };
        let positions = Positions::Rotary(self.frequencies.clone());
        let mut backbone =
            Backbone::new(&pool, (WIDTH, HEADS), precision, positions, norm, &head).unwrap();
        for (norms, linears) in self.norms.iter().zip(&self.linears) {
            let [query, key, value, output, gate, up, down] = linears;
            backbone
                .add_llama(
                    &pool,
                    &LlamaLayer {
                        attention_norm: &norms[0],
                        query,
                        key,
                        value,
                        output,
                        feed_norm: &norms[1],
                        gate,
                        up,
                        down,
                    },
                )
                .unwrap();
        }
        backbone
    }

    /// The logits of the last of `embedded` `[positions, WIDTH]`.
    pub(super) fn expected(&self, embedded: &[f32]) -> Vec<f64> {
        let mut hidden = widen(embedded);
        for (norms, linears) in self.norms.iter().zip(&self.linears) {
            let [query, key, value, output, gate, up, down] =
                linears.each_ref().map(|linear| widen(linear));
            let normed = rms(&hidden, &norms[0]);
            let rotate = |x: Vec<f64>| self.rotated(&x);
            let attended = attend(
                &rotate(product(&normed, &query, WIDTH)),
                &rotate(product(&normed, &key, WIDTH)),
                &product(&normed, &value, WIDTH),
            );
            hidden = plus(&hidden, &product(&attended, &output, WIDTH));
            let normed = rms(&hidden, &norms[1]);
            let gates = product(&normed, &gate, WIDTH);
            let inner: Vec<f64> = gates
                .iter()
                .zip(product(&normed, &up, WIDTH))
                .map(|(gate, value)| gate / (1.0 + (-gate).exp()) * value)
                .collect();
            hidden = plus(&hidden, &product(&inner, &down, INNER));
        }
        let last = rms(&hidden[hidden.len() - WIDTH..], &self.last_norm);
        product(&last, &widen(&self.head), WIDTH)
    }

    fn rotated(&self, x: &[f64]) -> Vec<f64> {
        let channels = WIDTH / HEADS;
        let mut rotated = x.to_vec();
        for (position, x) in rotated.chunks_exact_mut(WIDTH).enumerate() {
            for head in x.chunks_exact_mut(channels) {
                for (pair, frequency) in self.frequencies.iter().enumerate() {
                    let angle = position as f64 * f64::from(*frequency);
                    let (a, b) = (head[pair], head[pair + channels / 2]);
                    head[pair] = a * angle.cos() - b * angle.sin();
                    head[pair + channels / 2] = b * angle.cos() + a * angle.sin();
                }
            }
        }
        rotated
    }
}

pub(super) struct Gpt2 {
    norms: Vec<[Vec<f32>; 4]>,
    /// Projections, output, up, down, `[inputs, outputs]`, each followed by its bias.
    linears: Vec<[Vec<f32>; 8]>,
    last_norm: [Vec<f32>; 2],
    head: [Vec<f32>; 2],
    table: Vec<f32>,
}

impl Gpt2 {
    pub(super) fn new() -> Self {
        let layer = |n: u32| {
            let sizes = [
                (WIDTH, 3 * WIDTH),
                (WIDTH, WIDTH),
                (WIDTH, INNER),
                (INNER, WIDTH),
            ];
            std::array::from_fn(|k| {
                let (inputs, outputs) = sizes[k / 2];
                let seed = 2000 + 10 * n + k as u32;
                if k % 2 == 0 {
                    weights(inputs, outputs, seed)
                } else {
                    numbers(outputs, seed)
                }
            })
        };
        Self {
            norms: (0..LAYERS as u32)
                .map(|n| std::array::from_fn(|k| numbers(WIDTH, 3000 + 10 * n + k as u32)))
                .collect(),
            linears: (0..LAYERS as u32).map(layer).collect(),
            last_norm: [numbers(WIDTH, 3100), numbers(WIDTH, 3101)],
            head: [weights(IDS, WIDTH, 3102), numbers(IDS, 3103)],
            table: numbers(200 * WIDTH, 3104),
        }
    }

    pub(super) fn packed(&self, precision: Precision) -> Backbone {
        let pool = Pool::new(2);
        let norm = |weight: &[f32], bias: &[f32]| Norm::Layer {
            weight: weight.to_vec(),
            bias: bias.to_vec(),
        };
        let head = Linear {
            weight: &self.head[0],
            transposed: false,
            bias: &self.head[1],
        };
        let last = norm(&self.last_norm[0], &self.last_norm[1]);
        let positions = Positions::Learned(self.table.clone());
        let mut backbone =
            Backbone::new(&pool, (WIDTH, HEADS), precision, positions, last, &head).unwrap();
        for (norms, linears) in self.norms.iter().zip(&self.linears) {
            let linear = |n: usize| Linear {
                weight: &linears[2 * n],
                transposed: true,
                bias: &linears[2 * n + 1],
            };
            backbone
                .add_gpt2(
                    &pool,
                    Gpt2Layer {
                        attention_norm: norm(&norms[0], &norms[1]),
                        projections: linear(0),
                        output: linear(1),
                        feed_norm: norm(&norms[2], &norms[3]),
                        up: linear(2),
                        down: linear(3),
                    },
                )
                .unwrap();
        }
        backbone
    }

    pub(super) fn expected(&self, embedded: &[f32]) -> Vec<f64> {
        let mut hidden = plus(&widen(embedded), &widen(&self.table[..embedded.len()]));
        for (norms, linears) in self.norms.iter().zip(&self.linears) {
            let linear = |x: &[f64], n: usize| {
                let (weight, bias) = (&linears[2 * n], &linears[2 * n + 1]);
                let inputs = weight.len() / bias.len();
                let rotated: Vec<f64> = (0..weight.len())
                    .map(|k| f64::from(weight[k % inputs * bias.len() + k / inputs]))
                    .collect();
                let sums = product(x, &rotated, inputs);
                let biases = bias.iter().cycle().map(|bias| f64::from(*bias));
                sums.iter()
                    .zip(biases)
                    .map(|(a, b)| a + b)
                    .collect::<Vec<_>>()
            };
            let projections = linear(&layer_norm(&hidden, &norms[0], &norms[1]), 0);
            let third = |which: usize| -> Vec<f64> {
                let rows = projections.chunks_exact(3 * WIDTH);
                rows.flat_map(|row| row[which * WIDTH..][..WIDTH].to_vec())
                    .collect()
            };
            let attended = attend(&third(0), &third(1), &third(2));
            hidden = plus(&hidden, &linear(&attended, 1));
            let up = linear(&layer_norm(&hidden, &norms[2], &norms[3]), 2);
            let inner: Vec<f64> = up
                .iter()
                .map(|x| {
                    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                    0.5 * x * (1.0 + u.tanh())
                })
                .collect();
            hidden = plus(&hidden, &linear(&inner, 3));
        }
        let [weight, bias] = &self.last_norm;
        let last = layer_norm(&hidden[hidden.len() - WIDTH..], weight, bias);
        plus(
            &product(&last, &widen(&self.head[0]), WIDTH),
            &widen(&self.head[1]),
        )
    }
}
