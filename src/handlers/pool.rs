//! The workers.
//!
//! A worker takes turns while there are any, looks on for a moment, and sleeps. Whoever pushes the first job into the
//! inbox calls one worker; a worker that finds more than it can do at once calls another. So a burst wakes as many as
//! it needs, one after the other, and a lone event wakes one.
//!
//! A worker whose call takes too long is marked by the [watch](super::watch), and a spare takes its place at once; the
//! jobs on its tray and shelf are open to all. When the call has ended, it finds that it was replaced, and goes.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

use super::notice::{Notice, Observer, tell};
use super::task::{Cold, Left, Place, Task};
use super::watch::Watch;
use crate::dispatch::feed::Called;
use crate::dispatch::role::Role;
use crate::dispatch::signal::Signal;
use crate::park::{Linger, NoWaiting, WaitSet};
use crate::ring::run_queue::{Hand, Job, RunQueue, Turn, try_begin};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, thread};

/// Threads of a handler pool at most, spares included.
pub const HANDLER_THREADS_MAX: usize = 64;

/// A call that takes longer than this (10 ms) has its thread replaced by a spare; see
/// [`BusBuilder::max_handler_threads`](crate::BusBuilder::max_handler_threads).
pub const HANDLER_STALL: Duration = Duration::from_millis(10);

/// How long a cancel waits for a turn that is in progress. A worker looks at the bar and then calls, and may lose the
/// processor in between; to let it go on is the only way to know that no call begins any more. Whoever is still at it
/// after this time is taken to be in the middle of a call.
pub(crate) const CANCEL_GRACE: Duration = HANDLER_STALL;

/// What a pool is made from.
pub(crate) struct PoolPlan {
    /// Workers, without spares: 1 to `threads_max`.
    pub(crate) threads: usize,
    /// Workers and spares: 1 to [`HANDLER_THREADS_MAX`].
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
    cold: Cold,
}

/// The workers and their queue.
pub(crate) struct Pool<T> {
    queue: RunQueue<Shared<T>, Option<Task<T>>>,
    plan: PoolPlan,
    /// Who sleeps.
    signal: Signal,
    /// What each worker is at, by the number of its desk.
    pub(super) posts: Box<[CachePadded<Post>]>,
    /// Of the desks that nobody sits at, the lowest last.
    hands: Mutex<Vec<Hand>>,
    /// Workers that are not stuck in a call.
    working: AtomicUsize,
    /// Handlers that have not come to their end, and 1 for a pool that is open: one word, so that of the last handler and
    /// whoever closes one comes last, and finds that all is over.
    live: AtomicUsize,
    /// Closed once.
    closing: AtomicBool,
    /// Those who wait for a turn to end, or for the last handler.
    rested: WaitSet,
    pub(super) watch: Watch,
    /// Held by who drives a manual bus.
    driver: Role<Hand>,
}

/// What a worker is at. Written by the worker, but for `stalled` and `hurry`.
#[derive(Default)]
pub(super) struct Post {
    /// Number of the subscription whose handler is running; 0: none.
    pub(super) running: AtomicU64,
    /// Events that this handler has handled: changes when a call has ended.
    pub(super) pulse: AtomicU64,
    /// The worker has called the watch, and has not been idle since.
    pub(super) awake: AtomicBool,
    /// Set by the watch: a call took too long, and this worker no longer counts as one.
    pub(super) stalled: AtomicBool,
    /// Set by the watch: this handler has been at it for a while, and others may wait for the worker.
    pub(super) hurry: AtomicBool,
}

crate::sync::thread_local!(static INSIDE: Cell<usize> = const { Cell::new(0) });

