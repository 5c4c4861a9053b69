//! Threads that share the work of one computation at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A fixed number of threads, the caller's among them.
pub struct Pool {
    threads: usize,
}

impl Pool {
    /// `threads` counts the one that calls `run`; 0 is taken as 1.
    pub fn new(threads: usize) -> Self {
        Self {
            threads: threads.max(1),
        }
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work` once for every number below `tasks`, on all threads, and returns when all are done.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let take = || {
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    return;
                }
                work(task);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.min(tasks) {
                scope.spawn(take);
            }
            take();
        });
    }
}
