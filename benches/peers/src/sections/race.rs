//! The same work on all systems at full speed, with subscribers that are threads, handlers or
//! tasks.

use serde_json::{Value, json};

use super::{NewBudget, rounds_text};
use crate::effort::{Effort, Size};
use crate::harness::{CAPACITY, Scenario, System};
use crate::measure;
use crate::report::{Goal, Limit, Plot, Scale, Section, Series, Table, number};
use crate::statistics::{Cell, is_peer, median};
use crate::systems::{self, title};

/// The numbers of publishers and subscribers of a quick comparison.
fn quick_sizes(scenario: Scenario) -> &'static [(u32, usize)] {
    match scenario {
        Scenario::Threads => &[(1, 1), (1, 4), (1, 16), (1, 64), (1, 256), (4, 1), (4, 16)],
        Scenario::Handlers => &[(1, 16), (1, 64), (1, 1024)],
        Scenario::Async => &[(1, 4), (1, 64), (1, 1024)],
    }
}

/// The systems of a quick comparison: the rows of fanout that have goals, and the peers that were
/// the fastest at some size in a full comparison.
fn quick_systems(scenario: Scenario) -> &'static [&'static str] {
    match scenario {
        Scenario::Threads => &[
            "fanout",
            "fanout-batches",
            "fanout-publish-batch",
            "fanout-spin",
            "crossbeam-channel",
            "kanal",
            "bus",
            "tokio-room-for-all",
            "disruptor",
        ],
        Scenario::Handlers => &[
            "fanout-handlers",
            "direct",
            "crossbeam-per-worker",
            "crossbeam-channel",
            "kanal",
            "bus",
        ],
        Scenario::Async => &[
            "fanout-tasks",
            "fanout-tasks-batches",
            "tokio-credits-tasks",
            "tokio-room-for-all-tasks",
            "kanal-tasks",
            "postage",
            "bus",
        ],
    }
}

/// Each number of publishers of a full comparison.
pub const PUBLISHERS: [u32; 2] = [1, 4];

/// Each number of publishers combined with each number of subscribers.
pub fn sizes(publishers: &[u32], subscribers: &[usize]) -> Vec<(u32, usize)> {
    publishers
        .iter()
        .flat_map(|publishers| subscribers.iter().map(|number| (*publishers, *number)))
        .collect()
}

/// Measures a scenario for the comparison.
pub fn measure(scenario: Scenario, effort: Effort, budget: NewBudget<'_>) -> Section {
    let (systems, sizes) = match effort.size {
        Size::Full => (
            systems::of(scenario),
            sizes(&PUBLISHERS, scenario.subscribers()),
        ),
        Size::Quick | Size::Smoke => (
            systems::named(quick_systems(scenario)),
            quick_sizes(scenario).to_vec(),
        ),
    };
    let mut budget = budget(sizes.len());
    let cells = measure::measure(&systems, &sizes, effort, &mut budget);
    section(scenario, &cells)
}

/// Makes the section from the results.
pub fn section(scenario: Scenario, cells: &[Cell]) -> Section {
    Section {
        name: scenario.name().to_owned(),
        title: match scenario {
            Scenario::Threads => "Threads",
            Scenario::Handlers => "Handlers",
            Scenario::Async => "Tasks",
        }
        .to_owned(),
        about: vec![format!(
            "Events of 64 bytes, lossless, with a capacity of {CAPACITY} events per subscriber; \
             {}.",
            scenario.about()
        )],
        systems: measured_systems(cells),
        tables: tables(cells),
        goals: goals(scenario, cells),
        plots: plots(cells),
        numbers: numbers(cells),
    }
}

/// The name and the description of each system that was measured, for a report.
pub fn measured_systems(cells: &[Cell]) -> Vec<(String, String)> {
    let rows = cells.first().map_or(&[][..], |cell| &cell.rows);
    let systems: Vec<&'static dyn System> = rows.iter().map(|row| row.system).collect();
    systems::about(&systems)
}

/// The tables for all numbers of publishers: for each, the rates and then the ratios.
pub fn tables(cells: &[Cell]) -> Vec<Table> {
    let mut tables = Vec::new();
    for (publishers, cells) in by_publishers(cells) {
        let publishers = publishers_text(publishers);
        let rounds = rounds_text(cells.iter().map(|cell| cell.rounds()));
        tables.push(Table {
            title: format!("{publishers}: million deliveries per second, {rounds}"),
            header: header("system", &cells, Some("topics")),
            rows: rates(&cells),
        });
        let ratios = ratios(&cells);
        if !ratios.is_empty() {
            tables.push(Table {
                title: format!("{publishers}: ratios, each computed within a round, {rounds}"),
                header: header("ratio", &cells, None),
                rows: ratios,
            });
        }
    }
    tables
}

fn publishers_text(publishers: u32) -> String {
    match publishers {
        1 => "1 publisher".to_owned(),
        number => format!("{number} publishers"),
    }
}

