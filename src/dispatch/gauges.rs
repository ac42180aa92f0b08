//! Gauges of a feed: how full it is, how far its subscriber is behind, and how many bytes it pins.
//!
//! Each side writes its own half, at most once per slot (under `Conflate`, once per event), with
//! plain stores to a cache line that it writes at that moment anyway. The path of an event does not
//! read them, apart from what a side reads back of its own half; [`read`] puts the two halves
//! together when a caller reads the statistics.
//!
//! **Lag in time** is the time from where the subscriber is to the newest event that matched. The
//! subscriber is at the block that it claimed last; or, if it had claimed everything, at the first
//! block that was pushed after that. So a subscriber that was idle for an hour is not an hour
//! behind when its next event arrives. The lag is exact to a block.

use crate::sync::Ordering;
use crate::sync::unmodelled::{AtomicBool, AtomicU64};

/// The shard's half.
pub(crate) struct WriterGauges {
    /// Events in all slots pushed.
    pushed_events: AtomicU64,
    /// Weight of the blocks in all slots pushed, in bytes, wrapping. A block in two slots counts
    /// twice.
    pushed_bytes: AtomicU64,
    /// The most events that have waited at once, 0 to the capacity.
    high_water: AtomicU64,
    /// Time of the newest event that matched, in nanoseconds since the Unix epoch; 0: none has.
    newest_at_ns: AtomicU64,
    /// Time of the last event that was pushed into an empty ring; 0: none was.
    resumed_at_ns: AtomicU64,
}

/// The subscriber's half.
pub(crate) struct ReaderGauges {
    /// Lost events that were reported to the program.
    reported_lost: AtomicU64,
    /// Time of the block claimed last, in nanoseconds since the Unix epoch; 0: none was claimed.
    claimed_at_ns: AtomicU64,
}

/// Says that one side of a feed has been dropped. Both flags of a feed lie outside of the halves,
/// where padding has room for them.
pub(crate) struct DroppedFlag(AtomicBool);

/// What the gauges record of a push.
pub(crate) struct Pushed {
    /// Events of the slot, 0 to 64.
    pub(crate) events: u64,
    /// Weight of its block, in bytes.
    pub(crate) bytes: u64,
    /// Whether nothing else waits in the ring.
    pub(crate) alone: bool,
    /// Time of the block, in nanoseconds since the Unix epoch.
    pub(crate) created_at_ns: u64,
}

/// The gauges of both halves, put together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    /// Events that wait in the ring, 0 to the capacity.
    pub(crate) depth: u64,
    /// The most events that have waited at once, 0 to the capacity.
    pub(crate) high_water: u64,
    /// Weight of the blocks that wait in the ring, in bytes. A block in two slots counts twice.
    pub(crate) pinned_bytes: u64,
    /// Lost events that were reported to the program.
    pub(crate) reported_lost: u64,
    /// Nanoseconds from where the subscriber is to the newest event that matched. Only meaningful
    /// while the subscriber is behind.
    pub(crate) behind_ns: u64,
}

impl WriterGauges {
    pub(crate) fn new() -> Self {
        Self {
            pushed_events: AtomicU64::new(0),
            pushed_bytes: AtomicU64::new(0),
            high_water: AtomicU64::new(0),
            newest_at_ns: AtomicU64::new(0),
            resumed_at_ns: AtomicU64::new(0),
        }
    }

    /// An event of this time matched.
    #[inline]
    pub(crate) fn matched(&self, created_at_ns: u64) {
        // Relaxed, as all stores of this half: only the shard writes it, and the commit of the ring
        // publishes it.
        self.newest_at_ns.store(created_at_ns, Ordering::Relaxed);
    }

    /// Events in all slots pushed. For the shard, which reads its own counter.
    #[inline]
    pub(crate) fn pushed_events(&self) -> u64 {
        // Relaxed, as in the next function: only the caller writes it.
        self.pushed_events.load(Ordering::Relaxed)
    }

    /// Weight of the blocks in all slots pushed, wrapping. For the shard.
    #[inline]
    pub(crate) fn pushed_bytes(&self) -> u64 {
        self.pushed_bytes.load(Ordering::Relaxed)
    }

