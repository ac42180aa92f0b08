//! A token that cancels many subscriptions at once.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use super::control::SubscriptionControl;
use crate::handlers::pool::CANCEL_GRACE;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};

/// Cancels any number of subscriptions, and publishers that wait, like the cancellation of a
/// context in Go.
///
/// Clones are the same token. A token is cancelled once and stays cancelled. A token may live as
/// long as the program: subscriptions that were cancelled in another way are no longer registered
/// with it.
///
/// ```
/// use fanout::broadcast::{
///     BroadcastSubscribeError, Broadcaster, BroadcasterExt, CancelToken, Event, Memory,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broadcaster = Memory::new();
/// let session = CancelToken::new();
/// let _orders = broadcaster.on_until(&session, "orders.1", |event| println!("{event:?}"))?;
/// let _chat = broadcaster.on_until(&session, "chat:room 7", |event| println!("{event:?}"))?;
///
/// session.cancel(); // no call of either handler starts any more
/// let late = broadcaster.on_until(&session, "orders.1", |_| ());
/// assert!(matches!(late, Err(BroadcastSubscribeError::Cancelled)));
/// let event = Event::new("orders.1", "OrderShipped", "");
/// assert!(broadcaster.publish_until(&session, event).is_err());
/// # Ok(())
/// # }
/// ```
#[doc(alias = "context")]
#[derive(Clone, Default)]
pub struct CancelToken {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cancelled: AtomicBool,
    registered: Mutex<Registered>,
}

/// The subscriptions that are cancelled with the token.
#[derive(Default)]
struct Registered {
    /// Number of the next registration: larger than all numbers in `controls`.
    next: u64,
    controls: BTreeMap<u64, Arc<dyn SubscriptionControl>>,
}

impl CancelToken {
    /// Creates a token that is not cancelled.
    ///
    /// ```
    /// assert!(!fanout::broadcast::CancelToken::new().is_cancelled());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels the token and every subscription that is registered with it. Once this has returned,
    /// no call of their handlers starts, and nothing can be registered any more.
    ///
    /// Calls that are running may finish. `cancel` waits up to 10 milliseconds for all of them
    /// together, and does not wait when it is called from inside a handler. It may be called from
    /// any thread and more than once.
    ///
    /// ```
    /// use fanout::broadcast::CancelToken;
    ///
    /// let token = CancelToken::new();
    /// let clone = token.clone();
    /// clone.cancel();
    /// assert!(token.is_cancelled());
    /// ```
    pub fn cancel(&self) {
        let controls = {
            let registered = self.state.registered.lock();
            // Release, partner `is_cancelled`. Under the lock, so that each `register` either comes
            // before it and is in the copy, or comes after it and sees the flag.
            self.state.cancelled.store(true, Ordering::Release);
            // The controls are copied: another thread that cancels the token meanwhile must find
            // the same controls, because it must not return before all of them are cancelled
            // either.
            registered.controls.clone()
        };
        controls.values().for_each(|control| control.cancel());
        let started = Instant::now();
        for control in controls.values() {
            control.wait(CANCEL_GRACE.saturating_sub(started.elapsed()));
        }
        for number in controls.keys() {
            self.unregister(*number);
        }
    }

    /// Whether the token was cancelled. A driver whose calls wait looks at this while it waits.
    ///
    /// ```
    /// use fanout::broadcast::CancelToken;
    ///
    /// let token = CancelToken::new();
    /// assert!(!token.is_cancelled());
    /// token.cancel();
    /// assert!(token.is_cancelled());
    /// ```
    pub fn is_cancelled(&self) -> bool {
        // Acquire, partner the store in `cancel`.
        self.state.cancelled.load(Ordering::Acquire)
    }

    /// Registers a subscription. `None`: the token is cancelled already, and nothing was
    /// registered.
    pub(super) fn register(&self, control: Arc<dyn SubscriptionControl>) -> Option<Registration> {
        let mut registered = self.state.registered.lock();
        if self.is_cancelled() {
            return None;
        }
        let number = registered.next;
        registered.next += 1;
        let previous = registered.controls.insert(number, control);
        debug_assert!(previous.is_none(), "numbers are used once");
        Some(Registration {
            token: self.clone(),
            number,
        })
    }

    fn unregister(&self, number: u64) {
        let control = self.state.registered.lock().controls.remove(&number);
        // Only after the lock is released: the control may own a handler, and dropping a handler
        // runs user code.
        drop(control);
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("cancelled", &self.is_cancelled())
            .field("registered", &self.state.registered.lock().controls.len())
            .finish()
    }
}

/// The place of a subscription in a token.
pub(super) struct Registration {
    token: CancelToken,
    number: u64,
}

impl Registration {
    pub(super) fn remove(&self) {
        self.token.unregister(self.number);
    }
}
