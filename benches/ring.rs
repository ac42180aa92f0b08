//! The cost of pushing an event into a ring, and of popping one.
//!
//! The rings are private, so each is measured through the public call that does little else. With
//! manual dispatch and one thread, nothing but the timed call runs. Filling the rings is not timed.
//!
//! | measured | call | other work of the call |
//! | --- | --- | --- |
//! | `lane/own` | `Publisher::try_publish` | looks up the topic's envelope |
//! | `lane/shared` | `Bus::try_publish` | the same, in a thread-local table |
//! | `lane/drain` | `Bus::drive`, without subscribers | ids, blocks, one index look-up per topic and block |
//! | `ring/pop_*` | `try_recv` or `next_batch` | borrows the event, counts |
//!
//! `pop_lone` reads slots of one event each, the others read slots of 64 events.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanout::{Bus, Dispatch, Publisher, Subscriber, Topic};

/// Events per timed run, and the capacity of every ring.
const EVENTS: usize = 1024;

type Tick = [u64; 8];
const TICK: Tick = [7; 8];

fn bus() -> Bus<Tick> {
    Bus::builder()
        .dispatch(Dispatch::Manual)
        .dispatchers(1)
        .capacity(EVENTS)
        .lane_capacity(EVENTS)
        .build()
        .expect("in range")
}

fn topic() -> Topic {
    Topic::new("ticks.eurusd").expect("a topic")
}

fn fill(publisher: &mut Publisher<Tick>, topic: &Topic) {
    for _ in 0..EVENTS {
        publisher
            .try_publish(topic, black_box(TICK))
            .expect("the lane is empty");
    }
}

/// The total time of `timed` over `count` runs. Before each of them, `untimed` runs.
fn runs<S>(
    count: u64,
    state: &mut S,
    mut untimed: impl FnMut(&mut S),
    mut timed: impl FnMut(&mut S),
) -> Duration {
    let mut sum = Duration::ZERO;
    for _ in 0..count {
        untimed(state);
        let start = Instant::now();
        timed(state);
        sum += start.elapsed();
    }
    sum
}

fn lanes(c: &mut Criterion) {
    let mut group = c.benchmark_group("lane");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let topic = topic();

    group.bench_function("own", |b| {
        let bus = bus();
        let mut publisher = bus.publisher();
        b.iter_custom(|n| {
            let drain = |_: &mut Publisher<Tick>| _ = bus.drive();
            runs(n, &mut publisher, drain, |publisher| {
                fill(publisher, &topic)
            })
        });
    });

    group.bench_function("shared", |b| {
        let mut bus = bus();
        b.iter_custom(|n| {
            let drain = |bus: &mut Bus<Tick>| _ = bus.drive();
            runs(n, &mut bus, drain, |bus| {
                for _ in 0..EVENTS {
                    bus.try_publish(&topic, black_box(TICK))
                        .expect("the lane is empty");
                }
            })
        });
    });

    group.bench_function("drain", |b| {
        let bus = bus();
        let mut publisher = bus.publisher();
        b.iter_custom(|n| {
            let refill = |publisher: &mut Publisher<Tick>| fill(publisher, &topic);
            runs(n, &mut publisher, refill, |_| _ = bus.drive())
        });
    });
    group.finish();
}

fn rings(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let topic = topic();

    let full_blocks = |bus: &Bus<Tick>, publisher: &mut Publisher<Tick>| {
        fill(publisher, &topic);
        bus.drive();
    };
    let lone_events = |bus: &Bus<Tick>, publisher: &mut Publisher<Tick>| {
        for _ in 0..EVENTS {
            publisher
                .try_publish(&topic, black_box(TICK))
                .expect("the lane is empty");
            bus.drive();
        }
    };
    let one_by_one = |sub: &mut Subscriber<Tick>| {
        for _ in 0..EVENTS {
            black_box(sub.try_recv().expect("delivered").data()[0]);
        }
    };
    let in_batches = |sub: &mut Subscriber<Tick>| {
        let mut received = 0;
        while received < EVENTS {
            let batch = sub.next_batch().expect("delivered");
            for event in &batch {
                black_box(event.data()[0]);
            }
            received += batch.len();
        }
    };

    group.bench_function("pop_one_by_one", |b| {
        let bus = bus();
        let mut ends = (bus.publisher(), bus.subscribe("ticks.*").expect("open"));
        b.iter_custom(|n| {
            runs(
                n,
                &mut ends,
                |ends| full_blocks(&bus, &mut ends.0),
                |ends| one_by_one(&mut ends.1),
            )
        });
    });

    group.bench_function("pop_in_batches", |b| {
        let bus = bus();
        let mut ends = (bus.publisher(), bus.subscribe("ticks.*").expect("open"));
        b.iter_custom(|n| {
            runs(
                n,
                &mut ends,
                |ends| full_blocks(&bus, &mut ends.0),
                |ends| in_batches(&mut ends.1),
            )
        });
    });

    group.bench_function("pop_lone", |b| {
        let bus = bus();
        let mut ends = (bus.publisher(), bus.subscribe("ticks.*").expect("open"));
        b.iter_custom(|n| {
            runs(
                n,
                &mut ends,
                |ends| lone_events(&bus, &mut ends.0),
                |ends| one_by_one(&mut ends.1),
            )
        });
    });
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group!(name = ring; config = config(); targets = lanes, rings);
criterion_main!(ring);
