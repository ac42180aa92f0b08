//! Receiving as a task: streams, on any runtime or none.
//!
//! A task waits as a thread does, by the same step (`Subscriber::check_or_register`); the only
//! difference is whose waker is registered. A subscriber has one place for a waker, so a dispatcher
//! wakes it once per round, however many events the round had for it. The waker that was registered
//! last counts: a subscriber may be polled by one task, moved to another, and then be used by a
//! thread that blocks.
//!
//! # Failure modes
//!
//! * **A future is dropped before it is ready** (a time limit, a `select!`): nothing was received
//!   and nothing is lost, and its waker is forgotten. An event leaves the ring at the moment when
//!   it is handed over.
//! * **There is always an event**: a task that never has to wait would keep its runtime's thread
//!   for itself. After 128 receives in a row without a wait, one poll returns `Pending` and has
//!   woken its own task: other tasks run, and nothing else changes. (Runtimes have such budgets for
//!   their own channels, but no common interface to them.) A program that polls a future once and
//!   takes `Pending` for "there is no event" may be wrong about that one poll.
//! * **The waker panics, publishes, cancels, or drops the subscriber**: contained; wakers are
//!   called outside of all locks. But a task whose waker panicked was not woken, and no thread
//!   wakes it again before the next round that brings it something.
//! * **No thread drives a bus under [`Dispatch::Manual`](crate::Dispatch::Manual)**: the task
//!   waits. Once such a bus is closing, polling drives it, since no other thread may be left to do
//!   so; and where another subscriber's longest wait has to pass first, a thread of its own wakes
//!   the task when that is over.

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

/// A subscriber, and how it ended once that was reported.
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
                        Ending::Disconnected(gap) => Some(Err(gap)), // the last item
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

            /// How it ended. `None`: the stream has not reported an end yet;
            /// [`SubscriptionHandle::ending`] may know of it before.
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

            /// A handle to the subscription: to see its numbers, change its patterns, cancel it, or
            /// wait for its end, from any thread.
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

            /// Returns the subscriber, so that it can be read in another way. Nothing is lost by
            /// that, and a task that waited for this stream is no longer woken.
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
            pub fn into_inner(self) -> Subscriber<T> {
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

        /// Terminated once it has reported its end; from then on it is always `None`.
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
    /// The events of a subscription, owned, and its losses in their places: made by
    /// [`Subscriber::into_stream`], where the example is.
    ///
    /// Each event costs a change of its block's reference count; [`BatchStream`] and
    /// [`recv_async`](Subscriber::recv_async) cost none.
    ///
    /// `None` is the end, and [`ending`](EventStream::ending) says which. A loss is not the end: a
    /// loop such as `while let Some(Ok(event))` would end silently at the first one.
    EventStream of SharedEvent,
    by |subscriber, found| subscriber.event(found).map(Event::share),
    made by "into_stream"
}

stream! {
    /// The slots of a subscription's ring, up to 64 events each, and its losses in their places:
    /// made by [`Subscriber::into_batch_stream`], where the example is.
    ///
    /// `None` is the end, and [`ending`](BatchStream::ending) says which. A loss is not the end: a
    /// loop such as `while let Some(Ok(batch))` would end silently at the first one.
    BatchStream of Batch,
    by Subscriber::batch,
    made by "into_batch_stream"
}
