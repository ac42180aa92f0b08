//! Receiving as a task: streams, on any runtime or none.
//!
//! Tasks and threads wait by the same step (`Subscriber::check_or_register`); the only difference
//! is the waker that is registered. A subscriber has room for one waker, and a dispatcher wakes it
//! once in each round, however many events the round had for it. The waker that was registered last
//! is woken: a subscriber may be polled by one task, be moved to another task, and then be used by
//! a thread that blocks.
//!
//! # Failure modes
//!
//! * **A future is dropped before it is ready** (a timeout, a `select!`): no event was received,
//!   none is lost, and its waker is removed. An event leaves the ring only when a poll returns it.
//! * **There is always an event**: a task that never has to wait would not let other tasks run on
//!   its thread. After 128 receives in a row without a wait, one poll wakes its own task and
//!   returns `Pending`, so that other tasks can run. (Runtimes have such budgets for their own
//!   channels, but no common interface to them.) So `Pending` does not always mean that there is no
//!   event.
//! * **The waker panics, publishes, cancels, or drops the subscriber**: the panic is contained, and
//!   no lock is held while a waker is called. But a task whose waker panicked is not woken before
//!   the next round that has an event for it.
//! * **No thread drives a bus under [`Dispatch::Manual`](crate::Dispatch::Manual)**: the task
//!   waits. Once such a bus is closing, polling drives it, because no other thread may be left to
//!   do so. If the block timeout of another subscriber must end first, a new thread wakes the task
//!   at that time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::stream::{FusedStream, Stream};

use super::batch::Batch;
use super::ending::Ending;
use super::error::RecvError;
use super::handle::SubscriptionHandle;
use super::subscriber::{Subscriber, ending};
use crate::dispatch::block::{Event, SharedEvent};
use crate::dispatch::feed::Found;
use crate::dispatch::loss::Gap;

impl<T: Send + Sync + 'static> Subscriber<T> {
    /// Converts the subscriber into a stream of owned events and gaps, which ends with the
    /// subscription. Each event increments the reference count of its block;
    /// [`into_batch_stream`](Self::into_batch_stream) and [`recv_async`](Self::recv_async) do not.
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
    ///             Err(gap) => eprintln!("{gap}"), // and continue
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

    /// Converts the subscriber into a stream of [`Batch`]es and gaps, which ends with the
    /// subscription. One poll returns up to 64 events.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use smol::stream::StreamExt;
    ///
    /// let bus = fanout::Bus::<u32>::new();
    /// let stream = bus.subscribe("a")?.into_batch_stream();
    /// (1..=100).try_for_each(|n| bus.publish("a", n))?;
    /// drop(bus);
    /// let count = |item: Result<fanout::Batch<u32>, fanout::Gap>| match item {
    ///     Ok(batch) => batch.len() as u64,
    ///     Err(gap) => gap.count(),
    /// };
    /// let counts = stream.map(count);
    /// assert_eq!(smol::block_on(counts.fold(0, |sum, count| sum + count)), 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_batch_stream(self) -> BatchStream<T> {
        BatchStream::new(self)
    }
}

/// A subscriber, and the ending of its subscription once the stream has reported it.
struct Source<T: Send + Sync + 'static> {
    subscriber: Subscriber<T>,
    ending: Option<Ending>,
}

impl<T: Send + Sync + 'static> Source<T> {
    fn poll<R>(
        &mut self,
        context: &mut Context<'_>,
        take: impl FnOnce(&mut Subscriber<T>, Found) -> Result<R, RecvError>,
    ) -> Poll<Option<Result<R, Gap>>> {
        if self.ending.is_some() {
            return Poll::Ready(None);
        }
        let found = ready!(self.subscriber.poll_found(context));
        Poll::Ready(match take(&mut self.subscriber, found) {
            Ok(item) => Some(Ok(item)),
            Err(error) => match ending(error) {
                Err(gap) => Some(Err(gap)),
                Ok(ending) => {
                    self.ending = Some(ending);
                    match ending {
                        // The last item.
                        Ending::Disconnected(gap) => self.subscriber.last_gap(gap).map(Err),
                        _ => None,
                    }
                }
            },
        })
    }
}

