//! The medians, the ratios, and the tables.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::harness::{CAPACITY, Scenario, System};
use crate::machine;

/// The results of one system with one number of publishers and subscribers.
pub struct Row {
    pub system: &'static dyn System,
    /// The number of events per run.
    pub events: u64,
    /// The deliveries per second in each round. It is empty if the system was not measured.
    pub rates: Vec<f64>,
    /// The reason why the system was not measured.
    pub excluded: Option<&'static str>,
}

/// The results of all systems with one number of publishers and subscribers.
pub struct Cell {
    pub publishers: u32,
    pub subscribers: usize,
    pub rows: Vec<Row>,
}

/// The ratio to the best peer.
pub struct BestPeer {
    /// The name of the peer that was the fastest in the most rounds.
    pub peer: &'static str,
    /// The median of the ratios of all rounds. The ratio of a round is the rate of the system
    /// divided by the rate of the fastest peer in that round.
    pub ratio: f64,
}

impl Cell {
    /// The row of the system with this name, if the system was measured.
    fn row(&self, name: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.system.name() == name && !row.rates.is_empty())
    }

    /// The ratio of a system to the fastest peer of each round. Peers that spin are included only
    /// if `include_spinning` is true.
    pub fn ratio_to_best(&self, name: &str, include_spinning: bool) -> Option<BestPeer> {
        let own = self.row(name)?;
        let peers: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| is_peer(row.system) && !row.rates.is_empty())
            .filter(|row| include_spinning || !row.system.spins())
            .collect();
        let mut wins = vec![0; peers.len()];
        let mut ratios = Vec::new();
        for (round, rate) in own.rates.iter().enumerate() {
            let (best, peer) = peers
                .iter()
                .enumerate()
                .max_by(|(_, a), (_, b)| a.rates[round].total_cmp(&b.rates[round]))?;
            wins[best] += 1;
            ratios.push(rate / peer.rates[round]);
        }
        let (best, _) = wins.iter().enumerate().max_by_key(|(_, wins)| **wins)?;
        Some(BestPeer {
            peer: peers[best].system.name(),
            ratio: median(&ratios),
        })
    }

    /// The median over all rounds of the rate of a system divided by the rate of another system.
    fn ratio_to(&self, name: &str, other: &Row) -> Option<f64> {
        let own = self.row(name)?;
        let ratios: Vec<f64> = own
            .rates
            .iter()
            .zip(&other.rates)
            .map(|(own, other)| own / other)
            .collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    /// The system whose ratios to each peer are in the tables: the first row of fanout.
    fn headline(&self) -> Option<&'static str> {
        let mut systems = self.rows.iter().map(|row| row.system);
        systems
            .find(|system| system.is_fanout())
            .map(|system| system.name())
    }

    /// The rows of the bounds.
    fn bounds(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.system.is_bound())
    }
}

fn is_peer(system: &dyn System) -> bool {
    !system.is_fanout() && !system.is_bound()
}

/// The median: the middle value, or the mean of the two middle values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.is_empty() {
        f64::NAN
    } else if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// Formats rows as plain text or as Markdown. The first row is the header.
fn table(rows: &[Vec<String>], markdown: bool) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                if column == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        if markdown {
            let _ = writeln!(text, "| {} |", cells.join(" | "));
            if number == 0 {
                let rule: Vec<&str> = (0..columns)
                    .map(|column| if column == 0 { "---" } else { "--:" })
                    .collect();
                let _ = writeln!(text, "| {} |", rule.join(" | "));
            }
        } else {
            let _ = writeln!(text, "{}", cells.join("   ").trim_end());
        }
    }
    text
}

/// The tables for all numbers of publishers: for each, the rates and then the ratios.
pub fn tables(cells: &[Cell], rounds: usize, markdown: bool) -> String {
    let mut text = String::new();
    let mut publishers: Vec<u32> = cells.iter().map(|cell| cell.publishers).collect();
    publishers.dedup();
    for publishers in publishers {
        let cells: Vec<&Cell> = cells
            .iter()
            .filter(|cell| cell.publishers == publishers)
            .collect();
        let plural = |number| if number == 1 { "" } else { "s" };
        let _ = writeln!(
            text,
            "{}{publishers} publisher{}: million deliveries per second, median of {rounds} \
             round{}\n",
            if markdown { "**" } else { "" },
            plural(publishers as usize),
            plural(rounds),
        );
        if markdown {
            text.truncate(text.trim_end().len());
            text.push_str("**\n\n");
        }
        text.push_str(&table(&rates(&cells), markdown));
        text.push('\n');
        let ratios = ratios(&cells);
        if ratios.len() > 1 {
            text.push_str("Ratios, each the median of the ratios of all rounds:\n\n");
            text.push_str(&table(&ratios, markdown));
            text.push('\n');
        }
    }
    text
}

