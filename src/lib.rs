//! Fan-out for messages inside one process: publishers publish events on topics, subscribers ask for them with glob
//! patterns, and every subscriber reads from a bounded ring of its own.
//!
//! # Why
//!
//! To give each event to everybody who wants it is easy with a channel per subscriber, and it costs a copy of the
//! event, a count and a wake-up for each delivery; and when one of the channels is full, either everybody waits for
//! its reader, or something is lost and nobody is told. Here
//!
//! * events are laid into blocks of up to 64 and delivered as (block, bit mask): one slot of a ring, one reference
//!   count and one wake-up carry up to 64 deliveries, and a payload is never copied;
//! * patterns are compiled into an index, so that an event costs what it matches, not what is subscribed;
//! * loss is never silent: it is told in the stream, in its place, with the ids and the count.
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
//! A [`Publisher`] has a lane of its own; [`Bus::publish`] works from any thread, through a lane that all share. The
//! sequencer merges the lanes into one order, in which every subscriber sees the events. A shard owns some of the
//! subscribers, and puts into each one's ring what its patterns match. Who does the work of sequencer and
//! shards is a matter of [`Dispatch`]: a pool of threads, the publishing thread, or the program itself.
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
//!             Err(RecvError::Lost(gap)) => eprintln!("{gap}"), // and go on
//!             Err(_) => return sum, // the end
//!         }
//!     }
//! });
//! bus.publish("orders.eu.created", 7)?;
//! bus.publish("orders.eu.paid", 100)?; // nobody asked for it: not an error
//! bus.publish("orders.us.created", 3)?;
//! drop(bus); // the last handle: the reader gets what is left, and then its end
//! assert_eq!(reader.join().expect("the reader does not panic"), 10);
//! # Ok(())
//! # }
//! ```
//!
//! [`Subscriber::for_each`] is this loop. One that ends at just any error ends at the first loss, without a word.
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | the bus, and how it ends | [`Bus`], [`BusBuilder`], [`WeakBus`] |
//! | publishing | [`Bus::publish`] and its neighbours, [`Publisher`], [`Message`], [`Topic`] |
//! | subscribing | [`Bus::subscribe`], [`SubscriptionBuilder`], [`SubscriptionHandle`] |
//! | receiving | [`Subscriber`], [`Event`], [`SharedEvent`], [`Batch`], [`WaitStrategy`] |
//! | receiving as a task | [`Subscriber::recv_async`], [`EventStream`], [`BatchStream`] |
//! | handlers | [`Bus::on`], [`HandlerHandle`], [`Notice`] |
//! | named events on channels, and drivers | [`broadcast`] |
//! | full rings | [`Overflow`], [`Gap`], [`GapReason`] |
//! | the pattern language | [`pattern`], [`Pattern`] |
//! | the index, to use by itself | [`index`], [`PatternIndex`] |
//! | the bounds of what can be asked for | [`limits`] |
//! | numbers | [`BusStats`], [`SubscriptionStats`], [`Label`], [`CloseReport`] |
//! | being told of slow subscribers | [`BusBuilder::on_slow`], [`SlowLimit`], [`SlowNotice`] |
//!
//! # Guarantees
//!
//! 1. **Accounting.** For each subscription, received + lost + unread = matched, exactly, over the ids from its first
//!    to its last. No event comes twice, and ids rise.
//! 2. **Nothing after cancel.** Once [`cancel`](SubscriptionHandle::cancel) returned, no further event is received, and no
//!    call of a handler begins any more; one that is running may finish.
//! 3. **Subscribing is a cut.** What is published after `subscribe` returned is delivered.
//! 4. **Nobody slows another**, unless the bus was built with [`blocking(true)`](BusBuilder::blocking) and has a
//!    subscriber with [`Overflow::Block`]. Such a one holds the bus up for its
//!    [longest wait](SubscriptionBuilder::block_timeout) at most, if it has one, and then not again before it has made
//!    room. A handler's call that takes longer than [`HANDLER_STALL`](limits::HANDLER_STALL) has its thread
//!    replaced by a spare one, up to [`max_handler_threads`](BusBuilder::max_handler_threads); past that, handlers wait
//!    for one another, and the [`observer`](BusBuilder::observer) is told.
//! 5. **Bounded memory.** A ring is bounded by events ([`capacity`](SubscriptionBuilder::capacity)) and by the bytes
//!    that it keeps alive ([`pin_bytes`](SubscriptionBuilder::pin_bytes)), a lane by events. A block that is heavier
//!    than the bound goes alone into an empty ring.
//! 6. **Loss is never silent.** A run of lost events is one [`Gap`], in its place, and counted.
//! 7. **Ids** begin at 1 and rise by one. Times never run backwards.
//! 8. **Accepted** means: in the lane. [`publish_sequenced`](Bus::publish_sequenced) waits for more: the event
//!    has its id and its time.
//! 9. **Closing drains.** What was accepted goes into the rings and is handled; a subscriber reads what is left, then
//!    `Closed` for ever. Dropping never waits.
//! 10. **Lock-free, precisely.** Once warm, publish, dispatch and receive take no mutex and allocate nothing of ours,
//!     unless somebody has to wait for room in the shared lane. `try_publish` and `try_recv` finish whatever
//!     other threads do. Delivery needs the thread that dispatches to be scheduled: that is not lock-free.
//! 11. **Order.** The events of one lane keep their order. Across lanes, the order is that of sequencing, and the same
//!     for everybody.
//! 12. **No deadlock from inside.** A handler, and what runs while a thread dispatches (a payload's `drop`, a waker), may
//!     publish, and gets [`WouldDeadlock`](PublishError::WouldDeadlock) with the value where it would have to wait; closing
//!     from there starts the close and returns. A handler that panics is counted and told, and called with the next event.
//! 13. **Futures may be dropped.** [`recv_async`](Subscriber::recv_async) takes an event out of the ring at the moment it is
//!     ready, and not before; [`publish_async`](Bus::publish_async) has accepted its event when it is ready, and not before.
//!
//! # The bad days
//!
//! * **A subscriber falls behind**: its ring fills up. Under [`Overflow::DropNewest`] the newest events are lost to it
//!   alone, and it is told. Under [`Overflow::Block`] the bus waits for it, and then everybody does; past its
//!   [longest wait](SubscriptionBuilder::block_timeout), what has no room is lost to it, and it is told.
//! * **A publisher is too fast**: its lane fills up. `publish` waits, the others hand the value back.
//! * **The bus closes under a reader or a publisher**: publishing fails with the value; the reader reads on to
//!   the end. [`close_within`](Bus::close_within) gives up at its limit and says what was unread, lost or never sequenced.
//! * **Something panics**: a handler, an observer, a payload's `drop`, a waker and a clock may, without harm. A weigher, or a fault of
//!   this library, breaks the bus: publishing answers `Broken`, readers read what they have, then `Broken`.
//! * **The process dies**: nothing survives it.
//!
//! # Features
//!
//! The library alone, with no feature, depends on no async runtime, no server and no serde.
//!
//! * **`conformance`** (off by default): `broadcast::conformance`, the tests that every broadcaster has to pass, for whoever
//!   writes a driver. Brings no dependency; changes nothing else in the library.
//! * **`latency`** (off by default): `BusBuilder::sample_latency`, and percentiles of the time from publishing to receiving,
//!   per subscription and per bus. Brings hdrhistogram; a bus that does not ask for samples takes none.
//! * **`metrics`** (off by default): `Bus::record_metrics`, the bus's numbers through the `metrics` facade. Brings
//!   metrics; nothing happens but in that call.
//! * **`serde`** (off by default): `Serialize` and `Deserialize` of [`Pattern`], [`Syntax`] and [`Topic`]. Brings serde,
//!   without its derive.

#[cfg(not(loom))]
pub mod guide;
pub mod index;
pub mod limits;
pub mod pattern;

mod contain;
mod dispatch;
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
pub use bus::*;
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
