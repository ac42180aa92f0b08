//! What the shard knows of its boxes, checked after every step; and steps between the two halves of a claim, which no caller
//! can take.

use proptest::prelude::*;

use super::*;
use crate::dispatch::block::EnvelopeTable;
use crate::dispatch::feed::{Limits, Listener};
use crate::dispatch::loss::Overflow;
use crate::dispatch::signal::{Latch, Signal};
use crate::sync::Arc;

struct Feed {
    write: WriteEnd<u64>,
    read: ReadEnd<u64>,
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
        let block = writer.finish();
        let mask = u64::MAX >> (64 - topics.len());
        self.write
            .offer(&self.shared, &block, &mut block.shares(1), mask);
        self.write.commit();
        self.check();
    }

    /// Takes what is next; in the midst of it, when it has left the order and is still in its box, these are offered.
    fn take(&mut self, between: &[Vec<usize>]) -> bool {
        let Self { read, .. } = self;
        let Some(claimed) = read.ring.claim() else {
            return false;
        };
        for topics in between {
            self.offer(topics);
        }
        let event = claimed.take_item().item.take();
        self.shared.count_gone(1, event.freed as u64);
        let event = &event.block.events()[event.mask.trailing_zeros() as usize];
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
        let boxes = topic_slots.boxes.len();
        assert!(boxes <= self.capacity + SPARE_BOXES);
        assert!(topic_slots.order.len() <= 64 + self.capacity + 1);
        assert_eq!(topic_slots.by_topic.len(), boxes);
        for (number, known) in topic_slots.boxes.iter().enumerate() {
            let is_it = |other: &u32| topic_slots.boxes[*other as usize].topic == known.topic;
            let found = topic_slots.by_topic.find(known.topic.hash64(), is_it);
            assert_eq!(found, Some(&(number as u32)), "its topic is its own");
            let times = |list: &VecDeque<u32>| {
                let this = list.iter().filter(|other| **other == number as u32);
                this.count()
            };
            assert_eq!(times(&topic_slots.idle), usize::from(known.is_idle));
            assert!(
                known.is_idle || times(&topic_slots.order) > 0,
                "lost: {number}"
            );
        }
        let stats = self.shared.stats();
        let lost: u64 = stats.lost.iter().sum();
        let waits = self.matched - self.received - lost - stats.superseded;
        assert!(waits <= self.capacity as u64 + 1, "{waits} wait");
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
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_box_is_in_the_order_or_idle(
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

/// What is claimed and still in its box is replaced there; its box is nobody else's until it has been emptied.
#[test]
fn a_box_that_is_being_emptied_is_left_alone() {
    let mut feed = Feed::new(1);
    feed.offer(&[0]);
    // Its own topic, in the last moment: received, with what it replaced.
    assert!(feed.take(&[vec![0, 0], vec![0]]));
    assert_eq!((feed.received, feed.superseded), (1, 3));
    assert!(!feed.take(&[]));
    for round in 1..50 {
        feed.offer(&[round]);
        // Others, over and over: they have two boxes between them.
        assert!(feed.take(&[vec![round + 1, round + 2], vec![round + 3], vec![round]]));
        assert!(feed.take(&[]));
    }
    feed.end();
}

/// What the subscriber has taken is counted as gone a moment later. What comes in between is not lost for it.
#[test]
fn a_block_alone_keeps_its_events_while_a_claim_is_counted() {
    for before in 0..3 {
        let mut feed = Feed::bounded(8, 1);
        feed.offer(&[0]);
        let claimed = feed.read.ring.claim().expect("it waits");
        let event = claimed.take_item().item.take();
        feed.received += 1;
        // Blocks that really are too much: each loses the one before, and no more.
        for _ in 0..before {
            feed.offer(&[1]);
        }
        feed.offer(&[2, 3, 4]);
        feed.shared.count_gone(1, event.freed as u64);
        let lost: u64 = feed.shared.stats().lost.iter().sum();
        assert_eq!(lost, u64::from(before > 0));
        drop(event);
        for _ in 0..3 {
            assert!(feed.take(&[]));
        }
        feed.end();
    }
}

/// Whoever asks may find counters that are not of one moment; what is promised holds all the same.
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
    feed.shared.count_gone(67, 1000);
    let gauges = feed.shared.stats().gauges;
    assert_eq!((gauges.depth, gauges.pinned_bytes), (0, 0));
}