    /// The shard has pushed a slot.
    #[inline]
    pub(crate) fn pushed(&self, pushed: &Pushed) {
        self.pushed_more(pushed.events);
        let bytes = self.pushed_bytes().wrapping_add(pushed.bytes);
        self.pushed_bytes.store(bytes, Ordering::Relaxed);
        if pushed.alone {
            self.resumed_at_ns
                .store(pushed.created_at_ns, Ordering::Relaxed);
        }
    }

    /// The shard has pushed `events` events of a block whose bytes were counted before.
    #[inline]
    pub(crate) fn pushed_more(&self, events: u64) {
        let events = self.pushed_events() + events;
        self.pushed_events.store(events, Ordering::Relaxed);
    }

    /// `events` events wait in the ring now.
    #[inline]
    pub(crate) fn waits(&self, events: u64) {
        if events > self.high_water.load(Ordering::Relaxed) {
            self.high_water.store(events, Ordering::Relaxed);
        }
    }
}

impl ReaderGauges {
    pub(crate) fn new() -> Self {
        Self {
            reported_lost: AtomicU64::new(0),
            claimed_at_ns: AtomicU64::new(0),
        }
    }

    /// The subscriber has claimed a slot with a block of this time.
    #[inline]
    pub(crate) fn claimed(&self, created_at_ns: u64) {
        // Relaxed: only the subscriber writes it, and its next Release store, of the claimed
        // events, publishes it.
        self.claimed_at_ns.store(created_at_ns, Ordering::Relaxed);
    }

    /// Lost events that were reported to the program.
    pub(crate) fn reported_lost_events(&self) -> u64 {
        // Acquire, partner the store in `report_lost`: the events were counted as lost before.
        self.reported_lost.load(Ordering::Acquire)
    }

    /// The subscriber has reported a loss of `count` events to the program.
    #[cold]
    pub(crate) fn report_lost(&self, count: u64) {
        debug_assert!(count > 0, "a loss of no events");
        // Relaxed load: only the subscriber writes it.
        let reported = self.reported_lost.load(Ordering::Relaxed) + count;
        // Release, partner `reported_lost_events`.
        self.reported_lost.store(reported, Ordering::Release);
    }
}

impl DroppedFlag {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// The side is dropped, and its counters are final.
    pub(crate) fn set(&self) {
        // Release, partner `is_set`: the final counters go with it.
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_set(&self) -> bool {
        // Acquire, partner `set`.
        self.0.load(Ordering::Acquire)
    }
}

/// What a subscriber has claimed, by its counters. The caller loads them (Acquire) before [`read`],
/// and may load them again afterwards: if they are still the same, the depth and the pinned bytes
/// belong to the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) events: u64,
    /// Wrapping.
    pub(crate) bytes: u64,
}

/// Puts the two halves together.
pub(crate) fn read(
    writer: &WriterGauges,
    reader: &ReaderGauges,
    reader_dropped: &DroppedFlag,
    claimed: Claimed,
) -> Gauges {
    // The newest time is loaded first: a position of the subscriber that is loaded later can only
    // make it look closer than it was. This load and the next two are Acquire, although no store
    // with Release is their partner: it keeps the loads that follow them from being done earlier.
    let newest_at_ns = writer.newest_at_ns.load(Ordering::Acquire);
    // What is claimed was pushed before, and the caller has acquired the claim. So the number of
    // events pushed is never the smaller one.
    let pushed_events = writer.pushed_events.load(Ordering::Acquire);
    let pushed_bytes = writer.pushed_bytes.load(Ordering::Acquire);
    let resumed_at_ns = writer.resumed_at_ns.load(Ordering::Relaxed);
    let here_ns = reader
        .claimed_at_ns
        .load(Ordering::Relaxed)
        .max(resumed_at_ns);
    // Once the subscriber was dropped, nothing waits: what the shard still pushes is dropped with
    // the ring.
    let waits = !reader_dropped.is_set();
    Gauges {
        depth: if waits {
            pushed_events.saturating_sub(claimed.events)
        } else {
            0
        },
        high_water: writer.high_water.load(Ordering::Relaxed),
        pinned_bytes: if waits {
            pushed_bytes.wrapping_sub(claimed.bytes)
        } else {
            0
        },
        reported_lost: reader.reported_lost_events(),
        behind_ns: newest_at_ns.saturating_sub(here_ns),
    }
}
