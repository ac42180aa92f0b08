//! Reports what the stall monitor has found.
//!
//! An observer and a logger are user code, and may block. The monitor must not wait for them, since
//! it protects the other handlers. So it passes its reports to a separate thread, which is started
//! with the first report.
//!
//! # Failure modes
//!
//! * **The observer blocks**: up to [`REPORTS_MAX`] reports wait for it. Later reports are dropped;
//!   the statistics count these stalls, too.
//! * **The thread cannot be started**: the report waits, and the next report tries again.

use std::io;

use super::notice::{Notice, Observer, report};
use crate::dispatch::signal::Signal;
use crate::log;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, Queue, thread};

/// The largest number of reports that wait.
const REPORTS_MAX: usize = 1024;

/// What the monitor has to report.
pub(super) enum Report {
    /// See [`Notice::Stalled`].
    Stalled { subscription: u64, replaced: bool },
    /// A spare thread could not be started.
    NoThread(io::Error),
}

/// What the thread needs of a pool.
pub(super) trait Reporting: Send + Sync {
    fn reporter(&self) -> &Reporter;
    fn observer(&self) -> Option<&Observer>;

    /// Whether the pool is closed and has ended.
    fn is_finished(&self) -> bool;
}

/// The reports that wait, and the thread that reports them.
pub(super) struct Reporter {
    reports: Queue<Report>,
    /// The number of reports that wait.
    waiting: AtomicUsize,
    /// The thread has index 0.
    signal: Signal,
    started: AtomicBool,
}

impl Reporter {
    pub(super) fn new() -> Self {
        Self {
            reports: Queue::new(),
            waiting: AtomicUsize::new(0),
            signal: Signal::new(1),
            started: AtomicBool::new(false),
        }
    }

    /// Passes a report to the thread, and starts the thread if necessary. Only the monitor calls
    /// this.
    pub(super) fn send(&self, pool: Arc<dyn Reporting>, report: Report) {
        // Relaxed: a bound on memory. The queue orders the reports.
        if self.waiting.load(Ordering::Relaxed) >= REPORTS_MAX {
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.reports.push(report);
        // Relaxed: only the monitor reads and writes it.
        if !self.started.load(Ordering::Relaxed) {
            let builder = thread::Builder::new().name("fanout-notices".to_owned());
            let started = builder.spawn(move || run(&*pool)).is_ok();
            self.started.store(started, Ordering::Relaxed);
        }
        self.wake();
    }

    /// Wakes the thread. The caller has pushed a report, or the pool has finished.
    pub(super) fn wake(&self) {
        self.signal.wake_one();
    }

    fn next(&self) -> Option<Report> {
        let report = self.reports.pop()?;
        let before = self.waiting.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before >= 1, "each report is counted before it is pushed");
        Some(report)
    }
}

/// The body of the thread.
fn run(pool: &dyn Reporting) {
    let reporter = pool.reporter();
    let deliver = |found: Report| match found {
        Report::Stalled {
            subscription,
            replaced,
        } => report(
            pool.observer(),
            Notice::Stalled {
                subscription,
                replaced,
            },
        ),
        Report::NoThread(error) => {
            log::error(format_args!(
                "could not start a spare thread for handlers: {error}"
            ));
        }
    };
    loop {
        while let Some(found) = reporter.next() {
            deliver(found);
        }
        if pool.is_finished() {
            return;
        }
        reporter.signal.prepare_sleep(0);
        if let Some(found) = reporter.next() {
            reporter.signal.cancel_sleep(0);
            deliver(found);
        } else if pool.is_finished() {
            reporter.signal.cancel_sleep(0);
        } else {
            reporter.signal.sleep(0);
        }
    }
}
