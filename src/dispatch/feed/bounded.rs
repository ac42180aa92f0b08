//! The queue of a subscriber that keeps what was published first: `DropNewest`, `Block` and
//! `Disconnect`.
//!
//! A ring of slots, with one reference count and one slot for up to 64 events. An event for which
//! the ring has no room is lost (`DropNewest`), waits in front of the ring (`Block`), or ends the
//! subscription (`Disconnect`).
//!
//! A gap in front of a slot travels in the ring, one word in each of [`GAP_SLOTS`] slots, so that a
//! slot is no wider than a reference and a mask. The losses behind the last slot are in the
//! [`GapCell`](crate::ring::gap::GapCell).
//!
//! # Failure modes
//!
//! * A `Block` subscriber does not make room for longer than its block timeout: what has no room is
//!   lost, without a further wait, until the subscriber claims something.

use super::claim::Claim;
use super::{End, FeedShared, first_and_last, lowest_bits};
use crate::dispatch::block::{AnyBlock, RefBatch};
use crate::dispatch::gauges::Pushed;
use crate::dispatch::loss::{BlockTimeout, Gap, GapReason, Overflow};
use crate::ring::gap::LossRun;
use crate::ring::spsc::{self, Readiness};
use crate::sync::Ordering;

pub(super) fn queue(capacity: usize) -> (WriteEnd, ReadEnd) {
    let (producer, consumer) = spsc::ring(slots_for(capacity));
    let write = WriteEnd {
        ring: producer,
        gap_open: false,
        gave_up: false,
        block_timeout: BlockTimeout::NONE,
    };
    (write, ReadEnd { ring: consumer })
}

/// The number of slots that `capacity` events need at most: each event may be alone in its slot,
/// with a gap in front of it. One more event with its gap is added for the slot that is being
/// claimed: its events are counted as claimed before its slots are released.
fn slots_for(capacity: usize) -> usize {
    (capacity + 1) * (1 + GAP_SLOTS)
}

/// A slot of the ring.
enum Slot {
    Events {
        block: AnyBlock,
        /// Which events of the block; at least one.
        mask: u64,
    },
    /// One of the [`GAP_SLOTS`] words of a gap, which are pushed in a row, in front of events.
    Gap(u64),
}

/// Words of a gap, as [`LossRun::to_words`] makes them.
const GAP_SLOTS: usize = LossRun::WORDS;

/// A shard writes slots for every subscriber, so they are small: the niche of the reference
/// distinguishes the two kinds.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot>() == 16);

/// The shard's end.
pub(super) struct WriteEnd {
    ring: spsc::Producer<Slot>,
    /// Whether this end has opened the gap cell since it last took a run back.
    gap_open: bool,
    /// A block timeout is over, and the subscriber had not claimed as many events as `wanted` when
    /// this end last checked.
    gave_up: bool,
    /// It is here and not in `FeedShared`, since only the shard needs it, and padding has room for
    /// it here.
    pub(super) block_timeout: BlockTimeout,
}

impl WriteEnd {
    /// See [`FeedProducer::offer`](super::FeedProducer::offer).
    #[inline]
    pub(super) fn offer(
        &mut self,
        shared: &FeedShared,
        block: &AnyBlock,
        refs: &mut RefBatch<'_>,
        mask: u64,
    ) -> u64 {
        let mut rest = mask;
        loop {
            let room = self.room_for(shared, rest.count_ones(), block.weight());
            let now = lowest_bits(rest, room);
            if now != 0 {
                self.push(shared, refs.take(), now, block.weight());
                rest &= !now;
            }
            if rest == 0 {
                return 0;
            }
            match shared.status.overflow {
                Overflow::Block => {
                    if shared.end() != End::None {
                        return 0;
                    }
                    if self.is_worth_waiting_for(shared) {
                        return rest;
                    }
                    if self.try_lose(shared, block, rest, GapReason::BlockTimeout) {
                        return 0;
                    }
                    // There is room: see the last arm.
                }
                Overflow::Disconnect => {
                    self.disconnect(shared, block, rest);
                    return 0;
                }
                _ => {
                    if self.try_lose(shared, block, rest, GapReason::Overflow) {
                        return 0;
                    }
                    // There is room: meanwhile the subscriber has read everything, and the open
                    // gap.
                }
            }
        }
    }

