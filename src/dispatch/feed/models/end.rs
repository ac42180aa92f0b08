//! How a feed ends: disconnected, cancelled or closed, against a reader that sleeps or polls.

use std::task::Waker;

use crate::dispatch::block::BlockRef;
use crate::dispatch::feed::{End, FeedConsumer, FeedProducer, Found};
use crate::dispatch::loss::Overflow;
use crate::dispatch::models::{BlockMaker, Payload, ReadLog, assert_accounts, feed_of, offer};
use crate::park::{forget_registered, park, thread_waker};
use crate::sync::explore::{Steps, explore, explore_bounded};
use crate::sync::thread;

/// A feed with room for one event, and blocks of one, two and one event: it ends within the block
/// of two.
fn disconnecting_feed() -> (
    BlockMaker,
    [BlockRef<Payload>; 3],
    FeedProducer,
    FeedConsumer,
) {
    let mut maker = BlockMaker::new();
    let (producer, consumer) = feed_of(1, Overflow::Disconnect);
    producer.begin(1);
    let laid = [
        maker.block(&["a"]),
        maker.block(&["a", "a"]),
        maker.block(&["a"]),
    ];
    (maker, laid, producer, consumer)
}

/// The reader reads everything that waits, and then gets the end for ever, with the gap that caused
/// it, and nothing else. A reader that sleeps is woken by the end alone. `close`: the bus closes
/// afterwards.
fn disconnect_against_reading(close: bool) {
    explore(&format!("Disconnect feed of 1, close {close}"), move || {
        let (maker, laid, mut producer, mut consumer) = disconnecting_feed();
        let offering = thread::spawn(move || {
            laid.iter().for_each(|block| offer(&mut producer, block));
            if close {
                producer.close(4);
                None
            } else {
                Some(producer)
            }
        });
        let mut log = ReadLog::default();
        let end = log.read_all(&mut consumer);
        assert_eq!(end, Found::Disconnected);
        let gap = consumer.gap();
        assert!(log.ids.iter().copied().eq(1..gap.first_id()) && !log.ids.is_empty());
        assert_eq!(
            (gap.last_id(), gap.count(), log.lost),
            (3, 4 - gap.first_id(), 0)
        );
        drop(offering.join().unwrap());
        assert_eq!(log.read_one(&mut consumer), end, "for ever");
        let stats = consumer.shared().stats();
        assert_eq!((stats.matched, stats.received), (3, log.ids.len() as u64));
        assert_eq!(stats.lost.iter().sum::<u64>(), gap.count());
        assert_eq!(stats.gauges.reported_lost, gap.count(), "reported once");
        assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(3)));
        drop(consumer);
        assert_eq!(maker.drops.count(), 4);
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

/// The reader gets the one of the two ends that came first, and never the other.
#[test]
fn loom_feed_disconnect_against_cancel() {
    explore_bounded("Disconnect feed of 1: against cancel", 2, || {
        let steps = Steps::new();
        let (maker, laid, mut producer, mut consumer) = disconnecting_feed();
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
        let mut log = ReadLog::default();
        let end = log.read_all(&mut consumer);
        offering.join().unwrap();
        let cancelled = cancelling.join().unwrap();
        assert_eq!(log.read_one(&mut consumer), end, "for ever");
        let stats = consumer.shared().stats();
        let lost = stats.lost.iter().sum::<u64>();
        match end {
            Found::Disconnected => {
                let gap = consumer.gap();
                assert!(!cancelled);
                assert!(log.ids.iter().copied().eq(1..gap.first_id()));
                assert_eq!((log.lost, lost), (0, gap.count()));
                assert_eq!((stats.matched, stats.gauges.reported_lost), (3, lost));
            }
            Found::Ended(End::Cancelled) => {
                assert!(cancelled);
                assert_eq!(log.last, log.ids.len() as u64 + log.lost, "in its place");
                assert_eq!(stats.gauges.reported_lost, log.lost);
                assert!(stats.received + lost <= stats.matched && log.lost <= lost);
            }
            end => panic!("{end:?}"),
        }
        drop(consumer);
        assert_eq!(maker.drops.count(), 4);
    });
}

/// Cancelled while the reader waits: it is woken and gets the end, and unread events are dropped.
/// `read_all`: how it reads to the end.
fn cancel_against(name: &str, read_all: fn(&mut ReadLog, &mut FeedConsumer) -> Found) {
    explore(name, move || {
        let mut maker = BlockMaker::new();
        let (mut producer, mut consumer) = feed_of(2, Overflow::DropNewest);
        let block = maker.block(&["a"]);
        let offering = thread::spawn(move || {
            offer(&mut producer, &block);
            producer
        });
        let cancelling = {
            let shared = consumer.shared().clone();
            thread::spawn(move || assert!(shared.finish(End::Cancelled)))
        };
        let mut log = ReadLog::default();
        let end = read_all(&mut log, &mut consumer);
        assert_eq!(end, Found::Ended(End::Cancelled));
        drop(offering.join().unwrap());
        cancelling.join().unwrap();
        drop(consumer);
        assert_eq!(maker.drops.count(), 1);
    });
}

#[test]
fn loom_feed_cancel_against_sleep() {
    cancel_against("feed: cancel against sleep", ReadLog::read_all);
}

/// The subscription is cancelled, and the shard drops its end, in the middle of a read: the reader
/// gets the cancel, although the ring is closed.
#[test]
fn loom_feed_detach_against_read() {
    explore("feed: cancel and detach against a read", || {
        let (producer, mut consumer) = feed_of(2, Overflow::DropNewest);
        let cancelling = {
            let shared = consumer.shared().clone();
            thread::spawn(move || {
                assert!(shared.finish(End::Cancelled));
                producer.detach(0);
            })
        };
        let mut log = ReadLog::default();
        let end = Found::Ended(End::Cancelled);
        assert_eq!(log.read_all(&mut consumer), end);
        cancelling.join().unwrap();
        assert_eq!(log.read_one(&mut consumer), end, "for ever");
    });
}

/// Reads once as a task does, like `check_or_register` in `bus/subscriber.rs`: `Empty` means that
/// the waker will be woken.
fn poll(log: &mut ReadLog, consumer: &mut FeedConsumer, waker: &Waker) -> Found {
    loop {
        match log.read_one(consumer) {
            Found::Empty => {}
            found => return found,
        }
        consumer.waker().register(waker);
        if consumer.request_wake() {
            return Found::Empty;
        }
    }
}

/// Polls until the end, asleep in between. Each wait is polled twice: first with a waker that does
/// nothing, then with one that wakes this thread. `dropped`: the first future is dropped before the
/// second poll, and so its waker is removed.
fn poll_all(log: &mut ReadLog, consumer: &mut FeedConsumer, dropped: bool) -> Found {
    loop {
        let mut found = poll(log, consumer, Waker::noop());
        if found == Found::Empty {
            if dropped {
                forget_registered(consumer.waker());
            }
            found = poll(log, consumer, &thread_waker());
        }
        match found {
            Found::Event | Found::Gap => {}
            Found::Empty => {
                park(None);
            }
            found => return found,
        }
    }
}

/// A task polls with one waker and then with another, against an event and the close: the last
/// waker is always woken.
fn poll_against_close(name: &str, dropped: bool) {
    explore(name, move || {
        let mut maker = BlockMaker::new();
        let (mut producer, mut consumer) = feed_of(2, Overflow::DropNewest);
        let block = maker.block(&["a"]);
        let offering = thread::spawn(move || {
            producer.begin(1);
            offer(&mut producer, &block);
            producer.close(1);
        });
        let mut log = ReadLog::default();
        let end = poll_all(&mut log, &mut consumer, dropped);
        assert_eq!((end, &log.ids[..]), (Found::Closed, &[1][..]));
        offering.join().unwrap();
        assert_accounts(&log, &consumer, 1);
        drop(consumer);
        assert_eq!(maker.drops.count(), 1);
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

/// The same, against a cancel.
#[test]
fn loom_poll_two_wakers_against_cancel() {
    cancel_against("feed: two wakers against a cancel", |log, consumer| {
        poll_all(log, consumer, true)
    });
}
