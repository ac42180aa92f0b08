//! The bus, its publishers and its subscribers: what a program uses.
//!
//! A [`Bus`] is a handle; its clones are handles to the same bus. Clones and [`Publisher`]s keep
//! the bus open: when the last of them is dropped, or when [`close`](Bus::close) is called, the bus
//! accepts nothing more, delivers what it has accepted, and each subscriber reads what is left and
//! then gets `Closed`.
//!
//! # Failure modes
//!
//! * **A subscriber falls behind**: its ring is bounded, and its [`Overflow`](crate::Overflow)
//!   policy says what happens when the ring is full. A run of lost events is reported in-band,
//!   once, as a [`Gap`](crate::Gap), and counted.
//! * **The bus closes**: see above. [`close_within`](Bus::close_within) waits up to a limit and
//!   reports what was left. Dropping never waits.
//! * **User code panics**: a payload's `drop` or a waker may panic without harm. A panic in a
//!   weigher, or in this library, breaks the bus: publishing fails with `Broken`, and subscribers
//!   read what they have and then get `Broken`.
//! * **The process dies**: without a history nothing survives it.

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

use std::any::Any;
use std::sync::{OnceLock, Weak};
use std::time::Duration;

pub use batch::{Batch, BatchIntoIter, BatchIter};
pub use builder::BusBuilder;
pub use ending::Ending;
pub use error::{
    BuildError, ChangeError, PublishError, PublishSequencedError, PublishTimeoutError, RecvError,
    RecvTimeoutError, SubscribeError, ThreadError, TryPublishError, TryRecvError,
};
pub use handle::SubscriptionHandle;
pub use handler::HandlerGuard;
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

use crate::dispatch::engine::{Engine, Lanes};
use crate::park::deadline_after;
use crate::pattern::{Topic, TopicError};
use crate::sync::{Arc, AtomicWaker, Mutex};
use drain::{CloseFuture, FlushFuture};
use handler::Handlers;
use interest::DisconnectableFeeds;
use record::Record;
use registry::Registry;
use slow::SlowMonitor;

/// Delivers each event to every subscriber that has a pattern for the event's topic.
///
/// A `Bus` is a handle: cloning it is cheap, and the clones are the same bus. It is `Send` and
/// `Sync`. The bus is open as long as there is a clone or a [`Publisher`].
///
/// `T` is the payload. It is published by value, stored once, and read by all subscribers in place;
/// it is never copied or cloned. The default, `bytes::Bytes`, is for programs that pass encoded
/// messages on.
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
/// A payload lies in its lane and then in its block itself, and is moved twice by value: into the
/// lane, and from the lane into the block. So **box payloads of more than 4 KiB**
/// (`Bus<Box<Frame>>`, or `Bytes`, `Vec`, `Arc`). Otherwise the shared lane has room for 1,024 of
/// them ([`lane_capacity`](BusBuilder::lane_capacity)) from the start and a block for up to 64,
/// each move copies the payload, and a function that holds one by value needs room for it on its
/// stack:
///
/// | thread | room on its stack for | without optimisation |
/// | --- | --- | --- |
/// | that publishes | 3 payloads, two of which are the argument and the answer | 16 |
/// | that publishes, under [`Dispatch::Inline`](crate::Dispatch::Inline) | 5 | 16 |
/// | that calls [`drive`](Self::drive), or drops the last handle | 2 | 8 |
/// | that receives, or runs a handler | none | none |
///
/// So payloads of up to 384 KiB by value fit on a usual stack of 2 MiB, and of up to 96 KiB in a
/// build without optimisation. The threads of the dispatcher never run out of stack: for payloads
/// of more than 4 KiB, each gets 2 MiB and the size of 16 payloads.
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
#[doc(alias("EventBus", "channel", "broadcast", "pubsub", "Sender"))]
pub struct Bus<T: Send + Sync + 'static = bytes::Bytes> {
    open: Arc<Open<T>>,
}

/// Owned by everything that keeps the bus open. When the last owner is dropped, the bus closes.
struct Open<T: Send + Sync + 'static> {
    core: Arc<Core>,
    lanes: Lanes<T>,
}

/// What lives until the last handle of any kind is dropped.
///
/// It does not depend on the type of the payloads, so that it is compiled once, with this crate.
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
    /// Looks for slow subscribers under manual dispatch. `None` while it looks, and if the program
    /// did not ask for it.
    slow_monitor: Mutex<Option<SlowMonitor>>,
    /// The thread that looks for them otherwise. It is woken when the bus begins to close.
    slow_waker: AtomicWaker,
}

