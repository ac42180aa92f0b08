//! The broadcaster for one process: a bus whose payloads are the events.
//!
//! The bus does the work. A channel is a topic, a subscription is a handler on the pattern that
//! matches this topic alone, and the event is the payload, so all handlers get a reference to the
//! event that was published. [`Subscriptions`] adds what the bus does not keep: the channel of each
//! subscription, and the drops of subscriptions that have ended.
//!
//! # Failure modes
//!
//! * **The lane into the bus is full**: a publisher waits for the dispatcher, and looks at its
//!   token every 10 ms. Inside a handler it does not wait; it dispatches events itself, and fails
//!   with `WouldDeadlock` if another thread holds the dispatcher's role and makes no room.
//! * **The bus breaks** (one of its threads panicked): publishing fails with the bus's error as the
//!   source.

use std::fmt;
use std::time::Duration;

use super::broadcaster::{Broadcaster, Handler};
use super::cancel::{CancelToken, Registrations};
use super::error::{
    BoxError, BroadcastCloseError, BroadcastPublishError, BroadcastSubscribeError, ChannelError,
    ErrorChain,
};
use super::event::BroadcastEvent;
use super::guard::SubscriptionGuard;
use super::incident::{Incident, Logger};
use super::report::BroadcastCloseReport;
use super::subscriptions::{MemorySubscription, Subscriptions};
use crate::bus::{BuildError, Bus, PublishTimeoutError, SubscribeError};
use crate::dispatch::loss::Overflow;
use crate::pattern::{Pattern, Topic};
use crate::sync::{Arc, thread};

/// The default of [`MemoryBuilder::buffer`], in events.
const BUFFER_DEFAULT: usize = 256;

/// How often a publisher inside a handler tries to dispatch, in a row and without finding any work,
/// before it gives up.
const IDLE_ATTEMPTS_MAX: u32 = 64;

/// How long a publisher that waits for room sleeps between two looks at its token.
const TOKEN_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Broadcasts inside one process.
///
/// Dropping it closes it, without waiting. [The module](super) says what it guarantees.
///
/// ```
/// use fanout::broadcast::{BroadcastEvent, Broadcaster, BroadcasterExt, Memory};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broadcaster = Memory::builder()
///     .buffer(1024)
///     .logger(|incident| eprintln!("{incident}"))
///     .build()?;
/// let _shipped = broadcaster.on("orders.1", |event| println!("{}", event.name()))?;
/// broadcaster.publish(BroadcastEvent::new("orders.1", "OrderShipped", ""))?;
/// assert!(broadcaster.close_within(Duration::from_secs(5))?.in_time);
/// assert_eq!(broadcaster.dropped(), 0);
/// # Ok(())
/// # }
/// ```
pub struct Memory {
    bus: Bus<BroadcastEvent>,
    subscriptions: Arc<Subscriptions>,
    dedicated: bool,
}

impl Memory {
    /// Creates a broadcaster with the defaults of [`MemoryBuilder`].
    ///
    /// # Panics
    ///
    /// If the system cannot start a thread. [`builder`](Self::builder) returns an error instead.
    ///
    /// ```
    /// use fanout::broadcast::{BroadcastEvent, Broadcaster, Memory};
    ///
    /// let broadcaster = Memory::new();
    /// assert!(broadcaster.publish(BroadcastEvent::new("orders.1", "OrderShipped", "")).is_ok());
    /// ```
    pub fn new() -> Self {
        Self::builder()
            .build()
            .expect("the system can start a thread; the default settings are in range")
    }

