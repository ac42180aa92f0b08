//! The errors of the bus: one type for each operation.
//!
//! | rule | so that |
//! | --- | --- |
//! | an error that contains another error displays the text of that error, and returns its `source` | a program that prints the chain of sources prints nothing twice, and a program that prints the error alone prints all of it |
//! | an error that returns a payload has `value` and `into_value` | no payload is lost, whatever the variant is |
//! | `Debug`, `Display` and `Error` have no bounds on the payload | a payload needs no `Debug` for `?` and `expect_err` |
//!
//! There is no error type that includes all of them. A program that needs only one type converts
//! the errors with `?` into `Box<dyn Error + Send + Sync>`, or into the type of its error library.
//! A type that includes all of them and returns payloads would need a type parameter in every
//! signature.

use std::fmt;
use std::io;
use std::time::Duration;

use super::label::LabelError;
use crate::dispatch::loss::Gap;
use crate::limits::{
    BLOCK_TIMEOUT_MAX, CAPACITY_MAX, DISPATCHERS_MAX, HANDLER_THREADS_MAX, LANE_CAPACITY_MAX,
};
use crate::pattern::{PatternError, TopicError};
use crate::sync::Arc;

/// Why an event was not accepted. The error of the operation adds the payload.
pub(super) enum Refused {
    /// In a box, so that what is returned per event is small.
    Topic(Box<TopicError>),
    Full,
    Timeout,
    Closed,
    Broken,
    WouldDeadlock,
}

impl Refused {
    fn text(&self) -> &'static str {
        match self {
            Self::Topic(_) => "the topic is not valid", // the topic's error has a text of its own
            Self::Full => "the lane is full",
            Self::Timeout => "the lane was full until the timeout",
            Self::Closed => CLOSED,
            Self::Broken => BROKEN,
            Self::WouldDeadlock => {
                "a handler or callback must not wait for the bus: use try_publish, \
                 or publish from another thread"
            }
        }
    }
}

/// [`BLOCK_TIMEOUT_MAX`] in days.
const BLOCK_TIMEOUT_DAYS: u64 = BLOCK_TIMEOUT_MAX.as_secs() / 86_400;

const CLOSED: &str = "the bus is closed";
const BROKEN: &str = "the bus is broken: one of its threads has panicked";

/// An error of publishing.
pub(super) trait RefusedError<T> {
    fn new(refused: Refused, value: T) -> Self;
}

