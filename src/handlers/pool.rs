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
//! **How long a handler waits.** Jobs get their turns in the order in which they were scheduled.
//! While turns are short, a turn handles many events. When turns take long and jobs wait, a turn
//! ends after [`TURN_TIME`](super::task::TURN_TIME), which is one call if the calls take longer
//! than that. So a handler waits for one turn of each handler in front of it, divided by the number
//! of threads. If jobs have waited for more than 10 to 15 ms, the monitor adds threads, and doubles
//! their number at each check until the jobs no longer wait, or until there are no more spare
//! threads.
//!
//! # Failure modes
//!
//! * **No thread can be started for a new handler**: opening the subscription fails.
//! * **No spare thread is available**: the handlers share the threads that are left. The monitor
//!   tries again at each check.
//! * **A turn panics outside of the closure**: the panic is contained, and the handler ends.
//! * **The system suspends a worker that was woken**: at its next check the monitor wakes another
//!   one, or, if none sleeps, adds threads. The jobs in the local queue of the suspended worker are
//!   given to the others.
//! * **The observer or the logger blocks**: the handler whose notice it has waits. If that takes
//!   long, its worker is replaced, like that of a call that takes long. The monitor does not wait.

use std::cell::Cell;
use std::io;
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

use super::notice::Observer;
use super::reporter::{Report, Reporter, Reporting};
use super::stall_monitor::{Monitored, StallMonitor};
use super::task::{HandlerExtras, Task, TurnContext, TurnEnd};
use super::worker::{TurnLimit, WorkerState};
use crate::contain::contain;
use crate::dispatch::feed::ReaderCallback;
use crate::dispatch::role::Role;
use crate::dispatch::signal::Signal;
use crate::limits::{HANDLER_STALL, HANDLER_THREADS_MAX};
use crate::park::{Backoff, NonBlockingScope, Registration, WaitSet};
use crate::ring::run_queue::{Job, RunQueue, Scheduled, Turn, Worker, schedule, try_begin};
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering, thread};
use crate::time_limit;

/// How long a cancel waits for a turn that is in progress. A worker checks whether the job is
/// disabled and then calls the closure; the operating system may preempt it in between. Only the
/// end of the turn shows that no call begins any more. A turn that still runs after this time is
/// taken to be inside a call.
pub(crate) const CANCEL_GRACE: Duration = HANDLER_STALL;

/// The largest number of stalls that wait to be counted. More are not counted.
const UNCOUNTED_MAX: usize = 1024;

