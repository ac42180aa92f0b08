//! Opening a subscription.

use std::collections::HashSet;
use std::marker::PhantomData;
use std::time::Duration;

use super::Core;
use super::error::SubscribeError;
use super::handle::SubscriptionHandle;
use super::into_patterns::{IntoPatterns, parse_patterns};
use super::label::LabelsBuilder;
use super::record::{Record, SubscriptionInfo};
use super::registry::{self, OpenedFeed};
use super::subscriber::Subscriber;
use super::wait::WaitStrategy;
use crate::dispatch::feed::{FeedConsumer, FeedProducer, Limits, Listener, feed};
#[cfg(feature = "latency")]
use crate::dispatch::latency::Recorder;
use crate::dispatch::loss::{BlockTimeout, Overflow};
use crate::dispatch::signal::Latch;
use crate::limits::CAPACITY_MAX;
use crate::pattern::{Pattern, PatternError};
use crate::sync::Arc;

/// Where a subscription begins.
///
/// ```
/// use fanout::{Bus, Start};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::new();
/// let mut sub = bus.subscription("a").start(Start::Now).open()?;
/// bus.publish("a", 1)?;
/// assert_eq!(*sub.recv()?.data(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Start {
    /// The subscription begins with the first event that is *dispatched* after it was opened. The
    /// default.
    ///
    /// Every event that is published after `open` has returned is delivered. An event that was
    /// published before is delivered, too, if it was not dispatched yet when the subscription was
    /// opened: it was still in a lane, or in front of the shard. An event that was dispatched
    /// before is not delivered. [`first_id`](SubscriptionHandle::first_id) returns the id at which
    /// the subscription began.
    ///
    /// Under load, the first events of a subscription are nearly always earlier ones. A program
    /// that wants no event from before a moment calls [`flush_within`](super::Bus::flush_within) or
    /// [`flush_async`](super::Bus::flush_async) at that moment, and then subscribes.
    ///
    /// ```
    /// use fanout::{Bus, Dispatch};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<&str>::builder().dispatch(Dispatch::Manual).build()?;
    /// bus.publish("a", "dispatched before")?;
    /// bus.drive();
    /// bus.publish("a", "published before, and not dispatched yet")?;
    /// let mut sub = bus.subscribe("a")?;
    /// bus.publish("a", "published after")?;
    /// bus.drive();
    /// assert_eq!(*sub.recv()?.data(), "published before, and not dispatched yet");
    /// assert_eq!(*sub.recv()?.data(), "published after");
    /// # Ok(())
    /// # }
    /// ```
    #[default]
    Now,
}

/// The settings of a new ring.
pub(super) struct FeedConfig {
    /// The number of the subscription.
    pub(super) number: u64,
    limits: Limits,
    block_timeout: BlockTimeout,
    /// The latch of the shard.
    latch: Arc<Latch>,
    #[cfg(feature = "latency")]
    recorder: Option<Arc<Recorder>>,
}

impl FeedConfig {
    /// Creates the ring, and returns its two ends.
    pub(super) fn make(self, reader: Listener) -> (FeedProducer, FeedConsumer) {
        let (producer, consumer) = feed(self.limits, self.latch, reader);
        let producer = producer.with_block_timeout(self.block_timeout);
        #[cfg(feature = "latency")]
        let consumer = match self.recorder {
            Some(recorder) => consumer.with_recorder(recorder),
            None => consumer,
        };
        (producer, consumer)
    }
}

/// The settings that a bus has as defaults, and that each subscription can change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) capacity: usize,
    pub(super) pin_bytes: usize,
    pub(super) overflow: Overflow,
    /// `None`: the bus waits without a limit.
    pub(super) block_timeout: Option<Duration>,
    pub(super) wait: WaitStrategy,
}

