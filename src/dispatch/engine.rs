//! The engine: which thread runs the sequencer and the shards, and when.
//!
//! * **In**: calls of the bus: a lane has accepted an event ([`Engine::accepted`]), subscriptions
//!   have changed ([`Engine::apply_shard_changes`]), `drive`, flush, close.
//! * **Out**: rounds of the sequencer and of the shards; wake-ups of pool threads, and of threads
//!   that wait for progress.
//! * **Called by**: `bus/publish.rs` after it has pushed to a lane, the rest of `bus/`, and the
//!   pool's threads, which run [`Engine::run_pool_thread`].
//! * **Next file**: `sequencer.rs`, whose round comes first in every pass; then `shard.rs`.
//!
//! The sequencer and each shard are [`role`](super::role)s. The engine has no thread of its own: in
//! a *pass*, the calling thread runs one round of every role that it can acquire. Who makes passes
//! depends on the [`Dispatch`]:
//!
//! | | passes are made by |
//! | --- | --- |
//! | `Adaptive` | the publishing thread, for a lone event while the pool sleeps; else as `Pool` |
//! | `Pool` | the pool's threads, until nothing is left to do; then they sleep |
//! | `Inline` | the publishing thread, one pass per event; the pool does what is left |
//! | `Manual` | the callers of `drive`, flush and close |
//! | all | threads that flush or close, before they wait; for one shard, threads that change it |
//!
//! # Failure modes
//!
//! * **A round panics**: the thread survives, and the bus is *broken*. Nothing is accepted any
//!   more, accepted events are discarded, and subscribers read what is in their rings and then get
//!   `Broken`. Threads that wait for a flush or a close are woken.
//! * **The weigher panics**: the round ends in order, and the bus breaks as above. In both cases
//!   the engine counts as finished once the events that were not sequenced are discarded and
//!   counted.
//! * **The time to close is over**: whichever thread holds a role discards what was not sequenced,
//!   or gives up what has no room in the rings. The closing thread does so with the roles that are
//!   free, and does not wait for a thread that holds one in user code.
//! * **The system suspends a pool thread** that was chosen to be woken, or that is between two
//!   passes: another thread of the pool does its work, within about 20 milliseconds. If the thread
//!   holds a role, the work of that role stops until the thread continues; if the pool has one
//!   thread, all work does.
//! * **User code inside a pass publishes, flushes or closes**: it must not wait for the thread that
//!   it runs on. Every pass is a [`NonBlockingScope`], in which none of these calls waits.

use std::task::Waker;
use std::time::{Duration, Instant};

use super::block::AnyBlock;
use super::inline_budget::InlineBudget;
use super::lane::{LaneProducer, NewLanes, Pending, own_lane};
use super::role::Role;
use super::routes::Routes;
use super::sequencer::{Clock, RoundResult, Sequence, Sequencer, SequencerShared, WakeRequests};
use super::shard::{INPUT_BLOCKS, RoundBounds, Shard, ShardShared};
use super::signal::{Latch, Signal, WATCH_PERIOD};
use crate::contain::catch;
use crate::log;
use crate::park::{Backoff, NonBlockingScope, Registration};
use crate::ring::{mpsc, spsc};
use crate::sync::unmodelled::AtomicUsize as EstimatedUsize;
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering, Queue, now};
use crate::time_limit;

#[cfg(feature = "latency")]
use super::latency;
use super::{Dispatch, Weigh};

/// How long a forced close waits for threads that hold a role, 10 ms. They need far less, unless
/// they are in user code.
const FORCE_CLOSE_GRACE: Duration = Duration::from_millis(10);

/// Under adaptive dispatch, a thread of the pool sleeps as soon as it has nothing to do, unless its
/// last pass has sequenced this many events.
const STREAM_EVENTS: u64 = 16;

/// What an engine is made from.
pub(crate) struct EngineConfig<T> {
    pub(crate) dispatch: Dispatch,
    /// Shards, and threads of the pool, 1 to
    /// [`DISPATCHERS_MAX`](crate::limits::DISPATCHERS_MAX). `Manual` has no threads.
    pub(crate) dispatchers: usize,
    /// Events that the shared lane can hold, 1 to
    /// [`LANE_CAPACITY_MAX`](crate::limits::LANE_CAPACITY_MAX).
    pub(crate) lane_capacity: usize,
    pub(crate) clock: Clock,
    pub(crate) weigh: Weigh<T>,
    /// Whether each shard has a cache in front of its index.
    pub(crate) match_cache: bool,
}

