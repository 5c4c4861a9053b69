//! The engine as the host sees it: a thread that is sent commands, and a [`Ticket`] for every utterance.

mod handle;
pub mod messages;
mod options;
mod python;
mod status;
mod worker;

pub use handle::{EngineGone, EngineHandle, Generated, Ticket, UtteranceEvent};
pub use options::{EngineKind, EngineOptions, LoadSettings, MODELS, S3GenSettings};
pub use status::{EngineState, EngineStatus, Progress};
pub use worker::{Worker, spawn};

use messages::{Command, EngineInfo, Event};

/// One step of work for all requests, as in `engine.step(commands)` on the Python side.
pub trait Engine {
    fn info(&self) -> Result<EngineInfo, EngineError>;

    /// Nothing to do until a command comes.
    fn idle(&self) -> Result<bool, EngineError>;

    /// An error is fatal: the engine is not asked again.
    fn step(&mut self, commands: Vec<Command>) -> Result<Vec<Event>, EngineError>;

    /// Bytes held by cached voices.
    fn voice_cache_bytes(&self) -> u64;

    fn close(&mut self);

    /// Runs `wait`, which blocks, without holding what other threads of the engine need (the GIL).
    fn detached<R: Send>(&self, wait: impl FnOnce() -> R + Send) -> R {
        wait()
    }
}

/// The engine cannot go on, or could not start.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(pub String);
