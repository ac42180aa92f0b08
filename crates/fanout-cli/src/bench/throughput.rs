//! Throughput: publishers that publish for the time of a round, as fast as they can, and
//! subscribers that are threads, async tasks or handlers. The round ends when all events have been
//! received.

use fanout::{
    Bus, Publisher, RecvError, Subscriber, SubscriptionBuilder, SubscriptionStats, Topic,
};
use std::io;
use std::sync::mpsc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::args::{PolicyChoice, Scenario};
use super::case::BusSettings;
use super::executor::run_all;
use super::measurement::Round;
use super::payload::{Checker, Payload};
use crate::interrupt::Interrupt;

/// The topic of all events, and the pattern of all subscriptions.
pub(crate) const TOPIC: &str = "bench.events";
pub(crate) const PATTERN: &str = "bench.*";

/// The number of events that a publisher publishes between two looks at the clock.
const EVENTS_PER_LOOK: u64 = 64;

/// The longest time that handlers may take for the events that are left when publishing has ended,
/// and to end. Longer means that the bus hangs.
const HANDLERS_LEFT_MAX: Duration = Duration::from_secs(60);

/// Measures one round.
pub(crate) fn round<const WORDS: usize>(
    scenario: Scenario,
    settings: BusSettings,
    duration: Duration,
    interrupt: &Interrupt,
) -> Result<Round, String> {
    let bus = open_bus::<WORDS>(settings)?;
    let publishing = Publishing {
        topic: bus.topic(TOPIC).map_err(|error| error.to_string())?,
        publishers: settings.publishers,
        duration,
        interrupt,
    };
    match scenario {
        Scenario::Handlers => with_handlers(bus, settings, &publishing),
        Scenario::Tasks => with_tasks(bus, settings, &publishing),
        Scenario::Batches => with_threads(bus, settings, &publishing, receive_batches),
        _ => with_threads(bus, settings, &publishing, receive_each),
    }
}

/// A bus with these settings.
pub(crate) fn open_bus<const WORDS: usize>(
    settings: BusSettings,
) -> Result<Bus<Payload<WORDS>>, String> {
    Bus::builder()
        .dispatch(settings.dispatch.mode())
        .blocking(settings.policy == PolicyChoice::Block)
        .build()
        .map_err(|error| format!("the bus cannot be started: {error}"))
}

/// A subscription to all events.
pub(crate) fn subscription<const WORDS: usize>(
    bus: &Bus<Payload<WORDS>>,
    settings: BusSettings,
) -> SubscriptionBuilder<Payload<WORDS>> {
    bus.subscription(PATTERN)
        .capacity(settings.capacity)
        .overflow(settings.policy.policy())
}

/// What a subscriber received.
pub(crate) struct Received {
    pub(crate) checker: Checker,
    pub(crate) stats: SubscriptionStats,
    /// When it had received everything.
    pub(crate) ended_at: Instant,
}

impl Received {
    /// Checks what was received, and returns the numbers of received and of lost events.
    pub(crate) fn check(
        self,
        subscriber: usize,
        settings: BusSettings,
        published: &[u64],
    ) -> Result<(u64, u64), String> {
        let missing = self.stats.lost + self.stats.superseded;
        let is_lossless = settings.policy == PolicyChoice::Block;
        let received = match missing {
            1.. if is_lossless => Err(format!("{missing} events were lost with policy block")),
            _ => self.checker.finish(published, missing),
        };
        match received {
            Ok(received) => Ok((received, missing)),
            Err(violation) => Err(format!("subscriber {subscriber}: {violation}")),
        }
    }
}

/// Starts a thread of a measurement.
pub(crate) fn spawn<'scope, R: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> R + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, R>, String> {
    let spawned = thread::Builder::new()
        .name(format!("bench-{name}"))
        .spawn_scoped(scope, work);
    spawned.map_err(|error: io::Error| format!("a thread cannot be started: {error}"))
}

/// Waits for a thread of a measurement.
pub(crate) fn join<R>(thread: ScopedJoinHandle<'_, Result<R, String>>) -> Result<R, String> {
    thread
        .join()
        .unwrap_or_else(|_| Err("a thread of the measurement panicked".to_owned()))
}

/// What the publishers of a round share.
struct Publishing<'a> {
    topic: Topic,
    publishers: usize,
    duration: Duration,
    interrupt: &'a Interrupt,
}

