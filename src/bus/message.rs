//! A message: a payload with its topic, name and source.

use std::borrow::Cow;

/// A topic and a payload, and optionally a name and a source: the argument of
/// [`Bus::send`](crate::Bus::send) and the other `send` methods of [`Bus`](crate::Bus) and
/// [`Publisher`](crate::Publisher).
///
/// `K` is any type that implements [`AsTopic`](crate::AsTopic). The name and the source may be
/// borrowed or owned. A message with an owned topic (`Topic` or `String`) and owned texts is
/// `'static`: it can wait in a queue or move into a task.
///
/// ```
/// use fanout::{Bus, Message};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::new();
/// let mut sub = bus.subscribe("orders.*")?;
/// bus.send(Message::new("orders.eu", 7).name("OrderCreated").source("billing"))?;
///
/// let event = sub.recv()?;
/// assert_eq!(event.name(), Some("OrderCreated"));
/// assert_eq!(event.source(), Some("billing"));
/// # Ok(())
/// # }
/// ```
///
/// An owned message that moves into another thread:
///
/// ```
/// use fanout::{Bus, Message, Topic};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::new();
/// let mut sub = bus.subscribe("orders.*")?;
/// let message: Message<'static, Topic, u32> =
///     Message::new(bus.topic("orders.eu")?, 7).source(format!("host-{}", 12));
/// std::thread::spawn(move || bus.send(message)).join().expect("no panic")?;
/// assert_eq!(sub.recv()?.source(), Some("host-12"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Message<'a, K, T> {
    pub(super) heading: Heading<'a, K>,
    pub(super) data: T,
}

/// The topic, the name and the source. They are in one field, so that they can be borrowed while
/// the payload is moved.
#[derive(Clone)]
pub(super) struct Heading<'a, K> {
    pub(super) topic: K,
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) source: Option<Cow<'a, str>>,
}

impl<K> Heading<'_, K> {
    /// A heading without a name and a source.
    #[inline(always)]
    pub(super) fn topic(topic: K) -> Self {
        Self {
            topic,
            name: None,
            source: None,
        }
    }
}

impl<'a, K, T> Message<'a, K, T> {
    /// Creates a message without a name and a source.
    ///
    /// ```
    /// use fanout::{Bus, Message};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// bus.send(Message::new("a", 7))?; // the same as bus.publish("a", 7)
    /// assert_eq!(sub.recv()?.name(), None);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    #[must_use]
    pub fn new(topic: K, data: T) -> Self {
        Self {
            heading: Heading::topic(topic),
            data,
        }
    }

    /// Sets the name: what has happened, for example `OrderCreated`. Default: no name.
    ///
    /// ```
    /// use fanout::{Bus, Message};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("orders.*")?;
    /// bus.send(Message::new("orders.eu", 7).name("OrderCreated"))?;
    /// assert_eq!(sub.recv()?.name(), Some("OrderCreated"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<Cow<'a, str>>) -> Self {
        self.heading.name = Some(name.into());
        self
    }

    /// Sets the source: the part of the system that publishes, for example `billing`. Default: no
    /// source.
    ///
    /// ```
    /// use fanout::{Bus, Message};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("orders.*")?;
    /// bus.send(Message::new("orders.eu", 7).source(String::from("billing")))?;
    /// assert_eq!(sub.recv()?.source(), Some("billing"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn source(mut self, source: impl Into<Cow<'a, str>>) -> Self {
        self.heading.source = Some(source.into());
        self
    }
}

impl<K: std::fmt::Debug, T: std::fmt::Debug> std::fmt::Debug for Message<'_, K, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.heading.topic)
            .field("data", &self.data)
            .field("name", &self.heading.name)
            .field("source", &self.heading.source)
            .finish()
    }
}