impl<T: Send + Sync + 'static> Pool<T> {
    pub(crate) fn new(plan: PoolPlan) -> Arc<Self> {
        let desks = if plan.manual { 1 } else { plan.threads_max };
        // One more than workers: the driver's.
        let (queue, mut hands) = RunQueue::new(desks + 1);
        let driver = hands.pop().expect("at least one");
        hands.reverse();
        Arc::new(Self {
            queue,
            plan,
            signal: Signal::new(desks),
            posts: (0..=desks).map(|_| CachePadded::default()).collect(),
            hands: Mutex::new(hands),
            working: AtomicUsize::new(0),
            live: AtomicUsize::new(1),
            closing: AtomicBool::new(false),
            rested: WaitSet::new(),
            watch: Watch::new(),
            driver: Role::new(driver),
        })
    }

    /// Starts what workers are missing. Called under the lock that opening a subscription takes.
    pub(crate) fn start(self: &Arc<Self>) -> io::Result<()> {
        if self.plan.manual {
            return Ok(());
        }
        while self.working.load(Ordering::Relaxed) < self.plan.threads {
            if !self.spawn_worker()? {
                break;
            }
        }
        self.watch.start(self)
    }

    /// A handler to be; `own_thread`: it gets one.
    pub(crate) fn shared(self: &Arc<Self>, number: u64) -> Shared<T> {
        Shared {
            pool: self.clone(),
            number,
            cold: Cold::default(),
        }
    }

    /// A handler was opened.
    pub(crate) fn opened(&self) {
        self.live.fetch_add(1, Ordering::Relaxed);
    }

    /// A thread for this handler alone; `awake`: how it waits, when so many threads take part.
    pub(crate) fn dedicate(
        job: &Arc<HandlerJob<T>>,
        awake: impl Fn(usize) -> Linger + Send + 'static,
    ) -> io::Result<()> {
        if job.shared.pool.plan.manual {
            return Ok(());
        }
        let own = job.clone();
        let name = format!("fanout-handler-{}", job.shared.number);
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || run_dedicated(&own, &awake))?;
        let first = job.shared.cold.dedicate(thread.thread().clone());
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
        if !self.plan.manual || NoWaiting::applies() {
            return false;
        }
        let mut done = false;
        loop {
            let Some(mut hand) = self.driver.try_hold() else {
                return done;
            };
            while let Some(taken) = self.queue.take(&mut hand) {
                let post = &self.posts[hand.desk()];
                self.run(taken.turn, post);
                done = true;
            }
            if !hand.release() {
                return done;
            }
        }
    }

    /// Waits until every handler of a closed pool has come to its end. `false`: not in time.
    pub(crate) fn wait_over(&self, deadline: Option<Instant>) -> bool {
        let over = || self.is_over().then_some(());
        self.rested.wait_until(not_inside(deadline), over).is_some()
    }

    /// Waits until `done`, which is looked at whenever a turn at this job has ended.
    pub(crate) fn wait_for(
        job: &HandlerJob<T>,
        deadline: Option<Instant>,
        mut done: impl FnMut() -> bool,
    ) -> bool {
        let mut look = || {
            job.await_rest();
            done().then_some(())
        };
        let rested = &job.shared.pool.rested;
        rested.wait_until(not_inside(deadline), &mut look).is_some()
    }

    /// Has somebody take the turn that the job was asked for.
    fn enqueue(&self, job: Arc<HandlerJob<T>>) {
        if let Some(thread) = job.shared.cold.own_thread() {
            thread.unpark();
        } else if self.queue.push(job) {
            self.signal.call();
        }
    }

    fn spawn_worker(self: &Arc<Self>) -> io::Result<bool> {
        let Some(hand) = self.hands.lock().pop() else {
            return Ok(false);
        };
        let index = hand.desk();
        let pool = self.clone();
        // Handed over behind a lock, so that a thread that was not to be had leaves the hand with us.
        let handed = Arc::new(Mutex::new(Some(hand)));
        let taken = handed.clone();
        // First: it may be found stuck before we come to it.
        self.working.fetch_add(1, Ordering::Relaxed);
        let spawned = std::thread::Builder::new()
            .name(format!("fanout-pool-{index}"))
            .spawn(move || {
                let hand = taken.lock().take();
                if let Some(hand) = hand {
                    pool.work(hand);
                }
            });
        match spawned {
            Ok(_) => Ok(true),
            Err(error) => {
                self.working.fetch_sub(1, Ordering::Relaxed);
                self.hands.lock().extend(handed.lock().take());
                Err(error)
            }
        }
    }

    /// The life of a worker.
    fn work(&self, mut hand: Hand) {
        let index = hand.desk();
        let post = &self.posts[index];
        let linger = || Linger::adaptive(self.working.load(Ordering::Relaxed) + 2);
        let mut idle = linger();
        while !self.is_over() {
            if let Some(taken) = self.queue.take(&mut hand) {
                if taken.more {
                    self.signal.call();
                }
                // Relaxed: only this worker writes it, and the first store goes with the call.
                if !post.awake.load(Ordering::Relaxed) {
                    post.awake.store(true, Ordering::Relaxed);
                    self.watch.call();
                }
                self.run(taken.turn, post);
                idle = linger();
                if self.was_replaced(post) {
                    break;
                }
                continue;
            }
            post.awake.store(false, Ordering::Relaxed);
            if !idle.turn() {
                self.signal.lie_down(index);
                if self.queue.has_work() || self.is_over() {
                    self.signal.get_up(index);
                } else {
                    self.signal.sleep(index);
                }
                idle = linger();
            }
        }
        post.awake.store(false, Ordering::Relaxed);
        self.queue.clear(&mut hand);
        self.hands.lock().push(hand);
        self.signal.call();
    }

    /// The watch had a spare take our place: is there one too many?
    fn was_replaced(&self, post: &Post) -> bool {
        // Relaxed: numbers of threads, which nothing else depends on.
        if !post.stalled.load(Ordering::Relaxed) || !post.stalled.swap(false, Ordering::Acquire) {
            return false;
        }
        let stay = |working| (working < self.plan.threads).then_some(working + 1);
        self.working
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, stay)
            .is_err()
    }

    /// One turn. `true`: the handler has come to its end.
    fn run(&self, mut turn: Turn<Shared<T>, Option<Task<T>>>, post: &Post) -> bool {
        let here = NoWaiting::here();
        let outer = INSIDE.replace(Arc::as_ptr(turn.job()).addr());
        let (shared, bar, state) = turn.parts();
        // Relaxed: the watch compares it with itself.
        post.running.store(shared.number, Ordering::Relaxed);
        let place = Place {
            subscription: shared.number,
            cold: &shared.cold,
            observer: self.plan.observer.as_deref(),
            disconnected: &*self.plan.disconnected,
            pulse: &post.pulse,
            hurry: &post.hurry,
        };
        post.hurry.store(false, Ordering::Relaxed);
        let left = match state {
            Some(task) => contain(|| task.turn(bar, &place)).unwrap_or(Left::Over),
            None => Left::Over,
        };
        let over = left == Left::Over && state.is_some();
        if over {
            let task = state.take();
            contain(|| drop(task));
        }
        post.running.store(0, Ordering::Relaxed);
        INSIDE.set(outer);
        drop(here);
        if left != Left::Nothing {
            // Over: it stays asked for ever, so that nobody pushes it any more; the pool would not outlive it.
            turn.job().ask();
        }
        let rested = turn.rest();
        if let Some(job) = rested.again.filter(|_| left != Left::Over) {
            self.enqueue(job);
        }
        if rested.awaited {
            self.rested.notify();
        }
        if over {
            self.ended();
        }
        left == Left::Over
    }

    fn ended(&self) {
        // AcqRel, partner `is_over`.
        if self.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.rested.notify();
            self.signal.call_all();
            self.watch.call();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        // Acquire, partner `ended`.
        self.live.load(Ordering::Acquire) == 0
    }

    /// A worker has been at one call for too long: another takes its place.
    #[cold]
    pub(super) fn replace(self: &Arc<Self>, desk: usize, number: u64) {
        let post = &self.posts[desk];
        // Once, however many calls of a turn take long. Relaxed: nobody else sets it.
        if !post.stalled.load(Ordering::Relaxed) {
            self.working.fetch_sub(1, Ordering::Relaxed);
            // Release, partner `was_replaced`: counted out before it counts itself in again.
            post.stalled.store(true, Ordering::Release);
        }
        let enough = self.working.load(Ordering::Relaxed) >= self.plan.threads;
        let replaced = enough || self.spawn_spare();
        // Others look at a tray only when there is nothing else to do.
        self.queue.evict(desk);
        self.signal.call();
        (self.plan.stalled)(number);
        tell(
            self.plan.observer.as_deref(),
            Notice::Stalled {
                subscription: number,
                replaced,
            },
        );
    }

    /// When a spare was not to be had: is there one now?
    pub(super) fn fill_up(self: &Arc<Self>) {
        if self.working.load(Ordering::Relaxed) < self.plan.threads && self.queue.has_work() {
            self.spawn_spare();
        }
    }

    fn spawn_spare(self: &Arc<Self>) -> bool {
        self.spawn_worker().unwrap_or_else(|error| {
            tracing::error!("no thread for a handler: {error}");
            false
        })
    }
}

