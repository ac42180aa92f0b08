//! What the bus knows of one subscription, also after it has ended.

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
    /// From 1, in the order of opening.
    pub(super) number: u64,
    pub(super) shard: u32,
    /// Its slot in that shard; another subscription may use it after this one was unregistered.
    pub(super) slot: u32,
    pub(super) feed: Arc<FeedShared>,
    pub(super) handler: Option<Arc<dyn HandlerControl>>,
    /// Its patterns, also after it has ended. Changed only under the registry's lock. The list has
    /// a lock of its own, so that reading it needs no registry.
    pub(super) patterns: Mutex<PatternTexts>,
    pub(super) info: SubscriptionInfo,
}

/// What was set for a subscription when it was opened.
pub(super) struct SubscriptionInfo {
    pub(super) labels: Labels,
    #[cfg(feature = "latency")]
    pub(super) recorder: Option<Arc<Recorder>>,
}

impl Record {
    pub(super) fn shard(&self) -> usize {
        self.shard as usize
    }

    /// How it ended; `None`: it is open. See
    /// [`SubscriptionHandle::ending`](super::SubscriptionHandle::ending) for what that means.
    pub(super) fn ending(&self, engine: &Engine) -> Option<Ending> {
        // First: of a bus that closes after this, the end that is read below came before.
        let closing = engine.is_closing();
        match self.feed.end() {
            End::Cancelled => Some(Ending::Cancelled),
            End::Broken => Some(Ending::Broken),
            End::Closed => Some(Ending::Closed),
            End::Disconnected => {
                let gap = self.feed.disconnected_by();
                Some(Ending::Disconnected(gap.expect("its end follows a gap")))
            }
            // A bus that breaks says so before it says that it closes.
            End::None if !closing => None,
            End::None if engine.is_broken() && !self.feed.is_closed() => Some(Ending::Broken),
            End::None => Some(Ending::Closed),
        }
    }

    /// Whether it has not ended.
    pub(super) fn is_open(&self, engine: &Engine) -> bool {
        !engine.is_closing() && self.feed.end() == End::None
    }

    /// Waits until its handler has come so far in its queue, or to its end. `false`: not in time.
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

    /// The counters of its handler, if it has one that has failed at least once.
    pub(super) fn counters(&self) -> Option<&Counters> {
        self.handler.as_ref()?.extras().counters()
    }
}
