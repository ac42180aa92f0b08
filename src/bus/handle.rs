//! The handle to a subscription, and how a program waits for the end of a subscription.

use std::fmt;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::ending::Ending;
use super::error::ChangeError;
use super::into_patterns::{IntoPatterns, parse_patterns};
use super::label::Label;
use super::record::Record;
use super::registry;
use super::stats::SubscriptionStats;
use super::{Bus, Core};
use crate::dispatch::feed::End;
#[cfg(feature = "latency")]
use crate::dispatch::latency::LatencyStats;
use crate::handlers::pool::{DisabledWhile, HandlerControl, wait_for_running_call};
use crate::park::{NonBlockingScope, Registration, deadline_after, park, thread_waker};
use crate::pattern::Pattern;
use crate::sync::Arc;

/// A handle to a subscription. Any thread can use it to read the statistics of the subscription, to
/// change its patterns, to cancel it, or to wait for its end.
///
/// Clones are handles to the same subscription. Dropping a handle does nothing, and a handle keeps
/// neither the subscription nor the bus open. Until the last handle is dropped, the memory of the
/// bus is not released, also if the bus is closed: its indexes and caches, its clock, and the
/// numbers of its subscriptions. Events, handlers and the observer are dropped earlier.
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
    core: Arc<Core>,
    record: Arc<Record>,
    /// Exactly this type: blocks are checked by `TypeId`, and a supertype of `T` has another one.
    payloads: PhantomData<fn(T) -> T>,
}

