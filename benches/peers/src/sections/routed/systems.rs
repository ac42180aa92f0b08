//! fanout, and the map of channels that a user would write by hand.

use std::collections::HashMap;
use std::sync::mpsc;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use fanout::{Bus, Overflow};

use super::work::{Expected, Work};
use crate::harness::CAPACITY;
use crate::machine;
use crate::tick::Tick;

/// A way to do the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// fanout, with the text of the topic for each event.
    FanoutTexts,
    /// fanout, with topics that were parsed before.
    FanoutTopics,
    /// A map of channels, with a thread for each subscription.
    MapThreadEach,
    /// A map of channels, with a thread for each core.
    MapPerWorker,
}

impl System {
    /// All ways, in the order of the table.
    pub const ALL: [Self; 4] = [
        Self::FanoutTexts,
        Self::FanoutTopics,
        Self::MapThreadEach,
        Self::MapPerWorker,
    ];

    /// The name in texts and in the JSON file.
    pub fn name(self) -> &'static str {
        match self {
            Self::FanoutTexts => "fanout-routed",
            Self::FanoutTopics => "fanout-routed-topics",
            Self::MapThreadEach => "map-thread-each",
            Self::MapPerWorker => "map-per-worker",
        }
    }

    /// The name in the table. It says which system is no peer.
    pub fn title(self) -> &'static str {
        match self {
            Self::MapPerWorker => "map-per-worker (bound)",
            _ => self.name(),
        }
    }

    /// A description for the report.
    pub fn about(self) -> &'static str {
        match self {
            Self::FanoutTexts => {
                "`Publisher::publish` with the text of the topic, handlers on the default pool, \
                 `Overflow::Block`"
            }
            Self::FanoutTopics => "as fanout-routed, but with `Topic`s that were parsed before",
            Self::MapThreadEach => {
                "a `RwLock<HashMap<String, Vec<Sender>>>` with a bounded crossbeam channel and a \
                 thread for each subscription. The patterns were resolved to topics before the \
                 start, so a topic that is new or a subscription that changes would cost much more"
            }
            Self::MapPerWorker => {
                "a bound, not a peer: the same map, but with one bounded channel and one thread \
                 per core. A message carries the handlers to call, so a slow handler delays all \
                 handlers of its thread"
            }
        }
    }

    /// Does the work, checks every delivery, and returns the time from the first event until the
    /// last handler has received its last event.
    pub fn run(self, work: &Work, events: u64) -> Duration {
        let (finished, checkers) = mpsc::channel();
        let handlers = work
            .expected(events)
            .into_iter()
            .map(|expected| Handler {
                checker: Checker::new(expected),
                finished: finished.clone(),
            })
            .collect();
        drop(finished);
        let start = match self {
            Self::FanoutTexts | Self::FanoutTopics => self.run_fanout(work, events, handlers),
            Self::MapThreadEach => run_thread_each(work, events, handlers),
            Self::MapPerWorker => run_per_worker(work, events, handlers),
        };
        // The iterator ends when all handlers have been dropped.
        let checkers: Vec<Checker> = checkers.iter().collect();
        assert_eq!(
            checkers.len(),
            work.subscriptions(),
            "subscriptions that ended"
        );
        let last = checkers.into_iter().filter_map(Checker::finish).max();
        last.map_or(Duration::ZERO, |last| last - start)
    }

    fn run_fanout(self, work: &Work, events: u64, handlers: Vec<Handler>) -> Instant {
        let bus = Bus::<Tick>::builder()
            .blocking(true)
            .capacity(CAPACITY)
            .build()
            .expect("the configuration is valid");
        for (pattern, mut handler) in work.patterns().iter().zip(handlers) {
            bus.subscription(pattern.as_str())
                .overflow(Overflow::Block)
                .handler(move |event| handler.call(event.data()))
                .expect("the pattern is valid")
                .detach();
        }
        let topics: Vec<_> = work
            .topics()
            .iter()
            .map(|text| bus.topic(text).expect("the topic is valid"))
            .collect();
        let mut publisher = bus.publisher();
        thread::sleep(PARK_TIME);
        let start = Instant::now();
        for event in 0..events {
            let topic = work.topic_of(event);
            let tick = Tick::new(0, event);
            let published = if self == Self::FanoutTopics {
                publisher.publish(&topics[topic], tick)
            } else {
                publisher.publish(work.topics()[topic].as_str(), tick)
            };
            published.expect("the bus is open");
        }
        bus.close();
        start
    }
}

/// The time before the start in which idle threads can park.
const PARK_TIME: Duration = Duration::from_millis(20);

fn run_thread_each(work: &Work, events: u64, handlers: Vec<Handler>) -> Instant {
    let mut senders = Vec::new();
    let mut threads = Vec::new();
    for mut handler in handlers {
        let (sender, receiver) = bounded(CAPACITY);
        senders.push(sender);
        threads.push(spawn(move || {
            while let Ok(tick) = receiver.recv() {
                handler.call(&tick);
            }
        }));
    }
    let map: Map<Sender<Tick>> = map(work, |matching| {
        matching
            .iter()
            .map(|subscription| senders[*subscription as usize].clone())
            .collect()
    });
    drop(senders);
    thread::sleep(PARK_TIME);
    let start = Instant::now();
    for event in 0..events {
        let topic = work.topics()[work.topic_of(event)].as_str();
        let tick = Tick::new(0, event);
        let map = map.read().unwrap_or_else(PoisonError::into_inner);
        for sender in map.get(topic).into_iter().flatten() {
            sender.send(tick).expect("no subscriber ends early");
        }
    }
    drop(map);
    join(threads);
    start
}

