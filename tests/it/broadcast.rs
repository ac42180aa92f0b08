//! Broadcasting: the conformance suite on `Memory`, and what `Memory` promises beyond it.

use fanout::broadcast::{
    BroadcastPublishError, Broadcaster, BroadcasterExt, CancelToken, Event, Incident, Memory,
    MemoryBuilder,
};
use fanout::{BuildError, Overflow};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::support::{FOR_EVER, ends, eventually, panics_quietly};

/// Both ways to run handlers.
fn builders() -> [MemoryBuilder; 2] {
    [Memory::builder(), Memory::builder().dedicated(true)]
}

#[cfg(feature = "conformance")]
mod conformance {
    use fanout::Overflow;
    use fanout::broadcast::conformance::{CASES, Make, Setup, run};
    use fanout::broadcast::{Broadcaster, Memory};
    use std::sync::Arc;

    #[test]
    fn memory_conforms() {
        run(|setup| make(setup, false, Overflow::DropNewest));
    }

    #[test]
    fn memory_with_threads_of_its_own_conforms() {
        run(|setup| make(setup, true, Overflow::DropNewest));
    }

    /// It drops others than expected, and as many.
    #[test]
    fn memory_that_drops_the_oldest_conforms() {
        run(|setup| make(setup, false, Overflow::DropOldest));
    }

    /// All but what it is not meant to do.
    #[test]
    fn memory_that_blocks_conforms() {
        for (name, case) in CASES {
            if *name != "a_full_buffer_drops_and_counts" {
                let make: Make = Arc::new(|setup| make(setup, false, Overflow::Block));
                crate::support::ends(name, move || case(&make));
            }
        }
    }

    fn make(setup: Setup, dedicated: bool, overflow: Overflow) -> Box<dyn Broadcaster> {
        let memory = Memory::builder()
            .buffer(setup.buffer)
            .dedicated(dedicated)
            .overflow(overflow)
            .logger(setup.logger);
        Box::new(memory.build().expect("in range"))
    }
}

fn event(name: impl Into<String>) -> Event {
    Event::new("a", name.into(), "")
}

/// A handler that waits in its first call until the sender goes.
fn blocked(memory: &Memory) -> (fanout::broadcast::SubscriptionGuard, mpsc::Sender<()>) {
    let (release, gate) = mpsc::channel::<()>();
    let (sender, began) = mpsc::channel();
    let subscription = memory.on("a", move |_| {
        let _ = sender.send(());
        let _ = gate.recv();
    });
    memory
        .publish(event("the one it is blocked at"))
        .expect("open");
    began.recv_timeout(FOR_EVER).expect("it began");
    (subscription.expect("open"), release)
}

#[test]
fn a_run_of_drops_is_told_once_and_not_by_the_publisher() {
    for builder in builders() {
        ends("drops", move || {
            let told = Arc::new(Mutex::new(Vec::new()));
            let memory = builder.buffer(4).logger({
                let told = told.clone();
                move |incident| {
                    if let Incident::Dropped { channel, count, .. } = *incident {
                        let entry = (channel.to_owned(), count, thread::current().id());
                        told.lock().expect("unpoisoned").push(entry);
                    }
                }
            });
            let memory = memory.build().expect("in range");
            let (_subscription, release) = blocked(&memory);
            (0..100).for_each(|n| memory.publish(event(n.to_string())).expect("open"));
            eventually("all but the buffer is dropped", || memory.dropped() == 96);
            assert!(
                told.lock().expect("unpoisoned").is_empty(),
                "the handler is not there yet"
            );
            drop(release);
            assert!(memory.flush_within(FOR_EVER));
            eventually("the logger is told", || {
                !told.lock().expect("unpoisoned").is_empty()
            });
            assert!(memory.close_within(FOR_EVER).expect("closes").in_time);
            let told = told.lock().expect("unpoisoned");
            let [(channel, 96, thread)] = &told[..] else {
                panic!("{told:?}");
            };
            assert_eq!(channel, "a");
            assert_ne!(*thread, thread::current().id());
        });
    }
}

