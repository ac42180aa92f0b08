//! What a run measures: the cases, which are the scenarios with each of their settings.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;

use super::args::{BenchArgs, DispatchChoice, PolicyChoice, Scenario};
use super::limits::{
    CAPACITY_DEFAULT, LIST_MAX, PAYLOAD_BYTES_DEFAULT, PUBLISHERS_DEFAULT, RATES_PER_S_DEFAULT,
    SUBSCRIBERS_DEFAULT,
};

/// One scenario with its settings. Two reports are compared case by case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) scenario: Scenario,
    /// The bus, and who uses it; none in look-ups.
    pub(crate) bus: Option<BusSettings>,
    /// The rate of lone events, in events per second; only in measurements of latency.
    pub(crate) rate_per_s: Option<usize>,
    /// Whether the topics are in the cache; only in look-ups.
    pub(crate) cache: Option<Cache>,
}

/// The settings of a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BusSettings {
    pub(crate) subscribers: usize,
    pub(crate) publishers: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) capacity: usize,
    pub(crate) policy: PolicyChoice,
    pub(crate) dispatch: DispatchChoice,
}

/// Whether a look-up uses a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cache {
    /// Each look-up searches the index.
    Cold,
    /// Each look-up finds its topic in the cache.
    Warm,
}

impl Cache {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Cache::Cold => "cold",
            Cache::Warm => "warm",
        }
    }
}

/// Returns the cases that the arguments ask for, in the order of the report. Fails if an argument
/// has no effect, or if a list is too long or has a value twice.
pub(crate) fn plan(args: &BenchArgs) -> Result<Vec<Case>, String> {
    check_list("--scenario", &args.scenario, |scenario| scenario.name())?;
    check_list("--subscribers", &args.subscribers, usize::to_string)?;
    check_list("--rate", &args.rate, usize::to_string)?;
    let scenarios = or_default(&args.scenario, Scenario::value_variants());
    check_effects(args, scenarios)?;

    let bus = BusSettings {
        subscribers: 1,
        publishers: 1,
        payload_bytes: args.payload.unwrap_or(PAYLOAD_BYTES_DEFAULT),
        capacity: args.capacity.unwrap_or(CAPACITY_DEFAULT),
        policy: args.policy.unwrap_or(PolicyChoice::Block),
        dispatch: args.dispatch.unwrap_or(DispatchChoice::Adaptive),
    };
    let mut cases = Vec::new();
    for &scenario in scenarios {
        let case = Case {
            scenario,
            bus: Some(bus),
            rate_per_s: None,
            cache: None,
        };
        match scenario {
            Scenario::Threads | Scenario::Batches | Scenario::Tasks | Scenario::Handlers => {
                let numbers = or_default(&args.subscribers, &SUBSCRIBERS_DEFAULT);
                cases.extend(numbers.iter().map(|&subscribers| Case {
                    bus: Some(BusSettings {
                        subscribers,
                        publishers: args.publishers.unwrap_or(PUBLISHERS_DEFAULT),
                        ..bus
                    }),
                    ..case
                }));
            }
            Scenario::Latency => {
                let rates = or_default(&args.rate, &RATES_PER_S_DEFAULT);
                cases.extend(rates.iter().map(|&rate| Case {
                    rate_per_s: Some(rate),
                    ..case
                }));
            }
            Scenario::Lookups => cases.extend([Cache::Cold, Cache::Warm].map(|cache| Case {
                bus: None,
                cache: Some(cache),
                ..case
            })),
        }
    }
    Ok(cases)
}

/// The values of an argument, or the default if it was not given.
fn or_default<'a, V>(values: &'a [V], default: &'a [V]) -> &'a [V] {
    match values {
        [] => default,
        values => values,
    }
}

fn check_list<V: PartialEq, N: fmt::Display>(
    argument: &str,
    values: &[V],
    name: impl Fn(&V) -> N,
) -> Result<(), String> {
    if values.len() > LIST_MAX {
        let number = values.len();
        return Err(format!(
            "{argument} has {number} values: write at most {LIST_MAX}"
        ));
    }
    for (index, value) in values.iter().enumerate() {
        if values[..index].contains(value) {
            let name = name(value);
            return Err(format!(
                "{argument} has the value {name} twice: write it once"
            ));
        }
    }
    Ok(())
}

