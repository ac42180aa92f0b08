//! The bus, its publishers and its subscribers: the interface for programs.
//!
//! A [`Bus`] is a handle; its clones are handles to the same bus. Clones and [`Publisher`]s keep
//! the bus open. When the last of them is dropped, or when [`close`](Bus::close) is called, the bus
//! accepts no more events and delivers the accepted ones. Each subscriber receives the events that
//! are left and then `Closed`.
//!
//! # Failure modes
//!
//! * **A subscriber falls behind**: its ring is bounded, and its [`Overflow`](crate::Overflow)
//!   policy says what happens when the ring is full. A run of lost events is reported in the stream
//!   of events, once, as a [`Gap`](crate::Gap), and counted.
//! * **The bus closes**: see above. [`close_within`](Bus::close_within) waits up to a limit and
//!   reports the events that were left. Closing and dropping a handle do not wait, but may run user
//!   code on the calling thread: see [guarantee 9](crate#guarantees).
//! * **User code panics**: a payload's `drop` or a waker may panic without harm. A panic in a
//!   weigher, or in this library, breaks the bus: publishing fails with `Broken`, and subscribers
//!   receive the events in their rings and then `Broken`. Accepted events that were not sequenced
//!   are dropped, and counted as `unsequenced`.
//! * **The process ends**: all events are lost. The bus stores nothing outside of the process.

mod batch;
mod builder;
mod bus_publish;
#[cfg(all(test, not(loom)))]
mod colliding_tests;
mod drain;
mod ending;
mod error;
mod handle;
mod handler;
mod interest;
mod into_patterns;
mod label;
mod message;
#[cfg(feature = "metrics")]
mod metrics;
mod pattern_texts;
mod publish;
mod publish_batch;
mod publisher;
mod record;
mod registry;
mod slow;
mod stats;
mod stream;
mod subscriber;
mod subscription;
mod text_table;
mod totals;
mod wait;
mod wake_timer;

use std::any::Any;
use std::sync::{OnceLock, Weak};
use std::time::{Duration, Instant};

pub use batch::{Batch, BatchIntoIter, BatchIter};
pub use builder::BusBuilder;
pub use ending::Ending;
pub use error::{
    BuildError, ChangeError, PublishError, PublishSequencedError, PublishTimeoutError, RecvError,
    RecvTimeoutError, SubscribeError, ThreadError, TryPublishError, TryRecvError,
};
pub use handle::SubscriptionHandle;
pub use handler::HandlerGuard;
pub(crate) use handler::WeakHandler;
pub use into_patterns::IntoPatterns;
pub use label::{Label, LabelError, LabelRule};
pub use message::Message;
pub use publisher::Publisher;
pub use slow::{SlowLimit, SlowNotice, SlowStatus};
pub use stats::{BusStats, CloseReport, SubscriptionStats};
pub use stream::{BatchStream, EventStream};
pub use subscriber::{Iter, Subscriber};
pub use subscription::{Start, SubscriptionBuilder};
pub use wait::WaitStrategy;

use crate::contain::contain;
use crate::dispatch::Dispatch;
use crate::dispatch::engine::{Engine, Lanes};
use crate::park::NonBlockingScope;
use crate::pattern::{Topic, TopicError};
use crate::sync::{Arc, AtomicWaker, Mutex};
use crate::time_limit;
use drain::{CloseFuture, FlushFuture};
use handler::Handlers;
use interest::DisconnectableFeeds;
use record::Record;
use registry::Registry;
use slow::SlowMonitor;

