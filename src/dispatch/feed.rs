//! A subscriber's ring: `(block, mask)` slots, bounded by events and by bytes, with its losses in their places.
//!
//! The [`FeedProducer`] belongs to the shard, the [`FeedConsumer`] to the subscriber. Between them:
//!
//! * the ring of slots, one reference count and one slot for up to 64 events;
//! * the [`GapCell`] with the losses behind the last slot; a gap in front of a slot travels in the ring, a word in
//!   each of [`GAP_SLOTS`] slots, so that a slot is no wider than a reference and a mask;
//! * counters, each written by one side;
//! * how it ended.
//!
//! **Capacity** counts events that wait in the ring. A slot that the subscriber has claimed no longer counts: at most
//! 63 events more, beside the one that is being read. The same goes for `pin_bytes`, with the weight of one
//! block.
//!
//! **Accounting**: every event matched is received, lost or unread, where unread is what waits in the ring, in the
//! claimed slot, or, for a `Block` subscriber without room, in front of the ring.
//!
//! **The bad days.** Full: see [`Overflow`]. The subscriber goes: what it left is dropped at once, what the shard
//! still pushes, when the shard lets go. Closing: the ring is closed behind the last event, and the subscriber
//! reads up to there.

use std::mem::offset_of;
use std::sync::Weak;

use super::block::{BlockRef, Event, Shares};
use super::gauges::{self, Gauges, Gone, Pushed, ReaderGauges, WriterGauges};
#[cfg(feature = "latency")]
use super::latency::Recorder;
use super::loss::{Gap, GapReason, LongestWait, Overflow};
use super::signal::Latch;
use crate::park::wake_registered;
use crate::ring::gap::{GapCell, Run};
use crate::ring::spsc::{self, Doze};
use crate::sync::{Arc, AtomicU8, AtomicU64, AtomicWaker, CACHE_LINE, Ordering};

/// Bounds of one subscriber's ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Events that wait, 1 to [`CAPACITY_MAX`].
    pub(crate) capacity: usize,
    /// Bytes that waiting blocks pin; one block of any weight always fits into an empty ring.
    pub(crate) pin_bytes: usize,
    pub(crate) overflow: Overflow,
}

/// Events that a ring can be made to hold at most: 2^24.
pub const CAPACITY_MAX: usize = 1 << 24;

/// Makes the two ends.
pub(crate) fn feed<T>(
    limits: Limits,
    latch: Arc<Latch>,
    reader: Reader,
) -> (FeedProducer<T>, FeedConsumer<T>) {
    let (producer, consumer) = spsc::ring(slots(limits.capacity));
    let shared = Arc::new(FeedShared::new(limits, latch, reader));
    let producer = FeedProducer {
        ring: producer,
        shared: shared.clone(),
        gap_open: false,
        dirty: false,
        gave_up: false,
        longest_wait: LongestWait::FOR_EVER,
    };
    let consumer = FeedConsumer {
        ring: consumer,
        shared,
        block: None,
        mask: 0,
        told_closed: false,
        #[cfg(feature = "latency")]
        recorder: None,
        #[cfg(feature = "latency")]
        sampled: 0,
    };
    (producer, consumer)
}

/// Slots that so many events need at most: each may be alone in its slot, with a gap in front of it. And one such
/// place more, for the one whose events are claimed: it is given back a moment later.
fn slots(capacity: usize) -> usize {
    (capacity + 1) * (1 + GAP_SLOTS)
}

/// What the two ends, and the subscription's handle, share.
///
/// What each side writes all the time lies at one end, a cache line from what the other side does; in between, what
/// hardly changes. There is no other padding, since every subscription pays for it: see [`spsc`].
#[repr(C)]
pub(crate) struct FeedShared {
    /// Written by the shard.
    writer: WriterCounters,
    /// Read by the subscriber once per event.
    fate: Fate,
    gap: GapCell,
    listener: Reader,
    /// Written by the subscriber.
    reader: ReaderCounters,
}

