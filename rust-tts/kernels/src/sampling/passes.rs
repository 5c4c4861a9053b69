//! What is done to each id's score by itself. Multiplications and additions are rounded one by one, as torch rounds them:
//! a token must not depend on which of the two chose it.

use crate::isa::vectorised;

/// Lanes of a pass over all scores that gives one number.
const LANES: usize = 16;

vectorised! {
    /// `scores += weight * (scores - blind)`.
    pub(super) fn guide(scores: &mut [f32], blind: &[f32], weight: f32) = guide_body
}

vectorised! {
    /// `penalised` of the scores that were `seen`.
    pub(super) fn penalise(scores: &mut [f32], seen: &[bool], penalty: f32) = penalise_body
}

vectorised! {
    /// `scores /= temperature`.
    pub(super) fn temper(scores: &mut [f32], temperature: f32) = temper_body
}

vectorised! {
    /// `largest` becomes that of the scores, or NaN if one of them is.
    pub(super) fn find_largest(scores: &[f32], largest: &mut f32) = find_largest_body
}

/// A score moved towards what is unlikely.
#[inline(always)]
pub(super) fn penalised(score: f32, penalty: f32) -> f32 {
    if score < 0.0 {
        score * penalty
    } else {
        score / penalty
    }
}

#[inline(always)]
fn guide_body<const FMA: bool>(scores: &mut [f32], blind: &[f32], weight: f32) {
    for (score, blind) in scores.iter_mut().zip(blind) {
        *score += weight * (*score - blind);
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
fn temper_body<const FMA: bool>(scores: &mut [f32], temperature: f32) {
    for score in scores {
        *score /= temperature;
    }
}

#[inline(always)]
fn find_largest_body<const FMA: bool>(scores: &[f32], largest: &mut f32) {
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
