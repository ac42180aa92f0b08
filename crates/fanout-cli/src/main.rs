//! The command line: newline-delimited JSON in, events fanned out to files, and a report.
//!
//! One story per file, in the order in which a run meets them:
//!
//! | file | story |
//! | --- | --- |
//! | `args` | what can be asked for, and the help that teaches it |
//! | `input` | a stream of bytes becomes lines of bounded length |
//! | `template` | the topic template, checked at the start |
//! | `line` | one line becomes a topic and a payload, or a bad line that names place and rule |
//! | `output` | where events are written, and why two writers never share a file |
//! | `run` | the whole: open everything, publish, receive on one thread per subscription, join |
//! | `console` | what is said on standard error: messages, bad lines, progress |
//! | `report` | what a run says at its end, for people and for machines |
//! | `ask` | the other subcommand: does this pattern match this topic? |
//! | `explain` | how a pattern was read, or the place and the rule where it is refused |
//!
//! The command line uses the library's public surface alone, knows none of its insides, and adds
//! nothing to it.

mod args;
mod ask;
mod console;
mod explain;
mod input;
mod line;
mod output;
mod report;
mod run;
mod template;

use clap::Parser;
use std::process::ExitCode;

use self::args::{Args, Command};

fn main() -> ExitCode {
    let status = match Args::parse().command {
        Command::Run(args) => run::run(args),
        Command::Match(args) => ask::ask(&args),
    };
    ExitCode::from(status.code())
}

/// How a command ended. The codes are part of the command line's contract and stand in `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// All went well; for `match`, the pattern matches.
    Good,
    /// `match PATTERN TOPIC`: both are fine, and the pattern does not match.
    NoMatch,
    /// Something outside failed: reading, writing, a thread.
    Failed,
    /// What was asked for is refused: an argument, a pattern, a topic. Nothing was done.
    Refused,
    /// The work is done, but some lines of the input were bad.
    BadLines,
}

impl Status {
    /// The exit status of the process. `clap` answers 2 for what it refuses itself, too.
    fn code(self) -> u8 {
        match self {
            Status::Good => 0,
            Status::NoMatch | Status::Failed => 1,
            Status::Refused => 2,
            Status::BadLines => 3,
        }
    }
}