const _: () =
    assert!(offset_of!(FeedShared, reader) - offset_of!(FeedShared, writer) >= CACHE_LINE);

/// Who is told that there is something to read.
pub(crate) enum Reader {
    /// A thread or a task that waits.
    Waiting(AtomicWaker),
    /// Somebody who has it read. Weak: he owns the other end.
    Called(Weak<dyn Called>),
}

/// Has a ring read, soon and on another thread. Must neither wait nor panic.
pub(crate) trait Called: Send + Sync {
    fn call(self: std::sync::Arc<Self>);
}

impl Reader {
    pub(crate) fn waiting() -> Self {
        Self::Waiting(AtomicWaker::new())
    }

    fn call(&self) {
        match self {
            Self::Waiting(waker) => wake_registered(waker),
            Self::Called(reader) => {
                if let Some(reader) = reader.upgrade() {
                    reader.call();
                }
            }
        }
    }
}

/// The bounds are here alone: the shard needs them once per slot, when it looks here anyway.
struct Fate {
    /// An [`End`].
    end: AtomicU8,
    /// The shard has let go.
    writer_gone: Gone,
    /// The subscriber was dropped: nothing waits any more.
    reader_gone: Gone,
    /// See [`Limits`]; so do the next two.
    overflow: Overflow,
    capacity: u32,
    pin_bytes: usize,
    latch: Arc<Latch>,
}

struct ReaderCounters {
    /// Events handed to the program, stored once per event.
    received: AtomicU64,
    /// Events of the slots taken out of the ring.
    claimed_events: AtomicU64,
    /// Weight of the blocks of the slots taken out, wrapping.
    claimed_bytes: AtomicU64,
    gauges: ReaderGauges,
}

/// In this order: what is written for every slot lies on the first line.
#[repr(C)]
struct WriterCounters {
    matched: AtomicU64,
    gauges: WriterGauges,
    lost: [AtomicU64; GapReason::COUNT],
    /// Ids of the first and last event dispatched to this subscription; 0: not known yet.
    first_id: AtomicU64,
    last_id: AtomicU64,
    /// The shard waits until this many events are claimed; or, having given up, does not wait until then.
    wanted: AtomicU64,
}

/// Why nothing more comes. The first to end a feed decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum End {
    /// It has not ended, or by the closing of the ring alone.
    None = 0,
    /// Cancelled, or the subscriber was dropped.
    Cancelled = 1,
    /// A thread of the bus died.
    Broken = 2,
}

/// The counters of a feed, read one after the other: exact once nothing moves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FeedStats {
    pub(crate) matched: u64,
    pub(crate) received: u64,
    pub(crate) lost: [u64; GapReason::COUNT],
    pub(crate) first_id: Option<u64>,
    pub(crate) last_id: Option<u64>,
    pub(crate) gauges: Gauges,
}

impl FeedShared {
    fn new(limits: Limits, latch: Arc<Latch>, reader: Reader) -> Self {
        Self {
            writer: WriterCounters {
                matched: AtomicU64::new(0),
                lost: std::array::from_fn(|_| AtomicU64::new(0)),
                first_id: AtomicU64::new(0),
                last_id: AtomicU64::new(0),
                wanted: AtomicU64::new(0),
                gauges: WriterGauges::new(),
            },
            fate: Fate {
                end: AtomicU8::new(End::None as u8),
                writer_gone: Gone::new(),
                reader_gone: Gone::new(),
                overflow: limits.overflow,
                capacity: limits.capacity as u32,
                pin_bytes: limits.pin_bytes,
                latch,
            },
            gap: GapCell::new(),
            listener: reader,
            reader: ReaderCounters {
                received: AtomicU64::new(0),
                claimed_events: AtomicU64::new(0),
                claimed_bytes: AtomicU64::new(0),
                gauges: ReaderGauges::new(),
            },
        }
    }

