//! The queue of a subscriber under `Conflate`, with the latest event of each topic.
//!
//! Every topic with a queued event has a *topic slot* in a [`conflating`] ring. The subscriber
//! reads the slots in the order in which they were filled. A new event of a topic that is queued
//! replaces the old one in its slot, whatever the subscriber does meanwhile. So a subscriber that
//! wakes up receives each topic once, in its latest state.
//!
//! An event in a slot is an event of a [`shadow`] of its block: the shadow has the number of events
//! that it replaced. If a block has several events of one topic, only the last of them is put into
//! a slot.
//!
//! **Bounds.** `capacity` counts queued topics: beyond it, the topic that has been queued longest
//! loses its event. `pin_bytes` counts every block of which some event is queued, whole and once,
//! with its shadow: beyond it, the oldest events are lost likewise, until the bound is kept or only
//! the newest block is left.
//!
//! **Topic slots are reused.** A slot whose event was taken keeps its topic, which is likely to be
//! published again, until another topic needs a slot. One is always available, since there are two
//! more slots than topics may be queued: one for the topic that is put in before the oldest is
//! evicted, and one for the slot that the subscriber has claimed and not emptied yet.
//!
//! # Failure modes
//!
//! * More topics than the capacity are queued: the oldest events are lost, with a gap in front of
//!   the next event that is read.
//! * The subscriber stops between the two halves of a claim: the shard never waits for it, and does
//!   not reuse that slot until it is empty.

#[cfg(all(test, not(loom)))]
mod tests;

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::FeedShared;
use super::claim::{Claim, drain_claims};
use crate::dispatch::block::{AnyBlock, RawSource, RefBatch, ReleaseBatch, ShadowEvent, shadow};
use crate::dispatch::gauges::Pushed;
use crate::dispatch::loss::{Gap, GapReason};
use crate::pattern::Topic;
use crate::ring::conflating::{self, Consumer, Producer};
use crate::ring::spsc::Readiness;

pub(super) fn queue(capacity: usize) -> (WriteEnd, ReadEnd) {
    let (producer, consumer) = conflating::ring(capacity);
    let write = WriteEnd {
        queue: producer,
        topic_slots: None,
    };
    (write, ReadEnd { queue: consumer })
}

/// Topic slots beyond those of the topics that may be queued.
const SPARE_SLOTS: usize = 2;

/// The largest weight of a shadow. A weigher may return `usize::MAX` for each event; the sum over
/// all queued blocks, and over those that are on their way in and out, must not overflow.
fn weight_max(capacity: usize) -> usize {
    let blocks = (capacity + SPARE_SLOTS) as u64;
    usize::try_from(u64::MAX / blocks).unwrap_or(usize::MAX)
}

/// The shard's end.
pub(super) struct WriteEnd {
    queue: Producer<ShadowEvent>,
    /// Allocated with the first event.
    topic_slots: Option<Box<TopicSlots>>,
}

/// The shard's data about the topic slots.
struct TopicSlots {
    shadows: RawSource,
    /// Slot numbers by topic.
    by_topic: HashTable<u32>,
    /// By number, `capacity + SPARE_SLOTS` at most.
    slots: Vec<TopicSlot>,
    /// The slots in the order of the queue, from the `departed`-th filling on. A slot may occur
    /// twice: claimed by the subscriber, and filled anew.
    order: VecDeque<u32>,
    /// Fillings that have left `order`.
    departed: u64,
    /// Slots that have left `order` and may be empty; each slot once at most.
    idle: VecDeque<u32>,
    /// A commit in the middle of a round found that the subscriber had requested a wake-up.
    wake_requested: bool,
}

/// The shard's data about a topic slot.
struct TopicSlot {
    slot: conflating::Slot<ShadowEvent>,
    topic: Topic,
    /// Id of the event that was put in last.
    id: u64,
    /// How many events that event replaced.
    superseded: u64,
    /// The number of its last filling, among the fillings of all slots.
    filled: u64,
    /// Whether it is in [`TopicSlots::idle`].
    is_idle: bool,
}

