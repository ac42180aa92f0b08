//! The ratios of measurements to those of an earlier report.

use serde::Serialize;

use super::args::Scenario;
use super::case::Case;
use super::machine::Machine;
use super::measurement::{Measurement, Metric, Summary};
use super::table::{Table, percent, time};

/// The ratios to an earlier report.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) file: String,
    pub(crate) fanout: String,
    pub(crate) measured_at: String,
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
}

/// One metric of one case, before and now.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    case: Case,
    metric: Metric,
    before: f64,
    before_spread_percent: f64,
    now: f64,
    now_spread_percent: f64,
    /// The median of now, divided by that of before.
    ratio: f64,
    verdict: Verdict,
}

/// What the ratio and the spreads say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// Every round of now is better than every round of before.
    Better,
    Worse,
    /// The ranges of the rounds overlap.
    WithinSpread,
}

impl Row {
    fn new(case: Case, before: Summary, now: Summary) -> Row {
        debug_assert_eq!(before.metric, now.metric);
        let is_more_better = case.scenario != Scenario::Latency;
        let verdict = match (now.min > before.max, now.max < before.min) {
            (false, false) => Verdict::WithinSpread,
            (is_more, _) if is_more == is_more_better => Verdict::Better,
            _ => Verdict::Worse,
        };
        Row {
            case,
            metric: now.metric,
            before: before.median,
            before_spread_percent: before.spread_percent(),
            now: now.median,
            now_spread_percent: now.spread_percent(),
            ratio: now.median / before.median,
            verdict,
        }
    }
}

/// Compares the metrics of a case.
pub(crate) fn rows(before: &Measurement, now: &Measurement) -> Vec<Row> {
    let metrics = compared_metrics(now.case.scenario).iter();
    let row = |&metric| {
        let (before, now_) = (before.summary(metric)?, now.summary(metric)?);
        Some(Row::new(now.case, before, now_))
    };
    metrics.filter_map(row).collect()
}

/// The metrics that are compared: throughput, and for latency the middle and the tail.
pub(crate) fn compared_metrics(scenario: Scenario) -> &'static [Metric] {
    match scenario {
        Scenario::Threads | Scenario::Batches | Scenario::Tasks | Scenario::Handlers => {
            &[Metric::DeliveriesPerS]
        }
        Scenario::Latency => &[Metric::P50Ns, Metric::P99Ns],
        Scenario::Lookups => &[Metric::LookupsPerS],
    }
}

impl Comparison {
    /// A table for people. `None` if nothing was measured.
    pub(crate) fn table(&self) -> Option<String> {
        let mut table = Table::new([
            "compared", "", "metric", "before", "spread", "now", "spread", "ratio", "",
        ]);
        for row in &self.rows {
            let value = |value: f64| match row.metric {
                Metric::DeliveriesPerS | Metric::LookupsPerS => format!("{:.2}", value / 1e6),
                _ => time(value),
            };
            let unit = match row.metric {
                Metric::DeliveriesPerS => "M deliveries/s",
                Metric::LookupsPerS => "M look-ups/s",
                Metric::P99Ns => "p99",
                _ => "p50",
            };
            let case = &row.case;
            let setting = match (case.rate_per_s, case.cache, case.bus) {
                (Some(rate), ..) => format!("{rate} events/s"),
                (_, Some(cache), _) => cache.name().to_owned(),
                (.., Some(bus)) => bus.subscribers.to_string(),
                _ => String::new(),
            };
            let verdict = match row.verdict {
                Verdict::Better => "better",
                Verdict::Worse => "worse",
                Verdict::WithinSpread => "within the spread",
            };
            table.row([
                case.scenario.name().to_owned(),
                setting,
                unit.to_owned(),
                value(row.before),
                percent(row.before_spread_percent),
                value(row.now),
                percent(row.now_spread_percent),
                format!("{:.2}", row.ratio),
                verdict.to_owned(),
            ]);
        }
        let (file, fanout, at) = (&self.file, &self.fanout, &self.measured_at);
        let table = table.text()?;
        Some(format!("before   {file}: fanout {fanout}, {at}\n{table}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::measurement::Round;
    use super::*;
    use std::time::Duration;

    fn measurement(scenario: Scenario, ns: &[u64]) -> Measurement {
        let case = Case {
            scenario,
            bus: None,
            rate_per_s: None,
            cache: None,
        };
        let round = |&ns| Round {
            deliveries: 1,
            latency_ns: (scenario == Scenario::Latency).then_some(crate::report::Latency {
                p50: ns,
                p90: ns,
                p99: ns,
                p99_9: ns,
                max: ns,
            }),
            ..Round::new(Duration::from_nanos(ns), 1)
        };
        Measurement::new(case, ns.iter().map(round).collect())
    }

    fn row(scenario: Scenario, before: &[u64], now: &[u64]) -> Row {
        let metric = compared_metrics(scenario)[0];
        let summary = |ns| measurement(scenario, ns).summary(metric).expect("rounds");
        let (before, now) = (summary(before), summary(now));
        let case = measurement(scenario, &[1]).case;
        Row::new(case, before, now)
    }

    #[test]
    fn a_ratio_counts_only_beyond_the_spread() {
        for (scenario, more_time) in [
            (Scenario::Threads, 0.5),
            (Scenario::Lookups, 0.5),
            (Scenario::Latency, 2.0),
        ] {
            let slower = row(scenario, &[100, 110, 120], &[200, 220, 240]);
            assert_eq!(slower.verdict, Verdict::Worse);
            assert!((slower.ratio - more_time).abs() < 1e-9, "{slower:?}");
            let faster = row(scenario, &[200, 220, 240], &[100, 110, 120]);
            assert_eq!(faster.verdict, Verdict::Better);
            assert!((faster.ratio * more_time - 1.0).abs() < 1e-9, "{faster:?}");
            let same = row(scenario, &[100, 110, 200], &[200, 220, 240]);
            assert_eq!(same.verdict, Verdict::WithinSpread);
        }
    }
}
