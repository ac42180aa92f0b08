//! How a feed ends: disconnected, cancelled or closed, against a reader that sleeps or polls.

use std::task::Waker;

use super::super::block::BlockRef;
use super::super::feed::{End, FeedConsumer, FeedProducer, Found, Listener, feed};
use super::super::loss::Overflow;
use super::super::signal::{Latch, Signal};
use super::{Layer, Payload, Told, assert_accounts, limits, offer};
use crate::park::{forget_registered, park, thread_waker};
use crate::sync::explore::{Steps, explore, explore_bounded};
use crate::sync::{Arc, thread};

/// Room for one, and then two at once: it ends with the last of them, or with both.
fn disconnects() -> (
    Layer,
    [BlockRef<Payload>; 3],
    FeedProducer<Payload>,
    FeedConsumer<Payload>,
) {
    let mut layer = Layer::new();
    let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
    let (producer, consumer) = feed(limits(1, Overflow::Disconnect), latch, Listener::waker());
    producer.begin(1);
    let laid = [
        layer.block(&["a"]),
        layer.block(&["a", "a"]),
        layer.block(&["a"]),
    ];
    (layer, laid, producer, consumer)
}

/// All that waits is read first, and then it is told of the end, with what did not fit, and of nothing else, for ever. The
/// reader that sleeps is woken by the end alone. `close`: the bus closes behind it.
fn disconnect_against_reading(close: bool) {
    explore(&format!("Disconnect feed of 1, close {close}"), move || {
        let (layer, laid, mut producer, mut consumer) = disconnects();
        let offering = thread::spawn(move || {
            laid.iter().for_each(|block| offer(&mut producer, block));
            if close {
                producer.close(4);
                None
            } else {
                Some(producer)
            }
        });
        let mut told = Told::default();
        let end = told.read_all(&mut consumer);
        let Found::Disconnected(gap) = end else {
            panic!("{end:?}");
        };
        assert!(told.ids.iter().copied().eq(1..gap.from()) && !told.ids.is_empty());
        assert_eq!((gap.to(), gap.count(), told.lost), (3, 4 - gap.from(), 0));
        drop(offering.join().unwrap());
        assert_eq!(told.look(&mut consumer), end, "for ever");
        let stats = consumer.shared().stats();
        assert_eq!((stats.matched, stats.received), (3, told.ids.len() as u64));
        assert_eq!(stats.lost.iter().sum::<u64>(), gap.count());
        assert_eq!(stats.gauges.report_lost, gap.count(), "told once");
        assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(3)));
        drop(consumer);
        assert_eq!(layer.drops.count(), 4);
    });
}

#[test]
fn loom_feed_disconnect_against_reading() {
    disconnect_against_reading(false);
}

#[test]
fn loom_feed_disconnect_against_reading_and_close() {
    disconnect_against_reading(true);
}

/// Whichever of the two ends it is what the reader is told, and all that it is told.
#[test]
fn loom_feed_disconnect_against_cancel() {
    explore_bounded("Disconnect feed of 1: against cancel", 2, || {
        let steps = Steps::new();
        let (layer, laid, mut producer, mut consumer) = disconnects();
        let offering = {
            let steps = steps.clone();
            thread::spawn(move || {
                for block in &laid {
                    steps.step();
                    offer(&mut producer, block);
                }
                producer.detach(4);
            })
        };
        let cancelling = {
            let shared = consumer.shared().clone();
            thread::spawn(move || {
                steps.step();
                shared.finish(End::Cancelled)
            })
        };
        let mut told = Told::default();
        let end = told.read_all(&mut consumer);
        offering.join().unwrap();
        let cancelled = cancelling.join().unwrap();
        assert_eq!(told.look(&mut consumer), end, "for ever");
        let stats = consumer.shared().stats();
        let lost = stats.lost.iter().sum::<u64>();
        match end {
            Found::Disconnected(gap) => {
                assert!(!cancelled);
                assert!(told.ids.iter().copied().eq(1..gap.from()));
                assert_eq!((told.lost, lost), (0, gap.count()));
                assert_eq!((stats.matched, stats.gauges.report_lost), (3, lost));
            }
            Found::Ended(End::Cancelled) => {
                assert!(cancelled);
                assert_eq!(told.last, told.ids.len() as u64 + told.lost, "in its place");
                assert_eq!(stats.gauges.report_lost, told.lost);
                assert!(stats.received + lost <= stats.matched && told.lost <= lost);
            }
            end => panic!("{end:?}"),
        }
        drop(consumer);
        assert_eq!(layer.drops.count(), 4);
    });
}

