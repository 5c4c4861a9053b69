//! What a request and the connection that carries its audio know of each other: how much audio was handed over, and whether
//! the client has stopped reading. Only the connection can know that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::futures::TaskLocalFuture;
use tokio::task_local;
use tokio_util::sync::CancellationToken;

task_local! {
    static CURRENT: Listener;
}

/// The receiver of one or more requests' audio.
#[derive(Clone, Default)]
pub struct Listener {
    stalled: CancellationToken,
    handed: Arc<Delivered>,
}

/// Audio that was delivered.
#[derive(Default)]
struct Delivered {
    microseconds: AtomicU64,
    bytes: AtomicU64,
}

impl Listener {
    /// The listener of the scope that the caller runs in. Outside of any, where audio goes into a file, none stalls.
    pub fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// Requests that `future` starts are for this listener.
    pub fn scope<F: Future>(&self, future: F) -> TaskLocalFuture<Self, F> {
        CURRENT.scope(self.clone(), future)
    }

    /// Like the above, for the requests that `function` starts.
    pub fn sync_scope<T>(&self, function: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), function)
    }

    /// Cancelled when the client has stopped reading.
    pub fn stalled(&self) -> &CancellationToken {
        &self.stalled
    }

    pub(crate) fn delivered_audio(&self, seconds: f64, bytes: usize) {
        let microseconds = (seconds * 1e6) as u64;
        self.handed
            .microseconds
            .fetch_add(microseconds, Ordering::Relaxed);
        self.handed.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Seconds of audio in each byte so far; 0 where there is none.
    pub fn seconds_per_byte(&self) -> f64 {
        let bytes = self.handed.bytes.load(Ordering::Relaxed).max(1);
        self.handed.microseconds.load(Ordering::Relaxed) as f64 / 1e6 / bytes as f64
    }
}
