//! Latency in an open loop: events arrive by a plan, and the time counts from the planned arrival
//! until the reader has received the event.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{NewBudget, rounds_text};
use crate::effort::{Budget, Effort, Size};
use crate::harness::{System, Work};
use crate::report::{Goal, Limit, Plot, Scale, Section, Series, Table, number};
use crate::run::run;
use crate::statistics::{median, ratios};
use crate::systems::{self, about, title};
use crate::tick;

/// The planned events per second.
const ARRIVALS: [u32; 4] = [1_000, 10_000, 100_000, 500_000];

/// The systems: fanout in each of its dispatch modes, the peer of the goals, and others. `fanout`
/// is the default dispatch; `fanout-pool` is measured only if it is not the default.
const SYSTEMS: [&str; 7] = [
    "fanout",
    "fanout-pool",
    "fanout-inline",
    "crossbeam-channel",
    "kanal",
    "tokio-credits",
    "tokio-room-for-all",
];

/// The system of the goals, and the peer with which it is compared.
const FANOUT: &str = "fanout";
const PEER: &str = "crossbeam-channel";

/// The planned length of a run, in milliseconds.
const QUICK_MILLIS: u64 = 300;
const FULL_MILLIS: u64 = 2_000;
/// The minimum number of events in a run, which makes the runs at the lowest rate longer.
const EVENTS_MIN: u64 = 500;
/// The number of events in a smoke run.
const SMOKE_EVENTS: u64 = 40;

/// The percentiles in the tables: the name, the quantile, and the number of events for which there
/// are about ten events above it.
const PERCENTILES: [(&str, f64, u64); 5] = [
    ("p50", 0.5, 20),
    ("p90", 0.9, 100),
    ("p99", 0.99, 1_000),
    ("p99.9", 0.999, 10_000),
    ("p99.99", 0.9999, 100_000),
];

/// The number of points of a curve for each nine of the percentile.
const POINTS_PER_NINE: u32 = 10;
/// The first point of a curve, in steps of [`POINTS_PER_NINE`]: p50.
const FIRST_POINT: u32 = 3;
/// The last point before the maximum is at this number of nines: p99.99.
const NINES_MAX: u32 = 4;

/// Up to this number of events per second, the ratios to [`PEER`] have goals.
const RATIO_GOALS_MAX: u32 = 100_000;
const P50_GOAL: f64 = 1.0;
const P99_GOAL: f64 = 1.15;
/// The limit of p90 at the highest rate, in microseconds.
const P90_GOAL_US: f64 = 10.0;

/// The latencies of one system at one rate.
struct Row {
    system: &'static dyn System,
    /// All rounds together, in nanoseconds.
    all: Histogram<u64>,
    /// The median and p99 of each round, in nanoseconds.
    p50: Vec<f64>,
    p99: Vec<f64>,
}

/// The latencies of all systems at one rate.
struct Cell {
    arrivals: u32,
    rows: Vec<Row>,
}

/// Measures the section.
pub fn measure(effort: Effort, budget: NewBudget<'_>) -> Section {
    let mut budget = budget(ARRIVALS.len());
    let cells: Vec<Cell> = ARRIVALS
        .into_iter()
        .map(|arrivals| {
            budget.next_step();
            measure_cell(arrivals, effort, &budget)
        })
        .collect();
    section(&cells)
}

