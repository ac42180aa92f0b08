//! What the two ends of a feed share with each other and with the subscription's handle.
//!
//! # The accounting invariant
//!
//! Every event that matched is received, lost, superseded or unread:
//!
//! ```text
//! matched = received + lost + superseded + unread
//! ```
//!
//! Unread events wait in the ring, in the claimed slot, or, for a `Block` subscriber without room,
//! in front of the ring. An event is counted as matched before it is counted anywhere else, and in
//! only one of the other counters. So `received + lost + superseded <= matched` at any time, and
//! both sides are equal once the subscriber has read everything. Debug builds assert both: see
//! [`FeedShared::stats`] and [`FeedShared::debug_check_all_read`].
//!
//! Each counter is written by one end, except for the events that left a ring from which both ends
//! take.
//!
//! # Failure modes
//!
//! * The counters are read one after the other, while events flow: [`FeedShared::stats`] reads them
//!   again if they moved, a bounded number of times. A snapshot that is still not consistent keeps
//!   to the bounds, and to the invariant.

use std::mem::offset_of;

use super::super::gauges::{self, DroppedFlag, Gauges, ReaderGauges, WriterGauges};
use super::super::loss::{Gap, GapReason, Overflow};
use super::super::signal::Latch;
use super::end::{End, EndState};
use super::{Limits, Listener};
use crate::ring::gap::GapCell;
use crate::ring::once_box::OnceBox;
use crate::sync::{Arc, AtomicU64, CACHE_LINE, Ordering};

/// What the two ends, and the subscription's handle, share.
///
/// The counters that one end writes all the time lie a cache line apart from those of the other
/// end. Fields that hardly change lie in between. There is no other padding, since every
/// subscription pays for it: see [`spsc`](crate::ring::spsc).
#[repr(C)]
pub(crate) struct FeedShared {
    /// Written by the shard.
    pub(super) writer: WriterCounters,
    /// Read by the subscriber once per event.
    pub(super) status: FeedStatus,
    pub(super) losses: OnceBox<Losses>,
    pub(super) listener: Listener,
    /// Written by the subscriber; and by the shard, when it evicts or replaces events in the ring.
    pub(super) reader: ReaderCounters,
}

const _: () =
    assert!(offset_of!(FeedShared, reader) - offset_of!(FeedShared, writer) >= CACHE_LINE);

/// The bounds are stored only here: the shard needs them once per slot, and reads this cache line
/// then anyway.
pub(super) struct FeedStatus {
    pub(super) end: EndState,
    /// The shard has dropped its end.
    pub(super) writer_dropped: DroppedFlag,
    /// The subscriber was dropped, so nothing waits any more.
    pub(super) reader_dropped: DroppedFlag,
    /// See [`Limits`], as for the next two.
    pub(super) overflow: Overflow,
    pub(super) capacity: u32,
    pub(super) pin_bytes: usize,
    pub(super) latch: Arc<Latch>,
}

pub(super) struct ReaderCounters {
    /// Events handed to the program, stored once per event.
    pub(super) received: AtomicU64,
    /// Events of the slots that were claimed or evicted.
    pub(super) claimed_events: AtomicU64,
    /// Weight of the blocks of those slots, wrapping.
    pub(super) claimed_bytes: AtomicU64,
    pub(super) gauges: ReaderGauges,
}

/// The order of the fields puts what is written for every slot on the first cache line.
#[repr(C)]
pub(super) struct WriterCounters {
    matched: AtomicU64,
    pub(super) gauges: WriterGauges,
    /// Id of the first event dispatched to this subscription; 0: none yet.
    pub(super) first_id: AtomicU64,
    /// Id of the last event dispatched to this subscription, plus 1; 0: not known yet.
    last_id: AtomicU64,
}

/// What a subscriber that keeps up never needs. Allocated by the shard.
pub(super) struct Losses {
    /// The losses behind the last slot of the ring.
    pub(super) gap: GapCell,
    /// By reason.
    lost: [AtomicU64; GapReason::COUNT],
    /// Events that later events of their topics replaced.
    superseded: AtomicU64,
    /// The shard waits until this many events are claimed; or, after it gave up, does not wait
    /// until then.
    pub(super) wanted: AtomicU64,
}

