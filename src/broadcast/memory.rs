//! The driver for one process: a bus whose payloads are the events.
//!
//! The bus does the work: a channel is a topic, a subscription a handler on the pattern that matches this topic alone, and
//! the event is the payload, so that handlers get the very one that was published. What is added here is the list of subscriptions, which
//! knows the channel of each subscription, and the drops of those that are gone.

use std::fmt;
use std::time::Duration;

use super::broadcaster::{Broadcaster, Handler};
use super::cancel::CancelToken;
use super::error::{ChannelError, CloseError, PublishError, SubscribeError};
use super::event::Event;
use super::guard::SubscriptionGuard;
use super::report::{CloseReport, Incident, Logger};
use super::subscriptions::{MemorySubscription, Subscriptions};
use crate::bus::{BuildError, Bus, PublishTimeoutError, SubscribeError as BusError};
use crate::dispatch::loss::Overflow;
use crate::pattern::{Pattern, Topic};
use crate::sync::{Arc, thread};

/// Events that wait for one handler unless told otherwise.
const BUFFER_DEFAULT: usize = 256;

/// How often a publisher inside a handler tries to dispatch, in a row and without finding any work,
/// before it gives up.
const IDLE_ATTEMPTS_MAX: u32 = 64;

/// How long a publisher that waits for room sleeps between two looks at its token.
const TOKEN_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Broadcasts inside the process.
///
/// Dropping it closes it, without waiting. See [the module](super) for what is promised.
///
/// ```
/// use fanout::broadcast::{Broadcaster, BroadcasterExt, Event, Memory};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broadcaster = Memory::builder()
///     .buffer(1024)
///     .logger(|incident| eprintln!("{incident}"))
///     .build()?;
/// let _shipped = broadcaster.on("orders.1", |event| println!("{}", event.name()))?;
/// broadcaster.publish(Event::new("orders.1", "OrderShipped", ""))?;
/// assert!(broadcaster.close_within(Duration::from_secs(5))?.in_time);
/// assert_eq!(broadcaster.dropped(), 0);
/// # Ok(())
/// # }
/// ```
pub struct Memory {
    bus: Bus<Event>,
    subscriptions: Arc<Subscriptions>,
    dedicated: bool,
}

impl Memory {
    /// One with the defaults of [`MemoryBuilder`].
    ///
    /// # Panics
    ///
    /// If the system gives no thread; [`builder`](Self::builder) answers an error instead.
    pub fn new() -> Self {
        Self::builder()
            .build()
            .expect("the defaults are in range, and the system gives a thread")
    }

    /// One built to measure.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder {
            buffer: BUFFER_DEFAULT,
            pin_bytes: None,
            overflow: Overflow::DropNewest,
            dedicated: false,
            logger: None,
        }
    }

    /// Waits until all that was accepted so far is handled or dropped. `false`: not within that time.
    ///
    /// ```
    /// use fanout::broadcast::{Broadcaster, BroadcasterExt, Event, Memory};
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broadcaster = Memory::new();
    /// let (sender, names) = mpsc::channel();
    /// let _names = broadcaster.on("orders.1", move |event| sender.send(event.name().to_owned()))?;
    /// broadcaster.publish(Event::new("orders.1", "OrderShipped", ""))?;
    /// assert!(broadcaster.flush_within(Duration::from_secs(5)));
    /// assert_eq!(names.try_recv()?, "OrderShipped");
    /// # Ok(())
    /// # }
    /// ```
    pub fn flush_within(&self, limit: Duration) -> bool {
        self.bus.flush_within(limit)
    }

    fn accept(&self, event: Event, token: Option<&CancelToken>) -> Result<(), PublishError> {
        let mut waiting = event;
        let mut idle_attempts = 0;
        loop {
            if token.is_some_and(CancelToken::is_cancelled) {
                return Err(PublishError::Cancelled);
            }
            let limit = token.map(|_| TOKEN_POLL_INTERVAL);
            waiting = match self.bus.publish_by(waiting, Event::channel, limit) {
                Ok(()) => return Ok(()),
                Err(PublishTimeoutError::Timeout(event)) => event,
                // Inside a handler nobody waits for the dispatcher, but everybody can be it.
                Err(PublishTimeoutError::WouldDeadlock(event)) => {
                    if self.bus.drive() {
                        idle_attempts = 0;
                    } else if idle_attempts < IDLE_ATTEMPTS_MAX {
                        idle_attempts += 1;
                        thread::yield_now(); // somebody else is at it
                    } else {
                        return Err(PublishError::WouldDeadlock);
                    }
                    event
                }
                Err(PublishTimeoutError::Topic(error, _)) => {
                    return Err(ChannelError::from(error).into());
                }
                Err(PublishTimeoutError::Closed(_)) => return Err(PublishError::Closed),
                Err(error @ PublishTimeoutError::Broken(_)) => {
                    return Err(PublishError::Driver(error.to_string().into()));
                }
            };
        }
    }
}

impl Broadcaster for Memory {
    fn publish(&self, event: Event) -> Result<(), PublishError> {
        self.accept(event, None)
    }

    fn publish_until(&self, token: &CancelToken, event: Event) -> Result<(), PublishError> {
        self.accept(event, Some(token))
    }

