//! Opening a subscription, and the handle to an open one.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::Core;
use super::ending::Ending;
use super::error::{ChangeError, SubscribeError};
use super::label::{Label, LabelsBuilder};
use super::record::{Record, SubscriptionInfo};
use super::stats::SubscriptionStats;
use super::subscriber::Subscriber;
use super::wait::WaitStrategy;
use crate::dispatch::feed::{End, FeedConsumer, FeedProducer, FeedShared, Limits, Listener, feed};
#[cfg(feature = "latency")]
use crate::dispatch::latency::{LatencyStats, Recorder};
use crate::dispatch::loss::{BlockTimeout, Overflow};
use crate::dispatch::signal::Latch;
use crate::handlers::pool::{DisabledWhile, HandlerControl, wait_for_running_call};
use crate::limits::CAPACITY_MAX;
use crate::park::{NonBlockingScope, deadline_after, park, thread_waker};
use crate::pattern::{Pattern, PatternError};
use crate::sync::Arc;

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Start {
    /// With the first event published after the subscription was opened. The default.
    #[default]
    Now,
}

/// One or several patterns, parsed or as text: `&str`, `String`, `Pattern`, references to them, and
/// arrays, slices and vectors of any of these.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fanout::{Bus, Pattern};
///
/// let bus = Bus::<u32>::new();
/// bus.subscribe("a.*")?;
/// bus.subscribe(Pattern::parse("a.*")?)?;
/// bus.subscribe(["a.*", "b.**"])?;
/// bus.subscribe(vec![String::from("c")])?;
/// # Ok(())
/// # }
/// ```
pub trait IntoPatterns {
    /// The patterns, parsed.
    ///
    /// # Errors
    ///
    /// The first refusal.
    fn into_patterns(self) -> Result<Vec<Pattern>, PatternError>;
}

impl IntoPatterns for &str {
    fn into_patterns(self) -> Result<Vec<Pattern>, PatternError> {
        Ok(vec![Pattern::parse(self)?])
    }
}

impl IntoPatterns for String {
    fn into_patterns(self) -> Result<Vec<Pattern>, PatternError> {
        self.as_str().into_patterns()
    }
}

impl IntoPatterns for &String {
    fn into_patterns(self) -> Result<Vec<Pattern>, PatternError> {
        self.as_str().into_patterns()
    }
}

impl IntoPatterns for Pattern {
    fn into_patterns(self) -> Result<Vec<Pattern>, PatternError> {
        Ok(vec![self])
    }
}

impl IntoPatterns for &Pattern {
    fn into_patterns(self) -> Result<Vec<Pattern>, PatternError> {
        Ok(vec![self.clone()])
    }
}

impl<P: IntoPatterns, const N: usize> IntoPatterns for [P; N] {
    fn into_patterns(self) -> Result<Vec<Pattern>, PatternError> {
        collect(self)
    }
}

impl<P: IntoPatterns> IntoPatterns for Vec<P> {
    fn into_patterns(self) -> Result<Vec<Pattern>, PatternError> {
        collect(self)
    }
}

impl<P: IntoPatterns + Clone> IntoPatterns for &[P] {
    fn into_patterns(self) -> Result<Vec<Pattern>, PatternError> {
        collect(self.iter().cloned())
    }
}

fn collect<P: IntoPatterns>(
    items: impl IntoIterator<Item = P>,
) -> Result<Vec<Pattern>, PatternError> {
    let mut patterns = Vec::new();
    for item in items {
        patterns.append(&mut item.into_patterns()?);
    }
    Ok(patterns)
}

/// What a subscription is made of: the shard's end of its ring, what all share, and its handler, if
/// it has one.
pub(super) type Ends<T> = (
    FeedProducer<T>,
    Arc<FeedShared>,
    Option<Arc<dyn HandlerControl>>,
);

/// What a subscription is opened with.
pub(super) struct Opening {
    pub(super) number: u64,
    limits: Limits,
    longest_wait: BlockTimeout,
    /// Of its shard.
    latch: Arc<Latch>,
    #[cfg(feature = "latency")]
    recorder: Option<Arc<Recorder>>,
}

