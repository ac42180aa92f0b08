//! The sequencer: merges the lanes into one order, and puts the events into blocks.
//!
//! * **In**: accepted events, in the publishers' own lanes and in the shared lane.
//! * **Out**: blocks of up to 64 events that have ids and a time, one reference to each block in
//!   the input ring of every shard. The events are now **sequenced**.
//! * **Called by**: [`Engine`](super::engine::Engine) in `engine.rs`, from whichever thread holds
//!   the sequencer's role: [`Sequencer::round`].
//! * **Next file**: `shard.rs`. (`block/mod.rs` is what a block is.)
//!
//! A round looks at every active lane (see [`lane`](super::lane)), takes at most a quota from each,
//! gives each event the next id and the round's time, and passes the blocks to every shard. A block
//! holds what was ready: the sequencer never waits for more events. So batches form by themselves
//! under load, and a lone event gets a block of its own.
//!
//! Before a pool thread sleeps, the sequencer looks once more and requests a wake-up from every
//! active lane (see [`spsc`]), so the publisher that pushes the next event finds out that it has to
//! wake a thread. Behind a lone event that a publisher dispatches, it requests the next wake-up in
//! the same round. In all other rounds it does not, since the request is written to the
//! publisher's own cache line.
//!
//! A lane that was empty in [`EMPTY_ROUNDS_MAX`] rounds is parked, with a request, and is not
//! looked at again until its publisher reports it. So an event costs a bounded number of looks at
//! empty lanes, however many publishers there are. The last [`ACTIVE_LANES_MIN`] lanes are not
//! parked: to look at them costs less than to park them and to report them again.
//!
//! # Failure modes
//!
//! * **A shard's input is full**: the sequencer takes no more events, and the lanes fill up.
//! * **Closing**: the lanes are closed first, then drained, then the shards' inputs are closed.
//!   What a lane accepted before it was closed is sequenced.
//! * **Closing by force, or a broken bus**: [`Sequencer::discard`] drops what is in the lanes, and
//!   counts it as unsequenced.
//! * **The clock** panics, runs backwards or is before 1970: the events get the time of the last
//!   event.
//! * **The weigher** panics: its event is dropped, and counted as unsequenced. The round ends
//!   there, with the events before it, and [`RoundResult::failed`] makes the engine break the bus.

use std::time::{Instant, SystemTime};

use super::Weigh;
use super::block::{AnyBlock, BLOCK_EVENTS_MAX, BlockSource, BlockWriter};
use super::lane::{LanesShared, NewLanes, OwnLane, Pending, ReceiptSender};
use crate::contain::{UserValue, catch, contain};
use crate::park::WaitSet;
use crate::ring::spsc::Readiness;
use crate::ring::{Consume, Front, mpsc, spsc};
use crate::sync::unmodelled::AtomicU64 as AtomicStatistic;
use crate::sync::{Arc, AtomicU64, Ordering, thread};
use crate::time_limit::{self, Kind};

/// The most events that a round takes: a bound on how long the shards wait for it.
pub(crate) const ROUND_EVENTS: usize = 1024;

/// Events that a round may take from a lane, however many lanes there are.
const QUOTA_MIN: usize = BLOCK_EVENTS_MAX;

/// While there are no more active lanes than this, none of them is parked. In models every lane is.
pub(crate) const ACTIVE_LANES_MIN: usize = if cfg!(loom) { 0 } else { 16 };

/// A lane that was empty in more rounds in succession is parked.
pub(crate) const EMPTY_ROUNDS_MAX: u32 = if cfg!(loom) { 0 } else { 8 };

/// The number of lanes for which an empty list of lanes keeps its memory.
const LANES_KEPT: usize = 1024;

/// Where the times of events come from.
pub(crate) type Clock = UserValue<Box<dyn Fn() -> SystemTime + Send>>;

