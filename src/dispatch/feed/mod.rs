//! A subscriber's ring: `(block, mask)` slots, bounded by events and by bytes, with its losses in their places.
//!
//! The [`FeedProducer`] belongs to the shard, the [`FeedConsumer`] to the subscriber. Between them:
//!
//! * the ring of slots, one reference count and one slot for up to 64 events: what the policy asks for, [`bounded`], [`newest`]
//!   or [`conflated`];
//! * what was lost, once something was: [`Losses`];
//! * counters, each written by one side; but by both, what has left a ring that both take from;
//! * how it ended.
//!
//! **Capacity** counts events that wait in the ring. A slot that the subscriber has claimed no longer counts: at most
//! 63 events more, beside the one that is being read. The same goes for `pin_bytes`, with the weight of one
//! block.
//!
//! **Accounting**: every event matched is received, lost, superseded or unread, where unread is what waits in the ring, in
//! the claimed slot, or, for a `Block` subscriber without room, in front of the ring.
//!
//! **The bad days.** Full: see [`Overflow`]. The subscriber goes: what it left is dropped at once, what the shard
//! still pushes, when the shard lets go. Closing: the ring is closed behind the last event, and the subscriber
//! reads up to there.

mod bounded;
mod conflated;
mod consumer;
mod newest;
mod producer;

use std::mem::offset_of;
use std::sync::Weak;

pub(crate) use consumer::{FeedConsumer, Found};
use consumer::{ReadEnd, Reported};
pub(crate) use producer::FeedProducer;
use producer::WriteEnd;

use super::block::BlockRef;
use super::gauges::{self, Gauges, Gone, ReaderGauges, WriterGauges};
use super::loss::{Gap, GapReason, Overflow};
use super::signal::Latch;
use crate::park::wake_registered;
use crate::ring::gap::GapCell;
use crate::ring::once_box::OnceBox;
use crate::sync::{Arc, AtomicU8, AtomicU64, AtomicWaker, CACHE_LINE, Ordering};

/// Bounds of one subscriber's ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Events that wait, 1 to [`CAPACITY_MAX`](crate::limits::CAPACITY_MAX).
    pub(crate) capacity: usize,
    /// Bytes that waiting blocks pin; one block of any weight always fits into an empty ring.
    pub(crate) pin_bytes: usize,
    pub(crate) overflow: Overflow,
}

/// Makes the two ends.
pub(crate) fn feed<T>(
    limits: Limits,
    latch: Arc<Latch>,
    reader: Listener,
) -> (FeedProducer<T>, FeedConsumer<T>) {
    let (write, read) = match limits.overflow {
        Overflow::DropOldest => {
            let (write, read) = newest::queue(limits.capacity);
            (WriteEnd::Newest(write), ReadEnd::Newest(read))
        }
        Overflow::Conflate => {
            let (write, read) = conflated::queue(limits.capacity);
            (WriteEnd::Conflated(write), ReadEnd::Conflated(read))
        }
        Overflow::DropNewest | Overflow::Block | Overflow::Disconnect => {
            let (write, read) = bounded::queue(limits.capacity);
            (WriteEnd::Bounded(write), ReadEnd::Bounded(read))
        }
    };
    let shared = Arc::new(FeedShared::new(limits, latch, reader));
    let producer = FeedProducer {
        queue: write,
        shared: shared.clone(),
        dirty: false,
    };
    let consumer = FeedConsumer {
        queue: read,
        shared,
        block: None,
        mask: 0,
        reported: Reported::Going,
        #[cfg(feature = "latency")]
        recorder: None,
        #[cfg(feature = "latency")]
        sampled: 0,
    };
    (producer, consumer)
}

/// What a claim finds.
enum Claim<T> {
    Events {
        block: BlockRef<T>,
        /// At least one.
        mask: u64,
        /// What was lost in front of them.
        behind: Option<Gap>,
    },
    /// This was lost here, and nothing lies behind it yet.
    Gap(Gap),
    /// Nothing yet.
    Empty,
    /// Nothing, and nothing will come.
    Finished,
}

