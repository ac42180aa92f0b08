//! The effect of one subscriber on the others, in paired runs: with and without this subscriber,
//! alternately, so that other load on the machine affects both. The result is the median of the
//! ratios of the pairs, with the lowest and the highest ratio.
//!
//! * `stalled`: 63 subscribers read all events. Does a 64th subscriber that has stopped reading
//!   change their throughput? This is measured for every policy except `Block`, which delays the
//!   others by design.
//! * `churn`: 10,000 subscribers. Do 10,000 subscriptions and cancellations per second change the
//!   throughput at full load, or the latency of a single event? On a machine with few cores, the
//!   thread that makes the changes takes processor time from all others, whatever it does. So the
//!   bus is compared with two buses without changes: one alone, and one beside *another* bus that
//!   has the changes.
//!
//! This does not use criterion, because criterion does not pair runs. Run `cargo bench --bench
//! pairs`. Without `--bench`, as under `cargo test`, each benchmark runs once and briefly.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fanout::{Bus, Dispatch, Overflow, Subscriber, Topic, TryRecvError};

type Tick = [u64; 8];
const TICK: Tick = [7; 8];
/// The number of subscriptions and cancellations together.
const CHANGES_PER_SECOND: u32 = 10_000;

/// The duration and the number of the runs.
struct Effort {
    pairs: usize,
    run: Duration,
    subscribers: u32,
    /// The smallest fraction of the changes of a run that was made in time.
    made: Cell<f64>,
}

fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let effort = if measured {
        Effort {
            pairs: 9,
            run: Duration::from_millis(700),
            subscribers: 10_000,
            made: Cell::new(1.0),
        }
    } else {
        Effort {
            pairs: 1,
            run: Duration::from_millis(20),
            subscribers: 100,
            made: Cell::new(1.0),
        }
    };
    for dispatch in [Dispatch::Manual, Dispatch::Pool] {
        for policy in [
            Overflow::DropNewest,
            Overflow::DropOldest,
            Overflow::Disconnect,
            Overflow::Conflate,
        ] {
            let name = format!("stalled {policy:?}, {dispatch:?}: throughput of the 63 others");
            pair(&effort, &name, |with| {
                throughput_of_others(&effort, dispatch, with.then_some(policy))
            });
        }
    }
    for hot in [false, true] {
        let place = if hot {
            "on one topic"
        } else {
            "on a topic each"
        };
        for (instead, against) in [
            (ChangingBus::Nowhere, "no changes"),
            (ChangingBus::Elsewhere, "changes of another bus"),
        ] {
            let name = format!("churn among {} {place}, to {against}", effort.subscribers);
            let churn = |with| if with { ChangingBus::Here } else { instead };
            pair(&effort, &format!("{name}: throughput"), |with| {
                churned(&effort, hot, churn(with), throughput)
            });
            for (percent, which) in [(50, "median"), (99, "99th percentile")] {
                let name = format!("{name}: speed of a lone event, {which}");
                pair(&effort, &name, |with| {
                    churned(&effort, hot, churn(with), |bus, run| {
                        1.0 / latency(bus, run, percent)
                    })
                });
            }
        }
    }
    println!("changes made in time, at least: {:.2}", effort.made.get());
}

/// Runs `without` and `with` alternately, and reports the ratio of `with` to `without`. More is
/// better.
fn pair(effort: &Effort, name: &str, mut run: impl FnMut(bool) -> f64) {
    let mut ratios: Vec<f64> = (0..effort.pairs)
        .map(|n| {
            // The order alternates.
            let first = run(n % 2 == 0);
            let second = run(n % 2 != 0);
            if n % 2 == 0 {
                first / second
            } else {
                second / first
            }
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "{name}: {:.3} ({:.3} to {:.3})",
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1]
    );
}

/// Events per second that all of the 63 subscribers received, without a loss.
fn throughput_of_others(effort: &Effort, dispatch: Dispatch, stalled: Option<Overflow>) -> f64 {
    let bus = bus(dispatch);
    let mut readers: Vec<_> = (0..63)
        .map(|_| {
            let builder = bus.subscription("ticks.*").overflow(Overflow::Block);
            builder.open().expect("open")
        })
        .collect();
    let idle = bus
        .subscription("ticks.*")
        .overflow(stalled.unwrap_or_default());
    let idle = idle.open().expect("open");
    if stalled.is_none() {
        idle.handle()
            .remove("ticks.*")
            .expect("it has that pattern");
    }
    let topic = Topic::new("ticks.eurusd").expect("a topic");
    // Fills the ring of the subscriber that stalls.
    let warm_up = 4 * idle.stats().capacity;
    let mut publisher = bus.publisher();
    let rate = match dispatch {
        Dispatch::Manual => {
            let mut round = || {
                for _ in 0..256 {
                    publisher.publish(&topic, black_box(TICK)).expect("room");
                }
                while bus.drive() {}
                readers.iter_mut().map(drain).max().expect("some")
            };
            for _ in 0..warm_up / 256 {
                round();
            }
            let start = Instant::now();
            let mut received = 0;
            while start.elapsed() < effort.run {
                received += round();
            }
            received as f64 / start.elapsed().as_secs_f64()
        }
        _ => {
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        publisher.publish(&topic, black_box(TICK)).expect("open");
                    }
                });
                let mut received = 0;
                while received < warm_up {
                    received += readers.iter_mut().map(drain).min().expect("some");
                }
                let start = Instant::now();
                received = 0;
                while start.elapsed() < effort.run {
                    received += readers.iter_mut().map(drain).sum::<usize>();
                }
                let rate = received as f64 / 63.0 / start.elapsed().as_secs_f64();
                stop.store(true, Ordering::Relaxed);
                readers.clear();
                rate
            })
        }
    };
    drop(idle);
    rate
}

