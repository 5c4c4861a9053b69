//! Sampling in double precision, and inputs for it.

use crate::sampling::Settings;
use crate::sampling::random::{mix, step_state};

/// The models' own.
pub(super) const LLAMA: Settings = Settings {
    temperature: Some(0.8),
    top_p: 1.0,
    min_p: 0.05,
    top_k: 0,
    repetition_penalty: 1.2,
    cfg_weight: 0.5,
};
pub(super) const GPT2: Settings = Settings {
    temperature: Some(0.8),
    top_p: 0.95,
    min_p: 0.0,
    top_k: 1000,
    repetition_penalty: 1.2,
    cfg_weight: 0.0,
};

/// Numbers that look like logits, the same for the same seed.
pub(super) fn logits(seed: u64, count: usize) -> Vec<f32> {
    let uniform = |n: u64| (mix(step_state(seed, n)) as f64 + 0.5) / 2_f64.powi(64);
    let normal = |n: u64| (-2.0 * uniform(n).ln()).sqrt() * (7.0 * uniform(n + 1)).cos();
    (0..count as u64)
        .map(|n| (3.0 * normal(2 * n)) as f32)
        .collect()
}

/// The token that must be sampled: double precision, with everything sorted.
pub(super) fn reference(
    settings: &Settings,
    penalty_last: bool,
    rows: [&[f32]; 2],
    seen: &[bool],
    state: u64,
) -> u32 {
    let penalised = |id: usize, x: f64| match f64::from(settings.repetition_penalty) {
        penalty if seen[id] && x < 0.0 => x * penalty,
        penalty if seen[id] => x / penalty,
        _ => x,
    };
    let weight = f64::from(settings.cfg_weight);
    let mut candidates: Vec<(usize, f64)> = rows[0]
        .iter()
        .zip(rows[1])
        .map(|(x, unconditional)| {
            f64::from(*x) + weight * (f64::from(*x) - f64::from(*unconditional))
        })
        .enumerate()
        .collect();
    let penalise = |candidates: &mut Vec<(usize, f64)>| {
        for (id, x) in candidates {
            *x = penalised(*id, *x);
        }
    };
    if !penalty_last || settings.temperature.is_none() {
        penalise(&mut candidates);
    }
    // Ascending; of equals the lower id first.
    candidates.sort_by(|a, b| a.1.total_cmp(&b.1));
    let Some(temperature) = settings.temperature else {
        let largest = candidates[candidates.len() - 1].1;
        return candidates.iter().find(|each| each.1 >= largest).unwrap().0 as u32;
    };
    for (_, x) in &mut candidates {
        *x /= f64::from(temperature);
    }
    let largest = candidates[candidates.len() - 1].1;
    candidates.retain(|(_, x)| (x - largest).exp() >= f64::from(settings.min_p));
    if settings.top_k > 0 {
        let least = candidates[candidates.len() - settings.top_k.min(candidates.len())].1;
        candidates.retain(|(_, x)| *x >= least);
    }
    let total: f64 = candidates.iter().map(|(_, x)| (x - largest).exp()).sum();
    let mut sum = 0.0;
    let gone = candidates.iter().take_while(|(_, x)| {
        sum += (x - largest).exp() / total;
        settings.top_p < 1.0 && sum <= 1.0 - settings.top_p
    });
    let gone = gone.count().min(candidates.len() - 1);
    candidates.drain(..gone);
    if penalty_last {
        penalise(&mut candidates);
    }
    let speed = |(id, x): (usize, f64)| {
        let word = mix(state.wrapping_add((id as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let uniform = ((word >> 24) as f64 + 0.5) / 2_f64.powi(40);
        x + -(-(-uniform).ln_1p()).ln()
    };
    candidates.sort_by(|a, b| speed(*a).total_cmp(&speed(*b)));
    candidates[candidates.len() - 1].0 as u32
}
