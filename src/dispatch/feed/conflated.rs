//! The queue of a subscriber that wants each topic's latest event: `Conflate`.
//!
//! Every topic that waits has a box in a [`conflating`] ring, and the boxes are read in the order in which their topics came to
//! wait. A new event of a topic that waits takes the place of the old one, in its box, whatever the subscriber does
//! meanwhile. So a subscriber that wakes up sees each topic once, in its latest state.
//!
//! What is in a box is an event of a [`shadow`] of its block: it knows how many events it replaced. Of the events
//! of one topic that come in a row in a block, the last alone gets that far.
//!
//! **Bounds.** `capacity` counts topics that wait: beyond it, the one that has waited longest loses its event. `pin_bytes`
//! counts every block of which some event waits, whole and once, with its shadow: beyond it, the oldest go likewise, until it
//! fits or the block that came last is alone.
//!
//! **Boxes** are used again: one whose event was taken keeps its topic, which is likely to come again, until another topic
//! needs a box. There is always one, since there are two more of them than topics may wait: the one that waits last
//! until the oldest has gone, and the one that the subscriber has claimed and not yet emptied.

#[cfg(all(test, not(loom)))]
mod tests;

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::{Claim, FeedShared, drained};
use crate::dispatch::block::{BlockRef, BlockSource, Leaving, Shares, Waiting, shadow};
use crate::dispatch::gauges::Pushed;
use crate::dispatch::loss::{Gap, GapReason};
use crate::pattern::Topic;
use crate::ring::conflating::{self, Consumer, Producer};
use crate::ring::spsc::Readiness;

pub(super) fn queue<T>(capacity: usize) -> (WriteEnd<T>, ReadEnd<T>) {
    let (producer, consumer) = conflating::ring(capacity);
    let write = WriteEnd {
        ring: producer,
        topic_slots: None,
    };
    (write, ReadEnd { ring: consumer })
}

/// Boxes beside those of the topics that may wait.
const SPARE_BOXES: usize = 2;

/// What a shadow may say that it weighs: a weigher may say that each event weighs all there is, and the sum of all that wait,
/// and of what is on its way out and in, must not come round.
fn weight_max(capacity: usize) -> usize {
    let blocks = (capacity + SPARE_BOXES) as u64;
    usize::try_from(u64::MAX / blocks).unwrap_or(usize::MAX)
}

/// The shard's end.
pub(super) struct WriteEnd<T> {
    ring: Producer<Waiting<T>>,
    /// Made with the first event.
    topic_slots: Option<Box<TopicSlots<T>>>,
}

/// What the shard knows of its boxes.
struct TopicSlots<T> {
    shadows: BlockSource<T>,
    /// Boxes by topic.
    by_topic: HashTable<u32>,
    /// By number.
    boxes: Vec<Known<T>>,
    /// The boxes in the order of the ring, from number `left` of those that were ever filled on.
    order: VecDeque<u32>,
    left: u64,
    /// Boxes that have left the order, and may be empty: each once.
    idle: VecDeque<u32>,
    /// A commit in the middle of a round has found that the subscriber had requested a wake-up.
    wake_requested: bool,
}

/// A box, as the shard remembers it.
struct Known<T> {
    place: conflating::Slot<Waiting<T>>,
    topic: Topic,
    /// Of the event that was put in last.
    id: u64,
    /// Events that one replaced.
    superseded: u64,
    /// When it was filled: its place among all that ever were.
    filled: u64,
    is_idle: bool,
}

