//! Statistics of the bus and of its subscriptions.
//!
//! The counters cost publishing, dispatching and receiving almost nothing. Each counter is written
//! by one thread (under `DropOldest` and `Conflate`, the counter of the events that have left a
//! ring is written by two), at most once for each slot of a ring. Only the counter of received
//! events is written once for each event. The thread that reads the statistics adds the counters
//! up.
//!
//! While events flow, the numbers are not a consistent snapshot. They stay within their documented
//! bounds, and no subscription appears further behind than it was at some time during the call.
//! Once no events are published, dispatched or received, the numbers are exact.

use std::fmt;
use std::time::Duration;

use super::Core;
use crate::dispatch::feed::{FeedStats, Limits};
#[cfg(feature = "latency")]
use crate::dispatch::latency::LatencyStats;
use crate::dispatch::loss::{GapReason, Overflow};
use crate::handlers::task::Counters;
use crate::sync::Ordering;

/// The statistics of a bus: sums over all subscriptions, including those that have ended.
/// [`Bus::stats`](crate::Bus::stats) returns them.
///
/// While events flow, the numbers are not a consistent snapshot. Once no events are published,
/// dispatched or received, `received + lost + superseded + unread = matched` holds exactly over the
/// life of the bus, and so does `published = sequenced + unsequenced + queued`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::builder().dispatch(fanout::Dispatch::Manual).build()?;
/// let mut all = bus.subscription("**").capacity(2).open()?;
/// let some = bus.subscribe("a")?;
/// for n in 1..=5 {
///     bus.publish("a", n)?;
/// }
/// assert_eq!(bus.stats().queued, 5);
/// bus.drive();
/// all.recv()?;
/// drop(some); // what it received, lost and did not read stays in the sums
/// let stats = bus.stats();
/// assert_eq!((stats.published, stats.sequenced, stats.blocks), (5, 5, 1));
/// assert_eq!((stats.matched, stats.received, stats.lost, stats.unread), (10, 1, 3, 6));
/// assert_eq!((stats.subscriptions, stats.depth), (1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusStats {
    /// Events that were accepted so far, through all publishers and the shared lane.
    pub published: u64,
    /// Events that were sequenced so far. This is also the id of the last one.
    pub sequenced: u64,
    /// Events that were accepted, and dropped before they were sequenced, because the time limit of
    /// a close was over or the bus broke. On a broken bus these are the event whose weigher
    /// panicked, if that broke the bus, and all events that were queued behind it.
    pub unsequenced: u64,
    /// Events that wait in lanes to be sequenced, in those of dropped publishers too.
    pub queued: u64,
    /// Blocks that were used for the events so far. `sequenced / blocks` is the average number of
    /// events in a block, 1 to 64.
    pub blocks: u64,
    /// Deliveries that were due: each event counts once for each subscription that it matched.
    pub matched: u64,
    /// Deliveries that subscribers and handlers received.
    pub received: u64,
    /// Deliveries that were lost, for all reasons; see [`lost_by`](Self::lost_by).
    pub lost: u64,
    /// Deliveries that a later event of the topic replaced, under [`Overflow::Conflate`].
    pub superseded: u64,
    /// Deliveries that wait to be received, or waited when the subscription was cancelled or its
    /// subscriber dropped.
    pub unread: u64,
    /// Deliveries that wait in rings. See [`SubscriptionStats::depth`].
    pub depth: u64,
    /// Bytes that the events in rings pin: the sum of [`SubscriptionStats::pinned_bytes`]. A block
    /// in several rings counts once for each ring, so the sum is an upper bound of the memory.
    pub pinned_bytes: u64,
    /// The largest lag of an open subscription, in events. See [`SubscriptionStats::lag`].
    pub lag_max: u64,
    /// The largest lag of an open subscription, in time. See [`SubscriptionStats::lag_time`].
    pub lag_time_max: Duration,
    /// Open [`Publisher`](crate::Publisher)s: those that are not dropped, whether or not they have
    /// published. A dropped publisher does not count, even if some of its events are still
    /// [`queued`](Self::queued).
    pub publishers: usize,
    /// Open subscriptions: those that have not [ended](crate::SubscriptionHandle::ending). 0 once
    /// the bus is closed.
    #[doc(alias = "receiver_count")]
    pub subscriptions: usize,
    /// Subscriptions opened so far.
    pub subscriptions_opened: u64,
    /// Calls of handlers that returned an error.
    pub errors: u64,
    /// Calls of handlers that panicked.
    pub panics: u64,
    /// Calls of handlers that took too long. See [`SubscriptionStats::stalls`].
    pub stalls: u64,
    lost_by: LostBy,
}

