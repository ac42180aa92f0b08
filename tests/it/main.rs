//! All integration tests, in one binary.

mod cancel;
mod close;
mod flush;
mod panic;
mod support;

#[cfg(feature = "cli")]
mod cli;
