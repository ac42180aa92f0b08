//! What publishing takes for a topic.

use crate::pattern::{Topic, TopicError, hash_text};

/// A topic to publish on: a [`Topic`], parsed once, or its text, looked up in a small table of the topics that this
/// thread or publisher used last and parsed when it is not there. Implemented for `Topic`, `str`, `String`
/// and references to them; sealed.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::new();
/// let topic = bus.topic("orders.eu")?;
/// bus.publish(&topic, 1)?;
/// bus.publish("orders.eu", 2)?;
/// bus.publish(format!("orders.{}", "us"), 3)?;
/// # Ok(())
/// # }
/// ```
pub trait AsTopic: sealed::Key {}

impl<K: sealed::Key + ?Sized> AsTopic for K {}

pub(crate) mod sealed {
    use super::{Topic, TopicError};

    /// How a table of topics looks one up.
    pub trait Key {
        /// The keyed hash of the text, the same for a topic and its text.
        fn hash64(&self) -> u64;
        /// Whether this is that topic.
        fn is(&self, topic: &Topic) -> bool;
        /// The topic, parsed if need be.
        fn to_topic(&self) -> Result<Topic, TopicError>;
    }
}

impl sealed::Key for Topic {
    #[inline]
    fn hash64(&self) -> u64 {
        Topic::hash64(self)
    }
    #[inline]
    fn is(&self, topic: &Topic) -> bool {
        self.ptr_eq(topic) || self == topic
    }
    fn to_topic(&self) -> Result<Topic, TopicError> {
        Ok(self.clone())
    }
}

impl sealed::Key for str {
    fn hash64(&self) -> u64 {
        hash_text(self)
    }
    fn is(&self, topic: &Topic) -> bool {
        topic.as_str() == self
    }
    fn to_topic(&self) -> Result<Topic, TopicError> {
        Topic::new(self)
    }
}

impl sealed::Key for String {
    fn hash64(&self) -> u64 {
        self.as_str().hash64()
    }
    fn is(&self, topic: &Topic) -> bool {
        self.as_str().is(topic)
    }
    fn to_topic(&self) -> Result<Topic, TopicError> {
        self.as_str().to_topic()
    }
}

impl<K: sealed::Key + ?Sized> sealed::Key for &K {
    #[inline]
    fn hash64(&self) -> u64 {
        (**self).hash64()
    }
    #[inline]
    fn is(&self, topic: &Topic) -> bool {
        (**self).is(topic)
    }
    fn to_topic(&self) -> Result<Topic, TopicError> {
        (**self).to_topic()
    }
}
