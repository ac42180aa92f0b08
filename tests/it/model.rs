//! A simple model of a bus under manual dispatch. A bus and the model take the same steps, and the
//! test compares all events, gaps and statistics.
//!
//! The model implements only the documented rules: events are sequenced in rounds of up to 1,024
//! and written into blocks of up to 64; at most 64 blocks wait for a shard, which takes 16 of them
//! in each round. A ring has room for `capacity` waiting events whose blocks weigh up to
//! `pin_bytes`, or for one heavier block. The events of a slot that a reader has begun to read
//! (claimed) do not count. No time passes in the model, so a block timeout is over at once or
//! never.

use fanout::{
    Bus, Dispatch, Ending, GapReason, Overflow, Subscriber, SubscriptionHandle, SubscriptionStats,
    TryRecvError,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::{FOR_EVER, bus};

pub(crate) const TOPICS: [&str; 5] = ["a", "b", "a.b", "a.c", "b.c.d"];

/// Patterns, each with a function that says what it matches.
type Meaning = fn(&str) -> bool;
pub(crate) const PATTERNS: [(&str, Meaning); 9] = [
    ("**", |_| true),
    ("a", |topic| topic == "a"),
    ("a.*", |topic| topic.starts_with("a.")),
    ("a.**", |topic| topic.starts_with('a')),
    ("?*", |topic| !topic.contains('.')),
    ("**.d", |topic| topic.ends_with('d')),
    ("{a,b}", |topic| topic.len() == 1),
    ("a.{b,d}", |topic| topic == "a.b"),
    ("[a-c].[!b]*.**", |topic| topic == "a.c" || topic == "b.c.d"),
];

pub(crate) const CAPACITIES: [usize; 8] = [1, 2, 3, 63, 64, 65, 128, 1000];
const LANE: usize = 512;
const ROUND_EVENTS: usize = 1024;
const BLOCK_EVENTS: usize = 64;
const SHARD_INPUT: usize = 64;
const ROUND_BLOCKS: usize = 16;

// ---- weights ------------------------------------------------------------------------------------

/// The weight of the payload of an event on that topic.
fn weigh(topic: usize) -> usize {
    [0, 1, 100, 1000, 50_000][topic]
}

/// The weight of a block with events on these topics whose payloads weigh 0.
fn measure<'a>(topics: impl IntoIterator<Item = &'a str>) -> u64 {
    let bus = bus::<usize>(|b| b.dispatch(Dispatch::Manual).weigh(|_| 0));
    let sub = bus.subscribe("**").expect("open");
    for topic in topics {
        bus.publish(topic, 0).expect("open");
    }
    bus.drive();
    sub.stats().pinned_bytes
}

/// The memory of the topic, name and source of a run of events.
fn envelope_weight(topic: usize) -> u64 {
    static WEIGHT: OnceLock<u64> = OnceLock::new();
    let one_byte = *WEIGHT.get_or_init(|| measure(["a", "b"]) - measure(["a", "a"]));
    one_byte + TOPICS[topic].len() as u64 - 1
}

/// The memory of a block of each size. It is not documented, and is measured here.
fn empty_weights() -> [u64; 3] {
    static WEIGHTS: OnceLock<[u64; 3]> = OnceLock::new();
    *WEIGHTS.get_or_init(|| {
        [1, 8, BLOCK_EVENTS].map(|events| {
            let topics = std::iter::repeat_n("a", events);
            measure(topics) - envelope_weight(0)
        })
    })
}

/// A block has the smallest size that has room for the events.
fn empty_weight(events: usize) -> u64 {
    let [one, eight, all] = empty_weights();
    match events {
        1 => one,
        2..=8 => eight,
        _ => all,
    }
}

/// Bounds in bytes, by number: one that is never reached, one that is less than any block, and some
/// near the weight of a few blocks.
pub(crate) const PINS: usize = 8;

fn pin_bytes(number: usize) -> usize {
    let [one, eight, all] = empty_weights().map(|weight| weight as usize);
    [
        64 << 20,
        1,
        2 * one,
        one + eight + 500,
        2 * eight,
        all,
        3 * all + 100,
        2 * all + 60_000,
    ][number]
}

// ---- steps --------------------------------------------------------------------------------------

/// A step names a subscription by any number, and capacities, patterns and bounds by their numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Publish {
        topic: usize,
        times: usize,
    },
    Drive,
    Subscribe {
        pattern: usize,
        capacity: usize,
        pin: usize,
        overflow: Overflow,
        longest_wait: Option<Duration>,
    },
    Receive {
        sub: usize,
        times: usize,
    },
    Batch {
        sub: usize,
    },
    Add {
        sub: usize,
        pattern: usize,
    },
    Remove {
        sub: usize,
        pattern: usize,
    },
    Cancel {
        sub: usize,
    },
    Drop {
        sub: usize,
    },
    Close {
        /// A close with a time limit that is over.
        forced: bool,
    },
}

