//! Coming from `tokio::sync::broadcast`.
//!
//! # What corresponds to what
//!
//! | `tokio::sync::broadcast` | fanout |
//! | --- | --- |
//! | `channel(capacity)` | [`Bus::new`], or [`Bus::builder`]`().capacity(n)` |
//! | `Sender<T>`, cloned | [`Bus<T>`](crate::Bus), cloned; for high rates a [`Publisher`] each (see below about order) |
//! | `sender.send(value)` | [`bus.publish("topic", value)`](crate::Bus::publish), or [`publish_async`] in a task |
//! | `SendError(value)` when there is no receiver | not an error; the error when the bus is closed is [`PublishError`], with the value |
//! | `sender.subscribe()` | [`bus.subscribe("topic")`](crate::Bus::subscribe), or `"**"` for everything; it may deliver earlier events (see below) |
//! | `receiver.resubscribe()` | [`sub.resubscribe()`](crate::Subscriber::resubscribe), which may also deliver earlier events |
//! | `receiver.recv().await` | [`sub.recv_async().await`](crate::Subscriber::recv_async), which returns a reference; [`next_async`] returns an owned event |
//! | `receiver.blocking_recv()` | [`sub.recv()`](crate::Subscriber::recv) |
//! | `receiver.try_recv()` | [`sub.try_recv()`](crate::Subscriber::try_recv) |
//! | `RecvError::Lagged(n)` | [`RecvError::Lost(gap)`](crate::RecvError::Lost): the first and the last id, the count and the reason |
//! | `RecvError::Closed` | [`RecvError::Closed`](crate::RecvError::Closed) |
//! | `sender.receiver_count()` | [`bus.subscriber_count("topic")`](crate::Bus::subscriber_count), [`has_subscribers`] |
//! | `receiver.len()`, `is_empty()` | [`sub.len()`](crate::Subscriber::len), [`is_empty`](crate::Subscriber::is_empty) |
//! | `sender.same_channel(&other)` | [`bus.same_bus(&other)`](crate::Bus::same_bus) |
//! | `receiver.same_channel(&other)` | `other.bus().is_some_and(\|bus\| receiver.same_bus(&bus))`: [`Subscriber::same_bus`](crate::Subscriber::same_bus) takes a bus |
//! | `sender.closed().await` | [`handle.ended().await`](crate::SubscriptionHandle::ended), per subscription |
//! | `sender.downgrade()` | [`bus.downgrade()`](crate::Bus::downgrade) |
//! | `BroadcastStream` of tokio-stream | [`sub.into_stream()`](crate::Subscriber::into_stream) |
//!
//! # What is different
//!
//! * **A new subscription may deliver earlier events.** A receiver of tokio's channel gets only
//!   what is sent after `subscribe`. A subscription of fanout also gets events that were published
//!   before and not dispatched yet. Under load there are nearly always some. If the program must
//!   not see them, it calls [`flush_within`](crate::Bus::flush_within) or
//!   [`flush_async`](crate::Bus::flush_async) before it subscribes: see
//!   [`Start::Now`](crate::Start::Now).
//! * **A thread with two lanes has no order between them.** `Bus::publish` uses a lane that all
//!   threads share, each [`Publisher`] its own one. What a thread publishes through one lane keeps
//!   its order; events that it publishes through different lanes may change places.
//! * **`T` need not be `Clone`.** Receivers read the same value in place.
//! * **Every receiver has a ring of its own.** A slow receiver loses its own events only, and its
//!   [`Overflow`] policy decides what happens. To behave like tokio's channel, choose
//!   [`DropOldest`](crate::Overflow::DropOldest). The default, [`DropNewest`], keeps the oldest
//!   events.
//! * **Topics.** A subscription has patterns, and a receiver is not woken for other topics.
//! * **A dispatcher delivers the events.** Publishing returns when the event is *accepted*. It is
//!   delivered by a thread of the bus a few microseconds later, or, if it is a lone event, by the
//!   publishing thread before the call returns: see [`Dispatch`](crate::Dispatch).
//! * **Publishing can wait.** A lane is bounded. `publish` blocks the thread while its lane is
//!   full, which happens when the dispatcher is too slow or has to wait for a `Block` subscriber.
//!   In a task, use [`publish_async`] or [`try_publish`](crate::Bus::try_publish).
//!
//! # The loop, ported
//!
//! With tokio's channel, a receiver that falls behind learns how many values it missed. It does not
//! learn which:
//!
//! ```text
//! loop {
//!     match receiver.recv().await {
//!         Ok(value) => handle(value),
//!         Err(RecvError::Lagged(n)) => eprintln!("missed {n}"), // which ones is not known
//!         Err(RecvError::Closed) => break,
//!     }
//! }
//! ```
//!
//! The same with fanout. A gap has the first and the last id of the lost events, and their number,
//! so the program can reload what is missing:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! use fanout::{Bus, Overflow, RecvError};
//!
//! let bus = Bus::<String>::builder().overflow(Overflow::DropOldest).capacity(16).build()?;
//! let mut sub = bus.subscribe("**")?;
//! bus.publish_async("chat.lobby", "hello".to_owned()).await?;
//! bus.close();
//! loop {
//!     match sub.recv_async().await {
//!         Ok(event) => assert_eq!(event.data(), "hello"),
//!         Err(RecvError::Lost(gap)) => {
//!             let (first, last) = (gap.first_id(), gap.last_id());
//!             eprintln!("missed {} events with ids {first} to {last}", gap.count());
//!         }
//!         Err(end) => break println!("{end}"),
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok(())
//! # }
//! ```
//!
//! Under [`Overflow::Disconnect`](crate::Overflow::Disconnect) the last loss is not reported as
//! `Lost`: it is in the ending, `RecvError::Disconnected(gap)`.
//!
//! The example `chat_service` is a service on `tokio::sync::broadcast`, ported line by line.
//!
//! [`Bus::new`]: crate::Bus::new
//! [`Bus::builder`]: crate::Bus::builder
//! [`Publisher`]: crate::Publisher
//! [`PublishError`]: crate::PublishError
//! [`publish_async`]: crate::Bus::publish_async
//! [`next_async`]: crate::Subscriber::next_async
//! [`has_subscribers`]: crate::Bus::has_subscribers
//! [`Overflow`]: crate::Overflow
//! [`DropNewest`]: crate::Overflow::DropNewest
