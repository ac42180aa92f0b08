//! The same work on fanout and on its rivals, side by side.
//!
//! # The work
//!
//! One or four publishing threads publish 64-byte events ([`tick::Tick`]: publisher, sequence
//! number, six words of payload); 1 to 1,024 subscribers each receive all of them. Nothing may be
//! lost, and each subscriber has room for 1,024 events. What a subscriber is makes three races:
//!
//! - `--race threads`, the default: a thread that receives.
//! - `--race handlers`: a closure that is called. fanout has a pool of threads for that, disruptor
//!   a thread per closure. Peers that call nobody take part with a thread per subscriber, and with
//!   what one would write by hand on top of the most used of them: a worker thread per core with a
//!   channel and a part of the closures.
//! - `--race async`: a task on a tokio runtime with two workers. Publishers are threads all the
//!   same; every peer has a blocking send for that. One peer is shown with tasks as publishers,
//!   too. Peers that know no tasks take part with a thread per subscriber.
//!
//! # What is measured
//!
//! Deliveries per second: events times subscribers, by the wall time from a start barrier until the
//! last subscriber has everything. All threads and tasks exist and all receivers are waiting before
//! the clock starts; setting up, the end of the stream and clearing up are outside of it.
//!
//! How many events a run has is found per system by short warm runs, so that a run takes about
//! `--millis`; then it stays fixed. Rounds are interleaved (A B C, A B C, ..), so that the drift of
//! a busy machine hits all alike, and ratios are formed within a round before their median is
//! taken. The best peer is whichever was the fastest in that round, the rows that do less than the
//! others included, however it receives; `direct` and `crossbeam-per-worker` are no peers, but
//! bounds with ratios of their own.
//!
//! # Rules of honesty
//!
//! What is equal for all: the event, its publisher's code up to the send, the room per subscriber,
//! a thread per publisher, and the check. In each run every subscriber checks of every event that
//! it is the next of its publisher and that its payload is intact (the payload is read, not only
//! moved), and at the end the count, the count per publisher, a checksum over all payload, and that
//! the stream ends there. A check that fails, a system that loses an event, and a run that hangs
//! end the program with a failure: there is no table of a wrong result.
//!
//! What is not equal:
//!
//! - fanout looks up a topic among patterns, gives each event an id and a time, and has one order
//!   for all subscribers. No peer has topics. With one channel per subscriber (crossbeam-channel,
//!   flume, kanal, async-channel, `tokio-mpsc`) two subscribers may see two publishers' events in
//!   different orders.
//! - fanout runs a dispatcher thread (rows of their own show inline dispatch, without it);
//!   `bus` runs a thread that wakes receivers, `bus-feed` one more.
//! - fanout, disruptor and the two below lend the event to the receiver, all others hand over a
//!   copy of 64 bytes.
//! - fanout's lanes and `bus-feed`'s channel are room in addition to the 1,024 per subscriber.
//! - `bus` has a single sender: four publishers share it behind a mutex (`bus`) or feed it through
//!   a channel (`bus-feed`).
//! - `tokio::sync::broadcast` loses events by design: a credit counter of ours makes it wait
//!   (`tokio-credits`), or it has room for the whole run and never waits (`tokio-room-for-all`).
//! - disruptor spins: it takes part only where each thread has a core, and shows what that buys.
//!   Ratios are given with and without it. `batch_publish` is not used, as nobody else batches.
//!
//! Of the closures:
//!
//! - `direct` has no queue and no threads: a loop over the closures on the publishing thread
//!   (behind a mutex where there are four). A slow closure holds up everybody, and no event ever
//!   waits. It is what fan-out costs at least on one thread, so it has a ratio of its own.
//! - `crossbeam-per-worker` has one queue per worker: the room of 1,024 events is that of all its
//!   closures together, a slow closure holds up those of the same worker, and none can be added or
//!   taken away. It is `direct` on all cores, written by hand for the case, so it counts as a
//!   bound.
//! - fanout keeps a ring per closure, so that only its own events wait for a slow one; closures
//!   move between the threads of the pool, a panic ends a call and not a thread, and a call that
//!   takes too long has its thread replaced.
//! - Where closures are called through a box, the caller does not know their type (fanout: one such
//!   call per slot of the ring, up to 64 events; `direct`, `crossbeam-per-worker`: one per event).
//!   A thread that receives, and disruptor's, knows what it does.
//!
//! Of the tasks:
//!
//! - The runtime has two workers, whatever the machine. fanout's dispatcher, the publishers, and
//!   the threads of the peers that have no tasks, are beside them.
//! - In `tokio-mpsc-all-tasks` publishers are tasks as well, so a wake-up seldom leaves the thread;
//!   they start when the clock does, as a task must not wait at a barrier.
//!
//! Who is left out: futures-channel has no blocking send, and its bounded channel more room than it
//! was asked for. In the races of closures and tasks, async-broadcast and `tokio-credits` do not
//! run with a thread per subscriber: with threads they are slower than the best peer at every size.
//! With 1,024 threads, flume, bus and `tokio-room-for-all` take up to minutes for a thousand
//! events, and do not take part.
//!
//! # Latency
//!
//! With `--latency` (threads alone) one publisher sleeps about 200 microseconds before each event,
//! so that all subscribers are parked when it comes; the time from just before publishing to the
//! check in each subscriber goes into a histogram.

