//! Publish and subscribe inside one process: events with topics, glob patterns, and a bounded ring
//! for each subscriber.
//!
//! Publishers publish events of any type `T` on dot-separated topics. Subscribers subscribe with
//! patterns such as `orders.*.created`. Each subscriber has its own ring, and receives on a thread,
//! in a task on any async runtime, or as a closure on a pool of threads.
//!
//! # Why
//!
//! At a small scale, a program can use one channel for each subscriber. Then each delivery costs a
//! copy of the event, a reference count and a wake-up, and when one channel is full, either all
//! publishers wait for its receiver, or events are lost without a report. In this library
//!
//! * up to 64 events share a block, and a delivery is a reference to the block and a 64-bit mask:
//!   one slot of a ring, one reference count and one wake-up carry up to 64 events, and a payload
//!   is never cloned;
//! * patterns are compiled into an index, so that matching an event does not try every
//!   subscription. Plain text, wildcards for whole segments, and globs with a plain beginning or
//!   end that few others share are indexed; other globs are filtered by a text that they require;
//!   only globs without any plain text are always tried one by one (see [`index`]);
//! * loss is never silent: the subscriber gets a report at the place of the loss in the stream,
//!   with the first and the last id of the lost events, and their number.
//!
//! # The path of an event
//!
//! ```text
//! publish            sequence                match               ring             receive
//! Publisher --lane--> Sequencer --Block--+--> Shard (Index) --(Block,mask)--> Subscriber
//! Publisher --lane-->  ids, time         +--> Shard (Index) --(Block,mask)--> Subscriber
//! Bus::publish -mpsc->
//! ```
//!
//! A [`Publisher`] has its own lane. [`Bus::publish`] can be called on any thread and uses a lane
//! that all threads share. The sequencer merges the lanes into one order, gives each event its id
//! and its time, and writes the events into blocks. A shard owns a part of the subscriptions, and
//! pushes the events that match a subscription into its ring. [`Dispatch`] says which threads run
//! the sequencer and the shards: a pool, the publishing thread, or a thread of the program that
//! calls [`Bus::drive`].
//!
//! # Example
//!
//! ```
//! use fanout::{Bus, RecvError};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Bus::<u32>::new();
//! let mut sub = bus.subscribe("orders.*.created")?;
//! let reader = std::thread::spawn(move || {
//!     let mut sum = 0;
//!     loop {
//!         match sub.recv() {
//!             Ok(event) => sum += event.data(),
//!             Err(RecvError::Lost(gap)) => eprintln!("{gap}"), // and continue
//!             Err(_) => return sum, // the end; `Disconnected(gap)` also reports the last loss
//!         }
//!     }
//! });
//! bus.publish("orders.eu.created", 7)?;
//! bus.publish("orders.eu.paid", 100)?; // no pattern matches: that is not an error
//! bus.publish("orders.us.created", 3)?;
//! drop(bus); // the last handle: the reader gets what is left, and then the end
//! assert_eq!(reader.join().expect("the reader does not panic"), 10);
//! # Ok(())
//! # }
//! ```
//!
//! [`Subscriber::for_each`] does the same: it calls a closure with every event and another one with
//! every gap, also the gap that ends a subscription under [`Overflow::Disconnect`], and it returns
//! how the subscription ended. A loop that ends at any error ends silently at the first loss: for
//! example `while let Ok(event) = sub.recv()`.
//!
//! # In async code
//!
//! A call that blocks its thread blocks all tasks of that thread. If the runtime has only this
//! thread, the task that would make room never runs, and the call never returns. So use the methods
//! of the second column in async code. They work on any runtime and start no thread. Their futures
//! may be dropped at any time (see guarantee 13).
//!
//! | blocks the thread | suspends the task |
//! | --- | --- |
//! | [`publish`](Bus::publish), [`send`](Bus::send) | [`publish_async`](Bus::publish_async), [`send_async`](Bus::send_async) |
//! | [`publish_batch`](Bus::publish_batch) | `publish_async` for each |
//! | [`publish_timeout`](Bus::publish_timeout), [`send_timeout`](Bus::send_timeout) | the same, with a timeout of the runtime |
//! | [`publish_sequenced`](Bus::publish_sequenced), [`send_sequenced`](Bus::send_sequenced) | [`publish_sequenced_async`](Bus::publish_sequenced_async), [`send_sequenced_async`](Bus::send_sequenced_async) |
//! | [`recv`](Subscriber::recv), [`next`](Subscriber::next), [`next_batch`](Subscriber::next_batch) | [`recv_async`](Subscriber::recv_async), [`next_async`](Subscriber::next_async), [`next_batch_async`](Subscriber::next_batch_async), [`into_stream`](Subscriber::into_stream) |
//! | [`flush_within`](Bus::flush_within) | [`flush_async`](Bus::flush_async) |
//! | [`close_within`](Bus::close_within) | [`close_async`](Bus::close_async) |
//!
//! `try_publish`, `try_send`, `try_recv`, `close`, `subscribe`, `cancel` and `drop` never wait for
//! an event or for room, and can be used in async code. Guarantee 9 says when they run user code on
//! the calling thread, and so take as long as this code.
//!
//! # Where to look
//!
//! | topic | items |
//! | --- | --- |
//! | the bus, and closing it | [`Bus`], [`BusBuilder`], [`WeakBus`] |
//! | publishing | [`Bus::publish`] and the methods beside it, [`Publisher`], [`Message`], [`Topic`] |
//! | subscribing | [`Bus::subscribe`], [`SubscriptionBuilder`], [`SubscriptionHandle`] |
//! | receiving | [`Subscriber`], [`Event`], [`SharedEvent`], [`Batch`], [`WaitStrategy`] |
//! | receiving as a task | [`Subscriber::recv_async`], [`EventStream`], [`BatchStream`] |
//! | handlers | [`Bus::on`], [`SubscriptionBuilder::handler`], [`Notice`] |
//! | named events on channels, and drivers | [`broadcast`] |
//! | full rings | [`Overflow`], [`Gap`], [`GapReason`] |
//! | the pattern language | [`pattern`], [`Pattern`] |
//! | the index, without a bus | [`index`], [`PatternIndex`] |
//! | statistics | [`BusStats`], [`SubscriptionStats`], [`Label`], [`CloseReport`] |
//! | notices of slow subscribers | [`BusBuilder::on_slow`], [`SlowLimit`], [`SlowNotice`] |
//! | bounds of settings | [`limits`] |
//! | guides, such as choosing a policy and in async code | [`guide`] |
//!
//! # Guarantees
//!
//! 1. **Accounting.** For each subscription, over the ids from its
//!    [first](SubscriptionHandle::first_id) to its [last](SubscriptionHandle::last_id): received +
//!    lost + superseded + unread = matched, exactly. No event is delivered twice, and a subscriber
//!    receives rising ids. [`Overflow::Conflate`] is an exception in two ways. *Superseded* counts
//!    the events that a newer event of the same topic replaced while they waited; under the other
//!    policies it is always 0. A superseded event is not reported as a gap; [`Event::superseded`]
//!    of the event that replaced it counts it. And the ids that a `Conflate` subscriber receives
//!    rise for each topic, but not over all topics: a topic keeps its place in the ring when its
//!    event is replaced, so event 9 of one topic may arrive before event 5 of another topic.
//! 2. **Nothing after cancel.** After [`cancel`](SubscriptionHandle::cancel) has ended a
//!    subscription, its subscriber receives no event. A subscription that had ended before keeps
//!    its ending: `cancel` returns `false`, and a subscriber that was disconnected, or whose bus is
//!    broken, still receives the events in its ring. After `cancel` has returned, or a
//!    [`HandlerGuard`] was dropped, no call of the handler begins, whatever `cancel` returned. A
//!    call that is running may finish.
//! 3. **A subscription has a clear start.** Every event that is published after `subscribe` has
//!    returned is delivered. An event that was published before is delivered, too, if it was not
//!    dispatched yet; under load this is the usual case. A program that wants no earlier events
//!    flushes before it subscribes: see [`Start::Now`].
//! 4. **Isolation.** A subscriber or handler that stalls or panics delays no publisher and no other
//!    subscriber. The exceptions, such as [`Overflow::Block`], handlers that share threads, and
//!    user code that runs on a thread that dispatches, are
//!    [listed in the guide to failure modes](guide::failure_modes#what-isolation-does-not-cover).
//! 5. **Bounded memory.** A ring is bounded by events ([`capacity`](SubscriptionBuilder::capacity))
//!    and by the bytes that its events keep alive ([`pin_bytes`](SubscriptionBuilder::pin_bytes),
//!    64 MiB unless it was set). The overflow policy applies when an event would exceed either
//!    bound. A block counts as a whole; a block that is heavier than the bound enters the ring only
//!    when the ring is empty. A lane is bounded by events.
//! 6. **Loss is never silent.** A run of lost events is reported in the stream of events, once and
//!    at its place, as a [`Gap`], and counted in the statistics by reason. Under
//!    [`Overflow::Conflate`], [`Event::superseded`] returns the number of events that an event
//!    replaced. The capacity counts topics there: if a new topic has no room, the event that has
//!    waited longest is lost, with a gap.
//! 7. **Ids** begin at 1 and increase by 1 with every event of the bus. The times of events never
//!    decrease.
//! 8. **Acknowledgements.** *Accepted* means that the event is in a lane: it will be sequenced,
//!    unless the bus breaks or the time limit of [`close_within`](Bus::close_within) is over
//!    before. [`publish_sequenced`](Bus::publish_sequenced) waits until the event is *sequenced*,
//!    so that it has its id and its time.
//! 9. **Closing drains.** Clones of the [`Bus`] and [`Publisher`]s keep the bus open. When the bus
//!    is closed, or the last of them is dropped, publishing fails, and accepted events are still
//!    delivered to rings and handlers. A subscriber receives the events that are left, and then
//!    always `Closed`. Statistics and `cancel` still work after the close.
//!
//!    `close`, `cancel` and dropping never wait for an event, for room or for a subscriber. One
//!    call waits for a handler: cancelling a handler, also by dropping its [`HandlerGuard`], waits
//!    at most 10 milliseconds for a call that is running. But these calls, and the `try_` methods,
//!    may run user code on the calling thread, and then take as long as this code:
//!    * In every mode they may drop payloads and call wakers. For example, dropping a subscriber
//!      drops the payloads in its ring that no other subscriber still needs.
//!    * Under [`Dispatch::Inline`], each publish method, also [`try_publish`](Bus::try_publish),
//!      runs a round of dispatch, and `close`, or dropping the last handle to the bus, dispatches
//!      the accepted events. The payloads that are dropped and the wakers that are called in this
//!      time run on the calling thread. Under [`Dispatch::Adaptive`], the default, publishing does
//!      so for a lone event. Under [`Dispatch::Pool`] publishing never does.
//!    * Under [`Dispatch::Manual`], `close`, or dropping the last handle to the bus, dispatches the
//!      accepted events and calls the handlers with them. Once the bus is closing, receiving,
//!      `cancel`, and dropping a subscriber or a [`HandlerGuard`] do the same.
//! 10. **What lock-free means here.** After warm-up, publishing, dispatching and receiving take no
//!     mutex and do not allocate, with these exceptions. A publisher that waits for room in the
//!     shared lane takes a lock for a short time. So does, under [`Dispatch::Manual`], a receiver
//!     that makes room for a thread or task that flushes. A call with a time limit that dispatches
//!     allocates and takes a lock when it hands user code over at its limit. And
//!     [`Bus::publish_batch`] allocates a buffer.
//!     [`try_publish`](Bus::try_publish) and [`try_recv`](Subscriber::try_recv) finish even if all
//!     other threads are suspended. Delivery makes progress only when a thread that dispatches is
//!     scheduled, so it is not lock-free in this respect. Subscribing, cancelling and statistics
//!     take locks, but publishing, dispatching and receiving never take these.
//! 11. **Order.** The events of one lane keep their order: those of one [`Publisher`], and those
//!     that one thread publishes through `Bus`. Events of different lanes, also those of a
//!     [`Publisher`] and of `Bus::publish` on the same thread, have the order in which they are
//!     sequenced. This order is the same for every subscriber.
//! 12. **No deadlock in callbacks.** Inside a handler, and inside other user code that the bus
//!     calls (an observer, a payload's `drop`, a waker, a clock), publishing never waits. If the
//!     lane is full, or if the call waits for the id of the event (`publish_sequenced`), it fails
//!     with [`WouldDeadlock`](PublishError::WouldDeadlock) and returns the payload. Flushing does
//!     not wait there, and closing starts the close and returns. A panic in such code is contained
//!     and reported; a handler that panicked is called with the next event.
//! 13. **Futures are cancel-safe.** [`recv_async`](Subscriber::recv_async) takes an event out of
//!     the ring only when it becomes ready. [`publish_async`](Bus::publish_async) publishes its
//!     event only when it becomes ready. [`flush_async`](Bus::flush_async) and
//!     [`close_async`](Bus::close_async) can be dropped at any time.
//!
//! # Failure modes
//!
//! * **A subscriber falls behind**: its ring fills up. Under [`Overflow::DropNewest`] the newest
//!   events are lost to this subscriber only, and the loss is reported to it. Other policies drop
//!   the oldest events, keep the latest event of each topic, or end the subscription. Under
//!   [`Overflow::Block`] the bus waits for the subscriber, and so all other subscribers wait; after
//!   the [block timeout](SubscriptionBuilder::block_timeout), events that have no room are lost to
//!   this subscriber, which is also reported.
//! * **A publisher is too fast**: its lane fills up. `publish` waits; `try_publish` and
//!   `publish_timeout` return the payload, and `publish_async` suspends the task.
//! * **The bus closes while it is used**: publishing fails and returns the payload, and a
//!   subscriber receives the events that are left. [`close_within`](Bus::close_within) stops
//!   waiting at its time limit, and reports how many events were unread, lost or never sequenced.
//! * **User code panics**: a panic in a handler, an observer, a payload's `drop`, a waker or a
//!   clock does not affect the bus. A panic in a weigher, or a bug in this library, breaks the bus:
//!   publishing fails with `Broken`, and subscribers receive the events in their rings and then
//!   `Broken`.
//! * **The process ends**: all events are lost. The bus stores nothing outside of the process.
//!
//! # Features
//!
//! The library without features depends on no async runtime, no server and no serde.
//!
//! * **`tracing`** (on by default): reports that no call can return (failed and stalled handlers,
//!   contained panics, a broken bus) also become events of the `tracing` facade. Without the
//!   feature nothing is printed or logged, but the [`observer`](BusBuilder::observer), the
//!   statistics and the errors still report them. The feature adds the dependency tracing.
//! * **`conformance`** (off by default): `broadcast::conformance`, the tests that every broadcaster
//!   must pass, for the authors of drivers. The feature adds no dependency.
//! * **`latency`** (off by default): `BusBuilder::sample_latency`, and percentiles of the time from
//!   publishing to receiving, per subscription and per bus. The feature adds the dependency
//!   hdrhistogram. A bus takes samples only if the program sets `sample_latency`.
//! * **`metrics`** (off by default): `Bus::record_metrics`, which records the statistics of the bus
//!   with the `metrics` facade. The feature adds the dependency metrics. Nothing is recorded
//!   outside of that call.
//! * **`serde`** (off by default): `Serialize` and `Deserialize` for [`Pattern`], [`Syntax`] and
//!   [`Topic`]. The feature adds the dependency serde, without its derive macros.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(loom))]
pub mod guide;
pub mod index;
pub mod limits;
pub mod pattern;

