//! Publishing many payloads at a time: like publishing each, and what was not published is
//! returned.

use fanout::{Bus, Dispatch, Overflow, PublishError, Publisher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use crate::support::{
    FOR_EVER, OnDrop, blocking, bus, eventually, in_every_mode, in_modes_with_threads,
    panics_quietly, payloads,
};

/// One of the two that have batches: a `Publisher`, which has its own lane, and a `Bus`.
enum Sender<T: Send + Sync + 'static> {
    Publisher(Publisher<T>),
    Bus(Bus<T>),
}

impl<T: Send + Sync + 'static> Sender<T> {
    fn publish_batch(
        &mut self,
        topic: &str,
        payloads: impl IntoIterator<Item = T>,
    ) -> Result<usize, PublishError<Vec<T>>> {
        match self {
            Self::Publisher(publisher) => publisher.publish_batch(topic, payloads),
            Self::Bus(bus) => bus.publish_batch(topic, payloads),
        }
    }

    fn publish(&mut self, topic: &str, payload: T) {
        let published = match self {
            Self::Publisher(publisher) => publisher.publish(topic, payload),
            Self::Bus(bus) => bus.publish(topic, payload),
        };
        assert!(published.is_ok(), "the bus is open");
    }
}

type MakeSender<T> = fn(&Bus<T>) -> Sender<T>;

/// Runs `f` in every mode, with each kind of sender.
fn in_every_mode_and_lane<T: Send + Sync + 'static>(
    f: impl Fn(Dispatch, MakeSender<T>) + Clone + Send + 'static,
) {
    in_every_mode(move |mode| for_each_lane(|sender| f(mode, sender)));
}

fn for_each_lane<T: Send + Sync + 'static>(f: impl Fn(MakeSender<T>)) {
    f(|bus| Sender::Publisher(bus.publisher()));
    f(|bus| Sender::Bus(bus.clone()));
}

#[test]
fn a_batch_is_delivered_in_order() {
    in_every_mode_and_lane(|mode, sender| {
        let bus = bus::<u64>(|b| b.dispatch(mode));
        let big = bus.subscription("a").capacity(1 << 12);
        let mut sub = big.open().expect("open");
        let mut sender = sender(&bus);
        let mut next = 0;
        for len in [0, 1, 63, 64, 65, 500] {
            let accepted = sender.publish_batch("a", next..next + len);
            assert_eq!(accepted.expect("open"), len as usize);
            sender.publish("a", next + len);
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
        for_each_lane(|sender| {
            for lane in [1, 4, 1024] {
                let bus = bus::<u64>(|b| b.dispatch(mode).lane_capacity(lane));
                let mut sub = blocking(&bus, 2);
                let mut sender = sender(&bus);
                let publishing =
                    thread::spawn(move || sender.publish_batch("a", 0..5000).expect("open"));
                for n in 0..5000 {
                    assert_eq!(*sub.recv().expect("nothing is lost").data(), n);
                }
                assert_eq!(publishing.join().expect("no panic"), 5000);
            }
        });
    });
}

#[test]
fn a_topic_that_is_not_valid_takes_nothing_from_the_iterator() {
    for_each_lane(|sender| {
        let bus = bus::<u64>(|b| b);
        let mut batch = 0..3;
        let refused = sender(&bus).publish_batch("a..b", batch.by_ref());
        let Err(PublishError::Topic(_, payloads)) = refused else {
            panic!("{refused:?}");
        };
        assert!(payloads.is_empty());
        assert_eq!(batch, 0..3);
    });
}

/// The iterator closes the bus while payloads are in the lane that are not published.
#[test]
fn payloads_that_a_closed_bus_refuses_are_returned_in_order() {
    in_every_mode_and_lane(|mode, sender| {
        for close_at in [0, 1, 63, 64, 65, 100] {
            let bus = bus::<u64>(|b| b.dispatch(mode));
            let big = bus.subscription("a").capacity(1 << 12);
            let mut sub = big.open().expect("open");
            let mut sender = sender(&bus);
            let mut taken = 0;
            let batch = (0..200).inspect(|&n| {
                if n == close_at {
                    bus.close();
                }
                taken = n + 1;
            });
            let refused = sender.publish_batch("a", batch);
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
    in_every_mode_and_lane(|mode, sender| {
        let bus = bus::<u64>(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        let mut sender = sender(&bus);
        let batch = (0..100).inspect(|&n| {
            if n == 70 {
                panics_quietly();
            }
        });
        let panicked = catch_unwind(AssertUnwindSafe(|| sender.publish_batch("a", batch)));
        assert!(panicked.map_err(std::mem::forget).is_err());
        sender.publish("a", 70);
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(payloads(&mut sub), (0..=70).collect::<Vec<_>>());
    });
}

/// Every payload is dropped once, whether it was published or returned.
#[test]
fn no_payload_of_a_batch_is_lost_or_dropped_twice() {
    in_every_mode_and_lane(|mode, sender| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let bus = bus::<OnDrop>(|b| b.dispatch(mode));
        let mut sender = sender(&bus);
        let mut taken = 0;
        let batch = (0..100).map(|n| {
            if n == 90 {
                bus.close();
            }
            taken = n + 1;
            OnDrop::counts(&dropped)
        });
        let refused = sender
            .publish_batch("nobody", batch)
            .map_err(PublishError::into_value);
        let refused = refused.expect_err("closed").len();
        drop(sender);
        bus.close_within(FOR_EVER);
        let accepted = bus.stats().published as usize;
        eventually("every payload is dropped", || {
            dropped.load(Ordering::SeqCst) == accepted + refused
        });
        assert_eq!(accepted + refused, taken);
        assert!(taken > 90, "the iterator has closed the bus");
    });
}

/// In the shared lane, a batch whose iterator panics is published as far as there is room, without
/// waiting. The rest is dropped.
#[test]
fn a_panic_of_the_iterator_does_not_wait_for_room_in_the_shared_lane() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let bus = bus::<OnDrop>(|b| b.dispatch(Dispatch::Manual).lane_capacity(8));
    let batch = (0..20).map(|n| {
        if n == 15 {
            panics_quietly();
        }
        OnDrop::counts(&dropped)
    });
    let panicked = catch_unwind(AssertUnwindSafe(|| bus.publish_batch("nobody", batch)));
    assert!(panicked.map_err(std::mem::forget).is_err());
    assert_eq!(
        (bus.stats().published, dropped.load(Ordering::SeqCst)),
        (8, 7)
    );
    bus.drive();
    assert_eq!(dropped.load(Ordering::SeqCst), 15);
}

#[test]
fn a_batch_in_a_handler_does_not_wait() {
    in_every_mode_and_lane(|mode, sender| {
        let bus = bus::<u64>(|b| b.dispatch(mode).lane_capacity(8));
        let full = bus.subscription("b").capacity(1).overflow(Overflow::Block);
        let _full = full.open().expect("open");
        let (answers, answered) = mpsc::channel();
        let mut sender = sender(&bus);
        let guard = bus.on("a", move |_| {
            let answer = sender.publish_batch("b", 0..100_000);
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
