//! Whether a topic has subscribers, and how many: correct after every change, and without a lock.

use fanout::{Dispatch, Overflow, Topic};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{FOR_EVER, MODES, at_once, bus, ends, manual, panics_quietly, rounds};

#[test]
fn subscribers_of_a_topic_are_counted() {
    for mode in MODES {
        for dispatchers in [1, 3] {
            let bus = bus::<u64>(|b| b.dispatch(mode).dispatchers(dispatchers));
            let topic = Topic::new("a.b").expect("a topic");
            let count = || {
                let counts = [
                    bus.subscriber_count("a.b"),
                    bus.subscriber_count(String::from("a.b")),
                    bus.subscriber_count(&topic),
                ];
                assert!(counts.iter().all(|count| *count == counts[0]));
                assert_eq!(bus.has_subscribers(&topic), counts[0] > 0);
                counts[0]
            };
            assert_eq!(count(), 0);
            let several = bus.subscribe(["a.*", "**", "a.b"]).expect("open");
            assert_eq!(count(), 1, "one subscription, however many patterns match");
            let many: Vec<_> = (0..10)
                .map(|_| bus.subscribe("a.*").expect("open"))
                .collect();
            assert_eq!(count(), 11);
            let handler = bus.on("a.b", |_| {}).expect("open");
            assert_eq!(count(), 12);
            let _other = bus.subscribe("a.c").expect("open");
            assert_eq!(count(), 12);
            drop(handler);
            drop(many);
            assert_eq!(count(), 1);
            let handle = several.handle();
            handle.remove(["a.*", "**"]).expect("open");
            assert_eq!(count(), 1);
            handle.remove("a.b").expect("open");
            assert_eq!(count(), 0);
            handle.add("?.b").expect("open");
            assert_eq!(count(), 1);
            handle.cancel();
            assert_eq!(count(), 0);
        }
    }
}

#[test]
fn an_invalid_topic_has_no_subscribers() {
    let bus = bus::<u64>(|b| b);
    let _all = bus.subscribe("**").expect("open");
    assert!(bus.has_subscribers("a"));
    assert!(!bus.has_subscribers("a..b"));
    assert_eq!(bus.subscriber_count(""), 0);
}

/// The index still has the subscription, and its subscriber has not received the end.
#[test]
fn a_disconnected_subscription_does_not_count() {
    let bus = manual();
    let open = |overflow| {
        let builder = bus.subscription("a").capacity(2);
        builder.overflow(overflow).open().expect("open")
    };
    // Slots are reused by subscriptions with and without that policy.
    for _ in 0..3 {
        let subs: Vec<_> = (0..100).map(|_| open(Overflow::Disconnect)).collect();
        assert_eq!(bus.subscriber_count("a"), 100);
        at_once(&bus, 5);
        assert_eq!(bus.subscriber_count("a"), 0);
        assert!(!bus.has_subscribers("a"));
        let stays = open(Overflow::DropNewest);
        assert_eq!(bus.subscriber_count("a"), 1);
        drop(subs);
        let again: Vec<_> = (0..100).map(|_| open(Overflow::DropNewest)).collect();
        at_once(&bus, 5);
        assert_eq!(bus.subscriber_count("a"), 101);
        drop((stays, again));
        assert_eq!(bus.subscriber_count("a"), 0);
    }
}

#[test]
fn a_closed_or_broken_bus_has_no_subscribers() {
    for mode in MODES {
        let bus = bus::<u64>(|b| b.dispatch(mode));
        let _sub = bus.subscribe("a").expect("open");
        assert!(bus.has_subscribers("a"));
        bus.close();
        assert_eq!(bus.subscriber_count("a"), 0);

        let bus = crate::support::bus::<u64>(|b| {
            b.dispatch(mode).weigh(|_| {
                panics_quietly();
                0
            })
        });
        let mut sub = bus.subscribe("a").expect("open");
        let _ = bus.publish("a", 1);
        bus.drive();
        assert!(sub.recv().is_err());
        assert_eq!(bus.subscriber_count("a"), 0);
    }
}

/// While other subscriptions are opened and dropped, a subscription that stays open is always
/// counted.
#[test]
fn an_unchanged_subscription_is_always_counted() {
    for overflow in [Overflow::DropNewest, Overflow::Disconnect] {
        ends(&format!("{overflow:?}"), move || {
            let bus = bus::<u64>(|b| b.dispatch(Dispatch::Pool).dispatchers(2));
            let _stays = bus.subscribe("a").expect("open");
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !over.load(Ordering::Relaxed) {
                            let coming = bus.subscription("a").capacity(1);
                            let mut coming = coming.overflow(overflow).open().expect("open");
                            let _ = coming.try_recv();
                        }
                    });
                }
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        bus.publish("a", 1).expect("open");
                        thread::yield_now();
                    }
                });
                for _ in rounds(20_000) {
                    assert!(bus.has_subscribers("a"));
                    let count = bus.subscriber_count("a");
                    assert!((1..=3).contains(&count), "{count}");
                    assert!(!bus.has_subscribers("b"));
                }
                over.store(true, Ordering::Relaxed);
            });
            assert!(bus.flush_within(FOR_EVER));
            assert_eq!(bus.subscriber_count("a"), 1);
        });
    }
}
