//! All policies through the two ends of a feed, and what the files of this module have in common.

mod accounting;

use super::*;
use crate::dispatch::block::{BlockRef, BlockSource, EnvelopeTable};
use crate::dispatch::loss::GapReason;
use crate::dispatch::signal::Signal;
use crate::sync::{AtomicUsize, Ordering, thread};

/// Blocks that the long test offers under each policy; Miri runs about a thousand times slower.
const BLOCKS: usize = if cfg!(miri) { 8 } else { 2_000 };

const POLICIES: [Overflow; 5] = [
    Overflow::DropNewest,
    Overflow::DropOldest,
    Overflow::Disconnect,
    Overflow::Conflate,
    Overflow::Block,
];

/// Makes blocks of events on topics that are taken in turns.
struct Blocks {
    source: BlockSource<u64>,
    table: EnvelopeTable,
    next_id: u64,
}

impl Blocks {
    fn new() -> Self {
        Self {
            source: BlockSource::new(),
            table: EnvelopeTable::new(),
            next_id: 1,
        }
    }

    fn next(&mut self, events: usize) -> (BlockRef<u64>, u64) {
        let mut writer = self.source.block(events, self.next_id, 0);
        for _ in 0..events {
            let topic = ["a", "b", "c"][self.next_id as usize % 3];
            let envelope = self.table.envelope(topic, None, None).expect("a topic");
            writer.push(envelope, self.next_id, 1);
            self.next_id += 1;
        }
        (writer.finish(), u64::MAX >> (64 - events))
    }
}

fn feed_of(
    capacity: usize,
    overflow: Overflow,
    listener: Listener,
) -> (FeedProducer, FeedConsumer) {
    let limits = Limits {
        capacity,
        pin_bytes: usize::MAX,
        overflow,
    };
    let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
    feed(limits, latch, listener)
}

/// Offers a block as a shard does. A `Block` subscriber is waited for by trying again.
fn offer(producer: &mut FeedProducer, block: &BlockRef<u64>, mask: u64) {
    if !producer.matched(block, mask) {
        return;
    }
    let mut rest = mask;
    loop {
        rest = producer.offer(block, &mut block.ref_batch(1), rest);
        producer.commit();
        if rest == 0 {
            return;
        }
        thread::yield_now();
    }
}

/// What a reader that reads to the end has seen.
#[derive(Debug, Default)]
struct Seen {
    received: u64,
    superseded: u64,
    lost: u64,
}

fn read_to_the_end(consumer: &mut FeedConsumer, overflow: Overflow) -> Seen {
    let mut seen = Seen::default();
    let mut last_id = 0;
    loop {
        match consumer.check() {
            Found::Event => {
                let event = consumer.take::<u64>();
                assert_eq!(*event.data(), event.id());
                assert!(overflow == Overflow::Conflate || event.id() > last_id);
                last_id = event.id();
                seen.received += 1;
                seen.superseded += event.superseded();
            }
            Found::Gap => {
                let gap = consumer.gap();
                assert!(gap.count() >= 1);
                seen.lost += gap.count();
            }
            Found::Empty => thread::yield_now(),
            Found::Closed => return seen,
            Found::Disconnected => {
                seen.lost += consumer.gap().count();
                return seen;
            }
            Found::Ended(end) => panic!("no thread ends the feed, but it has ended: {end:?}"),
        }
    }
}

#[test]
fn stress_all_policies_keep_the_accounting_law() {
    for overflow in POLICIES {
        for capacity in [1, 2, 100] {
            let (mut producer, mut consumer) = feed_of(capacity, overflow, Listener::waker());
            let shared = consumer.shared().clone();
            let seen = thread::scope(|scope| {
                let reading = scope.spawn(move || read_to_the_end(&mut consumer, overflow));
                let mut blocks = Blocks::new();
                for n in 0..BLOCKS {
                    let (block, mask) = blocks.next(1 + n % 5);
                    offer(&mut producer, &block, mask);
                    // While events flow. In debug builds, `stats` asserts the invariant.
                    let stats = shared.stats();
                    assert!(stats.received <= stats.matched);
                }
                producer.close(blocks.next_id - 1);
                reading.join().expect("no assertion failed")
            });
            let stats = shared.stats();
            assert!(shared.is_settled());
            assert_eq!(stats.received, seen.received, "{overflow:?} {capacity}");
            assert_eq!(stats.lost.iter().sum::<u64>(), seen.lost);
            assert_eq!(stats.gauges.reported_lost, seen.lost, "each loss once");
            assert_eq!(
                seen.received + seen.lost + stats.superseded,
                stats.matched,
                "{overflow:?} {capacity}: {stats:?}"
            );
            // The number of an event that was evicted is never seen.
            assert!(seen.superseded <= stats.superseded);
            assert!(stats.gauges.high_water <= capacity as u64);
        }
    }
}

