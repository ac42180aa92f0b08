//! The command line.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::effort::{Effort, FULL_MILLIS, FULL_ROUNDS, Size};
use crate::harness::Scenario;
use crate::sections::Kind;
use crate::sections::race::PUBLISHERS;

/// The text that `--help` prints.
pub const HELP: &str = "\
Runs the same work on fanout and on comparable libraries (peers), and compares the rates.

usage: peers --quick | --full [--section LIST] [--rounds N] [--millis N] [output options]
       peers [--race NAME] [options of one scenario] [output options]
       peers --smoke | --list [--race NAME] | --help

The whole comparison:

  --quick               all sections in at most 5 minutes on 2 cores, with fewer sizes, fewer peers
                        and up to 5 rounds
  --full                all sections with all sizes, all peers and 7 rounds; this takes 30
                        to 60 minutes
  --section LIST        only these sections (with --full, or else with --quick):
                        one-core: all threads on one core, as with `taskset -c N` (only on Linux)
                        threads, handlers, async: the scenarios of --race
                        text: bus.publish(\"text\", ..), beside the broadcast channel of tokio
                        routed: 1,000 handlers with patterns and 10,000 topics, beside a map of
                        channels
                        latency: planned arrivals, 1,000 to 500,000 per second
                        scale: many subscriptions, topics, publishers and dispatchers

One scenario, if neither --quick nor --full nor --section is given:

  --race NAME           the scenario, which is the kind of subscriber:
                        threads: every subscriber is a thread that receives (default)
                        handlers: every subscriber is a handler, a closure that is called for each
                        event; a peer without handlers is measured with a thread per subscriber;
                        `direct` and `crossbeam-per-worker` are bounds, not peers
                        async: every subscriber is a task on a tokio runtime with 2 workers; a peer
                        without an async interface is measured with a thread per subscriber
  --one-core            pin all threads to one core, as with `taskset -c N` (only on Linux)
  --publishers LIST     the numbers of publishers (default 1,4)
  --subscribers LIST    the numbers of subscribers (default 1,4,16,64,256; with --race handlers
                        1,16,64,256,1024; with --race async 4,64,1024)
  --only LIST           measure only these systems (names as in the tables)
  --without LIST        measure all systems except these

  --rounds N            the number of measured rounds; the tables show medians (default 7, with
                        --quick up to 5)
  --millis N            the approximate length of one run in milliseconds (default 300, with --quick
                        60)

Output:

  --markdown            print the report in Markdown
  --json FILE           write all numbers, also those of each round, to a file
  --report FILE.html    write the tables and the plots to a page without references to other files,
                        and the tables in Markdown, with a link to the page, to FILE.md beside it

Other:

  --smoke               run every system and every section briefly with all checks, but measure
                        nothing; this takes less than a minute
  --list                print a description of each system; without --race, of all scenarios
  --section-json NAME   measure one section and print it as JSON; the program starts itself with
                        this option, so that each section has a process of its own
  --help                print this text

A LIST is separated by commas.

examples:
  peers --quick                                         the comparison, in the terminal
  peers --full --report REPORT.html --json report.json  the published report
  peers --section one-core,latency                      two sections
  peers --race handlers --subscribers 64 --publishers 1 --rounds 3 \\
        --only fanout-handlers,direct,crossbeam-per-worker

The exit status is 0 if every subscriber received exactly the expected events in every run. It is 1
if a check failed or a run did not end. It is 2 if the command line is not valid or if a file cannot
be written.";

/// The largest number of rounds.
const ROUNDS_MAX: usize = 1_000;
/// The longest run, in milliseconds. It leaves time before the watchdog ends the program.
const MILLIS_MAX: u64 = 10_000;
/// The largest number of publishers, each of which is a thread.
const PUBLISHERS_MAX: u32 = 256;
/// The largest number of subscribers, each of which may be a thread.
const SUBSCRIBERS_MAX: usize = 4_096;

/// The end of the name of an HTML page.
const PAGE_EXTENSION: &str = "html";

/// What the program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Measures one scenario.
    Race,
    /// Measures the sections.
    Comparison(Size),
    /// Measures one section, and prints it as JSON.
    SectionJson(Kind, Size),
    /// Runs everything briefly.
    Smoke,
    List,
    Help,
}