/// What the logger was told of full buffers, as text, and what the handler got behind the event that it was blocked at.
fn overrun(overflow: Overflow, builder: MemoryBuilder) -> (Vec<String>, Vec<String>, Memory) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let memory = builder.buffer(4).overflow(overflow).logger({
        let log = log.clone();
        move |incident| {
            if !matches!(incident, Incident::Stalled { .. }) {
                log.lock().expect("unpoisoned").push(incident.to_string());
            }
        }
    });
    let memory = memory.build().expect("in range");
    let (release, gate) = mpsc::channel::<()>();
    let (sender, names) = mpsc::channel();
    let subscription = memory.on("a", move |event| {
        let _ = sender.send(event.name().to_owned());
        let _ = gate.recv();
    });
    let subscription = subscription.expect("open");
    memory.publish(event("blocked")).expect("open");
    let first = names.recv_timeout(FOR_EVER).expect("it began");
    assert_eq!(first, "blocked");
    for n in 0..100 {
        memory.publish(event(n.to_string())).expect("open");
        // In blocks of their own, most of them.
        let _ = memory.flush_within(Duration::ZERO);
    }
    let dropped = || memory.dropped();
    match overflow {
        Overflow::Conflate => {}
        Overflow::Disconnect => eventually("something is dropped", || dropped() > 0),
        _ => eventually("all but the buffer is dropped", || dropped() == 96),
    }
    assert!(log.lock().expect("unpoisoned").is_empty(), "not there yet");
    drop(release);
    assert!(memory.flush_within(FOR_EVER));
    let got = names.try_iter().collect();
    // Cancelled or not, what was dropped stays counted.
    let before = dropped();
    subscription.cancel();
    assert_eq!(dropped(), before);
    drop(subscription);
    assert_eq!(dropped(), before);
    assert!(memory.close_within(FOR_EVER).expect("closes").in_time);
    let log = log.lock().expect("unpoisoned").clone();
    (log, got, memory)
}

#[test]
fn with_drop_oldest_the_newest_are_handled() {
    for builder in builders() {
        ends("dropping the oldest", move || {
            let (log, got, memory) = overrun(Overflow::DropOldest, builder);
            assert_eq!(got, ["96", "97", "98", "99"]);
            assert_eq!(log, ["channel a: 96 event(s) dropped, the buffer was full"]);
            assert_eq!(memory.dropped(), 96);
        });
    }
}

#[test]
fn with_disconnect_the_first_that_does_not_fit_is_the_end() {
    for builder in builders() {
        ends("disconnecting", move || {
            let (log, got, memory) = overrun(Overflow::Disconnect, builder);
            assert_eq!(got, ["0", "1", "2", "3"]);
            let dropped = memory.dropped();
            assert_eq!(
                log,
                [format!(
                    "channel a: unsubscribed, the buffer was full: {dropped} event(s) dropped"
                )]
            );
            assert!((1..=96).contains(&dropped), "{dropped}: those of one block");
        });
    }
}

/// A subscription has one channel, so one event of it waits: the latest.
#[test]
fn with_conflate_the_latest_is_handled() {
    for builder in builders() {
        ends("conflating", move || {
            let (log, got, memory) = overrun(Overflow::Conflate, builder);
            assert_eq!(got, ["99"]);
            assert!(log.is_empty(), "{log:?}");
            assert_eq!(memory.dropped(), 0, "superseded, not dropped");
        });
    }
}

/// The number outlives the subscriptions that it is about.
#[test]
fn dropped_counts_what_cancelled_subscriptions_lost() {
    ends("counting", || {
        let memory = Memory::builder().buffer(1).build().expect("in range");
        let mut expected = 0;
        for _ in 0..20 {
            let (subscription, release) = blocked(&memory);
            (0..10).for_each(|n| memory.publish(event(n.to_string())).expect("open"));
            expected += 9;
            eventually("they are dropped", || memory.dropped() == expected);
            subscription.cancel();
            assert_eq!(memory.dropped(), expected, "not once less, and not twice");
            drop(release);
            drop(subscription);
            assert_eq!(memory.dropped(), expected);
        }
        assert!(memory.close_within(FOR_EVER).expect("closes").in_time);
        assert_eq!(memory.dropped(), expected);
    });
}

