//! Feeds: the bounded queue between a shard and one subscriber.
//!
//! * **In**: blocks, each with the mask of the events that match the subscription.
//! * **Out**: the events and the losses of the subscription, in order, and one wake-up per round if
//!   the subscriber has requested it.
//! * **Called by**: [`Shard`](super::shard::Shard) in `shard.rs`, which owns the [`FeedProducer`];
//!   and the [`Subscriber`](crate::Subscriber) or the handler's task (`handlers/task.rs`), which
//!   owns the [`FeedConsumer`].
//! * **Next file**: `bus/subscriber.rs`, which reads from the [`FeedConsumer`].
//!
//! The shard owns the [`FeedProducer`], the subscriber the [`FeedConsumer`]. A slot of the ring
//! between them is a reference to a block and a mask, so one reference count and one slot carry up
//! to 64 events.
//!
//! ```text
//!   shard --> FeedProducer                         FeedConsumer --> subscriber
//!              matched, offer ==> ring of slots ==> check, take
//!              commit --------> Listener -- wakes ------^
//!                  \               |               /
//!                   +--------- FeedShared --------+
//! ```
//!
//! | step | does | file |
//! | --- | --- | --- |
//! | `matched` | counts the events of a block that match, before they are offered | `producer.rs` |
//! | `offer` | pushes what has room; the overflow policy decides about the rest | the policy's |
//! | `commit` | publishes what was pushed, and notifies the [`listener`] | `producer.rs` |
//! | `check` | claims the next slot, or says why there is none | `consumer.rs`, the policy's |
//! | `take` | lends the next event of the claimed slot, and counts it as received | `consumer.rs` |
//!
//! The policies are [`bounded`] (`DropNewest`, `Block`, `Disconnect`), [`newest`] (`DropOldest`)
//! and [`conflated`] (`Conflate`). A shard commits once per round.
//!
//! What both ends share, and the invariant of their counters, is in [`shared`].
//!
//! **Capacity** counts the events that wait in the ring. A slot that the subscriber has claimed no
//! longer counts: up to 63 events more, beside the one that is being read. The same holds for
//! `pin_bytes`, with the weight of one block.
//!
//! # Failure modes
//!
//! * **The ring is full**: the policy decides, see [`Overflow`]. What is lost is counted, and
//!   reported in the stream of events as a [`Gap`](super::loss::Gap).
//! * **The subscriber is dropped**: what is in the ring is dropped at once. What the shard still
//!   pushes is dropped when the shard detaches the feed.
//! * **The bus closes**: the ring is closed behind the last event. The subscriber reads up to
//!   there, and then finds [`Found::Closed`].
//! * **The bus breaks**: the subscriber reads what is in the ring, and then finds [`Found::Ended`].

mod bounded;
mod claim;
mod conflated;
mod consumer;
mod end;
mod listener;
#[cfg(all(test, loom))]
mod models;
mod newest;
mod producer;
mod shared;
#[cfg(all(test, not(loom)))]
mod tests;

use super::loss::Overflow;
use super::signal::Latch;
use crate::limits::CAPACITY_MAX;
use crate::sync::Arc;

pub(crate) use consumer::{FeedConsumer, Found};
pub(crate) use end::End;
pub(crate) use listener::{Listener, ReaderCallback};
pub(crate) use producer::FeedProducer;
pub(crate) use shared::{FeedShared, FeedStats};

use consumer::ReadEnd;
use producer::WriteEnd;

/// Bounds of one subscriber's ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Events in the ring, 1 to [`CAPACITY_MAX`].
    pub(crate) capacity: usize,
    /// Bytes that the blocks in the ring pin. An empty ring has room for one block of any weight.
    pub(crate) pin_bytes: usize,
    pub(crate) overflow: Overflow,
}

/// Makes a feed, and returns its two ends. `latch`: where the subscriber arrives when a shard waits
/// for room in the ring.
pub(crate) fn feed(
    limits: Limits,
    latch: Arc<Latch>,
    listener: Listener,
) -> (FeedProducer, FeedConsumer) {
    debug_assert!((1..=CAPACITY_MAX).contains(&limits.capacity));
    let (write, read) = match limits.overflow {
        Overflow::DropOldest => {
            let (write, read) = newest::queue(limits.capacity);
            (WriteEnd::Newest(write), ReadEnd::Newest(read))
        }
        Overflow::Conflate => {
            let (write, read) = conflated::queue(limits.capacity);
            (WriteEnd::Conflated(write), ReadEnd::Conflated(read))
        }
        Overflow::DropNewest | Overflow::Block | Overflow::Disconnect => {
            let (write, read) = bounded::queue(limits.capacity);
            (WriteEnd::Bounded(write), ReadEnd::Bounded(read))
        }
    };
    let shared = Arc::new(FeedShared::new(limits, latch, listener));
    let producer = FeedProducer::new(write, shared.clone());
    (producer, FeedConsumer::new(read, shared))
}

/// The lowest `n` bits that are set in a mask, or all of them if there are fewer.
fn lowest_bits(mask: u64, n: u32) -> u64 {
    if n >= mask.count_ones() {
        return mask;
    }
    let mut rest = mask;
    for _ in 0..n {
        rest &= rest - 1;
    }
    mask & !rest
}

/// Ids of the first and the last event of a mask that is not empty, in a block that begins with
/// `first_id`.
fn first_and_last(first_id: u64, mask: u64) -> (u64, u64) {
    debug_assert!(mask != 0);
    let id = |bit: u32| first_id + u64::from(bit);
    (id(mask.trailing_zeros()), id(63 - mask.leading_zeros()))
}
