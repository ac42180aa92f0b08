//! Publishing many payloads at a time: like publishing each, and what was not published is
//! returned.

use fanout::{Overflow, PublishError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use crate::support::{
    FOR_EVER, OnDrop, blocking, bus, eventually, in_every_mode, in_modes_with_threads,
    panics_quietly, payloads,
};

#[test]
fn a_batch_is_delivered_in_order() {
    in_every_mode(|mode| {
        let bus = bus::<u64>(|b| b.dispatch(mode));
        let big = bus.subscription("a").capacity(1 << 12);
        let mut sub = big.open().expect("open");
        let mut publisher = bus.publisher();
        let mut next = 0;
        for len in [0, 1, 63, 64, 65, 500] {
            let accepted = publisher.publish_batch("a", next..next + len);
            assert_eq!(accepted.expect("open"), len as usize);
            publisher.publish("a", next + len).expect("open");
            next += len + 1;
            assert!(bus.flush_within(FOR_EVER));
        }
        assert_eq!(payloads(&mut sub), (0..next).collect::<Vec<_>>());
        assert_eq!(bus.stats().published, next);
    });
}

#[test]
fn a_batch_that_is_larger_than_the_lane_waits_for_room() {
    in_modes_with_threads(|mode| {
        for lane in [1, 4, 1024] {
            let bus = bus::<u64>(|b| b.dispatch(mode).lane_capacity(lane));
            let mut sub = blocking(&bus, 2);
            let publishing = thread::spawn({
                let mut publisher = bus.publisher();
                move || publisher.publish_batch("a", 0..5000).expect("open")
            });
            for n in 0..5000 {
                assert_eq!(*sub.recv().expect("nothing is lost").data(), n);
            }
            assert_eq!(publishing.join().expect("no panic"), 5000);
        }
    });
}

#[test]
fn a_topic_that_is_not_valid_takes_nothing_from_the_iterator() {
    let bus = bus::<u64>(|b| b);
    let mut batch = 0..3;
    let refused = bus.publisher().publish_batch("a..b", batch.by_ref());
    let Err(PublishError::Topic(_, payloads)) = refused else {
        panic!("{refused:?}");
    };
    assert!(payloads.is_empty());
    assert_eq!(batch, 0..3);
}

/// The iterator closes the bus while payloads are in the lane that are not published.
#[test]
fn payloads_that_a_closed_bus_refuses_are_returned_in_order() {
    in_every_mode(|mode| {
        for close_at in [0, 1, 63, 64, 65, 100] {
            let bus = bus::<u64>(|b| b.dispatch(mode));
            let big = bus.subscription("a").capacity(1 << 12);
            let mut sub = big.open().expect("open");
            let mut publisher = bus.publisher();
            let mut taken = 0;
            let batch = (0..200).inspect(|&n| {
                if n == close_at {
                    bus.close();
                }
                taken = n + 1;
            });
            let refused = publisher.publish_batch("a", batch);
            let Err(PublishError::Closed(refused)) = refused else {
                panic!("{refused:?}");
            };
            bus.close_within(FOR_EVER);
            let accepted = bus.stats().published;
            assert_eq!(refused, (accepted..taken).collect::<Vec<_>>());
            assert_eq!(payloads(&mut sub), (0..accepted).collect::<Vec<_>>());
            assert!(
                accepted >= close_at / 64 * 64,
                "whole blocks were published"
            );
        }
    });
}

#[test]
fn an_iterator_that_panics_publishes_what_came_before() {
    in_every_mode(|mode| {
        let bus = bus::<u64>(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        let mut publisher = bus.publisher();
        let batch = (0..100).inspect(|&n| {
            if n == 70 {
                panics_quietly();
            }
        });
        let panicked = catch_unwind(AssertUnwindSafe(|| publisher.publish_batch("a", batch)));
        assert!(panicked.map_err(std::mem::forget).is_err());
        publisher.publish("a", 70).expect("open");
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(payloads(&mut sub), (0..=70).collect::<Vec<_>>());
    });
}

/// Every payload is dropped once, whether it was published or returned.
#[test]
fn no_payload_of_a_batch_is_lost_or_dropped_twice() {
    in_every_mode(|mode| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let bus = bus::<OnDrop>(|b| b.dispatch(mode));
        let mut publisher = bus.publisher();
        let batch = (0..100).map(|n| {
            if n == 90 {
                bus.close();
            }
            OnDrop::counts(&dropped)
        });
        let refused = publisher
            .publish_batch("nobody", batch)
            .map_err(PublishError::into_value);
        let refused = refused.expect_err("closed").len();
        drop(publisher);
        bus.close_within(FOR_EVER);
        let accepted = bus.stats().published as usize;
        eventually("every payload is dropped", || {
            dropped.load(Ordering::SeqCst) == accepted + refused
        });
        assert_eq!(accepted + refused, 91);
    });
}

#[test]
fn a_batch_in_a_handler_does_not_wait() {
    in_every_mode(|mode| {
        let bus = bus::<u64>(|b| b.dispatch(mode).lane_capacity(8));
        let full = bus.subscription("b").capacity(1).overflow(Overflow::Block);
        let _full = full.open().expect("open");
        let (answers, answered) = mpsc::channel();
        let mut publisher = bus.publisher();
        let guard = bus.on("a", move |_| {
            let answer = publisher.publish_batch("b", 0..100_000);
            answers
                .send(matches!(answer, Err(PublishError::WouldDeadlock(_))))
                .expect("open");
        });
        let _guard = guard.expect("open");
        bus.publish("a", 1).expect("open");
        bus.drive();
        assert_eq!(answered.recv_timeout(FOR_EVER), Ok(true));
    });
}
