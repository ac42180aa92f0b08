//! The trait that drivers implement, and what it adds for closures.

use std::fmt;
use std::time::Duration;

use super::cancel::CancelToken;
use super::error::{BoxError, BroadcastCloseError, BroadcastPublishError, BroadcastSubscribeError};
use super::event::BroadcastEvent;
use super::guard::SubscriptionGuard;
use super::report::BroadcastCloseReport;
use crate::park::NonBlockingScope;

/// The timeout of [`Broadcaster::close`]: 10 seconds.
///
/// ```
/// assert_eq!(fanout::broadcast::CLOSE_TIMEOUT.as_secs(), 10);
/// ```
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A closure that is called with the events of a channel, one at a time. If it returns an error,
/// the logger gets the error.
///
/// [`BroadcasterExt::on`] converts any closure to this type.
///
/// ```
/// use fanout::broadcast::{Broadcaster, Handler, Memory};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let handler: Handler = Box::new(|event| {
///     println!("{}", std::str::from_utf8(event.payload())?);
///     Ok(())
/// });
/// let _printing = Memory::new().subscribe("orders.1", handler)?;
/// # Ok(())
/// # }
/// ```
pub type Handler = Box<dyn FnMut(&BroadcastEvent) -> Result<(), BoxError> + Send>;

/// Publishes events on channels and calls handlers with them.
///
/// [The module](super) says what every broadcaster guarantees, and how a driver is written. A
/// broadcaster that is dropped closes, and does not wait.
///
/// ```
/// use fanout::broadcast::{
///     BroadcastEvent, BroadcastPublishError, Broadcaster, BroadcasterExt, Memory,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// fn ship(broadcaster: &dyn Broadcaster, order: u32) -> Result<(), BroadcastPublishError> {
///     broadcaster.publish(BroadcastEvent::new(format!("orders.{order}"), "OrderShipped", ""))
/// }
///
/// let broadcaster = Memory::new();
/// let _shipped = broadcaster.on("orders.7", |event| println!("{}", event.name()))?;
/// ship(&broadcaster, 7)?;
/// assert!(broadcaster.close()?.in_time);
/// # Ok(())
/// # }
/// ```
pub trait Broadcaster: Send + Sync {
    /// Accepts the event for every handler that is subscribed to its channel.
    ///
    /// # Errors
    ///
    /// [`BroadcastPublishError`]. The event is dropped. A clone made before shares its payload.
    ///
    /// ```
    /// use fanout::broadcast::{BroadcastEvent, Broadcaster, Memory};
    ///
    /// let broadcaster = Memory::new();
    /// let on = |channel| BroadcastEvent::new(channel, "OrderShipped", "by air");
    /// assert!(broadcaster.publish(on("orders.1")).is_ok());
    /// assert!(broadcaster.publish(on("")).is_err());
    /// ```
    fn publish(&self, event: BroadcastEvent) -> Result<(), BroadcastPublishError>;

    /// Calls the handler with every event of the channel that is published after this has returned.
    /// It may also be called with events that were published shortly before.
    ///
    /// [`on`](BroadcasterExt::on) takes any closure.
    ///
    /// # Errors
    ///
    /// [`BroadcastSubscribeError`]. The handler is dropped.
    ///
    /// ```
    /// use fanout::broadcast::{Broadcaster, Memory};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let handler = Box::new(|event: &_| Ok(println!("{event:?}")));
    /// let _subscription = Memory::new().subscribe("orders.1", handler)?;
    /// # Ok(())
    /// # }
    /// ```
    fn subscribe(
        &self,
        channel: &str,
        handler: Handler,
    ) -> Result<SubscriptionGuard, BroadcastSubscribeError>;

    /// Closes the broadcaster: it accepts no more events and subscriptions, and waits until what it
    /// has accepted is handled, or until the timeout. From inside a handler it does not wait.
    ///
    /// A broadcaster may be closed again; the report is then about what is left at that time.
    ///
    /// # Errors
    ///
    /// [`BroadcastCloseError`]. The broadcaster is closed nevertheless.
    ///
    /// ```
    /// use fanout::broadcast::{Broadcaster, Memory};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let report = Memory::new().close_within(Duration::from_secs(1))?;
    /// assert!(report.in_time);
    /// # Ok(())
    /// # }
    /// ```
    fn close_within(&self, timeout: Duration) -> Result<BroadcastCloseReport, BroadcastCloseError>;

