//! These tests check the shard's data about the topic slots after every step. They also take steps
//! between the two halves of a claim, which a caller of the feed cannot do.

use proptest::prelude::*;

use super::*;
use crate::dispatch::block::{BlockSource, EnvelopeTable};
use crate::dispatch::feed::{Limits, Listener};
use crate::dispatch::loss::Overflow;
use crate::dispatch::signal::{Latch, Signal};
use crate::sync::Arc;

/// Random cases; Miri runs about a thousand times slower.
const CASES: u32 = if cfg!(miri) { 2 } else { 1000 };

/// Rounds of a test that repeats its steps.
const ROUNDS: usize = if cfg!(miri) { 10 } else { 50 };

/// A feed without a shard, and how many of its events were received.
struct Feed {
    write: WriteEnd,
    read: ReadEnd,
    shared: FeedShared,
    source: BlockSource<u64>,
    table: EnvelopeTable,
    capacity: usize,
    matched: u64,
    received: u64,
    superseded: u64,
}

impl Feed {
    fn new(capacity: usize) -> Self {
        Self::bounded(capacity, usize::MAX)
    }

    fn bounded(capacity: usize, pin_bytes: usize) -> Self {
        let (write, read) = queue(capacity);
        let limits = Limits {
            capacity,
            pin_bytes,
            overflow: Overflow::Conflate,
        };
        let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
        Self {
            write,
            read,
            shared: FeedShared::new(limits, latch, Listener::waker()),
            source: BlockSource::new(),
            table: EnvelopeTable::new(),
            capacity,
            matched: 0,
            received: 0,
            superseded: 0,
        }
    }

    fn offer(&mut self, topics: &[usize]) {
        let mut writer = self.source.block(topics.len(), self.matched + 1, 0);
        for topic in topics {
            let envelope = self.table.envelope(&format!("t.{topic}"), None, None);
            writer.push(envelope.expect("a topic"), *topic as u64, 0);
        }
        self.matched += topics.len() as u64;
        self.shared.count_matched(topics.len() as u64);
        let block = writer.finish();
        let mask = u64::MAX >> (64 - topics.len());
        self.write
            .offer(&self.shared, &block, &mut block.ref_batch(1), mask);
        self.write.commit();
        self.check();
    }

    /// Takes the next event. Offers `between` in the middle of the claim, when the event has left
    /// the queue and is still in its slot. `false`: there is no event.
    fn take(&mut self, between: &[Vec<usize>]) -> bool {
        let Self { read, .. } = self;
        let Some(claimed) = read.queue.claim() else {
            return false;
        };
        for topics in between {
            self.offer(topics);
        }
        let event = claimed.take_item().item.take();
        self.shared.count_removed(1, event.freed as u64);
        let event = &event.block.events::<u64>()[event.mask.trailing_zeros() as usize];
        assert_eq!(event.topic().as_str(), format!("t.{}", event.data()));
        self.received += 1;
        self.superseded += event.superseded();
        self.check();
        true
    }

    fn check(&self) {
        let topic_slots = self
            .write
            .topic_slots
            .as_ref()
            .expect("made with the first event");
        let slots = topic_slots.slots.len();
        assert!(slots <= self.capacity + SPARE_SLOTS);
        assert!(topic_slots.order.len() <= 64 + self.capacity + 1);
        assert_eq!(topic_slots.by_topic.len(), slots);
        for (number, slot) in topic_slots.slots.iter().enumerate() {
            let has_topic = |other: &u32| topic_slots.slots[*other as usize].topic == slot.topic;
            let found = topic_slots.by_topic.find(slot.topic.hash64(), has_topic);
            assert_eq!(found, Some(&(number as u32)), "no other slot has its topic");
            let times = |list: &VecDeque<u32>| {
                let this = list.iter().filter(|other| **other == number as u32);
                this.count()
            };
            assert_eq!(times(&topic_slots.idle), usize::from(slot.is_idle));
            assert!(
                slot.is_idle || times(&topic_slots.order) > 0,
                "slot {number} is neither queued nor idle"
            );
        }
        let stats = self.shared.stats();
        let lost: u64 = stats.lost.iter().sum();
        let unread = self.matched - self.received - lost - stats.superseded;
        assert!(unread <= self.capacity as u64 + 1, "{unread} are unread");
        assert!(stats.gauges.high_water <= self.capacity as u64);
    }

