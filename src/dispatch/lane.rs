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
//! # Registered, active and parked lanes
//!
//! A round of the sequencer has to cost as much as the lanes that have events, however many lanes
//! there are. So the sequencer does not look at every lane:
//!
//! | the lane is | when | it is |
//! | --- | --- | --- |
//! | not registered | until the publisher's first event | with the publisher; the sequencer has no reference to it |
//! | active | from then on, while it has events or had some recently | looked at in every round |
//! | parked | after it was empty in several rounds, or when a pool thread goes to sleep or a publisher has dispatched a lone event | not looked at |
//!
//! The publisher of a parked lane reports its next event, and its end, in [`ReadyLanes`]. It needs
//! no further atomic instruction to find out that it has to: the sequencer requests a wake-up from
//! a lane that it parks, and the publisher's `commit` returns that request.
//!
//! | side | step | race that it closes |
//! | --- | --- | --- |
//! | sequencer | parks: 1. stores the slot in `parked_slot` | a publisher that sees the request sees the slot |
//! | sequencer | 2. requests a wake-up; if there is an event, swaps `parked_slot` back | a commit comes before the request, and is seen here; or after it, and its publisher sees the request |
//! | publisher | 1. commits; the result says that a wake-up was requested | see the sequencer's step 2 |
//! | publisher | 2. swaps `parked_slot`; if a slot was in it, pushes the slot to [`ReadyLanes`] | one side gets the slot: the sequencer, and the lane stays active; or the publisher, and it reports the lane |
//! | publisher | 3. wakes or runs the dispatcher | as for a lane that is active |
//!
//! # Lanes of dropped publishers
//!
//! A dropped publisher's lane keeps its events until the sequencer has taken them. Without a bound,
//! a program that makes a publisher for each event would escape the bound of its lanes. So a
//! publisher may register its lane only while the lanes of dropped publishers are
//! [within their bounds](DroppedLanes::has_room). Otherwise its lane counts as full.
//!
//! # Failure modes
//!
//! * **The lane is full**: the publisher gets its value back, or waits: in its own lane with the
//!   waker [`LaneShared::room`]; in the shared lane, and before its own lane is registered, in
//!   [`SequencerShared::room`](super::sequencer::SequencerShared::room).
//! * **The publisher is dropped**: the ring closes behind its last event, and the sequencer removes
//!   the lane when it has popped that. A lane that is not registered is dropped at once.
//! * **The bus closes**: the sequencer closes the lane, and pops what was accepted before.
//! * **The bus is closed by force, or breaks**: accepted events are discarded, and the publishers
//!   that wait for their receipts learn that they will never be sequenced.

use crossbeam::utils::CachePadded;
#[cfg(not(loom))]
use std::task::Waker;
use std::time::{Duration, SystemTime};

use super::block::EnvelopeRef;
use crate::contain::contain;
use crate::limits::DROPPED_LANES_MAX;
#[cfg(not(loom))]
use crate::park::register_task;
use crate::park::{NonBlockingScope, forget_registered, wake_registered};
use crate::ring::spsc;
use crate::sync::unmodelled::AtomicU64 as AtomicStatistic;
use crate::sync::{Arc, AtomicU32, AtomicU64, AtomicUsize, AtomicWaker, Ordering, Queue};

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
        let _scope = NonBlockingScope::enter();
        contain("a payload's drop", || drop(self));
    }
}

/// What the two ends of a publisher's own lane share, apart from the ring.
pub(crate) struct LaneShared {
    /// Wakes the publisher that waits for room.
    room: AtomicWaker,
    /// The slot that the lane is parked in, or [`NOT_PARKED`].
    parked_slot: AtomicU32,
    /// The next lane in [`ReadyLanes`], while this lane is in it.
    next_ready: AtomicU32,
    /// Events that were in the lane when its publisher was dropped. The sequencer subtracts them
    /// from [`DroppedLanes`] when it removes the lane.
    dropped_events: AtomicU64,
    /// Events that the lane has accepted: a statistic. The publisher writes it once per event, so
    /// it has a cache line of its own.
    accepted: CachePadded<AtomicStatistic>,
}

/// The slot of a lane that is not parked, or that its publisher is about to report.
const NOT_PARKED: u32 = u32::MAX;

