//! What a program is told: by the logger while it runs, by a report at the end.

use std::fmt;

/// Something that a publisher never hears of.
///
/// ```
/// use fanout::broadcast::Incident;
///
/// let incident = Incident::Dropped { channel: "orders.1", count: 18 };
/// assert_eq!(incident.to_string(), "channel orders.1: 18 event(s) dropped, the buffer was full");
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Incident<'a> {
    /// A handler answered an error. The next event is handled as usual.
    Failed {
        /// The subscription's channel.
        channel: &'a str,
        /// The error.
        error: &'a dyn fmt::Display,
    },
    /// A handler panicked. The next event is handled as usual.
    Panicked {
        /// The subscription's channel.
        channel: &'a str,
        /// What it panicked with, if that is text.
        message: Option<&'a str>,
    },
    /// A run of events was dropped for one subscription: its buffer was full. Told when the handler comes to where they
    /// would have been.
    Dropped {
        /// The subscription's channel.
        channel: &'a str,
        /// How many, at least 1.
        count: u64,
    },
    /// The buffer of a subscription was full under [`Overflow::Disconnect`](crate::Overflow::Disconnect): the handler has
    /// handled what was in it, and gets no more.
    Disconnected {
        /// The subscription's channel.
        channel: &'a str,
        /// How many events did not fit, at least 1.
        count: u64,
    },
    /// A handler has been at one event for long.
    Stalled {
        /// The subscription's channel.
        channel: &'a str,
        /// Whether another thread took over what else there is to do; `false`: other handlers may have to wait.
        replaced: bool,
    },
}

impl Incident<'_> {
    /// The subscription's channel.
    pub fn channel(&self) -> &str {
        match self {
            Self::Failed { channel, .. }
            | Self::Panicked { channel, .. }
            | Self::Dropped { channel, .. }
            | Self::Disconnected { channel, .. }
            | Self::Stalled { channel, .. } => channel,
        }
    }
}

impl fmt::Display for Incident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel {}: ", self.channel())?;
        match self {
            Self::Failed { error, .. } => write!(f, "the handler failed: {error}"),
            Self::Panicked { message, .. } => {
                write!(
                    f,
                    "the handler panicked: {}",
                    message.unwrap_or("(not text)")
                )
            }
            Self::Dropped { count, .. } => {
                write!(f, "{count} event(s) dropped, the buffer was full")
            }
            Self::Disconnected { count, .. } => write!(
                f,
                "unsubscribed, the buffer was full: {count} event(s) dropped"
            ),
            Self::Stalled { replaced: true, .. } => {
                f.write_str("the handler takes long; another thread took over")
            }
            Self::Stalled { .. } => f.write_str("the handler takes long, and no thread is left"),
        }
    }
}

impl fmt::Debug for Incident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incident({self})")
    }
}

/// Is told of incidents, on a thread of the driver's, never on a publisher's. While it runs, that handler waits.
///
/// ```
/// use fanout::broadcast::Logger;
///
/// let logger: Logger = Box::new(|incident| eprintln!("{incident}"));
/// ```
pub type Logger = Box<dyn Fn(&Incident<'_>) + Send + Sync>;

/// What closing left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "it says whether everything was handled"]
pub struct CloseReport {
    /// Whether every event accepted was handled in time, or dropped and counted in
    /// [`dropped`](super::Broadcaster::dropped).
    pub in_time: bool,
    /// Calls of handlers that were still to come when the time was up. They come, as long as the process lives.
    pub unhandled: u64,
    /// Events accepted that were given up when the time was up.
    pub given_up: u64,
}
