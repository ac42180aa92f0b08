//! Dispatch: the path of an event from a lane to the subscribers' rings.
//!
//! ```text
//! publish            sequence                match               ring             receive
//! Publisher --lane--> Sequencer --Block--+--> Shard (Index) --(Block,mask)--> Subscriber
//! Publisher --lane-->  ids, time         +--> Shard (Index) --(Block,mask)--> Subscriber
//! Bus::publish -mpsc->
//! ```
//!
//! | file | what happens to the event | it is now |
//! | --- | --- | --- |
//! | [`lane`] | a publisher pushes it | accepted |
//! | [`sequencer`] | it gets its id and its time, and is put into a [`block`] | sequenced |
//! | [`shard`] | the subscribers that it matches are found | |
//! | [`feed`] | it is pushed to the ring of one subscriber, or lost | delivered |
//!
//! [`engine`] decides which thread runs the sequencer and the shards: they are [`role`]s, and any
//! thread that finds a role free may run it. [`signal`] has the wake-ups for that.
//!
//! # Failure modes
//!
//! A thread that panics in a role breaks the bus: nothing is accepted any more, subscribers read
//! what is in their rings and then get `Broken`, and no thread waits for ever. User code that runs
//! inside a role (a payload's `drop`, a waker, a clock) may panic without harm, except for a
//! weigher, which also breaks the bus.

pub(crate) mod block;
pub(crate) mod engine;
pub(crate) mod feed;
pub(crate) mod gauges;
mod inline_budget;
pub(crate) mod lane;
#[cfg(feature = "latency")]
pub(crate) mod latency;
pub(crate) mod loss;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod role;
pub(crate) mod routes;
pub(crate) mod sequencer;
pub(crate) mod shard;
pub(crate) mod signal;
#[cfg(all(test, not(loom)))]
mod tests;
pub(crate) mod topic_arg;

use std::fmt;

use crate::contain::UserValue;

/// Which threads carry events from the lanes to the rings.
///
/// ```
/// use fanout::{Bus, Dispatch};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // For tests and simulations: while the bus is open, events move only when the program calls
/// // `drive` or flushes.
/// let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).build()?;
/// let mut sub = bus.subscribe("n")?;
/// bus.publish("n", 1)?;
/// assert!(sub.try_recv().is_err());
/// bus.drive();
/// assert_eq!(*sub.try_recv()?.data(), 1);
/// assert_eq!(Dispatch::Manual.to_string(), "manual");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dispatch {
    /// The publishing thread for a lone event, and the threads of the pool for a stream of events.
    /// The default.
    ///
    /// If all threads of the pool sleep, a publisher dispatches its event itself, as under
    /// `Inline`: the event reaches the subscriber without another thread between the two. There
    /// are two bounds. The publishers of a bus together spend at most half of their time on this.
    /// And a publisher gives an event to at most 64 subscribers of each shard. Beyond either bound
    /// the publisher wakes the pool, which dispatches a stream in blocks, as under `Pool`.
    ///
    /// So publishing, also `try_publish`, may drop payloads and call wakers: see
    /// [guarantee 9](crate#guarantees). Do not hold a lock that they take while you publish.
    #[default]
    Adaptive,
    /// The threads of the dispatcher pool. Publishing never dispatches, and costs least; a lone
    /// event has to wake a thread of the pool, which then wakes the subscriber.
    Pool,
    /// The publishing thread, if no other thread dispatches at that moment: an event does not have
    /// to wake another thread. It dispatches one round at most, never waits for a full ring, and
    /// leaves the rest to the pool. So publishing, also `try_publish`, may drop payloads and call
    /// wakers: see [guarantee 9](crate#guarantees).
    Inline,
    /// The threads that call [`Bus::drive`](crate::Bus::drive), and those that flush or close,
    /// which drive too. Dropping the last handle to the bus closes it, and so dispatches all
    /// accepted events and calls the handlers with them. There is no pool. For deterministic tests.
    ///
    /// A `publish` that finds its lane full waits until another thread drives, and
    /// `publish_sequenced` always does; a single-threaded program uses `try_publish`.
    ///
    /// `flush_within` and `close_within` drive, and then wait for the other threads that drive.
    /// They drive again when the [block timeout](crate::SubscriptionBuilder::block_timeout) of a
    /// subscriber is over. Once the bus is closing, a thread that receives, cancels or drops a
    /// subscriber drives, too.
    Manual,
}

impl fmt::Display for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Adaptive => "adaptive",
            Self::Pool => "pool",
            Self::Inline => "inline",
            Self::Manual => "manual",
        })
    }
}

/// A function of the program that weighs payloads.
type Weigher<T> = Box<dyn Fn(&T) -> usize + Send>;

/// How payloads are weighed, in bytes.
pub(crate) enum Weigh<T> {
    /// What payloads own outside of themselves is not counted.
    Nothing,
    By(UserValue<Weigher<T>>),
}

impl<T> Weigh<T> {
    pub(crate) fn is_user_code(&self) -> bool {
        matches!(self, Self::By(_))
    }
}
