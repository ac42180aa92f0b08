//! The engine: which thread holds which role, and when; flushing, closing, and what a panic does.

use std::task::Waker;
use std::time::Instant;

use super::lane::{LaneShared, OwnLane, Pending};
use super::role::Role;
use super::sequencer::{Clock, Round, Sequencer, SequencerShared};
use super::shard::{INPUT_BLOCKS, Shard, ShardShared};
use super::signal::{Latch, Signal};
use crate::contain::catch;
use crate::index::SharedIndex;
use crate::park::{Backoff, NonBlockingScope, WaitSet};
use crate::ring::{mpsc, spsc};
use crate::sync::unmodelled::AtomicU64 as AtomicStatistic;
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering, Queue, thread};

#[cfg(feature = "latency")]
use super::latency;
use super::{Dispatch, Weigh, block};

/// What an engine is made from.
pub(crate) struct EngineConfig<T> {
    pub(crate) dispatch: Dispatch,
    /// Threads of the pool, and shards: 1 to [`DISPATCHERS_MAX`](super::signal::DISPATCHERS_MAX).
    pub(crate) dispatchers: usize,
    /// Events that the shared lane can hold.
    pub(crate) lane_capacity: usize,
    pub(crate) clock: Clock,
    pub(crate) weigh: Weigh<T>,
    /// Whether there is a cache in front of each index.
    pub(crate) match_cache: bool,
}

/// The sequencer, the shards, and those who hold them.
pub(crate) struct Engine<T> {
    dispatch: Dispatch,
    sequencer: Role<Sequencer<T>>,
    pub(crate) shared: Arc<SequencerShared<T>>,
    shared_lane: mpsc::Producers<Pending<T>>,
    shards: Box<[ShardHandle<T>]>,
    signal: Arc<Signal>,
    sequencer_done: AtomicBool,
    /// Roles that have not finished.
    unfinished: AtomicUsize,
    closing: AtomicBool,
    broken: AtomicBool,
    /// Those who wait for something to get done: flush and close.
    progress: WaitSet,
    /// Threads that take part: the pool's, and one per publisher and subscriber. An estimate, for spinning.
    pub(crate) threads: AtomicUsize,
    /// Set before anybody else knows the engine.
    #[cfg(feature = "latency")]
    pub(crate) sampling: Option<latency::Sampling>,
}

/// A shard's place.
struct ShardHandle<T> {
    role: Role<Shard<T>>,
    shared: Arc<ShardShared<T>>,
    done: AtomicBool,
}

/// A flush that was asked for.
pub(crate) struct FlushTicket {
    ticket: u64,
    /// Id up to which everything has to be in rings, once that is known.
    target: Option<u64>,
}

/// What became of a outcome at a role.
#[derive(Clone, Copy, Default)]
struct Outcome {
    progress: bool,
    /// There is more to do, and nobody else at it.
    again: bool,
    /// When there is something to do even if nobody calls: the end of the longest wait of a stalled shard.
    deadline: Option<Instant>,
    /// A shard has begun such a wait: if the caller does not look again before it sleeps, somebody else must.
    new_deadline: bool,
}

impl<T> Engine<T> {
    pub(crate) fn new(config: EngineConfig<T>) -> Self {
        let EngineConfig {
            dispatch,
            dispatchers,
            lane_capacity,
            clock,
            weigh,
            match_cache,
        } = config;
        let threads = if dispatch == Dispatch::Manual {
            0
        } else {
            dispatchers
        };
        let signal = Arc::new(Signal::new(threads));
        let (shared_lane, shared_consumer) = mpsc::ring(lane_capacity);
        let shared = Arc::new(SequencerShared {
            new_lanes: Queue::new(),
            room: WaitSet::new(),
            last_id: AtomicU64::new(0),
            unsequenced: AtomicU64::new(0),
            blocks: AtomicStatistic::new(0),
            flush_asked: AtomicU64::new(0),
            flush_done: AtomicU64::new(0),
        });
        let mut outputs = Vec::with_capacity(dispatchers);
        let mut shards = Vec::with_capacity(dispatchers);
        for _ in 0..dispatchers {
            let (output, input) = spsc::ring(INPUT_BLOCKS);
            outputs.push(output);
            shards.push(ShardHandle::new(input, signal.clone(), match_cache));
        }
        let sequencer = Sequencer::new(shared_consumer, shared.clone(), outputs, clock, weigh);
        Self {
            dispatch,
            sequencer: Role::new(sequencer),
            shared,
            shared_lane,
            shards: shards.into_boxed_slice(),
            signal,
            sequencer_done: AtomicBool::new(false),
            unfinished: AtomicUsize::new(dispatchers + 1),
            closing: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            progress: WaitSet::new(),
            threads: AtomicUsize::new(threads),
            #[cfg(feature = "latency")]
            sampling: None,
        }
    }

