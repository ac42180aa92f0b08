//! Handlers, compared with the lower bound of their cost: a loop that calls the same closures.
//!
//! * `direct` is that loop: the publishing thread calls boxed closures one after the other, without
//!   a queue.
//! * `drive` does the same on one thread through the bus, under manual dispatch: publishing,
//!   matching, a ring for each closure, and the turns of the pool.
//! * `pool` runs the dispatcher and the handlers on separate threads, as a program does.
//!
//! Each closure reads the event and adds it to its own sum. Rates are calls per second.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanout::{Bus, Dispatch, Overflow, Topic};

/// The number of events in a run.
const EVENTS: usize = 256;

/// The payload: 64 bytes.
type Tick = [u64; 8];
const TICK: Tick = [7; 8];

/// A handler of the direct loop.
type Closure = Box<dyn FnMut(&Tick)>;

/// The work of every closure.
#[inline(always)]
fn add(sum: &mut u64, tick: &Tick) {
    *sum = tick.iter().fold(*sum, |sum, word| sum.wrapping_add(*word));
    black_box(sum);
}

fn bus(dispatch: Dispatch, handlers: usize) -> Bus<Tick> {
    let bus = Bus::<Tick>::builder()
        .dispatch(dispatch)
        .dispatchers(1)
        .blocking(true)
        .overflow(Overflow::Block)
        .build()
        .expect("in range");
    for _ in 0..handlers {
        let mut sum = 0;
        bus.on("ticks.*", move |event| add(&mut sum, event.data()))
            .expect("open")
            .detach();
    }
    bus
}

fn handlers(c: &mut Criterion) {
    let mut group = c.benchmark_group("handlers");
    let topic = Topic::new("ticks.eurusd").expect("a topic");
    for handlers in [16, 64, 1_024] {
        group.throughput(Throughput::Elements((EVENTS * handlers) as u64));

        group.bench_function(BenchmarkId::new("direct", handlers), |b| {
            let mut closures: Vec<Closure> = (0..handlers)
                .map(|_| {
                    let mut sum = 0;
                    Box::new(move |tick: &Tick| add(&mut sum, tick)) as Closure
                })
                .collect();
            b.iter(|| {
                for _ in 0..EVENTS {
                    let tick = black_box(TICK);
                    for closure in &mut closures {
                        closure(&tick);
                    }
                }
            });
        });

        group.bench_function(BenchmarkId::new("drive", handlers), |b| {
            let bus = bus(Dispatch::Manual, handlers);
            let mut publisher = bus.publisher();
            b.iter(|| {
                for _ in 0..EVENTS {
                    publisher
                        .publish(&topic, black_box(TICK))
                        .expect("the lane has room");
                }
                while bus.drive() {}
            });
        });

        group.bench_function(BenchmarkId::new("pool", handlers), |b| {
            let bus = bus(Dispatch::Pool, handlers);
            let mut publisher = bus.publisher();
            b.iter(|| {
                for _ in 0..EVENTS {
                    publisher
                        .publish(&topic, black_box(TICK))
                        .expect("the bus is open");
                }
                assert!(bus.flush_within(Duration::from_secs(60)), "all is handled");
            });
        });
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group!(name = benches; config = config(); targets = handlers);
criterion_main!(benches);
