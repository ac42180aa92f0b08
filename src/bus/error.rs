//! One error per operation. Those that hand a value back say nothing of its type, so they need no bound on it.

use std::fmt;
use std::time::Duration;

use super::label::LabelError;
use crate::dispatch::loss::Gap;
use crate::limits::{
    BLOCK_TIMEOUT_MAX, CAPACITY_MAX, DISPATCHERS_MAX, HANDLER_THREADS_MAX, LANE_CAPACITY_MAX,
};
use crate::pattern::{PatternError, TopicError};

/// A publishing error: an enum whose every variant hands the value back.
macro_rules! publish_error {
    (
        $(#[$doc:meta])*
        $name:ident { $( $(#[$variant_doc:meta])* $variant:ident => $text:literal ),* $(,)? }
    ) => {
        $(#[$doc])*
        #[non_exhaustive]
        pub enum $name<T> {
            /// The topic is none; the error says where and why.
            Topic(TopicError, T),
            $( $(#[$variant_doc])* $variant(T), )*
        }

        impl<T> $name<T> {
            /// The value that was not published.
            pub fn into_value(self) -> T {
                match self {
                    Self::Topic(_, value) $( | Self::$variant(value) )* => value,
                }
            }
        }

        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Topic(error, _) => error.fmt(f),
                    $( Self::$variant(_) => f.write_str($text), )*
                }
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Topic(error, _) => f.debug_tuple("Topic").field(error).finish_non_exhaustive(),
                    $( Self::$variant(_) => f.write_str(concat!(stringify!($variant), "(..)")), )*
                }
            }
        }

        impl<T> std::error::Error for $name<T> {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                match self {
                    Self::Topic(error, _) => Some(error),
                    _ => None,
                }
            }
        }
    };
}

publish_error! {
    /// Why `publish`, `send` or `publish_async` did not accept an event.
    ///
    /// ```
    /// use fanout::{Bus, PublishError};
    ///
    /// let bus = Bus::<String>::new();
    /// let refused = bus.publish("no..segment", "kept".to_string()).unwrap_err();
    /// assert!(matches!(refused, PublishError::Topic(..)));
    /// assert_eq!(refused.into_value(), "kept");
    /// ```
    PublishError {
        /// The bus is closed.
        Closed => "the bus is closed",
        /// A thread of the bus died; see [`RecvError::Broken`].
        Broken => "the bus is broken: one of its threads panicked",
        /// The lane is full, and the calling thread is the one that would have to empty it.
        WouldDeadlock => "the lane is full, and waiting here would be waiting for oneself",
    }
}

publish_error! {
    /// Why `try_publish` did not accept an event.
    TryPublishError {
        /// The lane is full.
        Full => "the lane is full",
        /// The bus is closed.
        Closed => "the bus is closed",
        /// A thread of the bus died; see [`RecvError::Broken`].
        Broken => "the bus is broken: one of its threads panicked",
    }
}

publish_error! {
    /// Why `publish_timeout` did not accept an event.
    PublishTimeoutError {
        /// The lane was full for as long as the caller would wait.
        Timeout => "the lane was full until the time was up",
        /// The bus is closed.
        Closed => "the bus is closed",
        /// A thread of the bus died; see [`RecvError::Broken`].
        Broken => "the bus is broken: one of its threads panicked",
        /// The lane is full, and the calling thread is the one that would have to empty it.
        WouldDeadlock => "the lane is full, and waiting here would be waiting for oneself",
    }
}

/// Why `publish_sequenced` has no receipt.
#[non_exhaustive]
pub enum PublishSequencedError<T> {
    /// The event was not accepted; the value is in there.
    Refused(PublishError<T>),
    /// It was accepted, and then the bus was closed by force or broke before it was sequenced: no subscriber gets it.
    Unsequenced,
}

impl<T> fmt::Display for PublishSequencedError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Unsequenced => f.write_str("the bus ended before the event was sequenced"),
        }
    }
}

impl<T> fmt::Debug for PublishSequencedError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => f.debug_tuple("Refused").field(error).finish(),
            Self::Unsequenced => f.write_str("Unsequenced"),
        }
    }
}

impl<T> std::error::Error for PublishSequencedError<T> {}

impl<T> From<PublishError<T>> for PublishSequencedError<T> {
    fn from(error: PublishError<T>) -> Self {
        Self::Refused(error)
    }
}

/// Why [`Subscriber::recv`](crate::Subscriber::recv) has no event.
///
/// After `Lost`, receiving goes on with the event behind the gap; the others are for ever. So never end a loop at just
/// any error: see [`for_each`](crate::Subscriber::for_each).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Events were lost here, told once for the run.
    #[error("{0}")]
    Lost(Gap),
    /// The ring was full under [`Overflow::Disconnect`](crate::Overflow::Disconnect): the subscription has ended, and what had
    /// room in front of these events was read.
    #[error("disconnected: {0}")]
    Disconnected(Gap),
    /// The bus is closed, and everything was read.
    #[error("the bus is closed and everything was read")]
    Closed,
    /// The subscription was cancelled.
    #[error("the subscription was cancelled")]
    Cancelled,
    /// A thread of the bus panicked, in a weigher or by a fault of this library. Events may be missing without a gap.
    #[error("the bus is broken: one of its threads panicked")]
    Broken,
}

