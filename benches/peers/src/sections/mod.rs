//! The sections of the comparison. Each file measures one kind of work and makes a [`Section`].

pub mod latency;
pub mod one_core;
pub mod race;
pub mod routed;
pub mod scale;
pub mod text;

use std::time::Duration;

use crate::effort::{Budget, Effort, Size};
use crate::harness::Scenario;
use crate::report::Section;

/// A section of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    OneCore,
    Race(Scenario),
    Text,
    Routed,
    Latency,
    Scale,
}

impl Kind {
    /// All sections, in the order of the report.
    pub const ALL: [Self; 8] = [
        Self::OneCore,
        Self::Race(Scenario::Threads),
        Self::Race(Scenario::Handlers),
        Self::Race(Scenario::Async),
        Self::Text,
        Self::Routed,
        Self::Latency,
        Self::Scale,
    ];

    /// The name for `--section`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneCore => "one-core",
            Self::Race(scenario) => scenario.name(),
            Self::Text => "text",
            Self::Routed => "routed",
            Self::Latency => "latency",
            Self::Scale => "scale",
        }
    }

    /// The section with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The time of the section in a quick comparison. It leaves room for calibration and set-up, so
    /// that all sections together take at most five minutes.
    fn quick_time(self) -> Duration {
        Duration::from_secs(match self {
            Self::OneCore => 35,
            Self::Race(Scenario::Threads) => 45,
            Self::Race(Scenario::Handlers) => 20,
            Self::Race(Scenario::Async) => 20,
            Self::Text => 20,
            Self::Routed => 15,
            Self::Latency => 45,
            Self::Scale => 40,
        })
    }

    /// Measures the section.
    pub fn measure(self, effort: Effort) -> Section {
        let time = (effort.size == Size::Quick).then(|| self.quick_time());
        let budget = |steps| Budget::new(time, steps);
        let mut section = match self {
            Self::OneCore => one_core::measure(effort, &budget),
            Self::Race(scenario) => race::measure(scenario, effort, &budget),
            Self::Text => text::measure(effort, &budget),
            Self::Routed => routed::measure(effort, &budget),
            Self::Latency => latency::measure(effort, &budget),
            Self::Scale => scale::measure(effort, &budget),
        };
        section.name = self.name().to_owned();
        section
    }
}

/// Makes a budget for a number of steps.
type NewBudget<'a> = &'a dyn Fn(usize) -> Budget;

/// The number of rounds for the title of a table, as in `median of 7 rounds`.
fn rounds_text(rounds: impl Iterator<Item = usize> + Clone) -> String {
    let (min, max) = (rounds.clone().min().unwrap_or(0), rounds.max().unwrap_or(0));
    match (min, max) {
        (1, 1) => "1 round, so no median".to_owned(),
        (min, max) if min == max => format!("median of {max} rounds"),
        (min, max) => format!("median of {min} to {max} rounds, as the time allowed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_each_section_finds_it() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.name()), Some(kind));
        }
        assert_eq!(Kind::named("sockets"), None);
    }

    #[test]
    fn a_quick_comparison_takes_less_than_five_minutes() {
        let all: Duration = Kind::ALL.into_iter().map(Kind::quick_time).sum();
        assert!(all <= Duration::from_secs(240), "{all:?}");
    }

    #[test]
    fn the_title_says_how_many_rounds_there_were() {
        assert_eq!(rounds_text([3, 3].into_iter()), "median of 3 rounds");
        assert!(rounds_text([1, 3].into_iter()).starts_with("median of 1 to 3"));
        assert!(rounds_text([1].into_iter()).contains("no median"));
    }
}