/// The checks of debug builds run: they find a counter that breaks the invariant.
#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "the accounting invariant")]
fn a_counter_that_breaks_the_invariant_is_noticed() {
    let (_producer, consumer) = feed_of(1, Overflow::DropNewest, Listener::waker());
    consumer.shared().count_lost(1, GapReason::Overflow);
    consumer.shared().stats();
}

#[test]
fn a_dropped_consumer_and_a_dropped_producer_leave_nothing_behind() {
    for overflow in POLICIES {
        for producer_first in [false, true] {
            let (mut producer, mut consumer) = feed_of(8, overflow, Listener::waker());
            let mut blocks = Blocks::new();
            let (block, mask) = blocks.next(3);
            offer(&mut producer, &block, mask);
            assert_eq!(consumer.check(), Found::Event);
            let kept = consumer.take::<u64>().share();
            let shared = consumer.shared().clone();
            if producer_first {
                producer.close(3);
                drop(consumer);
            } else {
                drop(consumer);
                // Pushed too late, and dropped with the feed.
                let (late, mask) = blocks.next(1);
                assert!(!producer.matched(&late, mask));
                producer.detach(3);
            }
            assert!(shared.is_settled());
            let stats = shared.stats();
            assert_eq!((stats.received, stats.gauges.depth), (1, 0));
            assert_eq!(stats.last_id, Some(3));
            assert_eq!(*kept.data(), kept.id());
        }
    }
}

/// Counts how often it is scheduled.
struct Counting(AtomicUsize);

impl ReaderCallback for Counting {
    fn schedule_read(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_callback_is_notified_when_it_asked_for_it_and_while_it_exists() {
    for overflow in POLICIES {
        let callback = std::sync::Arc::new(Counting(AtomicUsize::new(0)));
        let count = || callback.0.load(Ordering::Relaxed);
        let weak = std::sync::Arc::downgrade(&callback);
        let (mut producer, mut consumer) = feed_of(8, overflow, Listener::Callback(weak));
        let mut blocks = Blocks::new();
        let mut offer_one = |producer: &mut FeedProducer| {
            let (block, mask) = blocks.next(1);
            offer(producer, &block, mask);
        };
        offer_one(&mut producer);
        assert_eq!(count(), 0, "it requested no wake-up");
        assert!(!consumer.request_wake(), "there is something to read");
        while consumer.check() == Found::Event {
            consumer.take::<u64>();
        }
        let before = count();
        assert!(consumer.request_wake());
        offer_one(&mut producer);
        offer_one(&mut producer);
        assert_eq!(count(), before + 1, "once for each request");
        // `wake_reader` has no effect on a callback.
        consumer.shared().wake_reader();
        assert_eq!(count(), before + 1);
        consumer.shared().finish(End::Cancelled);
        assert_eq!(count(), before + 2, "the end needs no request");
        drop(callback);
        drop((producer, consumer));
    }
}

#[test]
fn lowest_bits_are_those_that_counting_finds() {
    for mask in [0, 1, 0b1011, 1 << 63 | 1, 0xF0F0, u64::MAX] {
        for n in [0, 1, 2, 3, 8, 63, 64, 65] {
            let bits = (0..64).filter(|bit| mask & 1 << bit != 0);
            let naive = bits
                .take(n as usize)
                .fold(0, |bits, bit| bits | 1_u64 << bit);
            assert_eq!(lowest_bits(mask, n), naive, "{n} of {mask:b}");
        }
    }
    assert_eq!(first_and_last(100, 0b1010), (101, 103));
    assert_eq!(first_and_last(1, 1 << 63), (64, 64));
}