/// Sequences of steps with subscriptions of these policies. A policy that is listed twice occurs
/// twice as often.
pub(crate) fn steps(overflows: &'static [Overflow]) -> impl Strategy<Value = Vec<Step>> {
    let sub = 0..64_usize;
    let pattern = prop_oneof![1 => Just(0), 1 => 0..PATTERNS.len()];
    let pin = prop_oneof![3 => Just(0), 2 => 0..PINS];
    let waits = [None, None, Some(Duration::ZERO), Some(FOR_EVER)];
    let times = || prop_oneof![3 => 1..4_usize, 1 => 1..70_usize, 1 => 1..200_usize];
    let step = prop_oneof![
        80 => (0..TOPICS.len(), times()).prop_map(|(topic, times)| Step::Publish { topic, times }),
        60 => Just(Step::Drive),
        30 => (pattern.clone(), 0..CAPACITIES.len(), pin, 0..overflows.len(), 0..waits.len())
            .prop_map(move |(pattern, capacity, pin, overflow, wait)| Step::Subscribe {
                pattern,
                capacity: CAPACITIES[capacity],
                pin,
                overflow: overflows[overflow],
                longest_wait: waits[wait],
            }),
        80 => (sub.clone(), times()).prop_map(|(sub, times)| Step::Receive { sub, times }),
        20 => sub.clone().prop_map(|sub| Step::Batch { sub }),
        10 => (sub.clone(), pattern.clone()).prop_map(|(sub, pattern)| Step::Add { sub, pattern }),
        10 => (sub.clone(), pattern).prop_map(|(sub, pattern)| Step::Remove { sub, pattern }),
        10 => sub.clone().prop_map(|sub| Step::Cancel { sub }),
        10 => sub.prop_map(|sub| Step::Drop { sub }),
        1 => any::<bool>().prop_map(|forced| Step::Close { forced }),
    ];
    vec(step, 1..150)
}

// ---- the model ----------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ModelEvent {
    id: u64,
    topic: usize,
    /// The number of events that it replaced.
    superseded: u64,
}

type Events = VecDeque<ModelEvent>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ModelGap {
    from: u64,
    to: u64,
    count: u64,
    reason: GapReason,
}

impl ModelGap {
    /// Adds one loss to the run. A run has its first reason, and its lowest and highest id.
    fn add(run: &mut Option<Self>, event: ModelEvent, reason: GapReason) {
        let gap = run.get_or_insert(Self {
            from: event.id,
            to: event.id,
            count: 0,
            reason,
        });
        gap.from = gap.from.min(event.id);
        gap.to = gap.to.max(event.id);
        gap.count += 1;
    }
}

/// The result of a receive.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Event(ModelEvent),
    Batch(Vec<ModelEvent>),
    Lost(ModelGap),
    Disconnected(ModelGap),
    Empty,
    Closed,
    Cancelled,
}

/// The ending that a handle returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ModelEnding {
    Closed,
    Cancelled,
    Disconnected(ModelGap),
}

/// Events of one block. Under `Conflate`, one event: the latest of its topic.
struct ModelSlot {
    /// The losses in front of the slot.
    gap: Option<ModelGap>,
    events: Events,
    /// The weight of the block, and its name: the id of its last event.
    weight: u64,
    block: u64,
}

struct ModelSub {
    number: u64,
    patterns: Vec<usize>,
    capacity: usize,
    pin_bytes: u64,
    overflow: Overflow,
    longest_wait: Option<Duration>,
    shard: usize,
    ring: VecDeque<ModelSlot>,
    claimed: Events,
    /// The losses behind the last slot.
    open_gap: Option<ModelGap>,
    /// The events that a stalled shard still has for it, with the weight of their block.
    missing: Events,
    missing_weight: u64,
    matched: u64,
    received: u64,
    lost: u64,
    lost_at_close: u64,
    lost_late: u64,
    superseded: u64,
    reported_lost: u64,
    high_water: usize,
    first_id: u64,
    last_id: Option<u64>,
    cancelled: bool,
    disconnected: Option<ModelGap>,
    /// The bus has unregistered it.
    unregistered: bool,
    /// Its subscriber has received the end.
    received_end: bool,
    received_closed: bool,
    closed: bool,
    /// Its subscriber was dropped.
    subscriber_dropped: bool,
}

