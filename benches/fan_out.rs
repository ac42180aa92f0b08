//! The whole path on one thread: publish, dispatch, receive.
//!
//! Under manual dispatch no other thread runs and no thread is woken, so `deliveries` is the cost
//! of the path itself, in deliveries (events times subscribers) per second. `benches/peers`
//! measures the cost with threads, sleeping and waking. `lone_event` is a single event that one
//! thread publishes and receives under inline dispatch. `idle_publishers` is the same beside
//! publishers that are open, have published, and do not publish now: their number must not matter.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanout::{Bus, Dispatch, Overflow, Subscriber, Topic};

/// The number of events in a run.
const EVENTS: usize = 256;

type Tick = [u64; 8];
const TICK: Tick = [7; 8];

fn receive_all(sub: &mut Subscriber<Tick>) {
    let mut received = 0;
    while received < EVENTS {
        let batch = sub.next_batch().expect("nothing is lost");
        for event in &batch {
            black_box(event.data()[0]);
        }
        received += batch.len();
    }
}

fn deliveries(c: &mut Criterion) {
    let mut group = c.benchmark_group("deliveries");
    let topic = Topic::new("ticks.eurusd").expect("a topic");
    for (name, overflow) in [
        ("drop_newest", Overflow::DropNewest),
        ("block", Overflow::Block),
    ] {
        for subscribers in [1, 16, 64, 256] {
            let bus = Bus::<Tick>::builder()
                .dispatch(Dispatch::Manual)
                .dispatchers(1)
                .blocking(true)
                .overflow(overflow)
                .build()
                .expect("in range");
            let mut publisher = bus.publisher();
            let mut subs: Vec<_> = (0..subscribers)
                .map(|_| bus.subscribe("ticks.*").expect("open"))
                .collect();
            group.throughput(Throughput::Elements((EVENTS * subscribers) as u64));
            group.bench_function(BenchmarkId::new(name, subscribers), |b| {
                b.iter(|| {
                    for _ in 0..EVENTS {
                        publisher
                            .publish(&topic, black_box(TICK))
                            .expect("the lane has room");
                    }
                    bus.drive();
                    subs.iter_mut().for_each(receive_all);
                });
            });
        }
    }
    group.finish();
}

fn lone_event(c: &mut Criterion) {
    let mut group = c.benchmark_group("lone_event");
    let topic = Topic::new("ticks.eurusd").expect("a topic");
    group.throughput(Throughput::Elements(1));
    let mut measure = |id: BenchmarkId, idle: usize| {
        group.bench_function(id, |b| {
            let bus = Bus::<Tick>::builder()
                .dispatch(Dispatch::Inline)
                .dispatchers(1)
                .build()
                .expect("in range");
            let mut others: Vec<_> = (0..idle).map(|_| bus.publisher()).collect();
            for other in &mut others {
                other.publish("warm", TICK).expect("the lane has room");
            }
            let mut publisher = bus.publisher();
            let mut sub = bus.subscribe("ticks.*").expect("open");
            b.iter(|| {
                publisher
                    .publish(&topic, black_box(TICK))
                    .expect("the lane has room");
                black_box(sub.recv().expect("nothing is lost").data()[0])
            });
        });
    };
    measure(BenchmarkId::from_parameter("inline"), 0);
    for idle in [1_000, 10_000] {
        measure(BenchmarkId::new("idle_publishers", idle), idle);
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group!(name = fan_out; config = config(); targets = deliveries, lone_event);
criterion_main!(fan_out);
