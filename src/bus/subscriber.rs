//! Receiving.

use std::time::{Duration, Instant};

use super::error::{RecvError, RecvTimeoutError, TryRecvError};
use super::stats::SubscriptionStats;
use super::subscription::SubscriptionHandle;
use crate::dispatch::Dispatch;
use crate::dispatch::block::{BlockRef, Event, SharedEvent};
use crate::dispatch::feed::{End, FeedConsumer, Found};
use crate::dispatch::loss::Gap;
use crate::park::{Linger, deadline_after, park, register_thread};
use crate::sync::Ordering;

/// Receives the events of one subscription, in id order, from a ring of its own.
///
/// Events are lent from the ring: to receive one copies nothing, allocates nothing and counts nothing that is shared.
/// The block of the last event is held until the next receive.
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
/// or [`for_each`](Self::for_each), which is this loop. A loop that ends at just any error ends silently
/// at the first loss.
pub struct Subscriber<T: Send + Sync + 'static> {
    feed: FeedConsumer<T>,
    handle: SubscriptionHandle<T>,
}

impl<T: Send + Sync + 'static> Subscriber<T> {
    pub(super) fn new(feed: FeedConsumer<T>, handle: SubscriptionHandle<T>) -> Self {
        handle.core().engine.threads.fetch_add(1, Ordering::Relaxed);
        Self { feed, handle }
    }

    /// Waits for the next event. Spins briefly, unless threads outnumber cores, and then sleeps.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: `Lost` once for a run of lost events, and receiving goes on; the others for ever.
    #[inline]
    pub fn recv(&mut self) -> Result<&Event<T>, RecvError> {
        match self.next(None) {
            Found::Event => Ok(self.feed.take()),
            other => Err(recv_error(other)),
        }
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
        match self.look() {
            Found::Event => Ok(self.feed.take()),
            Found::Empty => Err(TryRecvError::Empty),
            other => Err(recv_error(other).into()),
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
            Found::Event => Ok(self.feed.take()),
            Found::Empty => Err(RecvTimeoutError::Timeout),
            other => Err(recv_error(other).into()),
        }
    }

    /// Waits for the next event, and takes with it all that came in the same slot of the ring: up to 64 events for
    /// one look. The fast way.
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
        match self.next(None) {
            Found::Event => {
                let (block, mask) = self.feed.take_slot();
                Ok(Batch { block, mask })
            }
            other => Err(recv_error(other)),
        }
    }

    /// Receives until the subscription ends: every event to `on_event`, every loss, in its place, to `on_gap`.
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
                Err(RecvError::Lost(gap)) => on_gap(gap),
                Err(RecvError::Closed) => return Ending::Closed,
                Err(RecvError::Cancelled) => return Ending::Cancelled,
                Err(RecvError::Broken) => return Ending::Broken,
            }
        }
    }

    /// A blocking iterator over owned events and gaps, which ends when the subscription does. Each event costs a change of
    /// its block's reference count; [`for_each`](Self::for_each) and [`next_batch`](Self::next_batch) don't.
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

    /// A handle to this subscription: cancel it, look at it, change its patterns, from anywhere.
    pub fn handle(&self) -> SubscriptionHandle<T> {
        self.handle.clone()
    }

    /// Its numbers.
    pub fn stats(&self) -> SubscriptionStats {
        self.handle.stats()
    }

    /// Its latencies; see [`SubscriptionHandle::latency`].
    #[cfg(feature = "latency")]
    pub fn latency(&self) -> crate::dispatch::latency::LatencyStats {
        self.handle.latency()
    }

    /// Looks until there is something, or the deadline has passed (`Empty`).
    #[inline]
    fn next(&mut self, deadline: Option<Instant>) -> Found {
        match self.look() {
            Found::Empty => self.wait(deadline),
            found => found,
        }
    }

    #[inline]
    fn look(&mut self) -> Found {
        match self.feed.look() {
            Found::Empty => self.look_closing(),
            found => found,
        }
    }

    /// A manual bus that is closing has nobody left to drive it but its readers.
    #[cold]
    fn look_closing(&mut self) -> Found {
        let engine = &self.handle.core().engine;
        if engine.dispatch() == Dispatch::Manual && engine.is_closing() {
            engine.drive();
            return self.feed.look();
        }
        Found::Empty
    }

    #[cold]
    fn wait(&mut self, deadline: Option<Instant>) -> Found {
        let mut linger = Linger::new(self.handle.core().engine.threads.load(Ordering::Relaxed));
        while linger.turn() {
            match self.look() {
                Found::Empty => {}
                found => return found,
            }
        }
        loop {
            register_thread(self.feed.waker());
            if self.feed.doze() && !park(deadline) {
                return self.look();
            }
            match self.look() {
                Found::Empty => {}
                found => return found,
            }
        }
    }
}

impl<T: Send + Sync + 'static> Drop for Subscriber<T> {
    fn drop(&mut self) {
        self.handle
            .core()
            .engine
            .threads
            .fetch_sub(1, Ordering::Relaxed);
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
        Found::Closed => RecvError::Closed,
        Found::Ended(End::Broken) => RecvError::Broken,
        Found::Ended(_) => RecvError::Cancelled,
        Found::Event | Found::Empty => unreachable!("not an error"),
    }
}

/// Why [`Subscriber::for_each`] came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// The bus was closed, and everything was read.
    Closed,
    /// The subscription was cancelled.
    Cancelled,
    /// A thread of the bus panicked; see [`RecvError::Broken`].
    Broken,
}

/// The events of one slot of the ring, 1 to 64, in id order. It keeps their block alive.
pub struct Batch<T> {
    block: BlockRef<T>,
    /// At least one bit, within the block's length.
    mask: u64,
}

impl<T> Batch<T> {
    /// The events.
    pub fn iter(&self) -> BatchIter<'_, T> {
        BatchIter {
            events: self.block.events(),
            mask: self.mask,
        }
    }

    /// How many events, 1 to 64.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.mask.count_ones() as usize
    }
}

impl<'a, T> IntoIterator for &'a Batch<T> {
    type Item = &'a Event<T>;
    type IntoIter = BatchIter<'a, T>;

    fn into_iter(self) -> BatchIter<'a, T> {
        self.iter()
    }
}

impl<T> std::fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Iterates over the events of a [`Batch`].
#[derive(Debug)]
pub struct BatchIter<'a, T> {
    events: &'a [Event<T>],
    mask: u64,
}

impl<'a, T> Iterator for BatchIter<'a, T> {
    type Item = &'a Event<T>;

    #[inline]
    fn next(&mut self) -> Option<&'a Event<T>> {
        if self.mask == 0 {
            return None;
        }
        let index = self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        self.events.get(index)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.mask.count_ones() as usize;
        (left, Some(left))
    }
}

impl<T> ExactSizeIterator for BatchIter<'_, T> {}

/// Iterates over what a [`Subscriber`] receives; see [`Subscriber::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Send + Sync + 'static> {
    subscriber: &'a mut Subscriber<T>,
}

impl<T: Send + Sync + 'static> Iterator for Iter<'_, T> {
    type Item = Result<SharedEvent<T>, Gap>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.subscriber.recv() {
            Ok(event) => Some(Ok(event.share())),
            Err(RecvError::Lost(gap)) => Some(Err(gap)),
            Err(_) => None,
        }
    }
}
