//! The front door: the bus, its publishers and its subscribers.
//!
//! A [`Bus`] is a handle; clones are the same bus. Clones and [`Publisher`]s are the closing side: when the last of
//! them goes, or somebody says [`close`](Bus::close), the bus accepts nothing more, what was accepted is
//! delivered, and each subscriber reads what is left and then gets `Closed`.
//!
//! # The bad days
//!
//! * **Falling behind**: a subscriber's ring is bounded; what happens beyond is its [`Overflow`](crate::Overflow) policy. Loss
//!   is told in-band, once per run, as a [`Gap`](crate::Gap), and counted.
//! * **Closing**: see above. [`close_within`](Bus::close_within) waits, up to a limit, and reports what was left.
//!   Dropping never waits.
//! * **Panics**: a payload's `drop` or a waker may panic without harm. A panic in a weigher, or in this library,
//!   breaks the bus: publishing answers `Broken`, subscribers read what they have and then get `Broken`.
//! * **Crash**: without history nothing survives the process.

mod batch;
mod builder;
#[cfg(all(test, not(loom)))]
mod colliding_tests;
mod ending;
mod error;
mod handler;
mod label;
mod message;
#[cfg(feature = "metrics")]
mod metrics;
mod pattern_texts;
mod publish;
mod publisher;
mod record;
mod registry;
mod slow;
mod stats;
mod stream;
mod subscriber;
mod subscription;
mod totals;
mod wait;
mod wake_timer;

use std::sync::Weak;
use std::time::{Duration, Instant};

pub use batch::{Batch, BatchIntoIter, BatchIter};
pub use builder::BusBuilder;
pub use ending::Ending;
pub use error::{
    BuildError, ChangeError, PublishError, PublishSequencedError, PublishTimeoutError, RecvError,
    RecvTimeoutError, SubscribeError, TryPublishError, TryRecvError,
};
pub use handler::HandlerHandle;
pub use label::{Label, LabelError, LabelRule};
pub use message::Message;
pub use publisher::Publisher;
pub use slow::{Pace, SlowLimit, SlowNotice};
pub use stats::{BusStats, CloseReport, SubscriptionStats};
pub use stream::{BatchStream, EventStream};
pub use subscriber::{Iter, Subscriber};
pub use subscription::{IntoPatterns, Start, SubscriptionBuilder, SubscriptionHandle};
pub use wait::WaitStrategy;

use crate::dispatch::Dispatch;
use crate::dispatch::engine::Engine;
use crate::dispatch::lane::Receipt;
use crate::dispatch::topic_arg::AsTopic;
use crate::park::{deadline_after, wake_registered};
use crate::pattern::{Topic, TopicError};
use crate::sync::{Arc, AtomicWaker, Mutex, Ordering};
use handler::Handlers;
use publish::SharedLaneSender;
use record::Record;
use registry::Registry;
use slow::SlowMonitor;
use stats::Unread;

/// Fans events out from publishers to the subscribers whose patterns match.
///
/// `T` is what is published, by value, once; subscribers read it in place. The default, `bytes::Bytes`, is for programs
/// that pass encoded messages on.
///
/// ```
/// use fanout::Bus;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus: Bus = Bus::new();
/// let mut sub = bus.subscribe("orders.*.created")?;
/// bus.publish("orders.eu.created", "7".into())?;
/// assert_eq!(&sub.recv()?.data()[..], b"7");
/// # Ok(())
/// # }
/// ```
pub struct Bus<T: Send + Sync + 'static = bytes::Bytes> {
    open: Arc<Open<T>>,
}

/// Held by the closing side: when the last holder goes, the bus closes.
struct Open<T: Send + Sync + 'static> {
    core: Arc<Core<T>>,
}

/// What lives until the last handle of any kind has gone.
struct Core<T: Send + Sync + 'static> {
    engine: Engine<T>,
    registry: Mutex<Registry>,
    defaults: subscription::Options,
    blocking: bool,
    lane_capacity: usize,
    handlers: Handlers<T>,
    /// Who looks for slow subscribers under manual dispatch. Not there while it looks, and never if nobody asked.
    slow_monitor: Mutex<Option<SlowMonitor<T>>>,
    /// The thread that looks for them otherwise; woken when the bus begins to close.
    slow_waker: AtomicWaker,
}

