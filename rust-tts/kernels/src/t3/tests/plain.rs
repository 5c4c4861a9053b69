//! The parts of a transformer in double precision.

use super::models::{HEADS, WIDTH};

pub(super) fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

pub(super) fn plus(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}

pub(super) fn product(x: &[f64], weight: &[f64], inputs: usize) -> Vec<f64> {
    x.chunks_exact(inputs)
        .flat_map(|x| {
            weight
                .chunks_exact(inputs)
                .map(|w| x.iter().zip(w).map(|(x, w)| x * w).sum())
        })
        .collect()
}

pub(super) fn rms(x: &[f64], weight: &[f32]) -> Vec<f64> {
    x.chunks_exact(WIDTH)
        .flat_map(|x| {
            let square = x.iter().map(|x| x * x).sum::<f64>() / WIDTH as f64;
            let scale = 1.0 / (square + 1e-5).sqrt();
            x.iter()
                .zip(weight)
                .map(move |(x, w)| x * scale * f64::from(*w))
        })
        .collect()
}

pub(super) fn layer_norm(x: &[f64], weight: &[f32], bias: &[f32]) -> Vec<f64> {
    x.chunks_exact(WIDTH)
        .flat_map(|x| {
            let mean = x.iter().sum::<f64>() / WIDTH as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / WIDTH as f64;
            let scale = 1.0 / (variance + 1e-5).sqrt();
            x.iter()
                .zip(weight.iter().zip(bias))
                .map(move |(x, (w, b))| (x - mean) * scale * f64::from(*w) + f64::from(*b))
        })
        .collect()
}

pub(super) fn attend(queries: &[f64], keys: &[f64], values: &[f64]) -> Vec<f64> {
    let channels = WIDTH / HEADS;
    let mut attended = vec![0.0; queries.len()];
    for (query_position, query) in queries.chunks_exact(WIDTH).enumerate() {
        for head in 0..HEADS {
            let part = |x: &[f64], position: usize| {
                x[position * WIDTH + head * channels..][..channels].to_vec()
            };
            let query = &query[head * channels..][..channels];
            let weights: Vec<f64> = (0..=query_position)
                .map(|position| {
                    let key = part(keys, position);
                    let score: f64 = query.iter().zip(key).map(|(q, k)| q * k).sum();
                    (score / (channels as f64).sqrt()).exp()
                })
                .collect();
            let total: f64 = weights.iter().sum();
            for (position, weight) in weights.iter().enumerate() {
                let value = part(values, position);
                let out = &mut attended[query_position * WIDTH + head * channels..][..channels];
                for (out, value) in out.iter_mut().zip(value) {
                    *out += weight / total * value;
                }
            }
        }
    }
    attended
}
