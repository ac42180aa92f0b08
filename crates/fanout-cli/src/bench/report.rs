//! The report of a run: tables for people, or one JSON object for programs and for `--compare`.
//!
//! `fanout bench --help` lists the keys of the JSON object. A change of their meaning, or a key
//! that is missing, needs another `FORMAT_VERSION`.

use indicatif::HumanCount;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::time::Duration;

use super::comparison::Comparison;
use super::machine::Machine;
use super::measurement::{Measurement, Metric};
use super::table::{Table, percent, time};
use crate::duration;

/// What `format` is in the JSON object.
pub(crate) const FORMAT: &str = "fanout-bench";

/// The version of the format.
pub(crate) const FORMAT_VERSION: u64 = 1;

/// The report of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) format: String,
    pub(crate) format_version: u64,
    /// The version of fanout.
    pub(crate) fanout: String,
    /// Whether the program checks its own invariants, which takes time: a build for developers.
    pub(crate) debug_assertions: bool,
    /// The start of the run, in RFC 3339.
    pub(crate) measured_at: String,
    pub(crate) machine: Machine,
    pub(crate) duration_ms: u64,
    pub(crate) rounds: usize,
    /// The name of the signal that ended the run.
    pub(crate) signal: Option<String>,
    /// Why the run ended early.
    pub(crate) error: Option<String>,
    pub(crate) measurements: Vec<Measurement>,
    /// An earlier report does not need its own comparison.
    #[serde(skip_deserializing)]
    pub(crate) comparison: Option<Comparison>,
}

impl Report {
    /// One JSON object on one line.
    pub(crate) fn json(&self) -> String {
        // Serialising strings, numbers and lists cannot fail. If it did, that would be reported.
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
            + "\n"
    }

    /// A table for each kind of measurement.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = writeln!(text, "machine  {}", self.machine);
        let _ = writeln!(text, "fanout   {}, {}", self.fanout, self.measured_at);
        if self.debug_assertions {
            let _ = writeln!(
                text,
                "build    with debug assertions: much slower than a release"
            );
        }
        let round = duration::shown(Duration::from_millis(self.duration_ms));
        let _ = writeln!(
            text,
            "rounds   {} of {round}: medians, and the spread from the lowest to the highest round",
            self.rounds
        );
        if let Some(bus) = self.measurements.iter().find_map(|each| each.case.bus) {
            // The same in all cases of a run.
            let _ = writeln!(
                text,
                "bus      payload {} bytes, capacity {}, policy {}, dispatch {}",
                bus.payload_bytes,
                bus.capacity,
                bus.policy.name(),
                bus.dispatch.name()
            );
        }
        if let Some(signal) = &self.signal {
            let _ = writeln!(
                text,
                "ended    by {signal}; cases with fewer rounds are marked"
            );
        }
        let tables = [
            self.throughput(),
            self.latency(),
            self.lookups(),
            self.comparison.as_ref().and_then(Comparison::table),
        ];
        for table in tables.into_iter().flatten() {
            let _ = write!(text, "\n{table}");
        }
        text
    }

    fn throughput(&self) -> Option<String> {
        let mut table = Table::new([
            "throughput",
            "subscribers",
            "publishers",
            "M deliveries/s",
            "spread",
            "ns/event",
            "lost",
            "",
        ]);
        for each in &self.measurements {
            let (Some(bus), Some(deliveries), Some(event)) = (
                each.case.bus,
                each.summary(Metric::DeliveriesPerS),
                each.summary(Metric::NsPerEvent),
            ) else {
                continue;
            };
            table.row([
                each.case.scenario.name().to_owned(),
                counted(bus.subscribers as u64),
                counted(bus.publishers as u64),
                format!("{:.2}", deliveries.median / 1e6),
                percent(deliveries.spread_percent()),
                format!("{:.1}", event.median),
                counted(each.lost()),
                self.marked(each),
            ]);
        }
        table.text()
    }

    fn latency(&self) -> Option<String> {
        let mut table = Table::new([
            "latency", "p50", "p90", "p99", "p99.9", "max", "spread", "lost", "",
        ]);
        for each in &self.measurements {
            let (Some(rate), Some(p50)) = (each.case.rate_per_s, each.summary(Metric::P50Ns))
            else {
                continue;
            };
            let at = |metric| {
                each.summary(metric)
                    .map_or(String::new(), |at| time(at.median))
            };
            table.row([
                format!("{} events/s", counted(rate as u64)),
                at(Metric::P50Ns),
                at(Metric::P90Ns),
                at(Metric::P99Ns),
                at(Metric::P999Ns),
                at(Metric::MaxNs),
                percent(p50.spread_percent()),
                counted(each.lost()),
                self.marked(each),
            ]);
        }
        table.text()
    }

    fn lookups(&self) -> Option<String> {
        let mut table = Table::new(["look-ups", "M look-ups/s", "spread", "ns/look-up", ""]);
        for each in &self.measurements {
            let (Some(cache), Some(lookups), Some(lookup)) = (
                each.case.cache,
                each.summary(Metric::LookupsPerS),
                each.summary(Metric::NsPerLookup),
            ) else {
                continue;
            };
            table.row([
                cache.name().to_owned(),
                format!("{:.2}", lookups.median / 1e6),
                percent(lookups.spread_percent()),
                format!("{:.1}", lookup.median),
                self.marked(each),
            ]);
        }
        table.text()
    }

    /// A mark for a case that the end of the run has cut short.
    fn marked(&self, measurement: &Measurement) -> String {
        match measurement.rounds.len() {
            rounds if rounds == self.rounds => String::new(),
            1 => "1 round".to_owned(),
            rounds => format!("{rounds} rounds"),
        }
    }
}

/// A count with separators of thousands.
fn counted(count: u64) -> String {
    HumanCount(count).to_string()
}