/// Defines the errors of publishing: enums whose variants all return the payload. They differ in
/// what can happen while the lane is full.
macro_rules! publish_errors {
    ($(
        $(#[$doc:meta])*
        $name:ident { $( $(#[$variant_doc:meta])* $variant:ident, )* }
    )*) => { $(
        $(#[$doc])*
        #[non_exhaustive]
        pub enum $name<T> {
            /// The text is not a valid topic. The error names the position and the rule.
            Topic(TopicError, T),
            /// The bus is closed.
            Closed(T),
            /// The bus is broken: see [`RecvError::Broken`].
            Broken(T),
            $( $(#[$variant_doc])* $variant(T), )*
        }

        impl<T> $name<T> {
            /// Returns the payload that was not published.
            #[must_use]
            pub fn value(&self) -> &T {
                match self {
                    Self::Topic(_, value) | Self::Closed(value) | Self::Broken(value) => value,
                    $( Self::$variant(value) => value, )*
                }
            }

            /// Returns the payload that was not published, and consumes the error.
            #[must_use]
            pub fn into_value(self) -> T {
                match self {
                    Self::Topic(_, value) | Self::Closed(value) | Self::Broken(value) => value,
                    $( Self::$variant(value) => value, )*
                }
            }
        }

        impl<T> RefusedError<T> for $name<T> {
            fn new(refused: Refused, value: T) -> Self {
                match refused {
                    Refused::Topic(error) => Self::Topic(*error, value),
                    Refused::Closed => Self::Closed(value),
                    Refused::Broken => Self::Broken(value),
                    $( Refused::$variant => Self::$variant(value), )*
                    #[allow(unreachable_patterns, reason = "an error may have all of them")]
                    other => unreachable!("this operation never fails with: {}", other.text()),
                }
            }
        }

        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Topic(error, _) => error.fmt(f),
                    Self::Closed(_) => f.write_str(CLOSED),
                    Self::Broken(_) => f.write_str(BROKEN),
                    $( Self::$variant(_) => f.write_str(Refused::$variant.text()), )*
                }
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Topic(error, _) => {
                        f.debug_tuple("Topic").field(error).finish_non_exhaustive()
                    }
                    Self::Closed(_) => f.write_str("Closed(..)"),
                    Self::Broken(_) => f.write_str("Broken(..)"),
                    $( Self::$variant(_) => {
                        f.write_str(concat!(stringify!($variant), "(..)"))
                    } )*
                }
            }
        }

        impl<T> std::error::Error for $name<T> {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                match self {
                    Self::Topic(error, _) => error.source(),
                    _ => None,
                }
            }
        }
    )* };
}

publish_errors! {
    /// Why `publish`, `send`, `publish_async` or `send_async` did not accept an event.
    ///
    /// ```
    /// use fanout::{Bus, PublishError};
    ///
    /// let bus = Bus::<String>::new();
    /// let refused = bus.publish("no..segment", "kept".to_string()).unwrap_err();
    /// assert_eq!(
    ///     refused.to_string(),
    ///     "topic `no..segment`, byte 3: a segment must not be empty",
    /// );
    /// assert!(matches!(refused, PublishError::Topic(..)));
    /// assert_eq!(refused.value(), "kept");
    /// assert_eq!(refused.into_value(), "kept");
    /// ```
    #[doc(alias = "SendError")]
    PublishError {
        /// The call would have to wait, and this would deadlock, because the bus itself called the
        /// code that publishes (a handler, an observer, a payload's `drop`, a waker, a clock): the
        /// lane is full, or the call is `publish_sequenced` or `send_sequenced`, which always wait.
        /// Use [`try_publish`](crate::Bus::try_publish) there, or publish from another thread. If
        /// the lane is full, `try_publish` fails, too, with [`Full`](TryPublishError::Full).
        WouldDeadlock,
    }

    /// Why `try_publish` or `try_send` did not accept an event.
    ///
    /// ```
    /// use fanout::{Bus, Dispatch, TryPublishError};
    ///
    /// # fn main() -> Result<(), fanout::BuildError> {
    /// let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).lane_capacity(2).build()?;
    /// let refused = (1..=3).find_map(|n| bus.try_publish("n", n).err());
    /// assert!(matches!(refused, Some(TryPublishError::Full(3))));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "TrySendError")]
    TryPublishError {
        /// The lane is full.
        Full,
    }

    /// Why `publish_timeout` or `send_timeout` did not accept an event.
    ///
    /// ```
    /// use fanout::{Bus, PublishTimeoutError};
    /// use std::time::Duration;
    ///
    /// let bus = Bus::<u32>::new();
    /// bus.close();
    /// let refused = bus.publish_timeout("n", 1, Duration::from_secs(1)).unwrap_err();
    /// assert!(matches!(refused, PublishTimeoutError::Closed(1)));
    /// ```
    #[doc(alias = "SendTimeoutError")]
    PublishTimeoutError {
        /// The lane was full until the timeout.
        Timeout,
        /// See [`PublishError::WouldDeadlock`].
        WouldDeadlock,
    }
}

/// Why `publish_sequenced`, `send_sequenced` or one of their `_async` variants returned no receipt.
///
/// ```
/// use fanout::{Bus, PublishError, PublishSequencedError};
///
/// let bus = Bus::<u32>::new();
/// bus.close();
/// let refused = bus.publish_sequenced("n", 7).unwrap_err();
/// assert!(matches!(
///     refused,
///     PublishSequencedError::Refused(PublishError::Closed(7)),
/// ));
/// assert_eq!(refused.to_string(), "the bus is closed");
/// assert_eq!(refused.into_value(), Some(7));
/// ```
#[non_exhaustive]
pub enum PublishSequencedError<T> {
    /// The event was not accepted. The error contains the payload.
    Refused(PublishError<T>),
    /// The event was accepted, but the bus was closed by force or broke before it sequenced the
    /// event. No subscriber gets the event.
    Unsequenced,
}

impl<T> PublishSequencedError<T> {
    /// The payload, if the event was not accepted.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Refused(error) => Some(error.value()),
            Self::Unsequenced => None,
        }
    }

    /// The payload, if the event was not accepted.
    #[must_use]
    pub fn into_value(self) -> Option<T> {
        match self {
            Self::Refused(error) => Some(error.into_value()),
            Self::Unsequenced => None,
        }
    }
}

