use super::*;

#[test]
fn test_every_task_runs_once() {
    for threads in [1, 2, 3, 5] {
        let pool = Pool::new(threads);
        for tasks in [0, 1, 2, 7, 1000] {
            let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            pool.run(tasks, &|task| {
                counts[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
        }
    }
}

#[test]
fn test_workers_wake_for_jobs_after_sleep() {
    let pool = Pool::new(3);
    let sum = AtomicUsize::new(0);
    for job in 0..2000 {
        if job % 500 == 0 {
            std::thread::sleep(2 * SPIN);
        }
        pool.run(5, &|task| {
            sum.fetch_add(task, Ordering::Relaxed);
        });
    }
    assert_eq!(sum.into_inner(), 2000 * 10);
}

#[test]
fn test_concurrent_and_nested_calls_complete() {
    let pool = Pool::new(2);
    let sum = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    pool.run(4, &|_| {
                        pool.run(3, &|_| {
                            sum.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                }
            });
        }
    });
    assert_eq!(sum.into_inner(), 3 * 100 * 12);
}

#[test]
fn test_panic_reaches_caller_and_leaves_pool_usable() {
    let pool = Pool::new(2);
    let done = AtomicUsize::new(0);
    let result = catch_unwind(AssertUnwindSafe(|| {
        pool.run(16, &|task| {
            assert!(task != 3, "task three");
            done.fetch_add(1, Ordering::Relaxed);
        });
    }));
    assert!(result.is_err());
    assert_eq!(done.load(Ordering::Relaxed), 15);
    pool.run(16, &|_| {
        done.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(done.into_inner(), 31);
}
