//! Publishing through the shared lane, which any thread can do with a [`Bus`].

use std::time::Duration;

use super::Bus;
use super::error::{PublishError, PublishSequencedError, PublishTimeoutError, TryPublishError};
use super::message::{Heading, Message};
use super::publish::{self, Patience, PublishFuture, PublishSequencedFuture, SharedLaneSender};
use super::publish_batch;
use crate::dispatch::lane::Receipt;
use crate::dispatch::topic_arg::AsTopic;

/// # Publishing
///
/// | method | when the lane is full | returns when |
/// | --- | --- | --- |
/// | [`publish`](Self::publish), [`send`](Self::send) | blocks the thread | the event is accepted |
/// | [`publish_batch`](Self::publish_batch) | blocks the thread | the events are accepted |
/// | [`try_publish`](Self::try_publish), [`try_send`](Self::try_send) | refuses | the event is accepted |
/// | [`publish_timeout`](Self::publish_timeout), [`send_timeout`](Self::send_timeout) | blocks the thread, then refuses | the event is accepted |
/// | [`publish_async`](Self::publish_async), [`send_async`](Self::send_async) | suspends the task | the event is accepted |
/// | [`publish_sequenced`](Self::publish_sequenced), [`send_sequenced`](Self::send_sequenced) | blocks the thread | the event is sequenced, with its [`Receipt`] |
/// | [`publish_sequenced_async`](Self::publish_sequenced_async), [`send_sequenced_async`](Self::send_sequenced_async) | suspends the task | the event is sequenced, with its [`Receipt`] |
///
/// The `publish` methods take a topic and a payload. The `send` methods take a [`Message`], which
/// also has a name and a source. [`Publisher`](crate::Publisher) has the same methods.
impl<T: Send + Sync + 'static> Bus<T> {
    /// Publishes an event through the shared lane. Any thread may call this. The event is accepted
    /// when the call returns.
    ///
    /// The bus delivers the event to every subscription that was opened before this call and has a
    /// pattern that matches the topic. It is not an error if there is no such subscription.
    ///
    /// The events that one thread publishes through the shared lane keep their order. There is no
    /// fixed order between them and the events that the thread publishes through a
    /// [`Publisher`](crate::Publisher).
    ///
    /// **Blocks the thread** while the lane is full. In async code use
    /// [`publish_async`](Self::publish_async): if the runtime has only one thread, the task that
    /// would make room may need the thread that waits here, and then neither makes progress.
    ///
    /// # Errors
    ///
    /// [`PublishError`], with the payload.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("orders.*")?;
    /// bus.publish("orders.eu", 7)?;
    /// assert_eq!(*sub.recv()?.data(), 7);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("emit", "blocking_send"))]
    pub fn publish(&self, topic: impl AsTopic, data: T) -> Result<(), PublishError<T>> {
        let heading = Heading::topic(topic);
        publish::publish(self.sender(), &heading, data, Patience::Unlimited)
    }

    /// Publishes the payloads of an iterator on one topic, in order, and returns their number. This
    /// costs much less than [`publish`](Self::publish) for each: the topic is looked up once, and
    /// up to 64 events are published together. (A call allocates a buffer for them. The batches of
    /// a [`Publisher`](crate::Publisher::publish_batch) need none, and cost less still.)
    ///
    /// The events of a batch keep their order. Events of other threads may come between them.
    ///
    /// **Blocks the thread** while the lane is full. An event may be published only when the
    /// iterator has returned 64 payloads or its end. If the iterator panics, the payloads that it
    /// returned before are published as far as the lane has room, and the others are dropped.
    ///
    /// # Errors
    ///
    /// [`PublishError`], with the payloads that the iterator has returned and that were not
    /// published, in their order. The iterator keeps the rest: pass it
    /// [by reference](Iterator::by_ref) to get at them.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("ticks.*")?;
    /// assert_eq!(bus.publish_batch("ticks.eurusd", [7, 8, 9])?, 3);
    /// assert_eq!(*sub.recv()?.data(), 7);
    ///
    /// bus.close();
    /// let refused = bus.publish_batch("ticks.eurusd", [10, 11]).unwrap_err();
    /// assert_eq!(refused.into_value(), [10, 11]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_batch(
        &self,
        topic: impl AsTopic,
        payloads: impl IntoIterator<Item = T>,
    ) -> Result<usize, PublishError<Vec<T>>> {
        let heading = Heading::topic(topic);
        publish_batch::publish_to_shared_lane(self.sender(), &heading, payloads.into_iter())
    }

    /// Like [`publish`](Self::publish), for a [`Message`], which can have a name and a source.
    ///
    /// **Blocks the thread** while the lane is full; in async code use
    /// [`send_async`](Self::send_async).
    ///
    /// # Errors
    ///
    /// [`PublishError`], with the payload.
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
    pub fn send<K: AsTopic>(&self, message: Message<'_, K, T>) -> Result<(), PublishError<T>> {
        publish::publish(
            self.sender(),
            &message.heading,
            message.data,
            Patience::Unlimited,
        )
    }

    /// Publishes an event, or refuses it if the lane is full. The call never blocks: it finishes
    /// even if all other threads are suspended. Under
    /// [`Dispatch::Adaptive`](crate::Dispatch::Adaptive), the default, and
    /// [`Dispatch::Inline`](crate::Dispatch::Inline) it may run user code: see
    /// [guarantee 9](crate#guarantees).
    ///
    /// # Errors
    ///
    /// [`TryPublishError`], with the payload.
    ///
    /// ```
    /// use fanout::{Bus, Dispatch, TryPublishError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).lane_capacity(2).build()?;
    /// bus.try_publish("n", 1)?;
    /// bus.try_publish("n", 2)?;
    /// assert!(matches!(bus.try_publish("n", 3), Err(TryPublishError::Full(3))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_publish(&self, topic: impl AsTopic, data: T) -> Result<(), TryPublishError<T>> {
        let heading = Heading::topic(topic);
        publish::publish(self.sender(), &heading, data, Patience::None)
    }

    /// Like [`try_publish`](Self::try_publish), for a message.
    ///
    /// # Errors
    ///
    /// [`TryPublishError`], with the payload.
    ///
    /// ```
    /// use fanout::{Bus, Message};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// bus.try_send(Message::new("orders.eu", 7).source("billing"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_send<K: AsTopic>(
        &self,
        message: Message<'_, K, T>,
    ) -> Result<(), TryPublishError<T>> {
        publish::publish(
            self.sender(),
            &message.heading,
            message.data,
            Patience::None,
        )
    }

    /// Publishes an event, or refuses it if the lane stays full until the timeout.
    ///
    /// **Blocks the thread** while the lane is full. In async code use
    /// [`publish_async`](Self::publish_async) with a timeout of the runtime.
    ///
    /// # Errors
    ///
    /// [`PublishTimeoutError`], with the payload.
    ///
    /// ```
    /// use fanout::{Bus, Dispatch, PublishTimeoutError};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).lane_capacity(2).build()?;
    /// bus.publish("n", 1)?;
    /// bus.publish("n", 2)?;
    /// let late = bus.publish_timeout("n", 3, Duration::from_millis(5)).unwrap_err();
    /// assert!(matches!(late, PublishTimeoutError::Timeout(3)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_timeout(
        &self,
        topic: impl AsTopic,
        data: T,
        timeout: Duration,
    ) -> Result<(), PublishTimeoutError<T>> {
        let heading = Heading::topic(topic);
        publish::publish(self.sender(), &heading, data, Patience::AtMost(timeout))
    }

    /// Like [`publish_timeout`](Self::publish_timeout), for a message.
    ///
    /// **Blocks the thread** while the lane is full. In async code use
    /// [`send_async`](Self::send_async) with a timeout of the runtime.
    ///
    /// # Errors
    ///
    /// [`PublishTimeoutError`], with the payload.
    ///
    /// ```
    /// use fanout::{Bus, Message};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let message = Message::new("orders.eu", 7).source("billing");
    /// bus.send_timeout(message, Duration::from_millis(5))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_timeout<K: AsTopic>(
        &self,
        message: Message<'_, K, T>,
        timeout: Duration,
    ) -> Result<(), PublishTimeoutError<T>> {
        publish::publish(
            self.sender(),
            &message.heading,
            message.data,
            Patience::AtMost(timeout),
        )
    }

    /// Like [`publish_timeout`](Self::publish_timeout), for a payload that contains its own topic,
    /// which `topic` returns. `None` waits without a limit.
    pub(crate) fn publish_by(
        &self,
        data: T,
        topic: fn(&T) -> &str,
        timeout: Option<Duration>,
    ) -> Result<(), PublishTimeoutError<T>> {
        let patience = timeout.map_or(Patience::Unlimited, Patience::AtMost);
        publish::publish_by(self.sender(), data, topic, patience)
    }

    /// Publishes an event from async code, on any runtime: while the lane is full, the task is
    /// suspended and the thread is free.
    ///
    /// If the future is dropped before it is ready, the event is not published.
    ///
    /// # Errors
    ///
    /// [`PublishError`], with the payload. Never [`WouldDeadlock`](PublishError::WouldDeadlock).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("orders.*")?;
    /// smol::block_on(async {
    ///     bus.publish_async("orders.eu", 7).await?;
    ///     assert_eq!(sub.recv_async().await.map(|event| *event.data()), Ok(7));
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn publish_async(
        &self,
        topic: impl AsTopic,
        data: T,
    ) -> impl Future<Output = Result<(), PublishError<T>>> + Send + Unpin {
        PublishFuture::new(self.sender(), &Heading::topic(topic), data)
    }

    /// Like [`publish_async`](Self::publish_async), for a message.
    ///
    /// # Errors
    ///
    /// [`PublishError`], with the payload. Never [`WouldDeadlock`](PublishError::WouldDeadlock).
    ///
    /// ```
    /// use fanout::{Bus, Message};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("orders.*")?;
    /// smol::block_on(bus.send_async(Message::new("orders.eu", 7).source("billing")))?;
    /// assert_eq!(sub.recv()?.source(), Some("billing"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_async<K: AsTopic>(
        &self,
        message: Message<'_, K, T>,
    ) -> impl Future<Output = Result<(), PublishError<T>>> + Send + Unpin {
        PublishFuture::new(self.sender(), &message.heading, message.data)
    }

    /// Publishes an event, and waits until the event has its id and its time.
    ///
    /// **Blocks the thread**; in async code use
    /// [`publish_sequenced_async`](Self::publish_sequenced_async). Under
    /// [`Dispatch::Manual`](crate::Dispatch::Manual) the call waits until another thread drives the
    /// bus.
    ///
    /// # Errors
    ///
    /// [`PublishSequencedError`], with the payload if the event was not accepted.
    /// [`WouldDeadlock`](PublishError::WouldDeadlock) always inside a handler and other user code
    /// that the bus calls, also if the lane has room.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// assert_eq!(bus.publish_sequenced("a", 1)?.id(), 1);
    /// assert_eq!(bus.publish_sequenced("a", 2)?.id(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_sequenced(
        &self,
        topic: impl AsTopic,
        data: T,
    ) -> Result<Receipt, PublishSequencedError<T>> {
        publish::publish_sequenced(self.sender(), &Heading::topic(topic), data)
    }

    /// Like [`publish_sequenced`](Self::publish_sequenced), for a message.
    ///
    /// **Blocks the thread**; in async code use
    /// [`send_sequenced_async`](Self::send_sequenced_async).
    ///
    /// # Errors
    ///
    /// [`PublishSequencedError`], with the payload if the event was not accepted.
    ///
    /// ```
    /// use fanout::{Bus, Message};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let receipt = bus.send_sequenced(Message::new("orders.eu", 7).source("billing"))?;
    /// assert_eq!(receipt.id(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_sequenced<K: AsTopic>(
        &self,
        message: Message<'_, K, T>,
    ) -> Result<Receipt, PublishSequencedError<T>> {
        publish::publish_sequenced(self.sender(), &message.heading, message.data)
    }

    /// Like [`publish_sequenced`](Self::publish_sequenced), for async code: the task is suspended
    /// while it waits.
    ///
    /// If the future is dropped while it waits for room, the event is not published. If it is
    /// dropped later, the event is delivered and only the receipt is lost. So a program that
    /// publishes again after a timeout may publish the event twice.
    ///
    /// # Errors
    ///
    /// [`PublishSequencedError`], with the payload if the event was not accepted.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let receipt = smol::block_on(bus.publish_sequenced_async("a", 1))?;
    /// assert_eq!(receipt.id(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_sequenced_async(
        &self,
        topic: impl AsTopic,
        data: T,
    ) -> impl Future<Output = Result<Receipt, PublishSequencedError<T>>> + Send + Unpin {
        PublishSequencedFuture::new(self.sender(), &Heading::topic(topic), data)
    }

    /// Like [`publish_sequenced_async`](Self::publish_sequenced_async), for a message.
    ///
    /// # Errors
    ///
    /// [`PublishSequencedError`], with the payload if the event was not accepted.
    ///
    /// ```
    /// use fanout::{Bus, Message};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let message = Message::new("orders.eu", 7).source("billing");
    /// let receipt = smol::block_on(bus.send_sequenced_async(message))?;
    /// assert_eq!(receipt.id(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_sequenced_async<K: AsTopic>(
        &self,
        message: Message<'_, K, T>,
    ) -> impl Future<Output = Result<Receipt, PublishSequencedError<T>>> + Send + Unpin {
        PublishSequencedFuture::new(self.sender(), &message.heading, message.data)
    }

    fn sender(&self) -> SharedLaneSender<'_, T> {
        SharedLaneSender {
            engine: &self.open.core.engine,
            lane: &self.open.lanes.shared,
        }
    }
}
