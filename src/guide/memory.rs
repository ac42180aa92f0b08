//! How much memory a bus takes, and what a subscriber that has stopped reading keeps alive.
//!
//! # In short
//!
//! A subscriber that has stopped reading pins at most [`pin_bytes`] (64 MiB unless told otherwise),
//! or one block if that is heavier, and once more one block that it has begun to read. It does so
//! under every policy. What differs is which events these are, and what becomes of the others:
//!
//! | policy | what waits | the rest is |
//! | --- | --- | --- |
//! | [`DropNewest`] | the oldest, up to `capacity` | lost |
//! | [`DropOldest`] | the newest, up to `capacity` | lost |
//! | [`Conflate`] | the latest of each topic, up to `capacity` topics | superseded; lost beyond the capacity |
//! | [`Disconnect`] | the first, up to `capacity`, until they are read | not its own any more: it has ended |
//! | [`Block`] | the oldest, up to `capacity` | in front of the bus, which waits |
//!
//! # What is weighed
//!
//! Events live in blocks of up to 64, and a block lives as long as somebody may read one of its
//! events. So the unit is the block, weighed when it is sequenced:
//!
//! ```text
//! weight = its own memory + the sum of weigh(payload) over all its events
//! own memory = places x (size of T + 40 bytes) + 400 bytes, about; places: 1, 8 or 64
//! ```
//!
//! Without [`weigh`] payloads count with what lies in the block itself, `size_of::<T>()`, not with
//! what they own on the heap: **whoever publishes `Vec`s, `String`s or `Bytes` should say how to
//! weigh them**, or the bound on bytes sees little.
//!
//! A lone event has a block of its own. Under load up to 64 events share one, and a subscriber that
//! wants one of them pins them all: the heaviest block, `W` below, is then 64 payloads.
//!
//! # The formula
//!
//! With `C` the capacity, `P` = [`pin_bytes`], `W` the weight of the heaviest block, and `2^n(x)`
//! the next power of two from `x` on, a subscriber that has stopped reading keeps alive at most
//!
//! ```text
//! max(P, W)              the blocks that wait: fewer bytes than P, or a single heavier one
//! + W                    the block that it has begun to read, if it has
//! + ring                 its queue, which grows with what waits, up to:
//!     DropNewest, Block, Disconnect    32 bytes x 2^n(4 x (C + 1))
//!     DropOldest                       128 bytes x 2^n(C + 1)
//!     Conflate                         512 bytes x 2^n(C + 1), and the texts of C + 2 topics
//! ```
//!
//! beside less than 1 KiB that every subscription costs from the start.
//!
//! Blocks are shared. Subscribers that stopped at the same place pin the same blocks: a thousand of
//! them that hold the same 64 MiB hold 64 MiB in all. The bound on all of them is the sum, for
//! subscribers that want different topics, or stopped at different times.
//! [`BusStats::pinned_bytes`] is that sum, and so counts a block as often as it is pinned.
//!
//! To the letter:
//!
//! * **A block in two slots counts twice.** That happens when a ring had room for some of a block's
//!   events and then for the others. It makes the bound bite early, never late.
//! * **`Conflate`** gives each event its story (how many it replaced) in a small block of its own
//!   that goes with the event's; both are counted, whole, until the last event of them that waits
//!   is read or replaced.
//! * **`DropOldest`** puts the new events in before it takes the old ones out: for a moment there
//!   is one block more.
//! * **`Block`**: the bus holds the one block that it waits with, not each subscriber. Behind it
//!   wait at most 64 blocks per dispatcher, and what lanes hold: `lane_capacity` events for each
//!   publisher and for the shared lane.
//! * **A [`SharedEvent`] or [`Batch`] that the program keeps** pins its block for as long, and is
//!   not counted here.
//!
//! # What a bus keeps for itself
//!
//! Memory of blocks whose events have gone is kept to be used again, without payloads: at most
//! 8,192 blocks of one event, 2,048 of eight and 512 of 64, as many as were ever needed at once;
//! and as many again for each open `Conflate` subscription, for the blocks of its stories. A
//! publisher remembers its last 2,048 topics at most.
//!
//! # Choosing
//!
//! ```
//! use fanout::{Bus, Overflow};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // 1,000 subscribers that may all have stopped, each somewhere else, in 1 GiB:
//! let bus = Bus::<Vec<u8>>::builder()
//!     .weigh(|payload| payload.capacity())
//!     .pin_bytes(1 << 20)
//!     .capacity(256)
//!     .overflow(Overflow::DropOldest)
//!     .build()?;
//! # Ok(())
//! # }
//! ```
//!
//! [`pin_bytes`]: crate::SubscriptionBuilder::pin_bytes
//! [`weigh`]: crate::BusBuilder::weigh
//! [`DropNewest`]: crate::Overflow::DropNewest
//! [`DropOldest`]: crate::Overflow::DropOldest
//! [`Conflate`]: crate::Overflow::Conflate
//! [`Disconnect`]: crate::Overflow::Disconnect
//! [`Block`]: crate::Overflow::Block
//! [`SharedEvent`]: crate::SharedEvent
//! [`Batch`]: crate::Batch
//! [`BusStats::pinned_bytes`]: crate::BusStats::pinned_bytes
