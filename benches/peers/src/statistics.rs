//! The rates of all rounds, their medians, and the ratios within each round.

use crate::harness::System;

/// The results of one system with one number of publishers and subscribers.
pub struct Row {
    pub system: &'static dyn System,
    /// The number of events per run.
    pub events: u64,
    /// The deliveries per second in each round. It is empty if the system was not measured.
    pub rates: Vec<f64>,
    /// The nanoseconds of processor time per delivery in each round, where it can be measured.
    pub processor_ns: Vec<f64>,
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
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.system.name() == name && !row.rates.is_empty())
    }

    /// The median rate of a system, in deliveries per second.
    pub fn rate(&self, name: &str) -> Option<f64> {
        self.row(name).map(|row| median(&row.rates))
    }

    /// The number of rounds that were measured.
    pub fn rounds(&self) -> usize {
        self.rows
            .iter()
            .map(|row| row.rates.len())
            .max()
            .unwrap_or(0)
    }

    /// The ratio of a system to the fastest peer of each round. Peers that spin are included only
    /// if `include_spinning` is true.
    pub fn ratio_to_best(&self, name: &str, include_spinning: bool) -> Option<BestPeer> {
        self.ratio_to_fastest(name, |system| {
            is_peer(system) && (include_spinning || !system.spins())
        })
    }

    /// The ratio of a system to the fastest of the named systems in each round.
    pub fn ratio_to_best_of(&self, name: &str, others: &[&str]) -> Option<BestPeer> {
        self.ratio_to_fastest(name, |system| others.contains(&system.name()))
    }

    fn ratio_to_fastest(
        &self,
        name: &str,
        is_other: impl Fn(&dyn System) -> bool,
    ) -> Option<BestPeer> {
        let own = self.row(name)?;
        let others: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| is_other(row.system) && !row.rates.is_empty())
            .collect();
        let mut wins = vec![0; others.len()];
        let mut ratios = Vec::new();
        for (round, rate) in own.rates.iter().enumerate() {
            let (best, other) = others
                .iter()
                .enumerate()
                .max_by(|(_, a), (_, b)| a.rates[round].total_cmp(&b.rates[round]))?;
            wins[best] += 1;
            ratios.push(rate / other.rates[round]);
        }
        let (best, _) = wins.iter().enumerate().max_by_key(|(_, wins)| **wins)?;
        Some(BestPeer {
            peer: others[best].system.name(),
            ratio: median(&ratios),
        })
    }

    /// The median over all rounds of the rate of a system divided by the rate of another system.
    pub fn ratio_to(&self, name: &str, other: &Row) -> Option<f64> {
        let own = self.row(name)?;
        let ratios = ratios(&own.rates, &other.rates);
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    /// The system whose ratios to each peer are in the tables: the first row of fanout.
    pub fn headline(&self) -> Option<&'static str> {
        let mut systems = self.rows.iter().map(|row| row.system);
        systems
            .find(|system| system.is_fanout())
            .map(|system| system.name())
    }

    /// The rows of the bounds.
    pub fn bounds(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.system.is_bound())
    }
}

/// Whether the system can be the best peer. A bound and a reference cannot.
pub fn is_peer(system: &dyn System) -> bool {
    !system.is_fanout() && !system.is_bound() && !system.is_reference()
}

/// The ratio of each round.
pub fn ratios(own: &[f64], other: &[f64]) -> Vec<f64> {
    own.iter()
        .zip(other)
        .map(|(own, other)| own / other)
        .collect()
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

/// Rows with rates that are given instead of measured.
#[cfg(test)]
pub fn row(name: &str, rates: &[f64]) -> Row {
    Row {
        system: crate::systems::named(&[name])[0],
        events: 1,
        rates: rates.to_vec(),
        processor_ns: rates.iter().map(|rate| 1e9 / rate).collect(),
        excluded: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let best = cell.ratio_to_best_of("fanout", &["flume"]).unwrap();
        assert_eq!((best.peer, best.ratio), ("flume", 5.0));
        assert_eq!(cell.ratio_to("fanout", &cell.rows[3]), Some(5.0));
        assert!(cell.ratio_to_best("fanout-inline", true).is_none());
    }

    #[test]
    fn neither_a_bound_nor_a_reference_is_the_best_peer() {
        let cell = Cell {
            publishers: 1,
            subscribers: 16,
            rows: vec![
                row("fanout-handlers", &[4e6]),
                row("direct", &[8e6]),
                row("kanal", &[1e6]),
                row("tokio-room-for-all", &[9e6]),
            ],
        };
        let best = cell.ratio_to_best("fanout-handlers", true).unwrap();
        assert_eq!((best.peer, best.ratio), ("kanal", 4.0));
        assert_eq!(cell.bounds().count(), 1);
    }
}
