//! Statistics of the bus and of its subscriptions.
//!
//! They cost the path of events almost nothing. Each counter is written by one thread (under
//! `DropOldest` and `Conflate`, the counter of what has left a ring by two), at most once per slot
//! of a ring; only the count of received events is written once per event. The thread that asks for
//! statistics adds the counters up.
//!
//! While events flow, the numbers are not a consistent snapshot, but they are plausible: they keep
//! to their documented bounds, and no subscription appears further behind than it was at some
//! moment while they were read. Once nothing moves, they are exact.

use std::time::Duration;

use super::Core;
use crate::dispatch::feed::{FeedStats, Limits};
#[cfg(feature = "latency")]
use crate::dispatch::latency::LatencyStats;
use crate::dispatch::loss::{GapReason, Overflow};
use crate::handlers::task::Counters;
use crate::sync::Ordering;

/// How much has passed through a bus, and what became of it: sums over all subscriptions, the ended
/// ones included. From [`Bus::stats`](crate::Bus::stats).
///
/// Once nothing moves, `received + lost + superseded + unread = matched` holds exactly over the
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
    /// Events accepted so far, by all publishers and the bus itself.
    pub published: u64,
    /// Events sequenced so far; also the id of the last one.
    pub sequenced: u64,
    /// Events that were accepted and then dropped before they had an id, because the time of a
    /// close was over or the bus broke.
    pub unsequenced: u64,
    /// Events that wait in lanes to be sequenced.
    pub queued: u64,
    /// Blocks that the events were stored in. `sequenced / blocks` is how many events share a block
    /// on average, 1 to 64.
    pub blocks: u64,
    /// Deliveries due: each event counts once for each subscription that it matched.
    pub matched: u64,
    /// Deliveries received by the program.
    pub received: u64,
    /// Deliveries lost, for all reasons; see [`lost_by`](Self::lost_by).
    pub lost: u64,
    /// Deliveries that a later event of the topic replaced, under [`Overflow::Conflate`].
    pub superseded: u64,
    /// Deliveries that wait, or waited when their subscribers were dropped or cancelled.
    pub unread: u64,
    /// Deliveries that wait in rings. See [`SubscriptionStats::depth`].
    pub depth: u64,
    /// Bytes that rings pin. A block in several rings counts for each of them, so this is the sum
    /// of what the bounds count, and an upper bound of the memory.
    pub pinned_bytes: u64,
    /// The largest lag of an open subscription, in events. See [`SubscriptionStats::lag`].
    pub lag_max: u64,
    /// The largest lag of an open subscription, in time. See [`SubscriptionStats::lag_time`].
    pub lag_time_max: Duration,
    /// Open [`Publisher`](crate::Publisher)s.
    pub publishers: usize,
    /// Open subscriptions: those that have not [ended](crate::SubscriptionHandle::ending). 0 once
    /// the bus is closed.
    pub subscriptions: usize,
    /// Subscriptions opened so far.
    pub subscriptions_opened: u64,
    /// Calls of handlers that returned an error.
    pub errors: u64,
    /// Calls of handlers that panicked.
    pub panics: u64,
    /// Calls of handlers that took too long and had their thread replaced. See
    /// [`SubscriptionStats::stalls`].
    pub stalls: u64,
    lost_by: [u64; GapReason::COUNT],
}

impl BusStats {
    /// Deliveries lost for this reason. The sum over all reasons is `lost`.
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
        self.lost_by[reason as usize]
    }
}