impl LaneShared {
    fn new() -> Self {
        Self {
            room: AtomicWaker::new(),
            parked_slot: AtomicU32::new(NOT_PARKED),
            next_ready: AtomicU32::new(0),
            dropped_events: AtomicU64::new(0),
            accepted: CachePadded::new(AtomicStatistic::new(0)),
        }
    }

    /// The lane has accepted `events` events since it was made.
    #[inline]
    fn note_accepted(&self, events: u64) {
        // Relaxed: only the publisher writes it, and it orders nothing.
        self.accepted.store(events, Ordering::Relaxed);
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The sequencer is about to request a wake-up from this lane, and parks it in this slot.
    fn set_parked(&self, slot: u32) {
        debug_assert!(slot < NOT_PARKED);
        // AcqRel, partner `take_parked_slot`. A read-modify-write, so that it comes after a swap of
        // the publisher that found no slot: neither side reads that swap's value from now on.
        self.parked_slot.swap(slot, Ordering::AcqRel);
    }

    /// Takes the slot. `None`: the lane is not parked, or the other side has taken the slot.
    fn take_parked_slot(&self) -> Option<u32> {
        // Relaxed: the publisher of a parked lane has seen the request, and so sees the slot.
        if self.parked_slot.load(Ordering::Relaxed) == NOT_PARKED {
            return None;
        }
        // AcqRel, partner itself on the other side: one side gets the slot.
        let slot = self.parked_slot.swap(NOT_PARKED, Ordering::AcqRel);
        (slot != NOT_PARKED).then_some(slot)
    }

    /// Reports a lane that the sequencer has requested a wake-up from, if the lane is parked.
    #[cold]
    fn report_ready(&self, ready: &ReadyLanes) {
        if let Some(slot) = self.take_parked_slot() {
            ready.push(slot, self);
        }
    }
}

/// What the publishers' own lanes share with the sequencer.
pub(crate) struct LanesShared {
    pub(crate) ready: ReadyLanes,
    pub(crate) dropped: DroppedLanes,
}

impl LanesShared {
    pub(crate) fn new() -> Self {
        Self {
            ready: ReadyLanes::new(),
            dropped: DroppedLanes::new(),
        }
    }
}

/// The parked lanes that have got an event, or whose publishers were dropped: a stack of slots that
/// publishers push to, and that the sequencer takes as a whole. It needs no memory beside the
/// lanes.
pub(crate) struct ReadyLanes {
    /// The slot that was pushed last, plus 1; 0: the stack is empty.
    head: AtomicU32,
}

impl ReadyLanes {
    fn new() -> Self {
        Self {
            head: AtomicU32::new(0),
        }
    }

    /// Publisher: its lane is parked in this slot.
    fn push(&self, slot: u32, lane: &LaneShared) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // Relaxed: the exchange publishes it.
            lane.next_ready.store(head, Ordering::Relaxed);
            // Release, partner `take`: the link, and the event that the lane has got. If `head` was
            // taken and pushed again meanwhile, it is in the stack again, so the link is right.
            match self
                .head
                .compare_exchange(head, slot + 1, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Sequencer: takes all slots. The first is the one that was pushed last; each lane has the
    /// [next one](LaneShared::next_ready).
    #[inline]
    pub(crate) fn take(&self) -> Option<u32> {
        // Acquire, partner `push`: a push that happened before something that this thread has seen
        // is seen here. (A thread that sleeps is woken after the push.)
        if self.head.load(Ordering::Acquire) == 0 {
            return None;
        }
        // Acquire, partner `push`.
        self.head.swap(0, Ordering::Acquire).checked_sub(1)
    }
}

/// The lanes of dropped publishers that still have events.
///
/// Both counts rise when a publisher is dropped, and fall when its lane is drained.
pub(crate) struct DroppedLanes {
    lanes: AtomicUsize,
    /// Events that were in these lanes when their publishers were dropped.
    events: AtomicU64,
}

impl DroppedLanes {
    fn new() -> Self {
        Self {
            lanes: AtomicUsize::new(0),
            events: AtomicU64::new(0),
        }
    }