    /// Ends the feed, unless it has ended, and wakes the subscriber. `true`: this call ended it.
    pub(crate) fn finish(&self, end: End) -> bool {
        // AcqRel, partner `end`; the waker's own protocol orders it against a subscriber that goes to sleep.
        let first = self
            .fate
            .end
            .compare_exchange(
                End::None as u8,
                end as u8,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok();
        if first {
            self.listener.call();
        }
        first
    }

    #[inline]
    pub(crate) fn end(&self) -> End {
        // Acquire, partner `finish`.
        match self.fate.end.load(Ordering::Acquire) {
            0 => End::None,
            1 => End::Cancelled,
            _ => End::Broken,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            capacity: self.fate.capacity as usize,
            pin_bytes: self.fate.pin_bytes,
            overflow: self.fate.overflow,
        }
    }

    /// Whether both ends are gone, so that what `stats` says from now on is final.
    pub(crate) fn is_settled(&self) -> bool {
        self.fate.writer_gone.has_left() && self.fate.reader_gone.has_left()
    }

    /// Events put into the ring so far. Whoever has seen the shard's `delivered_id` finds all up to there counted.
    pub(crate) fn pushed_events(&self) -> u64 {
        self.writer.gauges.pushed_events()
    }

    pub(crate) fn stats(&self) -> FeedStats {
        let known = |id: &AtomicU64| Some(id.load(Ordering::Acquire)).filter(|&id| id != 0);
        // The reader's counter first: what it has received was matched before, so the numbers stay
        // plausible while events flow. Acquire, partner the Release stores of each.
        let received = self.reader.received.load(Ordering::Acquire);
        // Acquire, partner the Release stores in `count_claimed`.
        let claimed_events = self.reader.claimed_events.load(Ordering::Acquire);
        let claimed_bytes = self.reader.claimed_bytes.load(Ordering::Acquire);
        let gauges = gauges::read(
            &self.writer.gauges,
            &self.reader.gauges,
            &self.fate.reader_gone,
            claimed_events,
            claimed_bytes,
        );
        FeedStats {
            received,
            gauges,
            lost: std::array::from_fn(|i| self.writer.lost[i].load(Ordering::Acquire)),
            matched: self.writer.matched.load(Ordering::Acquire),
            first_id: known(&self.writer.first_id),
            // Stored one up, so that "nothing was dispatched before it ended" (0) can be said.
            last_id: known(&self.writer.last_id).map(|id| id - 1),
        }
    }
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
pub(crate) struct FeedProducer<T> {
    ring: spsc::Producer<Slot<T>>,
    shared: Arc<FeedShared>,
    /// Whether we opened the gap cell since we last took a run back.
    gap_open: bool,
    /// Pushed to or lost from since the last commit.
    dirty: bool,
    /// The longest wait was in vain, and the subscriber had not claimed as many as `wanted` when we last looked.
    gave_up: bool,
    /// Here, where there is room for it, and not in `FeedShared`: the shard alone wants to know.
    longest_wait: LongestWait,
}

impl<T> FeedProducer<T> {
    /// Blocks wait for a `Block` subscriber for so long at most.
    pub(crate) fn waiting_for(mut self, longest_wait: LongestWait) -> Self {
        self.longest_wait = longest_wait;
        self
    }

    pub(crate) fn longest_wait(&self) -> LongestWait {
        self.longest_wait
    }

    /// The subscription begins with this id.
    pub(crate) fn begin(&self, first_id: u64) {
        self.shared
            .writer
            .first_id
            .store(first_id, Ordering::Release);
    }

    /// Events of the block matched and are about to be offered. `false`: the subscription ended before this block,
    /// offer nothing.
    pub(crate) fn matched(&mut self, block: &BlockRef<T>, mask: u64) -> bool {
        if self.shared.end() != End::None {
            self.note_last_id(block.first_id() - 1);
            return false;
        }
        self.shared.writer.gauges.matched(block.created_at_ns());
        let matched = &self.shared.writer.matched;
        // Relaxed load: only we write it. Release: `stats`.
        let before = matched.load(Ordering::Relaxed);
        matched.store(before + u64::from(mask.count_ones()), Ordering::Release);
        true
    }

    /// Pushes the events of the mask, as far as there is room, and does with the rest as the policy says. What
    /// is returned must be offered again when there is room. Nothing is visible before `commit`.
    #[inline]
    pub(crate) fn offer(
        &mut self,
        block: &BlockRef<T>,
        shares: &mut Shares<'_, T>,
        mask: u64,
    ) -> u64 {
        let mut rest = mask;
        loop {
            let fits = self.room_for(rest.count_ones(), block.weight());
            let now = lowest(rest, fits);
            if now != 0 {
                self.push(shares.take(), now, block.weight());
                rest &= !now;
            }
            if rest == 0 {
                return 0;
            }
            match self.shared.fate.overflow {
                Overflow::Block => {
                    if self.shared.end() != End::None {
                        return 0;
                    }
                    if self.is_worth_waiting_for() {
                        return rest;
                    }
                    if self.lose(block, rest, GapReason::BlockTimeout) {
                        return 0;
                    }
                    // As below.
                }
                Overflow::DropNewest => {
                    if self.lose(block, rest, GapReason::Overflow) {
                        return 0;
                    }
                    // The subscriber has read everything, and the open gap, meanwhile: there is room.
                }
            }
        }
    }

    /// Gives up what `offer` returned.
    pub(crate) fn give_up(&mut self, block: &BlockRef<T>, rest: u64, reason: GapReason) {
        while !self.lose(block, rest, reason) {}
    }

    /// A block has waited for the subscriber for as long as it may: what is offered from now on and finds no room is lost,
    /// until the subscriber claims something.
    #[cold]
    pub(crate) fn stop_waiting(&mut self) {
        // Relaxed: a claim that is not seen here is one that came after.
        let claimed = self.shared.reader.claimed_events.load(Ordering::Relaxed);
        // Relaxed: the subscriber takes it for a wish for room only behind the flag of a later `doze`.
        let wanted = &self.shared.writer.wanted;
        wanted.store(claimed + 1, Ordering::Relaxed);
        self.gave_up = true;
    }

    /// Whether the bus may wait for room now.
    #[cold]
    fn is_worth_waiting_for(&mut self) -> bool {
        if self.gave_up {
            // Relaxed: as in `push`, and our own.
            let claimed = self.shared.reader.claimed_events.load(Ordering::Relaxed);
            let wanted = self.shared.writer.wanted.load(Ordering::Relaxed);
            self.gave_up = claimed < wanted;
        }
        !self.gave_up && !self.longest_wait.is_zero()
    }

    /// Whether the subscriber may arrive without room for so many events of a block.
    pub(crate) fn may_arrive_early_for(&self, events: u32) -> bool {
        let capacity = self.shared.fate.capacity;
        events > capacity - capacity / 2
    }

    /// Makes everything visible. Wakes the subscriber if it sleeps.
    #[inline]
    pub(crate) fn commit(&mut self) {
        self.dirty = false;
        if self.ring.commit() == Ok(true) {
            self.shared.listener.call();
        }
    }

    /// Whether `commit` has something to do; set by the caller that put it on its list.
    pub(crate) fn mark_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, true)
    }

