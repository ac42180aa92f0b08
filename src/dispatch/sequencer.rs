//! The sequencer: merges the lanes into one order, and puts the events into blocks.
//!
//! * **In**: accepted events, in the publishers' own lanes and in the shared lane.
//! * **Out**: blocks of up to 64 events that have ids and a time, one reference to each block in
//!   the input ring of every shard. The events are now **sequenced**.
//! * **Called by**: [`Engine`](super::engine::Engine) in `engine.rs`, from whichever thread holds
//!   the sequencer's role: [`Sequencer::round`].
//! * **Next file**: `shard.rs`. (`block/mod.rs` is what a block is.)
//!
//! A round looks at every lane, takes at most a quota from each, gives each event the next id and
//! the round's time, and passes the blocks to every shard. A block holds what was ready: the
//! sequencer never waits for more events. So batches form by themselves under load, and a lone
//! event gets a block of its own.
//!
//! Before a pool thread sleeps, the sequencer looks once more and requests a wake-up from every
//! lane (see [`spsc`]), so the publisher that pushes the next event knows that it has to wake a
//! thread. It does not do so in every round, since the request is written to the publisher's own
//! cache line.
//!
//! # Failure modes
//!
//! * **A shard's input is full**: the sequencer takes no more events, and the lanes fill up.
//! * **Closing**: the lanes are closed first, then drained, then the shards' inputs are closed.
//!   What a lane accepted before it was closed is sequenced.
//! * **Closing by force, or a broken bus**: [`Sequencer::discard`] drops what is in the lanes, and
//!   counts it as unsequenced.
//! * **The clock** panics, runs backwards or is before 1970: the time stands still.
//! * **The weigher** panics: that breaks the bus, since the round cannot be finished.

use std::time::{Instant, SystemTime};

use super::Weigh;
use super::block::{AnyBlock, BLOCK_EVENTS_MAX, BlockSource, BlockWriter};
use super::lane::{OwnLane, Pending};
use crate::contain::{UserValue, contain};
use crate::park::WaitSet;
use crate::ring::spsc::Readiness;
use crate::ring::{mpsc, spsc};
use crate::sync::unmodelled::AtomicU64 as AtomicStatistic;
use crate::sync::{Arc, AtomicU64, Ordering, Queue, thread};
use crate::time_limit;

/// The most events that a round takes: a bound on how long the shards wait for it.
pub(crate) const ROUND_EVENTS: usize = 1024;

/// Events that a round may take from a lane, however many lanes there are.
const QUOTA_MIN: usize = BLOCK_EVENTS_MAX;

/// Where the times of events come from.
pub(crate) type Clock = UserValue<Box<dyn Fn() -> SystemTime + Send>>;

/// The state behind the sequencer's role.
pub(crate) struct Sequencer<T> {
    lanes: Vec<OwnLane<T>>,
    /// The lane at which the last round began, 0 to the number of lanes, which stands for the
    /// shared lane.
    first_lane: usize,
    shared_lane: mpsc::Consumer<Pending<T>>,
    /// Lanes of new publishers.
    new_lanes: Arc<Queue<OwnLane<T>>>,
    shared: Arc<SequencerShared>,
    source: BlockSource<T>,
    /// The inputs of the shards.
    outputs: Vec<spsc::Producer<AnyBlock>>,
    /// Id of the next event, from 1.
    next_id: u64,
    /// Blocks passed to the shards.
    blocks: u64,
    /// Time of the last round, in nanoseconds since the Unix epoch. It never goes back.
    now_ns: u64,
    clock: Clock,
    weigh: Weigh<T>,
    lanes_closed: bool,
    /// Whether the last round left events that it could have taken with a larger bound.
    more: bool,
    flush: Option<Flush>,
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
    /// Publishers that wait for room in the shared lane.
    pub(crate) room: WaitSet,
    /// Id of the event sequenced last; 0: none yet.
    pub(crate) last_id: AtomicU64,
    /// Events discarded before they were sequenced.
    pub(crate) unsequenced: AtomicU64,
    /// Blocks passed to the shards; written once per round.
    pub(crate) blocks: AtomicStatistic,
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
    /// Whether this role has finished for good.
    pub(crate) finished: bool,
    /// When another round has something to do even if no thread wakes the pool.
    pub(crate) deadline: Option<Instant>,
}

impl SequencerShared {
    pub(crate) fn new() -> Self {
        Self {
            room: WaitSet::new(),
            last_id: AtomicU64::new(0),
            unsequenced: AtomicU64::new(0),
            blocks: AtomicStatistic::new(0),
            flushes_requested: AtomicU64::new(0),
            flushes_completed: AtomicU64::new(0),
        }
    }
}

