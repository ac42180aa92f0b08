//! What a worker thread is doing, for other threads to see.

use crate::sync::{AtomicBool, AtomicU64};

/// The state of one worker. Written by the worker, except for `stalled` and `yield_requested`.
///
/// All of it is Relaxed, unless a comment says otherwise: the monitor compares what it reads with
/// what it read before, and nothing else depends on it.
#[derive(Default)]
pub(super) struct WorkerState {
    /// Number of the subscription whose handler is running; 0: none.
    pub(super) running: AtomicU64,
    /// Events that this handler has handled, which changes whenever a call has returned.
    pub(super) handled: AtomicU64,
    /// The worker has woken the monitor, and has not been idle since.
    pub(super) active: AtomicBool,
    /// Set by the monitor: a call took too long, and this worker no longer counts as one.
    pub(super) stalled: AtomicBool,
    /// Set by the monitor: this handler has been running for a while, and other jobs may need the
    /// worker.
    pub(super) yield_requested: AtomicBool,
}
