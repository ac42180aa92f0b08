//! Building a bus: this file checks the settings and starts the threads.

use std::any::{Any, TypeId};
use std::io;
use std::sync::{OnceLock, Weak};
use std::time::{Duration, SystemTime};

use super::error::BuildError;
use super::handler::Handlers;
use super::registry::Registry;
use super::slow::{OnSlow, SlowLimit, SlowMonitor, SlowNotice, on_slow};
use super::subscription::Options;
use super::wait::WaitStrategy;
use super::{Bus, Core, Open};
use crate::contain::UserValue;
use crate::dispatch::engine::{Engine, EngineConfig, engine};
#[cfg(feature = "latency")]
use crate::dispatch::latency::Sampling;
use crate::dispatch::loss::{BlockTimeout, Overflow};
use crate::dispatch::sequencer::Clock;
use crate::dispatch::{Dispatch, Weigh};
use crate::handlers::notice::{Notice, Observer};
use crate::limits::{CAPACITY_MAX, DISPATCHERS_MAX, HANDLER_THREADS_MAX, LANE_CAPACITY_MAX};
use crate::sync::{Arc, AtomicWaker, Mutex};

/// The default capacity of a subscriber's ring, in events.
const CAPACITY_DEFAULT: usize = 1024;

/// The default capacity of a lane, in events.
const LANE_CAPACITY_DEFAULT: usize = 1024;

/// The default bound on the bytes that the waiting events of a subscriber pin: 64 MiB.
const PIN_BYTES_DEFAULT: usize = 64 << 20;

/// Payloads of more bytes than this have dispatcher threads with larger stacks.
const LARGE_PAYLOAD: usize = 4 << 10;

/// The stack of a dispatcher thread without payloads: that of every thread, unless the program sets
/// `RUST_MIN_STACK`.
const STACK_BYTES: usize = 2 << 20;

/// How many payloads a dispatcher thread has room for on its stack. It needs 2, or 8 in a build
/// without optimisation (2026-11-27). What is never used is address space, and no memory.
const PAYLOADS_ON_STACK: usize = 16;

/// Configures a [`Bus`].
///
/// | setting | unit, range | default |
/// | --- | --- | --- |
/// | [`dispatch`](Self::dispatch) | | [`Dispatch::Adaptive`] |
/// | [`dispatchers`](Self::dispatchers) | threads, 1 to 64 | one for every four processors, 1 to 4 |
/// | [`lane_capacity`](Self::lane_capacity) | events, 1 to 2^24 | 1,024 |
/// | [`capacity`](Self::capacity) | events, 1 to 2^24 | 1,024 |
/// | [`pin_bytes`](Self::pin_bytes) | bytes, at least 1 | 64 MiB |
/// | [`weigh`](Self::weigh) | bytes | the length of `Bytes`, `Vec<u8>` and `String`, else 0 |
/// | [`overflow`](Self::overflow) | | [`Overflow::DropNewest`] |
/// | [`blocking`](Self::blocking) | | no |
/// | [`block_timeout`](Self::block_timeout) | time, up to 30 days | none |
/// | [`wait`](Self::wait) | | [`WaitStrategy::Adaptive`] |
/// | [`handler_threads`](Self::handler_threads) | threads, 1 to the maximum | one for every processor |
/// | [`max_handler_threads`](Self::max_handler_threads) | threads, 1 to 64 | 64 |
/// | [`match_cache`](Self::match_cache) | | yes |
/// | [`clock`](Self::clock) | | `SystemTime::now` |
/// | [`observer`](Self::observer), [`on_slow`](Self::on_slow) | | none |
/// | `sample_latency` (feature `latency`) | `every`: one event in `every` of a lane is timed; at least 1 | no samples |
///
/// ```
/// use fanout::{Bus, Dispatch, Overflow};
///
/// # fn main() -> Result<(), fanout::BuildError> {
/// let bus = Bus::<Vec<u8>>::builder()
///     .dispatch(Dispatch::Pool)
///     .dispatchers(1)
///     .capacity(1024)
///     .pin_bytes(1 << 20)
///     .lane_capacity(1024)
///     .overflow(Overflow::Block)
///     .blocking(true)
///     .weigh(|data| data.len())
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "`build` makes the bus"]
pub struct BusBuilder<T: Send + Sync + 'static> {
    settings: Settings,
    weigh: Weigh<T>,
}

