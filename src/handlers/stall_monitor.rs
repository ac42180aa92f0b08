//! Watches the worker threads: finds calls of handlers that take too long, jobs that wait too long,
//! and workers that make no progress.
//!
//! Reading the clock at each call would cost too much. So the workers only count their calls and
//! turns, and a separate thread checks the counts every [`TICK`]. The thread sleeps when there was
//! nothing to do for a while. It never calls user code, and takes a lock only if it is free.
//!
//! | the monitor finds | it |
//! | --- | --- |
//! | a call that has lasted for [`HANDLER_STALL`](crate::limits::HANDLER_STALL) | has a spare thread replace the worker |
//! | a worker that began no turn in a tick | gives the jobs in its slots to the other workers |
//! | a turn in progress, and jobs that wait | requests that the worker ends its turn |
//! | jobs that wait | wakes one more worker, if one sleeps: another one that was woken may be suspended by the system |
//! | jobs that wait, and turns that take long | has the workers take one job at a time, and has each turn end after a short time |
//! | jobs that have waited for [`WAIT_TICKS`], and turns that take long | doubles the number of threads that run handlers, as far as there are spare threads |
//! | more threads than it needs | removes the additional threads |
//!
//! # Failure modes
//!
//! * **The machine is overloaded and the monitor runs late**: all of this happens later. A short
//!   call does not appear to be a stall, because the monitor counts its own checks and not the time
//!   between them.

use std::io;
use std::time::Duration;

use crossbeam::utils::CachePadded;

use super::worker::{TurnLimit, WorkerState};
use crate::dispatch::signal::Signal;
use crate::sync::{Arc, AtomicBool, Ordering, thread};

/// The time between two checks. A stall is found up to this much after the limit.
const TICK: Duration = Duration::from_millis(5);

/// The number of checks without an active worker after which the monitor sleeps: 100 ms. Also the
/// number of checks after which a change of the load ends what it has brought about.
const IDLE_TICKS: u32 = 20;

/// The number of ticks after which a job has waited for too long: 10 to 15 ms.
const WAIT_TICKS: u32 = 3;

/// Turns take long if a busy worker begins fewer than this in a tick: 0.2 ms for each.
const FEW_TURNS: u32 = 25;

/// Turns take so long that more threads help, even if the machine has no more processors: 0.6 ms
/// for each.
const VERY_FEW_TURNS: u32 = 8;

/// What the monitor needs of a pool of workers.
pub(super) trait Monitored: Send + Sync {
    fn monitor(&self) -> &StallMonitor;

    fn workers(&self) -> &[CachePadded<WorkerState>];

    /// Whether the pool is closed and has ended.
    fn is_finished(&self) -> bool;

    /// A tick has passed.
    fn advance_tick(&self);

    /// Whether jobs wait.
    fn has_work(&self) -> bool;

    /// Whether jobs wait. If not, a thread that pushes one later sees all that this thread wrote
    /// before the call.
    fn has_work_in_order(&self) -> bool;

    /// Wakes a worker that sleeps, if there is one.
    fn wake_worker(&self);

    /// Gives the jobs that wait for the worker with this index to all workers.
    fn release_local(&self, worker: usize);

    /// Sets whether turns are short, and workers take one job at a time.
    fn set_single_steps(&self, single_steps: bool);

    /// A call of the handler of this subscription has exceeded the limit, on the worker with this
    /// index. Called once for each such call.
    fn replace_stalled(self: Arc<Self>, worker: usize, subscription: u64);

    /// The number of workers that are not stalled.
    fn working(&self) -> usize;

    /// The number of threads that were added and not removed.
    fn additional_threads(&self) -> usize;

    /// Adds threads to those that run handlers, as far as there are spare threads.
    fn add_threads(&self, threads: usize);

    /// Removes threads that were added.
    fn remove_threads(&self, threads: usize);

    /// Called at each check, last: starts workers if there are too few, and does what could not be
    /// done before because a lock was not free.
    fn finish_check(self: Arc<Self>);
}

/// The monitor of a pool.
pub(super) struct StallMonitor {
    /// The monitor's thread has index 0.
    signal: Signal,
    started: AtomicBool,
    /// The monitor sleeps, or is about to.
    is_asleep: AtomicBool,
    /// The number of checks that find the same call before it counts as stalled, at least 1.
    stall_ticks: u32,
}

/// What the last check found of a worker.
#[derive(Clone, Default)]
struct SeenWorker {
    running: u64,
    handled: u64,
    turns: u32,
    /// Checks that found the same call.
    ticks: u32,
}

/// What the checks have found so far.
struct Seen {
    workers: Vec<SeenWorker>,
    /// The number of checks for which workers still take one job at a time.
    single_steps: u32,
    /// The number of checks in a row that found jobs that wait, and no turn that began.
    stuck: u32,
    /// The number of checks for which a long wait still counts. While all workers are in long
    /// calls, no wait is found.
    long_wait: u32,
    /// The number of checks since threads were added or removed for the last time.
    since_change: u32,
    /// The smallest number of idle workers in these checks.
    idle_min: usize,
}

impl StallMonitor {
    /// Creates a monitor that is not started yet. `limit` is the time that a call may take.
    pub(super) fn new(limit: Duration) -> Self {
        let stall_ticks = (limit.as_millis() / TICK.as_millis()) as u32;
        debug_assert!(stall_ticks >= 1, "the limit is shorter than a tick");
        Self {
            signal: Signal::new(1),
            started: AtomicBool::new(false),
            is_asleep: AtomicBool::new(false),
            stall_ticks,
        }
    }

