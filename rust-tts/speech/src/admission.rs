//! Admission: who may speak now, who waits, who is sent away, and for how long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Code, Error};

/// Weight of the latest request in the running mean of service times.
const SMOOTHING: f64 = 0.2;

/// Slots for requests that speak, and a bounded first-come-first-served queue before them.
pub struct Admission {
    slots: Arc<Semaphore>,
    slot_count: usize,
    waiting: AtomicUsize,
    max_waiting: usize,
    /// Running mean of the seconds that a slot is held; from it `Retry-After` is made.
    service_seconds: Mutex<f64>,
}

/// A slot; dropping it frees the slot.
pub struct Slot {
    admission: Arc<Admission>,
    taken: Instant,
    _permit: OwnedSemaphorePermit,
}

/// A place in the queue; dropping it leaves the queue.
pub struct Place {
    admission: Arc<Admission>,
}

impl Admission {
    pub fn new(slot_count: usize, max_waiting: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(slot_count)),
            slot_count,
            waiting: AtomicUsize::new(0),
            max_waiting,
            service_seconds: Mutex::new(1.0),
        })
    }

    /// Takes a place in the queue, or says when to come again. A place is needed even if a slot is free.
    pub fn enqueue(self: &Arc<Self>) -> Result<Place, Error> {
        let places = self.max_waiting + self.slots.available_permits();
        let taken = self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < places).then_some(n + 1)
            });
        if taken.is_err() {
            let message = format!(
                "All {} slots are busy and {} requests wait.",
                self.slot_count,
                self.waiting()
            );
            return Err(Error::new(Code::QueueFull, message).retry_after(self.retry_after()));
        }
        Ok(Place {
            admission: Arc::clone(self),
        })
    }

    pub fn slots(&self) -> usize {
        self.slot_count
    }

    pub fn running(&self) -> usize {
        self.slot_count - self.slots.available_permits()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Seconds until the queue of now has been served, by the measured rate. At least 1, at most 600.
    pub fn retry_after(&self) -> u64 {
        let mean = *self
            .service_seconds
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let rounds = (self.waiting() + 1) as f64 / self.slot_count as f64;
        (mean * rounds).ceil().clamp(1.0, 600.0) as u64
    }

    fn served(&self, held: Duration) {
        let mut mean = self
            .service_seconds
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *mean += SMOOTHING * (held.as_secs_f64() - *mean);
    }
}

impl Place {
    /// Waits for a slot.
    pub async fn slot(self) -> Result<Slot, Error> {
        let slots = Arc::clone(&self.admission.slots);
        // The semaphore is never closed.
        let permit = slots
            .acquire_owned()
            .await
            .map_err(|_| Error::engine_gone())?;
        Ok(Slot {
            admission: Arc::clone(&self.admission),
            taken: Instant::now(),
            _permit: permit,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.admission.served(self.taken.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn test_queue_is_bounded_and_fifo() {
        let admission = Admission::new(1, 1);
        let slot = admission.enqueue().unwrap().slot().await.unwrap();
        assert_eq!((admission.running(), admission.waiting()), (1, 0));
        let place = admission.enqueue().unwrap();
        let refused = admission.enqueue().err().unwrap();
        assert_eq!(refused.code, Code::QueueFull);
        assert!(refused.retry_after.unwrap() >= 1);
        drop(slot);
        let slot = place.slot().await.unwrap();
        assert_eq!((admission.running(), admission.waiting()), (1, 0));
        drop(slot);
        assert_eq!(admission.running(), 0);
    }

    #[tokio::test]
    async fn test_leaving_queue_frees_place() {
        let admission = Admission::new(1, 1);
        let _slot = admission.enqueue().unwrap().slot().await.unwrap();
        let waiting = tokio::spawn(admission.enqueue().unwrap().slot());
        tokio::task::yield_now().await;
        waiting.abort();
        let _ = waiting.await;
        assert_eq!(admission.waiting(), 0);
        assert!(admission.enqueue().is_ok());
    }

    #[test]
    fn test_retry_after_follows_measured_rate() {
        let admission = Admission::new(2, 8);
        for _ in 0..50 {
            admission.served(Duration::from_secs(20));
        }
        let _places: Vec<_> = (0..3).map(|_| admission.enqueue().unwrap()).collect();
        assert_eq!(admission.retry_after(), 40);
    }
}
