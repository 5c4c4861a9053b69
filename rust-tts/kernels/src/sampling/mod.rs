//! From logits to the next speech tokens of some requests, each with its own settings and random numbers.
//!
//! Filters and their order are upstream's. Llama models: guidance, repetition penalty, temperature, min-p, top-p. GPT-2 models:
//! temperature, top-k, top-p, and the penalty last, on what the filters have left. What upstream lacks stands before top-p.

mod choice;
mod passes;
mod random;
#[cfg(test)]
mod tests;

use crate::pool::Pool;
use crate::shared::Shared;
use crate::t3::Invalid;
use choice::Request;
use random::step_state;

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Above 0; `None` takes the likeliest token after guidance and penalty, whatever is filtered.
    pub temperature: Option<f32>,
    /// 0 to 1; 1 = off. Its complement is taken in double precision.
    pub top_p: f64,
    /// 0 to 1; 0 = off.
    pub min_p: f32,
    /// 0 = off.
    pub top_k: usize,
    /// Above 0; 1 = off.
    pub repetition_penalty: f32,
    /// Guidance away from the logits without text; 0 = off.
    pub cfg_weight: f32,
}

/// A request that is to get its next token.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The request's.
    pub slot: usize,
    /// Of the logits with text.
    pub row: usize,
    /// Of the logits without text; that with text, where there are none.
    pub blind_row: usize,
    /// Tokens that it has.
    pub step: u64,
}

/// What is known of the requests in some slots.
#[derive(Debug)]
pub struct Sampler {
    ids: usize,
    start: usize,
    penalty_last: bool,
    slots: Vec<Option<Slot>>,
}

#[derive(Debug)]
struct Slot {
    settings: Settings,
    stream: u64,
    /// Of each id, whether the repetition penalty falls on it.
    seen: Vec<bool>,
}

impl Sampler {
    /// For tokens below `ids`. `start` is the token that speech begins with. `penalty_last` is GPT-2's order, in which the
    /// start token is penalised before the first token alone.
    pub fn new(
        slots: usize,
        ids: usize,
        start: usize,
        penalty_last: bool,
    ) -> Result<Self, Invalid> {
        if start >= ids || u32::try_from(ids).is_err() {
            return Err(Invalid(format!("no {start} below {ids} ids")));
        }
        Ok(Self {
            ids,
            start,
            penalty_last,
            slots: (0..slots).map(|_| None).collect(),
        })
    }

    /// Ids that have logits.
    pub fn ids(&self) -> usize {
        self.ids
    }

    /// Puts a request without tokens into `slot`, whatever was there. Its random numbers are those of `stream`.
    pub fn join(&mut self, slot: usize, settings: Settings, stream: u64) -> Result<(), Invalid> {
        let slots = self.slots.len();
        let Some(place) = self.slots.get_mut(slot) else {
            return Err(Invalid(format!("no slot {slot} among {slots}")));
        };
        let mut seen = vec![false; self.ids];
        seen[self.start] = true;
        *place = Some(Slot {
            settings,
            stream,
            seen,
        });
        Ok(())
    }

    /// The next token of each request in `turns`, from `logits` `[rows, ids]`. A token depends on its own request alone.
    pub fn choose(
        &mut self,
        pool: &Pool,
        logits: &[f32],
        turns: &[Turn],
    ) -> Result<Vec<u32>, Invalid> {
        let requests = turns
            .iter()
            .map(|turn| self.request(logits, turn))
            .collect::<Result<Vec<_>, _>>()?;
        let mut chosen = vec![0; turns.len()];
        let shared = Shared::new(&mut chosen);
        pool.run(requests.len(), &|task| {
            // SAFETY: each task writes an element of its own.
            let place = unsafe { shared.part(task, 1) };
            place[0] = requests[task].choose();
        });
        for (turn, id) in turns.iter().zip(&chosen) {
            if let Some(slot) = &mut self.slots[turn.slot] {
                if self.penalty_last && turn.step == 0 {
                    slot.seen[self.start] = false;
                }
                slot.seen[*id as usize] = true;
            }
        }
        Ok(chosen)
    }

    fn request<'a>(&'a self, logits: &'a [f32], turn: &Turn) -> Result<Request<'a>, Invalid> {
        let Some(Some(slot)) = self.slots.get(turn.slot) else {
            return Err(Invalid(format!("nobody in slot {}", turn.slot)));
        };
        let rows = logits.len() / self.ids;
        let row = |row: usize| {
            let found = (row < rows).then(|| &logits[row * self.ids..][..self.ids]);
            found.ok_or_else(|| Invalid(format!("no row {row} among {rows}")))
        };
        let guided = turn.blind_row != turn.row && slot.settings.cfg_weight != 0.0;
        Ok(Request {
            settings: &slot.settings,
            penalty_last: self.penalty_last,
            logits: row(turn.row)?,
            blind: guided.then(|| row(turn.blind_row)).transpose()?,
            seen: &slot.seen,
            state: step_state(slot.stream, turn.step),
        })
    }
}