impl<T: Send + Sync + 'static> Bus<T> {
    /// A bus with the defaults of [`BusBuilder`].
    ///
    /// # Panics
    ///
    /// If the system gives no thread for the dispatcher; [`builder`](Self::builder) answers an error instead.
    pub fn new() -> Self {
        Self::builder()
            .build()
            .expect("the defaults are in range, and the system gives a thread")
    }

    /// A bus built to measure.
    ///
    /// ```
    /// # fn main() -> Result<(), fanout::BuildError> {
    /// let bus = fanout::Bus::<u64>::builder().dispatchers(1).capacity(4096).blocking(true).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> BusBuilder<T> {
        BusBuilder::new()
    }

    /// Accepts the event into the shared lane; waits while the lane is full. From any thread.
    ///
    /// The event is delivered to everybody whose subscription was open before this call. That nobody subscribes is not
    /// an error.
    ///
    /// # Errors
    ///
    /// [`PublishError`], with the value.
    pub fn publish(&self, topic: impl AsTopic, data: T) -> Result<(), PublishError<T>> {
        publish::publish(self.sender(), Message::new(topic, data))
    }

    /// Like [`publish`](Self::publish), for a message with a name or a source.
    ///
    /// # Errors
    ///
    /// [`PublishError`], with the payload.
    pub fn send<K: AsTopic>(&self, message: Message<'_, K, T>) -> Result<(), PublishError<T>> {
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
    /// bus.try_publish("n", 1)?;
    /// bus.try_publish("n", 2)?;
    /// assert!(matches!(bus.try_publish("n", 3), Err(TryPublishError::Full(3))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_publish(&self, topic: impl AsTopic, data: T) -> Result<(), TryPublishError<T>> {
        publish::try_publish(self.sender(), Message::new(topic, data))
    }

    /// Like [`publish`](Self::publish), and waits for so long at most.
    ///
    /// # Errors
    ///
    /// [`PublishTimeoutError`], with the value.
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
        publish::publish_timeout(self.sender(), Message::new(topic, data), timeout)
    }

    /// Like [`publish_timeout`](Self::publish_timeout), for a payload that names its topic itself.
    pub(crate) fn publish_by(
        &self,
        data: T,
        topic: fn(&T) -> &str,
        timeout: Option<Duration>,
    ) -> Result<(), PublishTimeoutError<T>> {
        publish::publish_by(self.sender(), data, topic, timeout)
    }

    /// Like [`publish`](Self::publish), and waits as a task, on any runtime. Dropped before it is ready, the
    /// event was not accepted.
    ///
    /// # Errors
    ///
    /// [`PublishError`], with the value.
    pub fn publish_async(
        &self,
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
        publish::publish_sequenced(self.sender(), Message::new(topic, data))
    }

    /// A publisher with a lane of its own. On a closed bus, one that accepts nothing.
    pub fn publisher(&self) -> Publisher<T> {
        Publisher::new(self.open.clone())
    }

    /// A topic, parsed once, to publish on many times. [`Topic::new`] works without a bus, too.
    ///
    /// # Errors
    ///
    /// [`TopicError`], with the place and the rule.
    pub fn topic(&self, text: impl AsRef<str>) -> Result<Topic, TopicError> {
        Topic::new(text)
    }

    /// Subscribes with the bus's defaults. What is published after this returned is delivered.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    pub fn subscribe(&self, patterns: impl IntoPatterns) -> Result<Subscriber<T>, SubscribeError> {
        self.subscription(patterns).open()
    }

    /// A subscription to configure and open: capacity, overflow policy, start.
    ///
    /// ```
    /// use fanout::{Bus, Overflow};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::builder().blocking(true).build()?;
    /// let mut sub = bus
    ///     .subscription(["orders.**", "invoices.?*.paid"])
    ///     .capacity(64)
    ///     .overflow(Overflow::Block)
    ///     .open()?;
    /// bus.publish("invoices.7.paid", 7)?;
    /// assert_eq!(*sub.recv()?.data(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscription(&self, patterns: impl IntoPatterns) -> SubscriptionBuilder<'_, T> {
        SubscriptionBuilder::new(&self.open.core, patterns.into_patterns())
    }

    /// The open subscriptions, oldest first.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let _sub = bus.subscribe("a.*")?;
    /// assert_eq!(bus.subscriptions()[0].patterns()[0].as_str(), "a.*");
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscriptions(&self) -> Vec<SubscriptionHandle<T>> {
        let core = &self.open.core;
        let records = core.registry.lock().open_records(&core.engine);
        records
            .into_iter()
            .map(|record| SubscriptionHandle::new(core.clone(), record))
            .collect()
    }

    /// How much has passed through, and what became of it: sums over all subscriptions there ever were. Costs a look at
    /// each open subscription, under the lock that subscribing takes, too.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// bus.publish_sequenced("a", 1)?;
    /// assert_eq!(bus.stats().sequenced, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> BusStats {
        self.open.core.stats()
    }

    /// How long sampled events took from the call that published them to the call that received them, over all
    /// subscriptions there ever were; each event counts once for each subscription that received it. All zero without
    /// [`sample_latency`](BusBuilder::sample_latency). Costs some microseconds for each open subscription.
    #[cfg(feature = "latency")]
    pub fn latency(&self) -> crate::dispatch::latency::LatencyStats {
        self.open.core.latency()
    }

    /// Dispatches, on the calling thread, until nothing is left to do. Under [`Dispatch::Manual`] this is the only place
    /// where anything happens; under the others it lends a hand. `true`: something was done.
    pub fn drive(&self) -> bool {
        let core = &self.open.core;
        let done = core.drive();
        core.check_slow_manually();
        done
    }

    /// Waits until all that was accepted so far is in the rings of its subscribers, and handled by its handlers. `false`:
    /// not within that time, because a `Block` subscriber has no room or a handler is busy, or the bus is broken. From
    /// inside a handler it does not wait.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// bus.publish("a", 1)?;
    /// assert!(bus.flush_within(Duration::from_secs(5)));
    /// assert_eq!(*sub.try_recv()?.data(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn flush_within(&self, limit: Duration) -> bool {
        self.open.core.flush(deadline_after(limit))
    }

    /// Closes the bus, for all its clones and publishers, and returns at once: what was accepted is still delivered.
    ///
    /// ```
    /// use fanout::{Bus, PublishError, RecvError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// bus.publish("a", 1)?;
    /// bus.close();
    /// assert!(matches!(bus.publish("a", 2), Err(PublishError::Closed(2))));
    /// assert_eq!(*sub.recv()?.data(), 1);
    /// assert_eq!(sub.recv().unwrap_err(), RecvError::Closed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        self.open.core.close();
    }

    /// Closes the bus and waits until all that was accepted is in rings, and handled. What has no room when the time is up is
    /// lost to its subscriber (reason [`Closed`](crate::GapReason::Closed)), what is not even sequenced is dropped;
    /// the report says how much. It does not wait for subscribers to read. Handlers that are not done when the time is up
    /// go on. From inside a handler it starts the close and returns.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let bus = fanout::Bus::<u32>::new();
    /// let _sub = bus.subscribe("a")?;
    /// bus.publish("a", 1)?;
    /// let report = bus.close_within(Duration::from_secs(5));
    /// assert_eq!((report.unread, report.lost, report.unsequenced), (1, 0, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close_within(&self, limit: Duration) -> CloseReport {
        let core = &self.open.core;
        let lost_before = core.registry.lock().unread().lost_at_close;
        core.close();
        let deadline = deadline_after(limit);
        let in_rings = core.engine.finish_close(deadline);
        let in_time = core.wait_for_handlers(deadline) && in_rings;
        let Unread {
            unread,
            lost_at_close,
        } = core.registry.lock().unread();
        CloseReport {
            in_time,
            unread,
            // A subscription that was cancelled meanwhile took what it had lost along.
            lost: lost_at_close.saturating_sub(lost_before),
            // Relaxed: a statistic, final by now.
            unsequenced: core.engine.shared.unsequenced.load(Ordering::Relaxed),
        }
    }

    /// Whether the bus is closed or broken: publishing fails.
    pub fn is_closed(&self) -> bool {
        self.open.core.engine.is_closing()
    }

    /// A handle that does not keep the bus open.
    ///
    /// ```
    /// let bus = fanout::Bus::<u32>::new();
    /// let weak = bus.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(bus);
    /// assert!(weak.upgrade().is_none());
    /// ```
    pub fn downgrade(&self) -> WeakBus<T> {
        WeakBus {
            open: Arc::downgrade(&self.open),
        }
    }

    fn sender(&self) -> SharedLaneSender<'_, T> {
        SharedLaneSender {
            engine: &self.open.core.engine,
        }
    }
}