/// Delivers each event to every subscriber that has a pattern for the event's topic.
///
/// A `Bus` is a handle: cloning it is cheap, and all clones are handles to the same bus. It is
/// `Send` and `Sync`. The bus is open as long as a clone or a [`Publisher`] exists.
///
/// `T` is the type of the payload. A payload is published by value and stored once, and all
/// subscribers read it in place: it is never cloned. The default, `bytes::Bytes`, is for programs
/// that forward encoded messages.
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
///
/// # Large payloads
///
/// A payload is stored inline in its lane, and is then moved into its block, where it is stored
/// inline, too. So **box payloads of more than 4 KiB** (`Bus<Box<Frame>>`, or `Bytes`, `Vec`,
/// `Arc`). Otherwise three costs arise:
///
/// * The shared lane allocates room for 1,024 payloads
///   ([`lane_capacity`](BusBuilder::lane_capacity)) when the bus is built, and a block for up to
///   64.
/// * Each move copies the payload.
/// * A function that holds a payload by value needs room for it on its stack:
///
/// | thread | payloads on its stack | without optimisation |
/// | --- | --- | --- |
/// | a publisher under [`Dispatch::Pool`] | 3, two of which are the argument and the result | 16 |
/// | a publisher under [`Dispatch::Adaptive`] or [`Dispatch::Inline`] | 5 | 16 |
/// | one that polls the future of an `_async` function, which has its payload inside | 12 | 32 |
/// | one that calls [`drive`](Self::drive), or drops the last handle | 2 | 8 |
/// | a receiver or a handler | none | none |
///
/// So on the usual stack of 2 MiB, payloads of up to 128 KiB can be published in every way, or 48
/// KiB in a build without optimisation; and up to 384 KiB without futures, or 96 KiB in a
/// build without optimisation. The threads of the dispatcher do not overflow their stacks: for
/// payloads of more than 4 KiB, each of these stacks has 2 MiB and room for 16 payloads.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<Box<[u8]>>::builder().weigh(|frame| frame.len()).build()?;
/// let mut sub = bus.subscribe("frames")?;
/// bus.publish("frames", vec![0; 4 << 20].into_boxed_slice())?;
/// assert_eq!(sub.recv()?.data().len(), 4 << 20);
/// # Ok(())
/// # }
/// ```
#[doc(alias("EventBus", "pubsub"))]
pub struct Bus<T: Send + Sync + 'static = bytes::Bytes> {
    open: Arc<Open<T>>,
}

/// Each handle that keeps the bus open owns a reference to this. When the last reference is
/// dropped, the bus closes.
struct Open<T: Send + Sync + 'static> {
    core: Arc<Core>,
    lanes: Lanes<T>,
}

/// The state that lives until the last handle of any kind is dropped.
struct Core {
    engine: Engine,
    registry: Mutex<Registry>,
    /// The [`Open`] of this bus. Set when the bus is built.
    open: OnceLock<Weak<dyn Any + Send + Sync>>,
    /// By shard.
    disconnectable: Arc<[DisconnectableFeeds]>,
    defaults: subscription::Options,
    blocking: bool,
    lane_capacity: usize,
    handlers: Handlers,
    /// Finds slow subscribers under manual dispatch. `None` while a thread uses it, and if the
    /// program did not set a callback for slow subscribers.
    slow_monitor: Mutex<Option<SlowMonitor>>,
    /// The waker of the thread that finds slow subscribers in the other modes. The thread is woken
    /// when the bus begins to close.
    slow_waker: AtomicWaker,
}

