//! How much is measured: the number of rounds, the length of a run, and the time of a section.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The size of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// Everything runs once and briefly, so that the checks run. The numbers mean nothing.
    Smoke,
    /// The whole comparison in at most five minutes.
    Quick,
    /// All sizes, and enough rounds for a published table.
    Full,
}

impl Size {
    /// The name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }

    /// One of three values.
    pub fn pick<T>(self, smoke: T, quick: T, full: T) -> T {
        match self {
            Self::Smoke => smoke,
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// The rounds of [`Size::Full`]. This is also the default of `--rounds` for one scenario.
pub const FULL_ROUNDS: usize = 7;
/// The length of a run of [`Size::Full`], in milliseconds. This is also the default of `--millis`
/// for one scenario.
pub const FULL_MILLIS: u64 = 300;

/// The rounds of [`Size::Quick`], if the time of the section is long enough for them.
const QUICK_ROUNDS: usize = 5;
/// The length of a run of [`Size::Quick`], in milliseconds.
const QUICK_MILLIS: u64 = 60;

/// The number of rounds, and the length of a run.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub size: Size,
    /// The number of measured rounds. If the time of a section runs out, it has fewer, but at least
    /// one.
    pub rounds: usize,
    /// The approximate length of a run, in milliseconds.
    pub millis: u64,
}

impl Effort {
    /// The usual effort of this size.
    pub fn of(size: Size) -> Self {
        Self {
            size,
            rounds: size.pick(1, QUICK_ROUNDS, FULL_ROUNDS),
            millis: size.pick(1, QUICK_MILLIS, FULL_MILLIS),
        }
    }
}

/// The time of a section, which its steps share. A step that is late measures only one round.
pub struct Budget {
    start: Instant,
    time: Option<Duration>,
    steps: u32,
    done: u32,
}

impl Budget {
    /// A budget for this number of steps. `None` is no limit.
    pub fn new(time: Option<Duration>, steps: usize) -> Self {
        Self {
            start: Instant::now(),
            time,
            steps: u32::try_from(steps.max(1)).expect("a section has few steps"),
            done: 0,
        }
    }

    /// Begins the next step.
    pub fn next_step(&mut self) {
        self.done += 1;
    }

    /// Whether the current step has used up its time and that of the steps before.
    pub fn is_used_up(&self) -> bool {
        self.time
            .is_some_and(|time| self.start.elapsed() > time * self.done / self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_comparison_has_at_least_seven_rounds() {
        assert!(Effort::of(Size::Full).rounds >= 7);
    }

    #[test]
    fn a_budget_is_shared_by_its_steps() {
        let mut budget = Budget::new(Some(Duration::from_millis(40)), 2);
        budget.next_step();
        assert!(!budget.is_used_up());
        std::thread::sleep(Duration::from_millis(25));
        assert!(budget.is_used_up());
        budget.next_step();
        std::thread::sleep(Duration::from_millis(20));
        assert!(budget.is_used_up());
        assert!(!Budget::new(None, 0).is_used_up());
    }
}