fn by_publishers(cells: &[Cell]) -> Vec<(u32, Vec<&Cell>)> {
    let mut groups: Vec<(u32, Vec<&Cell>)> = Vec::new();
    for cell in cells {
        match groups.last_mut() {
            Some((publishers, group)) if *publishers == cell.publishers => group.push(cell),
            _ => groups.push((cell.publishers, vec![cell])),
        }
    }
    groups
}

fn header(first: &str, cells: &[&Cell], last: Option<&str>) -> Vec<String> {
    let mut header = vec![first.to_owned()];
    header.extend(cells.iter().map(|cell| match cell.subscribers {
        1 => "1 subscriber".to_owned(),
        number => number.to_string(),
    }));
    header.extend(last.map(str::to_owned));
    header
}

fn rates(cells: &[&Cell]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for system in cells[0].rows.iter().map(|row| row.system) {
        let rates: Vec<Option<f64>> = cells.iter().map(|cell| cell.rate(system.name())).collect();
        if rates.iter().all(Option::is_none) {
            continue;
        }
        let mut row = vec![title(system)];
        row.extend(
            rates
                .into_iter()
                .map(|rate| number(rate.map(|rate| rate / 1e6), 1)),
        );
        row.push(if system.has_topics() { "yes" } else { "no" }.to_owned());
        rows.push(row);
    }
    rows
}

fn ratios(cells: &[&Cell]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut add = |name: String, ratio: &dyn Fn(&Cell) -> Option<String>| {
        let values: Vec<Option<String>> = cells.iter().map(|cell| ratio(cell)).collect();
        if values.iter().any(Option::is_some) {
            let mut row = vec![name];
            row.extend(
                values
                    .into_iter()
                    .map(|value| value.unwrap_or_else(|| "-".to_owned())),
            );
            rows.push(row);
        }
    };
    let systems = || cells[0].rows.iter().map(|row| row.system);
    let spinning = cells.iter().any(|cell| {
        cell.rows
            .iter()
            .any(|row| is_peer(row.system) && row.system.spins() && !row.rates.is_empty())
    });
    for system in systems().filter(|system| system.is_fanout()) {
        let name = system.name();
        let best = |include_spinning| {
            move |cell: &Cell| {
                let best = cell.ratio_to_best(name, include_spinning)?;
                Some(format!("{:.2} ({})", best.ratio, best.peer))
            }
        };
        add(format!("{name} / best peer"), &best(true));
        if spinning {
            add(format!("{name} / best peer that sleeps"), &best(false));
        }
        for (number, bound) in cells[0].bounds().enumerate() {
            add(format!("{name} / {}", title(bound.system)), &|cell| {
                let ratio = cell.ratio_to(name, cell.bounds().nth(number)?)?;
                Some(format!("{ratio:.2}"))
            });
        }
    }
    let Some(headline) = cells[0].headline() else {
        return rows;
    };
    for (number, system) in systems().enumerate() {
        if is_peer(system) || system.is_reference() {
            add(format!("{headline} / {}", title(system)), &|cell| {
                let ratio = cell.ratio_to(headline, &cell.rows[number])?;
                Some(format!("{ratio:.2}"))
            });
        }
    }
    rows
}

/// The goals with one publisher: the number of subscribers, and the ratio to the best peer that
/// sleeps.
const THREADS_GOALS: [(usize, f64); 5] = [(1, 1.2), (4, 2.0), (16, 3.0), (64, 3.0), (256, 3.0)];
/// The same for handlers.
const HANDLERS_GOALS: [(usize, f64); 3] = [(16, 5.0), (64, 7.0), (1024, 8.0)];
/// The same for tasks.
const TASKS_GOALS: [(usize, f64); 3] = [(4, 1.5), (64, 4.0), (1024, 4.5)];
/// The part of a bare loop over the closures that handlers should reach.
const DIRECT_GOAL: f64 = 0.8;
/// The numbers of handlers for which [`DIRECT_GOAL`] applies.
const DIRECT_GOAL_HANDLERS: [usize; 2] = [64, 1024];
/// The part of the rate of disruptor that one spinning reader should reach.
const DISRUPTOR_GOAL: f64 = 0.5;

fn goals(scenario: Scenario, cells: &[Cell]) -> Vec<Goal> {
    let (name, limits): (&str, &[(usize, f64)]) = match scenario {
        Scenario::Threads => ("fanout", &THREADS_GOALS),
        Scenario::Handlers => ("fanout-handlers", &HANDLERS_GOALS),
        Scenario::Async => ("fanout-tasks", &TASKS_GOALS),
    };
    let cell = |subscribers| {
        cells
            .iter()
            .find(|cell| cell.publishers == 1 && cell.subscribers == subscribers)
    };
    let mut goals: Vec<Goal> = limits
        .iter()
        .filter_map(|(subscribers, limit)| {
            Some(Goal {
                what: format!("{name} / best peer that sleeps, 1 to {subscribers}"),
                limit: Limit::AtLeast(*limit),
                measured: cell(*subscribers)?
                    .ratio_to_best(name, false)
                    .map(|best| best.ratio),
            })
        })
        .collect();
    let mut add_ratio = |own: &str, other: &str, subscribers, limit| {
        if let Some(cell) = cell(subscribers) {
            goals.push(Goal {
                what: format!("{own} / {other}, 1 to {subscribers}"),
                limit: Limit::AtLeast(limit),
                measured: cell.row(other).and_then(|row| cell.ratio_to(own, row)),
            });
        }
    };
    match scenario {
        Scenario::Threads => add_ratio("fanout-spin", "disruptor", 1, DISRUPTOR_GOAL),
        Scenario::Handlers => {
            for handlers in DIRECT_GOAL_HANDLERS {
                add_ratio(name, "direct", handlers, DIRECT_GOAL);
            }
        }
        Scenario::Async => {}
    }
    goals
}

