//! Telling when a subscriber falls behind, and when it has caught up.
//!
//! A slow_waker looks at the numbers of all subscriptions now and then. It never runs on a
//! publisher's or a dispatcher's thread, and the path does nothing for it: it is one more of those
//! who wait for progress, like a flush.
//!
//! | state | the slow_waker | ends with |
//! | --- | --- | --- |
//! | events flow | looks every [`PAUSE_MIN`] | a look that found nothing new |
//! | nothing is new, somebody is slow | looks ever more rarely, up to [`PAUSE_MAX`] apart: recovering is not announced | news, or a recovery |
//! | nothing is new, nobody is slow | registers for progress, looks once more, and sleeps | progress |
//! | the bus closes | goes on as above, and registers for progress in any case | the last role has finished; then a last look |
//!
//! Registering comes before the last look, so what that look does not see wakes the slow_waker.
//! Between two looks it rests for twenty times as long as the look took: with very many
//! subscriptions it sees less often, and costs no more than a twentieth of a processor.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Core;
use super::error::BuildError;
use super::record::Record;
use super::stats::SubscriptionStats;
use super::subscription::SubscriptionHandle;
use crate::contain::contain;
use crate::dispatch::feed::End;
use crate::park::{park, register_thread, thread_waker};
use crate::sync::{Arc, Ordering};

/// Between two looks, while events flow.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// Between two looks, while nothing happens and somebody is slow.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long the slow_waker rests after a look, as a multiple of what the look took.
const REST: u32 = 20;

/// When a subscriber counts as slow: its [`lag`](SubscriptionStats::lag) reaches a number of events
/// or a share of its capacity, or its [`lag_time`](SubscriptionStats::lag_time) a duration. Of
/// several limits, one is enough.
///
/// It has recovered when it is at half of each limit, or below: so a subscriber that hovers at the
/// limit is told of once. See [`BusBuilder::on_slow`](crate::BusBuilder::on_slow).
///
/// ```
/// use fanout::SlowLimit;
/// use std::time::Duration;
///
/// let limit = SlowLimit::percent(80).or_events(100_000).or_time(Duration::from_secs(5));
/// # let _ = limit;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlowLimit {
    percent: Option<u32>,
    events: Option<u64>,
    time: Option<Duration>,
}

impl SlowLimit {
    /// A lag of so many percent of the subscription's capacity, 1 to 100, and of at least one
    /// event.
    #[must_use]
    pub fn percent(percent: u32) -> Self {
        Self::default().or_percent(percent)
    }

    /// A lag of so many events, at least 1. It may be more than the capacity: losses that the
    /// subscriber has not been told of count.
    #[must_use]
    pub fn events(events: u64) -> Self {
        Self::default().or_events(events)
    }

    /// A lag of so much time, more than zero; measured on the stream, see
    /// [`lag_time`](SubscriptionStats::lag_time).
    #[must_use]
    pub fn time(time: Duration) -> Self {
        Self::default().or_time(time)
    }

    /// Also [`percent`](Self::percent).
    #[must_use]
    pub fn or_percent(mut self, percent: u32) -> Self {
        self.percent = Some(percent);
        self
    }

    /// Also [`events`](Self::events).
    #[must_use]
    pub fn or_events(mut self, events: u64) -> Self {
        self.events = Some(events);
        self
    }

    /// Also [`time`](Self::time).
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

/// Which way a subscriber crossed its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pace {
    /// It has reached the limit.
    Slow,
    /// It was slow, and is at half of the limit or below.
    Recovered,
}

/// What the callback of [`BusBuilder::on_slow`](crate::BusBuilder::on_slow) is told.
pub struct SlowNotice<T: Send + Sync + 'static> {
    subscription: SubscriptionHandle<T>,
    stats: SubscriptionStats,
    pace: Pace,
}

impl<T: Send + Sync + 'static> SlowNotice<T> {
    /// Whether it became slow or has recovered.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Which subscription: its number, patterns and labels; to cancel it, too. Keeping it does not
    /// keep the bus open.
    #[must_use]
    pub fn subscription(&self) -> &SubscriptionHandle<T> {
        &self.subscription
    }

    /// Its numbers as they were when it crossed the limit; [`subscription`](Self::subscription) has
    /// those of now.
    #[must_use]
    pub fn stats(&self) -> &SubscriptionStats {
        &self.stats
    }
}

