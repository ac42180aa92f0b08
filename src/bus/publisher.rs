//! A publisher with a lane of its own.

use std::time::Duration;

use super::error::{PublishError, PublishSequencedError, PublishTimeoutError, TryPublishError};
use super::message::Message;
use super::publish::{self, OwnLaneSender};
use super::{Bus, Open};
use crate::dispatch::block::EnvelopeTable;
use crate::dispatch::lane::{LaneShared, Pending, Receipt};
use crate::dispatch::topic_arg::AsTopic;
use crate::ring::spsc;
use crate::sync::{Arc, Ordering};

/// Publishes through a lane of its own: what one publisher publishes keeps its order, and publishers do not contend.
///
/// `Send`, and publishes by `&mut self`: one thread or task at a time. It remembers the topics that it used last, so
/// publishing on text costs a look-up, not an allocation; the same goes for names and sources. Like a [`Bus`], it keeps
/// the bus open while it lives.
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
pub struct Publisher<T: Send + Sync + 'static> {
    open: Arc<Open<T>>,
    /// Its lane's number in the totals.
    number: u64,
    lane: spsc::Producer<Pending<T>>,
    shared: Arc<LaneShared>,
    table: EnvelopeTable,
}

impl<T: Send + Sync + 'static> Publisher<T> {
    pub(super) fn new(open: Arc<Open<T>>) -> Self {
        let core = &open.core;
        // Under the lock that closing takes first: the lanes that were made before it, the sequencer finds and closes.
        let mut registry = core.registry.lock();
        let (lane, shared) = core.engine.own_lane(core.lane_capacity);
        let number = registry.totals.open_lane(shared.clone());
        if registry.is_closed() {
            lane.close();
        }
        drop(registry);
        core.engine.threads.fetch_add(1, Ordering::Relaxed);
        Self {
            number,
            lane,
            shared,
            table: EnvelopeTable::new(),
            open,
        }
    }

    /// Accepts the event into the lane; waits while the lane is full.
    ///
    /// # Errors
    ///
    /// [`PublishError`], with the value.
    #[inline]
    pub fn publish(&mut self, topic: impl AsTopic, data: T) -> Result<(), PublishError<T>> {
        publish::publish(self.sender(), Message::new(topic, data))
    }

    /// Like [`publish`](Self::publish), for a message with a name or a source.
    ///
    /// # Errors
    ///
    /// [`PublishError`], with the payload.
    #[inline]
    pub fn send<K: AsTopic>(&mut self, message: Message<'_, K, T>) -> Result<(), PublishError<T>> {
        publish::publish(self.sender(), message)
    }

    /// Accepts the event, or says that the lane is full. Finishes whatever other threads do.
    ///
    /// # Errors
    ///
    /// [`TryPublishError`], with the value.
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
        publish::try_publish(self.sender(), Message::new(topic, data))
    }

    /// Like [`publish`](Self::publish), and waits for so long at most.
    ///
    /// # Errors
    ///
    /// [`PublishTimeoutError`], with the value.
    pub fn publish_timeout(
        &mut self,
        topic: impl AsTopic,
        data: T,
        timeout: Duration,
    ) -> Result<(), PublishTimeoutError<T>> {
        publish::publish_timeout(self.sender(), Message::new(topic, data), timeout)
    }

    /// Like [`publish`](Self::publish), and waits as a task, on any runtime. Dropped before it is ready, the
    /// event was not accepted.
    ///
    /// # Errors
    ///
    /// [`PublishError`], with the value.
    pub fn publish_async(
        &mut self,
        topic: impl AsTopic,
        data: T,
    ) -> impl Future<Output = Result<(), PublishError<T>>> {
        publish::publish_async(self.sender(), Message::new(topic, data))
    }

    /// Accepts the event and waits until it has its id and its time.
    ///
    /// # Errors
    ///
    /// [`PublishSequencedError`].
    pub fn publish_sequenced(
        &mut self,
        topic: impl AsTopic,
        data: T,
    ) -> Result<Receipt, PublishSequencedError<T>> {
        publish::publish_sequenced(self.sender(), Message::new(topic, data))
    }

    /// The bus that it publishes to.
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
            shared: &self.shared,
            table: &mut self.table,
        }
    }
}

impl<T: Send + Sync + 'static> Drop for Publisher<T> {
    /// What was accepted is still delivered.
    fn drop(&mut self) {
        let engine = &self.open.core.engine;
        engine.threads.fetch_sub(1, Ordering::Relaxed);
        // The sequencer forgets the lane once it is drained; if it sleeps, that is now.
        let wake_requested = self.lane.close();
        engine.lane_closed(wake_requested);
        let registry = &self.open.core.registry;
        registry.lock().totals.close_lane(self.number);
    }
}
