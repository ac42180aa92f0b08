//! The types that publishing accepts as a topic.

use crate::pattern::{Topic, TopicError, hash_text};

/// A topic to publish on: a [`Topic`], or its text.
///
/// A `Topic` was parsed once and costs a comparison of pointers. A text is looked up in a small
/// table of the topics that the thread or the publisher used last, and parsed if it is not there; a
/// text that is no topic is refused with a [`TopicError`].
///
/// Implemented for `Topic`, `str`, `String` and references to them. The trait is sealed: other
/// types cannot implement it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::new();
/// let topic = bus.topic("orders.eu")?;
/// bus.publish(&topic, 1)?;
/// bus.publish("orders.eu", 2)?;
/// bus.publish(format!("orders.{}", "us"), 3)?;
/// assert!(bus.publish("orders..eu", 4).is_err(), "an empty segment");
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a topic",
    label = "not a topic",
    note = "a topic is a `Topic`, a `str` or a `String`, or a reference to one"
)]
pub trait AsTopic: sealed::Key {}

impl<K: sealed::Key + ?Sized> AsTopic for K {}

pub(crate) mod sealed {
    use super::{Topic, TopicError};

    /// What a table of topics needs of a key.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` is not a topic",
        label = "not a topic",
        note = "a topic is a `Topic`, a `str` or a `String`, or a reference to one"
    )]
    pub trait Key {
        /// The keyed hash of the text: the same for a topic and for its text.
        fn hash64(&self) -> u64;
        /// Whether the key names `topic`.
        fn is(&self, topic: &Topic) -> bool;
        /// The topic. Parses a text.
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