mod fanout_side;
mod machine;
mod options;
mod peers;
mod race;
mod report;
mod tick;

use std::collections::HashSet;
use std::iter;
use std::process::{self, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fanout_side::{Called, Fanout, Tasks};
use options::{HELP, Options};
use race::{CAPACITY, Outcome, Race, System, Work};
use report::{Cell, Latency, Row};

/// A run that takes longer than this hangs.
const HANGS: Duration = Duration::from_secs(120);

/// No run has fewer events: the rings shall go round a few times.
const FEWEST_EVENTS: u64 = 4 * CAPACITY as u64;

/// Warm runs grow until they take this long.
const LONG_ENOUGH: Duration = Duration::from_millis(30);

/// The pause between events where latency is measured.
const PAUSE: Duration = Duration::from_micros(200);

/// Events per run where latency is measured.
const LATENCY_EVENTS: u64 = 1_000;

/// The systems of the latency table.
const LATENCY_SYSTEMS: [&str; 4] = [
    "fanout",
    "fanout-inline",
    "crossbeam-channel",
    "tokio-credits",
];

/// fanout and its peers, in the order of the tables.
fn systems(race: Race) -> Vec<&'static dyn System> {
    let fanout: &[&'static dyn System] = match race {
        Race::Threads => &[
            &Fanout::Recv,
            &Fanout::Batches,
            &Fanout::BatchesPublished,
            &Fanout::Inline,
        ],
        Race::Handlers => &[&Called::Pool, &Called::Inline],
        Race::Async => &[&Tasks::Recv, &Tasks::Batches],
    };
    [fanout, &peers::of(race)].concat()
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => return refuse(&error),
    };
    if options.help {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    // What measures nothing does so for all races, unless one is named.
    let races = match options.race {
        None if options.list || options.smoke => Race::ALL.to_vec(),
        _ => vec![options.race()],
    };
    let selected = match select(&options, &races) {
        Ok(selected) => selected,
        Err(error) => return refuse(&error),
    };
    if options.list {
        list(&selected);
        return ExitCode::SUCCESS;
    }
    name_failures();
    thread::spawn(watch);
    if options.smoke {
        smoke(&options, &selected);
        return ExitCode::SUCCESS;
    }
    let (race, systems) = &selected[0];
    report(&options, *race, systems)
}

/// Measures a race and prints its table.
fn report(options: &Options, race: Race, systems: &[&'static dyn System]) -> ExitCode {
    let (cells, latency) = if options.latency {
        (Vec::new(), measure_latency(options, systems))
    } else {
        (measure(options, race, systems), Vec::new())
    };
    print!("{}", report::preamble(race, systems, options.markdown));
    if options.latency {
        print!("{}", report::latency_table(&latency, options.markdown));
    } else {
        let text = report::tables(&cells, options.rounds, options.markdown);
        println!("{}", text.trim_end());
    }
    if let Some(path) = &options.json {
        let json = report::json(race, &cells, &latency, systems);
        if let Err(error) = std::fs::write(path, format!("{json:#}\n")) {
            return refuse(&format!("{}: {error}", path.display()));
        }
    }
    ExitCode::SUCCESS
}

fn list(selected: &[Selected]) {
    for (number, (race, systems)) in selected.iter().enumerate() {
        if number > 0 {
            println!();
        }
        println!("--race {}: {}", race.name(), race.about());
        for system in systems {
            println!("  {:<25} {}", system.name(), system.about());
        }
    }
}

fn refuse(error: &str) -> ExitCode {
    eprintln!("peers: {error} (--help says more)");
    ExitCode::from(2)
}

/// A race, and those of its systems that shall run.
type Selected = (Race, Vec<&'static dyn System>);

/// What shall run.
fn select(options: &Options, races: &[Race]) -> Result<Vec<Selected>, String> {
    for name in options.only.iter().chain(&options.without) {
        let mut all = races.iter().flat_map(|race| systems(*race));
        if !all.any(|system| system.name() == name) {
            return Err(format!("there is no system {name}; --list names them"));
        }
    }
    let chosen = |system: &&dyn System| {
        let name = system.name();
        if options.without.iter().any(|without| without == name) {
            false
        } else if !options.only.is_empty() {
            options.only.iter().any(|only| only == name)
        } else {
            !options.latency || options.smoke || LATENCY_SYSTEMS.contains(&name)
        }
    };
    Ok(races
        .iter()
        .map(|race| (*race, systems(*race).into_iter().filter(chosen).collect()))
        .collect())
}

/// All numbers of publishers with all numbers of subscribers.
fn sizes(options: &Options, race: Race) -> impl Iterator<Item = (u32, usize)> {
    options.publishers.iter().flat_map(move |publishers| {
        options
            .subscribers(race)
            .iter()
            .map(|subscribers| (*publishers, *subscribers))
    })
}

/// The run that is under way, and since when: what the watchdog looks at.
static RUNNING: Mutex<Option<(Instant, String)>> = Mutex::new(None);

/// Does the work under the eye of the watchdog.
fn run(system: &dyn System, work: &Work) -> Outcome {
    let set = |now| *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = now;
    let what = format!(
        "{}, publishers {}, subscribers {}, events {}",
        system.name(),
        work.publishers,
        work.subscribers,
        work.events
    );
    set(Some((Instant::now(), what)));
    let outcome = system.run(work);
    set(None);
    outcome
}

/// A failed check ends the program by itself (`panic = "abort"`); this names the run that failed.
fn name_failures() {
    std::panic::set_hook(Box::new(|info| {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let what = running.as_ref().map_or("no run", |(_, what)| what);
        let thread = thread::current();
        let name = thread.name().unwrap_or("a thread without a name");
        eprintln!("FAILED: {what}: {name}: {info}");
    }));
}

/// Ends the program where a run hangs, and says which.
fn watch() {
    loop {
        thread::sleep(Duration::from_secs(1));
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, what)) = &*running
            && since.elapsed() > HANGS
        {
            eprintln!("FAILED: {what}: no end after {} s", HANGS.as_secs());
            process::exit(1);
        }
    }
}

