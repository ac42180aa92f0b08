//! Building a bus.

use std::any::Any;
use std::time::{Duration, SystemTime};

use super::error::BuildError;
use super::handler::Handlers;
use super::registry::Registry;
use super::slow::{OnSlow, SlowLimit, SlowMonitor, SlowNotice};
use super::subscription::Options;
use super::wait::WaitStrategy;
use super::{Bus, Core, Open};
use crate::dispatch::engine::{Engine, EngineConfig};
#[cfg(feature = "latency")]
use crate::dispatch::latency::Sampling;
use crate::dispatch::loss::{BlockTimeout, Overflow};
use crate::dispatch::sequencer::Clock;
use crate::dispatch::{Dispatch, Weigh};
use crate::handlers::notice::{Notice, Observer};
use crate::limits::{CAPACITY_MAX, DISPATCHERS_MAX, HANDLER_THREADS_MAX, LANE_CAPACITY_MAX};
use crate::sync::{Arc, AtomicWaker, Mutex};

/// Events that a subscriber's ring holds unless told otherwise.
const CAPACITY_DEFAULT: usize = 1024;

/// Events that a lane holds unless told otherwise.
const LANE_CAPACITY_DEFAULT: usize = 1024;

/// Bytes that a subscriber's ring may pin unless told otherwise: 64 MiB.
const PIN_BYTES_DEFAULT: usize = 64 << 20;

/// Configures a [`Bus`].
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
pub struct BusBuilder<T: Send + Sync + 'static> {
    dispatch: Dispatch,
    dispatchers: usize,
    lane_capacity: usize,
    defaults: Options,
    blocking: bool,
    weigh: Weigh<T>,
    clock: Clock,
    handler_threads: Option<usize>,
    max_handler_threads: usize,
    observer: Option<Arc<Observer>>,
    on_slow: Option<(SlowLimit, OnSlow<T>)>,
    match_cache: bool,
    #[cfg(feature = "latency")]
    sample_latency: Option<u32>,
}

