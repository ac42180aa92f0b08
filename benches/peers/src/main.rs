//! Runs the same work on fanout and on comparable libraries (peers), and compares the rates.
//!
//! # The work
//!
//! One or four publishers publish 64-byte events ([`tick::Tick`]: the publisher, a sequence number
//! and six words of payload). Each of 1 to 1,024 subscribers receives every event. No event may be
//! lost, and the capacity is 1,024 events per subscriber. There are three scenarios
//! ([`harness::Scenario`]), one for each kind of subscriber:
//!
//! - `--race threads`, the default: a subscriber is a thread that receives.
//! - `--race handlers`: a subscriber is a handler, which is a closure that is called for each
//!   event. fanout calls handlers on a pool of threads, disruptor on a thread per handler. Peers
//!   without handlers are measured with a thread per subscriber. In addition, crossbeam-channel,
//!   the most used of them, is measured with what a user would write by hand: a worker thread per
//!   core, each with a channel and an equal part of the handlers.
//! - `--race async`: a subscriber is a task on a tokio runtime with two workers. Publishers are
//!   threads here too, because every peer has a blocking send. One peer is also measured with tasks
//!   as publishers. Peers without an async interface are measured with a thread per subscriber.
//!
//! # What is measured
//!
//! The result is the number of deliveries per second: events times subscribers, divided by the wall
//! time from a start barrier until the last subscriber has received its last event. All threads and
//! tasks exist, and all receivers are waiting, before the clock starts. The setup, the end of the
//! stream and the cleanup are not part of the measured time.
//!
//! Short calibration runs find the number of events for each system, so that a run takes about
//! `--millis`. The number then stays the same in all rounds. The rounds of all systems are
//! interleaved (A B C, A B C, ...), so that changes in the load of the machine affect all systems
//! equally. A ratio is computed within each round, and the tables show the median of these ratios.
//! The best peer is the peer that was the fastest in a round, in any of its variants, also in those
//! that do less work than the others. `direct` and `crossbeam-per-worker` are bounds, not peers,
//! and have ratios of their own.
//!
//! # What is equal, and what is not
//!
//! The following is equal for all systems: the event, the code of the publisher up to the send, the
//! capacity per subscriber (with the exceptions below), a thread per publisher, and the check. In
//! each run, every subscriber checks for each event that it is the next event of its publisher and
//! that its payload is intact. For this it reads the whole payload. At the end it checks the number
//! of events, the number of events of each publisher, and a checksum of all payloads, and it checks
//! that the stream ends there. If a check fails, a system loses an event, or a run hangs, then the
//! program ends with a failure and prints no table.
//!
//! The following is not equal:
//!
//! - fanout matches a topic against patterns, gives each event an id and a time, and delivers the
//!   events to all subscribers in the same order. No peer has topics. In systems with one channel
//!   per subscriber (crossbeam-channel, flume, kanal, async-channel, `tokio-mpsc`), two subscribers
//!   may see the events of two publishers in different orders.
//! - fanout runs a dispatcher thread. (Separate rows show inline dispatch, which has none.) `bus`
//!   runs a thread that wakes receivers, and `bus-feed` runs another thread in addition.
//! - In fanout, disruptor and the two bounds, the subscriber gets a reference to the event. In all
//!   other systems it gets a copy of 64 bytes.
//! - The lanes of fanout and the channel of `bus-feed` hold events in addition to the 1,024 per
//!   subscriber.
//! - `bus` has a single sender. Four publishers share it behind a mutex (`bus`) or send to it
//!   through a channel (`bus-feed`).
//! - `tokio::sync::broadcast` loses events by design. In `tokio-credits`, a credit counter in this
//!   package makes it wait. In `tokio-room-for-all`, it has capacity for the whole run and never
//!   waits.
//! - disruptor spins, so it is measured only if each thread has a core of its own. There are ratios
//!   with it and without it. Its `batch_publish` is not used, because no other peer publishes in
//!   batches.
//!
//! In the scenario `handlers`:
//!
//! - `direct` has no queue and no threads. It is a loop over the handlers on the publishing thread
//!   (behind a mutex if there are four publishers). A slow handler delays the publishers and all
//!   other handlers, and no event is ever queued. It shows the minimum cost of fan-out on one
//!   thread, so it has a ratio of its own.
//! - `crossbeam-per-worker` has one queue per worker. All handlers of a worker share the capacity
//!   of 1,024 events, a slow handler delays the other handlers of its worker, and no handler can be
//!   added or removed. It is like `direct` on all cores and written by hand for this case, so it is
//!   a bound.
//! - fanout has a ring per handler, so a slow handler delays only its own events. Handlers move
//!   between the threads of the pool, a panic ends a call but not the thread, and the pool replaces
//!   a thread if a call on it takes too long.
//! - In fanout, `direct` and `crossbeam-per-worker`, the handlers are called through a box, so the
//!   compiler cannot inline them. fanout makes one such call per slot of the ring, for up to 64
//!   events. The other two make one for each event. In a thread that receives, and in the threads
//!   of disruptor, the type of the handler is known, so the compiler can inline it.
//!
//! In the scenario `async`:
//!
//! - The runtime has two workers on every machine. The dispatcher of fanout, the publishers, and
//!   the threads of the peers without an async interface run on other threads.
//! - In `tokio-mpsc-all-tasks` the publishers are tasks too, so a wake-up is seldom sent to another
//!   thread. They are spawned after the clock has started, because a task must not block at the
//!   start barrier.
//!
//! The following is not measured: futures-channel has no blocking send, and the capacity of its
//! bounded channel is larger than the requested one. In the scenarios `handlers` and `async`,
//! async-broadcast and `tokio-credits` are not measured with a thread per subscriber, because with
//! threads they are slower than the best peer at every size. With 1,024 threads, flume, bus and
//! `tokio-room-for-all` are not measured, because a thousand events can take minutes.
//!
//! # Latency
//!
//! With `--latency` (only in the scenario `threads`), a publisher sleeps about 200 microseconds
//! before each event, so that all subscribers are parked when the event arrives. A histogram
//! collects the times from just before publishing until the check in each subscriber.