impl BusStats {
    /// Returns the number of deliveries that were lost for this reason. The sum over all reasons is
    /// `lost`.
    ///
    /// ```
    /// use fanout::{Bus, Dispatch, GapReason};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).build()?;
    /// let _sub = bus.subscription("a").capacity(1).open()?;
    /// bus.publish("a", 1)?;
    /// bus.publish("a", 2)?;
    /// bus.drive();
    /// let stats = bus.stats();
    /// assert_eq!((stats.lost_by(GapReason::Overflow), stats.lost_by(GapReason::Closed)), (1, 0));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn lost_by(&self, reason: GapReason) -> u64 {
        self.lost_by.0[reason as usize]
    }
}

/// Losses, one number for each reason. `Debug` names the reasons.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct LostBy([u64; GapReason::COUNT]);

impl fmt::Debug for LostBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = GapReason::ALL.map(|reason| (reason, self.0[reason as usize]));
        f.debug_map().entries(named).finish()
    }
}

/// The statistics of a subscription: the events that it matched, how many of them were received,
/// lost, superseded or not read, and the state of its ring.
/// [`Subscriber::stats`](crate::Subscriber::stats) and
/// [`SubscriptionHandle::stats`](crate::SubscriptionHandle::stats) return them.
///
/// While events flow, the numbers are not a consistent snapshot. Once no events are published,
/// dispatched or received, `received + lost + superseded + unread = matched` holds exactly over the
/// ids `first_id ..= last_id`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::builder().dispatch(fanout::Dispatch::Manual).build()?;
/// let mut sub = bus.subscription("a").capacity(2).open()?;
/// for n in 1..=5 {
///     bus.publish("a", n)?;
/// }
/// bus.drive();
/// assert_eq!((sub.stats().depth, sub.stats().high_water, sub.stats().lag), (2, 2, 5));
/// sub.recv()?;
/// let stats = sub.stats();
/// assert_eq!((stats.matched, stats.received, stats.lost, stats.unread), (5, 1, 3, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStats {
    /// Events that the patterns matched while the subscription was open.
    pub matched: u64,
    /// Events that the subscriber or the handler received.
    pub received: u64,
    /// Events that were lost, for all reasons; see [`lost_by`](Self::lost_by).
    pub lost: u64,
    /// Events that a later one of their topic replaced while they waited, under
    /// [`Overflow::Conflate`].
    pub superseded: u64,
    /// Events that wait to be received, or waited when the subscription was cancelled or the
    /// subscriber dropped. They are in the ring, in the slot of up to 64 events that the subscriber
    /// has begun to read, or, under [`Overflow::Block`], in front of the full ring.
    pub unread: u64,
    /// Events that wait in the ring, 0 to `capacity`; under [`Overflow::Conflate`], topics. Unlike
    /// `unread`, this does not include the slot that the subscriber has begun to read, nor the
    /// events that wait in front of a full ring. 0 once the subscriber was dropped.
    pub depth: u64,
    /// The largest `depth` since the subscription was opened, 0 to `capacity`.
    pub high_water: u64,
    /// The lag of the subscriber in events: the number of matched events that it has neither
    /// received nor seen reported in a [`Gap`](crate::Gap). That is `unread` and the losses that
    /// were not reported yet, so the lag continues to grow while the ring is full.
    pub lag: u64,
    /// The lag of the subscriber in time; 0 if `lag` is 0. It is the difference between the times
    /// of the newest matched block and the last block that the subscriber read; it does not grow
    /// while no events arrive. (If the subscriber had received all events, the next block that
    /// matched takes the place of the last block read.) Its resolution is one block.
    pub lag_time: Duration,
    /// Bytes that the waiting events pin, as [`pin_bytes`](crate::SubscriptionBuilder::pin_bytes)
    /// counts them. While older events are being evicted for a new block, that block also counts. 0
    /// once the subscriber was dropped.
    pub pinned_bytes: u64,
    /// The setting [`capacity`](crate::SubscriptionBuilder::capacity), in events.
    pub capacity: usize,
    /// The setting [`pin_bytes`](crate::SubscriptionBuilder::pin_bytes).
    pub pin_bytes: usize,
    /// The setting [`overflow`](crate::SubscriptionBuilder::overflow).
    pub overflow: Overflow,
    /// The lowest id that the subscription could receive. `None` if its shard has not run since the
    /// subscription was opened.
    pub first_id: Option<u64>,
    /// The highest id that the subscription could receive. `None` if the subscription has not
    /// ended, or its shard has not run since then.
    pub last_id: Option<u64>,
    /// Calls of the handler that returned an error. (Every received event is a call.)
    pub errors: u64,
    /// Calls of the handler that panicked.
    pub panics: u64,
    /// Calls of the handler that took longer than [`HANDLER_STALL`](crate::limits::HANDLER_STALL),
    /// so that the bus tried to replace their thread by a spare one.
    pub stalls: u64,
    lost_by: LostBy,
}

