//! The worker threads of handlers.
//!
//! A worker runs turns while there are jobs, then spins or yields briefly, and then sleeps. A
//! thread that pushes a job into the empty inbox wakes one worker. A worker that takes more jobs
//! than it can run at once wakes another one. So a burst wakes as many workers as it needs, one
//! after the other, and a single event wakes one.
//!
//! When a call takes too long, the [monitor](super::stall_monitor) marks its worker as stalled, and
//! a spare thread takes its place at once. Any worker may take the jobs that the stalled one has in
//! its local queue. When the call has returned, the worker finds that it was replaced, and ends.
//!
//! # Failure modes
//!
//! * **No thread can be started for a new handler**: opening the subscription fails.
//! * **No spare thread is available**: the handlers share the threads that are left. The monitor
//!   tries again at each check.
//! * **A turn panics outside of the closure**: the panic is contained, and the handler ends.

use std::cell::Cell;
use std::io;
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

use super::notice::{Notice, Observer, report};
use super::stall_monitor::{Monitored, StallMonitor};
use super::task::{HandlerExtras, Task, TurnContext, TurnEnd};
use super::worker::WorkerState;
use crate::contain::contain;
use crate::dispatch::feed::ReaderCallback;
use crate::dispatch::role::Role;
use crate::dispatch::signal::Signal;
use crate::limits::{HANDLER_STALL, HANDLER_THREADS_MAX};
use crate::log;
use crate::park::{Backoff, NonBlockingScope, WaitSet};
use crate::ring::run_queue::{Job, RunQueue, Scheduled, Turn, Worker, schedule, try_begin};
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering, thread};

/// How long a cancel waits for a turn that is in progress. A worker checks whether the job is
/// disabled and then calls the closure; the operating system may preempt it in between. Only the
/// end of the turn shows that no call begins any more. A turn that still runs after this time is
/// taken to be inside a call.
pub(crate) const CANCEL_GRACE: Duration = HANDLER_STALL;

/// The settings of a pool.
pub(crate) struct PoolConfig {
    /// The number of workers without spares: 1 to `threads_max`.
    pub(crate) threads: usize,
    /// The largest number of workers, spares included: 1 to [`HANDLER_THREADS_MAX`].
    pub(crate) threads_max: usize,
    /// There are no workers; turns run only in [`Pool::drive`].
    pub(crate) manual: bool,
    pub(crate) observer: Option<Arc<Observer>>,
    /// Called with the number of a subscription whose handler is stalled: counts the stall.
    pub(crate) on_stall: Box<dyn Fn(u64) + Send + Sync>,
    /// Called with the number of a subscription that was disconnected: unregisters it.
    pub(crate) on_disconnect: Box<dyn Fn(u64) + Send + Sync>,
}

/// A handler in the pool.
pub(crate) type HandlerJob = Job<Shared, Option<Task>>;

/// The part of a handler that every thread may access.
pub(crate) struct Shared {
    pool: Arc<Pool>,
    /// Number of the subscription, from 1.
    number: u64,
    extras: HandlerExtras,
}

/// The workers and their queue.
pub(crate) struct Pool {
    queue: RunQueue<Shared, Option<Task>>,
    config: PoolConfig,
    /// Which workers sleep.
    signal: Signal,
    /// The states of the workers, by the index of the local queue. The last one belongs to
    /// `driver`.
    workers: Box<[CachePadded<WorkerState>]>,
    /// The local queues that belong to no thread, lowest index last.
    free_queues: Mutex<Vec<Worker>>,
    /// Workers that are not stalled, 0 to the number of queues.
    working: AtomicUsize,
    /// Handlers that have not ended, plus 1 while the pool is open. One word, so that either the
    /// last handler or the close comes last, and finds that the pool has finished.
    live: AtomicUsize,
    /// Set by the first close.
    closing: AtomicBool,
    /// Threads that wait for a turn to end, or for the last handler.
    turn_ends: WaitSet,
    monitor: StallMonitor,
    /// Held by the thread that drives a manual bus.
    driver: Role<Worker>,
}

// The address of the job whose turn runs on this thread; 0: none.
crate::sync::thread_local!(static CURRENT_JOB: Cell<usize> = const { Cell::new(0) });