impl<T> WriteEnd<T> {
    /// Puts the events of the mask into the boxes of their topics.
    pub(super) fn offer(
        &mut self,
        shared: &FeedShared,
        block: &BlockRef<T>,
        shares: &mut Shares<'_, T>,
        mask: u64,
    ) {
        let topic_slots = self.topic_slots.get_or_insert_with(TopicSlots::new);
        // Also where no box is needed: what is known of the order must not grow with every event.
        topic_slots.settle(&mut self.ring);
        let capacity = shared.status.capacity as usize;
        let runs = || {
            let runs = block
                .groups()
                .iter()
                .map(|group| (group, group.mask & mask));
            runs.filter(|(_, run)| *run != 0)
        };
        let latest = runs().fold(0, |latest, (_, run)| latest | highest(run));
        let events = shadow(
            &mut topic_slots.shadows,
            shares.take(),
            latest,
            weight_max(capacity),
        );
        let bytes = events.weight() as u64;
        // At most, and read again before it matters.
        let mut waits = self.ring.waiting();
        let gauges = &shared.writer.gauges;
        // First the bytes: what replaces an event is seen, and may be taken, at once.
        gauges.pushed(&Pushed {
            events: 0,
            bytes,
            alone: waits == 0,
            created_at_ns: block.created_at_ns(),
        });
        let (mut superseded, mut leaving) = (0, Leaving::none());
        for ((group, run), event) in runs().zip(events) {
            let in_run = u64::from(run.count_ones()) - 1;
            superseded += in_run;
            let number = topic_slots.box_of(&mut self.ring, group.topic(), capacity);
            match topic_slots.put(&mut self.ring, number, event, in_run) {
                Some(replaced) => {
                    superseded += 1;
                    leaving.let_go(replaced);
                }
                None => {
                    gauges.pushed_more(1);
                    waits += 1;
                    if waits > capacity as u64 {
                        // At once: a block may have more topics than there are boxes.
                        topic_slots.evict(&mut self.ring, shared, capacity as u64);
                        waits = self.ring.waiting();
                    }
                }
            }
        }
        shared.count_superseded(superseded);
        shared.count_gone(0, leaving.finish());
        self.lighten(shared, block.first_id(), bytes);
        let gauges = &shared.writer.gauges;
        gauges.waits(self.ring.waiting());
    }

    /// Makes everything visible. `true`: the subscriber sleeps.
    #[inline]
    pub(super) fn commit(&mut self) -> bool {
        let wake_requested = match &mut self.topic_slots {
            Some(topic_slots) => std::mem::take(&mut topic_slots.wake_requested),
            None => false,
        };
        wake_requested | (self.ring.has_staged() && self.ring.commit() == Ok(true))
    }

    /// Nothing more comes. `true`: the subscriber sleeps.
    pub(super) fn close(&self) -> bool {
        self.ring.close()
    }

    /// Lets go of the oldest until the bound on bytes is kept, or the block that came last, of this weight, is alone: to lose
    /// more of it would free nothing. Its events have this id, or a later one.
    #[inline]
    fn lighten(&mut self, shared: &FeedShared, first_id: u64, last: u64) {
        let bound = last.max(shared.status.pin_bytes as u64);
        if shared.pinned_bytes() > bound {
            self.lose_the_oldest(shared, first_id, bound);
        }
    }

    #[cold]
    fn lose_the_oldest(&mut self, shared: &FeedShared, first_id: u64, bound: u64) {
        let Some(topic_slots) = &mut self.topic_slots else {
            return;
        };
        topic_slots.settle(&mut self.ring);
        // Not by the bytes alone: what the subscriber has taken a moment ago may still be counted among them.
        let Some(end) = topic_slots.end_of_those_before(first_id) else {
            return;
        };
        while shared.pinned_bytes() > bound {
            let waiting = self.ring.waiting();
            if waiting <= 1 || self.ring.removed() >= end {
                break;
            }
            topic_slots.evict(&mut self.ring, shared, waiting - 1);
        }
    }
}

impl<T> TopicSlots<T> {
    fn new() -> Box<Self> {
        Box::new(Self {
            shadows: BlockSource::new(),
            by_topic: HashTable::new(),
            boxes: Vec::new(),
            order: VecDeque::new(),
            left: 0,
            idle: VecDeque::new(),
            wake_requested: false,
        })
    }

    /// The oldest go until so many are left.
    #[cold]
    fn evict(&mut self, ring: &mut Producer<Waiting<T>>, shared: &FeedShared, left: u64) {
        // The ring evicts what lies in front of something published.
        self.wake_requested |= ring.commit() == Ok(true);
        let mut freed = 0;
        let id = |number: u32| self.boxes[number as usize].id;
        let evicted = ring.evict(left, id, |_, event: Waiting<T>| {
            freed += event.let_go() as u64;
        });
        shared.count_lost(evicted, GapReason::Overflow);
        shared.count_gone(evicted, freed);
    }

    /// The box of a topic; if it has none, one that is free.
    #[inline]
    fn box_of(&mut self, ring: &mut Producer<Waiting<T>>, topic: &Topic, capacity: usize) -> u32 {
        let boxes = &self.boxes;
        let is_it = |number: &u32| boxes[*number as usize].topic == *topic;
        match self.by_topic.find(topic.hash64(), is_it) {
            Some(number) => *number,
            None => self.free_box(ring, topic, capacity),
        }
    }