/// Configures a subscription and [opens](Self::open) it.
/// [`Bus::subscription`](super::Bus::subscription) returns the builder.
///
/// | | default |
/// | --- | --- |
/// | [`capacity`](Self::capacity) | the [bus's](super::BusBuilder::capacity), 1,024 events unless it was set there |
/// | [`pin_bytes`](Self::pin_bytes) | the [bus's](super::BusBuilder::pin_bytes), 64 MiB unless it was set there |
/// | [`overflow`](Self::overflow) | the [bus's](super::BusBuilder::overflow), [`Overflow::DropNewest`] unless it was set there |
/// | [`block_timeout`](Self::block_timeout) | the [bus's](super::BusBuilder::block_timeout), none unless it was set there |
/// | [`wait`](Self::wait) | the [bus's](super::BusBuilder::wait), [`WaitStrategy::Adaptive`] unless it was set there |
/// | [`start`](Self::start) | [`Start::Now`] |
/// | [`label`](Self::label) | none |
/// | [`dedicated`](Self::dedicated) | a handler shares the threads of the pool |
///
/// The builder borrows nothing, so it can move into a thread or a task and be opened there. A clone
/// opens another subscription with the same settings. A builder does not keep the bus open.
///
/// ```
/// use fanout::Bus;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::new();
/// let prices = bus.subscription("prices.*").capacity(64);
/// let readers: Vec<_> = (0..2)
///     .map(|_| {
///         let prices = prices.clone();
///         std::thread::spawn(move || prices.open().expect("in range").recv().is_ok())
///     })
///     .collect();
/// while bus.stats().subscriptions < 2 {
///     std::thread::yield_now();
/// }
/// bus.publish("prices.eur", 1)?;
/// for reader in readers {
///     assert!(reader.join().expect("it does not panic"));
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a subscription begins with `open`"]
pub struct SubscriptionBuilder<T: Send + Sync + 'static> {
    request: Request,
    /// Exactly this type: blocks are checked by `TypeId`, and a supertype of `T` has another one.
    payloads: PhantomData<fn(T) -> T>,
}

/// A subscription that is not open yet: everything that does not depend on the type of the
/// payloads, so that it is compiled once, with this crate.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) core: Arc<Core>,
    patterns: Result<Vec<Pattern>, PatternError>,
    pub(super) options: Options,
    pub(super) dedicated: bool,
    labels: LabelsBuilder,
}

