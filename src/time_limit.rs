//! Keeps calls with a time limit to that limit, although they run user code.
//!
//! A call such as `close_within` may dispatch events on the calling thread, and so call wakers and
//! drop payloads. Neither can be interrupted. But once the time is over, the calling thread need
//! not begin another one: it hands the rest over to another thread. So the call exceeds its limit
//! by one payload's drop or one call of a waker at most, and by the library's own work.
//!
//! * [`TimeLimit`] sets the limit of the calling thread.
//! * [`is_over`] is checked before each piece of user code, and between the passes of a loop.
//! * [`hand_over`] runs what is left on the threads `fanout-drop` and `fanout-wake`, which all
//!   buses share. They start when they are needed, and end when they have nothing left to do.
//!
//! A limit of zero means: without waiting. It limits no user code: the calling thread does all that
//! it can do without another thread, which is bounded by what was published before. So programs
//! under manual dispatch are deterministic.
//!
//! Threads that sleep in this library are never woken by way of another thread: see
//! [`park::wake`](crate::park::wake).
//!
//! # Failure modes
//!
//! * **The thread cannot be started**: the calling thread runs the code itself, and exceeds its
//!   limit.
//! * **User code that was handed over never returns**: other code of its kind that is handed over
//!   waits behind it. A payload's drop does not keep a task from being woken.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::contain::contain;

std::thread_local!(static LIMIT: Cell<Option<Instant>> = const { Cell::new(None) });

/// The calling thread has a time limit while the value is alive.
pub(crate) struct TimeLimit {
    outer: Option<Instant>,
    deadline: Option<Instant>,
}

impl TimeLimit {
    /// Begins a limit. Inside of another one, the earlier one holds. A limit of zero limits nothing
    /// here.
    #[inline]
    pub(crate) fn enter(limit: Duration) -> Self {
        let deadline = Instant::now().checked_add(limit);
        let outer = LIMIT.get();
        let inner = deadline.filter(|_| !limit.is_zero());
        LIMIT.set(match (outer, inner) {
            (Some(outer), Some(inner)) => Some(outer.min(inner)),
            (outer, inner) => outer.or(inner),
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

/// The calling thread has no time limit while the value is alive: it runs user code, and the calls
/// that this code makes have limits of their own.
pub(crate) struct Suspended(Option<Instant>);

/// Suspends the time limit of the calling thread.
#[inline]
pub(crate) fn suspend() -> Suspended {
    Suspended(LIMIT.take())
}

impl Drop for Suspended {
    #[inline]
    fn drop(&mut self) {
        LIMIT.set(self.0);
    }
}

/// Whether the calling thread has a time limit.
#[inline]
pub(crate) fn is_set() -> bool {
    limit().is_some()
}

/// Whether the time of the calling thread is over, so that it must begin no other piece of user
/// code, and no other pass. `false` if it has no limit.
#[inline]
pub(crate) fn is_over() -> bool {
    limit().is_some_and(|deadline| Instant::now() >= deadline)
}

#[inline]
fn limit() -> Option<Instant> {
    if cfg!(loom) {
        return None; // time does not pass in a model
    }
    // A thread that is ending, whose thread-locals are destroyed, has none.
    LIMIT.try_with(Cell::get).unwrap_or(None)
}

type Job = Box<dyn FnOnce() + Send>;

/// User code that was handed over.
struct HandedOver {
    /// In the order in which it was handed over.
    jobs: VecDeque<Job>,
    /// Whether the thread runs.
    running: bool,
}

/// What is handed over. Each kind has a separate thread.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Drop,
    Wake,
}

static HANDED_OVER: [Mutex<HandedOver>; 2] = [const {
    Mutex::new(HandedOver {
        jobs: VecDeque::new(),
        running: false,
    })
}; 2];

/// Runs user code on another thread. A panic of it is contained.
#[cold]
pub(crate) fn hand_over(kind: Kind, job: impl FnOnce() + Send + 'static) {
    if cfg!(loom) {
        return job(); // a model has the threads that it starts itself
    }
    let mut handed_over = lock(kind);
    handed_over.jobs.push_back(Box::new(job));
    if std::mem::replace(&mut handed_over.running, true) {
        return;
    }
    drop(handed_over);
    let name = match kind {
        Kind::Drop => "fanout-drop",
        Kind::Wake => "fanout-wake",
    };
    let started = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || run_handed_over(kind));
    if started.is_err() {
        // Without the limit: the code would be handed over again.
        let _no_limit = suspend();
        run_handed_over(kind);
    }
}

/// No user code runs with the lock held, so no panic poisons it.
fn lock(kind: Kind) -> MutexGuard<'static, HandedOver> {
    HANDED_OVER[kind as usize]
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn run_handed_over(kind: Kind) {
    loop {
        let mut handed_over = lock(kind);
        let Some(job) = handed_over.jobs.pop_front() else {
            handed_over.running = false;
            return;
        };
        drop(handed_over);
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
            assert!(is_over());
            assert!(
                inner
                    .deadline()
                    .is_some_and(|deadline| deadline < Instant::now())
            );
            let _longer = TimeLimit::enter(LONG);
            let _endless = TimeLimit::enter(Duration::MAX);
            let _zero = TimeLimit::enter(Duration::ZERO);
            assert!(is_over());
        }
        assert!(is_set() && !is_over());
        drop(outer);
        assert!(!is_set());
    }

    #[test]
    fn a_limit_of_zero_limits_no_user_code() {
        let limit = TimeLimit::enter(Duration::ZERO);
        assert!(!is_set() && !is_over());
        assert!(
            limit
                .deadline()
                .is_some_and(|deadline| deadline <= Instant::now())
        );
    }

    #[test]
    fn what_is_handed_over_runs_in_order_on_another_thread_also_after_a_panic() {
        let (sender, receiver) = mpsc::channel();
        for n in 0..100 {
            let sender = sender.clone();
            hand_over(Kind::Drop, move || {
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
