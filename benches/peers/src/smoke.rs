//! Runs every system and every section briefly, with all checks, and renders the report.

use std::collections::HashSet;
use std::iter;
use std::time::Instant;

use crate::comparison::compare;
use crate::effort::Size;
use crate::harness::{Scenario, System, Work};
use crate::measure::SMOKE_EVENTS;
use crate::options::Options;
use crate::report::{Report, html, json, markdown, text};
use crate::run::run;
use crate::sections::Kind;
use crate::sections::race::{PUBLISHERS, sizes};
use crate::systems;

/// The planned events per second with which receivers park between two events.
const SLOW_PER_SECOND: u32 = 4_000;
/// The number of these events.
const SLOW_EVENTS: u64 = 20;
/// Up to this number of subscribers, there is a run in which they park.
const SLOW_SUBSCRIBERS_MAX: usize = 16;

/// Runs everything. An error is the message of a section that failed.
pub fn smoke(options: &Options) -> Result<(), String> {
    let start = Instant::now();
    let (runs, systems) = run_systems();
    // The scenarios have run above, at all of their sizes.
    let sections = Kind::ALL
        .into_iter()
        .filter(|kind| !matches!(kind, Kind::Race(_)))
        .collect();
    let options = Options {
        sections,
        ..options.clone()
    };
    let report = compare(&options, Size::Smoke)?;
    render(&report);
    println!(
        "{runs} runs of {systems} systems and {} sections in {:.1} s: every subscriber received \
         exactly the expected events",
        report.sections.len(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Runs each system at each size, and returns the number of runs and of systems.
fn run_systems() -> (usize, usize) {
    // A system that is in several scenarios runs only in the first of them.
    let mut done = HashSet::new();
    let mut runs = 0;
    for scenario in Scenario::ALL {
        let systems: Vec<&'static dyn System> = systems::of(scenario)
            .into_iter()
            .filter(|system| !done.contains(system.name()))
            .collect();
        for (publishers, subscribers) in sizes(&PUBLISHERS, scenario.subscribers()) {
            // One run is at full speed, with more events than the capacity. If there are not many
            // subscribers, another run is slow, so that the receivers park.
            let full_speed = (None, SMOKE_EVENTS);
            let slow = (subscribers <= SLOW_SUBSCRIBERS_MAX)
                .then_some((Some(SLOW_PER_SECOND), SLOW_EVENTS));
            for (arrivals, events) in iter::once(full_speed).chain(slow) {
                let work = Work {
                    publishers,
                    subscribers,
                    events: events.next_multiple_of(u64::from(publishers)),
                    arrivals,
                };
                for system in &systems {
                    if system.exclusion(&work).is_none() {
                        run(*system, &work);
                        runs += 1;
                    }
                }
            }
        }
        done.extend(systems.iter().map(|system| system.name()));
    }
    (runs, done.len())
}

/// Renders the report in every format. Every section must be in each of them.
fn render(report: &Report) {
    let json = json::render(report).to_string();
    let texts = [
        text::render(report),
        markdown::render(report, Some("page.html")),
        html::render(report),
        json,
    ];
    for section in &report.sections {
        for text in &texts {
            assert!(text.contains(&section.title), "{}: {text}", section.title);
        }
    }
}
