//! Receiving: one by one or by the slot, on a thread that waits or as a task.
//!
//! Whoever waits goes through one step, `check_or_register`: look; if there is nothing, register
//! who is to be woken, ask for it, and look again. A thread then sleeps, a task goes; see
//! [`park`](crate::park) for why no wake is missed.
//!
//! # The bad days
//!
//! * **Events were lost**: told once for the run, in its place, and receiving goes on.
//! * **The end** (closed, cancelled, broken): wakes whoever waits, and is told for ever.
//! * **A wait is given up** (a time limit, a dropped future): nothing was taken out of the ring.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::ending::Ending;
use super::error::{RecvError, RecvTimeoutError, TryRecvError};
use super::stats::SubscriptionStats;
use super::stream::{BatchStream, EventStream, RecvFuture};
use super::subscription::SubscriptionHandle;
use super::wait::WaitStrategy;
use super::wake_timer::WakeTimer;
use crate::dispatch::Dispatch;
use crate::dispatch::block::{Event, SharedEvent};
use crate::dispatch::engine::earliest;
use crate::dispatch::feed::{End, FeedConsumer, Found};
use crate::dispatch::loss::Gap;
use crate::park::{deadline_after, forget_registered, park, register_thread, thread_waker};
use crate::sync::{AtomicWaker, Ordering};

/// Receives of a task in a row without a wait, before it lets others have a turn; see
/// [`stream`](super::stream).
const BUDGET: u32 = 128;

/// Receives the events of one subscription, in id order, from a ring of its own.
///
/// Events are lent from the ring: to receive one copies nothing, allocates nothing and counts
/// nothing that is shared. The block of the last event is held until the next receive.
///
/// Dropping it ends the subscription.
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
///         Err(RecvError::Lost(gap)) => eprintln!("{gap}"), // and go on
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
/// or [`for_each`](Self::for_each), which is this loop. A loop that ends at just any error ends
/// silently at the first loss.
pub struct Subscriber<T: Send + Sync + 'static> {
    feed: FeedConsumer<T>,
    handle: SubscriptionHandle<T>,
    wait: WaitStrategy,
    /// Receives as a task since it last had to wait: 0 to [`BUDGET`].
    used_budget: u32,
    /// It was disconnected, has heard of it, and is no longer in the registry.
    unregistered: bool,
    /// On a manual bus that is closing: when it has to look again even if nobody wakes it. As of
    /// its last look.
    recheck_at: Option<Instant>,
    /// What wakes its task then.
    timer: Option<WakeTimer>,
}