mod fanout_side;
mod harness;
mod machine;
mod options;
mod peers;
mod report;
mod tick;

use std::collections::HashSet;
use std::iter;
use std::process::{self, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fanout_side::{FanoutHandlers, FanoutTasks, FanoutThreads};
use harness::{CAPACITY, Outcome, Scenario, System, Work};
use options::{HELP, Options};
use report::{Cell, Latency, Row};

/// The maximum duration of a run. The watchdog ends the program after it.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);

/// The minimum number of events in a run, so that the index of each ring wraps around a few times.
const MIN_EVENTS: u64 = 4 * CAPACITY as u64;

/// The minimum duration of a calibration run. The number of events grows until a run reaches it.
const MIN_CALIBRATION_TIME: Duration = Duration::from_millis(30);

/// The pause before each event if latency is measured.
const PAUSE: Duration = Duration::from_micros(200);

/// The number of events per run if latency is measured.
const LATENCY_EVENTS: u64 = 1_000;

/// The systems in the latency table.
const LATENCY_SYSTEMS: [&str; 4] = [
    "fanout",
    "fanout-inline",
    "crossbeam-channel",
    "tokio-credits",
];

/// The systems of a scenario, in the order of its table.
fn systems(scenario: Scenario) -> Vec<&'static dyn System> {
    let fanout: &[&'static dyn System] = match scenario {
        Scenario::Threads => &[
            &FanoutThreads::Recv,
            &FanoutThreads::Batches,
            &FanoutThreads::PublishBatch,
            &FanoutThreads::Inline,
        ],
        Scenario::Handlers => &[&FanoutHandlers::Pool, &FanoutHandlers::Inline],
        Scenario::Async => &[&FanoutTasks::Recv, &FanoutTasks::Batches],
    };
    [fanout, &peers::systems(scenario)].concat()
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => return exit_with_error(&error),
    };
    if options.help {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    // --list and --smoke apply to all scenarios if --race is not given.
    let scenarios = match options.scenario {
        None if options.list || options.smoke => Scenario::ALL.to_vec(),
        _ => vec![options.scenario()],
    };
    let selected = match select(&options, &scenarios) {
        Ok(selected) => selected,
        Err(error) => return exit_with_error(&error),
    };
    if options.list {
        list(&selected);
        return ExitCode::SUCCESS;
    }
    install_panic_hook();
    thread::spawn(watchdog);
    if options.smoke {
        smoke(&options, &selected);
        return ExitCode::SUCCESS;
    }
    let (scenario, systems) = &selected[0];
    measure_and_report(&options, *scenario, systems)
}

