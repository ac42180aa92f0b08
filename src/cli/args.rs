//! What can be asked for at the command line, and the help that teaches it.
//!
//! Everything that can be refused by looking at an argument alone is refused here, while `clap`
//! can still name the argument: patterns, the topic template, bounds of numbers.

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use fanout::limits::BLOCK_TIMEOUT_MAX;
use fanout::{Overflow, Pattern, PatternError, Syntax};
use std::path::PathBuf;
use std::str::FromStr;

use super::template::Template;

/// Most events that `--capacity` may ask for, per subscription: a ring's slots are taken at once.
const CAPACITY_EVENTS_MAX: u64 = 1 << 24;

/// Most threads that `--dispatchers` may ask for.
const DISPATCHER_THREADS_MAX: u64 = 256;

/// Milliseconds that `--block-timeout` may ask for at most.
const BLOCK_TIMEOUT_MS_MAX: u64 = BLOCK_TIMEOUT_MAX.as_millis() as u64;

/// The text that stands for standard input and standard output.
pub(crate) const STANDARD_STREAM: &str = "-";

#[derive(Debug, Parser)]
#[command(name = "fanout", version, about, long_about = None, after_help = HELP_MAIN)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish the lines of an NDJSON file, and fan them out to subscriptions
    #[command(after_help = HELP_RUN)]
    Run(RunArgs),

    /// Ask whether a pattern matches a topic
    #[command(after_help = HELP_MATCH)]
    Match(MatchArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Newline-delimited JSON, one object a line; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: PathBuf,

    /// The topic of each line: text, with {field} where a field's value goes
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) topic: Template,

    /// What to receive, and the file to write it to; without one, events are only counted.
    /// `-` is standard output. May be given many times
    #[arg(short, long, value_name = "PATTERN[=FILE]", required = true)]
    pub(crate) subscribe: Vec<Subscription>,

    /// What happens when a subscription's ring is full
    #[arg(long, value_enum, value_name = "POLICY", default_value_t = OverflowChoice::Block)]
    pub(crate) overflow: OverflowChoice,

    /// With --overflow block: the longest that a block of up to 64 events waits for a subscription. What has no room
    /// then is lost to it and counted [default: as long as it takes]
    #[arg(long, value_name = "MILLISECONDS",
          value_parser = RangedU64ValueParser::<u64>::new().range(0..=BLOCK_TIMEOUT_MS_MAX))]
    pub(crate) block_timeout: Option<u64>,

    /// Events that a subscription's ring holds, at least 1 [default: the library's]
    #[arg(long, value_name = "EVENTS",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=CAPACITY_EVENTS_MAX))]
    pub(crate) capacity: Option<usize>,

    /// Threads that dispatch, at least 1 [default: the library's]
    #[arg(long, value_name = "THREADS",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=DISPATCHER_THREADS_MAX))]
    pub(crate) dispatchers: Option<usize>,

    /// A field whose value becomes the event's name; a line without it has no name
    #[arg(long, value_name = "FIELD")]
    pub(crate) name_field: Option<String>,

    /// The source that every event carries
    #[arg(long, value_name = "TEXT")]
    pub(crate) source: Option<String>,

    /// Stop at the first bad line; what came before it is still delivered
    #[arg(long)]
    pub(crate) strict: bool,

    /// Print the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Show no progress (it is shown on a terminal only)
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MatchArgs {
    /// The pattern
    #[arg(required_unless_present = "stdin")]
    pub(crate) pattern: Option<String>,

    /// The topic
    #[arg(required_unless_present_any = ["stdin", "explain"])]
    pub(crate) topic: Option<String>,

    /// The language of the patterns; topics have dots in all of them
    #[arg(short, long, value_name = "SYNTAX", default_value = Syntax::Segments.name(), value_parser = syntaxes())]
    pub(crate) syntax: Syntax,

    /// Tell how the pattern was read, or why and where it is refused
    #[arg(long, conflicts_with = "stdin")]
    pub(crate) explain: bool,

    /// Read `pattern TAB topic` lines, print `pattern TAB topic TAB verdict` lines
    #[arg(long, conflicts_with_all = ["pattern", "topic"])]
    pub(crate) stdin: bool,
}

/// The languages of patterns, by name.
fn syntaxes() -> impl TypedValueParser<Value = Syntax> {
    PossibleValuesParser::new(Syntax::ALL.map(Syntax::name)).try_map(|name| name.parse::<Syntax>())
}

/// The overflow policies that the command line offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OverflowChoice {
    /// Publishing waits until there is room: nothing is lost, unless --block-timeout ends the wait
    Block,
    /// The event is lost to that subscription, and counted
    DropNewest,
    /// The oldest event that waits is lost to that subscription, and counted
    DropOldest,
    /// The event that waits for the same topic is replaced; beyond as many topics as the ring holds events, the oldest is lost
    Conflate,
    /// That subscription ends: what waits is received, and the run has failed
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

    /// The name that the argument has, and the report.
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

/// One `--subscribe`: a pattern, and where its events go.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    /// The pattern as written.
    pub(crate) text: String,
    pub(crate) pattern: Pattern,
    /// A path, or `-`; none counts only.
    pub(crate) output: Option<String>,
}

impl FromStr for Subscription {
    type Err = PatternError;

    /// Splits at the last `=`, since patterns are more likely to hold one than file names are.
    /// An empty file name is no file: `a=b=` is the way to write the pattern `a=b` without one.
    fn from_str(argument: &str) -> Result<Self, PatternError> {
        let (text, output) = match argument.rsplit_once('=') {
            Some((text, "")) => (text, None),
            Some((text, file)) => (text, Some(file.to_owned())),
            None => (argument, None),
        };
        Ok(Subscription {
            text: text.to_owned(),
            pattern: Pattern::parse(text)?,
            output,
        })
    }
}

