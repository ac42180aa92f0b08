//! The handle to a subscription.

use std::fmt;
use std::time::Duration;

use super::cancel::{CancelToken, Registration};
use super::control::SubscriptionControl;
use crate::handlers::pool::CANCEL_GRACE;
use crate::sync::{Arc, Mutex};

/// Keeps a handler subscribed: dropping it cancels, unless it was [detached](Self::detach).
///
/// ```
/// use fanout::broadcast::{BroadcasterExt, Memory};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broadcaster = Memory::new();
/// let subscription = broadcaster.on("orders.1", |event| println!("{}", event.name()))?;
/// subscription.cancel();
/// subscription.cancel(); // once more does nothing
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a subscription cancels it; `detach` lets it run"]
pub struct SubscriptionGuard {
    control: Arc<dyn SubscriptionControl>,
    registrations: Mutex<Vec<Registration>>,
    detached: bool,
}

impl SubscriptionGuard {
    /// For drivers.
    pub fn new(control: impl SubscriptionControl + 'static) -> Self {
        Self {
            control: Arc::new(control),
            registrations: Mutex::new(Vec::new()),
            detached: false,
        }
    }

    /// Cancels it: once this has returned, no call of the handler begins any more. A call that is running may finish; this
    /// waits 10 milliseconds for it at most, and not at all from inside a handler. Does nothing when it has ended already.
    pub fn cancel(&self) {
        self.cancel_and_wait(CANCEL_GRACE);
    }

    /// Cancels it, and waits for a call that is running. `true`: none is. From inside a handler it does not wait.
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
    pub fn cancel_and_wait(&self, limit: Duration) -> bool {
        self.control.cancel();
        let registrations = std::mem::take(&mut *self.registrations.lock());
        registrations.iter().for_each(Registration::remove);
        self.control.wait(limit)
    }

    /// Has it cancelled with the token, too; at once, if the token is cancelled already. See
    /// [`subscribe_until`](super::Broadcaster::subscribe_until), which does not subscribe in that case.
    ///
    /// ```
    /// use fanout::broadcast::{BroadcasterExt, CancelToken, Memory};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broadcaster = Memory::new();
    /// let (session, server) = (CancelToken::new(), CancelToken::new());
    /// let subscription = broadcaster.on("orders.1", |event| println!("{}", event.name()))?;
    /// subscription.cancel_with(&session);
    /// subscription.cancel_with(&server); // whichever comes first
    /// subscription.detach();
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel_with(&self, token: &CancelToken) {
        self.register(token);
    }

    /// Lets the handler run until the broadcaster closes, or a token that the subscription was
    /// [tied to](Self::cancel_with) is cancelled.
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

    /// `false`: the token is cancelled already, and now this is, too.
    pub(super) fn register(&self, token: &CancelToken) -> bool {
        match token.register(self.control.clone()) {
            Some(registration) => {
                self.registrations.lock().push(registration);
                true
            }
            None => {
                self.cancel();
                false
            }
        }
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
            .field("detached", &self.detached)
            .finish_non_exhaustive()
    }
}