impl ModelSub {
    fn wants(&self, topic: usize) -> bool {
        self.patterns
            .iter()
            .any(|&pattern| PATTERNS[pattern].1(TOPICS[topic]))
    }

    fn has_ended(&self) -> bool {
        self.cancelled || self.disconnected.is_some()
    }

    fn waiting(&self) -> usize {
        self.ring.iter().map(|slot| slot.events.len()).sum()
    }

    /// A block counts in full for each of its slots; under `Conflate`, once.
    fn pinned(&self) -> u64 {
        let mut counted = Vec::new();
        let slots = self.ring.iter().filter(|slot| {
            let again = self.overflow == Overflow::Conflate && counted.contains(&slot.block);
            counted.push(slot.block);
            !again
        });
        slots.map(|slot| slot.weight).sum()
    }

    /// The number of events of a block of this weight that fit.
    fn room(&self, weight: u64) -> usize {
        if !self.ring.is_empty() && self.pinned() + weight > self.pin_bytes {
            return 0;
        }
        self.capacity - self.waiting()
    }

    /// Pushes events of the block whose last event has that id.
    fn offer(&mut self, events: Events, weight: u64, block_end: u64) {
        match self.overflow {
            Overflow::DropOldest => self.push_and_evict(events, weight, block_end),
            Overflow::Conflate => self.conflate(&events, weight, block_end),
            _ => self.push_what_fits(events, weight, block_end),
        }
        self.high_water = self.high_water.max(self.waiting());
    }

    fn push_what_fits(&mut self, mut events: Events, weight: u64, block_end: u64) {
        let rest = events.split_off(self.room(weight).min(events.len()));
        if !events.is_empty() {
            self.ring.push_back(ModelSlot {
                gap: self.open_gap.take(),
                events,
                weight,
                block: block_end,
            });
        }
        match self.overflow {
            Overflow::Block if self.longest_wait == Some(Duration::ZERO) => {
                self.lost_late += rest.len() as u64;
                rest.into_iter()
                    .for_each(|event| self.lose(event, GapReason::BlockTimeout));
            }
            Overflow::Block => {
                self.missing = rest;
                self.missing_weight = weight;
            }
            Overflow::Disconnect if rest.is_empty() => {}
            Overflow::Disconnect => {
                self.lost += rest.len() as u64;
                let mut gap = None;
                rest.into_iter()
                    .for_each(|event| ModelGap::add(&mut gap, event, GapReason::Overflow));
                self.disconnected = gap;
                self.last_id = Some(block_end);
            }
            _ => rest
                .into_iter()
                .for_each(|event| self.lose(event, GapReason::Overflow)),
        }
    }

    /// Adds a loss behind the last slot.
    fn lose(&mut self, event: ModelEvent, reason: GapReason) {
        self.lost += 1;
        ModelGap::add(&mut self.open_gap, event, reason);
    }

    fn push_and_evict(&mut self, events: Events, weight: u64, block: u64) {
        self.ring.push_back(ModelSlot {
            gap: None,
            events,
            weight,
            block,
        });
        while self.waiting() > self.capacity {
            self.evict(1);
        }
        self.lighten(self.pin_bytes);
    }

    /// A waiting topic keeps its place, and its event is replaced.
    fn conflate(&mut self, events: &Events, weight: u64, block: u64) {
        // Events are in a block that this subscriber does not share, one for each run of a topic.
        let pairs = events.iter().zip(events.iter().skip(1));
        let breaks = pairs.filter(|(a, b)| (a.id + 1, a.topic) != (b.id, b.topic));
        let weight = weight + empty_weight(1 + breaks.count());
        for &event in events {
            let mut slots = self.ring.iter_mut();
            let same_topic = slots.find(|slot| slot.events[0].topic == event.topic);
            if let Some(slot) = same_topic {
                let superseded = slot.events[0].superseded + 1;
                slot.events[0] = ModelEvent {
                    superseded,
                    ..event
                };
                slot.weight = weight;
                slot.block = block;
                self.superseded += 1;
                continue;
            }
            self.ring.push_back(ModelSlot {
                gap: None,
                events: [event].into(),
                weight,
                block,
            });
            if self.waiting() > self.capacity {
                self.evict(1);
            }
        }
        // The last block is admitted into an empty ring, whatever it weighs.
        self.lighten(self.pin_bytes.max(weight));
    }

    /// Evicts the oldest slots until the others weigh no more than the bound, or one slot is left.
    fn lighten(&mut self, bound: u64) {
        while self.ring.len() > 1 && self.pinned() > bound {
            self.evict(self.ring[0].events.len());
        }
    }

