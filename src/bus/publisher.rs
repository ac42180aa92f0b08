//! [`Publisher`]: publishing through a lane that belongs to one publisher.

use std::time::Duration;

use super::error::{PublishError, PublishSequencedError, PublishTimeoutError, TryPublishError};
use super::message::{Heading, Message};
use super::publish::{self, OwnLaneSender, Patience, PublishFuture, PublishSequencedFuture};
use super::publish_batch;
use super::{Bus, Open};
use crate::dispatch::block::EnvelopeTable;
use crate::dispatch::lane::{LaneProducer, Receipt};
use crate::dispatch::topic_arg::AsTopic;
use crate::sync::{Arc, Ordering};

/// Publishes events through its own lane. The events of one publisher keep their order, and
/// publishers do not contend with each other. Events that the same thread publishes through
/// another publisher or through [`Bus::publish`] use another lane, so they may change places with
/// those of this one. A thread that needs an order publishes everything in one of these ways.
///
/// A `Publisher` is `Send`, and its methods take `&mut self`: one thread or task uses it at a time.
/// It caches the topics, names and sources that it used last, so that publishing with a `&str`
/// costs a look-up and no allocation. Like a clone of the [`Bus`], it keeps the bus open.
///
/// An idle publisher costs nothing but its memory: the bus looks only at lanes that have events or
/// had some recently. A dropped publisher's events are still delivered. Until then they count
/// towards a [bound](crate::limits::DROPPED_LANES_MAX) for all dropped publishers together; while
/// it is reached, the lane of a publisher that has not published yet counts as full.
///
/// The methods are those of [`Bus`]: the `publish` methods take a topic and a payload, the `send`
/// methods take a [`Message`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::new();
/// let mut sub = bus.subscribe("ticks.*")?;
/// let mut publisher = bus.publisher();
/// let topic = bus.topic("ticks.eurusd")?;
/// for n in 0..3 {
///     publisher.publish(&topic, n)?;
/// }
/// assert_eq!(*sub.recv()?.data(), 0);
/// # Ok(())
/// # }
/// ```
#[doc(alias("Sender", "Producer"))]
pub struct Publisher<T: Send + Sync + 'static> {
    open: Arc<Open<T>>,
    /// The number of this publisher's lane in the totals.
    number: u64,
    lane: LaneProducer<T>,
    table: EnvelopeTable,
}