impl<T: Send + Sync + 'static> Bus<T> {
    /// A bus with the defaults of [`BusBuilder`].
    ///
    /// # Panics
    ///
    /// If the system does not start a thread for the dispatcher. [`builder`](Self::builder) returns
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
            .expect("the defaults are in range, and the system starts a thread")
    }

    /// Configures a bus: threads, capacities, policies, callbacks.
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

    /// A publisher with a lane of its own. On a closed bus it refuses every event.
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
    #[doc(alias("Sender", "sender"))]
    #[must_use]
    pub fn publisher(&self) -> Publisher<T> {
        Publisher::new(self.open.clone())
    }

    /// Parses a topic, to publish on it many times. [`Topic::new`] does the same without a bus.
    ///
    /// # Errors
    ///
    /// [`TopicError`], with the place and the rule.
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

    /// Subscribes to one or several patterns, with the defaults of the bus. Every event that is
    /// published after this has returned is delivered, if a pattern matches its topic.
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
    #[doc(alias("listen", "receiver", "Receiver"))]
    pub fn subscribe(&self, patterns: impl IntoPatterns) -> Result<Subscriber<T>, SubscribeError> {
        self.subscription(patterns).open()
    }

    /// Configures a subscription: capacity, overflow policy, labels, a handler.
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

    /// Handles to the open subscriptions, the oldest first.
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

    /// How much has passed through the bus, and what became of it: sums over all subscriptions, the
    /// ended ones included. Reads the numbers of each open subscription, under the lock that
    /// subscribing takes, too.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// bus.publish_sequenced("a", 1)?;
    /// assert_eq!(bus.stats().sequenced, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("receiver_count", "subscriber_count", "len"))]
    pub fn stats(&self) -> BusStats {
        self.open.stats()
    }

    /// How long sampled events took from the call that published them to the call that received
    /// them, over all subscriptions, the ended ones included. Each event counts once for each
    /// subscription that received it. All numbers are zero without
    /// [`sample_latency`](BusBuilder::sample_latency). Takes some microseconds for each open
    /// subscription.
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

    /// Dispatches on the calling thread until nothing is left to do. `true`: something was done.
    ///
    /// Under [`Dispatch::Manual`](crate::Dispatch::Manual) nothing happens except in this call, and
    /// in those that flush or close. Under the other modes this thread helps the pool.
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
        core.check_slow_manually();
        done
    }

    /// Waits until everything that was accepted before this call is in the rings of its
    /// subscribers, and handled by its handlers.
    ///
    /// **Blocks the thread** for up to `limit`; in async code use
    /// [`flush_async`](Self::flush_async). It does not wait for subscribers to read. Called from
    /// inside a handler, it only looks.
    ///
    /// `false`: the time is over, because a `Block` subscriber has no room or a handler is busy; or
    /// the bus is broken.
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

    /// Waits, as a task and on any runtime, until everything that was accepted before is in the
    /// rings of its subscribers, and handled by its handlers. "Before" is before the first poll.
    ///
    /// `false`: the bus is broken.
    ///
    /// It has no time limit of its own: put it under that of the runtime, since a `Block`
    /// subscriber that does not read, or a handler that does not return, delays it for ever. The
    /// future may be dropped at any time, and that changes nothing. It uses no thread of its own.
    /// (One exception: under [`Dispatch::Manual`](crate::Dispatch::Manual), while a `Block`
    /// subscriber with a [longest wait](SubscriptionBuilder::block_timeout) is full, a thread wakes
    /// the task when that wait is over.)
    ///
    /// Do not block a handler's thread on this future: it waits for that handler.
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

    /// Closes the bus, for all its clones and publishers, and returns at once. What was accepted is
    /// still delivered.
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

    /// Closes the bus, and waits until everything that was accepted is in rings and handled.
    ///
    /// **Blocks the thread** for up to `limit`; in async code use
    /// [`close_async`](Self::close_async). When the time is over, what a ring has no room for is
    /// lost to its subscriber (reason [`Closed`](crate::GapReason::Closed)), and what is not
    /// sequenced yet is dropped. The report says how much that was. Handlers that are not done by
    /// then go on. The call does not wait for subscribers to read. Called from inside a handler, it
    /// starts the close and returns.
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
    #[doc(alias("shutdown", "shutdown_timeout"))]
    pub fn close_within(&self, limit: Duration) -> CloseReport {
        self.open.core.close_within(deadline_after(limit))
    }

    /// Closes the bus at the first poll, and waits, as a task and on any runtime, until everything
    /// that was accepted is in rings and handled.
    ///
    /// It has no time limit of its own, and so gives nothing up: put it under the time limit of the
    /// runtime. If that is over, or the future is dropped for another reason, the bus stays closed
    /// and goes on delivering. To give up what is left, call [`close_within`](Self::close_within)
    /// with a limit of zero, which does not wait. For threads, and for the handlers, what
    /// [`flush_async`](Self::flush_async) says holds here, too.
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
    #[doc(alias = "shutdown")]
    pub fn close_async(&self) -> impl Future<Output = CloseReport> + Send + Unpin + use<T> {
        CloseFuture::new(self.open.core.clone())
    }

    /// Whether the bus is closed or broken, so that publishing fails.
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

    /// Whether the other one is a handle to the same bus.
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
/// It is for what the bus itself keeps alive, for example a handler that publishes, or a task that
/// ends when the bus closes and that publishes in answer to what it receives. With a [`Bus`] of its
/// own it would keep the bus open, and so itself.
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
pub struct WeakBus<T: Send + Sync + 'static = bytes::Bytes> {
    open: Weak<Open<T>>,
}

impl<T: Send + Sync + 'static> WeakBus<T> {
    /// The bus, if a clone or a publisher still keeps it open.
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
    }
}

impl Core {
    /// A subscription has ended: takes it out of the registry and the index, unless it is out.
    fn unregister(&self, record: &Record) {
        let was_registered = self.registry.lock().unregister(&self.engine, record);
        if was_registered {
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

    /// Runs the handlers of a manual bus. They may publish, so there may be more to dispatch.
    fn drive_handlers(&self) -> bool {
        self.handlers.pool().is_some_and(|pool| pool.drive())
    }

    /// Under manual dispatch, looks for slow subscribers.
    fn check_slow_manually(self: &Arc<Self>) {
        // Taken out of its place meanwhile, because the callback may drive the bus.
        let monitor = self.slow_monitor.lock().take();
        if let Some(mut monitor) = monitor {
            monitor.check(self);
            *self.slow_monitor.lock() = Some(monitor);
        }
    }
}
