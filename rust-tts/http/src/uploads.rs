//! Uploads: the memory that bodies take while they arrive, and turns at decoding what is in them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use chatterbox_speech::error::{Code, Error};

/// Files decoded at once: each has a whole file and its samples in memory.
const TURNS: usize = 4;
/// Files of the greatest size that there is memory for at once.
const FILES: usize = 8;
/// Least memory for bodies, in bytes: many small ones come at once.
const LEAST_MEMORY: usize = 64 * 1024 * 1024;

/// The limits that all uploads share.
pub struct Uploads {
    /// A permit for each byte.
    memory: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    patience: Duration,
}

/// A body's share of the memory, which grows as the body arrives. Dropping it gives the share back.
pub struct Room {
    memory: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Uploads {
    /// For files of at most `max_file` bytes; nobody waits longer than `patience` for a turn.
    pub fn new(max_file: usize, patience: Duration) -> Self {
        let memory = max_file.saturating_mul(FILES).max(LEAST_MEMORY);
        Self {
            memory: Arc::new(Semaphore::new(memory.min(Semaphore::MAX_PERMITS))),
            turns: Arc::new(Semaphore::new(TURNS)),
            patience,
        }
    }

    /// Room for a body of which nothing has arrived yet. A client that sends slowly holds what it has sent, and nobody's
    /// turn.
    pub fn room(&self) -> Room {
        Room {
            memory: Arc::clone(&self.memory),
            held: None,
        }
    }

    /// Runs work that decodes a file, in its turn and away from the threads that serve sockets. The turn lasts until the
    /// work has ended, also when the client has left: blocking work cannot be stopped.
    ///
    /// # Errors
    ///
    /// [`Code::QueueFull`] where no turn comes in time, [`Code::GenerationError`] where the work panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let turn = timeout(self.patience, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?;
        let turn = turn.map_err(|_| Error::engine_gone())?;
        let done = spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await
            .map_err(|_| Error::new(Code::GenerationError, "The file could not be used."))
    }
}

impl Room {
    /// Makes room for more bytes.
    ///
    /// # Errors
    ///
    /// [`Code::QueueFull`] where the memory for bodies is full.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        let wanted = u32::try_from(bytes).map_err(|_| busy())?;
        let more = Arc::clone(&self.memory).try_acquire_many_owned(wanted);
        let more = more.map_err(|_| busy())?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

fn busy() -> Error {
    Error::new(Code::QueueFull, "Too many files are being uploaded.").retry_after(1)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn test_decoding_permit_lasts_as_long_as_work() {
        let uploads = Uploads::new(1, Duration::from_millis(50));
        let mut ends = Vec::new();
        for _ in 0..TURNS {
            let (end, ended) = mpsc::channel::<()>();
            ends.push(end);
            // The client leaves at once; the work goes on until `end` is dropped.
            let waiting = uploads.run(move || ended.recv().is_err());
            let left = timeout(Duration::from_millis(5), waiting).await;
            assert!(left.is_err());
        }
        let refused = uploads.run(|| ()).await.unwrap_err();
        assert_eq!(refused.code, Code::QueueFull);
        let patient = Uploads {
            patience: Duration::from_secs(60),
            ..uploads
        };
        let uploads = patient;
        ends.pop();
        assert!(uploads.run(|| true).await.unwrap());
        let panicked = uploads.run(|| panic!("as decoders do")).await;
        assert_eq!(panicked.unwrap_err().code, Code::GenerationError);
        assert!(uploads.run(|| true).await.unwrap());
    }

    #[test]
    fn test_bodies_reserve_and_release_memory() {
        let uploads = Uploads::new(LEAST_MEMORY, Duration::ZERO);
        let (mut first, mut second) = (uploads.room(), uploads.room());
        for _ in 0..FILES - 1 {
            first.grow(LEAST_MEMORY).unwrap();
        }
        second.grow(LEAST_MEMORY).unwrap();
        assert_eq!(second.grow(1).unwrap_err().code, Code::QueueFull);
        drop(first);
        second.grow(1).unwrap();
    }
}