    /// Creates a broadcaster with other settings.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broadcaster = fanout::broadcast::Memory::builder().buffer(1024).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder {
            buffer: BUFFER_DEFAULT,
            pin_bytes: None,
            overflow: Overflow::DropNewest,
            dedicated: false,
            logger: None,
        }
    }

    /// Waits until every event that was accepted so far is handled or dropped. Returns `false` at
    /// the timeout.
    ///
    /// ```
    /// use fanout::broadcast::{BroadcastEvent, Broadcaster, BroadcasterExt, Memory};
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broadcaster = Memory::new();
    /// let (sender, names) = mpsc::channel();
    /// let _names = broadcaster.on("orders.1", move |event| sender.send(event.name().to_owned()))?;
    /// broadcaster.publish(BroadcastEvent::new("orders.1", "OrderShipped", ""))?;
    /// assert!(broadcaster.flush_within(Duration::from_secs(5)));
    /// assert_eq!(names.try_recv()?, "OrderShipped");
    /// # Ok(())
    /// # }
    /// ```
    pub fn flush_within(&self, timeout: Duration) -> bool {
        self.bus.flush_within(timeout)
    }

    fn accept(
        &self,
        event: BroadcastEvent,
        token: Option<&CancelToken>,
    ) -> Result<(), BroadcastPublishError> {
        let mut waiting = event;
        let mut idle_attempts = 0;
        loop {
            if token.is_some_and(CancelToken::is_cancelled) {
                return Err(BroadcastPublishError::Cancelled);
            }
            let timeout = token.map(|_| TOKEN_POLL_INTERVAL);
            waiting = match self
                .bus
                .publish_by(waiting, BroadcastEvent::channel, timeout)
            {
                Ok(()) => return Ok(()),
                Err(PublishTimeoutError::Timeout(event)) => event,
                // A thread inside a handler must not wait for the dispatcher, but it can take the
                // dispatcher's role.
                Err(PublishTimeoutError::WouldDeadlock(event)) => {
                    if self.bus.drive() {
                        idle_attempts = 0;
                    } else if idle_attempts < IDLE_ATTEMPTS_MAX {
                        idle_attempts += 1;
                        thread::yield_now(); // another thread holds the role
                    } else {
                        return Err(BroadcastPublishError::WouldDeadlock);
                    }
                    event
                }
                Err(PublishTimeoutError::Topic(reason, event)) => {
                    return Err(ChannelError::new(event.channel(), reason).into());
                }
                Err(PublishTimeoutError::Closed(_)) => return Err(BroadcastPublishError::Closed),
                Err(error @ PublishTimeoutError::Broken(_)) => {
                    return Err(BroadcastPublishError::Driver(error.into()));
                }
            };
        }
    }
}

impl Broadcaster for Memory {
    fn publish(&self, event: BroadcastEvent) -> Result<(), BroadcastPublishError> {
        self.accept(event, None)
    }

    fn publish_until(
        &self,
        token: &CancelToken,
        event: BroadcastEvent,
    ) -> Result<(), BroadcastPublishError> {
        self.accept(event, Some(token))
    }

    fn subscribe(
        &self,
        channel: &str,
        mut handler: Handler,
    ) -> Result<SubscriptionGuard, BroadcastSubscribeError> {
        let channel = Topic::new(channel).map_err(|reason| ChannelError::new(channel, reason))?;
        let mut subscription = self.bus.subscription(Pattern::exact(&channel));
        if self.dedicated {
            subscription = subscription.dedicated();
        }
        let registrations = Registrations::new();
        let opened = subscription.handler_with(|number, counters| {
            // Before the first event, because a notice about the subscription may come with it.
            let registrations = registrations.clone();
            let listing = self
                .subscriptions
                .insert(number, channel, counters, registrations);
            move |event: &crate::dispatch::block::Event<BroadcastEvent>| {
                // The subscription is listed for as long as its handler exists.
                let _ = &listing;
                handler(event.data()).map_err(HandlerError)
            }
        });
        match opened {
            Ok(guard) => {
                let control = MemorySubscription {
                    // The broadcaster's own guard cancels the subscription.
                    handler: guard.detach_weak(),
                    registrations: registrations.clone(),
                };
                Ok(SubscriptionGuard::with_registrations(
                    control,
                    registrations,
                ))
            }
            Err(SubscribeError::Closed) => Err(BroadcastSubscribeError::Closed),
            Err(error) => Err(BroadcastSubscribeError::Driver(error.into())),
        }
    }

    fn close_within(&self, timeout: Duration) -> Result<BroadcastCloseReport, BroadcastCloseError> {
        let report = self.bus.close_within(timeout);
        Ok(BroadcastCloseReport::new(report.in_time)
            .with_unhandled(report.unread)
            .with_given_up(report.lost + report.unsequenced))
    }