impl<T: Send + Sync + 'static> Default for Bus<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + Sync + 'static> Clone for Bus<T> {
    fn clone(&self) -> Self {
        Self {
            open: self.open.clone(),
        }
    }
}

impl<T: Send + Sync + 'static> std::fmt::Debug for Bus<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus")
            .field("dispatch", &self.open.core.engine.dispatch())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// A handle that does not keep the bus open: for what the bus itself keeps alive, such as a task that
/// receives and publishes in answer.
pub struct WeakBus<T: Send + Sync + 'static = bytes::Bytes> {
    open: Weak<Open<T>>,
}

impl<T: Send + Sync + 'static> WeakBus<T> {
    /// The bus, if a clone or a publisher still keeps it open.
    pub fn upgrade(&self) -> Option<Bus<T>> {
        self.open.upgrade().map(|open| Bus { open })
    }
}

impl<T: Send + Sync + 'static> Clone for WeakBus<T> {
    fn clone(&self) -> Self {
        Self {
            open: self.open.clone(),
        }
    }
}

impl<T: Send + Sync + 'static> std::fmt::Debug for WeakBus<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WeakBus")
    }
}

impl<T: Send + Sync + 'static> Drop for Open<T> {
    fn drop(&mut self) {
        self.core.close();
    }
}

