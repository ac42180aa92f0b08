//! Work that is routed by topic: 1,000 handlers with patterns of several kinds, 10,000 topics, and
//! about ten matches per event. The peer is what a user would write by hand: a map from each topic
//! to the channels of its subscribers.

mod systems;
mod work;

use serde_json::{Value, json};

use self::systems::System;
use self::work::Work;
use super::{NewBudget, rounds_text};
use crate::effort::{Effort, Size};
use crate::report::{Goal, Limit, Section, Table, number};
use crate::run::watched;
use crate::statistics::{median, ratios};

/// The ratio to the map of channels.
const RATIO_GOAL: f64 = 3.0;
/// Million events per second.
const EVENTS_GOAL: f64 = 2.0;

/// The number of events of a smoke run, and of the first run.
const EVENTS_MIN: u64 = 5_000;
/// The number of events of a run has this bound, so that the expected counts are computed quickly.
const EVENTS_MAX: u64 = 4_000_000;

/// The results of a system.
struct Row {
    system: System,
    events: u64,
    /// Events per second in each round.
    rates: Vec<f64>,
}

/// Measures the section.
pub fn measure(effort: Effort, budget: NewBudget<'_>) -> Section {
    let work = Work::new();
    let mut budget = budget(1);
    budget.next_step();
    let mut rows: Vec<Row> = System::ALL
        .into_iter()
        .map(|system| Row {
            system,
            events: events(system, &work, effort),
            rates: Vec::new(),
        })
        .collect();
    for round in 1..=effort.rounds {
        if round > 1 && budget.is_used_up() {
            break;
        }
        eprintln!("routed: round {round} of {}", effort.rounds);
        for row in &mut rows {
            row.rates.push(rate(row.system, &work, row.events));
        }
    }
    section(&work, &rows)
}

/// Runs the work with all checks, and returns the number of events per second.
fn rate(system: System, work: &Work, events: u64) -> f64 {
    let description = format!("{}, events {events}", system.name());
    let elapsed = watched(description, || system.run(work, events));
    events as f64 / elapsed.as_secs_f64()
}

/// The number of events for a run of the usual length.
fn events(system: System, work: &Work, effort: Effort) -> u64 {
    if effort.size == Size::Smoke {
        return EVENTS_MIN;
    }
    let wanted = |rate: f64| {
        let events = rate * effort.millis as f64 / 1e3;
        (events as u64).clamp(EVENTS_MIN, EVENTS_MAX)
    };
    let first = wanted(rate(system, work, EVENTS_MIN));
    wanted(rate(system, work, first))
}

fn section(work: &Work, rows: &[Row]) -> Section {
    let row_of = |system| {
        rows.iter()
            .find(|row| row.system == system)
            .expect("every system has a row")
    };
    let ratio = |own: &Row, other| median(&ratios(&own.rates, &row_of(other).rates));
    let fanout = row_of(System::FanoutTexts);
    let matches = work.matches_per_event();
    let rounds = rounds_text(rows.iter().map(|row| row.rates.len()));
    let header = [
        "system",
        "million events per second",
        "million deliveries per second",
        "ratio to map-thread-each",
        "ratio to map-per-worker (bound)",
    ];
    Section {
        title: "Work that is routed by topic".to_owned(),
        about: vec![format!(
            "{} handlers with patterns of several kinds, {} topics, {matches:.1} matches per event \
             on average. One publisher publishes 64-byte events with the text of the topic, and \
             goes through the topics in an order that looks random. No event may be lost. Every \
             handler checks the number of its events, their order and a checksum.",
            work.subscriptions(),
            work.topics().len(),
        )],
        systems: System::ALL
            .map(|system| (system.name().to_owned(), system.about().to_owned()))
            .to_vec(),
        tables: vec![Table {
            title: format!("Routed by topic, {rounds}"),
            header: header.map(str::to_owned).to_vec(),
            rows: rows
                .iter()
                .map(|row| {
                    let rate = median(&row.rates);
                    vec![
                        row.system.title().to_owned(),
                        number(Some(rate / 1e6), 2),
                        number(Some(rate * matches / 1e6), 1),
                        number(Some(ratio(row, System::MapThreadEach)), 2),
                        number(Some(ratio(row, System::MapPerWorker)), 2),
                    ]
                })
                .collect(),
        }],
        goals: vec![
            Goal {
                what: format!(
                    "{} / {}",
                    fanout.system.name(),
                    System::MapThreadEach.name()
                ),
                limit: Limit::AtLeast(RATIO_GOAL),
                measured: Some(ratio(fanout, System::MapThreadEach)),
            },
            Goal {
                what: format!("{}, million events per second", fanout.system.name()),
                limit: Limit::AtLeast(EVENTS_GOAL),
                measured: Some(median(&fanout.rates) / 1e6),
            },
        ],
        plots: Vec::new(),
        numbers: numbers(work, rows),
        ..Section::default()
    }
}

fn numbers(work: &Work, rows: &[Row]) -> Value {
    json!({
        "matches_per_event": work.matches_per_event(),
        "systems": rows
            .iter()
            .map(|row| json!({
                "system": row.system.name(),
                "events": row.events,
                "events_per_second": row.rates,
            }))
            .collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_delivers_exactly_the_expected_events() {
        let work = Work::small();
        for system in System::ALL {
            system.run(&work, 500);
        }
    }

    #[test]
    fn the_ratios_are_those_of_the_rounds() {
        let row = |system, rates: &[f64]| Row {
            system,
            events: 1,
            rates: rates.to_vec(),
        };
        let rows = [
            row(System::FanoutTexts, &[6e6, 6e6, 3e6]),
            row(System::FanoutTopics, &[6e6, 6e6, 6e6]),
            row(System::MapThreadEach, &[1e6, 2e6, 3e6]),
            row(System::MapPerWorker, &[6e6, 6e6, 6e6]),
        ];
        let section = section(&Work::small(), &rows);
        assert_eq!(section.tables[0].rows[0][3], "3.00");
        assert_eq!(section.goals[0].is_met(), Some(true));
    }
}