    /// A new publisher's lane. The other end goes to the sequencer.
    pub(crate) fn own_lane(
        &self,
        capacity: usize,
    ) -> (spsc::Producer<Pending<T>>, Arc<LaneShared>) {
        let (producer, ring) = spsc::ring(capacity);
        let shared = Arc::new(LaneShared::new());
        let mut lane = OwnLane {
            ring,
            shared: shared.clone(),
            capacity,
            flush_target: 0,
        };
        // From the start the lane asks to be told of its first event: nobody may be looking at lanes just now.
        lane.ring.request_wake();
        self.shared.new_lanes.push(lane);
        (producer, shared)
    }

    /// A publisher has gone, and closed its lane. `wake_requested`: the lane asked for a call.
    pub(crate) fn lane_closed(&self, wake_requested: bool) {
        if wake_requested {
            self.signal.wake_one();
        }
    }

    /// The lane that any thread may push to.
    pub(crate) fn shared_lane(&self) -> &mpsc::Producers<Pending<T>> {
        &self.shared_lane
    }

    /// A lane has accepted an event. `wake_requested`: it asked for a call.
    #[inline]
    pub(crate) fn accepted(&self, wake_requested: bool) {
        match self.dispatch {
            Dispatch::Pool if wake_requested => self.signal.wake_one(),
            Dispatch::Inline => self.lend_a_hand(),
            Dispatch::Pool | Dispatch::Manual => {}
        }
    }

    /// Holds whatever role is free until there is nothing left to do. `true`: something was done.
    pub(crate) fn drive(&self) -> bool {
        self.drive_until_idle().progress
    }

    /// Also answers when there is more to do.
    fn drive_until_idle(&self) -> Outcome {
        let mut done = Outcome::default();
        loop {
            let outcome = self.pass(false);
            done = Outcome {
                deadline: outcome.deadline,
                ..done.merge(outcome)
            };
            if outcome.is_idle() {
                break;
            }
        }
        if done.again || done.new_deadline {
            // A pool thread may have come by, found the sequencer held by us, and gone to sleep without asking the lanes
            // to call, or without hearing of a deadline. It has to look once more.
            self.signal.wake_one();
        }
        done
    }

    /// Waits for what `done` says. `None`: not until the deadline.
    fn wait_for<R>(
        &self,
        deadline: Option<Instant>,
        mut done: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        if self.dispatch != Dispatch::Manual {
            return self.progress.wait_until(deadline, done);
        }
        let mut until = deadline;
        loop {
            let look = || {
                if let Some(value) = done() {
                    return Some(Ok(value));
                }
                // There is no pool thread that would come by when a longest wait is over, and it may be another thread
                // that began it, since our last look.
                let next = earliest(deadline, self.drive_until_deadline());
                if let Some(value) = done() {
                    return Some(Ok(value));
                }
                (next != until).then_some(Err(next))
            };
            match self.progress.wait_until(until, look) {
                Some(Ok(value)) => return Some(value),
                Some(Err(next)) => until = next,
                None if until == deadline => return None,
                None => {}
            }
        }
    }

    /// Drives a manual bus, for somebody who waits for what comes of it, and says when he has to come by again even if
    /// nobody calls. He registers with `progress` before: a shard that is held by another thread is looked at
    /// once more by that one, and then he is called.
    pub(crate) fn drive_until_deadline(&self) -> Option<Instant> {
        self.drive_until_idle().deadline
    }