impl<T: Send + Sync + 'static> BusBuilder<T> {
    pub(super) fn new() -> Self {
        Self {
            dispatch: Dispatch::default(),
            dispatchers: dispatchers_default(),
            lane_capacity: LANE_CAPACITY_DEFAULT,
            defaults: Options {
                capacity: CAPACITY_DEFAULT,
                pin_bytes: PIN_BYTES_DEFAULT,
                overflow: Overflow::default(),
                block_timeout: None,
                wait: WaitStrategy::default(),
            },
            blocking: false,
            weigh: weigh_default(),
            clock: Box::new(SystemTime::now),
            handler_threads: None,
            max_handler_threads: HANDLER_THREADS_MAX,
            observer: None,
            on_slow: None,
            match_cache: true,
            #[cfg(feature = "latency")]
            sample_latency: None,
        }
    }

    /// Who dispatches. Default: [`Dispatch::Pool`].
    #[must_use]
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.dispatch = dispatch;
        self
    }

    /// Threads of the dispatcher pool, 1 to 64, and shards that the subscribers are spread over. Default: one for every
    /// four processors, 1 to 4. Under [`Dispatch::Manual`] there are shards and no threads.
    #[must_use]
    pub fn dispatchers(mut self, threads: usize) -> Self {
        self.dispatchers = threads;
        self
    }

    /// Capacity of subscriptions that don't say, in events, 1 to [`CAPACITY_MAX`]. Default: 1,024.
    #[must_use]
    pub fn capacity(mut self, events: usize) -> Self {
        self.defaults.capacity = events;
        self
    }

    /// Bytes that a subscriber's waiting events may pin, for subscriptions that don't say, at least 1. Default: 64 MiB.
    /// See [`SubscriptionBuilder::pin_bytes`](super::SubscriptionBuilder::pin_bytes).
    #[must_use]
    pub fn pin_bytes(mut self, bytes: usize) -> Self {
        self.defaults.pin_bytes = bytes;
        self
    }

    /// Overflow policy of subscriptions that don't say. Default: [`Overflow::DropNewest`].
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.defaults.overflow = overflow;
        self
    }

    /// How threads wait that receive from subscriptions that don't say. Default: [`WaitStrategy::Adaptive`].
    #[must_use]
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.defaults.wait = strategy;
        self
    }

    /// Events that a lane holds, 1 to [`LANE_CAPACITY_MAX`]; the shared lane rounds up to a power of two, at least
    /// 2. Default: 1,024.
    #[must_use]
    pub fn lane_capacity(mut self, events: usize) -> Self {
        self.lane_capacity = events;
        self
    }

    /// The longest wait for [`Overflow::Block`] subscriptions that don't say, up to [`BLOCK_TIMEOUT_MAX`]. Default: they are
    /// waited for as long as it takes. See [`SubscriptionBuilder::block_timeout`](super::SubscriptionBuilder::block_timeout).
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
    #[must_use]
    pub fn block_timeout(mut self, longest_wait: Duration) -> Self {
        self.defaults.block_timeout = Some(longest_wait);
        self
    }

    /// Allows [`Overflow::Block`] subscriptions, each of which can hold up everybody else, for its
    /// [longest wait](Self::block_timeout) if it has one. Default: no.
    #[must_use]
    pub fn blocking(mut self, allowed: bool) -> Self {
        self.blocking = allowed;
        self
    }

    /// Whether each shard remembers what the last topics matched, in a [`MatchCache`](crate::index::MatchCache). Default: yes.
    ///
    /// Without it, every event (or every run of events of one topic in a block) is looked up in the index. That is a little
    /// faster where almost every event has a topic of its own, and much slower elsewhere; what is delivered is the same.
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
    #[must_use]
    pub fn match_cache(mut self, on: bool) -> Self {
        self.match_cache = on;
        self
    }

    /// What a payload owns outside of itself, in bytes, for `pin_bytes`. Default: its length for `Bytes`, `Vec<u8>` and
    /// `String`; else 0, so that payloads count with their own size alone. ReaderCallback once per event, by whoever
    /// dispatches; it must not panic, which would break the bus.
    #[must_use]
    pub fn weigh(mut self, weigh: impl Fn(&T) -> usize + Send + 'static) -> Self {
        self.weigh = Weigh::By(Box::new(weigh));
        self
    }

    /// Where [`created_at`](crate::Event::created_at) comes from, read once per round: for deterministic tests. Default:
    /// `SystemTime::now`. When it runs backwards, or before 1970, the bus's time stands still.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Threads that run handlers, 1 to [`max_handler_threads`](Self::max_handler_threads). Default: one for every processor.
    /// They are started with the first handler.
    #[must_use]
    pub fn handler_threads(mut self, threads: usize) -> Self {
        self.handler_threads = Some(threads);
        self
    }

    /// Threads that run handlers, spares included, 1 to [`HANDLER_THREADS_MAX`]. A spare takes the place of a thread whose
    /// handler has been at one event for longer than [`HANDLER_STALL`](crate::limits::HANDLER_STALL); when there is none left,
    /// handlers wait for one another, and the observer is told. Default: 64.
    #[must_use]
    pub fn max_handler_threads(mut self, threads: usize) -> Self {
        self.max_handler_threads = threads;
        self
    }

    /// Is told what handlers do that nobody else hears of: errors, panics, losses (once for a run of lost events),
    /// stalls. It is called on the handler's thread, or on the one that watches, never on a publisher's; while it runs, that
    /// handler waits. The same goes to `tracing`. Without it, to `tracing` alone.
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
    /// let _handle = bus.on("a.*", |event| Err::<(), _>(format!("{} is not for me", event.data())))?;
    /// bus.publish("a.b", "this")?;
    /// assert_eq!(failures.recv()?, "a.b: this is not for me");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&Notice<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(Box::new(observer)));
        self
    }

    /// Has `callback` told when a subscriber falls behind by this limit, and again when it has recovered: once for each
    /// crossing. A subscription that ends while it is slow does not recover.
    ///
    /// It is called on a thread of its own, `fanout-slow`, which looks every 20 ms while events flow, more rarely with many
    /// thousands of subscriptions, and sleeps while nothing happens; so a crossing that lasts for a shorter time may
    /// go unseen. What the callback does delays no publisher, no dispatcher and no subscriber. If it panics, that is
    /// logged (by tracing), and it is called again for the next crossing. The thread ends when the bus is closed and
    /// everything is dispatched; so the callback must not keep the bus open, but hold a
    /// [`WeakBus`](crate::WeakBus) if it publishes. Under [`Dispatch::Manual`] there is no thread: whoever calls
    /// [`Bus::drive`] looks, after dispatching.
    ///
    /// ```
    /// use fanout::{Bus, Dispatch, Pace, SlowLimit};
    /// use std::sync::mpsc;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, told) = mpsc::channel();
    /// let bus = Bus::<u32>::builder()
    ///     .dispatch(Dispatch::Manual)
    ///     .on_slow(SlowLimit::percent(50), move |notice| {
    ///         let _ = sender.send((notice.subscription().number(), notice.pace(), notice.stats().lag));
    ///     })
    ///     .build()?;
    /// let mut sub = bus.subscription("a").capacity(4).open()?;
    /// bus.publish("a", 1)?;
    /// bus.publish("a", 2)?;
    /// bus.drive();
    /// assert_eq!(told.try_recv()?, (1, Pace::Slow, 2));
    /// sub.recv()?;
    /// bus.drive();
    /// assert_eq!(told.try_recv()?, (1, Pace::Recovered, 1));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_slow(
        mut self,
        limit: SlowLimit,
        callback: impl FnMut(&SlowNotice<T>) + Send + 'static,
    ) -> Self {
        self.on_slow = Some((limit, Box::new(callback)));
        self
    }

    /// Samples the latency of one event in `every` (of each lane), 1 to 2^32 - 1, from the call that publishes it,
    /// waiting for room included, to the call that receives it. Default: none. See [`Bus::latency`] and
    /// [`SubscriptionHandle::latency`](super::SubscriptionHandle::latency).
    ///
    /// Costs 36 KiB for each subscription that has received a sample, and 8 bytes in its block for each sampled event.
    /// In time, per event published, dispatched and received on one thread (AMD EPYC, 2026-11-22), beside 24 ns without
    /// sampling: nothing measurable at one in 1,024; 0.7 ns at one in 64; at every event 63 ns with `recv`, most of them for
    /// reading the clock twice, and 30 ns with `next_batch`, which reads it once for up to 64. Where the feature is
    /// there and nobody asked for samples, up to 1 ns.
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
    #[must_use]
    pub fn sample_latency(mut self, every: u32) -> Self {
        self.sample_latency = Some(every);
        self
    }

    /// Builds the bus and starts its threads.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a number out of its range, or no thread to be had.
    pub fn build(self) -> Result<Bus<T>, BuildError> {
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
        if let Some(wait) = self.defaults.block_timeout
            && BlockTimeout::new(wait).is_none()
        {
            return Err(BuildError::BlockTimeout(wait));
        }
        let max = self.max_handler_threads;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.handler_threads.unwrap_or(processors.min(max));
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
        #[cfg_attr(
            not(feature = "latency"),
            expect(unused_mut, reason = "changed by a feature")
        )]
        let mut engine = Engine::new(EngineConfig {
            dispatch: self.dispatch,
            dispatchers: self.dispatchers,
            lane_capacity: self.lane_capacity,
            clock: self.clock,
            weigh: self.weigh,
            match_cache: self.match_cache,
        });
        #[cfg(feature = "latency")]
        {
            engine.sampling = self.sample_latency.map(Sampling::new);
        }
        let monitor = self
            .on_slow
            .map(|(limit, on_slow)| SlowMonitor::new(limit, on_slow));
        let (by_hand, by_thread) = match self.dispatch {
            Dispatch::Manual => (monitor, None),
            _ => (None, monitor),
        };
        let core = Arc::new(Core {
            registry: Mutex::new(Registry::new(self.dispatchers)),
            engine,
            defaults: self.defaults,
            blocking: self.blocking,
            lane_capacity: self.lane_capacity,
            handlers: Handlers::new(threads, max, self.observer),
            slow_monitor: Mutex::new(by_hand),
            slow_waker: AtomicWaker::new(),
        });
        // From here on, an error closes the bus, and with it the threads that were started.
        let open = Arc::new(Open { core });
        if self.dispatch != Dispatch::Manual {
            for index in 0..self.dispatchers {
                start(&open.core, format!("fanout-{index}"), move |core| {
                    core.engine.run_pool_thread(index);
                })?;
            }
        }
        if let Some(monitor) = by_thread {
            start(&open.core, "fanout-slow".into(), move |core| {
                monitor.run(&core)
            })?;
        }
        Ok(Bus { open })
    }
}