#[test]
fn a_close_that_runs_out_of_time_says_what_is_left_and_does_it_later() {
    for builder in builders() {
        ends("closing", move || {
            let memory = builder.build().expect("in range");
            let (_subscription, release) = blocked(&memory);
            (0..10).for_each(|n| memory.publish(event(n.to_string())).expect("open"));
            let report = memory
                .close_within(Duration::from_millis(1))
                .expect("closes");
            assert_eq!((report.in_time, report.given_up), (false, 0), "{report:?}");
            assert!((10..=11).contains(&report.unhandled), "{report:?}");
            assert!(matches!(
                memory.publish(event("late")),
                Err(BroadcastPublishError::Closed)
            ));
            drop(release);
            let report = memory.close_within(FOR_EVER).expect("closes");
            assert_eq!(
                (report.in_time, report.unhandled, report.given_up),
                (true, 0, 0)
            );
            assert_eq!(memory.dropped(), 0);
        });
    }
}

/// What was accepted is handled, also when the last handle goes without a word.
#[test]
fn dropping_it_drains() {
    ends("draining", || {
        let memory = Memory::new();
        let (sender, events) = mpsc::channel();
        memory
            .on("a", move |event| sender.send(event.name().to_owned()))
            .expect("open")
            .detach();
        (0..100).for_each(|n| memory.publish(event(n.to_string())).expect("open"));
        drop(memory);
        // It ends when the handler is dropped.
        assert_eq!(events.iter().count(), 100);
    });
}

/// More than the lane holds, from inside a handler, which must not wait for the dispatcher: it lends a hand.
#[test]
fn a_handler_publishes_a_burst() {
    ends("a burst", || {
        const BURST: usize = 20_000;
        let memory = Arc::new(Memory::new());
        let refused = Arc::new(AtomicU64::new(0));
        let _subscription = memory.on("a", {
            let (memory, refused) = (Arc::downgrade(&memory), refused.clone());
            move |_| {
                let memory = memory.upgrade().expect("open");
                let publish = |_: &usize| memory.publish(Event::new("b", "n", "")).is_err();
                refused.fetch_add((0..BURST).filter(publish).count() as u64, Ordering::SeqCst);
            }
        });
        let received = Arc::new(AtomicU64::new(0));
        let _counting = memory.on("b", {
            let received = received.clone();
            move |_| {
                received.fetch_add(1, Ordering::SeqCst);
            }
        });
        memory.publish(event("go")).expect("open");
        assert!(memory.flush_within(FOR_EVER));
        assert!(memory.close_within(FOR_EVER).expect("closes").in_time);
        let refused = refused.load(Ordering::SeqCst);
        assert_eq!(
            received.load(Ordering::SeqCst) + memory.dropped() + refused,
            BURST as u64
        );
        assert!(
            refused < BURST as u64 / 10,
            "it lends a hand: {refused} of {BURST} were refused"
        );
    });
}

/// While all wait for one full handler: a token gets the publisher out.
#[test]
fn a_token_releases_a_publisher_that_waits() {
    ends("waiting", || {
        let memory = Memory::builder().buffer(1).overflow(Overflow::Block);
        let memory = memory.build().expect("in range");
        let (_subscription, release) = blocked(&memory);
        let token = CancelToken::new();
        let accepted = AtomicU64::new(0);
        thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                loop {
                    match memory.publish_until(&token, event("n")) {
                        Ok(()) => accepted.fetch_add(1, Ordering::SeqCst),
                        Err(error) => return error,
                    };
                }
            });
            let mut seen = 0;
            eventually("it waits", || {
                thread::sleep(Duration::from_millis(20));
                std::mem::replace(&mut seen, accepted.load(Ordering::SeqCst)) == seen && seen > 0
            });
            token.cancel();
            assert!(matches!(
                publishing.join().expect("told"),
                BroadcastPublishError::Cancelled
            ));
        });
        drop(release);
        assert!(memory.close_within(FOR_EVER).expect("closes").in_time);
        assert_eq!(memory.dropped(), 0);
    });
}

