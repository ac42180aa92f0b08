//! Medians, ratios, tables.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::machine;
use crate::race::{CAPACITY, Race, System};

/// All rounds of one system at one number of publishers and subscribers.
pub struct Row {
    pub system: &'static dyn System,
    /// Events per run.
    pub events: u64,
    /// Deliveries per second of each round; empty where the system took no part.
    pub rates: Vec<f64>,
    /// Why it took no part.
    pub refused: Option<&'static str>,
}

/// All systems at one number of publishers and subscribers.
pub struct Cell {
    pub publishers: u32,
    pub subscribers: usize,
    pub rows: Vec<Row>,
}

/// A ratio to the best peer.
pub struct Best {
    /// The peer that was the best in most rounds.
    pub peer: &'static str,
    /// The median over the rounds of this system's rate by the rate of the round's best peer.
    pub ratio: f64,
}

impl Cell {
    /// The row of a system by its name.
    fn row(&self, name: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.system.name() == name && !row.rates.is_empty())
    }

    /// Round by round against whichever peer was the fastest in that round.
    pub fn against_best(&self, name: &str, spinning_too: bool) -> Option<Best> {
        let own = self.row(name)?;
        let peers: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| is_peer(row.system) && !row.rates.is_empty())
            .filter(|row| spinning_too || !row.system.spins())
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
        Some(Best {
            peer: peers[best].system.name(),
            ratio: median(&ratios),
        })
    }

    /// The median over the rounds of a system's rate by another's.
    fn against(&self, name: &str, other: &Row) -> Option<f64> {
        let own = self.row(name)?;
        let ratios: Vec<f64> = own
            .rates
            .iter()
            .zip(&other.rates)
            .map(|(own, other)| own / other)
            .collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    /// The system whose ratios are the result: the first of fanout's.
    fn headline(&self) -> Option<&'static str> {
        let mut systems = self.rows.iter().map(|row| row.system);
        systems
            .find(|system| system.is_fanout())
            .map(|system| system.name())
    }

    /// What all could reach at most.
    fn bounds(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.system.is_bound())
    }
}

fn is_peer(system: &dyn System) -> bool {
    !system.is_fanout() && !system.is_bound()
}

/// The middle value, or the mean of the middle two.
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

/// Rows of cells, as text or as Markdown; the first row is the head.
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

/// The tables of all cells: rates first, then the ratios.
pub fn tables(cells: &[Cell], rounds: usize, markdown: bool) -> String {
    let mut text = String::new();
    let mut publishers: Vec<u32> = cells.iter().map(|cell| cell.publishers).collect();
    publishers.dedup();
    for publishers in publishers {
        let cells: Vec<&Cell> = cells
            .iter()
            .filter(|cell| cell.publishers == publishers)
            .collect();
        let many = if publishers == 1 { "" } else { "s" };
        let _ = writeln!(
            text,
            "{}{publishers} publisher{many}: million deliveries per second, median of {rounds}\n",
            if markdown { "**" } else { "" }
        );
        if markdown {
            text.truncate(text.trim_end().len());
            text.push_str("**\n\n");
        }
        text.push_str(&table(&rates(&cells), markdown));
        text.push('\n');
        let ratios = ratios(&cells);
        if ratios.len() > 1 {
            text.push_str("Ratios, median of the rounds' ratios:\n\n");
            text.push_str(&table(&ratios, markdown));
            text.push('\n');
        }
    }
    text
}

fn head(first: &str, cells: &[&Cell]) -> Vec<String> {
    let mut head = vec![first.to_owned()];
    head.extend(cells.iter().map(|cell| match cell.subscribers {
        1 => "1 subscriber".to_owned(),
        many => format!("{many}"),
    }));
    head
}

fn rates(cells: &[&Cell]) -> Vec<Vec<String>> {
    let mut head = head("system", cells);
    head.push("topics".to_owned());
    let mut rows = vec![head];
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
        row.push(if system.topics() { "yes" } else { "no" }.to_owned());
        rows.push(row);
    }
    rows
}

fn ratios(cells: &[&Cell]) -> Vec<Vec<String>> {
    let mut rows = vec![head("ratio", cells)];
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
        let best = |spinning_too| {
            move |cell: &Cell| {
                let best = cell.against_best(name, spinning_too)?;
                Some(format!("{:.2} ({})", best.ratio, best.peer))
            }
        };
        add(format!("{name} / best peer"), &best(true));
        if spinning {
            add(format!("{name} / best peer that sleeps"), &best(false));
        }
        for (number, bound) in cells[0].bounds().enumerate() {
            add(format!("{name} / {}", bound.system.name()), &|cell| {
                let ratio = cell.against(name, cell.bounds().nth(number)?)?;
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
                let ratio = cell.against(headline, &cell.rows[number])?;
                Some(format!("{ratio:.2}"))
            });
        }
    }
    rows
}

/// The latencies of one system at one number of publishers and subscribers.
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
    let mut head = vec![
        "system".to_owned(),
        "publishers".to_owned(),
        "subscribers".to_owned(),
    ];
    head.extend(PERCENTILES.iter().map(|(name, _)| format!("{name} (us)")));
    head.push("deliveries".to_owned());
    let mut lines = vec![head];
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

/// Machine, date, versions, and how each system is used.
pub fn preamble(race: Race, systems: &[&'static dyn System], markdown: bool) -> String {
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
        "{}; {}. {}. 64-byte events, lossless, {CAPACITY} events of room per subscriber, {}.\n\n",
        machine::today(),
        machine::describe(),
        versions.join(", "),
        race.about(),
    );
    if markdown {
        for system in systems {
            let _ = writeln!(text, "- `{}`: {}.", system.name(), system.about());
        }
        text.push('\n');
    }
    text
}

/// All numbers, for `--json`.
pub fn json(
    race: Race,
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
                .map(|row| match row.refused {
                    Some(why) => json!({ "system": row.system.name(), "refused": why }),
                    None => json!({
                        "system": row.system.name(),
                        "events": row.events,
                        "median": median(&row.rates),
                        "rates": row.rates,
                        "headline_ratio": cell
                            .headline()
                            .filter(|_| !row.system.is_fanout())
                            .and_then(|headline| cell.against(headline, row)),
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
                    let all = cell.against_best(name, true)?;
                    let sleeping = cell.against_best(name, false);
                    let bounds: serde_json::Map<String, Value> = cell
                        .bounds()
                        .filter_map(|bound| {
                            let ratio = cell.against(name, bound)?;
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
        "race": race.name(),
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
        let system = Race::ALL
            .into_iter()
            .flat_map(crate::systems)
            .find(|system| system.name() == name)
            .unwrap();
        Row {
            system,
            events: 1,
            rates: rates.to_vec(),
            refused: None,
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
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
        let best = cell.against_best("fanout", false).unwrap();
        assert_eq!((best.peer, best.ratio), ("bus", 2.5));
        let best = cell.against_best("fanout", true).unwrap();
        assert_eq!((best.peer, best.ratio), ("disruptor", 1.0));
        assert_eq!(cell.against("fanout", &cell.rows[3]), Some(5.0));
        assert!(cell.against_best("fanout-inline", true).is_none());
    }

    #[test]
    fn a_bound_is_no_peer() {
        let cell = Cell {
            publishers: 1,
            subscribers: 16,
            rows: vec![
                row("fanout-handlers", &[4e6, 4e6, 4e6]),
                row("direct", &[8e6, 2e6, 16e6]),
                row("kanal", &[1e6, 1e6, 1e6]),
            ],
        };
        let best = cell.against_best("fanout-handlers", true).unwrap();
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
    fn tables_name_the_best_peer() {
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
