//! The arguments of `fanout bench`.
//!
//! The arguments that only some scenarios use have no default here, so that the plan knows which of
//! them were given: see `case`.

use clap::ValueEnum;
use fanout::limits::CAPACITY_MAX;
use fanout::{Dispatch, Overflow};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

use super::limits::{
    DURATION_DEFAULT, DURATION_MAX, DURATION_MIN, PAYLOADS_BYTES, PUBLISHERS_MAX, RATE_PER_S_MAX,
    ROUNDS_DEFAULT, ROUNDS_MAX, SUBSCRIBERS_MAX,
};
use crate::{duration, whole_number};

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// What to measure. Can be given many times [default: all]
    #[arg(long, value_enum, value_name = "NAME", ignore_case = true)]
    pub(crate) scenario: Vec<Scenario>,

    /// The number of subscribers, 1 to 4096, or a list; each is measured [default: 1,4,16,64]
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = subscribers,
          allow_hyphen_values = true)]
    pub(crate) subscribers: Vec<usize>,

    /// The number of publishers, 1 to 64; each is a thread [default: 1]
    #[arg(long, value_name = "N", value_parser = publishers, allow_hyphen_values = true)]
    pub(crate) publishers: Option<usize>,

    /// The size of a payload: 16, 64, 256 or 1024 bytes [default: 64]
    #[arg(long, value_name = "BYTES", value_parser = payload, allow_hyphen_values = true)]
    pub(crate) payload: Option<usize>,

    /// The number of events that the ring of a subscription holds, 1 to 16777216 [default: 1024]
    #[arg(long, value_name = "EVENTS", value_parser = capacity, allow_hyphen_values = true)]
    pub(crate) capacity: Option<usize>,

    /// What happens when the ring of a subscription is full [default: block]
    #[arg(long, value_enum, value_name = "POLICY", ignore_case = true)]
    pub(crate) policy: Option<PolicyChoice>,

    /// Which threads dispatch events [default: adaptive]
    #[arg(long, value_enum, value_name = "MODE", ignore_case = true)]
    pub(crate) dispatch: Option<DispatchChoice>,

    /// The number of lone events per second, 1 to 10000000, or a list; each is measured [default:
    /// 1000,10000,100000]
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = rate,
          allow_hyphen_values = true)]
    pub(crate) rate: Vec<usize>,

    /// The time of a round, such as 500ms or 2s, 1ms to 1m
    #[arg(long, value_name = "DURATION", value_parser = round_time, allow_hyphen_values = true,
          default_value = DURATION_DEFAULT)]
    pub(crate) duration: Duration,

    /// The number of rounds, 1 to 1000; the report has their median
    #[arg(long, value_name = "N", value_parser = rounds, allow_hyphen_values = true,
          default_value_t = ROUNDS_DEFAULT)]
    pub(crate) rounds: usize,

    /// Print the report as one JSON object, with every round
    #[arg(long)]
    pub(crate) json: bool,

    /// Compare with an earlier report: a file that --json wrote
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,

    /// Do not show progress (it is shown on a terminal only)
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

fn subscribers(text: &str) -> Result<usize, String> {
    whole_number::parse(text, SUBSCRIBERS_MAX)
}

fn publishers(text: &str) -> Result<usize, String> {
    whole_number::parse(text, PUBLISHERS_MAX)
}

fn payload(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if PAYLOADS_BYTES.contains(&bytes) => Ok(bytes),
        _ => Err("write one of the sizes 16, 64, 256 and 1024".to_owned()),
    }
}

fn capacity(text: &str) -> Result<usize, String> {
    whole_number::parse(text, CAPACITY_MAX)
}

fn rate(text: &str) -> Result<usize, String> {
    whole_number::parse(text, RATE_PER_S_MAX)
}

fn rounds(text: &str) -> Result<usize, String> {
    whole_number::parse(text, ROUNDS_MAX)
}

fn round_time(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text, DURATION_MAX)?;
    if time < DURATION_MIN {
        let min = duration::shown(DURATION_MIN);
        return Err(format!("the duration is shorter than {min}"));
    }
    Ok(time)
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// Throughput: each subscriber is a thread that receives one event at a time
    Threads,
    /// Throughput: each subscriber is a thread that receives batches of up to 64 events
    Batches,
    /// Throughput: each subscriber is an async task that receives one event at a time
    Tasks,
    /// Throughput: each subscriber is a closure that the handler pool calls
    Handlers,
    /// Latency of lone events, from the planned time of publishing until one thread has the event
    Latency,
    /// Look-ups of a topic among 10,000 patterns, without a cache (cold) and in the cache (warm)
    Lookups,
}

impl Scenario {
    /// The name as an argument and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Threads => "threads",
            Scenario::Batches => "batches",
            Scenario::Tasks => "tasks",
            Scenario::Handlers => "handlers",
            Scenario::Latency => "latency",
            Scenario::Lookups => "lookups",
        }
    }
}

/// The overflow policies that are measured. (With `disconnect`, a measurement would end at the
/// first full ring.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PolicyChoice {
    /// Publishing waits for room: nothing is lost
    Block,
    /// The new event is lost to the subscription, and counted
    DropNewest,
    /// The oldest event in the ring is lost to the subscription, and counted
    DropOldest,
    /// The event in the ring that has the same topic is replaced: all events have one topic
    Conflate,
}

