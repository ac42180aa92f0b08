//! All integration tests, in one binary: one subject per file, with tests that are named after the
//! guarantees.
//!
//! Tests that need a whole process are elsewhere or must be run alone: those that count allocations
//! are in `tests/alloc.rs`; those of an idle bus and the long run of the delivery law are ignored
//! here by default.

mod accounts;
mod adaptive;
mod architecture;
mod async_close;
mod async_law;
mod async_publish;
mod async_recv;
mod batch;
mod block;
mod broadcast;
mod callbacks;
mod cancel;
mod close;
mod conflate;
mod conformance;
mod cut;
mod dialects;
mod disconnect;
mod documentation;
mod drop_oldest;
mod ending;
mod errors;
mod fairness;
mod flush;
mod handlers;
#[cfg(target_os = "linux")]
mod idle;
mod interest;
mod lanes;
#[cfg(feature = "latency")]
mod latency;
mod law;
mod leaks;
mod limits;
mod manual;
mod manual_close;
mod many_patterns;
mod match_cache;
mod memory;
mod messages;
#[cfg(feature = "metrics")]
mod metrics;
mod model;
mod order;
mod panic;
mod parking;
mod policies;
mod publish_batch;
mod send;
mod slow;
mod stats;
#[cfg(target_os = "linux")]
mod stress;
mod subscriber;
#[path = "../suite/mod.rs"]
mod suite;
mod support;
mod tasks;
mod time_limits;
mod wait;
mod wakers;
