//! The binary `fanout`: lines of JSON in, events delivered to files, and a report; patterns tested;
//! the engine measured.
//!
//! Each file has one subject. They are listed in the order in which a run uses them:
//!
//! | file | subject |
//! | --- | --- |
//! | `args`, `help` | the arguments, and the text that explains them |
//! | `duration`, `whole_number` | durations and whole numbers as arguments |
//! | `template` | the topic template, checked at the start |
//! | `subscription` | one `--subscribe`: a pattern and a file |
//! | `identity` | the identity of a file, independent of its name |
//! | `interrupt` | interrupts, which end a run before its input ends: signals |
//! | `input` | a file or standard input, read until its end or an interrupt |
//! | `lines` | a stream of bytes becomes lines of bounded length |
//! | `line` | one line becomes a topic and a payload, or a bad line |
//! | `bad_lines` | the errors of lines, and how many of them are printed |
//! | `payload` | the payload of an event |
//! | `output` | where events are written, and why no file is overwritten by accident |
//! | `receive` | one thread per subscription: receives, writes and counts |
//! | `run` | the whole run: open everything, publish, wait for the receivers, report |
//! | `console` | messages and progress on standard error |
//! | `report` | the result of a run, for people and for programs |
//! | `hint` | patterns in the style of another language |
//! | `matching` | the other command: does this pattern match this topic? |
//! | `cached_matcher` | verdicts for many questions, with a bounded memory for patterns |
//! | `explain` | how a pattern is read, or the position of its error, and the rule |
//! | `bench/` | the third command: how fast is the engine here? `bench/mod.rs` has its map |
//! | `status` | how a command ends |
//!
//! The command line uses only the public interface of the library. Imports between these files
//! have no cycle; `tests/it/architecture.rs` of the library checks that.

mod args;
mod bad_lines;
mod bench;
mod cached_matcher;
mod console;
mod duration;
mod explain;
mod help;
mod hint;
mod identity;
mod input;
mod interrupt;
mod line;
mod lines;
mod matching;
mod output;
mod payload;
mod receive;
mod report;
mod run;
mod status;
mod subscription;
mod template;
mod whole_number;

use clap::Parser;
use std::process::ExitCode;

use self::args::{Args, Command};
use self::status::Status;

fn main() -> ExitCode {
    let status = match Args::try_parse() {
        Ok(Args { command }) => match command {
            Command::Run(args) => run::run(&args),
            Command::Match(args) => matching::run(&args),
            Command::Bench(args) => bench::run(&args),
        },
        Err(error) => print_usage(&error),
    };
    status.into()
}

/// Prints an error of the arguments, or the text of `--help` or `--version`.
fn print_usage(error: &clap::Error) -> Status {
    match error.print() {
        Err(failure) if !error.use_stderr() => {
            console::print_message(format_args!("{}: {failure}", identity::STDOUT_NAME));
            Status::Failed
        }
        _ if error.use_stderr() => Status::Refused,
        _ => Status::Good,
    }
}
