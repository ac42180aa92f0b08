//! The systems of each scenario, and their names.

use crate::fanout_side::{FanoutHandlers, FanoutTasks, FanoutThreads};
use crate::harness::{Scenario, System};
use crate::peers;

/// The systems of a scenario, in the order of its table.
pub fn of(scenario: Scenario) -> Vec<&'static dyn System> {
    let fanout: &[&'static dyn System] = match scenario {
        Scenario::Threads => &[
            &FanoutThreads::Recv,
            &FanoutThreads::Batches,
            &FanoutThreads::PublishBatch,
            &FanoutThreads::Text,
            &FanoutThreads::TextBatch,
            &FanoutThreads::Spin,
            &FanoutThreads::Pool,
            &FanoutThreads::Inline,
        ],
        Scenario::Handlers => &[&FanoutHandlers::Pool, &FanoutHandlers::Inline],
        Scenario::Async => &[&FanoutTasks::Recv, &FanoutTasks::Batches],
    };
    [fanout, &peers::systems(scenario)].concat()
}

/// The systems with these names, in this order.
///
/// # Panics
///
/// Panics if there is no system with one of the names.
pub fn named(names: &[&str]) -> Vec<&'static dyn System> {
    names
        .iter()
        .map(|name| {
            Scenario::ALL
                .into_iter()
                .flat_map(of)
                .find(|system| system.name() == *name)
                .unwrap_or_else(|| panic!("there is no system {name:?}"))
        })
        .collect()
}

/// The name and the description of each system, for a report.
pub fn about(systems: &[&'static dyn System]) -> Vec<(String, String)> {
    systems
        .iter()
        .map(|system| (system.name().to_owned(), system.about().to_owned()))
        .collect()
}

/// The name in tables and plots. It says which systems are no peers.
pub fn title(system: &dyn System) -> String {
    if system.is_reference() {
        format!("{} (reference)", system.name())
    } else if system.is_bound() {
        format!("{} (bound)", system.name())
    } else {
        system.name().to_owned()
    }
}