impl<T: Send + Sync + 'static> SubscriptionHandle<T> {
    pub(super) fn new(core: Arc<Core>, record: Arc<Record>) -> Self {
        Self {
            core,
            record,
            payloads: PhantomData,
        }
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(super) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// The patterns, also if the subscription has ended.
    pub(super) fn last_patterns(&self) -> Vec<Pattern> {
        self.record.patterns.lock().parse()
    }

    /// Returns the number of the subscription. A bus numbers its subscriptions from 1 in the order
    /// in which they are opened, and never uses a number twice.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// assert_eq!(bus.subscribe("a")?.handle().number(), 1);
    /// assert_eq!(bus.subscribe("a")?.handle().number(), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "id")]
    pub fn number(&self) -> u64 {
        self.record.number
    }

    /// Returns the patterns of the subscription, in the order in which they were added.
    ///
    /// The list is empty once the subscription was cancelled or disconnected, or the bus is broken.
    /// On a closed bus the patterns remain, because events that were accepted before the close are
    /// still delivered.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let sub = bus.subscribe(["b.*", "a"])?;
    /// let patterns = sub.handle().patterns();
    /// assert_eq!((patterns[0].as_str(), patterns[1].as_str()), ("b.*", "a"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn patterns(&self) -> Vec<Pattern> {
        match self.record.feed.end() {
            End::None | End::Closed => self.last_patterns(),
            End::Cancelled | End::Broken | End::Disconnected => Vec::new(),
        }
    }

    /// Returns the labels of the subscription, in the order in which they were set. They remain
    /// after the subscription has ended. See
    /// [`SubscriptionBuilder::label`](super::SubscriptionBuilder::label) for an example.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let sub = bus.subscription("a").label("team", "billing").open()?;
    /// assert_eq!(sub.handle().labels()[0].value(), "billing");
    /// # Ok(())
    /// # }
    /// ```
    pub fn labels(&self) -> &[Label] {
        match &self.record.info.labels {
            Some(labels) => labels,
            None => &[],
        }
    }

    /// Returns whether this is a subscription of the given bus.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (bus, other) = (fanout::Bus::<u32>::new(), fanout::Bus::<u32>::new());
    /// let handle = bus.subscribe("a")?.handle();
    /// assert!(handle.same_bus(&bus) && !handle.same_bus(&other));
    /// # Ok(())
    /// # }
    /// ```
    pub fn same_bus(&self, bus: &Bus<T>) -> bool {
        bus.is_of(&self.core)
    }

    /// Adds one or several patterns in one step. Matching events that are published after the call
    /// has returned are delivered. Returns `Ok(false)` if the subscription had all the patterns
    /// already.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]: a pattern is not valid, or the subscription [has ended](Self::ending). Then
    /// no pattern was changed.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let sub = bus.subscribe("a.*")?;
    /// let handle = sub.handle();
    /// assert!(handle.add("b.*")?);
    /// assert!(handle.add(["b.*", "c.*"])?); // one of them is new
    /// assert!(!handle.add("c.*")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn add(&self, patterns: impl IntoPatterns) -> Result<bool, ChangeError> {
        let patterns = parse_patterns(patterns)?;
        let (registry, engine) = (&self.core.registry, &self.core.engine);
        let added = registry::add(registry, engine, &self.record, &patterns);
        self.unregister_if_disconnected();
        added
    }

    /// Removes one or several patterns in one step. A pattern is removed even if it was added in
    /// another spelling. Events that are published after the call has returned are delivered only
    /// if another pattern of the subscription matches them. Returns `Ok(false)` if the subscription
    /// had none of the patterns. All patterns can be removed: then the subscription stays open, and
    /// gets no events until a pattern is added.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]: a pattern is not valid, or the subscription [has ended](Self::ending). Then
    /// no pattern was changed.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let sub = bus.subscribe(["a.[xy]", "b"])?;
    /// let handle = sub.handle();
    /// assert!(handle.remove("a.[yx]")?); // the same pattern
    /// assert!(!handle.remove("c")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove(&self, patterns: impl IntoPatterns) -> Result<bool, ChangeError> {
        let patterns = parse_patterns(patterns)?;
        let (registry, engine) = (&self.core.registry, &self.core.engine);
        let removed = registry::remove(registry, engine, &self.record, &patterns);
        self.unregister_if_disconnected();
        removed
    }

    /// Cancels the subscription, unless it has ended: after the call has returned `true`, the
    /// subscriber receives no event, only `Cancelled`. The events that wait in the ring are dropped
    /// when the subscriber calls a receive method or is dropped. For a subscription with a handler,
    /// see [`HandlerGuard::cancel`](super::HandlerGuard::cancel).
    ///
    /// Returns whether this call ended the subscription. `false` means that the subscription had
    /// ended before and keeps that ending: a subscriber that was disconnected still receives the
    /// events in its ring, and then `Disconnected`. On a closed bus, a subscription can still be
    /// cancelled as long as its subscriber has not received all events: see
    /// [`ending`](Self::ending).
    ///
    /// The call may run user code on the calling thread: see [guarantee 9](crate#guarantees).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let sub = bus.subscribe("a")?;
    /// assert!(sub.handle().cancel());
    /// assert!(!sub.handle().cancel());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "unsubscribe")]
    pub fn cancel(&self) -> bool {
        let (ended_it, disabled_while) = self.cancel_at_once();
        if let Some(handler) = self.record.handler.as_deref()
            && disabled_while == Some(DisabledWhile::Running)
        {
            wait_for_running_call(handler);
        }
        ended_it
    }

    /// Like [`cancel`](Self::cancel), but does not wait for a turn of the handler that is in
    /// progress and may be about to begin a call. The caller waits for that turn. Also returns what
    /// the handler, if there is one, was doing.
    pub(crate) fn cancel_at_once(&self) -> (bool, Option<DisabledWhile>) {
        let disabled_while = self.record.handler.as_deref().map(HandlerControl::disable);
        // The lock is not held here: `finish` wakes the subscriber, and a waker is user code.
        let ended_it = self.record.feed.finish(End::Cancelled);
        // The woken task may have dropped the subscriber, and so unregistered it, by now.
        self.unregister();
        (ended_it, disabled_while)
    }

    /// Removes a disconnected subscription from the registry and the index, which may still have
    /// it: a shard disconnects a subscription without a lock.
    fn unregister_if_disconnected(&self) {
        if self.record.feed.end() == End::Disconnected {
            self.unregister();
        }
    }

    /// Removes the subscription, which has ended, from the registry and the index, unless that was
    /// done before.
    pub(super) fn unregister(&self) {
        self.core.unregister(&self.record);
    }

    /// Waits until no call of the subscription's handler is running. Inside that handler it does
    /// not wait. Returns `false` if a call is still running at the deadline.
    pub(crate) fn wait_for_handler(&self, deadline: Option<Instant>) -> bool {
        let Some(handler) = self.record.handler.as_deref() else {
            return true;
        };
        handler.wait_for(deadline, &mut || !handler.is_running())
    }

    /// Returns whether the subscription has ended: whether [`ending`](Self::ending) returns `Some`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let handle = bus.subscribe("a")?.handle(); // the subscriber is dropped here
    /// assert!(handle.is_ended());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_ended(&self) -> bool {
        !self.record.is_open(&self.core.engine)
    }

    /// Returns how the subscription ended, or `None` while it is open.
    ///
    /// The ending is available as soon as events that are published later can no longer reach the
    /// subscription. At that time events may still wait in the ring, and the subscriber gets the
    /// ending only after the last of them. So a task that is busy with one event can find out here
    /// that its subscriber was disconnected, before it receives again. The same holds for a
    /// handler.
    ///
    /// | state | `ending` | what the subscriber gets |
    /// | --- | --- | --- |
    /// | open | `None` | events |
    /// | its ring overflowed, under [`Overflow::Disconnect`] | `Disconnected` | the waiting events, then [`Disconnected`] |
    /// | cancelled, or its subscriber was dropped | `Cancelled` | [`Cancelled`] |
    /// | the bus was closed, and the subscriber has not received all events | `Closed`, for now | the waiting events and those that were accepted before the close, then [`Closed`] |
    /// | the bus was closed, and the subscriber has received `Closed` | `Closed` | [`Closed`] |
    /// | the bus broke | `Broken` | the waiting events, then [`Broken`] |
    ///
    /// An ending never changes, with one exception. `Closed` is returned as soon as
    /// [`Bus::close`](super::Bus::close) is called, or the last [`Bus`] and
    /// [`Publisher`](super::Publisher) are dropped. Until the subscriber has received `Closed`, it
    /// can still change: the subscription may be cancelled, its ring may overflow with events that
    /// were accepted before the close, or the bus may break.
    ///
    /// Once the subscription has ended, [`add`](Self::add) and [`remove`](Self::remove) return
    /// [`ChangeError::Ended`], [`Bus::subscriptions`](super::Bus::subscriptions) no longer lists
    /// it, and [`BusStats::subscriptions`](super::BusStats::subscriptions) no longer counts it.
    ///
    /// [`Overflow::Disconnect`]: crate::Overflow::Disconnect
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

    /// Waits until the subscription has ended, and returns [how](Self::ending). The future works on
    /// any runtime. It does not wait for a call of a handler that is running: see
    /// [`HandlerGuard::cancel_and_wait`](super::HandlerGuard::cancel_and_wait).
    ///
    /// The future borrows nothing, and keeps neither the bus nor the subscription open. It may be
    /// dropped at any time, and then removes its waker. Many tasks may wait for the same
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
            registration: Registration::default(),
        }
    }

    /// Blocks the thread until the subscription has ended, and returns [how](Self::ending). Returns
    /// `None` if the subscription has not ended within `limit`. Inside a handler the call does not
    /// wait. It does not wait for a call of a handler that is running: see
    /// [`HandlerGuard::cancel_and_wait`](super::HandlerGuard::cancel_and_wait).
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

    /// Returns the statistics of the subscription, also after it has ended. See
    /// [`SubscriptionStats`] for an example.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let sub = bus.subscription("a").capacity(16).open()?;
    /// assert_eq!(sub.handle().stats().capacity, 16);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> SubscriptionStats {
        self.record.stats()
    }

    /// Returns the sampled latencies of the subscription: the time from the call that published an
    /// event to the call that received it. All numbers are zero on a bus without
    /// [`sample_latency`](super::BusBuilder::sample_latency), which has an example.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// assert_eq!(bus.subscribe("a")?.handle().latency().count, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "latency")]
    pub fn latency(&self) -> LatencyStats {
        let mut samples = None;
        if let Some(recorder) = &self.record.info.recorder {
            recorder.add_to(&mut samples);
        }
        LatencyStats::of(samples.as_deref())
    }

    /// Returns the lowest id that the subscription could receive: that of the first event that its
    /// shard dispatched after the subscription was opened. `None` if the shard has not run since
    /// then.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::builder().dispatch(fanout::Dispatch::Manual).build()?;
    /// bus.publish("a", 1)?;
    /// bus.drive();
    /// assert_eq!(bus.subscribe("a")?.handle().first_id(), Some(2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn first_id(&self) -> Option<u64> {
        self.record.feed.stats().first_id
    }

    /// Returns the highest id that the subscription could receive. `None` if the subscription has
    /// not ended, or its shard has not run since then; on a broken bus it may never run.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::builder().dispatch(fanout::Dispatch::Manual).build()?;
    /// let handle = bus.subscribe("a")?.handle(); // the subscriber is dropped here
    /// assert_eq!(handle.last_id(), Some(0)); // there was no event
    /// # Ok(())
    /// # }
    /// ```
    pub fn last_id(&self) -> Option<u64> {
        self.record.feed.stats().last_id
    }
}