/// The state behind the sequencer's role.
#[allow(
    clippy::vec_box,
    reason = "a lane moves between this list and the parked ones, and a slot of either is small"
)]
pub(crate) struct Sequencer<T> {
    /// The active lanes.
    lanes: Vec<Box<OwnLane<T>>>,
    parked: ParkedLanes<T>,
    /// The active lane at which the next round begins, modulo their number and 1. Their number
    /// stands for the shared lane.
    next_lane: usize,
    shared_lane: mpsc::Consumer<Pending<T>>,
    /// Lanes of new publishers.
    new_lanes: Arc<NewLanes<T>>,
    shared: Arc<SequencerShared>,
    appender: Appender<T>,
    clock: Clock,
    lanes_closed: bool,
    /// Whether the last round left events that it could have taken with a larger bound.
    more: bool,
    flush: Option<Flush>,
}

/// Appends events to blocks, and passes the blocks to the shards.
struct Appender<T> {
    /// The block that is being filled, in a round. `None` between rounds, unless a round has
    /// panicked.
    writer: Option<BlockWriter<T>>,
    source: BlockSource<T>,
    /// The inputs of the shards.
    outputs: Vec<spsc::Producer<AnyBlock>>,
    shared: Arc<SequencerShared>,
    weigh: Weigh<T>,
    /// Whether the weigher has panicked.
    failed: bool,
    /// Id of the next event, from 1.
    next_id: u64,
    /// Time of the round, in nanoseconds since the Unix epoch. It never goes back.
    now_ns: u64,
    /// Events that the round may still take, [`ROUND_EVENTS`] at most.
    left: usize,
    /// Events that the round has sequenced.
    sequenced: usize,
    /// Blocks passed to the shards.
    blocks: u64,
}

/// A flush in progress: it is complete when every lane has been drained up to its target.
struct Flush {
    /// The number of flushes requested when this one began, which are all completed by it.
    ticket: u64,
    /// Position in the shared lane. The own lanes have theirs in `OwnLane::flush_target`.
    shared_target: u64,
}

/// What the sequencer shares with other threads.
pub(crate) struct SequencerShared {
    /// Publishers that wait for room in the shared lane, or to register their own lanes.
    pub(crate) room: WaitSet,
    pub(crate) lanes: LanesShared,
    /// Id of the event sequenced last; 0: none yet.
    pub(crate) last_id: AtomicU64,
    /// Events discarded before they were sequenced.
    pub(crate) unsequenced: AtomicU64,
    /// Blocks passed to the shards; written once per round.
    pub(crate) blocks: AtomicStatistic,
    /// How often rounds have looked at own lanes, for tests.
    #[cfg(test)]
    pub(crate) lane_looks: AtomicStatistic,
    /// Flushes requested.
    pub(crate) flushes_requested: AtomicU64,
    /// Flushes completed, 0 to those requested: everything accepted before they were requested is
    /// sequenced.
    pub(crate) flushes_completed: AtomicU64,
}

/// What a round of the sequencer or of a shard did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoundResult {
    /// Whether the round moved anything. If so, the other roles may find more to do, and threads
    /// that wait for progress have to look.
    pub(crate) progress: bool,
    /// Whether another round would find something to do at once.
    pub(crate) more: bool,
    /// Whether this role has finished, permanently.
    pub(crate) finished: bool,
    /// When another round has something to do even if no thread wakes the pool.
    pub(crate) deadline: Option<Instant>,
    /// Whether user code has panicked, so that the bus has to break. The counts are right.
    pub(crate) failed: bool,
}

impl SequencerShared {
    pub(crate) fn new() -> Self {
        Self {
            room: WaitSet::new(),
            lanes: LanesShared::new(),
            last_id: AtomicU64::new(0),
            unsequenced: AtomicU64::new(0),
            blocks: AtomicStatistic::new(0),
            #[cfg(test)]
            lane_looks: AtomicStatistic::new(0),
            flushes_requested: AtomicU64::new(0),
            flushes_completed: AtomicU64::new(0),
        }
    }
}

/// When a round requests a wake-up from every lane, for the next event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WakeRequests {
    /// Never: the calling thread looks again.
    None,
    /// If there was nothing to do: the calling thread is about to sleep.
    IfIdle,
    /// Also behind the events of the round: the calling thread does not look again.
    Always,
}

/// What the engine does with a sequencer, whatever the type of the payloads.
pub(crate) trait Sequence: Send {
    /// One round. `closing`: the lanes are closed first.
    fn round(&mut self, closing: bool, wake_requests: WakeRequests) -> RoundResult;

