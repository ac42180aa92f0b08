//! The path of an event, from a lane to the rings.
//!
//! ```text
//! publish            sequence                match               ring             receive
//! Publisher --lane--> Sequencer --Block--+--> Shard (Index) --(Block,mask)--> Subscriber
//! Publisher --lane-->  ids, time         +--> Shard (Index) --(Block,mask)--> Subscriber
//! Bus::publish -mpsc->
//! ```
//!
//! In the order in which an event meets them: [`lane`], [`sequencer`], [`block`], [`shard`], [`feed`]. Sequencer and
//! shards are [`role`]s: the [`Engine`] lets whichever thread comes along hold them, one at a time each.
//!
//! | [`Dispatch`] | who holds the roles |
//! | --- | --- |
//! | `Pool` | the pool's threads |
//! | `Inline` | the publishing thread, for one round; what is left, the pool |
//! | `Manual` | who calls `drive` |
//!
//! **The bad days.** A thread that panics in a role breaks the bus: nothing is accepted any more, subscribers read
//! what is in their rings and then `Broken`; nobody hangs. What programs give the engine to run inside a role
//! (a payload's `drop`, a waker, a clock) may panic without harm; a weigher must not.

pub(crate) mod block;
pub(crate) mod engine;
pub(crate) mod feed;
pub(crate) mod gauges;
pub(crate) mod lane;
#[cfg(feature = "latency")]
pub(crate) mod latency;
pub(crate) mod loss;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod role;
pub(crate) mod sequencer;
pub(crate) mod shard;
pub(crate) mod signal;
#[cfg(all(test, not(loom)))]
mod tests;
pub(crate) mod topic_arg;

/// Who carries events from the lanes to the rings.
///
/// ```
/// use fanout::{Bus, Dispatch};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // For tests and simulations: nothing happens but in `drive`.
/// let bus = Bus::<u32>::builder().dispatch(Dispatch::Manual).build()?;
/// let mut sub = bus.subscribe("n")?;
/// bus.publish("n", 1)?;
/// assert!(sub.try_recv().is_err());
/// bus.drive();
/// assert_eq!(*sub.try_recv()?.data(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dispatch {
    /// The dispatcher pool. Publishing costs least, and batches form under load. The default.
    #[default]
    Pool,
    /// The thread that publishes, if nobody else is at it: one hop less for a lone event. It carries at most one
    /// round, never waits for a full ring, and leaves the rest to the pool.
    Inline,
    /// Nobody but [`Bus::drive`](crate::Bus::drive), and flushing and closing, which drive: for deterministic tests.
    /// A `publish` that finds its lane full waits for another thread to drive, and `publish_sequenced` always does; a
    /// single-threaded program uses `try_publish`. `flush_within` drives, and then waits for others; so does `close_within`.
    /// Both drive again when the [longest wait](crate::SubscriptionBuilder::block_timeout) for a subscriber is over. Once the
    /// bus is closing, so does whoever waits for its events.
    Manual,
}

/// How payloads are weighed.
pub(crate) enum Weigh<T> {
    /// What they own is not counted.
    Nothing,
    By(Box<dyn Fn(&T) -> usize + Send>),
}

impl<T> Weigh<T> {
    #[inline]
    fn weigh(&self, data: &T) -> usize {
        match self {
            Self::Nothing => 0,
            Self::By(weigh) => weigh(data),
        }
    }
}