/// What the two ends, and the subscription's handle, share.
///
/// What each side writes all the time lies at one end, a cache line from what the other side does; in between, what
/// hardly changes. There is no other padding, since every subscription pays for it: see [`spsc`](crate::ring::spsc).
#[repr(C)]
pub(crate) struct FeedShared {
    /// Written by the shard.
    writer: WriterCounters,
    /// Read by the subscriber once per event.
    status: FeedStatus,
    losses: OnceBox<Losses>,
    listener: Listener,
    /// Written by the subscriber; and by the shard, when it evicts from the ring or replaces what is in it.
    reader: ReaderCounters,
}

const _: () =
    assert!(offset_of!(FeedShared, reader) - offset_of!(FeedShared, writer) >= CACHE_LINE);

/// Who is told that there is something to read.
pub(crate) enum Listener {
    /// A thread or a task that waits.
    Waker(AtomicWaker),
    /// Somebody who has it read. Weak: he owns the other end.
    Callback(Weak<dyn ReaderCallback>),
}

/// Has a ring read, soon and on another thread. Must neither wait nor panic.
pub(crate) trait ReaderCallback: Send + Sync {
    fn schedule_read(self: std::sync::Arc<Self>);
}

impl Listener {
    pub(crate) fn waker() -> Self {
        Self::Waker(AtomicWaker::new())
    }

    fn wake(&self) {
        match self {
            Self::Waker(waker) => wake_registered(waker),
            Self::Callback(reader) => {
                if let Some(reader) = reader.upgrade() {
                    reader.schedule_read();
                }
            }
        }
    }
}

/// The bounds are here alone: the shard needs them once per slot, when it looks here anyway.
struct FeedStatus {
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
    /// Events of the slots taken out of the ring, or evicted from it.
    claimed_events: AtomicU64,
    /// Weight of the blocks of those slots, wrapping.
    claimed_bytes: AtomicU64,
    gauges: ReaderGauges,
}

/// In this order: what is written for every slot lies on the first line.
#[repr(C)]
struct WriterCounters {
    matched: AtomicU64,
    gauges: WriterGauges,
    /// Ids of the first and last event dispatched to this subscription; 0: not known yet.
    first_id: AtomicU64,
    last_id: AtomicU64,
}

/// What a subscriber that keeps up never needs. Made by the shard.
struct Losses {
    /// The losses behind the last slot.
    gap: GapCell,
    lost: [AtomicU64; GapReason::COUNT],
    /// Events that were replaced by later ones of their topics.
    superseded: AtomicU64,
    /// The shard waits until this many events are claimed; or, having given up, does not wait until then.
    wanted: AtomicU64,
}

impl Losses {
    fn none() -> Self {
        Self {
            gap: GapCell::new(),
            lost: std::array::from_fn(|_| AtomicU64::new(0)),
            superseded: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
        }
    }
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
    /// The ring was full, under `Disconnect`.
    Disconnected = 3,
}

/// How often the counters of a feed are read before whoever asked gets numbers that are not of one moment. What moves is claims, one
/// per slot: to meet one at each try is to be very slow.
const STATS_TRIES: u32 = 8;

/// The counters of a feed, read one after the other: exact once nothing moves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FeedStats {
    /// Events that had matched before the others were counted.
    pub(crate) due: u64,
    /// Events that had matched after that.
    pub(crate) matched: u64,
    pub(crate) received: u64,
    pub(crate) lost: [u64; GapReason::COUNT],
    pub(crate) superseded: u64,
    pub(crate) first_id: Option<u64>,
    pub(crate) last_id: Option<u64>,
    pub(crate) gauges: Gauges,
}