fn measure_cell(arrivals: u32, effort: Effort, budget: &Budget) -> Cell {
    let millis = effort.size.pick(0, QUICK_MILLIS, FULL_MILLIS);
    let events = if effort.size == Size::Smoke {
        SMOKE_EVENTS
    } else {
        (u64::from(arrivals) * millis / 1_000).max(EVENTS_MIN)
    };
    let work = Work {
        publishers: 1,
        subscribers: 1,
        events,
        arrivals: Some(arrivals),
    };
    let mut rows: Vec<Row> = systems::named(&SYSTEMS)
        .into_iter()
        .filter(|system| system.exclusion(&work).is_none())
        .map(|system| Row {
            system,
            all: tick::latencies(),
            p50: Vec::new(),
            p99: Vec::new(),
        })
        .collect();
    for round in 1..=effort.rounds {
        if round > 1 && budget.is_used_up() {
            break;
        }
        eprintln!(
            "latency, {arrivals} events per second: round {round} of {}",
            effort.rounds
        );
        for row in &mut rows {
            let work = Work {
                events: work.events.min(row.system.max_events()),
                ..work.clone()
            };
            let latencies = run(row.system, &work).latencies;
            row.p50.push(latencies.value_at_quantile(0.5) as f64);
            row.p99.push(latencies.value_at_quantile(0.99) as f64);
            row.all
                .add(latencies)
                .expect("all histograms have the same range");
        }
    }
    Cell { arrivals, rows }
}

fn section(cells: &[Cell]) -> Section {
    Section {
        title: "Latency".to_owned(),
        systems: about(&systems::named(&SYSTEMS)),
        about: vec![
            "One publisher and one reader, which sleeps while it waits. The arrival of each event \
             is planned (an open loop), and the time counts from the planned arrival until the \
             reader has received the event. So the time for which an event waits while the \
             publisher is held up is part of its latency. Before an event is due, the publisher \
             sleeps if the time is long enough, and spins for the rest. From 10,000 events per \
             second on it uses a core fully, so these numbers need a machine without other work."
                .to_owned(),
            "The percentiles are those of all rounds together. A percentile is left out if there \
             are fewer than about ten events above it. The ratios are medians of the ratios of the \
             rounds, and a smaller ratio is better."
                .to_owned(),
        ],
        tables: cells.iter().map(table).collect(),
        goals: goals(cells),
        plots: cells.iter().map(plot).collect(),
        numbers: cells.iter().map(numbers).collect(),
        ..Section::default()
    }
}

fn table(cell: &Cell) -> Table {
    let mut header = vec!["system, us".to_owned()];
    header.extend(PERCENTILES.map(|(name, ..)| name.to_owned()));
    header.extend(
        [
            "max",
            "events",
            "p50 / crossbeam-channel",
            "p99 / crossbeam-channel",
        ]
        .map(str::to_owned),
    );
    let rows = cell
        .rows
        .iter()
        .map(|row| {
            let mut cells = vec![title(row.system)];
            cells.extend(PERCENTILES.map(|(_, quantile, events)| {
                number((row.all.len() >= events).then(|| row.us(quantile)), 1)
            }));
            cells.push(number(Some(row.us(1.0)), 1));
            cells.push(row.all.len().to_string());
            cells.push(number(cell.ratio(row, |row| &row.p50), 2));
            cells.push(number(cell.ratio(row, |row| &row.p99), 2));
            cells
        })
        .collect();
    let rounds = rounds_text(cell.rows.iter().map(|row| row.p50.len()));
    Table {
        title: format!(
            "{} events per second: latency in microseconds, ratios: {rounds}",
            cell.arrivals
        ),
        header,
        rows,
    }
}

impl Row {
    /// A quantile of all rounds, in microseconds.
    fn us(&self, quantile: f64) -> f64 {
        self.all.value_at_quantile(quantile) as f64 / 1e3
    }
}

impl Cell {
    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.system.name() == name)
    }

    /// The median of the ratios of a row to [`PEER`] in each round.
    fn ratio(&self, row: &Row, of: impl Fn(&Row) -> &Vec<f64>) -> Option<f64> {
        let peer = self.row(PEER)?;
        Some(median(&ratios(of(row), of(peer))))
    }
}

fn goals(cells: &[Cell]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for cell in cells {
        let per_second = cell.arrivals;
        let Some(row) = cell.row(FANOUT) else {
            continue;
        };
        if per_second > RATIO_GOALS_MAX {
            goals.push(Goal {
                what: format!("{FANOUT}, p90 in us, {per_second} events per second"),
                limit: Limit::AtMost(P90_GOAL_US),
                measured: Some(row.us(0.9)),
            });
            continue;
        }
        for (name, limit, ratio) in [
            ("p50", P50_GOAL, cell.ratio(row, |row| &row.p50)),
            ("p99", P99_GOAL, cell.ratio(row, |row| &row.p99)),
        ] {
            goals.push(Goal {
                what: format!("{FANOUT} / {PEER}, {name}, {per_second} events per second"),
                limit: Limit::AtMost(limit),
                measured: ratio,
            });
        }
    }
    goals
}

