//! Named events on channels, handlers for them, and a trait that drivers implement.
//!
//! A [`Broadcaster`] publishes [`BroadcastEvent`]s on channels. A handler subscribes to one channel
//! and is called with the events of that channel. [`Memory`] does this inside one process, on a
//! [`Bus`](crate::Bus); drivers for message brokers implement the same trait.
//!
//! The module follows Laravel's broadcasting and Go packages modelled on it. A program that needs
//! patterns, an overflow policy per subscription, or events without a handler uses the
//! [`Bus`](crate::Bus).
//!
//! ```
//! use fanout::broadcast::{BroadcastEvent, Broadcaster, BroadcasterExt, Memory};
//! use std::sync::mpsc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broadcaster: Box<dyn Broadcaster> = Box::new(Memory::new());
//! let (sender, shipped) = mpsc::channel();
//! let subscription = broadcaster.on("private-orders.1", move |event| {
//!     sender.send(event.payload().clone()) // an error goes to the logger
//! })?;
//!
//! broadcaster.publish(BroadcastEvent::new("private-orders.1", "OrderShipped", "by air"))?;
//! assert_eq!(shipped.recv()?, "by air");
//!
//! subscription.cancel(); // dropping it does the same
//! assert!(broadcaster.close()?.in_time);
//! # Ok(())
//! # }
//! ```
//!
//! # Channels
//!
//! A channel is a [`Topic`](crate::Topic), and no character of it is a wildcard:
//! `private-orders.1`, `chat:room 7` and `orders.*` are three channels. A text is not a valid
//! channel if it is empty or longer than 1,024 bytes, if it contains a control character, or if the
//! part before, between or after its dots is empty (`a..b`). A broadcaster never maps an invalid
//! text to a valid one, because two channels could then become one, here or at a broker. A driver
//! may refuse other texts as well.
//!
//! Channels are not declared. A channel without subscribers costs nothing.
//!
//! # Guarantees
//!
//! * **Delivery**: an event that `publish` accepted goes once to every handler that was subscribed
//!   to its channel before, or is dropped for that handler and counted. An event without
//!   subscribers is not an error.
//! * **Order**: a handler is called with one event at a time. Events that one thread publishes on
//!   one channel arrive in order.
//! * **No copies**: all handlers get a reference to the event that was published.
//! * **Nothing after cancel**: after [`cancel`](SubscriptionGuard::cancel) has returned, no call of
//!   the handler starts.
//! * **Publishing waits for no handler**. It may wait for a moment while the dispatcher is behind.
//! * **Handlers may call everything**: publish, subscribe, cancel, close. None of these waits
//!   there.
//!
//! # Failure modes
//!
//! * **A handler is slow**: its buffer fills up, and further events are dropped for this handler
//!   alone. They are counted in [`dropped`](Broadcaster::dropped). When the handler reaches the
//!   place where they would have been, the [`Logger`] gets one [`Incident`] for the whole run.
//! * **A handler blocks**: a spare thread replaces its thread. There are up to 64 threads; for more
//!   handlers that block at the same time, see [`MemoryBuilder::dedicated`].
//! * **A handler fails or panics**: the logger gets an [`Incident`], and the handler gets its next
//!   event. Publishers and other handlers are not affected.
//! * **A handler publishes faster than events are dispatched**: its thread dispatches events, too.
//!   If there is still no room, publishing fails with
//!   [`WouldDeadlock`](BroadcastPublishError::WouldDeadlock).
//! * **The broadcaster closes**: publishing and subscribing fail with `Closed`, and accepted events
//!   are handled. [`close`](Broadcaster::close) waits for that, up to a timeout, and reports what
//!   was left.
//! * **A driver loses its connection**: it reports an [`Incident::Driver`], since events may be
//!   missing.
//! * **The process ends**: [`Memory`] loses all events.
//!
//! A handler that publishes should own a [`Weak`](std::sync::Weak) broadcaster. With a strong one,
//! the broadcaster and the handler keep each other alive until the program calls `close`. The same
//! holds for the [logger](MemoryBuilder::logger). A [`SubscriptionGuard`], a
//! [`SubscriptionControl`] and a [`CancelToken`] keep no broadcaster alive, and nothing of one that
//! was dropped.
//!
//! # Coming from Go
//!
//! | a `broadcasting` package in Go | here |
//! | --- | --- |
//! | `Broadcaster` | [`Broadcaster`]; with closures, [`BroadcasterExt::on`] |
//! | `Event{Channel, Name, Payload}` | [`BroadcastEvent::new`]`(channel, name, payload)` |
//! | `Publish(ctx, event)` | [`publish`], [`publish_until`] |
//! | `Subscribe(ctx, channel, handler)` | [`subscribe`], [`subscribe_until`] |
//! | `ctx`, `cancel()` | [`CancelToken`]; for a deadline, a thread that cancels it |
//! | the function that cancels | [`SubscriptionGuard::cancel`], or drop the guard |
//! | `Close()` | [`close`](Broadcaster::close), [`close_within`](Broadcaster::close_within) |
//! | `ErrClosed` | the `Closed` variants of the errors |
//! | `NewMemory(..)`, its options | [`Memory::new`], [`Memory::builder`] |
//! | `Dropped()` | [`dropped`](Broadcaster::dropped) |
//! | the logger | [`MemoryBuilder::logger`] |
//!
//! [`publish`]: Broadcaster::publish
//! [`publish_until`]: Broadcaster::publish_until
//! [`subscribe`]: Broadcaster::subscribe
//! [`subscribe_until`]: Broadcaster::subscribe_until
//!
//! | a fault there | here |
//! | --- | --- |
//! | a full buffer drops events, and one global number counts them | [`MemoryBuilder::overflow`] |
//! | a handler is called after cancel has returned | no call starts |
//! | closing loses queued events | they are handled, or are in the [`BroadcastCloseReport`] |
//! | a panic of a handler ends the process | it is caught and reported to the logger |
//! | a publish takes a lock and copies the list of subscribers | neither: see [the crate](crate) |
//! | channels that are not used stay in memory | they use no memory |
//! | each subscriber gets a copy of the event | each gets a reference to the same event |
//!
//! # Writing a driver
//!
//! A driver is a type that implements [`Broadcaster`], usually in a separate crate. It needs:
//!
//! 1. **A [`Memory`] as its local half.** The thread that reads from the connection publishes into
//!    it. `Memory` then calls the handlers, bounds their buffers, counts drops, catches panics,
//!    keeps guarantees about cancelling, and never makes the reading thread wait for a handler.
//! 2. **The four required methods.** [`publish`] checks the channel with
//!    [`Topic::new`](crate::Topic::new) and sends the event. [`subscribe`] subscribes at the broker
//!    and locally. [`close_within`](Broadcaster::close_within) waits until the broker has returned
//!    everything that was sent, then closes the local half. [`dropped`](Broadcaster::dropped) is
//!    that of the local half. A `publish` that may wait should also override [`publish_until`].
//! 3. **No waiting inside handlers**: a call that may wait calls [`inside_handler`] first, and
//!    fails if it returns `true`.
//! 4. **A [`SubscriptionControl`] per subscription**, if the broker must be notified of its end. It
//!    owns the control of the local subscription: see [`SubscriptionGuard::into_control`].
//! 5. **Errors**: [`ChannelError::new`] for a refused channel, and the `Driver` variants, which
//!    keep the error of the connection as their source.
//! 6. **Incidents**: [`Incident::driver`] to the logger for what no call can return, such as a
//!    connection that was lost and restored.
//! 7. **A `Drop` that closes** and does not wait: here, the thread of the broker ends when the last
//!    sender of commands is dropped.
//!
//! With the feature `conformance`, `broadcast::conformance::run` tests all of this. The following
//! driver is complete. Its broker is a thread that sends back the events on channels that have a
//! subscriber.
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
//! use std::sync::{Arc, Condvar, Mutex, Weak, mpsc};
//! use std::thread;
//! use std::time::{Duration, Instant};
//!
//! use fanout::broadcast::{
//!     BoxError, BroadcastCloseError, BroadcastCloseReport, BroadcastEvent, BroadcastPublishError,
//!     BroadcastSubscribeError, Broadcaster, ChannelError, ErrorChain, Handler, Incident, Logger,
//!     Memory, SubscriptionControl, SubscriptionGuard, inside_handler,
//! };
//! use fanout::Topic;
//!
//! /// What travels to the broker, in order.
//! enum Command {
//!     Subscribe(String),
//!     Unsubscribe(String),
//!     Publish(BroadcastEvent),
//! }
//!
//! struct Connection {
//!     /// `None` after the close.
//!     commands: Mutex<Option<mpsc::Sender<Command>>>,
//!     /// Events that were sent and have not reached the local half.
//!     in_flight: AtomicU64,
//! }
//!
//! enum SendError {
//!     Closed,
//!     Broken(BoxError),
//! }
//!
//! impl Connection {
//!     fn send(&self, command: Command) -> Result<(), SendError> {
//!         let commands = self.commands.lock().unwrap();
//!         let commands = commands.as_ref().ok_or(SendError::Closed)?;
//!         let events = u64::from(matches!(command, Command::Publish(_)));
//!         self.in_flight.fetch_add(events, Ordering::SeqCst);
//!         commands.send(command).map_err(|_| {
//!             self.in_flight.fetch_sub(events, Ordering::SeqCst);
//!             SendError::Broken("the broker has stopped".into())
//!         })
//!     }
//! }
//!
//! struct Driver {
//!     local: Arc<Memory>,
//!     connection: Arc<Connection>,
//!     drained: Arc<Drained>,
//! }
//!
//! /// Whether everything that was sent before the close has come back.
//! #[derive(Default)]
//! struct Drained(Mutex<bool>, Condvar);
//!
//! impl Driver {
//!     fn connect(buffer: usize, logger: Logger) -> Result<Self, BoxError> {
//!         let logger = Arc::new(logger);
//!         let local_logger = logger.clone();
//!         let local = Memory::builder()
//!             .buffer(buffer)
//!             .logger(move |incident| local_logger(incident))
//!             .build()?;
//!         let local = Arc::new(local);
//!         let (sender, commands) = mpsc::channel();
//!         let connection = Arc::new(Connection {
//!             commands: Mutex::new(Some(sender)),
//!             in_flight: AtomicU64::new(0),
//!         });
//!         let drained = Arc::new(Drained::default());
//!         let driver = Self { local, connection, drained };
//!         // The thread must not keep the connection open.
//!         let connection = Arc::downgrade(&driver.connection);
//!         let (local, drained) = (driver.local.clone(), driver.drained.clone());
//!         thread::Builder::new().name("broker".into()).spawn(move || {
//!             read(&commands, &local, &connection, &logger);
//!             *drained.0.lock().unwrap() = true;
//!             drained.1.notify_all();
//!         })?;
//!         Ok(driver)
//!     }
//! }
//!
//! /// The broker, and the thread that reads what it sends back.
//! fn read(
//!     commands: &mpsc::Receiver<Command>,
//!     local: &Memory,
//!     connection: &Weak<Connection>,
//!     logger: &Logger,
//! ) {
//!     let mut subscribers: HashMap<String, usize> = HashMap::new();
//!     for command in commands {
//!         match command {
//!             Command::Subscribe(channel) => *subscribers.entry(channel).or_default() += 1,
//!             Command::Unsubscribe(channel) => {
//!                 let count = subscribers.get_mut(&channel).expect("it was subscribed");
//!                 *count -= 1;
//!                 if *count == 0 {
//!                     subscribers.remove(&channel);
//!                 }
//!             }
//!             Command::Publish(event) => {
//!                 if subscribers.contains_key(event.channel())
//!                     && let Err(error) = local.publish(event)
//!                 {
//!                     logger(&Incident::driver(&ErrorChain::new(&error)));
//!                 }
//!                 if let Some(connection) = connection.upgrade() {
//!                     connection.in_flight.fetch_sub(1, Ordering::SeqCst);
//!                 }
//!             }
//!         }
//!     }
//! }
//!
//! impl Broadcaster for Driver {
//!     fn publish(&self, event: BroadcastEvent) -> Result<(), BroadcastPublishError> {
//!         if let Err(reason) = Topic::new(event.channel()) {
//!             return Err(ChannelError::new(event.channel(), reason).into());
//!         }
//!         self.connection.send(Command::Publish(event)).map_err(|error| match error {
//!             SendError::Closed => BroadcastPublishError::Closed,
//!             SendError::Broken(error) => BroadcastPublishError::Driver(error),
//!         })
//!     }
//!
//!     fn subscribe(
//!         &self,
//!         channel: &str,
//!         handler: Handler,
//!     ) -> Result<SubscriptionGuard, BroadcastSubscribeError> {
//!         let channel = channel.to_owned();
//!         // The broker first: then a refusal by the broker leaves no handler behind.
//!         self.connection.send(Command::Subscribe(channel.clone())).map_err(|error| match error {
//!             SendError::Closed => BroadcastSubscribeError::Closed,
//!             SendError::Broken(error) => BroadcastSubscribeError::Driver(error),
//!         })?;
//!         let connection = Arc::downgrade(&self.connection);
//!         let remote = Remote { channel, connection, ended: AtomicBool::new(false) };
//!         match self.local.subscribe(&remote.channel, handler) {
//!             Ok(guard) => {
//!                 let local = guard.into_control();
//!                 Ok(SubscriptionGuard::new(Subscription { local, remote }))
//!             }
//!             Err(error) => {
//!                 remote.end();
//!                 Err(error)
//!             }
//!         }
//!     }
//!
//!     fn close_within(
//!         &self,
//!         timeout: Duration,
//!     ) -> Result<BroadcastCloseReport, BroadcastCloseError> {
//!         let started = Instant::now();
//!         let timeout = if inside_handler() { Duration::ZERO } else { timeout };
//!         drop(self.connection.commands.lock().unwrap().take());
//!         let Drained(drained, changed) = &*self.drained;
//!         let drained = drained.lock().unwrap();
//!         let (drained, _) = changed.wait_timeout_while(drained, timeout, |it| !*it).unwrap();
//!         let is_drained = *drained;
//!         drop(drained); // no lock is held while the local half waits for handlers
//!         if !is_drained {
//!             // The thread continues, and delivers what is still on its way.
//!             let in_flight = self.connection.in_flight.load(Ordering::SeqCst);
//!             return Ok(BroadcastCloseReport::new(false).with_unhandled(in_flight));
//!         }
//!         self.local.close_within(timeout.saturating_sub(started.elapsed()))
//!     }
//!
//!     fn dropped(&self) -> u64 {
//!         self.local.dropped()
//!     }
//! }
//!
//! /// The broker's half of a subscription.
//! struct Remote {
//!     channel: String,
//!     connection: Weak<Connection>,
//!     ended: AtomicBool,
//! }
//!
//! impl Remote {
//!     fn end(&self) {
//!         if !self.ended.swap(true, Ordering::SeqCst)
//!             && let Some(connection) = self.connection.upgrade()
//!         {
//!             // After the close there is nothing to unsubscribe from.
//!             let _ = connection.send(Command::Unsubscribe(self.channel.clone()));
//!         }
//!     }
//! }
//!
//! struct Subscription {
//!     local: Arc<dyn SubscriptionControl>,
//!     remote: Remote,
//! }
//!
//! impl SubscriptionControl for Subscription {
//!     fn cancel(&self) {
//!         self.local.cancel(); // first: no call starts any more
//!         self.remote.end();
//!     }
//!
//!     fn wait(&self, timeout: Duration) -> bool {
//!         self.local.wait(timeout)
//!     }
//!
//!     fn is_ended(&self) -> bool {
//!         self.local.is_ended() // so that a token need not keep what has ended
//!     }
//! }
//!
//! # #[cfg(feature = "conformance")]
//! fanout::broadcast::conformance::run(|setup| {
//!     Box::new(Driver::connect(setup.buffer, setup.logger).expect("a thread can be started"))
//! });
//! # let logger: Logger = Box::new(|_| ());
//! # let driver = Driver::connect(1, logger).unwrap();
//! # assert!(driver.close().unwrap().in_time);
//! ```

mod broadcaster;
mod cancel;
#[cfg(feature = "conformance")]
pub mod conformance;
mod control;
mod error;
mod event;
mod guard;
mod incident;
mod memory;
mod report;
mod subscriptions;

pub use broadcaster::{
    Broadcaster, BroadcasterExt, CLOSE_TIMEOUT, Handler, Outcome, inside_handler,
};
pub use cancel::CancelToken;
pub use control::SubscriptionControl;
pub use error::{
    BoxError, BroadcastCloseError, BroadcastPublishError, BroadcastSubscribeError, ChannelError,
    ErrorChain,
};
pub use event::BroadcastEvent;
pub use guard::SubscriptionGuard;
pub use incident::{Incident, Logger};
pub use memory::{Memory, MemoryBuilder};
pub use report::BroadcastCloseReport;