impl FeedShared {
    fn new(limits: Limits, latch: Arc<Latch>, reader: Listener) -> Self {
        Self {
            writer: WriterCounters {
                matched: AtomicU64::new(0),
                first_id: AtomicU64::new(0),
                last_id: AtomicU64::new(0),
                gauges: WriterGauges::new(),
            },
            status: FeedStatus {
                end: AtomicU8::new(End::None as u8),
                writer_gone: Gone::new(),
                reader_gone: Gone::new(),
                overflow: limits.overflow,
                capacity: limits.capacity as u32,
                pin_bytes: limits.pin_bytes,
                latch,
            },
            losses: OnceBox::new(),
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
            .status
            .end
            .compare_exchange(
                End::None as u8,
                end as u8,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok();
        if first {
            self.listener.wake();
        }
        first
    }

    /// Wakes a subscriber that waits, though there is nothing to read.
    pub(crate) fn wake_reader(&self) {
        if let Listener::Waker(waker) = &self.listener {
            wake_registered(waker);
        }
    }

    #[inline]
    pub(crate) fn end(&self) -> End {
        // Acquire, partner `finish`.
        match self.status.end.load(Ordering::Acquire) {
            0 => End::None,
            1 => End::Cancelled,
            2 => End::Broken,
            _ => End::Disconnected,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            capacity: self.status.capacity as usize,
            pin_bytes: self.status.pin_bytes,
            overflow: self.status.overflow,
        }
    }

    /// Whether both ends are gone, so that what `stats` says from now on is final.
    pub(crate) fn is_settled(&self) -> bool {
        self.status.writer_gone.has_left() && self.status.reader_gone.has_left()
    }

    /// For the shard: weight of the blocks that wait.
    fn pinned_bytes(&self) -> u64 {
        // Acquire, partner `count_gone`: what has gone does not wait.
        let gone = self.reader.claimed_bytes.load(Ordering::Acquire);
        self.writer.gauges.pushed_bytes().wrapping_sub(gone)
    }

    /// The first to say so is right: a block that came after the end was not offered.
    fn note_last_id(&self, last_id: u64) {
        let noted = &self.writer.last_id;
        // Relaxed load: only the shard writes it.
        if noted.load(Ordering::Relaxed) == 0 {
            noted.store(last_id + 1, Ordering::Release);
        }
    }

    /// For the shard, which has something to note there.
    fn losses(&self) -> &Losses {
        self.losses.get_or_init(Losses::none)
    }

    fn count_superseded(&self, count: u64) {
        if count == 0 {
            return;
        }
        let superseded = &self.losses().superseded;
        // Relaxed load: only the shard writes it. Release: `stats`.
        superseded.store(
            superseded.load(Ordering::Relaxed) + count,
            Ordering::Release,
        );
    }

    fn count_lost(&self, count: u64, reason: GapReason) {
        if count == 0 {
            return; // the subscriber was quicker than whoever would have evicted
        }
        let lost = &self.losses().lost[reason as usize];
        // Relaxed load: only the shard writes it. Release: `stats`.
        lost.store(lost.load(Ordering::Relaxed) + count, Ordering::Release);
    }

    /// A slot was claimed, from a ring that only the subscriber takes from.
    #[inline]
    fn count_claimed(&self, events: u64, bytes: u64) {
        let ReaderCounters {
            claimed_events,
            claimed_bytes,
            ..
        } = &self.reader;
        // Relaxed loads: only the subscriber writes them. Release, partner `stats`; the shard reads the bytes after it
        // acquired the release of the slots, which follows. Wrapping, as the shard's counter does.
        let bytes_before = claimed_bytes.load(Ordering::Relaxed);
        claimed_bytes.store(bytes_before.wrapping_add(bytes), Ordering::Release);
        let events_before = claimed_events.load(Ordering::Relaxed);
        // Release, partner `room_for`: the slots of earlier claims were given back.
        claimed_events.store(events_before + events, Ordering::Release);
    }

    /// A slot was claimed or evicted, where both sides take from the ring. Statistics alone: the ring knows what waits.
    #[inline]
    fn count_gone(&self, events: u64, bytes: u64) {
        let ReaderCounters {
            claimed_events,
            claimed_bytes,
            ..
        } = &self.reader;
        // Release, partner `stats`. Often one of them stays as it is; and the line may be the subscriber's.
        for (counter, gone) in [(claimed_bytes, bytes), (claimed_events, events)] {
            if gone != 0 {
                counter.fetch_add(gone, Ordering::Release);
            }
        }
    }

    /// Events put into the ring so far. Whoever has seen the shard's `delivered_id` finds all up to there counted.
    pub(crate) fn pushed_events(&self) -> u64 {
        self.writer.gauges.pushed_events()
    }

    /// Whether what lay in the ring when so many events had been pushed has been handed to the program, or will never be.
    pub(crate) fn has_passed(&self, pushed_events: u64) -> bool {
        match self.end() {
            End::None | End::Disconnected => {
                self.passed_events() >= pushed_events || self.status.reader_gone.has_left()
            }
            // It reads nothing more, or not all that was counted.
            End::Cancelled | End::Broken => true,
        }
    }

    /// How far the subscriber has come: of the events pushed, so many from the front were received, or it was told that they
    /// were evicted. Not those evicted by now: they may lie behind events that the subscriber has claimed and not received.
    fn passed_events(&self) -> u64 {
        // Acquire, partner the Release store, as for what was told. Both only rise: the sum is never more than the truth.
        let received = self.reader.received.load(Ordering::Acquire);
        match self.status.overflow {
            Overflow::DropOldest | Overflow::Conflate => {
                received + self.reader.gauges.reported_lost_events()
            }
            // What these lose was never pushed.
            Overflow::DropNewest | Overflow::Block | Overflow::Disconnect => received,
        }
    }

    pub(crate) fn stats(&self) -> FeedStats {
        let mut claimed = self.claimed();
        for _ in 1..STATS_TRIES {
            let stats = self.read_stats(claimed);
            let later = self.claimed();
            if later == claimed {
                return stats;
            }
            claimed = later;
        }
        let mut stats = self.read_stats(claimed);
        // What was claimed in between may still be among them. That the bound holds is known.
        let pinned_bytes = &mut stats.gauges.pinned_bytes;
        *pinned_bytes = (*pinned_bytes).min(self.status.pin_bytes as u64);
        stats
    }

    fn claimed(&self) -> gauges::Claimed {
        // Acquire, partner the Release stores in `count_claimed` and `count_gone`.
        gauges::Claimed {
            events: self.reader.claimed_events.load(Ordering::Acquire),
            bytes: self.reader.claimed_bytes.load(Ordering::Acquire),
        }
    }

    /// See [`gauges::Claimed`].
    fn read_stats(&self, claimed: gauges::Claimed) -> FeedStats {
        let known = |id: &AtomicU64| Some(id.load(Ordering::Acquire)).filter(|&id| id != 0);
        // Acquire, partner the Release stores of each; so are the next.
        let due = self.writer.matched.load(Ordering::Acquire);
        // The reader's counter before what has matched by then: what it has received was matched before, so the numbers stay
        // plausible while events flow.
        let received = self.reader.received.load(Ordering::Acquire);
        let mut gauges = gauges::read(
            &self.writer.gauges,
            &self.reader.gauges,
            &self.status.reader_gone,
            claimed,
        );
        // A shard that makes room for what it pushes counts that first, and what it evicted for it a moment later.
        gauges.depth = gauges.depth.min(self.status.capacity.into());
        let losses = self.losses.get();
        FeedStats {
            due,
            received,
            gauges,
            lost: losses.map_or([0; GapReason::COUNT], |losses| {
                std::array::from_fn(|i| losses.lost[i].load(Ordering::Acquire))
            }),
            superseded: losses.map_or(0, |losses| losses.superseded.load(Ordering::Acquire)),
            matched: self.writer.matched.load(Ordering::Acquire),
            first_id: known(&self.writer.first_id),
            // Stored one up, so that "nothing was dispatched before it ended" (0) can be said.
            last_id: known(&self.writer.last_id).map(|id| id - 1),
        }
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

/// Ids of the first and the last event of a mask, in a block that begins with `first_id`.
fn first_and_last(first_id: u64, mask: u64) -> (u64, u64) {
    let id = |bit: u32| first_id + u64::from(bit);
    (id(mask.trailing_zeros()), id(63 - mask.leading_zeros()))
}

/// Drops all that can be claimed, and says what had been lost right in front of it.
fn drained<T>(mut claim: impl FnMut() -> Claim<T>) -> Option<Gap> {
    let mut here = None;
    let mut first = true;
    while let Claim::Events { behind, .. } = claim() {
        if std::mem::take(&mut first) {
            here = behind;
        }
    }
    here
}
