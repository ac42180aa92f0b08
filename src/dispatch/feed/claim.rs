//! What the queue of a policy has for the subscriber.

use crate::dispatch::block::AnyBlock;
use crate::dispatch::loss::Gap;

/// What a policy finds when the next slot is claimed.
pub(super) enum Claim {
    Events {
        block: AnyBlock,
        /// At least one event.
        mask: u64,
        /// What was lost in front of them.
        gap_before: Option<Gap>,
    },
    /// These events were lost here, and nothing lies behind them yet.
    Gap(Gap),
    /// Nothing yet.
    Empty,
    /// Nothing, and nothing will come.
    Finished,
}

/// Drops everything that can be claimed, and returns what had been lost right in front of it.
pub(super) fn drain_claims(mut claim: impl FnMut() -> Claim) -> Option<Gap> {
    let mut gap = None;
    let mut first = true;
    while let Claim::Events { gap_before, .. } = claim() {
        if std::mem::take(&mut first) {
            gap = gap_before;
        }
    }
    gap
}