/// What the engine does with a sequencer, whatever the type of the payloads.
pub(crate) trait Sequence: Send {
    /// One round. `closing`: the lanes are closed first. `before_sleep`: if there is nothing to do,
    /// a wake-up is requested from every lane.
    fn round(&mut self, closing: bool, before_sleep: bool) -> RoundResult;

    /// Closes the lanes, and drops the events in them, which count as unsequenced. If the calling
    /// thread has a time limit, another thread drops them.
    fn discard(&mut self);
}

impl<T: Send + Sync + 'static> Sequencer<T> {
    pub(crate) fn new(
        shared_lane: mpsc::Consumer<Pending<T>>,
        new_lanes: Arc<Queue<OwnLane<T>>>,
        shared: Arc<SequencerShared>,
        outputs: Vec<spsc::Producer<AnyBlock>>,
        clock: Clock,
        weigh: Weigh<T>,
    ) -> Self {
        Self {
            lanes: Vec::new(),
            first_lane: 0,
            shared_lane,
            new_lanes,
            shared,
            source: BlockSource::new(),
            outputs,
            next_id: 1,
            blocks: 0,
            now_ns: 0,
            clock,
            weigh,
            lanes_closed: false,
            more: false,
            flush: None,
        }
    }
}

impl<T: Send + Sync + 'static> Sequence for Sequencer<T> {
    fn round(&mut self, closing: bool, before_sleep: bool) -> RoundResult {
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
        if sequenced == 0 && before_sleep && self.request_wakes() {
            sequenced = self.sequence();
        }
        let finished = self.lanes_closed && self.is_drained();
        if finished {
            self.outputs.iter().for_each(|output| {
                output.close();
            });
        }
        let flushed = self.finish_flush();
        RoundResult {
            progress: sequenced > 0 || flushed,
            // Another flush may have been requested while this one was in progress.
            more: self.more || flushed,
            finished,
            deadline: None,
        }
    }

    fn discard(&mut self) {
        let closed = self.close_and_take_lanes();
        if time_limit::is_set() {
            time_limit::hand_over(move || closed.discard());
        } else {
            closed.discard();
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

    /// Takes over the lanes of new publishers, and removes the drained lanes of dropped ones.
    fn admit_lanes(&mut self) {
        while let Some(mut lane) = self.new_lanes.pop() {
            if self.lanes_closed {
                lane.close();
            }
            self.lanes.push(lane);
        }
        if self.lanes.iter_mut().any(|lane| lane.ring.is_finished()) {
            self.lanes.retain_mut(|lane| !lane.ring.is_finished());
        }
    }

    fn close_lanes(&mut self) {
        self.lanes_closed = true;
        self.shared_lane.close();
        self.shared.room.notify();
        self.lanes.iter_mut().for_each(OwnLane::close);
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
        for lane in &mut self.lanes {
            ready |= lane.ring.request_wake() == Readiness::Ready;
        }
        ready
    }

    /// Takes what is ready, up to the bounds of a round and the room of the shards. Returns how
    /// many events that were.
    fn sequence(&mut self) -> usize {
        let shared_ready = self.shared_lane.ready();
        let own_ready: usize = self.lanes.iter_mut().map(|lane| lane.ring.refresh()).sum();
        let ready = (shared_ready + own_ready).min(ROUND_EVENTS);
        self.more = false;
        if ready == 0 || !self.has_room() {
            return 0;
        }
        self.read_clock();
        let quota = (ROUND_EVENTS / (self.lanes.len() + 1)).max(QUOTA_MIN);
        let mut round = OpenRound {
            writer: None,
            left: ready,
            sequenced: 0,
        };

        // Each round begins at another lane: otherwise the last lane would starve when the shards
        // have little room.
        let lanes = self.lanes.len();
        self.first_lane = if self.first_lane >= lanes {
            0
        } else {
            self.first_lane + 1
        };
        for offset in 0..=lanes {
            let lane = (self.first_lane + offset) % (lanes + 1);
            if !self.drain(lane, quota, &mut round) {
                break;
            }
        }
        if let Some(writer) = round.writer.take() {
            self.send_block(writer);
        }
        debug_assert_eq!(round.sequenced + round.left, ready);
        // Relaxed: a statistic.
        self.shared.blocks.store(self.blocks, Ordering::Relaxed);
        // Release, partner the load of `last_id` in `Engine::check_flush`: the flush then waits
        // until the shards have delivered this event.
        self.shared
            .last_id
            .store(self.next_id - 1, Ordering::Release);
        self.more = round.sequenced > 0 && round.sequenced < shared_ready + own_ready;
        round.sequenced
    }

    /// Takes up to `quota` events from a lane; the number `self.lanes.len()` stands for the shared
    /// lane. `false`: the shards have no room for another block.
    fn drain(&mut self, lane: usize, quota: usize, round: &mut OpenRound<T>) -> bool {
        let shared = lane == self.lanes.len();
        let mut taken = 0;
        let mut room = true;
        while taken < quota && round.left > 0 {
            if round.needs_block() {
                if let Some(writer) = round.writer.take() {
                    self.send_block(writer);
                }
                if !self.has_room() {
                    room = false;
                    break;
                }
            }
            let pending = if shared {
                self.shared_lane.pop()
            } else {
                self.lanes[lane].ring.pop()
            };
            let Some(pending) = pending else { break };
            self.append(pending, round);
            taken += 1;
        }
        if taken > 0 {
            if shared {
                self.shared.room.notify();
            } else {
                self.lanes[lane].release();
            }
        }
        room
    }

    #[inline]
    fn append(&mut self, pending: Pending<T>, round: &mut OpenRound<T>) {
        let Pending {
            envelope,
            data,
            receipt,
            #[cfg(feature = "latency")]
            stamp_ns,
        } = pending;
        let weight = match self.weigh.weigh(&data) {
            Ok(weight) => weight,
            Err(panic) => {
                // Not while the panic unwinds: a second panic would abort the process.
                contain("a payload's drop", || drop(data));
                panic.resume()
            }
        };
        let writer = match &mut round.writer {
            Some(writer) => writer,
            none => none.insert(self.source.block(round.left, self.next_id, self.now_ns)),
        };
        writer.push(envelope, data, weight);
        #[cfg(feature = "latency")]
        if stamp_ns != 0 {
            writer.stamp(stamp_ns);
        }
        if let Some(receipt) = receipt {
            // Stored before the end of the round, so that a thread that has the receipt of an event
            // finds the event counted. Release, partner the loads in `Engine::check_flush` and in
            // `bus/stats.rs`.
            self.shared.last_id.store(self.next_id, Ordering::Release);
            receipt.fill(self.next_id, self.now_ns);
        }
        self.next_id += 1;
        round.left -= 1;
        round.sequenced += 1;
    }

    /// Passes a block to every shard.
    fn send_block(&mut self, writer: BlockWriter<T>) {
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

    /// Whether every shard has room for a block.
    fn has_room(&mut self) -> bool {
        self.outputs.iter_mut().all(|output| output.room() > 0)
    }

    /// Reads the clock. The time stands still when the clock fails or runs backwards.
    fn read_clock(&mut self) {
        let since = contain("the clock", || (self.clock)())
            .and_then(|now| now.duration_since(SystemTime::UNIX_EPOCH).ok());
        let now_ns = since
            .and_then(|since| u64::try_from(since.as_nanos()).ok())
            .unwrap_or(0);
        self.now_ns = self.now_ns.max(now_ns);
    }
}

impl<T> Drop for Sequencer<T> {
    fn drop(&mut self) {
        self.close_and_take_lanes().discard();
    }
}

/// Lanes that accept nothing more, and whose events will not be sequenced.
struct ClosedLanes<T> {
    own: Vec<OwnLane<T>>,
    shared: mpsc::Consumer<Pending<T>>,
}

impl<T> ClosedLanes<T> {
    /// The number of events that the lanes have accepted and that were not sequenced.
    fn events(&mut self) -> u64 {
        let own = self.own.iter_mut().map(|lane| lane.ring.refresh());
        (own.sum::<usize>() + self.shared.ready()) as u64
    }

    /// Drops the events one by one, so that a payload whose drop panics does not keep the others
    /// from being dropped.
    fn discard(mut self) {
        for lane in &mut self.own {
            while let Some(pending) = lane.ring.pop() {
                pending.discard();
            }
        }
        loop {
            while let Some(pending) = self.shared.pop() {
                pending.discard();
            }
            if self.shared.is_finished() {
                return;
            }
            // A publisher that claimed its place before the lane was closed is still writing its
            // event.
            thread::yield_now();
        }
    }
}

/// A round in progress.
struct OpenRound<T> {
    /// The block that is being filled; `None` before the first event and after a block was passed
    /// on.
    writer: Option<BlockWriter<T>>,
    /// Events that the round may still take, [`ROUND_EVENTS`] at most.
    left: usize,
    /// Events that the round has taken.
    sequenced: usize,
}

impl<T> OpenRound<T> {
    /// Whether the next event needs a new block.
    fn needs_block(&self) -> bool {
        self.writer.as_ref().is_none_or(BlockWriter::is_full)
    }
}