impl<T: Send + Sync + 'static> Subscriber<T> {
    pub(super) fn new(
        feed: FeedConsumer<T>,
        handle: SubscriptionHandle<T>,
        wait: WaitStrategy,
    ) -> Self {
        handle.core().engine.threads.fetch_add(1, Ordering::Relaxed);
        Self {
            feed,
            handle,
            wait,
            used_budget: 0,
            unregistered: false,
            recheck_at: None,
            timer: None,
        }
    }

    /// Waits for the next event, as its [`WaitStrategy`] says: unless told otherwise it spins
    /// briefly, if every thread has a core, and then sleeps.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Lost` once for a run of lost events, and receiving goes on; the others for ever.
    #[inline]
    pub fn recv(&mut self) -> Result<&Event<T>, RecvError> {
        let found = self.next(None);
        self.event(found)
    }

    /// The next event, if there is one. Finishes whatever other threads do.
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

    /// Like [`recv`](Self::recv), and waits for so long at most.
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
        match self.next(deadline_after(timeout)) {
            Found::Empty => Err(RecvTimeoutError::Timeout),
            found => Ok(self.event(found)?),
        }
    }

    /// Like [`recv`](Self::recv), and waits as a task, on any runtime.
    ///
    /// Dropped before it is ready, it has received nothing and leaves nothing behind: the event
    /// that it would have given is the next one. So it can stand in a `select!`, or under a time
    /// limit, in a loop. After 128 receives without a wait it lets other tasks have a turn:
    /// `Pending` once, with its own task woken.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
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
    ///             Err(RecvError::Lost(gap)) => eprintln!("{gap}"), // and go on
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

    /// Waits for the next event, and takes with it all that came in the same slot of the ring: up
    /// to 64 events for one look. The fast way.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
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
    pub fn next_batch(&mut self) -> Result<Batch<T>, RecvError> {
        let found = self.next(None);
        self.batch(found)
    }

    /// Like [`next_batch`](Self::next_batch), if something is there. Finishes whatever other
    /// threads do.
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

    /// Like [`next_batch`](Self::next_batch), and waits for so long at most.
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
        match self.next(deadline_after(timeout)) {
            Found::Empty => Err(RecvTimeoutError::Timeout),
            found => Ok(self.batch(found)?),
        }
    }

    /// Like [`next_batch`](Self::next_batch), and waits as a task, on any runtime; may be dropped
    /// like [`recv_async`](Self::recv_async). The fast way for tasks.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
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

    /// Receives until the subscription ends: every event to `on_event`, every loss, in its place,
    /// to `on_gap`.
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
                        if let Ending::Disconnected(gap) = ending {
                            on_gap(gap);
                        }
                        return ending;
                    }
                },
            }
        }
    }

    /// A blocking iterator over owned events and gaps, which ends when the subscription does. Each
    /// event costs a change of its block's reference count; [`for_each`](Self::for_each) and
    /// [`next_batch`](Self::next_batch) don't.
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
        Iter {
            subscriber: self,
            over: false,
        }
    }

    /// A stream of owned events and gaps, which ends when the subscription does. Each event costs a
    /// change of its block's reference count; [`into_batch_stream`](Self::into_batch_stream) and
    /// [`recv_async`](Self::recv_async) don't.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanout::{Bus, Ending};
    /// use smol::stream::StreamExt;
    ///
    /// let bus = Bus::<u32>::new();
    /// let mut stream = bus.subscribe("a")?.into_stream();
    /// bus.publish("a", 7)?;
    /// drop(bus);
    /// smol::block_on(async {
    ///     while let Some(item) = stream.next().await {
    ///         match item {
    ///             Ok(event) => assert_eq!(*event.data(), 7),
    ///             Err(gap) => eprintln!("{gap}"), // and go on
    ///         }
    ///     }
    /// });
    /// assert_eq!(stream.ending(), Some(Ending::Closed));
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_stream(self) -> EventStream<T> {
        EventStream::new(self)
    }

    /// A stream of [`Batch`]es and gaps, which ends when the subscription does: up to 64 events for
    /// one poll.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use smol::stream::StreamExt;
    ///
    /// let bus = fanout::Bus::<u32>::new();
    /// let stream = bus.subscribe("a")?.into_batch_stream();
    /// (1..=100).try_for_each(|n| bus.publish("a", n))?;
    /// drop(bus);
    /// let counts = stream.map(|item| match item {
    ///     Ok(batch) => batch.len() as u64,
    ///     Err(gap) => gap.count(),
    /// });
    /// assert_eq!(smol::block_on(counts.fold(0, |sum, count| sum + count)), 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_batch_stream(self) -> BatchStream<T> {
        BatchStream::new(self)
    }

    /// A handle to this subscription: cancel it, look at it, change its patterns, from anywhere.
    pub fn handle(&self) -> SubscriptionHandle<T> {
        self.handle.clone()
    }

    /// Its numbers.
    pub fn stats(&self) -> SubscriptionStats {
        self.handle.stats()
    }

    /// What a look has found, and cannot be nothing: the event, or why there is none.
    #[inline]
    pub(super) fn event(&mut self, found: Found) -> Result<&Event<T>, RecvError> {
        match found {
            Found::Event => Ok(self.feed.take()),
            other => Err(recv_error(other)),
        }
    }

    /// As [`event`](Self::event), for all that came in the same slot.
    #[inline]
    pub(super) fn batch(&mut self, found: Found) -> Result<Batch<T>, RecvError> {
        match found {
            Found::Event => {
                let (block, mask) = self.feed.take_slot();
                Ok(Batch::new(block, mask))
            }
            other => Err(recv_error(other)),
        }
    }

    /// Looks, as a task: if there is nothing, its waker is called when that changes.
    #[inline]
    pub(super) fn poll_found(&mut self, context: &mut Context<'_>) -> Poll<Found> {
        if self.used_budget == BUDGET {
            self.used_budget = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let waker = context.waker();
        match self.check_or_register(|place| place.register(waker), || waker.clone()) {
            Found::Empty => {
                self.used_budget = 0;
                if let Some(at) = self.recheck_at {
                    self.set_timer(at, waker);
                }
                Poll::Pending
            }
            found => {
                self.used_budget += 1;
                Poll::Ready(found)
            }
        }
    }

    /// Has the task woken at that time.
    #[cold]
    fn set_timer(&mut self, at: Instant, waker: &Waker) {
        if self
            .timer
            .as_ref()
            .is_some_and(|timer| timer.is_for(at, waker))
        {
            return;
        }
        self.timer = WakeTimer::set(at, waker).ok();
        if self.timer.is_none() {
            waker.wake_by_ref(); // no thread to be had: it has to look until then
        }
    }

    /// The task that waited does so no more.
    pub(super) fn forget_waker(&self) {
        forget_registered(self.feed.waker());
    }

    /// Its latencies; see [`SubscriptionHandle::latency`].
    #[cfg(feature = "latency")]
    pub fn latency(&self) -> crate::dispatch::latency::LatencyStats {
        self.handle.latency()
    }

    /// Looks until there is something, or the deadline has passed (`Empty`).
    #[inline]
    fn next(&mut self, deadline: Option<Instant>) -> Found {
        match self.check() {
            Found::Empty => self.wait(deadline),
            found => found,
        }
    }

    /// First awake, then asleep, each for as long as the strategy says.
    #[cold]
    fn wait(&mut self, deadline: Option<Instant>) -> Found {
        let threads = self.handle.core().engine.threads.load(Ordering::Relaxed);
        let mut awake = self.wait.awake(threads);
        while awake.snooze() {
            match self.check() {
                Found::Empty if awake.is_past(deadline) => return Found::Empty,
                Found::Empty => {}
                found => return found,
            }
        }
        loop {
            match self.check_or_register(register_thread, thread_waker) {
                Found::Empty => {}
                found => return found,
            }
            let until = earliest(deadline, self.recheck_at);
            if !park(until) && until == deadline {
                return self.check();
            }
        }
    }

    /// Looks; if there is nothing, has `register` put down who is to be woken when that changes
    /// (`Empty`): `waker`.
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
            // Not before: whoever begins the close wakes who is registered.
            if self.must_drive() {
                self.handle.core().engine.register_for_progress(waker());
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

    #[inline]
    fn check(&mut self) -> Found {
        let found = match self.feed.check() {
            Found::Empty => self.check_closing(),
            found => found,
        };
        match found {
            Found::Disconnected(gap) => self.disconnected(gap),
            found => found,
        }
    }

    /// The shard, which has ended it, takes no lock: the index forgets the subscription when its
    /// subscriber hears of it.
    #[cold]
    fn disconnected(&mut self, gap: Gap) -> Found {
        if !std::mem::replace(&mut self.unregistered, true) {
            self.handle.unregister();
        }
        Found::Disconnected(gap)
    }

    #[cold]
    fn check_closing(&mut self) -> Found {
        if self.must_drive() {
            self.recheck_at = self.handle.core().engine.drive_and_next_deadline();
            return self.feed.check();
        }
        Found::Empty
    }

    /// A manual bus that is closing has nobody left to drive it but its readers.
    #[inline]
    fn must_drive(&self) -> bool {
        let engine = &self.handle.core().engine;
        engine.dispatch() == Dispatch::Manual && engine.is_closing()
    }
}

impl<T: Send + Sync + 'static> Drop for Subscriber<T> {
    fn drop(&mut self) {
        let engine = &self.handle.core().engine;
        engine.threads.fetch_sub(1, Ordering::Relaxed);
        // Whoever waited with it is not to be woken by its end: it is the one who drops it.
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
fn recv_error(found: Found) -> RecvError {
    match found {
        Found::Gap(gap) => RecvError::Lost(gap),
        Found::Disconnected(gap) => RecvError::Disconnected(gap),
        Found::Closed => RecvError::Closed,
        Found::Ended(End::Broken) => RecvError::Broken,
        Found::Ended(_) => RecvError::Cancelled,
        Found::Event | Found::Empty => unreachable!("not an error"),
    }
}

/// An error of receiving is the end, or else a loss, behind which it goes on.
pub(super) fn ending(error: RecvError) -> Result<Ending, Gap> {
    match error {
        RecvError::Lost(gap) => Err(gap),
        RecvError::Disconnected(gap) => Ok(Ending::Disconnected(gap)),
        RecvError::Closed => Ok(Ending::Closed),
        RecvError::Cancelled => Ok(Ending::Cancelled),
        RecvError::Broken => Ok(Ending::Broken),
    }
}

/// Iterates over what a [`Subscriber`] receives; see [`Subscriber::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Send + Sync + 'static> {
    subscriber: &'a mut Subscriber<T>,
    /// It has told of the gap that is its end.
    over: bool,
}

impl<T: Send + Sync + 'static> Iterator for Iter<'_, T> {
    type Item = Result<SharedEvent<T>, Gap>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.subscriber.recv() {
            Ok(event) => Some(Ok(event.share())),
            Err(RecvError::Lost(gap)) => Some(Err(gap)),
            Err(RecvError::Disconnected(gap)) => {
                let told = std::mem::replace(&mut self.over, true);
                (!told).then_some(Err(gap))
            }
            Err(_) => None,
        }
    }
}