impl WriteEnd {
    /// Puts the events of the mask into the slots of their topics.
    pub(super) fn offer(
        &mut self,
        shared: &FeedShared,
        block: &AnyBlock,
        refs: &mut RefBatch<'_>,
        mask: u64,
    ) {
        let topic_slots = self
            .topic_slots
            .get_or_insert_with(|| TopicSlots::new(block));
        // Called even if no slot is needed: otherwise `order` would grow with every event.
        topic_slots.update_order(&mut self.queue);
        let capacity = shared.status.capacity as usize;
        let runs = || {
            let runs = block
                .groups()
                .iter()
                .map(|group| (group, group.mask & mask));
            runs.filter(|(_, run)| *run != 0)
        };
        let latest = runs().fold(0, |latest, (_, run)| latest | highest_bit(run));
        let events = shadow(
            &mut topic_slots.shadows,
            refs.take(),
            latest,
            weight_max(capacity),
        );
        let bytes = events.weight() as u64;
        // An upper bound: the subscriber may claim meanwhile. Read again before it matters.
        let mut waiting = self.queue.waiting();
        let gauges = &shared.writer.gauges;
        // The bytes come first: an event that replaces another is visible, and may be taken, at
        // once.
        gauges.pushed(&Pushed {
            events: 0,
            bytes,
            alone: waiting == 0,
            created_at_ns: block.created_at_ns(),
        });
        let (mut superseded, mut released) = (0, ReleaseBatch::new());
        for ((group, run), event) in runs().zip(events) {
            let in_run = u64::from(run.count_ones()) - 1;
            superseded += in_run;
            let number = topic_slots.slot_of(&mut self.queue, group.topic(), capacity);
            match topic_slots.put(&mut self.queue, number, event, in_run) {
                Some(replaced) => {
                    superseded += 1;
                    released.add(replaced);
                }
                None => {
                    gauges.pushed_more(1);
                    waiting += 1;
                    if waiting > capacity as u64 {
                        // Evicts at once, since a block may have more topics than there are slots.
                        topic_slots.evict(&mut self.queue, shared, capacity as u64);
                        waiting = self.queue.waiting();
                        debug_assert!(waiting <= capacity as u64, "evicted to the topic");
                    }
                }
            }
        }
        shared.count_superseded(superseded);
        shared.count_removed(0, released.finish());
        self.enforce_pin_bytes(shared, block.first_id(), bytes);
        let gauges = &shared.writer.gauges;
        gauges.waits(self.queue.waiting());
    }

    /// Publishes what was put in. `true`: the subscriber has requested a wake-up.
    #[inline]
    pub(super) fn commit(&mut self) -> bool {
        let wake_requested = match &mut self.topic_slots {
            Some(topic_slots) => std::mem::take(&mut topic_slots.wake_requested),
            None => false,
        };
        wake_requested | (self.queue.has_staged() && self.queue.commit() == Ok(true))
    }

    /// Nothing more comes. `true`: the subscriber has requested a wake-up.
    pub(super) fn close(&self) -> bool {
        self.queue.close()
    }

    /// Evicts the oldest events until the bound on bytes is kept, or only the newest block is left:
    /// evicting some of its events would free nothing. Its weight is `newest`, and its first id
    /// `first_id`.
    #[inline]
    fn enforce_pin_bytes(&mut self, shared: &FeedShared, first_id: u64, newest: u64) {
        let bound = newest.max(shared.status.pin_bytes as u64);
        if shared.pinned_bytes() > bound {
            self.evict_bytes(shared, first_id, bound);
        }
    }

    #[cold]
    fn evict_bytes(&mut self, shared: &FeedShared, first_id: u64, bound: u64) {
        let Some(topic_slots) = &mut self.topic_slots else {
            return;
        };
        topic_slots.update_order(&mut self.queue);
        // The bytes alone do not say what to evict: they may still include what the subscriber took
        // a moment ago.
        let Some(end) = topic_slots.end_of_those_before(first_id) else {
            return;
        };
        while shared.pinned_bytes() > bound {
            let waiting = self.queue.waiting();
            if waiting <= 1 || self.queue.removed() >= end {
                break;
            }
            topic_slots.evict(&mut self.queue, shared, waiting - 1);
        }
    }
}

impl TopicSlots {
    /// `block`: the first that is offered.
    fn new(block: &AnyBlock) -> Box<Self> {
        Box::new(Self {
            shadows: RawSource::like(block),
            by_topic: HashTable::new(),
            slots: Vec::new(),
            order: VecDeque::new(),
            departed: 0,
            idle: VecDeque::new(),
            wake_requested: false,
        })
    }

    /// Evicts the oldest events until at most `left` are queued.
    #[cold]
    fn evict(&mut self, queue: &mut Producer<ShadowEvent>, shared: &FeedShared, left: u64) {
        debug_assert!(left >= 1, "the queue never evicts the event published last");
        // The queue can evict only when every slot is published.
        self.wake_requested |= queue.commit() == Ok(true);
        let mut freed = 0;
        let id = |number: u32| self.slots[number as usize].id;
        let evicted = queue.evict(left, id, |_, event: ShadowEvent| {
            freed += event.release() as u64;
        });
        shared.count_lost(evicted, GapReason::Overflow);
        shared.count_removed(evicted, freed);
    }

    /// The slot of a topic; if it has none, a free one.
    #[inline]
    fn slot_of(
        &mut self,
        queue: &mut Producer<ShadowEvent>,
        topic: &Topic,
        capacity: usize,
    ) -> u32 {
        let slots = &self.slots;
        let has_topic = |number: &u32| slots[*number as usize].topic == *topic;
        match self.by_topic.find(topic.hash64(), has_topic) {
            Some(number) => *number,
            None => self.assign_slot(queue, topic, capacity),
        }
    }

