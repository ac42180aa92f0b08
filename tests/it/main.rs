//! All integration tests, in one binary.

mod flush;
mod support;

#[cfg(feature = "cli")]
mod cli;
