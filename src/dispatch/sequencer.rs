//! The sequencer: merges the lanes into one order and lays the events into blocks.
//!
//! A round looks at every lane, takes at most a fair share from each, gives each event the next id and the round's
//! time, and passes the blocks to every shard. Blocks are as full as what was ready: the sequencer never waits to
//! fill one, so batches form by themselves under load, and a lone event goes alone.
//!
//! Before a thread of the pool sleeps, it has the sequencer look once more and ask every lane to call (see
//! [`spsc`]), so whoever accepts the next event knows that somebody must be woken for it. Not
//! at every look: the wish is written to the publisher's own cache line.
//!
//! **Closing**: the lanes are closed first, then drained, then the shards' inputs are closed. What a lane accepted
//! before its close is sequenced.

use std::time::{Instant, SystemTime};

use super::Weigh;
use super::block::{BLOCK_EVENTS_MAX, BlockSource, BlockWriter};
use super::lane::{OwnLane, Pending};
use crate::contain::contain;
use crate::park::WaitSet;
use crate::ring::spsc::Readiness;
use crate::ring::{mpsc, spsc};
use crate::sync::unmodelled::AtomicU64 as AtomicStatistic;
use crate::sync::{Arc, AtomicU64, Ordering, Queue};

/// Events that a round takes at most: a bound on how long the shards wait for it.
pub(crate) const ROUND_EVENTS: usize = 1024;

/// Events that a round may take from a lane however many lanes there are.
const QUOTA_MIN: usize = BLOCK_EVENTS_MAX;

/// Where a sequencer's times come from.
pub(crate) type Clock = Box<dyn Fn() -> SystemTime + Send>;

/// The state behind the sequencer's role.
pub(crate) struct Sequencer<T> {
    lanes: Vec<OwnLane<T>>,
    /// The lane at which the next round begins, 0 to the number of lanes.
    first_lane: usize,
    shared_lane: mpsc::Consumer<Pending<T>>,
    shared: Arc<SequencerShared<T>>,
    source: BlockSource<T>,
    outputs: Vec<spsc::Producer<super::block::BlockRef<T>>>,
    next_id: u64,
    blocks: u64,
    /// Time of the last round, in nanoseconds since the Unix epoch; never goes back.
    now_ns: u64,
    clock: Clock,
    weigh: Weigh<T>,
    closed_lanes: bool,
    /// Whether the last look found more than it could take.
    more: bool,
    flush: Option<Flush>,
}

/// A flush in progress: done when every lane has been drained up to where it stood.
struct Flush {
    ticket: u64,
    shared_target: u64,
}

/// What the sequencer shares with everybody else.
pub(crate) struct SequencerShared<T> {
    /// Lanes of new publishers.
    pub(crate) new_lanes: Queue<OwnLane<T>>,
    /// The shared lane's waiting publishers.
    pub(crate) room: WaitSet,
    /// Id of the event sequenced last; 0: none yet.
    pub(crate) last_id: AtomicU64,
    /// Events discarded unsequenced by a forced close.
    pub(crate) unsequenced: AtomicU64,
    /// Blocks that the events were laid into; written once per round.
    pub(crate) blocks: AtomicStatistic,
    /// Flushes asked for.
    pub(crate) flush_asked: AtomicU64,
    /// Flushes done: everything accepted before they were asked for is sequenced.
    pub(crate) flush_done: AtomicU64,
}

/// What a round did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// Whether it moved anything, so that another round may find more, and whoever waits has to look.
    pub(crate) progress: bool,
    /// Whether a further round would find something at once.
    pub(crate) more: bool,
    /// Whether this role has finished for good.
    pub(crate) finished: bool,
    /// When another round has something to do, even if nobody calls.
    pub(crate) deadline: Option<Instant>,
}