impl<T> fmt::Display for PublishSequencedError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Unsequenced => f.write_str("the bus ended before it sequenced the event"),
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

impl<T> std::error::Error for PublishSequencedError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(error) => error.source(),
            Self::Unsequenced => None,
        }
    }
}

impl<T> From<PublishError<T>> for PublishSequencedError<T> {
    fn from(error: PublishError<T>) -> Self {
        Self::Refused(error)
    }
}

/// Defines the errors of receiving: the variants of [`RecvError`], and at most one more.
macro_rules! recv_errors {
    ($(
        $(#[$doc:meta])*
        $name:ident { $( $(#[$variant_doc:meta])* $variant:ident => $text:literal )? }
    )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$variant_doc])* $variant, )?
            /// Events were lost at this position of the stream. A run of lost events is reported
            /// once, and the next receive returns the event after them.
            Lost(Gap),
            /// The ring was full under [`Overflow::Disconnect`](crate::Overflow::Disconnect), so
            /// the subscription has ended. The subscriber has received all events in front of these
            /// lost events.
            Disconnected(Gap),
            /// The bus is closed, and the subscriber has received all events.
            Closed,
            /// The subscription was cancelled.
            Cancelled,
            /// A thread of the bus panicked, in the program's [weigher](crate::BusBuilder::weigh)
            /// or because of a bug in this library. Events may be missing without a gap.
            Broken,
            /// There is no event, and the call was made on a thread that is dispatching: in the
            /// `drop` of a payload, in a waker, or in the clock of the bus. It would wait for its
            /// own thread. Only calls that block a thread return this error, and it is not final.
            ///
            /// Elsewhere user code may receive, and then waits: in a handler, or in the `drop` of a
            /// payload on a thread that receives. If this thread is the only one that drives the
            /// bus under [`Dispatch::Manual`](crate::Dispatch::Manual), it waits for itself.
            WouldDeadlock,
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $( Self::$variant => f.write_str($text), )?
                    Self::Lost(gap) => gap.fmt(f),
                    Self::Disconnected(gap) => {
                        write!(f, "disconnected: {gap}")
                    }
                    Self::Closed => f.write_str("the bus is closed and all events were received"),
                    Self::Cancelled => f.write_str("the subscription was cancelled"),
                    Self::Broken => f.write_str(BROKEN),
                    Self::WouldDeadlock => f.write_str(
                        "a thread that dispatches must not wait for an event: use try_recv, \
                         or receive on another thread",
                    ),
                }
            }
        }

        impl std::error::Error for $name {}

        $( impl From<RecvError> for $name {
            #[doc = concat!("Never `", stringify!($variant), "`.")]
            fn from(error: RecvError) -> Self {
                match error {
                    RecvError::Lost(gap) => Self::Lost(gap),
                    RecvError::Disconnected(gap) => Self::Disconnected(gap),
                    RecvError::Closed => Self::Closed,
                    RecvError::Cancelled => Self::Cancelled,
                    RecvError::Broken => Self::Broken,
                    RecvError::WouldDeadlock => Self::WouldDeadlock,
                }
            }
        } )?
    )* };
}

