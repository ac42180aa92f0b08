//! `fanout bench`: the speed of the engine on the machine of the user.
//!
//! A run measures a list of cases. Each is measured in several rounds, each with a bus of its own,
//! and each round checks that every event arrived once and in order. So a number is never that of
//! an engine that is wrong.
//!
//! | file | subject |
//! | --- | --- |
//! | `args`, `limits` | the arguments, their bounds and defaults |
//! | `case` | the list of cases |
//! | `payload` | the payload of an event, and the check that each arrives once and in order |
//! | `throughput`, `latency`, `lookups` | one round of each kind |
//! | `executor` | runs the async tasks of a round |
//! | `measurement`, `machine` | what was measured, and where |
//! | `report`, `table` | the result, for people and for programs |
//! | `earlier`, `comparison` | an earlier report, and the ratios to it |
//!
//! # Failure modes
//!
//! - An event is missing, arrives twice or out of order: the run ends, a message and the report
//!   name the case and the round, and the run has failed.
//! - A thread or a bus cannot be started: the same.
//! - The process gets a signal: the round ends and does not count, and the report has the rounds
//!   before it. A second signal ends the process at once.
//! - The file of `--compare` is not a report with all cases: the run is refused before it begins.

pub(crate) mod args;
mod case;
mod comparison;
mod earlier;
mod executor;
mod latency;
pub(crate) mod limits;
mod lookups;
mod machine;
mod measurement;
mod payload;
mod report;
mod table;
mod throughput;

use std::time::Duration;

use self::args::BenchArgs;
use self::case::{BusSettings, Cache, Case};
use self::earlier::Earlier;
use self::machine::Machine;
use self::measurement::{Measurement, Round};
use self::report::{FORMAT, FORMAT_VERSION, Report};
use crate::console::{self, Steps, print_message};
use crate::interrupt::{Interrupt, Signal};
use crate::status::{StartError, Status};

/// Runs the command.
pub(crate) fn run(args: &BenchArgs) -> Status {
    let (report, signal) = match measure(args) {
        Ok(done) => done,
        Err(StartError::Refused(message)) => {
            print_message(format_args!("{message}"));
            return Status::Refused;
        }
        Err(StartError::Failed(message)) => {
            print_message(format_args!("{message}"));
            return Status::Failed;
        }
    };
    if let Some(error) = &report.error {
        print_message(format_args!("{error}"));
    }
    let text = if args.json {
        report.json()
    } else {
        report.table()
    };
    let printed = console::print(&text);
    if let Err(error) = &printed {
        print_message(format_args!("the report cannot be printed: {error}"));
    }
    match signal {
        _ if report.error.is_some() || printed.is_err() => Status::Failed,
        Some(signal) => Status::Ended(signal),
        None => Status::Good,
    }
}

/// Measures all cases, until the end, a failure or a signal.
fn measure(args: &BenchArgs) -> Result<(Report, Option<Signal>), StartError> {
    let cases = case::plan(args).map_err(StartError::Refused)?;
    let earlier = args.compare.as_ref();
    let earlier = earlier
        .map(|file| Earlier::read(file, &cases))
        .transpose()?;
    let machine = Machine::here();
    if let Some(other) = earlier.as_ref().and_then(|e| e.other_machine(&machine)) {
        print_message(format_args!(
            "--compare: the earlier report is from another machine ({other}), so the ratios \
             compare the machines, too"
        ));
    }
    let interrupt = Interrupt::install()
        .map_err(|error| StartError::Failed(format!("signals cannot be caught: {error}")))?;

    let measured_at = jiff::Timestamp::now();
    let steps = Steps::new(cases.len() * args.rounds, !args.quiet);
    let (measurements, error) = measure_all(
        &cases,
        args.rounds,
        |case| {
            steps.show(format_args!("{case}"));
            let round = round(case, args.duration, &interrupt);
            steps.advance();
            round
        },
        || interrupt.is_stopped(),
    );
    steps.finish();

    let signal = interrupt.signal();
    let report = Report {
        format: FORMAT.to_owned(),
        format_version: FORMAT_VERSION,
        fanout: env!("CARGO_PKG_VERSION").to_owned(),
        debug_assertions: cfg!(debug_assertions),
        measured_at: format!("{measured_at:.0}"),
        machine,
        duration_ms: u64::try_from(args.duration.as_millis()).unwrap_or(u64::MAX),
        rounds: args.rounds,
        signal: signal.map(|signal| signal.name().to_owned()),
        error,
        comparison: earlier.map(|earlier| earlier.compare(&measurements)),
        measurements,
    };
    Ok((report, signal))
}