/// The sequencer and the shards, and what runs them on any thread.
///
/// It does not depend on the type of the payloads, so that it is compiled once, with this crate.
/// What depends on it is behind [`Sequence`], and in [`Lanes`].
pub(crate) struct Engine {
    dispatch: Dispatch,
    sequencer: Role<Box<dyn Sequence>>,
    pub(crate) shared: Arc<SequencerShared>,
    shards: Box<[ShardHandle]>,
    pub(super) signal: Arc<Signal>,
    sequencer_done: AtomicBool,
    /// Roles that have not finished, 0 to the number of shards and 1.
    unfinished: AtomicUsize,
    closing: AtomicBool,
    /// The time to close is over.
    forced: AtomicBool,
    broken: AtomicBool,
    inline_budget: InlineBudget,
    /// The number of threads that use the bus: those of the pool that do not sleep, and one per
    /// publisher and subscriber. This is an estimate, on which the backoff depends.
    pub(crate) threads: EstimatedUsize,
    /// Set before the engine is shared.
    #[cfg(feature = "latency")]
    pub(crate) sampling: Option<latency::Sampling>,
}

/// The publishers' ends of the lanes of an engine.
pub(crate) struct Lanes<T> {
    /// The lane that any thread may push to.
    pub(crate) shared: mpsc::Producers<Pending<T>>,
    /// Where the other ends of new lanes are passed to the sequencer.
    new: Arc<NewLanes<T>>,
}

/// A shard's role, and what surrounds it.
struct ShardHandle {
    role: Role<Shard>,
    shared: Arc<ShardShared>,
    done: AtomicBool,
}

/// Makes the sequencer of an engine, with the shards' inputs.
type MakeSequencer<'a> =
    Box<dyn FnOnce(Arc<SequencerShared>, Vec<spsc::Producer<AnyBlock>>) -> Box<dyn Sequence> + 'a>;

/// A flush that was requested.
pub(crate) struct FlushTicket {
    number: u64,
    /// Id up to which everything has to be in rings, once that is known.
    target: Option<u64>,
}

/// Who makes a pass, and why.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PassKind {
    /// Any thread, which looks once more or wakes a thread that does.
    Plain,
    /// A thread of the pool that is about to sleep.
    BeforeSleep,
    /// Inline dispatch, or a task that flushes: the only pass of the calling thread.
    Inline,
    /// Adaptive dispatch: the only pass of a publisher, while the pool sleeps.
    LoneEvent,
}

impl PassKind {
    fn wake_requests(self) -> WakeRequests {
        match self {
            Self::Plain | Self::Inline => WakeRequests::None,
            Self::BeforeSleep => WakeRequests::IfIdle,
            Self::LoneEvent => WakeRequests::Always,
        }
    }

    /// What a round of a shard does at most.
    fn shard_bounds(self) -> RoundBounds {
        match self {
            Self::Plain | Self::BeforeSleep | Self::Inline => RoundBounds::FULL,
            Self::LoneEvent => RoundBounds::LONE_EVENT,
        }
    }

    /// Whether the calling thread makes no other pass, and leaves what there is to do to the pool.
    fn is_the_only_one(self) -> bool {
        matches!(self, Self::Inline | Self::LoneEvent)
    }
}

/// What the rounds of a pass did.
#[derive(Clone, Copy, Default)]
struct PassResult {
    progress: bool,
    /// There is more to do, and perhaps no other thread that does it.
    run_again: bool,
    /// When there is something to do even if no thread is woken: the end of the earliest block
    /// timeout of a stalled shard.
    deadline: Option<Instant>,
    /// A shard has got such a deadline in this pass. If the caller does not look again before it
    /// sleeps, another thread has to learn of the deadline.
    new_deadline: bool,
}