    /// Asks the subscriber to arrive at the latch when its ring is half empty, or, for a block of a weight that is
    /// too heavy, empty. `true`: it is so already, and nobody will arrive for it.
    pub(crate) fn doze(&mut self, weight: usize) -> bool {
        let claimed_bytes = self.shared.reader.claimed_bytes.load(Ordering::Relaxed);
        let depth = if self.is_too_heavy(weight, claimed_bytes) {
            0
        } else {
            self.shared.fate.capacity / 2
        };
        let wanted = self.pushed_events().saturating_sub(u64::from(depth));
        // Relaxed: goes with the flag that `ring.doze` sets (Release), which the subscriber acquires.
        self.shared.writer.wanted.store(wanted, Ordering::Relaxed);
        self.ring.doze();
        // Relaxed: ordered by `ring.doze`, which acquires the subscriber's last release.
        let claimed = self.shared.reader.claimed_events.load(Ordering::Relaxed);
        claimed >= wanted && self.ring.rouse()
    }

    /// Takes back the wish of `doze`. `true`: nobody will arrive for it.
    pub(crate) fn rouse(&mut self) -> bool {
        self.ring.rouse()
    }

    /// Nothing more comes: the bus is closed, and `last_id` was the last event.
    pub(crate) fn close(mut self, last_id: u64) {
        self.commit();
        self.note_last_id(last_id);
        if self.ring.close() {
            self.shared.listener.call();
        }
    }