impl SubscriptionStats {
    pub(super) fn add_handler(&mut self, counters: &Counters) {
        // Relaxed: statistics.
        self.errors = counters.errors.load(Ordering::Relaxed);
        self.panics = counters.panics.load(Ordering::Relaxed);
        self.stalls = counters.stalls.load(Ordering::Relaxed);
    }

    /// Returns the number of events that were lost for this reason. The sum over all reasons is
    /// `lost`.
    ///
    /// ```
    /// use fanout::{Bus, Dispatch, GapReason};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).build()?;
    /// let sub = bus.subscription("a").capacity(1).open()?;
    /// bus.publish("a", 1)?;
    /// bus.publish("a", 2)?;
    /// bus.drive();
    /// assert_eq!(sub.stats().lost_by(GapReason::Overflow), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn lost_by(&self, reason: GapReason) -> u64 {
        self.lost_by.0[reason as usize]
    }
}

/// The events that a close did not deliver. [`Bus::close_within`](crate::Bus::close_within) and
/// [`Bus::close_async`](crate::Bus::close_async) return it.
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::new();
/// let _sub = bus.subscribe("a")?;
/// bus.publish("a", 1)?;
/// let report = bus.close_within(Duration::from_secs(5));
/// assert!(report.in_time);
/// assert_eq!((report.unread, report.lost, report.unsequenced), (1, 0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Whether, before the time limit, all accepted events reached the rings of their subscribers
    /// (or were lost there, according to the overflow policies) and were handled by the handlers.
    /// `false` on a [broken](crate::RecvError::Broken) bus: an event that was being dispatched when
    /// the bus broke is in none of the counts below.
    pub in_time: bool,
    /// Events in rings that their subscribers have not received yet.
    pub unread: u64,
    /// Events that were lost because their rings had no room at the time limit of the close. Events
    /// that were lost after a [block timeout](crate::SubscriptionBuilder::block_timeout) do not
    /// count here.
    pub lost: u64,
    /// Events that were accepted, and dropped before they were sequenced.
    pub unsequenced: u64,
}

/// Sums over subscriptions, for the report of a close.
#[derive(Default)]
pub(super) struct CloseSums {
    pub(super) unread: u64,
    /// Events that were lost for the reason [`GapReason::Closed`].
    pub(super) lost: u64,
}