impl<T: Send + Sync + 'static> Core<T> {
    fn close(&self) {
        // Under the lock, so that no subscription opens behind the close.
        self.registry.lock().close();
        self.engine.begin_close();
        // Wakers are user code: they are called without the lock.
        let awaited = self.registry.lock().awaited();
        awaited.iter().for_each(|r| r.feed.wake_end_waiters());
        if self.engine.dispatch() == Dispatch::Manual && !self.engine.is_finished() {
            // From now on it is they who drive, and those who sleep do not know.
            let records = self.registry.lock().records();
            records.iter().for_each(|record| record.feed.wake_reader());
        }
        wake_registered(&self.slow_waker);
        if let Some(pool) = self.handlers.pool() {
            pool.close();
            if self.engine.dispatch() == Dispatch::Manual {
                // By turns: a `Block` handler makes the room that the dispatch waits for.
                self.drive();
            }
        }
    }

    /// A subscription has ended: the registry and the index forget it, if they have not yet.
    fn unregister(&self, record: &Record) {
        let open = self.registry.lock().cancel(&self.engine, record);
        if open {
            self.engine.apply_shard_changes(record.shard());
        }
    }

    fn drive(&self) -> bool {
        let mut done = false;
        while self.engine.drive() | self.drive_handlers() {
            done = true;
        }
        done
    }

    /// On a manual bus: what handlers have to do. Handlers may publish, so there may be more to dispatch.
    fn drive_handlers(&self) -> bool {
        self.handlers.pool().is_some_and(|pool| pool.drive())
    }

    fn flush(&self, deadline: Option<Instant>) -> bool {
        self.drive();
        if !self.engine.flush(deadline) {
            return false;
        }
        self.drive_handlers();
        let handlers = self.registry.lock().handlers();
        // What is in their rings by now; what comes later is none of this flush's business.
        let pushed: Vec<_> = handlers.iter().map(|h| h.feed.pushed_events()).collect();
        let mut waits = handlers.iter().zip(pushed);
        // A bus that broke meanwhile has told its handlers so, and they have not handled all that there was.
        waits.all(|(record, pushed)| record.wait_until_handled(pushed, deadline))
            && !self.engine.is_broken()
    }

    /// Waits until all handlers have come to their end.
    fn wait_for_handlers(&self, deadline: Option<Instant>) -> bool {
        self.drive_handlers();
        let pool = self.handlers.pool();
        pool.is_none_or(|pool| pool.wait_finished(deadline))
    }

    /// Under manual dispatch, looks for slow subscribers.
    fn check_slow_manually(self: &Arc<Self>) {
        // Out of its place meanwhile: the callback may drive the bus.
        let monitor = self.slow_monitor.lock().take();
        if let Some(mut monitor) = monitor {
            monitor.check(self);
            *self.slow_monitor.lock() = Some(monitor);
        }
    }
}