/// Cancelled while asleep: the reader is woken and told, and what it left is dropped.
#[test]
fn loom_feed_cancel_against_sleep() {
    explore("feed: cancel against sleep", || {
        let mut layer = Layer::new();
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (mut producer, mut consumer) =
            feed(limits(2, Overflow::DropNewest), latch, Listener::waker());
        let block = layer.block(&["a"]);
        let offering = thread::spawn(move || {
            offer(&mut producer, &block);
            producer
        });
        let cancelling = {
            let shared = consumer.shared().clone();
            thread::spawn(move || assert!(shared.finish(End::Cancelled)))
        };
        let mut told = Told::default();
        assert_eq!(told.read_all(&mut consumer), Found::Ended(End::Cancelled));
        drop(offering.join().unwrap());
        cancelling.join().unwrap();
        drop(consumer);
        assert_eq!(layer.drops.count(), 1);
    });
}

/// Cancelled, and the shard has let go, between two steps of one look: it ends as cancelled, although its ring is closed.
#[test]
fn loom_feed_detach_against_look() {
    explore("feed: cancel and detach against a look", || {
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (producer, mut consumer) =
            feed(limits(2, Overflow::DropNewest), latch, Listener::waker());
        let cancelling = {
            let shared = consumer.shared().clone();
            thread::spawn(move || {
                assert!(shared.finish(End::Cancelled));
                producer.detach(0);
            })
        };
        let mut told = Told::default();
        let end = Found::Ended(End::Cancelled);
        assert_eq!(told.read_all(&mut consumer), end);
        cancelling.join().unwrap();
        assert_eq!(told.look(&mut consumer), end, "for ever");
    });
}

/// One look as a task takes it, and as `Subscriber::look_or_register` does: `Empty` means that the waker will be called.
fn poll(told: &mut Told, consumer: &mut FeedConsumer<Payload>, waker: &Waker) -> Found {
    loop {
        match told.look(consumer) {
            Found::Empty => {}
            found => return found,
        }
        consumer.waker().register(waker.clone());
        if consumer.request_wake() {
            return Found::Empty;
        }
    }
}

/// Polls until nothing more comes, asleep in between. Each wait is polled twice: first for a task that has lost interest,
/// and nobody comes when its waker is called; then for this thread. `dropped`: the first future was dropped in between, and
/// its waker forgotten.
fn poll_all(told: &mut Told, consumer: &mut FeedConsumer<Payload>, dropped: bool) -> Found {
    loop {
        let mut found = poll(told, consumer, Waker::noop());
        if found == Found::Empty {
            if dropped {
                forget_registered(consumer.waker());
            }
            found = poll(told, consumer, &thread_waker());
        }
        match found {
            Found::Event | Found::Gap(_) => {}
            Found::Empty => {
                park(None);
            }
            found => return found,
        }
    }
}

/// A task that polls for one waker and then for another, against an event and the close: only the last is sure to be
/// woken, and it always is.
fn poll_against_close(name: &str, dropped: bool) {
    explore(name, move || {
        let mut layer = Layer::new();
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (mut producer, mut consumer) =
            feed(limits(2, Overflow::DropNewest), latch, Listener::waker());
        let block = layer.block(&["a"]);
        let offering = thread::spawn(move || {
            producer.begin(1);
            offer(&mut producer, &block);
            producer.close(1);
        });
        let mut told = Told::default();
        let end = poll_all(&mut told, &mut consumer, dropped);
        assert_eq!((end, &told.ids[..]), (Found::Closed, &[1][..]));
        offering.join().unwrap();
        assert_accounts(&told, &consumer, 1);
        drop(consumer);
        assert_eq!(layer.drops.count(), 1);
    });
}

#[test]
fn loom_poll_two_wakers_against_close() {
    poll_against_close("feed: two wakers against an event and the close", false);
}

#[test]
fn loom_poll_dropped_against_close() {
    poll_against_close(
        "feed: a dropped future against an event and the close",
        true,
    );
}

/// The same against a cancel.
#[test]
fn loom_poll_two_wakers_against_cancel() {
    explore("feed: two wakers against a cancel", || {
        let mut layer = Layer::new();
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (mut producer, mut consumer) =
            feed(limits(2, Overflow::DropNewest), latch, Listener::waker());
        let block = layer.block(&["a"]);
        let offering = thread::spawn(move || {
            offer(&mut producer, &block);
            producer
        });
        let cancelling = {
            let shared = consumer.shared().clone();
            thread::spawn(move || assert!(shared.finish(End::Cancelled)))
        };
        let mut told = Told::default();
        let end = poll_all(&mut told, &mut consumer, true);
        assert_eq!(end, Found::Ended(End::Cancelled));
        drop(offering.join().unwrap());
        cancelling.join().unwrap();
        drop(consumer);
        assert_eq!(layer.drops.count(), 1);
    });
}