fn bus(dispatch: Dispatch) -> Bus<Tick> {
    let builder = Bus::<Tick>::builder().dispatch(dispatch).dispatchers(1);
    builder.blocking(true).build().expect("in range")
}

/// Receives the available events.
fn drain(sub: &mut Subscriber<Tick>) -> usize {
    let mut received = 0;
    loop {
        match sub.try_next_batch() {
            Ok(batch) => {
                for event in &batch {
                    black_box(event.data()[0]);
                }
                received += batch.len();
            }
            Err(TryRecvError::Empty) => return received,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The bus on which subscriptions are opened and cancelled.
#[derive(Clone, Copy, PartialEq)]
enum ChangingBus {
    Nowhere,
    /// On another bus, with the same number of subscribers.
    Elsewhere,
    Here,
}

/// The result of `measure` for a bus with many subscribers, with 10,000 changes per second or
/// without changes.
fn churned(
    effort: &Effort,
    hot: bool,
    churn: ChangingBus,
    measure: impl FnOnce(&Bus<Tick>, Duration) -> f64,
) -> f64 {
    let measured = bus(Dispatch::Pool);
    let other = bus(Dispatch::Pool);
    let mut groups = [&measured, &other].map(|bus| Subscribers::new(bus, hot, effort.subscribers));
    let [here, elsewhere] = &mut groups;
    let changing = match churn {
        ChangingBus::Nowhere => None,
        ChangingBus::Elsewhere => Some(elsewhere),
        ChangingBus::Here => Some(here),
    };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let churner = changing.map(|group| scope.spawn(|| group.change_until(&stop)));
        let rate = measure(&measured, effort.run);
        stop.store(true, Ordering::Relaxed);
        if let Some(churner) = churner {
            let made = churner.join().expect("it does not panic");
            effort.made.set(effort.made.get().min(made));
        }
        rate
    })
}

/// Many subscribers of one bus, which read nothing.
struct Subscribers<'a> {
    bus: &'a Bus<Tick>,
    hot: bool,
    members: Vec<Subscriber<Tick>>,
}

impl<'a> Subscribers<'a> {
    fn new(bus: &'a Bus<Tick>, hot: bool, size: u32) -> Self {
        let members = (0..size).map(|n| join(bus, hot, n)).collect();
        Subscribers { bus, hot, members }
    }

    /// Cancels and opens subscriptions at the rate [`CHANGES_PER_SECOND`]. Returns the fraction of
    /// the changes that was made in time.
    fn change_until(&mut self, stop: &AtomicBool) -> f64 {
        let start = Instant::now();
        let mut done = 0;
        while !stop.load(Ordering::Relaxed) {
            if Duration::from_secs(1) / CHANGES_PER_SECOND * done > start.elapsed() {
                thread::sleep(Duration::from_micros(500));
                continue;
            }
            let place = done as usize / 2 % self.members.len();
            self.members[place] = join(self.bus, self.hot, place as u32);
            done += 2;
        }
        f64::from(done) / (start.elapsed().as_secs_f64() * f64::from(CHANGES_PER_SECOND))
    }
}

/// A subscriber of its own topic, or of one topic that all share.
fn join(bus: &Bus<Tick>, hot: bool, n: u32) -> Subscriber<Tick> {
    let room = if hot {
        "rooms.hot".to_owned()
    } else {
        format!("rooms.{n}")
    };
    bus.subscription(room).capacity(64).open().expect("open")
}

/// Events per second that a subscriber receives without a loss.
fn throughput(bus: &Bus<Tick>, run: Duration) -> f64 {
    let builder = bus.subscription("ticks.*").overflow(Overflow::Block);
    let mut sub = builder.open().expect("open");
    let topic = Topic::new("ticks.eurusd").expect("a topic");
    let mut publisher = bus.publisher();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                publisher.publish(&topic, black_box(TICK)).expect("open");
            }
        });
        let start = Instant::now();
        let mut received = 0;
        while start.elapsed() < run {
            received += sub.next_batch().expect("open").len();
        }
        let rate = received as f64 / start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        drop(sub);
        rate
    })
}

/// The given percentile of the time from `publish` to `recv`, in seconds.
fn latency(bus: &Bus<Tick>, run: Duration, percent: usize) -> f64 {
    let mut sub = bus.subscribe("ticks.*").expect("open");
    let topic = Topic::new("ticks.eurusd").expect("a topic");
    let begin = Instant::now();
    let mut took = Vec::new();
    while begin.elapsed() < run {
        let start = Instant::now();
        bus.publish(&topic, TICK).expect("open");
        sub.recv().expect("open");
        took.push(start.elapsed());
        thread::sleep(Duration::from_micros(200));
    }
    took.sort();
    took[(took.len() - 1) * percent / 100].as_secs_f64()
}