/// The future of [`SubscriptionHandle::ended`].
struct Ended<T: Send + Sync + 'static> {
    handle: SubscriptionHandle<T>,
    registration: Registration,
}

impl<T: Send + Sync + 'static> Future for Ended<T> {
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ending> {
        let this = self.get_mut();
        if let Some(ending) = this.handle.ending() {
            return Poll::Ready(ending);
        }
        let end = this.handle.record.feed.end_state();
        end.register(&mut this.registration, context.waker());
        // This check comes after the waker was registered: an end that came before has not woken
        // it.
        match this.handle.ending() {
            Some(ending) => Poll::Ready(ending),
            None => Poll::Pending,
        }
    }
}

impl<T: Send + Sync + 'static> Drop for Ended<T> {
    fn drop(&mut self) {
        let end = self.handle.record.feed.end_state();
        end.forget(&mut self.registration);
    }
}

impl<T: Send + Sync + 'static> Clone for SubscriptionHandle<T> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            record: self.record.clone(),
            payloads: PhantomData,
        }
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for SubscriptionHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionHandle")
            .field("number", &self.number())
            .field("patterns", &self.patterns())
            .field("labels", &self.labels())
            .finish_non_exhaustive()
    }
}

/// A subscription is of exactly one type of payloads, not also of its supertypes.
///
/// ```compile_fail,E0308
/// use fanout::Subscriber;
/// fn coerce(sub: Subscriber<for<'a> fn(&'a str)>) -> Subscriber<fn(&'static str)> {
///     sub
/// }
/// ```
///
/// ```compile_fail,E0308
/// use fanout::SubscriptionBuilder;
/// type Any = for<'a> fn(&'a str);
/// fn coerce(builder: SubscriptionBuilder<Any>) -> SubscriptionBuilder<fn(&'static str)> {
///     builder
/// }
/// ```
#[cfg(doctest)]
struct Invariant;
