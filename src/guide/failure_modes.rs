//! Failure modes: what can go wrong, who notices, and what the bus does.
//!
//! | what happens | effect on others | how it is reported |
//! | --- | --- | --- |
//! | a subscriber reads too slowly | none, unless it is a [`Block`] subscriber | a [`Gap`] in its stream; `lost` in its [statistics]; [`on_slow`] |
//! | a subscriber stops reading for good | none; its ring keeps at most [`pin_bytes`] alive | the same |
//! | a `Block` subscriber stops reading | the whole bus waits, up to its [`block_timeout`] | `publish` blocks, `try_publish` answers `Full` |
//! | a publisher is faster than the dispatcher | none | its lane fills up: `publish` waits, the other forms return the value |
//! | publishers are dropped faster than the dispatcher takes their events | the first event of each new publisher waits | as for a full lane: see [`DROPPED_LANES_MAX`] |
//! | a handler returns an error or panics | none; the next event is handled as usual | the [`observer`], the log, `errors` and `panics` in its statistics |
//! | a handler takes long | after [`HANDLER_STALL`] a spare thread takes over the other handlers | [`Notice::Stalled`], `stalls` in its statistics |
//! | all spare threads are used up | the other handlers wait for one another | the same, with `replaced: false` |
//! | a payload's `drop` panics | none; what the payload owned may be leaked | the log |
//! | a waker panics | its task may sleep on | the log |
//! | a waker blocks in `wake` | the subscribers of the same shard wait for it | nothing: see below |
//! | the clock function panics or goes backwards | the time of the last event is used again | the log, for a panic |
//! | the weigher panics | the bus ends as `Broken`; that event and those behind it are not sequenced | publishing and receiving answer `Broken`; `unsequenced` in the statistics |
//! | a thread of the bus dies | the bus ends as `Broken` | the same |
//! | the process forks, is killed or loses power | nothing survives | nothing |
//! | the system does not schedule the dispatcher | events wait in their lanes | [`lag`](crate::SubscriptionStats::lag) rises |
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
//! Handlers, a payload's `drop` and wakers run on threads of the bus. Publishing from there never
//! waits: a call that would have to wait fails with
//! [`WouldDeadlock`](crate::PublishError::WouldDeadlock) and returns the value. Closing from there
//! starts the close and returns.
//!
//! # What the bus cannot protect you from
//!
//! * **A waker that blocks.** The dispatcher calls wakers. One that takes a second holds up the
//!   subscribers of its shard for that second. Wakers of the common runtimes return at once.
//! * **A payload's `drop` that takes long.** It runs on whichever thread releases the last
//!   reference: a reader, or the dispatcher.
//! * **Priority inversion.** If the thread that dispatches has a lower priority than the threads
//!   that keep all cores busy, events wait for as long as the system lets it wait.
//! * **Spinning without a core.** [`WaitStrategy::Spin`](crate::WaitStrategy::Spin) on a machine
//!   with fewer cores than spinning threads keeps the very thread from running that it waits for.
//!
//! [`Block`]: crate::Overflow::Block
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
