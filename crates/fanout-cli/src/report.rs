//! The result of a run: a table for people, or one JSON object for programs.
//!
//! The keys of the JSON object do not change; `fanout run --help` lists them:
//!
//! | key | meaning |
//! | --- | --- |
//! | `input`, `topic`, `syntax`, `overflow` | the arguments; standard input is `<stdin>` |
//! | `block_timeout_ms` | the longest wait, or null |
//! | `lines` | lines read: `events + bad_lines + blank_lines`, unless publishing failed |
//! | `blank_lines`, `bad_lines` | lines that were not published |
//! | `events` | events that were published |
//! | `matched`, `received`, `lost`, `superseded`, `unread` | sums over the subscriptions |
//! | `elapsed_s` | from before the first line until the last event is received and written |
//! | `events_per_s`, `deliveries_per_s` | `events` and `received` per second of `elapsed_s` |
//! | `latency_ns` | null without deliveries, else `p50`, `p90`, `p99`, `p99_9`, `max` |
//! | `signal` | null, or the name of the signal that ended the run |
//! | `error` | null, or why reading or publishing ended early |
//! | `subscriptions` | in the order of the arguments, see below |
//!
//! A latency is the time from the call that publishes an event, including the wait for room, until
//! the event is received.
//!
//! Each subscription has the keys `pattern`; `output` (null, a file, or `-`); `matched`, which is
//! the sum of `received`, `lost`, `superseded` and `unread`; `written`, the number of events given
//! to the output; `high_water`, the most events that waited in its ring; `latency_ns`; and `error`,
//! which is null or the reason why it ended early.

use hdrhistogram::Histogram;
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};
use std::time::Duration;

/// The number of decimal digits to which a latency is exact.
const LATENCY_DIGITS: u8 = 3;

/// The report of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) input: String,
    pub(crate) topic: String,
    pub(crate) syntax: &'static str,
    pub(crate) overflow: &'static str,
    pub(crate) block_timeout_ms: Option<u64>,
    pub(crate) lines: u64,
    pub(crate) blank_lines: u64,
    pub(crate) bad_lines: u64,
    pub(crate) events: u64,
    pub(crate) matched: u64,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) unread: u64,
    pub(crate) superseded: u64,
    pub(crate) elapsed_s: f64,
    pub(crate) events_per_s: f64,
    pub(crate) deliveries_per_s: f64,
    pub(crate) latency_ns: Option<Latency>,
    pub(crate) signal: Option<&'static str>,
    pub(crate) error: Option<String>,
    pub(crate) subscriptions: Vec<SubscriptionReport>,
}

/// The result of one subscription.
#[derive(Debug, Serialize)]
pub(crate) struct SubscriptionReport {
    pub(crate) pattern: String,
    pub(crate) output: Option<String>,
    pub(crate) matched: u64,
    pub(crate) received: u64,
    pub(crate) written: u64,
    pub(crate) lost: u64,
    pub(crate) unread: u64,
    pub(crate) superseded: u64,
    pub(crate) high_water: u64,
    pub(crate) latency_ns: Option<Latency>,
    pub(crate) error: Option<String>,
}

/// An empty histogram of latencies, in nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(LATENCY_DIGITS).expect("the number of digits is in 0..=5")
}

/// Percentiles, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p99_9: u64,
    pub(crate) max: u64,
}

impl Latency {
    /// The percentiles of the histogram, unless it is empty.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Latency> {
        let at = |percentile| histogram.value_at_percentile(percentile);
        (!histogram.is_empty()).then(|| Latency {
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            max: histogram.max(),
        })
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, p99_9, max] =
            [self.p50, self.p90, self.p99, self.p99_9, self.max].map(Duration::from_nanos);
        write!(
            f,
            "p50 {p50:.1?}  p90 {p90:.1?}  p99 {p99:.1?}  p99.9 {p99_9:.1?}  max {max:.1?}"
        )
    }
}

/// The count per second.
pub(crate) fn rate(count: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

impl Report {
    /// One JSON object on one line.
    pub(crate) fn json(&self) -> String {
        // Serialising strings, numbers and lists cannot fail. If it did, that would be reported.
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
            + "\n"
    }

    /// Several lines for people, with a table of the subscriptions.
    pub(crate) fn table(&self) -> String {
        let count = |n: u64| HumanCount(n).to_string();
        let per_second = |rate: f64| HumanCount(rate as u64).to_string();
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "input    {}: {} lines, {} bad, {} blank",
            self.input,
            count(self.lines),
            count(self.bad_lines),
            count(self.blank_lines),
        );
        if let Some(signal) = self.signal {
            let _ = writeln!(text, "ended    by {signal}");
        }
        let _ = writeln!(text, "events   {} on {}", count(self.events), self.topic);
        let _ = writeln!(
            text,
            "elapsed  {:.3?}: {} events/s, {} deliveries/s",
            Duration::from_secs_f64(self.elapsed_s),
            per_second(self.events_per_s),
            per_second(self.deliveries_per_s),
        );
        if let Some(latency) = &self.latency_ns {
            let _ = writeln!(text, "latency  {latency}");
        }
        text.push('\n');
        self.subscriptions_into(&mut text);
        text
    }

    fn subscriptions_into(&self, text: &mut String) {
        let heads = [
            "pattern",
            "matched",
            "received",
            "lost",
            "superseded",
            "unread",
        ];
        let mut rows = vec![heads.map(String::from)];
        let mut ends = vec!["written to".to_owned()];
        for subscription in &self.subscriptions {
            let number = |n: u64| HumanCount(n).to_string();
            rows.push([
                subscription.pattern.clone(),
                number(subscription.matched),
                number(subscription.received),
                number(subscription.lost),
                number(subscription.superseded),
                number(subscription.unread),
            ]);
            ends.push(match (&subscription.output, &subscription.error) {
                (Some(output), Some(_)) => format!("{output} (failed)"),
                (Some(output), None) => output.clone(),
                (None, _) => String::new(),
            });
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or(0));
        for ([pattern, numbers @ ..], end) in rows.iter().zip(&ends) {
            let mut line = format!("{pattern:<0$}", widths[0]);
            for (number, width) in numbers.iter().zip(&widths[1..]) {
                let _ = write!(line, "  {number:>width$}");
            }
            let _ = write!(line, "  {end}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
}