/// The settings that do not depend on the type of the payload. They are a struct of their own, so
/// that their code is compiled once and not for each type.
struct Settings {
    dispatch: Dispatch,
    dispatchers: usize,
    lane_capacity: usize,
    defaults: Options,
    blocking: bool,
    clock: Clock,
    handler_threads: Option<usize>,
    max_handler_threads: usize,
    observer: Option<Arc<Observer>>,
    /// `Some` if the program set a callback for slow subscribers.
    on_slow: Option<(SlowLimit, OnSlow)>,
    match_cache: bool,
    #[cfg(feature = "latency")]
    sample_latency: Option<u32>,
}

impl<T: Send + Sync + 'static> BusBuilder<T> {
    pub(super) fn new() -> Self {
        Self {
            settings: Settings::new(),
            weigh: weigh_default(),
        }
    }

    /// Sets which threads dispatch events. Default: [`Dispatch::Adaptive`].
    ///
    /// ```
    /// use fanout::{Bus, Dispatch};
    ///
    /// # fn main() -> Result<(), fanout::BuildError> {
    /// let bus = Bus::<u32>::builder().dispatch(Dispatch::Inline).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.settings.dispatch = dispatch;
        self
    }

    /// Sets the number of threads of the dispatcher pool, 1 to [`DISPATCHERS_MAX`]. The bus has as
    /// many shards, and each subscription belongs to one of them, whatever the [`Dispatch`].
    /// Default: a quarter of the number of processors, but at least 1 and at most 4.
    ///
    /// ```
    /// # fn main() -> Result<(), fanout::BuildError> {
    /// let bus = fanout::Bus::<u32>::builder().dispatchers(2).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn dispatchers(mut self, threads: usize) -> Self {
        self.settings.dispatchers = threads;
        self
    }

    /// Sets the default of [`SubscriptionBuilder::capacity`](super::SubscriptionBuilder::capacity):
    /// the number of events that may wait in the ring of a subscription, 1 to [`CAPACITY_MAX`].
    /// Default: 1,024.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::builder().capacity(64).build()?;
    /// assert_eq!(bus.subscribe("a")?.stats().capacity, 64);
    /// # Ok(())
    /// # }
    /// ```
    pub fn capacity(mut self, events: usize) -> Self {
        self.settings.defaults.capacity = events;
        self
    }

    /// Sets the default of
    /// [`SubscriptionBuilder::pin_bytes`](super::SubscriptionBuilder::pin_bytes): the number of
    /// bytes that the waiting events of a subscription may keep alive, at least 1. Default: 64 MiB.
    /// See [`guide::memory`](crate::guide::memory).
    ///
    /// ```
    /// # fn main() -> Result<(), fanout::BuildError> {
    /// let bus = fanout::Bus::<Vec<u8>>::builder().pin_bytes(1 << 20).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pin_bytes(mut self, bytes: usize) -> Self {
        self.settings.defaults.pin_bytes = bytes;
        self
    }

    /// Sets the default of [`SubscriptionBuilder::overflow`](super::SubscriptionBuilder::overflow):
    /// what happens to an event that the ring of a subscription has no room for. Default:
    /// [`Overflow::DropNewest`].
    ///
    /// ```
    /// use fanout::{Bus, Overflow};
    ///
    /// # fn main() -> Result<(), fanout::BuildError> {
    /// let bus = Bus::<u32>::builder().overflow(Overflow::DropOldest).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.settings.defaults.overflow = overflow;
        self
    }

    /// Sets the default of [`SubscriptionBuilder::wait`](super::SubscriptionBuilder::wait): how a
    /// thread that receives waits for events. Default: [`WaitStrategy::Adaptive`].
    ///
    /// ```
    /// use fanout::{Bus, WaitStrategy};
    ///
    /// # fn main() -> Result<(), fanout::BuildError> {
    /// let bus = Bus::<u32>::builder().wait(WaitStrategy::Park).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.settings.defaults.wait = strategy;
        self
    }

    /// Sets the capacity of each lane, in events, 1 to [`LANE_CAPACITY_MAX`]. The shared lane
    /// rounds the capacity up to a power of two, at least 2, and allocates its slots when the bus
    /// is built. The lane of a [`Publisher`](super::Publisher) allocates slots when events wait in
    /// it. The lanes of dropped publishers together have the bound of one lane: see
    /// [`DROPPED_LANES_MAX`](crate::limits::DROPPED_LANES_MAX). Default: 1,024.
    ///
    /// ```
    /// # fn main() -> Result<(), fanout::BuildError> {
    /// let bus = fanout::Bus::<u32>::builder().lane_capacity(1 << 16).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn lane_capacity(mut self, events: usize) -> Self {
        self.settings.lane_capacity = events;
        self
    }

    /// Sets the default of
    /// [`SubscriptionBuilder::block_timeout`](super::SubscriptionBuilder::block_timeout): how long
    /// the bus waits for a full [`Overflow::Block`] subscriber, from zero to [`BLOCK_TIMEOUT_MAX`],
    /// rounded up to a whole millisecond. The setting has no effect under the other policies.
    /// Default: the bus waits without a limit.
    ///
    /// [`BLOCK_TIMEOUT_MAX`]: crate::limits::BLOCK_TIMEOUT_MAX
    ///
    /// ```
    /// use fanout::{Bus, Overflow};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::builder()
    ///     .blocking(true)
    ///     .overflow(Overflow::Block)
    ///     .block_timeout(Duration::from_millis(10))
    ///     .build()?;
    /// let hangs = bus.subscription("a").capacity(1).open()?;
    /// for n in 0..100 {
    ///     bus.publish("a", n)?;
    /// }
    /// assert!(bus.flush_within(Duration::from_secs(60))); // and not for ever
    /// assert_eq!((hangs.stats().lost, hangs.stats().unread), (99, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn block_timeout(mut self, timeout: Duration) -> Self {
        self.settings.defaults.block_timeout = Some(timeout);
        self
    }

    /// Sets whether the bus allows [`Overflow::Block`] subscriptions. Each of them can delay all
    /// publishers and all other subscribers, at most for its [block timeout](Self::block_timeout)
    /// if it has one. Default: `false`.
    ///
    /// ```
    /// use fanout::{Bus, Overflow};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::builder().blocking(true).build()?;
    /// let sub = bus.subscription("a").overflow(Overflow::Block).open()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn blocking(mut self, allowed: bool) -> Self {
        self.settings.blocking = allowed;
        self
    }

    /// Sets whether each shard caches the subscriptions that recent topics matched, in a
    /// [`MatchCache`](crate::index::MatchCache). Default: `true`.
    ///
    /// Without the cache, a shard looks up every event in the index (or every run of events with
    /// the same topic in a block). That is a little faster if almost every event has a different
    /// topic, and much slower otherwise. The delivered events are the same.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::builder().match_cache(false).build()?;
    /// let mut sub = bus.subscribe("requests.*")?;
    /// bus.publish("requests.7f3a", 1)?;
    /// assert_eq!(*sub.recv()?.data(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn match_cache(mut self, on: bool) -> Self {
        self.settings.match_cache = on;
        self
    }

    /// Sets the function that returns how many bytes a payload owns outside of itself, for
    /// [`pin_bytes`](Self::pin_bytes). The payload itself (`size_of::<T>()`) always counts as a
    /// part of its block: the function must not add it. Default: the function returns the length
    /// for `Bytes`, `Vec<u8>` and `String`, and 0 for every other type.
    ///
    /// The thread that dispatches calls the closure once for each event. The closure must not
    /// panic: a panic breaks the bus. Nor may it own a [handle](super::SubscriptionHandle) of the
    /// same bus: the bus drops the closure after the last of its handles.
    ///
    /// ```
    /// struct Frame {
    ///     pixels: Vec<u8>,
    /// }
    ///
    /// # fn main() -> Result<(), fanout::BuildError> {
    /// let bus = fanout::Bus::<Frame>::builder()
    ///     .weigh(|frame| frame.pixels.len())
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn weigh(mut self, weigh: impl Fn(&T) -> usize + Send + 'static) -> Self {
        self.weigh = Weigh::By(UserValue::new(Box::new(weigh)));
        self
    }

    /// Sets the clock for [`created_at`](crate::Event::created_at), for deterministic tests. The
    /// sequencer reads the clock once in each of its rounds. While the clock runs backwards, shows
    /// a time before 1970 or panics, the sequencer uses the last time again. Like the function of
    /// [`weigh`](Self::weigh), the clock may not own a handle of the same bus. Default:
    /// `SystemTime::now`.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(12 * 60 * 60);
    /// let bus = fanout::Bus::<u32>::builder().clock(move || noon).build()?;
    /// assert_eq!(bus.publish_sequenced("a", 1)?.created_at(), noon);
    /// # Ok(())
    /// # }
    /// ```
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + 'static) -> Self {
        self.settings.clock = UserValue::new(Box::new(clock));
        self
    }

    /// Sets the number of threads that run handlers, 1 to
    /// [`max_handler_threads`](Self::max_handler_threads). The bus starts them when the first
    /// handler is opened. Default: the number of processors, but at most `max_handler_threads`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::builder().handler_threads(2).build()?;
    /// let _guard = bus.on("a", |event| println!("{}", event.data()))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn handler_threads(mut self, threads: usize) -> Self {
        self.settings.handler_threads = Some(threads);
        self
    }

    /// Sets the largest number of threads that run handlers, spare threads included, 1 to
    /// [`HANDLER_THREADS_MAX`]. Default: 64.
    ///
    /// A spare thread replaces a thread whose handler takes longer than
    /// [`HANDLER_STALL`](crate::limits::HANDLER_STALL) for one event. If no spare thread is left,
    /// handlers wait for each other, and the bus notifies the observer.
    ///
    /// Spare threads also help while handlers with calls of a millisecond or more have to wait for
    /// each other for more than about 15 milliseconds. So a handler waits at most for one call of
    /// each handler in front of it, divided by the number of threads, and, while there are spare
    /// threads, for no more than about 50 milliseconds. A spare thread that is no longer needed
    /// ends.
    ///
    /// ```
    /// # fn main() -> Result<(), fanout::BuildError> {
    /// let bus = fanout::Bus::<u32>::builder()
    ///     .handler_threads(2)
    ///     .max_handler_threads(8)
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_handler_threads(mut self, threads: usize) -> Self {
        self.settings.max_handler_threads = threads;
        self
    }

    /// Sets a callback for everything about handlers that no call can return: errors, panics,
    /// losses (once for a run of lost events) and stalls. Default: no callback.
    ///
    /// The callback runs on the thread of the handler, or, for a stall, on a thread that reports
    /// stalls, and never on the thread of a publisher. While the callback runs, that handler waits;
    /// other handlers do not, even if the callback blocks. A panic in the callback is contained.
    /// With the feature `tracing`, each notice also becomes an event of `tracing`, with or without
    /// a callback.
    ///
    /// The callback is dropped when the bus is closed and its last handler has ended. It may own
    /// [handles](super::SubscriptionHandle) to subscriptions of the bus. If it publishes, it should
    /// own a [`WeakBus`](crate::WeakBus): with a [`Bus`] it would keep the bus open until the
    /// program calls [`close`](Bus::close).
    ///
    /// ```
    /// use fanout::{Bus, Notice};
    /// use std::sync::mpsc;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, failures) = mpsc::channel();
    /// let bus = Bus::<&str>::builder()
    ///     .observer(move |notice| {
    ///         if let Notice::Failed { topic, error, .. } = notice {
    ///             let _ = sender.send(format!("{topic}: {error}"));
    ///         }
    ///     })
    ///     .build()?;
    /// let _guard = bus.on("a.*", |event| {
    ///     Err::<(), _>(format!("{} is not for me", event.data()))
    /// })?;
    /// bus.publish("a.b", "this")?;
    /// assert_eq!(failures.recv()?, "a.b: this is not for me");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "on_error")]
    pub fn observer(mut self, observer: impl Fn(&Notice<'_>) + Send + Sync + 'static) -> Self {
        self.settings.observer = Some(Arc::new(UserValue::new(Box::new(observer))));
        self
    }

    /// Sets a callback for subscribers that fall behind. The bus calls it once when a subscriber
    /// reaches the limit, and once when the subscriber has recovered. If a subscription ends while
    /// it is slow, there is no second call. Default: no callback.
    ///
    /// The callback runs on a separate thread, `fanout-slow`. This thread checks all subscribers
    /// every 20 ms while events flow, less often if there are many thousands of subscriptions, and
    /// sleeps while nothing happens. So it may miss a subscriber that is slow for a shorter time.
    /// The callback delays no publisher, no dispatcher and no subscriber. If the callback panics,
    /// the panic is logged (with the feature `tracing`), and the callback is called again for the
    /// next report.
    ///
    /// The thread ends when the bus is closed and all events are dispatched. So the callback must
    /// not keep the bus open: a callback that publishes should own a [`WeakBus`](crate::WeakBus).
    /// Under [`Dispatch::Manual`] there is no such thread, and [`Bus::drive`] checks the
    /// subscribers after it has dispatched; the callback is dropped with the last handle to the
    /// bus.
    ///
    /// ```
    /// use fanout::{Bus, Dispatch, SlowStatus, SlowLimit};
    /// use std::sync::mpsc;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, notices) = mpsc::channel();
    /// let bus = Bus::<u32>::builder()
    ///     .dispatch(Dispatch::Manual)
    ///     .on_slow(SlowLimit::percent(50), move |notice| {
    ///         let number = notice.subscription().number();
    ///         let _ = sender.send((number, notice.status(), notice.stats().lag));
    ///     })
    ///     .build()?;
    /// let mut sub = bus.subscription("a").capacity(4).open()?;
    /// bus.publish("a", 1)?;
    /// bus.publish("a", 2)?;
    /// bus.drive();
    /// assert_eq!(notices.try_recv()?, (1, SlowStatus::Slow, 2));
    /// sub.recv()?;
    /// bus.drive();
    /// assert_eq!(notices.try_recv()?, (1, SlowStatus::Recovered, 1));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "on_lag")]
    pub fn on_slow(
        mut self,
        limit: SlowLimit,
        callback: impl FnMut(&SlowNotice<T>) + Send + 'static,
    ) -> Self {
        self.settings.on_slow = Some((limit, on_slow(callback)));
        self
    }

    /// Samples the latency of one in `every` events of each lane. `every` is 1 to 2^32 - 1. The
    /// latency is the time from the call that publishes the event to the call that receives it, and
    /// includes the time that the publisher waits for room. Default: no samples. See
    /// [`Bus::latency`] and [`SubscriptionHandle::latency`](super::SubscriptionHandle::latency).
    ///
    /// Sampling takes 36 KiB of memory for each subscription that has received a sample, and 8
    /// bytes in the block for each sampled event.
    ///
    /// The following times were measured on an AMD EPYC on 2026-11-22, with events that one thread
    /// publishes, dispatches and receives. Without samples, an event takes 24 ns. With one sample
    /// in 1,024 events, no difference was measurable; with one in 64, an event takes 0.7 ns more.
    /// If every event is sampled, an event takes 63 ns more with `recv`, mostly because the clock
    /// is read twice, and 30 ns more with `next_batch`, which reads the clock once for up to 64
    /// events. On a bus without samples, the feature costs up to 1 ns for each event.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::builder().sample_latency(1).build()?;
    /// let mut sub = bus.subscribe("a")?;
    /// bus.publish("a", 1)?;
    /// sub.recv()?;
    /// let latency = sub.latency();
    /// assert_eq!(latency.count, 1);
    /// assert!(latency.min <= latency.p50 && latency.p50 <= latency.max);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "latency")]
    pub fn sample_latency(mut self, every: u32) -> Self {
        self.settings.sample_latency = Some(every);
        self
    }

    /// Builds the bus and starts its threads.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a number is out of its range, or the system could not start a thread.
    ///
    /// ```
    /// use fanout::{BuildError, Bus};
    ///
    /// # fn main() -> Result<(), BuildError> {
    /// let bus = Bus::<u32>::builder().capacity(64).build()?;
    /// let refused = Bus::<u32>::builder().capacity(0).build().unwrap_err();
    /// assert_eq!(refused, BuildError::Capacity(0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn build(self) -> Result<Bus<T>, BuildError> {
        let mut settings = self.settings;
        let handler_threads = settings.check()?;
        let (engine, lanes) = engine(EngineConfig {
            dispatch: settings.dispatch,
            dispatchers: settings.dispatchers,
            lane_capacity: settings.lane_capacity,
            clock: std::mem::replace(&mut settings.clock, system_clock()),
            weigh: self.weigh,
            match_cache: settings.match_cache,
        });
        let (core, slow_monitor) = settings.core(engine, handler_threads);
        // If the rest of this function fails, `open` is dropped. That closes the bus and ends the
        // threads that were started: they own the core, which does not keep the bus open.
        let open = Arc::new(Open { core, lanes });
        let weak: Weak<Open<T>> = Arc::downgrade(&open);
        open.core
            .start(weak, slow_monitor, stack_size(size_of::<T>()))?;
        Ok(Bus { open })
    }
}

