//! Finds calls of handlers that take too long.
//!
//! Reading the clock at each call would cost too much. So the workers only count their calls, and a
//! separate thread checks the counts every [`TICK`]. The thread sleeps when no worker has been
//! active for a while.
//!
//! # Failure modes
//!
//! * **The machine is overloaded and the monitor runs late**: a stall is found later. A short call
//!   does not appear to be a stall, because the monitor counts its own checks and not the time
//!   between them.

use std::io;
use std::time::Duration;

use crossbeam::utils::CachePadded;

use super::worker::WorkerState;
use crate::dispatch::signal::Signal;
use crate::sync::{Arc, AtomicBool, Ordering, thread};

/// The time between two checks. A stall is found up to this much after the limit.
const TICK: Duration = Duration::from_millis(5);

/// The number of checks without an active worker after which the monitor sleeps: 100 ms.
const IDLE_TICKS: u32 = 20;

/// A pool of workers, as the monitor sees it.
pub(super) trait Monitored: Send + Sync {
    fn monitor(&self) -> &StallMonitor;

    fn workers(&self) -> &[CachePadded<WorkerState>];

    /// Whether the pool is closed and has ended.
    fn is_finished(&self) -> bool;

    /// A call of the handler of this subscription has exceeded the limit, on the worker with this
    /// index. Called once for each such call.
    fn replace_stalled(self: Arc<Self>, worker: usize, subscription: u64);

    /// Called at each check: starts a worker if there are too few.
    fn ensure_workers(self: Arc<Self>);
}

/// The monitor of a pool.
pub(super) struct StallMonitor {
    /// The monitor's thread has index 0.
    signal: Signal,
    started: AtomicBool,
    /// The number of checks that find the same call before it counts as stalled, at least 1.
    stall_ticks: u32,
}

/// What the last check found of a worker.
#[derive(Clone, Default)]
struct Seen {
    running: u64,
    handled: u64,
    /// Checks that found the same call.
    ticks: u32,
}

impl StallMonitor {
    /// Creates a monitor that is not started yet. `limit` is the time that a call may take.
    pub(super) fn new(limit: Duration) -> Self {
        let stall_ticks = (limit.as_millis() / TICK.as_millis()) as u32;
        debug_assert!(stall_ticks >= 1, "the limit is shorter than a tick");
        Self {
            signal: Signal::new(1),
            started: AtomicBool::new(false),
            stall_ticks,
        }
    }

    /// Wakes the monitor. The caller is a worker that has set its `active` flag, or the pool has
    /// finished.
    pub(super) fn wake(&self) {
        self.signal.wake_one();
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
    let signal = &pool.monitor().signal;
    let mut seen = vec![Seen::default(); pool.workers().len()];
    let mut idle = 0;
    while !pool.is_finished() {
        if check(pool, &mut seen) {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle < IDLE_TICKS {
            thread::sleep(TICK);
            continue;
        }
        signal.prepare_sleep(0);
        if check(pool, &mut seen) || pool.is_finished() {
            signal.cancel_sleep(0);
            thread::sleep(TICK);
        } else {
            signal.sleep(0);
        }
        idle = 0;
    }
}

/// Checks every worker. Returns whether a worker is active.
fn check(pool: &Arc<dyn Monitored>, seen: &mut [Seen]) -> bool {
    let stall_ticks = pool.monitor().stall_ticks;
    let mut active = false;
    for (index, (worker, seen)) in pool.workers().iter().zip(seen).enumerate() {
        let running = worker.running.load(Ordering::Relaxed);
        let handled = worker.handled.load(Ordering::Relaxed);
        active |= worker.active.load(Ordering::Relaxed);
        if running != 0 && running == seen.running {
            worker.yield_requested.store(true, Ordering::Relaxed);
        }
        if running == 0 || running != seen.running || handled != seen.handled {
            *seen = Seen {
                running,
                handled,
                ticks: 0,
            };
            continue;
        }
        seen.ticks = seen.ticks.saturating_add(1);
        if seen.ticks == stall_ticks {
            pool.clone().replace_stalled(index, running);
        }
    }
    pool.clone().ensure_workers();
    active
}
