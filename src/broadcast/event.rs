//! What is broadcast.

use std::borrow::Cow;

use bytes::Bytes;

/// An event: a payload, what happened, and the channel that it goes to.
///
/// A handler gets a reference to the event that was published, and all handlers to the same one. A clone shares the
/// payload; names that are `&'static str` cost nothing to make or to clone.
///
/// ```
/// use fanout::broadcast::Event;
///
/// let event = Event::new("orders.1", "OrderShipped", "{\"carrier\":\"DHL\"}");
/// assert_eq!((event.channel(), event.name()), ("orders.1", "OrderShipped"));
/// assert_eq!(event.payload().len(), 17);
///
/// let made = Event::new(format!("orders.{}", 1), "OrderShipped", event.payload().clone());
/// assert_eq!(made, event);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    channel: Cow<'static, str>,
    name: Cow<'static, str>,
    payload: Bytes,
}

impl Event {
    /// An event. Any text makes a channel here; whether it is one is said when it is published.
    pub fn new(
        channel: impl Into<Cow<'static, str>>,
        name: impl Into<Cow<'static, str>>,
        payload: impl Into<Bytes>,
    ) -> Self {
        Self {
            channel: channel.into(),
            name: name.into(),
            payload: payload.into(),
        }
    }

    /// Where it goes.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// What happened, such as `OrderShipped`. Any text, also none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes. A clone of them is one reference count.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Bytes outside of itself.
    pub(super) fn weight(&self) -> usize {
        let text = |text: &Cow<'static, str>| match text {
            Cow::Borrowed(_) => 0,
            Cow::Owned(text) => text.capacity(),
        };
        self.payload.len() + text(&self.channel) + text(&self.name)
    }
}