/// What a subscription's record keeps of its handler, whatever its events are.
pub(crate) trait Control: Send + Sync {
    /// No call begins any more. Before the feed is ended.
    fn bar(&self) -> Barred;
    fn cold(&self) -> &Cold;
    /// Waits until `done`, which is looked at whenever a turn has ended.
    fn wait_for(&self, deadline: Option<Instant>, done: &mut dyn FnMut() -> bool) -> bool;
    fn is_running(&self) -> bool;
}

/// What [`Control::bar`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    /// No call is running.
    Resting,
    /// One may be.
    Running,
    /// The caller is inside of it.
    Inside,
}

impl<T: Send + Sync + 'static> Control for HandlerJob<T> {
    fn bar(&self) -> Barred {
        let running = self.bar();
        if INSIDE.get() == std::ptr::from_ref(self).addr() {
            Barred::Inside
        } else if running {
            Barred::Running
        } else {
            Barred::Resting
        }
    }

    fn cold(&self) -> &Cold {
        &self.shared.cold
    }

    fn wait_for(&self, deadline: Option<Instant>, done: &mut dyn FnMut() -> bool) -> bool {
        Pool::wait_for(self, deadline, done)
    }

    fn is_running(&self) -> bool {
        self.is_running()
    }
}

/// Waits for a call that was running when its handler was barred, but not for long.
pub(crate) fn let_begin(handler: &dyn Control) {
    let began = Instant::now();
    while handler.is_running() && began.elapsed() < CANCEL_GRACE {
        thread::yield_now();
    }
}

