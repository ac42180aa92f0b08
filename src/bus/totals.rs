//! The bus's accounts: sums over all subscriptions and lanes there ever were, also those that have
//! ended.
//!
//! The numbers of a subscription that was taken out may still move: its shard may be in the middle
//! of a block, and its subscriber in the middle of a receive. So it stays on a list until both of
//! its ends are gone, and only then are its numbers added to the totals, and the subscription
//! forgotten.

use std::collections::BTreeMap;

use super::record::Record;
use crate::dispatch::feed::FeedStats;
use crate::dispatch::lane::LaneShared;
#[cfg(feature = "latency")]
use crate::dispatch::latency::Samples;
use crate::dispatch::loss::GapReason;
use crate::sync::{Arc, Ordering};

/// Ended subscriptions that may gather before the list is looked through.
const ENDING_MIN: usize = 32;

/// Part of the registry, and behind its lock.
pub(super) struct Totals {
    /// Ended, and not settled when last looked at.
    ending: Vec<Arc<Record>>,
    /// How long the list may get before it is looked through: as long again as it was after the
    /// last time, so that each subscription is looked at a few times only.
    ending_max: usize,
    /// Over all that were settled.
    ended_sums: Sums,
    /// The lanes of open publishers, by number.
    lanes: BTreeMap<u64, Arc<LaneShared>>,
    next_lane: u64,
    /// Events that the lanes of publishers that have gone accepted.
    ended_accepted: u64,
    /// The latencies of all that were settled.
    #[cfg(feature = "latency")]
    ended_latency: Option<Box<Samples>>,
}

/// Sums over subscriptions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) matched: u64,
    pub(super) received: u64,
    pub(super) lost: [u64; GapReason::COUNT],
    pub(super) superseded: u64,
    pub(super) unread: u64,
    pub(super) depth: u64,
    pub(super) pinned_bytes: u64,
    pub(super) errors: u64,
    pub(super) panics: u64,
    pub(super) stalls: u64,
}

impl Totals {
    pub(super) fn new() -> Self {
        Self {
            ending: Vec::new(),
            ending_max: ENDING_MIN,
            ended_sums: Sums::default(),
            lanes: BTreeMap::new(),
            next_lane: 0,
            ended_accepted: 0,
            #[cfg(feature = "latency")]
            ended_latency: None,
        }
    }

    /// A subscription was taken out of the registry.
    pub(super) fn end(&mut self, record: Arc<Record>) {
        self.ending.push(record);
        if self.ending.len() >= self.ending_max {
            self.settle();
            self.ending_max = (2 * self.ending.len()).max(ENDING_MIN);
        }
    }

    /// Sums over all that have ended.
    pub(super) fn ended(&mut self) -> Sums {
        self.settle();
        let mut sums = self.ended_sums;
        for record in &self.ending {
            sums.add(&record.feed.stats(), record);
        }
        sums
    }

    /// The latencies of all that were settled, and those that have ended and are not.
    #[cfg(feature = "latency")]
    pub(super) fn latency(&mut self) -> (Option<Box<Samples>>, &[Arc<Record>]) {
        self.settle();
        (self.ended_latency.clone(), &self.ending)
    }

    /// Enters a new publisher's lane, and gives it a number.
    pub(super) fn open_lane(&mut self, lane: Arc<LaneShared>) -> u64 {
        let number = self.next_lane;
        self.next_lane += 1;
        self.lanes.insert(number, lane);
        number
    }

    /// The publisher has gone.
    pub(super) fn close_lane(&mut self, number: u64) {
        if let Some(lane) = self.lanes.remove(&number) {
            self.ended_accepted += lane.accepted();
        }
    }

    /// Events that all publishers' own lanes ever accepted.
    pub(super) fn accepted(&self) -> u64 {
        let open: u64 = self.lanes.values().map(|lane| lane.accepted()).sum();
        self.ended_accepted + open
    }

    /// Open publishers.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Adds up and forgets those whose numbers are final.
    fn settle(&mut self) {
        self.ending.retain(|record| {
            // In this order: what is final when it is looked at is so before its numbers are read.
            let settled = record.feed.is_settled();
            if settled {
                self.ended_sums.add(&record.feed.stats(), record);
                #[cfg(feature = "latency")]
                if let Some(recorder) = &record.info.recorder {
                    recorder.add_to(&mut self.ended_latency);
                }
            }
            !settled
        });
    }
}

impl Sums {
    /// Adds those of a subscription, whose feed says that.
    pub(super) fn add(&mut self, stats: &FeedStats, record: &Record) {
        self.matched += stats.matched;
        self.received += stats.received;
        for (sum, lost) in self.lost.iter_mut().zip(stats.lost) {
            *sum += lost;
        }
        self.superseded += stats.superseded;
        self.unread += stats.unread();
        self.depth += stats.gauges.depth;
        // Saturating: a weigher may say that each event weighs all there is.
        self.pinned_bytes = self.pinned_bytes.saturating_add(stats.gauges.pinned_bytes);
        if let Some(counters) = record.counters() {
            // Relaxed: statistics.
            self.errors += counters.errors.load(Ordering::Relaxed);
            self.panics += counters.panics.load(Ordering::Relaxed);
            self.stalls += counters.stalls.load(Ordering::Relaxed);
        }
    }
}
