//! The state of a worker thread that other threads can read.

use crate::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// The state of one worker. Only the worker writes it, except for `stalled` and `turn_limit`: the
/// monitor sets them, and the worker clears them.
///
/// All accesses are Relaxed, unless a comment says otherwise: the monitor compares the values with
/// those that it read before, and no other data depends on them.
#[derive(Default)]
pub(super) struct WorkerState {
    /// The number of the subscription whose handler is running, or 0.
    pub(super) running: AtomicU64,
    /// The number of events that this handler has handled. It changes whenever a call has returned.
    pub(super) handled: AtomicU64,
    /// The number of turns that this worker has begun, wrapping.
    pub(super) turns: AtomicU32,
    /// The longest time, in ticks, that a job had waited before this worker took it. The monitor
    /// sets it to zero.
    pub(super) longest_wait: AtomicU32,
    /// The worker has woken the monitor, and has not been idle since.
    pub(super) active: AtomicBool,
    /// Set by the monitor when a call has taken too long. This worker then no longer counts as a
    /// worker.
    pub(super) stalled: AtomicBool,
    /// When the turn ends, although there are more events: one of the constants of [`TurnLimit`].
    /// Set by the worker at the beginning of a turn, and by the monitor.
    pub(super) turn_limit: AtomicU8,
    /// In a timed turn, the number of calls between the last read of the clock and the next one.
    pub(super) clock_interval: AtomicU32,
    /// The number of these calls that are left.
    pub(super) clock_in: AtomicU32,
}

/// The values of [`WorkerState::turn_limit`].
pub(super) struct TurnLimit;

impl TurnLimit {
    /// The turn ends after a number of slots, so that its time need not be measured.
    pub(super) const SLOTS: u8 = 0;
    /// After a short time, because turns take long and other jobs wait.
    pub(super) const TIME: u8 = 1;
    /// At once: other jobs may need the worker.
    pub(super) const NOW: u8 = 2;
}

impl WorkerState {
    /// Notes that a job had waited for `ticks` ticks.
    #[inline]
    pub(super) fn note_wait(&self, ticks: u32) {
        if ticks > self.longest_wait.load(Ordering::Relaxed) {
            self.longest_wait.store(ticks, Ordering::Relaxed);
        }
    }

    /// Called when a call has returned, with the number of events that the handler has handled.
    #[inline(always)]
    pub(super) fn note_handled(&self, handled: u64) {
        self.handled.store(handled, Ordering::Relaxed);
    }

    /// Whether anything but the number of slots limits the turn.
    #[inline(always)]
    pub(super) fn has_turn_limit(&self) -> bool {
        self.turn_limit.load(Ordering::Relaxed) != TurnLimit::SLOTS
    }

    /// Notes that a turn begins.
    #[inline]
    pub(super) fn note_turn(&self) {
        let turns = self.turns.load(Ordering::Relaxed).wrapping_add(1);
        self.turns.store(turns, Ordering::Relaxed);
    }
}