/// One tiny run of everything, with all checks.
fn smoke(options: &Options, selected: &[Selected]) {
    let start = Instant::now();
    // Some systems are in several races: the first has run them.
    let mut done = HashSet::new();
    let mut runs = 0;
    for (race, systems) in selected {
        let is_new = |system: &&&dyn System| !done.contains(system.name());
        let systems: Vec<_> = systems.iter().filter(is_new).collect();
        for (publishers, subscribers) in sizes(options, *race) {
            // Full speed, more events than there is room for; and parked receivers, on a few
            // threads.
            let full = (None, CAPACITY as u64 + 256);
            let paced = (subscribers <= 16).then_some((Some(PAUSE), 20));
            for (every, events) in iter::once(full).chain(paced) {
                let work = Work {
                    publishers,
                    subscribers,
                    events: events.next_multiple_of(u64::from(publishers)),
                    every,
                };
                for system in &systems {
                    if system.refuses(&work).is_none() {
                        run(**system, &work);
                        runs += 1;
                    }
                }
            }
        }
        done.extend(systems.iter().map(|system| system.name()));
    }
    println!(
        "{runs} runs of {} systems in {:.1} s: every subscriber got exactly what it should",
        done.len(),
        start.elapsed().as_secs_f64()
    );
}

/// Rates of all systems at all sizes.
fn measure(options: &Options, race: Race, systems: &[&'static dyn System]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (publishers, subscribers) in sizes(options, race) {
        let mut work = Work {
            publishers,
            subscribers,
            events: 0,
            every: None,
        };
        let mut rows: Vec<Row> = systems
            .iter()
            .map(|system| {
                let refused = system.refuses(&work);
                Row {
                    system: *system,
                    events: if refused.is_none() {
                        calibrate(*system, &work, options.millis)
                    } else {
                        0
                    },
                    rates: Vec::new(),
                    refused,
                }
            })
            .collect();
        for round in 1..=options.rounds {
            eprintln!(
                "publishers {publishers}, subscribers {subscribers}: round {round} of {}",
                options.rounds
            );
            for row in rows.iter_mut().filter(|row| row.refused.is_none()) {
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

/// How many events a run of about the wanted length has.
fn calibrate(system: &dyn System, work: &Work, millis: u64) -> u64 {
    let round_up = |events: u64| events.next_multiple_of(u64::from(work.publishers));
    let most = system.most_events() / u64::from(work.publishers) * u64::from(work.publishers);
    let wanted = |seconds_per_event: f64| {
        let events = (millis as f64 / 1e3 / seconds_per_event) as u64;
        round_up(events.max(FEWEST_EVENTS)).min(most)
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
    let mut events = round_up(FEWEST_EVENTS);
    let first = loop {
        let (elapsed, per_event) = time(events);
        if elapsed >= LONG_ENOUGH || events >= most {
            break per_event;
        }
        events = round_up(events * 4).min(most);
    };
    // Some systems have a fast and a slow mode, from run to run: a second look, and the middle.
    let (_, second) = time(wanted(first));
    wanted((first * second).sqrt())
}

/// Latencies of all systems at all sizes.
fn measure_latency(options: &Options, systems: &[&'static dyn System]) -> Vec<Latency> {
    let mut rows = Vec::new();
    for (publishers, subscribers) in sizes(options, Race::Threads) {
        let work = Work {
            publishers,
            subscribers,
            events: LATENCY_EVENTS.next_multiple_of(u64::from(publishers)),
            every: Some(PAUSE),
        };
        let mut of_size: Vec<Latency> = systems
            .iter()
            .filter(|system| system.refuses(&work).is_none())
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
            for row in &mut of_size {
                let outcome = run(row.system, &work);
                row.histogram
                    .add(&outcome.latencies)
                    .expect("all histograms have one range");
            }
        }
        rows.append(&mut of_size);
    }
    rows
}