    /// One outcome at every role that is free. `before_sleep`: the caller is going to sleep, so have it called.
    fn pass(&self, before_sleep: bool) -> Outcome {
        let _here = NonBlockingScope::enter();
        let mut outcome = self.run_sequencer(before_sleep);
        if outcome.progress && self.shards.len() > 1 && self.dispatch == Dispatch::Pool {
            self.signal.wake_one(); // somebody to take the other shards
        }
        for shard in &self.shards {
            outcome = outcome.merge(self.run_shard(shard));
        }
        outcome
    }

    /// A change waits for a shard: sees that it is carried out now, or by the holder.
    pub(crate) fn apply_changes(&self, shard: usize) {
        // The block that a stalled shard lets go of may run a payload's drop.
        let _here = NonBlockingScope::enter();
        let shard = &self.shards[shard];
        let (mut owed, mut was_stalled) = (false, false);
        loop {
            let Some(mut held) = shard.role.try_hold() else {
                return;
            };
            let applied = self.run_or_break(|| held.apply_pending_changes());
            was_stalled |= applied.unwrap_or(true);
            if !held.release() || applied.is_none() {
                break;
            }
            owed = true;
        }
        if owed && self.dispatch == Dispatch::Manual {
            self.drive(); // for the one who drove meanwhile, and found the shard held
            self.progress.notify(); // who may wait, and know of no deadline
        }
        // Not after each change: many of them would keep a pool thread coming and going.
        if owed || was_stalled {
            self.signal.wake_one();
        }
        self.break_feeds_if_broken();
    }

    /// Publishers have gone or somebody closed the bus: accepts nothing more, and finishes what was accepted.
    pub(crate) fn begin_close(&self) {
        // Release, partner `is_closing`.
        self.closing.store(true, Ordering::Release);
        match self.dispatch {
            Dispatch::Pool => self.signal.wake_one(),
            Dispatch::Inline | Dispatch::Manual => {
                self.drive();
                self.signal.wake_one();
            }
        }
    }

    /// Waits until everything is dispatched; when the time is up, gives up what is left. `true`: nothing was.
    ///
    /// From inside the dispatch it does neither: whoever waits there, or takes roles by force, waits for itself.
    pub(crate) fn finish_close(&self, deadline: Option<Instant>) -> bool {
        self.drive();
        if NonBlockingScope::is_active() {
            return self.is_finished();
        }
        let done = || self.is_finished().then_some(());
        if self.wait_for(deadline, done).is_some() {
            return true;
        }
        self.force();
        false
    }

    /// Waits until all that was accepted so far is in rings. `false`: the time is up, or the bus broke.
    pub(crate) fn flush(&self, deadline: Option<Instant>) -> bool {
        let mut ticket = self.begin_flush();
        self.drive();
        // Inside the dispatch this only looks: a wait there would wait for its own thread.
        let deadline = if NonBlockingScope::is_active() {
            Some(Instant::now())
        } else {
            deadline
        };
        self.wait_for(deadline, || self.check_flush(&mut ticket))
            .unwrap_or(false)
    }

    /// Asks for a flush. The caller sees to it that the sequencer runs, and then looks with
    /// [`check_flush`](Self::check_flush).
    pub(crate) fn begin_flush(&self) -> FlushTicket {
        FlushTicket {
            // AcqRel, partner `Sequencer::begin_flush`.
            ticket: self.shared.flush_asked.fetch_add(1, Ordering::AcqRel) + 1,
            target: None,
        }
    }

    /// Whether all that was accepted before the flush was asked for is in rings. `None`: not yet.
    /// `Some(false)`: the bus broke.
    pub(crate) fn check_flush(&self, flush: &mut FlushTicket) -> Option<bool> {
        if self.is_broken() {
            return Some(false);
        }
        // Acquire, partner `Sequencer::finish_flush`, and below `Shard::commit`.
        if flush.target.is_none() && self.shared.flush_done.load(Ordering::Acquire) >= flush.ticket
        {
            // Noted once: what is sequenced later does not count, and a stream of it has no end.
            flush.target = Some(self.shared.last_id.load(Ordering::Acquire));
        }
        let delivered = |shard: &ShardHandle<T>| shard.shared.delivered_id.load(Ordering::Acquire);
        let done = |target| self.shards.iter().all(|shard| delivered(shard) >= target);
        (self.is_finished() || flush.target.is_some_and(done)).then_some(true)
    }