    /// The subscription was cancelled; it covers the ids up to `last_id`.
    pub(crate) fn detach(mut self, last_id: u64) {
        self.commit();
        self.note_last_id(last_id);
    }

    /// The bus broke.
    pub(crate) fn break_off(&self) {
        self.shared.finish(End::Broken);
    }

    /// Whether this feed's subscription has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.end() != End::None
    }

    /// The first to say so is right: a block that came after the end was not offered.
    fn note_last_id(&self, last_id: u64) {
        let noted = &self.shared.writer.last_id;
        // Relaxed load: only the shard writes it.
        if noted.load(Ordering::Relaxed) == 0 {
            noted.store(last_id + 1, Ordering::Release);
        }
    }

    /// Events in all slots pushed.
    #[inline]
    fn pushed_events(&self) -> u64 {
        self.shared.writer.gauges.pushed_events()
    }

    /// How many of `events` events, in one slot of a block of this weight, may go in now.
    #[inline]
    fn room_for(&mut self, events: u32, weight: usize) -> u32 {
        let capacity = u64::from(self.shared.fate.capacity);
        // The ring's own bound on slots is the looser one; its `room` acquires the subscriber's counters.
        let slots = self.ring.room();
        // Acquire, partner `FeedConsumer::count_claimed`: the count may be newer than that room, and makes `push` find the
        // slots of all claims but the last given back.
        let claimed_events = self.shared.reader.claimed_events.load(Ordering::Acquire);
        let claimed_bytes = self.shared.reader.claimed_bytes.load(Ordering::Relaxed);
        let waiting = self.pushed_events() - claimed_events;
        if slots == 0 || self.is_too_heavy(weight, claimed_bytes) {
            return 0;
        }
        u64::from(events).min(capacity - waiting) as u32
    }

    /// Whether a block of this weight would pass the bound on bytes; into an empty ring it goes whatever it weighs.
    #[inline]
    fn is_too_heavy(&self, weight: usize, claimed_bytes: u64) -> bool {
        // Wrapping, as both counters do: a weigher may say that each event weighs all there is.
        let pushed_bytes = self.shared.writer.gauges.pushed_bytes();
        let pinned = pushed_bytes.wrapping_sub(claimed_bytes);
        pinned != 0 && pinned.saturating_add(weight as u64) > self.shared.fate.pin_bytes as u64
    }

    #[inline]
    fn push(&mut self, block: BlockRef<T>, mask: u64, weight: usize) {
        if self.gap_open {
            self.push_gap();
        }
        // Relaxed: as in `room_for`, which acquired what the ring says of it.
        let claimed = self.shared.reader.claimed_events.load(Ordering::Relaxed);
        self.shared.writer.gauges.pushed(&Pushed {
            events: u64::from(mask.count_ones()),
            bytes: weight as u64,
            claimed_events: claimed,
            created_at_ns: block.created_at_ns(),
        });
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
    fn push_gap(&mut self) {
        self.gap_open = false;
        if let Some(run) = self.shared.gap.take_back() {
            for word in run.to_words() {
                self.push_slot(Slot::Gap(word));
            }
        }
    }

    #[cold]
    fn lose(&mut self, block: &BlockRef<T>, mask: u64, reason: GapReason) -> bool {
        let id = |bit: u32| block.first_id() + u64::from(bit);
        let count = u64::from(mask.count_ones());
        let run = Run {
            from: id(mask.trailing_zeros()),
            to: id(63 - mask.leading_zeros()),
            count,
            reason: reason as u8,
        };
        let gap = &self.shared.gap;
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
        let lost = &self.shared.writer.lost[reason as usize];
        // Relaxed load: only we write it. Release: `stats`.
        lost.store(lost.load(Ordering::Relaxed) + count, Ordering::Release);
        true
    }
}

