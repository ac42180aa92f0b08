//! Feeds that keep the latest event of each topic.

use crate::dispatch::feed::{End, FeedConsumer, Found};
use crate::dispatch::loss::Overflow;
use crate::dispatch::models::{BlockMaker, Payload, feed_of, offer, offer_and_close, sleep};
use crate::sync::explore::{Steps, explore_bounded};
use crate::sync::thread;

/// What a reader has received from a feed under `Conflate`. Each event is checked when it is read.
struct Latest {
    /// By id, from 1: its topic, and which event of that topic it is.
    events: Vec<(usize, u64)>,
    /// By topic: the event received last.
    last: [u64; 3],
    received: u64,
    superseded: u64,
    lost: u64,
}

impl Latest {
    fn of(blocks: &[&[&str]]) -> Self {
        let mut counts = [0; 3];
        let topics = blocks.iter().copied().flatten();
        let events = topics.map(|topic| {
            let topic = usize::from(topic.as_bytes()[0] - b'a');
            counts[topic] += 1;
            (topic, counts[topic])
        });
        Self {
            events: events.collect(),
            last: [0; 3],
            received: 0,
            superseded: 0,
            lost: 0,
        }
    }

    /// Reads once. `exact`: nothing is lost, so each event says exactly how many events it
    /// replaced.
    fn read_one(&mut self, consumer: &mut FeedConsumer, exact: bool) -> Found {
        let found = consumer.check();
        match found {
            Found::Event => {
                let event = consumer.take::<Payload>();
                event.data().read();
                let (topic, ordinal) = self.events[event.id() as usize - 1];
                assert_eq!(event.topic().as_str(), ["a", "b", "c"][topic]);
                let before = std::mem::replace(&mut self.last[topic], ordinal);
                let replaced = event.superseded();
                assert!(before + replaced < ordinal, "{ordinal} after {before}");
                assert!(!exact || before + replaced + 1 == ordinal);
                self.received += 1;
                self.superseded += replaced;
            }
            Found::Gap => {
                let gap = consumer.gap();
                assert!(!exact, "{gap}");
                self.lost += gap.count();
            }
            _ => {}
        }
        found
    }

    /// Checks the counters when the feed is at rest and everything was read.
    fn end(&self, consumer: &FeedConsumer, exact: bool) {
        let offered = self.events.len() as u64;
        let stats = consumer.shared().stats();
        assert_eq!((stats.matched, stats.received), (offered, self.received));
        assert_eq!(stats.lost.iter().sum::<u64>(), self.lost);
        assert_eq!(self.received + self.lost + stats.superseded, offered);
        assert!(!exact || stats.superseded == self.superseded);
        assert_eq!((stats.gauges.depth, stats.gauges.pinned_bytes), (0, 0));
        assert_eq!(stats.gauges.reported_lost, self.lost);
        assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(offered)));
    }
}