impl<T: Send + Sync + 'static> Bus<T> {
    /// Creates a bus with the default settings of [`BusBuilder`].
    ///
    /// # Panics
    ///
    /// If the system cannot start a thread for the dispatcher. [`builder`](Self::builder) returns
    /// an error instead.
    ///
    /// ```
    /// let bus = fanout::Bus::<u32>::new();
    /// assert!(!bus.is_closed());
    /// ```
    #[doc(alias = "channel")]
    #[must_use]
    pub fn new() -> Self {
        Self::builder()
            .build()
            .expect("the default settings are in range, and the system can start a thread")
    }

    /// Returns a builder, to configure a bus: its threads, capacities, policies and callbacks.
    ///
    /// ```
    /// # fn main() -> Result<(), fanout::BuildError> {
    /// let bus = fanout::Bus::<u64>::builder()
    ///     .dispatchers(1)
    ///     .capacity(4096)
    ///     .blocking(true)
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> BusBuilder<T> {
        BusBuilder::new()
    }

    /// Creates a publisher, which has its own lane, so its events have no fixed order with those
    /// that the same thread publishes through the `Bus`. On a closed bus the publisher refuses
    /// every event.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("ticks.*")?;
    /// let mut publisher = bus.publisher();
    /// std::thread::spawn(move || publisher.publish("ticks.eurusd", 7)).join().expect("no panic")?;
    /// assert_eq!(*sub.recv()?.data(), 7);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn publisher(&self) -> Publisher<T> {
        Publisher::new(self.open.clone())
    }

    /// Parses a topic, so that a program can publish on it many times. [`Topic::new`] does the same
    /// without a bus.
    ///
    /// # Errors
    ///
    /// [`TopicError`], with the position and the rule.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let topic = bus.topic("orders.eu")?;
    /// bus.publish(&topic, 1)?;
    /// bus.publish(&topic, 2)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn topic(&self, text: impl AsRef<str>) -> Result<Topic, TopicError> {
        Topic::new(text)
    }

    /// Subscribes to one or several patterns, with the default settings of the bus. Every event
    /// that is published after this call has returned is delivered if a pattern matches its topic.
    /// An event that was published before is delivered, too, if it was not dispatched yet: see
    /// [`Start::Now`].
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut orders = bus.subscribe("orders.*")?;
    /// let mut both = bus.subscribe(["orders.*", "invoices.**"])?;
    /// bus.publish("invoices.eu.7", 7)?;
    /// assert_eq!(*both.recv()?.data(), 7);
    /// assert!(orders.try_recv().is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self, patterns: impl IntoPatterns) -> Result<Subscriber<T>, SubscribeError> {
        self.subscription(patterns).open()
    }

    /// Returns a builder, to configure a subscription: its capacity, overflow policy and labels,
    /// and to open it with a subscriber or a handler.
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
    pub fn subscription(&self, patterns: impl IntoPatterns) -> SubscriptionBuilder<T> {
        SubscriptionBuilder::new(&self.open.core, patterns)
    }

    /// Returns handles to the open subscriptions, the oldest first.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let _sub = bus.subscribe("a.*")?;
    /// assert_eq!(bus.subscriptions()[0].patterns()[0].as_str(), "a.*");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn subscriptions(&self) -> Vec<SubscriptionHandle<T>> {
        let core = &self.open.core;
        let records = core.registry.lock().open_records(&core.engine);
        records
            .into_iter()
            .map(|record| SubscriptionHandle::new(core.clone(), record))
            .collect()
    }

    /// Returns the statistics of the bus: sums over all subscriptions, including those that have
    /// ended. The call reads the counters of each open subscription, and holds the lock that
    /// subscribing takes while it does.
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
        self.open.stats()
    }

    /// Returns the sampled latencies of the bus: the time from the call that published an event to
    /// the call that received it, over all subscriptions, including those that have ended. Each
    /// event counts once for each subscription that received it. All numbers are zero without
    /// [`sample_latency`](BusBuilder::sample_latency). The call takes some microseconds for each
    /// open subscription.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::builder().sample_latency(1).build()?;
    /// let mut sub = bus.subscribe("a")?;
    /// bus.publish("a", 1)?;
    /// sub.recv()?;
    /// assert_eq!(bus.latency().count, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "latency")]
    pub fn latency(&self) -> crate::dispatch::latency::LatencyStats {
        self.open.core.latency()
    }

    /// Dispatches events on the calling thread until there is no more work. Returns whether there
    /// was any work.
    ///
    /// Under [`Dispatch::Manual`] events are dispatched only in this call, in the calls that flush
    /// or close, when the last handle to the bus is dropped, and, once the bus is closing, in calls
    /// that receive, cancel, or drop a subscriber. In the other modes, the calling thread
    /// dispatches in addition to the threads that do so anyway.
    ///
    /// ```
    /// use fanout::{Bus, Dispatch};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).build()?;
    /// let mut sub = bus.subscribe("n")?;
    /// bus.publish("n", 7)?;
    /// assert!(sub.try_recv().is_err());
    /// assert!(bus.drive());
    /// assert_eq!(*sub.try_recv()?.data(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn drive(&self) -> bool {
        let core = &self.open.core;
        let done = core.drive();
        // The callback of `on_slow` may have published.
        let more = core.check_slow_manually() && core.drive();
        done | more
    }

    /// Waits until all events that were accepted before this call are in the rings of their
    /// subscribers, and were handled by their handlers.
    ///
    /// **Blocks the thread** for up to `limit`; in async code use
    /// [`flush_async`](Self::flush_async). The call does not wait until subscribers have received
    /// the events. Inside a handler it dispatches, but does not wait for other threads.
    ///
    /// The call may exceed the limit by one drop of a payload or one call of a waker, which it
    /// cannot interrupt; see [time limits](crate::guide::failure_modes#time-limits). It ends at the
    /// limit also if other threads publish all the time. A limit of zero means: without waiting.
    ///
    /// Returns `false` at the time limit (a `Block` subscriber has no room, or a handler is busy),
    /// or if the bus is broken.
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
        self.open.core.flush(limit)
    }

    /// Waits until all events that were accepted before the first poll are in the rings of their
    /// subscribers, and were handled by their handlers. The future works on any runtime.
    ///
    /// Returns `false` if the bus is broken.
    ///
    /// The future has no time limit. Use a timeout of the runtime, because the future waits for
    /// ever for a `Block` subscriber that does not read or a handler that does not return. It may
    /// be dropped at any time, which has no effect on the bus. It starts no thread, with one
    /// exception: under [`Dispatch::Manual`], while a `Block` subscriber
    /// with a [block timeout](SubscriptionBuilder::block_timeout) is full, a thread wakes the task
    /// when the timeout is over.
    ///
    /// Do not block the thread of a handler on this future: the future waits for that handler.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// smol::block_on(async {
    ///     bus.publish_async("a", 1).await?;
    ///     assert!(bus.flush_async().await);
    ///     assert_eq!(sub.try_recv().map(|event| *event.data()), Ok(1));
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn flush_async(&self) -> impl Future<Output = bool> + Send + Unpin + use<T> {
        FlushFuture::new(self.open.core.clone())
    }

    /// Closes the bus, for all its clones and publishers. Events that were accepted before are
    /// still delivered. The call does not wait until they are. But under [`Dispatch::Inline`] and
    /// [`Dispatch::Manual`] it dispatches them on the calling thread, and under `Manual` it also
    /// calls the handlers: see [guarantee 9](crate#guarantees).
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
    #[doc(alias = "shutdown")]
    pub fn close(&self) {
        self.open.core.close();
    }

    /// Closes the bus, and waits until all accepted events are in the rings of their subscribers,
    /// and were handled by their handlers.
    ///
    /// **Blocks the thread** for up to `limit`; in async code use
    /// [`close_async`](Self::close_async). At the time limit, events that a ring has no room for
    /// are lost to its subscriber (with the reason [`Closed`](crate::GapReason::Closed)), and
    /// events that are not sequenced yet are dropped. The report has both numbers. Handlers
    /// continue after the time limit. The call does not wait until subscribers have received the
    /// events. Inside a handler it starts the close and returns.
    ///
    /// The call may exceed the limit by 10 ms, and by one drop of a payload or one call of a waker,
    /// which it cannot interrupt; see [time limits](crate::guide::failure_modes#time-limits). If a
    /// thread that dispatches is inside user code for longer than that, it gives up what is left
    /// when it comes back, and the numbers of the report are those at the end of this call. A limit
    /// of zero means: without waiting.
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
    #[doc(alias = "shutdown_timeout")]
    pub fn close_within(&self, limit: Duration) -> CloseReport {
        let mut report = self.open.core.close_within(limit);
        if !self.open.core.engine.is_finished() {
            // A thread that sequences is inside user code, and has not counted them yet.
            let stats = self.open.stats();
            report.unsequenced = stats.unsequenced + stats.queued;
        }
        report
    }

    /// Closes the bus at the first poll, and waits until all accepted events are in the rings of
    /// their subscribers, and were handled by their handlers. The future works on any runtime.
    ///
    /// The future has no time limit, and drops no events. Use a timeout of the runtime. If the
    /// future is dropped, the bus stays closed and continues to deliver. To drop the events that
    /// are left, call [`close_within`](Self::close_within) with a limit of zero, which does not
    /// wait. About threads and handlers, see [`flush_async`](Self::flush_async).
    ///
    /// ```
    /// use smol::future::FutureExt;
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let _sub = bus.subscribe("a")?;
    /// bus.publish("a", 1)?;
    /// let report = smol::block_on(async {
    ///     let time_is_over = async {
    ///         smol::Timer::after(Duration::from_secs(5)).await;
    ///         bus.close_within(Duration::ZERO)
    ///     };
    ///     bus.close_async().or(time_is_over).await
    /// });
    /// assert_eq!((report.in_time, report.unread, report.lost), (true, 1, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close_async(&self) -> impl Future<Output = CloseReport> + Send + Unpin + use<T> {
        CloseFuture::new(self.open.core.clone())
    }

    /// Returns whether the bus is closed or broken, so that publishing fails.
    ///
    /// ```
    /// let bus = fanout::Bus::<u32>::new();
    /// let clone = bus.clone();
    /// bus.close();
    /// assert!(clone.is_closed());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.open.core.engine.is_closing()
    }

    /// Returns whether `other` is a handle to the same bus.
    ///
    /// ```
    /// let (bus, other) = (fanout::Bus::<u32>::new(), fanout::Bus::<u32>::new());
    /// assert!(bus.same_bus(&bus.clone()) && !bus.same_bus(&other));
    /// ```
    #[doc(alias = "same_channel")]
    #[must_use]
    pub fn same_bus(&self, other: &Self) -> bool {
        self.is_of(&other.open.core)
    }

    /// The bus with this core, if it is still open.
    fn of(core: &Core) -> Option<Self> {
        let open = core.open.get()?.upgrade()?;
        Some(Self {
            open: open.downcast().ok()?,
        })
    }

    fn is_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.open.core, core)
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
    #[must_use]
    pub fn downgrade(&self) -> WeakBus<T> {
        WeakBus {
            open: Arc::downgrade(&self.open),
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

/// A handle that does not keep the bus open.
///
/// Use it in code that lives as long as the bus is open: a handler that publishes, or a task that
/// ends when the bus closes and that publishes. With a [`Bus`], such code would keep the bus open,
/// and so itself.
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::new();
/// let mut answers = bus.subscribe("answers")?;
/// let weak = bus.downgrade();
/// let _handler = bus.on("questions", move |event| {
///     if let Some(bus) = weak.upgrade() {
///         let _ = bus.try_publish("answers", event.data() + 1);
///     }
/// })?;
/// bus.publish("questions", 41)?;
/// assert_eq!(*answers.recv_timeout(Duration::from_secs(5))?.data(), 42);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "WeakSender")]
pub struct WeakBus<T: Send + Sync + 'static = bytes::Bytes> {
    open: Weak<Open<T>>,
}

impl<T: Send + Sync + 'static> WeakBus<T> {
    /// Returns a handle to the bus, if a clone or a publisher still keeps it open.
    ///
    /// ```
    /// let bus = fanout::Bus::<u32>::new();
    /// let weak = bus.downgrade();
    /// let publisher = bus.publisher();
    /// drop(bus);
    /// assert!(weak.upgrade().is_some()); // the publisher keeps it open
    /// drop(publisher);
    /// assert!(weak.upgrade().is_none());
    /// ```
    #[must_use]
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

impl<T: Send + Sync + 'static> Open<T> {
    fn stats(&self) -> BusStats {
        self.core.stats(self.lanes.shared.claimed())
    }
}