    /// How many events were dropped since the beginning because the buffer of a subscription was
    /// full. An event counts once for each subscription that did not get it.
    ///
    /// ```
    /// use fanout::broadcast::{Broadcaster, Memory};
    ///
    /// assert_eq!(Memory::new().dropped(), 0);
    /// ```
    fn dropped(&self) -> u64;

    /// [`close_within`](Self::close_within) with [`CLOSE_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// [`BroadcastCloseError`]. The broadcaster is closed nevertheless.
    ///
    /// ```
    /// use fanout::broadcast::{Broadcaster, Memory};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let report = Memory::new().close()?;
    /// assert!(report.in_time);
    /// # Ok(())
    /// # }
    /// ```
    fn close(&self) -> Result<BroadcastCloseReport, BroadcastCloseError> {
        self.close_within(CLOSE_TIMEOUT)
    }

    /// Like [`publish`](Self::publish), unless the token is cancelled.
    ///
    /// A driver whose `publish` may wait overrides this method and looks at the token while it
    /// waits.
    ///
    /// # Errors
    ///
    /// [`BroadcastPublishError`]. The event is dropped.
    ///
    /// ```
    /// use fanout::broadcast::{
    ///     BroadcastEvent, BroadcastPublishError, Broadcaster, CancelToken, Memory,
    /// };
    ///
    /// let token = CancelToken::new();
    /// token.cancel();
    /// let event = BroadcastEvent::new("orders.1", "OrderShipped", "");
    /// let refused = Memory::new().publish_until(&token, event).unwrap_err();
    /// assert!(matches!(refused, BroadcastPublishError::Cancelled));
    /// ```
    fn publish_until(
        &self,
        token: &CancelToken,
        event: BroadcastEvent,
    ) -> Result<(), BroadcastPublishError> {
        if token.is_cancelled() {
            return Err(BroadcastPublishError::Cancelled);
        }
        self.publish(event)
    }

    /// Like [`subscribe`](Self::subscribe), and registers the subscription with the token: when the
    /// token is cancelled, so is the subscription.
    ///
    /// A driver whose `subscribe` may wait overrides this method, looks at the token while it
    /// waits, and ends with [`SubscriptionGuard::cancel_with`].
    ///
    /// # Errors
    ///
    /// [`BroadcastSubscribeError`]. The handler is dropped.
    ///
    /// ```
    /// use fanout::broadcast::{Broadcaster, CancelToken, Memory};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (broadcaster, session) = (Memory::new(), CancelToken::new());
    /// let subscription = broadcaster.subscribe_until(&session, "orders.1", Box::new(|_| Ok(())))?;
    /// session.cancel(); // cancels the subscription
    /// # Ok(())
    /// # }
    /// ```
    fn subscribe_until(
        &self,
        token: &CancelToken,
        channel: &str,
        handler: Handler,
    ) -> Result<SubscriptionGuard, BroadcastSubscribeError> {
        if token.is_cancelled() {
            return Err(BroadcastSubscribeError::Cancelled);
        }
        let subscription = self.subscribe(channel, handler)?;
        if subscription.cancel_with(token) {
            Ok(subscription)
        } else {
            Err(BroadcastSubscribeError::Cancelled)
        }
    }
}

/// Whether the calling thread is inside a handler, a logger, or other user code that the dispatcher
/// runs. For drivers, whose calls must not wait there.
///
/// ```
/// use fanout::broadcast::{BroadcastEvent, Broadcaster, BroadcasterExt, Memory, inside_handler};
/// use std::sync::mpsc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, seen) = mpsc::channel();
/// let broadcaster = Memory::new();
/// let _subscription = broadcaster.on("orders.1", move |_| sender.send(inside_handler()))?;
/// broadcaster.publish(BroadcastEvent::new("orders.1", "OrderShipped", ""))?;
/// assert!(seen.recv()?);
/// assert!(!inside_handler());
/// # Ok(())
/// # }
/// ```
pub fn inside_handler() -> bool {
    NonBlockingScope::is_active()
}