/// Received + lost + superseded = offered, under every schedule, and each event says how many it
/// replaced. `watched`: the reader also reads the statistics, and checks that they are plausible.
fn conflate_accounting(
    capacity: usize,
    blocks: &'static [&'static [&'static str]],
    exact: bool,
    watched: bool,
) {
    let name = format!("Conflate feed of {capacity}: {blocks:?} against reading");
    let preemptions = if exact && !watched { 3 } else { 2 };
    explore_bounded(&name, preemptions, move || {
        let steps = Steps::new();
        let mut maker = BlockMaker::new();
        let (producer, mut consumer) = feed_of(capacity, Overflow::Conflate);
        let laid: Vec<_> = blocks.iter().map(|topics| maker.block(topics)).collect();
        let pinned_max = laid
            .iter()
            .map(|block| 4 * block.weight() as u64)
            .sum::<u64>();
        let offered = maker.next_id - 1;
        let offering = offer_and_close(&steps, producer, laid, offered);
        let mut latest = Latest::of(blocks);
        for _ in 0..2 {
            steps.step();
            latest.read_one(&mut consumer, exact);
            if watched {
                let stats = consumer.shared().stats();
                let lost = stats.lost.iter().sum::<u64>();
                assert!(stats.received + lost + stats.superseded <= stats.matched);
                assert!(stats.gauges.pinned_bytes <= pinned_max);
                assert!(stats.gauges.depth <= offered);
            }
        }
        offering.join().unwrap();
        // The shard's end is closed, so the reader need not sleep.
        while latest.read_one(&mut consumer, exact) != Found::Closed {}
        latest.end(&consumer, exact);
        drop(consumer);
        assert_eq!(maker.drops.count() as u64, offered);
    });
}

#[test]
fn loom_feed_conflate_one_topic() {
    conflate_accounting(1, &[&["a"], &["a"], &["a"]], true, false);
}

#[test]
fn loom_feed_conflate_two_topics() {
    conflate_accounting(2, &[&["a", "b"], &["b"], &["a"]], true, false);
}

/// The same topic several times in a block, around another topic: the last event replaces the
/// others, unless they were taken.
#[test]
fn loom_feed_conflate_runs_of_a_topic() {
    conflate_accounting(2, &[&["a"], &["a", "b", "a", "a"]], true, true);
}

/// Room for one topic of two: one is evicted, and its slot is reused for another topic, or for the
/// same one again.
#[test]
fn loom_feed_conflate_evicts() {
    conflate_accounting(1, &[&["a"], &["b"], &["a"]], false, false);
}

/// Three topics at once, with room for one: slots are reused for other topics while the reader
/// reads.
#[test]
fn loom_feed_conflate_evicts_in_a_block() {
    conflate_accounting(1, &[&["a"], &["b", "c", "a"]], false, false);
}

/// A reader that sleeps is woken for a topic that enters the ring, also if the shard evicts in the
/// middle of a round. It is not woken for an event that replaces another, since it was woken when
/// the replaced event entered the ring.
fn conflate_against_sleep(
    capacity: usize,
    blocks: &'static [&'static [&'static str]],
    rounds: usize,
) {
    let exact = capacity > 1;
    let name = format!("Conflate feed of {capacity}: {blocks:?}, {rounds} a round, against sleep");
    explore_bounded(&name, 2, move || {
        let mut maker = BlockMaker::new();
        let (mut producer, mut consumer) = feed_of(capacity, Overflow::Conflate);
        let laid: Vec<_> = blocks.iter().map(|topics| maker.block(topics)).collect();
        let offered = maker.next_id - 1;
        let offering = thread::spawn(move || {
            producer.begin(1);
            for round in laid.chunks(rounds) {
                for block in round {
                    let mask = (1 << block.events().len()) - 1;
                    assert!(producer.matched(block, mask));
                    assert_eq!(producer.offer(block, &mut block.ref_batch(1), mask), 0);
                }
                producer.commit();
            }
            producer
        });
        // The end would wake the reader, too, so it comes after the last event was read or lost.
        let mut latest = Latest::of(blocks);
        let (topic, ordinal) = *latest.events.last().expect("some");
        while latest.last[topic] < ordinal {
            if latest.read_one(&mut consumer, exact) == Found::Empty {
                sleep(&mut consumer);
            }
        }
        offering.join().unwrap().close(offered);
        while latest.read_one(&mut consumer, exact) != Found::Closed {}
        latest.end(&consumer, exact);
        drop(consumer);
        assert_eq!(maker.drops.count() as u64, offered);
    });
}

#[test]
fn loom_feed_conflate_against_sleep() {
    conflate_against_sleep(2, &[&["a"], &["a"]], 1);
}

#[test]
fn loom_feed_conflate_evicts_against_sleep() {
    conflate_against_sleep(1, &[&["a"], &["b"]], 1);
}

#[test]
fn loom_feed_conflate_round_against_sleep() {
    conflate_against_sleep(1, &[&["a"], &["b"]], 2);
}

/// The subscription is cancelled, or the subscriber dropped, while the shard replaces and evicts
/// events: everything is dropped once, and the final counters are right.
fn conflate_against_the_end(drop_it: bool) {
    let name = format!("Conflate feed of 1: replacing against the end, dropped: {drop_it}");
    explore_bounded(&name, 2, move || {
        let steps = Steps::new();
        let mut maker = BlockMaker::new();
        let (mut producer, mut consumer) = feed_of(1, Overflow::Conflate);
        let blocks: &[&[&str]] = &[&["a"], &["a", "b"], &["a"]];
        let laid: Vec<_> = blocks.iter().map(|topics| maker.block(topics)).collect();
        let offering = {
            let steps = steps.clone();
            thread::spawn(move || {
                for block in &laid {
                    steps.step();
                    offer(&mut producer, block);
                }
                drop(laid);
                producer
            })
        };
        let mut latest = Latest::of(blocks);
        steps.step();
        latest.read_one(&mut consumer, false);
        steps.step();
        let shared = consumer.shared().clone();
        let mut consumer = if drop_it {
            drop(consumer);
            None
        } else {
            assert!(shared.finish(End::Cancelled));
            let found = latest.read_one(&mut consumer, false);
            let end = Found::Ended(End::Cancelled);
            assert!(found == Found::Gap || found == end);
            assert_eq!(consumer.check(), end, "for ever");
            Some(consumer)
        };
        let producer = offering.join().unwrap();
        if let Some(consumer) = &mut consumer {
            consumer.check();
        }
        let stats = shared.stats();
        let lost = stats.lost.iter().sum::<u64>();
        assert_eq!(stats.received, latest.received);
        assert!(lost >= latest.lost);
        assert!(stats.received + lost + stats.superseded <= stats.matched);
        assert_eq!((stats.gauges.depth, stats.gauges.pinned_bytes), (0, 0));
        drop((producer, consumer));
        assert_eq!(maker.drops.count(), 4);
    });
}

#[test]
fn loom_feed_conflate_against_cancel() {
    conflate_against_the_end(false);
}

#[test]
fn loom_feed_conflate_against_drop() {
    conflate_against_the_end(true);
}
