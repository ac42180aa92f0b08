//! The notices that an observer gets.

use std::fmt;

use crate::contain::{UserValue, contain};
use crate::dispatch::loss::Gap;
use crate::log;
use crate::park::NonBlockingScope;
use crate::pattern::Topic;

/// Something that happened to a handler and that no call can return: the argument of the
/// [observer](crate::BusBuilder::observer).
///
/// With the feature `tracing`, every notice is also an event of level `WARN`, with the text of its
/// `Display`. Every notice is counted in the statistics of its subscription. `subscription` is
/// always the number that [`SubscriptionHandle::number`](crate::SubscriptionHandle::number)
/// returns, from 1.
///
/// ```
/// use fanout::{Bus, Notice};
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let failures = Arc::new(Mutex::new(Vec::new()));
/// let log = failures.clone();
/// let bus = Bus::<String>::builder()
///     .observer(move |notice| {
///         if let Notice::Failed { .. } = notice {
///             log.lock().unwrap().push(notice.to_string());
///         }
///     })
///     .build()?;
/// let _handler = bus.on("readings", |event| event.data().parse::<f64>().map(drop))?;
/// bus.publish("readings", "cold".to_owned())?;
/// assert!(bus.flush_within(Duration::from_secs(5)));
/// assert_eq!(
///     *failures.lock().unwrap(),
///     ["subscription 1: the handler failed for event 1 on topic readings: invalid float literal"]
/// );
/// # Ok(())
/// # }
/// ```
///
/// See [`BusBuilder::observer`](crate::BusBuilder::observer).
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// A handler returned an error. The next event is handled as usual.
    #[non_exhaustive]
    Failed {
        /// Number of the subscription.
        subscription: u64,
        /// Id of the event.
        id: u64,
        /// Topic of the event.
        topic: &'a Topic,
        /// The error that the handler returned.
        error: &'a dyn fmt::Display,
    },
    /// A handler panicked. The next event is handled as usual.
    #[non_exhaustive]
    Panicked {
        /// Number of the subscription.
        subscription: u64,
        /// Id of the event.
        id: u64,
        /// Topic of the event.
        topic: &'a Topic,
        /// The panic message, if it is text.
        message: Option<&'a str>,
    },
    /// A handler fell behind, and a run of events was lost to it.
    #[non_exhaustive]
    Lost {
        /// Number of the subscription.
        subscription: u64,
        /// The events that were lost.
        gap: Gap,
    },
    /// A handler fell behind under [`Overflow::Disconnect`](crate::Overflow::Disconnect). It has
    /// handled what was in its ring, and its subscription has ended. If it was cancelled after the
    /// loss, the events that were left in its ring are not handled, and count as
    /// [`unread`](crate::SubscriptionStats::unread).
    #[non_exhaustive]
    Disconnected {
        /// Number of the subscription.
        subscription: u64,
        /// The events that had no room in the ring, and are lost.
        gap: Gap,
    },
    /// One call of a handler has taken longer than [`HANDLER_STALL`](crate::limits::HANDLER_STALL),
    /// so its thread is to be replaced. The call itself is not interrupted.
    ///
    /// A separate thread reports stalls, so an observer that blocks delays only further notices of
    /// stalls. Up to 1,024 of them wait for it; later ones are counted and not reported.
    #[non_exhaustive]
    Stalled {
        /// Number of the subscription.
        subscription: u64,
        /// Whether the other handlers have as many threads as before, because a spare thread took
        /// over. `false`: there are [`max_handler_threads`](crate::BusBuilder::max_handler_threads)
        /// threads already, or no thread could be started, and other handlers may have to wait.
        replaced: bool,
    },
}

impl fmt::Display for Notice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed {
                subscription,
                id,
                topic,
                error,
            } => write!(
                f,
                "subscription {subscription}: the handler failed for event {id} on topic {topic}: \
                 {error}"
            ),
            Self::Panicked {
                subscription,
                id,
                topic,
                message,
            } => write!(
                f,
                "subscription {subscription}: the handler panicked for event {id} on topic \
                 {topic}: {}",
                message.unwrap_or("(the panic message is not text)")
            ),
            Self::Lost { subscription, gap } => {
                write!(
                    f,
                    "subscription {subscription}: the handler fell behind: {gap}"
                )
            }
            Self::Disconnected { subscription, gap } => write!(
                f,
                "subscription {subscription}: disconnected because the handler fell behind: {gap}"
            ),
            Self::Stalled {
                subscription,
                replaced,
            } => write!(
                f,
                "subscription {subscription}: a call of the handler takes too long; {}",
                if *replaced {
                    "a spare thread replaces its thread"
                } else {
                    "no spare thread is available"
                }
            ),
        }
    }
}

impl fmt::Debug for Notice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notice({self})")
    }
}

/// The function that the program registered for notices.
pub(crate) type Observer = UserValue<Box<dyn Fn(&Notice<'_>) + Send + Sync>>;

/// Reports to the log and to the observer. A panic of either is contained.
#[cold]
pub(crate) fn report(observer: Option<&Observer>, notice: Notice<'_>) {
    // An observer must not wait: it runs on the handler's thread, or on the one that reports
    // stalls.
    let _scope = NonBlockingScope::enter();
    log::warn(format_args!("{notice}"));
    if let Some(observer) = observer {
        contain("the observer", || observer(&notice));
    }
}
