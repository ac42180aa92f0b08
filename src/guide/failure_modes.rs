//! Failure modes: what can go wrong, how it is reported, and what the bus does.
//!
//! | what happens | effect on others | how it is reported |
//! | --- | --- | --- |
//! | a subscriber reads too slowly | none, unless it is a [`Block`] subscriber | a [`Gap`] in its stream; `lost` in its [statistics]; [`on_slow`] |
//! | a subscriber stops reading and never continues | none; its ring keeps at most [`pin_bytes`] alive, or one block if that is heavier, plus the block that it has begun to read: see [memory](super::memory) | the same |
//! | a `Block` subscriber stops reading | the whole bus waits, up to its [`block_timeout`] | `publish` blocks, `try_publish` returns `Full` |
//! | a publisher is faster than the dispatcher | none | its lane fills up: `publish` waits, the other forms return the value |
//! | publishers are dropped faster than the dispatcher takes their events | the first event of each new publisher waits | as for a full lane: see [`DROPPED_LANES_MAX`] |
//! | a handler returns an error or panics | none; the next event is handled as usual | the [`observer`], the log, `errors` and `panics` in its statistics |
//! | a handler takes long | after [`HANDLER_STALL`] a spare thread takes over the other handlers | [`Notice::Stalled`], `stalls` in its statistics |
//! | a handler takes long, and all spare threads are used up | the other handlers wait for one another | [`Notice::Stalled`] with `replaced: false`, `stalls` in its statistics |
//! | many handlers take some milliseconds for each event | they take turns, one event each; spare threads help if a handler waits for too long | none |
//! | a payload's `drop` panics | none; what the payload owned may be leaked | the log |
//! | a waker panics in `wake` | its task is not woken before the next event for it | the log |
//! | a waker panics in `clone` or when it is dropped | none; a panic of `clone` goes to the poll that clones it | the log, for a drop |
//! | a waker blocks in `wake` | the subscribers of the same shard wait for it | nothing: see below |
//! | the clock function panics or goes backwards | the time of the last event is used again | the log, for a panic |
//! | the weigher panics | the bus ends as `Broken`; that event and those behind it are not sequenced | publishing and receiving return `Broken`; `unsequenced` in the statistics |
//! | a thread of the bus ends by a bug | the bus ends as `Broken` | the same |
//! | the process forks, is killed or loses power | nothing survives | nothing |
//! | the system does not schedule the dispatcher | events wait in their lanes | [`lag`](crate::SubscriptionStats::lag) rises |
//! | the system suspends one of several dispatcher threads | another one takes over within about 20 milliseconds, unless the suspended thread holds a role: see below | the same |
//! | the system suspends a thread inside a `publish` of [`Bus`](crate::Bus) | events that other threads publish through a `Bus` may wait for it: see below | the same |
//! | the `tracing` subscriber panics | that line is lost | nothing |
//!
//! # Falling behind
//!
//! See [choosing a policy](super::policies). A gap names the first and the last lost id, the number
//! of lost events and the [reason]. It stands in the stream behind all events before it and in
//! front of all events after it. Loss is never reported by an event that is merely absent.
//!
//! # Closing
//!
//! A bus closes when its last [`Bus`](crate::Bus) and [`Publisher`](crate::Publisher) is dropped,
//! or when the program calls [`close`](crate::Bus::close). Publishing then fails with the value.
//! Accepted events are delivered, subscribers read what is left, and then get `Closed` for ever.
//! [`close_within`](crate::Bus::close_within) waits for that up to a limit and returns a
//! [`CloseReport`](crate::CloseReport) of what was unread, lost or not even sequenced.
//!
//! A handler that owns a clone of its own bus keeps it open for ever. Give it a
//! [`WeakBus`](crate::WeakBus).
//!
//! # Calling the bus from inside
//!
//! Handlers run on threads of the bus, or on the thread that drives it. A payload's `drop` and
//! wakers may run on any thread that calls the bus or drops an event: do not hold a lock that they
//! take while you do that. Publishing from inside any of them never waits: a call that would have
//! to wait fails with [`WouldDeadlock`](crate::PublishError::WouldDeadlock) and returns the value.
//! Closing from there starts the close and returns. A thread that dispatches must not wait for an
//! event either: inside a payload's `drop` or a waker, `recv` returns what is in the ring, or
//! [`WouldDeadlock`](crate::RecvError::WouldDeadlock).
//!
//! # Time limits
//!
//! Calls with a time limit (`flush_within`, `close_within`, `recv_timeout`, `next_batch_timeout`,
//! `publish_timeout`, `cancel_and_wait`) may dispatch on the calling thread, and so drop payloads,
//! and call wakers and the weigher. None of them can be interrupted. Once the limit is over, the
//! calling thread begins no other one: it hands payloads over to the thread `fanout-drop`, and
//! wakers to the thread `fanout-wake`. So such a call is late by one drop of a payload, one call of
//! a waker or of the weigher, or, under [`Dispatch::Manual`](crate::Dispatch::Manual), one call of
//! a handler at most. A limit of zero means "without waiting": the call then does all that it can
//! do without another thread.
//!
//! The bus's own work for the call counts against no limit. It depends on what the call changes:
//! cancelling a subscription with 32,000 patterns took 0.2 seconds, and closing a bus with 100,000
//! subscribers less than 0.1 (2026-11-27, a busy machine).
//!
//! # What isolation does not cover
//!
//! A subscriber or handler that stalls or panics delays no publisher and no other subscriber. This
//! is the complete list of exceptions. (Where only one shard is delayed, the whole bus waits once
//! 64 blocks wait for this shard.)
//!
//! * **[`Block`].** On a bus built with [`blocking(true)`](crate::BusBuilder::blocking), a full
//!   `Block` subscriber delays the whole bus. If it has a [`block_timeout`], it delays the bus at
//!   most for that time, and not again before it has made room.
//! * **Handlers share threads.** They get their turns in order; while calls take long, each turn is
//!   one call. If a call of a handler takes longer than [`HANDLER_STALL`], a spare thread replaces
//!   its thread, and spare threads help if handlers wait for too long. If all
//!   [`max_handler_threads`](crate::BusBuilder::max_handler_threads) are in use, handlers wait for
//!   each other, which is counted and reported. A
//!   [dedicated](crate::SubscriptionBuilder::dedicated) handler has its own thread.
//! * **Handlers and [`Dispatch::Manual`](crate::Dispatch::Manual).** The thread that drives the bus
//!   calls the handlers, and the callback of [`on_slow`], one after the other. One that blocks
//!   delays everything.
//! * **A waker that blocks.** A waker that takes a second delays others for that second. Whom it
//!   delays depends on the thread that calls it. If that is a thread of the pool, the subscribers
//!   of the shard wait; if the waker is that of a `publish_async` that waits for room, all do. If
//!   it is the publishing thread, the publisher waits, too, and so do the other subscribers of this
//!   event. That is the usual case under [`Dispatch::Inline`]. Under [`Dispatch::Adaptive`] it is
//!   so for a lone event, and then not again for about as long as the waker took. Under
//!   [`Dispatch::Pool`] it is never so. Measured under `Pool` with two dispatchers and eight other
//!   subscribers: four of them received the event after 1.0 seconds, the four of the other shard
//!   after 0.2 milliseconds (2026-11-27). Wakers of the common runtimes return at once.
//! * **A payload's `drop` that takes long.** It runs on whichever thread releases the last
//!   reference: a reader, or a thread that dispatches, which it delays like a waker. Payloads that
//!   are dropped after a time limit wait for one another on one thread, also those of different
//!   buses.
//! * **A clock, a weigher or a `tracing` subscriber that blocks.** The sequencer calls the clock
//!   and the weigher, and a report to the log is made on the thread that has something to report.
//!   If one of them blocks on a thread that dispatches, all events wait, and so does the publisher
//!   if it is the thread that dispatches.
//! * **Processor time.** All threads share the processors, and all subscriptions share the
//!   dispatcher: each subscription that matches an event adds work. If the thread that
//!   dispatches has a lower priority than the threads that keep all cores busy, events wait for as
//!   long as the system lets it wait. Measured on two cores that four other threads kept busy: a
//!   lone event took up to 28 milliseconds with a dispatcher of the same priority, and up to 600
//!   with one of the lowest (nice value 19; 2026-11-27).
//! * **A suspended thread that holds a role.** A thread that runs a round of the sequencer or of a
//!   shard is the only one that can finish it. If the system suspends it there, all events, or
//!   those of that shard, wait until it continues. Everywhere else another thread of the pool takes
//!   over, if [`dispatchers`](crate::BusBuilder::dispatchers) is 2 or more and only one is
//!   suspended. Unless dispatch is [`Dispatch::Pool`], the suspended thread may also be a
//!   publisher: if it is suspended between two of its rounds, what it has not done yet waits, too,
//!   until the next event is published.
//! * **A thread that is suspended inside a `publish` of [`Bus`](crate::Bus).** It claims a place in
//!   the shared lane and then copies its payload there (`publish_batch`: up to 64 places and
//!   payloads). If the system suspends it between these two steps, or before it has woken the
//!   dispatcher that sleeps, the events that other threads publish through a `Bus` wait until it
//!   continues. Those of a [`Publisher`](crate::Publisher), which has its own lane, do not.
//!   Measured with random suspensions of a thread that publishes all the time: 23 of 75 had this
//!   effect with payloads of 8 KiB, 4 of 162 with payloads of 16 bytes (2026-11-27).
//! * **Spinning without a core.** [`WaitStrategy::Spin`](crate::WaitStrategy::Spin) on a machine
//!   with fewer cores than spinning threads keeps the very thread from running that it waits for.
//!
//! [`Block`]: crate::Overflow::Block
//! [`Dispatch::Adaptive`]: crate::Dispatch::Adaptive
//! [`Dispatch::Inline`]: crate::Dispatch::Inline
//! [`Dispatch::Pool`]: crate::Dispatch::Pool
//! [`Gap`]: crate::Gap
//! [reason]: crate::GapReason
//! [statistics]: crate::SubscriptionStats
//! [`on_slow`]: crate::BusBuilder::on_slow
//! [`pin_bytes`]: crate::SubscriptionBuilder::pin_bytes
//! [`block_timeout`]: crate::SubscriptionBuilder::block_timeout
//! [`observer`]: crate::BusBuilder::observer
//! [`DROPPED_LANES_MAX`]: crate::limits::DROPPED_LANES_MAX
//! [`HANDLER_STALL`]: crate::limits::HANDLER_STALL
//! [`Notice::Stalled`]: crate::Notice::Stalled