impl PolicyChoice {
    pub(crate) fn policy(self) -> Overflow {
        match self {
            PolicyChoice::Block => Overflow::Block,
            PolicyChoice::DropNewest => Overflow::DropNewest,
            PolicyChoice::DropOldest => Overflow::DropOldest,
            PolicyChoice::Conflate => Overflow::Conflate,
        }
    }

    /// The name as an argument and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            PolicyChoice::Block => "block",
            PolicyChoice::DropNewest => "drop-newest",
            PolicyChoice::DropOldest => "drop-oldest",
            PolicyChoice::Conflate => "conflate",
        }
    }
}

/// The dispatch modes that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DispatchChoice {
    /// The thread that publishes for a lone event, and the threads of a pool for a stream
    Adaptive,
    /// The threads of a pool
    Pool,
    /// The thread that publishes, if no other thread dispatches at that moment
    Inline,
}

impl DispatchChoice {
    pub(crate) fn mode(self) -> Dispatch {
        match self {
            DispatchChoice::Adaptive => Dispatch::Adaptive,
            DispatchChoice::Pool => Dispatch::Pool,
            DispatchChoice::Inline => Dispatch::Inline,
        }
    }

    /// The name as an argument and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            DispatchChoice::Adaptive => "adaptive",
            DispatchChoice::Pool => "pool",
            DispatchChoice::Inline => "inline",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::limits::{
        CAPACITY_DEFAULT, PAYLOAD_BYTES_DEFAULT, PUBLISHERS_DEFAULT, RATES_PER_S_DEFAULT,
        SUBSCRIBERS_DEFAULT,
    };
    use clap::{Args, Command};

    /// A reader of one value.
    type Parser = fn(&str) -> Result<usize, String>;

    #[test]
    fn numbers_are_accepted_up_to_their_bounds() {
        let parsers: [(Parser, usize); 5] = [
            (subscribers, SUBSCRIBERS_MAX),
            (publishers, PUBLISHERS_MAX),
            (capacity, CAPACITY_MAX),
            (rate, RATE_PER_S_MAX),
            (rounds, ROUNDS_MAX),
        ];
        for (parse, max) in parsers {
            assert_eq!(parse("1"), Ok(1));
            assert_eq!(parse(&max.to_string()), Ok(max));
            for beyond in [0, max + 1] {
                let rule = format!("write a whole number from 1 to {max}");
                assert_eq!(parse(&beyond.to_string()), Err(rule), "{beyond}");
            }
        }
    }

    #[test]
    fn a_payload_has_one_of_the_sizes() {
        for bytes in PAYLOADS_BYTES {
            assert_eq!(payload(&bytes.to_string()), Ok(bytes));
            for other in [bytes - 1, bytes + 1] {
                let error = payload(&other.to_string()).expect_err("another size");
                for bytes in PAYLOADS_BYTES {
                    assert!(error.contains(&bytes.to_string()), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_round_has_its_bounds() {
        assert_eq!(round_time("1ms"), Ok(DURATION_MIN));
        assert_eq!(round_time("1m"), Ok(DURATION_MAX));
        for (text, rule) in [
            ("0ms", "the duration is shorter than 1ms"),
            ("60001ms", "the duration is longer than 1m"),
        ] {
            assert_eq!(round_time(text), Err(rule.to_owned()));
        }
    }

    #[test]
    fn the_help_names_bounds_and_defaults() {
        let mut command = BenchArgs::augment_args(Command::new("bench"));
        let help = command.render_long_help().to_string();
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let list = |values: &[usize]| {
            let texts: Vec<_> = values.iter().map(usize::to_string).collect();
            texts.join(",")
        };
        for part in [
            format!("1 to {SUBSCRIBERS_MAX}, or a list"),
            format!("[default: {}]", list(&SUBSCRIBERS_DEFAULT)),
            format!("1 to {PUBLISHERS_MAX}; each is a thread [default: {PUBLISHERS_DEFAULT}]"),
            format!("1024 bytes [default: {PAYLOAD_BYTES_DEFAULT}]"),
            format!("1 to {CAPACITY_MAX} [default: {CAPACITY_DEFAULT}]"),
            format!("1 to {RATE_PER_S_MAX}, or a list"),
            format!("[default: {}]", list(&RATES_PER_S_DEFAULT)),
            format!(
                "{} to {} [default: {}]",
                duration::shown(DURATION_MIN),
                duration::shown(DURATION_MAX),
                DURATION_DEFAULT
            ),
            format!("1 to {ROUNDS_MAX}; the report has their median [default: {ROUNDS_DEFAULT}]"),
        ] {
            assert!(words.contains(&part), "{part}: {words}");
        }
    }

    #[test]
    fn the_names_of_the_report_are_those_of_the_arguments() {
        fn check<C: ValueEnum + Serialize>(name: impl Fn(C) -> &'static str) {
            for choice in C::value_variants() {
                let value = choice.to_possible_value().expect("not hidden");
                assert_eq!(value.get_name(), name(choice.clone()));
                let json = serde_json::to_value(choice).expect("a name");
                assert_eq!(json, name(choice.clone()));
            }
        }
        check(Scenario::name);
        check(PolicyChoice::name);
        check(DispatchChoice::name);
    }
}
