//! Threads that share the work of one computation at a time.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread without work looks for some before it sleeps: longer than the gaps between the layers of a network,
/// shorter than anything a meter of processor time would show.
const SPIN: Duration = Duration::from_micros(100);
/// How often a waiting thread looks before it asks for the time.
const LOOKS: u32 = 64;

/// A job's numbers are claimed from a word of its serial number (high half) and the tasks that are left (low half). A claim
/// is a compare-and-swap of the whole word, so that a thread that comes late can take nothing but a task of the job that is
/// running.
const LEFT: u64 = u32::MAX as u64;

type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// A fixed number of threads, the caller's among them. They sleep when there is nothing to do.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    claims: AtomicU64,
    job: UnsafeCell<Job>,
    done: AtomicUsize,
    /// Taken by the caller for as long as its job runs: one job at a time.
    turn: Mutex<()>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleeping: AtomicUsize,
    asleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
}

#[derive(Clone, Copy)]
struct Job {
    work: Option<*const Work<'static>>,
    tasks: usize,
}

// SAFETY: `job` is the only part that is not `Sync` by itself. It is written by the holder of `turn` while `claims` offers no
// task, and read only by a thread that has claimed a task of it, which its caller waits for.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `job` is to something `Sync`.
unsafe impl Send for Shared {}

thread_local! {
    /// Whether this thread is running a task: what it starts from there it does itself.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Pool {
    /// `threads` counts the one that calls `run`; 0 is taken as 1. Where the system gives no more threads, the pool has fewer.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            claims: AtomicU64::new(0),
            job: UnsafeCell::new(Job {
                work: None,
                tasks: 0,
            }),
            done: AtomicUsize::new(0),
            turn: Mutex::new(()),
            panic: Mutex::new(None),
            sleeping: AtomicUsize::new(0),
            asleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let workers = (1..threads)
            .map_while(|number| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("compute-{number}"))
                    .spawn(move || shared.serve())
                    .ok()
            })
            .collect();
        Self { shared, workers }
    }

    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `work` once for every number below `tasks`, on all threads, and returns when all are done. Tasks are claimed in
    /// order. A second caller waits for the first; a task that calls `run` does those tasks itself. A panic of a task goes on
    /// in the caller after the last task.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        let countable = u32::try_from(tasks).is_ok();
        if tasks <= 1 || self.workers.is_empty() || !countable || INSIDE.get() {
            (0..tasks).for_each(work);
            return;
        }
        let shared = &*self.shared;
        let turn = shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: only the lifetime changes. `work` outlives the job: this function returns when every task is done, and no
        // thread looks at the job without having claimed one.
        let work = unsafe { std::mem::transmute::<&Work<'_>, &'static Work<'static>>(work) };
        // SAFETY: the last job has no task left, so nobody reads it, and `turn` keeps other writers out.
        unsafe {
            *shared.job.get() = Job {
                work: Some(std::ptr::from_ref(work)),
                tasks,
            };
        }
        shared.done.store(0, Ordering::Relaxed);
        let serial = (shared.claims.load(Ordering::Relaxed) | LEFT).wrapping_add(1);
        shared.claims.store(serial | tasks as u64, Ordering::SeqCst);
        if shared.sleeping.load(Ordering::SeqCst) > 0 {
            drop(shared.asleep.lock().unwrap_or_else(PoisonError::into_inner));
            shared.wake.notify_all();
        }
        while shared.work() {}
        let mut waiting = Waiting::new();
        while shared.done.load(Ordering::Acquire) < tasks {
            if waiting.is_over() {
                // Another process may have the core that the last task needs.
                std::thread::yield_now();
            }
        }
        let panic = shared
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(
            self.shared
                .asleep
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its tasks' panics, so it ends well.
            drop(worker.join());
        }
    }
}

impl Shared {
    /// A worker's life.
    fn serve(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut waiting = Waiting::new();
            while !self.work() {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                if waiting.is_over() {
                    self.sleep();
                    waiting = Waiting::new();
                }
            }
        }
    }

    /// Sleeps until there may be work. The caller of a job looks at `sleeping` after it has offered tasks, this thread looks
    /// for tasks after it has counted itself: one of the two sees the other.
    fn sleep(&self) {
        let mut asleep = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        while self.claims.load(Ordering::SeqCst) & LEFT == 0 && !self.stop.load(Ordering::SeqCst) {
            asleep = self
                .wake
                .wait(asleep)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
    }

    /// Claims one task and does it; false if there was none.
    fn work(&self) -> bool {
        let mut claims = self.claims.load(Ordering::Relaxed);
        loop {
            if claims & LEFT == 0 {
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
            let task = job.tasks - (claims & LEFT) as usize;
            INSIDE.set(true);
            // SAFETY: the caller holds what `work` points to until this task is counted in `done`.
            let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*work)(task) }));
            INSIDE.set(false);
            if let Err(panic) = result {
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }
}

/// A wait that keeps the core for `SPIN`.
struct Waiting {
    looks: u32,
    since: Option<Instant>,
}

impl Waiting {
    fn new() -> Self {
        Self {
            looks: 0,
            since: None,
        }
    }

    fn is_over(&mut self) -> bool {
        std::hint::spin_loop();
        self.looks += 1;
        if self.looks < LOOKS {
            return false;
        }
        self.looks = 0;
        self.since.get_or_insert_with(Instant::now).elapsed() > SPIN
    }
}