/// Refuses an argument that no chosen scenario uses.
fn check_effects(args: &BenchArgs, scenarios: &[Scenario]) -> Result<(), String> {
    use Scenario::{Batches, Handlers, Latency, Tasks, Threads};
    let throughput: &[Scenario] = &[Threads, Batches, Tasks, Handlers];
    let bus: &[Scenario] = &[Threads, Batches, Tasks, Handlers, Latency];
    for (argument, is_given, users) in [
        ("--subscribers", !args.subscribers.is_empty(), throughput),
        ("--publishers", args.publishers.is_some(), throughput),
        ("--payload", args.payload.is_some(), bus),
        ("--capacity", args.capacity.is_some(), bus),
        ("--policy", args.policy.is_some(), bus),
        ("--dispatch", args.dispatch.is_some(), bus),
        ("--rate", !args.rate.is_empty(), &[Latency]),
    ] {
        if is_given && !scenarios.iter().any(|scenario| users.contains(scenario)) {
            let names: Vec<_> = users.iter().map(|scenario| scenario.name()).collect();
            return Err(format!(
                "{argument} has no effect in the chosen scenarios: it needs --scenario {}",
                names.join(" or ")
            ));
        }
    }
    Ok(())
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scenario.name())?;
        if let Some(cache) = self.cache {
            write!(f, ", {}", cache.name())?;
        }
        if let Some(rate) = self.rate_per_s {
            write!(f, ", {rate} events/s")?;
        }
        let Some(bus) = self.bus else { return Ok(()) };
        let plural = |n| if n == 1 { "" } else { "s" };
        let (subscribers, publishers) = (bus.subscribers, bus.publishers);
        write!(
            f,
            ", {subscribers} subscriber{}, {publishers} publisher{}, {} bytes, capacity {}, {}, {}",
            plural(subscribers),
            plural(publishers),
            bus.payload_bytes,
            bus.capacity,
            bus.policy.name(),
            bus.dispatch.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn planned(args: &[&str]) -> Result<Vec<Case>, String> {
        let line = [&["bench"], args].concat();
        plan(&Line::try_parse_from(line).expect("valid arguments").args)
    }

    #[test]
    fn a_run_without_arguments_measures_everything() {
        let cases = planned(&[]).expect("a plan");
        let names: Vec<_> = cases.iter().map(|case| case.scenario.name()).collect();
        let number = |name| names.iter().filter(|each| **each == name).count();
        assert_eq!(
            [
                "threads", "batches", "tasks", "handlers", "latency", "lookups"
            ]
            .map(number),
            [4, 4, 4, 4, 3, 2]
        );
        for (index, case) in cases.iter().enumerate() {
            assert!(!cases[..index].contains(case), "{case}");
        }
        assert_eq!(
            cases[1].to_string(),
            "threads, 4 subscribers, 1 publisher, 64 bytes, capacity 1024, block, adaptive"
        );
    }

    #[test]
    fn lists_have_a_bound_and_no_value_twice() {
        let list = |number: usize| {
            let numbers: Vec<_> = (1..=number).map(|n| n.to_string()).collect();
            numbers.join(",")
        };
        for argument in ["--subscribers", "--rate"] {
            assert!(planned(&[argument, &list(LIST_MAX)]).is_ok());
            assert_eq!(
                planned(&[argument, &list(LIST_MAX + 1)]),
                Err(format!("{argument} has 17 values: write at most 16"))
            );
            assert_eq!(
                planned(&[argument, "4,1,4"]),
                Err(format!("{argument} has the value 4 twice: write it once"))
            );
        }
        assert_eq!(
            planned(&["--scenario", "threads", "--scenario", "threads"]),
            Err("--scenario has the value threads twice: write it once".to_owned())
        );
    }

    #[test]
    fn an_argument_without_an_effect_is_refused() {
        for (args, needed) in [
            (
                ["latency", "--subscribers", "4"],
                "threads or batches or tasks or handlers",
            ),
            (
                ["lookups", "--publishers", "2"],
                "threads or batches or tasks or handlers",
            ),
            (
                ["lookups", "--payload", "64"],
                "threads or batches or tasks or handlers or latency",
            ),
            (
                ["lookups", "--capacity", "1"],
                "threads or batches or tasks or handlers or latency",
            ),
            (
                ["lookups", "--policy", "block"],
                "threads or batches or tasks or handlers or latency",
            ),
            (
                ["lookups", "--dispatch", "pool"],
                "threads or batches or tasks or handlers or latency",
            ),
            (["threads", "--rate", "5"], "latency"),
        ] {
            let [scenario, argument, value] = args;
            let error = planned(&["--scenario", scenario, argument, value]);
            assert_eq!(
                error,
                Err(format!(
                    "{argument} has no effect in the chosen scenarios: it needs --scenario {needed}"
                ))
            );
            assert!(planned(&[argument, value]).is_ok(), "{argument}");
        }
    }
}