impl<T: Send + Sync + 'static> SubscriptionBuilder<T> {
    pub(super) fn new(core: &Arc<Core>, patterns: impl IntoPatterns) -> Self {
        Self::of(Request {
            core: core.clone(),
            patterns: parse_patterns(patterns),
            options: core.defaults,
            dedicated: false,
            labels: LabelsBuilder::default(),
        })
    }

    fn of(request: Request) -> Self {
        Self {
            request,
            payloads: PhantomData,
        }
    }

    /// Sets the capacity of the ring: the number of events that may wait in it, 1 to
    /// [`CAPACITY_MAX`]. Under [`Overflow::Conflate`] it is the number of topics. Default: the
    /// [bus's](super::BusBuilder::capacity), which is 1,024 unless it was set.
    ///
    /// The slot of up to 64 events that the subscriber has begun to read does not count, so the
    /// subscriber can have up to 63 unread events more than the capacity.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// assert_eq!(bus.subscribe("a")?.stats().capacity, 1024);
    /// assert_eq!(bus.subscription("a").capacity(7).open()?.stats().capacity, 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn capacity(mut self, events: usize) -> Self {
        self.request.options.capacity = events;
        self
    }

    /// Sets the bound on the memory that the events in the ring keep alive, in bytes, at least 1.
    /// Default: the [bus's](super::BusBuilder::pin_bytes), which is 64 MiB unless it was set.
    ///
    /// An event keeps its whole block of up to 64 events alive, so the weight of whole blocks
    /// counts: the memory of the block itself, and the sum of [`weigh`](super::BusBuilder::weigh)
    /// over its payloads. A block that is heavier than the bound enters the ring only when the ring
    /// is empty. See [`guide::memory`](crate::guide::memory).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<Vec<u8>>::new();
    /// assert_eq!(bus.subscribe("a")?.stats().pin_bytes, 64 << 20);
    /// let sub = bus.subscription("a").pin_bytes(1 << 20).open()?;
    /// assert_eq!(sub.stats().pin_bytes, 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn pin_bytes(mut self, bytes: usize) -> Self {
        self.request.options.pin_bytes = bytes;
        self
    }

    /// Sets what happens to events that the ring has no room for. Default: the
    /// [bus's](super::BusBuilder::overflow), which is [`Overflow::DropNewest`] unless it was set.
    /// See [`Overflow`] for an example.
    ///
    /// ```
    /// use fanout::{Bus, Overflow};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let sub = bus.subscription("a").overflow(Overflow::DropOldest).open()?;
    /// assert_eq!(sub.stats().overflow, Overflow::DropOldest);
    /// # Ok(())
    /// # }
    /// ```
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.request.options.overflow = overflow;
        self
    }

    /// Sets the longest time that the bus waits for this subscriber under [`Overflow::Block`], from
    /// zero to [`BLOCK_TIMEOUT_MAX`], rounded up to a whole millisecond. With `None` the bus waits
    /// without a limit. Default: the [bus's](super::BusBuilder::block_timeout), which is `None`
    /// unless it was set. The setting has no effect under the other policies, under which the bus
    /// never waits.
    ///
    /// When a block of up to 64 events has waited that long, the events that the ring has no room
    /// for are lost to this subscriber. From then on, every event that the ring has no room for is
    /// lost at once, until the subscriber claims a slot to read: see [`Overflow::Block`]. The time
    /// counts for the whole block, so a subscriber with a small ring should get the time that it
    /// needs for 64 events. With zero the bus never waits: then the policy does the same as
    /// [`Overflow::DropNewest`], except for the reason of the [`Gap`].
    ///
    /// All other subscribers get the block before the wait begins, and the next blocks after the
    /// wait. If several subscribers have no room for the same block, the bus waits for all of them
    /// from the same time on, and for each up to its own block timeout.
    ///
    /// [`BLOCK_TIMEOUT_MAX`]: crate::limits::BLOCK_TIMEOUT_MAX
    /// [`Gap`]: crate::Gap
    ///
    /// ```
    /// use fanout::{Bus, Dispatch, GapReason, Overflow, TryRecvError};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).blocking(true).build()?;
    /// let wait = Duration::from_millis(10);
    /// let block = bus.subscription("a").capacity(1).overflow(Overflow::Block);
    /// let mut sub = block.block_timeout(wait).open()?;
    /// bus.publish("a", 1)?;
    /// bus.publish("a", 2)?;
    /// bus.drive(); // the wait begins
    /// std::thread::sleep(wait);
    /// bus.drive(); // and is over
    /// assert_eq!(*sub.try_recv()?.data(), 1);
    /// let Err(TryRecvError::Lost(gap)) = sub.try_recv() else { panic!("it had no room") };
    /// assert_eq!((gap.first_id(), gap.last_id(), gap.reason()), (2, 2, GapReason::BlockTimeout));
    /// # Ok(())
    /// # }
    /// ```
    pub fn block_timeout(mut self, longest_wait: impl Into<Option<Duration>>) -> Self {
        self.request.options.block_timeout = longest_wait.into();
        self
    }

    /// Sets how a thread that receives waits for events. Default: the
    /// [bus's](super::BusBuilder::wait), which is [`Adaptive`](WaitStrategy::Adaptive) unless it
    /// was set. The setting has no effect on tasks and on handlers that share the pool. See
    /// [`WaitStrategy`] for an example.
    ///
    /// ```
    /// use fanout::{Bus, WaitStrategy};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscription("a").wait(WaitStrategy::Park).open()?;
    /// bus.publish("a", 1)?;
    /// assert_eq!(*sub.recv()?.data(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.request.options.wait = strategy;
        self
    }

    /// Adds a label, which identifies the subscription in [`SubscriptionHandle::labels`] and in
    /// metrics. Default: no labels.
    ///
    /// A subscription has up to [`LABELS_MAX`](crate::limits::LABELS_MAX) labels with different
    /// keys. A key is 1 to [`LABEL_KEY_BYTES_MAX`](crate::limits::LABEL_KEY_BYTES_MAX) ASCII
    /// letters, digits and underscores; it does not begin with a digit, and is not `bus`,
    /// `quantile`, `reason` or `subscription`. A value is any text of up to
    /// [`LABEL_VALUE_BYTES_MAX`](crate::limits::LABEL_VALUE_BYTES_MAX) bytes. [`open`](Self::open)
    /// reports the first label that breaks a rule.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let orders = bus.subscription("orders.**");
    /// let sub = orders.label("team", "billing").label("instance", "7").open()?;
    /// assert_eq!(sub.handle().labels().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "tag")]
    pub fn label(mut self, key: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.request.labels.add(key.as_ref(), value.as_ref());
        self
    }

    /// Sets where the subscription begins. Default: [`Start::Now`], which is the only choice in
    /// this version, so today this call changes nothing. It is here for persistent history, which
    /// is planned: then a subscription can also begin with an event that was stored before.
    ///
    /// ```
    /// use fanout::{Bus, Start};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let _sub = bus.subscription("a").start(Start::Now).open()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start(self, start: Start) -> Self {
        match start {
            Start::Now => self,
        }
    }

    /// Gives the [handler](Self::handler) its own thread, for calls that take long or block. Other
    /// handlers never wait for it, and the thread does not count towards
    /// [`max_handler_threads`](super::BusBuilder::max_handler_threads). Default: the handler shares
    /// the threads of the pool. The setting has no effect on a subscriber, nor under
    /// [`Dispatch::Manual`](crate::Dispatch::Manual).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let slow = bus.subscription("a").dedicated();
    /// let handler = slow.handler(|_| std::thread::sleep(Duration::from_millis(20)))?;
    /// bus.publish("a", 1)?;
    /// assert!(bus.flush_within(Duration::from_secs(5)));
    /// assert_eq!(handler.stats().stalls, 0); // no other handler was held up
    /// # Ok(())
    /// # }
    /// ```
    pub fn dedicated(mut self) -> Self {
        self.request.dedicated = true;
        self
    }

    /// Opens the subscription. Matching events that are published after this call has returned are
    /// delivered; see [`Start::Now`] for events that were published before.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: a pattern or a label is not valid, a number is out of its range, the bus
    /// does not allow [`Overflow::Block`], or the bus is closed.
    ///
    /// ```
    /// use fanout::{Bus, SubscribeError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let builder = bus.subscription("a");
    /// let _sub = builder.clone().open()?;
    /// drop(bus); // the builder does not keep it open
    /// assert_eq!(builder.open().unwrap_err(), SubscribeError::Closed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(self) -> Result<Subscriber<T>, SubscribeError> {
        let wait = self.request.options.wait;
        let opened = self.request.open()?;
        let handle = SubscriptionHandle::new(opened.core, opened.record);
        Ok(Subscriber::new(
            opened.feed,
            handle,
            wait,
            opened.block_timeout,
        ))
    }

    pub(super) fn into_request(self) -> Request {
        self.request
    }
}