impl<T> Drop for FeedProducer<T> {
    fn drop(&mut self) {
        self.shared.fate.writer_gone.leave();
    }
}

/// The lowest `n` set bits of a mask.
fn lowest(mask: u64, n: u32) -> u64 {
    if n >= mask.count_ones() {
        return mask;
    }
    let mut rest = mask;
    for _ in 0..n {
        rest &= rest - 1;
    }
    mask & !rest
}

/// What a subscriber finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// `take` will give an event.
    Event,
    /// This was lost here.
    Gap(Gap),
    /// Nothing yet.
    Empty,
    /// Everything was read, and nothing more will come.
    Closed,
    /// It was cancelled, or the bus broke.
    Ended(End),
}

/// The subscriber's end.
pub(crate) struct FeedConsumer<T> {
    ring: spsc::Consumer<Slot<T>>,
    shared: Arc<FeedShared>,
    /// The claimed slot; kept until the next look, since the program may still read its last event.
    block: Option<BlockRef<T>>,
    /// Events of the claimed slot that were not taken yet.
    mask: u64,
    /// The program was told that the bus is closed: it is not told anything else later.
    told_closed: bool,
    /// Where the latencies of sampled events go.
    #[cfg(feature = "latency")]
    recorder: Option<Arc<Recorder>>,
    /// The sampled events of the claimed slot; 0 without a recorder.
    #[cfg(feature = "latency")]
    sampled: u64,
}

impl<T> FeedConsumer<T> {
    pub(crate) fn shared(&self) -> &Arc<FeedShared> {
        &self.shared
    }

