//! Reports when a subscriber falls behind, and when it has caught up.
//!
//! The monitor checks the statistics of all subscriptions at intervals. It never runs on the thread
//! of a publisher or a dispatcher, and adds no work to publishing, dispatching and receiving: like
//! a flush, it waits for progress of the engine.
//!
//! | state | the monitor | until |
//! | --- | --- | --- |
//! | events flow | checks every [`PAUSE_MIN`] | a check finds no new events |
//! | there are no new events, and a subscriber is slow | doubles the pause after each check, up to [`PAUSE_MAX`], because a subscriber that recovers does not wake the monitor | there are new events, or the subscriber recovers |
//! | there are no new events, and no subscriber is slow | registers for progress, checks once more, and sleeps | there is progress |
//! | the bus closes | does the same, but always registers for progress | the last role has finished; then the monitor checks for the last time |
//!
//! The monitor registers before its last check, so progress that this check does not see wakes it.
//! The pause between two checks is at least twenty times as long as a check takes: with very many
//! subscriptions the monitor checks less often, and never uses more than a twentieth of a
//! processor.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Core;
use super::error::BuildError;
use super::handle::SubscriptionHandle;
use super::record::Record;
use super::stats::SubscriptionStats;
use crate::contain::{UserValue, contain};
use crate::dispatch::feed::End;
use crate::park::{Registration, park, register_thread, thread_waker};
use crate::sync::{Arc, Ordering};

/// The pause between two checks while events flow.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// The longest pause between two checks while there are no new events and a subscriber is slow.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The shortest pause after a check, as a multiple of the time that the check took.
const PAUSE_PER_CHECK: u32 = 20;

/// The limit at which a subscriber counts as slow: its [`lag`](SubscriptionStats::lag) reaches a
/// number of events or a percentage of its capacity, or its
/// [`lag_time`](SubscriptionStats::lag_time) reaches a duration. If there are several limits, a
/// subscriber is slow when it reaches one of them.
///
/// A subscriber has recovered when it is at or below half of each limit, so a subscriber that stays
/// near the limit is reported once. See [`BusBuilder::on_slow`](crate::BusBuilder::on_slow) for an
/// example with a bus.
///
/// ```
/// use fanout::{BuildError, Bus, SlowLimit};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), BuildError> {
/// let limit = SlowLimit::percent(80).or_events(100_000).or_time(Duration::from_secs(5));
/// let bus = Bus::<u32>::builder().on_slow(limit, |notice| println!("{notice:?}")).build()?;
/// let never = SlowLimit::percent(101); // a number out of its range is reported by `build`
/// let refused = Bus::<u32>::builder().on_slow(never, |_| {}).build();
/// assert!(matches!(refused, Err(BuildError::SlowPercent(101))));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlowLimit {
    percent: Option<u32>,
    events: Option<u64>,
    time: Option<Duration>,
}