/// The parsed command line.
#[derive(Clone, Debug)]
pub struct Options {
    pub mode: Mode,
    /// The sections to measure, in the order of the report.
    pub sections: Vec<Kind>,
    /// The value of `--race`. `None` means that the option was not given.
    pub scenario: Option<Scenario>,
    pub one_core: bool,
    pub rounds: Option<usize>,
    pub millis: Option<u64>,
    pub publishers: Vec<u32>,
    /// The value of `--subscribers`. If it is empty, the numbers of the scenario apply.
    pub subscribers: Vec<usize>,
    pub only: Vec<String>,
    pub without: Vec<String>,
    pub json: Option<PathBuf>,
    pub report: Option<PathBuf>,
    pub markdown: bool,
}

impl Options {
    /// Parses the arguments, without the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            mode: Mode::Race,
            sections: Kind::ALL.to_vec(),
            scenario: None,
            one_core: false,
            rounds: None,
            millis: None,
            publishers: PUBLISHERS.to_vec(),
            subscribers: Vec::new(),
            only: Vec::new(),
            without: Vec::new(),
            json: None,
            report: None,
            markdown: false,
        };
        let mut given = HashSet::new();
        let mut section_json = None;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if !given.insert(argument.clone()) {
                return Err(format!("{argument} is given twice"));
            }
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--race" => options.scenario = Some(scenario(&argument, &value()?)?),
                "--section" => options.sections = sections(&argument, &value()?)?,
                "--section-json" => section_json = Some(section(&argument, &value()?)?),
                "--rounds" => options.rounds = Some(number(&argument, &value()?, ROUNDS_MAX)?),
                "--millis" => options.millis = Some(number(&argument, &value()?, MILLIS_MAX)?),
                "--publishers" => {
                    options.publishers = numbers(&argument, &value()?, PUBLISHERS_MAX)?;
                }
                "--subscribers" => {
                    options.subscribers = numbers(&argument, &value()?, SUBSCRIBERS_MAX)?;
                }
                "--only" => options.only = names(&value()?),
                "--without" => options.without = names(&value()?),
                "--json" => options.json = Some(value()?.into()),
                "--report" => options.report = Some(page(&argument, &value()?)?),
                "--markdown" => options.markdown = true,
                "--one-core" => options.one_core = true,
                "--quick" | "--full" | "--smoke" | "--list" | "--help" | "-h" => {}
                // `cargo bench` passes this argument to every target.
                "--bench" => {}
                _ => return Err(format!("unknown argument {argument:?}")),
            }
        }
        options.mode = mode(&given, section_json)?;
        options.check_combinations(&given)?;
        Ok(options)
    }

    /// Refuses options that would have no effect.
    fn check_combinations(&self, given: &HashSet<String>) -> Result<(), String> {
        let refuse = |names: &[&str], reason: &str| {
            let name = names.iter().find(|name| given.contains(**name));
            name.map_or(Ok(()), |name| Err(format!("{name}: {reason}")))
        };
        const OF_ONE_SCENARIO: [&str; 5] = [
            "--publishers",
            "--subscribers",
            "--only",
            "--without",
            "--one-core",
        ];
        const OUTPUT: [&str; 3] = ["--json", "--report", "--markdown"];
        const LENGTH: [&str; 2] = ["--rounds", "--millis"];
        match self.mode {
            Mode::Race | Mode::Help => Ok(()),
            Mode::Comparison(_) | Mode::SectionJson(..) => {
                let reason = "it applies to one scenario, so it cannot be combined with --quick, \
                              --full or --section";
                refuse(&["--race"], reason)?;
                refuse(&OF_ONE_SCENARIO, reason)
            }
            Mode::Smoke | Mode::List => {
                let reason = "it has no effect with --smoke or --list";
                refuse(&OF_ONE_SCENARIO, reason)?;
                refuse(&OUTPUT, reason)?;
                refuse(&LENGTH, reason)?;
                refuse(&["--section"], reason)?;
                if self.mode == Mode::Smoke {
                    refuse(&["--race"], "--smoke runs all scenarios")?;
                }
                Ok(())
            }
        }
    }

    /// The scenario to measure.
    pub fn scenario(&self) -> Scenario {
        self.scenario.unwrap_or(Scenario::Threads)
    }

    /// The numbers of subscribers in a scenario.
    pub fn subscribers(&self, scenario: Scenario) -> &[usize] {
        if self.subscribers.is_empty() {
            scenario.subscribers()
        } else {
            &self.subscribers
        }
    }

    /// The effort of a size, unless `--rounds` and `--millis` say otherwise.
    pub fn effort(&self, size: Size) -> Effort {
        let usual = Effort::of(size);
        Effort {
            size,
            rounds: self.rounds.unwrap_or(usual.rounds),
            millis: self.millis.unwrap_or(usual.millis),
        }
    }

    /// The effort to measure one scenario.
    pub fn race_effort(&self) -> Effort {
        Effort {
            size: Size::Full,
            rounds: self.rounds.unwrap_or(FULL_ROUNDS),
            millis: self.millis.unwrap_or(FULL_MILLIS),
        }
    }
}