impl Core {
    /// Starts the threads of a bus.
    fn start(
        self: &Arc<Self>,
        open: Weak<dyn Any + Send + Sync>,
        slow_monitor: Option<SlowMonitor>,
        stack_size: Option<usize>,
    ) -> io::Result<()> {
        self.open.get_or_init(|| open);
        if self.engine.dispatch() == Dispatch::Manual {
            *self.slow_monitor.lock() = slow_monitor;
            return Ok(());
        }
        for index in 0..self.engine.dispatchers() {
            let core = self.clone();
            start(&format!("fanout-{index}"), stack_size, move || {
                core.engine.run_pool_thread(index);
            })?;
        }
        if let Some(monitor) = slow_monitor {
            let core = self.clone();
            start("fanout-slow", None, move || monitor.run(&core))?;
        }
        Ok(())
    }
}

impl Settings {
    fn new() -> Self {
        Self {
            dispatch: Dispatch::default(),
            dispatchers: (processors() / 4).clamp(1, 4),
            lane_capacity: LANE_CAPACITY_DEFAULT,
            defaults: Options {
                capacity: CAPACITY_DEFAULT,
                pin_bytes: PIN_BYTES_DEFAULT,
                overflow: Overflow::default(),
                block_timeout: None,
                wait: WaitStrategy::default(),
            },
            blocking: false,
            clock: system_clock(),
            handler_threads: None,
            max_handler_threads: HANDLER_THREADS_MAX,
            observer: None,
            on_slow: None,
            match_cache: true,
            #[cfg(feature = "latency")]
            sample_latency: None,
        }
    }

