//! A message: a payload and everything that a publisher may say about it.

use std::borrow::Cow;

/// A topic, a payload and, if given, a name and a source: what [`Bus::send`](crate::Bus::send), its
/// neighbours and those of [`Publisher`](crate::Publisher) publish.
///
/// `K` is anything that [publishing takes for a topic](crate::AsTopic). The name and the source may
/// be borrowed or owned: a message with an owned topic (`Topic` or `String`) and owned texts is
/// `'static`, and can wait in a queue or move into a task.
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
/// Owned, from a thread of its own:
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

/// What a message says about its payload. A field of its own, so that it can be borrowed while the
/// payload is moved away.
#[derive(Clone)]
pub(super) struct Heading<'a, K> {
    pub(super) topic: K,
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) source: Option<Cow<'a, str>>,
}

impl<K> Heading<'_, K> {
    /// Without a name and a source.
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
    /// A message without a name and a source.
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

    /// Names what has happened, for example `OrderCreated`. Takes `&str`, `String` and `Cow<str>`.
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

    /// Says which part of the system publishes, for example `billing`. Takes what
    /// [`name`](Self::name) takes.
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
