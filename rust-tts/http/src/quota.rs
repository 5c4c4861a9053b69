//! Counts what each client holds of something.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what each client holds of something, up to a limit each and in all.
pub struct Quota {
    per_client: usize,
    total: usize,
    held: Mutex<HashMap<String, usize>>,
}

/// One held piece of a [`Quota`].
pub struct QuotaPermit {
    quota: Arc<Quota>,
    client: String,
}

impl Quota {
    pub fn new(per_client: usize, total: usize) -> Arc<Self> {
        Arc::new(Self {
            per_client,
            total,
            held: Mutex::new(HashMap::new()),
        })
    }

    /// `None` when the client, or all clients together, hold as much as is allowed.
    pub fn take(self: &Arc<Self>, client: &str) -> Option<QuotaPermit> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.values().sum::<usize>() >= self.total
            || held.get(client).is_some_and(|n| *n >= self.per_client)
        {
            return None;
        }
        *held.entry(client.to_owned()).or_insert(0) += 1;
        Some(QuotaPermit {
            quota: Arc::clone(self),
            client: client.to_owned(),
        })
    }

    pub fn count(&self) -> usize {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .sum()
    }
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        let mut held = self
            .quota
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_quota_counts_per_client_and_total() {
        let quota = Quota::new(2, 3);
        let first = quota.take("a").unwrap();
        let _second = quota.take("a").unwrap();
        assert!(quota.take("a").is_none());
        let _third = quota.take("b").unwrap();
        assert!(quota.take("c").is_none());
        drop(first);
        assert!(quota.take("a").is_some());
    }
}