fn mode(given: &HashSet<String>, section_json: Option<Kind>) -> Result<Mode, String> {
    let is_given = |name: &str| given.contains(name);
    if is_given("--help") || is_given("-h") {
        return Ok(Mode::Help);
    }
    let modes: Vec<&str> = ["--quick", "--full", "--smoke", "--list"]
        .into_iter()
        .filter(|name| is_given(name))
        .collect();
    if let [first, second, ..] = modes[..] {
        return Err(format!("{first} and {second} exclude each other"));
    }
    let size = match modes.first() {
        Some(&"--full") => Size::Full,
        Some(&"--smoke") => Size::Smoke,
        _ => Size::Quick,
    };
    if let Some(kind) = section_json {
        if is_given("--section") || is_given("--list") {
            return Err("--section-json: it names the only section".to_owned());
        }
        return Ok(Mode::SectionJson(kind, size));
    }
    Ok(match modes.first() {
        Some(&"--smoke") => Mode::Smoke,
        Some(&"--list") => Mode::List,
        Some(_) => Mode::Comparison(size),
        None if is_given("--section") => Mode::Comparison(size),
        None => Mode::Race,
    })
}

fn scenario(option: &str, name: &str) -> Result<Scenario, String> {
    Scenario::ALL
        .into_iter()
        .find(|scenario| scenario.name() == name)
        .ok_or_else(|| format!("{option}: {name:?} is not threads, handlers or async"))
}

/// The sections of a list, in the order of the report.
fn sections(option: &str, text: &str) -> Result<Vec<Kind>, String> {
    let named: Vec<Kind> = names(text)
        .iter()
        .map(|name| section(option, name))
        .collect::<Result<_, _>>()?;
    Ok(Kind::ALL
        .into_iter()
        .filter(|kind| named.contains(kind))
        .collect())
}

fn section(option: &str, name: &str) -> Result<Kind, String> {
    Kind::named(name).ok_or_else(|| {
        let all: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
        format!("{option}: {name:?} is not one of {}", all.join(", "))
    })
}

fn page(option: &str, text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.extension().is_some_and(|end| end == PAGE_EXTENSION) {
        Ok(path)
    } else {
        Err(format!(
            "{option}: {text:?} does not end in .{PAGE_EXTENSION}"
        ))
    }
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).collect()
}

fn numbers<N>(option: &str, text: &str, max: N) -> Result<Vec<N>, String>
where
    N: TryFrom<u64> + PartialOrd + Copy + std::fmt::Display,
{
    text.split(',')
        .map(|text| number(option, text.trim(), max))
        .collect()
}