    /// Closes the lanes, and drops the events in them, which count as unsequenced. If the calling
    /// thread has a time limit, another thread drops them.
    fn discard(&mut self);
}

impl<T: Send + Sync + 'static> Sequencer<T> {
    pub(crate) fn new(
        shared_lane: mpsc::Consumer<Pending<T>>,
        new_lanes: Arc<NewLanes<T>>,
        shared: Arc<SequencerShared>,
        outputs: Vec<spsc::Producer<AnyBlock>>,
        clock: Clock,
        weigh: Weigh<T>,
    ) -> Self {
        Self {
            lanes: Vec::new(),
            parked: ParkedLanes::new(),
            next_lane: 0,
            shared_lane,
            new_lanes,
            appender: Appender {
                writer: None,
                source: BlockSource::new(),
                outputs,
                shared: shared.clone(),
                weigh,
                failed: false,
                next_id: 1,
                now_ns: 0,
                left: 0,
                sequenced: 0,
                blocks: 0,
            },
            shared,
            clock,
            lanes_closed: false,
            more: false,
            flush: None,
        }
    }
}

impl<T: Send + Sync + 'static> Sequence for Sequencer<T> {
    fn round(&mut self, closing: bool, wake_requests: WakeRequests) -> RoundResult {
        // Acquire, partner the `fetch_add` in `Engine::request_flush`: the events that the caller
        // of a flush knew to be accepted are in lanes that this thread admits and looks at from
        // here on.
        let flushes_requested = self.shared.flushes_requested.load(Ordering::Acquire);
        self.admit_lanes();
        self.begin_flush(flushes_requested);
        if closing && !self.lanes_closed {
            self.close_lanes();
        }
        let mut sequenced = self.sequence();
        let requested = match wake_requests {
            WakeRequests::None => false,
            WakeRequests::IfIdle => sequenced == 0,
            WakeRequests::Always => !self.more,
        };
        let mut late_event = false;
        if requested && !self.appender.failed && self.request_wakes() {
            if sequenced == 0 {
                sequenced = self.sequence();
            } else {
                late_event = true;
            }
        }
        let finished = self.lanes_closed && self.is_drained();
        if finished {
            self.appender.outputs.iter().for_each(|output| {
                output.close();
            });
        }
        let flushed = self.finish_flush();
        RoundResult {
            progress: sequenced > 0 || flushed,
            // Another flush may have been requested while this one was in progress.
            more: self.more || late_event || flushed,
            finished,
            deadline: None,
            failed: self.appender.failed,
        }
    }

    fn discard(&mut self) {
        // After a panic in a round.
        self.appender.writer = None;
        if self.lanes_closed && self.is_drained() {
            return;
        }
        let mut closed = self.close_and_take_lanes();
        if !closed.discard_written() {
            // The time of this thread is over, or a publisher that claimed its place before the
            // lane was closed may still be writing its event, for long if the system does not
            // schedule it.
            time_limit::hand_over(Kind::Drop, move || {
                while !closed.discard_written() {
                    thread::yield_now();
                }
            });
        }
    }
}

impl<T> Sequencer<T> {
    /// Closes the lanes, and leaves none. Their events count as unsequenced.
    fn close_and_take_lanes(&mut self) -> ClosedLanes<T> {
        self.admit_lanes();
        self.close_lanes();
        let (nobody, no_lane) = mpsc::ring(1);
        no_lane.close();
        drop(nobody);
        let mut closed = ClosedLanes {
            own: std::mem::take(&mut self.lanes),
            shared: std::mem::replace(&mut self.shared_lane, no_lane),
        };
        // Relaxed: a statistic.
        self.shared
            .unsequenced
            .fetch_add(closed.events(), Ordering::Relaxed);
        closed
    }

    /// Takes over the lanes of new publishers, and the parked lanes that publishers have reported.
    fn admit_lanes(&mut self) {
        while let Some(mut lane) = self.new_lanes.pop() {
            if self.lanes_closed {
                lane.close();
            }
            self.lanes.push(lane);
        }
        // Once the lanes are closed none is parked. A publisher may still report its lane.
        if !self.parked.is_empty()
            && let Some(first) = self.shared.lanes.ready.take()
        {
            self.unpark(first);
        }
    }