    /// Assigns a slot to a topic that has none.
    #[cold]
    fn assign_slot(
        &mut self,
        queue: &mut Producer<ShadowEvent>,
        topic: &Topic,
        capacity: usize,
    ) -> u32 {
        self.update_order(queue);
        let number = match self.take_idle() {
            Some(number) => {
                let slots = &self.slots;
                let hash = slots[number as usize].topic.hash64();
                if let Ok(old) = self.by_topic.find_entry(hash, |other| *other == number) {
                    old.remove();
                }
                self.slots[number as usize].topic = topic.clone();
                number
            }
            None => {
                let number = self.slots.len() as u32;
                debug_assert!(
                    self.slots.len() < capacity + SPARE_SLOTS,
                    "of capacity + {SPARE_SLOTS} slots, one is always idle"
                );
                self.slots.push(TopicSlot {
                    slot: conflating::Slot::new(number),
                    topic: topic.clone(),
                    id: 0,
                    superseded: 0,
                    filled: 0,
                    is_idle: false,
                });
                number
            }
        };
        let slots = &self.slots;
        let hash = |number: &u32| slots[*number as usize].topic.hash64();
        self.by_topic.insert_unique(topic.hash64(), number, hash);
        debug_assert_eq!(
            self.by_topic.len(),
            self.slots.len(),
            "each slot has a topic"
        );
        number
    }

    /// Removes from `order` the slots that left the queue since the last call, and makes them idle.
    fn update_order(&mut self, queue: &mut Producer<ShadowEvent>) {
        let departed = queue.removed();
        debug_assert!(departed - self.departed <= self.order.len() as u64);
        while self.departed < departed {
            self.departed += 1;
            let number = self.order.pop_front().expect("a slot that left was filled");
            let slot = &mut self.slots[number as usize];
            if !std::mem::replace(&mut slot.is_idle, true) {
                self.idle.push_back(number);
            }
        }
    }

    /// How many fillings will have left the queue when all events with ids below `first_id` have.
    /// `None`: no such event is queued.
    fn end_of_those_before(&self, first_id: u64) -> Option<u64> {
        let slots = &self.slots;
        let is_before = |number: &u32| slots[*number as usize].id < first_id;
        let position = self.order.iter().rposition(is_before)?;
        Some(self.departed + position as u64 + 1)
    }

    /// Takes a slot out of `idle` that is empty, and stays empty until it is filled again.
    fn take_idle(&mut self) -> Option<u32> {
        for _ in 0..self.idle.len() {
            let number = self.idle.pop_front()?;
            let slot = &mut self.slots[number as usize];
            if slot.slot.is_empty() {
                slot.is_idle = false;
                return Some(number);
            }
            if slot.filled >= self.departed {
                // It was filled again, and will be idle when it leaves the queue once more.
                slot.is_idle = false;
            } else {
                // The subscriber has claimed it, and is about to empty it.
                self.idle.push_back(number);
            }
        }
        None
    }

    /// Puts an event into a slot, and returns the event that it replaced.
    #[inline]
    fn put(
        &mut self,
        queue: &mut Producer<ShadowEvent>,
        number: u32,
        event: ShadowEvent,
        in_run: u64,
    ) -> Option<ShadowEvent> {
        let slot = &mut self.slots[number as usize];
        debug_assert!(slot.id < event.id(), "the ids of a topic rise");
        slot.id = event.id();
        let before = slot.superseded;
        let superseded = &mut slot.superseded;
        let replaced = queue.put(&slot.slot, event, |event, replaces| {
            *superseded = in_run + if replaces { before + 1 } else { 0 };
            event.set_superseded(*superseded);
        });
        if replaced.is_none() {
            slot.filled = self.departed + self.order.len() as u64;
            self.order.push_back(number);
        }
        replaced
    }
}

/// The highest bit that is set in a mask that is not empty.
fn highest_bit(mask: u64) -> u64 {
    1 << (63 - mask.leading_zeros())
}

/// The subscriber's end.
pub(super) struct ReadEnd {
    queue: Consumer<ShadowEvent>,
}

impl ReadEnd {
    /// Claims the next event.
    #[inline]
    pub(super) fn claim(&mut self, shared: &FeedShared) -> Claim {
        match self.queue.pop() {
            Some(popped) => {
                let event = popped.item.take();
                shared.count_removed(1, event.freed as u64);
                Claim::Events {
                    block: event.block,
                    mask: event.mask,
                    gap_before: popped.lost.map(Gap::of_run),
                }
            }
            None if self.queue.is_finished() => Claim::Finished,
            None => Claim::Empty,
        }
    }

    /// Requests a wake-up, and checks once more. `false`: there is something to read already.
    pub(super) fn request_wake(&mut self) -> bool {
        self.queue.request_wake() == Readiness::Empty
    }

    /// Drops what is left, and returns what had been lost right in front of it.
    pub(super) fn drain(&mut self, shared: &FeedShared) -> Option<Gap> {
        drain_claims(|| self.claim(shared))
    }
}
