//! The queue of a subscriber that gets what was published first: `DropNewest`, `Block` and `Disconnect`.
//!
//! A ring of slots, one reference count and one slot for up to 64 events. What does not fit is lost, waits in front of the
//! ring, or ends the subscription.
//!
//! A gap in front of a slot travels in the ring, a word in each of [`GAP_SLOTS`] slots, so that a slot is no wider than a
//! reference and a mask; the losses behind the last slot are in the [`GapCell`](crate::ring::gap::GapCell).

use super::{Claim, End, FeedShared, first_and_last, lowest};
use crate::dispatch::block::{BlockRef, Shares};
use crate::dispatch::gauges::Pushed;
use crate::dispatch::loss::{BlockTimeout, Gap, GapReason, Overflow};
use crate::ring::gap::Run;
use crate::ring::spsc::{self, Readiness};
use crate::sync::Ordering;

pub(super) fn queue<T>(capacity: usize) -> (WriteEnd<T>, ReadEnd<T>) {
    let (producer, consumer) = spsc::ring(slots(capacity));
    let write = WriteEnd {
        ring: producer,
        gap_open: false,
        gave_up: false,
        longest_wait: BlockTimeout::NONE,
    };
    (write, ReadEnd { ring: consumer })
}

/// Slots that so many events need at most: each may be alone in its slot, with a gap in front of it. And one such
/// place more, for the one whose events are claimed: it is given back a moment later.
fn slots(capacity: usize) -> usize {
    (capacity + 1) * (1 + GAP_SLOTS)
}

/// A slot of the ring.
enum Slot<T> {
    Events {
        block: BlockRef<T>,
        /// Which events of the block; at least one.
        mask: u64,
    },
    /// One of the [`GAP_SLOTS`] words of a gap. They come in a row, and in front of events.
    Gap(u64),
}

/// Words of a gap, as [`Run::to_words`] makes them.
const GAP_SLOTS: usize = Run::WORDS;

/// Slots are what a shard writes to for every subscriber: the reference's niche tells the two kinds apart.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot<()>>() == 16);

/// The shard's end.
pub(super) struct WriteEnd<T> {
    ring: spsc::Producer<Slot<T>>,
    /// Whether we opened the gap cell since we last took a run back.
    gap_open: bool,
    /// The longest wait was in vain, and the subscriber had not claimed as many as `wanted` when we last looked.
    gave_up: bool,
    /// Here, where there is room for it, and not in `FeedShared`: the shard alone wants to know.
    pub(super) longest_wait: BlockTimeout,
}