/// A subscription that was opened for a [`Subscriber`].
struct Opened {
    core: Arc<Core>,
    record: Arc<Record>,
    feed: FeedConsumer,
    block_timeout: BlockTimeout,
}

impl Request {
    fn open(self) -> Result<Opened, SubscribeError> {
        let core = self.core.clone();
        let mut reader = None;
        let mut block_timeout = BlockTimeout::NONE;
        let record = self.open_with(|config| {
            block_timeout = config.block_timeout;
            let (producer, consumer) = config.make(Listener::waker());
            let shared = consumer.shared().clone();
            reader = Some(consumer);
            Ok(OpenedFeed {
                producer,
                shared,
                handler: None,
            })
        })?;
        Ok(Opened {
            core,
            record,
            feed: reader.expect("made when it was opened"),
            block_timeout,
        })
    }

    /// Checks all settings, and opens the subscription with the feed that `make` creates.
    pub(super) fn open_with(
        self,
        make: impl FnOnce(FeedConfig) -> Result<OpenedFeed, SubscribeError>,
    ) -> Result<Arc<Record>, SubscribeError> {
        let Options {
            capacity,
            pin_bytes,
            overflow,
            block_timeout,
            wait: _,
        } = self.options;
        let mut patterns = self.patterns?;
        if patterns.len() > 1 {
            let mut seen = HashSet::new();
            patterns.retain(|pattern| seen.insert(pattern.clone()));
        }
        if patterns.is_empty() {
            return Err(SubscribeError::NoPattern);
        }
        if !(1..=CAPACITY_MAX).contains(&capacity) {
            return Err(SubscribeError::Capacity(capacity));
        }
        if pin_bytes == 0 {
            return Err(SubscribeError::PinBytes);
        }
        if overflow == Overflow::Block && !self.core.blocking {
            return Err(SubscribeError::BlockingNotAllowed);
        }
        let block_timeout = match block_timeout {
            Some(wait) => BlockTimeout::new(wait).ok_or(SubscribeError::BlockTimeout(wait))?,
            None => BlockTimeout::NONE,
        };
        let limits = Limits {
            capacity,
            pin_bytes,
            overflow,
        };
        let engine = &self.core.engine;
        let info = SubscriptionInfo {
            labels: self.labels.finish()?,
            #[cfg(feature = "latency")]
            recorder: engine
                .sampling
                .map(|sampling| Arc::new(Recorder::new(sampling))),
        };
        #[cfg(feature = "latency")]
        let recorder = info.recorder.clone();
        let make = |shard, number| {
            make(FeedConfig {
                number,
                limits,
                block_timeout,
                latch: engine.shard_shared(shard).latch.clone(),
                #[cfg(feature = "latency")]
                recorder,
            })
        };
        let record = registry::open(&self.core.registry, engine, &patterns, info, make)?;
        engine.apply_shard_changes(record.shard());
        Ok(record)
    }
}

