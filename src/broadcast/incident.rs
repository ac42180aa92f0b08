//! What the logger of a broadcaster is called with.

use std::fmt;

/// Something that went wrong and that no call returned as an error.
///
/// Drivers create incidents with the functions below; loggers match on the variants. Variants and
/// fields may be added in later versions, so a match ends with `_`, and a variant's with `..`.
///
/// ```
/// use fanout::broadcast::Incident;
///
/// let incident = Incident::dropped("orders.1", 18);
/// assert_eq!(incident.channel(), Some("orders.1"));
/// assert_eq!(incident.to_string(), "channel orders.1: 18 events dropped, the buffer was full");
/// assert!(matches!(incident, Incident::Dropped { count: 18, .. }));
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Incident<'a> {
    /// A handler returned an error. Its next event is handled as usual.
    #[non_exhaustive]
    Failed {
        /// The channel of the subscription.
        channel: &'a str,
        /// The error, with its causes.
        error: &'a dyn fmt::Display,
    },
    /// A handler panicked. Its next event is handled as usual.
    #[non_exhaustive]
    Panicked {
        /// The channel of the subscription.
        channel: &'a str,
        /// The message of the panic, if that is text.
        message: Option<&'a str>,
    },
    /// A run of events was dropped for one subscription, because its buffer was full. Reported when
    /// the handler reaches the place where the events would have been.
    #[non_exhaustive]
    Dropped {
        /// The channel of the subscription. The text is empty if the subscription has ended before
        /// the report.
        channel: &'a str,
        /// Events in the run, at least 1.
        count: u64,
    },
    /// The buffer of a subscription was full under
    /// [`Overflow::Disconnect`](crate::Overflow::Disconnect). The handler has handled what was in
    /// the buffer and gets no more events.
    #[non_exhaustive]
    Disconnected {
        /// The channel of the subscription. The text is empty if the subscription has ended before
        /// the report.
        channel: &'a str,
        /// Events that had no room, at least 1.
        count: u64,
    },
    /// A handler has been handling one event for a long time.
    #[non_exhaustive]
    Stalled {
        /// The channel of the subscription. The text is empty if the subscription has ended before
        /// the report.
        channel: &'a str,
        /// Whether another thread took over the work of the handler's thread. If `false`, other
        /// handlers may have to wait.
        replaced: bool,
    },
    /// The driver reports a failure that no call could return: it lost its connection and events
    /// may be missing, for example.
    #[non_exhaustive]
    Driver {
        /// What happened, with its causes.
        error: &'a dyn fmt::Display,
    },
}

impl<'a> Incident<'a> {
    /// A handler returned an error. [`ErrorChain`](super::ErrorChain) displays its causes, too.
    ///
    /// ```
    /// use fanout::broadcast::Incident;
    ///
    /// let incident = Incident::failed("orders.1", &"no carrier");
    /// assert_eq!(incident.to_string(), "channel orders.1: the handler failed: no carrier");
    /// ```
    pub fn failed(channel: &'a str, error: &'a dyn fmt::Display) -> Self {
        Self::Failed { channel, error }
    }

    /// A handler panicked, with this message if it is text.
    ///
    /// ```
    /// use fanout::broadcast::Incident;
    ///
    /// let incident = Incident::panicked("orders.1", Some("index out of bounds"));
    /// assert_eq!(
    ///     incident.to_string(),
    ///     "channel orders.1: the handler panicked: index out of bounds",
    /// );
    /// ```
    pub fn panicked(channel: &'a str, message: Option<&'a str>) -> Self {
        Self::Panicked { channel, message }
    }

    /// A run of `count` events was dropped for one subscription; at least 1.
    ///
    /// ```
    /// use fanout::broadcast::Incident;
    ///
    /// let incident = Incident::dropped("orders.1", 18);
    /// assert!(incident.to_string().ends_with("18 events dropped, the buffer was full"));
    /// ```
    pub fn dropped(channel: &'a str, count: u64) -> Self {
        debug_assert!(count > 0, "a run of dropped events is not empty");
        Self::Dropped { channel, count }
    }

    /// A subscription ended because its buffer was full. `count` events had no room; at least 1.
    ///
    /// ```
    /// use fanout::broadcast::Incident;
    ///
    /// assert!(Incident::disconnected("orders.1", 2).to_string().contains("unsubscribed"));
    /// ```
    pub fn disconnected(channel: &'a str, count: u64) -> Self {
        debug_assert!(count > 0, "at least one event had no room");
        Self::Disconnected { channel, count }
    }

    /// A handler has been handling one event for a long time; `replaced` says whether another
    /// thread took over the work of its thread.
    ///
    /// ```
    /// use fanout::broadcast::Incident;
    ///
    /// let incident = Incident::stalled("orders.1", true);
    /// assert!(incident.to_string().ends_with("another thread took over"));
    /// ```
    pub fn stalled(channel: &'a str, replaced: bool) -> Self {
        Self::Stalled { channel, replaced }
    }

    /// The driver reports a failure that no call could return.
    ///
    /// ```
    /// use fanout::broadcast::Incident;
    ///
    /// let incident = Incident::driver(&"reconnected; events may be missing");
    /// assert_eq!(incident.channel(), None);
    /// assert_eq!(incident.to_string(), "the driver: reconnected; events may be missing");
    /// ```
    pub fn driver(error: &'a dyn fmt::Display) -> Self {
        Self::Driver { error }
    }

    /// The channel of the subscription. `None` if the incident is not about a subscription.
    ///
    /// ```
    /// use fanout::broadcast::Incident;
    ///
    /// assert_eq!(Incident::stalled("orders.1", true).channel(), Some("orders.1"));
    /// ```
    pub fn channel(&self) -> Option<&'a str> {
        match *self {
            Self::Failed { channel, .. }
            | Self::Panicked { channel, .. }
            | Self::Dropped { channel, .. }
            | Self::Disconnected { channel, .. }
            | Self::Stalled { channel, .. } => Some(channel),
            Self::Driver { .. } => None,
        }
    }
}

/// The ending of a noun that is counted.
fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

impl fmt::Display for Incident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(channel) = self.channel() {
            write!(f, "channel {channel}: ")?;
        }
        match self {
            Self::Failed { error, .. } => write!(f, "the handler failed: {error}"),
            Self::Panicked { message, .. } => {
                let message = message.unwrap_or("(not text)");
                write!(f, "the handler panicked: {message}")
            }
            Self::Dropped { count, .. } => {
                write!(
                    f,
                    "{count} event{} dropped, the buffer was full",
                    plural(*count)
                )
            }
            Self::Disconnected { count, .. } => write!(
                f,
                "unsubscribed, the buffer was full: {count} event{} dropped",
                plural(*count)
            ),
            Self::Stalled { replaced: true, .. } => {
                f.write_str("the handler takes long; another thread took over")
            }
            Self::Stalled { .. } => {
                f.write_str("the handler takes long, and no spare thread is left")
            }
            Self::Driver { error } => write!(f, "the driver: {error}"),
        }
    }
}

impl fmt::Debug for Incident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incident({self})")
    }
}

/// A closure that is called with each incident, on a thread of the broadcaster, never on the thread
/// of a publisher. The handler that the incident is about waits meanwhile.
///
/// ```
/// use fanout::broadcast::{Incident, Logger};
///
/// let logger: Logger = Box::new(|incident| eprintln!("{incident}"));
/// logger(&Incident::dropped("orders.1", 18));
/// ```
pub type Logger = Box<dyn Fn(&Incident<'_>) + Send + Sync>;
