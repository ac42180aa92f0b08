//! fanout

pub mod index;
pub mod pattern;

mod dispatch;
mod park;
mod ring;
mod sync;

#[cfg(not(loom))]
mod bus;

#[cfg(not(loom))]
pub use bus::*;
pub use dispatch::Dispatch;
pub use dispatch::block::{Event, SharedEvent};
pub use dispatch::feed::CAPACITY_MAX;
pub use dispatch::lane::Receipt;
pub use dispatch::loss::{Gap, GapReason, Overflow};
pub use dispatch::signal::DISPATCHERS_MAX;
pub use dispatch::topic_arg::AsTopic;
pub use index::PatternIndex;
pub use pattern::{Pattern, PatternError, PatternRule, Topic, TopicError};
