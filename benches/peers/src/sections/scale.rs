//! How the cost grows with the number of subscriptions, topics, publishers and dispatchers. Only
//! fanout is measured here.

use std::hint::black_box;
use std::time::{Duration, Instant};

use fanout::{Bus, Dispatch, Publisher, Subscriber, Topic, TryRecvError};
use serde_json::json;

use super::{NewBudget, rounds_text};
use crate::effort::{Budget, Effort, Size};
use crate::fanout_side::{builder, bus, publish_each, receive_each, subscription};
use crate::harness::{CAPACITY, Outcome, Work, run_threads};
use crate::machine;
use crate::report::{Plot, Scale, Section, Series, Table, number};
use crate::run::watched;
use crate::statistics::median;
use crate::tick::{Tick, Ticks};

/// The numbers of subscriptions.
const SUBSCRIPTIONS: Points = Points {
    smoke: &[1, 1_000],
    quick: &[1, 1_000, 100_000],
    full: &[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000],
};
/// The numbers of topics.
const TOPICS: Points = Points {
    smoke: &[1, 1_000],
    quick: &[1, 1_000, 100_000],
    full: &[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000],
};
/// The numbers of open publishers, of which one is active.
const PUBLISHERS: Points = Points {
    smoke: &[1, 100],
    quick: &[1, 1_000, 10_000],
    full: &[1, 10, 100, 1_000, 10_000],
};
/// The numbers of dispatchers.
const DISPATCHERS: Points = Points {
    smoke: &[1, 2],
    quick: &[1, 2, 8],
    full: &[1, 2, 3, 4, 5, 6, 7, 8],
};

/// The points of a curve for each size of a measurement.
struct Points {
    smoke: &'static [usize],
    quick: &'static [usize],
    full: &'static [usize],
}

impl Points {
    fn of(&self, size: Size) -> &'static [usize] {
        size.pick(self.smoke, self.quick, self.full)
    }
}

/// The number of events between two calls of `drive`, which fill one block.
const EVENTS_PER_ROUND: usize = 64;
/// The number of subscriptions that receive events, or all of them if there are fewer.
const ACTIVE_MAX: usize = 256;
/// The number of events in each timed run of the curves of subscriptions and topics.
const EVENTS: usize = 100_000;
const SMOKE_EVENTS: usize = 2_000;
/// Below this number of subscriptions, the memory of the process is too coarse to measure them.
const MEMORY_MIN: usize = 10_000;

/// The number of subscribers beside many dispatchers, which share the subscriptions.
const SUBSCRIBERS_OF_DISPATCHERS: usize = 64;

/// The planned lone events per second beside idle publishers.
const LONE_EVENTS_PER_SECOND: u32 = 1_000;
/// The number of lone events in a run.
const LONE_EVENTS: u64 = 200;
const SMOKE_LONE_EVENTS: u64 = 10;

/// Measures the section.
pub fn measure(effort: Effort, budget: NewBudget<'_>) -> Section {
    let mut budget = budget(4);
    let mut section = Section {
        title: "Scale".to_owned(),
        about: vec![
            "The cost of fanout alone. The first two curves are processor work without threads: \
             with `Dispatch::Manual`, one thread publishes 64 events, dispatches them and receives \
             them. Each event matches exactly one subscription, and the thread checks that it \
             arrives there. The other two curves run on threads with the default dispatch, as the \
             section `threads` does."
                .to_owned(),
        ],
        ..Section::default()
    };
    let mut numbers = serde_json::Map::new();
    let mut add = |curve: Curve| {
        numbers.insert(curve.name.to_owned(), curve.numbers());
        section.plots.push(curve.plot());
        section.tables.push(curve.table());
    };
    budget.next_step();
    add(subscriptions(effort, &budget));
    budget.next_step();
    add(topics(effort, &budget));
    budget.next_step();
    add(publishers(effort, &budget));
    budget.next_step();
    add(dispatchers(effort, &budget));
    section.numbers = numbers.into();
    section
}

/// A curve: a table whose first column is the number that grows.
struct Curve {
    /// The number that grows.
    name: &'static str,
    title: &'static str,
    /// The columns. The first of them is drawn.
    columns: &'static [(&'static str, usize)],
    /// For each point: the number, and the values of the columns.
    points: Vec<(usize, Vec<Option<f64>>)>,
    rounds: Vec<usize>,
    y: Scale,
}

impl Curve {
    fn table(&self) -> Table {
        let mut header = vec![self.name.to_owned()];
        header.extend(self.columns.iter().map(|(name, _)| (*name).to_owned()));
        Table {
            title: format!(
                "{}, {}",
                self.title,
                rounds_text(self.rounds.iter().copied())
            ),
            header,
            rows: self
                .points
                .iter()
                .map(|(count, values)| {
                    let mut row = vec![count.to_string()];
                    row.extend(
                        values
                            .iter()
                            .zip(self.columns)
                            .map(|(value, (_, decimals))| number(*value, *decimals)),
                    );
                    row
                })
                .collect(),
        }
    }

