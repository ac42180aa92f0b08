//! The workers.
//!
//! A worker takes turns while there are any, looks on for a moment, and sleeps. Whoever pushes the first job into the
//! inbox calls one worker; a worker that finds more than it can do at once calls another. So a burst wakes as many as
//! it needs, one after the other, and a lone event wakes one.
//!
//! A worker whose call takes too long is marked by the [watch](super::stall_monitor), and a spare takes its place at once; the
//! jobs on its slots and overflow are open to all. When the call has ended, it finds that it was replaced, and goes.

use std::cell::Cell;
use std::io;
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

use super::notice::{Notice, Observer, tell};
use super::stall_monitor::StallMonitor;
use super::task::{RareState, Task, TurnContext, TurnEnd};
use crate::contain::contain;
use crate::dispatch::feed::ReaderCallback;
use crate::dispatch::role::Role;
use crate::dispatch::signal::Signal;
use crate::limits::HANDLER_STALL;
use crate::log;
use crate::park::{Backoff, NonBlockingScope, WaitSet};
use crate::ring::run_queue::{Job, RunQueue, Scheduled, Turn, Worker, schedule, try_begin};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, thread};

/// How long a cancel waits for a turn that is in progress. A worker looks at the bar and then calls, and may lose the
/// processor in between; to let it go on is the only way to know that no call begins any more. Whoever is still at it
/// after this time is taken to be in the middle of a call.
pub(crate) const CANCEL_GRACE: Duration = HANDLER_STALL;

/// What a pool is made from.
pub(crate) struct PoolConfig {
    /// Workers, without spares: 1 to `threads_max`.
    pub(crate) threads: usize,
    /// Workers and spares: 1 to [`HANDLER_THREADS_MAX`](crate::limits::HANDLER_THREADS_MAX).
    pub(crate) threads_max: usize,
    /// Nobody works but who drives.
    pub(crate) manual: bool,
    pub(crate) observer: Option<Arc<Observer>>,
    /// Counts a stall of the subscription with this number.
    pub(crate) stalled: Box<dyn Fn(u64) + Send + Sync>,
    /// Forgets the subscription with this number, which was disconnected.
    pub(crate) disconnected: Box<dyn Fn(u64) + Send + Sync>,
}

/// A handler in the pool.
pub(crate) type HandlerJob<T> = Job<Shared<T>, Option<Task<T>>>;

/// What everybody may see of a handler.
pub(crate) struct Shared<T> {
    pool: Arc<Pool<T>>,
    /// Number of the subscription.
    number: u64,
    rare: RareState,
}

/// The workers and their queue.
pub(crate) struct Pool<T> {
    queue: RunQueue<Shared<T>, Option<Task<T>>>,
    config: PoolConfig,
    /// Who sleeps.
    signal: Signal,
    /// What each worker is at, by the number of its worker.
    pub(super) worker_states: Box<[CachePadded<WorkerState>]>,
    /// Of the queues that nobody sits at, the lowest last.
    free_workers: Mutex<Vec<Worker>>,
    /// Workers that are not stuck in a call.
    working: AtomicUsize,
    /// Handlers that have not come to their end, and 1 for a pool that is open: one word, so that of the last handler and
    /// whoever closes one comes last, and finds that all is over.
    live: AtomicUsize,
    /// Closed once.
    closing: AtomicBool,
    /// Those who wait for a turn to end, or for the last handler.
    turn_finished: WaitSet,
    pub(super) monitor: StallMonitor,
    /// Held by who drives a manual bus.
    driver: Role<Worker>,
}

/// What a worker is at. Written by the worker, but for `stalled` and `yield_requested`.
#[derive(Default)]
pub(super) struct WorkerState {
    /// Number of the subscription whose handler is running; 0: none.
    pub(super) running: AtomicU64,
    /// Events that this handler has handled: changes when a call has ended.
    pub(super) calls: AtomicU64,
    /// The worker has called the watch, and has not been idle since.
    pub(super) awake: AtomicBool,
    /// Set by the watch: a call took too long, and this worker no longer counts as one.
    pub(super) stalled: AtomicBool,
    /// Set by the watch: this handler has been at it for a while, and others may wait for the worker.
    pub(super) yield_requested: AtomicBool,
}

crate::sync::thread_local!(static INSIDE: Cell<usize> = const { Cell::new(0) });

