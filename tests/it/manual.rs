//! Manual dispatch is deterministic: nothing happens but in `drive`, and what happens then is exactly what a plain
//! model says, event by event, gap by gap and number by number.
//!
//! The model knows the documented rules and no more: events are sequenced in rounds of up to 1,024, laid into blocks of
//! up to 64, at most 64 blocks wait for a shard, which takes 16 of them per round; a ring has room for `capacity`
//! events that wait, and those of a block that a reader has begun to read (claimed) do not wait.

use fanout::{Dispatch, GapReason, Overflow, RecvError, Subscriber, TryRecvError};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;

use crate::support::{bus, ids};

#[test]
fn nothing_happens_but_in_drive() {
    let bus = bus(|b| b.dispatch(Dispatch::Manual));
    let mut sub = bus.subscribe("a").expect("open");
    let mut publisher = bus.publisher();
    assert!(!bus.drive(), "nothing to do");
    publisher.publish("a", 1).expect("open");
    bus.publish("a", 2).expect("open");
    assert_eq!(sub.try_recv().err(), Some(TryRecvError::Empty));
    assert_eq!((bus.stats().sequenced, sub.stats().matched), (0, 0));
    assert!(bus.drive());
    assert!(!bus.drive());
    assert_eq!((bus.stats().sequenced, sub.stats().matched), (2, 2));
    assert_eq!(ids(&mut sub), [1, 2]);
}

#[test]
fn the_same_calls_give_the_same_order() {
    let run = || {
        let bus = bus(|b| b.dispatch(Dispatch::Manual).dispatchers(3));
        let mut sub = bus.subscribe("**").expect("open");
        let mut publishers: Vec<_> = (0..5).map(|_| bus.publisher()).collect();
        for n in 0..500 {
            publishers[n * n % 5].publish("a.b", n).expect("open");
            bus.publish("a", n).expect("open");
            if n % 37 == 0 {
                bus.drive();
            }
        }
        bus.drive();
        crate::support::payloads(&mut sub)
    };
    assert_eq!(run(), run());
}

// ---- the model ----------------------------------------------------------------------------------

const TOPICS: [&str; 5] = ["a", "b", "a.b", "a.c", "b.c.d"];

