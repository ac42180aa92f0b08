//! Sees that a call takes too long.
//!
//! A call must not cost a reading of the clock, so workers only count their calls, and a thread of its own looks at the
//! counts every [`TICK`]. It sleeps when nobody has worked for a while.

use std::io;
use std::time::Duration;

use super::pool::Pool;
use crate::dispatch::signal::Signal;
use crate::limits::HANDLER_STALL;
use crate::sync::{Arc, AtomicBool, Ordering, thread};

/// How often it looks: a stall is seen after [`HANDLER_STALL`] and up to this much more.
const TICK: Duration = Duration::from_millis(5);

/// Looks that a call may outlive.
const TICKS_STALL: u32 = (HANDLER_STALL.as_millis() / TICK.as_millis()) as u32;

/// Looks at idle workers before it sleeps: 100 ms.
const TICKS_IDLE: u32 = 20;

/// The thread that watches a pool.
pub(super) struct StallMonitor {
    signal: Signal,
    started: AtomicBool,
}

/// What was seen of a worker at the last look.
#[derive(Clone, Default)]
struct Seen {
    running: u64,
    calls: u64,
    /// Looks at the same call.
    ticks: u32,
}

impl StallMonitor {
    pub(super) fn new() -> Self {
        Self {
            signal: Signal::new(1),
            started: AtomicBool::new(false),
        }
    }

    /// Somebody begins to work, and has said so at its post; or the pool is over.
    pub(super) fn wake(&self) {
        self.signal.wake_one();
    }

    /// Starts the thread, once. ReaderCallback under the lock that opening a subscription takes.
    pub(super) fn start<T: Send + Sync + 'static>(&self, pool: &Arc<Pool<T>>) -> io::Result<()> {
        if self.started.load(Ordering::Relaxed) {
            return Ok(());
        }
        let pool = pool.clone();
        std::thread::Builder::new()
            .name("fanout-stalls".to_owned())
            .spawn(move || watch(&pool))?;
        self.started.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn watch<T: Send + Sync + 'static>(pool: &Arc<Pool<T>>) {
    let signal = &pool.monitor.signal;
    let mut seen = vec![Seen::default(); pool.worker_states.len()];
    let mut idle = 0;
    while !pool.is_over() {
        if check(pool, &mut seen) {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle < TICKS_IDLE {
            thread::sleep(TICK);
            continue;
        }
        signal.prepare_sleep(0);
        if check(pool, &mut seen) || pool.is_over() {
            signal.cancel_sleep(0);
            thread::sleep(TICK);
        } else {
            signal.sleep(0);
        }
        idle = 0;
    }
}

/// Looks at every worker. `true`: somebody works, or did since the last look.
fn check<T: Send + Sync + 'static>(pool: &Arc<Pool<T>>, seen: &mut [Seen]) -> bool {
    let mut working = false;
    for (worker, (worker_state, seen)) in pool.worker_states.iter().zip(seen).enumerate() {
        // Relaxed: numbers that change, compared with what they were.
        let running = worker_state.running.load(Ordering::Relaxed);
        let calls = worker_state.calls.load(Ordering::Relaxed);
        working |= worker_state.awake.load(Ordering::Relaxed);
        if running != 0 && running == seen.running {
            worker_state.yield_requested.store(true, Ordering::Relaxed);
        }
        if running == 0 || running != seen.running || calls != seen.calls {
            *seen = Seen {
                running,
                calls,
                ticks: 0,
            };
            continue;
        }
        seen.ticks = seen.ticks.saturating_add(1);
        if seen.ticks == TICKS_STALL {
            pool.replace(worker, running);
        }
    }
    pool.spawn_missing();
    working
}
