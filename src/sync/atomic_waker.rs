//! A place for the waker of one thread or task: like the [`AtomicWaker`] of `futures`, but user
//! code never runs while the place is occupied.
//!
//! A waker is user code: its `clone`, its `drop` and its `wake` may panic, block, or use this very
//! place. If one of them panicked between the steps of a registration, the place would stay
//! occupied, and nothing that is registered later would be woken. So a waker is cloned before the
//! place is occupied, and the previous one is dropped after the place is free again.
//!
//! | state | what it means |
//! | --- | --- |
//! | `WAITING` | the place is free |
//! | `REGISTERING` | the owner exchanges the waker |
//! | `WAKING` | a thread takes the waker, or must be informed that there is one |
//! | both | a thread wanted to wake during the exchange: the owner takes the waker and wakes it |
//!
//! | side | step | race that it closes |
//! | --- | --- | --- |
//! | owner | `register`: CAS `WAITING` to `REGISTERING` | it fails while a thread takes the waker: the owner is woken at once, and looks again |
//! | owner | exchanges the waker | |
//! | owner | CAS `REGISTERING` to `WAITING` | it fails if a thread wanted to wake meanwhile: see "both" |
//! | waker | `take`: sets `WAKING` | another thread takes it: nothing. The owner is registering: the owner wakes |
//! | waker | takes the waker, clears `WAKING` | |
//!
//! Neither side waits for the other. A thread that is suspended while it takes the waker leaves
//! the owner awake: each `register` wakes the owner until that thread continues.
//!
//! [`AtomicWaker`]: https://docs.rs/futures/latest/futures/task/struct.AtomicWaker.html

use std::task::Waker;

use super::unmodelled;
use super::{AtomicU8, Mutex, Ordering, thread};
use crate::contain::contain;

const WAITING: u8 = 0;
const REGISTERING: u8 = 1;
const WAKING: u8 = 2;

/// A place for the waker of one owner, which any thread may take.
pub(crate) struct AtomicWaker {
    /// `WAITING`, or a union of `REGISTERING` and `WAKING`.
    state: AtomicU8,
    /// Only the thread that has changed `state` from `WAITING` locks it, so the lock is always
    /// free.
    slot: Mutex<Option<Waker>>,
    /// Whether the slot has a waker. A hint, with which `register` decides what to try first.
    is_set: unmodelled::AtomicBool,
}

impl AtomicWaker {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU8::new(WAITING),
            slot: Mutex::new(None),
            is_set: unmodelled::AtomicBool::new(false),
        }
    }

    /// Registers a waker for the next [`take`](Self::take), in place of the previous one. The
    /// caller looks afterwards for the change that it waits for.
    ///
    /// Only the owner may call this, one call at a time. If the `clone` of the waker panics, the
    /// previous waker stays, and the panic is the caller's.
    pub(crate) fn register(&self, waker: &Waker) {
        // A task that is polled again without having been woken has registered this waker before.
        if self.is_set.load(Ordering::Relaxed) {
            let is_known = |slot: &mut Option<Waker>| {
                slot.as_ref().is_some_and(|known| known.will_wake(waker))
            };
            match self.occupy(is_known) {
                Some(false) => {}
                Some(true) => return,
                None => return wake_by_ref(waker),
            }
        }
        let mut exchanged = Some(waker.clone());
        let exchange = |slot: &mut Option<Waker>| {
            std::mem::swap(slot, &mut exchanged);
            self.is_set.store(true, Ordering::Relaxed);
        };
        if self.occupy(exchange).is_none() {
            wake_by_ref(waker);
        }
        contain("a waker's drop", || drop(exchanged));
    }

    /// Runs `f` while the place is occupied, and wakes the registered waker if a thread wanted to
    /// do so meanwhile. `None`: a thread is taking the waker, and `f` did not run.
    fn occupy<R>(&self, f: impl FnOnce(&mut Option<Waker>) -> R) -> Option<R> {
        // Acquire, partner every read-modify-write in `take`, also if this one fails: the caller's
        // next look sees the changes that were made before a `take` that this waker misses.
        self.state
            .compare_exchange(WAITING, REGISTERING, Ordering::Acquire, Ordering::Acquire)
            .map_err(|state| debug_assert!(state == WAKING, "two threads register: {state}"))
            .ok()?;
        let result = f(&mut self.slot.lock());
        // Release, partner the `fetch_or` in `take`, which sees the waker. Acquire on failure: as
        // above.
        let freed =
            self.state
                .compare_exchange(REGISTERING, WAITING, Ordering::AcqRel, Ordering::Acquire);
        if freed.is_err() {
            let waker = self.take_slot();
            // AcqRel, partner `take`: as above. A read-modify-write, because a store would hide the
            // changes of other threads from the next `register`.
            self.state.swap(WAITING, Ordering::AcqRel);
            if let Some(waker) = waker {
                contain("a waker", || waker.wake());
            }
        }
        Some(result)
    }

    /// Takes the registered waker. The caller has made the change that the owner waits for.
    ///
    /// `None`: there is none, or another thread wakes it.
    pub(crate) fn take(&self) -> Option<Waker> {
        // AcqRel, partner `occupy`: Acquire the waker; Release the change.
        if self.state.fetch_or(WAKING, Ordering::AcqRel) != WAITING {
            return None;
        }
        let waker = self.take_slot();
        // Release, partner `occupy`: the slot is empty. A read-modify-write, as in `occupy`.
        self.state.fetch_and(!WAKING, Ordering::Release);
        waker
    }

    fn take_slot(&self) -> Option<Waker> {
        let waker = self.slot.lock().take();
        self.is_set.store(false, Ordering::Relaxed);
        waker
    }
}

