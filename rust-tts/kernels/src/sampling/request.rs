//! Samples one request's next token from its logits.

use super::logits::{apply_cfg, find_max, penalise, penalised, scale_temperature};
use super::random::{exponential, uniform};

/// Sampling parameters of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Above 0; `None` is greedy: the likeliest token after guidance and penalty, whatever the filters.
    pub temperature: Option<f32>,
    /// 0 to 1; 1 = off. Its complement is taken in double precision.
    pub top_p: f64,
    /// 0 to 1; 0 = off.
    pub min_p: f32,
    /// 0 = off.
    pub top_k: usize,
    /// Above 0; 1 = off.
    pub repetition_penalty: f32,
    /// Weight of classifier-free guidance; 0 = off.
    pub cfg_weight: f32,
}

/// An id that the filters have kept.
#[derive(Clone, Copy)]
struct Candidate {
    id: u32,
    score: f32,
    /// `e^score`, as a share of that of the largest score.
    weight: f32,
}

/// One request's settings and logits.
pub(super) struct Request<'a> {
    pub(super) settings: &'a Settings,
    /// Whether the penalty falls on the candidates that the filters keep, not on the logits.
    pub(super) penalty_last: bool,
    pub(super) logits: &'a [f32],
    /// The unconditional logits, where classifier-free guidance is on.
    pub(super) unconditional: Option<&'a [f32]>,
    /// Of each id, whether the penalty falls on it.
    pub(super) seen: &'a [bool],
    /// The state of the random numbers before this step.
    pub(super) state: u64,
}

impl Request<'_> {
    /// The next id, below the number of logits.
    ///
    /// Without a finite largest score there are no probabilities: the result is then id 0.
    pub(super) fn sample(&self) -> u32 {
        let settings = self.settings;
        let mut scores = self.logits.to_vec();
        if let Some(unconditional) = self.unconditional {
            apply_cfg(&mut scores, unconditional, settings.cfg_weight);
        }
        let penalty = settings.repetition_penalty;
        if !self.penalty_last || settings.temperature.is_none() {
            penalise(&mut scores, self.seen, penalty);
        }
        if let Some(temperature) = settings.temperature {
            scale_temperature(&mut scores, temperature);
        }
        let mut largest = f32::NAN;
        find_max(&scores, &mut largest);
        if settings.temperature.is_none() {
            return first(&scores, largest);
        }
        if !largest.is_finite() {
            return 0;
        }
        let mut candidates = keep_min_p_and_top_k(&scores, largest, settings);
        let mut candidates = candidates.as_mut_slice();
        set_weights(candidates, largest);
        if settings.top_p < 1.0 {
            candidates = keep_top_p(candidates, (1.0 - settings.top_p) as f32);
        }
        if self.penalty_last {
            for each in &mut *candidates {
                if self.seen[each.id as usize] {
                    each.score = penalised(each.score, penalty);
                }
            }
            largest = candidates
                .iter()
                .fold(f32::NEG_INFINITY, |found, each| found.max(each.score));
            set_weights(candidates, largest);
        }
        exponential_race(candidates, self.state)
    }
}

/// The first id whose score is `largest`; of NaN, the first that is.
fn first(scores: &[f32], largest: f32) -> u32 {
    let entry = scores
        .iter()
        .position(|score| *score >= largest || score.is_nan());
    entry.unwrap_or(0) as u32
}

/// The candidates that min-p and top-k keep, in the order of their ids.
fn keep_min_p_and_top_k(scores: &[f32], largest: f32, settings: &Settings) -> Vec<Candidate> {
    // Probabilities are compared by their logarithms.
    let span = if settings.min_p > 0.0 {
        settings.min_p.ln()
    } else {
        f32::NEG_INFINITY
    };
    // Not minus infinity: such a score cannot be drawn.
    let mut least = f32::MIN;
    let count = settings.top_k;
    if count > 0 && count < scores.len() {
        let mut split = scores.to_vec();
        let (_, bound, _) = split.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        least = least.max(*bound);
    }
    (0_u32..)
        .zip(scores)
        .filter(|(_, score)| **score >= least && **score - largest >= span)
        .map(|(id, &score)| Candidate {
            id,
            score,
            weight: 0.0,
        })
        .collect()
}

fn set_weights(candidates: &mut [Candidate], largest: f32) {
    for each in candidates {
        each.weight = (each.score - largest).exp();
    }
}

/// Drops the least likely candidates whose probabilities add up to at most `rest`; the likeliest always stays. Of equal scores
/// the higher ids stay, as in a stable sort.
///
/// Finds the bound by bisection, so that nothing needs to be sorted.
fn keep_top_p(candidates: &mut [Candidate], rest: f32) -> &mut [Candidate] {
    let total: f64 = candidates.iter().map(|each| f64::from(each.weight)).sum();
    let total = total as f32;
    // Before `low` are those that go, from `high` on those that stay.
    let (mut low, mut high, mut removed) = (0, candidates.len(), 0.0);
    while high - low > 1 {
        let middle = low.midpoint(high);
        candidates[low..high].select_nth_unstable_by(middle - low, |a, b| {
            a.score.total_cmp(&b.score).then(a.id.cmp(&b.id))
        });
        let lower = candidates[low..middle].iter();
        let sum = removed
            + lower
                .map(|each| f64::from(each.weight / total))
                .sum::<f64>();
        if sum as f32 <= rest {
            (low, removed) = (middle, sum);
        } else {
            high = middle;
        }
    }
    &mut candidates[low..]
}

/// Draws by an exponential race: the id with the largest quotient of its weight and an exponentially distributed number wins.
/// Rounding that moves a weight by a millionth changes one draw in a million; in a cumulative distribution it would move
/// thousands of bounds.
fn exponential_race(candidates: &[Candidate], state: u64) -> u32 {
    // The exponential number is never below the uniform one: with a margin for rounding, that rules nearly all ids out before
    // the logarithm, which takes longest.
    const LESS: f32 = 0.9999;
    let (mut winner, mut best) = (0, -1.0);
    for each in candidates {
        let uniform = uniform(state, each.id);
        if each.weight < best * uniform * LESS {
            continue;
        }
        let speed = each.weight / exponential(uniform);
        if speed > best || (speed >= best && each.id < winner) {
            (winner, best) = (each.id, speed);
        }
    }
    winner
}
