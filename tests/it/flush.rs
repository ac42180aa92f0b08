//! `flush_within` returns `true` when all accepted events are in rings, and `false` at its time
//! limit.

use fanout::Dispatch;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::{
    FOR_EVER, MODES, OnDrop, blocking, bus, ends, ids, publish_each, rounds, yield_for_a_while,
};

const EVENTS: u64 = 3000;

#[test]
fn a_flush_puts_accepted_events_into_rings() {
    for mode in MODES {
        ends(&format!("flush of {mode:?}"), move || {
            let bus = bus(|b| {
                b.dispatch(mode)
                    .dispatchers(3)
                    .capacity(1 << 14)
                    .lane_capacity(1 << 14)
            });
            let mut subs: Vec<_> = (0..7)
                .map(|_| bus.subscribe("a.*").expect("open"))
                .collect();
            let mut publisher = bus.publisher();
            for round in 1..=5 {
                for n in 0..EVENTS / 2 {
                    publisher.publish("a.own", n).expect("open");
                    bus.publish("a.shared", n).expect("open");
                }
                assert!(bus.flush_within(FOR_EVER));
                for sub in &mut subs {
                    assert_eq!(ids(sub).len() as u64, EVENTS, "round {round}");
                }
            }
        });
    }
}

#[test]
fn a_flush_without_events_returns_at_once() {
    for mode in MODES {
        let bus = bus::<u32>(|b| b.dispatch(mode));
        assert!(bus.flush_within(Duration::ZERO) || bus.flush_within(FOR_EVER));
    }
}

#[test]
fn a_full_block_subscriber_is_not_flushed() {
    for mode in MODES {
        ends(&format!("flush of {mode:?}"), move || {
            let bus = bus(|b| b.dispatch(mode));
            let mut sub = blocking(&bus, 2);
            publish_each(&bus, 0..3);
            assert!(!bus.flush_within(Duration::from_millis(20)));
            let mut read = ids(&mut sub);
            assert!(bus.flush_within(FOR_EVER), "there is room now");
            read.extend(ids(&mut sub));
            assert_eq!(read, [1, 2, 3]);
        });
    }
}

/// The step that completes a flush must wake the threads that wait for it, because no later step
/// follows. Many idle lanes make a round long enough for a request to fall into the middle of it.
#[test]
fn concurrent_flushes_all_return() {
    for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        ends(&format!("concurrent flushes of {mode:?}"), move || {
            let bus = bus(|b| b.dispatch(mode).lane_capacity(8));
            let idle: Vec<_> = (0..1000).map(|_| bus.publisher()).collect();
            let mut sub = bus.subscribe("a").expect("open");
            for _ in rounds(1000) {
                thread::scope(|scope| {
                    scope.spawn(|| publish_each(&bus, 0..20));
                    for _ in 0..3 {
                        scope.spawn(|| assert!(bus.flush_within(FOR_EVER)));
                    }
                });
                assert!(bus.flush_within(FOR_EVER));
                assert_eq!(ids(&mut sub).len(), 20);
            }
            drop(idle);
        });
    }
}

/// A flush dispatches on its own thread. The pool must still be woken for events that are published
/// afterwards.
#[test]
fn flushing_never_delays_an_event_in_the_pool() {
    ends("an event published beside a flush", || {
        let bus = bus(|b| b);
        let mut sub = bus.subscribe("a").expect("open");
        let stop = Arc::new(AtomicBool::new(false));
        let flushing = thread::spawn({
            let (bus, stop) = (bus.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    assert!(bus.flush_within(FOR_EVER));
                }
            }
        });
        let mut publisher = bus.publisher();
        for n in rounds(30_000) {
            publisher.publish("a", n).expect("open");
            assert_eq!(sub.recv().map(|event| *event.data()), Ok(n));
        }
        stop.store(true, Ordering::Relaxed);
        flushing.join().expect("flushed");
    });
}

#[test]
fn a_flush_continues_when_the_full_subscriber_is_dropped() {
    for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        for cancel in [false, true] {
            ends(&format!("flush of {mode:?}, cancel {cancel}"), move || {
                for _ in rounds(50) {
                    let bus = bus(|b| b.dispatch(mode));
                    let full = blocking(&bus, 1);
                    let mut other = bus.subscribe("a").expect("open");
                    publish_each(&bus, 0..2);
                    assert!(!bus.flush_within(Duration::from_millis(1)));
                    thread::scope(|scope| {
                        scope.spawn(|| assert!(bus.flush_within(FOR_EVER)));
                        yield_for_a_while();
                        if cancel {
                            assert!(full.handle().cancel());
                        } else {
                            drop(full);
                        }
                    });
                    assert_eq!(ids(&mut other), [1, 2]);
                }
            });
        }
    }
}

#[test]
fn a_closed_bus_is_flushed() {
    for mode in MODES {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        bus.publish("a", 1).expect("open");
        bus.close();
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(ids(&mut sub), [1]);
    }
}

/// A thread that dispatches cannot wait for the dispatch.
#[test]
fn a_flush_inside_the_dispatch_does_not_wait() {
    for mode in MODES {
        ends(&format!("flush inside of {mode:?}"), move || {
            let bus = bus(|b| b.dispatch(mode));
            let answer = Arc::new(Mutex::new(None));
            let flush = OnDrop::new({
                let (bus, answer) = (bus.clone(), answer.clone());
                move || *answer.lock().expect("no panic") = Some(bus.flush_within(FOR_EVER))
            });
            bus.publish("nobody.listens", flush).expect("open");
            assert!(bus.flush_within(FOR_EVER));
            assert_eq!(*answer.lock().expect("no panic"), Some(false));
        });
    }
}
