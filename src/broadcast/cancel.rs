//! A token that cancels many subscriptions at once.
//!
//! A token and a subscription have references to each other: the token owns the [`Cancellable`]
//! part of the subscription, which has a weak reference to the token for each
//! [`TokenRegistration`]. The one that ends first removes both references: a token that is
//! cancelled or dropped drops its subscriptions, and a subscription that has ended removes itself
//! from all its tokens.
//!
//! # Failure modes
//!
//! * **A subscription is detached**: nothing else owns its cancellable part, so the token's copy is
//!   the only one. [`Memory`](super::Memory) ends the registrations with the handler. The control
//!   of a driver reports whether its subscription [has ended](SubscriptionControl::is_ended); the
//!   token checks this at some of its registrations.
//! * **A control is dropped**: that may run user code, so it happens outside of all locks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Weak;
use std::time::{Duration, Instant};

use super::control::SubscriptionControl;
use crate::handlers::pool::CANCEL_GRACE;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};

/// Fewer subscriptions of a token, or tokens of a subscription, are not checked for those that have
/// ended.
const CHECK_MIN: usize = 32;

/// Cancels any number of subscriptions, and publishers that wait, like the cancellation of a
/// context in Go.
///
/// Clones are the same token. A token is cancelled once and stays cancelled. A token may live as
/// long as the program: subscriptions that have ended in another way are no longer registered with
/// it, also if they were [detached](super::SubscriptionGuard::detach).
///
/// ```
/// use fanout::broadcast::{
///     BroadcastEvent, BroadcastSubscribeError, Broadcaster, BroadcasterExt, CancelToken, Memory,
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
/// let event = BroadcastEvent::new("orders.1", "OrderShipped", "");
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
    /// Number of the next registration: larger than all numbers in `subscriptions`.
    next: u64,
    subscriptions: BTreeMap<u64, Arc<Cancellable>>,
    /// The number of subscriptions at which the token checks which of them have ended: at least
    /// twice their number after the last time, so that each is checked a few times only.
    check_at: usize,
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
        let subscriptions = {
            let registered = self.state.registered.lock();
            // Release, partner `is_cancelled`. Under the lock, so that each `register` either comes
            // before it and is in the copy, or comes after it and sees the flag.
            self.state.cancelled.store(true, Ordering::Release);
            // The subscriptions are copied: another thread that cancels the token meanwhile must
            // find the same ones, because it must not return before all of them are cancelled
            // either.
            registered.subscriptions.clone()
        };
        let each = || subscriptions.values();
        each().for_each(|subscription| subscription.control.cancel());
        let started = Instant::now();
        for subscription in each() {
            let left = CANCEL_GRACE.saturating_sub(started.elapsed());
            subscription.control.wait(left);
        }
        // Also with other tokens.
        each().for_each(|subscription| subscription.registrations.end());
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

    /// Registers a subscription, unless it has ended. Returns `false` if the token is cancelled
    /// already, and registers nothing then.
    pub(super) fn register(&self, subscription: &Arc<Cancellable>) -> bool {
        self.remove_ended();
        let number = {
            let mut registered = self.state.registered.lock();
            if self.is_cancelled() {
                return false;
            }
            let number = registered.next;
            registered.next += 1;
            let previous = registered
                .subscriptions
                .insert(number, subscription.clone());
            debug_assert!(previous.is_none(), "numbers are used once");
            number
        };
        subscription.registrations.add(TokenRegistration {
            token: Arc::downgrade(&self.state),
            number,
        });
        true
    }

    /// Removes the subscriptions of drivers that have ended, if there are many.
    fn remove_ended(&self) {
        let subscriptions = {
            let registered = self.state.registered.lock();
            if registered.subscriptions.len() < registered.check_at.max(CHECK_MIN) {
                return;
            }
            registered.subscriptions.clone()
        };
        // Without the lock: `is_ended` is code of a driver.
        for subscription in subscriptions.values() {
            if subscription.control.is_ended() {
                subscription.registrations.end();
            }
        }
        let mut registered = self.state.registered.lock();
        registered.check_at = 2 * registered.subscriptions.len();
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registered = self.state.registered.lock().subscriptions.len();
        f.debug_struct("CancelToken")
            .field("cancelled", &self.is_cancelled())
            .field("registered", &registered)
            .finish()
    }
}

/// What cancels a subscription, and where it is registered.
pub(super) struct Cancellable {
    pub(super) control: Box<dyn SubscriptionControl>,
    /// The handler of a [`Memory`](super::Memory) shares them.
    pub(super) registrations: Arc<Registrations>,
}

impl SubscriptionControl for Cancellable {
    fn cancel(&self) {
        self.control.cancel();
        self.registrations.end();
    }

    fn wait(&self, timeout: Duration) -> bool {
        self.control.wait(timeout)
    }

    fn is_ended(&self) -> bool {
        self.control.is_ended()
    }
}

/// The registrations of one subscription, with any number of tokens.
pub(super) struct Registrations {
    list: Mutex<RegistrationList>,
}

struct RegistrationList {
    registrations: Vec<TokenRegistration>,
    /// The length at which registrations with tokens that were dropped are removed.
    check_at: usize,
    ended: bool,
}

/// The place of a subscription in a token.
struct TokenRegistration {
    token: Weak<State>,
    number: u64,
}

impl Registrations {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            list: Mutex::new(RegistrationList {
                registrations: Vec::new(),
                check_at: CHECK_MIN,
                ended: false,
            }),
        })
    }

    fn add(&self, registration: TokenRegistration) {
        {
            let list = &mut *self.list.lock();
            if !list.ended {
                if list.registrations.len() >= list.check_at {
                    list.registrations.retain(TokenRegistration::is_live);
                    list.check_at = (2 * list.registrations.len()).max(CHECK_MIN);
                }
                list.registrations.push(registration);
                return;
            }
        }
        // The subscription has ended since the token registered it, or before.
        registration.remove();
    }

    /// The subscription has ended: removes it from all tokens, and from those that it is registered
    /// with later.
    pub(super) fn end(&self) {
        let registrations = {
            let list = &mut *self.list.lock();
            list.ended = true;
            std::mem::take(&mut list.registrations)
        };
        registrations.iter().for_each(TokenRegistration::remove);
    }

    /// Whether no token cancels the subscription any more, because it has ended.
    pub(super) fn have_ended(&self) -> bool {
        self.list.lock().ended
    }

    /// The number of tokens.
    pub(super) fn count(&self) -> usize {
        let list = self.list.lock();
        let live = list.registrations.iter().filter(|r| r.is_live());
        live.count()
    }
}

impl TokenRegistration {
    fn is_live(&self) -> bool {
        self.token.strong_count() > 0
    }

    fn remove(&self) {
        let Some(state) = self.token.upgrade() else {
            return;
        };
        let removed = state.registered.lock().subscriptions.remove(&self.number);
        // Only after the lock is released: dropping the control of a driver runs user code.
        drop(removed);
    }
}