    /// Whether another publisher may register its lane: there are fewer than [`DROPPED_LANES_MAX`]
    /// of these lanes, and they have fewer events than one lane can hold.
    ///
    /// While this is `false`, no lane is registered. So all own lanes together never hold more than
    /// `lane_capacity` events for each publisher that was open at one time, and as many for the
    /// dropped publishers.
    fn has_room(&self, lane_capacity: usize) -> bool {
        // Relaxed: a bound. A publisher that waits registers its waker with a read-modify-write
        // before it looks, and the sequencer notifies with one after it has subtracted.
        self.lanes.load(Ordering::Relaxed) < DROPPED_LANES_MAX
            && self.events.load(Ordering::Relaxed) < lane_capacity as u64
    }

    fn add(&self, events: u64) {
        self.lanes.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(events, Ordering::Relaxed);
    }

    fn subtract(&self, events: u64) {
        let lanes = self.lanes.fetch_sub(1, Ordering::Relaxed);
        let before = self.events.fetch_sub(events, Ordering::Relaxed);
        debug_assert!(lanes >= 1 && before >= events, "{before} events of {lanes}");
    }
}

/// Lanes on their way from their publishers to the sequencer.
pub(crate) struct NewLanes<T> {
    queue: Queue<Box<OwnLane<T>>>,
    /// Twice the number of lanes that were registered, plus 1 once no lane is accepted any more.
    registered: AtomicU64,
}

/// Set in [`NewLanes::registered`] when the sequencer has closed the lanes.
const REGISTRATION_CLOSED: u64 = 1;

impl<T> NewLanes<T> {
    pub(crate) fn new() -> Self {
        Self {
            queue: Queue::new(),
            registered: AtomicU64::new(0),
        }
    }

    /// Publisher: passes its lane to the sequencer. `false`: the sequencer has closed the lanes,
    /// and may never look at this one.
    fn register(&self, lane: Box<OwnLane<T>>) -> bool {
        self.queue.push(lane);
        // AcqRel, partner `close`: either the sequencer finds the lane afterwards, or this side
        // sees that it is too late.
        self.registered.fetch_add(2, Ordering::AcqRel) & REGISTRATION_CLOSED == 0
    }

    /// Sequencer: accepts no more lanes. It pops those that were registered before.
    pub(crate) fn close(&self) {
        // AcqRel, partner `register`.
        self.registered
            .fetch_or(REGISTRATION_CLOSED, Ordering::AcqRel);
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<Box<OwnLane<T>>> {
        self.queue.pop()
    }
}

/// The publisher's end of its own lane.
pub(crate) struct LaneProducer<T> {
    ring: spsc::Producer<Pending<T>>,
    pub(crate) shared: Arc<LaneShared>,
    /// The other end, until the lane is registered.
    unregistered: Option<Unregistered<T>>,
}

struct Unregistered<T> {
    lane: Box<OwnLane<T>>,
    new_lanes: Arc<NewLanes<T>>,
}

/// A lane that is not registered.
pub(crate) fn own_lane<T>(capacity: usize, new_lanes: &Arc<NewLanes<T>>) -> LaneProducer<T> {
    let (ring, consumer) = spsc::ring(capacity);
    let shared = Arc::new(LaneShared::new());
    let mut lane = Box::new(OwnLane {
        ring: consumer,
        shared: shared.clone(),
        capacity,
        flush_target: 0,
        empty_rounds: 0,
    });
    // The first event has to wake a thread, since perhaps all of them sleep and none has looked at
    // this lane.
    lane.ring.request_wake();
    LaneProducer {
        ring,
        shared,
        unregistered: Some(Unregistered {
            lane,
            new_lanes: new_lanes.clone(),
        }),
    }
}

impl<T> LaneProducer<T> {
    /// Whether there is room for an event. `true` stays true until an event is staged.
    #[inline(always)]
    pub(crate) fn has_room(&mut self, lanes: &LanesShared) -> bool {
        // A lane that is not registered has no slots, so its first event takes the cold path.
        self.ring.has_known_room() || self.make_room(lanes)
    }

    #[cold]
    fn make_room(&mut self, lanes: &LanesShared) -> bool {
        if let Some(Unregistered { lane, .. }) = &self.unregistered
            && !lanes.dropped.has_room(lane.capacity)
        {
            return false;
        }
        if let Some(Unregistered { lane, new_lanes }) = self.unregistered.take()
            && !new_lanes.register(lane)
        {
            self.ring.close(); // so that `commit` fails
        }
        self.ring.has_room()
    }