/// How many events a subscription matched, what became of them, and the state of its ring. From
/// [`Subscriber::stats`](crate::Subscriber::stats) and
/// [`SubscriptionHandle::stats`](crate::SubscriptionHandle::stats).
///
/// Once nothing moves, `received + lost + superseded + unread = matched` holds exactly over the ids
/// `first_id ..= last_id`.
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
    /// Events that its patterns matched while it was open.
    pub matched: u64,
    /// Events that the program received.
    pub received: u64,
    /// Events lost, for all reasons; see [`lost_by`](Self::lost_by).
    pub lost: u64,
    /// Events that a later one of their topic replaced while they waited, under
    /// [`Overflow::Conflate`].
    pub superseded: u64,
    /// Events that wait, or waited when the subscriber was dropped or cancelled: in the ring, in
    /// the slot of up to 64 events that the subscriber has begun to read, or, under
    /// [`Overflow::Block`], in front of a full ring.
    pub unread: u64,
    /// Events that wait in the ring, 0 to `capacity`; under [`Overflow::Conflate`], topics. This is
    /// what the bound counts: unlike `unread`, it leaves out the slot that the subscriber has begun
    /// to read, and what waits in front of a full ring. 0 once the subscriber was dropped.
    pub depth: u64,
    /// The largest `depth` so far, 0 to `capacity`. It is never reset.
    pub high_water: u64,
    /// How far it is behind the newest event that matched it, in events: those that it has neither
    /// received nor been told of in a [`Gap`](crate::Gap). That is `unread` and the losses that
    /// were not reported yet, so it goes on rising when the ring is full.
    pub lag: u64,
    /// How far it is behind the newest event that matched it, in time; 0 if `lag` is 0. It counts
    /// from the creation of the block that the subscriber read last (after it had read everything:
    /// of the block that came next) to the creation of the newest block. It is measured on the
    /// stream of events, not with a clock, so it rises with new events and not while time passes.
    /// Exact to a block.
    pub lag_time: Duration,
    /// Bytes that its waiting events pin, as [`pin_bytes`](crate::SubscriptionBuilder::pin_bytes)
    /// counts them. While older events are being evicted for a new block, that block counts, too. 0
    /// once the subscriber was dropped.
    pub pinned_bytes: u64,
    /// The bound on events that wait in its ring.
    pub capacity: usize,
    /// The bound on bytes that its waiting events pin.
    pub pin_bytes: usize,
    /// What happens to events that find no room.
    pub overflow: Overflow,
    /// Id of the first event that it could see. `None`: its shard has not run since it was opened.
    pub first_id: Option<u64>,
    /// Id of the last event that it could see. `None`: it has not ended, or its shard has not run
    /// since.
    pub last_id: Option<u64>,
    /// Calls of its handler that returned an error. (Every event received is a call.)
    pub errors: u64,
    /// Calls of its handler that panicked.
    pub panics: u64,
    /// Calls of its handler that took longer than [`HANDLER_STALL`](crate::limits::HANDLER_STALL)
    /// and had their thread replaced.
    pub stalls: u64,
    lost_by: [u64; GapReason::COUNT],
}

impl SubscriptionStats {
    pub(super) fn add_handler(&mut self, counters: &Counters) {
        // Relaxed: statistics.
        self.errors = counters.errors.load(Ordering::Relaxed);
        self.panics = counters.panics.load(Ordering::Relaxed);
        self.stalls = counters.stalls.load(Ordering::Relaxed);
    }

    /// Events lost for this reason. The sum over all reasons is `lost`.
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
        self.lost_by[reason as usize]
    }
}

/// What a close has left undone. From [`Bus::close_within`](crate::Bus::close_within) and
/// [`Bus::close_async`](crate::Bus::close_async).
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
    /// Whether everything that was accepted reached the rings in time (or was lost there, as the
    /// overflow policies say), and was handled by the handlers.
    pub in_time: bool,
    /// Events in rings that their subscribers have not read yet.
    pub unread: u64,
    /// Events that were given up because their rings had no room when the time of the close was
    /// over. What was given up meanwhile after a
    /// [block timeout](crate::SubscriptionBuilder::block_timeout) is not among them.
    pub lost: u64,
    /// Events that were accepted and then dropped before they had an id.
    pub unsequenced: u64,
}

/// Sums over subscriptions, for the report of a close.
#[derive(Default)]
pub(super) struct CloseSums {
    pub(super) unread: u64,
    /// Lost for the reason [`GapReason::Closed`].
    pub(super) lost: u64,
}

impl Core {
    /// `claimed`: the events that the shared lane has accepted.
    pub(super) fn stats(&self, claimed: u64) -> BusStats {
        let shared = &self.engine.shared;
        // What became of the events is read before how many there were, so that the numbers stay
        // plausible while events flow. Acquire, partner the sequencer; the others are statistics.
        let sequenced = shared.last_id.load(Ordering::Acquire);
        let unsequenced = shared.unsequenced.load(Ordering::Relaxed);
        let blocks = shared.blocks.load(Ordering::Relaxed);
        let mut registry = self.registry.lock();
        let accepted = registry.totals.accepted() + claimed;
        // A publisher counts its event a moment after the lane has it.
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
            lost_by: sums.lost,
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

    /// Counts what was due before the other counters were read, so that a subscriber that keeps up
    /// is not reported as behind because of events that came meanwhile.
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
            lost_by: self.lost,
        }
    }
}