    /// Evicts some events of the oldest slot. They and the losses in front of them are one run, in
    /// front of the remaining events.
    fn evict(&mut self, count: usize) {
        let slot = &mut self.ring[0];
        for event in slot.events.drain(..count) {
            ModelGap::add(&mut slot.gap, event, GapReason::Overflow);
        }
        self.lost += count as u64;
        if slot.events.is_empty() {
            let gap = slot.gap;
            self.ring.pop_front();
            self.ring[0].gap = gap;
        }
    }

    /// The time limit of the close is over.
    fn give_up(&mut self) {
        for event in std::mem::take(&mut self.missing) {
            self.lost_at_close += 1;
            self.lose(event, GapReason::Closed);
        }
    }

    /// Receives, like the bus: a gap, an event of the claimed slot, or an error.
    fn look(&mut self) -> Option<Answer> {
        let answer = self.found();
        if let Some(Answer::Lost(gap)) = answer {
            self.reported_lost += gap.count;
        }
        answer
    }

    fn found(&mut self) -> Option<Answer> {
        if self.cancelled {
            // A gap directly before the cancel is reported first.
            let between = !std::mem::take(&mut self.claimed).is_empty();
            let here = match self.ring.drain(..).next() {
                Some(slot) => slot.gap,
                None => self.open_gap.take(),
            };
            let gap = here.filter(|_| !between && !self.received_end);
            self.received_end = true;
            return Some(gap.map_or(Answer::Cancelled, Answer::Lost));
        }
        if !self.claimed.is_empty() {
            return None;
        }
        if let Some(slot) = self.ring.pop_front() {
            self.claimed = slot.events;
            return slot.gap.map(Answer::Lost);
        }
        if let Some(gap) = self.open_gap.take() {
            return Some(Answer::Lost(gap));
        }
        if let Some(gap) = self.disconnected {
            if !std::mem::replace(&mut self.received_end, true) {
                self.reported_lost += gap.count;
            }
            return Some(Answer::Disconnected(gap));
        }
        self.received_closed |= self.closed;
        Some(if self.closed {
            Answer::Closed
        } else {
            Answer::Empty
        })
    }

    fn receive(&mut self) -> Answer {
        self.look().unwrap_or_else(|| {
            self.received += 1;
            Answer::Event(self.claimed.pop_front().expect("looked"))
        })
    }

    fn batch(&mut self) -> Answer {
        self.look().unwrap_or_else(|| {
            self.received += self.claimed.len() as u64;
            Answer::Batch(self.claimed.drain(..).collect())
        })
    }

    fn unread(&self) -> u64 {
        self.matched - self.received - self.lost - self.superseded
    }