impl<T: Send + Sync + 'static> Pool<T> {
    pub(crate) fn new(config: PoolConfig) -> Arc<Self> {
        let queues = if config.manual { 1 } else { config.threads_max };
        // One more than workers: the driver's.
        let (queue, mut free_workers) = RunQueue::new(queues + 1);
        let driver = free_workers.pop().expect("at least one");
        free_workers.reverse();
        Arc::new(Self {
            queue,
            config,
            signal: Signal::new(queues),
            worker_states: (0..=queues).map(|_| CachePadded::default()).collect(),
            free_workers: Mutex::new(free_workers),
            working: AtomicUsize::new(0),
            live: AtomicUsize::new(1),
            closing: AtomicBool::new(false),
            turn_finished: WaitSet::new(),
            monitor: StallMonitor::new(),
            driver: Role::new(driver),
        })
    }

    /// Starts what workers are missing. ReaderCallback under the lock that opening a subscription takes.
    pub(crate) fn start(self: &Arc<Self>) -> io::Result<()> {
        if self.config.manual {
            return Ok(());
        }
        while self.working.load(Ordering::Relaxed) < self.config.threads {
            if !self.spawn_worker()? {
                break;
            }
        }
        self.monitor.start(self)
    }

    /// A handler to be; `own_thread`: it gets one.
    pub(crate) fn shared(self: &Arc<Self>, number: u64) -> Shared<T> {
        Shared {
            pool: self.clone(),
            number,
            rare: RareState::default(),
        }
    }

    /// A handler was opened.
    pub(crate) fn opened(&self) {
        self.live.fetch_add(1, Ordering::Relaxed);
    }

    /// A thread for this handler alone; `awake`: how it waits, when so many threads take part.
    pub(crate) fn dedicate(
        job: &Arc<HandlerJob<T>>,
        awake: impl Fn(usize) -> Backoff + Send + 'static,
    ) -> io::Result<()> {
        if job.shared.pool.config.manual {
            return Ok(());
        }
        job.dedicate();
        let own = job.clone();
        let name = format!("fanout-handler-{}", job.shared.number);
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || run_dedicated(&own, &awake))?;
        let first = job.shared.rare.dedicate(thread.thread().clone());
        debug_assert!(first, "dedicated once");
        Ok(())
    }

    /// No handler is opened any more: when the last has come to its end, the workers go.
    pub(crate) fn close(&self) {
        // Relaxed: of several who close, one counts.
        if !self.closing.swap(true, Ordering::Relaxed) {
            self.ended();
        }
    }

    /// Takes turns until there are none: for a manual bus. `true`: something was done.
    pub(crate) fn drive(&self) -> bool {
        // Whoever drives inside a handler would take turns inside a turn.
        if !self.config.manual || NonBlockingScope::is_active() {
            return false;
        }
        let mut done = false;
        loop {
            let Some(mut worker) = self.driver.try_acquire() else {
                return done;
            };
            while let Some(taken) = self.queue.take(&mut worker) {
                let worker_state = &self.worker_states[worker.index()];
                self.run(taken.turn, worker_state);
                done = true;
            }
            if !worker.release() {
                return done;
            }
        }
    }

    /// Waits until every handler of a closed pool has come to its end. `false`: not in time.
    pub(crate) fn wait_over(&self, deadline: Option<Instant>) -> bool {
        let over = || self.is_over().then_some(());
        self.turn_finished
            .wait_until(not_inside(deadline), over)
            .is_some()
    }

    /// Whether every handler of a closed pool has ended. If not, has `waker` woken when a turn has
    /// ended.
    pub(crate) fn poll_over(&self, waker: &Waker) -> bool {
        self.is_over() || {
            self.turn_finished.register(waker.clone());
            self.is_over()
        }
    }

    /// Waits until `done`, which is looked at whenever a turn at this job has ended.
    pub(crate) fn wait_for(
        job: &HandlerJob<T>,
        deadline: Option<Instant>,
        mut done: impl FnMut() -> bool,
    ) -> bool {
        let mut look = || {
            job.request_finish_notice();
            done().then_some(())
        };
        let turn_finished = &job.shared.pool.turn_finished;
        turn_finished
            .wait_until(not_inside(deadline), &mut look)
            .is_some()
    }

    /// As [`wait_for`](Self::wait_for), for a task. `false`: `waker` is woken when a turn has ended.
    pub(crate) fn poll_for(
        job: &HandlerJob<T>,
        waker: &Waker,
        done: &mut dyn FnMut() -> bool,
    ) -> bool {
        let mut look = || {
            job.request_finish_notice();
            done()
        };
        look() || {
            job.shared.pool.turn_finished.register(waker.clone());
            look()
        }
    }

    /// Has somebody take the turn that the job was asked for.
    fn enqueue(&self, job: Scheduled<Shared<T>, Option<Task<T>>>) {
        if let Some(thread) = job.job().shared.rare.own_thread() {
            thread.unpark();
        } else if self.queue.push(job) {
            self.signal.wake_one();
        }
    }

    fn spawn_worker(self: &Arc<Self>) -> io::Result<bool> {
        let Some(worker) = self.free_workers.lock().pop() else {
            return Ok(false);
        };
        let index = worker.index();
        let pool = self.clone();
        // Handed over behind a lock, so that a thread that was not to be had leaves the hand with us.
        let handed = Arc::new(Mutex::new(Some(worker)));
        let taken = handed.clone();
        // First: it may be found stuck before we come to it.
        self.working.fetch_add(1, Ordering::Relaxed);
        let spawned = std::thread::Builder::new()
            .name(format!("fanout-pool-{index}"))
            .spawn(move || {
                let worker = taken.lock().take();
                if let Some(worker) = worker {
                    pool.work(worker);
                }
            });
        match spawned {
            Ok(_) => Ok(true),
            Err(error) => {
                self.working.fetch_sub(1, Ordering::Relaxed);
                self.free_workers.lock().extend(handed.lock().take());
                Err(error)
            }
        }
    }

    /// The life of a worker.
    fn work(&self, mut worker: Worker) {
        let index = worker.index();
        let worker_state = &self.worker_states[index];
        let backoff = || Backoff::adaptive(self.working.load(Ordering::Relaxed) + 2);
        let mut idle = backoff();
        while !self.is_over() {
            if let Some(taken) = self.queue.take(&mut worker) {
                if taken.more {
                    self.signal.wake_one();
                }
                // Relaxed: only this worker writes it, and the first store goes with the call.
                if !worker_state.awake.load(Ordering::Relaxed) {
                    worker_state.awake.store(true, Ordering::Relaxed);
                    self.monitor.wake();
                }
                self.run(taken.turn, worker_state);
                idle = backoff();
                if self.was_replaced(worker_state) {
                    break;
                }
                continue;
            }
            worker_state.awake.store(false, Ordering::Relaxed);
            if !idle.snooze() {
                self.signal.prepare_sleep(index);
                if self.queue.has_work() || self.is_over() {
                    self.signal.cancel_sleep(index);
                } else {
                    self.signal.sleep(index);
                }
                idle = backoff();
            }
        }
        worker_state.awake.store(false, Ordering::Relaxed);
        self.queue.clear(&mut worker);
        self.free_workers.lock().push(worker);
        self.signal.wake_one();
    }

    /// The watch had a spare take our context: is there one too many?
    fn was_replaced(&self, worker_state: &WorkerState) -> bool {
        // Relaxed: numbers of threads, which nothing else depends on.
        if !worker_state.stalled.load(Ordering::Relaxed)
            || !worker_state.stalled.swap(false, Ordering::Acquire)
        {
            return false;
        }
        let stay = |working| (working < self.config.threads).then_some(working + 1);
        self.working
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, stay)
            .is_err()
    }

    /// One turn. `true`: the handler has come to its end.
    fn run(&self, mut turn: Turn<Shared<T>, Option<Task<T>>>, worker_state: &WorkerState) -> bool {
        let here = NonBlockingScope::enter();
        let outer = INSIDE.replace(Arc::as_ptr(turn.job()).addr());
        let (shared, disabled, state) = turn.parts();
        // Relaxed: the watch compares it with itself.
        worker_state.running.store(shared.number, Ordering::Relaxed);
        let context = TurnContext {
            subscription: shared.number,
            rare: &shared.rare,
            observer: self.config.observer.as_deref(),
            disconnected: &*self.config.disconnected,
            calls: &worker_state.calls,
            yield_requested: &worker_state.yield_requested,
        };
        worker_state.yield_requested.store(false, Ordering::Relaxed);
        let left = match state {
            Some(task) => contain("a handler's turn", || task.turn(disabled, &context))
                .unwrap_or(TurnEnd::Finished),
            None => TurnEnd::Finished,
        };
        let over = left == TurnEnd::Finished && state.is_some();
        if over {
            let task = state.take();
            contain("the drop of a handler", || drop(task));
        }
        worker_state.running.store(0, Ordering::Relaxed);
        INSIDE.set(outer);
        drop(here);
        if left != TurnEnd::Idle {
            // Over: it stays asked for ever, so that nobody pushes it any more; the pool would not outlive it.
            turn.schedule_again();
        }
        let turn_finished = turn.finish();
        if let Some(job) = turn_finished.again.filter(|_| left != TurnEnd::Finished) {
            self.enqueue(job);
        }
        if turn_finished.awaited {
            self.turn_finished.notify();
        }
        if over {
            self.ended();
        }
        left == TurnEnd::Finished
    }

    fn ended(&self) {
        // AcqRel, partner `is_over`.
        if self.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.turn_finished.notify();
            self.signal.wake_all();
            self.monitor.wake();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        // Acquire, partner `ended`.
        self.live.load(Ordering::Acquire) == 0
    }

    /// A worker has been at one call for too long: another takes its context.
    #[cold]
    pub(super) fn replace(self: &Arc<Self>, worker: usize, number: u64) {
        let worker_state = &self.worker_states[worker];
        // Once, however many calls of a turn take long. Relaxed: nobody else sets it.
        if !worker_state.stalled.load(Ordering::Relaxed) {
            self.working.fetch_sub(1, Ordering::Relaxed);
            // Release, partner `was_replaced`: counted out before it counts itself in again.
            worker_state.stalled.store(true, Ordering::Release);
        }
        let enough = self.working.load(Ordering::Relaxed) >= self.config.threads;
        let replaced = enough || self.spawn_spare();
        // Others look at a slots only when there is nothing else to do.
        self.queue.release_local(worker);
        self.signal.wake_one();
        (self.config.stalled)(number);
        tell(
            self.config.observer.as_deref(),
            Notice::Stalled {
                subscription: number,
                replaced,
            },
        );
    }

    /// When a spare was not to be had: is there one now?
    pub(super) fn spawn_missing(self: &Arc<Self>) {
        if self.working.load(Ordering::Relaxed) < self.config.threads && self.queue.has_work() {
            self.spawn_spare();
        }
    }

    fn spawn_spare(self: &Arc<Self>) -> bool {
        self.spawn_worker().unwrap_or_else(|error| {
            log::error(format_args!("no thread for a handler: {error}"));
            false
        })
    }
}

