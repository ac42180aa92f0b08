//! The handle to a subscription, and waiting for its end.

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
use super::stats::SubscriptionStats;
use super::{Bus, Core};
use crate::dispatch::feed::End;
#[cfg(feature = "latency")]
use crate::dispatch::latency::LatencyStats;
use crate::handlers::pool::{DisabledWhile, HandlerControl, wait_for_running_call};
use crate::park::{NonBlockingScope, deadline_after, park, thread_waker};
use crate::pattern::Pattern;
use crate::sync::Arc;

/// A handle to a subscription: shows its numbers, changes its patterns, cancels it, waits for its
/// end. From any thread.
///
/// Clones are handles to the same subscription. Dropping a handle does nothing, and a handle keeps
/// neither the subscription nor the bus open.
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
    payloads: PhantomData<fn() -> T>,
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

    /// The patterns, also of a subscription that has ended.
    pub(super) fn last_patterns(&self) -> Vec<Pattern> {
        self.record.patterns.lock().parse()
    }

    /// Its number, from 1, in the order of opening. A bus never uses a number twice.
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

    /// Its patterns, in the order in which they were added.
    ///
    /// None once it was cancelled or disconnected, or the bus has broken. Those of a closed bus
    /// are still there, since what was accepted before the close is still delivered.
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

    /// Its labels, in the order in which they were given; also after it has ended. See
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

    /// Whether it is a subscription of that bus.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (bus, other) = (fanout::Bus::<u32>::new(), fanout::Bus::<u32>::new());
    /// let handle = bus.subscribe("a")?.handle();
    /// assert!(handle.same_bus(&bus) && !handle.same_bus(&other));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "same_channel")]
    pub fn same_bus(&self, bus: &Bus<T>) -> bool {
        bus.is_of(&self.core)
    }

    /// Adds patterns, all at once. What is published on them after this returned is delivered.
    /// `Ok(false)`: the subscription had all of them already, so nothing was changed.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]: a pattern was refused, or the subscription [has ended](Self::ending). Then
    /// nothing was changed.
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
    #[doc(alias = "subscribe")]
    pub fn add(&self, patterns: impl IntoPatterns) -> Result<bool, ChangeError> {
        let patterns = parse_patterns(patterns)?;
        let registry = self.core.registry.lock();
        let added = registry.add(&self.core.engine, &self.record, &patterns);
        drop(registry);
        self.unregister_if_disconnected();
        added
    }

    /// Removes patterns, all at once, in whatever way they are written. Events that are published
    /// after this returned are no longer delivered for their sake. `Ok(false)`: the subscription
    /// had none of them, so nothing was changed. The last pattern may be removed, too: the
    /// subscription stays open, and gets nothing until another pattern is added.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]: a pattern was refused, or the subscription [has ended](Self::ending). Then
    /// nothing was changed.
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
    #[doc(alias = "unsubscribe")]
    pub fn remove(&self, patterns: impl IntoPatterns) -> Result<bool, ChangeError> {
        let patterns = parse_patterns(patterns)?;
        let registry = self.core.registry.lock();
        let removed = registry.remove(&self.core.engine, &self.record, &patterns);
        drop(registry);
        self.unregister_if_disconnected();
        removed
    }

    /// Cancels the subscription: once this has returned, its subscriber receives no event any more,
    /// only `Cancelled`. What it has not read is dropped when it looks again, or is dropped itself.
    /// For a subscription with a handler, see
    /// [`HandlerGuard::cancel`](super::HandlerGuard::cancel).
    ///
    /// Returns whether this call ended it. `false`: it had ended before, and keeps that ending; a
    /// subscriber that was disconnected still reads what waits, and then learns of it. On a closed
    /// bus, a subscription whose subscriber has not read everything can still be cancelled: see
    /// [`ending`](Self::ending).
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
    #[doc(alias = "close")]
    pub fn cancel(&self) -> bool {
        let (ended_it, disabled_while) = self.cancel_at_once();
        if let Some(handler) = self.record.handler.as_deref()
            && disabled_while == Some(DisabledWhile::Running)
        {
            wait_for_running_call(handler);
        }
        ended_it
    }

    /// [`cancel`](Self::cancel) without waiting for a turn of the handler that is in progress, and
    /// may be about to begin a call: the caller waits for it. Also returns what the handler, if
    /// there is one, was found doing.
    pub(crate) fn cancel_at_once(&self) -> (bool, Option<DisabledWhile>) {
        let disabled_while = self.record.handler.as_deref().map(HandlerControl::disable);
        // Not under the lock: it wakes the reader, and a waker is user code.
        let ended_it = self.record.feed.finish(End::Cancelled);
        // A reader that was woken may have dropped its subscriber, and unregistered it, by now.
        self.unregister();
        (ended_it, disabled_while)
    }

    /// A shard disconnects without a lock, so the registry and the index have not heard of it. Now
    /// they do.
    fn unregister_if_disconnected(&self) {
        if self.record.feed.end() == End::Disconnected {
            self.unregister();
        }
    }

    /// Removes it from the registry and the index, unless that was done before. It has ended.
    pub(super) fn unregister(&self) {
        self.core.unregister(&self.record);
    }

    /// Waits until no call of its handler is running, if it has one; inside that handler it does
    /// not wait. `false`: not in time.
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
    /// [`Bus::close`](super::Bus::close) is called, or the last [`Bus`] and
    /// [`Publisher`](super::Publisher) are dropped; and until the subscriber was told of it,
    /// something else may come first: the subscription is cancelled, its ring overflows with what
    /// was accepted before the close, or the bus breaks.
    ///
    /// Once the subscription has ended, [`add`](Self::add) and [`remove`](Self::remove) answer
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

    /// Its numbers, also after it has ended. See [`SubscriptionStats`] for an example.
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

    /// How long its sampled events took from the call that published them to the call that received
    /// them. All zero on a bus without [`sample_latency`](super::BusBuilder::sample_latency), where
    /// the example is.
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

    /// Id of the first event that it could see: the first that was dispatched after its patterns
    /// were known. `None`: its shard has not run since it was opened.
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

    /// Id of the last event that it could see. `None`: it has not ended, or its shard has not run
    /// since.
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