/// The settings of a pool.
pub(crate) struct PoolConfig {
    /// The number of workers without spares: 1 to `threads_max`.
    pub(crate) threads: usize,
    /// The largest number of workers, spares included: 1 to [`HANDLER_THREADS_MAX`].
    pub(crate) threads_max: usize,
    /// There are no workers; turns run only in [`Pool::drive`].
    pub(crate) manual: bool,
    pub(crate) observer: Option<Arc<Observer>>,
    /// Called with the number of a subscription whose handler is stalled: counts the stall. Must
    /// not wait: `false` means that a lock is not free, and that the stall has to be counted later.
    pub(crate) on_stall: Box<dyn Fn(u64) -> bool + Send + Sync>,
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
    /// Workers beyond `config.threads` that the monitor has requested, because jobs waited for too
    /// long: 0 to `config.threads_max - config.threads`. Only the monitor writes it.
    additional: AtomicUsize,
    /// Handlers that have not ended, plus 1 while the pool is open. One word, so that either the
    /// last handler or the close comes last, and finds that the pool has finished.
    live: AtomicUsize,
    /// Set by the first close.
    closing: AtomicBool,
    /// Threads that wait for a turn to end, or for the last handler.
    turn_ends: WaitSet,
    monitor: StallMonitor,
    /// The stalls that could not be counted yet, at most [`UNCOUNTED_MAX`]. Only the monitor takes
    /// this lock.
    uncounted: Mutex<Vec<u64>>,
    reporter: Reporter,
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
            additional: AtomicUsize::new(0),
            live: AtomicUsize::new(1),
            closing: AtomicBool::new(false),
            turn_ends: WaitSet::new(),
            monitor: StallMonitor::new(HANDLER_STALL),
            uncounted: Mutex::new(Vec::new()),
            reporter: Reporter::new(),
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
            let Some(queue) = self.free_queues.lock().pop() else {
                break;
            };
            self.spawn_worker(queue)?;
        }
        self.monitor.start(self.clone())
    }

    /// Creates the shared part of a new handler, for the subscription with this number.
    pub(crate) fn shared(self: &Arc<Self>, number: u64) -> Shared {
        Shared {
            pool: self.clone(),
            number,
            extras: HandlerExtras::new(),
        }
    }

    /// Counts a new handler. Must be called before the pool is closed.
    pub(crate) fn add_handler(&self) {
        let before = self.live.fetch_add(1, Ordering::Relaxed);
        debug_assert!(before >= 1, "the pool has finished");
    }

    /// Starts a thread for this handler only. `backoff` takes the number of threads that use the
    /// bus, and returns how the thread waits for events.
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
    ///
    /// Inside a callback, handlers run only if the bus is closing: there may be no later call that
    /// runs them. Inside a turn of this pool, none run, since that turn holds the role of the
    /// driver.
    pub(crate) fn drive(&self, closing: bool) -> bool {
        (closing || !NonBlockingScope::is_active()) && self.run_queued()
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
            while !time_limit::is_over()
                && let Some(taken) = self.queue.take(&mut worker)
            {
                let state = &self.workers[worker.index()];
                self.run(taken.turn, state, time_limit::is_set().then(Instant::now));
                done = true;
            }
            let missed = worker.release();
            if missed && time_limit::is_over() {
                // The thread that found this one driving may wait for the turns that are left.
                self.turn_ends.notify();
            }
            if !missed || time_limit::is_over() {
                return done;
            }
        }
    }

    /// Waits until every handler of a closed pool has ended. Returns `false` at the deadline.
    pub(crate) fn wait_finished(&self, deadline: Option<Instant>) -> bool {
        let finished = || {
            self.drive(true);
            self.has_finished().then_some(())
        };
        self.turn_ends
            .wait_until(deadline_unless_inside(deadline), finished)
            .is_some()
    }

    /// Returns whether every handler of a closed pool has ended. If not, `waker` is woken when a
    /// turn has ended.
    pub(crate) fn poll_finished(&self, registration: &mut Registration, waker: &Waker) -> bool {
        self.has_finished() || {
            self.turn_ends.register(registration, waker);
            self.has_finished()
        }
    }

    /// Gives back what a task has registered with this pool.
    pub(crate) fn forget(&self, registration: &mut Registration) {
        self.turn_ends.forget(registration);
    }

    /// Waits until `done` returns `true`. `done` is called again whenever a turn of this job has
    /// ended.
    pub(crate) fn wait_for(
        job: &HandlerJob,
        deadline: Option<Instant>,
        mut done: impl FnMut() -> bool,
    ) -> bool {
        let pool = &job.shared.pool;
        let mut check = || {
            pool.drive(false);
            job.request_finish_notice();
            done().then_some(())
        };
        let turn_ends = &pool.turn_ends;
        turn_ends
            .wait_until(deadline_unless_inside(deadline), &mut check)
            .is_some()
    }

    /// Like [`wait_for`](Self::wait_for), for a task. If it returns `false`, `waker` is woken when
    /// a turn has ended.
    pub(crate) fn poll_for(
        job: &HandlerJob,
        registration: &mut Registration,
        waker: &Waker,
        done: &mut dyn FnMut() -> bool,
    ) -> bool {
        let mut check = || {
            job.request_finish_notice();
            done()
        };
        check() || {
            job.shared.pool.turn_ends.register(registration, waker);
            check()
        }
    }

    /// Passes a scheduled job to a thread that runs its turn.
    fn enqueue(&self, job: Scheduled<Shared, Option<Task>>) {
        if let Some(thread) = job.job().shared.extras.own_thread() {
            thread.unpark();
        } else {
            if self.queue.push(job) {
                self.signal.wake_one();
            }
            self.monitor.wake_if_asleep();
        }
    }

    /// Starts a worker thread with this queue.
    fn spawn_worker(self: &Arc<Self>, queue: Worker) -> io::Result<()> {
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
            Ok(_) => Ok(()),
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
                state.note_wait(taken.waited_ticks);
                // Relaxed: only this worker writes it, and `wake` publishes the first store.
                if !state.active.load(Ordering::Relaxed) {
                    state.active.store(true, Ordering::Relaxed);
                    self.monitor.wake();
                }
                let single_steps = self.queue.has_single_steps();
                self.run(taken.turn, state, single_steps.then(Instant::now));
                idle = backoff();
                if self.was_replaced(state) || self.is_surplus() {
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
                if self.is_surplus() {
                    break;
                }
                idle = backoff();
            }
        }
        state.active.store(false, Ordering::Relaxed);
        // Relaxed load: checked again by the swap. Acquire, partner `replace_stalled`.
        if state.stalled.load(Ordering::Relaxed) && state.stalled.swap(false, Ordering::Acquire) {
            // The monitor no longer counted this worker when it ended as a surplus one, which was
            // counted, too.
            self.working.fetch_add(1, Ordering::Relaxed);
        }
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
        let stay = |working| (working < self.wanted()).then_some(working + 1);
        // Relaxed: a number of threads, on which nothing else depends.
        self.working
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, stay)
            .is_err()
    }

    /// The number of workers that are not stalled, as it should be.
    fn wanted(&self) -> usize {
        // Relaxed: a number of threads, on which nothing else depends.
        self.config.threads + self.additional.load(Ordering::Relaxed)
    }

    /// Whether there are more workers than there should be, so that the caller has to end. Then it
    /// no longer counts as a worker.
    #[inline]
    fn is_surplus(&self) -> bool {
        // Relaxed: a number of threads, on which nothing else depends.
        if self.working.load(Ordering::Relaxed) <= self.wanted() {
            return false;
        }
        let leave = |working| (working > self.wanted()).then(|| working - 1);
        self.working
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, leave)
            .is_ok()
    }

    /// Runs one turn. Returns whether the handler has ended. `timed_from`: the beginning of the
    /// turn, if it has to end after a short time.
    fn run(
        &self,
        turn: Turn<Shared, Option<Task>>,
        state: &WorkerState,
        timed_from: Option<Instant>,
    ) -> bool {
        let unwinding = NotifyOnUnwind(self);
        // Dropped first: the end of the turn comes before the notification.
        let mut turn = turn;
        let scope = NonBlockingScope::enter_turn();
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
            timed_from,
        };
        let limit = match timed_from {
            Some(_) => {
                // Relaxed: only this worker accesses them.
                state.clock_interval.store(0, Ordering::Relaxed);
                state.clock_in.store(0, Ordering::Relaxed);
                TurnLimit::TIME
            }
            None => TurnLimit::SLOTS,
        };
        state.turn_limit.store(limit, Ordering::Relaxed);
        state.note_turn();
        let end = match task {
            Some(task) => contain("a handler's turn", || task.turn(disabled, &context))
                .unwrap_or(TurnEnd::Finished),
            None => TurnEnd::Finished,
        };
        // The task is taken by the first turn that finds that the handler has ended.
        let ended = end == TurnEnd::Finished && task.is_some();
        if let Some(task) = task.take_if(|_| ended) {
            task.finish();
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
        std::mem::forget(unwinding);
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
            self.reporter.wake();
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

    /// Starts a spare thread. Only the monitor calls this. Returns `false` if there is none, or if
    /// the lock on the queues is not free.
    fn spawn_spare(self: &Arc<Self>) -> bool {
        let queue = self
            .free_queues
            .try_lock()
            .and_then(|mut queues| queues.pop());
        let Some(queue) = queue else {
            return false;
        };
        match self.spawn_worker(queue) {
            Ok(()) => true,
            Err(error) => {
                self.reporter.send(self.clone(), Report::NoThread(error));
                false
            }
        }
    }

    /// Counts the stalls that were found, as far as no lock prevents it.
    fn count_stalls(&self, found: Option<u64>) {
        // Not under the lock: it may drop the last reference to the bus.
        let mut uncounted = std::mem::take(&mut *self.uncounted.lock());
        uncounted.extend(found);
        let count = |number: &&u64| (self.config.on_stall)(**number);
        let counted = uncounted.iter().take_while(count).count();
        uncounted.drain(..counted);
        uncounted.truncate(UNCOUNTED_MAX);
        *self.uncounted.lock() = uncounted;
    }
}

