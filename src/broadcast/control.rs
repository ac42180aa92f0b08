//! What a driver implements for each subscription.

use std::time::Duration;

use crate::sync::Arc;

/// How one subscription of a driver is cancelled. Drivers implement this trait and hand an
/// implementation to [`SubscriptionGuard::new`](super::SubscriptionGuard::new).
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use std::time::Duration;
/// use fanout::broadcast::{SubscriptionControl, SubscriptionGuard};
///
/// struct Flag(Arc<AtomicBool>); // the driver looks at it before each call
///
/// impl SubscriptionControl for Flag {
///     fn cancel(&self) {
///         self.0.store(true, Ordering::SeqCst);
///     }
///     fn wait(&self, _timeout: Duration) -> bool {
///         true // this driver calls handlers on the thread that cancels
///     }
/// }
///
/// let cancelled = Arc::new(AtomicBool::new(false));
/// drop(SubscriptionGuard::new(Flag(cancelled.clone())));
/// assert!(cancelled.load(Ordering::SeqCst));
/// ```
pub trait SubscriptionControl: Send + Sync {
    /// Cancels the subscription. No call of the handler may start after [`wait`](Self::wait) has
    /// returned; a call that is starting at this moment may still run.
    ///
    /// This method is called from any thread, also from inside the handler, and more than once. It
    /// must not wait for a call that is running.
    fn cancel(&self);

    /// Waits, after [`cancel`](Self::cancel), until no call of the handler is running, and returns
    /// `true` then. Returns `false` at the timeout. A call from inside a handler must not wait.
    fn wait(&self, timeout: Duration) -> bool;

    /// Returns whether the subscription has ended for whatever reason, so that no call of the
    /// handler will start any more. The default implementation returns `false`, which also means
    /// that it is not known.
    ///
    /// A [`CancelToken`](super::CancelToken) keeps the control of a
    /// [detached](super::SubscriptionGuard::detach) subscription until it is cancelled. If
    /// `is_ended` returns `true`, the token drops the control earlier, without a call of
    /// [`cancel`](Self::cancel). The token calls `is_ended` at some of the registrations with it.
    /// A control that owns that of a local subscription returns what the latter returns.
    ///
    /// ```
    /// use fanout::broadcast::{BroadcasterExt, Memory};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let control = Memory::new().on("orders.1", |_| ())?.into_control();
    /// // The broadcaster was dropped, so it closes.
    /// while !control.is_ended() {
    ///     std::thread::sleep(Duration::from_millis(1));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn is_ended(&self) -> bool {
        false
    }
}

/// A shared control works like the control itself: see
/// [`into_control`](super::SubscriptionGuard::into_control).
impl<C: SubscriptionControl + ?Sized> SubscriptionControl for Arc<C> {
    fn cancel(&self) {
        (**self).cancel();
    }

    fn wait(&self, timeout: Duration) -> bool {
        (**self).wait(timeout)
    }

    fn is_ended(&self) -> bool {
        (**self).is_ended()
    }
}