impl Opening {
    /// The two ends of its ring.
    pub(super) fn feed<T>(self, reader: Listener) -> (FeedProducer<T>, FeedConsumer<T>) {
        let (producer, consumer) = feed(self.limits, self.latch, reader);
        let producer = producer.with_block_timeout(self.longest_wait);
        #[cfg(feature = "latency")]
        let consumer = match self.recorder {
            Some(recorder) => consumer.with_recorder(recorder),
            None => consumer,
        };
        (producer, consumer)
    }
}

/// What a subscription can be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) capacity: usize,
    pub(super) pin_bytes: usize,
    pub(super) overflow: Overflow,
    /// `None`: as long as it takes.
    pub(super) block_timeout: Option<Duration>,
    pub(super) wait: WaitStrategy,
}

/// A subscription to be: configure it, and [`open`](Self::open) it. Made by
/// [`Bus::subscription`](super::Bus::subscription).
#[must_use = "a subscription begins with `open`"]
pub struct SubscriptionBuilder<'a, T: Send + Sync + 'static> {
    core: &'a Arc<Core<T>>,
    patterns: Result<Vec<Pattern>, PatternError>,
    options: Options,
    dedicated: bool,
    labels: LabelsBuilder,
}

impl<'a, T: Send + Sync + 'static> SubscriptionBuilder<'a, T> {
    pub(super) fn new(
        core: &'a Arc<Core<T>>,
        patterns: Result<Vec<Pattern>, PatternError>,
    ) -> Self {
        Self {
            core,
            patterns,
            options: core.defaults,
            dedicated: false,
            labels: LabelsBuilder::default(),
        }
    }

    /// Events that may wait in its ring, 1 to [`CAPACITY_MAX`]. What the subscriber has claimed to
    /// read no longer counts: up to 63 events more.
    pub fn capacity(mut self, events: usize) -> Self {
        self.options.capacity = events;
        self
    }

    /// Bytes that its waiting events may pin, at least 1: the weights of their blocks of up to 64
    /// events, each with the memory of its places and what its payloads
    /// [weigh](super::BusBuilder::weigh). A block that is heavier than the bound goes alone into
    /// the empty ring.
    pub fn pin_bytes(mut self, bytes: usize) -> Self {
        self.options.pin_bytes = bytes;
        self
    }

    /// What happens to events that find no room.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.options.overflow = overflow;
        self
    }

    /// The longest wait for it if its policy is [`Overflow::Block`], up to [`BLOCK_TIMEOUT_MAX`],
    /// rounded up to a whole millisecond; `None`: it is waited for as long as it takes. Default:
    /// the bus's, and that is `None` unless told otherwise. Of no meaning under the other policies,
    /// which never wait.
    ///
    /// When a block of up to 64 events has waited that long, what the ring has no room for is lost
    /// to this subscriber, and so is all that has no room after it, at once, until it claims
    /// something to read: see [`Overflow::Block`]. The time counts for the whole block, so a
    /// subscriber with a small ring should be given the time that it needs for 64 events. With zero
    /// it is never waited for: that is [`Overflow::DropNewest`], but for the reason of the [`Gap`].
    ///
    /// Everybody else gets that block before the wait begins, and what comes after it when the wait
    /// is over. Several subscribers that have no room for the same block are waited for from the
    /// same moment on, each for its own longest wait.
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
    /// let Err(TryRecvError::Lost(gap)) = sub.try_recv() else { panic!("it did not fit") };
    /// assert_eq!((gap.first_id(), gap.last_id(), gap.reason()), (2, 2, GapReason::BlockTimeout));
    /// # Ok(())
    /// # }
    /// ```
    pub fn block_timeout(mut self, longest_wait: impl Into<Option<Duration>>) -> Self {
        self.options.block_timeout = longest_wait.into();
        self
    }

    /// How a thread that receives waits for events; of no meaning for a handler on the pool.
    /// Default: the bus's, and that is [`Adaptive`](WaitStrategy::Adaptive) unless told otherwise.
    /// Nothing to tasks: see [`WaitStrategy`].
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.options.wait = strategy;
        self
    }

    /// Writes a label on it, to know it again: shown by [`SubscriptionHandle::labels`] and in
    /// metrics. Up to [`LABELS_MAX`](crate::limits::LABELS_MAX), each with a key of its own: 1 to
    /// [`LABEL_KEY_BYTES_MAX`](crate::limits::LABEL_KEY_BYTES_MAX) ASCII letters, digits and
    /// underscores, the first no digit, and none of `bus`, `quantile`, `reason` and `subscription`.
    /// The value is any text of up to
    /// [`LABEL_VALUE_BYTES_MAX`](crate::limits::LABEL_VALUE_BYTES_MAX) bytes. A label that is
    /// refused is told by [`open`](Self::open).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let sub = bus.subscription("orders.**").label("team", "billing").label("instance", "7").open()?;
    /// assert_eq!(sub.handle().labels().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn label(mut self, key: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.labels.add(key.as_ref(), value.as_ref());
        self
    }

    /// Where it begins. There is only [`Start::Now`] so far.
    pub fn start(self, start: Start) -> Self {
        match start {
            Start::Now => self,
        }
    }

    /// Gives its [handler](Self::handler) a thread of its own: for calls that take long or block.
    /// Other handlers never wait for it, and it does not count against
    /// [`max_handler_threads`](super::BusBuilder::max_handler_threads). Of no meaning for a
    /// subscriber, nor under [`Dispatch::Manual`](crate::Dispatch::Manual).
    pub fn dedicated(mut self) -> Self {
        self.dedicated = true;
        self
    }

    /// Opens it. What is published after this returned is delivered.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: a refused pattern or label, a number out of its range, `Block` where it is not allowed, a
    /// closed bus.
    pub fn open(self) -> Result<Subscriber<T>, SubscribeError> {
        let mut reader = None;
        let wait = self.options.wait;
        let handle = self.open_with(|opening| {
            let (producer, consumer) = opening.feed(Listener::waker());
            let shared = consumer.shared().clone();
            reader = Some(consumer);
            Ok((producer, shared, None))
        })?;
        Ok(Subscriber::new(
            reader.expect("made when it was opened"),
            handle,
            wait,
        ))
    }

    pub(super) fn core(&self) -> &'a Arc<Core<T>> {
        self.core
    }

    /// Whether its handler gets a thread, and how that waits.
    pub(super) fn dedication(&self) -> (bool, WaitStrategy) {
        (self.dedicated, self.options.wait)
    }

    /// Opens it with what `make` makes.
    pub(super) fn open_with(
        self,
        make: impl FnOnce(Opening) -> Result<Ends<T>, SubscribeError>,
    ) -> Result<SubscriptionHandle<T>, SubscribeError> {
        let Options {
            capacity,
            pin_bytes,
            overflow,
            block_timeout,
            wait: _,
        } = self.options;
        let given = self.patterns?;
        let mut patterns = Vec::with_capacity(given.len());
        for pattern in given {
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
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
        let longest_wait = match block_timeout {
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
        let mut registry = self.core.registry.lock();
        let record = registry.open(engine, &patterns, info, |shard, number| {
            make(Opening {
                number,
                limits,
                longest_wait,
                latch: engine.shard_shared(shard).latch.clone(),
                #[cfg(feature = "latency")]
                recorder,
            })
        })?;
        drop(registry);
        engine.apply_shard_changes(record.shard());
        Ok(SubscriptionHandle::new(self.core.clone(), record))
    }
}

/// A handle to a subscription: looks at it, changes its patterns, cancels it. Clones are the same
/// subscription; dropping one does nothing.
///
/// ```
/// use fanout::{Bus, RecvError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::new();
/// let mut sub = bus.subscribe("a.*")?;
/// let handle = sub.handle();
/// assert!(handle.add("b.*")?);
/// assert!(handle.remove("a.*")?);
/// bus.publish("b.1", 1)?;
/// assert_eq!(*sub.recv()?.data(), 1);
/// assert!(handle.cancel());
/// assert_eq!(sub.recv().unwrap_err(), RecvError::Cancelled);
/// # Ok(())
/// # }
/// ```
pub struct SubscriptionHandle<T: Send + Sync + 'static> {
    core: Arc<Core<T>>,
    record: Arc<Record>,
}

