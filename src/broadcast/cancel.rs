//! One switch for many subscriptions.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use super::control::SubscriptionControl;
use crate::handlers::pool::CANCEL_GRACE;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};

/// Cancels any number of subscriptions, and publishing that waits: what a cancelled context is in other languages.
///
/// Clones are the same token. It is cancelled once and for ever.
///
/// ```
/// use fanout::broadcast::{Broadcaster, BroadcasterExt, CancelToken, Event, Memory, SubscribeError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broadcaster = Memory::new();
/// let session = CancelToken::new();
/// let _orders = broadcaster.on_until(&session, "orders.1", |event| println!("{}", event.name()))?;
/// let _chat = broadcaster.on_until(&session, "chat:room 7", |event| println!("{}", event.name()))?;
///
/// session.cancel(); // no call of either begins any more
/// let late = broadcaster.on_until(&session, "orders.1", |_| ());
/// assert!(matches!(late, Err(SubscribeError::Cancelled)));
/// assert!(broadcaster.publish_until(&session, Event::new("orders.1", "OrderShipped", "")).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct CancelToken {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cancelled: AtomicBool,
    registered: Mutex<Registered>,
}

/// What goes with the token. Entries leave when their subscription ends, so a token may live as long as the program.
#[derive(Default)]
struct Registered {
    next: u64,
    controls: BTreeMap<u64, Arc<dyn SubscriptionControl>>,
}

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels everything that was registered to it: once this has returned, no call of those handlers begins any more, and
    /// nothing can be registered to it. Calls that are running may finish; this waits for them as
    /// [`SubscriptionGuard::cancel`](super::SubscriptionGuard::cancel) does, for all of them together. From anywhere, as often as one
    /// likes.
    pub fn cancel(&self) {
        let controls = {
            let registered = self.state.registered.lock();
            // Release, partner `is_cancelled`; under the lock, so that `register` either sees it or is seen.
            self.state.cancelled.store(true, Ordering::Release);
            // Not taken: who else cancels at the same time must not return before all of them are cancelled, either.
            registered.controls.clone()
        };
        controls.values().for_each(|control| control.cancel());
        let began = Instant::now();
        for control in controls.values() {
            control.wait(CANCEL_GRACE.saturating_sub(began.elapsed()));
        }
        for number in controls.keys() {
            self.unregister(*number);
        }
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        // Acquire, partner `cancel`.
        self.state.cancelled.load(Ordering::Acquire)
    }

    /// Has the control cancelled with the token. `None`: the token is cancelled already.
    pub(super) fn register(&self, control: Arc<dyn SubscriptionControl>) -> Option<Registration> {
        let mut registered = self.state.registered.lock();
        if self.is_cancelled() {
            return None;
        }
        let number = registered.next;
        registered.next += 1;
        registered.controls.insert(number, control);
        Some(Registration {
            token: self.clone(),
            number,
        })
    }

    fn unregister(&self, number: u64) {
        let control = self.state.registered.lock().controls.remove(&number);
        // Not under the lock: it may own a handler, and a handler's drop is foreign code.
        drop(control);
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// An entry in a token.
pub(super) struct Registration {
    token: CancelToken,
    number: u64,
}

impl Registration {
    pub(super) fn remove(&self) {
        self.token.unregister(self.number);
    }
}
