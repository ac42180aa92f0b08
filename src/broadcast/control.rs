//! What a driver puts behind a subscription.

use std::time::Duration;

/// How a driver ends a subscription.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use std::time::Duration;
/// use fanout::broadcast::{SubscriptionControl, SubscriptionGuard};
///
/// struct Flag(Arc<AtomicBool>); // looked at by the driver before each call
///
/// impl SubscriptionControl for Flag {
///     fn cancel(&self) {
///         self.0.store(true, Ordering::SeqCst);
///     }
///     fn wait(&self, _limit: Duration) -> bool {
///         true // this driver calls handlers on the thread that cancels
///     }
/// }
///
/// let cancelled = Arc::new(AtomicBool::new(false));
/// drop(SubscriptionGuard::new(Flag(cancelled.clone())));
/// assert!(cancelled.load(Ordering::SeqCst));
/// ```
pub trait SubscriptionControl: Send + Sync {
    /// No call of the handler begins any more. Idempotent, from any thread, also from inside the handler; does not wait
    /// for a call that is running.
    fn cancel(&self);

    /// Waits, after [`cancel`](Self::cancel), until no call is running. `true`: none is. From inside of any handler it only
    /// looks.
    fn wait(&self, limit: Duration) -> bool;
}