mod contain;
mod dispatch;
mod log;
mod park;
mod ring;
mod sync;
mod time_limit;

#[cfg(not(loom))]
pub mod broadcast;
#[cfg(not(loom))]
mod bus;
#[cfg(not(loom))]
mod handlers;

#[cfg(not(loom))]
pub use bus::{
    Batch, BatchIntoIter, BatchIter, BatchStream, BuildError, Bus, BusBuilder, BusStats,
    ChangeError, CloseReport, Ending, EventStream, HandlerGuard, IntoPatterns, Iter, Label,
    LabelError, LabelRule, Message, PublishError, PublishSequencedError, PublishTimeoutError,
    Publisher, RecvError, RecvTimeoutError, SlowLimit, SlowNotice, SlowStatus, Start,
    SubscribeError, Subscriber, SubscriptionBuilder, SubscriptionHandle, SubscriptionStats,
    ThreadError, TryPublishError, TryRecvError, WaitStrategy, WeakBus,
};
pub use dispatch::Dispatch;
pub use dispatch::block::{Event, SharedEvent};
pub use dispatch::lane::Receipt;
#[cfg(feature = "latency")]
pub use dispatch::latency::LatencyStats;
pub use dispatch::loss::{Gap, GapReason, Overflow};
pub use dispatch::topic_arg::AsTopic;
#[cfg(not(loom))]
pub use handlers::notice::Notice;
#[cfg(not(loom))]
pub use handlers::task::HandlerResult;
pub use index::PatternIndex;
pub use pattern::{Pattern, PatternError, PatternRule, Syntax, TooComplex, Topic, TopicError};
#[cfg(all(any(test, fuzzing), not(loom)))]
#[doc(hidden)]
pub use ring::fuzzing as ring_fuzzing;

/// Compiles and runs the examples of the README.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