fn plots(cells: &[Cell]) -> Vec<Plot> {
    by_publishers(cells)
        .into_iter()
        .filter(|(_, cells)| cells.len() > 1)
        .map(|(publishers, cells)| Plot {
            title: format!("{}: deliveries per second", publishers_text(publishers)),
            x_label: "subscribers".to_owned(),
            y_label: "million deliveries per second".to_owned(),
            x: Scale::Log,
            y: Scale::Log,
            series: curves(&cells),
        })
        .collect()
}

fn curves(cells: &[&Cell]) -> Vec<Series> {
    cells[0]
        .rows
        .iter()
        .map(|row| Series {
            name: title(row.system),
            is_fanout: row.system.is_fanout(),
            points: cells
                .iter()
                .filter_map(|cell| {
                    let rate = cell.rate(row.system.name())?;
                    Some((cell.subscribers as f64, rate / 1e6))
                })
                .collect(),
        })
        .filter(|series| !series.points.is_empty())
        .collect()
}

/// The numbers of each round, for the JSON file.
pub fn numbers(cells: &[Cell]) -> Value {
    cells.iter().map(cell_numbers).collect()
}

fn cell_numbers(cell: &Cell) -> Value {
    let rows: Vec<Value> = cell
        .rows
        .iter()
        .map(|row| match row.excluded {
            Some(reason) => json!({ "system": row.system.name(), "not_measured": reason }),
            None => json!({
                "system": row.system.name(),
                "events": row.events,
                "median": median(&row.rates),
                "rates": row.rates,
                "processor_ns_per_delivery": row.processor_ns,
                "headline_ratio": cell
                    .headline()
                    .filter(|_| !row.system.is_fanout())
                    .and_then(|headline| cell.ratio_to(headline, row)),
                "kind": kind(row.system),
            }),
        })
        .collect();
    let best: Vec<Value> = cell
        .rows
        .iter()
        .filter(|row| row.system.is_fanout())
        .filter_map(|row| {
            let name = row.system.name();
            let all = cell.ratio_to_best(name, true)?;
            let sleeping = cell.ratio_to_best(name, false);
            Some(json!({
                "system": name,
                "best_peer": all.peer,
                "ratio": all.ratio,
                "best_sleeping_peer": sleeping.as_ref().map(|best| best.peer),
                "sleeping_ratio": sleeping.as_ref().map(|best| best.ratio),
            }))
        })
        .collect();
    json!({
        "publishers": cell.publishers,
        "subscribers": cell.subscribers,
        "systems": rows,
        "against_best": best,
    })
}

fn kind(system: &dyn System) -> &'static str {
    if system.is_fanout() {
        "fanout"
    } else if system.is_bound() {
        "bound"
    } else if system.is_reference() {
        "reference"
    } else {
        "peer"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::row;

    #[test]
    fn the_tables_show_the_best_peer_and_mark_the_others() {
        let cell = Cell {
            publishers: 1,
            subscribers: 16,
            rows: vec![
                row("fanout-handlers", &[4e6, 4e6, 4e6]),
                row("direct", &[8e6, 2e6, 16e6]),
                row("kanal", &[1e6, 1e6, 1e6]),
                row("tokio-room-for-all", &[2e6, 2e6, 2e6]),
            ],
        };
        let section = section(Scenario::Handlers, &[cell]);
        let [rates, ratios] = &section.tables[..] else {
            panic!("{:?}", section.tables)
        };
        assert!(rates.title.contains("median of 3 rounds"));
        assert_eq!(
            rates.rows[3],
            ["tokio-room-for-all (reference)", "2.0", "no"]
        );
        for row in [
            ["fanout-handlers / best peer", "4.00 (kanal)"],
            ["fanout-handlers / direct (bound)", "0.50"],
            ["fanout-handlers / kanal", "4.00"],
            ["fanout-handlers / tokio-room-for-all (reference)", "2.00"],
        ] {
            assert!(ratios.rows.iter().any(|cells| *cells == row), "{ratios:?}");
        }
        assert_eq!(section.goals[0].is_met(), Some(false));
    }

    #[test]
    fn the_systems_of_a_quick_comparison_belong_to_the_scenario() {
        for scenario in Scenario::ALL {
            let all = systems::of(scenario);
            for name in quick_systems(scenario) {
                assert!(all.iter().any(|system| system.name() == *name), "{name}");
            }
        }
    }
}