/// Makes an engine, and the publishers' ends of its lanes.
pub(crate) fn engine<T: Send + Sync + 'static>(config: EngineConfig<T>) -> (Engine, Lanes<T>) {
    let EngineConfig {
        dispatch,
        dispatchers,
        lane_capacity,
        clock,
        weigh,
        match_cache,
    } = config;
    let (shared_lane, shared_consumer) = mpsc::ring(lane_capacity);
    let new_lanes = Arc::new(NewLanes::new());
    let lanes = Lanes {
        shared: shared_lane,
        new: new_lanes.clone(),
    };
    let make: MakeSequencer<'_> = Box::new(|shared, outputs| {
        Box::new(Sequencer::new(
            shared_consumer,
            new_lanes,
            shared,
            outputs,
            clock,
            weigh,
        ))
    });
    let engine = Engine::new(dispatch, dispatchers, match_cache, make);
    (engine, lanes)
}

impl<T> Lanes<T> {
    /// A lane for a new publisher. Its other end goes to the sequencer with the first event.
    pub(crate) fn own_lane(&self, capacity: usize) -> LaneProducer<T> {
        own_lane(capacity, &self.new)
    }
}

impl Engine {
    fn new(
        dispatch: Dispatch,
        dispatchers: usize,
        match_cache: bool,
        sequencer: MakeSequencer<'_>,
    ) -> Self {
        let threads = if dispatch == Dispatch::Manual {
            0
        } else {
            dispatchers
        };
        let signal = Arc::new(Signal::with_watcher(threads));
        let shared = Arc::new(SequencerShared::new());
        let mut outputs = Vec::with_capacity(dispatchers);
        let mut shards = Vec::with_capacity(dispatchers);
        for _ in 0..dispatchers {
            let (output, input) = spsc::ring(INPUT_BLOCKS);
            outputs.push(output);
            shards.push(ShardHandle::new(input, signal.clone(), match_cache));
        }
        Self {
            dispatch,
            sequencer: Role::new(sequencer(shared.clone(), outputs)),
            shared,
            shards: shards.into_boxed_slice(),
            signal,
            sequencer_done: AtomicBool::new(false),
            unfinished: AtomicUsize::new(dispatchers + 1),
            closing: AtomicBool::new(false),
            forced: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            inline_budget: InlineBudget::new(),
            threads: EstimatedUsize::new(threads),
            #[cfg(feature = "latency")]
            sampling: None,
        }
    }

    /// A publisher was dropped, and has closed and reported its lane. `wake_requested`: the
    /// sequencer had requested a wake-up from that lane.
    pub(crate) fn lane_closed(&self, wake_requested: bool) {
        if wake_requested {
            self.signal.wake_one();
        }
    }

    /// A lane has accepted an event, and the publisher has reported the lane if it was parked.
    /// `wake_requested`: the sequencer had requested a wake-up from that lane.
    #[inline]
    pub(crate) fn accepted(&self, wake_requested: bool) {
        match self.dispatch {
            Dispatch::Adaptive if wake_requested => self.dispatch_or_wake(),
            Dispatch::Inline => self.run_one_pass(),
            Dispatch::Pool if wake_requested => self.signal.wake_one(),
            Dispatch::Adaptive | Dispatch::Pool | Dispatch::Manual => {}
        }
    }

    /// Adaptive dispatch: a lane has accepted an event, and no thread looks at that lane.
    #[inline(never)]
    fn dispatch_or_wake(&self) {
        if !self.signal.all_sleep() {
            return self.signal.wake_one();
        }
        let Some(turn) = self.inline_budget.begin(self.estimated_last_id()) else {
            return self.signal.wake_one();
        };
        let pass = self.pass(PassKind::LoneEvent);
        self.inline_budget.end(turn, self.estimated_last_id());
        self.finish_only_pass(pass);
    }

    /// Makes passes until there is nothing left to do, or until the time of the calling thread is
    /// over. `true`: something was done.
    pub(crate) fn drive(&self) -> bool {
        self.drive_while(|| true).progress
    }