    fn dropped(&self) -> u64 {
        self.subscriptions.dropped()
    }
}

/// The error of a handler, as the bus and the logger display it: with its causes.
struct HandlerError(BoxError);

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ErrorChain::new(&*self.0).fmt(f)
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

/// The settings of a [`Memory`].
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
#[must_use = "`build` creates the broadcaster"]
pub struct MemoryBuilder {
    buffer: usize,
    pin_bytes: Option<usize>,
    overflow: Overflow,
    dedicated: bool,
    logger: Option<Logger>,
}

impl MemoryBuilder {
    /// Sets the number of events that may wait for one handler, 1 to
    /// [`CAPACITY_MAX`](crate::limits::CAPACITY_MAX). Default: 256. Events that the handler has
    /// taken, up to 64 at a time, do not count.
    ///
    /// ```
    /// use fanout::broadcast::Memory;
    ///
    /// assert!(Memory::builder().buffer(1024).build().is_ok());
    /// assert!(Memory::builder().buffer(0).build().is_err());
    /// ```
    pub fn buffer(mut self, events: usize) -> Self {
        self.buffer = events;
        self
    }

    /// Sets the number of bytes that the waiting events of one handler may keep alive, at least 1.
    /// Above that, the buffer is full. Default: 64 MiB. See
    /// [`SubscriptionBuilder::pin_bytes`](crate::SubscriptionBuilder::pin_bytes).
    ///
    /// ```
    /// use fanout::broadcast::Memory;
    ///
    /// assert!(Memory::builder().pin_bytes(1 << 20).build().is_ok());
    /// assert!(Memory::builder().pin_bytes(0).build().is_err());
    /// ```
    pub fn pin_bytes(mut self, bytes: usize) -> Self {
        self.pin_bytes = Some(bytes);
        self
    }