/// A channel of a worker, and the positions of the handlers in it that match a topic.
struct Route {
    worker: Sender<(Tick, Arc<[u32]>)>,
    handlers: Arc<[u32]>,
}

fn run_per_worker(work: &Work, events: u64, handlers: Vec<Handler>) -> Instant {
    let workers = machine::cores().min(handlers.len());
    let mut parts: Vec<Vec<Handler>> = Vec::new();
    parts.resize_with(workers, Vec::new);
    for (number, handler) in handlers.into_iter().enumerate() {
        parts[number % workers].push(handler);
    }
    let mut senders = Vec::new();
    let mut threads = Vec::new();
    for mut handlers in parts {
        let (sender, receiver) = bounded::<(Tick, Arc<[u32]>)>(CAPACITY);
        senders.push(sender);
        threads.push(spawn(move || {
            while let Ok((tick, matching)) = receiver.recv() {
                for handler in &*matching {
                    handlers[*handler as usize].call(&tick);
                }
            }
        }));
    }
    let map = map(work, |matching| {
        (0..workers)
            .filter_map(|worker| {
                let handlers: Arc<[u32]> = matching
                    .iter()
                    .filter(|number| **number as usize % workers == worker)
                    .map(|number| number / workers as u32)
                    .collect();
                (!handlers.is_empty()).then(|| Route {
                    worker: senders[worker].clone(),
                    handlers,
                })
            })
            .collect()
    });
    drop(senders);
    thread::sleep(PARK_TIME);
    let start = Instant::now();
    for event in 0..events {
        let topic = work.topics()[work.topic_of(event)].as_str();
        let tick = Tick::new(0, event);
        let map = map.read().unwrap_or_else(PoisonError::into_inner);
        for route in map.get(topic).into_iter().flatten() {
            let message = (tick, Arc::clone(&route.handlers));
            route.worker.send(message).expect("no worker ends early");
        }
    }
    drop(map);
    join(threads);
    start
}

/// What a user would write by hand: the subscribers of each topic.
type Map<V> = RwLock<HashMap<String, Vec<V>>>;

fn map<V>(work: &Work, routes: impl Fn(&[u32]) -> Vec<V>) -> Map<V> {
    let entries = work.topics().iter().enumerate();
    RwLock::new(
        entries
            .map(|(number, topic)| (topic.clone(), routes(work.matching(number))))
            .collect(),
    )
}

/// The size of the stack of a thread, in bytes.
const STACK_BYTES: usize = 256 * 1024;

fn spawn(body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(body)
        .expect("a thread can be started")
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("no thread panicked");
    }
}

/// The handler of a subscription. Its drop marks the end of the stream. It has cache lines of its
/// own, so that there is no false sharing between handlers.
#[repr(align(128))]
struct Handler {
    checker: Checker,
    finished: mpsc::Sender<Checker>,
}

impl Handler {
    #[inline]
    fn call(&mut self, tick: &Tick) {
        self.checker.accept(tick);
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // If there is no receiver any more, the run has already failed.
        let _ = self.finished.send(self.checker);
    }
}

/// Checks the events of a subscription: they arrive in order and intact, and at the end none is
/// missing, extra or another one.
#[derive(Clone, Copy)]
struct Checker {
    expected: Expected,
    received: Expected,
    /// The lowest sequence number that the next event may have.
    next: u64,
    finished: Option<Instant>,
}

impl Checker {
    fn new(expected: Expected) -> Self {
        Self {
            expected,
            received: Expected::default(),
            next: 0,
            finished: None,
        }
    }

    #[inline]
    fn accept(&mut self, tick: &Tick) {
        let sequence = tick.sequence();
        assert!(sequence >= self.next, "an event is out of order: {tick:?}");
        self.next = sequence + 1;
        let sum = tick.sum();
        assert_eq!(
            sum,
            Tick::expected_sum(0, sequence),
            "an event is damaged: {tick:?}"
        );
        self.received.sum = self.received.sum.wrapping_add(sum);
        self.received.events += 1;
        if self.received.events == self.expected.events {
            self.finished = Some(Instant::now());
        }
    }

    /// Checks the count and the checksum, and returns the time of the last event, if there was one.
    fn finish(self) -> Option<Instant> {
        assert_eq!(
            self.received, self.expected,
            "events received and expected by a subscription"
        );
        self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checker(events: &[u64]) -> Checker {
        Checker::new(Expected {
            events: events.len() as u64,
            sum: events.iter().fold(0, |sum, event| {
                sum.wrapping_add(Tick::expected_sum(0, *event))
            }),
        })
    }

    #[test]
    fn the_expected_events_are_accepted() {
        let mut checker = checker(&[1, 4]);
        checker.accept(&Tick::new(0, 1));
        checker.accept(&Tick::new(0, 4));
        assert!(checker.finish().is_some());
    }

    #[test]
    #[should_panic(expected = "out of order")]
    fn a_duplicate_is_detected() {
        let mut checker = checker(&[1, 4]);
        checker.accept(&Tick::new(0, 1));
        checker.accept(&Tick::new(0, 1));
    }

    #[test]
    #[should_panic(expected = "received and expected")]
    fn an_event_of_another_topic_is_detected() {
        let mut checker = checker(&[1, 4]);
        checker.accept(&Tick::new(0, 1));
        checker.accept(&Tick::new(0, 3));
        checker.finish();
    }

    #[test]
    #[should_panic(expected = "received and expected")]
    fn a_loss_is_detected() {
        let mut checker = checker(&[1, 4]);
        checker.accept(&Tick::new(0, 1));
        checker.finish();
    }
}