/// Notifies the threads that wait for the end of a turn, if the turn unwinds. Nothing in a turn
/// should: see [`contain`].
struct NotifyOnUnwind<'a>(&'a Pool);

impl Drop for NotifyOnUnwind<'_> {
    fn drop(&mut self) {
        self.0.turn_ends.notify();
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

    fn advance_tick(&self) {
        self.queue.advance_tick();
    }

    fn has_work(&self) -> bool {
        self.queue.has_work()
    }

    fn has_work_in_order(&self) -> bool {
        self.queue.has_work_in_order()
    }

    fn wake_worker(&self) {
        self.signal.wake_one();
    }

    fn release_local(&self, worker: usize) {
        if self.queue.release_local(worker) {
            self.signal.wake_one();
        }
    }

    fn set_single_steps(&self, single_steps: bool) {
        self.queue.set_single_steps(single_steps);
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
        self.count_stalls(Some(subscription));
        let report = Report::Stalled {
            subscription,
            replaced,
        };
        self.reporter.send(self.clone(), report);
    }

    fn working(&self) -> usize {
        self.working.load(Ordering::Relaxed)
    }

    fn additional_threads(&self) -> usize {
        self.additional.load(Ordering::Relaxed)
    }

    #[cold]
    fn add_threads(&self, threads: usize) {
        let additional = self.additional_threads() + threads;
        let most = self.config.threads_max - self.config.threads;
        // Relaxed: only the monitor writes it.
        self.additional
            .store(additional.min(most), Ordering::Relaxed);
    }

    #[cold]
    fn remove_threads(&self, threads: usize) {
        let additional = self.additional_threads();
        debug_assert!(threads <= additional, "only what was added is removed");
        // Relaxed: only the monitor writes it.
        self.additional
            .store(additional - threads, Ordering::Relaxed);
        // Those that sleep look whether they have to end.
        (0..threads).for_each(|_| self.signal.wake_one());
    }

    fn finish_check(self: Arc<Self>) {
        while self.working() < self.wanted() && self.queue.has_work() {
            if !self.spawn_spare() {
                break;
            }
        }
        self.count_stalls(None);
    }
}

