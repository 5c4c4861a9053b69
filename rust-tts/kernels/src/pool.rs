//! A fork-join thread pool: parallel loops of short tasks, which follow each other within microseconds.
//!
//! Its threads spin between the loops of a network, and a job allocates nothing.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread without work spins before it sleeps: longer than the gaps between the layers of a network, too short to
/// show as processor time.
const SPIN: Duration = Duration::from_micros(100);
/// How often a spinning thread polls before it reads the clock.
const POLLS: u32 = 64;

/// Mask of the tasks of a job that are not claimed yet; the high half of the word is the job's serial number. A claim is a
/// compare-and-swap of the whole word, so that a late thread can only claim a task of the job that is running.
const REMAINING: u64 = u32::MAX as u64;

type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// A fixed number of threads, the caller's among them. They sleep when there is nothing to do.
pub struct Pool {
    state: Arc<State>,
    workers: Vec<JoinHandle<()>>,
}

struct State {
    claims: AtomicU64,
    job: UnsafeCell<Job>,
    done: AtomicUsize,
    /// Held by the caller while its job runs: one job at a time.
    job_lock: Mutex<()>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleeping: AtomicUsize,
    sleep_lock: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
}

#[derive(Clone, Copy)]
struct Job {
    work: Option<*const Work<'static>>,
    tasks: usize,
}

// SAFETY: `job` is the only part that is not `Sync` by itself. It is written by the holder of `job_lock` while `claims` offers no
// task, and read only by a thread that has claimed a task of it, which its caller waits for.
unsafe impl Sync for State {}
// SAFETY: as above; the pointer in `job` is to something `Sync`.
unsafe impl Send for State {}

thread_local! {
    /// Whether this thread is running a task: loops that it starts then run on it alone.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

impl Pool {
    /// `threads` counts the one that calls `run`; 0 is taken as 1. Where the system gives no more threads, the pool has fewer.
    pub fn new(threads: usize) -> Self {
        let state = Arc::new(State {
            claims: AtomicU64::new(0),
            job: UnsafeCell::new(Job {
                work: None,
                tasks: 0,
            }),
            done: AtomicUsize::new(0),
            job_lock: Mutex::new(()),
            panic: Mutex::new(None),
            sleeping: AtomicUsize::new(0),
            sleep_lock: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let workers = (1..threads)
            .map_while(|number| {
                let state = Arc::clone(&state);
                std::thread::Builder::new()
                    .name(format!("compute-{number}"))
                    .spawn(move || state.worker_loop())
                    .ok()
            })
            .collect();
        Self { state, workers }
    }

    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `work` once for every number below `tasks`, on all threads, and returns when all are done. Tasks are claimed in
    /// order. A second caller waits for the first; a task that calls `run` does those tasks itself. A panic of a task is
    /// resumed in the caller after the last task.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        let countable = u32::try_from(tasks).is_ok();
        if tasks <= 1 || self.workers.is_empty() || !countable || IN_TASK.get() {
            (0..tasks).for_each(work);
            return;
        }
        let state = &*self.state;
        let job_lock = state
            .job_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // SAFETY: only the lifetime changes. `work` outlives the job: this function returns when every task is done, and no
        // thread reads the job without having claimed one.
        let work = unsafe { std::mem::transmute::<&Work<'_>, &'static Work<'static>>(work) };
        // SAFETY: the last job has no task left, so nobody reads it, and `job_lock` keeps other writers out.
        unsafe {
            *state.job.get() = Job {
                work: Some(std::ptr::from_ref(work)),
                tasks,
            };
        }
        state.done.store(0, Ordering::Relaxed);
        let serial = (state.claims.load(Ordering::Relaxed) | REMAINING).wrapping_add(1);
        state.claims.store(serial | tasks as u64, Ordering::SeqCst);
        if state.sleeping.load(Ordering::SeqCst) > 0 {
            drop(
                state
                    .sleep_lock
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner),
            );
            state.wake.notify_all();
        }
        while state.run_one() {}
        let mut wait = SpinWait::new();
        while state.done.load(Ordering::Acquire) < tasks {
            if wait.expired() {
                // Another process may have the core that the last task needs.
                std::thread::yield_now();
            }
        }
        let panic = state
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(job_lock);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        drop(
            self.state
                .sleep_lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.state.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its tasks' panics, so it ends well.
            drop(worker.join());
        }
    }
}

impl State {
    /// A worker thread's loop.
    fn worker_loop(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut wait = SpinWait::new();
            while !self.run_one() {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                if wait.expired() {
                    self.sleep();
                    wait = SpinWait::new();
                }
            }
        }
    }

    /// Sleeps until there may be work. The caller of a job reads `sleeping` after it has published tasks, this thread reads the
    /// tasks after it has counted itself: one of the two notices the other.
    fn sleep(&self) {
        let mut sleep_lock = self
            .sleep_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        while self.claims.load(Ordering::SeqCst) & REMAINING == 0
            && !self.stop.load(Ordering::SeqCst)
        {
            sleep_lock = self
                .wake
                .wait(sleep_lock)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
    }

    /// Claims one task and runs it; false if there was none.
    fn run_one(&self) -> bool {
        let mut claims = self.claims.load(Ordering::Relaxed);
        loop {
            if claims & REMAINING == 0 {
                return false;
            }
            match self.claims.compare_exchange_weak(
                claims,
                claims - 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(changed) => claims = changed,
            }
        }
        // SAFETY: the claimed task is not done, so the job's caller waits and the job stays as it is.
        let job = unsafe { *self.job.get() };
        if let Some(work) = job.work {
            let task = job.tasks - (claims & REMAINING) as usize;
            IN_TASK.set(true);
            // SAFETY: the caller holds what `work` points to until this task is counted in `done`.
            let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*work)(task) }));
            IN_TASK.set(false);
            if let Err(panic) = result {
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }
}

/// Spins for [`SPIN`].
struct SpinWait {
    polls: u32,
    since: Option<Instant>,
}

impl SpinWait {
    fn new() -> Self {
        Self {
            polls: 0,
            since: None,
        }
    }

    fn expired(&mut self) -> bool {
        std::hint::spin_loop();
        self.polls += 1;
        if self.polls < POLLS {
            return false;
        }
        self.polls = 0;
        self.since.get_or_insert_with(Instant::now).elapsed() > SPIN
    }
}
