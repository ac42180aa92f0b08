//! A message: a payload with everything that a publisher may say about it.

/// What [`Bus::send`](crate::Bus::send) and [`Publisher::send`](crate::Publisher::send) publish: topic and payload,
/// and, if given, a name and a source.
///
/// ```
/// use fanout::{Bus, Message};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::new();
/// let mut sub = bus.subscribe("orders.*")?;
/// bus.send(Message::new("orders.eu", 7).name("OrderCreated").source("billing"))?;
/// assert_eq!(sub.recv()?.name(), Some("OrderCreated"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Message<'a, K, T> {
    pub(crate) topic: K,
    pub(crate) data: T,
    pub(crate) name: Option<&'a str>,
    pub(crate) source: Option<&'a str>,
}

impl<'a, K, T> Message<'a, K, T> {
    /// A message without name and source.
    pub fn new(topic: K, data: T) -> Self {
        Self {
            topic,
            data,
            name: None,
            source: None,
        }
    }

    /// Names what happened, such as `OrderCreated`.
    #[must_use]
    pub fn name(mut self, name: &'a str) -> Self {
        self.name = Some(name);
        self
    }

    /// Says who publishes, such as `billing`.
    #[must_use]
    pub fn source(mut self, source: &'a str) -> Self {
        self.source = Some(source);
        self
    }
}