impl<T: Send + Sync + 'static> std::fmt::Debug for SlowNotice<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlowNotice")
            .field("pace", &self.pace)
            .field("subscription", &self.subscription)
            .field("stats", &self.stats)
            .finish()
    }
}

/// What is called.
pub(super) type OnSlow<T> = Box<dyn FnMut(&SlowNotice<T>) + Send>;

/// Who looks.
pub(super) struct SlowMonitor<T: Send + Sync + 'static> {
    limit: SlowLimit,
    on_slow: OnSlow<T>,
    /// Numbers of the open subscriptions that are slow, as far as was told.
    slow: BTreeSet<u64>,
    /// Id of the event sequenced last, as of the last look.
    sequenced: u64,
    /// How long the last look took, without what the callback did.
    took: Duration,
}

/// A crossing that a look found.
struct Crossing {
    record: Arc<Record>,
    stats: SubscriptionStats,
    pace: Pace,
}

impl<T: Send + Sync + 'static> SlowMonitor<T> {
    pub(super) fn new(limit: SlowLimit, on_slow: OnSlow<T>) -> Self {
        Self {
            limit,
            on_slow,
            slow: BTreeSet::new(),
            sequenced: 0,
            took: Duration::ZERO,
        }
    }

    /// Looks at all open subscriptions, and tells. `true`: nothing was sequenced since the last
    /// look, and nobody is slow.
    pub(super) fn check(&mut self, core: &Arc<Core<T>>) -> bool {
        // Acquire, partner the sequencer.
        let sequenced = core.engine.shared.last_id.load(Ordering::Acquire);
        let moved = std::mem::replace(&mut self.sequenced, sequenced) != sequenced;
        let started = Instant::now();
        let crossings = self.crossings(core);
        self.took = started.elapsed();
        for Crossing {
            record,
            stats,
            pace,
        } in crossings
        {
            self.tell(&SlowNotice {
                subscription: SubscriptionHandle::new(core.clone(), record),
                stats,
                pace,
            });
        }
        !moved && self.slow.is_empty()
    }

    /// The life of the slow_waker's thread.
    pub(super) fn run(mut self, core: &Arc<Core<T>>) {
        let engine = &core.engine;
        let mut pause = PAUSE_MIN;
        let mut calm = false;
        loop {
            if calm {
                engine.register_for_progress(thread_waker());
            }
            register_thread(&core.slow_waker);
            let finished = engine.is_finished();
            let sequenced = self.sequenced;
            let still_calm = self.check(core);
            if finished {
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
                pause = pause.max(REST * self.took);
                rest(core, Instant::now() + pause);
            }
            calm = still_calm;
        }
    }

    /// Under the registry's lock, where nothing foreign runs.
    fn crossings(&mut self, core: &Arc<Core<T>>) -> Vec<Crossing> {
        let registry = core.registry.lock();
        let mut crossings = Vec::new();
        let mut still_slow = BTreeSet::new();
        // A bus that closes is looked at to the end: its subscribers may still catch up.
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
                    pace: if is_slow { Pace::Slow } else { Pace::Recovered },
                });
            }
        }
        // Who has ended is forgotten: it is neither slow nor recovered.
        self.slow = still_slow;
        crossings
    }

    fn tell(&mut self, notice: &SlowNotice<T>) {
        contain("the callback of on_slow", || (self.on_slow)(notice));
    }
}

/// Sleeps until then, or until the bus begins or ends its closing.
fn rest<T: Send + Sync + 'static>(core: &Core<T>, until: Instant) {
    let engine = &core.engine;
    let closing = engine.is_closing();
    loop {
        if closing {
            engine.register_for_progress(thread_waker());
        }
        register_thread(&core.slow_waker);
        if engine.is_closing() != closing || engine.is_finished() || !park(Some(until)) {
            return;
        }
    }
}
