//! Broadcasting: named events on channels, and handlers for them, behind an interface that drivers implement.
//!
//! A [`Broadcaster`] publishes [`Event`]s on channels, and calls handlers with the events of the one channel that each of
//! them asked for. [`Memory`] does so inside the process, on a [`Bus`](crate::Bus). Whoever knows Laravel's broadcasting, or
//! a package modelled on it, knows this surface; who wants patterns, other policies for full buffers, or to receive without
//! a handler, uses the bus.
//!
//! ```
//! use fanout::broadcast::{Broadcaster, BroadcasterExt, Event, Memory};
//! use std::sync::mpsc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broadcaster: Box<dyn Broadcaster> = Box::new(Memory::new());
//! let (sender, shipped) = mpsc::channel();
//! let subscription = broadcaster.on("private-orders.1", move |event| {
//!     sender.send(event.payload().clone()) // an error goes to the logger
//! })?;
//!
//! broadcaster.publish(Event::new("private-orders.1", "OrderShipped", "by air"))?;
//! assert_eq!(shipped.recv()?, "by air");
//!
//! subscription.cancel(); // so does dropping it
//! assert!(broadcaster.close()?.in_time);
//! # Ok(())
//! # }
//! ```
//!
//! # Channels
//!
//! A channel is a [`Topic`](crate::Topic), taken as it is written: `private-orders.1` and `chat:room 7` are channels, and so
//! is `orders.*`, whose star is plain text. Refused, with the place and the rule, are the empty text, more than 1,024 bytes,
//! control characters, and dots with nothing before, between or after them (`a..b`). To map the latter to something else
//! would make two channels one, here or on a broker that has the same rule. A driver may refuse more.
//!
//! Channels need no declaration and leave nothing behind: one that nobody subscribes to costs nothing.
//!
//! # What is promised
//!
//! * **An event accepted** (`publish` answered `Ok`) goes to every handler that was subscribed to its channel before, once,
//!   or is dropped for that handler and counted. That nobody subscribes is not an error.
//! * **Order**: a handler is called with one event at a time, and the events of one publishing thread come in order.
//! * **Nothing is copied**: all handlers get a reference to the one event that was published.
//! * **Nothing after cancel**: once [`cancel`](SubscriptionGuard::cancel) returned, no call begins.
//! * **Publishing waits for no handler.** It may wait for a moment while the dispatcher is behind.
//! * **From inside a handler** everything may be called: publish, subscribe, cancel, close. Nothing there waits.
//!
//! # The bad days
//!
//! * **A handler is slow**: its buffer fills up, and what comes on top is dropped for it alone, counted in
//!   [`dropped`](Broadcaster::dropped), and told to the [`Logger`] once for the run, when the handler comes to that place.
//! * **A handler blocks**: its thread is replaced by a spare one. There are 64; with more handlers than that which block at
//!   the same time, see [`MemoryBuilder::dedicated`].
//! * **A handler fails or panics**: the logger is told; the publisher and the other handlers do not notice, and the handler
//!   gets the next event.
//! * **A handler publishes faster than events are dispatched**: it lends a hand; if there is still no room,
//!   [`WouldDeadlock`](PublishError::WouldDeadlock).
//! * **Closing**: publishing and subscribing answer `Closed`; what was accepted is handled.
//!   [`close`](Broadcaster::close) waits for that, up to a limit, and reports what was left.
//! * **The process dies**: nothing survives it.
//!
//! A handler that publishes should hold a [`Weak`](std::sync::Weak) broadcaster, or the two keep each other alive until
//! somebody says close.
//!
//! # Coming from such a package in Go
//!
//! | there | here |
//! | --- | --- |
//! | `Broadcaster` | [`Broadcaster`]; with closures, [`BroadcasterExt::on`] |
//! | `Event{Channel, Name, Payload}` | [`Event::new`]`(channel, name, payload)` |
//! | `Publish(ctx, event)` | [`publish`](Broadcaster::publish); with a context, [`publish_until`](Broadcaster::publish_until) |
//! | `Subscribe(ctx, channel, handler)` | [`subscribe`](Broadcaster::subscribe); with a context, [`subscribe_until`](Broadcaster::subscribe_until) |
//! | `ctx`, `cancel()` | [`CancelToken`]; a deadline is a thread that cancels it |
//! | the function that cancels | [`SubscriptionGuard::cancel`]; or drop it |
//! | `Close()` | [`close`](Broadcaster::close), [`close_within`](Broadcaster::close_within) |
//! | `ErrClosed` | [`PublishError::Closed`], [`SubscribeError::Closed`] |
//! | `NewMemory(..)`, its options | [`Memory::new`], [`Memory::builder`] |
//! | `Dropped()` | [`dropped`](Broadcaster::dropped) |
//! | the logger | [`MemoryBuilder::logger`] |
//!
//! | what went wrong there | here |
//! | --- | --- |
//! | a full buffer drops, and only a global number says so | the same by default, and the logger is told channel and count; with [`MemoryBuilder::overflow`], nothing is dropped |
//! | a handler is called after cancel returned | no call begins |
//! | closing loses what is queued | it is handled; what does not get done in time is in the [`CloseReport`] |
//! | a handler's panic ends the process | it is told to the logger |
//! | a lock, and a copy of all subscribers, for each publish | neither: see [the crate](crate) |
//! | channels that nobody uses are kept for ever | nothing is kept |
//! | an event is copied for each subscriber | it is lent to each |
//!
//! # Writing a driver
//!
//! Implement [`Broadcaster`]'s four required methods, and [`SubscriptionControl`] for what cancels. The local half of a remote driver (a
//! bounded queue and a turn for each handler) is a [`Memory`], into which the connection publishes. With the feature
//! `conformance` there is `broadcast::conformance`, the tests that every driver has to pass.

mod broadcaster;
mod cancel;
#[cfg(feature = "conformance")]
pub mod conformance;
mod control;
mod error;
mod event;
mod guard;
mod memory;
mod report;
mod subscriptions;

pub use broadcaster::{Broadcaster, BroadcasterExt, CLOSE_TIMEOUT, Handler, Outcome};
pub use cancel::CancelToken;
pub use control::SubscriptionControl;
pub use error::{BoxError, ChannelError, CloseError, PublishError, SubscribeError};
pub use event::Event;
pub use guard::SubscriptionGuard;
pub use memory::{Memory, MemoryBuilder};
pub use report::{CloseReport, Incident, Logger};