recv_errors! {
    /// Why [`Subscriber::recv`](crate::Subscriber::recv) returned no event.
    ///
    /// After `Lost` and `WouldDeadlock`, receiving continues. Every other variant is final, and
    /// every later call returns it again. A loop that ends at any error therefore ends at the first
    /// loss: see [`for_each`](crate::Subscriber::for_each).
    ///
    /// ```
    /// use fanout::{Bus, RecvError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("n")?;
    /// bus.publish("n", 7)?;
    /// bus.close();
    /// assert_eq!(sub.recv().map(|event| *event.data()), Ok(7));
    /// assert_eq!(sub.recv().unwrap_err(), RecvError::Closed);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("Lagged", "Overflowed"))]
    RecvError {}

    /// Why [`Subscriber::try_recv`](crate::Subscriber::try_recv) returned no event.
    ///
    /// ```
    /// use fanout::{Bus, TryRecvError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("n")?;
    /// assert_eq!(sub.try_recv().unwrap_err(), TryRecvError::Empty);
    /// # Ok(())
    /// # }
    /// ```
    TryRecvError {
        /// No event is waiting now. Later calls may return events.
        Empty => "no event is waiting"
    }

    /// Why [`Subscriber::recv_timeout`](crate::Subscriber::recv_timeout) returned no event.
    ///
    /// ```
    /// use fanout::{Bus, RecvTimeoutError};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::new();
    /// let mut sub = bus.subscribe("n")?;
    /// let late = sub.recv_timeout(Duration::from_millis(1)).unwrap_err();
    /// assert_eq!(late, RecvTimeoutError::Timeout);
    /// # Ok(())
    /// # }
    /// ```
    RecvTimeoutError {
        /// No event arrived before the timeout.
        Timeout => "no event arrived before the timeout"
    }
}

/// The system could not start a thread. The `source` is the error of the system.
///
/// ```
/// use std::error::Error;
/// use std::io;
///
/// let system = io::Error::from(io::ErrorKind::OutOfMemory);
/// let error = fanout::ThreadError::from(system);
/// assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
/// assert_eq!(error.to_string(), "the system could not start a thread");
/// assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("out of memory"));
/// ```
#[derive(Clone, Debug)]
pub struct ThreadError(Arc<io::Error>);

impl ThreadError {
    /// Returns the kind of the system's error.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.0.kind()
    }
}

impl From<io::Error> for ThreadError {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

/// Two errors are equal if the system reported the same error.
impl PartialEq for ThreadError {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.0.raw_os_error() == other.0.raw_os_error()
    }
}

impl Eq for ThreadError {}

impl fmt::Display for ThreadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system could not start a thread")
    }
}

impl std::error::Error for ThreadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

/// Implements `Display`, `Error` and `From` for an error of configuration. A variant either
/// contains another error and displays the text of that error, or has its own text.
macro_rules! configuration_error {
    (
        $name:ident;
        wraps { $( $inner:ident($inner_type:ty), )* }
        says { $( $(#[$cfg:meta])? $variant:pat => $text:literal, )* }
    ) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                use $name::*;
                match self {
                    $( $inner(error) => error.fmt(f), )*
                    $( $(#[$cfg])? $variant => write!(f, $text), )*
                }
            }
        }

        impl std::error::Error for $name {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                match self {
                    $( Self::$inner(error) => error.source(), )*
                    #[allow(unreachable_patterns, reason = "an error may wrap nothing else")]
                    _ => None,
                }
            }
        }

        $( impl From<$inner_type> for $name {
            fn from(error: $inner_type) -> Self {
                Self::$inner(error)
            }
        } )*
    };
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
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// A pattern is not valid. The error names the position and the rule.
    Pattern(PatternError),
    /// There is no pattern. A subscription needs at least one when it is opened.
    NoPattern,
    /// The capacity, in events, is out of its range.
    Capacity(usize),
    /// `pin_bytes` is 0.
    PinBytes,
    /// The policy is `Overflow::Block`, and the bus was not built with
    /// [`blocking(true)`](crate::BusBuilder::blocking).
    BlockingNotAllowed,
    /// The block timeout is out of its range.
    BlockTimeout(Duration),
    /// The system could not start a thread for the handler.
    Thread(ThreadError),
    /// A label is not valid. The error names the label and the rule.
    Label(LabelError),
    /// The bus is closed.
    Closed,
    /// The bus is broken: see [`RecvError::Broken`].
    Broken,
}

configuration_error! {
    SubscribeError;
    wraps { Pattern(PatternError), Thread(ThreadError), Label(LabelError), }
    says {
        NoPattern => "a subscription needs at least one pattern",
        Capacity(events) => "a capacity of {events} events is not in 1..={CAPACITY_MAX}",
        PinBytes => "pin_bytes must be at least 1",
        BlockingNotAllowed =>
            "Overflow::Block needs a bus built with blocking(true), \
             because a blocking subscriber can delay all others",
        BlockTimeout(wait) =>
            "a block timeout of {wait:?} is more than {BLOCK_TIMEOUT_DAYS} days \
             ({BLOCK_TIMEOUT_MAX:?})",
        Closed => "the bus is closed",
        Broken => "{BROKEN}",
    }
}

/// Why the patterns of a subscription were not changed.
///
/// ```
/// use fanout::{Bus, ChangeError};
///
/// # fn main() -> Result<(), fanout::SubscribeError> {
/// let bus = Bus::<u32>::new();
/// let handle = bus.subscribe("a.*")?.handle(); // the subscriber is dropped here
/// assert_eq!(handle.add("b.*"), Err(ChangeError::Ended));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeError {
    /// A pattern is not valid. The error names the position and the rule.
    Pattern(PatternError),
    /// The subscription has ended.
    Ended,
}

