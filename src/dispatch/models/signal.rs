//! Waking pool threads, and the latch of a stalled shard.

use super::super::signal::{Latch, Signal, WATCH_PERIOD};
use crate::sync::explore::{explore, explore_bounded};
use crate::sync::{Arc, AtomicUsize, Ordering, now, thread};

/// A pool thread sleeps twice. A thread that cleared its bit in the first sleep may be slow, and
/// take the waker in the second sleep, which another thread needs.
#[test]
fn loom_signal_late_wake() {
    explore("signal: a late wake-up of an earlier sleep", || {
        let signal = Arc::new(Signal::new(1));
        let work = Arc::new(AtomicUsize::new(0));
        let waking: Vec<_> = (0..2)
            .map(|_| {
                let (signal, work) = (signal.clone(), work.clone());
                thread::spawn(move || {
                    work.fetch_add(1, Ordering::Relaxed);
                    signal.wake_one();
                })
            })
            .collect();
        loop {
            let before = work.load(Ordering::Relaxed);
            if before == 2 {
                break;
            }
            signal.prepare_sleep(0);
            if work.load(Ordering::Relaxed) == before {
                signal.sleep(0);
            } else {
                signal.cancel_sleep(0);
            }
        }
        waking.into_iter().for_each(|c| c.join().unwrap());
    });
}

/// Two threads sleep, and work is added twice, each time with a wake-up: both pieces are found.
#[test]
fn loom_signal_two_sleepers() {
    explore_bounded("signal: two sleepers", 2, || {
        let signal = Arc::new(Signal::new(2));
        let work = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let sleeper = |index| {
            let (signal, work, done) = (signal.clone(), work.clone(), done.clone());
            move || {
                // Takes one piece of work; the thread that does the last piece ends both threads.
                let take = || {
                    let one = |left: usize| left.checked_sub(1);
                    work.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one)
                        .is_ok()
                };
                while done.load(Ordering::Acquire) < 2 {
                    signal.prepare_sleep(index);
                    if take() {
                        signal.cancel_sleep(index);
                        if done.fetch_add(1, Ordering::AcqRel) == 1 {
                            signal.wake_all();
                        }
                    } else if done.load(Ordering::Acquire) < 2 {
                        signal.sleep(index);
                    }
                }
            }
        };
        let sleeping = thread::spawn(sleeper(1));
        let waking = {
            let (signal, work) = (signal.clone(), work.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    work.fetch_add(1, Ordering::Relaxed);
                    signal.wake_one();
                }
            })
        };
        sleeper(0)();
        sleeping.join().unwrap();
        waking.join().unwrap();
    });
}

/// Two full rings: the shard is woken when the last of them has room, and then finds room in both.
#[test]
fn loom_latch_of_two() {
    explore("latch: two rings", || {
        let signal = Arc::new(Signal::new(1));
        let latch = Arc::new(Latch::new(signal.clone()));
        let rooms = Arc::new(AtomicUsize::new(0));
        latch.arm(2);
        let arriving: Vec<_> = (0..2)
            .map(|_| {
                let (latch, rooms) = (latch.clone(), rooms.clone());
                thread::spawn(move || {
                    rooms.fetch_add(1, Ordering::Relaxed);
                    latch.arrive_and_wake();
                })
            })
            .collect();
        if !latch.arrive() {
            while !latch.is_open() {
                signal.prepare_sleep(0);
                if latch.is_open() {
                    signal.cancel_sleep(0);
                } else {
                    signal.sleep(0);
                }
            }
        }
        assert_eq!(rooms.load(Ordering::Relaxed), 2);
        arriving.into_iter().for_each(|a| a.join().unwrap());
    });
}

/// Both threads of a pool sleep. Of two, the one that was chosen to be woken never comes: the
/// watcher does the work, whether it sleeps already or is about to.
#[test]
fn loom_signal_chosen_thread_does_not_come() {
    explore("signal: the chosen thread does not come", || {
        let signal = Arc::new(Signal::with_watcher(2));
        let work = Arc::new(AtomicUsize::new(0));
        signal.prepare_sleep(0); // and it is suspended
        let waking = {
            let (signal, work) = (signal.clone(), work.clone());
            thread::spawn(move || {
                work.fetch_add(1, Ordering::Relaxed);
                signal.wake_one();
            })
        };
        while work.load(Ordering::Relaxed) == 0 {
            let watches = signal.prepare_sleep(1);
            if work.load(Ordering::Relaxed) == 0 {
                signal.sleep_until(1, watches.then(|| now() + WATCH_PERIOD));
            } else {
                signal.cancel_sleep(1);
            }
        }
        waking.join().unwrap();
    });
}