    #[cold]
    fn unpark(&mut self, first: u32) {
        let unparked_from = self.lanes.len();
        let mut next = Some(first);
        while let Some(slot) = next {
            let lane = self.parked.remove(slot);
            next = lane.next_ready();
            self.lanes.push(lane);
        }
        // In the order in which they were reported.
        self.lanes[unparked_from..].reverse();
    }

    fn close_lanes(&mut self) {
        if !self.lanes_closed {
            self.lanes_closed = true;
            self.new_lanes.close();
            self.parked.remove_all(&mut self.lanes);
            self.admit_lanes(); // what was registered before
        }
        self.shared_lane.close();
        self.lanes.iter_mut().for_each(|lane| lane.close());
        self.shared.room.notify();
    }

    /// Removes the lanes of dropped publishers that are empty, and parks those that were empty for
    /// long. `true`: one of these has got an event meanwhile.
    #[cold]
    fn retire_lanes(&mut self) -> bool {
        let (mut removed_dropped, mut late_event) = (false, false);
        let mut index = self.lanes.len();
        while index > 0 {
            index -= 1;
            let lane = &mut self.lanes[index];
            if lane.ring.is_finished() {
                let lane = self.lanes.swap_remove(index);
                removed_dropped |= lane.note_removed(&self.shared.lanes.dropped);
            } else if lane.empty_rounds > EMPTY_ROUNDS_MAX {
                late_event |= !self.park_if_many(index);
            }
        }
        if self.lanes.capacity() > LANES_KEPT.max(4 * self.lanes.len()) {
            self.lanes.shrink_to(2 * self.lanes.len());
        }
        if removed_dropped {
            self.shared.room.notify();
        }
        late_event
    }

    /// Parks an active lane, unless there are few of them. `false`: it is not empty.
    fn park_if_many(&mut self, index: usize) -> bool {
        if self.lanes_closed || self.lanes.len() <= ACTIVE_LANES_MIN {
            return true;
        }
        let slot = self.parked.free_slot();
        let lane = &mut self.lanes[index];
        lane.empty_rounds = 0;
        let parked = lane.park(slot);
        if parked {
            self.parked.insert(slot, self.lanes.swap_remove(index));
        }
        parked
    }

    fn is_drained(&mut self) -> bool {
        self.shared_lane.is_finished() && self.lanes.iter_mut().all(|lane| lane.ring.is_finished())
    }

    /// Notes how far each lane must be drained for a flush that was requested.
    fn begin_flush(&mut self, requested: u64) {
        // Relaxed: only the sequencer writes it.
        let completed = self.shared.flushes_completed.load(Ordering::Relaxed);
        debug_assert!(
            completed <= requested,
            "{completed} of {requested} flushes are completed"
        );
        if self.flush.is_some() || requested == completed {
            return;
        }
        for lane in &mut self.lanes {
            lane.flush_target = lane.ring.position() + lane.ring.refresh() as u64;
        }
        let shared_target = self.shared_lane.position() + self.shared_lane.ready() as u64;
        self.flush = Some(Flush {
            ticket: requested,
            shared_target,
        });
    }

    /// `true`: the flush in progress is complete.
    fn finish_flush(&mut self) -> bool {
        let Some(Flush {
            ticket,
            shared_target,
        }) = self.flush
        else {
            return false;
        };
        let done = self.shared_lane.position() >= shared_target
            && self
                .lanes
                .iter()
                .all(|lane| lane.ring.position() >= lane.flush_target);
        if done {
            self.flush = None;
            // Release, partner the load in `Engine::check_flush`: `last_id` covers what was
            // flushed.
            self.shared
                .flushes_completed
                .store(ticket, Ordering::Release);
        }
        done
    }

    /// Requests a wake-up from every lane for its next event. `true`: there is an event already.
    fn request_wakes(&mut self) -> bool {
        let mut ready = self.shared_lane.request_wake() == Readiness::Ready;
        let mut index = self.lanes.len();
        while index > 0 {
            index -= 1;
            // A lane that is parked is not looked at when the thread wakes up.
            ready |= if self.lanes_closed || self.lanes.len() <= ACTIVE_LANES_MIN {
                self.lanes[index].ring.request_wake() == Readiness::Ready
            } else {
                self.lanes[index].ring.refresh() > 0 || !self.park_if_many(index)
            };
        }
        ready
    }