    /// Wakes the monitor. The caller is a worker that has set its `active` flag, or the pool has
    /// finished.
    pub(super) fn wake(&self) {
        self.signal.wake_one();
    }

    /// Wakes the monitor if it sleeps. The caller has pushed a job. This does not depend on whether
    /// the inbox was empty: the thread that pushed the first job may be suspended before it wakes a
    /// worker.
    #[inline]
    pub(super) fn wake_if_asleep(&self) {
        // Relaxed: the push has acquired it, see `Monitored::has_work_in_order`.
        if self.is_asleep.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Starts the thread, once. Called under the lock that opening a subscription takes.
    pub(super) fn start(&self, pool: Arc<dyn Monitored>) -> io::Result<()> {
        // Relaxed: that lock orders the accesses.
        if self.started.load(Ordering::Relaxed) {
            return Ok(());
        }
        std::thread::Builder::new()
            .name("fanout-stalls".to_owned())
            .spawn(move || run(&pool))?;
        self.started.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn run(pool: &Arc<dyn Monitored>) {
    let StallMonitor {
        signal, is_asleep, ..
    } = pool.monitor();
    let mut seen = Seen {
        workers: vec![SeenWorker::default(); pool.workers().len()],
        single_steps: 0,
        stuck: 0,
        long_wait: 0,
        since_change: 0,
        idle_min: usize::MAX,
    };
    let mut idle = 0;
    while !pool.is_finished() {
        if seen.check(pool) {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle < IDLE_TICKS {
            thread::sleep(TICK);
            continue;
        }
        signal.prepare_sleep(0);
        // Relaxed: the next line publishes it.
        is_asleep.store(true, Ordering::Relaxed);
        if pool.has_work_in_order() || seen.check(pool) || pool.is_finished() {
            signal.cancel_sleep(0);
            thread::sleep(TICK);
        } else {
            signal.sleep(0);
        }
        is_asleep.store(false, Ordering::Relaxed);
        idle = 0;
    }
}

impl Seen {
    /// Checks every worker. Returns whether there is anything to watch.
    fn check(&mut self, pool: &Arc<dyn Monitored>) -> bool {
        let stall_ticks = pool.monitor().stall_ticks;
        pool.advance_tick();
        let has_work = pool.has_work();
        let mut is_active = has_work;
        // Workers in a turn; workers that are neither idle nor stalled; turns that began.
        let (mut busy, mut awake, mut turns) = (0, 0, 0_u32);
        let mut longest_wait = 0;
        for (index, (worker, seen)) in pool.workers().iter().zip(&mut self.workers).enumerate() {
            let running = worker.running.load(Ordering::Relaxed);
            let handled = worker.handled.load(Ordering::Relaxed);
            let turns_now = worker.turns.load(Ordering::Relaxed);
            let new_turns = turns_now.wrapping_sub(seen.turns);
            turns = turns.saturating_add(new_turns);
            longest_wait = longest_wait.max(worker.longest_wait.load(Ordering::Relaxed));
            worker.longest_wait.store(0, Ordering::Relaxed);
            if worker.active.load(Ordering::Relaxed) {
                is_active = true;
                awake += usize::from(!worker.stalled.load(Ordering::Relaxed));
            }
            if running != 0 {
                busy += 1;
                if has_work {
                    worker.turn_limit.store(TurnLimit::NOW, Ordering::Relaxed);
                }
            }
            if has_work && new_turns == 0 {
                pool.release_local(index);
            }
            let is_same_call = running != 0
                && new_turns == 0
                && (running, handled) == (seen.running, seen.handled);
            *seen = SeenWorker {
                running,
                handled,
                turns: turns_now,
                ticks: if is_same_call {
                    seen.ticks.saturating_add(1)
                } else {
                    0
                },
            };
            if seen.ticks == stall_ticks {
                pool.clone().replace_stalled(index, running);
            }
        }
        let is_below = |limit: u32| has_work && (turns as usize) < busy.max(1) * limit as usize;
        self.stuck = if has_work && turns == 0 {
            self.stuck.saturating_add(1)
        } else {
            0
        };
        if has_work {
            pool.wake_worker();
        }
        self.single_steps = if is_below(FEW_TURNS) {
            IDLE_TICKS
        } else {
            self.single_steps.saturating_sub(1)
        };
        pool.set_single_steps(self.single_steps > 0);
        self.long_wait = if longest_wait.max(self.stuck) >= WAIT_TICKS {
            WAIT_TICKS
        } else {
            self.long_wait.saturating_sub(1)
        };
        if self.long_wait > 0 && is_below(VERY_FEW_TURNS) {
            pool.add_threads(busy.max(1));
            self.threads_changed();
        } else {
            let idle = pool.working().saturating_sub(awake);
            self.remove_threads(pool, idle, has_work && !is_below(FEW_TURNS));
        }
        pool.clone().finish_check();
        is_active || pool.additional_threads() > 0
    }

    fn threads_changed(&mut self) {
        self.since_change = 0;
        self.idle_min = usize::MAX;
    }

    /// Removes additional threads that have been idle for a while. If jobs wait although turns are
    /// short, the processors are busy, and half of the additional threads are removed.
    fn remove_threads(&mut self, pool: &Arc<dyn Monitored>, idle: usize, are_turns_short: bool) {
        self.since_change += 1;
        self.idle_min = self.idle_min.min(idle);
        if self.since_change < IDLE_TICKS {
            return;
        }
        let additional = pool.additional_threads();
        let unneeded = if are_turns_short {
            additional.div_ceil(2)
        } else {
            0
        };
        let surplus = self.idle_min.max(unneeded).min(additional);
        if surplus > 0 {
            pool.remove_threads(surplus);
        }
        self.threads_changed();
    }
}
