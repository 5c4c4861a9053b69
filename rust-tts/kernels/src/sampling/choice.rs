//! From one request's logits to its next id.

use super::Settings;
use super::passes::{find_largest, guide, penalise, penalised, temper};
use super::random::{exponential, uniform};

/// An id that is left.
#[derive(Clone, Copy)]
struct Candidate {
    id: u32,
    score: f32,
    /// `e^score`, as a share of that of the largest score.
    weight: f32,
}

/// What an id is chosen from.
pub(super) struct Request<'a> {
    pub(super) settings: &'a Settings,
    /// Whether the penalty falls on what the filters have left, not on the logits.
    pub(super) penalty_last: bool,
    pub(super) logits: &'a [f32],
    /// Those without text, if guidance leads away from them.
    pub(super) blind: Option<&'a [f32]>,
    /// Of each id, whether the penalty falls on it.
    pub(super) seen: &'a [bool],
    /// Before the numbers of this step.
    pub(super) state: u64,
}

impl Request<'_> {
    /// The next id, below the number of logits.
    ///
    /// Scores of which none is the largest, or whose largest is infinite, make no probabilities; the first id is then as good
    /// as any other.
    pub(super) fn choose(&self) -> u32 {
        let settings = self.settings;
        let mut scores = self.logits.to_vec();
        if let Some(blind) = self.blind {
            guide(&mut scores, blind, settings.cfg_weight);
        }
        let penalty = settings.repetition_penalty;
        if !self.penalty_last || settings.temperature.is_none() {
            penalise(&mut scores, self.seen, penalty);
        }
        if let Some(temperature) = settings.temperature {
            temper(&mut scores, temperature);
        }
        let mut largest = f32::NAN;
        find_largest(&scores, &mut largest);
        if settings.temperature.is_none() {
            return first(&scores, largest);
        }
        if !largest.is_finite() {
            return 0;
        }
        let mut left = filtered(&scores, largest, settings);
        let mut left = left.as_mut_slice();
        weigh(left, largest);
        if settings.top_p < 1.0 {
            left = likeliest(left, (1.0 - settings.top_p) as f32);
        }
        if self.penalty_last {
            for each in &mut *left {
                if self.seen[each.id as usize] {
                    each.score = penalised(each.score, penalty);
                }
            }
            largest = left
                .iter()
                .fold(f32::NEG_INFINITY, |found, each| found.max(each.score));
            weigh(left, largest);
        }
        race(left, self.state)
    }
}

/// The first id whose score is `largest`; of NaN, the first that is.
fn first(scores: &[f32], largest: f32) -> u32 {
    let place = scores
        .iter()
        .position(|score| *score >= largest || score.is_nan());
    place.unwrap_or(0) as u32
}

/// What min-p and top-k leave, in the order of their ids.
fn filtered(scores: &[f32], largest: f32, settings: &Settings) -> Vec<Candidate> {
    // Probabilities are compared by their logarithms.
    let span = if settings.min_p > 0.0 {
        settings.min_p.ln()
    } else {
        f32::NEG_INFINITY
    };
    // Not minus infinity: what is that cannot be drawn.
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

fn weigh(left: &mut [Candidate], largest: f32) {
    for each in left {
        each.weight = (each.score - largest).exp();
    }
}

/// Without the least likely ones, whose probabilities make at most `rest` together; the likeliest one stays in any case. Of
/// equal scores the higher ids stay, as where they are sorted.
///
/// Looks for the bound by halving what it may be in, so that nothing needs to be sorted.
fn likeliest(left: &mut [Candidate], rest: f32) -> &mut [Candidate] {
    let total: f64 = left.iter().map(|each| f64::from(each.weight)).sum();
    let total = total as f32;
    // Before `low` are those that go, from `high` on those that stay.
    let (mut low, mut high, mut gone) = (0, left.len(), 0.0);
    while high - low > 1 {
        let middle = low.midpoint(high);
        left[low..high].select_nth_unstable_by(middle - low, |a, b| {
            a.score.total_cmp(&b.score).then(a.id.cmp(&b.id))
        });
        let lower = left[low..middle].iter();
        let sum = gone
            + lower
                .map(|each| f64::from(each.weight / total))
                .sum::<f64>();
        if sum as f32 <= rest {
            (low, gone) = (middle, sum);
        } else {
            high = middle;
        }
    }
    &mut left[low..]
}

/// Draws by letting exponential clocks race: the id with the largest weight for its clock's time wins. Rounding that moves a
/// weight by a millionth changes one draw in a million; in a cumulative distribution it would move thousands of bounds.
fn race(left: &[Candidate], state: u64) -> u32 {
    // A clock's time is the logarithm, which takes longest, of what is never more than it: less a little for rounding, it
    // tells of nearly all ids that they cannot win.
    const LESS: f32 = 0.9999;
    let (mut winner, mut best) = (0, -1.0);
    for each in left {
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
