//! What an event of a run carries.

use std::time::Instant;

/// A line of the input, and when it was published.
pub(crate) struct Payload {
    /// The line as it was read: a JSON object.
    pub(crate) json: Box<str>,
    /// Just before the call that publishes it.
    pub(crate) published_at: Instant,
}
