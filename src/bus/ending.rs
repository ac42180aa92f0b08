//! How a subscription ends.

use std::fmt;

use crate::dispatch::loss::Gap;

/// How a subscription ended.
///
/// [`SubscriptionHandle::ending`](super::SubscriptionHandle::ending) returns it as soon as the
/// subscription has ended; its documentation has a table of all endings.
/// [`Subscriber::for_each`](super::Subscriber::for_each) and the streams report the ending when the
/// subscriber has read all events in front of it.
///
/// ```
/// use fanout::{Bus, Ending};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::new();
/// let handle = bus.subscribe("a")?.handle(); // the subscriber is dropped here
/// assert_eq!(handle.ending(), Some(Ending::Cancelled));
/// assert_eq!(Ending::Cancelled.to_string(), "the subscription was cancelled");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// The bus was closed.
    Closed,
    /// The subscription was cancelled, or its subscriber was dropped.
    Cancelled,
    /// The ring was full under [`Overflow::Disconnect`](crate::Overflow::Disconnect). The gap has
    /// the events that had no room and are lost.
    Disconnected(Gap),
    /// A thread of the bus panicked; see [`RecvError::Broken`](super::RecvError::Broken).
    Broken,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the bus was closed"),
            Self::Cancelled => f.write_str("the subscription was cancelled"),
            Self::Disconnected(gap) => write!(f, "the subscription was disconnected: {gap}"),
            Self::Broken => f.write_str("the bus is broken: one of its threads panicked"),
        }
    }
}
