//! The arguments of the command line.
//!
//! An argument that can be checked without the other arguments is checked here, so that `clap` can
//! name it in the error. Patterns are parsed later, because their language is another argument.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use fanout::limits::{BLOCK_TIMEOUT_MAX, CAPACITY_MAX, DISPATCHERS_MAX};
use fanout::{Overflow, Syntax};
use std::path::PathBuf;
use std::time::Duration;

use crate::bench::args::BenchArgs;
use crate::template::Template;
use crate::{duration, help, whole_number};

#[derive(Debug, Parser)]
#[command(name = "fanout", version, about, long_about = None, after_help = help::MAIN)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish the lines of an NDJSON file, and deliver them to subscriptions
    #[command(after_help = help::RUN)]
    Run(RunArgs),

    /// Test whether a pattern matches a topic
    #[command(after_help = help::MATCH, override_usage = help::MATCH_USAGE)]
    Match(MatchArgs),

    /// Measure the speed of the engine on this machine
    #[command(after_help = help::BENCH)]
    Bench(BenchArgs),
}

// A short flag means the same in all commands.

#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Newline-delimited JSON with one object per line; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: PathBuf,

    /// The topic of each line: text in which {field} stands for the value of a field
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) topic: Template,

    /// The topics to receive, and the file to write their events to; without a file, events are
    /// only counted. `-` is standard output. Can be given many times
    #[arg(short, long, value_name = "PATTERN[=FILE]", required = true)]
    pub(crate) subscribe: Vec<String>,

    /// The language of the patterns, in upper or lower case; topics have dots in all of them
    #[arg(short = 'x', long, value_name = "SYNTAX", ignore_case = true,
          default_value = Syntax::Segments.name(), value_parser = syntaxes())]
    pub(crate) syntax: Syntax,

    /// What happens when the ring of a subscription is full. The default of the library is
    /// drop-newest
    #[arg(long, value_enum, value_name = "POLICY", ignore_case = true,
          default_value_t = OverflowChoice::Block)]
    pub(crate) overflow: OverflowChoice,

    /// With --overflow block: the longest time that a block of up to 64 events waits for room in
    /// the ring of a subscription, such as 500ms, 5s or 2m, at most 30d. Events that have no room
    /// then are lost to the subscription, and counted [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = block_timeout,
          allow_hyphen_values = true)]
    pub(crate) block_timeout: Option<Duration>,

    /// The number of events that the ring of a subscription holds, 1 to 16777216 [default: 1024]
    #[arg(long, value_name = "EVENTS", value_parser = capacity, allow_hyphen_values = true)]
    pub(crate) capacity: Option<usize>,

    /// The number of threads that dispatch events, 1 to 64 [default: one for every four processors,
    /// 1 to 4]
    #[arg(long, value_name = "THREADS", value_parser = dispatchers, allow_hyphen_values = true)]
    pub(crate) dispatchers: Option<usize>,

    /// A field whose value becomes the name of the event; a line without the field has no name
    #[arg(long, value_name = "FIELD", value_parser = field)]
    pub(crate) name_field: Option<String>,

    /// A text stored as the source of every event (`source` in the output)
    #[arg(long, value_name = "TEXT")]
    pub(crate) source: Option<String>,

    /// Stop at the first bad line; the lines before it are delivered
    #[arg(long)]
    pub(crate) strict: bool,

    /// Print the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Do not show progress (it is shown on a terminal only)
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MatchArgs {
    /// The pattern. Required, unless --stdin is given
    #[arg(required_unless_present = "stdin")]
    pub(crate) pattern: Option<String>,

    /// The topic. Required, unless --stdin is given; optional with --explain
    #[arg(required_unless_present_any = ["stdin", "explain"])]
    pub(crate) topic: Option<String>,

    /// The language of the patterns, in upper or lower case; topics have dots in all of them
    #[arg(short = 'x', long, value_name = "SYNTAX", ignore_case = true,
          default_value = Syntax::Segments.name(), value_parser = syntaxes())]
    pub(crate) syntax: Syntax,

    /// Print how the pattern is read, or where and why it is refused
    #[arg(long, conflicts_with = "stdin")]
    pub(crate) explain: bool,

    /// Read lines `pattern TAB topic`, and print lines `pattern TAB topic TAB verdict`
    #[arg(long, conflicts_with_all = ["pattern", "topic"])]
    pub(crate) stdin: bool,
}

/// The languages of patterns, by name.
fn syntaxes() -> impl TypedValueParser<Value = Syntax> {
    PossibleValuesParser::new(Syntax::ALL.map(Syntax::name))
        .try_map(|name| name.to_ascii_lowercase().parse::<Syntax>())
}

fn block_timeout(text: &str) -> Result<Duration, String> {
    duration::parse(text, BLOCK_TIMEOUT_MAX)
}

fn capacity(text: &str) -> Result<usize, String> {
    whole_number::parse(text, CAPACITY_MAX)
}

fn dispatchers(text: &str) -> Result<usize, String> {
    whole_number::parse(text, DISPATCHERS_MAX)
}

fn field(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("write the name of a field, which is not empty".to_owned());
    }
    Ok(name.to_owned())
}

/// The overflow policies that the command line offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OverflowChoice {
    /// Publishing waits for room: nothing is lost, unless --block-timeout ends the wait
    Block,
    /// The new event is lost to the subscription, and counted
    DropNewest,
    /// The oldest event in the ring is lost to the subscription, and counted
    DropOldest,
    /// The event in the ring that has the same topic is replaced; if there is none and the ring is
    /// full, the oldest event in it is lost
    Conflate,
    /// The subscription ends: it receives the events in its ring, and the run has failed
    Disconnect,
}

impl OverflowChoice {
    pub(crate) fn policy(self) -> Overflow {
        match self {
            OverflowChoice::Block => Overflow::Block,
            OverflowChoice::DropNewest => Overflow::DropNewest,
            OverflowChoice::DropOldest => Overflow::DropOldest,
            OverflowChoice::Conflate => Overflow::Conflate,
            OverflowChoice::Disconnect => Overflow::Disconnect,
        }
    }

    /// The name as an argument and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            OverflowChoice::Block => "block",
            OverflowChoice::DropNewest => "drop-newest",
            OverflowChoice::DropOldest => "drop-oldest",
            OverflowChoice::Conflate => "conflate",
            OverflowChoice::Disconnect => "disconnect",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::collections::HashMap;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_help_names_the_bounds() {
        let mut command = Args::command();
        let run = command.find_subcommand_mut("run").expect("it is there");
        let help = run.render_long_help().to_string();
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for bound in [
            format!("holds, 1 to {CAPACITY_MAX} "),
            format!("dispatch events, 1 to {DISPATCHERS_MAX} "),
            format!("at most {}. ", duration::shown(BLOCK_TIMEOUT_MAX)),
        ] {
            assert!(words.contains(&bound), "{bound}: {words}");
        }
    }

    #[test]
    fn a_short_flag_means_the_same_in_all_commands() {
        let mut meanings = HashMap::new();
        for command in Args::command().get_subcommands() {
            for argument in command.get_arguments() {
                if let Some(short) = argument.get_short() {
                    let long = argument.get_long().expect("a long name").to_owned();
                    let known = meanings.entry(short).or_insert_with(|| long.clone());
                    assert_eq!(*known, long, "-{short}");
                }
            }
        }
        assert_eq!(meanings[&'s'], "subscribe");
        assert_eq!(meanings[&'x'], "syntax");
    }
}
