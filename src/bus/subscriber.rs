//! Receiving: one by one or slot by slot, on a thread that blocks or in a task.
//!
//! * **In**: the subscriber's end of its feed, [`FeedConsumer`], with slots of a block and a mask.
//! * **Out**: events, borrowed or owned, batches of events, gaps, and the end of the subscription.
//! * **Called by**: the program, on a thread or in a task; `stream.rs` for streams.
//! * **Next file**: none: this is the end of the path. (`batch.rs` has batches, `stream.rs` has
//!   streams; `handlers/task.rs` reads the feed of a handler.)
//!
//! Both kinds of waiting share one step, `check_or_register`: it checks the ring; if the ring is
//! empty, it registers a waker, requests the wake-up, and checks again. If the ring is still empty,
//! a thread sleeps, and a task returns `Pending`. [`park`](crate::park) explains why no wake-up is
//! missed.
//!
//! # Failure modes
//!
//! * **Events were lost**: the loss is reported once for the run, in its place, and the next
//!   receive returns the event after it.
//! * **The subscription ends** (closed, cancelled, broken): a waiting thread or task is woken, and
//!   every receive from then on reports the end.
//! * **A wait is given up** (a timeout, a dropped future): no event was taken out of the ring.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use super::Bus;
use super::batch::Batch;
use super::ending::Ending;
use super::error::{RecvError, RecvTimeoutError, TryRecvError};
use super::handle::SubscriptionHandle;
use super::stats::SubscriptionStats;
use super::wait::WaitStrategy;
use super::wake_timer::WakeTimer;
use crate::dispatch::Dispatch;
use crate::dispatch::block::{Event, SharedEvent};
use crate::dispatch::engine::earliest;
use crate::dispatch::feed::{End, FeedConsumer, Found, Limits};
use crate::dispatch::loss::{BlockTimeout, Gap};
use crate::park::{
    NonBlockingScope, Registration, clone_waker, drop_waker, forget_registered, park,
    register_task, register_thread, thread_waker, wake_to_poll_again,
};
use crate::sync::{AtomicWaker, Ordering};
use crate::time_limit::TimeLimit;

/// The number of receives in a row without a wait after which a task lets other tasks run; see
/// [`stream`](super::stream).
const BUDGET: u32 = 128;

/// Receives the events of one subscription, from the ring of this subscription.
///
/// Events are borrowed from the ring: receiving an event does not copy it, does not allocate, and
/// does not change a reference count. The block of the last event stays alive until the next
/// receive. [`next`](Self::next), [`iter`](Self::iter) and [`into_stream`](Self::into_stream)
/// return owned events instead.
///
/// Events arrive in the order of their ids, except under
/// [`Overflow::Conflate`](crate::Overflow::Conflate): there a topic keeps its place in the ring
/// when its event is replaced, so ids rise for each topic, but not over all topics.
///
/// Dropping the subscriber ends the subscription.
///
/// # Example: the loop to write
///
/// ```
/// use fanout::{Bus, RecvError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::new();
/// let mut sub = bus.subscribe("**")?;
/// bus.publish("a", 1)?;
/// drop(bus);
/// loop {
///     match sub.recv() {
///         Ok(event) => println!("{} {}", event.id(), event.topic()),
///         Err(RecvError::Lost(gap)) => eprintln!("{gap}"), // and continue
///         Err(ending) => {
///             println!("{ending}");
///             break;
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// [`for_each`](Self::for_each) does the same with two closures. It also passes the gap of
/// [`RecvError::Disconnected`] to the closure for gaps: under
/// [`Overflow::Disconnect`](crate::Overflow::Disconnect) the last loss is reported only in that
/// error. A loop that ends at any error ends silently at the first loss.
#[doc(alias("Receiver", "Consumer"))]
pub struct Subscriber<T: Send + Sync + 'static> {
    feed: FeedConsumer,
    handle: SubscriptionHandle<T>,
    wait: WaitStrategy,
    /// The setting, for `resubscribe`.
    block_timeout: BlockTimeout,
    /// Receives of a task since its last wait: 0 to [`BUDGET`].
    used_budget: u32,
    /// The subscription was disconnected, and the subscriber has removed it from the registry.
    unregistered: bool,
    /// The gap at which the subscription was disconnected was returned as an item.
    returned_last_gap: bool,
    /// Allocated when it is needed, since every idle subscription would pay for it.
    closing: Option<Box<ManualClose>>,
}

