//! Receiving as a task: futures and streams, on any runtime or none.
//!
//! A task waits as a thread does, by the same step (`Subscriber::check_or_register`); only, what is
//! registered to be woken is its waker. There is one place for a waker per subscriber, so that
//! whoever dispatches wakes a subscriber once per round, however many events the round had for it.
//! The last one registered counts: a subscriber may be polled by one task, moved to another, and
//! then be used by a thread that blocks.
//!
//! # The bad days
//!
//! * **A future is dropped before it is ready** (a time limit, a `select!`): nothing was received,
//!   nothing is lost, and its waker is forgotten. An event is taken out of the ring at the moment
//!   it is handed over.
//! * **There is always something**: a task that never has to wait would keep its runtime's thread
//!   for itself. After 128 receives in a row without a wait, one poll says `Pending`, having woken
//!   its own task: the others get their turn, and nothing else changes. (Runtimes have such budgets
//!   for their own channels, but no common way to ask for them.) Who polls a future once and goes
//!   by the answer may see "nothing there" then, one poll early.
//! * **The waker panics, publishes, cancels, or drops the subscriber**: contained; it is called
//!   outside of all locks. But a task whose waker panicked was not woken, and nobody tries again
//!   before the next round that brings it something.
//! * **Nobody drives a bus under [`Dispatch::Manual`](crate::Dispatch::Manual)**: the task waits.
//!   Once such a bus is closing, polling drives it, since nobody else may be left to; and where a
//!   longest wait is to be waited for, a thread of its own wakes the task when that is over.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::stream::{FusedStream, Stream};

use super::batch::Batch;
use super::ending::Ending;
use super::error::RecvError;
use super::subscriber::{Subscriber, ending};
use super::subscription::SubscriptionHandle;
use crate::dispatch::block::{Event, SharedEvent};
use crate::dispatch::feed::Found;
use crate::dispatch::loss::Gap;

/// Waits for the next thing to tell, and then has `take` hand it over.
pub(super) struct RecvFuture<'a, T: Send + Sync + 'static, F> {
    /// Gone when it was handed over.
    subscriber: Option<&'a mut Subscriber<T>>,
    take: F,
}

impl<'a, T: Send + Sync + 'static, F> RecvFuture<'a, T, F> {
    pub(super) fn new(subscriber: &'a mut Subscriber<T>, take: F) -> Self {
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
        let subscriber = this.subscriber.take().expect("it was there");
        Poll::Ready((this.take)(subscriber, found))
    }
}

impl<T: Send + Sync + 'static, F> Drop for RecvFuture<'_, T, F> {
    fn drop(&mut self) {
        if let Some(waiting) = &self.subscriber {
            waiting.forget_waker();
        }
    }
}

/// A subscriber until it has ended, and how that was.
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

/// A stream over a [`Source`], which all have the same to say but for their items.
macro_rules! stream {
    ($(#[$doc:meta])* $name:ident of $item:ident, by $take:expr) => {
        $(#[$doc])*
        #[must_use = "streams do nothing unless polled"]
        pub struct $name<T: Send + Sync + 'static> {
            source: Source<T>,
        }

        impl<T: Send + Sync + 'static> $name<T> {
            pub(super) fn new(subscriber: Subscriber<T>) -> Self {
                let source = Source {
                    subscriber,
                    ending: None,
                };
                Self { source }
            }

            /// How it ended; `None`: it has not yet told of an end.
            pub fn ending(&self) -> Option<Ending> {
                self.source.ending
            }

            /// A handle to the subscription: cancel it, look at it, change its patterns, from
            /// anywhere.
            pub fn handle(&self) -> SubscriptionHandle<T> {
                self.source.subscriber.handle()
            }

            /// The subscriber again, to be read in another way. Nothing is lost on the way, and a
            /// task that waited for this stream is not woken any more.
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

        /// Terminated once it has told of its end; `None` for ever.
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
    /// The events of a subscription, owned, and its losses in their places: see
    /// [`Subscriber::into_stream`].
    ///
    /// Each event costs a change of its block's reference count; [`BatchStream`] and
    /// [`recv_async`](Subscriber::recv_async) cost none.
    ///
    /// `None` is the end, and [`ending`](EventStream::ending) says which. A loss is no end: a loop
    /// like `while let Some(Ok(event))` would end silently at the first one.
    EventStream of SharedEvent, by |subscriber, found| subscriber.event(found).map(Event::share)
}

stream! {
    /// The slots of a subscription's ring, up to 64 events each, and its losses in their places:
    /// see [`Subscriber::into_batch_stream`].
    ///
    /// `None` is the end, and [`ending`](BatchStream::ending) says which. A loss is no end: a loop
    /// like `while let Some(Ok(batch))` would end silently at the first one.
    BatchStream of Batch, by Subscriber::batch
}