/// Why [`Subscriber::try_recv`](crate::Subscriber::try_recv) has no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryRecvError {
    /// Nothing is there yet.
    #[error("no event is there yet")]
    Empty,
    /// As [`RecvError::Lost`].
    #[error("{0}")]
    Lost(Gap),
    /// As [`RecvError::Disconnected`].
    #[error("disconnected: {0}")]
    Disconnected(Gap),
    /// As [`RecvError::Closed`].
    #[error("the bus is closed and everything was read")]
    Closed,
    /// As [`RecvError::Cancelled`].
    #[error("the subscription was cancelled")]
    Cancelled,
    /// As [`RecvError::Broken`].
    #[error("the bus is broken: one of its threads panicked")]
    Broken,
}

/// Why [`Subscriber::recv_timeout`](crate::Subscriber::recv_timeout) has no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// Nothing came in time.
    #[error("no event came in time")]
    Timeout,
    /// As [`RecvError::Lost`].
    #[error("{0}")]
    Lost(Gap),
    /// As [`RecvError::Disconnected`].
    #[error("disconnected: {0}")]
    Disconnected(Gap),
    /// As [`RecvError::Closed`].
    #[error("the bus is closed and everything was read")]
    Closed,
    /// As [`RecvError::Cancelled`].
    #[error("the subscription was cancelled")]
    Cancelled,
    /// As [`RecvError::Broken`].
    #[error("the bus is broken: one of its threads panicked")]
    Broken,
}

impl From<RecvError> for TryRecvError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Lost(gap) => Self::Lost(gap),
            RecvError::Disconnected(gap) => Self::Disconnected(gap),
            RecvError::Closed => Self::Closed,
            RecvError::Cancelled => Self::Cancelled,
            RecvError::Broken => Self::Broken,
        }
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Lost(gap) => Self::Lost(gap),
            RecvError::Disconnected(gap) => Self::Disconnected(gap),
            RecvError::Closed => Self::Closed,
            RecvError::Cancelled => Self::Cancelled,
            RecvError::Broken => Self::Broken,
        }
    }
}

/// Why a subscription was not opened.
///
/// ```
/// use fanout::{Bus, SubscribeError};
///
/// let bus = Bus::<u32>::new();
/// assert!(matches!(bus.subscribe("a..b").unwrap_err(), SubscribeError::Pattern(_)));
/// let refused = bus.subscription("a").capacity(0).open().unwrap_err();
/// assert_eq!(refused.to_string(), "a capacity of 0 events is not in 1..=16777216");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// A pattern was refused; the error says where and why.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A subscription begins with at least one pattern.
    #[error("a subscription needs at least one pattern")]
    NoPattern,
    /// The capacity, in events, is out of its range.
    #[error("a capacity of {0} events is not in 1..={CAPACITY_MAX}")]
    Capacity(usize),
    /// `pin_bytes` is 0.
    #[error("pin_bytes must be at least 1")]
    PinBytes,
    /// `Overflow::Block` on a bus that was not built for it.
    #[error(
        "Overflow::Block needs a bus built with blocking(true): a blocking subscriber can hold up all others"
    )]
    BlockingNotAllowed,
    /// The longest wait for a `Block` subscriber is out of its range.
    #[error("a block timeout of {0:?} is more than {BLOCK_TIMEOUT_MAX:?}")]
    BlockTimeout(Duration),
    /// The system gave no thread for the handler.
    #[error("no thread for a handler: {0}")]
    Thread(std::io::ErrorKind),
    /// A label was refused; the error says which one, and why.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The bus is closed.
    #[error("the bus is closed")]
    Closed,
}

/// Why a subscription's patterns were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The pattern was refused; the error says where and why.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The subscription has ended.
    #[error("the subscription has ended")]
    Ended,
}

/// Why a bus was not built.
///
/// ```
/// let refused = fanout::Bus::<u32>::builder().dispatchers(0).build().unwrap_err();
/// assert_eq!(refused.to_string(), "0 dispatchers is not in 1..=64");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The number of dispatcher threads is out of its range.
    #[error("{0} dispatchers is not in 1..={DISPATCHERS_MAX}")]
    Dispatchers(usize),
    /// The default capacity, in events, is out of its range.
    #[error("a capacity of {0} events is not in 1..={CAPACITY_MAX}")]
    Capacity(usize),
    /// The capacity of lanes, in events, is out of its range.
    #[error("a lane capacity of {0} events is not in 1..={LANE_CAPACITY_MAX}")]
    LaneCapacity(usize),
    /// `pin_bytes` is 0.
    #[error("pin_bytes must be at least 1")]
    PinBytes,
    /// The longest wait for `Block` subscribers is out of its range.
    #[error("a block timeout of {0:?} is more than {BLOCK_TIMEOUT_MAX:?}")]
    BlockTimeout(Duration),
    /// The number of handler threads is out of its range.
    #[error("{threads} handler threads, up to {max}, is not in 1..={max}..={HANDLER_THREADS_MAX}")]
    HandlerThreads {
        /// Threads of the handler pool.
        threads: usize,
        /// These and the spares.
        max: usize,
    },
    /// A slow subscriber's share of its capacity is out of its range.
    #[error("a slow limit of {0} percent of the capacity is not in 1..=100")]
    SlowPercent(u32),
    /// A slow subscriber's lag is 0 events.
    #[error("a slow limit must be at least 1 event")]
    SlowEvents,
    /// A slow subscriber's lag is no time at all.
    #[error("a slow limit must be more than no time at all")]
    SlowTime,
    /// One in every 0 events was to be sampled.
    #[cfg(feature = "latency")]
    #[error("a latency sample of one in every 0 events is not in 1..=4294967295")]
    SampleLatency,
    /// The system gave no thread, for a dispatcher or for the watcher of [`on_slow`](crate::BusBuilder::on_slow).
    #[error("no thread for the bus: {0}")]
    Thread(#[from] std::io::Error),
}
