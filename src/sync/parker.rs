//! A token to sleep on that no other code uses: parking and unparking, after crossbeam's
//! [`Parker`].
//!
//! `std::thread::park` has one token for each thread, which all code on that thread shares. An
//! executor whose `block_on` parks its thread uses that token. If this library parked a thread
//! inside a future with `std::thread::park`, it could take the token that the executor's waker has
//! set, and the executor would sleep for ever. So this library uses a [`Parker`] with its own
//! token.
//!
//! | side | step | race that it closes |
//! | --- | --- | --- |
//! | sleeper | `park`: CAS `NOTIFIED` to `EMPTY` | an earlier unpark: no sleep |
//! | sleeper | with the lock: CAS `EMPTY` to `PARKED` | an unpark since the last step: the CAS fails, no sleep |
//! | sleeper | waits, which releases the lock | |
//! | waker | `unpark`: swaps `NOTIFIED` in | it sees `PARKED`, or the sleeper will see `NOTIFIED` |
//! | waker | if it was `PARKED`: acquires and releases the lock, then notifies | a sleeper that is `PARKED` and does not wait yet holds the lock |
//! | sleeper | swaps `EMPTY` in | a token that came with, or after, the end of the wait is taken |
//!
//! [`Parker`]: https://docs.rs/crossbeam/latest/crossbeam/sync/struct.Parker.html

#[cfg(loom)]
use loom::sync::{Condvar, Mutex};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::{AtomicU32, Ordering};

/// There is no token, and no thread sleeps.
const EMPTY: u32 = 0;
/// There is no token, and the owner sleeps or is about to sleep.
const PARKED: u32 = 1;
/// There is a token.
const NOTIFIED: u32 = 2;

/// A token for one sleeping thread.
pub(crate) struct Parker {
    /// `EMPTY`, `PARKED` or `NOTIFIED`.
    state: AtomicU32,
    lock: Mutex<()>,
    notified: Condvar,
}

impl Parker {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU32::new(EMPTY),
            lock: Mutex::new(()),
            notified: Condvar::new(),
        }
    }

    /// Takes the token. If there is none, sleeps until there is one or until the timeout. It may
    /// also return without a reason. Only the owner may call this.
    pub(crate) fn park(&self, timeout: Option<Duration>) {
        // Acquire, as below: everything that happened before the unpark is visible. Partner:
        // `unpark`.
        if self.replace(NOTIFIED, EMPTY) {
            return;
        }
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if self.replace(EMPTY, PARKED) {
            // A spurious wake-up ends this call, too: the caller looks again in any case.
            match timeout {
                None => drop(self.notified.wait(guard)),
                Some(timeout) => drop(self.notified.wait_timeout(guard, timeout)),
            }
        }
        let old = self.state.swap(EMPTY, Ordering::Acquire);
        debug_assert!(old != EMPTY, "only the owner takes the token");
    }

    /// Sets the token, and wakes the owner if it sleeps.
    pub(crate) fn unpark(&self) {
        // Release, partner `park`: everything that happened before is visible to the owner.
        if self.state.swap(NOTIFIED, Ordering::Release) == PARKED {
            drop(self.lock.lock());
            self.notified.notify_one();
        }
    }

    fn replace(&self, old: u32, new: u32) -> bool {
        self.state
            .compare_exchange(old, new, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::explore::explore;
    use crate::sync::{Arc, AtomicUsize, thread};

    /// Two threads unpark a third, which sees the writes of both, and does not sleep longer than
    /// necessary.
    #[test]
    fn loom_parker_unpark_against_park() {
        explore("parker: unpark against park", || {
            let parker = Arc::new(Parker::new());
            let sum = Arc::new(AtomicUsize::new(0));
            let unparking: Vec<_> = (0..2)
                .map(|_| {
                    let (parker, sum) = (parker.clone(), sum.clone());
                    thread::spawn(move || {
                        // Relaxed: `unpark` publishes it.
                        sum.fetch_add(1, Ordering::Relaxed);
                        parker.unpark();
                    })
                })
                .collect();
            while sum.load(Ordering::Relaxed) < 2 {
                parker.park(None);
            }
            unparking.into_iter().for_each(|u| u.join().unwrap());
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::sync::{AtomicU64, thread};

    #[test]
    fn a_token_is_taken_once() {
        let parker = Parker::new();
        parker.unpark();
        parker.unpark();
        parker.park(None);
        let began = Instant::now();
        let limit = Duration::from_millis(20);
        while began.elapsed() < limit {
            parker.park(Some(limit));
        }
        assert_eq!(parker.state.load(Ordering::Relaxed), EMPTY);
    }

    /// Two threads take turns, and each sleeps until the other one wakes it.
    #[test]
    fn stress_parker() {
        const TURNS: u64 = if cfg!(miri) { 50 } else { 10_000 };
        let parkers = [Parker::new(), Parker::new()];
        let turn = AtomicU64::new(0);
        thread::scope(|scope| {
            for side in 0..2 {
                let (parkers, turn) = (&parkers, &turn);
                scope.spawn(move || {
                    loop {
                        let current = turn.load(Ordering::Relaxed);
                        if current % 2 != side {
                            if current >= TURNS {
                                break;
                            }
                            parkers[side as usize].park(None);
                            continue;
                        }
                        // Relaxed: `unpark` publishes it.
                        turn.store(current + 1, Ordering::Relaxed);
                        parkers[1 - side as usize].unpark();
                        if current >= TURNS {
                            break;
                        }
                    }
                });
            }
        });
    }
}
