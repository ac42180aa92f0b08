//! One error per operation, with room for what a driver has to say.

use crate::pattern::TopicError;

/// An error of any kind: what handlers answer, and drivers pass on.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a text is no channel.
///
/// ```
/// use fanout::broadcast::{Broadcaster, Event, Memory, PublishError};
///
/// let refused = Memory::new().publish(Event::new("orders..1", "OrderShipped", "")).unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "no channel: topic `orders..1`, byte 7: a segment must not be empty",
/// );
/// assert!(matches!(refused, PublishError::Channel(_)));
/// ```
#[derive(Debug, thiserror::Error)]
#[error("no channel: {reason}")]
pub struct ChannelError {
    #[source]
    reason: BoxError,
}

impl ChannelError {
    /// For a driver that refuses more than [`Memory`](super::Memory) does. The reason shows the text.
    ///
    /// ```
    /// let refused = fanout::broadcast::ChannelError::new("`room 7` has a space, which no NATS subject has");
    /// assert_eq!(refused.to_string(), "no channel: `room 7` has a space, which no NATS subject has");
    /// ```
    pub fn new(reason: impl Into<BoxError>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

impl From<TopicError> for ChannelError {
    fn from(error: TopicError) -> Self {
        Self::new(error)
    }
}

/// Why an event was not accepted. It is delivered to nobody.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The event's channel is none.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The broadcaster is closed.
    #[error("the broadcaster is closed")]
    Closed,
    /// The [`CancelToken`](super::CancelToken) was cancelled before there was room.
    #[error("cancelled before the event was accepted")]
    Cancelled,
    /// There is no room, and the calling thread, which is inside of a handler, would have to wait for itself.
    #[error("there is no room, and waiting here would be waiting for oneself")]
    WouldDeadlock,
    /// What the driver says.
    #[error("the driver failed: {0}")]
    Driver(#[source] BoxError),
}

/// Why nothing was subscribed. The handler was dropped, and never called but in one case: see
/// [`Cancelled`](Self::Cancelled).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The text is no channel.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The broadcaster is closed.
    #[error("the broadcaster is closed")]
    Closed,
    /// The [`CancelToken`](super::CancelToken) is cancelled. If that happened while the subscription was being made, the
    /// handler may have been called.
    #[error("cancelled before it was subscribed")]
    Cancelled,
    /// What the driver says.
    #[error("the driver failed: {0}")]
    Driver(#[source] BoxError),
}

/// Why closing failed. The broadcaster is closed all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// What the driver says.
    #[error("the driver failed: {0}")]
    Driver(#[source] BoxError),
}