/// What a subscription's record keeps of its handler, whatever its events are.
pub(crate) trait HandlerControl: Send + Sync {
    /// No call begins any more. Before the feed is ended.
    fn disable(&self) -> DisabledWhile;
    fn rare(&self) -> &RareState;
    /// Waits until `done`, which is looked at whenever a turn has ended.
    fn wait_for(&self, deadline: Option<Instant>, done: &mut dyn FnMut() -> bool) -> bool;
    /// Whether it is `done`. If not, has `waker` woken when a turn has ended.
    fn poll_for(&self, waker: &Waker, done: &mut dyn FnMut() -> bool) -> bool;
    fn is_running(&self) -> bool;
}

/// What [`HandlerControl::disable`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DisabledWhile {
    /// No call is running.
    Idle,
    /// One may be.
    Running,
    /// The caller is inside of it.
    Inside,
}

impl<T: Send + Sync + 'static> HandlerControl for HandlerJob<T> {
    fn disable(&self) -> DisabledWhile {
        let running = self.disable();
        if INSIDE.get() == std::ptr::from_ref(self).addr() {
            DisabledWhile::Inside
        } else if running {
            DisabledWhile::Running
        } else {
            DisabledWhile::Idle
        }
    }

    fn rare(&self) -> &RareState {
        &self.shared.rare
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

/// Waits for a call that was running when its handler was barred, but not for long.
pub(crate) fn wait_for_running_call(handler: &dyn HandlerControl) {
    let began = Instant::now();
    while handler.is_running() && began.elapsed() < CANCEL_GRACE {
        thread::yield_now();
    }
}

impl<T: Send + Sync + 'static> ReaderCallback for HandlerJob<T> {
    fn schedule_read(self: Arc<Self>) {
        if let Some(job) = schedule(self) {
            // Of our own: with the job that is given away the pool may go.
            let pool = job.job().shared.pool.clone();
            pool.enqueue(job);
        }
    }
}

fn run_dedicated<T: Send + Sync + 'static>(
    job: &Arc<HandlerJob<T>>,
    awake: &dyn Fn(usize) -> Backoff,
) {
    let pool = &job.shared.pool;
    let worker_state = WorkerState::default();
    let backoff = || awake(pool.working.load(Ordering::Relaxed) + 2);
    let mut idle = backoff();
    loop {
        if let Some(turn) = try_begin(job) {
            if pool.run(turn, &worker_state) {
                return;
            }
            idle = backoff();
        } else if !idle.snooze() {
            thread::park();
            idle = backoff();
        }
    }
}

/// From inside a handler, or the dispatch, nobody waits: a look is all.
fn not_inside(deadline: Option<Instant>) -> Option<Instant> {
    if NonBlockingScope::is_active() {
        Some(Instant::now())
    } else {
        deadline
    }
}