impl Drop for AtomicWaker {
    fn drop(&mut self) {
        let waker = self.take();
        contain("a waker's drop", || drop(waker));
    }
}

/// The waker could not be registered, because a thread is taking the previous one: the owner looks
/// again.
#[cold]
fn wake_by_ref(waker: &Waker) {
    contain("a waker", || waker.wake_by_ref());
    // The owner looks again and again until that thread has taken the waker, so it lets it run.
    thread::yield_now();
}

#[cfg(all(test, loom))]
mod models {
    use std::task::Wake;

    use super::*;
    use crate::sync::explore::explore;
    use crate::sync::{Arc, AtomicUsize, thread};

    /// Unparks a thread of the model.
    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }

    fn waker() -> Waker {
        Waker::from(std::sync::Arc::new(Unpark(thread::current())))
    }

    fn wake(cell: &AtomicWaker) {
        if let Some(waker) = cell.take() {
            waker.wake();
        }
    }

    /// Two threads make a change each and wake, while the owner registers a waker, the same one
    /// again, or another one: the owner sees both changes, and does not sleep for ever.
    #[test]
    fn loom_atomic_waker() {
        for exchanges in [false, true] {
            explore("atomic waker", move || {
                let shared = Arc::new((AtomicWaker::new(), AtomicUsize::new(0)));
                let waking: Vec<_> = (0..2)
                    .map(|_| {
                        let shared = shared.clone();
                        thread::spawn(move || {
                            // Relaxed: the place for the waker orders it.
                            shared.1.fetch_add(1, Ordering::Relaxed);
                            wake(&shared.0);
                        })
                    })
                    .collect();
                let mut own = waker();
                loop {
                    shared.0.register(&own);
                    if shared.1.load(Ordering::Relaxed) == 2 {
                        break;
                    }
                    thread::park();
                    if exchanges {
                        own = waker();
                    }
                }
                waking.into_iter().for_each(|w| w.join().unwrap());
            });
        }
    }

    /// A waker that is replaced, or registered again, while a thread wakes: that thread wakes the
    /// owner, whichever waker it finds.
    #[test]
    fn loom_atomic_waker_register_again() {
        for exchanges in [false, true] {
            explore("atomic waker: again", move || {
                let shared = Arc::new((AtomicWaker::new(), AtomicUsize::new(0)));
                let first = waker();
                shared.0.register(&first);
                let waking = {
                    let shared = shared.clone();
                    thread::spawn(move || {
                        shared.1.store(1, Ordering::Relaxed);
                        wake(&shared.0);
                    })
                };
                let second = if exchanges { waker() } else { first.clone() };
                shared.0.register(&second);
                while shared.1.load(Ordering::Relaxed) == 0 {
                    thread::park();
                }
                waking.join().unwrap();
                // Nothing is left behind: the place is free, and the next registration works.
                let third = waker();
                shared.0.register(&third);
                assert!(shared.0.take().is_some_and(|waker| waker.will_wake(&third)));
            });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;
    use std::thread;

    use super::*;
    use crate::contain::catch;

    /// Uses the place when it is dropped, and panics.
    struct Drops {
        cell: Arc<AtomicWaker>,
        dropped: Arc<AtomicUsize>,
    }

    impl Wake for Drops {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Drops {
        fn drop(&mut self) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            assert_eq!(self.cell.state.load(Ordering::Relaxed), WAITING);
            self.cell.register(Waker::noop());
            std::panic::resume_unwind(Box::new(()));
        }
    }

    #[test]
    fn no_user_code_runs_while_the_place_is_occupied() {
        let cell = Arc::new(AtomicWaker::new());
        let dropped = Arc::new(AtomicUsize::new(0));
        let bad = || {
            Waker::from(Arc::new(Drops {
                cell: cell.clone(),
                dropped: dropped.clone(),
            }))
        };
        let first = bad();
        cell.register(&first);
        assert!(catch(|| drop(first)).is_ok(), "the place has it");
        let second = bad();
        cell.register(&second);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        // The drop has registered another one in place of the second.
        let taken = cell.take();
        assert!(taken.is_some());
        assert!(catch(|| drop(second)).is_err());
        assert_eq!(
            dropped.load(Ordering::Relaxed),
            2,
            "the place did not have it"
        );
        assert!(cell.take().is_some());
        assert!(cell.take().is_none());
        assert_eq!(cell.state.load(Ordering::Relaxed), WAITING);
    }

    #[test]
    fn a_known_waker_is_not_cloned() {
        struct Nothing;
        impl Wake for Nothing {
            fn wake(self: Arc<Self>) {}
        }
        let cell = AtomicWaker::new();
        let owned = Arc::new(Nothing);
        let waker = Waker::from(owned.clone());
        for _ in 0..10 {
            cell.register(&waker);
            assert_eq!(Arc::strong_count(&owned), 3);
        }
        drop(cell.take());
        assert_eq!(Arc::strong_count(&owned), 2);
    }

    /// The owner registers while two threads wake.
    #[test]
    fn stress_atomic_waker() {
        const ROUNDS: usize = if cfg!(miri) { 100 } else { 20_000 };
        let cell = AtomicWaker::new();
        let changes = AtomicUsize::new(0);
        let parker = Arc::new(crate::sync::parker::Parker::new());
        struct Unpark(Arc<crate::sync::parker::Parker>);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(parker.clone())));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        changes.fetch_add(1, Ordering::Relaxed);
                        if let Some(waker) = cell.take() {
                            waker.wake();
                        }
                    }
                });
            }
            loop {
                cell.register(&waker);
                if changes.load(Ordering::Relaxed) == 2 * ROUNDS {
                    break;
                }
                parker.park(None);
            }
        });
    }
}