impl Pool {
    pub(crate) fn new(config: PoolConfig) -> Arc<Self> {
        debug_assert!((1..=HANDLER_THREADS_MAX).contains(&config.threads_max));
        debug_assert!((1..=config.threads_max).contains(&config.threads));
        let queues = if config.manual { 1 } else { config.threads_max };
        // One more than there are workers: the driver's.
        let (queue, mut free_queues) = RunQueue::new(queues + 1);
        let driver = free_queues.pop().expect("at least one");
        free_queues.reverse();
        Arc::new(Self {
            queue,
            config,
            signal: Signal::new(queues),
            workers: (0..=queues).map(|_| CachePadded::default()).collect(),
            free_queues: Mutex::new(free_queues),
            working: AtomicUsize::new(0),
            live: AtomicUsize::new(1),
            closing: AtomicBool::new(false),
            turn_ends: WaitSet::new(),
            monitor: StallMonitor::new(HANDLER_STALL),
            driver: Role::new(driver),
        })
    }

    /// Starts the workers that are missing. Called under the lock that opening a subscription
    /// takes.
    pub(crate) fn start(self: &Arc<Self>) -> io::Result<()> {
        if self.config.manual {
            return Ok(());
        }
        while self.working.load(Ordering::Relaxed) < self.config.threads {
            if !self.spawn_worker()? {
                break;
            }
        }
        self.monitor.start(self.clone())
    }

    /// Creates the shared part of a new handler, for the subscription with this number.
    pub(crate) fn shared(self: &Arc<Self>, number: u64) -> Shared {
        Shared {
            pool: self.clone(),
            number,
            extras: HandlerExtras::default(),
        }
    }

    /// Counts a new handler. Must be called before the pool is closed.
    pub(crate) fn add_handler(&self) {
        let before = self.live.fetch_add(1, Ordering::Relaxed);
        debug_assert!(before >= 1, "the pool has finished");
    }

