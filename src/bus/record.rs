//! The data of one subscription, also after the subscription has ended.

use std::time::Instant;

use super::ending::Ending;
use super::label::Labels;
use super::pattern_texts::PatternTexts;
use super::stats::SubscriptionStats;
use crate::dispatch::engine::Engine;
use crate::dispatch::feed::{End, FeedShared};
#[cfg(feature = "latency")]
use crate::dispatch::latency::Recorder;
use crate::handlers::pool::HandlerControl;
use crate::handlers::task::Counters;
use crate::sync::{Arc, Mutex};

/// One subscription.
pub(super) struct Record {
    /// The number of the subscription, from 1, in the order in which subscriptions are opened.
    pub(super) number: u64,
    pub(super) shard: u32,
    /// The slot in that shard. Another subscription may use it after this one was unregistered.
    pub(super) slot: u32,
    pub(super) feed: Arc<FeedShared>,
    pub(super) handler: Option<Arc<dyn HandlerControl>>,
    /// The patterns, also after the subscription has ended. A thread that changes them, or that
    /// unregisters the subscription, holds this lock, and takes the registry's lock after it.
    pub(super) patterns: Mutex<PatternTexts>,
    pub(super) info: SubscriptionInfo,
}

/// Settings of a subscription that never change.
pub(super) struct SubscriptionInfo {
    pub(super) labels: Labels,
    #[cfg(feature = "latency")]
    pub(super) recorder: Option<Arc<Recorder>>,
}

impl Record {
    pub(super) fn shard(&self) -> usize {
        self.shard as usize
    }

    /// Returns how the subscription ended, or `None` while it is open. See
    /// [`SubscriptionHandle::ending`](super::SubscriptionHandle::ending) for the details.
    pub(super) fn ending(&self, engine: &Engine) -> Option<Ending> {
        // This is read first: if the bus closes later, then the end that is read below came before
        // the close.
        let closing = engine.is_closing();
        match self.feed.end() {
            End::Cancelled => Some(Ending::Cancelled),
            End::Broken => Some(Ending::Broken),
            End::Closed => Some(Ending::Closed),
            End::Disconnected => {
                let gap = self.feed.disconnected_by();
                Some(Ending::Disconnected(
                    gap.expect("a disconnected feed has a gap at its end"),
                ))
            }
            End::None if !closing => None,
            // A bus that breaks is marked as broken before it is marked as closing.
            End::None if engine.is_broken() && !self.feed.is_closed() => Some(Ending::Broken),
            End::None => Some(Ending::Closed),
        }
    }

    /// Returns whether the subscription has not ended.
    pub(super) fn is_open(&self, engine: &Engine) -> bool {
        !engine.is_closing() && self.feed.end() == End::None
    }

    /// Waits until the handler has handled the first `pushed` events of its ring, or has ended.
    /// Returns `false` at the deadline.
    pub(super) fn wait_until_handled(&self, pushed: u64, deadline: Option<Instant>) -> bool {
        let Some(handler) = &self.handler else {
            return true;
        };
        handler.wait_for(deadline, &mut || self.feed.has_passed(pushed))
    }

    pub(super) fn stats(&self) -> SubscriptionStats {
        let mut stats = self.feed.stats().public(&self.feed.limits());
        if let Some(counters) = self.counters() {
            stats.add_handler(counters);
        }
        stats
    }

    /// The counters of the handler, if there is a handler that has failed at least once.
    pub(super) fn counters(&self) -> Option<&Counters> {
        self.handler.as_ref()?.extras().counters()
    }
}
