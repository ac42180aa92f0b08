//! What was measured: the rounds of a case, and what they say about each metric.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::args::Scenario;
use super::case::Case;
use crate::report::{Latency, rate};

/// The rounds of one case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measurement {
    pub(crate) case: Case,
    /// What `rounds` say about each metric. It is computed again when a report is read.
    #[serde(skip_deserializing)]
    pub(crate) summary: Vec<Summary>,
    pub(crate) rounds: Vec<Round>,
}

/// One round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) elapsed_s: f64,
    /// The number of events that were published, or of look-ups.
    pub(crate) operations: u64,
    /// The number of events that were received, or of values that were found.
    pub(crate) deliveries: u64,
    /// The number of events that were lost or replaced.
    pub(crate) lost: u64,
    /// Only in measurements of latency.
    pub(crate) latency_ns: Option<Latency>,
}

impl Round {
    /// A round without deliveries.
    pub(crate) fn new(elapsed: Duration, operations: u64) -> Round {
        Round {
            elapsed_s: elapsed.as_secs_f64(),
            operations,
            deliveries: 0,
            lost: 0,
            latency_ns: None,
        }
    }

    fn elapsed(&self) -> Duration {
        // A file may contain any number.
        Duration::try_from_secs_f64(self.elapsed_s).unwrap_or_default()
    }
}

/// A quantity that is measured, by its key in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// The first of throughput.
    DeliveriesPerS,
    NsPerEvent,
    LookupsPerS,
    NsPerLookup,
    P50Ns,
    P90Ns,
    P99Ns,
    #[serde(rename = "p99_9_ns")]
    P999Ns,
    MaxNs,
}

impl Metric {
    /// The metrics of a scenario.
    pub(crate) fn of(scenario: Scenario) -> &'static [Metric] {
        use Metric::*;
        match scenario {
            Scenario::Threads | Scenario::Batches | Scenario::Tasks | Scenario::Handlers => {
                &[DeliveriesPerS, NsPerEvent]
            }
            Scenario::Latency => &[P50Ns, P90Ns, P99Ns, P999Ns, MaxNs],
            Scenario::Lookups => &[LookupsPerS, NsPerLookup],
        }
    }

    /// Returns the value in a round. `None` without deliveries.
    fn value(self, round: &Round) -> Option<f64> {
        let ns_per_operation = || Some(round.elapsed_s * 1e9 / round.operations as f64);
        let latency = |of: fn(&Latency) -> u64| round.latency_ns.as_ref().map(|all| of(all) as f64);
        match self {
            Metric::DeliveriesPerS => Some(rate(round.deliveries, round.elapsed())),
            Metric::LookupsPerS => Some(rate(round.operations, round.elapsed())),
            Metric::NsPerEvent | Metric::NsPerLookup => ns_per_operation(),
            Metric::P50Ns => latency(|all| all.p50),
            Metric::P90Ns => latency(|all| all.p90),
            Metric::P99Ns => latency(|all| all.p99),
            Metric::P999Ns => latency(|all| all.p99_9),
            Metric::MaxNs => latency(|all| all.max),
        }
    }
}

/// What the rounds say about a metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) metric: Metric,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Returns `None` if no round has a value.
    fn of(metric: Metric, rounds: &[Round]) -> Option<Summary> {
        let values = rounds.iter().filter_map(|round| metric.value(round));
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => return None,
            length if length % 2 == 0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Summary {
            metric,
            median,
            min: values[0],
            max: values[values.len() - 1],
        })
    }

    /// The distance from the lowest to the highest round, in percent of the median.
    pub(crate) fn spread_percent(&self) -> f64 {
        match self.median {
            0.0 => 0.0,
            median => 100.0 * (self.max - self.min) / median,
        }
    }
}

impl Measurement {
    pub(crate) fn new(case: Case, rounds: Vec<Round>) -> Measurement {
        let metrics = Metric::of(case.scenario).iter();
        let summary = metrics.filter_map(|&metric| Summary::of(metric, &rounds));
        Measurement {
            case,
            summary: summary.collect(),
            rounds,
        }
    }

    pub(crate) fn summary(&self, metric: Metric) -> Option<Summary> {
        let mut all = self.summary.iter();
        all.find(|summary| summary.metric == metric).copied()
    }

    pub(crate) fn lost(&self) -> u64 {
        self.rounds.iter().map(|round| round.lost).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(elapsed_s: &[f64]) -> Vec<Round> {
        let round = |&seconds| Round {
            deliveries: 100,
            ..Round::new(Duration::from_secs_f64(seconds), 50)
        };
        elapsed_s.iter().map(round).collect()
    }

    #[test]
    fn the_summary_is_the_median_and_the_range() {
        for (elapsed_s, median, min, max) in [
            (&[1.0][..], 100.0, 100.0, 100.0),
            (&[1.0, 4.0], 62.5, 25.0, 100.0),
            (&[4.0, 1.0, 2.0], 50.0, 25.0, 100.0),
        ] {
            let all = Summary::of(Metric::DeliveriesPerS, &rounds(elapsed_s));
            let all = all.expect("there are rounds");
            assert_eq!((all.median, all.min, all.max), (median, min, max));
        }
        let spread = Summary::of(Metric::NsPerEvent, &rounds(&[1.0, 2.0, 3.0]));
        assert_eq!(spread.expect("there are rounds").spread_percent(), 100.0);
    }

    #[test]
    fn what_was_not_measured_has_no_summary() {
        assert_eq!(Summary::of(Metric::P50Ns, &rounds(&[1.0])), None);
        assert_eq!(Summary::of(Metric::DeliveriesPerS, &[]), None);
        let nothing = Round::new(Duration::ZERO, 0);
        assert_eq!(Summary::of(Metric::NsPerEvent, &[nothing]), None);
    }
}