    /// Counts the events of the mask as lost, and adds them to the gap behind the last slot.
    /// `false`: nothing was lost, because there is room by now.
    #[cold]
    pub(super) fn try_lose(
        &mut self,
        shared: &FeedShared,
        block: &AnyBlock,
        mask: u64,
        reason: GapReason,
    ) -> bool {
        let run = run_of(block, mask, reason);
        let gap = &shared.losses().gap;
        let position = self.ring.staged_position();
        // If this end has left the gap open, the subscriber may have read everything and taken the
        // gap since this end found no room.
        self.gap_open = if self.gap_open {
            gap.extend_open(run)
        } else {
            gap.open_or_extend(position, run)
        };
        if !self.gap_open {
            return false;
        }
        shared.count_lost(run.count, reason);
        true
    }

    /// See [`FeedProducer::stop_waiting`](super::FeedProducer::stop_waiting).
    #[cold]
    pub(super) fn stop_waiting(&mut self, shared: &FeedShared) {
        // Relaxed: a claim that is not seen here counts as one that came later.
        let claimed = shared.reader.claimed_events.load(Ordering::Relaxed);
        // Relaxed: the subscriber reads it as a request for room only behind the flag of a later
        // `request_wake`.
        shared.losses().wanted.store(claimed + 1, Ordering::Relaxed);
        self.gave_up = true;
    }

    /// Whether the bus may wait for room now.
    #[cold]
    fn is_worth_waiting_for(&mut self, shared: &FeedShared) -> bool {
        if self.gave_up {
            // Relaxed: as in `push`; `wanted` is our own.
            let claimed = shared.reader.claimed_events.load(Ordering::Relaxed);
            let wanted = shared.losses().wanted.load(Ordering::Relaxed);
            self.gave_up = claimed < wanted;
        }
        !self.gave_up && !self.block_timeout.is_zero()
    }

    /// Publishes what was pushed. `true`: the subscriber has requested a wake-up.
    #[inline]
    pub(super) fn commit(&mut self) -> bool {
        self.ring.commit() == Ok(true)
    }

    /// Nothing more comes. `true`: the subscriber has requested a wake-up.
    pub(super) fn close(&self) -> bool {
        self.ring.close()
    }

    /// See [`FeedProducer::request_wake`](super::FeedProducer::request_wake).
    pub(super) fn request_wake(&mut self, shared: &FeedShared, weight: usize, events: u32) -> bool {
        let claimed_bytes = shared.reader.claimed_bytes.load(Ordering::Relaxed);
        let capacity = shared.status.capacity;
        // The number of events in the ring at which the subscriber arrives.
        let depth = if is_too_heavy(shared, weight, claimed_bytes) {
            0
        } else {
            // Room for more than half the capacity may never come at once, and room for less than
            // the block needs would not finish it.
            (capacity / 2).max(capacity.saturating_sub(events))
        };
        let pushed = shared.writer.gauges.pushed_events();
        let wanted = pushed.saturating_sub(u64::from(depth));
        // Relaxed: published by the flag that `ring.request_wake` sets (Release) and the subscriber
        // acquires.
        shared.losses().wanted.store(wanted, Ordering::Relaxed);
        self.ring.request_wake();
        // Relaxed: ordered by `ring.request_wake`, which acquires the subscriber's last release.
        let claimed = shared.reader.claimed_events.load(Ordering::Relaxed);
        claimed >= wanted && self.ring.take_wake_request()
    }

    /// Withdraws the request of `request_wake`. `true`: the subscriber will not arrive for it.
    pub(super) fn take_wake_request(&mut self) -> bool {
        self.ring.take_wake_request()
    }

    /// The ring is full: ends the subscription. What is in the ring can still be read.
    #[cold]
    fn disconnect(&mut self, shared: &FeedShared, block: &AnyBlock, rest: u64) {
        let lost = self.try_lose(shared, block, rest, GapReason::Overflow);
        debug_assert!(lost, "no subscriber takes the gap of a `Disconnect` feed");
        // All events of this block that matched are accounted for, and no later block is offered.
        shared.note_last_id(block.last_id());
        // Before the end: a subscriber that sees the end and finds the ring empty has read
        // everything. `finish` wakes a subscriber that sleeps.
        self.commit();
        shared.finish(End::Disconnected);
    }

