//! The state of a worker thread that other threads can read.

use crate::sync::{AtomicBool, AtomicU64};

/// The state of one worker. Only the worker writes it, except for `stalled` and `yield_requested`:
/// the monitor sets them, and the worker clears them.
///
/// All accesses are Relaxed, unless a comment says otherwise: the monitor compares the values with
/// those that it read before, and no other data depends on them.
#[derive(Default)]
pub(super) struct WorkerState {
    /// The number of the subscription whose handler is running, or 0.
    pub(super) running: AtomicU64,
    /// The number of events that this handler has handled. It changes whenever a call has returned.
    pub(super) handled: AtomicU64,
    /// The worker has woken the monitor, and has not been idle since.
    pub(super) active: AtomicBool,
    /// Set by the monitor when a call has taken too long. This worker then no longer counts as a
    /// worker.
    pub(super) stalled: AtomicBool,
    /// Set by the monitor when this handler has been running for a while, because other jobs may
    /// need the worker.
    pub(super) yield_requested: AtomicBool,
}