impl SlowLimit {
    /// A limit of `percent` percent of the subscription's capacity, 1 to 100, rounded up to a whole
    /// event.
    ///
    /// ```
    /// use fanout::{Bus, Dispatch, SlowLimit, SlowStatus};
    /// use std::sync::mpsc;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, statuses) = mpsc::channel();
    /// let bus = Bus::<u32>::builder()
    ///     .dispatch(Dispatch::Manual)
    ///     .on_slow(SlowLimit::percent(50), move |notice| drop(sender.send(notice.status())))
    ///     .build()?;
    /// let _sub = bus.subscription("a").capacity(3).open()?;
    /// bus.publish("a", 1)?;
    /// bus.drive();
    /// assert!(statuses.try_recv().is_err()); // one of three
    /// bus.publish("a", 2)?;
    /// bus.drive();
    /// assert_eq!(statuses.try_recv()?, SlowStatus::Slow);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn percent(percent: u32) -> Self {
        Self::default().or_percent(percent)
    }

    /// A limit of `events` events, at least 1. It may be more than the capacity, because losses
    /// that were not reported to the subscriber yet count towards the lag.
    ///
    /// ```
    /// use fanout::SlowLimit;
    ///
    /// assert_eq!(SlowLimit::events(7), SlowLimit::default().or_events(7));
    /// ```
    #[must_use]
    pub fn events(events: u64) -> Self {
        Self::default().or_events(events)
    }

    /// A limit in time, more than zero. The lag is measured on the stream of events: see
    /// [`lag_time`](SubscriptionStats::lag_time).
    ///
    /// ```
    /// use fanout::SlowLimit;
    /// use std::time::Duration;
    ///
    /// let limit = SlowLimit::time(Duration::from_secs(1));
    /// assert_eq!(limit, SlowLimit::default().or_time(Duration::from_secs(1)));
    /// ```
    #[must_use]
    pub fn time(time: Duration) -> Self {
        Self::default().or_time(time)
    }

    /// Adds the limit of [`percent`](Self::percent) to this limit. The last limit of each kind
    /// counts.
    ///
    /// ```
    /// use fanout::SlowLimit;
    ///
    /// let limit = SlowLimit::events(1000).or_percent(80);
    /// assert_eq!(limit, SlowLimit::percent(80).or_events(1000));
    /// ```
    #[must_use]
    pub fn or_percent(mut self, percent: u32) -> Self {
        self.percent = Some(percent);
        self
    }

    /// Adds the limit of [`events`](Self::events) to this limit. The last limit of each kind
    /// counts.
    ///
    /// ```
    /// use fanout::SlowLimit;
    ///
    /// // The last of the same kind counts.
    /// assert_eq!(SlowLimit::events(1).or_events(2), SlowLimit::events(2));
    /// ```
    #[must_use]
    pub fn or_events(mut self, events: u64) -> Self {
        self.events = Some(events);
        self
    }

    /// Adds the limit of [`time`](Self::time) to this limit. The last limit of each kind counts.
    ///
    /// ```
    /// use fanout::SlowLimit;
    /// use std::time::Duration;
    ///
    /// let limit = SlowLimit::percent(80).or_time(Duration::from_secs(1));
    /// assert_ne!(limit, SlowLimit::percent(80));
    /// ```
    #[must_use]
    pub fn or_time(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        if let Some(percent) = self.percent.filter(|percent| !(1..=100).contains(percent)) {
            return Err(BuildError::SlowPercent(percent));
        }
        if self.events == Some(0) {
            return Err(BuildError::SlowEvents);
        }
        if self.time == Some(Duration::ZERO) {
            return Err(BuildError::SlowTime);
        }
        Ok(())
    }

    /// The bounds in events and in time, for a subscription of this capacity.
    fn bounds(&self, capacity: usize) -> (u64, Duration) {
        let share = |percent| (capacity as u64 * u64::from(percent)).div_ceil(100);
        let share = self.percent.map_or(u64::MAX, share);
        let events = self.events.unwrap_or(u64::MAX).min(share);
        (events, self.time.unwrap_or(Duration::MAX))
    }

    fn is_reached(&self, stats: &SubscriptionStats) -> bool {
        let (events, time) = self.bounds(stats.capacity);
        stats.lag >= events || stats.lag_time >= time
    }

    fn is_recovered(&self, stats: &SubscriptionStats) -> bool {
        let (events, time) = self.bounds(stats.capacity);
        stats.lag <= events / 2 && stats.lag_time <= time / 2
    }
}

/// Whether a subscriber became slow or has recovered. See
/// [`BusBuilder::on_slow`](crate::BusBuilder::on_slow) for an example.
///
/// ```
/// use fanout::SlowStatus;
///
/// assert_ne!(SlowStatus::Slow, SlowStatus::Recovered);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SlowStatus {
    /// The subscriber has reached a limit.
    Slow,
    /// The subscriber was slow, and is at or below half of each limit.
    Recovered,
}

/// The argument of the callback of [`BusBuilder::on_slow`](crate::BusBuilder::on_slow).
///
/// ```
/// use fanout::{Bus, Dispatch, SlowLimit, SlowStatus};
/// use std::sync::mpsc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, lines) = mpsc::channel();
/// let bus = Bus::<u32>::builder()
///     .dispatch(Dispatch::Manual)
///     .on_slow(SlowLimit::events(1), move |notice| {
///         if notice.status() == SlowStatus::Slow {
///             let number = notice.subscription().number();
///             let _ = sender.send(format!("{number} is {} behind", notice.stats().lag));
///         }
///     })
///     .build()?;
/// let _sub = bus.subscribe("a")?;
/// bus.publish("a", 1)?;
/// bus.drive();
/// assert_eq!(lines.try_recv()?, "1 is 1 behind");
/// # Ok(())
/// # }
/// ```
pub struct SlowNotice<T: Send + Sync + 'static> {
    subscription: SubscriptionHandle<T>,
    stats: SubscriptionStats,
    status: SlowStatus,
}

impl<T: Send + Sync + 'static> SlowNotice<T> {
    /// Returns whether the subscriber became slow or has recovered. See [`SlowNotice`] for an
    /// example.
    #[must_use]
    pub fn status(&self) -> SlowStatus {
        self.status
    }

    /// Returns a handle to the subscription, for its number, patterns and labels, and to cancel it.
    /// The handle does not keep the bus open. See [`SlowNotice`] for an example.
    #[must_use]
    pub fn subscription(&self) -> &SubscriptionHandle<T> {
        &self.subscription
    }

    /// Returns the statistics of the subscription at the check that found the change. The handle of
    /// [`subscription`](Self::subscription) has the current ones. See [`SlowNotice`] for an
    /// example.
    #[must_use]
    pub fn stats(&self) -> &SubscriptionStats {
        &self.stats
    }
}

impl<T: Send + Sync + 'static> std::fmt::Debug for SlowNotice<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlowNotice")
            .field("status", &self.status)
            .field("subscription", &self.subscription)
            .field("stats", &self.stats)
            .finish()
    }
}