    fn plot(&self) -> Plot {
        let (column, _) = self.columns[0];
        Plot {
            title: self.title.to_owned(),
            x_label: self.name.to_owned(),
            y_label: column.to_owned(),
            x: Scale::Log,
            y: self.y,
            series: vec![Series {
                name: "fanout".to_owned(),
                is_fanout: true,
                points: self
                    .points
                    .iter()
                    .filter_map(|(count, values)| Some((*count as f64, values[0]?)))
                    .collect(),
            }],
        }
    }

    fn numbers(&self) -> serde_json::Value {
        self.points
            .iter()
            .zip(&self.rounds)
            .map(|((count, values), rounds)| {
                let mut point = json!({ self.name: count, "rounds": rounds });
                for ((column, _), value) in self.columns.iter().zip(values) {
                    point[*column] = json!(value);
                }
                point
            })
            .collect()
    }
}

/// Repeats a measurement of one point as often as the effort and the budget allow.
fn repeat(effort: Effort, budget: &Budget, mut measure: impl FnMut() -> f64) -> Vec<f64> {
    let mut values = Vec::new();
    for round in 1..=effort.rounds {
        if round > 1 && budget.is_used_up() {
            break;
        }
        values.push(measure());
    }
    values
}

/// The curve of subscriptions. One bus grows from point to point, so that the growth of the memory
/// of the process is that of the subscriptions.
fn subscriptions(effort: Effort, budget: &Budget) -> Curve {
    let events = effort.size.pick(SMOKE_EVENTS, EVENTS, EVENTS);
    let mut bench = Bench::new();
    let mut subscribers: Vec<Subscriber<Tick>> = Vec::new();
    let (mut points, mut rounds) = (Vec::new(), Vec::new());
    for count in SUBSCRIPTIONS.of(effort.size) {
        eprintln!("scale: {count} subscriptions");
        watched(format!("scale, {count} subscriptions"), || {
            let before = (machine::resident_bytes(), subscribers.len());
            let start = Instant::now();
            for number in subscribers.len()..*count {
                let pattern = format!("s.{}.{number}.*", number % 1_000);
                subscribers.push(
                    subscription_on(&bench.bus, &pattern)
                        .open()
                        .expect("the pattern is valid"),
                );
            }
            let opened = count - before.1;
            let us_per_subscribe = start.elapsed().as_secs_f64() * 1e6 / opened as f64;
            let bytes = (opened >= MEMORY_MIN)
                .then(|| Some((machine::resident_bytes()? as f64, before.0? as f64)))
                .flatten()
                .map(|(after, before)| (after - before) / opened as f64);

            let active = ACTIVE_MAX.min(*count);
            let targets: Vec<(Topic, usize)> = (0..active)
                .map(|number| {
                    let number = number * count / active;
                    let topic = format!("s.{}.{number}.x", number % 1_000);
                    (bench.topic(&topic), number)
                })
                .collect();
            let values = repeat(effort, budget, || {
                bench.time(events, &mut subscribers, |publisher, event, tick| {
                    let (topic, subscriber) = &targets[event % targets.len()];
                    publisher
                        .try_publish(topic, tick)
                        .expect("the lane has room");
                    *subscriber
                })
            });
            rounds.push(values.len());
            points.push((
                *count,
                vec![Some(median(&values)), Some(us_per_subscribe), bytes],
            ));
        });
    }
    Curve {
        name: "subscriptions",
        title: "Time per event with one match, beside other subscriptions",
        columns: &[
            ("ns per event", 0),
            ("us per subscribe", 1),
            ("bytes per subscription", 0),
        ],
        points,
        rounds,
        y: Scale::Linear,
    }
}

/// The curve of topics. Each event has the text of the next topic, and one subscription receives
/// all of them.
fn topics(effort: Effort, budget: &Budget) -> Curve {
    let events = effort.size.pick(SMOKE_EVENTS, EVENTS, EVENTS);
    let (mut points, mut rounds) = (Vec::new(), Vec::new());
    for count in TOPICS.of(effort.size) {
        eprintln!("scale: {count} topics");
        watched(format!("scale, {count} topics"), || {
            let topics: Vec<String> = (0..*count)
                .map(|number| format!("t.{}.{number}", number % 1_000))
                .collect();
            let mut bench = Bench::new();
            let mut subscribers = vec![
                subscription_on(&bench.bus, "t.**")
                    .open()
                    .expect("the pattern is valid"),
            ];
            // Every topic occurs in every run.
            let values = repeat(effort, budget, || {
                bench.time(
                    events.max(*count),
                    &mut subscribers,
                    |publisher, event, tick| {
                        publisher
                            .try_publish(topics[event % topics.len()].as_str(), tick)
                            .expect("the lane has room");
                        0
                    },
                )
            });
            rounds.push(values.len());
            points.push((*count, vec![Some(median(&values))]));
        });
    }
    Curve {
        name: "topics",
        title: "Time per event with the text of one of many topics",
        columns: &[("ns per event", 0)],
        points,
        rounds,
        y: Scale::Linear,
    }
}

