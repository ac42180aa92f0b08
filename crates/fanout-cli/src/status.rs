//! How a command ends.

use std::process::ExitCode;

use crate::interrupt::Signal;

/// How a command ended. `--help` documents the codes, so they do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Everything went well. For `match`: the pattern matches.
    Good,
    /// `match PATTERN TOPIC`: both are valid, and the pattern does not match.
    NoMatch,
    /// Reading, writing or starting a thread failed.
    Failed,
    /// An argument, a pattern or a topic is refused. Nothing was done.
    Refused,
    /// `match PATTERN TOPIC`: the answer could not be written. As code 1 means "no match", this is
    /// code 2, as for everything that leaves the question without an answer.
    NoAnswer,
    /// Everything was done, but some lines of the input were bad.
    BadLines,
    /// Everything was done, but events were lost by the policy that the user chose.
    Lost,
    /// A signal ended the run in an orderly way.
    Ended(Signal),
}

impl From<Status> for ExitCode {
    /// `clap` uses 2 for the arguments that it refuses, too.
    fn from(status: Status) -> ExitCode {
        ExitCode::from(match status {
            Status::Good => 0,
            Status::NoMatch | Status::Failed => 1,
            Status::Refused | Status::NoAnswer => 2,
            Status::BadLines => 3,
            Status::Lost => 4,
            Status::Ended(signal) => signal.exit_code(),
        })
    }
}

/// Why a run ends before anything is published.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The arguments contradict each other or the environment.
    Refused(String),
    /// Something outside of the program failed.
    Failed(String),
}