    fn end(mut self) {
        while self.take(&[]) {}
        let stats = self.shared.stats();
        let lost: u64 = stats.lost.iter().sum();
        assert_eq!(self.received + lost + stats.superseded, self.matched);
        assert!(lost > 0 || self.superseded == stats.superseded);
        assert_eq!((stats.gauges.depth, stats.gauges.pinned_bytes), (0, 0));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Offer(Vec<usize>),
    Take,
    TakeSlowly(Vec<Vec<usize>>),
}

fn steps(topics: usize) -> impl Strategy<Value = Vec<Step>> {
    let block = move || prop::collection::vec(0..topics, 1..9);
    let step = prop_oneof![
        3 => block().prop_map(Step::Offer),
        4 => Just(Step::Take),
        3 => prop::collection::vec(block(), 1..4).prop_map(Step::TakeSlowly),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn every_slot_is_queued_or_idle(
        capacity in 1..6_usize,
        steps in (1..12_usize).prop_flat_map(steps),
    ) {
        let mut feed = Feed::new(capacity);
        for step in steps {
            match step {
                Step::Offer(topics) => feed.offer(&topics),
                Step::Take => _ = feed.take(&[]),
                Step::TakeSlowly(between) => _ = feed.take(&between),
            }
        }
        feed.end();
    }
}

/// An event that was claimed and is still in its slot is replaced there. The slot is not given to
/// another topic until it is empty.
#[test]
fn a_slot_that_is_being_emptied_is_not_reused() {
    let mut feed = Feed::new(1);
    feed.offer(&[0]);
    // The same topic, between claim and take: received, with the number of events that it replaced.
    assert!(feed.take(&[vec![0, 0], vec![0]]));
    assert_eq!((feed.received, feed.superseded), (1, 3));
    assert!(!feed.take(&[]));
    for round in 1..ROUNDS {
        feed.offer(&[round]);
        // Other topics, one after the other: they share the two other slots.
        assert!(feed.take(&[vec![round + 1, round + 2], vec![round + 3], vec![round]]));
        assert!(feed.take(&[]));
    }
    feed.end();
}

/// The bytes of an event are counted as removed a moment after the subscriber took it. No event
/// that is offered in between is lost because of that.
#[test]
fn a_block_alone_keeps_its_events_while_a_claim_is_counted() {
    for before in 0..3 {
        let mut feed = Feed::bounded(8, 1);
        feed.offer(&[0]);
        let claimed = feed.read.queue.claim().expect("one event is queued");
        let event = claimed.take_item().item.take();
        feed.received += 1;
        // Blocks that are beyond the bound: each evicts the one before it, and no more.
        for _ in 0..before {
            feed.offer(&[1]);
        }
        feed.offer(&[2, 3, 4]);
        feed.shared.count_removed(1, event.freed as u64);
        let lost: u64 = feed.shared.stats().lost.iter().sum();
        assert_eq!(lost, u64::from(before > 0));
        drop(event);
        for _ in 0..3 {
            assert!(feed.take(&[]));
        }
        feed.end();
    }
}

/// A snapshot of counters that move is not consistent, but it keeps to the bounds.
#[test]
fn statistics_keep_to_the_bounds() {
    let feed = Feed::new(3);
    // The shard has pushed, and is about to evict.
    feed.shared.writer.gauges.pushed(&Pushed {
        events: 67,
        bytes: 1000,
        alone: false,
        created_at_ns: 1,
    });
    assert_eq!(feed.shared.stats().gauges.depth, 3);
    feed.shared.count_removed(67, 1000);
    let gauges = feed.shared.stats().gauges;
    assert_eq!((gauges.depth, gauges.pinned_bytes), (0, 0));
}