fn header(first: &str, cells: &[&Cell]) -> Vec<String> {
    let mut header = vec![first.to_owned()];
    header.extend(cells.iter().map(|cell| match cell.subscribers {
        1 => "1 subscriber".to_owned(),
        number => number.to_string(),
    }));
    header
}

fn rates(cells: &[&Cell]) -> Vec<Vec<String>> {
    let mut header = header("system", cells);
    header.push("topics".to_owned());
    let mut rows = vec![header];
    for number in 0..cells[0].rows.len() {
        let system = cells[0].rows[number].system;
        let mut row = vec![system.name().to_owned()];
        row.extend(cells.iter().map(|cell| {
            let rates = &cell.rows[number].rates;
            if rates.is_empty() {
                "-".to_owned()
            } else {
                format!("{:.1}", median(rates) / 1e6)
            }
        }));
        if row[1..].iter().all(|cell| cell == "-") {
            continue;
        }
        row.push(if system.has_topics() { "yes" } else { "no" }.to_owned());
        rows.push(row);
    }
    rows
}

fn ratios(cells: &[&Cell]) -> Vec<Vec<String>> {
    let mut rows = vec![header("ratio", cells)];
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
            .any(|row| row.system.spins() && !row.rates.is_empty())
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
            add(format!("{name} / {}", bound.system.name()), &|cell| {
                let ratio = cell.ratio_to(name, cell.bounds().nth(number)?)?;
                Some(format!("{ratio:.2}"))
            });
        }
    }
    let Some(headline) = cells[0].headline() else {
        return rows;
    };
    for (number, system) in systems().enumerate() {
        if is_peer(system) {
            add(format!("{headline} / {}", system.name()), &|cell| {
                let ratio = cell.ratio_to(headline, &cell.rows[number])?;
                Some(format!("{ratio:.2}"))
            });
        }
    }
    rows
}

/// The latencies of one system with one number of publishers and subscribers.
pub struct Latency {
    pub system: &'static dyn System,
    pub publishers: u32,
    pub subscribers: usize,
    pub histogram: Histogram<u64>,
}

const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

