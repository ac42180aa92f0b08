//! Lanes: how events get from publishers to the sequencer.
//!
//! A publisher has a lane of its own, a single-producer ring, so publishers do not contend. `Bus::publish`, which any
//! thread may call, goes through one shared lane with many producers.
//!
//! An event in a lane is **accepted**: it will be sequenced, unless the bus is closed by force or breaks.

use crossbeam::utils::CachePadded;
use std::time::{Duration, SystemTime};

use super::block::EnvelopeRef;
use crate::contain::contain;
use crate::park::wake_registered;
use crate::ring::spsc;
use crate::sync::unmodelled::AtomicU64 as AtomicStatistic;
use crate::sync::{Arc, AtomicU64, AtomicWaker, Ordering};

/// An event on its way to the sequencer.
pub(crate) struct Pending<T> {
    pub(crate) envelope: EnvelopeRef,
    pub(crate) data: T,
    pub(crate) receipt: Option<ReceiptSender>,
    /// When it was published, see [`latency`](super::latency); 0: not sampled.
    #[cfg(feature = "latency")]
    pub(crate) stamp_ns: u64,
}

impl<T> Pending<T> {
    /// Drops an event that will never be sequenced. A payload whose drop panics takes nobody along.
    pub(crate) fn discard(self) {
        contain("a payload's drop", || drop(self));
    }
}

/// What the two ends of a publisher's own lane share beside the ring.
pub(crate) struct LaneShared {
    /// The publisher that waits for room.
    pub(crate) room: AtomicWaker,
    /// Events that the lane has accepted: a statistic. Written by the publisher once per event, so on a line of its own.
    accepted: CachePadded<AtomicStatistic>,
}

impl LaneShared {
    pub(crate) fn new() -> Self {
        Self {
            room: AtomicWaker::new(),
            accepted: CachePadded::new(AtomicStatistic::new(0)),
        }
    }

    /// The publisher's lane has accepted so many by now.
    #[inline]
    pub(crate) fn note_accepted(&self, events: u64) {
        // Relaxed: only the publisher writes it, and nothing is ordered by it.
        self.accepted.store(events, Ordering::Relaxed);
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// The sequencer's end of a publisher's own lane.
pub(crate) struct OwnLane<T> {
    pub(crate) ring: spsc::Consumer<Pending<T>>,
    pub(crate) shared: Arc<LaneShared>,
    /// Items that the ring can hold.
    pub(crate) capacity: usize,
    /// Position up to which the flush in progress waits for this lane.
    pub(crate) flush_target: u64,
}

impl<T> OwnLane<T> {
    /// Gives the drained places back. Wakes a waiting publisher as soon as half the lane is free: earlier, it
    /// would be woken for every few events; later, the sequencer would run dry.
    pub(crate) fn release(&mut self) {
        if self.ring.release()
            && self.ring.refresh() <= self.capacity / 2
            && self.ring.take_wake_request()
        {
            wake_registered(&self.shared.room);
        }
    }

    /// No more events are accepted; a publisher that waits is told.
    pub(crate) fn close(&mut self) {
        self.ring.close();
        wake_registered(&self.shared.room);
    }
}

/// What the sequencer gave an event: the answer of `publish_sequenced`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<&str>::new();
/// let receipt = bus.publish_sequenced("a", "first")?;
/// assert_eq!(receipt.id(), 1);
/// assert!(receipt.created_at() <= std::time::SystemTime::now());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    id: u64,
    created_at_ns: u64,
}

impl Receipt {
    /// The event's id, from 1.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// When it was sequenced.
    pub fn created_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.created_at_ns)
    }
}

/// Where a publisher waits for its receipt.
pub(crate) struct ReceiptSlot {
    /// 0: not yet; [`NEVER`]; else the event's id.
    id: AtomicU64,
    created_at_ns: AtomicU64,
    pub(crate) waker: AtomicWaker,
}

/// The event was dropped without having been sequenced.
const NEVER: u64 = u64::MAX;

/// The sequencer's end of a receipt. Dropped unused, it says that the event will never be sequenced.
pub(crate) struct ReceiptSender(Arc<ReceiptSlot>);

/// A receipt that may be on its way, and the sender that fills it.
pub(crate) fn receipt() -> (ReceiptSender, Arc<ReceiptSlot>) {
    let slot = Arc::new(ReceiptSlot {
        id: AtomicU64::new(0),
        created_at_ns: AtomicU64::new(0),
        waker: AtomicWaker::new(),
    });
    (ReceiptSender(slot.clone()), slot)
}

impl ReceiptSlot {
    /// `None`: not yet. `Some(None)`: never.
    pub(crate) fn look(&self) -> Option<Option<Receipt>> {
        // Acquire, partner `ReceiptSender::fill`.
        match self.id.load(Ordering::Acquire) {
            0 => None,
            NEVER => Some(None),
            id => {
                let created_at_ns = self.created_at_ns.load(Ordering::Relaxed);
                Some(Some(Receipt { id, created_at_ns }))
            }
        }
    }
}

impl ReceiptSender {
    pub(crate) fn fill(self, id: u64, created_at_ns: u64) {
        self.0.created_at_ns.store(created_at_ns, Ordering::Relaxed);
        self.finish(id);
    }

    fn finish(&self, id: u64) {
        // Release, partner `look`: the time goes with the id.
        self.0.id.store(id, Ordering::Release);
        wake_registered(&self.0.waker);
    }
}

impl Drop for ReceiptSender {
    fn drop(&mut self) {
        // Relaxed: only we write it.
        if self.0.id.load(Ordering::Relaxed) == 0 {
            self.finish(NEVER);
        }
    }
}
