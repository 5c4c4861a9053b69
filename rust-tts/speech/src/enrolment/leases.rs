//! Who speaks with a voice: what was computed of it must outlive its file until they have finished.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

/// Requests by the content hash of their voice.
#[derive(Debug)]
pub(super) struct VoiceLeases {
    held: Mutex<HashMap<String, LeasedVoice>>,
    /// Who hears of a content that is gone and that nobody speaks with any more.
    released: UnboundedSender<String>,
}

#[derive(Debug, Default)]
struct LeasedVoice {
    requests: usize,
    /// No file has this content any more.
    removed: bool,
}

/// A request's hold on a voice.
#[derive(Debug)]
pub struct VoiceLease {
    leases: Arc<VoiceLeases>,
    key: String,
}

impl VoiceLeases {
    pub(super) fn new(released: UnboundedSender<String>) -> Self {
        Self {
            held: Mutex::default(),
            released,
        }
    }

    /// `removed`: no file has this content, as far as the holder knows.
    pub(super) fn lease(self: &Arc<Self>, key: &str, removed: bool) -> VoiceLease {
        let mut held = self.lock();
        let entry = held.entry(key.to_owned()).or_default();
        entry.requests += 1;
        entry.removed |= removed;
        drop(held);
        VoiceLease {
            leases: Arc::clone(self),
            key: key.to_owned(),
        }
    }

    /// Whether nobody speaks with this content, which is gone. If somebody does, the last of them to end says so.
    pub(super) fn free(&self, key: &str) -> bool {
        match self.lock().get_mut(key) {
            Some(held) => {
                held.removed = true;
                false
            }
            None => true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, LeasedVoice>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for VoiceLease {
    fn drop(&mut self) {
        let mut held = self.leases.lock();
        let Some(entry) = held.get_mut(&self.key) else {
            return;
        };
        entry.requests -= 1;
        if entry.requests > 0 {
            return;
        }
        if entry.removed {
            // Nobody listens any more when the server ends.
            let _ = self.leases.released.send(self.key.clone());
        }
        held.remove(&self.key);
    }
}