/// How a subscriber waits for a manual bus that is closing, which it drives.
#[derive(Default)]
struct ManualClose {
    /// The time of the next check if there is no wake-up before, as of the last check.
    recheck_at: Option<Instant>,
    /// Wakes the task at that time.
    timer: Option<WakeTimer>,
    /// Waits for the progress of the engine.
    progress: Registration,
}

impl<T: Send + Sync + 'static> Subscriber<T> {
    pub(super) fn new(
        feed: FeedConsumer,
        handle: SubscriptionHandle<T>,
        wait: WaitStrategy,
        block_timeout: BlockTimeout,
    ) -> Self {
        handle.core().engine.threads.fetch_add(1, Ordering::Relaxed);
        Self {
            feed,
            handle,
            wait,
            block_timeout,
            used_budget: 0,
            unregistered: false,
            returned_last_gap: false,
            closing: None,
        }
    }

    /// Blocks the thread until there is an event, and returns it. The [`WaitStrategy`] says how the
    /// thread waits: by default it spins briefly if every thread has a core, and then sleeps.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Lost` once for a run of lost events, after which receiving continues, and
    /// `WouldDeadlock` in code that the dispatcher calls, which is not final either. Every other
    /// error is final: all later calls return it again.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// bus.publish("a", 7)?;
    /// let event = sub.recv()?;
    /// assert_eq!((event.id(), *event.data()), (1, 7));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "blocking_recv")]
    #[inline]
    pub fn recv(&mut self) -> Result<&Event<T>, RecvError> {
        let found = self.wait_for_next(None);
        self.event(found)
    }

    /// Returns the next event if there is one. The call never waits: it finishes even if all other
    /// threads are suspended.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`]: `Empty`, or as for [`recv`](Self::recv).
    ///
    /// ```
    /// use fanout::{Bus, TryRecvError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// assert_eq!(sub.try_recv().unwrap_err(), TryRecvError::Empty);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn try_recv(&mut self) -> Result<&Event<T>, TryRecvError> {
        match self.check() {
            Found::Empty => Err(TryRecvError::Empty),
            found => Ok(self.event(found)?),
        }
    }

    /// Like [`recv`](Self::recv), but waits no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`]: `Timeout`, or as for [`recv`](Self::recv).
    ///
    /// ```
    /// use fanout::{Bus, RecvTimeoutError};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// let late = sub.recv_timeout(Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(late, RecvTimeoutError::Timeout);
    /// # Ok(())
    /// # }
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<&Event<T>, RecvTimeoutError> {
        match self.wait_within(timeout) {
            Found::Empty => Err(no_event_in_time()),
            found => Ok(self.event(found)?),
        }
    }

    /// Like [`recv`](Self::recv), for async code: the task is suspended while it waits. The future
    /// works on any runtime.
    ///
    /// The future is cancel-safe: if it is dropped before it is ready, no event was received, and
    /// the next receive returns the event. So it can be used in a loop with `select!` or with a
    /// timeout. After 128 receives without a wait, the future lets other tasks run: it wakes its
    /// own task and returns `Pending` once.
    ///
    /// # Errors
    ///
    /// The errors are those of [`recv`](Self::recv).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanout::{Bus, RecvError};
    ///
    /// async fn sum(bus: &Bus<u32>) -> Result<u32, fanout::SubscribeError> {
    ///     let mut sub = bus.subscribe("a")?;
    ///     bus.publish("a", 2).expect("the bus is open");
    ///     bus.publish("a", 3).expect("the bus is open");
    ///     bus.close();
    ///     let mut sum = 0;
    ///     loop {
    ///         match sub.recv_async().await {
    ///             Ok(event) => sum += event.data(),
    ///             Err(RecvError::Lost(gap)) => eprintln!("{gap}"), // and continue
    ///             Err(_) => return Ok(sum), // the end
    ///         }
    ///     }
    /// }
    ///
    /// assert_eq!(smol::block_on(sum(&Bus::new()))?, 5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn recv_async(
        &mut self,
    ) -> impl Future<Output = Result<&Event<T>, RecvError>> + Send + Unpin {
        RecvFuture::new(self, Self::event)
    }

    /// Blocks the thread until there is an event, and returns it as an owned event. Returns
    /// `Some(Err(gap))` once for a run of lost events, and `None` when the subscription has ended
    /// and all events were received.
    ///
    /// The event does not borrow the subscriber, so the program can keep it, send it to another
    /// thread, or hold it while it receives the next one. It increments the reference count of its
    /// block, which [`recv`](Self::recv) and [`next_batch`](Self::next_batch) do not. If the
    /// subscription was disconnected, the gap that ended it is the last item.
    /// [`SubscriptionHandle::ending`] returns how the subscription ended.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// bus.publish("a", 2)?;
    /// bus.publish("a", 3)?;
    /// drop(bus);
    /// let mut kept = Vec::new();
    /// while let Some(item) = sub.next() {
    ///     match item {
    ///         Ok(event) => kept.push(event),
    ///         Err(gap) => eprintln!("{gap}"), // and continue
    ///     }
    /// }
    /// assert_eq!(kept.iter().map(|event| *event.data()).sum::<u32>(), 5);
    /// # Ok(())
    /// # }
    /// ```
    #[expect(
        clippy::should_implement_trait,
        reason = "`iter` is the iterator: a subscriber has a `for_each` of its own"
    )]
    #[doc(alias = "recv_owned")]
    pub fn next(&mut self) -> Option<Result<SharedEvent<T>, Gap>> {
        let found = self.wait_for_next(None);
        self.item(found)
    }

    /// Like [`next`](Self::next), for async code: the task is suspended while it waits. The future
    /// is cancel-safe like that of [`recv_async`](Self::recv_async). Use it in a `select!` over two
    /// subscribers, because the events borrow neither of them.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let (mut first, mut second) = (bus.subscribe("a")?, bus.subscribe("b")?);
    /// bus.publish("b", 7)?;
    /// let item = smol::block_on(smol::future::or(first.next_async(), second.next_async()));
    /// assert_eq!(*item.expect("open").expect("nothing is lost").data(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn next_async(
        &mut self,
    ) -> impl Future<Output = Option<Result<SharedEvent<T>, Gap>>> + Send + Unpin {
        RecvFuture::new(self, Self::item)
    }

    /// Blocks the thread until there is an event, and returns all events of the same slot of the
    /// ring: up to 64 events for one access to the ring. This is the fastest way to receive.
    ///
    /// # Errors
    ///
    /// The errors are those of [`recv`](Self::recv).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::builder().dispatch(fanout::Dispatch::Manual).build()?;
    /// let mut sub = bus.subscribe("a")?;
    /// for n in 0..10 {
    ///     bus.publish("a", n)?;
    /// }
    /// bus.drive();
    /// let batch = sub.next_batch()?;
    /// assert_eq!(batch.iter().map(|event| *event.data()).sum::<u32>(), 45);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "recv_many")]
    pub fn next_batch(&mut self) -> Result<Batch<T>, RecvError> {
        let found = self.wait_for_next(None);
        self.batch(found)
    }

    /// Returns the next batch if there is an event. The call never waits: it finishes even if all
    /// other threads are suspended.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`]: `Empty`, or as for [`recv`](Self::recv).
    ///
    /// ```
    /// use fanout::{Bus, TryRecvError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// assert_eq!(sub.try_next_batch().unwrap_err(), TryRecvError::Empty);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_next_batch(&mut self) -> Result<Batch<T>, TryRecvError> {
        match self.check() {
            Found::Empty => Err(TryRecvError::Empty),
            found => Ok(self.batch(found)?),
        }
    }

    /// Like [`next_batch`](Self::next_batch), but waits no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`]: `Timeout`, or as for [`recv`](Self::recv).
    ///
    /// ```
    /// use fanout::{Bus, RecvTimeoutError};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// let late = sub.next_batch_timeout(Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(late, RecvTimeoutError::Timeout);
    /// # Ok(())
    /// # }
    /// ```
    pub fn next_batch_timeout(&mut self, timeout: Duration) -> Result<Batch<T>, RecvTimeoutError> {
        match self.wait_within(timeout) {
            Found::Empty => Err(no_event_in_time()),
            found => Ok(self.batch(found)?),
        }
    }

    /// Like [`next_batch`](Self::next_batch), for async code: the task is suspended while it waits.
    /// The future is cancel-safe like that of [`recv_async`](Self::recv_async). This is the fastest
    /// way to receive in a task.
    ///
    /// # Errors
    ///
    /// The errors are those of [`recv`](Self::recv).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// bus.publish("a", 7)?;
    /// let batch = smol::block_on(sub.next_batch_async())?;
    /// assert_eq!(batch.iter().map(|event| *event.data()).sum::<u32>(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn next_batch_async(
        &mut self,
    ) -> impl Future<Output = Result<Batch<T>, RecvError>> + Send + Unpin {
        RecvFuture::new(self, Self::batch)
    }

    /// Receives until the subscription ends. Calls `on_event` with every event, and `on_gap` with
    /// every loss, in its place. Returns how the subscription ended.
    ///
    /// Under [`Overflow::Disconnect`](crate::Overflow::Disconnect), the gap that ended the
    /// subscription is passed to `on_gap` and is also in the returned [`Ending::Disconnected`]. It
    /// is the same loss: a program that sums up gaps must not count it twice.
    ///
    /// ```
    /// use fanout::{Bus, Ending};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// bus.publish("a", 2)?;
    /// bus.publish("a", 3)?;
    /// drop(bus);
    /// let mut sum = 0;
    /// let ending = sub.for_each(|event| sum += event.data(), |gap| eprintln!("{gap}"));
    /// assert_eq!((sum, ending), (5, Ending::Closed));
    /// # Ok(())
    /// # }
    /// ```
    pub fn for_each(
        &mut self,
        mut on_event: impl FnMut(&Event<T>),
        mut on_gap: impl FnMut(Gap),
    ) -> Ending {
        loop {
            match self.recv() {
                Ok(event) => on_event(event),
                Err(error) => match ending(error) {
                    Err(gap) => on_gap(gap),
                    Ok(ending) => {
                        if let Ending::Disconnected(gap) = ending
                            && let Some(gap) = self.last_gap(gap)
                        {
                            on_gap(gap);
                        }
                        return ending;
                    }
                },
            }
        }
    }

    /// Returns a blocking iterator over owned events and gaps, which ends with the subscription. It
    /// calls [`next`](Self::next), with the same cost.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// bus.publish("a", 7)?;
    /// drop(bus);
    /// let events: Vec<_> = sub.iter().collect::<Result<_, _>>().map_err(|gap| gap.to_string())?;
    /// assert_eq!(*events[0].data(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter { subscriber: self }
    }

    /// Returns a handle to this subscription, which any thread can use to read its statistics, to
    /// change its patterns, to cancel it, or to wait for its end. See [`SubscriptionHandle`] for an
    /// example.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let sub = bus.subscribe("a")?;
    /// assert!(sub.handle().add("b")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn handle(&self) -> SubscriptionHandle<T> {
        self.handle.clone()
    }

    /// Returns the statistics of the subscription. See [`SubscriptionStats`] for an example.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// assert_eq!(bus.subscribe("a")?.stats().received, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> SubscriptionStats {
        self.handle.stats()
    }

    /// Returns the number of events that the subscriber can receive without waiting, 0 to the
    /// capacity plus 63. Losses do not count, and neither do events that wait in front of a full
    /// ring under [`Overflow::Block`](crate::Overflow::Block). The number may grow at any time. It
    /// shrinks when events are received or, under the policies that evict, when events are lost.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::builder().dispatch(fanout::Dispatch::Manual).build()?;
    /// let mut sub = bus.subscribe("a")?;
    /// (1..=3).try_for_each(|n| bus.publish("a", n))?;
    /// bus.drive();
    /// assert_eq!(sub.len(), 3);
    /// sub.recv()?;
    /// assert_eq!(sub.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn len(&self) -> usize {
        let shared = self.feed.shared();
        if shared.end() == End::Cancelled {
            return 0; // what waits is dropped
        }
        shared.stats().gauges.depth as usize + self.feed.mask().count_ones() as usize
    }

    /// Returns whether there is no event that the subscriber can receive without waiting. Even then
    /// the next receive may return a loss or the end without waiting.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// assert!(bus.subscribe("a")?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the capacity of the ring, in events: see
    /// [`SubscriptionBuilder::capacity`](super::SubscriptionBuilder::capacity).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// assert_eq!(bus.subscription("a").capacity(7).open()?.capacity(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn capacity(&self) -> usize {
        self.limits().capacity
    }

    /// Returns the bus that this subscriber subscribes to. Returns `None` if the last [`Bus`] and
    /// [`Publisher`](super::Publisher) were dropped, because a subscriber does not keep the bus
    /// open.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut questions = bus.subscribe("questions")?;
    /// let mut answers = bus.subscribe("answers")?;
    /// bus.publish("questions", 6)?;
    /// let question = *questions.recv()?.data();
    /// questions.bus().ok_or("closed")?.publish("answers", 7 * question)?;
    /// assert_eq!(*answers.recv()?.data(), 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn bus(&self) -> Option<Bus<T>> {
        Bus::of(self.handle.core())
    }

    /// Returns whether this subscriber subscribes to the given bus.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (bus, other) = (fanout::Bus::<u32>::new(), fanout::Bus::<u32>::new());
    /// let sub = bus.subscribe("a")?;
    /// assert!(sub.same_bus(&bus) && !sub.same_bus(&other));
    /// # Ok(())
    /// # }
    /// ```
    pub fn same_bus(&self, bus: &Bus<T>) -> bool {
        self.handle.same_bus(bus)
    }

    /// Returns the sampled latencies of the subscription; see [`SubscriptionHandle::latency`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::builder().sample_latency(1).build()?;
    /// let mut sub = bus.subscribe("a")?;
    /// bus.publish("a", 1)?;
    /// sub.recv()?;
    /// assert_eq!(sub.latency().count, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "latency")]
    pub fn latency(&self) -> crate::dispatch::latency::LatencyStats {
        self.handle.latency()
    }

    pub(super) fn handle_ref(&self) -> &SubscriptionHandle<T> {
        &self.handle
    }

    pub(super) fn limits(&self) -> Limits {
        self.feed.shared().limits()
    }

    pub(super) fn block_timeout(&self) -> BlockTimeout {
        self.block_timeout
    }

    pub(super) fn wait_strategy(&self) -> WaitStrategy {
        self.wait
    }

    /// Converts the result of a check, which is not `Empty`, to the event, or to the reason why
    /// there is none.
    #[inline]
    pub(super) fn event(&mut self, found: Found) -> Result<&Event<T>, RecvError> {
        match found {
            Found::Event => Ok(self.feed.take()),
            other => Err(self.recv_error(other)),
        }
    }

    /// Like [`event`](Self::event), with all events of the slot.
    #[inline]
    pub(super) fn batch(&mut self, found: Found) -> Result<Batch<T>, RecvError> {
        match found {
            Found::Event => {
                let (block, mask) = self.feed.take_slot();
                Ok(Batch::new(block, mask))
            }
            other => Err(self.recv_error(other)),
        }
    }

    /// Like [`event`](Self::event), with an owned event. The gap of a disconnect is returned once.
    fn item(&mut self, found: Found) -> Option<Result<SharedEvent<T>, Gap>> {
        match self.event(found) {
            Ok(event) => Some(Ok(event.share())),
            Err(RecvError::Lost(gap)) => Some(Err(gap)),
            Err(RecvError::Disconnected(gap)) => self.last_gap(gap).map(Err),
            Err(_) => None,
        }
    }

    #[cold]
    fn recv_error(&self, found: Found) -> RecvError {
        match found {
            Found::Gap => RecvError::Lost(self.feed.gap()),
            Found::Disconnected => RecvError::Disconnected(self.feed.gap()),
            Found::Closed => RecvError::Closed,
            Found::Ended(End::Broken) => RecvError::Broken,
            Found::Ended(_) => RecvError::Cancelled,
            // A wait without a time limit finds something, except where it must not wait.
            Found::Empty => RecvError::WouldDeadlock,
            Found::Event => unreachable!("not an error"),
        }
    }

    /// The gap at which the subscription was disconnected, as an item: once, also if several loops
    /// and streams read one after the other.
    pub(super) fn last_gap(&mut self, gap: Gap) -> Option<Gap> {
        let returned = std::mem::replace(&mut self.returned_last_gap, true);
        (!returned).then_some(gap)
    }

    /// Checks the ring for a task. If the ring is empty, the task is woken when that changes.
    #[inline]
    pub(super) fn poll_found(&mut self, context: &mut Context<'_>) -> Poll<Found> {
        if self.used_budget < BUDGET {
            let found = self.check();
            if found != Found::Empty {
                self.used_budget += 1;
                return Poll::Ready(found);
            }
        }
        self.poll_wait(context)
    }

    /// There is no event, or the task has to let others run.
    #[cold]
    fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<Found> {
        let waker = context.waker();
        if self.used_budget == BUDGET {
            self.used_budget = 0;
            wake_to_poll_again(waker);
            return Poll::Pending;
        }
        match self.check_or_register(|place| register_task(place, waker), || clone_waker(waker)) {
            Found::Empty => {
                self.used_budget = 0;
                if let Some(at) = self.recheck_at() {
                    let closing = self.closing.get_or_insert_default();
                    WakeTimer::set(&mut closing.timer, at, waker);
                }
                Poll::Pending
            }
            found => {
                self.used_budget += 1;
                debug_assert!(self.used_budget <= BUDGET);
                Poll::Ready(found)
            }
        }
    }

    /// Removes the waker of a task that no longer waits.
    pub(super) fn forget_waker(&mut self) {
        forget_registered(self.feed.waker());
        let engine = &self.handle.core().engine;
        if let Some(closing) = &mut self.closing {
            engine.forget_progress(&mut closing.progress);
        }
    }

    /// Waits until a check finds something. Returns `Empty` at the deadline, and on a thread that
    /// is dispatching, which would wait for itself.
    #[inline]
    fn wait_for_next(&mut self, deadline: Option<Instant>) -> Found {
        match self.check() {
            Found::Empty => self.wait(deadline),
            found => found,
        }
    }

    /// Waits like `wait_for_next`, for a call with a time limit.
    fn wait_within(&mut self, timeout: Duration) -> Found {
        let limit = TimeLimit::enter(timeout);
        self.wait_for_next(limit.deadline())
    }

    /// First spins or yields, for as long as the strategy says, and then sleeps.
    #[cold]
    fn wait(&mut self, deadline: Option<Instant>) -> Found {
        if NonBlockingScope::is_dispatching() {
            return Found::Empty;
        }
        let threads = self.handle.core().engine.threads.load(Ordering::Relaxed);
        let mut backoff = self.wait.backoff(threads);
        while backoff.snooze() {
            match self.check() {
                Found::Empty if backoff.is_past(deadline) => return Found::Empty,
                Found::Empty => {}
                found => return found,
            }
        }
        loop {
            match self.check_or_register(register_thread, thread_waker) {
                Found::Empty => {}
                found => return found,
            }
            let until = earliest(deadline, self.recheck_at());
            if !park(until) && until == deadline {
                return self.check();
            }
        }
    }

    /// Checks the ring. If the ring is empty, calls `register` with the place for the waker that is
    /// woken when that changes, and returns `Empty`. `waker` returns a second waker for the engine.
    #[inline]
    fn check_or_register(
        &mut self,
        register: impl Fn(&AtomicWaker),
        waker: impl Fn() -> Waker,
    ) -> Found {
        loop {
            match self.check() {
                Found::Empty => {}
                found => return found,
            }
            register(self.feed.waker());
            // This check comes after the waker was registered: a thread that begins the close later
            // wakes it.
            if self.is_closing_manually() {
                let engine = &self.handle.core().engine;
                let closing = self.closing.get_or_insert_default();
                let waker = waker();
                engine.register_for_progress(&mut closing.progress, &waker);
                drop_waker(Some(waker));
                match self.check() {
                    Found::Empty => {}
                    found => return found,
                }
            }
            if self.feed.request_wake() {
                return Found::Empty;
            }
        }
    }

    #[inline(always)]
    fn check(&mut self) -> Found {
        match self.feed.check() {
            Found::Event => Found::Event,
            found => self.check_without_event(found),
        }
    }

    #[cold]
    fn check_without_event(&mut self, found: Found) -> Found {
        let found = match found {
            Found::Empty => self.drive_if_closing(),
            found => found,
        };
        match found {
            Found::Disconnected => self.disconnected(),
            found => found,
        }
    }

    /// A shard disconnects a subscription without a lock, so the subscriber removes it from the
    /// registry and the index.
    #[cold]
    fn disconnected(&mut self) -> Found {
        if !std::mem::replace(&mut self.unregistered, true) {
            self.handle.unregister();
        }
        Found::Disconnected
    }

    fn recheck_at(&self) -> Option<Instant> {
        self.closing.as_ref()?.recheck_at
    }

    /// The ring is empty: on a manual bus that is closing, the subscriber dispatches.
    #[cold]
    fn drive_if_closing(&mut self) -> Found {
        if self.is_closing_manually() {
            let recheck_at = self.handle.core().drive_and_next_deadline();
            self.closing.get_or_insert_default().recheck_at = recheck_at;
            return self.feed.check();
        }
        Found::Empty
    }

    /// If a manual bus is closing, there may be no other thread left that drives it.
    #[inline]
    fn is_closing_manually(&self) -> bool {
        let engine = &self.handle.core().engine;
        engine.dispatch() == Dispatch::Manual && engine.is_closing()
    }
}