/// Measures a scenario and prints its tables.
fn measure_and_report(
    options: &Options,
    scenario: Scenario,
    systems: &[&'static dyn System],
) -> ExitCode {
    let (cells, latency) = if options.latency {
        (Vec::new(), measure_latency(options, systems))
    } else {
        (measure(options, scenario, systems), Vec::new())
    };
    print!("{}", report::preamble(scenario, systems, options.markdown));
    if options.latency {
        print!("{}", report::latency_table(&latency, options.markdown));
    } else {
        let text = report::tables(&cells, options.rounds, options.markdown);
        println!("{}", text.trim_end());
    }
    if let Some(path) = &options.json {
        let json = report::json(scenario, &cells, &latency, systems);
        if let Err(error) = std::fs::write(path, format!("{json:#}\n")) {
            return exit_with_error(&format!("{}: {error}", path.display()));
        }
    }
    ExitCode::SUCCESS
}

fn list(selected: &[Selected]) {
    for (number, (scenario, systems)) in selected.iter().enumerate() {
        if number > 0 {
            println!();
        }
        println!("--race {}: {}", scenario.name(), scenario.about());
        for system in systems {
            println!("  {:<25} {}", system.name(), system.about());
        }
    }
}

fn exit_with_error(error: &str) -> ExitCode {
    eprintln!("peers: {error} (see --help)");
    ExitCode::from(2)
}

/// A scenario, and the systems of it that are selected.
type Selected = (Scenario, Vec<&'static dyn System>);

/// Selects the systems to run by `--only` and `--without`.
fn select(options: &Options, scenarios: &[Scenario]) -> Result<Vec<Selected>, String> {
    for name in options.only.iter().chain(&options.without) {
        let mut all = scenarios.iter().flat_map(|scenario| systems(*scenario));
        if !all.any(|system| system.name() == name) {
            return Err(format!(
                "--only, --without: there is no system {name:?}; --list prints the names"
            ));
        }
    }
    let is_selected = |system: &&dyn System| {
        let name = system.name();
        if options.without.iter().any(|without| without == name) {
            false
        } else if !options.only.is_empty() {
            options.only.iter().any(|only| only == name)
        } else {
            !options.latency || options.smoke || LATENCY_SYSTEMS.contains(&name)
        }
    };
    Ok(scenarios
        .iter()
        .map(|scenario| {
            let systems = systems(*scenario).into_iter().filter(is_selected);
            (*scenario, systems.collect())
        })
        .collect())
}

/// Each number of publishers combined with each number of subscribers.
fn sizes(options: &Options, scenario: Scenario) -> impl Iterator<Item = (u32, usize)> {
    options.publishers.iter().flat_map(move |publishers| {
        options
            .subscribers(scenario)
            .iter()
            .map(|subscribers| (*publishers, *subscribers))
    })
}

/// The start time and the description of the current run, for the watchdog and the panic hook.
static RUNNING: Mutex<Option<(Instant, String)>> = Mutex::new(None);

/// Runs the work on a system while the watchdog limits the duration.
fn run(system: &dyn System, work: &Work) -> Outcome {
    let set = |run| *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = run;
    let description = format!(
        "{}, publishers {}, subscribers {}, events {}",
        system.name(),
        work.publishers,
        work.subscribers,
        work.events
    );
    set(Some((Instant::now(), description)));
    let outcome = system.run(work);
    set(None);
    outcome
}

/// Adds the description of the current run to the message of a panic. The panic of a failed check
/// ends the program, because the package is built with `panic = "abort"`.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let run = running
            .as_ref()
            .map_or("no run", |(_, description)| description);
        let thread = thread::current();
        let name = thread.name().unwrap_or("a thread without a name");
        eprintln!("FAILED: {run}: {name}: {info}");
    }));
}

/// Ends the program if a run takes longer than [`RUN_TIMEOUT`], and prints the run.
fn watchdog() {
    loop {
        thread::sleep(Duration::from_secs(1));
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((start, run)) = &*running
            && start.elapsed() > RUN_TIMEOUT
        {
            eprintln!(
                "FAILED: {run}: the run did not end within {} s",
                RUN_TIMEOUT.as_secs()
            );
            process::exit(1);
        }
    }
}