impl Reporting for Pool {
    fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    fn observer(&self) -> Option<&Observer> {
        self.config.observer.as_deref()
    }

    fn is_finished(&self) -> bool {
        self.has_finished()
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
    fn poll_for(
        &self,
        registration: &mut Registration,
        waker: &Waker,
        done: &mut dyn FnMut() -> bool,
    ) -> bool;
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

    fn poll_for(
        &self,
        registration: &mut Registration,
        waker: &Waker,
        done: &mut dyn FnMut() -> bool,
    ) -> bool {
        Pool::poll_for(self, registration, waker, done)
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
            if pool.run(turn, &state, None) {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ring::run_queue::Turn;

    /// A pool of which one worker may have no thread.
    pub(in crate::handlers) struct TestPool {
        pool: Arc<Pool>,
        suspended: Mutex<Option<Worker>>,
        turn: Mutex<Option<Turn<Shared, Option<Task>>>>,
    }

    impl TestPool {
        pub(in crate::handlers) fn new(threads: usize) -> Self {
            let pool = Pool::new(PoolConfig {
                threads,
                threads_max: 8,
                manual: false,
                observer: None,
                on_stall: Box::new(|_| true),
                on_disconnect: Box::new(|_| {}),
            });
            Self {
                pool,
                suspended: Mutex::new(None),
                turn: Mutex::new(None),
            }
        }

        /// It is the first to be woken.
        pub(in crate::handlers) fn add_suspended_worker(&self) {
            let queue = self.pool.free_queues.lock().pop().expect("eight");
            assert_eq!(queue.index(), 0);
            self.pool.working.fetch_add(1, Ordering::Relaxed);
            *self.suspended.lock() = Some(queue);
        }

        pub(in crate::handlers) fn suspended_worker_sleeps(&self) {
            self.pool.signal.prepare_sleep(0);
        }

        pub(in crate::handlers) fn suspended_worker_takes_a_job(&self) -> bool {
            let mut suspended = self.suspended.lock();
            let queue = suspended.as_mut().expect("added before");
            let taken = self.pool.queue.take(queue);
            *self.turn.lock() = taken.map(|taken| taken.turn);
            self.turn.lock().is_some()
        }

        pub(in crate::handlers) fn start(&self) {
            self.pool.start().expect("threads can be started");
        }

        /// The handler of the job has ended, so that a turn does nothing.
        pub(in crate::handlers) fn push_job(&self) {
            let job = Arc::new(Job::new(self.pool.shared(1), None));
            let scheduled = schedule(job).expect("the job is idle");
            self.pool.enqueue(scheduled);
        }

        /// The turns that all workers have begun.
        pub(in crate::handlers) fn turns(&self) -> u32 {
            let turns = |worker: &CachePadded<WorkerState>| worker.turns.load(Ordering::Relaxed);
            self.pool.workers.iter().map(turns).sum()
        }

        pub(in crate::handlers) fn additional(&self) -> usize {
            self.pool.additional_threads()
        }
    }

    impl Drop for TestPool {
        fn drop(&mut self) {
            self.pool.close();
        }
    }
}