/// Patterns, each with what it means, said by hand.
type Meaning = fn(&str) -> bool;
const PATTERNS: [(&str, Meaning); 9] = [
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

const CAPACITIES: [usize; 6] = [1, 2, 63, 64, 65, 1000];
const LANE: usize = 512;
const ROUND_EVENTS: usize = 1024;
const BLOCK_EVENTS: usize = 64;
const SHARD_INPUT: usize = 64;
const ROUND_BLOCKS: usize = 16;

#[derive(Clone, Debug)]
enum Step {
    Publish {
        topic: usize,
        times: usize,
    },
    Drive,
    Subscribe {
        pattern: usize,
        capacity: usize,
        overflow: Overflow,
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
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let overflow = prop_oneof![3 => Just(Overflow::DropNewest), 1 => Just(Overflow::Block)];
    let sub = 0..64_usize;
    let pattern = 0..PATTERNS.len();
    let step = prop_oneof![
        8 => (0..TOPICS.len(), prop_oneof![2 => 1..4_usize, 1 => 1..200_usize])
            .prop_map(|(topic, times)| Step::Publish { topic, times }),
        6 => Just(Step::Drive),
        3 => (pattern.clone(), 0..CAPACITIES.len(), overflow).prop_map(|(pattern, capacity, overflow)| {
            Step::Subscribe { pattern, capacity: CAPACITIES[capacity], overflow }
        }),
        8 => (sub.clone(), prop_oneof![2 => 1..4_usize, 1 => 1..200_usize])
            .prop_map(|(sub, times)| Step::Receive { sub, times }),
        2 => sub.clone().prop_map(|sub| Step::Batch { sub }),
        1 => (sub.clone(), pattern.clone()).prop_map(|(sub, pattern)| Step::Add { sub, pattern }),
        1 => (sub.clone(), pattern).prop_map(|(sub, pattern)| Step::Remove { sub, pattern }),
        1 => sub.clone().prop_map(|sub| Step::Cancel { sub }),
        1 => sub.prop_map(|sub| Step::Drop { sub }),
    ];
    vec(step, 1..150)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ModelEvent {
    id: u64,
    topic: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ModelGap {
    from: u64,
    to: u64,
    count: u64,
}

/// What a receive answers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Event(ModelEvent),
    Batch(Vec<ModelEvent>),
    Lost(ModelGap),
    Empty,
    Closed,
    Cancelled,
}

#[derive(Default)]
struct ModelSlot {
    gap: Option<ModelGap>,
    events: VecDeque<ModelEvent>,
}

struct ModelSub {
    patterns: Vec<usize>,
    capacity: usize,
    overflow: Overflow,
    shard: usize,
    ring: VecDeque<ModelSlot>,
    claimed: VecDeque<ModelEvent>,
    /// Lost behind the last slot.
    open_gap: Option<ModelGap>,
    /// What a stalled shard still has for it.
    missing: VecDeque<ModelEvent>,
    matched: u64,
    received: u64,
    lost: u64,
    first_id: u64,
    last_id: Option<u64>,
    cancelled: bool,
    told_end: bool,
    closed: bool,
}

impl ModelSub {
    fn wants(&self, topic: usize) -> bool {
        self.patterns
            .iter()
            .any(|&pattern| PATTERNS[pattern].1(TOPICS[topic]))
    }

    fn room(&self) -> usize {
        self.capacity
            - self
                .ring
                .iter()
                .map(|slot| slot.events.len())
                .sum::<usize>()
    }

    /// Offers events of one block. What a `Block` subscriber has no room for is missing.
    fn offer(&mut self, mut events: VecDeque<ModelEvent>) {
        let rest = events.split_off(self.room().min(events.len()));
        if !events.is_empty() {
            self.ring.push_back(ModelSlot {
                gap: self.open_gap.take(),
                events,
            });
        }
        if self.overflow == Overflow::Block {
            self.missing = rest;
            return;
        }
        for event in rest {
            self.lost += 1;
            let gap = self.open_gap.get_or_insert(ModelGap {
                from: event.id,
                to: 0,
                count: 0,
            });
            gap.to = event.id;
            gap.count += 1;
        }
    }

    /// Like the real one: a gap, or something of the claimed slot, or why not.
    fn look(&mut self) -> Option<Answer> {
        if self.cancelled {
            // A gap right where it was cancelled is told first.
            let between = !std::mem::take(&mut self.claimed).is_empty();
            let here = match self.ring.drain(..).next() {
                Some(slot) => slot.gap,
                None => self.open_gap.take(),
            };
            let gap = here.filter(|_| !between && !self.told_end);
            self.told_end = true;
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
        self.matched - self.received - self.lost
    }
}

#[derive(Default)]
struct ModelShard {
    input: VecDeque<Vec<ModelEvent>>,
    dispatched_id: u64,
    subscriptions: usize,
}

struct Model {
    lane: VecDeque<usize>,
    next_id: u64,
    shards: Vec<ModelShard>,
    subs: Vec<ModelSub>,
    closing: bool,
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
        }
    }

    fn publish(&mut self, topic: usize) -> bool {
        let accepted = self.lane.len() < LANE;
        if accepted {
            self.lane.push_back(topic);
        }
        accepted
    }

    fn subscribe(&mut self, pattern: usize, capacity: usize, overflow: Overflow) {
        let emptiest = (0..self.shards.len()).min_by_key(|&shard| self.shards[shard].subscriptions);
        let shard = emptiest.expect("there are shards");
        self.shards[shard].subscriptions += 1;
        self.subs.push(ModelSub {
            patterns: vec![pattern],
            capacity,
            overflow,
            shard,
            ring: VecDeque::new(),
            claimed: VecDeque::new(),
            open_gap: None,
            missing: VecDeque::new(),
            matched: 0,
            received: 0,
            lost: 0,
            first_id: self.shards[shard].dispatched_id + 1,
            last_id: None,
            cancelled: false,
            told_end: false,
            closed: false,
        });
    }

    fn cancel(&mut self, sub: usize) -> bool {
        let sub = &mut self.subs[sub];
        if sub.cancelled {
            return false;
        }
        let shard = &mut self.shards[sub.shard];
        shard.subscriptions -= 1;
        sub.cancelled = true;
        sub.missing.clear();
        sub.patterns.clear();
        sub.last_id.get_or_insert(shard.dispatched_id);
        true
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
            let block: Vec<_> = self.lane.drain(..left.min(BLOCK_EVENTS)).collect();
            left -= block.len();
            let ids = self.next_id..;
            self.next_id += block.len() as u64;
            let block: Vec<_> = ids
                .zip(block)
                .map(|(id, topic)| ModelEvent { id, topic })
                .collect();
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
        for sub in &mut subs {
            let missing = std::mem::take(&mut sub.missing);
            sub.offer(missing);
        }
        let mut taken = 0;
        let mut is_stalled = subs.iter().any(|sub| !sub.missing.is_empty());
        while taken < ROUND_BLOCKS && !is_stalled {
            let Some(block) = shard.input.pop_front() else {
                break;
            };
            shard.dispatched_id = block.last().expect("no block is empty").id;
            for sub in subs.iter_mut().filter(|sub| !sub.cancelled) {
                let wanted: VecDeque<_> = block
                    .iter()
                    .copied()
                    .filter(|event| sub.wants(event.topic))
                    .collect();
                sub.matched += wanted.len() as u64;
                if !wanted.is_empty() {
                    sub.offer(wanted);
                }
            }
            is_stalled = subs.iter().any(|sub| !sub.missing.is_empty());
            taken += 1;
        }
        taken > 0 || was_stalled && !is_stalled
    }
}

// ---- the real one, in the same words --------------------------------------------------------------

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
    }
}