    /// Whether something other than the closing of the ring has ended it.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.end() != End::None
    }

    /// Looks for the next thing to tell. Finishes whatever other threads do.
    #[inline]
    pub(crate) fn look(&mut self) -> Found {
        let end = self.shared.end();
        if end == End::Cancelled {
            if self.told_closed {
                return Found::Closed;
            }
            self.let_go();
            return Found::Ended(end);
        }
        if self.mask != 0 {
            return Found::Event;
        }
        match self.claim() {
            Found::Empty if end == End::Broken => Found::Ended(end),
            found => found,
        }
    }

    /// The event that `look` found.
    #[inline]
    pub(crate) fn take(&mut self) -> &Event<T> {
        let index = self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        #[cfg(feature = "latency")]
        self.record(1 << index);
        self.count_received(1);
        let block = self.block.as_ref().expect("a mask has a block");
        &block.events()[index]
    }

    /// All the rest of the slot that `look` found an event in.
    pub(crate) fn take_slot(&mut self) -> (BlockRef<T>, u64) {
        let mask = std::mem::take(&mut self.mask);
        #[cfg(feature = "latency")]
        self.record(mask);
        self.count_received(u64::from(mask.count_ones()));
        (self.block.take().expect("a mask has a block"), mask)
    }

    /// Which events of the slot that `look` found an event in were not taken yet.
    pub(crate) fn mask(&self) -> u64 {
        self.mask
    }

    /// Number `index` of that slot's block.
    pub(crate) fn event(&self, index: u32) -> Option<&Event<T>> {
        self.block.as_ref()?.events().get(index as usize)
    }

    /// The events of that slot, to be taken one by one.
    #[inline]
    pub(crate) fn slot(&mut self) -> SlotEvents<'_, T> {
        let block = self.block.as_ref().expect("a mask has a block");
        let received = &self.shared.reader.received;
        SlotEvents {
            events: block.events(),
            left: self.mask,
            mask: &mut self.mask,
            // Relaxed: only this side writes it.
            count: received.load(Ordering::Relaxed),
            received,
        }
    }

    /// Events received.
    pub(crate) fn received(&self) -> u64 {
        // Relaxed: only this side writes it.
        self.shared.reader.received.load(Ordering::Relaxed)
    }

    pub(crate) fn set_received(&self, received: u64) {
        // Release, partner `FeedShared::stats`.
        self.shared
            .reader
            .received
            .store(received, Ordering::Release);
    }

    /// The events of that slot are handed out now, one by one.
    #[inline]
    pub(crate) fn hands_out(&self) {
        #[cfg(feature = "latency")]
        self.record(self.mask);
    }

    /// Latencies of sampled events go there from now on.
    #[cfg(feature = "latency")]
    pub(crate) fn recording_into(mut self, recorder: Arc<Recorder>) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// These events of the claimed slot are handed out now.
    #[cfg(feature = "latency")]
    #[inline(always)]
    fn record(&self, mask: u64) {
        if self.sampled & mask == 0 {
            return;
        }
        if let (Some(recorder), Some(block)) = (&self.recorder, &self.block) {
            recorder.record(block.stamps(), mask);
        }
    }

    /// The waker to register before `doze`.
    pub(crate) fn waker(&self) -> &AtomicWaker {
        match &self.shared.listener {
            Reader::Waiting(waker) => waker,
            Reader::Called(_) => unreachable!("who is called does not wait"),
        }
    }

    /// Asks to be woken, and looks once more. `false`: there is something.
    pub(crate) fn doze(&mut self) -> bool {
        self.ring.doze() == Doze::Asleep
            && !self.shared.gap.lies_at(self.ring.position())
            && self.shared.end() == End::None
    }

    #[inline]
    fn count_received(&mut self, n: u64) {
        let received = &self.shared.reader.received;
        // Relaxed load: only we write it. Release, partner `FeedShared::stats`.
        received.store(received.load(Ordering::Relaxed) + n, Ordering::Release);
    }

    fn claim(&mut self) -> Found {
        self.block = None;
        match self.ring.pop() {
            Some(Slot::Events { block, mask }) => {
                self.claimed(block, mask);
                return Found::Event;
            }
            Some(Slot::Gap(first)) => {
                let gap = self.claim_behind_gap(first);
                return self.told(gap);
            }
            None => {}
        }
        if let Some(run) = self.shared.gap.take(self.ring.position()) {
            return self.told(Gap::of_run(run));
        }
        if !self.ring.is_finished() {
            return Found::Empty;
        }
        if self.told_closed {
            return Found::Closed;
        }
        // The shard closes the ring of a cancelled subscription, too, and that may all have happened since `look` asked
        // for the end. The cancel is visible now that the close is.
        if self.shared.end() == End::Cancelled {
            self.let_go();
            return Found::Ended(End::Cancelled);
        }
        // So is a gap that was opened just before the ring was closed.
        match self.shared.gap.take(self.ring.position()) {
            Some(run) => self.told(Gap::of_run(run)),
            None => {
                self.told_closed = true;
                Found::Closed
            }
        }
    }

    fn claimed(&mut self, block: BlockRef<T>, mask: u64) {
        self.count_claimed(u64::from(mask.count_ones()), block.weight() as u64);
        self.shared.reader.gauges.claimed(block.created_at_ns());
        self.mask = mask;
        #[cfg(feature = "latency")]
        if self.recorder.is_some() {
            self.sampled = block.stamps().mask() & mask;
        }
        self.block = Some(block);
        if self.ring.release() {
            self.arrive_if_wanted();
        }
    }

    /// Claims the events behind a gap whose first word was popped, and returns the gap.
    #[cold]
    fn claim_behind_gap(&mut self, first: u64) -> Gap {
        let mut words = [first; GAP_SLOTS];
        let mut at = 1;
        loop {
            match self.ring.pop() {
                Some(Slot::Gap(word)) => words[at] = word,
                Some(Slot::Events { block, mask }) => {
                    self.claimed(block, mask);
                    return Gap::of_run(Run::of_words(words));
                }
                None => unreachable!("a gap is published with the events behind it"),
            }
            at += 1;
        }
    }

    fn told(&self, gap: Gap) -> Found {
        self.shared.reader.gauges.told_lost(gap.count());
        Found::Gap(gap)
    }

    #[inline]
    fn count_claimed(&self, events: u64, bytes: u64) {
        let ReaderCounters {
            claimed_events,
            claimed_bytes,
            ..
        } = &self.shared.reader;
        // Relaxed loads: only we write them. Release, partner `FeedShared::stats`; the shard reads the bytes after it acquired
        // the release of the slots, which follows. Wrapping, as the shard's counter does.
        let bytes_before = claimed_bytes.load(Ordering::Relaxed);
        claimed_bytes.store(bytes_before.wrapping_add(bytes), Ordering::Release);
        let events_before = claimed_events.load(Ordering::Relaxed);
        // Release, partner `FeedProducer::room_for`: the slots of earlier claims were given back.
        claimed_events.store(events_before + events, Ordering::Release);
    }

    /// The shard waits for room: is it enough by now?
    #[cold]
    fn arrive_if_wanted(&mut self) {
        // Relaxed: came with the flag that `ring.release` acquired.
        let wanted = self.shared.writer.wanted.load(Ordering::Relaxed);
        // Relaxed: our own.
        let claimed = self.shared.reader.claimed_events.load(Ordering::Relaxed);
        if claimed >= wanted && self.ring.rouse() {
            self.shared.fate.latch.arrive_and_call();
        }
    }

    /// Drops what is left, and lets a shard that waits for room go on.
    #[cold]
    fn let_go(&mut self) {
        self.block = None;
        self.mask = 0;
        let (mut events, mut bytes) = (0, 0_u64);
        while let Some(slot) = self.ring.pop() {
            if let Slot::Events { block, mask } = &slot {
                events += u64::from(mask.count_ones());
                bytes = bytes.wrapping_add(block.weight() as u64);
            }
        }
        if events != 0 {
            // Before the count: these are many claims at once.
            self.ring.release();
            self.count_claimed(events, bytes);
        }
        if self.ring.rouse() {
            self.shared.fate.latch.arrive_and_call();
        }
    }
}

