//! Keeps calls with a time limit to that limit, although they run user code.
//!
//! A call such as `close_within` may dispatch events on the calling thread, and so call wakers and
//! drop payloads. Neither can be interrupted. But once the time is over, the calling thread need
//! not begin another one: it hands the rest over to another thread. So the call exceeds its limit
//! by one payload's drop or one call of a waker at most, and by the library's own work.
//!
//! * [`TimeLimit`] sets the limit of the calling thread.
//! * [`is_over`] is asked before each piece of user code that can be handed over.
//! * [`must_stop`] is asked between the passes of a loop.
//! * [`hand_over`] runs what is left on the thread `fanout-late`, which all buses share. It starts
//!   when it is needed, and ends when it has nothing left to do.
//!
//! A limit of zero means: without waiting. Then the calling thread does all that it can do without
//! another thread, which is bounded by what was published before. So programs under manual dispatch
//! are deterministic.
//!
//! # Failure modes
//!
//! * **The thread cannot be started**: the calling thread runs the code itself, and exceeds its
//!   limit.
//! * **User code that was handed over never returns**: other code that is handed over waits behind
//!   it. No call of the library waits for it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::contain::contain;

/// The limit of a thread.
#[derive(Clone, Copy)]
struct Limit {
    deadline: Instant,
    /// The limit is zero.
    without_waiting: bool,
}

std::thread_local!(static LIMIT: Cell<Option<Limit>> = const { Cell::new(None) });

/// The calling thread has a time limit while the value is alive.
pub(crate) struct TimeLimit {
    outer: Option<Limit>,
    deadline: Option<Instant>,
}

impl TimeLimit {
    /// Begins a limit. Inside of another one, the earlier one holds.
    #[inline]
    pub(crate) fn enter(limit: Duration) -> Self {
        let deadline = Instant::now().checked_add(limit);
        let outer = LIMIT.get();
        let inner = deadline.map(|deadline| Limit {
            deadline,
            without_waiting: limit.is_zero(),
        });
        LIMIT.set(match (outer, inner) {
            (Some(outer), Some(inner)) if outer.deadline <= inner.deadline => Some(outer),
            (outer, inner) => inner.or(outer),
        });
        Self { outer, deadline }
    }

    /// When it is over. `None`: never, since the clock cannot represent that time.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

impl Drop for TimeLimit {
    #[inline]
    fn drop(&mut self) {
        LIMIT.set(self.outer);
    }
}

/// Whether the calling thread has a time limit.
#[inline]
pub(crate) fn is_set() -> bool {
    limit().is_some()
}

/// Whether the time of the calling thread is over. `false` if it has no limit.
#[inline]
pub(crate) fn is_over() -> bool {
    limit().is_some_and(|limit| Instant::now() >= limit.deadline)
}

/// Whether the calling thread must begin no other pass: its time is over, and the limit was not
/// zero.
#[inline]
pub(crate) fn must_stop() -> bool {
    limit().is_some_and(|limit| !limit.without_waiting && Instant::now() >= limit.deadline)
}

#[inline]
fn limit() -> Option<Limit> {
    if cfg!(loom) {
        return None; // time does not pass in a model
    }
    // A thread that is ending, whose thread-locals are destroyed, has none.
    LIMIT.try_with(Cell::get).unwrap_or(None)
}

type Job = Box<dyn FnOnce() + Send>;

struct Late {
    /// In the order in which they were handed over.
    jobs: VecDeque<Job>,
    /// Whether the thread runs.
    running: bool,
}

static LATE: Mutex<Late> = Mutex::new(Late {
    jobs: VecDeque::new(),
    running: false,
});

/// Runs user code on another thread. A panic of it is contained.
#[cold]
pub(crate) fn hand_over(job: impl FnOnce() + Send + 'static) {
    if cfg!(loom) {
        return job(); // a model has the threads that it starts itself
    }
    let mut late = lock();
    late.jobs.push_back(Box::new(job));
    if std::mem::replace(&mut late.running, true) {
        return;
    }
    drop(late);
    let started = std::thread::Builder::new()
        .name("fanout-late".to_owned())
        .spawn(run_late);
    if started.is_err() {
        run_late();
    }
}

/// No user code runs with the lock held, so no panic poisons it.
fn lock() -> MutexGuard<'static, Late> {
    LATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run_late() {
    loop {
        let mut late = lock();
        let Some(job) = late.jobs.pop_front() else {
            late.running = false;
            return;
        };
        drop(late);
        contain("user code that was handed over", job);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_earlier_limit_holds_until_it_is_left() {
        const LONG: Duration = Duration::from_secs(3600);
        assert!(!is_set() && !is_over());
        let outer = TimeLimit::enter(LONG);
        assert!(is_set() && !is_over());
        {
            let inner = TimeLimit::enter(Duration::from_nanos(1));
            std::thread::sleep(Duration::from_millis(1));
            assert!(is_over() && must_stop());
            assert!(
                inner
                    .deadline()
                    .is_some_and(|deadline| deadline < Instant::now())
            );
            let _longer = TimeLimit::enter(LONG);
            let _endless = TimeLimit::enter(Duration::MAX);
            let _zero = TimeLimit::enter(Duration::ZERO);
            assert!(is_over() && must_stop());
        }
        assert!(is_set() && !is_over());
        drop(outer);
        assert!(!is_set());
    }

    #[test]
    fn a_limit_of_zero_does_not_stop_what_needs_no_other_thread() {
        let _limit = TimeLimit::enter(Duration::ZERO);
        assert!(is_over() && !must_stop());
    }

    #[test]
    fn what_is_handed_over_runs_in_order_on_another_thread_also_after_a_panic() {
        let (sender, receiver) = mpsc::channel();
        for n in 0..100 {
            let sender = sender.clone();
            hand_over(move || {
                sender.send((n, std::thread::current().id())).unwrap();
                std::panic::resume_unwind(Box::new("a panic that a test provokes"));
            });
        }
        for n in 0..100 {
            let (number, thread) = receiver.recv_timeout(Duration::from_secs(60)).unwrap();
            assert_eq!(number, n);
            assert_ne!(thread, std::thread::current().id());
        }
    }
}
