//! The command line as its users have it: the built binary, real files and real pipes.
//!
//! What is expected is computed here from the input's text, by other means than the program's:
//! fields are compared as strings, never by a pattern.

mod arguments;
mod explain;
mod hint;
mod input;
#[cfg(unix)]
mod live;
mod matching;
#[cfg(target_os = "linux")]
mod memory;
mod output;
mod report;
mod run;
mod support;
