//! Feeds that keep the first or the newest events: losses against reading and against sleep.

use super::super::feed::{End, Found, Listener, feed};
use super::super::loss::Overflow;
use super::super::signal::{Latch, Signal};
use super::{Layer, Told, assert_accounts, limits, offer, sleep};
use crate::sync::explore::{Steps, explore, explore_bounded};
use crate::sync::{Arc, thread};

/// Received + lost = offered, under every schedule; every gap in its place; a run is told once.
fn feed_accounting(
    capacity: usize,
    overflow: Overflow,
    blocks: &'static [&'static [&'static str]],
) {
    explore(
        &format!("{overflow:?} feed of {capacity}: losses against reading"),
        move || {
            let steps = Steps::new();
            let mut layer = Layer::new();
            let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
            let (mut producer, mut consumer) =
                feed(limits(capacity, overflow), latch, Listener::waker());
            let laid: Vec<_> = blocks.iter().map(|topics| layer.block(topics)).collect();
            let offered = layer.next_id - 1;
            let offering = {
                let steps = steps.clone();
                thread::spawn(move || {
                    producer.begin(1);
                    for block in laid {
                        steps.step();
                        offer(&mut producer, &block);
                    }
                    producer.close(offered);
                })
            };
            let mut told = Told::default();
            for _ in 0..2 {
                steps.step();
                told.look(&mut consumer);
            }
            offering.join().unwrap();
            // Awake: nobody has to be told any more.
            while !matches!(told.look(&mut consumer), Found::Closed) {}
            assert_accounts(&told, &consumer, offered);
            assert!(told.ids.len() >= capacity.min(offered as usize));
            drop(consumer);
            assert_eq!(layer.drops.count() as u64, offered);
        },
    );
}

#[test]
fn loom_feed_accounting_capacity_1() {
    feed_accounting(1, Overflow::DropNewest, &[&["a"], &["a"], &["a"]]);
}

#[test]
fn loom_feed_accounting_capacity_2() {
    feed_accounting(2, Overflow::DropNewest, &[&["a"], &["a", "a"], &["a"]]);
}

#[test]
fn loom_feed_accounting_oldest_capacity_1() {
    feed_accounting(1, Overflow::DropOldest, &[&["a"], &["a"], &["a"]]);
}

#[test]
fn loom_feed_accounting_oldest_capacity_2() {
    feed_accounting(2, Overflow::DropOldest, &[&["a"], &["a", "a"], &["a"]]);
}

/// More events at once than there is room for: the newest stay.
#[test]
fn loom_feed_accounting_oldest_capacity_2_of_3() {
    feed_accounting(2, Overflow::DropOldest, &[&["a", "a", "a"], &["a", "a"]]);
}

/// The same with a reader that sleeps: it is woken for events, gaps and the end. In each round there is a commit, and a wake-up, for
/// so many blocks of an event.
fn losses_against_sleep(overflow: Overflow, rounds: &'static [usize]) {
    let name = format!("{overflow:?} feed of 1: rounds of {rounds:?} against a reader that sleeps");
    explore(&name, move || {
        let mut layer = Layer::new();
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (mut producer, mut consumer) = feed(limits(1, overflow), latch, Listener::waker());
        let offered = rounds.iter().sum::<usize>() as u64;
        let mut laid: Vec<_> = (0..offered).map(|_| layer.block(&["a"])).collect();
        let offering = thread::spawn(move || {
            producer.begin(1);
            for &blocks in rounds {
                for block in laid.drain(..blocks) {
                    assert!(producer.matched(&block, 1));
                    assert_eq!(producer.offer(&block, &mut block.ref_batch(1), 1), 0);
                }
                producer.commit();
            }
            producer
        });
        // The end would wake the reader too: it comes when all events are accounted for.
        let mut told = Told::default();
        while told.last < offered {
            if told.look(&mut consumer) == Found::Empty {
                sleep(&mut consumer);
            }
        }
        offering.join().unwrap().close(offered);
        assert_eq!(told.look(&mut consumer), Found::Closed);
        assert_accounts(&told, &consumer, offered);
        drop(consumer);
        assert_eq!(layer.drops.count() as u64, offered);
    });
}

#[test]
fn loom_feed_losses_against_sleep() {
    losses_against_sleep(Overflow::DropNewest, &[1, 1]);
}

#[test]
fn loom_feed_oldest_against_sleep() {
    losses_against_sleep(Overflow::DropOldest, &[1, 1]);
}

/// The second event of the round evicts the first, so it commits in the midst of it; the wake-up comes with the end, and with a
/// commit of what came after it.
#[test]
fn loom_feed_oldest_round_against_sleep() {
    losses_against_sleep(Overflow::DropOldest, &[3]);
}

/// What evicts is published first: a reader who has not read what was there finds something, at any time.
#[test]
fn loom_feed_oldest_is_never_empty_for_nothing() {
    explore(
        "DropOldest feed of 1: a look in the midst of a round",
        || {
            let steps = Steps::new();
            let mut layer = Layer::new();
            let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
            let (mut producer, mut consumer) =
                feed(limits(1, Overflow::DropOldest), latch, Listener::waker());
            offer(&mut producer, &layer.block(&["a"]));
            let laid = [layer.block(&["a"]), layer.block(&["a"])];
            let offering = {
                let steps = steps.clone();
                thread::spawn(move || {
                    for block in &laid {
                        steps.step();
                        assert!(producer.matched(block, 1));
                        assert_eq!(producer.offer(block, &mut block.ref_batch(1), 1), 0);
                    }
                    steps.step();
                    producer
                })
            };
            steps.step();
            let mut told = Told::default();
            let found = told.look(&mut consumer);
            assert!(matches!(found, Found::Event | Found::Gap(_)), "{found:?}");
            drop(offering.join().unwrap());
            drop(consumer);
            assert_eq!(layer.drops.count(), 3);
        },
    );
}

/// Cancelled while the shard evicts: what the reader let go, and what the shard still pushes, is dropped once; a gap right where
/// it was cancelled is told, and no other.
#[test]
fn loom_feed_oldest_against_cancel() {
    explore_bounded("DropOldest feed of 1: evictions against cancel", 2, || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        let (mut producer, mut consumer) =
            feed(limits(1, Overflow::DropOldest), latch, Listener::waker());
        let laid = [layer.block(&["a"]), layer.block(&["a"])];
        let offering = {
            let steps = steps.clone();
            thread::spawn(move || {
                for block in &laid {
                    steps.step();
                    offer(&mut producer, block);
                }
                producer
            })
        };
        let cancelling = {
            let shared = consumer.shared().clone();
            thread::spawn(move || {
                steps.step();
                assert!(shared.finish(End::Cancelled));
            })
        };
        let mut told = Told::default();
        let end = Found::Ended(End::Cancelled);
        assert_eq!(told.read_all(&mut consumer), end);
        assert_eq!(told.look(&mut consumer), end, "for ever");
        assert_eq!(told.last, told.ids.len() as u64 + told.lost, "in its place");
        drop(offering.join().unwrap());
        cancelling.join().unwrap();
        let stats = consumer.shared().stats();
        assert_eq!(stats.received, told.ids.len() as u64);
        assert!(stats.lost.iter().sum::<u64>() >= told.lost);
        assert!(stats.received + stats.lost.iter().sum::<u64>() <= stats.matched);
        drop(consumer);
        assert_eq!(layer.drops.count(), 2);
    });
}

/// A full `Block` ring: the reader makes room while the shard is about to wait for it.
#[test]
fn loom_block_doze_against_claim() {
    explore("feed of 1: waiting for room against reading", || {
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let latch = Arc::new(Latch::new(signal.clone()));
        let (mut producer, mut consumer) =
            feed(limits(1, Overflow::Block), latch.clone(), Listener::waker());
        let blocks = [layer.block(&["a"]), layer.block(&["a"])];
        let offering = thread::spawn(move || {
            for block in &blocks {
                assert!(producer.matched(block, 1));
                while producer.offer(block, &mut block.ref_batch(1), 1) != 0 {
                    // As `Shard::ask_for_room` does, and then the pool thread.
                    latch.arm(1);
                    if producer.request_wake(block.weight(), 1) {
                        latch.arrive();
                    }
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
                    producer.take_wake_request();
                }
                producer.commit();
            }
            producer.close(2);
        });
        let mut told = Told::default();
        assert_eq!(told.read_all(&mut consumer), Found::Closed);
        assert_eq!(told.ids, [1, 2]);
        offering.join().unwrap();
    });
}
