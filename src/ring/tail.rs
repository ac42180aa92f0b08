//! The word of the side that pushes: how many items it has published, whether it has closed the ring, and whether the
//! other side sleeps. All three in one atomic, which is why no wake-up is missed: see [`spsc`](super::spsc).

use super::{CLOSED, WAKE_REQUESTED, count, word};
use crate::sync::{AtomicU64, Ordering};

/// `commit` found the ring closed: what was staged since the last commit stays staged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// What a consumer that is about to sleep has seen, in the step that said so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// There is something to do: don't sleep. The other side may still wake, once, for nothing.
    Ready,
    /// Nothing; whoever changes that will be told to wake.
    Empty,
}

pub(super) struct Tail(AtomicU64);

impl Tail {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Producer: `committed` items were published before, `staged` are now. `Ok(true)`: the consumer has requested a wake-up.
    #[inline]
    pub(super) fn commit(&self, committed: u64, staged: u64) -> Result<bool, Closed> {
        let mut current = word(committed);
        loop {
            // Release: the items go with the counter; Acquire: what the sleeper did before it requested a wake-up.
            // Partners: `look` and `request_wake`.
            match self.0.compare_exchange(
                current,
                word(staged),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(old) => return Ok(old & WAKE_REQUESTED != 0),
                Err(actual) if actual & CLOSED != 0 => return Err(Closed),
                Err(actual) => current = actual,
            }
        }
    }

    /// Consumer: how many items are published, and whether nothing more will be.
    #[inline]
    pub(super) fn look(&self) -> Published {
        // Acquire: the items are in their slots. Partners: `commit` and `close`.
        Published(self.0.load(Ordering::Acquire))
    }

    /// Consumer: asks to be told by the next `commit` or `close`, and looks once more.
    pub(super) fn request_wake(&self) -> Published {
        // AcqRel, partner `commit`: an earlier commit is seen here, a later one sees the flag.
        Published(self.0.fetch_or(WAKE_REQUESTED, Ordering::AcqRel))
    }

    /// Nothing more will be published. `true`: the consumer has requested a wake-up.
    pub(super) fn close(&self) -> bool {
        // AcqRel: partners `look` and `request_wake`.
        self.0.fetch_or(CLOSED, Ordering::AcqRel) & WAKE_REQUESTED != 0
    }

    /// For the last owner, who is alone.
    pub(super) fn count_alone(&self) -> u64 {
        // Relaxed: the reference count saw to it that everything is visible.
        count(self.0.load(Ordering::Relaxed))
    }
}

/// What a consumer has seen of a [`Tail`].
#[derive(Clone, Copy)]
pub(super) struct Published(u64);

impl Published {
    #[inline(always)]
    pub(super) fn count(self) -> u64 {
        count(self.0)
    }

    pub(super) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }
}
