//! Coming from Go channels.
//!
//! A Go channel gives each value to one receiver; a program that wants to give it to all of them
//! keeps a slice of channels behind a mutex, and decides at each full one whether to wait or to
//! drop. A bus is that slice, with patterns, without the mutex, and with an account of what was
//! dropped.
//!
//! # What corresponds to what
//!
//! | Go | fanout |
//! | --- | --- |
//! | `subs = append(subs, make(chan T, 16))` | [`bus.subscription("topic").capacity(16).open()`](crate::Bus::subscription) |
//! | `for _, c := range subs { c <- v }` | [`bus.publish("topic", v)`](crate::Bus::publish), with subscribers that [`Block`] |
//! | `select { case c <- v: default: }` for each | the same, with [`DropNewest`], the default |
//! | `v := <-c` | [`sub.recv()`](crate::Subscriber::recv) |
//! | `v, ok := <-c` | `recv` returns [`RecvError::Closed`](crate::RecvError::Closed) after the last event |
//! | `for v := range c` | [`sub.for_each(..)`](crate::Subscriber::for_each) or [`sub.iter()`](crate::Subscriber::iter) |
//! | `select { case v := <-c: default: }` | [`sub.try_recv()`](crate::Subscriber::try_recv) |
//! | `select { case v := <-c: case <-time.After(d): }` | [`sub.recv_timeout(d)`](crate::Subscriber::recv_timeout) |
//! | `select` over several channels | one subscription with several patterns; or `select!` over several [`recv_async`]; see [in async code](super::in_async_code) |
//! | `close(c)` by the sender | dropping the last [`Bus`] and [`Publisher`], or [`close`](crate::Bus::close) |
//! | `ctx, cancel := context.WithCancel(..)` | [`sub.handle().cancel()`](crate::SubscriptionHandle::cancel), or [`broadcast::CancelToken`](crate::broadcast::CancelToken) |
//! | a goroutine per subscriber | a thread, a task, or a handler: [`bus.on("topic", closure)`](crate::Bus::on) |
//! | `len(c)`, `cap(c)` | [`sub.len()`](crate::Subscriber::len), [`sub.capacity()`](crate::Subscriber::capacity) |
//!
//! # What is different
//!
//! * **A send to a closed bus is an error with the value**, not a panic.
//! * **An unbuffered channel does not exist.** Publishing is accepted into a lane. To know that an
//!   event has been delivered and handled, call [`flush_within`](crate::Bus::flush_within).
//! * **The receiver, too, closes**: dropping a subscriber ends its subscription. No publisher stays
//!   blocked by a receiver that was dropped.
//! * **Loss is counted** per subscription and reported in the stream, where `default:` forgets it.
//!
//! ```
//! use fanout::{Bus, Overflow};
//! use std::thread;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Like `make(chan int, 16)` for each reader, and a sender that waits for the slowest.
//! // Each reader gets every price.
//! let bus = Bus::<u64>::builder().blocking(true).build()?;
//! let readers: Vec<_> = (0..3)
//!     .map(|_| bus.subscription("prices").capacity(16).overflow(Overflow::Block).open())
//!     .collect::<Result<Vec<_>, _>>()?
//!     .into_iter()
//!     .map(|mut sub| {
//!         thread::spawn(move || {
//!             let mut sum = 0;
//!             sub.for_each(|event| sum += event.data(), |gap| unreachable!("{gap}"));
//!             sum
//!         })
//!     })
//!     .collect();
//! for n in 1..=100 {
//!     bus.publish("prices", n)?;
//! }
//! drop(bus); // like `close(c)`: the readers' loops end after the last event
//! for reader in readers {
//!     assert_eq!(reader.join().expect("the reader does not panic"), 5050);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Block`]: crate::Overflow::Block
//! [`DropNewest`]: crate::Overflow::DropNewest
//! [`Bus`]: crate::Bus
//! [`Publisher`]: crate::Publisher
//! [`recv_async`]: crate::Subscriber::recv_async
