//! The event that is broadcast.

use std::borrow::Cow;

use bytes::Bytes;

/// A named event with a payload, and the channel that it is published on.
///
/// A program publishes it. A handler of a broadcaster gets a reference to it; a subscriber of a
/// [`Bus`](crate::Bus) gets an [`Event`](crate::Event), which has an id, a time and a payload of
/// any type.
///
/// Every handler of a channel gets a reference to the same event. A clone shares the payload. A
/// channel or a name that is `&'static str` is neither allocated nor copied.
///
/// ```
/// use fanout::broadcast::BroadcastEvent;
///
/// let event = BroadcastEvent::new("orders.1", "OrderShipped", "{\"carrier\":\"DHL\"}");
/// assert_eq!((event.channel(), event.name()), ("orders.1", "OrderShipped"));
/// assert_eq!(event.payload().len(), 17);
///
/// let payload = event.payload().clone();
/// let same = BroadcastEvent::new(format!("orders.{}", 1), "OrderShipped", payload);
/// assert_eq!(same, event);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BroadcastEvent {
    channel: Cow<'static, str>,
    name: Cow<'static, str>,
    payload: Bytes,
}

impl BroadcastEvent {
    /// Creates an event. The channel is checked when the event is published, not here.
    ///
    /// ```
    /// use fanout::broadcast::BroadcastEvent;
    ///
    /// let text = BroadcastEvent::new("orders.1", "OrderShipped", "by air");
    /// let channel = String::from("orders.1");
    /// let binary = BroadcastEvent::new(channel, "LabelPrinted", vec![0x25, 0x50]);
    /// # assert_eq!(text.channel(), binary.channel());
    /// ```
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

    /// The channel.
    ///
    /// ```
    /// # use fanout::broadcast::BroadcastEvent;
    /// assert_eq!(BroadcastEvent::new("orders.1", "OrderShipped", "").channel(), "orders.1");
    /// ```
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// What happened, such as `OrderShipped`. Any text, also the empty one.
    ///
    /// ```
    /// # use fanout::broadcast::BroadcastEvent;
    /// assert_eq!(BroadcastEvent::new("orders.1", "OrderShipped", "").name(), "OrderShipped");
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The payload. A clone of it shares the bytes.
    ///
    /// ```
    /// # use fanout::broadcast::BroadcastEvent;
    /// assert_eq!(BroadcastEvent::new("orders.1", "OrderShipped", "by air").payload(), "by air");
    /// ```
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Bytes that the event keeps alive outside of itself.
    pub(super) fn weight(&self) -> usize {
        let allocated = |text: &Cow<'static, str>| match text {
            Cow::Borrowed(_) => 0,
            Cow::Owned(text) => text.capacity(),
        };
        self.payload.len() + allocated(&self.channel) + allocated(&self.name)
    }
}
