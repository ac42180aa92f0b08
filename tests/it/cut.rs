//! Subscribing is a cut: events that are published after it has returned are delivered, and events
//! that were dispatched before are not.

use fanout::{Dispatch, RecvError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{
    FOR_EVER, MODES, blocking, bus, ends, ids, in_every_mode, manual, payloads, publish_each,
    rounds,
};

/// Runs `round` a few thousand times while other threads publish and dispatch without a pause.
fn under_load(
    mode: Dispatch,
    dispatchers: usize,
    round: impl Fn(&fanout::Bus<u64>, u64) + Send + 'static,
) {
    ends(&format!("{mode:?}, {dispatchers} dispatchers"), move || {
        let bus = bus::<u64>(|b| b.dispatch(mode).dispatchers(dispatchers).lane_capacity(64));
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for n in 0..2 {
                let (mut lane, over) = (bus.publisher(), &over);
                scope.spawn(move || {
                    let topic = ["noise.a", "noise.b"][n];
                    while !over.load(Ordering::Relaxed) {
                        let _ = lane.try_publish(topic, 0);
                        thread::yield_now();
                    }
                });
            }
            if mode == Dispatch::Manual {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        bus.drive();
                        thread::yield_now();
                    }
                });
            }
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                rounds(3000).for_each(|n| round(&bus, n));
            }));
            over.store(true, Ordering::Relaxed);
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    });
}

#[test]
fn events_published_after_subscribe_are_delivered() {
    for mode in MODES {
        for dispatchers in [1, 3] {
            under_load(mode, dispatchers, |bus, n| {
                let mut sub = bus.subscribe("wanted").expect("open");
                let receipt = bus.publish_sequenced("wanted", n).expect("open");
                let event = sub.recv().expect("the event published after subscribe");
                assert_eq!((event.id(), *event.data()), (receipt.id(), n));
                let first_id = sub.stats().first_id.expect("it was dispatched to");
                assert!(first_id <= receipt.id(), "{first_id} <= {}", receipt.id());
            });
        }
    }
}

#[test]
fn events_published_after_add_are_delivered() {
    for mode in MODES {
        for dispatchers in [1, 3] {
            under_load(mode, dispatchers, |bus, n| {
                let mut sub = bus.subscribe("never").expect("open");
                let handle = sub.handle();
                assert_eq!(handle.add("wanted.*"), Ok(true));
                bus.publish("wanted.x", n).expect("open");
                assert_eq!(sub.recv().map(|event| *event.data()), Ok(n));
                assert_eq!(handle.remove("wanted.*"), Ok(true));
                bus.publish("wanted.x", 0).expect("open");
                bus.publish("never", n + 1).expect("open");
                assert_eq!(
                    sub.recv().map(|event| *event.data()),
                    Ok(n + 1),
                    "nothing after remove"
                );
            });
        }
    }
}

/// A slot is reused as soon as its subscription has ended. Events for the old subscription must not
/// reach the new one.
#[test]
fn a_reused_slot_gets_no_event_of_the_previous_subscription() {
    for mode in MODES {
        for dispatchers in [1, 3] {
            under_load(mode, dispatchers, |bus, n| {
                let old = bus.subscribe(["old", "noise.*"]).expect("open");
                bus.publish("old", n).expect("open");
                drop(old);
                bus.publish("old", n).expect("open");
                let mut new = bus.subscribe("new").expect("open");
                bus.publish("old", n).expect("open");
                let receipt = bus.publish_sequenced("new", n).expect("open");
                let event = new.recv().expect("open");
                assert_eq!(event.topic().as_str(), "new");
                assert_eq!(event.id(), receipt.id());
                assert_eq!(new.stats().matched, 1);
            });
        }
    }
}

#[test]
fn first_id_and_last_id_bound_the_receivable_ids() {
    let bus = manual();
    let publish = |n: u64| publish_each(&bus, 0..n);
    publish(3);
    bus.drive();
    let mut sub = bus.subscribe("a").expect("open");
    let handle = sub.handle();
    assert_eq!((handle.first_id(), handle.last_id()), (Some(4), None));
    publish(2);
    bus.drive();
    assert_eq!(ids(&mut sub), [4, 5]);
    // Published and not dispatched yet when the subscription ended: not received.
    publish(2);
    assert!(handle.cancel());
    bus.drive();
    assert_eq!((handle.first_id(), handle.last_id()), (Some(4), Some(5)));
    assert_eq!(handle.stats().matched, 2);

    // Published before, dispatched after: received.
    publish(1);
    let mut late = bus.subscribe("a").expect("open");
    bus.drive();
    assert_eq!(
        (late.handle().first_id(), ids(&mut late)),
        (Some(8), vec![8])
    );

    // A subscription that could receive no event.
    let none = bus.subscribe("a").expect("open").handle();
    assert_eq!((none.first_id(), none.last_id()), (Some(9), Some(8)));
    bus.close();
    assert_eq!(late.handle().last_id(), Some(8));
    assert_eq!(late.recv().err(), Some(RecvError::Closed));
}

#[test]
fn a_subscription_before_the_first_event_begins_with_it() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).dispatchers(3));
        let mut subs: Vec<_> = (0..7).map(|_| bus.subscribe("a").expect("open")).collect();
        publish_each(&bus, 0..100);
        assert!(bus.close_within(FOR_EVER).in_time);
        for sub in &mut subs {
            assert_eq!(payloads(sub), (0..100).collect::<Vec<_>>());
            let stats = sub.stats();
            assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(100)));
        }
    });
}

/// The shard waits in the middle of a block for a full `Block` subscriber. A new subscription
/// begins after this block.
#[test]
fn subscribing_to_a_stalled_shard_begins_after_its_current_block() {
    let bus = manual();
    let mut full = blocking(&bus, 2);
    publish_each(&bus, 0..5);
    bus.drive();
    let mut late = bus.subscribe("a").expect("open");
    assert_eq!(late.handle().first_id(), Some(6));
    publish_each(&bus, 5..8);
    let mut got = Vec::new();
    while got.len() < 8 {
        got.extend(ids(&mut full));
        bus.drive();
    }
    assert_eq!(got, (1..=8).collect::<Vec<_>>());
    assert_eq!(ids(&mut late), [6, 7, 8]);
}

/// A subscription gets each event once, however many of its patterns match.
#[test]
fn several_patterns_are_one_delivery() {
    for mode in MODES {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus
            .subscribe(["a.*", "a.**", "**", "{a,b}.c", "a.c", "a.c"])
            .expect("open");
        assert_eq!(
            sub.handle().patterns().len(),
            5,
            "the same pattern twice is one"
        );
        assert_eq!(sub.handle().add("*"), Ok(false), "`*` is `**`");
        assert_eq!(sub.handle().add("b.*"), Ok(true));
        bus.publish("a.c", 1).expect("open");
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(payloads(&mut sub), [1]);
        assert_eq!(sub.stats().matched, 1);
    }
}