impl<T> Sequencer<T> {
    pub(crate) fn new(
        shared_lane: mpsc::Consumer<Pending<T>>,
        shared: Arc<SequencerShared<T>>,
        outputs: Vec<spsc::Producer<super::block::BlockRef<T>>>,
        clock: Clock,
        weigh: Weigh<T>,
    ) -> Self {
        Self {
            lanes: Vec::new(),
            first_lane: 0,
            shared_lane,
            shared,
            source: BlockSource::new(),
            outputs,
            next_id: 1,
            blocks: 0,
            now_ns: 0,
            clock,
            weigh,
            closed_lanes: false,
            more: false,
            flush: None,
        }
    }

    /// One round. `closing`: close the lanes first. `before_sleep`: when nothing is there, ask every lane to call.
    pub(crate) fn round(&mut self, closing: bool, before_sleep: bool) -> Round {
        // Acquire, partner whoever asks: what it saw accepted is in lanes that we admit_lanes and look at after this.
        let flush_asked = self.shared.flush_asked.load(Ordering::Acquire);
        self.admit_lanes();
        self.begin_flush(flush_asked);
        if closing && !self.closed_lanes {
            self.close_lanes();
        }
        let mut sequenced = self.sequence();
        if sequenced == 0 && before_sleep && self.request_wakes() {
            sequenced = self.sequence();
        }
        let finished = self.closed_lanes && self.is_drained();
        if finished {
            self.outputs.iter().for_each(|output| {
                output.close();
            });
        }
        let flushed = self.finish_flush();
        Round {
            progress: sequenced > 0 || flushed,
            // Another flush may have been asked for while this one was in progress.
            more: self.more || flushed,
            finished,
            deadline: None,
        }
    }

    /// Closes the lanes and drops what is in them. Returns how many events that were.
    pub(crate) fn discard(&mut self) -> u64 {
        self.admit_lanes();
        self.close_lanes();
        let mut discarded = 0;
        while let Some(pending) = self.shared_lane.pop() {
            pending.discard();
            discarded += 1;
        }
        for lane in &mut self.lanes {
            while let Some(pending) = lane.ring.pop() {
                pending.discard();
                discarded += 1;
            }
            lane.ring.release();
        }
        // Relaxed: a statistic.
        self.shared
            .unsequenced
            .fetch_add(discarded, Ordering::Relaxed);
        discarded
    }

    /// Takes in the lanes of new publishers, and lets those go whose publishers have gone.
    fn admit_lanes(&mut self) {
        while let Some(mut lane) = self.shared.new_lanes.pop() {
            if self.closed_lanes {
                lane.close();
            }
            self.lanes.push(lane);
        }
        if self.lanes.iter_mut().any(|lane| lane.ring.is_finished()) {
            self.lanes.retain_mut(|lane| !lane.ring.is_finished());
        }
    }

    fn close_lanes(&mut self) {
        self.closed_lanes = true;
        self.shared_lane.close();
        self.shared.room.notify();
        self.lanes.iter_mut().for_each(OwnLane::close);
    }

    fn is_drained(&mut self) -> bool {
        self.shared_lane.is_finished() && self.lanes.iter_mut().all(|lane| lane.ring.is_finished())
    }

    /// Notes how far each lane must be drained for a flush that was asked for.
    fn begin_flush(&mut self, asked: u64) {
        // Relaxed: only we write it.
        if self.flush.is_some() || asked == self.shared.flush_done.load(Ordering::Relaxed) {
            return;
        }
        for lane in &mut self.lanes {
            lane.flush_target = lane.ring.position() + lane.ring.refresh() as u64;
        }
        let shared_target = self.shared_lane.position() + self.shared_lane.ready() as u64;
        self.flush = Some(Flush {
            ticket: asked,
            shared_target,
        });
    }