/// What a handler owns goes with its subscription, though the token that it was tied to lives on.
#[test]
fn a_token_keeps_no_handler_whose_subscription_has_ended() {
    ends("letting go", || {
        let memory = Memory::new();
        let token = CancelToken::new();
        let held = Arc::new(());
        for n in 0..300 {
            let owned = held.clone();
            let subscription = memory.on_until(&token, "a", move |_| drop(owned.clone()));
            let subscription = subscription.expect("open");
            if n % 2 == 0 {
                subscription.cancel();
            }
            drop(subscription);
        }
        eventually("the handlers are dropped", || Arc::strong_count(&held) == 1);
        assert!(!token.is_cancelled());
    });
}

/// A handler is dropped outside of all locks: it may own what locks them.
#[test]
fn a_handler_that_owns_subscriptions_is_dropped() {
    ends("dropping", || {
        let memory = Memory::new();
        let token = CancelToken::new();
        for _ in 0..100 {
            let inner = memory.on_until(&token, "a", |_| ()).expect("open");
            let outer = memory
                .on_until(&token, "a", move |_| inner.cancel())
                .expect("open");
            memory.publish(event("n")).expect("open");
            drop(outer);
        }
        let inner = memory.on("a", |_| ()).expect("open");
        assert!(memory.close_within(FOR_EVER).expect("closes").in_time);
        assert!(memory.on("a", move |_| inner.cancel()).is_err());
        token.cancel();
    });
}

#[test]
fn a_logger_that_panics_hurts_nobody() {
    ends("panicking", || {
        let memory = Memory::builder().logger(|_| panics_quietly());
        let memory = memory.build().expect("in range");
        let calls = Arc::new(AtomicU64::new(0));
        let _failing = memory.on("a", {
            let calls = calls.clone();
            move |_| {
                calls.fetch_add(1, Ordering::SeqCst);
                Err::<(), _>("no")
            }
        });
        (0..10).for_each(|n| memory.publish(event(n.to_string())).expect("open"));
        assert!(memory.close_within(FOR_EVER).expect("closes").in_time);
        assert_eq!(calls.load(Ordering::SeqCst), 10);
    });
}

#[test]
fn a_handler_that_takes_long_is_told_of() {
    ends("stalling", || {
        let stalled = Arc::new(AtomicBool::new(false));
        let memory = Memory::builder().logger({
            let stalled = stalled.clone();
            move |incident| {
                if matches!(incident, Incident::Stalled { channel: "a", .. }) {
                    stalled.store(true, Ordering::SeqCst);
                }
            }
        });
        let memory = memory.build().expect("in range");
        let (_subscription, release) = blocked(&memory);
        eventually("it is told", || stalled.load(Ordering::SeqCst));
        drop(release);
    });
}

/// One heavy event is delivered, whatever it weighs; what comes on top does not fit.
#[test]
fn the_buffer_is_bounded_by_bytes() {
    ends("weighing", || {
        let memory = Memory::builder()
            .pin_bytes(100_000)
            .build()
            .expect("in range");
        let (_subscription, release) = blocked(&memory);
        for _ in 0..10 {
            memory
                .publish(Event::new("a", "heavy", vec![0; 60_000]))
                .expect("open");
            // A block each, so that each is weighed by itself.
            let _ = memory.flush_within(Duration::ZERO);
        }
        eventually("most are dropped", || memory.dropped() >= 5);
        drop(release);
        assert!(memory.close_within(FOR_EVER).expect("closes").in_time);
    });
}

#[test]
fn numbers_out_of_range_are_refused() {
    let refused = Memory::builder().buffer(0).build().unwrap_err();
    assert!(matches!(refused, BuildError::Capacity(0)));
    let refused = Memory::builder().pin_bytes(0).build().unwrap_err();
    assert!(matches!(refused, BuildError::PinBytes));
}
