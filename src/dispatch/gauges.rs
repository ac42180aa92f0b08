//! How full a feed is, how far its subscriber is behind, and how much it pins.
//!
//! Each side writes its own half, at most once per slot (`Conflate`: per event), by plain stores to a line that it writes at
//! that moment anyway.
//! Nobody on the path reads them; whoever asks for statistics puts the two halves together.
//!
//! **Lag in time** is the time between the newest event that matched and where the subscriber is. Where it is: at the block
//! that it claimed last, or, if it had claimed everything, at the block that then ended its idleness. So a
//! subscriber that was idle for an hour is not an hour behind with its next event. Exact to a block.

use crate::sync::Ordering;
use crate::sync::unmodelled::{AtomicBool, AtomicU64};

/// The shard's half.
pub(crate) struct WriterGauges {
    /// Events in all slots pushed.
    pushed_events: AtomicU64,
    /// Weight of the blocks in all slots pushed, wrapping; a block that took two slots counts twice.
    pushed_bytes: AtomicU64,
    /// Events that waited at once at most, 0 to the capacity.
    high_water: AtomicU64,
    /// Time of the newest event that matched, in nanoseconds since the Unix epoch; 0: none has.
    newest_at_ns: AtomicU64,
    /// Time of the last event that was pushed while nothing waited.
    resumed_at_ns: AtomicU64,
}

/// The subscriber's half.
pub(crate) struct ReaderGauges {
    /// Lost events that the program was told of.
    report_lost: AtomicU64,
    /// Time of the block claimed last, in nanoseconds since the Unix epoch; 0: none was.
    claimed_at_ns: AtomicU64,
}

/// Says that a side has gone. Both lie apart from the halves, where there is room for a byte.
pub(crate) struct Gone(AtomicBool);

/// What a push has to say.
pub(crate) struct Pushed {
    /// Events of the slot, up to 64.
    pub(crate) events: u64,
    /// Weight of its block.
    pub(crate) bytes: u64,
    /// Nothing else waits.
    pub(crate) alone: bool,
    /// Time of the block.
    pub(crate) created_at_ns: u64,
}

/// Both halves, read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    /// Events that wait in the ring, 0 to the capacity.
    pub(crate) depth: u64,
    pub(crate) high_water: u64,
    /// Weight of the blocks that wait in the ring; a block in two slots counts twice.
    pub(crate) pinned_bytes: u64,
    /// Lost events that the program was told of.
    pub(crate) report_lost: u64,
    /// From where the subscriber is to the newest event that matched. Means nothing if it is not behind.
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

    #[inline]
    pub(crate) fn matched(&self, created_at_ns: u64) {
        // Relaxed, as below: only the shard writes these; the commit of the ring publishes them.
        self.newest_at_ns.store(created_at_ns, Ordering::Relaxed);
    }

    /// For the shard: events in all slots pushed.
    #[inline]
    pub(crate) fn pushed_events(&self) -> u64 {
        // Relaxed, as is the next: the shard reads what it wrote.
        self.pushed_events.load(Ordering::Relaxed)
    }

    /// For the shard: weight of the blocks in all slots pushed.
    #[inline]
    pub(crate) fn pushed_bytes(&self) -> u64 {
        self.pushed_bytes.load(Ordering::Relaxed)
    }

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

    /// So many events more, of a block whose bytes were counted.
    #[inline]
    pub(crate) fn pushed_more(&self, events: u64) {
        let events = self.pushed_events() + events;
        self.pushed_events.store(events, Ordering::Relaxed);
    }

    /// So many events wait now.
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
            report_lost: AtomicU64::new(0),
            claimed_at_ns: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn claimed(&self, created_at_ns: u64) {
        // Relaxed: only the subscriber writes it; its next Release, of the claimed events, publishes it.
        self.claimed_at_ns.store(created_at_ns, Ordering::Relaxed);
    }

    /// Lost events that the program was told of.
    pub(crate) fn reported_lost_events(&self) -> u64 {
        // Acquire, partner `report_lost`.
        self.report_lost.load(Ordering::Acquire)
    }

    #[cold]
    pub(crate) fn report_lost(&self, count: u64) {
        // Relaxed load: only the subscriber writes it. Release, partner `read`: these were lost before.
        let told = self.report_lost.load(Ordering::Relaxed) + count;
        self.report_lost.store(told, Ordering::Release);
    }
}

impl Gone {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// The side goes, and its counters are final.
    pub(crate) fn leave(&self) {
        // Release, partner `has_left`: the final counters go with it.
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn has_left(&self) -> bool {
        // Acquire, partner `leave`.
        self.0.load(Ordering::Acquire)
    }
}

/// What a subscriber has claimed, by its counters. They are read (Acquire) before [`read`], and perhaps once more after it, to
/// see whether they moved: the depth and the pinned bytes are of one moment if they did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) events: u64,
    /// Wrapping.
    pub(crate) bytes: u64,
}

/// Puts the halves together.
pub(crate) fn read(
    writer: &WriterGauges,
    reader: &ReaderGauges,
    reader_gone: &Gone,
    claimed: Claimed,
) -> Gauges {
    // The newest first: what is read late must not make the subscriber look further behind than it was.
    // Acquire, as the next two, though nothing is published with them: what is read behind them is not read before.
    let newest_at_ns = writer.newest_at_ns.load(Ordering::Acquire);
    // What is claimed was pushed before, and the claim was acquired: so pushed is never the smaller.
    let pushed_events = writer.pushed_events.load(Ordering::Acquire);
    let pushed_bytes = writer.pushed_bytes.load(Ordering::Acquire);
    let resumed_at_ns = writer.resumed_at_ns.load(Ordering::Relaxed);
    let here_ns = reader
        .claimed_at_ns
        .load(Ordering::Relaxed)
        .max(resumed_at_ns);
    // What the shard pushed too late for a dropped subscriber went with the ring.
    let waits = !reader_gone.has_left();
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
        report_lost: reader.reported_lost_events(),
        behind_ns: newest_at_ns.saturating_sub(here_ns),
    }
}
