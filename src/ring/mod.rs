//! Bounded rings, and the cell that records what did not fit into a ring.
//!
//! | module | producers | consumers | used for |
//! | --- | --- | --- | --- |
//! | [`spsc`] | 1 | 1 | publishers' lanes, the shards' inputs, the rings of most subscribers |
//! | [`evicting`] | 1 | 1 | the ring of a `DropOldest` subscriber |
//! | [`conflating`] | 1 | 1 | the ring of a `Conflate` subscriber |
//! | [`mpsc`] | many | 1 | the shared lane behind `Bus::publish` |
//! | [`run_queue`] | many | many | the handlers that have something to do |
//! | [`front`] | | | an item that is read in its slot, before it is popped |
//! | [`segment`] | | | the memory of [`spsc`] |
//! | [`tail`] | | | the producer's word: items published, closed, wake-up requested |
//! | [`gap`] | 1 | 1 | the open run of losses at the end of a subscriber's ring |
//! | [`once_box`] | | | a value that is created when it is first needed |
//!
//! A ring has no reference to events, wakers or threads. The atomic step that publishes an item
//! also returns whether the other side has requested a wake-up. The caller wakes that side.

pub(crate) mod conflating;
pub(crate) mod evicting;
mod front;
pub(crate) mod gap;
pub(crate) mod mpsc;
pub(crate) mod once_box;
pub(crate) mod run_queue;
mod segment;
pub(crate) mod spsc;
mod tail;

#[cfg(all(any(test, fuzzing), not(loom)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod support;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use front::{Consume, Front};

/// The side that is about to sleep sets this flag in a counter word of the other side; see
/// [`spsc`].
const WAKE_REQUESTED: u64 = 0b01;
/// Nothing more will be pushed. Set in a tail word, and never cleared.
const CLOSED: u64 = 0b10;
/// The counter is in the bits above the two flags: 0 to 2^62 - 1. At 10^9 items per second it
/// overflows after 146 years.
const FLAG_BITS: u32 = 2;

/// The counter of a word, without its flags.
#[inline(always)]
const fn count(word: u64) -> u64 {
    word >> FLAG_BITS
}

/// A word with this counter and no flag.
#[inline(always)]
const fn word(count: u64) -> u64 {
    debug_assert!(count <= u64::MAX >> FLAG_BITS, "the counter overflows");
    count << FLAG_BITS
}