fn gap_of(gap: fanout::Gap) -> Answer {
    assert_eq!(gap.reason(), GapReason::Overflow);
    Answer::Lost(ModelGap {
        from: gap.from(),
        to: gap.to(),
        count: gap.count(),
    })
}

fn receive(sub: &mut Subscriber<usize>) -> Answer {
    match sub.try_recv() {
        Ok(event) => Answer::Event(answer_of(event)),
        Err(TryRecvError::Lost(gap)) => gap_of(gap),
        Err(TryRecvError::Empty) => Answer::Empty,
        Err(TryRecvError::Closed) => Answer::Closed,
        Err(TryRecvError::Cancelled) => Answer::Cancelled,
        Err(other) => panic!("{other}"),
    }
}

/// Only where the model has something to say: on an open bus, `next_batch` would wait for ever.
fn batch(sub: &mut Subscriber<usize>) -> Answer {
    match sub.next_batch() {
        Ok(batch) => {
            assert_eq!(batch.len(), batch.iter().len());
            Answer::Batch(batch.iter().map(answer_of).collect())
        }
        Err(RecvError::Lost(gap)) => gap_of(gap),
        Err(RecvError::Closed) => Answer::Closed,
        Err(RecvError::Cancelled) => Answer::Cancelled,
        Err(other) => panic!("{other}"),
    }
}

fn check(shards: usize, steps: &[Step]) {
    let bus = bus::<usize>(|b| {
        b.dispatch(Dispatch::Manual)
            .dispatchers(shards)
            .lane_capacity(LANE)
    });
    let mut model = Model::new(shards);
    let mut subs: Vec<Option<Subscriber<usize>>> = Vec::new();
    let mut handles = Vec::new();
    for step in steps {
        // Steps name a subscription by any number.
        let pick = |sub: usize| Some(sub % handles.len().max(1)).filter(|&sub| sub < handles.len());
        match *step {
            Step::Publish { topic, times } => {
                for _ in 0..times {
                    let accepted = bus.try_publish(TOPICS[topic], topic).is_ok();
                    assert_eq!(accepted, model.publish(topic));
                }
            }
            Step::Drive => {
                bus.drive();
                model.drive();
            }
            Step::Subscribe {
                pattern,
                capacity,
                overflow,
            } => {
                let builder = bus.subscription(PATTERNS[pattern].0);
                let sub = builder
                    .capacity(capacity)
                    .overflow(overflow)
                    .open()
                    .expect("open");
                handles.push(sub.handle());
                subs.push(Some(sub));
                model.subscribe(pattern, capacity, overflow);
            }
            Step::Receive { sub, times } => {
                let Some((number, sub)) = pick(sub).and_then(|n| Some((n, subs[n].as_mut()?)))
                else {
                    continue;
                };
                for _ in 0..times {
                    assert_eq!(receive(sub), model.subs[number].receive());
                }
            }
            Step::Batch { sub } => {
                let Some((number, sub)) = pick(sub).and_then(|n| Some((n, subs[n].as_mut()?)))
                else {
                    continue;
                };
                match model.subs[number].batch() {
                    Answer::Empty => assert_eq!(receive(sub), Answer::Empty),
                    expected => assert_eq!(batch(sub), expected),
                }
            }
            Step::Add { sub, pattern } => {
                let Some(number) = pick(sub) else { continue };
                let sub = &mut model.subs[number];
                let expected = (!sub.cancelled).then(|| !sub.patterns.contains(&pattern));
                assert_eq!(handles[number].add(PATTERNS[pattern].0).ok(), expected);
                if expected == Some(true) {
                    sub.patterns.push(pattern);
                }
            }
            Step::Remove { sub, pattern } => {
                let Some(number) = pick(sub) else { continue };
                let sub = &mut model.subs[number];
                let expected = (!sub.cancelled).then(|| sub.patterns.contains(&pattern));
                assert_eq!(handles[number].remove(PATTERNS[pattern].0).ok(), expected);
                sub.patterns.retain(|&known| known != pattern);
            }
            Step::Cancel { sub } => {
                let Some(number) = pick(sub) else { continue };
                assert_eq!(handles[number].cancel(), model.cancel(number));
            }
            Step::Drop { sub } => {
                let Some(number) = pick(sub) else { continue };
                subs[number] = None;
                model.cancel(number);
            }
        }
        compare(&model, &handles);
    }

    bus.close();
    model.closing = true;
    model.drive();
    compare(&model, &handles);
    // Now the readers drive, each when it finds nothing. Those that went must not be waited for.
    let mut open: Vec<_> = subs
        .iter_mut()
        .enumerate()
        .filter_map(|(n, sub)| Some((n, sub.as_mut()?)))
        .collect();
    while !open.is_empty() {
        open.retain_mut(|(number, sub)| {
            let mut expected = model.subs[*number].receive();
            if expected == Answer::Empty {
                model.drive();
                expected = model.subs[*number].receive();
            }
            assert_eq!(receive(sub), expected);
            !matches!(expected, Answer::Closed | Answer::Cancelled)
        });
        compare(&model, &handles);
    }
    for sub in &model.subs {
        assert!(
            sub.cancelled || sub.unread() == 0,
            "the model itself lost something"
        );
    }
}

