//! `--compare`: an earlier report, and the ratios to it.
//!
//! The file is read and checked before anything is measured, so that a run does not fail at its
//! end. It must have each case of the run, with the same settings.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::args::Scenario;
use super::case::Case;
use super::limits::COMPARE_BYTES_MAX;
use super::machine::Machine;
use super::report::{FORMAT, FORMAT_VERSION, Measurement, Metric, Report, Summary};
use super::table::{Table, percent, time};
use crate::status::StartError;

/// An earlier report that has every case of this run.
#[derive(Debug)]
pub(crate) struct Earlier {
    file: String,
    report: Report,
}

/// The part of a report that says how to read the rest.
#[derive(Debug, Deserialize)]
struct Header {
    format: String,
    format_version: u64,
}

impl Earlier {
    /// Reads the file, and checks that it has these cases.
    pub(crate) fn read(path: &Path, cases: &[Case]) -> Result<Earlier, StartError> {
        let file = path.display().to_string();
        let bytes = read_bounded(path)
            .map_err(|error| StartError::Failed(format!("--compare {file}: {error}")))?;
        let report = checked(&bytes, cases)
            .map_err(|rule| StartError::Refused(format!("--compare {file}{rule}")))?;
        Ok(Earlier { file, report })
    }

    /// Compares measurements with those of the earlier report.
    pub(crate) fn compare(&self, measurements: &[Measurement]) -> Comparison {
        let rows = measurements.iter().flat_map(|now| {
            let before = find(&self.report, &now.case);
            let metrics = compared_metrics(now.case.scenario).iter();
            metrics.filter_map(move |&metric| {
                let (before, now_) = (before?.summary(metric)?, now.summary(metric)?);
                Some(Row::new(now.case, before, now_))
            })
        });
        Comparison {
            file: self.file.clone(),
            fanout: self.report.fanout.clone(),
            measured_at: self.report.measured_at.clone(),
            machine: self.report.machine.clone(),
            rows: rows.collect(),
        }
    }

    /// Returns the machine of the earlier report, if it is not this one.
    pub(crate) fn other_machine(&self, here: &Machine) -> Option<&Machine> {
        let machine = &self.report.machine;
        let is_same =
            (&machine.processor, machine.processors) == (&here.processor, here.processors);
        (!is_same).then_some(machine)
    }
}

/// The metrics that are compared: throughput, and for latency the middle and the tail.
fn compared_metrics(scenario: Scenario) -> &'static [Metric] {
    match scenario {
        Scenario::Threads | Scenario::Batches | Scenario::Tasks | Scenario::Handlers => {
            &[Metric::DeliveriesPerS]
        }
        Scenario::Latency => &[Metric::P50Ns, Metric::P99Ns],
        Scenario::Lookups => &[Metric::LookupsPerS],
    }
}

/// Reads a file of at most `COMPARE_BYTES_MAX` bytes. One byte more is read, so that a longer file
/// is noticed.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(COMPARE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a report that has these cases. The error is the place and the rule, to be written behind
/// the name of the file.
fn checked(bytes: &[u8], cases: &[Case]) -> Result<Report, String> {
    if bytes.len() as u64 > COMPARE_BYTES_MAX {
        return Err(format!(
            ": the file is longer than {COMPARE_BYTES_MAX} bytes, and is no report of fanout bench"
        ));
    }
    let Header {
        format,
        format_version,
    } = serde_json::from_slice(bytes).map_err(|error| unread(&error))?;
    if format != FORMAT {
        return Err(format!(": format: {format:?} is not {FORMAT:?}"));
    }
    if format_version != FORMAT_VERSION {
        return Err(format!(
            ": format_version: {format_version} is not {FORMAT_VERSION}, the version of this \
             program: measure again with this program"
        ));
    }
    let mut report: Report = serde_json::from_slice(bytes).map_err(|error| unread(&error))?;
    for (index, measurement) in report.measurements.iter_mut().enumerate() {
        let place = format!(": measurements[{index}]");
        *measurement = Measurement::new(measurement.case, std::mem::take(&mut measurement.rounds));
        for &metric in compared_metrics(measurement.case.scenario) {
            let summary = measurement.summary(metric);
            if !summary.is_some_and(|summary| summary.min > 0.0) {
                return Err(format!(
                    "{place}.rounds: no round may be without a time and a count above 0"
                ));
            }
        }
    }
    for case in cases {
        if find(&report, case).is_none() {
            return Err(format!(
                ": measurements: the case is missing: {case}; every case of this run must be in \
                 the file"
            ));
        }
    }
    Ok(report)
}

fn unread(error: &serde_json::Error) -> String {
    format!(
        ":{}:{}: not a report of fanout bench --json: {error}",
        error.line(),
        error.column()
    )
}

fn find<'a>(report: &'a Report, case: &Case) -> Option<&'a Measurement> {
    report.measurements.iter().find(|each| each.case == *case)
}

/// The ratios to an earlier report.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    file: String,
    fanout: String,
    measured_at: String,
    machine: Machine,
    rows: Vec<Row>,
}

/// One metric of one case, before and now.
#[derive(Debug, Serialize)]
struct Row {
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
    use super::super::report::Round;
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

    #[test]
    fn a_file_has_its_largest_size() {
        let largest = vec![b' '; COMPARE_BYTES_MAX as usize];
        let error = checked(&largest, &[]).expect_err("only blanks");
        assert!(error.contains("EOF while parsing"), "{error}");
        let error = checked(&[largest, vec![b' ']].concat(), &[]).expect_err("too long");
        assert!(error.contains("longer than 16777216 bytes"), "{error}");
    }
}