    /// Looks at the active lanes. Returns how many events they have, how many lanes have events,
    /// and whether one that was to be parked has got an event meanwhile, which is not counted.
    fn look_at_lanes(&mut self) -> (usize, usize, bool) {
        let (mut own_ready, mut ready_lanes, mut retire) = (0, 0, false);
        let many = self.lanes.len() > ACTIVE_LANES_MIN;
        for lane in &mut self.lanes {
            let (ready, closed) = lane.ring.look();
            own_ready += ready;
            if ready == 0 {
                lane.empty_rounds = lane.empty_rounds.saturating_add(1);
                retire |= closed | (many & (lane.empty_rounds > EMPTY_ROUNDS_MAX));
            } else {
                lane.empty_rounds = 0;
                ready_lanes += 1;
            }
        }
        #[cfg(test)]
        self.shared
            .lane_looks
            .fetch_add(self.lanes.len() as u64, Ordering::Relaxed);
        (own_ready, ready_lanes, retire && self.retire_lanes())
    }

    /// Takes what is ready, up to the bounds of a round and the room of the shards. Returns how
    /// many events that were.
    fn sequence(&mut self) -> usize {
        let shared_ready = self.shared_lane.ready();
        let (own_ready, ready_lanes, late_event) = self.look_at_lanes();
        let ready = (shared_ready + own_ready).min(ROUND_EVENTS);
        self.more = late_event;
        if ready == 0 || !self.appender.has_room() {
            return 0;
        }
        let now_ns = self.read_clock();
        self.appender.begin_round(ready, now_ns);
        // A share for each lane that has events. With a share for each lane that there is, one busy
        // lane took two rounds, and its publisher slept and woke up twice as often: 27 instead of
        // 30 million events per second to one subscriber on one core (2026-11-27).
        let busy_lanes = ready_lanes + usize::from(shared_ready > 0);
        let quota = (ROUND_EVENTS / busy_lanes.max(1)).max(QUOTA_MIN);

        // Each round begins at another lane, and after a round that ended early behind the lane
        // that it ended at. Otherwise one lane would get most of the room when the shards have
        // little.
        let lanes = self.lanes.len();
        let first_lane = self.next_lane;
        self.next_lane = (first_lane + 1) % (lanes + 1);
        for offset in 0..=lanes {
            let index = (first_lane + offset) % (lanes + 1);
            let taken = match self.lanes.get_mut(index) {
                Some(lane) => {
                    let taken = self.appender.take_from(&mut lane.ring, quota);
                    if taken.events > 0 {
                        lane.release();
                    }
                    taken
                }
                None => {
                    let taken = self.appender.take_from(&mut self.shared_lane, quota);
                    if taken.events > 0 {
                        self.shared.room.notify();
                    }
                    taken
                }
            };
            self.more |= taken.time_is_over;
            if taken.ends_round {
                self.next_lane = (index + 1) % (lanes + 1);
                break;
            }
        }
        let sequenced = self.appender.finish_round();
        self.more |= sequenced > 0 && sequenced < shared_ready + own_ready;
        sequenced
    }

    /// Reads the clock, in nanoseconds since the Unix epoch. 0 if it fails.
    fn read_clock(&mut self) -> u64 {
        let since = contain("the clock", || (self.clock)())
            .and_then(|now| now.duration_since(SystemTime::UNIX_EPOCH).ok());
        since
            .and_then(|since| u64::try_from(since.as_nanos()).ok())
            .unwrap_or(0)
    }
}

/// What [`Appender::take_from`] did.
struct Taken {
    /// Events taken from the lane, also one whose weigher has panicked.
    events: usize,
    /// The round ends: the shards have no room for another block, the weigher has panicked, or the
    /// time of the thread is over.
    ends_round: bool,
    time_is_over: bool,
}

impl<T> Appender<T> {
    /// Begins a round that takes at most `events` events.
    fn begin_round(&mut self, events: usize, now_ns: u64) {
        debug_assert!(self.writer.is_none() && (1..=ROUND_EVENTS).contains(&events));
        self.left = events;
        self.sequenced = 0;
        self.now_ns = self.now_ns.max(now_ns);
    }