fn compare(model: &Model, handles: &[fanout::SubscriptionHandle<usize>]) {
    for (sub, handle) in model.subs.iter().zip(handles) {
        let stats = handle.stats();
        let expected = (
            sub.matched,
            sub.received,
            sub.lost,
            sub.unread(),
            Some(sub.first_id),
            sub.last_id,
        );
        let is = (
            stats.matched,
            stats.received,
            stats.lost,
            stats.unread,
            stats.first_id,
            stats.last_id,
        );
        assert_eq!(
            is, expected,
            "matched, received, lost, unread, first and last id"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn does_what_the_model_does(shards in prop_oneof![2 => Just(1_usize), 1 => Just(3_usize)], steps in steps()) {
        check(shards, &steps);
    }
}

/// A burst against each capacity, by hand, so that the bounds of blocks and rings meet in every way.
#[test]
fn bursts_against_capacities_do_what_the_model_does() {
    for overflow in [Overflow::DropNewest, Overflow::Block] {
        for capacity in CAPACITIES {
            for burst in [1, 2, 62, 63, 64, 65, 127, 128, 129, 500] {
                for read in [1, 2, 63, 64, 65] {
                    let mut steps = vec![
                        Step::Subscribe {
                            pattern: 0,
                            capacity,
                            overflow,
                        },
                        Step::Subscribe {
                            pattern: 2,
                            capacity: 3,
                            overflow: Overflow::DropNewest,
                        },
                    ];
                    for round in 0..4 {
                        steps.push(Step::Publish {
                            topic: round,
                            times: burst,
                        });
                        steps.push(Step::Drive);
                        steps.push(Step::Receive {
                            sub: 0,
                            times: read,
                        });
                        steps.push(Step::Drive);
                        steps.push(Step::Receive { sub: 1, times: 2 });
                    }
                    check(1, &steps);
                }
            }
        }
    }
}

/// Lone events, each in a block of its own, until no more blocks fit before a stalled shard; then read slowly.
#[test]
fn lone_events_behind_a_full_ring_do_what_the_model_does() {
    for capacity in [1, 2, 5] {
        let mut steps = vec![
            Step::Subscribe {
                pattern: 0,
                capacity,
                overflow: Overflow::Block,
            },
            Step::Subscribe {
                pattern: 0,
                capacity: 1000,
                overflow: Overflow::DropNewest,
            },
        ];
        for round in 0..100 {
            steps.push(Step::Publish {
                topic: round % TOPICS.len(),
                times: 1,
            });
            steps.push(Step::Drive);
        }
        for _ in 0..40 {
            steps.push(Step::Batch { sub: 0 });
            steps.push(Step::Batch { sub: 1 });
            steps.push(Step::Drive);
        }
        check(1, &steps);
    }
}