/// Measures the rounds of all cases, until a round fails or there is an interrupt. A round during
/// which that happens does not count. Returns what was measured, and the error.
fn measure_all(
    cases: &[Case],
    rounds: usize,
    mut round: impl FnMut(Case) -> Result<Round, String>,
    is_stopped: impl Fn() -> bool,
) -> (Vec<Measurement>, Option<String>) {
    let mut measurements = Vec::new();
    let mut error = None;
    for &case in cases {
        let mut done = Vec::new();
        for number in 1..=rounds {
            match round(case) {
                Err(failure) => error = Some(format!("{case}, round {number}: {failure}")),
                Ok(round) if !is_stopped() => done.push(round),
                Ok(_) => {}
            }
            if error.is_some() || is_stopped() {
                break;
            }
        }
        if !done.is_empty() {
            measurements.push(Measurement::new(case, done));
        }
        if error.is_some() || is_stopped() {
            break;
        }
    }
    (measurements, error)
}

/// Measures one round of a case.
fn round(case: Case, duration: Duration, interrupt: &Interrupt) -> Result<Round, String> {
    let Some(settings) = case.bus else {
        let cache = case.cache.unwrap_or(Cache::Cold);
        return lookups::round(cache, duration, interrupt);
    };
    // A payload of each size is a type of its own: see `limits::PAYLOADS_BYTES`.
    match settings.payload_bytes {
        16 => round_with::<2>(case, settings, duration, interrupt),
        64 => round_with::<8>(case, settings, duration, interrupt),
        256 => round_with::<32>(case, settings, duration, interrupt),
        1024 => round_with::<128>(case, settings, duration, interrupt),
        other => Err(format!("no payload has {other} bytes")),
    }
}

fn round_with<const WORDS: usize>(
    case: Case,
    settings: BusSettings,
    duration: Duration,
    interrupt: &Interrupt,
) -> Result<Round, String> {
    debug_assert_eq!(settings.payload_bytes, WORDS * size_of::<u64>());
    match case.rate_per_s {
        Some(rate) => latency::round::<WORDS>(settings, rate, duration, interrupt),
        None => throughput::round::<WORDS>(case.scenario, settings, duration, interrupt),
    }
}

#[cfg(test)]
mod tests {
    use super::args::Scenario;
    use super::*;
    use std::cell::Cell;

    /// Measures two cases of three rounds, of which the round with this number, counted from 1,
    /// fails, or is stopped. Returns the number of rounds of each case, and the error.
    fn measured(failing: usize, stopped: usize) -> (Vec<usize>, Option<String>) {
        let cases = [Cache::Cold, Cache::Warm].map(|cache| Case {
            scenario: Scenario::Lookups,
            bus: None,
            rate_per_s: None,
            cache: Some(cache),
        });
        let number = Cell::new(0);
        let round = |_| {
            number.set(number.get() + 1);
            if number.get() == failing {
                return Err("it failed".to_owned());
            }
            Ok(Round::new(Duration::from_secs(1), 1))
        };
        let (measurements, error) = measure_all(&cases, 3, round, || number.get() == stopped);
        let rounds = measurements.iter().map(|each| each.rounds.len());
        (rounds.collect(), error)
    }

    #[test]
    fn a_failure_or_a_signal_ends_the_run_and_keeps_complete_rounds() {
        assert_eq!(measured(0, 0), (vec![3, 3], None));
        assert_eq!(measured(0, 1), (vec![], None));
        assert_eq!(measured(0, 5), (vec![3, 1], None));
        let error = |text: &str| Some(text.to_owned());
        assert_eq!(
            measured(1, 0),
            (vec![], error("lookups, cold, round 1: it failed"))
        );
        assert_eq!(
            measured(6, 0),
            (vec![3, 2], error("lookups, warm, round 3: it failed"))
        );
        assert_eq!(
            measured(2, 2),
            (vec![1], error("lookups, cold, round 2: it failed")),
            "a failure counts also in a round that is stopped"
        );
    }
}