impl<T: Send + Sync + 'static> Clone for SubscriptionBuilder<T> {
    fn clone(&self) -> Self {
        Self::of(self.request.clone())
    }
}

impl<T: Send + Sync + 'static> std::fmt::Debug for SubscriptionBuilder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubscriptionBuilder")
            .field("patterns", &self.request.patterns)
            .field("options", &self.request.options)
            .field("dedicated", &self.request.dedicated)
            .field("labels", &self.request.labels)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Subscriber<T> {
    /// Opens another subscription with the settings of this one: its capacity, bound on bytes,
    /// overflow policy, block timeout, wait strategy and labels, and the patterns that it has now
    /// or had when it ended. The new subscription begins at [`Start::Now`], whatever this
    /// subscriber has received. So a subscriber that was disconnected can continue with new events.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: `Closed`, or `NoPattern` if all patterns were
    /// [removed](SubscriptionHandle::remove).
    ///
    /// ```
    /// use fanout::{Bus, Dispatch, Overflow, RecvError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).build()?;
    /// let mut sub = bus.subscription("a").capacity(1).overflow(Overflow::Disconnect).open()?;
    /// bus.publish("a", 1)?;
    /// bus.publish("a", 2)?;
    /// bus.drive();
    /// assert_eq!(*sub.recv()?.data(), 1);
    /// assert!(matches!(sub.recv(), Err(RecvError::Disconnected(_))));
    /// sub = sub.resubscribe()?;
    /// bus.publish("a", 3)?;
    /// bus.drive();
    /// assert_eq!(*sub.recv()?.data(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn resubscribe(&self) -> Result<Self, SubscribeError> {
        let handle = self.handle_ref();
        let limits = self.limits();
        let builder = SubscriptionBuilder::of(Request {
            core: handle.core().clone(),
            patterns: Ok(handle.last_patterns()),
            options: Options {
                capacity: limits.capacity,
                pin_bytes: limits.pin_bytes,
                overflow: limits.overflow,
                block_timeout: self.block_timeout().duration(),
                wait: self.wait_strategy(),
            },
            dedicated: false,
            labels: LabelsBuilder::of(handle.labels()),
        });
        builder.open()
    }
}
