//! The first table: every thread of the process shares one core. So the rates show the total cost
//! of a delivery. The second table has the processor time per delivery, which repeats on a busy
//! machine, too.

use super::race::{measured_systems, numbers};
use super::{NewBudget, rounds_text};
use crate::effort::Effort;
use crate::harness::CAPACITY;
use crate::machine;
use crate::measure;
use crate::report::{Goal, Limit, Plot, Scale, Section, Series, Table, number};
use crate::statistics::{Cell, median};
use crate::systems;

/// The numbers of subscribers that are threads.
const SUBSCRIBERS: [usize; 4] = [1, 4, 16, 64];
/// The number of subscribers that are tasks.
const TASKS: usize = 64;

/// The ways to publish with fanout: the system, and its description.
const WAYS: [(&str, &str); 4] = [
    ("fanout", "Publisher::publish"),
    ("fanout-publish-batch", "Publisher::publish_batch"),
    ("fanout-text", "bus.publish(\"text\", ..)"),
    ("fanout-text-batch", "bus.publish_batch(\"text\", ..)"),
];

/// The peers with subscribers that are threads, in the order of the columns. The last is a
/// reference.
const PEERS: [&str; 4] = ["crossbeam-channel", "bus", "kanal", "tokio-room-for-all"];

const TASKS_FANOUT: &str = "fanout-tasks";
/// The peers with subscribers that are tasks, in the same columns.
const TASKS_PEERS: Columns = [
    None,
    None,
    Some("kanal-tasks"),
    Some("tokio-room-for-all-tasks"),
];
/// The tasks of other peers. They have no column, but one of them may be the best peer.
const TASKS_OTHER_PEERS: [&str; 2] = ["tokio-credits-tasks", "postage"];

/// A goal: the system, the number of subscribers, the ratio, and the systems to which it is the
/// ratio.
const GOALS: [(&str, usize, f64, &[&str]); 7] = [
    ("fanout", 1, 1.0, &["crossbeam-channel", "bus"]),
    ("fanout-publish-batch", 1, 1.0, &["kanal"]),
    ("fanout", 4, 1.2, &["crossbeam-channel", "bus"]),
    ("fanout", 16, 1.5, &["crossbeam-channel", "bus"]),
    ("fanout", 64, 1.8, &["crossbeam-channel", "bus"]),
    ("fanout-text", 1, 0.6, &["crossbeam-channel", "bus"]),
    (TASKS_FANOUT, TASKS, 4.0, &["tokio-room-for-all-tasks"]),
];

/// Measures the section. Call this in a process that is pinned to one core. In another process the
/// section only says that it was not measured.
pub fn measure(effort: Effort, budget: NewBudget<'_>) -> Section {
    if machine::cores() != 1 {
        return not_measured(&format!("the process may use {} cores", machine::cores()));
    }
    let mut budget = budget(SUBSCRIBERS.len() + 1);
    let names: Vec<&str> = WAYS.iter().map(|(name, _)| *name).chain(PEERS).collect();
    let sizes: Vec<(u32, usize)> = SUBSCRIBERS.iter().map(|number| (1, *number)).collect();
    let threads = measure::measure(&systems::named(&names), &sizes, effort, &mut budget);

    let names: Vec<&str> = std::iter::once(TASKS_FANOUT)
        .chain(TASKS_PEERS.into_iter().flatten())
        .chain(TASKS_OTHER_PEERS)
        .collect();
    let tasks = measure::measure(&systems::named(&names), &[(1, TASKS)], effort, &mut budget);
    section(&threads, &tasks[0])
}

/// The section in place of the table if the threads could not be pinned.
pub fn not_measured(reason: &str) -> Section {
    eprintln!("NOT MEASURED: the table of one core: {reason}");
    Section {
        name: super::Kind::OneCore.name().to_owned(),
        title: "One core".to_owned(),
        about: vec![format!("NOT MEASURED: {reason}.")],
        ..Section::default()
    }
}

fn section(threads: &[Cell], tasks: &Cell) -> Section {
    let rows = |row: &dyn Fn(String, &Cell, &str, Columns) -> Vec<String>| {
        let mut rows = Vec::new();
        for (name, way) in WAYS {
            for cell in threads {
                let work = format!("threads {}, {way}", cell.subscribers);
                rows.push(row(work, cell, name, PEERS.map(Some)));
            }
        }
        let work = format!("tasks {TASKS}, Publisher::publish");
        rows.push(row(work, tasks, TASKS_FANOUT, TASKS_PEERS));
        rows
    };
    let rounds = rounds_text(threads.iter().chain([tasks]).map(Cell::rounds));
    let rates_header = [
        "1 publisher, subscribers",
        "fanout",
        "ns per event",
        "crossbeam",
        "bus",
        "kanal",
        "tokio, room for all (reference)",
        "fanout / best peer",
        "/ crossbeam",
        "/ bus",
        "/ kanal",
        "/ tokio (reference)",
    ];
    let processor_header = [
        "1 publisher, subscribers",
        "fanout",
        "crossbeam",
        "bus",
        "kanal",
        "tokio, room for all (reference)",
    ];
    Section {
        name: super::Kind::OneCore.name().to_owned(),
        title: "One core".to_owned(),
        about: vec![format!(
            "Every thread of the process is pinned to the same core, as `taskset -c N` does. So \
             the numbers show the total processor time of a delivery, with the switches between \
             threads. Events of 64 bytes, lossless, with a capacity of {CAPACITY} events per \
             subscriber. tokio's broadcast channel has room for all events of the run: it never \
             waits and its memory has no bound, so it is a reference and never the best peer."
        )],
        systems: threads
            .iter()
            .take(1)
            .chain([tasks])
            .flat_map(|cell| measured_systems(std::slice::from_ref(cell)))
            .collect(),
        tables: vec![
            Table {
                title: format!("Million deliveries per second on one core, {rounds}"),
                header: rates_header.map(str::to_owned).to_vec(),
                rows: rows(&row),
            },
            Table {
                title: format!(
                    "Nanoseconds of processor time per delivery on one core, {rounds}; this does \
                     not count the time of other programs, nor the time in which all threads wait"
                ),
                header: processor_header.map(str::to_owned).to_vec(),
                rows: rows(&processor_row),
            },
        ],
        goals: goals(threads, tasks),
        plots: vec![plot(threads)],
        numbers: serde_json::json!({
            "threads": numbers(threads),
            "tasks": numbers(std::slice::from_ref(tasks)),
        }),
    }
}

