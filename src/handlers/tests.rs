//! Workers that the system suspends. A test cannot suspend a thread, so a queue without a thread
//! takes the place of such a worker.

use std::time::{Duration, Instant};

use super::pool::tests::TestPool;
use crate::sync::thread;

/// Waits for a condition, longer than a busy machine needs.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The worker that is woken for a job is suspended before it runs, while another worker sleeps.
#[test]
fn a_suspended_worker_that_was_woken_delays_no_job() {
    let pool = TestPool::new(2);
    pool.add_suspended_worker();
    pool.start();
    // Also after the monitor has fallen asleep.
    for pause in [50, 300] {
        thread::sleep(Duration::from_millis(pause));
        pool.suspended_worker_sleeps();
        let before = pool.turns();
        pool.push_job();
        eventually("another worker takes the job", || pool.turns() > before);
    }
}

/// The same with jobs in the slots of that worker.
#[test]
fn the_jobs_of_a_suspended_worker_are_taken_by_others() {
    let pool = TestPool::new(2);
    pool.add_suspended_worker();
    (0..30).for_each(|_| pool.push_job());
    assert!(pool.suspended_worker_takes_a_job());
    pool.start();
    eventually("the other 29 get turns", || pool.turns() == 29);
}

/// There is no other worker, but there are spare threads.
#[test]
fn a_spare_thread_takes_the_jobs_of_the_only_worker() {
    let pool = TestPool::new(1);
    pool.add_suspended_worker();
    pool.start();
    (0..30).for_each(|_| pool.push_job());
    eventually("they get turns", || pool.turns() == 30);
    eventually("the additional threads end", || pool.additional() == 0);
}