    fn subscribe(
        &self,
        channel: &str,
        mut handler: Handler,
    ) -> Result<SubscriptionGuard, SubscribeError> {
        let channel = Topic::new(channel).map_err(ChannelError::from)?;
        let mut subscription = self.bus.subscription(Pattern::exact(&channel));
        if self.dedicated {
            subscription = subscription.dedicated();
        }
        let mut opened = None;
        let handle = subscription.handler_with(|number| {
            // Before the first event, since a notice may come with it.
            self.subscriptions.insert(number, channel);
            opened = Some(number);
            move |event: &crate::dispatch::block::Event<Event>| handler(event.data())
        });
        match handle {
            Ok(handle) => {
                // It is `SubscriptionGuard` that cancels when it is dropped.
                let handle = handle.detach();
                self.subscriptions.opened(&handle);
                Ok(SubscriptionGuard::new(MemorySubscription {
                    handle,
                    subscriptions: self.subscriptions.clone(),
                }))
            }
            Err(error) => {
                if let Some(number) = opened {
                    self.subscriptions.remove(number);
                }
                Err(match error {
                    BusError::Closed => SubscribeError::Closed,
                    error => SubscribeError::Driver(error.into()),
                })
            }
        }
    }

    fn close_within(&self, limit: Duration) -> Result<CloseReport, CloseError> {
        let report = self.bus.close_within(limit);
        Ok(CloseReport {
            in_time: report.in_time,
            unhandled: report.unread,
            given_up: report.lost + report.unsequenced,
        })
    }

    fn dropped(&self) -> u64 {
        self.subscriptions.dropped()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("dropped", &self.dropped())
            .field("closed", &self.bus.is_closed())
            .finish_non_exhaustive()
    }
}

/// Configures a [`Memory`].
///
/// ```
/// use fanout::broadcast::Memory;
///
/// # fn main() -> Result<(), fanout::BuildError> {
/// let broadcaster = Memory::builder()
///     .buffer(256)
///     .pin_bytes(64 << 20)
///     .overflow(fanout::Overflow::DropNewest)
///     .dedicated(false)
///     .logger(|incident| eprintln!("{incident}"))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "`build` makes the broadcaster"]
pub struct MemoryBuilder {
    buffer: usize,
    pin_bytes: Option<usize>,
    overflow: Overflow,
    dedicated: bool,
    logger: Option<Logger>,
}

impl MemoryBuilder {
    /// Events that may wait for one handler, 1 to [`CAPACITY_MAX`](crate::CAPACITY_MAX). Default: 256. Those that the handler
    /// has taken, up to 64 at a time, no longer count.
    pub fn buffer(mut self, events: usize) -> Self {
        self.buffer = events;
        self
    }

    /// Bytes that the events that wait for one handler may keep alive, at least 1; beyond, the buffer counts as full.
    /// Default: 64 MiB. See [`SubscriptionBuilder::pin_bytes`](crate::SubscriptionBuilder::pin_bytes).
    pub fn pin_bytes(mut self, bytes: usize) -> Self {
        self.pin_bytes = Some(bytes);
        self
    }

    /// What happens to an event whose handler's buffer is full. Default: [`Overflow::DropNewest`], and publishing waits for
    /// no handler. Under [`Overflow::Block`] nothing is dropped: a slow handler holds up everybody.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Gives every handler a thread of its own: for handlers that block. Default: no, they share a few threads.
    pub fn dedicated(mut self, dedicated: bool) -> Self {
        self.dedicated = dedicated;
        self
    }

    /// Is told what publishers never hear of: errors and panics of handlers, drops (once for a run of dropped events),
    /// handlers that take long. On a handler's thread, or one that watches, never on a publisher's. The same goes to
    /// `tracing`; without a logger, to `tracing` alone. A logger that panics hurts nobody.
    ///
    /// ```
    /// use fanout::broadcast::{Broadcaster, BroadcasterExt, Event, Incident, Memory};
    /// use std::sync::mpsc;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, incidents) = mpsc::channel();
    /// let broadcaster = Memory::builder()
    ///     .logger(move |incident| drop(sender.send(incident.to_string())))
    ///     .build()?;
    /// let _failing = broadcaster.on("orders.1", |event| Err(format!("{}? not here", event.name())))?;
    /// broadcaster.publish(Event::new("orders.1", "OrderShipped", ""))?;
    /// assert_eq!(
    ///     incidents.recv()?,
    ///     "channel orders.1: the handler failed: OrderShipped? not here",
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub fn logger(mut self, logger: impl Fn(&Incident<'_>) + Send + Sync + 'static) -> Self {
        self.logger = Some(Box::new(logger));
        self
    }

    /// Builds it.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a number out of its range, or no thread to be had.
    pub fn build(self) -> Result<Memory, BuildError> {
        let subscriptions = Arc::new(Subscriptions::default());
        let mut bus = Bus::builder()
            .capacity(self.buffer)
            .overflow(self.overflow)
            .blocking(self.overflow == Overflow::Block)
            .weigh(Event::weight);
        if let Some(bytes) = self.pin_bytes {
            bus = bus.pin_bytes(bytes);
        }
        if let Some(logger) = self.logger {
            let subscriptions = subscriptions.clone();
            bus = bus.observer(move |notice| subscriptions.report(&logger, notice));
        }
        Ok(Memory {
            bus: bus.build()?,
            subscriptions,
            dedicated: self.dedicated,
        })
    }
}

impl fmt::Debug for MemoryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBuilder")
            .field("buffer", &self.buffer)
            .field("pin_bytes", &self.pin_bytes)
            .field("overflow", &self.overflow)
            .field("dedicated", &self.dedicated)
            .finish_non_exhaustive()
    }
}