/// Calls the callback.
pub(super) type OnSlow = UserValue<Box<dyn FnMut(&Arc<Core>, Crossing) + Send>>;

/// Wraps the callback of the program, which needs the type of the payloads.
pub(super) fn on_slow<T: Send + Sync + 'static>(
    mut callback: impl FnMut(&SlowNotice<T>) + Send + 'static,
) -> OnSlow {
    UserValue::new(Box::new(move |core, crossing| {
        callback(&SlowNotice {
            subscription: SubscriptionHandle::new(core.clone(), crossing.record),
            stats: crossing.stats,
            status: crossing.status,
        });
    }))
}

/// Checks all subscriptions, and calls the callback.
pub(super) struct SlowMonitor {
    limit: SlowLimit,
    on_slow: OnSlow,
    /// The numbers of the subscriptions that were reported as slow, and not as recovered since
    /// then.
    slow: BTreeSet<u64>,
    /// The id of the last sequenced event, at the last check.
    sequenced: u64,
    /// How long the last check took, without the callback.
    took: Duration,
}

/// A subscriber that has crossed a limit since the last check.
pub(super) struct Crossing {
    record: Arc<Record>,
    stats: SubscriptionStats,
    status: SlowStatus,
}

impl SlowMonitor {
    pub(super) fn new(limit: SlowLimit, on_slow: OnSlow) -> Self {
        Self {
            limit,
            on_slow,
            slow: BTreeSet::new(),
            sequenced: 0,
            took: Duration::ZERO,
        }
    }

    /// Checks all subscriptions, and reports changes. Returns `true` if no event was sequenced
    /// since the last check and no subscriber is slow.
    pub(super) fn check(&mut self, core: &Arc<Core>) -> bool {
        // Acquire, partner the sequencer's store: the counters of earlier rounds are visible.
        let sequenced = core.engine.shared.last_id.load(Ordering::Acquire);
        let moved = std::mem::replace(&mut self.sequenced, sequenced) != sequenced;
        let started = Instant::now();
        let crossings = self.crossings(core);
        self.took = started.elapsed();
        for crossing in crossings {
            contain("the callback of on_slow", || (self.on_slow)(core, crossing));
        }
        !moved && self.slow.is_empty()
    }

    /// The body of the monitor's thread.
    pub(super) fn run(mut self, core: &Arc<Core>) {
        let engine = &core.engine;
        let mut pause = PAUSE_MIN;
        let mut calm = false;
        let mut progress = Registration::default();
        loop {
            if calm {
                engine.register_for_progress(&mut progress, &thread_waker());
            } else {
                engine.forget_progress(&mut progress);
            }
            register_thread(&core.slow_waker);
            let finished = engine.is_finished();
            let sequenced = self.sequenced;
            let still_calm = self.check(core);
            if finished {
                engine.forget_progress(&mut progress);
                return;
            }
            if calm && still_calm && !engine.is_closing() {
                park(None);
            } else if calm == still_calm {
                let moved = sequenced != self.sequenced;
                pause = if moved {
                    PAUSE_MIN
                } else {
                    (2 * pause).min(PAUSE_MAX)
                };
                pause = pause.max(PAUSE_PER_CHECK * self.took);
                sleep(core, Instant::now() + pause, &mut progress);
            }
            calm = still_calm;
        }
    }

    /// Takes the registry's lock, under which no user code runs.
    fn crossings(&mut self, core: &Arc<Core>) -> Vec<Crossing> {
        let registry = core.registry.lock();
        let mut crossings = Vec::new();
        let mut still_slow = BTreeSet::new();
        // Subscriptions of a bus that closes are included, because their subscribers may still
        // recover.
        for record in registry.each().filter(|r| r.feed.end() == End::None) {
            let stats = record.stats();
            let was_slow = self.slow.contains(&record.number);
            let is_slow = if was_slow {
                !self.limit.is_recovered(&stats)
            } else {
                self.limit.is_reached(&stats)
            };
            if is_slow {
                still_slow.insert(record.number);
            }
            if is_slow != was_slow {
                crossings.push(Crossing {
                    record: record.clone(),
                    stats,
                    status: if is_slow {
                        SlowStatus::Slow
                    } else {
                        SlowStatus::Recovered
                    },
                });
            }
        }
        // A subscription that has ended is removed from the set, and is not reported as recovered.
        self.slow = still_slow;
        crossings
    }
}

/// Sleeps until that time, or until the bus begins to close or has finished closing.
fn sleep(core: &Core, until: Instant, progress: &mut Registration) {
    let engine = &core.engine;
    let closing = engine.is_closing();
    loop {
        if closing {
            engine.register_for_progress(progress, &thread_waker());
        }
        register_thread(&core.slow_waker);
        if engine.is_closing() != closing || engine.is_finished() || !park(Some(until)) {
            return;
        }
    }
}