/// Runs each system briefly at each size, with all checks.
fn smoke(options: &Options, selected: &[Selected]) {
    let start = Instant::now();
    // A system that is in several scenarios runs only in the first of them.
    let mut done = HashSet::new();
    let mut runs = 0;
    for (scenario, systems) in selected {
        let is_new = |system: &&&dyn System| !done.contains(system.name());
        let systems: Vec<_> = systems.iter().filter(is_new).collect();
        for (publishers, subscribers) in sizes(options, *scenario) {
            // One run is at full speed, with more events than the capacity. If there are not many
            // subscribers, another run has pauses, so that the receivers park.
            let full_speed = (None, CAPACITY as u64 + 256);
            let with_pauses = (subscribers <= 16).then_some((Some(PAUSE), 20));
            for (pause, events) in iter::once(full_speed).chain(with_pauses) {
                let work = Work {
                    publishers,
                    subscribers,
                    events: events.next_multiple_of(u64::from(publishers)),
                    pause,
                };
                for system in &systems {
                    if system.exclusion(&work).is_none() {
                        run(**system, &work);
                        runs += 1;
                    }
                }
            }
        }
        done.extend(systems.iter().map(|system| system.name()));
    }
    println!(
        "{runs} runs of {} systems in {:.1} s: every subscriber received exactly the expected \
         events",
        done.len(),
        start.elapsed().as_secs_f64()
    );
}

/// Measures the rates of all systems at all sizes.
fn measure(options: &Options, scenario: Scenario, systems: &[&'static dyn System]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (publishers, subscribers) in sizes(options, scenario) {
        let mut work = Work {
            publishers,
            subscribers,
            events: 0,
            pause: None,
        };
        let mut rows: Vec<Row> = systems
            .iter()
            .map(|system| {
                let excluded = system.exclusion(&work);
                Row {
                    system: *system,
                    events: if excluded.is_none() {
                        calibrate(*system, &work, options.millis)
                    } else {
                        0
                    },
                    rates: Vec::new(),
                    excluded,
                }
            })
            .collect();
        for round in 1..=options.rounds {
            eprintln!(
                "publishers {publishers}, subscribers {subscribers}: round {round} of {}",
                options.rounds
            );
            for row in rows.iter_mut().filter(|row| row.excluded.is_none()) {
                work.events = row.events;
                row.rates.push(run(row.system, &work).rate());
            }
        }
        cells.push(Cell {
            publishers,
            subscribers,
            rows,
        });
    }
    cells
}

/// Finds the number of events for a run of about `millis` milliseconds.
fn calibrate(system: &dyn System, work: &Work, millis: u64) -> u64 {
    let round_up = |events: u64| events.next_multiple_of(u64::from(work.publishers));
    let max = system.max_events() / u64::from(work.publishers) * u64::from(work.publishers);
    let wanted = |seconds_per_event: f64| {
        let events = (millis as f64 / 1e3 / seconds_per_event) as u64;
        round_up(events.max(MIN_EVENTS)).min(max)
    };
    let time = |events: u64| {
        let outcome = run(
            system,
            &Work {
                events,
                ..work.clone()
            },
        );
        (
            outcome.elapsed,
            outcome.elapsed.as_secs_f64() / events as f64,
        )
    };
    let mut events = round_up(MIN_EVENTS);
    let first = loop {
        let (elapsed, per_event) = time(events);
        if elapsed >= MIN_CALIBRATION_TIME || events >= max {
            break per_event;
        }
        events = round_up(events * 4).min(max);
    };
    // The speed of some systems differs much from run to run. So the result is the geometric mean
    // of two estimates.
    let (_, second) = time(wanted(first));
    wanted((first * second).sqrt())
}

/// Measures the latencies of all systems at all sizes.
fn measure_latency(options: &Options, systems: &[&'static dyn System]) -> Vec<Latency> {
    let mut rows = Vec::new();
    for (publishers, subscribers) in sizes(options, Scenario::Threads) {
        let work = Work {
            publishers,
            subscribers,
            events: LATENCY_EVENTS.next_multiple_of(u64::from(publishers)),
            pause: Some(PAUSE),
        };
        let mut group: Vec<Latency> = systems
            .iter()
            .filter(|system| system.exclusion(&work).is_none())
            .map(|system| Latency {
                system: *system,
                publishers,
                subscribers,
                histogram: tick::latencies(),
            })
            .collect();
        for round in 1..=options.rounds {
            eprintln!(
                "latency, publishers {publishers}, subscribers {subscribers}: round {round} of {}",
                options.rounds
            );
            for row in &mut group {
                let outcome = run(row.system, &work);
                row.histogram
                    .add(&outcome.latencies)
                    .expect("all histograms have the same range");
            }
        }
        rows.append(&mut group);
    }
    rows
}
