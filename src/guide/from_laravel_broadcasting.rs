//! Coming from Laravel's broadcasting, or from a package that is modelled on it.
//!
//! Laravel broadcasts *named events* on *channels*, and a listener registers a handler for a
//! channel. [`broadcast`](crate::broadcast) has the same interface: [`Broadcaster`] is the trait
//! that drivers implement, and [`Memory`] is the driver for one process.
//!
//! # What corresponds to what
//!
//! | Laravel | fanout |
//! | --- | --- |
//! | `config/broadcasting.php`, the driver `redis`, `pusher`, `log`, `null` | a value that implements [`Broadcaster`]; today [`Memory`] |
//! | `class OrderShipped implements ShouldBroadcast` | [`BroadcastEvent::new(channel, name, payload)`](crate::broadcast::BroadcastEvent::new) |
//! | `broadcastOn()`: `private-orders.1` | the channel: any text of 1 to 1,024 bytes in segments with dots |
//! | `broadcastAs()` | the event's name |
//! | `broadcastWith()` | the payload: bytes, in whatever encoding the program uses |
//! | `broadcast(new OrderShipped($order))` | [`broadcaster.publish(event)`](crate::broadcast::Broadcaster::publish) |
//! | `Echo.private('orders.1').listen('.OrderShipped', handler)` | [`broadcaster.on("private-orders.1", handler)`](crate::broadcast::BroadcasterExt::on), and a look at `event.name()` |
//! | leaving a channel | dropping the guard that `on` returned, or its `cancel` |
//! | a queue worker that broadcasts later | nothing: publishing is accepted at once and handled on the bus's threads |
//!
//! # What is different
//!
//! * **Channels are exact names** in this interface, as in Laravel. Programs that want patterns use
//!   a [`Bus`](crate::Bus) directly.
//! * **The program checks permissions itself**: a channel called `private-...` is only a name.
//! * **Handlers run on a pool**, in order for each subscription. A handler that returns an error or
//!   panics is reported to the logger, and does not affect other handlers.
//! * **A handler that is too slow** loses what its buffer (256 events, unless the program set
//!   another size) has no room for; the loss is counted, and reported to the logger once for a run
//!   of events.
//!
//! ```
//! use fanout::broadcast::{BroadcastEvent, Broadcaster, BroadcasterExt, Memory};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broadcaster = Memory::builder()
//!     .logger(|incident| eprintln!("{incident}"))
//!     .build()?;
//! let _listener = broadcaster.on("private-orders.1", |event| {
//!     if event.name() == "OrderShipped" {
//!         println!("shipped: {:?}", event.payload());
//!     }
//! })?;
//! let payload = r#"{"carrier":"air"}"#;
//! broadcaster.publish(BroadcastEvent::new("private-orders.1", "OrderShipped", payload))?;
//! assert!(broadcaster.close_within(Duration::from_secs(5))?.in_time);
//! # Ok(())
//! # }
//! ```
//!
//! [`Broadcaster`]: crate::broadcast::Broadcaster
//! [`Memory`]: crate::broadcast::Memory
