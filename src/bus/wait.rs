//! How a thread that receives waits for events.

use crate::park::Backoff;

/// How a thread waits for events: processor time against latency.
///
/// A program sets the strategy for a subscription
/// ([`SubscriptionBuilder::wait`](super::SubscriptionBuilder::wait)), or the default for the bus
/// ([`BusBuilder::wait`](super::BusBuilder::wait)). All receive methods that block a thread follow
/// it: `recv`, `recv_timeout`, `next`, `next_batch`, `next_batch_timeout`, `for_each` and `iter`.
/// It has no effect on tasks (`recv_async`, `next_async`, streams), which never block their thread.
///
/// | strategy | the waiting thread | cost for the dispatcher | use it |
/// | --- | --- | --- | --- |
/// | `Adaptive` | spins for about 5 µs if every thread has a core, yields twice, then sleeps | a wake-up (2 to 5 µs) for each sleep | unless you have measured |
/// | `Spin` | keeps its core busy | nothing | when the thread has its own core, and microseconds count |
/// | `Yield` | keeps a core busy, but lets other threads run first | nothing | when latency counts, and there are more threads than cores |
/// | `Park` | sleeps at once | a wake-up for each sleep | when events are rare, and processor time or battery counts |
///
/// Under each strategy, a wait ends when the subscription is cancelled or the bus is closed or
/// breaks, and timeouts work: `Spin` reads the clock at every 64th check of the ring, `Yield` at
/// every check.
///
/// # Failure modes
///
/// * **`Spin` if the thread shares its core**: it prevents the thread that it waits for from
///   running, for whole time slices. The program still works, but at a small fraction of the speed.
/// * **`Yield` on a busy machine**: the thread must wait until the system schedules it, like every
///   other thread, which takes milliseconds. On an idle machine it keeps a core busy like `Spin`.
/// * **Under [`Dispatch::Manual`](crate::Dispatch::Manual)**: if the thread that waits is the only
///   one that calls [`drive`](super::Bus::drive), it waits for ever, under each strategy.
///
/// ```
/// use fanout::{Bus, WaitStrategy};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::builder().wait(WaitStrategy::Park).build()?;
/// let mut urgent = bus.subscription("alarms.**").wait(WaitStrategy::Yield).open()?;
/// bus.publish("alarms.fire", 1)?;
/// assert_eq!(*urgent.recv()?.data(), 1); // it did not sleep until then
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// The thread spins and yields for a moment, and then sleeps. This is the default.
    #[default]
    Adaptive,
    /// The thread never sleeps and never yields.
    Spin,
    /// The thread never sleeps, and yields after every check.
    Yield,
    /// The thread sleeps at once.
    Park,
}

impl WaitStrategy {
    /// The part of a wait before the thread sleeps. `threads` is an estimate of the number of
    /// threads that publish, dispatch and receive.
    pub(super) fn backoff(self, threads: usize) -> Backoff {
        match self {
            Self::Adaptive => Backoff::adaptive(threads),
            Self::Spin => Backoff::spin(),
            Self::Yield => Backoff::yielding(),
            Self::Park => Backoff::none(),
        }
    }
}