    /// Takes up to `quota` events from a lane.
    fn take_from<L: Consume<Pending<T>>>(&mut self, lane: &mut L, quota: usize) -> Taken {
        let mut taken = Taken {
            events: 0,
            ends_round: false,
            time_is_over: false,
        };
        while taken.events < quota && self.left > 0 {
            // The time limit of the calling thread counts for each call of the weigher.
            if self.weigh.is_user_code() && time_limit::is_over() {
                taken.time_is_over = true;
                taken.ends_round = true;
                break;
            }
            let Some(front) = lane.front() else { break };
            if self.needs_block() && !self.begin_block() {
                taken.ends_round = true;
                break;
            }
            taken.events += 1;
            if !self.append(front) {
                taken.ends_round = true;
                break;
            }
        }
        taken
    }

    /// Moves an event into the block. `false`: its weigher has panicked.
    #[inline(always)]
    fn append(&mut self, front: impl Front<Pending<T>>) -> bool {
        let weight = match &self.weigh {
            Weigh::Nothing => 0,
            Weigh::By(weigh) => match catch(|| weigh(&front.item().data)) {
                Ok(weight) => weight,
                Err(_) => {
                    self.fail(front);
                    return false;
                }
            },
        };
        let writer = self.writer.as_mut().expect("a block was begun");
        // Nothing comes between the two ends of the move, so that the payload is copied once: with
        // a local `Pending` the compiler copied it three times through the stack, and each copy
        // waited for the one before (2026-11-27).
        let rest = front.pop_into(|pending| {
            let Pending {
                envelope,
                data,
                receipt,
                #[cfg(feature = "latency")]
                stamp_ns,
            } = pending;
            writer.push(envelope, data, weight);
            PendingRest {
                receipt,
                #[cfg(feature = "latency")]
                stamp_ns,
            }
        });
        #[cfg(feature = "latency")]
        if rest.stamp_ns != 0 {
            writer.stamp(rest.stamp_ns);
        }
        if let Some(receipt) = rest.receipt {
            // Stored before the end of the round, so that a thread that has the receipt of an event
            // finds the event counted. Release, partner the loads in `Engine::check_flush` and in
            // `bus/stats.rs`.
            self.shared.last_id.store(self.next_id, Ordering::Release);
            receipt.fill(self.next_id, self.now_ns);
        }
        self.next_id += 1;
        self.left -= 1;
        self.sequenced += 1;
        true
    }

    /// The weigher has panicked at an event, which is therefore not sequenced. The panic was caught
    /// before the event is dropped: if the drop panics too, that is a separate panic.
    #[cold]
    #[inline(never)]
    fn fail(&mut self, front: impl Front<Pending<T>>) {
        self.failed = true;
        self.left -= 1;
        // Relaxed: a statistic.
        self.shared.unsequenced.fetch_add(1, Ordering::Relaxed);
        // A block that was begun for this event has none.
        if self.writer.as_ref().is_some_and(BlockWriter::is_empty) {
            self.writer = None;
        }
        // Its slot is free before it is dropped, since its drop may publish.
        front.pop_into(|pending| pending).discard();
    }

    /// Whether the next event needs a new block.
    #[inline]
    fn needs_block(&self) -> bool {
        self.writer.as_ref().is_none_or(BlockWriter::is_full)
    }

    /// Passes on the block that is full, and begins another. `false`: a shard has no room for it.
    #[inline(never)]
    fn begin_block(&mut self) -> bool {
        self.send_block();
        if !self.has_room() {
            return false;
        }
        self.writer = Some(self.source.block(self.left, self.next_id, self.now_ns));
        true
    }

    /// Passes the block to every shard, if there is one.
    fn send_block(&mut self) {
        let Some(writer) = self.writer.take() else {
            return;
        };
        let block = writer.finish().into_any();
        debug_assert_eq!(block.last_id() + 1, self.next_id, "ids rise by one");
        self.blocks += 1;
        let mut references = block.ref_batch(self.outputs.len());
        for output in &mut self.outputs {
            if output.push(references.take()).is_err() {
                unreachable!("the round has checked that every shard has room");
            }
            // Whether the shard sleeps does not matter: the thread that runs the sequencer runs the
            // shards afterwards, or wakes another thread for them.
            let _closed_or_asleep = output.commit();
        }
    }

