//! How a receiver waits on its own thread: what that costs, and whom.

use crate::park::Backoff;

/// How a thread that receives waits while nothing is there: a trade of processor time against
/// latency.
///
/// It is chosen per subscriber ([`SubscriptionBuilder::wait`](super::SubscriptionBuilder::wait)),
/// or for all that don't say ([`BusBuilder::wait`](super::BusBuilder::wait)). `recv`,
/// `recv_timeout`, `next_batch`, `next_batch_timeout`, `for_each` and `iter` follow it. Tasks
/// (`recv_async`, streams) never do: they give their thread back at once.
///
/// | strategy | while it waits | whoever dispatches pays | choose it when |
/// | --- | --- | --- | --- |
/// | `Adaptive` | spins for some 5 µs if every thread has a core, gives the processor away twice, sleeps | a wake-up (2 to 5 µs) per sleep | always, unless you have measured |
/// | `Spin` | keeps its core busy, for ever | nothing | this thread has a core of its own, and microseconds count |
/// | `Yield` | keeps a core busy, but lets whoever is ready go first | nothing | latency counts, and threads outnumber cores |
/// | `Park` | sleeps at once | a wake-up per sleep | events are rare, and processor time or battery counts |
///
/// Under all of them a receiver ends its wait promptly when the subscription is cancelled, or the
/// bus is closed or breaks, and time limits hold: `Spin` looks at the clock every 64 looks at its
/// ring, `Yield` at every one.
///
/// # The bad days
///
/// * **`Spin` without a core of its own** keeps the very thread from running that it waits for, for
///   whole time slices at once. Everything still works, at a small fraction of the speed.
/// * **`Yield` on a busy machine** waits for its turn like everybody: milliseconds. On an idle one
///   it burns a core like `Spin`.
/// * **Under [`Dispatch::Manual`](crate::Dispatch::Manual)** whoever waits on the thread that
///   should [`drive`](super::Bus::drive) waits for ever, asleep or not.
///
/// ```
/// use fanout::{Bus, WaitStrategy};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::builder().wait(WaitStrategy::Park).build()?;
/// let mut urgent = bus.subscription("alarms.**").wait(WaitStrategy::Yield).open()?;
/// bus.publish("alarms.fire", 1)?;
/// assert_eq!(*urgent.recv()?.data(), 1); // awake until it came
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Awake for a moment, then asleep. The default.
    #[default]
    Adaptive,
    /// Never sleeps, and never gives the processor away.
    Spin,
    /// Never sleeps; gives the processor away after every look.
    Yield,
    /// Sleeps at once.
    Park,
}

impl WaitStrategy {
    /// The part of a wait that is spent awake. `threads`: how many take part, an estimate.
    pub(super) fn awake(self, threads: usize) -> Backoff {
        match self {
            Self::Adaptive => Backoff::adaptive(threads),
            Self::Spin => Backoff::spin(),
            Self::Yield => Backoff::yielding(),
            Self::Park => Backoff::none(),
        }
    }
}