impl<T: Send + Sync + 'static> Publisher<T> {
    pub(super) fn new(open: Arc<Open<T>>) -> Self {
        let core = &open.core;
        let lane = open.lanes.own_lane(core.lane_capacity);
        let number = core.registry.lock().totals.open_lane(lane.shared.clone());
        core.engine.threads.fetch_add(1, Ordering::Relaxed);
        Self {
            number,
            lane,
            table: EnvelopeTable::new(),
            open,
        }
    }

    /// Publishes an event through the lane of this publisher. The event is accepted when the call
    /// returns.
    ///
    /// **Blocks the thread** while the lane is full; in async code use
    /// [`publish_async`](Self::publish_async). See [`Bus::publish`].
    ///
    /// # Errors
    ///
    /// [`PublishError`], with the payload.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("orders.*")?;
    /// let mut publisher = bus.publisher();
    /// publisher.publish("orders.eu", 7)?;
    /// assert_eq!(*sub.recv()?.data(), 7);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn publish(&mut self, topic: impl AsTopic, data: T) -> Result<(), PublishError<T>> {
        let heading = Heading::topic(topic);
        publish::publish(self.sender(), &heading, data, Patience::Unlimited)
    }

    /// Publishes the payloads of an iterator on one topic, in order, and returns their number. This
    /// costs much less than [`publish`](Self::publish) for each: the topic is looked up once, and
    /// up to 64 events are published together.
    ///
    /// **Blocks the thread** while the lane is full. An event may be published only when the
    /// iterator has returned 64 payloads or its end. So an iterator that waits for its next payload
    /// delays those before. If the iterator panics, the payloads before are published.
    ///
    /// # Errors
    ///
    /// [`PublishError`], with the payloads that the iterator has returned and that were not
    /// published, in their order. The iterator keeps the rest: pass it
    /// [by reference](Iterator::by_ref) to get at them.
    ///
    /// The idea of one commit for many events is that of the
    /// [LMAX Disruptor](https://lmax-exchange.github.io/disruptor/).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("ticks.*")?;
    /// let mut publisher = bus.publisher();
    /// assert_eq!(publisher.publish_batch("ticks.eurusd", [7, 8, 9])?, 3);
    /// assert_eq!(*sub.recv()?.data(), 7);
    ///
    /// bus.close();
    /// let refused = publisher.publish_batch("ticks.eurusd", [10, 11]).unwrap_err();
    /// assert_eq!(refused.into_value(), [10]); // 11 was not taken from the iterator
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "send_all")]
    pub fn publish_batch(
        &mut self,
        topic: impl AsTopic,
        payloads: impl IntoIterator<Item = T>,
    ) -> Result<usize, PublishError<Vec<T>>> {
        let heading = Heading::topic(topic);
        publish_batch::publish_to_own_lane(self.sender(), &heading, payloads.into_iter())
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
    /// let mut publisher = bus.publisher();
    /// publisher.send(Message::new("orders.eu", 7).name("OrderCreated"))?;
    /// assert_eq!(sub.recv()?.name(), Some("OrderCreated"));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn send<K: AsTopic>(&mut self, message: Message<'_, K, T>) -> Result<(), PublishError<T>> {
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
    /// let mut publisher = bus.publisher();
    /// publisher.try_publish("n", 1)?;
    /// publisher.try_publish("n", 2)?;
    /// let full = publisher.try_publish("n", 3).unwrap_err();
    /// assert!(matches!(full, TryPublishError::Full(3)));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn try_publish(&mut self, topic: impl AsTopic, data: T) -> Result<(), TryPublishError<T>> {
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
    /// let mut publisher = Bus::<u32>::new().publisher();
    /// publisher.try_send(Message::new("orders.eu", 7).source("billing"))?;
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn try_send<K: AsTopic>(
        &mut self,
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
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut publisher = fanout::Bus::<u32>::new().publisher();
    /// publisher.publish_timeout("orders.eu", 7, Duration::from_millis(5))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_timeout(
        &mut self,
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
    /// let mut publisher = Bus::<u32>::new().publisher();
    /// let message = Message::new("orders.eu", 7).source("billing");
    /// publisher.send_timeout(message, Duration::from_millis(5))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_timeout<K: AsTopic>(
        &mut self,
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
    /// let mut publisher = bus.publisher();
    /// smol::block_on(publisher.publish_async("orders.eu", 7))?;
    /// assert_eq!(*sub.recv()?.data(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_async(
        &mut self,
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
    /// let mut publisher = Bus::<u32>::new().publisher();
    /// smol::block_on(publisher.send_async(Message::new("orders.eu", 7).source("billing")))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_async<K: AsTopic>(
        &mut self,
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
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut publisher = fanout::Bus::<u32>::new().publisher();
    /// assert_eq!(publisher.publish_sequenced("a", 1)?.id(), 1);
    /// assert_eq!(publisher.publish_sequenced("a", 2)?.id(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_sequenced(
        &mut self,
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
    /// let mut publisher = Bus::<u32>::new().publisher();
    /// let receipt = publisher.send_sequenced(Message::new("orders.eu", 7).source("billing"))?;
    /// assert_eq!(receipt.id(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_sequenced<K: AsTopic>(
        &mut self,
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
    /// let mut publisher = fanout::Bus::<u32>::new().publisher();
    /// let receipt = smol::block_on(publisher.publish_sequenced_async("a", 1))?;
    /// assert_eq!(receipt.id(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_sequenced_async(
        &mut self,
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
    /// let mut publisher = Bus::<u32>::new().publisher();
    /// let message = Message::new("orders.eu", 7).source("billing");
    /// let receipt = smol::block_on(publisher.send_sequenced_async(message))?;
    /// assert_eq!(receipt.id(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_sequenced_async<K: AsTopic>(
        &mut self,
        message: Message<'_, K, T>,
    ) -> impl Future<Output = Result<Receipt, PublishSequencedError<T>>> + Send + Unpin {
        PublishSequencedFuture::new(self.sender(), &message.heading, message.data)
    }

    /// Returns the bus that this publisher publishes to.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut publisher = fanout::Bus::<u32>::new().publisher();
    /// let mut sub = publisher.bus().subscribe("a")?;
    /// publisher.publish("a", 1)?;
    /// assert_eq!(*sub.recv()?.data(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn bus(&self) -> Bus<T> {
        Bus {
            open: self.open.clone(),
        }
    }

    #[inline(always)]
    fn sender(&mut self) -> OwnLaneSender<'_, T> {
        OwnLaneSender {
            engine: &self.open.core.engine,
            lane: &mut self.lane,
            table: &mut self.table,
        }
    }
}

impl<T: Send + Sync + 'static> Drop for Publisher<T> {
    /// The bus still delivers the events that were accepted.
    fn drop(&mut self) {
        let engine = &self.open.core.engine;
        engine.threads.fetch_sub(1, Ordering::Relaxed);
        // The sequencer removes a closed lane once it is empty. If it sleeps, it is woken to do so,
        // and if the lane is parked, it finds the lane among those that were reported.
        let wake_requested = self.lane.close(&engine.shared.lanes);
        engine.lane_closed(wake_requested);
        let registry = &self.open.core.registry;
        registry.lock().totals.close_lane(self.number);
    }
}

impl<T: Send + Sync + 'static> std::fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("bus", &self.bus())
            .field("accepted", &self.lane.shared.accepted())
            .finish_non_exhaustive()
    }
}