/// One thread that publishes, dispatches and receives.
struct Bench {
    bus: Bus<Tick>,
    publisher: Publisher<Tick>,
    /// The number of events so far, which is the sequence number of the next one.
    published: u64,
}

impl Bench {
    fn new() -> Self {
        let bus = Bus::builder()
            .dispatch(Dispatch::Manual)
            .capacity(CAPACITY)
            .build()
            .expect("the configuration is valid");
        Self {
            publisher: bus.publisher(),
            bus,
            published: 0,
        }
    }

    fn topic(&self, text: &str) -> Topic {
        self.bus.topic(text).expect("the topic is valid")
    }

    /// Publishes events, and receives each of them from the subscriber whose number `publish`
    /// returns. Returns the nanoseconds per event.
    fn time(
        &mut self,
        events: usize,
        subscribers: &mut [Subscriber<Tick>],
        publish: impl Fn(&mut Publisher<Tick>, usize, Tick) -> usize,
    ) -> f64 {
        let mut receiving = Vec::with_capacity(EVENTS_PER_ROUND);
        let start = Instant::now();
        for first in (0..events).step_by(EVENTS_PER_ROUND) {
            for event in first..events.min(first + EVENTS_PER_ROUND) {
                let tick = Tick::new(0, self.published);
                receiving.push((publish(&mut self.publisher, event, tick), self.published));
                self.published += 1;
            }
            self.bus.drive();
            for (subscriber, sequence) in receiving.drain(..) {
                let event = subscribers[subscriber]
                    .try_recv()
                    .expect("the event has been dispatched");
                assert_eq!(event.data().sequence(), sequence, "the order of the events");
                black_box(event.data().sum());
            }
        }
        let elapsed = start.elapsed();
        for subscriber in subscribers.iter_mut().take(ACTIVE_MAX) {
            let left = subscriber.try_recv().map(|event| *event.data());
            assert!(
                matches!(left, Err(TryRecvError::Empty)),
                "an event that should not be there: {left:?}"
            );
        }
        elapsed.as_nanos() as f64 / events as f64
    }
}

fn subscription_on(bus: &Bus<Tick>, pattern: &str) -> fanout::SubscriptionBuilder<Tick> {
    bus.subscription(pattern).capacity(CAPACITY)
}

/// The curve of publishers: one is active, and the others are idle after one event each.
fn publishers(effort: Effort, budget: &Budget) -> Curve {
    let lone = effort
        .size
        .pick(SMOKE_LONE_EVENTS, LONE_EVENTS, LONE_EVENTS);
    let measured = interleaved(
        PUBLISHERS.of(effort.size),
        effort,
        budget,
        "publishers",
        |count, events| {
            let stream = beside_idle_publishers(count, events, None);
            let lone = beside_idle_publishers(count, lone, Some(LONE_EVENTS_PER_SECOND));
            vec![
                stream.rate() / 1e6,
                lone.latencies.value_at_quantile(0.5) as f64 / 1e3,
            ]
        },
    );
    measured.curve(Curve {
        name: "publishers",
        title: "One active publisher and one reader, beside idle publishers",
        columns: &[
            ("million events per second", 2),
            ("p50 of a lone event, us", 1),
        ],
        points: Vec::new(),
        rounds: Vec::new(),
        y: Scale::Linear,
    })
}

fn beside_idle_publishers(count: usize, events: u64, arrivals: Option<u32>) -> Outcome {
    let work = Work {
        publishers: 1,
        subscribers: 1,
        events,
        arrivals,
    };
    let bus = bus(Dispatch::default());
    let subscriber = open(&bus);
    let topic = bus.topic("bench.tick").expect("the topic is valid");
    let idle_topic = bus.topic("idle").expect("the topic is valid");
    let idle: Vec<_> = (1..count)
        .map(|_| {
            let mut publisher = bus.publisher();
            publisher
                .publish(&idle_topic, Tick::default())
                .expect("the bus is open");
            publisher
        })
        .collect();
    assert!(bus.flush_within(FLUSH_LIMIT), "the bus did not flush");
    let mut publisher = bus.publisher();
    drop(bus);
    // The idle publishers keep the bus open until the active one is done.
    let publishing = move |ticks: Ticks| {
        publish_each(&mut publisher, &topic, ticks);
        drop(idle);
    };
    run_threads(&work, vec![publishing], receive_each(vec![subscriber]))
}

