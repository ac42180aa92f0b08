//! What a newcomer writes: `bus.publish("text", ..)` from one and from four threads, beside
//! `tokio::sync::broadcast`.

use super::NewBudget;
use super::race::{measured_systems, numbers, sizes, tables};
use crate::effort::Effort;
use crate::harness::CAPACITY;
use crate::measure;
use crate::report::{Goal, Limit, Section};
use crate::statistics::Cell;
use crate::systems;

/// The numbers of threads that publish.
const PUBLISHERS: [u32; 2] = [1, 4];
/// The numbers of subscribers, which are threads.
const SUBSCRIBERS: [usize; 2] = [1, 16];

const FANOUT: &str = "fanout-text";
/// Both ways to use tokio's channel without loss.
const TOKIO: [&str; 2] = ["tokio-credits", "tokio-room-for-all"];
const OTHERS: [&str; 3] = ["crossbeam-channel", "bus", "kanal"];

/// The ratio to the faster of both ways, for each number of subscribers.
const GOALS: [(usize, f64); 2] = [(1, 1.0), (16, 2.0)];

/// Measures the section.
pub fn measure(effort: Effort, budget: NewBudget<'_>) -> Section {
    let names: Vec<&str> = std::iter::once(FANOUT).chain(TOKIO).chain(OTHERS).collect();
    let sizes = sizes(&PUBLISHERS, &SUBSCRIBERS);
    let mut budget = budget(sizes.len());
    let cells = measure::measure(&systems::named(&names), &sizes, effort, &mut budget);
    Section {
        title: "Publishing with the text of a topic".to_owned(),
        about: vec![format!(
            "Each thread publishes with `bus.publish(\"bench.tick\", ..)` on its clone of the bus: \
             the text is looked up for each event, and all threads share a lane. The subscribers \
             are threads. Events of 64 bytes, lossless, with a capacity of {CAPACITY} events per \
             subscriber. The goals compare with the faster of both ways to use tokio's broadcast \
             channel without loss, also with the one that has no bound."
        )],
        systems: measured_systems(&cells),
        tables: tables(&cells),
        goals: goals(&cells),
        numbers: numbers(&cells),
        ..Section::default()
    }
}

fn goals(cells: &[Cell]) -> Vec<Goal> {
    cells
        .iter()
        .filter_map(|cell| {
            let (subscribers, limit) = GOALS
                .iter()
                .find(|(subscribers, _)| *subscribers == cell.subscribers)?;
            Some(Goal {
                what: format!(
                    "{FANOUT} / tokio::broadcast, {} to {subscribers}",
                    cell.publishers
                ),
                limit: Limit::AtLeast(*limit),
                measured: cell.ratio_to_best_of(FANOUT, &TOKIO).map(|best| best.ratio),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::row;

    #[test]
    fn the_goal_compares_with_the_faster_way_to_use_tokio() {
        let cell = Cell {
            publishers: 4,
            subscribers: 16,
            rows: vec![
                row("fanout-text", &[6.0]),
                row("tokio-credits", &[1.0]),
                row("tokio-room-for-all", &[2.0]),
            ],
        };
        let goals = goals(&[cell]);
        assert_eq!(goals[0].measured, Some(3.0));
        assert_eq!(goals[0].is_met(), Some(true));
    }
}
