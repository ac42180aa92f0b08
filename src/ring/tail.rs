//! The producer's word of a ring: how many items are published, whether the ring is closed, and
//! whether the consumer has requested a wake-up.
//!
//! All three are in one atomic, so that no wake-up is lost: see [`spsc`](super::spsc).

use super::{CLOSED, WAKE_REQUESTED, count, word};
use crate::sync::{AtomicU64, Ordering};

/// `commit` found the ring closed. What was staged since the last commit stays staged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// What a consumer saw in the step in which it requested a wake-up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// There is an item, or the ring is closed: the consumer must not sleep. The producer may still
    /// wake it once, without need.
    Ready,
    /// There is nothing. The producer that changes this learns that it has to wake the consumer.
    Empty,
}

/// Bits 2 to 63: items published; bit 1: `CLOSED`; bit 0: `WAKE_REQUESTED`.
pub(super) struct TailWord(AtomicU64);

impl TailWord {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Producer: raises the counter from `committed` to `staged`, and clears `WAKE_REQUESTED`.
    /// `Ok(true)`: that flag was set, so the caller has to wake the consumer.
    #[inline]
    pub(super) fn commit(&self, committed: u64, staged: u64) -> Result<bool, Closed> {
        debug_assert!(committed <= staged, "published items stay published");
        let mut current = word(committed);
        loop {
            // Release: publishes the items; Acquire: what the consumer did before it requested a
            // wake-up is visible. Partners: `load` and `request_wake`.
            match self.0.compare_exchange(
                current,
                word(staged),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(old) => return Ok(old & WAKE_REQUESTED != 0),
                Err(actual) => {
                    debug_assert_eq!(count(actual), committed, "only the producer counts");
                    if actual & CLOSED != 0 {
                        return Err(Closed);
                    }
                    current = actual;
                }
            }
        }
    }

    /// Consumer: how many items are published, and whether the ring is closed.
    #[inline]
    pub(super) fn load(&self) -> TailState {
        // Acquire: the items are in their slots. Partners: `commit` and `close`.
        TailState(self.0.load(Ordering::Acquire))
    }

    /// Consumer: sets `WAKE_REQUESTED`, which the next `commit` or `close` reports, and returns
    /// what the word held before.
    pub(super) fn request_wake(&self) -> TailState {
        // AcqRel, partner `commit`: an earlier commit is seen here, a later one sees the flag.
        TailState(self.0.fetch_or(WAKE_REQUESTED, Ordering::AcqRel))
    }

    /// Either side: sets `CLOSED`, after which nothing more is published. `true`: `WAKE_REQUESTED`
    /// was set (and stays set), so the caller has to wake the consumer.
    pub(super) fn close(&self) -> bool {
        // AcqRel: partners `load` and `request_wake`.
        self.0.fetch_or(CLOSED, Ordering::AcqRel) & WAKE_REQUESTED != 0
    }

    /// How many items are published, for the last owner.
    pub(super) fn count_exclusive(&mut self) -> u64 {
        // Relaxed: the exclusive borrow says that every other access has happened before.
        count(self.0.load(Ordering::Relaxed))
    }
}

/// What a consumer has seen of a [`TailWord`].
#[derive(Clone, Copy)]
pub(super) struct TailState(u64);

impl TailState {
    /// Items published.
    #[inline(always)]
    pub(super) fn count(self) -> u64 {
        count(self.0)
    }

    pub(super) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }
}