/// The peers of the columns.
type Columns = [Option<&'static str>; 4];

fn row(work: String, cell: &Cell, fanout: &str, peers: Columns) -> Vec<String> {
    let millions = |name: Option<&str>| {
        let rate = name.and_then(|name| cell.rate(name));
        number(rate.map(|rate| rate / 1e6), 1)
    };
    let ns_per_event = cell
        .row(fanout)
        .map(|row| 1e9 * cell.subscribers as f64 / median(&row.rates));
    let best = cell.ratio_to_best(fanout, true);
    let mut row = vec![work, millions(Some(fanout)), number(ns_per_event, 0)];
    row.extend(peers.map(millions));
    row.push(best.map_or_else(
        || "-".to_owned(),
        |best| format!("{:.2} ({})", best.ratio, best.peer),
    ));
    row.extend(peers.map(|peer| {
        let ratio = peer
            .and_then(|peer| cell.row(peer))
            .and_then(|peer| cell.ratio_to(fanout, peer));
        number(ratio, 2)
    }));
    row
}

fn processor_row(work: String, cell: &Cell, fanout: &str, peers: Columns) -> Vec<String> {
    let ns = |name: Option<&str>| {
        let row = name.and_then(|name| cell.row(name));
        let rounds = row
            .map(|row| &row.processor_ns)
            .filter(|rounds| !rounds.is_empty());
        number(rounds.map(|rounds| median(rounds)), 1)
    };
    let mut row = vec![work, ns(Some(fanout))];
    row.extend(peers.map(ns));
    row
}

fn goals(threads: &[Cell], tasks: &Cell) -> Vec<Goal> {
    GOALS
        .iter()
        .map(|(name, subscribers, limit, others)| {
            let cell = if *name == TASKS_FANOUT {
                Some(tasks)
            } else {
                threads.iter().find(|cell| cell.subscribers == *subscribers)
            };
            Goal {
                what: format!(
                    "{name}, 1 to {subscribers}, to the best of {}",
                    others.join(" and ")
                ),
                limit: Limit::AtLeast(*limit),
                measured: cell
                    .and_then(|cell| cell.ratio_to_best_of(name, others))
                    .map(|best| best.ratio),
            }
        })
        .collect()
}

fn plot(threads: &[Cell]) -> Plot {
    let names = WAYS.iter().map(|(name, _)| *name).chain(PEERS);
    Plot {
        title: "One core: deliveries per second".to_owned(),
        x_label: "subscribers that are threads".to_owned(),
        y_label: "million deliveries per second".to_owned(),
        x: Scale::Log,
        y: Scale::Linear,
        series: names
            .map(|name| Series {
                name: systems::title(systems::named(&[name])[0]),
                is_fanout: name.starts_with("fanout"),
                points: threads
                    .iter()
                    .filter_map(|cell| Some((cell.subscribers as f64, cell.rate(name)? / 1e6)))
                    .collect(),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics;

    #[test]
    fn the_table_marks_the_reference_and_names_the_best_peer() {
        let threads = Cell {
            publishers: 1,
            subscribers: 1,
            rows: vec![
                statistics::row("fanout", &[20e6]),
                statistics::row("crossbeam-channel", &[40e6]),
                statistics::row("bus", &[10e6]),
                statistics::row("tokio-room-for-all", &[80e6]),
            ],
        };
        let tasks = Cell {
            publishers: 1,
            subscribers: TASKS,
            rows: vec![
                statistics::row("fanout-tasks", &[8e6]),
                statistics::row("tokio-room-for-all-tasks", &[4e6]),
            ],
        };
        let section = section(&[threads], &tasks);
        let table = &section.tables[0];
        assert!(table.header[6].contains("(reference)"));
        let expected = [
            "threads 1, Publisher::publish",
            "20.0",
            "50",
            "40.0",
            "10.0",
            "-",
            "80.0",
            "0.50 (crossbeam-channel)",
            "0.50",
            "2.00",
            "-",
            "0.25",
        ];
        assert_eq!(table.rows[0], expected);
        let processor = &section.tables[1];
        assert_eq!(processor.rows[0][1..4], ["50.0", "25.0", "100.0"]);
        // The tasks have no peer with a bound here, but the ratio to the reference.
        let last = table.rows.last().unwrap();
        assert_eq!((last[7].as_str(), last[11].as_str()), ("-", "2.00"));
        assert_eq!(section.goals[0].measured, Some(0.5));
        assert_eq!(section.goals[6].is_met(), Some(false));
    }

    #[test]
    fn a_process_that_is_not_pinned_says_so() {
        let section = not_measured("a reason");
        assert!(section.about[0].contains("NOT MEASURED: a reason"));
        assert!(section.tables.is_empty());
    }
}
