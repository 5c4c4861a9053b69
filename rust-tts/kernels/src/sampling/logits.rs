//! Elementwise passes over the logits. Products and sums are rounded one by one, as torch rounds them: a token must not depend
//! on which of the two samples it.

use crate::isa::vectorised;

/// Lanes of a pass over all scores that gives one number.
const LANES: usize = 16;

vectorised! {
    /// `scores += weight * (scores - unconditional)`.
    pub(super) fn apply_cfg(scores: &mut [f32], unconditional: &[f32], weight: f32) = apply_cfg_body
}

vectorised! {
    /// `penalised` of the scores that were `seen`.
    pub(super) fn penalise(scores: &mut [f32], seen: &[bool], penalty: f32) = penalise_body
}

vectorised! {
    /// `scores /= temperature`.
    pub(super) fn scale_temperature(scores: &mut [f32], temperature: f32) = scale_temperature_body
}

vectorised! {
    /// `largest` becomes the largest score, or NaN if one of them is NaN.
    pub(super) fn find_max(scores: &[f32], largest: &mut f32) = find_max_body
}

/// A score with the repetition penalty.
#[inline(always)]
pub(super) fn penalised(score: f32, penalty: f32) -> f32 {
    if score < 0.0 {
        score * penalty
    } else {
        score / penalty
    }
}

#[inline(always)]
fn apply_cfg_body<const FMA: bool>(scores: &mut [f32], unconditional: &[f32], weight: f32) {
    for (score, unconditional) in scores.iter_mut().zip(unconditional) {
        *score += weight * (*score - unconditional);
    }
}

#[inline(always)]
fn penalise_body<const FMA: bool>(scores: &mut [f32], seen: &[bool], penalty: f32) {
    for (score, seen) in scores.iter_mut().zip(seen) {
        *score = if *seen {
            penalised(*score, penalty)
        } else {
            *score
        };
    }
}

#[inline(always)]
fn scale_temperature_body<const FMA: bool>(scores: &mut [f32], temperature: f32) {
    for score in scores {
        *score /= temperature;
    }
}

#[inline(always)]
fn find_max_body<const FMA: bool>(scores: &[f32], largest: &mut f32) {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, score) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *score);
        }
    }
    *largest = lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |found, score| larger(found, *score));
}

/// NaN, once one of both is.
#[inline(always)]
fn larger(found: f32, score: f32) -> f32 {
    if score > found || score.is_nan() {
        score
    } else {
        found
    }
}
