//! The choice of speech tokens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chatterbox_kernels::Pool;
use chatterbox_kernels::sampling::{Sampler, Settings, Turn};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::t3::refuse;

/// What is known of the requests in some slots: their settings, and which tokens they have had.
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
        let sampler = Sampler::new(slots, ids, start, penalty_last).map_err(refuse)?;
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
            .map_err(refuse)
    }

    /// The next token of each request in `turns`, from `logits` `[rows or more, ids]`: its slot, its row with text and the one
    /// without (the same where there is none), and how many tokens it has.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a buffer cannot be borrowed from Python's arguments"
    )]
    fn choose(
        &self,
        py: Python<'_>,
        logits: PyBuffer<f32>,
        turns: Vec<(usize, usize, usize, u64)>,
    ) -> PyResult<Vec<u32>> {
        let Some(given) = logits.as_slice_ptr() else {
            return Err(PyValueError::new_err("the logits are to be contiguous"));
        };
        // SAFETY: it is memory of so many numbers, which `logits` keeps alive. Whoever calls gives an array that no other
        // thread writes until this returns; a copy would take longer than some choices.
        let given = unsafe { given.as_ref() };
        let turns: Vec<Turn> = turns
            .into_iter()
            .map(|(slot, row, blind_row, step)| Turn {
                slot,
                row,
                blind_row,
                step,
            })
            .collect();
        py.detach(|| self.lock().choose(&self.pool, given, &turns))
            .map_err(refuse)
    }
}

impl T3Sampler {
    fn lock(&self) -> MutexGuard<'_, Sampler> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