impl Losses {
    fn new() -> Self {
        Self {
            gap: GapCell::new(),
            lost: std::array::from_fn(|_| AtomicU64::new(0)),
            superseded: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
        }
    }
}

/// How often the counters of a feed are read before the caller gets a snapshot that may not be
/// consistent. Only a claim makes another try necessary, and there is one claim per slot, so only a
/// very slow caller needs all tries.
const STATS_TRIES: u32 = 8;

/// The counters of a feed. They are read one after the other, so they are exact once nothing moves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FeedStats {
    /// Events that had matched before the other counters were read.
    pub(crate) due: u64,
    /// Events that had matched after the other counters were read.
    pub(crate) matched: u64,
    pub(crate) received: u64,
    pub(crate) lost: [u64; GapReason::COUNT],
    pub(crate) superseded: u64,
    pub(crate) first_id: Option<u64>,
    pub(crate) last_id: Option<u64>,
    pub(crate) gauges: Gauges,
}

impl FeedStats {
    /// Events that are accounted for, and will not be read.
    fn settled(&self) -> u64 {
        self.received + self.lost.iter().sum::<u64>() + self.superseded
    }
}

impl FeedShared {
    pub(super) fn new(limits: Limits, latch: Arc<Latch>, listener: Listener) -> Self {
        Self {
            writer: WriterCounters {
                matched: AtomicU64::new(0),
                first_id: AtomicU64::new(0),
                last_id: AtomicU64::new(0),
                gauges: WriterGauges::new(),
            },
            status: FeedStatus {
                end: EndState::new(),
                writer_dropped: DroppedFlag::new(),
                reader_dropped: DroppedFlag::new(),
                overflow: limits.overflow,
                capacity: limits.capacity as u32,
                pin_bytes: limits.pin_bytes,
                latch,
            },
            losses: OnceBox::new(),
            listener,
            reader: ReaderCounters {
                received: AtomicU64::new(0),
                claimed_events: AtomicU64::new(0),
                claimed_bytes: AtomicU64::new(0),
                gauges: ReaderGauges::new(),
            },
        }
    }

    // ---- the end --------------------------------------------------------------------------------

    /// Ends the feed, unless it has ended, and notifies the subscriber. `true`: this call ended it.
    pub(crate) fn finish(&self, end: End) -> bool {
        let first = self.status.end.write(end);
        if first {
            // The waker's own protocol orders the end with a subscriber that is about to sleep.
            self.listener.notify();
            self.status.end.was_written();
        }
        first
    }

    /// Ends the feed because the bus is closed and everything was read. The subscriber reports this
    /// to the program, and no other end later. `false`: the feed has ended in another way.
    pub(super) fn finish_closed(&self) -> bool {
        self.status.end.write_closed()
    }

    /// Wakes a subscriber that waits, though there is nothing to read.
    pub(crate) fn wake_reader(&self) {
        self.listener.wake_waiting();
    }

    #[inline]
    pub(crate) fn end(&self) -> End {
        self.status.end.get()
    }

    /// To wait for the end.
    pub(crate) fn end_state(&self) -> &EndState {
        &self.status.end
    }

    /// What a feed that has ended as [`End::Disconnected`] had no room for.
    pub(crate) fn disconnected_by(&self) -> Option<Gap> {
        if self.end() != End::Disconnected {
            return None;
        }
        let losses = self.losses.get()?;
        Some(Gap::of_run(losses.gap.last_run()))
    }

