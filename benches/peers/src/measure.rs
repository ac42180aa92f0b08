//! Measures the rates of systems: calibrates the number of events, and interleaves the rounds.

use std::time::Duration;

use crate::effort::{Budget, Effort, Size};
use crate::harness::{CAPACITY, System, Work};
use crate::run::run;
use crate::statistics::{Cell, Row};

/// The minimum number of events in a run, so that the index of each ring wraps around a few times.
const MIN_EVENTS: u64 = 4 * CAPACITY as u64;

/// The number of events in a smoke run: more than the capacity.
pub const SMOKE_EVENTS: u64 = CAPACITY as u64 + 256;

/// The minimum duration of a calibration run. The number of events grows until a run reaches it.
const MIN_CALIBRATION_TIME: Duration = Duration::from_millis(30);

/// A calibration run at most multiplies the number of events by this.
const CALIBRATION_GROWTH: u64 = 4;

/// Measures the rates of all systems at all sizes, which are pairs of a number of publishers and a
/// number of subscribers.
pub fn measure(
    systems: &[&'static dyn System],
    sizes: &[(u32, usize)],
    effort: Effort,
    budget: &mut Budget,
) -> Vec<Cell> {
    sizes
        .iter()
        .map(|(publishers, subscribers)| {
            budget.next_step();
            measure_cell(systems, *publishers, *subscribers, effort, budget)
        })
        .collect()
}

fn measure_cell(
    systems: &[&'static dyn System],
    publishers: u32,
    subscribers: usize,
    effort: Effort,
    budget: &Budget,
) -> Cell {
    let mut work = Work {
        publishers,
        subscribers,
        events: 0,
        arrivals: None,
    };
    let mut rows: Vec<Row> = systems
        .iter()
        .map(|system| {
            let excluded = system.exclusion(&work);
            Row {
                system: *system,
                events: if excluded.is_none() {
                    events(*system, &work, effort)
                } else {
                    0
                },
                rates: Vec::new(),
                processor_ns: Vec::new(),
                excluded,
            }
        })
        .collect();
    for round in 1..=effort.rounds {
        if round > 1 && budget.is_used_up() {
            break;
        }
        eprintln!(
            "publishers {publishers}, subscribers {subscribers}: round {round} of {}",
            effort.rounds
        );
        for row in rows.iter_mut().filter(|row| row.excluded.is_none()) {
            work.events = row.events;
            let outcome = run(row.system, &work);
            row.rates.push(outcome.rate());
            row.processor_ns.extend(outcome.processor_ns());
        }
    }
    Cell {
        publishers,
        subscribers,
        rows,
    }
}

fn events(system: &dyn System, work: &Work, effort: Effort) -> u64 {
    if effort.size == Size::Smoke {
        SMOKE_EVENTS.next_multiple_of(work.publishers.into())
    } else {
        calibrate(system, work, effort.millis)
    }
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
        events = round_up(events * CALIBRATION_GROWTH).min(max);
    };
    // The system is so slow that a run has the minimum of events.
    if wanted(first) == round_up(MIN_EVENTS) {
        return wanted(first);
    }
    // The speed of some systems differs much from run to run. So the result is the geometric mean
    // of two estimates.
    let (_, second) = time(wanted(first));
    wanted((first * second).sqrt())
}