impl Core {
    /// `claimed`: the events that the shared lane has accepted.
    pub(super) fn stats(&self, claimed: u64) -> BusStats {
        let shared = &self.engine.shared;
        // The sequencer's counters are read before those of the publishers' own lanes and of the
        // subscriptions. Acquire, partner the store in `Appender::finish_round`; the other counters
        // are statistics.
        let sequenced = shared.last_id.load(Ordering::Acquire);
        let unsequenced = shared.unsequenced.load(Ordering::Relaxed);
        let blocks = shared.blocks.load(Ordering::Relaxed);
        let mut registry = self.registry.lock();
        let accepted = registry.totals.accepted() + claimed;
        // A publisher counts its event shortly after the event is in the lane, and `claimed` was
        // read before `sequenced`.
        let published = accepted.max(sequenced + unsequenced);
        let mut sums = registry.totals.unregistered();
        let (mut subscriptions, mut lag_max) = (0, 0);
        let mut lag_time_max = Duration::ZERO;
        for record in registry.each() {
            let each = record.feed.stats();
            if record.is_open(&self.engine) {
                subscriptions += 1;
                lag_max = lag_max.max(each.lag());
                lag_time_max = lag_time_max.max(each.lag_time());
            }
            sums.add(&each, record);
        }
        BusStats {
            published,
            sequenced,
            unsequenced,
            queued: published - sequenced - unsequenced,
            blocks,
            matched: sums.matched,
            received: sums.received,
            lost: sums.lost.iter().sum(),
            superseded: sums.superseded,
            unread: sums.unread,
            depth: sums.depth,
            pinned_bytes: sums.pinned_bytes,
            lag_max,
            lag_time_max,
            publishers: registry.totals.lanes(),
            subscriptions,
            subscriptions_opened: registry.opened(),
            errors: sums.errors,
            panics: sums.panics,
            stalls: sums.stalls,
            lost_by: LostBy(sums.lost),
        }
    }

    #[cfg(feature = "latency")]
    pub(super) fn latency(&self) -> LatencyStats {
        let mut registry = self.registry.lock();
        let (mut sum, unsettled) = registry.totals.latency();
        let mut records = unsettled.to_vec();
        records.extend(registry.each().cloned());
        drop(registry);
        for recorder in records
            .iter()
            .filter_map(|record| record.info.recorder.as_ref())
        {
            recorder.add_to(&mut sum);
        }
        LatencyStats::of(sum.as_deref())
    }
}

impl FeedStats {
    pub(super) fn unread(&self) -> u64 {
        self.matched
            .saturating_sub(self.received + self.lost.iter().sum::<u64>() + self.superseded)
    }

    /// Uses the number of matched events from before the other counters were read, so that a
    /// subscriber that keeps up does not appear to lag because of events that arrived meanwhile.
    pub(super) fn lag(&self) -> u64 {
        self.due
            .saturating_sub(self.received + self.gauges.reported_lost + self.superseded)
    }

    pub(super) fn lag_time(&self) -> Duration {
        match self.lag() {
            0 => Duration::ZERO,
            _ => Duration::from_nanos(self.gauges.behind_ns),
        }
    }

    pub(super) fn public(&self, limits: &Limits) -> SubscriptionStats {
        SubscriptionStats {
            matched: self.matched,
            received: self.received,
            lost: self.lost.iter().sum(),
            superseded: self.superseded,
            unread: self.unread(),
            depth: self.gauges.depth,
            high_water: self.gauges.high_water,
            lag: self.lag(),
            lag_time: self.lag_time(),
            pinned_bytes: self.gauges.pinned_bytes,
            capacity: limits.capacity,
            pin_bytes: limits.pin_bytes,
            overflow: limits.overflow,
            first_id: self.first_id,
            last_id: self.last_id,
            errors: 0,
            panics: 0,
            stalls: 0,
            lost_by: LostBy(self.lost),
        }
    }
}