impl<T: Send + Sync + 'static> Drop for Subscriber<T> {
    fn drop(&mut self) {
        let engine = &self.handle.core().engine;
        let threads = engine.threads.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(
            threads > 0,
            "each subscriber was counted when it was created"
        );
        // The cancel below must not wake the registered task: it is the task that drops the
        // subscriber.
        self.forget_waker();
        self.handle.cancel();
    }
}

impl<T: Send + Sync + 'static> std::fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriber")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

#[cold]
fn no_event_in_time() -> RecvTimeoutError {
    if NonBlockingScope::is_dispatching() {
        RecvTimeoutError::WouldDeadlock
    } else {
        RecvTimeoutError::Timeout
    }
}

/// Converts an error of receiving to the ending, or to the gap if it is a loss.
///
/// # Panics
///
/// If the error is neither.
pub(super) fn ending(error: RecvError) -> Result<Ending, Gap> {
    match error {
        RecvError::Lost(gap) => Err(gap),
        RecvError::Disconnected(gap) => Ok(Ending::Disconnected(gap)),
        RecvError::Closed => Ok(Ending::Closed),
        RecvError::Cancelled => Ok(Ending::Cancelled),
        RecvError::Broken => Ok(Ending::Broken),
        RecvError::WouldDeadlock => panic!("{error}"),
    }
}