fn plot(cell: &Cell) -> Plot {
    Plot {
        title: format!("Latency at {} events per second", cell.arrivals),
        x_label: "percentile".to_owned(),
        y_label: "microseconds".to_owned(),
        x: Scale::Nines,
        y: Scale::Log,
        series: cell
            .rows
            .iter()
            .map(|row| Series {
                name: title(row.system),
                is_fanout: row.system.is_fanout(),
                points: curve(&row.all),
            })
            .collect(),
    }
}

/// The points of a percentile curve: the number of nines, and the latency in microseconds. The last
/// point is the maximum, which is the percentile above which there is one event.
fn curve(latencies: &Histogram<u64>) -> Vec<(f64, f64)> {
    let end = (latencies.len() as f64).log10();
    (FIRST_POINT..=NINES_MAX * POINTS_PER_NINE)
        .map(|step| f64::from(step) / f64::from(POINTS_PER_NINE))
        .take_while(|nines| *nines < end)
        .map(|nines| {
            let quantile = 1.0 - 10_f64.powf(-nines);
            let ns = latencies.value_at_quantile(quantile);
            (nines, ns as f64 / 1e3)
        })
        .chain([(end, latencies.max() as f64 / 1e3)])
        .collect()
}

fn numbers(cell: &Cell) -> Value {
    let rows: Vec<Value> = cell
        .rows
        .iter()
        .map(|row| {
            json!({
                "system": row.system.name(),
                "events": row.all.len(),
                "p50_ns_of_rounds": row.p50,
                "p99_ns_of_rounds": row.p99,
                "max_us": row.us(1.0),
                "curve_nines_us": curve(&row.all),
            })
        })
        .collect();
    json!({ "events_per_second": cell.arrivals, "systems": rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, ns: &[u64]) -> Row {
        let mut all = tick::latencies();
        for ns in ns {
            all.record(*ns).unwrap();
        }
        Row {
            system: systems::named(&[name])[0],
            p50: vec![all.value_at_quantile(0.5) as f64],
            p99: vec![all.value_at_quantile(0.99) as f64],
            all,
        }
    }

    #[test]
    fn percentiles_with_too_few_events_are_left_out() {
        let cell = Cell {
            arrivals: 1_000,
            rows: vec![
                row("fanout", &[10_000; 100]),
                row("crossbeam-channel", &[5_000; 100]),
            ],
        };
        let table = table(&cell);
        assert_eq!(
            table.rows[0],
            [
                "fanout", "10.0", "10.0", "-", "-", "-", "10.0", "100", "2.00", "2.00"
            ]
        );
        let goals = goals(&[cell]);
        assert_eq!(goals.len(), 2);
        assert_eq!(goals[0].is_met(), Some(false));
    }

    #[test]
    fn a_curve_goes_from_the_median_to_the_maximum() {
        let mut latencies = row("fanout", &[2_000; 99]).all;
        latencies.record(5_000).unwrap();
        let curve = curve(&latencies);
        assert_eq!(curve.first(), Some(&(0.3, 2.0)));
        let (nines, us) = curve.last().unwrap();
        assert_eq!(*nines, 2.0);
        assert!((4.9..5.1).contains(us), "{us}");
    }

    #[test]
    fn the_highest_rate_has_a_goal_in_microseconds() {
        let cell = Cell {
            arrivals: 500_000,
            rows: vec![row("fanout", &[20_000; 100])],
        };
        let goals = goals(&[cell]);
        assert_eq!(goals[0].is_met(), Some(false));
        assert!(goals[0].measured.unwrap() > 19.0);
    }
}
