//! One error type per operation, each with room for the error of a driver.
//!
//! The `Display` of an error does not repeat its [`source`](Error::source). [`ErrorChain`] displays
//! an error together with its causes.

use std::error::Error;
use std::fmt;

/// The longest part of a refused channel that a message shows, in characters.
const SHOWN_CHARS_MAX: usize = 64;

/// Any error: what handlers return, and what drivers pass on.
///
/// ```
/// use fanout::broadcast::BoxError;
///
/// let from_text: BoxError = "the order has no carrier".into();
/// assert_eq!(from_text.to_string(), "the order has no carrier");
/// ```
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The error of a text that is not a valid channel. Its [`source`](Error::source) says why.
///
/// ```
/// use fanout::broadcast::{BroadcastPublishError, Broadcaster, ErrorChain, BroadcastEvent, Memory};
///
/// let event = BroadcastEvent::new("orders..1", "OrderShipped", "");
/// let refused = Memory::new().publish(event).unwrap_err();
/// assert!(matches!(refused, BroadcastPublishError::Channel(_)));
/// assert_eq!(refused.to_string(), "\"orders..1\" is not a valid channel");
/// assert_eq!(
///     ErrorChain::new(&refused).to_string(),
///     "\"orders..1\" is not a valid channel: \
///      topic `orders..1`, byte 7: a segment must not be empty",
/// );
/// ```
pub struct ChannelError(Box<Refused>);

struct Refused {
    /// The channel, shortened.
    channel: String,
    reason: BoxError,
}

impl ChannelError {
    /// Creates the error, for drivers. The reason is a [`TopicError`](crate::TopicError), or an
    /// error or a text of the driver that names the rule.
    ///
    /// ```
    /// use fanout::broadcast::ChannelError;
    /// use std::error::Error;
    ///
    /// let refused = ChannelError::new("room 7", "a NATS subject must not contain a space");
    /// assert_eq!(refused.to_string(), "\"room 7\" is not a valid channel");
    /// let reason = refused.source().expect("the reason");
    /// assert_eq!(reason.to_string(), "a NATS subject must not contain a space");
    /// ```
    pub fn new(channel: &str, reason: impl Into<BoxError>) -> Self {
        let channel = match channel.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &channel[..end]),
            None => channel.to_owned(),
        };
        Self(Box::new(Refused {
            channel,
            reason: reason.into(),
        }))
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `Debug` of a text quotes it, and escapes control characters.
        write!(f, "{:?} is not a valid channel", self.0.channel)
    }
}

impl fmt::Debug for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelError")
            .field("channel", &self.0.channel)
            .field("reason", &self.0.reason)
            .finish()
    }
}

impl Error for ChannelError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0.reason)
    }
}

/// The error of [`publish`](super::Broadcaster::publish): the event is not delivered to anyone.
///
/// ```
/// use fanout::broadcast::{BroadcastPublishError, Broadcaster, BroadcastEvent, Memory};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broadcaster = Memory::new();
/// let _report = broadcaster.close()?;
/// let event = BroadcastEvent::new("orders.1", "OrderShipped", "");
/// let refused = broadcaster.publish(event).unwrap_err();
/// assert!(matches!(refused, BroadcastPublishError::Closed));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum BroadcastPublishError {
    /// The channel of the event is not valid.
    Channel(ChannelError),
    /// The broadcaster is closed.
    Closed,
    /// The [`CancelToken`](super::CancelToken) was cancelled before the event was accepted.
    Cancelled,
    /// There is no room for the event, and the calling thread is inside a handler, where waiting
    /// for room would deadlock. The dispatcher is behind; publish again later.
    WouldDeadlock,
    /// The driver failed. Its error is the [`source`](Error::source).
    Driver(BoxError),
}

impl From<ChannelError> for BroadcastPublishError {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

impl fmt::Display for BroadcastPublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(error) => error.fmt(f),
            Self::Closed => f.write_str(CLOSED),
            Self::Cancelled => f.write_str("cancelled before the event was accepted"),
            Self::WouldDeadlock => f.write_str(
                "there is no room for the event, and waiting inside a handler would deadlock",
            ),
            Self::Driver(_) => f.write_str("the driver could not publish the event"),
        }
    }
}