impl Publishing<'_> {
    /// Publishes until the time is over, with a thread for each publisher. Returns the number of
    /// events of each.
    fn publish_all<const WORDS: usize>(
        &self,
        bus: &Bus<Payload<WORDS>>,
        started_at: Instant,
    ) -> Result<Vec<u64>, String> {
        let deadline = started_at + self.duration;
        thread::scope(|scope| {
            let publishers: Vec<_> = (0..self.publishers)
                .map(|index| {
                    let publisher = bus.publisher();
                    spawn(scope, "publisher", move || {
                        self.publish_until(publisher, index, deadline)
                    })
                })
                .collect();
            publishers.into_iter().map(|each| join(each?)).collect()
        })
    }

    fn publish_until<const WORDS: usize>(
        &self,
        mut publisher: Publisher<Payload<WORDS>>,
        index: usize,
        deadline: Instant,
    ) -> Result<u64, String> {
        let mut number = 0;
        loop {
            for _ in 0..EVENTS_PER_LOOK {
                publisher
                    .publish(&self.topic, Payload::new(index, number))
                    .map_err(|error| error.to_string())?;
                number += 1;
            }
            if Instant::now() >= deadline || self.interrupt.is_stopped() {
                return Ok(number);
            }
        }
    }
}

/// Subscribers that are threads. `receive` receives until the bus is closed.
fn with_threads<const WORDS: usize>(
    bus: Bus<Payload<WORDS>>,
    settings: BusSettings,
    publishing: &Publishing<'_>,
    receive: fn(&mut Subscriber<Payload<WORDS>>, &mut Checker) -> RecvError,
) -> Result<Round, String> {
    thread::scope(|scope| {
        // Dropped if a step fails, so that the threads end.
        let bus = bus;
        let mut receivers = Vec::new();
        for _ in 0..settings.subscribers {
            let opened = subscription(&bus, settings).open();
            let mut subscriber = opened.map_err(|error| error.to_string())?;
            receivers.push(spawn(scope, "subscriber", move || {
                let mut checker = Checker::new(settings.publishers);
                match receive(&mut subscriber, &mut checker) {
                    RecvError::Closed => Ok(Received {
                        checker,
                        ended_at: Instant::now(),
                        stats: subscriber.stats(),
                    }),
                    error => Err(error.to_string()),
                }
            })?);
        }
        let started_at = Instant::now();
        let published = publishing.publish_all(&bus, started_at)?;
        drop(bus);
        let received = receivers.into_iter().map(join);
        let received = received.collect::<Result<Vec<_>, _>>()?;
        round_of(settings, started_at, &published, received)
    })
}

/// Receives one event at a time. Returns the error that ends the subscription.
fn receive_each<const WORDS: usize>(
    subscriber: &mut Subscriber<Payload<WORDS>>,
    checker: &mut Checker,
) -> RecvError {
    loop {
        match subscriber.recv() {
            Ok(event) => checker.accept(event.data()),
            Err(RecvError::Lost(_)) => {} // the statistics have it
            Err(error) => return error,
        }
    }
}

/// Receives batches. Returns the error that ends the subscription.
fn receive_batches<const WORDS: usize>(
    subscriber: &mut Subscriber<Payload<WORDS>>,
    checker: &mut Checker,
) -> RecvError {
    loop {
        match subscriber.next_batch() {
            Ok(batch) => batch.iter().for_each(|event| checker.accept(event.data())),
            Err(RecvError::Lost(_)) => {} // the statistics have it
            Err(error) => return error,
        }
    }
}

/// Subscribers that are async tasks, on one thread for each processor.
fn with_tasks<const WORDS: usize>(
    bus: Bus<Payload<WORDS>>,
    settings: BusSettings,
    publishing: &Publishing<'_>,
) -> Result<Round, String> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let mut shares: Vec<Vec<_>> = (0..processors.min(settings.subscribers))
        .map(|_| Vec::new())
        .collect();
    for index in 0..settings.subscribers {
        let opened = subscription(&bus, settings).open();
        let share = index % shares.len();
        shares[share].push(opened.map_err(|error| error.to_string())?);
    }
    thread::scope(|scope| {
        // Dropped if a step fails, so that the tasks end.
        let bus = bus;
        let mut executors = Vec::new();
        for subscribers in shares {
            executors.push(spawn(scope, "executor", move || {
                let task = |subscriber| receive_async(subscriber, settings.publishers);
                let tasks = subscribers.into_iter().map(task).collect();
                run_all(tasks).into_iter().collect::<Result<Vec<_>, _>>()
            })?);
        }
        let started_at = Instant::now();
        let published = publishing.publish_all(&bus, started_at)?;
        drop(bus);
        let received = executors.into_iter().map(join);
        let received = received.collect::<Result<Vec<_>, _>>()?;
        let received = received.into_iter().flatten().collect();
        round_of(settings, started_at, &published, received)
    })
}