impl<T> WriteEnd<T> {
    /// See [`FeedProducer::offer`](super::FeedProducer::offer).
    #[inline]
    pub(super) fn offer(
        &mut self,
        shared: &FeedShared,
        block: &BlockRef<T>,
        shares: &mut Shares<'_, T>,
        mask: u64,
    ) -> u64 {
        let mut rest = mask;
        loop {
            let fits = self.room_for(shared, rest.count_ones(), block.weight());
            let now = lowest(rest, fits);
            if now != 0 {
                self.push(shared, shares.take(), now, block.weight());
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
                    if self.lose(shared, block, rest, GapReason::BlockTimeout) {
                        return 0;
                    }
                    // As below.
                }
                Overflow::Disconnect => {
                    self.disconnect(shared, block, rest);
                    return 0;
                }
                _ => {
                    if self.lose(shared, block, rest, GapReason::Overflow) {
                        return 0;
                    }
                    // The subscriber has read everything, and the open gap, meanwhile: there is room.
                }
            }
        }
    }

    /// `false`: there is room by now.
    #[cold]
    pub(super) fn lose(
        &mut self,
        shared: &FeedShared,
        block: &BlockRef<T>,
        mask: u64,
        reason: GapReason,
    ) -> bool {
        let run = run_of(block, mask, reason);
        let gap = &shared.losses().gap;
        let position = self.ring.staged_position();
        // If it is open still; the subscriber may have read everything, and taken it, since we found no room.
        self.gap_open = if self.gap_open {
            gap.add(run)
        } else {
            gap.extend(position, run)
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
        // Relaxed: a claim that is not seen here is one that came after.
        let claimed = shared.reader.claimed_events.load(Ordering::Relaxed);
        // Relaxed: the subscriber takes it for a wish for room only behind the flag of a later `request_wake`.
        shared.losses().wanted.store(claimed + 1, Ordering::Relaxed);
        self.gave_up = true;
    }

    /// Whether the bus may wait for room now.
    #[cold]
    fn is_worth_waiting_for(&mut self, shared: &FeedShared) -> bool {
        if self.gave_up {
            // Relaxed: as in `push`, and our own.
            let claimed = shared.reader.claimed_events.load(Ordering::Relaxed);
            let wanted = shared.losses().wanted.load(Ordering::Relaxed);
            self.gave_up = claimed < wanted;
        }
        !self.gave_up && !self.longest_wait.is_zero()
    }

    /// Makes everything visible. `true`: the subscriber sleeps.
    #[inline]
    pub(super) fn commit(&mut self) -> bool {
        self.ring.commit() == Ok(true)
    }

    /// Nothing more comes. `true`: the subscriber sleeps.
    pub(super) fn close(&self) -> bool {
        self.ring.close()
    }

    /// See [`FeedProducer::request_wake`](super::FeedProducer::request_wake).
    pub(super) fn request_wake(&mut self, shared: &FeedShared, weight: usize, events: u32) -> bool {
        let claimed_bytes = shared.reader.claimed_bytes.load(Ordering::Relaxed);
        let capacity = shared.status.capacity;
        let depth = if is_too_heavy(shared, weight, claimed_bytes) {
            0
        } else {
            // More than half may never come at once, and less than is needed would not get the block out of the way.
            (capacity / 2).max(capacity.saturating_sub(events))
        };
        let pushed = shared.writer.gauges.pushed_events();
        let wanted = pushed.saturating_sub(u64::from(depth));
        // Relaxed: goes with the flag that `ring.request_wake` sets (Release), which the subscriber acquires.
        shared.losses().wanted.store(wanted, Ordering::Relaxed);
        self.ring.request_wake();
        // Relaxed: ordered by `ring.request_wake`, which acquires the subscriber's last release.
        let claimed = shared.reader.claimed_events.load(Ordering::Relaxed);
        claimed >= wanted && self.ring.take_wake_request()
    }

    /// Takes back the wish of `request_wake`. `true`: nobody will arrive for it.
    pub(super) fn take_wake_request(&mut self) -> bool {
        self.ring.take_wake_request()
    }

    /// The ring is full, and that was it: what is in it stays to be read.
    #[cold]
    fn disconnect(&mut self, shared: &FeedShared, block: &BlockRef<T>, rest: u64) {
        let opened = self.lose(shared, block, rest, GapReason::Overflow);
        debug_assert!(opened, "nobody takes the gap of a `Disconnect` feed");
        // All that was matched in this block is accounted for, and nothing behind it is looked at.
        shared.note_last_id(block.last_id());
        // First: who sees the end and finds the ring empty has read everything. Ending it wakes who sleeps.
        self.commit();
        shared.finish(End::Disconnected);
    }

    /// How many of `events` events, in one slot of a block of this weight, may go in now.
    #[inline]
    fn room_for(&mut self, shared: &FeedShared, events: u32, weight: usize) -> u32 {
        let capacity = u64::from(shared.status.capacity);
        // The ring's own bound on slots is the looser one; its `room` acquires the subscriber's counters.
        let slots = self.ring.room();
        // Acquire, partner `FeedShared::count_claimed`: the count may be newer than that room, and makes `push` find the
        // slots of all claims but the last given back.
        let claimed_events = shared.reader.claimed_events.load(Ordering::Acquire);
        let claimed_bytes = shared.reader.claimed_bytes.load(Ordering::Relaxed);
        let waiting = shared.writer.gauges.pushed_events() - claimed_events;
        if slots == 0 || is_too_heavy(shared, weight, claimed_bytes) {
            return 0;
        }
        u64::from(events).min(capacity - waiting) as u32
    }

    #[inline]
    fn push(&mut self, shared: &FeedShared, block: BlockRef<T>, mask: u64, weight: usize) {
        if self.gap_open {
            self.push_gap(shared);
        }
        // Relaxed: as in `room_for`, which acquired what the ring says of it.
        let claimed = shared.reader.claimed_events.load(Ordering::Relaxed);
        let gauges = &shared.writer.gauges;
        let events = u64::from(mask.count_ones());
        // This push included.
        let waiting = gauges.pushed_events() + events - claimed;
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
    fn push_slot(&mut self, slot: Slot<T>) {
        if self.ring.push(slot).is_err() {
            unreachable!(
                "there are slots for every event and its gap, and there was room for an event"
            );
        }
    }

    /// The open gap goes in front of what is pushed next, unless the subscriber has taken it.
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

/// Whether a block of this weight would pass the bound on bytes; into an empty ring it goes whatever it weighs.
#[inline]
fn is_too_heavy(shared: &FeedShared, weight: usize, claimed_bytes: u64) -> bool {
    // Wrapping, as both counters do: a weigher may say that each event weighs all there is.
    let pushed_bytes = shared.writer.gauges.pushed_bytes();
    let pinned = pushed_bytes.wrapping_sub(claimed_bytes);
    pinned != 0 && pinned.saturating_add(weight as u64) > shared.status.pin_bytes as u64
}

fn run_of<T>(block: &BlockRef<T>, mask: u64, reason: GapReason) -> Run {
    let (from, to) = first_and_last(block.first_id(), mask);
    Run {
        from,
        to,
        count: u64::from(mask.count_ones()),
        reason: reason as u8,
    }
}

/// The subscriber's end.
pub(super) struct ReadEnd<T> {
    ring: spsc::Consumer<Slot<T>>,
}

impl<T> ReadEnd<T> {
    /// Takes out what comes next.
    #[inline]
    pub(super) fn claim(&mut self, shared: &FeedShared) -> Claim<T> {
        match self.ring.pop() {
            Some(Slot::Events { block, mask }) => {
                self.claimed(shared, &block, mask);
                return Claim::Events {
                    block,
                    mask,
                    behind: None,
                };
            }
            Some(Slot::Gap(first)) => return self.claim_behind_gap(shared, first),
            None => {}
        }
        if shared.status.overflow == Overflow::Disconnect {
            // Its one gap is its end, and told as that.
            return self.nothing();
        }
        if let Some(gap) = self.open_gap(shared) {
            return Claim::Gap(gap);
        }
        match self.nothing() {
            // So is a gap visible that was opened just before the ring was closed.
            Claim::Finished => self.open_gap(shared).map_or(Claim::Finished, Claim::Gap),
            nothing => nothing,
        }
    }

    /// What a disconnected subscriber is told, as often as it asks.
    pub(super) fn disconnected_by(&self, shared: &FeedShared) -> Option<Gap> {
        let run = shared.losses.get()?.gap.peek(self.ring.position());
        run.map(Gap::of_run)
    }

    /// Asks to be woken, and looks once more. `false`: there is something.
    pub(super) fn request_wake(&mut self, shared: &FeedShared) -> bool {
        if self.ring.request_wake() != Readiness::Empty {
            return false;
        }
        // The gap of a `Disconnect` feed is told as its end, which wakes by itself: to stay awake for the gap alone would be to
        // spin until the shard has said so.
        let here = self.ring.position();
        let losses = shared.losses.get();
        shared.status.overflow == Overflow::Disconnect
            || !losses.is_some_and(|losses| losses.gap.lies_at(here))
    }

    /// Drops what is left, lets a shard that waits for room go on, and says what had been lost right here.
    pub(super) fn release_all(&mut self, shared: &FeedShared) -> Option<Gap> {
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
            // Before the count: these are many claims at once.
            self.ring.release();
            shared.count_claimed(events, bytes);
        } else if gap.is_none() {
            gap = self.open_gap(shared);
        }
        if self.ring.take_wake_request() {
            shared.status.latch.arrive_and_wake();
        }
        gap
    }

    /// Takes the gap that lies where everything was read.
    fn open_gap(&self, shared: &FeedShared) -> Option<Gap> {
        let run = shared.losses.get()?.gap.take(self.ring.position());
        run.map(Gap::of_run)
    }

    fn nothing(&mut self) -> Claim<T> {
        if self.ring.is_finished() {
            Claim::Finished
        } else {
            Claim::Empty
        }
    }

    #[inline]
    fn claimed(&mut self, shared: &FeedShared, block: &BlockRef<T>, mask: u64) {
        shared.count_claimed(u64::from(mask.count_ones()), block.weight() as u64);
        if self.ring.release() {
            self.arrive_if_wanted(shared);
        }
    }

    /// Claims the events behind a gap whose first word was popped.
    #[cold]
    fn claim_behind_gap(&mut self, shared: &FeedShared, first: u64) -> Claim<T> {
        let gap = Gap::of_run(self.rest_of_gap(first));
        match self.ring.pop() {
            Some(Slot::Events { block, mask }) => {
                self.claimed(shared, &block, mask);
                Claim::Events {
                    block,
                    mask,
                    behind: Some(gap),
                }
            }
            _ => unreachable!("a gap is published with the events behind it"),
        }
    }

    fn rest_of_gap(&mut self, first: u64) -> Run {
        let mut words = [first; GAP_SLOTS];
        for word in &mut words[1..] {
            match self.ring.pop() {
                Some(Slot::Gap(next)) => *word = next,
                _ => unreachable!("the words of a gap come in a row"),
            }
        }
        Run::of_words(words)
    }

    /// The shard waits for room: is it enough by now?
    #[cold]
    fn arrive_if_wanted(&mut self, shared: &FeedShared) {
        // Relaxed: came with the flag that `ring.release` acquired.
        let wanted = shared
            .losses
            .get()
            .map_or(0, |losses| losses.wanted.load(Ordering::Relaxed));
        // Relaxed: our own.
        let claimed = shared.reader.claimed_events.load(Ordering::Relaxed);
        if claimed >= wanted && self.ring.take_wake_request() {
            shared.status.latch.arrive_and_wake();
        }
    }
}