    /// The core of the bus, and what looks for slow subscribers.
    fn core(
        self,
        #[cfg_attr(
            not(feature = "latency"),
            expect(unused_mut, reason = "changed by a feature")
        )]
        mut engine: Engine,
        handler_threads: usize,
    ) -> (Arc<Core>, Option<SlowMonitor>) {
        #[cfg(feature = "latency")]
        {
            engine.sampling = self.sample_latency.map(Sampling::new);
        }
        let monitor = self
            .on_slow
            .map(|(limit, on_slow)| SlowMonitor::new(limit, on_slow));
        let registry = Registry::new(self.dispatchers);
        let core = Arc::new(Core {
            open: OnceLock::new(),
            disconnectable: registry.disconnectable(),
            registry: Mutex::new(registry),
            engine,
            defaults: self.defaults,
            blocking: self.blocking,
            lane_capacity: self.lane_capacity,
            handlers: Handlers::new(handler_threads, self.max_handler_threads, self.observer),
            slow_monitor: Mutex::new(None),
            slow_waker: AtomicWaker::new(),
        });
        (core, monitor)
    }

    /// Checks every number. Returns the number of threads that run handlers.
    fn check(&self) -> Result<usize, BuildError> {
        let in_range = |n: usize, max: usize| (1..=max).contains(&n);
        if !in_range(self.dispatchers, DISPATCHERS_MAX) {
            return Err(BuildError::Dispatchers(self.dispatchers));
        }
        if !in_range(self.defaults.capacity, CAPACITY_MAX) {
            return Err(BuildError::Capacity(self.defaults.capacity));
        }
        if !in_range(self.lane_capacity, LANE_CAPACITY_MAX) {
            return Err(BuildError::LaneCapacity(self.lane_capacity));
        }
        if self.defaults.pin_bytes == 0 {
            return Err(BuildError::PinBytes);
        }
        if self.defaults.overflow == Overflow::Block && !self.blocking {
            return Err(BuildError::BlockingNotAllowed);
        }
        if let Some(wait) = self.defaults.block_timeout
            && BlockTimeout::new(wait).is_none()
        {
            return Err(BuildError::BlockTimeout(wait));
        }
        let max = self.max_handler_threads;
        let threads = self.handler_threads.unwrap_or(processors().min(max));
        if !in_range(max, HANDLER_THREADS_MAX) || !in_range(threads, max) {
            return Err(BuildError::HandlerThreads { threads, max });
        }
        if let Some((limit, _)) = &self.on_slow {
            limit.check()?;
        }
        #[cfg(feature = "latency")]
        if self.sample_latency == Some(0) {
            return Err(BuildError::SampleLatency);
        }
        Ok(threads)
    }
}

