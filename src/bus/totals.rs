//! The sums of a bus over subscriptions that have ended and publishers that were dropped.
//!
//! The numbers of a subscription may still change after it was unregistered: its shard may be in
//! the middle of a block, and its subscriber in the middle of a receive. So the subscription stays
//! in a list until both ends of its ring are dropped. Then it is settled: its numbers are added to
//! the sums, and its record is dropped.

use std::collections::BTreeMap;

use super::record::Record;
use crate::dispatch::feed::FeedStats;
use crate::dispatch::lane::LaneShared;
#[cfg(feature = "latency")]
use crate::dispatch::latency::Samples;
use crate::dispatch::loss::GapReason;
use crate::sync::{Arc, Ordering};

/// The list is not checked while it is shorter than this.
const UNSETTLED_MIN: usize = 32;

/// The sums. They are a part of the registry, and so behind its lock.
pub(super) struct Totals {
    /// The subscriptions that were unregistered, and were not settled at the last check.
    unsettled: Vec<Arc<Record>>,
    /// The length at which the list is checked: twice its length after the last check, so that each
    /// subscription is checked a few times only.
    check_at: usize,
    /// Sums over the settled subscriptions.
    settled_sums: Sums,
    /// The lanes of open publishers, by number.
    lanes: BTreeMap<u64, Arc<LaneShared>>,
    next_lane: u64,
    /// Events that publishers had accepted when they were dropped.
    closed_accepted: u64,
    /// The latencies of the settled subscriptions.
    #[cfg(feature = "latency")]
    settled_latency: Option<Box<Samples>>,
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
            unsettled: Vec::new(),
            check_at: UNSETTLED_MIN,
            settled_sums: Sums::default(),
            lanes: BTreeMap::new(),
            next_lane: 0,
            closed_accepted: 0,
            #[cfg(feature = "latency")]
            settled_latency: None,
        }
    }

    /// Adds a subscription that was unregistered.
    pub(super) fn add_unregistered(&mut self, record: Arc<Record>) {
        self.unsettled.push(record);
        if self.unsettled.len() >= self.check_at {
            self.settle();
            self.check_at = (2 * self.unsettled.len()).max(UNSETTLED_MIN);
        }
    }

    /// The sums over all subscriptions that were unregistered.
    pub(super) fn unregistered(&mut self) -> Sums {
        self.settle();
        let mut sums = self.settled_sums;
        for record in &self.unsettled {
            sums.add(&record.feed.stats(), record);
        }
        sums
    }

    /// The latencies of the settled subscriptions, and the records of those that were unregistered
    /// and are not settled.
    #[cfg(feature = "latency")]
    pub(super) fn latency(&mut self) -> (Option<Box<Samples>>, &[Arc<Record>]) {
        self.settle();
        (self.settled_latency.clone(), &self.unsettled)
    }

    /// Adds the lane of a new publisher, and returns its number.
    pub(super) fn open_lane(&mut self, lane: Arc<LaneShared>) -> u64 {
        let number = self.next_lane;
        self.next_lane += 1;
        let before = self.lanes.insert(number, lane);
        debug_assert!(before.is_none(), "a number is used once");
        number
    }

    /// Removes the lane of a publisher that is being dropped.
    pub(super) fn close_lane(&mut self, number: u64) {
        if let Some(lane) = self.lanes.remove(&number) {
            self.closed_accepted += lane.accepted();
        }
    }

    /// Events that the lanes of all publishers have accepted, dropped publishers included.
    pub(super) fn accepted(&self) -> u64 {
        let open: u64 = self.lanes.values().map(|lane| lane.accepted()).sum();
        self.closed_accepted + open
    }

    /// Open publishers.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Adds the numbers of the subscriptions that are final to the sums, and drops their records.
    fn settle(&mut self) {
        self.unsettled.retain(|record| {
            // This check comes first: numbers that are read after it are final.
            let settled = record.feed.is_settled();
            if settled {
                self.settled_sums.add(&record.feed.stats(), record);
                #[cfg(feature = "latency")]
                if let Some(recorder) = &record.info.recorder {
                    recorder.add_to(&mut self.settled_latency);
                }
            }
            !settled
        });
    }
}

impl Sums {
    /// Adds the numbers of a subscription. `stats` are the numbers of its feed.
    pub(super) fn add(&mut self, stats: &FeedStats, record: &Record) {
        self.matched += stats.matched;
        self.received += stats.received;
        for (sum, lost) in self.lost.iter_mut().zip(stats.lost) {
            *sum += lost;
        }
        self.superseded += stats.superseded;
        self.unread += stats.unread();
        self.depth += stats.gauges.depth;
        // Saturating, because a weigher may return any number.
        self.pinned_bytes = self.pinned_bytes.saturating_add(stats.gauges.pinned_bytes);
        if let Some(counters) = record.counters() {
            // Relaxed: statistics.
            self.errors += counters.errors.load(Ordering::Relaxed);
            self.panics += counters.panics.load(Ordering::Relaxed);
            self.stalls += counters.stalls.load(Ordering::Relaxed);
        }
    }
}