    /// As `drive`, as long as `go_on` returns `true`, which is called after each pass. Also returns
    /// when there will be more to do.
    fn drive_while(&self, mut go_on: impl FnMut() -> bool) -> PassResult {
        let mut total = PassResult::default();
        let idle = loop {
            let pass = self.pass(PassKind::Plain);
            total = PassResult {
                deadline: pass.deadline,
                ..total.merge(pass)
            };
            if pass.is_idle() {
                break true;
            }
            // After the end no other thread may be left that does what a mark requests.
            if (!go_on() || time_limit::is_over()) && !self.is_finished() {
                break false;
            }
        };
        if !idle || total.run_again || total.new_deadline {
            // A pool thread may have found the sequencer held by this thread, and gone to sleep
            // without requesting wake-ups from the lanes, or without knowing of a deadline. So a
            // pool thread has to look once more.
            self.signal.wake_one();
        }
        total
    }

    /// Waits until `done` returns a value. `None`: it did not before the deadline.
    ///
    /// The calling thread is awake, so it dispatches first, in every mode. It looks after each
    /// pass: while publishers publish, there is always more to dispatch. From inside a pass or a
    /// callback, it then does not wait for other threads, since that could deadlock.
    ///
    /// `drive_handlers` runs the handlers of a manual bus, which make room for events. `true`: it
    /// ran some.
    fn wait_for<R>(
        &self,
        deadline: Option<Instant>,
        drive_handlers: &dyn Fn() -> bool,
        mut done: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let is_late = || deadline.is_some_and(|deadline| now() >= deadline);
        let mut drive = || {
            loop {
                let mut value = None;
                let pass = self.drive_while(|| {
                    value = done();
                    value.is_none()
                });
                value = value.or_else(&mut done);
                if value.is_some() || time_limit::is_over() || !drive_handlers() {
                    return (value, pass.deadline);
                }
            }
        };
        if self.dispatch != Dispatch::Manual || NonBlockingScope::is_active() {
            let (value, _) = drive();
            if value.is_some() || is_late() || NonBlockingScope::is_active() {
                return value;
            }
            return self.signal.progress.wait_until(deadline, done);
        }
        let mut until = deadline;
        loop {
            // No pool thread looks at the shards when a block timeout is over, and another thread
            // may have stalled a shard since this one looked last.
            let look = || match drive() {
                (Some(value), _) => Some(Ok(value)),
                (None, _) if is_late() => Some(Err(deadline)),
                (None, next) => {
                    let next = earliest(deadline, next);
                    (next != until).then_some(Err(next))
                }
            };
            match self.signal.progress.wait_until(until, look) {
                Some(Ok(value)) => return Some(value),
                Some(Err(_)) if is_late() => return None,
                Some(Err(next)) => until = next,
                None if until == deadline => return None,
                None => {}
            }
        }
    }

    /// Drives a manual bus for a thread that waits for the result, and returns when that thread has
    /// to drive again even if it is not woken. The waiting thread must have registered with
    /// `progress`: if another thread holds a shard, that thread looks once more and then notifies
    /// `progress`.
    pub(crate) fn drive_and_next_deadline(&self) -> Option<Instant> {
        self.drive_while(|| true).deadline
    }

    /// One round of every role that is free.
    fn pass(&self, kind: PassKind) -> PassResult {
        let _scope = NonBlockingScope::enter_dispatch();
        // The pool does what is left of a role at once. The next role may call user code, and this
        // thread may be in it for long.
        let leave_rest = |role: PassResult| {
            if kind.is_the_only_one() && (role.run_again || role.new_deadline) {
                self.signal.wake_one();
            }
            role
        };
        let mut pass = leave_rest(self.run_sequencer(kind));
        if pass.progress && self.shards.len() > 1 && self.has_pool() && !kind.is_the_only_one() {
            self.signal.wake_one(); // the woken thread runs some of the shards
        }
        for shard in &self.shards {
            pass = pass.merge(leave_rest(self.run_shard(shard, kind)));
        }
        pass
    }

    /// The id of the event sequenced last. Models do not look at it, since it only decides how long
    /// threads wait and which of them dispatches.
    fn estimated_last_id(&self) -> u64 {
        if cfg!(loom) {
            return 0;
        }
        // Relaxed: an estimate.
        self.shared.last_id.load(Ordering::Relaxed)
    }

    /// Whether the threads of the pool dispatch a stream of events.
    fn has_pool(&self) -> bool {
        matches!(self.dispatch, Dispatch::Adaptive | Dispatch::Pool)
    }