    #[cold]
    fn free_box(&mut self, ring: &mut Producer<Waiting<T>>, topic: &Topic, capacity: usize) -> u32 {
        self.settle(ring);
        let number = match self.idle_box() {
            Some(number) => {
                let boxes = &self.boxes;
                let hash = boxes[number as usize].topic.hash64();
                if let Ok(known) = self.by_topic.find_entry(hash, |other| *other == number) {
                    known.remove();
                }
                self.boxes[number as usize].topic = topic.clone();
                number
            }
            None => {
                let number = self.boxes.len() as u32;
                debug_assert!(self.boxes.len() < capacity + SPARE_BOXES, "one is free");
                self.boxes.push(Known {
                    place: conflating::Slot::new(number),
                    topic: topic.clone(),
                    id: 0,
                    superseded: 0,
                    filled: 0,
                    is_idle: false,
                });
                number
            }
        };
        let boxes = &self.boxes;
        let hash = |number: &u32| boxes[*number as usize].topic.hash64();
        self.by_topic.insert_unique(topic.hash64(), number, hash);
        number
    }

    /// Notes which boxes have left the order since the last time.
    fn settle(&mut self, ring: &mut Producer<Waiting<T>>) {
        let gone = ring.removed();
        while self.left < gone {
            self.left += 1;
            let number = self.order.pop_front().expect("it was filled");
            let known = &mut self.boxes[number as usize];
            if !std::mem::replace(&mut known.is_idle, true) {
                self.idle.push_back(number);
            }
        }
    }

    /// How many boxes will have left the order when the last one has that holds an event with an id below this one. `None`: there
    /// are none.
    fn end_of_those_before(&self, first_id: u64) -> Option<u64> {
        let boxes = &self.boxes;
        let is_before = |number: &u32| boxes[*number as usize].id < first_id;
        let place = self.order.iter().rposition(is_before)?;
        Some(self.left + place as u64 + 1)
    }

    /// A box that is empty, and stays so.
    fn idle_box(&mut self) -> Option<u32> {
        for _ in 0..self.idle.len() {
            let number = self.idle.pop_front()?;
            let known = &mut self.boxes[number as usize];
            if known.place.is_empty() {
                known.is_idle = false;
                return Some(number);
            }
            if known.filled >= self.left {
                // Its topic came again. It will be idle when it leaves the order once more.
                known.is_idle = false;
            } else {
                // The subscriber has claimed it, and is about to empty it.
                self.idle.push_back(number);
            }
        }
        None
    }

    /// Puts an event into a box. Returns the one that it replaced.
    #[inline]
    fn put(
        &mut self,
        ring: &mut Producer<Waiting<T>>,
        number: u32,
        event: Waiting<T>,
        in_run: u64,
    ) -> Option<Waiting<T>> {
        let known = &mut self.boxes[number as usize];
        known.id = event.id();
        let before = known.superseded;
        let superseded = &mut known.superseded;
        let replaced = ring.put(&known.place, event, |event, replaces| {
            *superseded = in_run + if replaces { before + 1 } else { 0 };
            event.set_superseded(*superseded);
        });
        if replaced.is_none() {
            known.filled = self.left + self.order.len() as u64;
            self.order.push_back(number);
        }
        replaced
    }
}

/// The highest bit that is set.
fn highest(mask: u64) -> u64 {
    1 << (63 - mask.leading_zeros())
}

/// The subscriber's end.
pub(super) struct ReadEnd<T> {
    ring: Consumer<Waiting<T>>,
}

impl<T> ReadEnd<T> {
    /// Takes out what comes next.
    #[inline]
    pub(super) fn claim(&mut self, shared: &FeedShared) -> Claim<T> {
        match self.ring.pop() {
            Some(popped) => {
                let event = popped.item.take();
                shared.count_gone(1, event.freed as u64);
                Claim::Events {
                    block: event.block,
                    mask: event.mask,
                    behind: popped.lost.map(Gap::of_run),
                }
            }
            None if self.ring.is_finished() => Claim::Finished,
            None => Claim::Empty,
        }
    }

    /// Asks to be woken, and looks once more. `false`: there is something.
    pub(super) fn request_wake(&mut self) -> bool {
        self.ring.request_wake() == Readiness::Empty
    }

    /// Drops what is left, and says what had been lost right here.
    pub(super) fn release_all(&mut self, shared: &FeedShared) -> Option<Gap> {
        drained(|| self.claim(shared))
    }
}
