//! Numbers.

use crate::dispatch::feed::FeedStats;
use crate::handlers::task::Counters;
use crate::sync::Ordering;

/// How much has passed through a bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusStats {
    /// Events sequenced so far; also the id of the last.
    pub sequenced: u64,
    /// Open subscriptions.
    pub subscriptions: usize,
}

/// How much a subscription was given, and what became of it.
///
/// Once nothing moves, `received + lost + unread = matched`, exactly, over the ids `first_id ..= last_id`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::builder().dispatch(fanout::Dispatch::Manual).build()?;
/// let mut sub = bus.subscription("a").capacity(2).open()?;
/// for n in 1..=5 {
///     bus.publish("a", n)?;
/// }
/// bus.drive();
/// sub.recv()?;
/// let stats = sub.stats();
/// assert_eq!((stats.matched, stats.received, stats.lost, stats.unread), (5, 1, 3, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStats {
    /// Events that its patterns matched while it was open.
    pub matched: u64,
    /// Events that the program received.
    pub received: u64,
    /// Events lost.
    pub lost: u64,
    /// Events that wait, or waited at its end.
    pub unread: u64,
    /// Id of the first event that it could see; `None`: the dispatcher has not come by since it was opened.
    pub first_id: Option<u64>,
    /// Id of the last event that it could see; `None`: it has not ended.
    pub last_id: Option<u64>,
    /// Calls of its handler that answered an error. (Every event received is a call.)
    pub errors: u64,
    /// Calls of its handler that panicked.
    pub panics: u64,
    /// Calls of its handler that took longer than [`HANDLER_STALL`](crate::HANDLER_STALL) and had their thread replaced.
    pub stalls: u64,
}

impl SubscriptionStats {
    pub(super) fn add_handler(&mut self, counters: &Counters) {
        // Relaxed: statistics.
        self.errors = counters.errors.load(Ordering::Relaxed);
        self.panics = counters.panics.load(Ordering::Relaxed);
        self.stalls = counters.stalls.load(Ordering::Relaxed);
    }
}

/// What [`Bus::close_within`](crate::Bus::close_within) left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Whether everything that was accepted reached the rings in time.
    pub in_time: bool,
    /// Events in rings that their subscribers have not read yet.
    pub unread: u64,
    /// Events that were given up because their rings had no room when the time was up.
    pub lost: u64,
    /// Events that were accepted and dropped before they had an id.
    pub unsequenced: u64,
}

/// Sums over subscriptions.
#[derive(Default)]
pub(super) struct Unread {
    pub(super) unread: u64,
    pub(super) lost_at_close: u64,
}

impl FeedStats {
    pub(super) fn unread(&self) -> u64 {
        self.matched
            .saturating_sub(self.received + self.lost.iter().sum::<u64>())
    }

    pub(super) fn public(&self) -> SubscriptionStats {
        SubscriptionStats {
            matched: self.matched,
            received: self.received,
            lost: self.lost.iter().sum(),
            unread: self.unread(),
            first_id: self.first_id,
            last_id: self.last_id,
            ..SubscriptionStats::default()
        }
    }
}