    /// A change was queued for a shard. It is applied by this call, or by the thread that holds the
    /// shard.
    pub(crate) fn apply_shard_changes(&self, shard: usize) {
        // A stalled shard may drop the last reference to its block, and so run a payload's drop.
        let _scope = NonBlockingScope::enter_dispatch();
        let shard = &self.shards[shard];
        let (mut marked, mut was_stalled) = (false, false);
        loop {
            let Some(mut held) = shard.role.try_acquire() else {
                return;
            };
            let applied = self.run_or_break(|| held.apply_pending_changes());
            was_stalled |= applied.unwrap_or(true);
            if !held.release() || applied.is_none() {
                break;
            }
            marked = true;
        }
        if marked && self.dispatch == Dispatch::Manual {
            self.drive(); // instead of the thread that found the shard held by this one
        }
        // A thread that found the shard held may wait without knowing of a deadline. There is no
        // wake-up after every change, since many changes would keep a pool thread from sleeping.
        if marked || was_stalled {
            self.signal.wake_one();
        }
        self.break_feeds_if_broken();
    }

    /// The publishers were dropped, or the program has closed the bus: the engine accepts no more
    /// events, and dispatches those that were accepted.
    pub(crate) fn begin_close(&self) {
        // Release, partner the load in `is_closing`.
        self.closing.store(true, Ordering::Release);
        match self.dispatch {
            Dispatch::Adaptive | Dispatch::Pool => self.signal.wake_one(),
            Dispatch::Inline | Dispatch::Manual => {
                self.drive();
                self.signal.wake_one();
            }
        }
    }

    /// Waits until everything is dispatched. At the deadline, gives up what is left. `true`:
    /// nothing was given up.
    ///
    /// From inside a pass or a callback it dispatches, and neither waits nor gives anything up.
    pub(crate) fn finish_close(
        &self,
        deadline: Option<Instant>,
        drive_handlers: &dyn Fn() -> bool,
    ) -> bool {
        let done = || self.is_finished().then_some(());
        if self.wait_for(deadline, drive_handlers, done).is_some() {
            return true;
        }
        if !NonBlockingScope::is_active() {
            self.force_close();
        }
        false
    }

    /// Waits until everything that was accepted so far is in the rings. `false`: it is not at the
    /// deadline, or the bus broke.
    ///
    /// From inside a pass or a callback it dispatches, and does not wait.
    pub(crate) fn flush(
        &self,
        deadline: Option<Instant>,
        drive_handlers: &dyn Fn() -> bool,
    ) -> bool {
        let mut ticket = self.request_flush();
        let done = || self.check_flush(&mut ticket);
        self.wait_for(deadline, drive_handlers, done)
            .unwrap_or(false)
    }

    /// Requests a flush. The caller runs the sequencer, or wakes a thread that does, and then looks
    /// with [`check_flush`](Self::check_flush).
    pub(crate) fn request_flush(&self) -> FlushTicket {
        FlushTicket {
            // AcqRel, partner the load in `Sequencer::round`: Release publishes which events this
            // thread has seen accepted; Acquire makes visible what the threads saw that
            // requested a flush before.
            number: self.shared.flushes_requested.fetch_add(1, Ordering::AcqRel) + 1,
            target: None,
        }
    }

    /// `Some(true)`: everything that was accepted before the request is in the rings.
    /// `Some(false)`: the bus broke. `None`: not yet.
    pub(crate) fn check_flush(&self, ticket: &mut FlushTicket) -> Option<bool> {
        if self.is_broken() {
            return Some(false);
        }
        // Acquire, partner the store in `Sequencer::finish_flush`.
        let completed = self.shared.flushes_completed.load(Ordering::Acquire);
        if ticket.target.is_none() && completed >= ticket.number {
            // Loaded once: a flush does not wait for events that are sequenced later, since their
            // stream may never end. Acquire, partner the store in `Appender::finish_round`.
            ticket.target = Some(self.shared.last_id.load(Ordering::Acquire));
        }
        // Acquire, partner the store in `Shard::commit`: the rings have the events.
        let delivered = |shard: &ShardHandle| shard.shared.delivered_id.load(Ordering::Acquire);
        let done = |target| self.shards.iter().all(|shard| delivered(shard) >= target);
        (self.is_finished() || ticket.target.is_some_and(done)).then_some(true)
    }