    /// Has `waker` woken by the next round that gets something done, and by the end. Look once more afterwards.
    pub(crate) fn await_progress(&self, waker: Waker) {
        self.progress.register(waker);
    }

    pub(crate) fn shard_shared(&self, shard: usize) -> &Arc<ShardShared<T>> {
        &self.shards[shard].shared
    }

    pub(crate) fn dispatch(&self) -> Dispatch {
        self.dispatch
    }

    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        // Acquire, partner `begin_close`.
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn is_broken(&self) -> bool {
        // Acquire, partner `mark_broken`.
        self.broken.load(Ordering::Acquire)
    }

    /// Whether every role has finished: all that was accepted is in rings, and all rings are closed.
    pub(crate) fn is_finished(&self) -> bool {
        // Acquire, partner `finish`.
        self.unfinished.load(Ordering::Acquire) == 0 || self.is_broken()
    }

    /// The life of a pool thread.
    ///
    /// Before it sleeps it gives the processor away a few times and looks again: a steady stream then finds it awake, and
    /// has gathered a little meanwhile. A thread that asks the lanes to call as soon as they are empty chases
    /// a fast publisher event by event, each crossing between cores: with one publisher on two busy cores, 3
    /// million deliveries per second to one subscriber became 20 to 40, and 80 became 209 to 16 (2026-11-21).
    /// Giving the processor away after every pass, as well, was worse at 1 and 4 subscribers.
    ///
    /// **Deadlines.** While a shard is stalled and has one, some pool thread is awake, or sleeps until then at most:
    ///
    /// | the shard stalls under | who hears of the deadline |
    /// | --- | --- |
    /// | a pool thread | it: it looks at every shard once more before it sleeps |
    /// | anybody else | whom it calls, and who looks in the same way |
    ///
    /// A last look that finds the shard held leaves a mark, and whoever holds it looks once more, or calls: so the last
    /// to look hears of it. Several may have, and all get up when the time comes: as many as there are dispatchers,
    /// once for each wait that is in vain. A thread that is called earlier looks again before it sleeps again.
    pub(crate) fn run_pool_thread(&self, index: usize) {
        let backoff = || Backoff::adaptive(self.threads.load(Ordering::Relaxed));
        let mut idle = backoff();
        while !self.is_finished() {
            if !self.pass(false).is_idle() {
                idle = backoff();
            } else if !idle.snooze() {
                self.signal.prepare_sleep(index);
                let outcome = self.pass(true);
                if outcome.is_idle() && !self.is_finished() {
                    self.signal.sleep_until(index, outcome.deadline);
                } else {
                    self.signal.cancel_sleep(index);
                }
                idle = backoff();
            }
        }
        self.break_feeds_if_broken();
    }

    /// What the publishing thread does under inline dispatch, and a task that flushes: one pass, and
    /// what is left is the pool's.
    pub(crate) fn lend_a_hand(&self) {
        let outcome = self.pass(false);
        if outcome.again || outcome.new_deadline {
            self.signal.wake_one();
            self.break_feeds_if_broken();
        }
    }

    /// Whoever breaks the bus tells the subscribers, but for those of a role that another thread holds at that moment;
    /// the holder does, by this, since the pool's threads may have gone.
    fn break_feeds_if_broken(&self) {
        if self.is_broken() {
            self.drive();
        }
    }

    fn run_sequencer(&self, before_sleep: bool) -> Outcome {
        let Some(mut held) = self.sequencer.try_hold() else {
            return Outcome::default();
        };
        if self.is_broken() {
            held.discard();
            let marked = held.release();
            return Outcome {
                again: marked,
                ..Outcome::default()
            };
        }
        let closing = self.is_closing();
        let round = self.run_or_break(|| held.round(closing, before_sleep));
        let marked = held.release();
        self.after(round, marked, &self.sequencer_done)
    }