/// The time in which the events of idle publishers are dispatched before a run.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);

fn open(bus: &Bus<Tick>) -> Subscriber<Tick> {
    subscription(bus).open().expect("the subscription is valid")
}

/// The curve of dispatchers.
fn dispatchers(effort: Effort, budget: &Budget) -> Curve {
    let measured = interleaved(
        DISPATCHERS.of(effort.size),
        effort,
        budget,
        "dispatchers",
        |count, events| {
            let work = Work {
                publishers: 1,
                subscribers: SUBSCRIBERS_OF_DISPATCHERS,
                events,
                arrivals: None,
            };
            let bus = builder(Dispatch::Pool)
                .dispatchers(count)
                .build()
                .expect("the configuration is valid");
            let subscribers = (0..work.subscribers).map(|_| open(&bus)).collect();
            let topic = bus.topic("bench.tick").expect("the topic is valid");
            let mut publisher = bus.publisher();
            drop(bus);
            let publishing = move |ticks: Ticks| publish_each(&mut publisher, &topic, ticks);
            let outcome = run_threads(&work, vec![publishing], receive_each(subscribers));
            vec![outcome.rate() / 1e6]
        },
    );
    measured.curve(Curve {
        name: "dispatchers",
        title: "One publisher and 64 readers on threads, with a pool of dispatchers",
        columns: &[("million deliveries per second", 1)],
        points: Vec::new(),
        rounds: Vec::new(),
        y: Scale::Linear,
    })
}

/// The values of each point, for each round and column.
struct Measured(Vec<(usize, Vec<Vec<f64>>)>);

impl Measured {
    /// Fills the points of a curve with medians.
    fn curve(self, curve: Curve) -> Curve {
        let columns = curve.columns.len();
        Curve {
            rounds: self.0.iter().map(|(_, rounds)| rounds.len()).collect(),
            points: self
                .0
                .into_iter()
                .map(|(count, rounds)| {
                    let medians = (0..columns)
                        .map(|column| {
                            let values: Vec<f64> =
                                rounds.iter().map(|values| values[column]).collect();
                            Some(median(&values))
                        })
                        .collect();
                    (count, medians)
                })
                .collect(),
            ..curve
        }
    }
}

/// The assumed time per event, from which the number of events in a run follows, in nanoseconds.
const NS_PER_EVENT: u64 = 250;

/// Measures the points of a curve in interleaved rounds. `measure` gets the number of the point and
/// a number of events.
fn interleaved(
    points: &[usize],
    effort: Effort,
    budget: &Budget,
    name: &str,
    mut measure: impl FnMut(usize, u64) -> Vec<f64>,
) -> Measured {
    let usual = effort.millis * 1_000_000 / NS_PER_EVENT;
    let events = effort.size.pick(SMOKE_EVENTS as u64, usual, usual);
    let mut measured: Vec<(usize, Vec<Vec<f64>>)> =
        points.iter().map(|point| (*point, Vec::new())).collect();
    for round in 1..=effort.rounds {
        if round > 1 && budget.is_used_up() {
            break;
        }
        eprintln!("scale, {name}: round {round} of {}", effort.rounds);
        for (point, rounds) in &mut measured {
            rounds.push(watched(format!("scale, {point} {name}"), || {
                measure(*point, events)
            }));
        }
    }
    Measured(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_a_table_and_a_plot() {
        let measured = Measured(vec![
            (1, vec![vec![1.0, 5.0], vec![3.0, 7.0]]),
            (10, vec![vec![4.0, 9.0]]),
        ]);
        let curve = measured.curve(Curve {
            name: "publishers",
            title: "title",
            columns: &[("rate", 1), ("p50", 0)],
            points: Vec::new(),
            rounds: Vec::new(),
            y: Scale::Linear,
        });
        let table = curve.table();
        assert_eq!(table.header, ["publishers", "rate", "p50"]);
        assert_eq!(table.rows, [["1", "2.0", "6"], ["10", "4.0", "9"]]);
        assert!(table.title.contains("1 to 2 rounds"));
        assert_eq!(curve.plot().series[0].points, [(1.0, 2.0), (10.0, 4.0)]);
        assert_eq!(curve.numbers()[1]["p50"], 9.0);
    }

    #[test]
    fn every_event_arrives_at_its_subscription() {
        let mut bench = Bench::new();
        let mut subscribers: Vec<_> = (0..3)
            .map(|number| {
                subscription_on(&bench.bus, &format!("s.{number}"))
                    .open()
                    .unwrap()
            })
            .collect();
        bench.time(200, &mut subscribers, |publisher, event, tick| {
            publisher
                .try_publish(format!("s.{}", event % 3), tick)
                .unwrap();
            event % 3
        });
        assert_eq!(bench.published, 200);
    }
}