    /// Passes on the last block. Returns how many events the round has sequenced.
    fn finish_round(&mut self) -> usize {
        self.send_block();
        // Relaxed: a statistic.
        self.shared.blocks.store(self.blocks, Ordering::Relaxed);
        // Release, partner the load of `last_id` in `Engine::check_flush`: the flush then waits
        // until the shards have delivered this event.
        self.shared
            .last_id
            .store(self.next_id - 1, Ordering::Release);
        self.sequenced
    }

    /// Whether every shard has room for a block.
    fn has_room(&mut self) -> bool {
        self.outputs.iter_mut().all(|output| output.room() > 0)
    }
}

/// A pending event without what is in its block.
struct PendingRest {
    receipt: Option<ReceiptSender>,
    #[cfg(feature = "latency")]
    stamp_ns: u64,
}

impl<T> Drop for Sequencer<T> {
    fn drop(&mut self) {
        // No publisher is left, so all events are written.
        self.close_and_take_lanes().discard_written();
    }
}

/// Lanes that accept nothing more, and whose events will not be sequenced.
#[allow(clippy::vec_box, reason = "as in `Sequencer`")]
struct ClosedLanes<T> {
    own: Vec<Box<OwnLane<T>>>,
    shared: mpsc::Consumer<Pending<T>>,
}

impl<T> ClosedLanes<T> {
    /// The number of events that the lanes have accepted and that were not sequenced.
    fn events(&mut self) -> u64 {
        let own = self.own.iter_mut().map(|lane| lane.ring.refresh());
        (own.sum::<usize>() + self.shared.ready()) as u64
    }

    /// Drops the events that are written one by one, so that a payload whose drop panics does not
    /// keep the others from being dropped. `false`: there are others, or the time of the calling
    /// thread is over.
    fn discard_written(&mut self) -> bool {
        for lane in &mut self.own {
            while let Some(pending) = next_in_time(|| lane.ring.pop()) {
                pending.discard();
            }
        }
        while let Some(pending) = next_in_time(|| self.shared.pop()) {
            pending.discard();
        }
        self.own.iter_mut().all(|lane| lane.ring.refresh() == 0) && self.shared.is_finished()
    }
}

/// The parked lanes, by slot.
struct ParkedLanes<T> {
    slots: Vec<Option<Box<OwnLane<T>>>>,
    /// The empty ones of `slots`, each once.
    free_slots: Vec<u32>,
}

impl<T> ParkedLanes<T> {
    fn new() -> Self {
        Self {
            slots: Vec::new(),
            free_slots: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.slots.len() == self.free_slots.len()
    }

    /// A slot to park a lane in. It stays free until `insert`.
    fn free_slot(&mut self) -> u32 {
        if self.free_slots.is_empty() {
            self.free_slots.push(self.slots.len() as u32);
            self.slots.push(None);
        }
        *self.free_slots.last().expect("a slot was added")
    }

    /// `slot` was returned by the last `free_slot`.
    fn insert(&mut self, slot: u32, lane: Box<OwnLane<T>>) {
        let free = self.free_slots.pop();
        debug_assert_eq!(free, Some(slot));
        self.slots[slot as usize] = Some(lane);
    }

    fn remove(&mut self, slot: u32) -> Box<OwnLane<T>> {
        let lane = self.slots[slot as usize].take();
        self.free_slots.push(slot);
        if self.free_slots.len() == self.slots.len() {
            self.slots.clear();
            self.slots.shrink_to(LANES_KEPT);
            self.free_slots.clear();
            self.free_slots.shrink_to(LANES_KEPT);
        }
        lane.expect("a lane is reported once, by the side that has taken its slot")
    }

    /// Moves all lanes to `lanes`.
    #[allow(clippy::vec_box, reason = "as in `Sequencer`")]
    fn remove_all(&mut self, lanes: &mut Vec<Box<OwnLane<T>>>) {
        lanes.extend(self.slots.drain(..).flatten());
        self.free_slots.clear();
    }
}

/// `None` also if the time of the calling thread is over.
fn next_in_time<P>(pop: impl FnOnce() -> Option<P>) -> Option<P> {
    if time_limit::is_over() { None } else { pop() }
}
