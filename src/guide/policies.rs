//! Choosing an overflow policy: what happens to a subscriber whose ring is full.
//!
//! Every subscriber has a ring of its own with room for `capacity` events. When a subscriber reads
//! more slowly than events arrive, its ring becomes full, and its [`Overflow`] policy decides. The
//! policy is chosen per subscription, or for all subscriptions of a bus.
//!
//! # In short
//!
//! | the subscriber | policy | what it sees when it falls behind |
//! | --- | --- | --- |
//! | handles events in order, and can reload what it missed later (a cache, an importer) | [`DropNewest`], the default | the oldest events, then a gap |
//! | only cares about recent events (a live view, a dashboard) | [`DropOldest`] | a gap, then the newest events |
//! | wants the current state per topic (prices, positions) | [`Conflate`] | the latest event of each topic, with the number of events that it replaced |
//! | must have every event or stop (a replica, a client that can reconnect) | [`Disconnect`] | what was queued, then the end, with the gap |
//! | must see every event, and the publishers can wait for it (an audit log) | [`Block`] | every event |
//!
//! # Questions that lead to a policy
//!
//! 1. **May the publishers wait for this subscriber?** Only then [`Block`] is a choice. The bus
//!    must be built with [`blocking(true)`], because one `Block` subscriber can delay the whole
//!    bus. Give it a [`block_timeout`] unless waiting for ever is right.
//! 2. **Is an old event still useful when a newer one of the same topic exists?** If not, take
//!    [`Conflate`]. The capacity then counts topics.
//! 3. **Can the subscriber repair a hole?** With [`DropNewest`] or [`DropOldest`] the gap says
//!    between which ids events are missing, and how many. If the subscriber cannot repair that,
//!    choose [`Disconnect`]: the subscription ends, and the program subscribes again from a known
//!    state.
//! 4. **Older or newer events?** [`DropNewest`] keeps the older events without a gap.
//!    [`DropOldest`] keeps the subscriber close to the present. Both lose the same number of
//!    events.
//!
//! # Capacity
//!
//! The capacity is the longest pause that a subscriber may make, times the rate of its events: a
//! subscriber that gets 10,000 events per second and may pause for 100 ms needs 1,000. A ring
//! allocates memory only as it is used. The bytes that waiting events keep alive are bounded
//! separately, by [`pin_bytes`]: see [the guide on memory](super::memory).
//!
//! # Loss is in the stream
//!
//! A run of lost events is reported once, in its place. Under [`Disconnect`] the loss is the final
//! error, which every later receive returns again. Under the other policies receiving continues:
//!
//! ```
//! use fanout::{Bus, Dispatch, Overflow, TryRecvError};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).build()?;
//! let mut sub = bus.subscription("n").capacity(2).overflow(Overflow::DropOldest).open()?;
//! for n in 1..=5 {
//!     bus.publish("n", n)?;
//! }
//! bus.drive();
//! let Err(TryRecvError::Lost(gap)) = sub.try_recv() else { panic!("three events were lost") };
//! assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (1, 3, 3));
//! assert_eq!(*sub.try_recv()?.data(), 4);
//! assert_eq!(*sub.try_recv()?.data(), 5);
//! # Ok(())
//! # }
//! ```
//!
//! [`DropNewest`]: crate::Overflow::DropNewest
//! [`DropOldest`]: crate::Overflow::DropOldest
//! [`Conflate`]: crate::Overflow::Conflate
//! [`Disconnect`]: crate::Overflow::Disconnect
//! [`Block`]: crate::Overflow::Block
//! [`Overflow`]: crate::Overflow
//! [`blocking(true)`]: crate::BusBuilder::blocking
//! [`block_timeout`]: crate::SubscriptionBuilder::block_timeout
//! [`pin_bytes`]: crate::SubscriptionBuilder::pin_bytes