    /// Starts a thread for this handler only. `backoff` takes the number of threads that take part,
    /// and returns how the thread waits for events.
    pub(crate) fn dedicate(
        job: &Arc<HandlerJob>,
        backoff: impl Fn(usize) -> Backoff + Send + 'static,
    ) -> io::Result<()> {
        if job.shared.pool.config.manual {
            return Ok(());
        }
        job.dedicate();
        let own = job.clone();
        let name = format!("fanout-handler-{}", job.shared.number);
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || run_dedicated(&own, &backoff))?;
        let first = job.shared.extras.dedicate(thread.thread().clone());
        debug_assert!(first, "a handler gets one thread");
        Ok(())
    }

    /// Closes the pool: no handler can be opened from now on. When the last handler has ended, the
    /// workers end.
    pub(crate) fn close(&self) {
        // Relaxed: of several calls, one counts.
        if !self.closing.swap(true, Ordering::Relaxed) {
            self.decrement_live();
        }
    }

    /// Runs turns until there are none, on a manual bus. Returns whether at least one was run.
    pub(crate) fn drive(&self) -> bool {
        // A handler that drives would run turns inside its own turn.
        !NonBlockingScope::is_active() && self.run_queued()
    }

    /// Runs the turns that are left, when the core of the bus is dropped: no thread can drive this
    /// pool any more, and the queue and its jobs would keep each other alive. The thread may be
    /// inside a handler of another bus, but is in no turn of this pool, which needs the core.
    pub(crate) fn run_left(&self) {
        self.run_queued();
    }

    /// Runs turns until no job is in the queue. Returns whether it ran one. Does nothing if there
    /// are worker threads.
    fn run_queued(&self) -> bool {
        if !self.config.manual {
            return false;
        }
        let mut done = false;
        loop {
            let Some(mut worker) = self.driver.try_acquire() else {
                return done;
            };
            while let Some(taken) = self.queue.take(&mut worker) {
                let state = &self.workers[worker.index()];
                self.run(taken.turn, state);
                done = true;
            }
            if !worker.release() {
                return done;
            }
        }
    }

    /// Waits until every handler of a closed pool has ended. Returns `false` at the deadline.
    pub(crate) fn wait_finished(&self, deadline: Option<Instant>) -> bool {
        let finished = || self.has_finished().then_some(());
        self.turn_ends
            .wait_until(deadline_unless_inside(deadline), finished)
            .is_some()
    }

    /// Returns whether every handler of a closed pool has ended. If not, `waker` is woken when a
    /// turn has ended.
    pub(crate) fn poll_finished(&self, waker: &Waker) -> bool {
        self.has_finished() || {
            self.turn_ends.register(waker.clone());
            self.has_finished()
        }
    }

    /// Waits until `done` returns `true`. `done` is called again whenever a turn of this job has
    /// ended.
    pub(crate) fn wait_for(
        job: &HandlerJob,
        deadline: Option<Instant>,
        mut done: impl FnMut() -> bool,
    ) -> bool {
        let mut check = || {
            job.request_finish_notice();
            done().then_some(())
        };
        let turn_ends = &job.shared.pool.turn_ends;
        turn_ends
            .wait_until(deadline_unless_inside(deadline), &mut check)
            .is_some()
    }

    /// Like [`wait_for`](Self::wait_for), for a task. If it returns `false`, `waker` is woken when
    /// a turn has ended.
    pub(crate) fn poll_for(
        job: &HandlerJob,
        waker: &Waker,
        done: &mut dyn FnMut() -> bool,
    ) -> bool {
        let mut check = || {
            job.request_finish_notice();
            done()
        };
        check() || {
            job.shared.pool.turn_ends.register(waker.clone());
            check()
        }
    }

    /// Passes a scheduled job to a thread that runs its turn.
    fn enqueue(&self, job: Scheduled<Shared, Option<Task>>) {
        if let Some(thread) = job.job().shared.extras.own_thread() {
            thread.unpark();
        } else if self.queue.push(job) {
            self.signal.wake_one();
        }
    }

    /// Starts a worker thread. Returns `false` if the largest number of threads is reached.
    fn spawn_worker(self: &Arc<Self>) -> io::Result<bool> {
        let Some(queue) = self.free_queues.lock().pop() else {
            return Ok(false);
        };
        let index = queue.index();
        let pool = self.clone();
        // The queue is passed on behind a lock, so that it can be taken back if no thread could be
        // started.
        let passed = Arc::new(Mutex::new(Some(queue)));
        let taken = passed.clone();
        // This comes before the thread starts, because the thread may stall before the spawn
        // returns.
        self.working.fetch_add(1, Ordering::Relaxed);
        let spawned = std::thread::Builder::new()
            .name(format!("fanout-pool-{index}"))
            .spawn(move || {
                let queue = taken.lock().take();
                if let Some(queue) = queue {
                    pool.run_worker(queue);
                }
            });
        match spawned {
            Ok(_) => Ok(true),
            Err(error) => {
                self.decrement_working();
                self.free_queues.lock().extend(passed.lock().take());
                Err(error)
            }
        }
    }

    /// The body of a worker thread.
    fn run_worker(&self, mut queue: Worker) {
        let index = queue.index();
        let state = &self.workers[index];
        let backoff = || Backoff::adaptive(self.working.load(Ordering::Relaxed) + 2);
        let mut idle = backoff();
        while !self.has_finished() {
            if let Some(taken) = self.queue.take(&mut queue) {
                if taken.more {
                    self.signal.wake_one();
                }
                // Relaxed: only this worker writes it, and `wake` publishes the first store.
                if !state.active.load(Ordering::Relaxed) {
                    state.active.store(true, Ordering::Relaxed);
                    self.monitor.wake();
                }
                self.run(taken.turn, state);
                idle = backoff();
                if self.was_replaced(state) {
                    break;
                }
                continue;
            }
            state.active.store(false, Ordering::Relaxed);
            if !idle.snooze() {
                self.signal.prepare_sleep(index);
                if self.queue.has_work() || self.has_finished() {
                    self.signal.cancel_sleep(index);
                } else {
                    self.signal.sleep(index);
                }
                idle = backoff();
            }
        }
        state.active.store(false, Ordering::Relaxed);
        self.queue.clear(&mut queue);
        self.free_queues.lock().push(queue);
        self.signal.wake_one();
    }

    /// Whether the monitor replaced this worker while it was stalled, and enough other workers are
    /// left.
    fn was_replaced(&self, state: &WorkerState) -> bool {
        // Relaxed load: checked again by the swap. Acquire, partner `replace_stalled`.
        if !state.stalled.load(Ordering::Relaxed) || !state.stalled.swap(false, Ordering::Acquire) {
            return false;
        }
        let stay = |working| (working < self.config.threads).then_some(working + 1);
        // Relaxed: a number of threads, on which nothing else depends.
        self.working
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, stay)
            .is_err()
    }

    /// Runs one turn. Returns whether the handler has ended.
    fn run(&self, mut turn: Turn<Shared, Option<Task>>, state: &WorkerState) -> bool {
        let scope = NonBlockingScope::enter();
        let outer = CURRENT_JOB.replace(Arc::as_ptr(turn.job()).addr());
        let (shared, disabled, task) = turn.parts();
        debug_assert_eq!(
            state.running.load(Ordering::Relaxed),
            0,
            "a worker runs one turn at a time"
        );
        // Relaxed, like all accesses to it: see `WorkerState`.
        state.running.store(shared.number, Ordering::Relaxed);
        let context = TurnContext {
            subscription: shared.number,
            extras: &shared.extras,
            observer: self.config.observer.as_deref(),
            on_disconnect: &*self.config.on_disconnect,
            worker: state,
        };
        state.yield_requested.store(false, Ordering::Relaxed);
        let end = match task {
            Some(task) => contain("a handler's turn", || task.turn(disabled, &context))
                .unwrap_or(TurnEnd::Finished),
            None => TurnEnd::Finished,
        };
        // The task is taken by the first turn that finds that the handler has ended.
        let ended = end == TurnEnd::Finished && task.is_some();
        if ended {
            let task = task.take();
            contain("the drop of a handler", || drop(task));
        }
        state.running.store(0, Ordering::Relaxed);
        CURRENT_JOB.set(outer);
        drop(scope);
        if end != TurnEnd::Idle {
            // A finished job stays scheduled for ever, so that no thread pushes it again: the pool
            // may be dropped before the job.
            turn.schedule_again();
        }
        let finished = turn.finish();
        if let Some(job) = finished.again.filter(|_| end != TurnEnd::Finished) {
            self.enqueue(job);
        }
        if finished.awaited {
            self.turn_ends.notify();
        }
        if ended {
            self.decrement_live();
        }
        end == TurnEnd::Finished
    }

    /// Called when a handler has ended, and when the pool is closed.
    fn decrement_live(&self) {
        // AcqRel, partner `has_finished`.
        let before = self.live.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(
            before >= 1,
            "each handler ends once, and the pool is closed once"
        );
        if before == 1 {
            self.turn_ends.notify();
            self.signal.wake_all();
            self.monitor.wake();
        }
    }

    fn decrement_working(&self) {
        // Relaxed: a number of threads, on which nothing else depends.
        let before = self.working.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before >= 1, "each worker is counted once");
    }

    /// Whether the pool is closed and every handler has ended.
    fn has_finished(&self) -> bool {
        // Acquire, partner `decrement_live`.
        self.live.load(Ordering::Acquire) == 0
    }

    fn spawn_spare(self: &Arc<Self>) -> bool {
        self.spawn_worker().unwrap_or_else(|error| {
            log::error(format_args!(
                "could not start a spare thread for handlers: {error}"
            ));
            false
        })
    }
}