configuration_error! {
    ChangeError;
    wraps { Pattern(PatternError), }
    says {
        Ended => "the subscription has ended",
    }
}

/// Why a bus was not built.
///
/// ```
/// let refused = fanout::Bus::<u32>::builder().dispatchers(0).build().unwrap_err();
/// assert_eq!(refused.to_string(), "0 dispatchers is not in 1..=64");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The number of dispatcher threads is out of its range.
    Dispatchers(usize),
    /// The default capacity, in events, is out of its range.
    Capacity(usize),
    /// The capacity of lanes, in events, is out of its range.
    LaneCapacity(usize),
    /// `pin_bytes` is 0.
    PinBytes,
    /// The default policy is `Overflow::Block`, and the bus is not built with
    /// [`blocking(true)`](crate::BusBuilder::blocking).
    BlockingNotAllowed,
    /// The block timeout is out of its range.
    BlockTimeout(Duration),
    /// The number of handler threads is out of its range.
    HandlerThreads {
        /// The setting `handler_threads`.
        threads: usize,
        /// The setting `max_handler_threads`.
        max: usize,
    },
    /// The limit of [`on_slow`](crate::BusBuilder::on_slow), in percent of the capacity, is out of
    /// its range.
    SlowPercent(u32),
    /// The limit of [`on_slow`](crate::BusBuilder::on_slow) is 0 events.
    SlowEvents,
    /// The limit of [`on_slow`](crate::BusBuilder::on_slow) is a duration of zero.
    SlowTime,
    /// The setting [`sample_latency`](crate::BusBuilder::sample_latency) is 0.
    #[cfg(feature = "latency")]
    SampleLatency,
    /// The system could not start a thread: one of the dispatcher pool, or the thread of
    /// [`on_slow`](crate::BusBuilder::on_slow).
    Thread(ThreadError),
}

configuration_error! {
    BuildError;
    wraps { Thread(ThreadError), }
    says {
        Dispatchers(threads) => "{threads} dispatchers is not in 1..={DISPATCHERS_MAX}",
        Capacity(events) => "a capacity of {events} events is not in 1..={CAPACITY_MAX}",
        LaneCapacity(events) =>
            "a lane capacity of {events} events is not in 1..={LANE_CAPACITY_MAX}",
        PinBytes => "pin_bytes must be at least 1",
        BlockingNotAllowed =>
            "Overflow::Block as the default policy needs blocking(true), \
             because a blocking subscriber can delay all others",
        BlockTimeout(wait) =>
            "a block timeout of {wait:?} is more than {BLOCK_TIMEOUT_DAYS} days \
             ({BLOCK_TIMEOUT_MAX:?})",
        HandlerThreads { threads, max } =>
            "{threads} handler threads with a maximum of {max}: the maximum must be \
             in 1..={HANDLER_THREADS_MAX}, and the number at least 1 and at most the maximum",
        SlowPercent(percent) =>
            "a slow limit of {percent} percent of the capacity is not in 1..=100",
        SlowEvents => "a slow limit must be at least 1 event",
        SlowTime => "a slow limit must be longer than zero",
        #[cfg(feature = "latency")]
        SampleLatency => "sample_latency must be at least 1",
    }
}

impl From<io::Error> for BuildError {
    fn from(error: io::Error) -> Self {
        Self::Thread(error.into())
    }
}