/// Receives one event at a time until the bus is closed.
async fn receive_async<const WORDS: usize>(
    mut subscriber: Subscriber<Payload<WORDS>>,
    publishers: usize,
) -> Result<Received, String> {
    let mut checker = Checker::new(publishers);
    loop {
        match subscriber.recv_async().await {
            Ok(event) => checker.accept(event.data()),
            Err(RecvError::Lost(_)) => {} // the statistics have it
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(Received {
        checker,
        ended_at: Instant::now(),
        stats: subscriber.stats(),
    })
}

/// Subscribers that are handlers.
fn with_handlers<const WORDS: usize>(
    bus: Bus<Payload<WORDS>>,
    settings: BusSettings,
    publishing: &Publishing<'_>,
) -> Result<Round, String> {
    let mut handlers = Vec::new();
    for _ in 0..settings.subscribers {
        let (sender, result) = mpsc::channel();
        let mut sent = SentAtEnd {
            checker: Some(Checker::new(settings.publishers)),
            sender,
        };
        let handler = subscription(&bus, settings).handler(move |event| sent.accept(event.data()));
        handlers.push((handler.map_err(|error| error.to_string())?, result));
    }
    let started_at = Instant::now();
    let published = publishing.publish_all(&bus, started_at)?;
    if !bus.flush_within(HANDLERS_LEFT_MAX) {
        return Err("the handlers do not end".to_owned());
    }
    let ended_at = Instant::now();
    let mut received = Vec::new();
    for (guard, result) in handlers {
        let stats = guard.stats();
        guard.cancel();
        let checker = result
            .recv_timeout(HANDLERS_LEFT_MAX)
            .map_err(|_| "a handler does not end".to_owned())?;
        received.push(Received {
            checker,
            stats,
            ended_at,
        });
    }
    round_of(settings, started_at, &published, received)
}

/// The checker of a handler, which leaves the handler when the bus drops it. So no lock is needed
/// for each event.
struct SentAtEnd {
    /// `None` after the end.
    checker: Option<Checker>,
    sender: mpsc::Sender<Checker>,
}

impl SentAtEnd {
    #[inline]
    fn accept<const WORDS: usize>(&mut self, payload: &Payload<WORDS>) {
        if let Some(checker) = &mut self.checker {
            checker.accept(payload);
        }
    }
}

impl Drop for SentAtEnd {
    fn drop(&mut self) {
        if let Some(checker) = self.checker.take() {
            // No receiver: the measurement has failed.
            let _ = self.sender.send(checker);
        }
    }
}

/// Checks what every subscriber received, and adds it up.
fn round_of(
    settings: BusSettings,
    started_at: Instant,
    published: &[u64],
    received: Vec<Received>,
) -> Result<Round, String> {
    let ended_at = received.iter().map(|each| each.ended_at).max();
    let elapsed = ended_at.map_or(Duration::ZERO, |end| {
        end.saturating_duration_since(started_at)
    });
    let mut round = Round::new(elapsed, published.iter().sum());
    for (index, each) in received.into_iter().enumerate() {
        let (received, lost) = each.check(index, settings, published)?;
        round.deliveries += received;
        round.lost += lost;
    }
    Ok(round)
}

#[cfg(test)]
mod tests {
    use super::super::args::DispatchChoice;
    use super::*;

    /// Events 0 and 2 of three, of which the subscription has lost some.
    fn checked(policy: PolicyChoice, lost: u64, superseded: u64) -> Result<(u64, u64), String> {
        let settings = BusSettings {
            subscribers: 1,
            publishers: 1,
            payload_bytes: 16,
            capacity: 1,
            policy,
            dispatch: DispatchChoice::Pool,
        };
        let mut checker = Checker::new(1);
        for number in [0, 2] {
            checker.accept(&Payload::<2>::new(0, number));
        }
        let mut stats = SubscriptionStats::default();
        (stats.lost, stats.superseded) = (lost, superseded);
        let received = Received {
            checker,
            stats,
            ended_at: Instant::now(),
        };
        received.check(5, settings, &[3])
    }

    #[test]
    fn losses_are_right_only_if_the_policy_allows_them_and_they_are_reported() {
        assert_eq!(checked(PolicyChoice::DropNewest, 1, 0), Ok((2, 1)));
        assert_eq!(checked(PolicyChoice::Conflate, 0, 1), Ok((2, 1)));
        for (policy, lost, message) in [
            (
                PolicyChoice::Block,
                1,
                "1 events were lost with policy block",
            ),
            (
                PolicyChoice::Block,
                0,
                "1 events did not arrive, and 0 were reported as lost or replaced",
            ),
            (
                PolicyChoice::DropOldest,
                2,
                "1 events did not arrive, and 2 were reported as lost or replaced",
            ),
        ] {
            let error = checked(policy, lost, 0).expect_err(message);
            assert_eq!(error, format!("subscriber 5: {message}"));
        }
    }
}