/// A claimed slot, event by event; what is not taken stays. It keeps its counts in registers: a handler's loop is short.
pub(crate) struct SlotEvents<'a, T> {
    events: &'a [Event<T>],
    /// Not taken yet.
    left: u64,
    /// Where that is noted in the end.
    mask: &'a mut u64,
    /// Events received.
    count: u64,
    received: &'a AtomicU64,
}

impl<'a, T> SlotEvents<'a, T> {
    /// Takes the next event. It counts as received with [`count`](Self::count).
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<&'a Event<T>> {
        let index = self.left.trailing_zeros() as usize;
        self.left &= self.left.wrapping_sub(1);
        // With nothing left, the index is past the end.
        self.events.get(index)
    }

    /// Counts an event as received, and says how many there are now.
    #[inline(always)]
    pub(crate) fn count(&mut self) -> u64 {
        self.count += 1;
        // Release, partner `FeedShared::stats`.
        self.received.store(self.count, Ordering::Release);
        self.count
    }
}

impl<T> Drop for SlotEvents<'_, T> {
    /// Also when a handler panics.
    #[inline(always)]
    fn drop(&mut self) {
        *self.mask = self.left;
    }
}

impl<T> Drop for FeedConsumer<T> {
    fn drop(&mut self) {
        self.shared.finish(End::Cancelled);
        self.let_go();
        self.shared.fate.reader_gone.leave();
    }
}
