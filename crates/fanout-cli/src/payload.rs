//! The payload of the events of a run.

use std::time::Instant;

/// A line of the input, and the time at which it was published.
pub(crate) struct Payload {
    /// The line as it was read: a JSON object.
    pub(crate) json: Box<str>,
    /// The time just before the call that publishes the line.
    pub(crate) published_at: Instant,
}