/// Starts a thread that holds the insides of the bus, and does not keep it open.
fn start<T: Send + Sync + 'static>(
    core: &Arc<Core<T>>,
    name: String,
    life: impl FnOnce(Arc<Core<T>>) + Send + 'static,
) -> Result<(), std::io::Error> {
    let core = core.clone();
    std::thread::Builder::new()
        .name(name)
        .spawn(move || life(core))?;
    Ok(())
}

fn dispatchers_default() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / 4).clamp(1, 4)
}

fn weigh_default<T: 'static>() -> Weigh<T> {
    fn length(data: &dyn Any) -> Option<usize> {
        data.downcast_ref::<bytes::Bytes>()
            .map(bytes::Bytes::len)
            .or_else(|| data.downcast_ref::<Vec<u8>>().map(Vec::len))
            .or_else(|| data.downcast_ref::<String>().map(String::len))
    }
    let known = [
        std::any::TypeId::of::<bytes::Bytes>(),
        std::any::TypeId::of::<Vec<u8>>(),
        std::any::TypeId::of::<String>(),
    ];
    if known.contains(&std::any::TypeId::of::<T>()) {
        Weigh::By(Box::new(|data: &T| length(data).unwrap_or(0)))
    } else {
        Weigh::Nothing
    }
}

impl<T: Send + Sync + 'static> std::fmt::Debug for BusBuilder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BusBuilder")
            .field("dispatch", &self.dispatch)
            .field("dispatchers", &self.dispatchers)
            .field("lane_capacity", &self.lane_capacity)
            .field("defaults", &self.defaults)
            .field("blocking", &self.blocking)
            .field("match_cache", &self.match_cache)
            .finish_non_exhaustive()
    }
}
