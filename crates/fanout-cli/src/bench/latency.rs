//! The latency of lone events: from the planned time of publishing until a thread has the event.
//!
//! Events are published at a fixed rate, whether the events before have arrived or not ("open
//! loop"). If publishing is late, because it had to wait or because its thread did not run, the
//! delay is part of the latency: a program that had the event at that time would have waited, too.

use fanout::RecvError;
use std::thread;
use std::time::{Duration, Instant};

use super::case::BusSettings;
use super::measurement::Round;
use super::payload::{Checker, Payload};
use super::throughput::{Received, TOPIC, join, open_bus, spawn, subscription};
use crate::interrupt::Interrupt;
use crate::report::{self, Latency};

/// The time between the start of the subscriber and the first event, so that the subscriber sleeps.
const LEAD: Duration = Duration::from_millis(5);

/// A thread that sleeps wakes up too late, by up to about this time. So it waits actively for the
/// last part.
const ACTIVE_WAIT: Duration = Duration::from_micros(200);

/// Measures one round, in which `rate_per_s * duration` events are published, and at least one.
pub(crate) fn round<const WORDS: usize>(
    settings: BusSettings,
    rate_per_s: usize,
    duration: Duration,
    interrupt: &Interrupt,
) -> Result<Round, String> {
    debug_assert_eq!((settings.publishers, settings.subscribers), (1, 1));
    let bus = open_bus::<WORDS>(settings)?;
    let topic = bus.topic(TOPIC).map_err(|error| error.to_string())?;
    let mut publisher = bus.publisher();
    let opened = subscription(&bus, settings).open();
    let mut subscriber = opened.map_err(|error| error.to_string())?;
    let plan = Plan {
        started_at: Instant::now() + LEAD,
        rate_per_s: rate_per_s as u64,
    };
    let events = plan.events_in(duration);

    thread::scope(|scope| {
        // Dropped if a step fails, so that the thread ends.
        let bus = bus;
        let receiver = spawn(scope, "subscriber", move || {
            let mut checker = Checker::new(1);
            let mut latency = report::histogram();
            loop {
                match subscriber.recv() {
                    Ok(event) => {
                        let planned_at = plan.time_of(event.data().number());
                        let waited = Instant::now().saturating_duration_since(planned_at);
                        // Recording fails only for values that are larger than any possible time.
                        let _ =
                            latency.record(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX));
                        checker.accept(event.data());
                    }
                    Err(RecvError::Lost(_)) => {} // the statistics have it
                    Err(RecvError::Closed) => break,
                    Err(error) => return Err(error.to_string()),
                }
            }
            let received = Received {
                checker,
                stats: subscriber.stats(),
                ended_at: Instant::now(),
            };
            Ok((received, latency))
        })?;

        let is_alone =
            thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
        let mut published = 0;
        while published < events && !interrupt.is_stopped() {
            wait_until(plan.time_of(published), is_alone);
            publisher
                .publish(&topic, Payload::<WORDS>::new(0, published))
                .map_err(|error| error.to_string())?;
            published += 1;
        }
        drop((publisher, bus));
        let (received, latency) = join(receiver)?;
        let elapsed = received.ended_at.saturating_duration_since(plan.started_at);
        let mut round = Round::new(elapsed, published);
        (round.deliveries, round.lost) = received.check(0, settings, &[published])?;
        round.latency_ns = Latency::of(&latency);
        Ok(round)
    })
}

/// When each event is to be published.
#[derive(Debug, Clone, Copy)]
struct Plan {
    started_at: Instant,
    rate_per_s: u64,
}

impl Plan {
    /// The number of events in this time. At least one.
    fn events_in(self, duration: Duration) -> u64 {
        let events = duration.as_nanos() * u128::from(self.rate_per_s) / 1_000_000_000;
        u64::try_from(events).unwrap_or(u64::MAX).max(1)
    }

    /// The time of the event with this number, counted from 0.
    fn time_of(self, number: u64) -> Instant {
        // The bounds of rate and duration leave room: 6e8 events at most, times 1e9.
        self.started_at + Duration::from_nanos(number * 1_000_000_000 / self.rate_per_s)
    }
}

/// Waits until the given time. With a single processor, the subscriber may run meanwhile.
fn wait_until(time: Instant, is_alone: bool) {
    loop {
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(ACTIVE_WAIT) {
            Some(passive) => thread::sleep(passive),
            None if is_alone => thread::yield_now(),
            None => std::hint::spin_loop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::{DURATION_MAX, DURATION_MIN, RATE_PER_S_MAX};
    use super::*;

    #[test]
    fn events_are_planned_at_even_distances() {
        let started_at = Instant::now();
        let plan = Plan {
            started_at,
            rate_per_s: 3,
        };
        assert_eq!(plan.events_in(Duration::from_secs(2)), 6);
        assert_eq!(plan.time_of(0), started_at);
        assert_eq!(plan.time_of(3), started_at + Duration::from_secs(1));
        assert_eq!(plan.events_in(DURATION_MIN), 1, "at least one");
    }

    #[test]
    fn the_largest_plan_does_not_overflow() {
        let plan = Plan {
            started_at: Instant::now(),
            rate_per_s: RATE_PER_S_MAX as u64,
        };
        let events = plan.events_in(DURATION_MAX);
        assert_eq!(plan.time_of(events), plan.started_at + DURATION_MAX);
    }
}
