//! Lanes: the rings that carry events from the publishers to the sequencer.
//!
//! * **In**: a [`Pending`] event (payload, envelope, perhaps a receipt), pushed by a publisher.
//! * **Out**: the same event, popped by the sequencer.
//! * **Called by**: `bus/publish.rs`, which pushes and then calls
//!   [`Engine::accepted`](super::engine::Engine::accepted); and `sequencer.rs`, which pops.
//! * **Next file**: `sequencer.rs`. (`engine.rs` says which thread runs the sequencer.)
//!
//! There are two kinds. A [`Publisher`](crate::Publisher) has a lane of its own, a ring with a
//! single producer ([`spsc`]), so publishers do not contend with each other. `Bus::publish`, which
//! any thread may call, pushes to one shared lane, a ring with many producers
//! ([`mpsc`](crate::ring::mpsc)).
//!
//! An event in a lane is **accepted**: it will be sequenced, unless the bus is closed by force or
//! breaks. A [`Receipt`] says what the sequencer gave to one event.
//!
//! # Failure modes
//!
//! * **The lane is full**: the publisher gets its value back, or waits: in its own lane with the
//!   waker [`LaneShared::room`], in the shared lane in
//!   [`SequencerShared::room`](super::sequencer::SequencerShared::room).
//! * **The publisher is dropped**: the ring closes behind its last event, and the sequencer removes
//!   the lane when it has popped that.
//! * **The bus closes**: the sequencer closes the lane, and pops what was accepted before.
//! * **The bus is closed by force, or breaks**: accepted events are discarded, and the publishers
//!   that wait for their receipts learn that they will never be sequenced.

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
    /// Drops an event that will never be sequenced. A payload whose drop panics harms nothing else.
    pub(crate) fn discard(self) {
        contain("a payload's drop", || drop(self));
    }
}

/// What the two ends of a publisher's own lane share, apart from the ring.
pub(crate) struct LaneShared {
    /// Wakes the publisher that waits for room.
    pub(crate) room: AtomicWaker,
    /// Events that the lane has accepted: a statistic. The publisher writes it once per event, so
    /// it has a cache line of its own.
    accepted: CachePadded<AtomicStatistic>,
}

impl LaneShared {
    pub(crate) fn new() -> Self {
        Self {
            room: AtomicWaker::new(),
            accepted: CachePadded::new(AtomicStatistic::new(0)),
        }
    }

    /// The lane has accepted `events` events since it was made.
    #[inline]
    pub(crate) fn note_accepted(&self, events: u64) {
        // Relaxed: only the publisher writes it, and it orders nothing.
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
    /// Events that the ring can hold, 1 to [`LANE_CAPACITY_MAX`](crate::limits::LANE_CAPACITY_MAX).
    pub(crate) capacity: usize,
    /// Position in the ring up to which the flush in progress waits for this lane.
    pub(crate) flush_target: u64,
}

impl<T> OwnLane<T> {
    /// Makes the slots of the popped events free for the publisher. Wakes a publisher that waits
    /// once half of the lane is free: earlier, it would be woken for every few events; later, the
    /// sequencer would run out of events.
    pub(crate) fn release(&mut self) {
        if self.ring.release()
            && self.ring.refresh() <= self.capacity / 2
            && self.ring.take_wake_request()
        {
            wake_registered(&self.shared.room);
        }
    }

    /// The lane accepts no more events. Wakes a publisher that waits, which then finds it closed.
    pub(crate) fn close(&mut self) {
        self.ring.close();
        wake_registered(&self.shared.room);
    }
}

/// What the sequencer gave to an event: its id and its time. The result of
/// [`Bus::publish_sequenced`](crate::Bus::publish_sequenced).
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
    /// The event's id. The first event of a bus has the id 1, each later event the next id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// When the event was sequenced, by the [clock](crate::BusBuilder::clock) of the bus. Exact to
    /// a round of the sequencer: events that were sequenced together have the same time.
    pub fn created_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.created_at_ns)
    }
}

/// Where a publisher waits for its receipt.
pub(crate) struct ReceiptSlot {
    /// 0: not sequenced yet; [`NEVER_SEQUENCED`]; else the event's id.
    id: AtomicU64,
    created_at_ns: AtomicU64,
    pub(crate) waker: AtomicWaker,
}

/// The event was dropped before it was sequenced.
const NEVER_SEQUENCED: u64 = u64::MAX;

/// The sequencer's end of a receipt. If it is dropped without having been filled, the event will
/// never be sequenced, and the publisher learns that.
pub(crate) struct ReceiptSender(Arc<ReceiptSlot>);

/// The two ends of a receipt: the one that the sequencer fills, and the one where a publisher
/// waits.
pub(crate) fn receipt() -> (ReceiptSender, Arc<ReceiptSlot>) {
    let slot = Arc::new(ReceiptSlot {
        id: AtomicU64::new(0),
        created_at_ns: AtomicU64::new(0),
        waker: AtomicWaker::new(),
    });
    (ReceiptSender(slot.clone()), slot)
}

impl ReceiptSlot {
    /// `None`: not sequenced yet. `Some(None)`: it will never be sequenced.
    pub(crate) fn try_get(&self) -> Option<Option<Receipt>> {
        // Acquire, partner `ReceiptSender::finish`: the time was stored before the id.
        match self.id.load(Ordering::Acquire) {
            0 => None,
            NEVER_SEQUENCED => Some(None),
            id => {
                let created_at_ns = self.created_at_ns.load(Ordering::Relaxed);
                Some(Some(Receipt { id, created_at_ns }))
            }
        }
    }
}

impl ReceiptSender {
    pub(crate) fn fill(self, id: u64, created_at_ns: u64) {
        debug_assert!(
            (1..NEVER_SEQUENCED).contains(&id),
            "no event has the id {id}"
        );
        self.0.created_at_ns.store(created_at_ns, Ordering::Relaxed);
        self.finish(id);
    }

    fn finish(&self, id: u64) {
        // Release, partner `ReceiptSlot::try_get`: a thread that sees the id sees the time.
        self.0.id.store(id, Ordering::Release);
        wake_registered(&self.0.waker);
    }
}

impl Drop for ReceiptSender {
    fn drop(&mut self) {
        // Relaxed: only this end writes it.
        if self.0.id.load(Ordering::Relaxed) == 0 {
            self.finish(NEVER_SEQUENCED);
        }
    }
}
