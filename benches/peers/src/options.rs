//! The command line.

use std::path::PathBuf;

use crate::harness::Scenario;

/// The text that `--help` prints.
pub const HELP: &str = "\
Runs the same work on fanout and on comparable libraries (peers), and compares the rates.

usage: peers [options]

  --race NAME           the scenario, which is the kind of subscriber:
                        threads: every subscriber is a thread that receives (default)
                        handlers: every subscriber is a handler, a closure that is called for each
                        event; a peer without handlers is measured with a thread per subscriber;
                        `direct` and `crossbeam-per-worker` are bounds, not peers
                        async: every subscriber is a task on a tokio runtime with 2 workers; a peer
                        without an async interface is measured with a thread per subscriber
  --rounds N            the number of measured rounds; the tables show medians (default 7)
  --millis N            the approximate length of one run in milliseconds (default 300)
  --publishers LIST     the numbers of publishers (default 1,4)
  --subscribers LIST    the numbers of subscribers (default 1,4,16,64,256; with --race handlers
                        1,16,64,256,1024; with --race async 4,64,1024)
  --only LIST           measure only these systems (names as in the tables)
  --without LIST        measure all systems except these
  --json FILE           write all numbers, also those of each round, to a file
  --markdown            print the tables in Markdown, with a description of each system
  --latency             measure latency instead of rates, with parked subscribers and pauses between
                        the events; only with --race threads (defaults: 1 publisher, 1 and 16
                        subscribers, the systems fanout, fanout-inline, crossbeam-channel and
                        tokio-credits)
  --smoke               run every system briefly with all checks, but measure nothing; this takes
                        less than a minute; without --race it runs all scenarios
  --list                print a description of each system; without --race, of all scenarios
  --help                print this text

A LIST is separated by commas.

examples:
  peers --race handlers --markdown                      the table of handlers in the README
  peers --race async --markdown                         the table of tasks in the README
  peers --race handlers --subscribers 64 --publishers 1 --rounds 3 \\
        --only fanout-handlers,direct,crossbeam-per-worker

The exit status is 0 if every subscriber received exactly the expected events in every run. It is 2
if the command line is not valid or if the JSON file cannot be written.";

/// The parsed command line.
#[derive(Debug)]
pub struct Options {
    /// The value of `--race`. `None` means that the option was not given.
    pub scenario: Option<Scenario>,
    pub rounds: usize,
    pub millis: u64,
    pub publishers: Vec<u32>,
    /// The value of `--subscribers`. If it is empty, the numbers of the scenario apply.
    pub subscribers: Vec<usize>,
    pub only: Vec<String>,
    pub without: Vec<String>,
    pub json: Option<PathBuf>,
    pub markdown: bool,
    pub latency: bool,
    pub smoke: bool,
    pub list: bool,
    pub help: bool,
}

impl Options {
    /// Parses the arguments, without the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            scenario: None,
            rounds: 7,
            millis: 300,
            publishers: Vec::new(),
            subscribers: Vec::new(),
            only: Vec::new(),
            without: Vec::new(),
            json: None,
            markdown: false,
            latency: false,
            smoke: false,
            list: false,
            help: false,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--race" => options.scenario = Some(scenario(&argument, &value()?)?),
                "--rounds" => options.rounds = number(&argument, &value()?)?,
                "--millis" => options.millis = number(&argument, &value()?)?,
                "--publishers" => options.publishers = numbers(&argument, &value()?)?,
                "--subscribers" => options.subscribers = numbers(&argument, &value()?)?,
                "--only" => options.only = names(&value()?),
                "--without" => options.without = names(&value()?),
                "--json" => options.json = Some(value()?.into()),
                "--markdown" => options.markdown = true,
                "--latency" => options.latency = true,
                "--smoke" => options.smoke = true,
                "--list" => options.list = true,
                "--help" | "-h" => options.help = true,
                // `cargo bench` passes this argument to every target.
                "--bench" => {}
                _ => return Err(format!("unknown argument {argument:?}")),
            }
        }
        if options.publishers.is_empty() {
            options.publishers = if options.latency { vec![1] } else { vec![1, 4] };
        }
        if options.latency {
            if options.scenario() != Scenario::Threads {
                return Err("--latency: it needs --race threads".to_owned());
            }
            options.scenario = Some(Scenario::Threads);
            if options.subscribers.is_empty() {
                options.subscribers = vec![1, 16];
            }
        }
        Ok(options)
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
}

fn scenario(option: &str, name: &str) -> Result<Scenario, String> {
    Scenario::ALL
        .into_iter()
        .find(|scenario| scenario.name() == name)
        .ok_or_else(|| format!("{option}: {name:?} is not threads, handlers or async"))
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).collect()
}

fn numbers<N: TryFrom<u64>>(option: &str, text: &str) -> Result<Vec<N>, String> {
    text.split(',')
        .map(|text| number(option, text.trim()))
        .collect()
}

fn number<N: TryFrom<u64>>(option: &str, text: &str) -> Result<N, String> {
    text.parse::<u64>()
        .ok()
        .filter(|number| *number > 0)
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| format!("{option}: {text:?} is not a positive integer, or it is too large"))
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
        assert_eq!(options.rounds, 7);
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
        let options = parse("--latency").unwrap();
        assert_eq!(options.subscribers(options.scenario()), [1, 16]);
        assert!(parse("--latency --race async").is_err());
        assert!(parse("--race sockets").is_err());
    }

    #[test]
    fn lists_are_parsed_and_invalid_values_are_rejected() {
        let options = parse("--only bus,flume --subscribers 1,2").unwrap();
        assert_eq!(options.only, ["bus", "flume"]);
        assert_eq!(options.subscribers(options.scenario()), [1, 2]);
        assert!(parse("--rounds 0").is_err());
        assert!(parse("--rounds").is_err());
        assert!(parse("--publishers 1,x").is_err());
        assert!(parse("--fast").is_err());
    }
}
