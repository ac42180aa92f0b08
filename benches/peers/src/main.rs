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
//! The best peer is the peer that was the fastest in a round, in any of its variants. `direct` and
//! `crossbeam-per-worker` are bounds, not peers, and have ratios of their own. So does
//! `tokio-room-for-all`, which is a reference: its queue has no bound and never makes a publisher
//! wait, so it does less work than the others.
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
//! # The whole comparison
//!
//! `--quick` and `--full` measure the scenarios and other kinds of work, each in a process of its
//! own: see [`sections`]. The first of them pins all threads to one core, so that it shows the
//! total cost of a delivery.

mod affinity;
mod comparison;
mod effort;
mod fanout_side;
mod harness;
mod machine;
mod measure;
mod options;
mod peers;
mod report;
mod run;
mod sections;
mod smoke;
mod statistics;
mod systems;
mod tick;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use effort::Budget;
use harness::{Scenario, System};
use options::{HELP, Mode, Options};
use report::{Report, html, json, markdown, text};
use sections::race;

/// The exit status if a section of the comparison failed.
const FAILED: u8 = 1;
/// The exit status if the command line is not valid or if a file cannot be written.
const WRONG_USE: u8 = 2;

/// The end of the name of the file with the tables, which stands beside the HTML page.
const TABLES_EXTENSION: &str = "md";

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => return exit_with(WRONG_USE, &format!("{error} (see --help)")),
    };
    if matches!(options.mode, Mode::Comparison(_) | Mode::Race)
        && let Err(error) = check_files(&options)
    {
        return exit_with(WRONG_USE, &error);
    }
    match options.mode {
        Mode::Help => println!("{HELP}"),
        Mode::List => list(&options),
        Mode::Smoke => {
            run::supervise();
            if let Err(error) = smoke::smoke(&options) {
                return exit_with(FAILED, &error);
            }
        }
        Mode::SectionJson(kind, size) => {
            let section = comparison::measure_section(kind, &options, size);
            let json = serde_json::to_string(&section).expect("a section is valid JSON");
            println!("{json}");
        }
        Mode::Comparison(size) => match comparison::compare(&options, size) {
            Ok(report) => return output(&options, &report),
            Err(error) => return exit_with(FAILED, &error),
        },
        Mode::Race => match measure_race(&options) {
            Ok(report) => return output(&options, &report),
            Err(error) => return exit_with(WRONG_USE, &error),
        },
    }
    ExitCode::SUCCESS
}

/// Measures one scenario.
fn measure_race(options: &Options) -> Result<Report, String> {
    let scenario = options.scenario();
    let systems = select(options, scenario)?;
    let mut notes = Vec::new();
    if options.one_core {
        let core = affinity::pin_to_one_core().map_err(|error| format!("--one-core: {error}"))?;
        notes.push(format!("All threads are pinned to core {core}."));
    }
    run::supervise();
    let sizes = race::sizes(&options.publishers, options.subscribers(scenario));
    let mut budget = Budget::new(None, sizes.len());
    let cells = measure::measure(&systems, &sizes, options.race_effort(), &mut budget);
    let mut section = race::section(scenario, &cells);
    if options.one_core {
        // The goals of the scenario are for several cores.
        section.goals.clear();
    }
    Ok(comparison::report(vec![section], notes, systems))
}

/// Selects the systems to run by `--only` and `--without`.
fn select(options: &Options, scenario: Scenario) -> Result<Vec<&'static dyn System>, String> {
    let all = systems::of(scenario);
    for name in options.only.iter().chain(&options.without) {
        if !all.iter().any(|system| system.name() == name) {
            return Err(format!(
                "--only, --without: the scenario {} has no system {name:?}; --list prints the \
                 names",
                scenario.name()
            ));
        }
    }
    let contains = |names: &[String], name: &str| names.iter().any(|other| other == name);
    Ok(all
        .into_iter()
        .filter(|system| {
            let name = system.name();
            let is_chosen = options.only.is_empty() || contains(&options.only, name);
            is_chosen && !contains(&options.without, name)
        })
        .collect())
}

/// Prints the report, and writes the files of the options.
fn output(options: &Options, report: &Report) -> ExitCode {
    if options.markdown {
        print!("{}", markdown::render(report, None));
    } else {
        print!("{}", text::render(report));
    }
    match write_files(options, report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_with(WRONG_USE, &error),
    }
}

fn write_files(options: &Options, report: &Report) -> Result<(), String> {
    if let Some(path) = &options.json {
        write(path, &format!("{:#}\n", json::render(report)))?;
    }
    if let Some(path) = &options.report {
        write(path, &html::render(report))?;
        let page = path.file_name().map(|name| name.to_string_lossy());
        write(
            &path.with_extension(TABLES_EXTENSION),
            &markdown::render(report, page.as_deref()),
        )?;
    }
    Ok(())
}

/// Opens the files of the options, so that a wrong path is an error before the measurement. Files
/// that exist keep their contents.
fn check_files(options: &Options) -> Result<(), String> {
    let tables = options
        .report
        .as_ref()
        .map(|path| path.with_extension(TABLES_EXTENSION));
    for path in options.json.iter().chain(&options.report).chain(&tables) {
        fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn list(options: &Options) {
    let scenarios = options
        .scenario
        .map_or_else(|| Scenario::ALL.to_vec(), |scenario| vec![scenario]);
    for (number, scenario) in scenarios.into_iter().enumerate() {
        if number > 0 {
            println!();
        }
        println!("--race {}: {}", scenario.name(), scenario.about());
        for system in systems::of(scenario) {
            println!("  {:<25} {}", system.name(), system.about());
        }
    }
}

fn exit_with(status: u8, error: &str) -> ExitCode {
    eprintln!("peers: {error}");
    ExitCode::from(status)
}
