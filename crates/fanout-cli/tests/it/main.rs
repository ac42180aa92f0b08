//! The command line as its users have it: the built binary, real files and real pipes.
//!
//! The expected results are computed from the text of the input in another way than the program
//! does it: fields are compared as strings, never with a pattern.

mod arguments;
mod bench;
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
