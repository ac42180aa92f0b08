//! The path of an event, from a lane to the rings.
//!
//! ```text
//! publish            sequence                match               ring             receive
//! Publisher --lane--> Sequencer --Block--+--> Shard (Index) --(Block,mask)--> Subscriber
//! Publisher --lane-->  ids, time         +--> Shard (Index) --(Block,mask)--> Subscriber
//! Bus::publish -mpsc->
//! ```
//!
//! In the order in which an event meets them: [`lane`], [`sequencer`], [`block`], [`shard`], [`feed`]. Sequencer and
//! shards are [`role`]s: the [`Engine`] lets whichever thread comes along hold them, one at a time each.
//!
//! | [`Dispatch`] | who holds the roles |
//! | --- | --- |
//! | `Pool` | the pool's threads |
//! | `Inline` | the publishing thread, for one round; what is left, the pool |
//! | `Manual` | who calls `drive` |
//!
//! **The bad days.** A thread that panics in a role breaks the bus: nothing is accepted any more, subscribers read
//! what is in their rings and then `Broken`; nobody hangs. What programs give the engine to run inside a role
//! (a payload's `drop`, a waker, a clock) may panic without harm; a weigher must not.

pub(crate) mod block;
pub(crate) mod feed;
pub(crate) mod gauges;
pub(crate) mod lane;
#[cfg(feature = "latency")]
pub(crate) mod latency;
pub(crate) mod loss;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod role;
pub(crate) mod sequencer;
pub(crate) mod shard;
pub(crate) mod signal;
#[cfg(all(test, not(loom)))]
mod tests;
pub(crate) mod topic_arg;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Instant;

use crate::index::SharedIndex;
use crate::park::{Linger, NoWaiting, WaitSet};
use crate::ring::{mpsc, spsc};
use crate::sync::unmodelled::AtomicU64 as AtomicStatistic;
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering, Queue, thread};
use lane::{LaneShared, OwnLane, Pending};
use role::Role;
use sequencer::{Clock, Round, Sequencer, Wires};
use shard::{INPUT_BLOCKS, Shard, ShardWires};
use signal::{Latch, Signal};

/// Who carries events from the lanes to the rings.
///
/// ```
/// use fanout::{Bus, Dispatch};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // For tests and simulations: nothing happens but in `drive`.
/// let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).build()?;
/// let mut sub = bus.subscribe("n")?;
/// bus.publish("n", 1)?;
/// assert!(sub.try_recv().is_err());
/// bus.drive();
/// assert_eq!(*sub.try_recv()?.data(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dispatch {
    /// The dispatcher pool. Publishing costs least, and batches form under load. The default.
    #[default]
    Pool,
    /// The thread that publishes, if nobody else is at it: one hop less for a lone event. It carries at most one
    /// round, never waits for a full ring, and leaves the rest to the pool.
    Inline,
    /// Nobody but [`Bus::drive`](crate::Bus::drive), and flushing and closing, which drive: for deterministic tests.
    /// A `publish` that finds its lane full waits for another thread to drive, and `publish_sequenced` always does; a
    /// single-threaded program uses `try_publish`. `flush_within` drives, and then waits for others; so does `close_within`.
    /// Both drive again when the [longest wait](crate::SubscriptionBuilder::block_timeout) for a subscriber is over. Once the
    /// bus is closing, so does whoever waits for its events.
    Manual,
}

/// How payloads are weighed.
pub(crate) enum Weigh<T> {
    /// What they own is not counted.
    Nothing,
    By(Box<dyn Fn(&T) -> usize + Send>),
}

impl<T> Weigh<T> {
    #[inline]
    fn weigh(&self, data: &T) -> usize {
        match self {
            Self::Nothing => 0,
            Self::By(weigh) => weigh(data),
        }
    }
}