impl<T: Send + Sync + 'static> Drop for Open<T> {
    fn drop(&mut self) {
        self.core.close();
        // Only a handle to the bus calls the callback of a manual bus, and it may own something
        // that keeps the core alive.
        let monitor = self.core.slow_monitor.lock().take();
        contain("the drop of the callback of on_slow", || drop(monitor));
    }
}

impl Core {
    /// Removes a subscription that has ended from the registry and the index, unless that was done
    /// before.
    fn unregister(&self, record: &Record) {
        let was_registered = registry::unregister(&self.registry, &self.engine, record);
        if was_registered {
            self.engine.apply_shard_changes(record.shard());
            self.drive_if_closing();
        }
    }

    /// A subscription has ended that may have kept a manual bus from closing. There may be no other
    /// thread left that drives it.
    fn drive_if_closing(&self) {
        let engine = &self.engine;
        // Also if the engine has finished: its handlers may not have.
        if engine.dispatch() == Dispatch::Manual && engine.is_closing() {
            self.drive();
        }
    }

    fn drive(&self) -> bool {
        let mut done = false;
        while self.engine.drive() | self.drive_handlers() {
            done = true;
            if time_limit::is_over() {
                break;
            }
        }
        done
    }

    /// Like [`Engine::drive_and_next_deadline`], and runs the handlers, which make room for events.
    fn drive_and_next_deadline(&self) -> Option<Instant> {
        loop {
            let deadline = self.engine.drive_and_next_deadline();
            if !self.drive_handlers() || time_limit::is_over() {
                return deadline;
            }
        }
    }

    /// Runs the handlers of a manual bus. Handlers may publish, so there may be more to dispatch
    /// afterwards.
    fn drive_handlers(&self) -> bool {
        let closing = self.engine.is_closing();
        self.handlers.pool().is_some_and(|pool| pool.drive(closing))
    }

    /// Finds slow subscribers under manual dispatch. Returns whether the bus has a callback for
    /// them.
    fn check_slow_manually(self: &Arc<Self>) -> bool {
        // The monitor is taken out of the mutex meanwhile, because the callback may drive the bus.
        let monitor = self.slow_monitor.lock().take();
        let Some(mut monitor) = monitor else {
            return false;
        };
        // This thread may be the only one that dispatches.
        let scope = NonBlockingScope::enter();
        monitor.check(self);
        drop(scope);
        *self.slow_monitor.lock() = Some(monitor);
        true
    }
}