/// So that types that own a `dyn Broadcaster` can derive `Debug`.
impl fmt::Debug for dyn Broadcaster + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcaster").finish_non_exhaustive()
    }
}

/// Subscribes any closure to any [`Broadcaster`], `dyn` or not.
///
/// Every broadcaster has this trait; it cannot be implemented otherwise.
///
/// ```
/// use fanout::broadcast::{Broadcaster, BroadcasterExt, Memory};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broadcaster: Box<dyn Broadcaster> = Box::new(Memory::new());
/// let _subscription = broadcaster.on("orders.1", |event| println!("{}", event.name()))?;
/// # Ok(())
/// # }
/// ```
pub trait BroadcasterExt: Broadcaster + sealed::BroadcasterExt {
    /// [`subscribe`](Broadcaster::subscribe) for a closure that returns nothing, or a `Result` with
    /// any error.
    ///
    /// # Errors
    ///
    /// [`BroadcastSubscribeError`]. The closure is dropped.
    ///
    /// ```
    /// use fanout::broadcast::{BroadcasterExt, Memory};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broadcaster = Memory::new();
    /// let _printing = broadcaster.on("orders.1", |event| println!("{}", event.name()))?;
    /// let _failing = broadcaster.on("orders.1", |event| {
    ///     std::str::from_utf8(event.payload()).map(|text| println!("{text}"))
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    fn on<F, R>(
        &self,
        channel: &str,
        handler: F,
    ) -> Result<SubscriptionGuard, BroadcastSubscribeError>
    where
        F: FnMut(&BroadcastEvent) -> R + Send + 'static,
        R: Outcome,
    {
        self.subscribe(channel, boxed(handler))
    }

    /// [`subscribe_until`](Broadcaster::subscribe_until) for such a closure.
    ///
    /// # Errors
    ///
    /// [`BroadcastSubscribeError`]. The closure is dropped.
    ///
    /// ```
    /// use fanout::broadcast::{BroadcasterExt, CancelToken, Memory};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (broadcaster, session) = (Memory::new(), CancelToken::new());
    /// broadcaster.on_until(&session, "orders.1", |event| println!("{}", event.name()))?.detach();
    /// session.cancel(); // cancels the subscription
    /// # Ok(())
    /// # }
    /// ```
    fn on_until<F, R>(
        &self,
        token: &CancelToken,
        channel: &str,
        handler: F,
    ) -> Result<SubscriptionGuard, BroadcastSubscribeError>
    where
        F: FnMut(&BroadcastEvent) -> R + Send + 'static,
        R: Outcome,
    {
        self.subscribe_until(token, channel, boxed(handler))
    }
}

impl<B: Broadcaster + ?Sized> BroadcasterExt for B {}

/// What a closure for [`on`](BroadcasterExt::on) may return: nothing, or a `Result` whose error
/// converts to a [`BoxError`]. Cannot be implemented for other types.
///
/// ```
/// use fanout::broadcast::{BroadcasterExt, Memory};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broadcaster = Memory::new();
/// let _nothing = broadcaster.on("orders.1", |_| ())?;
/// let _text = broadcaster.on("orders.1", |_| Err("no carrier"))?;
/// # Ok(())
/// # }
/// ```
pub trait Outcome: sealed::Outcome {
    #[doc(hidden)]
    fn into_result(self) -> Result<(), BoxError>;
}

mod sealed {
    pub trait Outcome {}
    impl Outcome for () {}
    impl<E> Outcome for Result<(), E> {}

    pub trait BroadcasterExt {}
    impl<B: super::Broadcaster + ?Sized> BroadcasterExt for B {}
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
    F: FnMut(&BroadcastEvent) -> R + Send + 'static,
    R: Outcome,
{
    Box::new(move |event| handler(event).into_result())
}
