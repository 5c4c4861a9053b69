//! Who speaks with a voice: what was computed of it must outlive its file until they have finished.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

/// Requests by the content hash of their voice.
#[derive(Debug)]
pub(super) struct Holds {
    held: Mutex<HashMap<String, Held>>,
    /// Who hears of a content that is gone and that nobody speaks with any more.
    released: UnboundedSender<String>,
}

#[derive(Debug, Default)]
struct Held {
    requests: usize,
    /// No file has this content any more.
    gone: bool,
}

/// A request's hold on a voice.
#[derive(Debug)]
pub struct Hold {
    holds: Arc<Holds>,
    key: String,
}

impl Holds {
    pub(super) fn new(released: UnboundedSender<String>) -> Self {
        Self {
            held: Mutex::default(),
            released,
        }
    }

    /// `gone` tells that no file has this content, as far as the holder knows.
    pub(super) fn hold(self: &Arc<Self>, key: &str, gone: bool) -> Hold {
        let mut held = self.lock();
        let entry = held.entry(key.to_owned()).or_default();
        entry.requests += 1;
        entry.gone |= gone;
        drop(held);
        Hold {
            holds: Arc::clone(self),
            key: key.to_owned(),
        }
    }

    /// Whether nobody speaks with this content, which is gone. If somebody does, the last of them to end says so.
    pub(super) fn free(&self, key: &str) -> bool {
        match self.lock().get_mut(key) {
            Some(held) => {
                held.gone = true;
                false
            }
            None => true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.holds.lock();
        let Some(entry) = held.get_mut(&self.key) else {
            return;
        };
        entry.requests -= 1;
        if entry.requests > 0 {
            return;
        }
        if entry.gone {
            // Nobody listens any more when the server ends.
            let _ = self.holds.released.send(self.key.clone());
        }
        held.remove(&self.key);
    }
}