    /// Registers a waker, which is woken by the next round with progress, or by the end of the
    /// engine. The caller has to look once more after this.
    pub(crate) fn register_for_progress(&self, registration: &mut Registration, waker: &Waker) {
        self.signal.progress.register(registration, waker);
    }

    /// Gives back what [`register_for_progress`](Self::register_for_progress) has registered.
    pub(crate) fn forget_progress(&self, registration: &mut Registration) {
        self.signal.progress.forget(registration);
    }

    pub(crate) fn shard_shared(&self, shard: usize) -> &Arc<ShardShared> {
        &self.shards[shard].shared
    }

    /// Shards, and threads of the pool unless dispatch is manual.
    pub(crate) fn dispatchers(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn dispatch(&self) -> Dispatch {
        self.dispatch
    }

    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        // Acquire, partner the stores in `begin_close` and `mark_broken`.
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn is_broken(&self) -> bool {
        // Acquire, partner the store in `mark_broken`.
        self.broken.load(Ordering::Acquire)
    }

    /// Whether every role has finished, so that everything that was accepted is in the rings, and
    /// all rings are closed; or the bus is broken, and what was not sequenced is discarded.
    pub(crate) fn is_finished(&self) -> bool {
        // Acquire, partner the `fetch_sub` in `finish_role`.
        self.unfinished.load(Ordering::Acquire) == 0
            // Acquire, partner the `swap` in `finish_role`: what was discarded is counted.
            || self.is_broken() && self.sequencer_done.load(Ordering::Acquire)
    }

    /// What pool thread `index` does until the engine has finished.
    ///
    /// Before it sleeps, it yields the processor a few times and looks again. So it is awake during
    /// a steady stream, and a few events gather meanwhile. A thread that requests wake-ups from the
    /// lanes as soon as they are empty chases a fast publisher event by event, and each event
    /// crosses between cores: with one publisher on two busy cores, yielding raised deliveries to
    /// one subscriber from 3 million per second to between 20 and 40 million, and deliveries to 16
    /// subscribers from 80 to 209 million (2026-11-21). To yield after every pass as well was worse
    /// with 1 and with 4 subscribers.
    ///
    /// Under adaptive dispatch it does so only while a pass finds [`STREAM_EVENTS`]. In a slower
    /// stream the publishers dispatch, once all threads of the pool sleep. With a thread of the
    /// pool awake beside a publisher and a reader that keep both cores busy, 10 % of the events of
    /// a stream of 500,000 per second waited for more than a millisecond until the system scheduled
    /// that thread (2026-11-27).
    ///
    /// **Deadlines.** While a shard is stalled and has a deadline, some pool thread is awake, or
    /// sleeps until the deadline at most:
    ///
    /// | the shard was stalled by | thread that learns of the deadline |
    /// | --- | --- |
    /// | a pool thread | that thread: it looks at every shard once more before it sleeps |
    /// | another thread | the pool thread that it wakes, in the same way |
    ///
    /// A last look that finds the shard held leaves a mark, and the holder looks once more, or
    /// wakes a pool thread. So the last thread that looks learns of the deadline. Several threads
    /// may have learnt of it, and all of them wake up at that time: at most one per dispatcher,
    /// once for each block timeout that is over. A thread that is woken earlier looks again before
    /// it sleeps again.
    ///
    /// **A thread that the system suspends** is replaced: see [`Signal`]. The last thread of the
    /// pool looks from time to time while another one is awake.
    pub(crate) fn run_pool_thread(&self, index: usize) {
        // Relaxed: an estimate.
        let backoff = |events: u64| {
            if self.dispatch == Dispatch::Adaptive && events < STREAM_EVENTS {
                Backoff::none()
            } else {
                Backoff::adaptive(self.threads.load(Ordering::Relaxed))
            }
        };
        let mut idle = backoff(0);
        loop {
            let before = self.estimated_last_id();
            if !self.pass(PassKind::Plain).is_idle() {
                idle = backoff(self.estimated_last_id() - before);
            } else if self.is_finished() {
                // Not before that pass: a thread that has opened a subscription meanwhile may have
                // left a mark, and rely on this thread to close the feed.
                break;
            } else if !idle.snooze() {
                let watches = self.signal.prepare_sleep(index);
                let before = self.estimated_last_id();
                let pass = self.pass(PassKind::BeforeSleep);
                idle = backoff(self.estimated_last_id() - before);
                if pass.is_idle() && !self.is_finished() {
                    let look_at = watches.then(|| now() + WATCH_PERIOD);
                    let deadline = earliest(pass.deadline, look_at);
                    // Relaxed: an estimate.
                    self.threads.fetch_sub(1, Ordering::Relaxed);
                    self.signal.sleep_until(index, deadline);
                    self.threads.fetch_add(1, Ordering::Relaxed);
                    idle = backoff(0);
                } else {
                    self.signal.cancel_sleep(index);
                }
            }
        }
        self.break_feeds_if_broken();
    }

    /// Makes one pass, and wakes a pool thread for what is left. The publishing thread calls it
    /// under inline dispatch, and a task that flushes.
    pub(crate) fn run_one_pass(&self) {
        let pass = self.pass(PassKind::Inline);
        self.finish_only_pass(pass);
    }

    /// The calling thread has made a pass, and makes no other one. It has woken the pool for what
    /// is left.
    fn finish_only_pass(&self, pass: PassResult) {
        if pass.run_again && (self.is_finished() || self.is_broken()) {
            self.drive(); // the pool's threads may have ended
        }
    }

    /// Ends the feeds of a broken bus. The thread that breaks the bus does so for all shards but
    /// those that other threads hold at that moment; their holders do it with this call, since the
    /// pool's threads may have ended.
    fn break_feeds_if_broken(&self) {
        if self.is_broken() {
            self.drive();
        }
    }

    fn run_sequencer(&self, kind: PassKind) -> PassResult {
        let Some(mut held) = self.sequencer.try_acquire() else {
            return PassResult::default();
        };
        let was_broken = self.is_broken();
        let mut round = None;
        if !was_broken {
            let (closing, forced) = (self.is_closing(), self.is_forced());
            round = self.run_or_break(|| {
                if forced {
                    held.discard();
                }
                held.round(closing, kind.wake_requests())
            });
            if round.is_some_and(|round| round.failed) {
                self.mark_broken();
            }
        }
        if !self.is_broken() {
            let marked = held.release();
            return self.after_round(round, marked, &self.sequencer_done);
        }
        held.discard();
        let marked = held.release();
        self.finish_role(&self.sequencer_done);
        PassResult {
            progress: round.is_some_and(|round| round.progress),
            // If the bus broke just now, the next pass ends the feeds.
            run_again: marked || !was_broken,
            ..PassResult::default()
        }
    }

    fn run_shard(&self, shard: &ShardHandle, kind: PassKind) -> PassResult {
        let Some(mut held) = shard.role.try_acquire() else {
            return PassResult::default();
        };
        if self.is_broken() {
            held.break_feeds();
            let marked = held.release();
            return PassResult {
                run_again: marked,
                ..PassResult::default()
            };
        }
        let ignore_latch = self.dispatch == Dispatch::Manual;
        // Not before the sequencer has closed the shard's input: a forced close ends at its end.
        // Acquire, partner the swap in `finish_role`.
        let forced = self.is_forced() && self.sequencer_done.load(Ordering::Acquire);
        let round = self.run_or_break(|| {
            if forced {
                held.force_close();
            }
            held.round(ignore_latch, kind.shard_bounds())
        });
        let marked = held.release();
        self.after_round(round, marked, &shard.done)
    }

    /// The role was released. `round`: `None` if it panicked. `marked`: another thread tried to
    /// acquire the role. `done`: the role's flag.
    fn after_round(
        &self,
        round: Option<RoundResult>,
        marked: bool,
        done: &AtomicBool,
    ) -> PassResult {
        let Some(RoundResult {
            progress,
            more,
            finished,
            deadline,
            failed: _, // the caller has looked
        }) = round
        else {
            return PassResult {
                run_again: true, // the next pass discards events and ends feeds
                ..PassResult::default()
            };
        };
        // On a manual bus, the thread that left the mark may be about to wait without knowing of a
        // deadline, or of events that this thread leaves because its time is over.
        let left = deadline.is_some() || time_limit::is_over();
        let missed = marked && left && self.dispatch == Dispatch::Manual;
        if finished {
            self.finish_role(done);
        } else if progress || missed {
            self.signal.progress.notify();
        }
        PassResult {
            progress,
            run_again: marked || more,
            deadline,
            // A stall begins with a block that was taken, and that is progress.
            new_deadline: progress && deadline.is_some(),
        }
    }

    fn finish_role(&self, done: &AtomicBool) {
        // AcqRel, partner itself in other threads: only one of them counts the role.
        if !done.swap(true, Ordering::AcqRel) {
            // AcqRel, partner itself and the load in `is_finished`: a thread that reads 0 sees what
            // all roles did.
            let before = self.unfinished.fetch_sub(1, Ordering::AcqRel);
            debug_assert!(before > 0, "more roles have finished than there are");
            debug_assert!(
                before != 1 || self.is_broken() || self.is_delivered(),
                "every role has finished, but not every event is delivered"
            );
            // Each time, since a broken bus is finished when its sequencer is.
            self.signal.wake_all();
            // Once: threads that wait and drive a manual bus would wake one another for ever.
            self.signal.progress.notify();
        }
    }

    /// Whether every shard has delivered every sequenced event. The result is exact once the
    /// sequencer has finished.
    fn is_delivered(&self) -> bool {
        // Acquire, partners the stores in `Appender::finish_round` and `Shard::commit`.
        let last_id = self.shared.last_id.load(Ordering::Acquire);
        self.shards
            .iter()
            .all(|shard| shard.shared.delivered_id.load(Ordering::Acquire) == last_id)
    }

    /// The time to close is over: discards what is not sequenced, and gives up what has no room.
    ///
    /// The calling thread does so with the roles that are free. The holder of another role does it
    /// when it releases that role, because this call has left a mark there. The holder may be in
    /// user code for long, so this call waits for [`FORCE_CLOSE_GRACE`] at most.
    fn force_close(&self) {
        // Release, partner the load in `is_forced`: a holder that sees the mark of the passes below
        // sees the flag.
        self.forced.store(true, Ordering::Release);
        self.drive_while(|| !self.is_finished());
        let finished = || {
            if self.dispatch == Dispatch::Manual {
                // The holder may be a thread that drives, and whose time is over.
                self.pass(PassKind::Plain);
            }
            self.is_finished().then_some(())
        };
        let grace = now().checked_add(FORCE_CLOSE_GRACE);
        self.signal.progress.wait_until(grace, finished);
        self.break_feeds_if_broken();
    }

    /// Whether the time to close is over.
    fn is_forced(&self) -> bool {
        // Acquire, partner the store in `force_close`.
        self.forced.load(Ordering::Acquire)
    }

    /// Runs a part of a role. A panic in it breaks the bus, and gives `None`.
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
        log::error(format_args!(
            "dispatching panicked: the bus is broken and accepts no more events"
        ));
        // Release, partner the load in `is_broken`.
        self.broken.store(true, Ordering::Release);
        // Stored after `broken`. Release, partner the load in `is_closing`: a thread that sees this
        // value also sees that the bus is broken.
        self.closing.store(true, Ordering::Release);
        self.signal.wake_all();
        self.signal.progress.notify();
    }
}

impl ShardHandle {
    fn new(input: spsc::Consumer<AnyBlock>, signal: Arc<Signal>, match_cache: bool) -> Self {
        let shared = Arc::new(ShardShared {
            routes: Routes::new(),
            changes: Queue::new(),
            delivered_id: AtomicU64::new(0),
            latch: Arc::new(Latch::new(signal)),
        });
        let shard = Shard::new(input, shared.clone());
        let role = Role::new(if match_cache {
            shard
        } else {
            shard.without_cache()
        });
        Self {
            role,
            shared,
            done: AtomicBool::new(false),
        }
    }
}

impl PassResult {
    fn is_idle(self) -> bool {
        !self.progress && !self.run_again
    }

    fn merge(self, other: Self) -> Self {
        Self {
            progress: self.progress | other.progress,
            run_again: self.run_again | other.run_again,
            deadline: earliest(self.deadline, other.deadline),
            new_deadline: self.new_deadline | other.new_deadline,
        }
    }
}

/// The earlier of two deadlines. `None` is later than all.
pub(crate) fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