const HELP_MAIN: &str = "\
Examples:
  Fan real flights out to two subscriptions, one of them to a file:
    fanout run --input examples/data/flights-2k.ndjson \\
               --topic 'flights.{origin}.{destination}' \\
               --subscribe 'flights.SFO.*' --subscribe 'flights.*.JFK=jfk.ndjson'

  Ask the matcher:
    fanout match 'flights.{ORD,ATL}.?*' flights.ATL.DEN

`fanout run --help` and `fanout match --help` teach the rest.";

const HELP_RUN: &str = "\
Examples:
  Count the flights out of San Francisco, and all of them:
    fanout run -i examples/data/flights-2k.ndjson -t 'flights.{origin}.{destination}' \\
               -s 'flights.SFO.*' -s '*'

  Write matches to files, and the report as JSON:
    fanout run -i flights.ndjson -t 'flights.{origin}.{destination}' --json \\
               -s 'flights.[A-D]*.**=a-to-d.ndjson' -s 'flights.{ORD,ATL}.?*=hubs.ndjson'

  From a pipe into a pipe (the report then goes to standard error):
    zcat flights.ndjson.gz | fanout run -i - -t 'flights.{origin}' -s '*=-' | jq .data.delay

Topics:
  In the template, {field} stands for the value of that top-level field (the name is taken as it
  is: {a.b} is the field \"a.b\"); {{ and }} stand for { and }. A value must be a string that is
  not empty and holds neither a dot nor a control character, or a number, which is taken as
  written and must not hold a dot either. Where a field is given twice, the last one counts.

Patterns:
  Segments are separated by dots. `*` is any run of characters in a segment, `?` one character,
  [a-z] one of a class, [!a-z] one outside it, {x,y} either; `**` is any number of whole segments.
  A `*` all alone is everything. \\ takes the next character as it is.

Subscriptions:
  PATTERN=FILE splits at the last `=`. PATTERN and PATTERN= count only; write `a=b=` for the
  pattern a=b. A file is replaced, one JSON line for each event, in the order of ids:
    {\"id\":1,\"topic\":\"..\",\"name\":null,\"source\":null,\"data\":<the line>,\"created_at\":\"..\"}
  Two subscriptions cannot write to one file, nor any to the input. One that cannot write any
  more stops, and the others go on.

Bad lines:
  A line that is not a JSON object in UTF-8, lacks a field, has one that is no part of a topic, or
  is longer than 1 MiB is bad: it is named on standard error as FILE:LINE: place: rule (the first
  20; then they are only counted) and skipped. Blank lines are skipped and are not bad.

Report (--json: one object with these keys):
  input topic overflow block_timeout_ms lines blank_lines bad_lines events matched received lost
  unread superseded elapsed_s events_per_s deliveries_per_s latency_ns error subscriptions; each of
  the subscriptions: pattern output matched received written lost unread superseded high_water
  latency_ns error. superseded is how many events a later one of the topic replaced while they
  waited, under conflate. high_water is how many events (topics, under conflate) waited in its ring
  at most. latency_ns is null or p50 p90 p99 p99_9 max: from the
  call that publishes, waiting for room included, to the receipt.

Exit status:
  0  all lines were published, and everything that was to be written is written
  1  a failure while running: a file could not be read or written, events were lost although the
     policy is block, without --block-timeout, or a subscription ended because the policy is
     disconnect
  2  refused: an argument, a pattern, the topic template; nothing was published
  3  there were bad lines (without --strict, everything else was published)";

const HELP_MATCH: &str = "\
Examples:
  One question; the exit status is the answer:
    fanout match 'flights.SFO.*' flights.SFO.LAX        prints `match`, exit status 0
    fanout match 'flights.SFO.*' flights.LAX.SFO        prints `no match`, exit status 1
    fanout match 'flights..*' flights.SFO               refused, exit status 2
    fanout match -- '-x.*' -x.y                         a pattern that starts with a dash

  In another language:
    fanout match --syntax mqtt 'flights/+/#' flights.SFO.LAX

  How a pattern was read, and why and where one is refused:
    fanout match --explain --syntax nats 'flights.*.>' flights.SFO
    fanout match --explain 'flights.[D-A]*'

  Many questions:
    printf 'a.*\\ta.b\\n' | fanout match --stdin          prints `a.*<TAB>a.b<TAB>1`

Languages (--syntax):
  segments  the native one: see `fanout run --help`
  nats      `*` is one segment, `>` at the end one or more
  amqp      `*` is one segment, `#` any number, anywhere, as in topic exchanges
  mqtt      `+` is one segment, `#` at the end any number; filters have slashes, topics dots
  path      Go's path.Match on the whole topic; `*` alone is everything
  redis     the globs of PSUBSCRIBE on the whole topic

With --stdin, each line is a pattern, a TAB and a topic, and is printed as it came, byte for byte,
with a TAB and a verdict behind it:
  1  the pattern matches the topic
  0  it does not
  E  the pattern is refused (also when the topic would be, too)
  T  the topic is refused
The first TAB separates; a further one is part of the topic, which is therefore refused, as it is
with a carriage return at its end. Text that is not UTF-8 is refused. A line without a TAB, or
longer than 1 MiB, has no verdict: it is named on standard error (the first 20; then they are only
counted), nothing is printed for it, and the exit status is 3. Verdicts are flushed whenever the
next line has not arrived yet, so that a program can ask and wait.

Exit status:
  0  match; with --stdin, every line has a verdict; with --explain and no topic, the pattern is fine
  1  no match; with --stdin, reading or writing failed
  2  refused: the pattern, the topic, or an argument
  3  with --stdin: some lines had no verdict";