impl<T: Send + Sync + 'static> SubscriptionHandle<T> {
    pub(super) fn new(core: Arc<Core<T>>, record: Arc<Record>) -> Self {
        Self { core, record }
    }

    pub(super) fn core(&self) -> &Arc<Core<T>> {
        &self.core
    }

    /// Its number, from 1, in the order of opening; never used again on this bus.
    pub fn number(&self) -> u64 {
        self.record.number
    }

    /// Its patterns, in the order in which they were added. None once it was cancelled or
    /// disconnected, or the bus has broken; those of a closed bus are still there, since what was
    /// accepted before the close is still delivered.
    pub fn patterns(&self) -> Vec<Pattern> {
        match self.record.feed.end() {
            End::None | End::Closed => self.record.patterns.lock().parse(),
            End::Cancelled | End::Broken | End::Disconnected => Vec::new(),
        }
    }

    /// Its labels, in the order in which they were given; also after it has ended.
    pub fn labels(&self) -> &[Label] {
        match &self.record.info.labels {
            Some(labels) => labels,
            None => &[],
        }
    }

    /// Adds a pattern. `Ok(false)`: it was there already. What is published on it after this
    /// returned is delivered.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]: the pattern is refused, or the subscription has ended.
    pub fn add(
        &self,
        pattern: impl TryInto<Pattern, Error: Into<PatternError>>,
    ) -> Result<bool, ChangeError> {
        let pattern = pattern.try_into().map_err(Into::into)?;
        let registry = self.core.registry.lock();
        let added = registry.add(&self.core.engine, &self.record, &pattern);
        drop(registry);
        self.unregister_if_ended();
        added
    }

    /// Removes a pattern, in whatever way it is written. `Ok(false)`: it was not there. What is
    /// published after this returned is no longer delivered for its sake. The last pattern may go,
    /// too.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]: the pattern is refused, or the subscription has ended.
    pub fn remove(
        &self,
        pattern: impl TryInto<Pattern, Error: Into<PatternError>>,
    ) -> Result<bool, ChangeError> {
        let pattern = pattern.try_into().map_err(Into::into)?;
        let registry = self.core.registry.lock();
        let removed = registry.remove(&self.core.engine, &self.record, &pattern);
        drop(registry);
        self.unregister_if_ended();
        removed
    }

    /// Cancels it; for one with a handler, see
    /// [`HandlerHandle::cancel`](super::HandlerHandle::cancel). The subscriber gets `Cancelled`
    /// from now on. What it has not read is let go when it looks, or is dropped. `false`: it had
    /// ended already, and keeps that ending: a subscriber that was disconnected still reads what
    /// was queued, and then hears of it.
    pub fn cancel(&self) -> bool {
        let (ended_it, disabled_while) = self.cancel_at_once();
        if let Some(handler) = self.record.handler.as_deref()
            && disabled_while == Some(DisabledWhile::Running)
        {
            wait_for_running_call(handler);
        }
        ended_it
    }

    /// [`cancel`](Self::cancel) without waiting for a turn in progress, which may be about to begin
    /// a call: whoever calls this waits, for as long as it likes. Also answers what the handler, if
    /// there is one, was found at.
    pub(crate) fn cancel_at_once(&self) -> (bool, Option<DisabledWhile>) {
        let disabled_while = self.record.handler.as_deref().map(HandlerControl::disable);
        // Not under the lock: it wakes the reader, and a waker is foreign code.
        let ended_it = self.record.feed.finish(End::Cancelled);
        // The reader that was woken may have dropped the subscriber, and taken it out, before we
        // came to.
        self.unregister();
        (ended_it, disabled_while)
    }

    /// The shard disconnects without a lock, so the registry and the index do not know of it: now
    /// they forget it.
    fn unregister_if_ended(&self) {
        if self.record.feed.end() == End::Disconnected {
            self.unregister();
        }
    }

    /// The registry and the index forget it, if they have not yet. Its feed has ended.
    pub(super) fn unregister(&self) {
        self.core.unregister(&self.record);
    }

    /// Waits until its handler, if it has one and not from inside it, is not running. `false`: not
    /// in time.
    pub(crate) fn wait_for_handler(&self, deadline: Option<Instant>) -> bool {
        let Some(handler) = self.record.handler.as_deref() else {
            return true;
        };
        handler.wait_for(deadline, &mut || !handler.is_running())
    }

    /// Whether the subscription has ended: whether [`ending`](Self::ending) says how.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let handle = bus.subscribe("a")?.handle(); // the subscriber is dropped here
    /// assert!(handle.is_ended());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "is_closed")]
    #[doc(alias = "is_cancelled")]
    pub fn is_ended(&self) -> bool {
        !self.record.is_open(&self.core.engine)
    }

    /// How the subscription ended; `None`: it is open.
    ///
    /// It is known from the moment when nothing that is published any more can reach the
    /// subscription. Its subscriber may still have events to read, and learns of the end behind
    /// the last of them; so a task that is busy with one event can learn here that it was
    /// disconnected, long before it receives again. The same holds for a handler.
    ///
    /// | state | `ending` | what the subscriber gets |
    /// | --- | --- | --- |
    /// | open | `None` | events |
    /// | its ring overflowed, under [`Overflow::Disconnect`] | `Disconnected` | what waits, then [`Disconnected`] |
    /// | cancelled, or its subscriber was dropped | `Cancelled` | [`Cancelled`] |
    /// | the bus was closed; not everything was read | `Closed`, for now | what waits, and what was accepted before the close; then [`Closed`] |
    /// | the bus was closed, and the subscriber was told so | `Closed` | [`Closed`] |
    /// | the bus broke | `Broken` | what waits, then [`Broken`] |
    ///
    /// An ending never changes, with one exception. `Closed` is known as soon as
    /// [`Bus::close`](super::Bus::close) is called, or the last [`Bus`](super::Bus) and
    /// [`Publisher`](super::Publisher) are dropped; and until the subscriber was told of it,
    /// something else may come first: the subscription is cancelled, its ring overflows with what
    /// was accepted before the close, or the bus breaks.
    ///
    /// Once the subscription has ended, [`add`](Self::add) and [`remove`](Self::remove) answer
    /// [`ChangeError::Ended`], [`Bus::subscriptions`](super::Bus::subscriptions) no longer lists
    /// it, and [`BusStats::subscriptions`](super::BusStats::subscriptions) no longer counts it.
    ///
    /// [`Disconnected`]: super::RecvError::Disconnected
    /// [`Cancelled`]: super::RecvError::Cancelled
    /// [`Closed`]: super::RecvError::Closed
    /// [`Broken`]: super::RecvError::Broken
    ///
    /// ```
    /// use fanout::{Bus, Dispatch, Ending, Overflow};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).build()?;
    /// let mut sub = bus.subscription("a").capacity(1).overflow(Overflow::Disconnect).open()?;
    /// let handle = sub.handle();
    /// assert_eq!(handle.ending(), None);
    /// bus.publish("a", 1)?;
    /// bus.publish("a", 2)?;
    /// bus.drive(); // the second event has no room
    /// let Some(Ending::Disconnected(gap)) = handle.ending() else { panic!("it is full") };
    /// assert_eq!(gap.count(), 1);
    /// assert_eq!(*sub.recv()?.data(), 1); // what waits is still read
    /// # Ok(())
    /// # }
    /// ```
    pub fn ending(&self) -> Option<Ending> {
        self.record.ending(&self.core.engine)
    }

    /// Waits, as a task, on any runtime, until the subscription has ended, and returns
    /// [how](Self::ending).
    ///
    /// The future owns what it needs: it does not keep the bus open, nor the subscription. It may
    /// be dropped at any time, and leaves no waker behind. Many tasks may wait for the same
    /// subscription.
    ///
    /// ```
    /// use fanout::{Bus, Ending};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let sub = bus.subscribe("a")?;
    /// let ended = sub.handle().ended();
    /// let waiting = std::thread::spawn(move || smol::block_on(ended));
    /// bus.close();
    /// assert_eq!(waiting.join().expect("it does not panic"), Ending::Closed);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "closed")]
    #[doc(alias = "cancelled")]
    pub fn ended(&self) -> impl Future<Output = Ending> + Send + use<T> {
        Ended {
            handle: self.clone(),
            place: None,
        }
    }

    /// Waits until the subscription has ended, and returns [how](Self::ending). `None`: it has not
    /// ended within that time. Inside a handler it does not wait.
    ///
    /// ```
    /// use fanout::{Bus, Ending};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let sub = bus.subscribe("a")?;
    /// let handle = sub.handle();
    /// assert_eq!(handle.wait_ended(Duration::from_millis(5)), None);
    /// let working = std::thread::spawn(move || drop(sub));
    /// assert_eq!(handle.wait_ended(Duration::from_secs(60)), Some(Ending::Cancelled));
    /// # working.join().expect("it does not panic");
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_ended(&self, limit: Duration) -> Option<Ending> {
        if NonBlockingScope::is_active() {
            return self.ending();
        }
        let deadline = deadline_after(limit);
        let waker = thread_waker();
        let mut ended = pin!(self.ended());
        loop {
            let ending = ended.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(ending) = ending {
                return Some(ending);
            }
            if !park(deadline) {
                return self.ending();
            }
        }
    }

    /// Its numbers.
    pub fn stats(&self) -> SubscriptionStats {
        self.record.stats()
    }

    /// How long its sampled events took from the call that published them to the call that received
    /// them. All zero on a bus without [`sample_latency`](super::BusBuilder::sample_latency).
    #[cfg(feature = "latency")]
    pub fn latency(&self) -> LatencyStats {
        let mut samples = None;
        if let Some(recorder) = &self.record.info.recorder {
            recorder.add_to(&mut samples);
        }
        LatencyStats::of(samples.as_deref())
    }

    /// Id of the first event that it could see: the first dispatched with its patterns known.
    /// `None`: the dispatcher has not come by since it was opened.
    pub fn first_id(&self) -> Option<u64> {
        self.record.feed.stats().first_id
    }

    /// Id of the last event that it could see. `None`: it has not ended, or the dispatcher has not
    /// come by since.
    pub fn last_id(&self) -> Option<u64> {
        self.record.feed.stats().last_id
    }
}

