//! The guard that keeps a handler subscribed.

use std::fmt;
use std::time::Duration;

use super::cancel::{CancelToken, Cancellable, Registrations};
use super::control::SubscriptionControl;
use crate::handlers::pool::CANCEL_GRACE;
use crate::sync::Arc;
use crate::time_limit::TimeLimit;

/// Keeps a handler subscribed. Dropping the guard [cancels](Self::cancel) the subscription, and
/// waits like `cancel` while a call is running. It does nothing if the guard was
/// [detached](Self::detach).
///
/// ```
/// use fanout::broadcast::{BroadcasterExt, Memory};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broadcaster = Memory::new();
/// let subscription = broadcaster.on("orders.1", |event| println!("{}", event.name()))?;
/// drop(subscription); // the handler is not called any more
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Subscription")]
#[must_use = "dropping the guard cancels the subscription; `detach` keeps it"]
pub struct SubscriptionGuard {
    subscription: Arc<Cancellable>,
    detached: bool,
}

impl SubscriptionGuard {
    /// Creates the guard of a new subscription, for drivers.
    ///
    /// See [`SubscriptionControl`] for an example.
    ///
    /// ```
    /// use fanout::broadcast::{BroadcasterExt, Memory, SubscriptionGuard};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = Memory::new().on("orders.1", |_| ())?;
    /// let subscription = SubscriptionGuard::new(local.into_control());
    /// subscription.cancel();
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(control: impl SubscriptionControl + 'static) -> Self {
        Self::with_registrations(control, Registrations::new())
    }

    /// Like [`new`](Self::new). The end of the registrations is the end of the subscription.
    pub(super) fn with_registrations(
        control: impl SubscriptionControl + 'static,
        registrations: Arc<Registrations>,
    ) -> Self {
        Self {
            subscription: Arc::new(Cancellable {
                control: Box::new(control),
                registrations,
            }),
            detached: false,
        }
    }

    /// Cancels the subscription. Once this has returned, no call of the handler starts.
    ///
    /// A call that is running may finish. `cancel` waits up to 10 milliseconds for it, and does not
    /// wait when it is called from inside a handler. Cancelling again has no effect.
    ///
    /// ```
    /// use fanout::broadcast::{BroadcasterExt, Memory};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broadcaster = Memory::new();
    /// let subscription = broadcaster.on("orders.1", |event| println!("{}", event.name()))?;
    /// subscription.cancel();
    /// subscription.cancel(); // has no effect
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel(&self) {
        self.cancel_and_wait(CANCEL_GRACE);
    }

    /// Cancels the subscription and waits for a call that is running. Returns `true` if no call is
    /// running any more, `false` if one is at the timeout. From inside a handler it does not wait.
    ///
    /// ```
    /// use std::time::Duration;
    /// use fanout::broadcast::{BroadcasterExt, Memory};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broadcaster = Memory::new();
    /// let subscription = broadcaster.on("orders.1", |event| println!("{}", event.name()))?;
    /// assert!(subscription.cancel_and_wait(Duration::from_secs(5)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel_and_wait(&self, timeout: Duration) -> bool {
        let _limit = TimeLimit::enter(timeout);
        self.subscription.cancel();
        self.subscription.wait(timeout)
    }

    /// Registers the subscription with a token: when the token is cancelled, so is the
    /// subscription.
    ///
    /// Returns `false` if the token is cancelled already; the subscription is cancelled then, too.
    /// [`subscribe_until`](super::Broadcaster::subscribe_until) does not subscribe at all in that
    /// case. A subscription may be registered with several tokens, and with any number of tokens
    /// one after the other: it forgets those that were dropped.
    ///
    /// ```
    /// use fanout::broadcast::{BroadcasterExt, CancelToken, Memory};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broadcaster = Memory::new();
    /// let (session, server) = (CancelToken::new(), CancelToken::new());
    /// let subscription = broadcaster.on("orders.1", |event| println!("{}", event.name()))?;
    /// assert!(subscription.cancel_with(&session));
    /// assert!(subscription.cancel_with(&server)); // whichever is cancelled first
    /// subscription.detach();
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel_with(&self, token: &CancelToken) -> bool {
        let registered = token.register(&self.subscription);
        if !registered {
            self.cancel();
        }
        registered
    }

    /// Keeps the handler subscribed until the broadcaster closes, or until a token that the
    /// subscription is [registered with](Self::cancel_with) is cancelled.
    ///
    /// ```
    /// use fanout::broadcast::{BroadcasterExt, Memory};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broadcaster = Memory::new();
    /// broadcaster.on("orders.1", |event| println!("{}", event.name()))?.detach();
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(mut self) {
        self.detached = true;
    }

    /// Takes the guard apart, for drivers that deliver through another broadcaster: the driver's
    /// control cancels this one. Nothing cancels the subscription when the control is dropped.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use fanout::broadcast::{BroadcasterExt, Memory, SubscriptionControl};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broadcaster = Memory::new();
    /// let guard = broadcaster.on("orders.1", |event| println!("{}", event.name()))?;
    /// let control: Arc<dyn SubscriptionControl> = guard.into_control();
    /// control.cancel();
    /// assert!(control.wait(Duration::from_secs(5)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_control(mut self) -> Arc<dyn SubscriptionControl> {
        self.detached = true;
        self.subscription.clone()
    }
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        if !self.detached {
            self.cancel();
        }
    }
}

impl fmt::Debug for SubscriptionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionGuard")
            .field("tokens", &self.subscription.registrations.count())
            .finish_non_exhaustive()
    }
}
