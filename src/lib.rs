//! Publish and subscribe inside one process: events with topics, glob patterns, and a bounded ring
//! for each subscriber.
//!
//! Publishers publish events of any type `T` on dot-separated topics. Subscribers subscribe with
//! patterns such as `orders.*.created`, and each of them reads from a ring of its own, as a thread,
//! as a task on any async runtime, or as a closure on a pool of threads.
//!
//! # Why
//!
//! A channel for each subscriber does the same at a small scale. It costs a copy of the event, a
//! reference count and a wake-up for each delivery, and when one channel is full, either everybody
//! waits for its reader, or events are lost without a report. Here
//!
//! * up to 64 events share a block, and a delivery is a reference to the block and a 64-bit mask:
//!   one slot of a ring, one reference count and one wake-up carry up to 64 events, and a payload
//!   is never copied;
//! * patterns are compiled into an index, so that matching an event does not try every subscription
//!   (see [`index`] for what a look-up costs);
//! * loss is never silent: it is reported to the subscriber at its place in the stream, with the
//!   ids and the count of the lost events.
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
//! A [`Publisher`] has a lane of its own. [`Bus::publish`] works from any thread, through a lane
//! that all threads share. The sequencer merges the lanes into one order, gives each event its id
//! and its time, and puts the events into blocks; every subscriber sees the events in this order. A
//! shard owns a part of the subscribers, and puts into the ring of each one what its patterns
//! match. [`Dispatch`] says which threads do the work of sequencer and shards: a pool, the
//! publishing thread, or the program itself.
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
//!             Err(_) => return sum, // the end
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
//! [`Subscriber::for_each`] is this loop. A loop that ends at any error, such as
//! `while let Ok(event) = sub.recv()`, ends silently at the first loss.
//!
//! # In async code
//!
//! A call that blocks its thread blocks all tasks of that thread. Where the thread is the only one
//! of the runtime, the task that would make room never runs, and the call never returns. So use the
//! methods of the second column, which work on any runtime and use no thread of their own. Their
//! futures may be dropped at any time (see guarantee 13).
//!
//! | blocks the thread | suspends the task |
//! | --- | --- |
//! | [`publish`](Bus::publish), [`send`](Bus::send) | [`publish_async`](Bus::publish_async), [`send_async`](Bus::send_async) |
//! | [`publish_timeout`](Bus::publish_timeout), [`send_timeout`](Bus::send_timeout) | the same, under the time limit of the runtime |
//! | [`publish_sequenced`](Bus::publish_sequenced), [`send_sequenced`](Bus::send_sequenced) | [`publish_sequenced_async`](Bus::publish_sequenced_async), [`send_sequenced_async`](Bus::send_sequenced_async) |
//! | [`recv`](Subscriber::recv), [`next_batch`](Subscriber::next_batch) | [`recv_async`](Subscriber::recv_async), [`next_batch_async`](Subscriber::next_batch_async), [`into_stream`](Subscriber::into_stream) |
//! | [`flush_within`](Bus::flush_within) | [`flush_async`](Bus::flush_async) |
//! | [`close_within`](Bus::close_within) | [`close_async`](Bus::close_async) |
//!
//! `try_publish`, `try_send`, `try_recv`, `close`, `subscribe`, `cancel` and `drop` never wait for
//! an event or for room, and are fine in async code.
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | the bus, and how it ends | [`Bus`], [`BusBuilder`], [`WeakBus`] |
//! | publishing | [`Bus::publish`] and the methods beside it, [`Publisher`], [`Message`], [`Topic`] |
//! | subscribing | [`Bus::subscribe`], [`SubscriptionBuilder`], [`SubscriptionHandle`] |
//! | receiving | [`Subscriber`], [`Event`], [`SharedEvent`], [`Batch`], [`WaitStrategy`] |
//! | receiving as a task | [`Subscriber::recv_async`], [`EventStream`], [`BatchStream`] |
//! | handlers | [`Bus::on`], [`SubscriptionBuilder::handler`], [`Notice`] |
//! | named events on channels, and drivers | [`broadcast`] |
//! | full rings | [`Overflow`], [`Gap`], [`GapReason`] |
//! | the pattern language | [`pattern`], [`Pattern`] |
//! | the index, to use on its own | [`index`], [`PatternIndex`] |
//! | numbers | [`BusStats`], [`SubscriptionStats`], [`Label`], [`CloseReport`] |
//! | notices of slow subscribers | [`BusBuilder::on_slow`], [`SlowLimit`], [`SlowNotice`] |
//! | bounds | [`limits`] |
//! | guides, such as choosing a policy and in async code | [`guide`] |
//!
//! # Guarantees
//!
//! 1. **Accounting.** For each subscription, over the ids from its
//!    [first](SubscriptionHandle::first_id) to its [last](SubscriptionHandle::last_id): received +
//!    lost + superseded + unread = matched, exactly. No event is delivered twice, and ids rise
//!    strictly. [`Overflow::Conflate`] is the exception: under it, ids rise strictly for each
//!    topic, and *superseded* counts the events that a newer one of their topic replaced while they
//!    waited (under the other policies there are none).
//! 2. **Nothing after cancel.** When [`cancel`](SubscriptionHandle::cancel) or the drop of a
//!    subscriber has returned, no event of it is received any more, and no call of its handler
//!    begins. A call that is running may finish.
//! 3. **Subscribing is a cut.** An event whose publishing begins after `subscribe` has returned is
//!    delivered. One that was published earlier and is not dispatched yet is delivered, too.
//! 4. **Nobody slows another.** A subscriber or handler that stalls or panics delays no publisher
//!    and no other subscriber, with two exceptions. On a bus built with
//!    [`blocking(true)`](BusBuilder::blocking), a full [`Overflow::Block`] subscriber delays the
//!    whole bus, for its [block timeout](SubscriptionBuilder::block_timeout) at most if it has one,
//!    and then not again before it has made room. A handler whose call takes longer than
//!    [`HANDLER_STALL`](limits::HANDLER_STALL) has its thread replaced by a spare one, up to
//!    [`max_handler_threads`](BusBuilder::max_handler_threads); past that limit handlers wait for
//!    each other, and this is counted and reported. A [dedicated](SubscriptionBuilder::dedicated)
//!    handler has a thread of its own.
//! 5. **Bounded memory.** A ring is bounded by events ([`capacity`](SubscriptionBuilder::capacity))
//!    and by the bytes that it keeps alive ([`pin_bytes`](SubscriptionBuilder::pin_bytes), 64 MiB
//!    unless set otherwise), and its overflow policy applies when either bound would be passed. A
//!    block is weighed as a whole; one that is heavier than the bound is admitted alone into an
//!    empty ring. A lane is bounded by events.
//! 6. **Loss is never silent.** A run of lost events is reported in-band, once and at its place, as
//!    a [`Gap`], and counted in the statistics by reason. Under [`Overflow::Conflate`] an event
//!    that replaces others says how many ([`Event::superseded`]), and beyond the capacity, which
//!    counts topics, the event that has waited longest is lost with a gap.
//! 7. **Ids** begin at 1 and rise by one with every event of the bus. Times never run backwards.
//! 8. **Acknowledgements.** *Accepted* means that the event is in a lane: it will be sequenced,
//!    unless the bus is closed by force or breaks. [`publish_sequenced`](Bus::publish_sequenced)
//!    waits until the event is *sequenced*: it has its id and its time.
//! 9. **Closing drains.** Clones of the [`Bus`] and [`Publisher`]s keep the bus open. When it
//!    closes, or when the last of them is dropped, publishing fails, accepted events go into rings
//!    and to handlers, and a subscriber reads what is left and then `Closed`, from then on.
//!    Dropping never waits. Statistics and `cancel` work after the close, too.
//! 10. **Lock-free, precisely.** Once warm, publishing, dispatching and receiving take no mutex and
//!     allocate nothing, except that a publisher that has to wait for room in the shared lane takes
//!     a short lock. [`try_publish`](Bus::try_publish) and [`try_recv`](Subscriber::try_recv)
//!     finish whatever other threads do. Delivery needs the thread that dispatches to be scheduled,
//!     and in this respect is not lock-free. Subscribing, cancelling and statistics take locks that
//!     no event takes.
//! 11. **Order.** The events of one lane keep their order. Across lanes, and so between a
//!     [`Publisher`] and `Bus::publish` on one thread, the order is that of sequencing, and is the
//!     same for every subscriber.
//! 12. **No deadlock from inside.** Inside a handler, and inside other calls that the bus makes (an
//!     observer, a payload's `drop`, a waker, a clock), publishing never waits. Where it would have
//!     to, it fails with [`WouldDeadlock`](PublishError::WouldDeadlock) and hands the payload back.
//!     Flushing only looks there, and closing starts the close and returns. A panic in such a call
//!     is contained and reported; a handler that panics is called again with the next event.
//! 13. **Futures may be dropped.** [`recv_async`](Subscriber::recv_async) takes an event out of the
//!     ring when it becomes ready and not before; [`publish_async`](Bus::publish_async) has
//!     accepted its event when it is ready and not before; [`flush_async`](Bus::flush_async) and
//!     [`close_async`](Bus::close_async) can be given up at any time.
//!
//! # Failure modes
//!
//! * **A subscriber falls behind**: its ring fills up. Under [`Overflow::DropNewest`] the newest
//!   events are lost to this subscriber alone, and the loss is reported to it; the other policies
//!   lose the oldest events, keep the latest of each topic, or end the subscription. Under
//!   [`Overflow::Block`] the bus waits for the subscriber, and with it all the others wait;
//!   after its [block timeout](SubscriptionBuilder::block_timeout), what has no room is lost to it,
//!   and that is reported, too.
//! * **A publisher is too fast**: its lane fills up. `publish` waits; the other forms hand the
//!   payload back, or suspend the task.
//! * **The bus closes while it is used**: publishing fails and hands the payload back; a subscriber
//!   reads on to the end. [`close_within`](Bus::close_within) gives up at its limit and reports
//!   what was unread, lost or never sequenced.
//! * **User code panics**: a handler, an observer, a payload's `drop`, a waker or a clock may,
//!   without harm to the bus. A panic in a weigher, or a fault of this library, breaks the bus:
//!   publishing fails with `Broken`, and subscribers read what they have and then `Broken`.
//! * **The process dies**: nothing survives it.
//!
//! # Features
//!
//! The library without features depends on no async runtime, no server and no serde.
//!
//! * **`tracing`** (on by default): what the bus has to report and cannot return from a call
//!   (failed and stalled handlers, contained panics, a broken bus) also becomes an event of the
//!   `tracing` facade. Without the feature nothing is printed or logged; the
//!   [`observer`](BusBuilder::observer), the statistics and the errors still say it. Brings
//!   tracing.
//! * **`conformance`** (off by default): `broadcast::conformance`, the tests that every broadcaster
//!   has to pass, for the authors of drivers. Brings no dependency; changes nothing else in the
//!   library.
//! * **`latency`** (off by default): `BusBuilder::sample_latency`, and percentiles of the time from
//!   publishing to receiving, per subscription and per bus. Brings hdrhistogram; a bus that does
//!   not ask for samples takes none.
//! * **`metrics`** (off by default): `Bus::record_metrics`, which passes the numbers of the bus to
//!   the `metrics` facade. Brings metrics; nothing happens outside of that call.
//! * **`serde`** (off by default): `Serialize` and `Deserialize` of [`Pattern`], [`Syntax`] and
//!   [`Topic`]. Brings serde without its derive.

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

/// Has the README's example compiled and run.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