/// Starts a thread. `stack_size`: `None` for the usual one.
fn start(
    name: &str,
    stack_size: Option<usize>,
    life: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let mut builder = std::thread::Builder::new().name(name.to_owned());
    if let Some(bytes) = stack_size {
        builder = builder.stack_size(bytes);
    }
    builder.spawn(life)?;
    Ok(())
}

/// The stack of a dispatcher thread, for payloads of this size, in bytes. `None`: they are so small
/// that the stack of every thread is large enough.
fn stack_size(payload: usize) -> Option<usize> {
    let copies = payload.saturating_mul(PAYLOADS_ON_STACK);
    (payload > LARGE_PAYLOAD).then(|| copies.saturating_add(STACK_BYTES))
}

/// The number of processors that this process may use.
fn system_clock() -> Clock {
    UserValue::new(Box::new(SystemTime::now))
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn weigh_default<T: 'static>() -> Weigh<T> {
    fn length(data: &dyn Any) -> Option<usize> {
        data.downcast_ref::<bytes::Bytes>()
            .map(bytes::Bytes::len)
            .or_else(|| data.downcast_ref::<Vec<u8>>().map(Vec::len))
            .or_else(|| data.downcast_ref::<String>().map(String::len))
    }
    let known = [
        TypeId::of::<bytes::Bytes>(),
        TypeId::of::<Vec<u8>>(),
        TypeId::of::<String>(),
    ];
    if known.contains(&TypeId::of::<T>()) {
        let weigh = |data: &T| length(data).unwrap_or(0);
        Weigh::By(UserValue::new(Box::new(weigh)))
    } else {
        Weigh::Nothing
    }
}

impl<T: Send + Sync + 'static> std::fmt::Debug for BusBuilder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BusBuilder")
            .field("dispatch", &self.settings.dispatch)
            .field("dispatchers", &self.settings.dispatchers)
            .field("lane_capacity", &self.settings.lane_capacity)
            .field("defaults", &self.settings.defaults)
            .field("blocking", &self.settings.blocking)
            .field("match_cache", &self.settings.match_cache)
            .finish_non_exhaustive()
    }
}