fn number<N>(option: &str, text: &str, max: N) -> Result<N, String>
where
    N: TryFrom<u64> + PartialOrd + Copy + std::fmt::Display,
{
    text.parse::<u64>()
        .ok()
        .filter(|number| *number > 0)
        .and_then(|number| N::try_from(number).ok())
        .filter(|number| *number <= max)
        .ok_or_else(|| format!("{option}: {text:?} is not an integer from 1 to {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_defaults_are_the_sizes_of_the_table() {
        let options = parse("").unwrap();
        assert_eq!(options.mode, Mode::Race);
        assert_eq!(options.race_effort().rounds, 7);
        assert_eq!(options.publishers, [1, 4]);
        let sizes = options.subscribers(options.scenario());
        assert_eq!(sizes, [1, 4, 16, 64, 256]);
    }

    #[test]
    fn each_scenario_has_its_own_sizes() {
        let options = parse("--race handlers").unwrap();
        let sizes = options.subscribers(options.scenario());
        assert_eq!(sizes, [1, 16, 64, 256, 1024]);
        let options = parse("--race async --subscribers 2").unwrap();
        assert_eq!(options.subscribers(options.scenario()), [2]);
    }

    #[test]
    fn a_comparison_has_all_sections_or_those_that_are_named() {
        let options = parse("--quick").unwrap();
        assert_eq!(options.mode, Mode::Comparison(Size::Quick));
        assert_eq!(options.sections, Kind::ALL);
        let options = parse("--section scale,one-core").unwrap();
        assert_eq!(options.mode, Mode::Comparison(Size::Quick));
        assert_eq!(options.sections, [Kind::OneCore, Kind::Scale]);
        let options = parse("--full --section latency --rounds 9").unwrap();
        assert_eq!(options.mode, Mode::Comparison(Size::Full));
        assert_eq!(options.effort(Size::Full).rounds, 9);
        let options = parse("--section-json routed --smoke").unwrap();
        assert_eq!(options.mode, Mode::SectionJson(Kind::Routed, Size::Smoke));
    }

    #[test]
    fn lists_are_parsed() {
        let options = parse("--only bus,flume --subscribers 1,2").unwrap();
        assert_eq!(options.only, ["bus", "flume"]);
        assert_eq!(options.subscribers(options.scenario()), [1, 2]);
    }

    #[test]
    fn each_wrong_argument_has_an_error_that_names_it() {
        for (text, error) in [
            ("--fast", "unknown argument \"--fast\""),
            ("--rounds", "--rounds needs a value"),
            (
                "--rounds 0",
                "--rounds: \"0\" is not an integer from 1 to 1000",
            ),
            (
                "--millis 10001",
                "\"10001\" is not an integer from 1 to 10000",
            ),
            ("--publishers 1,x", "--publishers: \"x\" is not an integer"),
            ("--subscribers 5000", "from 1 to 4096"),
            (
                "--race sockets",
                "--race: \"sockets\" is not threads, handlers",
            ),
            (
                "--section sockets",
                "--section: \"sockets\" is not one of one-core",
            ),
            (
                "--report page.md",
                "--report: \"page.md\" does not end in .html",
            ),
            ("--quick --full", "--quick and --full exclude each other"),
            ("--quick --quick", "--quick is given twice"),
            ("--quick --race async", "--race: it applies to one scenario"),
            (
                "--section text --only bus",
                "--only: it applies to one scenario",
            ),
            (
                "--quick --one-core",
                "--one-core: it applies to one scenario",
            ),
            ("--smoke --json x", "--json: it has no effect with --smoke"),
            ("--smoke --race async", "--race: --smoke runs all scenarios"),
            (
                "--list --rounds 3",
                "--rounds: it has no effect with --smoke or --list",
            ),
            ("--section-json text --list", "it names the only section"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(error), "{text}: {message}");
        }
    }

    #[test]
    fn the_help_names_every_section() {
        for kind in Kind::ALL {
            assert!(HELP.contains(kind.name()), "{}", kind.name());
        }
    }
}