impl<T: Send + Sync + 'static> Called for HandlerJob<T> {
    fn call(self: Arc<Self>) {
        if self.ask() {
            // Of our own: with the job that is given away the pool may go.
            let pool = self.shared.pool.clone();
            pool.enqueue(self);
        }
    }
}

fn run_dedicated<T: Send + Sync + 'static>(
    job: &Arc<HandlerJob<T>>,
    awake: &dyn Fn(usize) -> Linger,
) {
    let pool = &job.shared.pool;
    let post = Post::default();
    let linger = || awake(pool.working.load(Ordering::Relaxed) + 2);
    let mut idle = linger();
    loop {
        if let Some(turn) = try_begin(job) {
            if pool.run(turn, &post) {
                return;
            }
            idle = linger();
        } else if !idle.turn() {
            thread::park();
            idle = linger();
        }
    }
}

/// From inside a handler, or the dispatch, nobody waits: a look is all.
fn not_inside(deadline: Option<Instant>) -> Option<Instant> {
    if NoWaiting::applies() {
        Some(Instant::now())
    } else {
        deadline
    }
}

/// Runs what may drop a stranger's value.
fn contain<R>(f: impl FnOnce() -> R) -> Option<R> {
    let result = catch_unwind(AssertUnwindSafe(f));
    if result.is_err() {
        tracing::error!("a handler's drop panicked; what it owned may be leaked");
    }
    result.ok()
}
