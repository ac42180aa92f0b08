//! Performance: where the time goes, and what a program can do about it.
//!
//! # Where the time goes
//!
//! Measured with 64-byte events on two cores of a shared virtual machine (2026-11-21 and
//! 2026-11-22). Take the proportions, not the numbers, to another machine.
//!
//! | step | cost |
//! | --- | --- |
//! | publish into the lane of a [`Publisher`] | 13 ns, nearly all of it one locked instruction |
//! | sequence and match one event, topic known | 10 ns, once per event |
//! | a delivery to a subscriber under load | 2 ns: a block of up to 64 events is one slot |
//! | a wake-up of a sleeping receiver | 2 to 5 µs of processor time, once per round and subscriber |
//! | from the wake-up until the receiver runs | 10 to 45 µs |
//! | a topic's first look-up in the index | under 1 µs among a million patterns of common shapes |
//!
//! So wake-ups dominate when events are rare, and the dispatcher's work per event dominates when
//! there is one subscriber. With many subscribers, the cost of a delivery does.
//!
//! # Publishing
//!
//! * Give each publishing thread a [`Publisher`]. The shared lane behind [`Bus::publish`] is
//!   contended by all threads that use it.
//! * [`publish_batch`](crate::Publisher::publish_batch) publishes many payloads at about half the
//!   cost for each.
//! * Parse a [`Topic`] once with [`Bus::topic`], and publish with `&topic`. Publishing with text
//!   costs a hash and a look-up in a small table; with more than about 2,000 topics in turn, also a
//!   parse.
//! * Box large payloads: the value is moved into the lane and from there into its block.
//!
//! # Receiving
//!
//! * [`next_batch`] returns up to 64 events at once. With [`recv`] each event costs a look at the
//!   ring.
//! * [`recv`] lends the event; [`iter`], [`next`] and streams own it, for two changes of a
//!   reference count per event.
//! * Filter with patterns, not in the reader: an event that does not match costs the reader
//!   nothing.
//!
//! # Latency of a single event
//!
//! * [`Dispatch::Adaptive`], the default: the publishing thread dispatches a lone event, which
//!   saves one hop between threads, and leaves a stream of events to the pool. From the planned
//!   time of an event until a receiver that slept has it, the median was 0.5 to 1.1 times that of
//!   crossbeam-channel at 1,000 to 100,000 events per second; with the pool alone 1.1 to 1.4 times.
//!   At 500,000 events per second, 90 % of the events were there within 2 µs, with the pool alone
//!   within 3 ms (two cores, 2026-11-27).
//! * [`Dispatch::Inline`]: the publishing thread dispatches each event, also in a stream. A stream
//!   then costs about twice as much.
//! * [`WaitStrategy::Spin`] or [`Yield`](crate::WaitStrategy::Yield) for a receiver that has a core
//!   of its own: it saves the wake-up.
//! * The default, [`Adaptive`](crate::WaitStrategy::Adaptive), spins for some microseconds if there
//!   is a core for every thread, and then sleeps.
//!
//! # Many subscribers
//!
//! * More [`dispatchers`](crate::BusBuilder::dispatchers) help when the deliveries of one event
//!   take longer than the time until the next one, and there are cores for them.
//! * Handlers scale further than threads: one thread runs thousands of them. A handler should not
//!   block; one that does gets [`dedicated`](crate::SubscriptionBuilder::dedicated).
//!
//! # Measuring
//!
//! * [`BusStats`](crate::BusStats) and [`SubscriptionStats`](crate::SubscriptionStats) cost nothing
//!   until they are read.
//! * The feature `latency` samples the time from publishing to receiving.
//! * `benches/peers` in the repository runs the same work on fanout and on comparable libraries
//!   (its peers), and prints ratios. On a shared machine, compare ratios within one run: absolute
//!   numbers differ by a factor of two from run to run.
//!
//! [`Publisher`]: crate::Publisher
//! [`Bus::publish`]: crate::Bus::publish
//! [`Bus::topic`]: crate::Bus::topic
//! [`Topic`]: crate::Topic
//! [`next_batch`]: crate::Subscriber::next_batch
//! [`recv`]: crate::Subscriber::recv
//! [`iter`]: crate::Subscriber::iter
//! [`next`]: crate::Subscriber::next
//! [`Dispatch::Adaptive`]: crate::Dispatch::Adaptive
//! [`Dispatch::Inline`]: crate::Dispatch::Inline
//! [`WaitStrategy::Spin`]: crate::WaitStrategy::Spin
