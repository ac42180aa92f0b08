//! All integration tests, in one binary: a story per file, the guarantees by name.
//!
//! What only a whole process can show is elsewhere or asks to be run alone: allocations in `tests/alloc.rs`, an idle bus
//! and the long run of the delivery law among the ignored tests here.

mod architecture;
mod block;
mod cancel;
mod close;
mod cut;
mod errors;
mod flush;
#[cfg(target_os = "linux")]
mod idle;
#[cfg(feature = "latency")]
mod latency;
mod law;
mod manual;
mod memory;
#[cfg(feature = "metrics")]
mod metrics;
mod order;
mod panic;
mod send;
mod slow;
mod stats;
mod support;

#[cfg(feature = "cli")]
mod cli;
