//! The interface that drivers implement, and what closures add to it.

use std::time::Duration;

use super::cancel::CancelToken;
use super::error::{BoxError, CloseError, PublishError, SubscribeError};
use super::event::Event;
use super::guard::SubscriptionGuard;
use super::report::CloseReport;

/// How long [`Broadcaster::close`] waits: 10 seconds.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is called with the events of a channel, one at a time. An error goes to the logger.
pub type Handler = Box<dyn FnMut(&Event) -> Result<(), BoxError> + Send>;

/// Publishes events on channels and calls handlers with them. See [the module](super) for what is promised.
///
/// ```
/// use fanout::broadcast::{Broadcaster, BroadcasterExt, Event, Memory};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// fn ship(broadcaster: &dyn Broadcaster, order: u32) -> Result<(), fanout::broadcast::PublishError> {
///     broadcaster.publish(Event::new(format!("orders.{order}"), "OrderShipped", ""))
/// }
///
/// let broadcaster = Memory::new();
/// let _shipped = broadcaster.on("orders.7", |event| println!("{}", event.name()))?;
/// ship(&broadcaster, 7)?;
/// broadcaster.close()?;
/// # Ok(())
/// # }
/// ```
pub trait Broadcaster: Send + Sync {
    /// Accepts the event for every handler that is subscribed to its channel.
    ///
    /// # Errors
    ///
    /// [`PublishError`]. The event is gone then; a clone made before shares its payload.
    fn publish(&self, event: Event) -> Result<(), PublishError>;

    /// Calls the handler with every event of the channel that is published after this returned.
    /// [`on`](BroadcasterExt::on) takes any closure.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    fn subscribe(
        &self,
        channel: &str,
        handler: Handler,
    ) -> Result<SubscriptionGuard, SubscribeError>;

    /// Accepts nothing more, and waits, for so long at most, until what was accepted is handled. From inside a handler it
    /// does not wait. Closing once more does the same; the report is about what is left then.
    ///
    /// # Errors
    ///
    /// [`CloseError`].
    fn close_within(&self, limit: Duration) -> Result<CloseReport, CloseError>;

    /// How many events were dropped since the beginning because a subscription's buffer was full: one for each
    /// subscription that did not get one.
    fn dropped(&self) -> u64;

    /// [`close_within`](Self::close_within), and 10 seconds.
    ///
    /// # Errors
    ///
    /// [`CloseError`].
    fn close(&self) -> Result<CloseReport, CloseError> {
        self.close_within(CLOSE_TIMEOUT)
    }

    /// Like [`publish`](Self::publish), unless the token is cancelled. A driver whose publishing may wait looks at the token
    /// while it does.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    fn publish_until(&self, token: &CancelToken, event: Event) -> Result<(), PublishError> {
        if token.is_cancelled() {
            return Err(PublishError::Cancelled);
        }
        self.publish(event)
    }

    /// Like [`subscribe`](Self::subscribe), unless the token is cancelled; when it is cancelled later, so is the
    /// subscription.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    fn subscribe_until(
        &self,
        token: &CancelToken,
        channel: &str,
        handler: Handler,
    ) -> Result<SubscriptionGuard, SubscribeError> {
        if token.is_cancelled() {
            return Err(SubscribeError::Cancelled);
        }
        let subscription = self.subscribe(channel, handler)?;
        if subscription.register(token) {
            Ok(subscription)
        } else {
            Err(SubscribeError::Cancelled)
        }
    }
}

/// Subscribing with any closure, on any [`Broadcaster`], `dyn` or not.
pub trait BroadcasterExt: Broadcaster {
    /// [`subscribe`](Broadcaster::subscribe) for a closure that answers nothing, or a `Result` with any error.
    ///
    /// ```
    /// use fanout::broadcast::{Broadcaster, BroadcasterExt, Memory};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broadcaster = Memory::new();
    /// let _quiet = broadcaster.on("orders.1", |event| println!("{}", event.name()))?;
    /// let _failing = broadcaster.on("orders.1", |event| std::str::from_utf8(event.payload()).map(drop))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    fn on<F, R>(&self, channel: &str, handler: F) -> Result<SubscriptionGuard, SubscribeError>
    where
        F: FnMut(&Event) -> R + Send + 'static,
        R: Outcome,
    {
        self.subscribe(channel, boxed(handler))
    }

    /// [`subscribe_until`](Broadcaster::subscribe_until) for such a closure. See [`CancelToken`] for an example.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    fn on_until<F, R>(
        &self,
        token: &CancelToken,
        channel: &str,
        handler: F,
    ) -> Result<SubscriptionGuard, SubscribeError>
    where
        F: FnMut(&Event) -> R + Send + 'static,
        R: Outcome,
    {
        self.subscribe_until(token, channel, boxed(handler))
    }
}

impl<B: Broadcaster + ?Sized> BroadcasterExt for B {}

/// What a closure for [`on`](BroadcasterExt::on) answers: nothing, or a `Result` whose error becomes a [`BoxError`].
pub trait Outcome: sealed::Sealed {
    #[doc(hidden)]
    fn into_result(self) -> Result<(), BoxError>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<E> Sealed for Result<(), E> {}
}

impl Outcome for () {
    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

fn boxed<F, R>(mut handler: F) -> Handler
where
    F: FnMut(&Event) -> R + Send + 'static,
    R: Outcome,
{
    Box::new(move |event| handler(event).into_result())
}