    fn run_shard(&self, shard: &ShardHandle<T>) -> Outcome {
        let Some(mut held) = shard.role.try_hold() else {
            return Outcome::default();
        };
        if self.is_broken() {
            held.break_feeds();
            let marked = held.release();
            return Outcome {
                again: marked,
                ..Outcome::default()
            };
        }
        let insist = self.dispatch == Dispatch::Manual;
        let round = self.run_or_break(|| held.round(insist));
        let marked = held.release();
        self.after(round, marked, &shard.done)
    }

    fn after(&self, round: Option<Round>, marked: bool, done: &AtomicBool) -> Outcome {
        let Some(Round {
            progress,
            more,
            finished,
            deadline,
        }) = round
        else {
            return Outcome {
                again: true, // broken: another outcome tidies up
                ..Outcome::default()
            };
        };
        // Who left the mark on a manual bus may be about to wait without having heard of a deadline.
        let missed = marked && self.dispatch == Dispatch::Manual;
        if finished {
            self.finish(done);
        } else if progress || missed {
            self.progress.notify();
        }
        Outcome {
            progress,
            again: marked || more,
            deadline,
            // A wait begins with a block that was taken, and that is progress.
            new_deadline: progress && deadline.is_some(),
        }
    }

    fn finish(&self, done: &AtomicBool) {
        // AcqRel: each role finishes once, and the last sees what all did. Partner: `is_finished`.
        if !done.swap(true, Ordering::AcqRel) && self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.signal.wake_all();
        }
        self.progress.notify();
    }

    /// The time to close is up. Roles are held for a round at most, so this gets them soon.
    fn force(&self) {
        let _here = NonBlockingScope::enter();
        self.hold_until_done(&self.sequencer, |sequencer| {
            sequencer.discard();
            // Every block has to go somewhere: the shards are emptied in outcome.
            sequencer.round(true, false).finished
        });
        self.finish(&self.sequencer_done);
        for shard in &self.shards {
            self.hold_until_done(&shard.role, |shard| {
                shard.force();
                true
            });
            self.finish(&shard.done);
        }
        self.break_feeds_if_broken();
    }

    /// Holds a role, whatever it takes, until `f` says that it is done or the bus is broken.
    fn hold_until_done<S>(&self, role: &Role<S>, mut f: impl FnMut(&mut S) -> bool) {
        while !self.is_broken() {
            if let Some(mut held) = role.try_hold() {
                let done = self.run_or_break(|| f(&mut held));
                if held.release() {
                    self.signal.wake_one();
                }
                if done == Some(true) {
                    return;
                }
            }
            thread::yield_now();
        }
    }

    /// Runs a piece of a role. A panic in it breaks the bus.
    fn run_or_break<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        match catch(f) {
            Ok(value) => Some(value),
            Err(_) => {
                self.mark_broken();
                None
            }
        }
    }

    #[cold]
    fn mark_broken(&self) {
        tracing::error!("a thread of the bus panicked; the bus is broken and accepts nothing more");
        // Release, partner `is_broken`, and `is_closing` for those who only ask whether to go on.
        self.broken.store(true, Ordering::Release);
        self.closing.store(true, Ordering::Release);
        self.signal.wake_all();
        self.progress.notify();
    }
}

impl<T> ShardHandle<T> {
    fn new(
        input: spsc::Consumer<block::BlockRef<T>>,
        signal: Arc<Signal>,
        match_cache: bool,
    ) -> Self {
        let shared = Arc::new(ShardShared {
            routes: SharedIndex::new(),
            changes: Queue::new(),
            delivered_id: AtomicU64::new(0),
            latch: Arc::new(Latch::new(signal)),
        });
        let shard = Shard::new(input, shared.clone());
        let role = Role::new(if match_cache { shard } else { shard.walking() });
        Self {
            role,
            shared,
            done: AtomicBool::new(false),
        }
    }
}

impl Outcome {
    fn is_idle(self) -> bool {
        !self.progress && !self.again
    }

    fn merge(self, other: Self) -> Self {
        Self {
            progress: self.progress | other.progress,
            again: self.again | other.again,
            deadline: earliest(self.deadline, other.deadline),
            new_deadline: self.new_deadline | other.new_deadline,
        }
    }
}

/// The earlier of two deadlines; none is later than all.
pub(crate) fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
