//! How full a feed is, how far its subscriber is behind, and how much it pins.
//!
//! Each side writes its own half, at most once per slot, by plain stores to a line that it writes at that moment anyway.
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
    /// Weight of the blocks in all slots pushed, wrapping.
    pushed_bytes: AtomicU64,
    /// Events that waited at once at most, 0 to the capacity.
    high_water: AtomicU64,
    /// Time of the newest event that matched, in nanoseconds since the Unix epoch; 0: none has.
    newest_at_ns: AtomicU64,
    /// Time of the last event that was pushed while nothing waited.
    resumed_at_ns: AtomicU64,
    /// The shard has let go: its counters are final.
    gone: AtomicBool,
}

/// The subscriber's half.
pub(crate) struct ReaderGauges {
    /// Lost events that the program was told of.
    told_lost: AtomicU64,
    /// Time of the block claimed last, in nanoseconds since the Unix epoch; 0: none was.
    claimed_at_ns: AtomicU64,
    /// The subscriber was dropped: its counters are final, and nothing waits any more.
    gone: AtomicBool,
}

/// What a push has to say.
pub(crate) struct Pushed {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    /// Events that wait, this push included, as the shard knows it: 1 to the capacity.
    pub(crate) waiting: u64,
    /// Whether nothing waited before.
    pub(crate) resumes: bool,
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
    pub(crate) told_lost: u64,
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
            gone: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(crate) fn matched(&self, created_at_ns: u64) {
        // Relaxed, as below: only the shard writes these; the commit of the ring publishes them.
        self.newest_at_ns.store(created_at_ns, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn pushed(&self, pushed: &Pushed) {
        self.pushed_events.store(pushed.events, Ordering::Relaxed);
        self.pushed_bytes.store(pushed.bytes, Ordering::Relaxed);
        if pushed.waiting > self.high_water.load(Ordering::Relaxed) {
            self.high_water.store(pushed.waiting, Ordering::Relaxed);
        }
        if pushed.resumes {
            self.resumed_at_ns
                .store(pushed.created_at_ns, Ordering::Relaxed);
        }
    }

    /// The shard lets go.
    pub(crate) fn leave(&self) {
        // Release, partner `has_left`: the final counters go with it.
        self.gone.store(true, Ordering::Release);
    }

    pub(crate) fn has_left(&self) -> bool {
        // Acquire, partner `leave`.
        self.gone.load(Ordering::Acquire)
    }
}

impl ReaderGauges {
    pub(crate) fn new() -> Self {
        Self {
            told_lost: AtomicU64::new(0),
            claimed_at_ns: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(crate) fn claimed(&self, created_at_ns: u64) {
        // Relaxed: only the subscriber writes it; its next Release, of the claimed events, publishes it.
        self.claimed_at_ns.store(created_at_ns, Ordering::Relaxed);
    }

    #[cold]
    pub(crate) fn told_lost(&self, count: u64) {
        // Relaxed load: only the subscriber writes it. Release, partner `read`: these were lost before.
        let told = self.told_lost.load(Ordering::Relaxed) + count;
        self.told_lost.store(told, Ordering::Release);
    }

    /// The subscriber was dropped.
    pub(crate) fn leave(&self) {
        // Release, partner `has_left`: the final counters go with it.
        self.gone.store(true, Ordering::Release);
    }

    pub(crate) fn has_left(&self) -> bool {
        // Acquire, partner `leave`.
        self.gone.load(Ordering::Acquire)
    }
}

/// Puts the halves together. The claimed counters are those of the subscriber, read (Acquire) before.
pub(crate) fn read(
    writer: &WriterGauges,
    reader: &ReaderGauges,
    claimed_events: u64,
    claimed_bytes: u64,
) -> Gauges {
    // What is claimed was pushed before, and the claim was acquired: so pushed is never the smaller.
    let pushed_events = writer.pushed_events.load(Ordering::Relaxed);
    let pushed_bytes = writer.pushed_bytes.load(Ordering::Relaxed);
    let resumed_at_ns = writer.resumed_at_ns.load(Ordering::Relaxed);
    let here_ns = reader
        .claimed_at_ns
        .load(Ordering::Relaxed)
        .max(resumed_at_ns);
    let newest_at_ns = writer.newest_at_ns.load(Ordering::Relaxed);
    // What the shard pushed too late for a dropped subscriber went with the ring.
    let waits = !reader.has_left();
    Gauges {
        depth: if waits {
            pushed_events.saturating_sub(claimed_events)
        } else {
            0
        },
        high_water: writer.high_water.load(Ordering::Relaxed),
        pinned_bytes: if waits {
            pushed_bytes.wrapping_sub(claimed_bytes)
        } else {
            0
        },
        // Acquire, partner `ReaderGauges::told_lost`.
        told_lost: reader.told_lost.load(Ordering::Acquire),
        behind_ns: newest_at_ns.saturating_sub(here_ns),
    }
}
