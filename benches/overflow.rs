//! The cost of the overflow policies, on one thread.
//!
//! Under manual dispatch no other thread runs and no thread is woken. `keeps_up` is the whole path,
//! with subscribers that read all events, in events per second. `stalled` is publishing and
//! dispatching to subscribers that have stopped reading, in events per second that are refused,
//! evicted or replaced.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanout::{Bus, Dispatch, Overflow, Subscriber, Topic};

/// The number of events in a run.
const EVENTS: usize = 1024;

/// Topics that are published in turns.
const TOPICS: usize = 1000;

/// The payload: 64 bytes.
type Tick = [u64; 8];
const TICK: Tick = [7; 8];

fn bus() -> Bus<Tick> {
    let builder = Bus::<Tick>::builder().dispatch(Dispatch::Manual);
    builder.dispatchers(1).build().expect("in range")
}

fn topics(many: usize) -> Vec<Topic> {
    let topic = |n| Topic::new(format!("ticks.{n}")).expect("a topic");
    (0..many).map(topic).collect()
}

fn receive_all(sub: &mut Subscriber<Tick>) {
    while let Ok(batch) = sub.try_next_batch() {
        for event in &batch {
            black_box(event.data()[0]);
        }
    }
}

fn keeps_up(c: &mut Criterion) {
    policies(c, "keeps_up", receive_all);
}

fn stalled(c: &mut Criterion) {
    policies(c, "stalled", |_| ());
}

fn policies(c: &mut Criterion, name: &str, read: impl Fn(&mut Subscriber<Tick>)) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (policy, overflow, many) in [
        ("drop_newest", Overflow::DropNewest, 1),
        ("drop_oldest", Overflow::DropOldest, 1),
        ("drop_newest_topics", Overflow::DropNewest, TOPICS),
        ("drop_oldest_topics", Overflow::DropOldest, TOPICS),
        ("conflate_topics", Overflow::Conflate, TOPICS),
        ("conflate_one_topic", Overflow::Conflate, 1),
    ] {
        let topics = topics(many);
        for subscribers in [1, 4] {
            let bus = bus();
            let mut publisher = bus.publisher();
            let open = || bus.subscription("ticks.*").overflow(overflow).open();
            let mut subs: Vec<_> = (0..subscribers).map(|_| open().expect("open")).collect();
            let mut turns = topics.iter().cycle();
            group.bench_function(BenchmarkId::new(policy, subscribers), |b| {
                b.iter(|| {
                    for topic in turns.by_ref().take(EVENTS) {
                        publisher.publish(topic, black_box(TICK)).expect("room");
                    }
                    while bus.drive() {}
                    subs.iter_mut().for_each(&read);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, keeps_up, stalled);
criterion_main!(benches);