    /// How many of `events` events, in one slot of a block of this weight, there is room for.
    #[inline]
    fn room_for(&mut self, shared: &FeedShared, events: u32, weight: usize) -> u32 {
        let capacity = u64::from(shared.status.capacity);
        // The ring's own bound on slots is looser. `room` acquires the subscriber's counters.
        let slots = self.ring.room();
        // Acquire, partner `FeedShared::count_claimed`: the count may be newer than that room. So
        // `push` finds the slots of all claims but the last one released.
        let claimed_events = shared.reader.claimed_events.load(Ordering::Acquire);
        let claimed_bytes = shared.reader.claimed_bytes.load(Ordering::Relaxed);
        let pushed_events = shared.writer.gauges.pushed_events();
        debug_assert!(
            claimed_events <= pushed_events,
            "claimed more than was pushed"
        );
        let waiting = pushed_events - claimed_events;
        debug_assert!(
            waiting <= capacity,
            "{waiting} events in a ring of {capacity}"
        );
        if slots == 0 || is_too_heavy(shared, weight, claimed_bytes) {
            return 0;
        }
        u64::from(events).min(capacity - waiting) as u32
    }

    #[inline]
    fn push(&mut self, shared: &FeedShared, block: AnyBlock, mask: u64, weight: usize) {
        if self.gap_open {
            self.push_gap(shared);
        }
        // Relaxed: as in `room_for`, which acquired what the ring publishes with it.
        let claimed = shared.reader.claimed_events.load(Ordering::Relaxed);
        let gauges = &shared.writer.gauges;
        let events = u64::from(mask.count_ones());
        // This push included.
        let waiting = gauges.pushed_events() + events - claimed;
        debug_assert!(waiting <= u64::from(shared.status.capacity));
        gauges.pushed(&Pushed {
            events,
            bytes: weight as u64,
            alone: waiting == events,
            created_at_ns: block.created_at_ns(),
        });
        gauges.waits(waiting);
        self.push_slot(Slot::Events { block, mask });
    }

    #[inline]
    fn push_slot(&mut self, slot: Slot) {
        if self.ring.push(slot).is_err() {
            unreachable!(
                "there are slots for every event and its gap, and there was room for an event"
            );
        }
    }

    /// Pushes the open gap in front of what is pushed next, unless the subscriber has taken it.
    #[cold]
    fn push_gap(&mut self, shared: &FeedShared) {
        self.gap_open = false;
        if let Some(run) = shared.losses().gap.take_back() {
            for word in run.to_words() {
                self.push_slot(Slot::Gap(word));
            }
        }
    }
}

/// Whether a block of this weight would exceed the bound on bytes. An empty ring has room for a
/// block of any weight.
#[inline]
fn is_too_heavy(shared: &FeedShared, weight: usize, claimed_bytes: u64) -> bool {
    // Wrapping, as both counters are: a weigher may return `usize::MAX` for each event.
    let pushed_bytes = shared.writer.gauges.pushed_bytes();
    let pinned = pushed_bytes.wrapping_sub(claimed_bytes);
    pinned != 0 && pinned.saturating_add(weight as u64) > shared.status.pin_bytes as u64
}

fn run_of(block: &AnyBlock, mask: u64, reason: GapReason) -> LossRun {
    let (first_id, last_id) = first_and_last(block.first_id(), mask);
    LossRun {
        first_id,
        last_id,
        count: u64::from(mask.count_ones()),
        reason: reason as u8,
    }
}

/// The subscriber's end.
pub(super) struct ReadEnd {
    ring: spsc::Consumer<Slot>,
}

impl ReadEnd {
    /// Claims the next slot.
    #[inline]
    pub(super) fn claim(&mut self, shared: &FeedShared) -> Claim {
        match self.ring.pop() {
            Some(Slot::Events { block, mask }) => {
                self.claimed(shared, &block, mask);
                return Claim::Events {
                    block,
                    mask,
                    gap_before: None,
                };
            }
            Some(Slot::Gap(first)) => return self.claim_after_gap(shared, first),
            None => {}
        }
        if shared.status.overflow == Overflow::Disconnect {
            // The only gap of such a feed is reported as its end.
            return self.empty_or_finished();
        }
        if let Some(gap) = self.take_open_gap(shared) {
            return Claim::Gap(gap);
        }
        match self.empty_or_finished() {
            // A gap that was opened just before the ring was closed is visible by now.
            Claim::Finished => self
                .take_open_gap(shared)
                .map_or(Claim::Finished, Claim::Gap),
            empty => empty,
        }
    }