    /// `true`: the flush is done.
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
            // Release, partner whoever asked: `last_id` covers what was flushed.
            self.shared.flush_done.store(ticket, Ordering::Release);
        }
        done
    }

    /// Asks every lane to call when an event comes. `true`: one has come already.
    fn request_wakes(&mut self) -> bool {
        let mut ready = self.shared_lane.request_wake() == Readiness::Ready;
        for lane in &mut self.lanes {
            ready |= lane.ring.request_wake() == Readiness::Ready;
        }
        ready
    }

    /// Takes what is ready, up to the round's bounds and the shards' room. Returns how many events that were.
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
        let mut open = OpenBlock {
            writer: None,
            left: ready,
            sequenced: 0,
        };

        // Every lane gets its turn to be first, else the last would starve when shards have little room.
        let lanes = self.lanes.len();
        self.first_lane = if self.first_lane >= lanes {
            0
        } else {
            self.first_lane + 1
        };
        for offset in 0..=lanes {
            let lane = (self.first_lane + offset) % (lanes + 1);
            if !self.drain(lane, quota, &mut open) {
                break;
            }
        }
        if let Some(writer) = open.writer.take() {
            self.send_block(writer);
        }
        // Relaxed: a statistic.
        self.shared.blocks.store(self.blocks, Ordering::Relaxed);
        // Release, partner those who read it to wait for dispatch.
        self.shared
            .last_id
            .store(self.next_id - 1, Ordering::Release);
        self.more = open.sequenced > 0 && open.sequenced < shared_ready + own_ready;
        open.sequenced
    }

    /// Takes up to `quota` events from a lane; number `self.lanes.len()` is the shared one. `false`: the shards have
    /// no room for another block.
    fn drain(&mut self, lane: usize, quota: usize, open: &mut OpenBlock<T>) -> bool {
        let shared = lane == self.lanes.len();
        let mut taken = 0;
        let mut room = true;
        while taken < quota && open.left > 0 {
            if open.is_full() {
                if let Some(writer) = open.writer.take() {
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
            self.append(pending, open);
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
    fn append(&mut self, pending: Pending<T>, open: &mut OpenBlock<T>) {
        let Pending {
            envelope,
            data,
            receipt,
            #[cfg(feature = "latency")]
            stamp_ns,
        } = pending;
        let weight = self.weigh.weigh(&data);
        let writer = match &mut open.writer {
            Some(writer) => writer,
            none => none.insert(self.source.block(open.left, self.next_id, self.now_ns)),
        };
        writer.push(envelope, data, weight);
        #[cfg(feature = "latency")]
        if stamp_ns != 0 {
            writer.stamp(stamp_ns);
        }
        if let Some(receipt) = receipt {
            // Whoever has the receipt of an event finds it counted. Release: as at the end of the round.
            self.shared.last_id.store(self.next_id, Ordering::Release);
            receipt.fill(self.next_id, self.now_ns);
        }
        self.next_id += 1;
        open.left -= 1;
        open.sequenced += 1;
    }

    /// Gives a block to every shard.
    fn send_block(&mut self, writer: BlockWriter<T>) {
        let block = writer.finish();
        self.blocks += 1;
        let mut refs = block.ref_batch(self.outputs.len());
        for output in &mut self.outputs {
            if output.push(refs.take()).is_err() {
                unreachable!("the round checked that every shard has room");
            }
            // Whether the shard sleeps does not matter: whoever sequences also sees to the shards.
            let _closed_or_asleep = output.commit();
        }
    }

    /// Whether every shard has room for a block.
    fn has_room(&mut self) -> bool {
        self.outputs.iter_mut().all(|output| output.room() > 0)
    }

    /// Reads the clock; time stands still rather than run backwards, and when the clock fails.
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
    /// Drops what nobody sequenced, one by one, so that a payload whose drop panics takes nobody along.
    fn drop(&mut self) {
        self.discard();
    }
}

/// A round in progress.
struct OpenBlock<T> {
    writer: Option<BlockWriter<T>>,
    /// Events that the round may still take.
    left: usize,
    sequenced: usize,
}

impl<T> OpenBlock<T> {
    /// Whether a block has to be passed on before the next event.
    fn is_full(&self) -> bool {
        self.writer.as_ref().is_none_or(BlockWriter::is_full)
    }
}