impl Latency {
    fn micros(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// The table of latencies.
pub fn latency_table(rows: &[Latency], markdown: bool) -> String {
    let mut header = vec![
        "system".to_owned(),
        "publishers".to_owned(),
        "subscribers".to_owned(),
    ];
    header.extend(PERCENTILES.iter().map(|(name, _)| format!("{name} (us)")));
    header.push("deliveries".to_owned());
    let mut lines = vec![header];
    for row in rows {
        let mut line = vec![
            row.system.name().to_owned(),
            row.publishers.to_string(),
            row.subscribers.to_string(),
        ];
        line.extend(
            PERCENTILES
                .iter()
                .map(|(_, q)| format!("{:.1}", row.micros(*q))),
        );
        line.push(row.histogram.len().to_string());
        lines.push(line);
    }
    table(&lines, markdown)
}

/// The text above the tables: the date, the machine, the versions, and in Markdown also a
/// description of each system.
pub fn preamble(scenario: Scenario, systems: &[&'static dyn System], markdown: bool) -> String {
    let mut versions: Vec<String> = Vec::new();
    for system in systems {
        let Some(package) = system.package() else {
            continue;
        };
        let version = format!("{package} {}", machine::version(package));
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let mut text = format!(
        "{}; {}. {}. 64-byte events, lossless, capacity of {CAPACITY} events per subscriber; \
         {}.\n\n",
        machine::today(),
        machine::describe(),
        versions.join(", "),
        scenario.about(),
    );
    if markdown {
        for system in systems {
            let _ = writeln!(text, "- `{}`: {}.", system.name(), system.about());
        }
        text.push('\n');
    }
    text
}

/// All numbers as JSON, for `--json`.
pub fn json(
    scenario: Scenario,
    cells: &[Cell],
    latency: &[Latency],
    systems: &[&'static dyn System],
) -> Value {
    let versions: serde_json::Map<String, Value> = systems
        .iter()
        .filter_map(|system| system.package())
        .map(|package| (package.to_owned(), machine::version(package).into()))
        .collect();
    let results: Vec<Value> = cells
        .iter()
        .map(|cell| {
            let rows: Vec<Value> = cell
                .rows
                .iter()
                .map(|row| match row.excluded {
                    Some(reason) => json!({ "system": row.system.name(), "refused": reason }),
                    None => json!({
                        "system": row.system.name(),
                        "events": row.events,
                        "median": median(&row.rates),
                        "rates": row.rates,
                        "headline_ratio": cell
                            .headline()
                            .filter(|_| !row.system.is_fanout())
                            .and_then(|headline| cell.ratio_to(headline, row)),
                        "bound": row.system.is_bound(),
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
                    let bounds: serde_json::Map<String, Value> = cell
                        .bounds()
                        .filter_map(|bound| {
                            let ratio = cell.ratio_to(name, bound)?;
                            Some((bound.system.name().to_owned(), ratio.into()))
                        })
                        .collect();
                    Some(json!({
                        "system": name,
                        "best_peer": all.peer,
                        "ratio": all.ratio,
                        "best_sleeping_peer": sleeping.as_ref().map(|best| best.peer),
                        "sleeping_ratio": sleeping.as_ref().map(|best| best.ratio),
                        "bounds": bounds,
                    }))
                })
                .collect();
            json!({
                "publishers": cell.publishers,
                "subscribers": cell.subscribers,
                "systems": rows,
                "against_best": best,
            })
        })
        .collect();
    let latency: Vec<Value> = latency
        .iter()
        .map(|row| {
            let mut value = json!({
                "system": row.system.name(),
                "publishers": row.publishers,
                "subscribers": row.subscribers,
                "deliveries": row.histogram.len(),
            });
            for (name, quantile) in PERCENTILES {
                value[format!("{name}_us")] = row.micros(quantile).into();
            }
            value
        })
        .collect();
    json!({
        "race": scenario.name(),
        "date": machine::today(),
        "machine": machine::describe(),
        "cores": machine::cores(),
        "versions": versions,
        "capacity": CAPACITY,
        "event_bytes": 64,
        "throughput": results,
        "latency": latency,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, rates: &[f64]) -> Row {
        let system = Scenario::ALL
            .into_iter()
            .flat_map(crate::systems)
            .find(|system| system.name() == name)
            .unwrap();
        Row {
            system,
            events: 1,
            rates: rates.to_vec(),
            excluded: None,
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_of_the_rounds() {
        let cell = Cell {
            publishers: 1,
            subscribers: 1,
            rows: vec![
                row("fanout", &[10.0, 10.0, 90.0]),
                row("fanout-batches", &[99.0, 99.0, 99.0]),
                row("bus", &[5.0, 1.0, 30.0]),
                row("flume", &[2.0, 4.0, 1.0]),
                row("disruptor", &[10.0, 20.0, 90.0]),
            ],
        };
        let best = cell.ratio_to_best("fanout", false).unwrap();
        assert_eq!((best.peer, best.ratio), ("bus", 2.5));
        let best = cell.ratio_to_best("fanout", true).unwrap();
        assert_eq!((best.peer, best.ratio), ("disruptor", 1.0));
        assert_eq!(cell.ratio_to("fanout", &cell.rows[3]), Some(5.0));
        assert!(cell.ratio_to_best("fanout-inline", true).is_none());
    }

    #[test]
    fn a_bound_is_not_a_peer() {
        let cell = Cell {
            publishers: 1,
            subscribers: 16,
            rows: vec![
                row("fanout-handlers", &[4e6, 4e6, 4e6]),
                row("direct", &[8e6, 2e6, 16e6]),
                row("kanal", &[1e6, 1e6, 1e6]),
            ],
        };
        let best = cell.ratio_to_best("fanout-handlers", true).unwrap();
        assert_eq!((best.peer, best.ratio), ("kanal", 4.0));
        let text = tables(&[cell], 3, true);
        for line in [
            "| fanout-handlers / best peer | 4.00 (kanal) |",
            "| fanout-handlers / direct    |         0.50 |",
            "| fanout-handlers / kanal     |         4.00 |",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(text.matches("/ direct").count(), 1, "{text}");
    }

    #[test]
    fn the_tables_show_the_best_peer() {
        let cell = Cell {
            publishers: 4,
            subscribers: 16,
            rows: vec![row("fanout", &[3e6]), row("bus", &[2e6])],
        };
        let text = tables(&[cell], 1, true);
        assert!(
            text.contains("| fanout / best peer | 1.50 (bus) |"),
            "{text}"
        );
        assert!(text.contains("**4 publishers"), "{text}");
    }
}
