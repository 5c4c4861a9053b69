//! The engine's state, readable without asking its thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use super::messages::EngineInfo;

/// The engine's life, in order.
#[derive(Clone, Debug)]
pub enum EngineState {
    Loading,
    Ready(Arc<EngineInfo>),
    /// The reason, a sentence. Final.
    Failed(String),
    Stopped,
}

/// Progress of loading one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// The item's name, for people.
    pub what: String,
    /// In the same unit as `total`, bytes as a rule.
    pub done: u64,
    /// 0 when it is not known.
    pub total: u64,
}

/// Written by the engine's thread, read by all others.
pub struct EngineStatus {
    state: watch::Sender<EngineState>,
    progress: watch::Sender<Option<Progress>>,
    born: Instant,
    /// Milliseconds since `born` at which the step in progress began, plus one; 0 between steps.
    step_began: AtomicU64,
    voice_cache_bytes: AtomicU64,
}

impl EngineStatus {
    pub(super) fn new() -> Self {
        Self {
            state: watch::Sender::new(EngineState::Loading),
            progress: watch::Sender::new(None),
            born: Instant::now(),
            step_began: AtomicU64::new(0),
            voice_cache_bytes: AtomicU64::new(0),
        }
    }

    pub fn state(&self) -> EngineState {
        self.state.borrow().clone()
    }

    /// The loaded models, once they are loaded and until the engine fails.
    pub fn ready(&self) -> Option<Arc<EngineInfo>> {
        match &*self.state.borrow() {
            EngineState::Ready(info) => Some(Arc::clone(info)),
            _ => None,
        }
    }

    pub fn subscribe(&self) -> watch::Receiver<EngineState> {
        self.state.subscribe()
    }

    /// The latest progress of loading, if any.
    pub fn progress(&self) -> watch::Receiver<Option<Progress>> {
        self.progress.subscribe()
    }

    /// Sets how far the loading is.
    pub fn loading(&self, progress: Progress) {
        self.progress.send_replace(Some(progress));
    }

    /// Resolves when the engine has failed.
    pub async fn failed(&self) {
        let mut states = self.state.subscribe();
        // The sender lives as long as `self`.
        let _ = states
            .wait_for(|state| matches!(state, EngineState::Failed(_)))
            .await;
    }

    /// For how long the step in progress has been running.
    pub fn in_step_for(&self) -> Option<Duration> {
        let began = self.step_began.load(Ordering::Relaxed).checked_sub(1)?;
        Some(
            self.born
                .elapsed()
                .saturating_sub(Duration::from_millis(began)),
        )
    }

    pub fn voice_cache_bytes(&self) -> u64 {
        self.voice_cache_bytes.load(Ordering::Relaxed)
    }

    /// A failure is final: no later state replaces it.
    pub(super) fn set(&self, state: EngineState) {
        self.state.send_if_modified(|current| {
            let open = !matches!(current, EngineState::Failed(_));
            if open {
                *current = state;
            }
            open
        });
    }

    /// Declares the engine dead from outside, as the watchdog does.
    pub fn fail(&self, reason: String) {
        self.set(EngineState::Failed(reason));
    }

    pub(super) fn step_begins(&self) {
        let now = self.born.elapsed().as_millis() as u64;
        self.step_began.store(now + 1, Ordering::Relaxed);
    }

    pub(super) fn step_ends(&self, voice_cache_bytes: u64) {
        self.step_began.store(0, Ordering::Relaxed);
        self.voice_cache_bytes
            .store(voice_cache_bytes, Ordering::Relaxed);
    }
}