/// What an engine is made from.
pub(crate) struct Plan<T> {
    pub(crate) dispatch: Dispatch,
    /// Threads of the pool, and shards: 1 to [`signal::DISPATCHERS_MAX`].
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
    pub(crate) wires: Arc<Wires<T>>,
    shared_lane: mpsc::Producers<Pending<T>>,
    shards: Box<[Desk<T>]>,
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
struct Desk<T> {
    role: Role<Shard<T>>,
    wires: Arc<ShardWires<T>>,
    done: AtomicBool,
}

/// What became of a turn at a role.
#[derive(Clone, Copy, Default)]
struct Turn {
    progress: bool,
    /// There is more to do, and nobody else at it.
    again: bool,
    /// When there is something to do even if nobody calls: the end of the longest wait of a stalled shard.
    deadline: Option<Instant>,
    /// A shard has begun such a wait: if the caller does not look again before it sleeps, somebody else must.
    alarm: bool,
}

impl<T> Engine<T> {
    pub(crate) fn new(plan: Plan<T>) -> Self {
        let Plan {
            dispatch,
            dispatchers,
            lane_capacity,
            clock,
            weigh,
            match_cache,
        } = plan;
        let threads = if dispatch == Dispatch::Manual {
            0
        } else {
            dispatchers
        };
        let signal = Arc::new(Signal::new(threads));
        let (shared_lane, shared_consumer) = mpsc::ring(lane_capacity);
        let wires = Arc::new(Wires {
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
            shards.push(Desk::new(input, signal.clone(), match_cache));
        }
        let sequencer = Sequencer::new(shared_consumer, wires.clone(), outputs, clock, weigh);
        Self {
            dispatch,
            sequencer: Role::new(sequencer),
            wires,
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
        lane.ring.doze();
        self.wires.new_lanes.push(lane);
        (producer, shared)
    }

    /// A publisher has gone, and closed its lane. `asleep`: the lane asked for a call.
    pub(crate) fn lane_closed(&self, asleep: bool) {
        if asleep {
            self.signal.call();
        }
    }

    /// The lane that any thread may push to.
    pub(crate) fn shared_lane(&self) -> &mpsc::Producers<Pending<T>> {
        &self.shared_lane
    }

    /// A lane has accepted an event. `asleep`: it asked for a call.
    #[inline]
    pub(crate) fn accepted(&self, asleep: bool) {
        match self.dispatch {
            Dispatch::Pool if asleep => self.signal.call(),
            Dispatch::Inline => self.carry_one_round(),
            Dispatch::Pool | Dispatch::Manual => {}
        }
    }

    /// Holds whatever role is free until there is nothing left to do. `true`: something was done.
    pub(crate) fn drive(&self) -> bool {
        self.drive_until_idle().progress
    }

    /// Also answers when there is more to do.
    fn drive_until_idle(&self) -> Turn {
        let mut done = Turn::default();
        loop {
            let turn = self.pass(false);
            done = Turn {
                deadline: turn.deadline,
                ..done.and(turn)
            };
            if turn.is_idle() {
                break;
            }
        }
        if done.again || done.alarm {
            // A pool thread may have come by, found the sequencer held by us, and gone to sleep without asking the lanes
            // to call, or without hearing of a deadline. It has to look once more.
            self.signal.call();
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
                let next = earliest(deadline, self.come_by());
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
    pub(crate) fn come_by(&self) -> Option<Instant> {
        self.drive_until_idle().deadline
    }

    /// One turn at every role that is free. `last_look`: the caller is going to sleep, so have it called.
    fn pass(&self, last_look: bool) -> Turn {
        let _here = NoWaiting::here();
        let mut turn = self.sequencer_turn(last_look);
        if turn.progress && self.shards.len() > 1 && self.dispatch == Dispatch::Pool {
            self.signal.call(); // somebody to take the other shards
        }
        for desk in &self.shards {
            turn = turn.and(self.shard_turn(desk));
        }
        turn
    }

    /// A change waits for a shard: sees that it is carried out now, or by the holder.
    pub(crate) fn attend(&self, shard: usize) {
        // The block that a stalled shard lets go of may run a payload's drop.
        let _here = NoWaiting::here();
        let desk = &self.shards[shard];
        let (mut owed, mut was_stalled) = (false, false);
        loop {
            let Some(mut held) = desk.role.try_hold() else {
                return;
            };
            let settled = self.guarded(|| held.settle());
            was_stalled |= settled.unwrap_or(true);
            if !held.release() || settled.is_none() {
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
            self.signal.call();
        }
        self.tidy_up_if_broken();
    }

    /// Publishers have gone or somebody closed the bus: accepts nothing more, and finishes what was accepted.
    pub(crate) fn begin_close(&self) {
        // Release, partner `is_closing`.
        self.closing.store(true, Ordering::Release);
        match self.dispatch {
            Dispatch::Pool => self.signal.call(),
            Dispatch::Inline | Dispatch::Manual => {
                self.drive();
                self.signal.call();
            }
        }
    }

    /// Waits until everything is dispatched; when the time is up, gives up what is left. `true`: nothing was.
    ///
    /// From inside the dispatch it does neither: whoever waits there, or takes roles by force, waits for itself.
    pub(crate) fn finish_close(&self, deadline: Option<Instant>) -> bool {
        self.drive();
        if NoWaiting::applies() {
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
        // AcqRel, partner `Sequencer::begin_flush`.
        let ticket = self.wires.flush_asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.drive();
        let mut target = None;
        let flushed = || {
            if self.is_broken() {
                return Some(false);
            }
            // Acquire, partner `Sequencer::settle_flush`, and below `Shard::commit`.
            if target.is_none() && self.wires.flush_done.load(Ordering::Acquire) >= ticket {
                // Noted once: what comes later is none of this flush's business, and a stream of it has no end.
                target = Some(self.wires.last_id.load(Ordering::Acquire));
            }
            let delivered = |desk: &Desk<T>| desk.wires.delivered_id.load(Ordering::Acquire);
            let done = |target| self.shards.iter().all(|desk| delivered(desk) >= target);
            (self.is_finished() || target.is_some_and(done)).then_some(true)
        };
        // From inside the dispatch it only looks: whoever waits there waits for itself.
        let deadline = if NoWaiting::applies() {
            Some(Instant::now())
        } else {
            deadline
        };
        self.wait_for(deadline, flushed).unwrap_or(false)
    }

    /// Has `waker` woken by the next round that gets something done, and by the end. Look once more afterwards.
    pub(crate) fn await_progress(&self, waker: Waker) {
        self.progress.register(waker);
    }

    pub(crate) fn shard_wires(&self, shard: usize) -> &Arc<ShardWires<T>> {
        &self.shards[shard].wires
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
        // Acquire, partner `break_down`.
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
        let linger = || Linger::adaptive(self.threads.load(Ordering::Relaxed));
        let mut idle = linger();
        while !self.is_finished() {
            if !self.pass(false).is_idle() {
                idle = linger();
            } else if !idle.turn() {
                self.signal.lie_down(index);
                let turn = self.pass(true);
                if turn.is_idle() && !self.is_finished() {
                    self.signal.sleep_until(index, turn.deadline);
                } else {
                    self.signal.get_up(index);
                }
                idle = linger();
            }
        }
        self.tidy_up_if_broken();
    }

    /// What the publishing thread does under inline dispatch.
    fn carry_one_round(&self) {
        let turn = self.pass(false);
        if turn.again || turn.alarm {
            self.signal.call();
            self.tidy_up_if_broken();
        }
    }

    /// Whoever breaks the bus tells the subscribers, but for those of a role that another thread holds at that moment;
    /// the holder does, by this, since the pool's threads may have gone.
    fn tidy_up_if_broken(&self) {
        if self.is_broken() {
            self.drive();
        }
    }

    fn sequencer_turn(&self, last_look: bool) -> Turn {
        let Some(mut held) = self.sequencer.try_hold() else {
            return Turn::default();
        };
        if self.is_broken() {
            held.discard();
            let marked = held.release();
            return Turn {
                again: marked,
                ..Turn::default()
            };
        }
        let closing = self.is_closing();
        let round = self.guarded(|| held.round(closing, last_look));
        let marked = held.release();
        self.after(round, marked, &self.sequencer_done)
    }

    fn shard_turn(&self, desk: &Desk<T>) -> Turn {
        let Some(mut held) = desk.role.try_hold() else {
            return Turn::default();
        };
        if self.is_broken() {
            held.break_feeds();
            let marked = held.release();
            return Turn {
                again: marked,
                ..Turn::default()
            };
        }
        let insist = self.dispatch == Dispatch::Manual;
        let round = self.guarded(|| held.round(insist));
        let marked = held.release();
        self.after(round, marked, &desk.done)
    }

    fn after(&self, round: Option<Round>, marked: bool, done: &AtomicBool) -> Turn {
        let Some(Round {
            progress,
            more,
            finished,
            deadline,
        }) = round
        else {
            return Turn {
                again: true, // broken: another turn tidies up
                ..Turn::default()
            };
        };
        // Who left the mark on a manual bus may be about to wait without having heard of a deadline.
        let missed = marked && self.dispatch == Dispatch::Manual;
        if finished {
            self.finish(done);
        } else if progress || missed {
            self.progress.notify();
        }
        Turn {
            progress,
            again: marked || more,
            deadline,
            // A wait begins with a block that was taken, and that is progress.
            alarm: progress && deadline.is_some(),
        }
    }

    fn finish(&self, done: &AtomicBool) {
        // AcqRel: each role finishes once, and the last sees what all did. Partner: `is_finished`.
        if !done.swap(true, Ordering::AcqRel) && self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.signal.call_all();
        }
        self.progress.notify();
    }

    /// The time to close is up. Roles are held for a round at most, so this gets them soon.
    fn force(&self) {
        let _here = NoWaiting::here();
        self.insist_on(&self.sequencer, |sequencer| {
            sequencer.discard();
            // Every block has to go somewhere: the shards are emptied in turn.
            sequencer.round(true, false).finished
        });
        self.finish(&self.sequencer_done);
        for desk in &self.shards {
            self.insist_on(&desk.role, |shard| {
                shard.force();
                true
            });
            self.finish(&desk.done);
        }
        self.tidy_up_if_broken();
    }

    /// Holds a role, whatever it takes, until `f` says that it is done or the bus is broken.
    fn insist_on<S>(&self, role: &Role<S>, mut f: impl FnMut(&mut S) -> bool) {
        while !self.is_broken() {
            if let Some(mut held) = role.try_hold() {
                let done = self.guarded(|| f(&mut held));
                if held.release() {
                    self.signal.call();
                }
                if done == Some(true) {
                    return;
                }
            }
            thread::yield_now();
        }
    }

    /// Runs a piece of a role. A panic in it breaks the bus.
    fn guarded<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(value) => Some(value),
            Err(_) => {
                self.break_down();
                None
            }
        }
    }

    #[cold]
    fn break_down(&self) {
        tracing::error!("a thread of the bus panicked; the bus is broken and accepts nothing more");
        // Release, partner `is_broken`, and `is_closing` for those who only ask whether to go on.
        self.broken.store(true, Ordering::Release);
        self.closing.store(true, Ordering::Release);
        self.signal.call_all();
        self.progress.notify();
    }
}

impl<T> Desk<T> {
    fn new(
        input: spsc::Consumer<block::BlockRef<T>>,
        signal: Arc<Signal>,
        match_cache: bool,
    ) -> Self {
        let wires = Arc::new(ShardWires {
            routes: SharedIndex::new(),
            changes: Queue::new(),
            delivered_id: AtomicU64::new(0),
            latch: Arc::new(Latch::new(signal)),
        });
        let shard = Shard::new(input, wires.clone());
        let role = Role::new(if match_cache { shard } else { shard.walking() });
        Self {
            role,
            wires,
            done: AtomicBool::new(false),
        }
    }
}

impl Turn {
    fn is_idle(self) -> bool {
        !self.progress && !self.again
    }

    fn and(self, other: Self) -> Self {
        Self {
            progress: self.progress | other.progress,
            again: self.again | other.again,
            deadline: earliest(self.deadline, other.deadline),
            alarm: self.alarm | other.alarm,
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
