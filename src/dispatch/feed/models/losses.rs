//! Feeds that keep the first or the newest events: losses against reading and against sleep.

use crate::dispatch::feed::{End, Found, Listener, feed};
use crate::dispatch::loss::Overflow;
use crate::dispatch::models::{
    BlockMaker, ReadLog, assert_accounts, feed_of, limits, offer, offer_and_close, sleep,
};
use crate::dispatch::signal::{Latch, Signal};
use crate::sync::explore::{Steps, explore, explore_bounded};
use crate::sync::{Arc, thread};

/// Received + lost = offered, under every schedule; every gap is in its place; a run of losses is
/// reported once.
fn feed_accounting(
    capacity: usize,
    overflow: Overflow,
    blocks: &'static [&'static [&'static str]],
) {
    explore(
        &format!("{overflow:?} feed of {capacity}: losses against reading"),
        move || {
            let steps = Steps::new();
            let mut maker = BlockMaker::new();
            let (producer, mut consumer) = feed_of(capacity, overflow);
            let laid: Vec<_> = blocks.iter().map(|topics| maker.block(topics)).collect();
            let offered = maker.next_id - 1;
            let offering = offer_and_close(&steps, producer, laid, offered);
            let mut log = ReadLog::default();
            for _ in 0..2 {
                steps.step();
                log.read_one(&mut consumer);
            }
            offering.join().unwrap();
            // The shard's end is closed, so the reader need not sleep.
            while !matches!(log.read_one(&mut consumer), Found::Closed) {}
            assert_accounts(&log, &consumer, offered);
            assert!(log.ids.len() >= capacity.min(offered as usize));
            drop(consumer);
            assert_eq!(maker.drops.count() as u64, offered);
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

/// More events at once than the capacity: the newest are kept.
#[test]
fn loom_feed_accounting_oldest_capacity_2_of_3() {
    feed_accounting(2, Overflow::DropOldest, &[&["a", "a", "a"], &["a", "a"]]);
}

/// The same with a reader that sleeps: it is woken for events and gaps. `rounds`: how many blocks
/// of one event each round has, before the commit that wakes the reader.
fn losses_against_sleep(overflow: Overflow, rounds: &'static [usize]) {
    let name = format!("{overflow:?} feed of 1: rounds of {rounds:?} against a reader that sleeps");
    explore(&name, move || {
        let mut maker = BlockMaker::new();
        let (mut producer, mut consumer) = feed_of(1, overflow);
        let offered = rounds.iter().sum::<usize>() as u64;
        let mut laid: Vec<_> = (0..offered).map(|_| maker.block(&["a"])).collect();
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
        // The end would wake the reader, too, so it comes after all events were received or lost.
        let mut log = ReadLog::default();
        while log.last < offered {
            if log.read_one(&mut consumer) == Found::Empty {
                sleep(&mut consumer);
            }
        }
        offering.join().unwrap().close(offered);
        assert_eq!(log.read_one(&mut consumer), Found::Closed);
        assert_accounts(&log, &consumer, offered);
        drop(consumer);
        assert_eq!(maker.drops.count() as u64, offered);
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

/// The second event of the round evicts the first, so the shard commits in the middle of the round.
/// The wake-up comes at the end of the round, with the commit of the other events.
#[test]
fn loom_feed_oldest_round_against_sleep() {
    losses_against_sleep(Overflow::DropOldest, &[3]);
}

/// An event is published before it evicts another: so a reader that has not read what was in the
/// ring finds something at any time.
#[test]
fn loom_feed_oldest_is_never_empty_for_nothing() {
    explore(
        "DropOldest feed of 1: a read in the middle of a round",
        || {
            let steps = Steps::new();
            let mut maker = BlockMaker::new();
            let (mut producer, mut consumer) = feed_of(1, Overflow::DropOldest);
            offer(&mut producer, &maker.block(&["a"]));
            let laid = [maker.block(&["a"]), maker.block(&["a"])];
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
            let mut log = ReadLog::default();
            let found = log.read_one(&mut consumer);
            assert!(matches!(found, Found::Event | Found::Gap), "{found:?}");
            drop(offering.join().unwrap());
            drop(consumer);
            assert_eq!(maker.drops.count(), 3);
        },
    );
}

/// The subscription is cancelled while the shard evicts: what the reader drops and what the shard
/// still pushes is dropped once. A gap right where the reader was is reported, and no other gap.
#[test]
fn loom_feed_oldest_against_cancel() {
    explore_bounded("DropOldest feed of 1: evictions against cancel", 2, || {
        let steps = Steps::new();
        let mut maker = BlockMaker::new();
        let (mut producer, mut consumer) = feed_of(1, Overflow::DropOldest);
        let laid = [maker.block(&["a"]), maker.block(&["a"])];
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
        let mut log = ReadLog::default();
        let end = Found::Ended(End::Cancelled);
        assert_eq!(log.read_all(&mut consumer), end);
        assert_eq!(log.read_one(&mut consumer), end, "for ever");
        assert_eq!(log.last, log.ids.len() as u64 + log.lost, "in its place");
        drop(offering.join().unwrap());
        cancelling.join().unwrap();
        let stats = consumer.shared().stats();
        assert_eq!(stats.received, log.ids.len() as u64);
        assert!(stats.lost.iter().sum::<u64>() >= log.lost);
        assert!(stats.received + stats.lost.iter().sum::<u64>() <= stats.matched);
        drop(consumer);
        assert_eq!(maker.drops.count(), 2);
    });
}

/// A full `Block` ring: the reader makes room while the shard begins to wait for it.
#[test]
fn loom_block_wait_against_claim() {
    explore("feed of 1: waiting for room against reading", || {
        let mut maker = BlockMaker::new();
        let signal = Arc::new(Signal::new(1));
        let latch = Arc::new(Latch::new(signal.clone()));
        let (mut producer, mut consumer) =
            feed(limits(1, Overflow::Block), latch.clone(), Listener::waker());
        let blocks = [maker.block(&["a"]), maker.block(&["a"])];
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
        let mut log = ReadLog::default();
        assert_eq!(log.read_all(&mut consumer), Found::Closed);
        assert_eq!(log.ids, [1, 2]);
        offering.join().unwrap();
    });
}
