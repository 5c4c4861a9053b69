//! The sampling of speech tokens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chatterbox_kernels::Pool;
use chatterbox_kernels::sampling::{BatchItem, Sampler, Settings};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use super::buffers::{ANY, read_in_place};
use super::value_error;

/// The settings of the requests in a number of slots, and the tokens that they have had.
#[pyclass(frozen, module = "chatterbox_server._core")]
pub struct T3Sampler {
    pool: Arc<Pool>,
    sampler: Mutex<Sampler>,
    least_temperature: f32,
}

/// The attributes of Python's `Sampling` that count here.
#[derive(FromPyObject)]
struct Sampling {
    temperature: f32,
    top_p: f64,
    min_p: f32,
    top_k: usize,
    repetition_penalty: f32,
    cfg_weight: f32,
}

#[pymethods]
impl T3Sampler {
    /// For tokens below `ids`, of which speech begins with `start`. `penalty_last` is GPT-2's order; below `least_temperature`
    /// the likeliest token is taken. Raises `ValueError` for what does not fit together.
    #[new]
    fn new(
        slots: usize,
        ids: usize,
        start: usize,
        penalty_last: bool,
        least_temperature: f32,
    ) -> PyResult<Self> {
        let sampler = Sampler::new(slots, ids, start, penalty_last).map_err(value_error)?;
        Ok(Self {
            pool: super::pool(),
            sampler: Mutex::new(sampler),
            least_temperature,
        })
    }

    /// Puts a request without tokens into `slot`, whatever was there. Its random numbers are those of `stream`.
    fn join(&self, slot: usize, sampling: &Bound<'_, PyAny>, stream: i64) -> PyResult<()> {
        let given: Sampling = sampling.extract()?;
        let settings = Settings {
            temperature: (given.temperature >= self.least_temperature).then_some(given.temperature),
            top_p: given.top_p,
            min_p: given.min_p,
            top_k: given.top_k,
            repetition_penalty: given.repetition_penalty,
            cfg_weight: given.cfg_weight,
        };
        self.lock()
            .join(slot, settings, stream.cast_unsigned())
            .map_err(value_error)
    }

    /// The next token of each request in `batch`, from `logits` `[…, ids]`, C-contiguous, whose rows are numbered across all
    /// leading dimensions. A request is its slot, its conditional row and its unconditional one (the same where there is none),
    /// and how many tokens it has.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a buffer cannot be borrowed from Python's arguments"
    )]
    fn sample(
        &self,
        py: Python<'_>,
        logits: PyBuffer<f32>,
        batch: Vec<(usize, usize, usize, u64)>,
    ) -> PyResult<Vec<u32>> {
        let mut shape = vec![ANY; logits.dimensions()];
        if let Some(last) = shape.last_mut() {
            *last = self.lock().ids();
        }
        let batch: Vec<BatchItem> = batch
            .into_iter()
            .map(|(slot, row, unconditional_row, step)| BatchItem {
                slot,
                row,
                unconditional_row,
                step,
            })
            .collect();
        read_in_place(py, ("logits", &logits, &shape), |logits| {
            self.lock().sample(&self.pool, logits, &batch)
        })?
        .map_err(value_error)
    }
}

impl T3Sampler {
    fn lock(&self) -> MutexGuard<'_, Sampler> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