    /// The expected statistics.
    fn expected(&self) -> Numbers {
        let depth = if self.subscriber_dropped {
            0
        } else {
            self.waiting()
        };
        Numbers {
            matched: self.matched,
            received: self.received,
            lost: self.lost,
            lost_at_close: self.lost_at_close,
            lost_late: self.lost_late,
            superseded: self.superseded,
            unread: self.unread(),
            lag: self.matched - self.received - self.reported_lost - self.superseded,
            depth: depth as u64,
            high_water: self.high_water as u64,
            pinned_bytes: if self.subscriber_dropped {
                0
            } else {
                self.pinned()
            },
            first_id: Some(self.first_id),
            last_id: self.last_id,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Numbers {
    matched: u64,
    received: u64,
    lost: u64,
    lost_at_close: u64,
    lost_late: u64,
    superseded: u64,
    unread: u64,
    lag: u64,
    depth: u64,
    high_water: u64,
    pinned_bytes: u64,
    first_id: Option<u64>,
    last_id: Option<u64>,
}

impl Numbers {
    fn of(stats: &SubscriptionStats) -> Self {
        let lost_at_close = stats.lost_by(GapReason::Closed);
        let lost_late = stats.lost_by(GapReason::BlockTimeout);
        let overflown = stats.lost_by(GapReason::Overflow);
        assert_eq!(stats.lost, overflown + lost_at_close + lost_late);
        Self {
            matched: stats.matched,
            received: stats.received,
            lost: stats.lost,
            lost_at_close,
            lost_late,
            superseded: stats.superseded,
            unread: stats.unread,
            lag: stats.lag,
            depth: stats.depth,
            high_water: stats.high_water,
            pinned_bytes: stats.pinned_bytes,
            first_id: stats.first_id,
            last_id: stats.last_id,
        }
    }
}

#[derive(Clone)]
struct ModelBlock {
    events: Vec<ModelEvent>,
    weight: u64,
}

#[derive(Default)]
struct ModelShard {
    input: VecDeque<ModelBlock>,
    dispatched_id: u64,
    subscriptions: usize,
}

struct Model {
    lane: VecDeque<usize>,
    next_id: u64,
    shards: Vec<ModelShard>,
    subs: Vec<ModelSub>,
    closing: bool,
    unsequenced: u64,
}

impl Model {
    fn new(shards: usize) -> Model {
        let shards = (0..shards).map(|_| ModelShard::default()).collect();
        Model {
            lane: VecDeque::new(),
            next_id: 1,
            shards,
            subs: Vec::new(),
            closing: false,
            unsequenced: 0,
        }
    }

    fn publish(&mut self, topic: usize) -> bool {
        let accepted = !self.closing && self.lane.len() < LANE;
        if accepted {
            self.lane.push_back(topic);
        }
        accepted
    }

    fn subscribe(
        &mut self,
        pattern: usize,
        capacity: usize,
        pin: usize,
        overflow: Overflow,
        longest_wait: Option<Duration>,
    ) {
        let emptiest = (0..self.shards.len()).min_by_key(|&shard| self.shards[shard].subscriptions);
        let shard = emptiest.expect("there are shards");
        self.shards[shard].subscriptions += 1;
        self.subs.push(ModelSub {
            number: self.subs.len() as u64 + 1,
            patterns: vec![pattern],
            capacity,
            pin_bytes: pin_bytes(pin) as u64,
            overflow,
            longest_wait,
            shard,
            ring: VecDeque::new(),
            claimed: VecDeque::new(),
            open_gap: None,
            missing: VecDeque::new(),
            missing_weight: 0,
            matched: 0,
            received: 0,
            lost: 0,
            lost_at_close: 0,
            lost_late: 0,
            superseded: 0,
            reported_lost: 0,
            high_water: 0,
            first_id: self.shards[shard].dispatched_id + 1,
            last_id: None,
            cancelled: false,
            disconnected: None,
            unregistered: false,
            received_end: false,
            received_closed: false,
            closed: false,
            subscriber_dropped: false,
        });
    }

    /// Returns `false` if the subscription had ended already.
    fn cancel(&mut self, number: usize) -> bool {
        let sub = &mut self.subs[number];
        let ends_it = !sub.has_ended() && !sub.received_closed;
        sub.cancelled |= ends_it;
        self.unregister(number);
        ends_it
    }

    fn drop(&mut self, number: usize) {
        self.cancel(number);
        self.subs[number].subscriber_dropped = true;
    }

    /// How a subscription ended. A close counts at once, and may change until the subscriber has
    /// received it.
    fn ending(&self, sub: &ModelSub) -> Option<ModelEnding> {
        match sub.disconnected {
            Some(gap) => Some(ModelEnding::Disconnected(gap)),
            None if sub.cancelled => Some(ModelEnding::Cancelled),
            None => self.closing.then_some(ModelEnding::Closed),
        }
    }

    /// A refused change of the patterns. The bus then unregisters a subscription that was
    /// disconnected.
    fn refuses_change(&mut self, number: usize) -> bool {
        let refuses = self.ending(&self.subs[number]).is_some();
        if self.subs[number].disconnected.is_some() {
            self.unregister(number);
        }
        refuses
    }

    fn unregister(&mut self, number: usize) {
        let sub = &mut self.subs[number];
        if std::mem::replace(&mut sub.unregistered, true) {
            return;
        }
        let shard = &mut self.shards[sub.shard];
        shard.subscriptions -= 1;
        sub.missing.clear();
        sub.patterns.clear();
        sub.last_id.get_or_insert(shard.dispatched_id);
        if self.closing {
            // The subscription may have been in the way of the close.
            self.drive();
        }
    }

    fn receive(&mut self, number: usize) -> Answer {
        self.ask(number, ModelSub::receive)
    }

    fn batch(&mut self, number: usize) -> Answer {
        self.ask(number, ModelSub::batch)
    }

    fn ask(&mut self, number: usize, how: impl Fn(&mut ModelSub) -> Answer) -> Answer {
        let mut answer = how(&mut self.subs[number]);
        if answer == Answer::Empty && self.closing {
            // No other thread is left to drive.
            self.drive();
            answer = how(&mut self.subs[number]);
        }
        if matches!(answer, Answer::Disconnected(_)) {
            self.unregister(number);
        }
        answer
    }

    fn close(&mut self, forced: bool) {
        self.closing = true;
        self.drive();
        let stalled = self.subs.iter().any(|sub| !sub.missing.is_empty());
        if !forced || !stalled {
            return;
        }
        self.unsequenced += self.lane.drain(..).count() as u64;
        for number in 0..self.shards.len() {
            while {
                let subs = self.subs.iter_mut().filter(|sub| sub.shard == number);
                subs.for_each(ModelSub::give_up);
                self.dispatch(number)
            } {}
        }
        self.drive();
    }

    fn drive(&mut self) {
        while self.sequence()
            | (0..self.shards.len()).fold(false, |any, shard| self.dispatch(shard) | any)
        {}
        if !self.closing || !self.lane.is_empty() {
            return;
        }
        for (number, shard) in self.shards.iter().enumerate() {
            let subs = self.subs.iter_mut().filter(|sub| sub.shard == number);
            let subs: Vec<_> = subs.collect();
            if shard.input.is_empty() && subs.iter().all(|sub| sub.missing.is_empty()) {
                for sub in subs {
                    sub.closed = true;
                    sub.last_id.get_or_insert(shard.dispatched_id);
                }
            }
        }
    }

    fn sequence(&mut self) -> bool {
        let mut left = self.lane.len().min(ROUND_EVENTS);
        let mut progress = false;
        while left > 0
            && self
                .shards
                .iter()
                .all(|shard| shard.input.len() < SHARD_INPUT)
        {
            let own_weight = empty_weight(left);
            let topics: Vec<_> = self.lane.drain(..left.min(BLOCK_EVENTS)).collect();
            left -= topics.len();
            let ids = self.next_id..;
            self.next_id += topics.len() as u64;
            let weights = topics.iter().map(|&topic| weigh(topic) as u64);
            let runs = topics.chunk_by(|one, next| one == next);
            let envelopes = runs.map(|run| envelope_weight(run[0]));
            let block = ModelBlock {
                weight: own_weight + weights.sum::<u64>() + envelopes.sum::<u64>(),
                events: ids
                    .zip(topics)
                    .map(|(id, topic)| ModelEvent {
                        id,
                        topic,
                        superseded: 0,
                    })
                    .collect(),
            };
            self.shards
                .iter_mut()
                .for_each(|shard| shard.input.push_back(block.clone()));
            progress = true;
        }
        progress
    }

    fn dispatch(&mut self, number: usize) -> bool {
        let shard = &mut self.shards[number];
        let mut subs: Vec<_> = self
            .subs
            .iter_mut()
            .filter(|sub| sub.shard == number)
            .collect();
        let was_stalled = subs.iter().any(|sub| !sub.missing.is_empty());
        for sub in subs.iter_mut().filter(|sub| !sub.missing.is_empty()) {
            let missing = std::mem::take(&mut sub.missing);
            sub.offer(missing, sub.missing_weight, shard.dispatched_id);
        }
        let mut taken = 0;
        let mut is_stalled = subs.iter().any(|sub| !sub.missing.is_empty());
        while taken < ROUND_BLOCKS && !is_stalled {
            let Some(block) = shard.input.pop_front() else {
                break;
            };
            shard.dispatched_id = block.events.last().expect("no block is empty").id;
            for sub in subs.iter_mut().filter(|sub| !sub.has_ended()) {
                let wanted: Events = block
                    .events
                    .iter()
                    .copied()
                    .filter(|event| sub.wants(event.topic))
                    .collect();
                sub.matched += wanted.len() as u64;
                if !wanted.is_empty() {
                    sub.offer(wanted, block.weight, shard.dispatched_id);
                }
            }
            is_stalled = subs.iter().any(|sub| !sub.missing.is_empty());
            taken += 1;
        }
        taken > 0 || was_stalled && !is_stalled
    }
}

// ---- the bus ------------------------------------------------------------

fn topic_number(text: &str) -> usize {
    TOPICS
        .iter()
        .position(|&topic| topic == text)
        .expect("one of ours")
}

fn answer_of(event: &fanout::Event<usize>) -> ModelEvent {
    let topic = topic_number(event.topic().as_str());
    assert_eq!(*event.data(), topic, "the payload of another event");
    ModelEvent {
        id: event.id(),
        topic,
        superseded: event.superseded(),
    }
}

fn gap_of(gap: fanout::Gap) -> ModelGap {
    ModelGap {
        from: gap.first_id(),
        to: gap.last_id(),
        count: gap.count(),
        reason: gap.reason(),
    }
}

fn ending_of(ending: Ending) -> ModelEnding {
    match ending {
        Ending::Closed => ModelEnding::Closed,
        Ending::Cancelled => ModelEnding::Cancelled,
        Ending::Disconnected(gap) => ModelEnding::Disconnected(gap_of(gap)),
        other => panic!("{other}"),
    }
}

fn error_of(error: TryRecvError) -> Answer {
    match error {
        TryRecvError::Lost(gap) => Answer::Lost(gap_of(gap)),
        TryRecvError::Disconnected(gap) => Answer::Disconnected(gap_of(gap)),
        TryRecvError::Empty => Answer::Empty,
        TryRecvError::Closed => Answer::Closed,
        TryRecvError::Cancelled => Answer::Cancelled,
        other => panic!("{other}"),
    }
}

/// A subscriber, and the last id that it received or saw in a gap, by topic. Even if the model is
/// wrong, ids rise, and no gap comes before an event with a lower id. Under `Conflate` this holds
/// within a topic, and not for gaps.
struct RealSub {
    sub: Subscriber<usize>,
    last: [u64; TOPICS.len()],
}

impl RealSub {
    fn receive(&mut self) -> Answer {
        let answer = match self.sub.try_recv() {
            Ok(event) => Answer::Event(answer_of(event)),
            Err(error) => error_of(error),
        };
        self.watch(answer)
    }

    fn batch(&mut self) -> Answer {
        let answer = match self.sub.try_next_batch() {
            Ok(batch) => {
                assert_eq!(batch.len(), batch.iter().len());
                Answer::Batch(batch.iter().map(answer_of).collect())
            }
            Err(error) => error_of(error),
        };
        self.watch(answer)
    }

    fn watch(&mut self, answer: Answer) -> Answer {
        match &answer {
            Answer::Event(event) => self.saw_event(event),
            Answer::Batch(events) => events.iter().for_each(|event| self.saw_event(event)),
            Answer::Lost(gap) => {
                assert!(gap.count <= gap.to - gap.from + 1, "{gap:?}");
                if !self.conflates() {
                    self.saw(gap.from, gap.to);
                }
            }
            _ => {}
        }
        answer
    }

    fn saw_event(&mut self, event: &ModelEvent) {
        if self.conflates() {
            assert!(self.last[event.topic] < event.id, "{event:?} again");
            self.last[event.topic] = event.id;
        } else {
            self.saw(event.id, event.id);
        }
    }

    fn saw(&mut self, from: u64, to: u64) {
        assert!(self.last[0] < from && from <= to, "{from}..={to} again");
        self.last[0] = to;
    }

    fn conflates(&self) -> bool {
        self.sub.stats().overflow == Overflow::Conflate
    }
}

/// The bus and the model, side by side.
struct Both {
    bus: Bus<usize>,
    model: Model,
    subs: Vec<Option<RealSub>>,
    handles: Vec<SubscriptionHandle<usize>>,
}

/// Takes a bus with this number of shards and the model through the steps and a close, and receives
/// all events.
pub(crate) fn check(shards: usize, steps: &[Step]) {
    let mut both = Both {
        bus: bus(|b| {
            b.dispatch(Dispatch::Manual)
                .dispatchers(shards)
                .lane_capacity(LANE)
                .weigh(|&topic| weigh(topic))
        }),
        model: Model::new(shards),
        subs: Vec::new(),
        handles: Vec::new(),
    };
    for &step in steps {
        both.take(step);
        both.compare();
    }
    both.take(Step::Close { forced: false });
    both.compare();
    both.read_out();
}

impl Both {
    fn take(&mut self, step: Step) {
        match step {
            Step::Publish { topic, times } => {
                for _ in 0..times {
                    let accepted = self.bus.try_publish(TOPICS[topic], topic).is_ok();
                    assert_eq!(accepted, self.model.publish(topic));
                }
            }
            Step::Drive => {
                self.bus.drive();
                self.model.drive();
            }
            Step::Subscribe {
                pattern,
                capacity,
                pin,
                overflow,
                longest_wait,
            } => {
                let builder = self.bus.subscription(PATTERNS[pattern].0);
                let sub = builder
                    .capacity(capacity)
                    .pin_bytes(pin_bytes(pin))
                    .overflow(overflow)
                    .block_timeout(longest_wait)
                    .open();
                if self.model.closing {
                    assert!(sub.is_err(), "closed");
                    return;
                }
                let sub = sub.expect("open");
                self.handles.push(sub.handle());
                self.subs.push(Some(RealSub {
                    sub,
                    last: [0; TOPICS.len()],
                }));
                self.model
                    .subscribe(pattern, capacity, pin, overflow, longest_wait);
            }
            Step::Receive { sub, times } => {
                for _ in 0..times {
                    self.ask(sub, RealSub::receive, Model::receive);
                }
            }
            Step::Batch { sub } => self.ask(sub, RealSub::batch, Model::batch),
            Step::Add { sub, pattern } => {
                let Some(number) = self.pick(sub) else { return };
                let refused = self.model.refuses_change(number);
                let sub = &mut self.model.subs[number];
                let expected = (!refused).then(|| !sub.patterns.contains(&pattern));
                assert_eq!(self.handles[number].add(PATTERNS[pattern].0).ok(), expected);
                if expected == Some(true) {
                    sub.patterns.push(pattern);
                }
            }
            Step::Remove { sub, pattern } => {
                let Some(number) = self.pick(sub) else { return };
                let refused = self.model.refuses_change(number);
                let sub = &mut self.model.subs[number];
                let expected = (!refused).then(|| sub.patterns.contains(&pattern));
                let removed = self.handles[number].remove(PATTERNS[pattern].0).ok();
                assert_eq!(removed, expected);
                if expected == Some(true) {
                    sub.patterns.retain(|&known| known != pattern);
                }
            }
            Step::Cancel { sub } => {
                let Some(number) = self.pick(sub) else { return };
                assert_eq!(self.handles[number].cancel(), self.model.cancel(number));
            }
            Step::Drop { sub } => {
                let Some(number) = self.pick(sub) else { return };
                self.subs[number] = None;
                self.model.drop(number);
            }
            Step::Close { forced } => {
                if forced {
                    self.bus.close_within(Duration::ZERO);
                } else {
                    self.bus.close();
                }
                self.model.close(forced);
            }
        }
    }

    /// A step names a subscription by any number.
    fn pick(&self, sub: usize) -> Option<usize> {
        Some(sub % self.handles.len().max(1)).filter(|&sub| sub < self.handles.len())
    }

    fn ask(
        &mut self,
        sub: usize,
        real: impl Fn(&mut RealSub) -> Answer,
        model: impl Fn(&mut Model, usize) -> Answer,
    ) {
        if let Some(number) = self.pick(sub)
            && let Some(sub) = &mut self.subs[number]
        {
            assert_eq!(real(sub), model(&mut self.model, number));
        }
    }

    /// After a close the readers drive, each when its ring is empty. The bus must not wait for
    /// subscribers that were dropped.
    fn read_out(&mut self) {
        let mut open: Vec<_> = (0..self.subs.len())
            .filter(|&number| self.subs[number].is_some())
            .collect();
        while !open.is_empty() {
            open.retain(|&number| {
                let sub = self.subs[number].as_mut().expect("open");
                let expected = self.model.receive(number);
                assert_eq!(sub.receive(), expected);
                let over = matches!(
                    expected,
                    Answer::Closed | Answer::Cancelled | Answer::Disconnected(_)
                );
                if over {
                    assert_eq!(sub.receive(), expected, "for ever");
                    assert_eq!(sub.batch(), expected, "for ever");
                }
                !over
            });
            self.compare();
        }
        for sub in &self.model.subs {
            assert!(
                sub.cancelled || sub.subscriber_dropped || sub.unread() == 0,
                "the model itself lost something"
            );
        }
    }

    fn compare(&self) {
        let mut open = Vec::new();
        let mut sums = (0, 0, 0, 0, 0);
        for (sub, handle) in self.model.subs.iter().zip(&self.handles) {
            let expected = sub.expected();
            assert_eq!(Numbers::of(&handle.stats()), expected, "{}", sub.number);
            sums.0 += expected.matched;
            sums.1 += expected.received;
            sums.2 += expected.lost;
            sums.3 += expected.superseded;
            sums.4 += expected.unread;
            let ending = self.model.ending(sub);
            assert_eq!(handle.ending().map(ending_of), ending, "{}", sub.number);
            assert_eq!(handle.is_ended(), ending.is_some());
            if ending.is_none() {
                open.push(sub.number);
            }
        }
        let stats = self.bus.stats();
        assert_eq!(stats.subscriptions, open.len());
        let are = (
            stats.matched,
            stats.received,
            stats.lost,
            stats.superseded,
            stats.unread,
        );
        assert_eq!(
            are, sums,
            "the sums of matched, received, lost, superseded, unread"
        );
        assert_eq!(stats.unsequenced, self.model.unsequenced);
        let subscriptions = self.bus.subscriptions();
        let numbers: Vec<_> = subscriptions.iter().map(|open| open.number()).collect();
        assert_eq!(numbers, open, "open subscriptions");
    }
}
