//! Bounded rings and the cell that says what did not fit.
//!
//! | file | producers | consumers | used for |
//! | --- | --- | --- | --- |
//! | [`spsc`] | 1 | 1 | a publisher's lane, a shard's input, a subscriber's ring |
//! | [`evicting`] | 1 | 1 | the ring of a subscriber that wants the newest |
//! | [`conflating`] | 1 | 1 | the queue of a subscriber that wants each topic's latest |
//! | [`mpsc`] | many | 1 | the shared lane behind `Bus::publish` |
//! | [`run_queue`] | many | many | the handlers that have something to do |
//! | [`segment`] | | | the memory of [`spsc`] |
//! | [`tail`] | | | the word of the side that pushes: published, closed, wake-up requested |
//! | [`gap`] | 1 | 1 | the open run of losses at the end of a subscriber's ring |
//! | [`once_box`] | | | a value that is made when it is first needed |
//!
//! A ring knows nothing of events, wakers or threads. It tells its user, in the same atomic step
//! that publishes an item, whether the other side asked to be woken; waking is the user's business.

pub(crate) mod conflating;
pub(crate) mod evicting;
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

/// Set in a counter word by the side that is about to sleep; see [`spsc`].
const WAKE_REQUESTED: u64 = 0b01;
/// Set in a counter word for ever: nothing more will be pushed (tail) or popped (head).
const CLOSED: u64 = 0b10;
/// The counter stands above the two flags.
const FLAG_BITS: u32 = 2;

/// The counter of a word, without its flags.
#[inline(always)]
const fn count(word: u64) -> u64 {
    word >> FLAG_BITS
}

/// A word with this counter and no flag.
#[inline(always)]
const fn word(count: u64) -> u64 {
    count << FLAG_BITS
}