impl Monitored for Pool {
    fn monitor(&self) -> &StallMonitor {
        &self.monitor
    }

    fn workers(&self) -> &[CachePadded<WorkerState>] {
        &self.workers
    }

    fn is_finished(&self) -> bool {
        self.has_finished()
    }

    #[cold]
    fn replace_stalled(self: Arc<Self>, worker: usize, subscription: u64) {
        let state = &self.workers[worker];
        // The flag is set once, however many calls of one turn take long. Relaxed: only the monitor
        // sets it.
        if !state.stalled.load(Ordering::Relaxed) {
            self.decrement_working();
            // Release, partner `was_replaced`: the decrement is visible before the worker counts
            // itself again.
            state.stalled.store(true, Ordering::Release);
        }
        let enough = self.working.load(Ordering::Relaxed) >= self.config.threads;
        let replaced = enough || self.spawn_spare();
        // Allows other workers to take jobs from its local queue.
        self.queue.release_local(worker);
        self.signal.wake_one();
        (self.config.on_stall)(subscription);
        report(
            self.config.observer.as_deref(),
            Notice::Stalled {
                subscription,
                replaced,
            },
        );
    }

    /// Tries again to start a worker if no spare thread was available before.
    fn ensure_workers(self: Arc<Self>) {
        if self.working.load(Ordering::Relaxed) < self.config.threads && self.queue.has_work() {
            self.spawn_spare();
        }
    }
}

