//! The work whose instructions `.ci/instructions` counts with callgrind: one operation of each kind
//! in a loop, on one thread.
//!
//! Unlike a time, a number of instructions does not depend on the other programs of the machine. It
//! says nothing about waiting, caches and threads; `benches/peers` measures those. Under manual
//! dispatch no other thread runs, so each run executes the same instructions. (The hashes of topics
//! have a random key, so a look-up differs from run to run: see [`RUNS_RANDOM`].)
//!
//! `instructions NAME` does the work of one count: `callgrind` collects only inside of
//! [`collected_by_callgrind`]. Without a name, every work is done once, which checks that it can be
//! done. For each work, the program prints its name, the number of its operations, and the number
//! of runs whose mean is the count.

use std::hint::black_box;
use std::pin::pin;
use std::process::ExitCode;
use std::task::{Context, Poll, Waker};

use fanout::index::{MatchCache, Scratch};
use fanout::{Bus, Dispatch, Pattern, PatternIndex, Publisher, Subscriber, Topic};

/// The number of events in a round: less than the room of a ring and of a lane.
const EVENTS: usize = 256;

/// The number of rounds that are counted. As many rounds run before them, so that all memory that
/// is reused has been allocated.
const ROUNDS: usize = 16;

/// The number of subscribers or handlers where an event has many.
const MANY: usize = 64;

/// The number of topics that are looked up in an index.
const TOPICS: usize = 1_000;

/// The payload: 64 bytes.
type Tick = [u64; 8];
const TICK: Tick = [7; 8];

const TOPIC: &str = "ticks.eurusd";

/// The number of runs of a work that executes different instructions each time. The count of one
/// look-up without a cache differs by up to 1.7 % (20 runs, 2026-11-27), the mean by much less.
const RUNS_RANDOM: usize = 10;