    /// The slot for the next event. [`has_room`](Self::has_room) has returned `true`.
    #[inline(always)]
    pub(crate) fn vacant(&mut self) -> Option<spsc::Vacant<'_, Pending<T>>> {
        debug_assert!(self.unregistered.is_none());
        self.ring.vacant()
    }

    /// Publishes all staged events, and reports the lane if it is parked. `Ok(true)`: the sequencer
    /// has requested a wake-up, so the caller has to wake or run it.
    #[inline(always)]
    pub(crate) fn commit(&mut self, lanes: &LanesShared) -> Result<bool, spsc::Closed> {
        let wake_requested = self.ring.commit()?;
        if wake_requested {
            self.shared.report_ready(&lanes.ready);
        }
        self.shared.note_accepted(self.ring.staged_position());
        Ok(wake_requested)
    }

    /// Takes back the event staged last, unless everything is published.
    pub(crate) fn unstage(&mut self) -> Option<Pending<T>> {
        self.ring.unstage()
    }

    /// The position behind the event staged last.
    #[cfg(feature = "latency")]
    pub(crate) fn staged_position(&self) -> u64 {
        self.ring.staged_position()
    }

    /// Registers the waker to be woken when the lane has room. The caller has to look once more
    /// after this. `false`: the lane is not registered, so the caller has to register the waker for
    /// room in the lanes of dropped publishers.
    #[cfg(not(loom))]
    pub(crate) fn register_for_room(&mut self, waker: &Waker) -> bool {
        let registered = self.unregistered.is_none();
        if registered {
            register_task(&self.shared.room, waker);
            self.ring.request_wake();
        }
        registered
    }

    /// The publisher no longer waits for room: removes the waker of `register_for_room`.
    pub(crate) fn forget_room_request(&mut self) {
        forget_registered(&self.shared.room);
    }

    /// The publisher is being dropped: closes the lane behind its last event, and reports it if it
    /// is parked. `true`: the sequencer has requested a wake-up, so the caller has to wake it.
    pub(crate) fn close(&mut self, lanes: &LanesShared) -> bool {
        if self.unregistered.is_some() {
            return false; // the sequencer has no reference to it
        }
        let events = self.ring.unreleased();
        if events > 0 {
            lanes.dropped.add(events);
            // Release, partner `OwnLane::note_removed`: the sequencer subtracts what was added.
            self.shared.dropped_events.store(events, Ordering::Release);
        }
        let wake_requested = self.ring.close();
        if wake_requested {
            self.shared.report_ready(&lanes.ready);
        }
        wake_requested
    }
}

/// The sequencer's end of a publisher's own lane.
pub(crate) struct OwnLane<T> {
    pub(crate) ring: spsc::Consumer<Pending<T>>,
    shared: Arc<LaneShared>,
    /// Events that the ring can hold, 1 to [`LANE_CAPACITY_MAX`](crate::limits::LANE_CAPACITY_MAX).
    capacity: usize,
    /// Position in the ring up to which the flush in progress waits for this lane.
    pub(crate) flush_target: u64,
    /// Rounds in succession that found the lane empty.
    pub(crate) empty_rounds: u32,
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

    /// Parks the lane in a slot, if it is empty: from now on its publisher reports its next event,
    /// and its end. `false`: it is not empty, or closed, and not parked.
    pub(crate) fn park(&mut self, slot: u32) -> bool {
        self.shared.set_parked(slot);
        let ready = self.ring.request_wake() == spsc::Readiness::Ready;
        // If the publisher has taken the slot, it reports the lane.
        !(ready && self.shared.take_parked_slot().is_some())
    }

    /// The lane was taken from [`ReadyLanes`]. Returns the slot of the next one.
    pub(crate) fn next_ready(&self) -> Option<u32> {
        // Relaxed: `ReadyLanes::take` has acquired it.
        self.shared
            .next_ready
            .load(Ordering::Relaxed)
            .checked_sub(1)
    }

    /// The sequencer removes the lane, which is closed and empty. `true`: publishers that wait to
    /// register their lanes may have room.
    pub(crate) fn note_removed(&self, dropped: &DroppedLanes) -> bool {
        // Acquire, partner `LaneProducer::close`.
        let events = self.shared.dropped_events.load(Ordering::Acquire);
        if events > 0 {
            dropped.subtract(events);
        }
        events > 0
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
