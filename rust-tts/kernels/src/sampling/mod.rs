//! Samples the next speech tokens of a batch of requests from their logits, each with its own settings and random numbers.
//!
//! Filters and their order are upstream's. Llama models: classifier-free guidance, repetition penalty, temperature,
//! min-p, top-p. GPT-2 models: temperature, top-k, top-p, and the penalty last, on the candidates that the filters keep. What
//! upstream lacks comes before top-p.

mod logits;
mod random;
mod request;
#[cfg(test)]
mod tests;

use crate::Error;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use random::step_state;
use request::Request;

pub use request::Settings;

/// A request in a batch that is to get its next token.
#[derive(Clone, Copy, Debug)]
pub struct BatchItem {
    /// The request's slot.
    pub slot: usize,
    /// Its row of conditional logits.
    pub row: usize,
    /// Its row of unconditional logits; the conditional row where there are none.
    pub unconditional_row: usize,
    /// Tokens that it has already.
    pub step: u64,
}

/// The settings of the requests in a number of slots, and the tokens that they have had.
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
    pub fn new(slots: usize, ids: usize, start: usize, penalty_last: bool) -> Result<Self, Error> {
        if start >= ids || u32::try_from(ids).is_err() {
            return Err(Error(format!("no {start} below {ids} ids")));
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

    /// Puts a request without tokens into `slot`, in place of another. Its random numbers are those of `stream`.
    pub fn join(&mut self, slot: usize, settings: Settings, stream: u64) -> Result<(), Error> {
        let slots = self.slots.len();
        let Some(entry) = self.slots.get_mut(slot) else {
            return Err(Error(format!("no slot {slot} among {slots}")));
        };
        let mut seen = vec![false; self.ids];
        seen[self.start] = true;
        *entry = Some(Slot {
            settings,
            stream,
            seen,
        });
        Ok(())
    }

    /// Samples the next token of each request in `batch`, from `logits` `[rows, ids]`. A token depends on its own request alone.
    pub fn sample(
        &mut self,
        pool: &Pool,
        logits: &[f32],
        batch: &[BatchItem],
    ) -> Result<Vec<u32>, Error> {
        let requests = batch
            .iter()
            .map(|item| self.request(logits, item))
            .collect::<Result<Vec<_>, _>>()?;
        let mut tokens = vec![0; batch.len()];
        let shared = SharedSlice::new(&mut tokens);
        pool.run(requests.len(), &|task| {
            // SAFETY: each task writes an element of its own.
            let entry = unsafe { shared.slice(task, 1) };
            entry[0] = requests[task].sample();
        });
        for (item, id) in batch.iter().zip(&tokens) {
            if let Some(slot) = &mut self.slots[item.slot] {
                if self.penalty_last && item.step == 0 {
                    slot.seen[self.start] = false;
                }
                slot.seen[*id as usize] = true;
            }
        }
        Ok(tokens)
    }

    fn request<'a>(&'a self, logits: &'a [f32], item: &BatchItem) -> Result<Request<'a>, Error> {
        let Some(Some(slot)) = self.slots.get(item.slot) else {
            return Err(Error(format!("slot {} is empty", item.slot)));
        };
        let rows = logits.len() / self.ids;
        let row = |row: usize| {
            let found = (row < rows).then(|| &logits[row * self.ids..][..self.ids]);
            found.ok_or_else(|| Error(format!("no row {row} among {rows}")))
        };
        let guided = item.unconditional_row != item.row && slot.settings.cfg_weight != 0.0;
        Ok(Request {
            settings: &slot.settings,
            penalty_last: self.penalty_last,
            logits: row(item.row)?,
            unconditional: guided.then(|| row(item.unconditional_row)).transpose()?,
            seen: &slot.seen,
            state: step_state(slot.stream, item.step),
        })
    }
}
