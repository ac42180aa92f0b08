//! Waiting for the end of a feed, under every schedule. How to run and read these models:
//! [`crate::sync::explore`].

use crate::dispatch::feed::{End, FeedConsumer, FeedProducer, FeedShared, Limits, Listener, feed};
use crate::dispatch::loss::Overflow;
use crate::dispatch::signal::{Latch, Signal};
use crate::park::{Registration, park, thread_waker};
use crate::sync::explore::{Steps, explore, explore_bounded};
use crate::sync::{Arc, AtomicBool, Ordering, thread};

/// What the two ends share, and the ends themselves. The caller has to keep them: a consumer that
/// is dropped ends its feed.
fn shared() -> (Arc<FeedShared>, (FeedProducer, FeedConsumer)) {
    let limits = Limits {
        capacity: 1,
        pin_bytes: 1 << 20,
        overflow: Overflow::DropNewest,
    };
    let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
    let ends = feed(limits, latch, Listener::waker());
    (ends.1.shared().clone(), ends)
}

/// Waits until `has_ended`, as a future does that is polled again when it is woken.
fn wait(shared: &FeedShared, has_ended: impl Fn() -> bool) {
    let mut registration = Registration::default();
    while !has_ended() {
        shared
            .end_state()
            .register(&mut registration, &thread_waker());
        if has_ended() {
            break;
        }
        park(None);
    }
    shared.end_state().forget(&mut registration);
}

/// Two waiters, and a thread that ends the feed and never waits for the lock of the list.
#[test]
fn loom_end_waiters_two() {
    explore_bounded("end waiters: two", 2, || {
        let (shared, ends) = shared();
        let waiting = {
            let shared = shared.clone();
            thread::spawn(move || wait(&shared, || shared.end() != End::None))
        };
        let ending = {
            let shared = shared.clone();
            thread::spawn(move || assert!(shared.finish(End::Cancelled)))
        };
        wait(&shared, || shared.end() != End::None);
        waiting.join().unwrap();
        ending.join().unwrap();
        drop(ends);
    });
}

/// One waiter gives up while the feed ends: the entry that it gives back is not that of the other.
#[test]
fn loom_end_waiters_one_gives_up() {
    explore_bounded("end waiters: one gives up", 2, || {
        let (shared, ends) = shared();
        let steps = Steps::new();
        let giving_up = {
            let (shared, steps) = (shared.clone(), steps.clone());
            thread::spawn(move || {
                let mut registration = Registration::default();
                shared
                    .end_state()
                    .register(&mut registration, &thread_waker());
                steps.step();
                shared.end_state().forget(&mut registration);
            })
        };
        let ending = {
            let shared = shared.clone();
            thread::spawn(move || {
                steps.step();
                assert!(shared.finish(End::Cancelled));
            })
        };
        wait(&shared, || shared.end() != End::None);
        giving_up.join().unwrap();
        ending.join().unwrap();
        drop(ends);
    });
}

/// An end that is not written in the feed: the bus closes. Another thread ends the feed meanwhile.
#[test]
fn loom_end_waiters_against_close() {
    for finishes in [false, true] {
        explore("end waiters: close", move || {
            let (shared, ends) = shared();
            let closed = Arc::new(AtomicBool::new(false));
            let closing = {
                let (shared, closed) = (shared.clone(), closed.clone());
                thread::spawn(move || {
                    // Relaxed: the word of the end orders it.
                    closed.store(true, Ordering::Relaxed);
                    if shared.end_state().has_waiters() {
                        shared.end_state().wake_waiters();
                    }
                })
            };
            let ending = finishes.then(|| {
                let shared = shared.clone();
                thread::spawn(move || assert!(shared.finish(End::Disconnected)))
            });
            wait(&shared, || {
                shared.end() != End::None || closed.load(Ordering::Relaxed)
            });
            closing.join().unwrap();
            ending.map(|ending| ending.join().unwrap());
            drop(ends);
        });
    }
}
