//! The command line.

use std::path::PathBuf;

use crate::race::Race;

/// What `--help` prints.
pub const HELP: &str = "\
The same work on fanout and on its rivals, side by side.

usage: peers [options]

  --race NAME           threads: every subscriber is a thread (default)
                        handlers: every subscriber is a closure that is called; peers that call
                        nobody take part with a thread each, and `direct` is a plain loop over the
                        closures, an upper bound that is no peer
                        async: every subscriber is a task on a tokio runtime with 2 workers; peers
                        that know no tasks take part with a thread each
  --rounds N            measured rounds, medians are taken over them (default 7)
  --millis N            how long one run shall take, about (default 300)
  --publishers LIST     numbers of publishing threads (default 1,4)
  --subscribers LIST    numbers of subscribers (default 1,4,16,64,256; with --race handlers
                        1,16,64,256,1024; with --race async 4,64,1024)
  --only NAME,..        these systems alone (names as in the table)
  --without NAME,..     all but these
  --json FILE           write all numbers to a file, each round's too
  --markdown            print tables in Markdown, with machine, date and versions
  --latency             measure latency instead: parked subscribers, a lone event now and then
                        (defaults: one publisher, 1 and 16 subscribers, fanout, fanout-inline,
                        crossbeam-channel and tokio-credits; --race threads alone)
  --smoke               one tiny run of everything, of all races or of that of --race, in less than
                        a minute: checks, measures nothing
  --list                name the systems, of all races or of that of --race, and say how each is used
  --help                this

examples:
  peers --race handlers --markdown                      the table of handlers in the README
  peers --race async --markdown                         the table of tasks
  peers --race handlers --subscribers 64 --publishers 1 --rounds 3 \\
        --only fanout-handlers,direct,crossbeam-per-worker

The exit status is 0 where every subscriber got exactly what it should, in every run.";

/// The command line, parsed.
#[derive(Debug)]
pub struct Options {
    /// `None` where it was not said.
    pub race: Option<Race>,
    pub rounds: usize,
    pub millis: u64,
    pub publishers: Vec<u32>,
    /// Empty: those of the race.
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
            race: None,
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
                "--race" => options.race = Some(race(&value()?)?),
                "--rounds" => options.rounds = number(&value()?)?,
                "--millis" => options.millis = number(&value()?)?,
                "--publishers" => options.publishers = numbers(&value()?)?,
                "--subscribers" => options.subscribers = numbers(&value()?)?,
                "--only" => options.only = names(&value()?),
                "--without" => options.without = names(&value()?),
                "--json" => options.json = Some(value()?.into()),
                "--markdown" => options.markdown = true,
                "--latency" => options.latency = true,
                "--smoke" => options.smoke = true,
                "--list" => options.list = true,
                "--help" | "-h" => options.help = true,
                // `cargo bench` and `cargo test` pass this to every target.
                "--bench" => {}
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        if options.publishers.is_empty() {
            options.publishers = if options.latency { vec![1] } else { vec![1, 4] };
        }
        if options.latency {
            if options.race() != Race::Threads {
                return Err("--latency is for --race threads alone".to_owned());
            }
            options.race = Some(Race::Threads);
            if options.subscribers.is_empty() {
                options.subscribers = vec![1, 16];
            }
        }
        Ok(options)
    }

    /// The race to measure.
    pub fn race(&self) -> Race {
        self.race.unwrap_or(Race::Threads)
    }

    /// The numbers of subscribers in a race.
    pub fn subscribers(&self, race: Race) -> &[usize] {
        if self.subscribers.is_empty() {
            race.subscribers()
        } else {
            &self.subscribers
        }
    }
}

fn race(name: &str) -> Result<Race, String> {
    Race::ALL
        .into_iter()
        .find(|race| race.name() == name)
        .ok_or_else(|| format!("there is no race {name}: threads, handlers or async"))
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).collect()
}

fn numbers<N: TryFrom<u64>>(text: &str) -> Result<Vec<N>, String> {
    text.split(',').map(|text| number(text.trim())).collect()
}

fn number<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    text.parse::<u64>()
        .ok()
        .filter(|number| *number > 0)
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| format!("{text} is not a number from 1 that fits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let options = parse("").unwrap();
        assert_eq!(options.rounds, 7);
        assert_eq!(options.publishers, [1, 4]);
        let sizes = options.subscribers(options.race());
        assert_eq!(sizes, [1, 4, 16, 64, 256]);
    }

    #[test]
    fn each_race_has_its_sizes() {
        let options = parse("--race handlers").unwrap();
        let sizes = options.subscribers(options.race());
        assert_eq!(sizes, [1, 16, 64, 256, 1024]);
        let options = parse("--race async --subscribers 2").unwrap();
        assert_eq!(options.subscribers(options.race()), [2]);
        let options = parse("--latency").unwrap();
        assert_eq!(options.subscribers(options.race()), [1, 16]);
        assert!(parse("--latency --race async").is_err());
        assert!(parse("--race horses").is_err());
    }

    #[test]
    fn lists_and_refusals() {
        let options = parse("--only bus,flume --subscribers 1,2").unwrap();
        assert_eq!(options.only, ["bus", "flume"]);
        assert_eq!(options.subscribers(options.race()), [1, 2]);
        assert!(parse("--rounds 0").is_err());
        assert!(parse("--rounds").is_err());
        assert!(parse("--publishers 1,x").is_err());
        assert!(parse("--fast").is_err());
    }
}