/// The name of a count, the number of its runs, and the work, which returns the number of its
/// operations.
type Work = (&'static str, usize, fn() -> usize);

const WORKS: [Work; 13] = [
    ("publish", 1, publish),
    ("publish_batch", 1, publish_batch),
    ("publish_text", 1, publish_text),
    ("match_cached", 1, match_cached),
    ("match_cold", RUNS_RANDOM, match_cold),
    ("dispatch_1", 1, || dispatch(1)),
    ("dispatch_64", 1, || dispatch(MANY)),
    ("recv", 1, recv),
    ("try_recv", 1, try_recv),
    ("next_batch", 1, next_batch),
    ("recv_async", 1, recv_async),
    ("handle_1", 1, || handle(1)),
    ("handle_64", 1, || handle(MANY)),
];

fn main() -> ExitCode {
    // `cargo bench` and `cargo test` add flags.
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let mut done = 0;
    for (name, runs, work) in WORKS {
        if wanted.as_ref().is_none_or(|wanted| wanted == name) {
            println!("{name} {} {runs}", work());
            done += 1;
        }
    }
    match done {
        0 => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// Runs work whose instructions are counted: callgrind switches its collection on and off at the
/// entry and the exit of this function, which it finds by name.
#[inline(never)]
fn collected_by_callgrind<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// A bus under manual dispatch, with a publisher and a topic.
struct Manual {
    bus: Bus<Tick>,
    publisher: Publisher<Tick>,
    topic: Topic,
}

impl Manual {
    fn new() -> Manual {
        let bus = Bus::<Tick>::builder()
            .dispatch(Dispatch::Manual)
            .dispatchers(1)
            .build()
            .expect("the settings are in range");
        Manual {
            publisher: bus.publisher(),
            topic: bus.topic(TOPIC).expect("a topic"),
            bus,
        }
    }

    fn subscribers(&self, number: usize) -> Vec<Subscriber<Tick>> {
        let subscribe = |_| self.bus.subscribe("ticks.*").expect("a pattern");
        (0..number).map(subscribe).collect()
    }

    fn publish_all(&mut self) {
        for _ in 0..EVENTS {
            let published = self.publisher.publish(&self.topic, black_box(TICK));
            published.expect("the lane has room");
        }
    }

    fn drive(&self) {
        while self.bus.drive() {}
    }
}

/// Repeats a round. `round` is called with `true` if its work is to be counted.
fn repeat(mut round: impl FnMut(bool)) {
    for number in 0..2 * ROUNDS {
        round(number >= ROUNDS);
    }
}

/// Does the work, and counts its instructions if that is wanted.
fn counted_if<R>(is_counted: bool, work: impl FnOnce() -> R) -> R {
    if is_counted {
        collected_by_callgrind(work)
    } else {
        work()
    }
}

fn receive_all(subscriber: &mut Subscriber<Tick>) {
    let mut received = 0;
    while received < EVENTS {
        let batch = subscriber.next_batch().expect("nothing is lost");
        received += batch.len();
        black_box(&batch);
    }
}

/// Publishes with a parsed topic through a publisher of its own.
fn publish() -> usize {
    let mut manual = Manual::new();
    let mut subscribers = manual.subscribers(1);
    repeat(|is_counted| {
        counted_if(is_counted, || manual.publish_all());
        manual.drive();
        subscribers.iter_mut().for_each(receive_all);
    });
    ROUNDS * EVENTS
}

/// The same with one call for all events of a round.
fn publish_batch() -> usize {
    let mut manual = Manual::new();
    let mut subscribers = manual.subscribers(1);
    repeat(|is_counted| {
        counted_if(is_counted, || {
            let ticks = (0..EVENTS).map(|_| black_box(TICK));
            let published = manual.publisher.publish_batch(&manual.topic, ticks);
            published.expect("the lane has room");
        });
        manual.drive();
        subscribers.iter_mut().for_each(receive_all);
    });
    ROUNDS * EVENTS
}

/// Publishes through the bus, with a topic as text.
fn publish_text() -> usize {
    let manual = Manual::new();
    let mut subscribers = manual.subscribers(1);
    // A text within the program has another address in each build, and how libc compares and copies
    // a text depends on its distance to the end of the page.
    let topic = TOPIC.to_owned();
    repeat(|is_counted| {
        counted_if(is_counted, || {
            for _ in 0..EVENTS {
                let published = manual.bus.publish(black_box(&topic[..]), black_box(TICK));
                published.expect("the lane has room");
            }
        });
        manual.drive();
        subscribers.iter_mut().for_each(receive_all);
    });
    ROUNDS * EVENTS
}

/// Carries events from a lane to the rings, for each delivery. The topic is in the cache.
fn dispatch(subscribers: usize) -> usize {
    let mut manual = Manual::new();
    let mut subscribers = manual.subscribers(subscribers);
    repeat(|is_counted| {
        manual.publish_all();
        counted_if(is_counted, || manual.drive());
        subscribers.iter_mut().for_each(receive_all);
    });
    ROUNDS * EVENTS * subscribers.len()
}

/// Receives the events of a round, in a way of which each call returns one event.
fn receive(mut next: impl FnMut(&mut Subscriber<Tick>)) -> usize {
    let mut manual = Manual::new();
    let mut subscriber = manual.subscribers(1).remove(0);
    repeat(|is_counted| {
        manual.publish_all();
        manual.drive();
        counted_if(is_counted, || {
            for _ in 0..EVENTS {
                next(&mut subscriber);
            }
        });
    });
    ROUNDS * EVENTS
}

fn recv() -> usize {
    receive(|subscriber| {
        black_box(subscriber.recv().expect("nothing is lost").data()[0]);
    })
}

fn try_recv() -> usize {
    receive(|subscriber| {
        black_box(subscriber.try_recv().expect("an event waits").data()[0]);
    })
}

fn recv_async() -> usize {
    let mut context = Context::from_waker(Waker::noop());
    receive(move |subscriber| {
        let mut future = pin!(subscriber.recv_async());
        // The future yields now and then, so that other tasks make progress.
        loop {
            if let Poll::Ready(event) = future.as_mut().poll(&mut context) {
                black_box(event.expect("nothing is lost").data()[0]);
                return;
            }
        }
    })
}

/// Receives batches, and reads each event.
fn next_batch() -> usize {
    let mut manual = Manual::new();
    let mut subscriber = manual.subscribers(1).remove(0);
    repeat(|is_counted| {
        manual.publish_all();
        manual.drive();
        counted_if(is_counted, || {
            let mut received = 0;
            while received < EVENTS {
                let batch = subscriber.next_batch().expect("nothing is lost");
                for event in &batch {
                    black_box(event.data()[0]);
                }
                received += batch.len();
            }
        });
    });
    ROUNDS * EVENTS
}

/// Carries events to the rings of handlers, and calls the handlers, for each call.
fn handle(handlers: usize) -> usize {
    let mut manual = Manual::new();
    for _ in 0..handlers {
        let handler = manual.bus.on("ticks.*", |event| {
            black_box(event.data()[0]);
        });
        handler.expect("a pattern").detach();
    }
    repeat(|is_counted| {
        manual.publish_all();
        counted_if(is_counted, || manual.drive());
    });
    let stats = manual.bus.stats();
    assert_eq!(stats.received, (2 * ROUNDS * EVENTS * handlers) as u64);
    ROUNDS * EVENTS * handlers
}

/// The index, and the topics to look up in it: for each topic, patterns of eight shapes, of which
/// six match it.
///
/// Few topics share a text. So the places of texts in the tables of the index, which depend on a
/// random key, have little influence on the mean.
fn index() -> (PatternIndex<u32>, Vec<Topic>) {
    let mut index = PatternIndex::new();
    let mut topics = Vec::new();
    for n in 0..TOPICS {
        let [a, b, c, d] = [n % 50, n, n * 7 % TOPICS, n * 13 % TOPICS];
        let [a, b] = [format!("region{a}"), format!("account{b}")];
        let [c, d] = [format!("order{c}"), format!("event{d}")];
        let patterns = [
            format!("{a}.{b}.{c}.{d}"),
            format!("{a}.{b}.*.{d}"),
            format!("{a}.{b}.**"),
            format!("*.{b}.{c}.{d}"),
            format!("{a}.{b}.{c}*.{d}"),
            format!("{a}.{b}.{{{c},other}}.{d}"),
            format!("{a}.{b}.*"),
            format!("{a}.{b}.{d}"),
        ];
        for (kind, pattern) in patterns.iter().enumerate() {
            let pattern = Pattern::parse(pattern).expect("a pattern");
            assert!(index.insert(&pattern, (n * patterns.len() + kind) as u32));
        }
        topics.push(Topic::new(format!("{a}.{b}.{c}.{d}")).expect("a topic"));
    }
    (index, topics)
}

/// Looks up a topic that is in the cache.
fn match_cached() -> usize {
    let (index, topics) = index();
    let mut cache = MatchCache::new();
    repeat(|is_counted| {
        counted_if(is_counted, || {
            for topic in &topics[..EVENTS] {
                black_box(cache.lookup(&index, topic));
            }
        });
    });
    ROUNDS * EVENTS
}

/// Looks up a topic without a cache.
fn match_cold() -> usize {
    let (index, topics) = index();
    let (mut scratch, mut found) = (Scratch::default(), Vec::new());
    let mut look_up_all = || {
        for topic in &topics {
            found.clear();
            index.matches_with(topic, &mut scratch, &mut found);
            assert_eq!(black_box(&found).len(), 6);
        }
    };
    look_up_all();
    collected_by_callgrind(look_up_all);
    TOPICS
}