/// The control of a handler that the record of its subscription has, without the type of the
/// events.
pub(crate) trait HandlerControl: Send + Sync {
    /// Disables the handler: no call begins after this. Must be called before the feed is ended.
    fn disable(&self) -> DisabledWhile;
    fn extras(&self) -> &HandlerExtras;
    /// Waits until `done` returns `true`. `done` is called again whenever a turn has ended. Returns
    /// `false` at the deadline.
    fn wait_for(&self, deadline: Option<Instant>, done: &mut dyn FnMut() -> bool) -> bool;
    /// Returns whether `done` returned `true`. If not, `waker` is woken when a turn has ended.
    fn poll_for(&self, waker: &Waker, done: &mut dyn FnMut() -> bool) -> bool;
    fn is_running(&self) -> bool;
}

/// The state of the handler when [`HandlerControl::disable`] was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DisabledWhile {
    /// No call is running.
    Idle,
    /// A call may be running.
    Running,
    /// The caller is inside the call.
    Inside,
}

impl HandlerControl for HandlerJob {
    fn disable(&self) -> DisabledWhile {
        let running = self.disable();
        if CURRENT_JOB.get() == std::ptr::from_ref(self).addr() {
            DisabledWhile::Inside
        } else if running {
            DisabledWhile::Running
        } else {
            DisabledWhile::Idle
        }
    }

    fn extras(&self) -> &HandlerExtras {
        &self.shared.extras
    }

    fn wait_for(&self, deadline: Option<Instant>, done: &mut dyn FnMut() -> bool) -> bool {
        Pool::wait_for(self, deadline, done)
    }

    fn poll_for(&self, waker: &Waker, done: &mut dyn FnMut() -> bool) -> bool {
        Pool::poll_for(self, waker, done)
    }

    fn is_running(&self) -> bool {
        self.is_running()
    }
}

/// Waits for a call that was running when its handler was disabled, for [`CANCEL_GRACE`] at most.
pub(crate) fn wait_for_running_call(handler: &dyn HandlerControl) {
    let began = Instant::now();
    while handler.is_running() && began.elapsed() < CANCEL_GRACE {
        thread::yield_now();
    }
}

impl ReaderCallback for HandlerJob {
    fn schedule_read(self: Arc<Self>) {
        if let Some(job) = schedule(self) {
            // This reference keeps the pool alive: once the job is passed on, it may be dropped
            // with its own reference to the pool.
            let pool = job.job().shared.pool.clone();
            pool.enqueue(job);
        }
    }
}

/// The body of a thread that runs one handler only.
fn run_dedicated(job: &Arc<HandlerJob>, backoff: &dyn Fn(usize) -> Backoff) {
    let pool = &job.shared.pool;
    let state = WorkerState::default();
    let backoff = || backoff(pool.working.load(Ordering::Relaxed) + 2);
    let mut idle = backoff();
    loop {
        if let Some(turn) = try_begin(job) {
            if pool.run(turn, &state) {
                return;
            }
            idle = backoff();
        } else if !idle.snooze() {
            thread::park();
            idle = backoff();
        }
    }
}

/// The deadline of a wait. Inside a handler or a dispatch, where waiting would deadlock, it is now.
fn deadline_unless_inside(deadline: Option<Instant>) -> Option<Instant> {
    if NonBlockingScope::is_active() {
        Some(Instant::now())
    } else {
        deadline
    }
}