    /// The loss that ended the subscription, under `Disconnect`. Leaves it where it is.
    pub(super) fn disconnect_gap(&self, shared: &FeedShared) -> Option<Gap> {
        let run = shared.losses.get()?.gap.peek(self.ring.position());
        run.map(Gap::of_run)
    }

    /// Requests a wake-up, and checks once more. `false`: there is something to read already.
    pub(super) fn request_wake(&mut self, shared: &FeedShared) -> bool {
        if self.ring.request_wake() != Readiness::Empty {
            return false;
        }
        // The gap of a `Disconnect` feed is reported as its end, and the end wakes the subscriber.
        // A subscriber that stayed awake for the gap would spin until the shard has set the end.
        let here = self.ring.position();
        let losses = shared.losses.get();
        shared.status.overflow == Overflow::Disconnect
            || !losses.is_some_and(|losses| losses.gap.is_open_at(here))
    }

    /// Drops what is left, opens the latch for a shard that waits for room, and returns what had
    /// been lost right in front of it.
    pub(super) fn drain(&mut self, shared: &FeedShared) -> Option<Gap> {
        let mut gap = None;
        let (mut events, mut bytes) = (0, 0_u64);
        loop {
            match self.ring.pop() {
                Some(Slot::Events { block, mask }) => {
                    events += u64::from(mask.count_ones());
                    bytes = bytes.wrapping_add(block.weight() as u64);
                }
                Some(Slot::Gap(first)) => {
                    let run = self.rest_of_gap(first);
                    if events == 0 {
                        gap = Some(Gap::of_run(run));
                    }
                }
                None => break,
            }
        }
        if events != 0 {
            // Before the count, because these are many claims at once.
            self.ring.release();
            shared.count_claimed(events, bytes);
        } else if gap.is_none() {
            gap = self.take_open_gap(shared);
        }
        if self.ring.take_wake_request() {
            shared.status.latch.arrive_and_wake();
        }
        gap
    }

    /// Takes the gap behind the last slot, if everything in front of it was read.
    fn take_open_gap(&self, shared: &FeedShared) -> Option<Gap> {
        let run = shared.losses.get()?.gap.take(self.ring.position());
        run.map(Gap::of_run)
    }

    fn empty_or_finished(&mut self) -> Claim {
        if self.ring.is_finished() {
            Claim::Finished
        } else {
            Claim::Empty
        }
    }

    #[inline]
    fn claimed(&mut self, shared: &FeedShared, block: &AnyBlock, mask: u64) {
        shared.count_claimed(u64::from(mask.count_ones()), block.weight() as u64);
        if self.ring.release() {
            self.arrive_if_wanted(shared);
        }
    }

    /// Claims the events behind a gap whose first word was popped.
    #[cold]
    fn claim_after_gap(&mut self, shared: &FeedShared, first: u64) -> Claim {
        let gap = Gap::of_run(self.rest_of_gap(first));
        match self.ring.pop() {
            Some(Slot::Events { block, mask }) => {
                self.claimed(shared, &block, mask);
                Claim::Events {
                    block,
                    mask,
                    gap_before: Some(gap),
                }
            }
            _ => unreachable!("a gap is published with the events behind it"),
        }
    }

    fn rest_of_gap(&mut self, first: u64) -> LossRun {
        let mut words = [first; GAP_SLOTS];
        for word in &mut words[1..] {
            match self.ring.pop() {
                Some(Slot::Gap(next)) => *word = next,
                _ => unreachable!("the words of a gap are pushed in a row"),
            }
        }
        LossRun::from_words(words)
    }

    /// The shard waits for room: arrives at its latch if there is enough by now.
    #[cold]
    fn arrive_if_wanted(&mut self, shared: &FeedShared) {
        // Relaxed: published by the flag that `ring.release` acquired.
        let wanted = shared
            .losses
            .get()
            .map_or(0, |losses| losses.wanted.load(Ordering::Relaxed));
        // Relaxed: only this end writes it.
        let claimed = shared.reader.claimed_events.load(Ordering::Relaxed);
        if claimed >= wanted && self.ring.take_wake_request() {
            shared.status.latch.arrive_and_wake();
        }
    }
}