/// A stream over a [`Source`]. The streams differ only in their items.
macro_rules! stream {
    ($(#[$doc:meta])* $name:ident of $item:ident, by $take:expr, made by $make:literal) => {
        $(#[$doc])*
        #[must_use = "streams do nothing unless polled"]
        pub struct $name<T: Send + Sync + 'static> {
            source: Source<T>,
        }

        impl<T: Send + Sync + 'static> $name<T> {
            fn new(subscriber: Subscriber<T>) -> Self {
                let source = Source {
                    subscriber,
                    ending: None,
                };
                Self { source }
            }

            /// Returns how the subscription ended, or `None` while the stream has not returned its
            /// end. [`SubscriptionHandle::ending`] may return the ending before that.
            ///
            /// ```
            /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
            /// let bus = fanout::Bus::<u32>::new();
            #[doc = concat!("let stream = bus.subscribe(\"a\")?.", $make, "();")]
            /// assert_eq!(stream.ending(), None);
            /// # Ok(())
            /// # }
            /// ```
            pub fn ending(&self) -> Option<Ending> {
                self.source.ending
            }

            /// Returns a handle to the subscription, which any thread can use to read its
            /// statistics, to change its patterns, to cancel it, or to wait for its end.
            ///
            /// ```
            /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
            /// let bus = fanout::Bus::<u32>::new();
            #[doc = concat!("let stream = bus.subscribe(\"a\")?.", $make, "();")]
            /// assert!(stream.handle().add("b")?);
            /// # Ok(())
            /// # }
            /// ```
            pub fn handle(&self) -> SubscriptionHandle<T> {
                self.source.subscriber.handle()
            }

            /// Converts the stream back into its subscriber. No event is lost. A task that waits
            /// for this stream is no longer woken.
            ///
            /// ```
            /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
            /// let bus = fanout::Bus::<u32>::new();
            #[doc = concat!("let stream = bus.subscribe(\"a\")?.", $make, "();")]
            /// bus.publish("a", 7)?;
            /// assert_eq!(*stream.into_inner().recv()?.data(), 7);
            /// # Ok(())
            /// # }
            /// ```
            pub fn into_inner(mut self) -> Subscriber<T> {
                self.source.subscriber.forget_waker();
                self.source.subscriber
            }
        }

        impl<T: Send + Sync + 'static> Stream for $name<T> {
            type Item = Result<$item<T>, Gap>;

            #[inline]
            fn poll_next(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<Option<Self::Item>> {
                self.get_mut().source.poll(context, $take)
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                (0, self.is_terminated().then_some(0))
            }
        }

        /// The stream is terminated once it has returned `None` or the gap that ended the
        /// subscription, and returns `None` from then on.
        impl<T: Send + Sync + 'static> FusedStream for $name<T> {
            fn is_terminated(&self) -> bool {
                self.source.ending.is_some()
            }
        }

        impl<T: Send + Sync + 'static> std::fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("subscriber", &self.source.subscriber)
                    .field("ending", &self.source.ending)
                    .finish()
            }
        }
    };
}

stream! {
    /// A stream of the owned events of a subscription, with its losses in their places.
    /// [`Subscriber::into_stream`] creates it.
    ///
    /// Each event increments the reference count of its block; [`BatchStream`] and
    /// [`recv_async`](Subscriber::recv_async) do not.
    ///
    /// The stream returns `None` at its end, and [`ending`](EventStream::ending) returns how the
    /// subscription ended. A loss is not the end: a loop such as `while let Some(Ok(event))` would
    /// end silently at the first loss.
    ///
    /// ```
    /// use fanout::{Bus, Ending, EventStream};
    /// use smol::stream::StreamExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut stream: EventStream<u32> = bus.subscribe("a")?.into_stream();
    /// bus.publish("a", 7)?;
    /// bus.close();
    /// let first = smol::block_on(stream.next());
    /// assert!(matches!(first, Some(Ok(event)) if *event.data() == 7));
    /// assert!(smol::block_on(stream.next()).is_none());
    /// assert_eq!(stream.ending(), Some(Ending::Closed));
    /// # Ok(())
    /// # }
    /// ```
    EventStream of SharedEvent,
    by |subscriber, found| subscriber.event(found).map(Event::share),
    made by "into_stream"
}

stream! {
    /// A stream of the slots of a subscription's ring, with up to 64 events each, and of its losses
    /// in their places. [`Subscriber::into_batch_stream`] creates it.
    ///
    /// The stream returns `None` at its end, and [`ending`](BatchStream::ending) returns how the
    /// subscription ended. A loss is not the end: a loop such as `while let Some(Ok(batch))` would
    /// end silently at the first loss.
    ///
    /// ```
    /// use fanout::{BatchStream, Bus};
    /// use smol::stream::StreamExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut stream: BatchStream<u32> = bus.subscribe("a")?.into_batch_stream();
    /// bus.publish("a", 7)?;
    /// let first = smol::block_on(stream.next());
    /// assert!(matches!(first, Some(Ok(batch)) if batch.len() == 1));
    /// assert_eq!(stream.ending(), None);
    /// # Ok(())
    /// # }
    /// ```
    BatchStream of Batch,
    by Subscriber::batch,
    made by "into_batch_stream"
}