    /// Whether the shard has closed the ring of a feed that has not ended in another way.
    pub(crate) fn is_closed(&self) -> bool {
        // In this order: another end is written before the shard drops its side.
        self.status.writer_dropped.is_set() && matches!(self.end(), End::None | End::Closed)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            capacity: self.status.capacity as usize,
            pin_bytes: self.status.pin_bytes,
            overflow: self.status.overflow,
        }
    }

    /// Whether both ends were dropped, so that the counters are final.
    pub(crate) fn is_settled(&self) -> bool {
        self.status.writer_dropped.is_set() && self.status.reader_dropped.is_set()
    }

    // ---- for the shard --------------------------------------------------------------------------

    /// Counts events that match, before they are offered.
    pub(super) fn count_matched(&self, events: u64) {
        let matched = &self.writer.matched;
        // Relaxed load: only the shard writes it. Release, partner `read_stats`.
        matched.store(matched.load(Ordering::Relaxed) + events, Ordering::Release);
    }

    /// Weight of the blocks that wait in the ring.
    pub(super) fn pinned_bytes(&self) -> u64 {
        // Acquire, partner `count_removed`: what was removed does not wait.
        let removed = self.reader.claimed_bytes.load(Ordering::Acquire);
        self.writer.gauges.pushed_bytes().wrapping_sub(removed)
    }

    /// Notes the last id that the subscription covers. Later calls have no effect: the shard did
    /// not offer any block that came after the end.
    pub(super) fn note_last_id(&self, last_id: u64) {
        let noted = &self.writer.last_id;
        // Relaxed load: only the shard writes it.
        if noted.load(Ordering::Relaxed) == 0 {
            // Release, partner `read_stats`.
            noted.store(last_id + 1, Ordering::Release);
        }
    }

    /// Where losses are counted. Allocated by the first call.
    pub(super) fn losses(&self) -> &Losses {
        self.losses.get_or_init(Losses::new)
    }

    pub(super) fn count_superseded(&self, count: u64) {
        if count == 0 {
            return;
        }
        let superseded = &self.losses().superseded;
        // Relaxed load: only the shard writes it. Release, partner `read_stats`.
        superseded.store(
            superseded.load(Ordering::Relaxed) + count,
            Ordering::Release,
        );
    }

    pub(super) fn count_lost(&self, count: u64, reason: GapReason) {
        if count == 0 {
            return; // the subscriber claimed what was to be evicted
        }
        let lost = &self.losses().lost[reason as usize];
        // Relaxed load: only the shard writes it. Release, partner `read_stats`.
        lost.store(lost.load(Ordering::Relaxed) + count, Ordering::Release);
    }

    // ---- for the ends ---------------------------------------------------------------------------

    /// A slot was claimed, in a ring from which only the subscriber takes.
    #[inline]
    pub(super) fn count_claimed(&self, events: u64, bytes: u64) {
        let ReaderCounters {
            claimed_events,
            claimed_bytes,
            ..
        } = &self.reader;
        // Relaxed loads: only the subscriber writes them. Release, partner `claimed`. The shard
        // reads the bytes after it acquired the release of the slots, which follows. Wrapping, as
        // the shard's counter is.
        let bytes_before = claimed_bytes.load(Ordering::Relaxed);
        claimed_bytes.store(bytes_before.wrapping_add(bytes), Ordering::Release);
        let events_now = claimed_events.load(Ordering::Relaxed) + events;
        debug_assert!(
            events_now <= self.pushed_events(),
            "claimed more than was pushed"
        );
        // Release, partner `room_for` in `bounded`: the slots of earlier claims were released.
        claimed_events.store(events_now, Ordering::Release);
    }

    /// Events were claimed, evicted or replaced, in a ring from which both ends take. These counts
    /// are for statistics and the bound on bytes; the ring itself counts what waits.
    #[inline]
    pub(super) fn count_removed(&self, events: u64, bytes: u64) {
        let ReaderCounters {
            claimed_events,
            claimed_bytes,
            ..
        } = &self.reader;
        // Release, partners `claimed` and `pinned_bytes`. A counter that does not change is not
        // written, since its cache line may be in the other end's cache.
        for (counter, removed) in [(claimed_bytes, bytes), (claimed_events, events)] {
            if removed != 0 {
                counter.fetch_add(removed, Ordering::Release);
            }
        }
    }

    /// In debug builds, asserts the accounting invariant where it holds exactly: the ring was
    /// closed, and the subscriber has read all of it, with every loss.
    pub(super) fn debug_check_all_read(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let stats = self.read_stats(self.claimed());
        assert_eq!(
            stats.settled(),
            stats.matched,
            "the accounting invariant: {stats:?}"
        );
        let lost: u64 = stats.lost.iter().sum();
        assert_eq!(
            stats.gauges.reported_lost, lost,
            "each loss is reported exactly once: {stats:?}"
        );
    }

    // ---- for the subscription's handle ----------------------------------------------------------

    /// Events pushed into the ring so far. A caller that has seen the shard's `delivered_id` finds
    /// all events up to that id counted.
    pub(crate) fn pushed_events(&self) -> u64 {
        self.writer.gauges.pushed_events()
    }

    /// Whether the events that were in the ring when `pushed_events` had been pushed have been
    /// handed to the program, or never will be.
    pub(crate) fn has_passed(&self, pushed_events: u64) -> bool {
        match self.end() {
            End::None | End::Disconnected => {
                self.passed_events() >= pushed_events || self.status.reader_dropped.is_set()
            }
            // The subscriber reads nothing more, or not all that was counted.
            End::Cancelled | End::Broken | End::Closed => true,
        }
    }

    /// How far the subscriber has read: how many of the events pushed, from the front, were
    /// received, or were reported as evicted. Evicted events that were not reported yet do not
    /// count: they may lie behind events that the subscriber has claimed and not received.
    fn passed_events(&self) -> u64 {
        // Acquire, partner the Release stores. Both only rise, so the sum is never more than the
        // truth.
        let received = self.reader.received.load(Ordering::Acquire);
        match self.status.overflow {
            Overflow::DropOldest | Overflow::Conflate => {
                received + self.reader.gauges.reported_lost_events()
            }
            // What these policies lose was never pushed.
            Overflow::DropNewest | Overflow::Block | Overflow::Disconnect => received,
        }
    }

    /// Reads the counters, again if a claim moved them meanwhile, a bounded number of times.
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
        // The bytes of what was claimed in between may still be among them, but the ring keeps to
        // the bound, except for one block that is heavier than the bound alone.
        let pinned_bytes = &mut stats.gauges.pinned_bytes;
        *pinned_bytes = (*pinned_bytes).min(self.status.pin_bytes as u64);
        stats
    }

    fn claimed(&self) -> gauges::Claimed {
        // Acquire, partner the Release stores in `count_claimed` and `count_removed`.
        gauges::Claimed {
            events: self.reader.claimed_events.load(Ordering::Acquire),
            bytes: self.reader.claimed_bytes.load(Ordering::Acquire),
        }
    }

    /// Reads the counters once; see [`gauges::Claimed`].
    fn read_stats(&self, claimed: gauges::Claimed) -> FeedStats {
        let known = |id: &AtomicU64| Some(id.load(Ordering::Acquire)).filter(|&id| id != 0);
        // All loads here are Acquire; their partners are the Release stores of the counters.
        let due = self.writer.matched.load(Ordering::Acquire);
        // Before the second load of `matched`: an event is matched before it is received, so the
        // numbers stay plausible while events flow.
        let received = self.reader.received.load(Ordering::Acquire);
        let mut gauges = gauges::read(
            &self.writer.gauges,
            &self.reader.gauges,
            &self.status.reader_dropped,
            claimed,
        );
        // A shard that makes room for what it pushes counts the push first, and what it evicted for
        // it a moment later.
        gauges.depth = gauges.depth.min(self.status.capacity.into());
        let losses = self.losses.get();
        let stats = FeedStats {
            due,
            received,
            gauges,
            lost: losses.map_or([0; GapReason::COUNT], |losses| {
                std::array::from_fn(|i| losses.lost[i].load(Ordering::Acquire))
            }),
            superseded: losses.map_or(0, |losses| losses.superseded.load(Ordering::Acquire)),
            matched: self.writer.matched.load(Ordering::Acquire),
            first_id: known(&self.writer.first_id),
            // Stored plus 1, so that 0 can stand for a subscription that ended before its first
            // event.
            last_id: known(&self.writer.last_id).map(|id| id - 1),
        };
        debug_assert!(
            stats.settled() <= stats.matched,
            "the accounting invariant: {stats:?}"
        );
        stats
    }
}