    /// Sets what happens to an event when the buffer of a handler is full. Default:
    /// [`Overflow::DropNewest`]; publishing then waits for no handler. Under [`Overflow::Block`] no
    /// event is dropped, and a slow handler delays all publishers and all other handlers.
    ///
    /// ```
    /// use fanout::{Overflow, broadcast::Memory};
    ///
    /// # fn main() -> Result<(), fanout::BuildError> {
    /// let lossless = Memory::builder().overflow(Overflow::Block).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Sets whether every handler gets its own thread, for handlers that block. Default: `false`,
    /// so all handlers share a few threads.
    ///
    /// ```
    /// # fn main() -> Result<(), fanout::BuildError> {
    /// let blocking = fanout::broadcast::Memory::builder().dedicated(true).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn dedicated(mut self, dedicated: bool) -> Self {
        self.dedicated = dedicated;
        self
    }

    /// Sets the logger, for what no call returns as an error: errors and panics of handlers,
    /// dropped events (once for a run of them), and handlers that take long. Default: no logger.
    ///
    /// The logger is called on the thread of the handler, or on the thread that watches handlers,
    /// and never on the thread of a publisher. The same incidents go to `tracing`, with or without
    /// a logger. A panic of the logger is caught.
    ///
    /// A logger that publishes should own a [`Weak`](std::sync::Weak) broadcaster. With a strong
    /// one, the broadcaster and the logger keep each other alive until the program calls `close`.
    /// The logger is dropped when the broadcaster is closed and its last handler has ended.
    ///
    /// ```
    /// use fanout::broadcast::{BroadcastEvent, Broadcaster, BroadcasterExt, Incident, Memory};
    /// use std::sync::mpsc;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, incidents) = mpsc::channel();
    /// let broadcaster = Memory::builder()
    ///     .logger(move |incident| drop(sender.send(incident.to_string())))
    ///     .build()?;
    /// let _failing = broadcaster.on("orders.1", |_| Err("no carrier"))?;
    /// broadcaster.publish(BroadcastEvent::new("orders.1", "OrderShipped", ""))?;
    /// assert_eq!(incidents.recv()?, "channel orders.1: the handler failed: no carrier");
    /// # Ok(())
    /// # }
    /// ```
    pub fn logger(mut self, logger: impl Fn(&Incident<'_>) + Send + Sync + 'static) -> Self {
        self.logger = Some(Box::new(logger));
        self
    }

    /// Creates the broadcaster.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a number is out of its range, or the system could not start a thread.
    ///
    /// ```
    /// use fanout::{BuildError, broadcast::Memory};
    ///
    /// let refused = Memory::builder().buffer(0).build().unwrap_err();
    /// assert!(matches!(refused, BuildError::Capacity(0)));
    /// ```
    pub fn build(self) -> Result<Memory, BuildError> {
        let subscriptions = Arc::new(Subscriptions::default());
        let mut bus = Bus::builder()
            .capacity(self.buffer)
            .overflow(self.overflow)
            .blocking(self.overflow == Overflow::Block)
            .weigh(BroadcastEvent::weight);
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::super::broadcaster::BroadcasterExt;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[track_caller]
    fn eventually(mut holds: impl FnMut() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < PATIENCE);
            thread::yield_now();
        }
    }

    /// Waits until the list is empty. `dropped` drops the counters that are final.
    #[track_caller]
    fn forgets_all(memory: &Memory) {
        eventually(|| {
            memory.dropped();
            memory.subscriptions.sizes() == (0, 0)
        });
    }

    fn event() -> BroadcastEvent {
        BroadcastEvent::new("a", "n", "")
    }

    #[test]
    fn a_subscription_that_was_cancelled_leaves_nothing() {
        let memory = Memory::new();
        let token = CancelToken::new();
        for round in 0..1000 {
            let guard = memory.on_until(&token, "a", |_| ()).expect("open");
            memory.publish(event()).expect("open");
            if round % 2 == 0 {
                guard.into_control().cancel();
            } else {
                drop(guard);
            }
        }
        forgets_all(&memory);
        let one = memory.on_until(&token, "a", |_| ()).expect("open");
        one.detach();
        let list = &memory.subscriptions;
        assert_eq!(list.sizes().0, 1);
        token.cancel();
        forgets_all(&memory);
    }

    #[test]
    fn a_detached_subscription_that_was_disconnected_leaves_its_count() {
        for dedicated in [false, true] {
            let builder = Memory::builder().buffer(1).overflow(Overflow::Disconnect);
            let memory = builder.dedicated(dedicated).build().expect("in range");
            let mut expected = 0;
            for round in 1..=40 {
                let (go, gate) = mpsc::channel::<()>();
                let handler = move |_: &BroadcastEvent| {
                    let _ = gate.recv();
                };
                memory.on("a", handler).expect("open").detach();
                assert!(memory.subscriptions.sizes().0 >= 1);
                while memory.dropped() == expected {
                    memory.publish(event()).expect("open");
                }
                let before = memory.dropped();
                drop(go);
                eventually(|| memory.subscriptions.sizes().0 == 0);
                forgets_all(&memory);
                expected = memory.dropped();
                assert!(
                    before >= round && expected >= before,
                    "{before}, {expected}"
                );
            }
        }
    }

    #[test]
    fn a_broadcaster_that_closed_has_no_entries() {
        let memory = Memory::builder().buffer(1).build().expect("in range");
        let (go, gate) = mpsc::channel::<()>();
        let blocks = memory.on("a", move |_| {
            let _ = gate.recv();
        });
        blocks.expect("open").detach();
        for _ in 0..10 {
            memory.on("b", |_| ()).expect("open").detach();
            memory.publish(event()).expect("open");
        }
        eventually(|| memory.dropped() >= 7);
        let dropped = memory.dropped();
        drop(go);
        assert!(memory.close_within(PATIENCE).expect("closes").in_time);
        assert_eq!(memory.dropped(), dropped);
        forgets_all(&memory);
        assert_eq!(memory.dropped(), dropped);
    }

    /// The list stays short although the sum is never requested.
    #[test]
    fn the_counters_of_ended_subscriptions_are_bounded() {
        let memory = Memory::new();
        let mut longest = 0;
        for _ in 0..1000 {
            drop(memory.on("a", |_| ()).expect("open"));
            // Only then are the counters final.
            assert!(memory.flush_within(PATIENCE));
            eventually(|| memory.subscriptions.sizes().0 == 0);
            longest = longest.max(memory.subscriptions.sizes().1);
        }
        assert!(longest <= 64, "{longest}");
    }
}
