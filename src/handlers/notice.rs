//! What an observer is told.

use std::fmt;

use crate::contain::contain;
use crate::dispatch::loss::Gap;
use crate::log;
use crate::park::NonBlockingScope;
use crate::pattern::Topic;

/// Something that a handler did, or that was done to it, and that its publisher never hears of.
///
/// Every notice is also an event of the feature `tracing`, and is counted in the subscription's statistics. See
/// [`BusBuilder::observer`](crate::BusBuilder::observer).
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// A handler answered an error. The next event is handled as usual.
    #[non_exhaustive]
    Failed {
        /// Number of the subscription.
        subscription: u64,
        /// Id of the event.
        id: u64,
        /// Topic of the event.
        topic: &'a Topic,
        /// The error.
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
        /// What it panicked with, if that is text.
        message: Option<&'a str>,
    },
    /// A run of events was lost to a handler that fell behind.
    #[non_exhaustive]
    Lost {
        /// Number of the subscription.
        subscription: u64,
        /// The run.
        gap: Gap,
    },
    /// A handler fell behind under [`Overflow::Disconnect`](crate::Overflow::Disconnect): it has handled what waited, and is
    /// dropped. These events are lost.
    #[non_exhaustive]
    Disconnected {
        /// Number of the subscription.
        subscription: u64,
        /// The run.
        gap: Gap,
    },
    /// A handler has been at one event for longer than [`HANDLER_STALL`](crate::limits::HANDLER_STALL); its thread is replaced.
    #[non_exhaustive]
    Stalled {
        /// Number of the subscription.
        subscription: u64,
        /// Whether a spare thread took over; `false`: there are
        /// [`max_handler_threads`](crate::BusBuilder::max_handler_threads) already, and other handlers may have to wait.
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
                "subscription {subscription}: the handler failed on event {id} on {topic}: {error}"
            ),
            Self::Panicked {
                subscription,
                id,
                topic,
                message,
            } => write!(
                f,
                "subscription {subscription}: the handler panicked on event {id} on {topic}: {}",
                message.unwrap_or("(not text)")
            ),
            Self::Lost { subscription, gap } => write!(f, "subscription {subscription}: {gap}"),
            Self::Disconnected { subscription, gap } => {
                write!(f, "subscription {subscription}: disconnected: {gap}")
            }
            Self::Stalled {
                subscription,
                replaced,
            } => write!(
                f,
                "subscription {subscription}: the handler has been at one event for long; {}",
                if *replaced {
                    "a spare thread took over"
                } else {
                    "no spare thread is left"
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

/// Where notices go.
pub(crate) type Observer = Box<dyn Fn(&Notice<'_>) + Send + Sync>;

/// Tells the program and the log. An observer that panics takes nobody along.
#[cold]
pub(crate) fn tell(observer: Option<&Observer>, notice: Notice<'_>) {
    // Not to be kept waiting: the handler's thread, or the one that watches all of them.
    let _here = NonBlockingScope::enter();
    log::warn(format_args!("{notice}"));
    if let Some(observer) = observer {
        contain("the observer", || observer(&notice));
    }
}