/// The future of the receive methods: it waits until a check finds something, and then calls
/// `take`.
struct RecvFuture<'a, T: Send + Sync + 'static, F> {
    /// `None` once the future has been ready.
    subscriber: Option<&'a mut Subscriber<T>>,
    take: F,
}

impl<'a, T: Send + Sync + 'static, F> RecvFuture<'a, T, F> {
    fn new(subscriber: &'a mut Subscriber<T>, take: F) -> Self {
        Self {
            subscriber: Some(subscriber),
            take,
        }
    }
}

impl<'a, T, R, F> Future for RecvFuture<'a, T, F>
where
    T: Send + Sync + 'static,
    F: Fn(&'a mut Subscriber<T>, Found) -> R + Unpin,
{
    type Output = R;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<R> {
        let this = self.get_mut();
        let waiting = this
            .subscriber
            .as_mut()
            .expect("not polled after it was ready");
        let found = ready!(waiting.poll_found(context));
        let subscriber = this.subscriber.take().expect("checked above");
        Poll::Ready((this.take)(subscriber, found))
    }
}

impl<T: Send + Sync + 'static, F> Drop for RecvFuture<'_, T, F> {
    fn drop(&mut self) {
        if let Some(waiting) = &mut self.subscriber {
            waiting.forget_waker();
        }
    }
}

/// A blocking iterator over the events and gaps of a [`Subscriber`]; see [`Subscriber::iter`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::new();
/// let mut sub = bus.subscribe("a")?;
/// bus.publish("a", 7)?;
/// bus.publish("a", 8)?;
/// let mut first: fanout::Iter<'_, u32> = sub.iter();
/// assert!(matches!(first.next(), Some(Ok(event)) if *event.data() == 7));
/// # Ok(())
/// # }
/// ```
pub struct Iter<'a, T: Send + Sync + 'static> {
    subscriber: &'a mut Subscriber<T>,
}

impl<T: Send + Sync + 'static> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter")
            .field("subscriber", &self.subscriber)
            .finish()
    }
}

impl<T: Send + Sync + 'static> Iterator for Iter<'_, T> {
    type Item = Result<SharedEvent<T>, Gap>;

    fn next(&mut self) -> Option<Self::Item> {
        self.subscriber.next()
    }
}

/// Once the iterator has returned `None`, it always returns `None`.
impl<T: Send + Sync + 'static> std::iter::FusedIterator for Iter<'_, T> {}

/// `for item in &mut subscriber` is the loop over [`iter`](Subscriber::iter).
impl<'a, T: Send + Sync + 'static> IntoIterator for &'a mut Subscriber<T> {
    type Item = Result<SharedEvent<T>, Gap>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