impl Error for BroadcastPublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Channel(error) => error.source(),
            Self::Driver(error) => Some(&**error),
            Self::Closed | Self::Cancelled | Self::WouldDeadlock => None,
        }
    }
}

/// The error of [`subscribe`](super::Broadcaster::subscribe): the handler was dropped and is not
/// subscribed. It was never called, with one exception: see [`Cancelled`](Self::Cancelled).
///
/// ```
/// use fanout::broadcast::{BroadcastSubscribeError, BroadcasterExt, Memory};
///
/// let refused = Memory::new().on("", |_| ()).unwrap_err();
/// assert!(matches!(refused, BroadcastSubscribeError::Channel(_)));
/// assert_eq!(refused.to_string(), "\"\" is not a valid channel");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum BroadcastSubscribeError {
    /// The channel is not valid.
    Channel(ChannelError),
    /// The broadcaster is closed.
    Closed,
    /// The [`CancelToken`](super::CancelToken) is cancelled. If it was cancelled while the
    /// subscription was being opened, the handler may have been called.
    Cancelled,
    /// The driver failed. Its error is the [`source`](Error::source).
    Driver(BoxError),
}

impl From<ChannelError> for BroadcastSubscribeError {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

impl fmt::Display for BroadcastSubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(error) => error.fmt(f),
            Self::Closed => f.write_str(CLOSED),
            Self::Cancelled => f.write_str("cancelled before the handler was subscribed"),
            Self::Driver(_) => f.write_str("the driver could not subscribe the handler"),
        }
    }
}

impl Error for BroadcastSubscribeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Channel(error) => error.source(),
            Self::Driver(error) => Some(&**error),
            Self::Closed | Self::Cancelled => None,
        }
    }
}

/// The error of [`close`](super::Broadcaster::close). The broadcaster is closed nevertheless.
///
/// ```
/// use fanout::broadcast::{BroadcastCloseError, ErrorChain};
///
/// let failed = BroadcastCloseError::Driver("the connection was reset".into());
/// assert_eq!(
///     ErrorChain::new(&failed).to_string(),
///     "the driver could not close properly: the connection was reset",
/// );
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum BroadcastCloseError {
    /// The driver failed. Its error is the [`source`](Error::source).
    Driver(BoxError),
}

impl fmt::Display for BroadcastCloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(_) => f.write_str("the driver could not close properly"),
        }
    }
}

impl Error for BroadcastCloseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Driver(error) => Some(&**error),
        }
    }
}

const CLOSED: &str = "the broadcaster is closed";

/// Displays an error together with its causes: `the driver could not publish the event: broken
/// pipe`.
///
/// A cause whose text already ends the text before it is left out: some errors repeat their causes.
/// [`Memory`](super::Memory) reports the errors of handlers in this way.
///
/// ```
/// use fanout::broadcast::{BroadcastPublishError, ErrorChain};
/// use std::io;
///
/// let cause = io::Error::from(io::ErrorKind::BrokenPipe);
/// let failed = BroadcastPublishError::Driver(cause.into());
/// assert_eq!(
///     ErrorChain::new(&failed).to_string(),
///     "the driver could not publish the event: broken pipe",
/// );
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a> {
    error: &'a (dyn Error + 'static),
}

impl<'a> ErrorChain<'a> {
    /// Borrows the error. A [`BoxError`] is passed as `&*error`.
    ///
    /// ```
    /// use fanout::broadcast::{BoxError, ErrorChain};
    ///
    /// let error: BoxError = "no carrier".into();
    /// assert_eq!(ErrorChain::new(&*error).to_string(), "no carrier");
    /// ```
    pub fn new(error: &'a (dyn Error + 'static)) -> Self {
        Self { error }
    }
}

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.error.to_string();
        f.write_str(&text)?;
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.ends_with(&next) {
                write!(f, ": {next}")?;
                text = next;
            }
            cause = error.source();
        }
        Ok(())
    }
}
