//! How much memory a bus uses, and how much memory a subscriber that has stopped reading keeps
//! alive.
//!
//! # In short
//!
//! A subscriber that has stopped reading keeps at most [`pin_bytes`] alive (64 MiB unless it was
//! set), or one block if that is heavier, plus the one block that it has begun to read. This holds
//! under every overflow policy. The policies differ in which events wait, and in what happens to
//! the others:
//!
//! | policy | events that wait | other events |
//! | --- | --- | --- |
//! | [`DropNewest`] | the oldest, up to `capacity` | are lost |
//! | [`DropOldest`] | the newest, up to `capacity` | are lost |
//! | [`Conflate`] | the latest of each topic, up to `capacity` topics | are superseded, or lost if there are more topics than the capacity |
//! | [`Disconnect`] | the oldest, up to `capacity` | are not matched any more, because the subscription has ended |
//! | [`Block`] | the oldest, up to `capacity` | wait in the lanes and in the bus |
//!
//! # What is weighed
//!
//! Events are stored in blocks of up to 64, and a block lives as long as a subscriber can still
//! read one of its events. So the bound counts whole blocks. A block is weighed when it is
//! sequenced:
//!
//! ```text
//! weight = its own memory + the sum of weigh(payload) over all its events
//!        + the memory of the topic, name and source, for each run of events that have the same
//! own memory = places x (size of T + 40 bytes) + 400 bytes, about; places: 1, 8 or 64
//! topic, name and source = their texts + 112 bytes, about
//! ```
//!
//! The memory of the block includes `size_of::<T>()` for each place, used or not, and [`weigh`]
//! returns only what a payload owns outside of itself. Unless [`weigh`] is set, it returns the
//! length of `Bytes`, `Vec<u8>` and `String`, and 0 for every other type. **A program whose
//! payloads own memory in another way (a struct with a `Vec`, a `Box`, an `Arc`, a `Vec` of
//! something else) should set [`weigh`]**; otherwise the bound on bytes does not count that memory.
//! A program should also set it if the capacities of its `Vec`s are much larger than their lengths.
//!
//! A single event has its own block. Under load up to 64 events share a block, and a subscriber
//! that matches one of them keeps all of them alive: the heaviest block, `W` below, then has 64
//! payloads.
//!
//! # The formula
//!
//! Let `C` be the capacity, `P` = [`pin_bytes`], `W` the weight of the heaviest block, and
//! `next_power_of_two(x)` the smallest power of two that is at least `x`. A subscriber that has
//! stopped reading keeps at most this memory alive:
//!
//! ```text
//! max(P, W)              the blocks that wait: fewer bytes than P, or a single heavier one
//! + W                    the block that it has begun to read, if it has
//! + ring                 its queue, which grows with what waits, up to:
//!     DropNewest, Block, Disconnect    32 bytes x next_power_of_two(4 x (C + 1))
//!     DropOldest                       128 bytes x next_power_of_two(C + 1)
//!     Conflate                         512 bytes x next_power_of_two(C + 1),
//!                                      and the texts of C + 2 topics
//! ```
//!
//! In addition, every subscription takes less than 1 KiB from the start.
//!
//! Subscribers share blocks. Subscribers that stopped at the same event keep the same blocks alive:
//! a thousand of them need 64 MiB in total. For subscribers that match different topics or stopped
//! at different times, the bound is the sum over all subscribers. [`BusStats::pinned_bytes`] is
//! that sum, so it counts a block once for each ring that the block is in.
//!
//! Details:
//!
//! * **A block in two slots counts twice.** That happens if a ring had room for some of a block's
//!   events first and for the others later. So the ring may count as full before the bound is
//!   reached, but never after it.
//! * **`Conflate`** stores for each event how many events it replaced, in a small second block.
//!   Both blocks count in full until the last of their waiting events is read or replaced.
//! * **`DropOldest`** pushes the new events before it removes the old ones, so for a short time
//!   there is one block more.
//! * **`Block`**: the block that the bus waits with is kept once by the bus, not by each
//!   subscriber. Behind it at most 64 blocks for each dispatcher wait, and the events in the lanes:
//!   up to `lane_capacity` events for each publisher that was open at one time, for the shared
//!   lane, and for all dropped publishers together. A publisher whose first event comes when
//!   [`DROPPED_LANES_MAX`] lanes of dropped publishers still have events waits until there are
//!   fewer.
//! * **A [`SharedEvent`] or [`Batch`] that the program keeps** keeps its block alive, and does not
//!   count here.
//!
//! # What a bus keeps for reuse
//!
//! The bus keeps blocks without payloads for reuse, but not more than were used at the same time:
//! at most 8,192 blocks with one place, 2,048 with eight and 512 with 64. Each open `Conflate`
//! subscription keeps up to the same numbers of its second blocks. A publisher caches at most its
//! last 2,048 topics. Each dispatcher caches the subscriptions of up to 32,768 topics: up to 3 MiB,
//! 4 MiB for the lists of subscriptions, and the texts of these topics.
//!
//! # Choosing
//!
//! ```
//! use fanout::{Bus, Overflow};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // 1,000 subscribers that may all stop reading, each at another event, need at most about 1 GiB:
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
//! [`DROPPED_LANES_MAX`]: crate::limits::DROPPED_LANES_MAX
//! [`SharedEvent`]: crate::SharedEvent
//! [`Batch`]: crate::Batch
//! [`BusStats::pinned_bytes`]: crate::BusStats::pinned_bytes
