//! The whole comparison: measures each section in a process of its own, and collects the results.
//!
//! A process of its own is needed for the section `one-core`, because some libraries ask only once
//! how many cores there are. For the section `scale` it makes the growth of the memory exact.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::effort::Size;
use crate::harness::{CAPACITY, Scenario, System};
use crate::options::Options;
use crate::report::{Report, Section};
use crate::sections::{Kind, one_core};
use crate::{affinity, machine, systems};

/// Measures all sections of the options.
pub fn compare(options: &Options, size: Size) -> Result<Report, String> {
    let start = Instant::now();
    let mut sections = Vec::new();
    for kind in &options.sections {
        eprintln!("section {}", kind.name());
        sections.push(measure_in_process(*kind, options, size)?);
    }
    let effort = options.effort(size);
    let mut notes = vec![format!(
        "Size {}: up to {} rounds, runs of about {} ms, {} s in all. The rounds of all systems are \
         interleaved, and each ratio is computed within a round. In every run, each subscriber \
         checks that it receives exactly the expected events, in order and intact.",
        size.name(),
        effort.rounds,
        effort.millis,
        start.elapsed().as_secs()
    )];
    if size != Size::Full {
        notes.push(
            "This is not a full comparison: it has fewer rounds, sizes and peers. Use `--full` for \
             numbers to publish."
                .to_owned(),
        );
    }
    let all = Scenario::ALL.into_iter().flat_map(systems::of);
    Ok(report(sections, notes, all))
}

/// A report of these sections.
pub fn report(
    sections: Vec<Section>,
    mut notes: Vec<String>,
    systems: impl IntoIterator<Item = &'static dyn System>,
) -> Report {
    let mut versions: Vec<(String, String)> = Vec::new();
    for package in systems.into_iter().filter_map(System::package) {
        if !versions.iter().any(|(name, _)| name == package) {
            versions.push((package.to_owned(), machine::version(package).to_owned()));
        }
    }
    notes.push(format!(
        "A reference has no bound on its memory and never waits, and a bound leaves out a part of \
         the work. Neither is ever the best peer. The capacity is {CAPACITY} events per \
         subscriber. `-` means that a system was not measured."
    ));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    Report {
        date: machine::today(),
        machine: machine::describe(),
        command: format!("peers {}", arguments.join(" "))
            .trim_end()
            .to_owned(),
        versions,
        notes,
        sections,
    }
}

/// Starts this program for one section.
fn measure_in_process(kind: Kind, options: &Options, size: Size) -> Result<Section, String> {
    let name = kind.name();
    let error = |error: String| format!("the section {name} failed: {error}");
    let program = std::env::current_exe().map_err(|cause| error(cause.to_string()))?;
    let mut command = Command::new(program);
    command.args(["--section-json", name, &format!("--{}", size.name())]);
    if let Some(rounds) = options.rounds {
        command.args(["--rounds", &rounds.to_string()]);
    }
    if let Some(millis) = options.millis {
        command.args(["--millis", &millis.to_string()]);
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|cause| error(cause.to_string()))?;
    if !output.status.success() {
        return Err(error(output.status.to_string()));
    }
    serde_json::from_slice(&output.stdout).map_err(|cause| error(cause.to_string()))
}

/// Measures one section in this process, which is pinned to one core first if the section needs it.
pub fn measure_section(kind: Kind, options: &Options, size: Size) -> Section {
    if kind == Kind::OneCore
        && let Err(reason) = affinity::pin_to_one_core()
    {
        return one_core::not_measured(&reason);
    }
    // The watchdog starts after the pinning, so that it runs on the same core.
    crate::run::supervise();
    kind.measure(options.effort(size))
}
