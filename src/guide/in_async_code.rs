//! Using a bus in async code: what blocks, what does not, and code that passes the borrow checker.
//!
//! fanout works with every async runtime and depends on none. Futures are woken through their
//! [`Waker`](std::task::Waker); no timer and no reactor is needed.
//!
//! # What blocks the thread
//!
//! A function that blocks must not be called in a task. On a runtime with one thread, a `publish`
//! that waits for room waits for ever, if the task that would make the room runs on the same
//! thread.
//!
//! | blocks | in a task, use |
//! | --- | --- |
//! | [`Bus::publish`], [`Bus::send`] when the lane is full | [`publish_async`], [`send_async`], or `try_publish` |
//! | [`Bus::publish_timeout`], [`Bus::send_timeout`] when the lane is full | `publish_async`, `send_async` inside the runtime's timeout |
//! | [`Bus::publish_sequenced`], [`Bus::send_sequenced`] always | [`publish_sequenced_async`], [`send_sequenced_async`] |
//! | [`Subscriber::recv`], `recv_timeout`, `next`, `next_batch`, `next_batch_timeout`, `for_each`, `iter` | [`recv_async`], [`next_async`], [`next_batch_async`], [`into_stream`] |
//! | [`Bus::flush_within`] | [`flush_async`] |
//! | [`Bus::close_within`] | [`close_async`] |
//! | [`SubscriptionHandle::wait_ended`] | [`ended`] |
//! | [`HandlerGuard::cancel_and_wait`] while a call of the handler is running | no async form: see below |
//! | [`Bus::drive`] for as long as there is work | no async form: see below |
//!
//! Call `cancel_and_wait` and `drive` on a thread where blocking is allowed, such as with tokio's
//! `spawn_blocking`. `cancel` followed by `ended` is not the same as `cancel_and_wait`: neither of
//! them waits until a call that is running has returned.
//!
//! Cancelling a handler, by `cancel` or by dropping its [`HandlerGuard`], waits while a call of the
//! handler is running, but for at most 10 milliseconds. Inside the handler it does not wait.
//!
//! Nothing else waits: subscribing, cancelling without a handler, statistics, `close`, the `try_`
//! methods, and dropping anything else. Except for the `try_` methods, these calls take a lock for
//! a short time; publishing and receiving never take it. But they may run user code on the calling
//! thread: a payload's `drop`, wakers and, under [`Dispatch::Manual`](crate::Dispatch::Manual),
//! handlers. See [guarantee 9](crate#guarantees).
//!
//! # A future may be dropped at any time
//!
//! [`recv_async`] takes an event out of the ring at the moment when it is ready. Dropped earlier,
//! for example by `select!` or a timeout, it has received nothing. A dropped [`publish_async`] has
//! published nothing.
//!
//! # Receiving in a loop
//!
//! `recv_async` returns a reference to an event in the ring, which can be used until the next
//! receive:
//!
//! ```
//! use fanout::{RecvError, Subscriber};
//!
//! async fn run(mut sub: Subscriber<String>) {
//!     loop {
//!         match sub.recv_async().await {
//!             Ok(event) => println!("{}", event.data()),
//!             Err(RecvError::Lost(gap)) => eprintln!("{gap}"), // and continue
//!             Err(end) => return eprintln!("{end}"),
//!         }
//!     }
//! }
//! ```
//!
//! Under [`Overflow::Disconnect`], the end is `RecvError::Disconnected(gap)`, and this gap is the
//! last loss. It is not reported as `Lost` before.
//!
//! An event cannot be kept while the next one is received. If the program needs that, use
//! [`next_async`], which returns an owned event. It costs two changes of a reference count.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! use fanout::{Bus, Gap, SharedEvent};
//!
//! let bus = Bus::<u32>::new();
//! let mut orders = bus.subscribe("orders.*")?;
//! let mut prices = bus.subscribe("prices.*")?;
//! bus.publish_async("orders.eu", 1).await?;
//! bus.publish_async("prices.eu", 2).await?;
//! bus.close();
//!
//! let mut sum = 0;
//! let (mut orders_open, mut prices_open) = (true, true);
//! while orders_open || prices_open {
//!     let next: Option<Result<SharedEvent<u32>, Gap>> = tokio::select! {
//!         item = orders.next_async(), if orders_open => { orders_open = item.is_some(); item }
//!         item = prices.next_async(), if prices_open => { prices_open = item.is_some(); item }
//!     };
//!     match next {
//!         Some(Ok(event)) => sum += event.data(),
//!         Some(Err(gap)) => eprintln!("{gap}"),
//!         None => {} // that subscription has ended
//!     }
//! }
//! assert_eq!(sum, 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok(())
//! # }
//! ```
//!
//! # Streams
//!
//! [`into_stream`] turns a subscriber into a [`Stream`](futures_core::Stream) of owned events and
//! gaps. Its `next` and combinators come from the trait `StreamExt` of the crates `futures`,
//! `futures-lite`, `tokio-stream` or `smol` (`smol::stream`); each of them works on every runtime.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! use fanout::Bus;
//! use smol::stream::StreamExt;
//!
//! let bus = Bus::<u32>::new();
//! let mut events = bus.subscribe("orders.*")?.into_stream();
//! bus.publish_async("orders.eu", 7).await?;
//! bus.close();
//! while let Some(item) = events.next().await {
//!     match item {
//!         Ok(event) => assert_eq!(*event.data(), 7),
//!         Err(gap) => eprintln!("{gap}"), // and continue
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok(())
//! # }
//! ```
//!
//! # A session with `&mut self` methods
//!
//! An event from `recv_async` borrows the subscriber, and so the whole session: no `&mut self`
//! method of the session can be called. Use `next_async`, which returns an owned event:
//!
//! ```
//! use fanout::{Gap, SharedEvent, Subscriber};
//!
//! struct Session {
//!     sub: Subscriber<String>,
//!     sent: u64,
//! }
//!
//! impl Session {
//!     async fn run(&mut self) {
//!         while let Some(item) = self.sub.next_async().await {
//!             match item {
//!                 Ok(event) => self.send(&event).await,
//!                 Err(gap) => self.report(gap).await,
//!             }
//!         }
//!     }
//!
//!     async fn send(&mut self, event: &SharedEvent<String>) {
//!         println!("{}", event.data());
//!         self.sent += 1;
//!     }
//!
//!     async fn report(&mut self, gap: Gap) {
//!         println!("missed {}", gap.count());
//!     }
//! }
//! ```
//!
//! # Publishing from shared state
//!
//! A [`Bus`] is cheap to clone and publishes through `&self`: put it into the state of a web
//! framework as it is. A [`Publisher`] has a lane of its own and needs `&mut self`: give each task
//! its own one with [`Bus::publisher`], and do not put one behind a mutex.
//!
//! ```
//! use fanout::{Bus, PublishError};
//! use std::sync::Arc;
//!
//! #[derive(Clone)]
//! struct AppState {
//!     bus: Bus<Arc<str>>,
//! }
//!
//! async fn create_order(state: AppState, body: Arc<str>) -> Result<(), PublishError<Arc<str>>> {
//!     state.bus.publish_async("orders.created", body).await
//! }
//! ```
//!
//! A task that publishes many events makes its own `Publisher` from the shared state:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use fanout::{Bus, PublishError};
//!
//! #[derive(Clone)]
//! struct AppState {
//!     bus: Bus<u64>,
//! }
//!
//! /// Receives a file from a client, for example, and publishes its records.
//! async fn upload(state: AppState, records: Vec<u64>) -> Result<(), PublishError<u64>> {
//!     let mut publisher = state.bus.publisher();
//!     for record in records {
//!         publisher.publish_async("records", record).await?;
//!     }
//!     Ok(())
//! }
//!
//! let state = AppState { bus: Bus::new() };
//! let mut sub = state.bus.subscribe("records")?;
//! smol::block_on(upload(state.clone(), vec![1, 2, 3]))?;
//! for record in 1..=3 {
//!     assert_eq!(*sub.recv()?.data(), record);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Learning that a subscription has ended
//!
//! A task that is busy elsewhere, such as in a slow write to a socket, does not receive, and so
//! does not see that its subscription was disconnected. [`ended`] completes at that moment:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! # runtime.block_on(async {
//! use fanout::{Bus, Overflow};
//! use std::time::Duration;
//!
//! let bus = Bus::<u32>::new();
//! let sub = bus.subscription("n").capacity(1).overflow(Overflow::Disconnect).open()?;
//! let handle = sub.handle();
//! let slow_write = tokio::time::sleep(Duration::from_secs(3600));
//! bus.publish_async("n", 1).await?;
//! bus.publish_async("n", 2).await?; // no room: the subscription ends
//! tokio::select! {
//!     () = slow_write => unreachable!("the write takes an hour"),
//!     ending = handle.ended() => println!("close the connection: {ending}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok(())
//! # }
//! ```
//!
//! # Fairness
//!
//! A task that always finds an event would never let other tasks run on its thread. So after 128
//! receives in a row, a receive returns `Pending` once and wakes its own task.
//!
//! [`Bus`]: crate::Bus
//! [`Bus::publish`]: crate::Bus::publish
//! [`Bus::send`]: crate::Bus::send
//! [`Bus::publish_timeout`]: crate::Bus::publish_timeout
//! [`Bus::send_timeout`]: crate::Bus::send_timeout
//! [`Bus::send_sequenced`]: crate::Bus::send_sequenced
//! [`Bus::drive`]: crate::Bus::drive
//! [`Overflow::Disconnect`]: crate::Overflow::Disconnect
//! [`HandlerGuard`]: crate::HandlerGuard
//! [`publish_sequenced_async`]: crate::Bus::publish_sequenced_async
//! [`Bus::publish_sequenced`]: crate::Bus::publish_sequenced
//! [`Bus::publisher`]: crate::Bus::publisher
//! [`Bus::flush_within`]: crate::Bus::flush_within
//! [`Bus::close_within`]: crate::Bus::close_within
//! [`Publisher`]: crate::Publisher
//! [`publish_async`]: crate::Bus::publish_async
//! [`send_async`]: crate::Bus::send_async
//! [`send_sequenced_async`]: crate::Bus::send_sequenced_async
//! [`flush_async`]: crate::Bus::flush_async
//! [`close_async`]: crate::Bus::close_async
//! [`Subscriber::recv`]: crate::Subscriber::recv
//! [`recv_async`]: crate::Subscriber::recv_async
//! [`next_async`]: crate::Subscriber::next_async
//! [`next_batch_async`]: crate::Subscriber::next_batch_async
//! [`into_stream`]: crate::Subscriber::into_stream
//! [`SubscriptionHandle::wait_ended`]: crate::SubscriptionHandle::wait_ended
//! [`ended`]: crate::SubscriptionHandle::ended
//! [`HandlerGuard::cancel_and_wait`]: crate::HandlerGuard::cancel_and_wait
