//! Leases on prepared voices: one that is in use must outlive its file.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

#[derive(Debug)]
pub(super) struct VoiceLeases {
    /// By content hash.
    leased: Mutex<HashMap<String, LeasedVoice>>,
    /// Receives the content hash of each removed voice whose last lease has ended.
    released: UnboundedSender<String>,
}

#[derive(Debug, Default)]
struct LeasedVoice {
    requests: usize,
    /// Whether no file has this content any more.
    removed: bool,
}

/// Keeps a voice in the engine until it is dropped.
#[derive(Debug)]
pub struct VoiceLease {
    leases: Arc<VoiceLeases>,
    key: String,
}

impl VoiceLeases {
    pub(super) fn new(released: UnboundedSender<String>) -> Self {
        Self {
            leased: Mutex::default(),
            released,
        }
    }

    /// `removed`: no file has this content, as far as the caller knows.
    pub(super) fn lease(self: &Arc<Self>, key: &str, removed: bool) -> VoiceLease {
        let mut leased = self.lock();
        let entry = leased.entry(key.to_owned()).or_default();
        entry.requests += 1;
        entry.removed |= removed;
        drop(leased);
        VoiceLease {
            leases: Arc::clone(self),
            key: key.to_owned(),
        }
    }

    /// Marks a content as removed, and returns whether no request has a lease on it. If one has, it is sent to `released`
    /// with its last lease's end.
    pub(super) fn remove(&self, key: &str) -> bool {
        match self.lock().get_mut(key) {
            Some(voice) => {
                voice.removed = true;
                false
            }
            None => true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, LeasedVoice>> {
        self.leased.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for VoiceLease {
    fn drop(&mut self) {
        let mut leased = self.leases.lock();
        let Some(entry) = leased.get_mut(&self.key) else {
            return;
        };
        entry.requests -= 1;
        if entry.requests > 0 {
            return;
        }
        if entry.removed {
            // The receiver is dropped when the server ends.
            let _ = self.leases.released.send(self.key.clone());
        }
        leased.remove(&self.key);
    }
}