/// Waits for the end: see [`SubscriptionHandle::ended`].
struct Ended<T: Send + Sync + 'static> {
    handle: SubscriptionHandle<T>,
    /// Where its waker is registered.
    place: Option<usize>,
}

impl<T: Send + Sync + 'static> Future for Ended<T> {
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ending> {
        let this = self.get_mut();
        if let Some(ending) = this.handle.ending() {
            return Poll::Ready(ending);
        }
        let feed = &this.handle.record.feed;
        this.place = Some(feed.register_end_waiter(this.place, context.waker()));
        // After it was registered: an end that came before has not woken this waker.
        match this.handle.ending() {
            Some(ending) => Poll::Ready(ending),
            None => Poll::Pending,
        }
    }
}

impl<T: Send + Sync + 'static> Drop for Ended<T> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.handle.record.feed.forget_end_waiter(place);
        }
    }
}

impl<T: Send + Sync + 'static> Clone for SubscriptionHandle<T> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            record: self.record.clone(),
        }
    }
}

impl<T: Send + Sync + 'static> std::fmt::Debug for SubscriptionHandle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubscriptionHandle")
            .field("number", &self.number())
            .field("patterns", &self.patterns())
            .field("labels", &self.labels())
            .finish_non_exhaustive()
    }
}
