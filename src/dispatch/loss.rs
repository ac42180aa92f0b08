//! What happens when a ring is full, and how it is told.

use std::fmt;
use std::time::Duration;

use crate::ring::gap::LossRun;

/// What happens to an event for which a subscriber's ring has no room.
///
/// ```
/// use fanout::{Bus, Overflow, RecvError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::builder().dispatch(fanout::Dispatch::Manual).build()?;
/// let mut sub = bus.subscription("n").capacity(2).overflow(Overflow::DropNewest).open()?;
/// for n in 1..=5 {
///     bus.publish("n", n)?;
/// }
/// bus.drive();
/// assert_eq!(*sub.recv()?.data(), 1);
/// assert_eq!(*sub.recv()?.data(), 2);
/// let Err(RecvError::Lost(gap)) = sub.recv() else { panic!("three did not fit") };
/// assert_eq!((gap.from(), gap.to(), gap.count()), (3, 5, 3));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The event that does not fit is lost to this subscriber, counted, and told in-band as part of a [`Gap`].
    /// Nobody else notices. The default.
    #[default]
    DropNewest,
    /// The oldest events that wait make room for the new ones: they are lost to this subscriber, counted, and told in-band, as
    /// part of a [`Gap`] in front of the oldest event that is left. Nobody else notices. For a subscriber that wants what is
    /// newest when it comes to read.
    ///
    /// Exact to the event: of one that waits, at most the 63 that came in the same slot with it are read beyond the
    /// capacity. If more events match at once than the capacity, the newest are kept.
    DropOldest,
    /// The subscription ends with the first event that has no room. What waits is read, and then
    /// [`RecvError::Disconnected`](crate::RecvError::Disconnected) is told for ever, with the [`Gap`] that did it. Nobody else
    /// notices. For a subscriber that is of no use with a hole in what it read, and would rather begin anew.
    Disconnect,
    /// A queue of topics in place of a queue of events: a new event takes the place of the one of its topic that still waits,
    /// and [`superseded`](crate::Event::superseded) says how many it replaced. A subscriber that wakes up sees each topic once,
    /// in its latest state: for quotes, positions, gauges.
    ///
    /// Topics come in the order in which they began to wait; ids rise per topic, not over all. The capacity counts topics
    /// that wait: beyond it, the one that has waited longest loses its event, told in-band as part of a [`Gap`] in front of
    /// the next event; the ids of such a gap are the lowest and the highest lost, and events between them may have
    /// been received.
    Conflate,
    /// The bus waits until the subscriber has room: nothing is lost, and a subscriber that does not read holds
    /// up everybody behind it. Needs [`BusBuilder::blocking`](crate::BusBuilder::blocking).
    ///
    /// Room is room for all that the block in front of the ring still has for the subscriber, up to 64 events, or for half
    /// the capacity if that is less; where bytes are the bound, it is an empty ring.
    ///
    /// It waits as long as it takes, unless there is a longest wait, for the subscription
    /// ([`SubscriptionBuilder::block_timeout`](crate::SubscriptionBuilder::block_timeout)) or for all of the bus
    /// ([`BusBuilder::block_timeout`](crate::BusBuilder::block_timeout)):
    ///
    /// * Events come in blocks of up to 64. When a block has waited that long for a subscriber, what the ring has no
    ///   room for is lost to it, with the reason [`GapReason::BlockTimeout`]. What did find room stays.
    /// * From then on, what has no room is lost at once, as part of the same [`Gap`], until the subscriber has *made
    ///   room*: until it has claimed something to read. So one that hangs holds the bus up once, not once per block.
    /// * After that it is waited for again, and what is then lost is another [`Gap`] if something had room in between; where
    ///   bytes are the bound, nothing may have, and the run goes on. So one that is alive, but slower than the publishers,
    ///   holds them up again and again, each time for its longest wait at most.
    ///
    /// To claim is to take a slot out of the ring, with the up to 64 events of one block: reading on in a slot that was
    /// claimed before makes no room.
    ///
    /// ```
    /// use fanout::{Bus, GapReason, Overflow, RecvError};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::<u32>::builder().blocking(true).build()?;
    /// let mut hangs = bus
    ///     .subscription("n")
    ///     .capacity(2)
    ///     .overflow(Overflow::Block)
    ///     .block_timeout(Duration::from_millis(10))
    ///     .open()?;
    /// let mut reads = bus.subscribe("n")?;
    /// for n in 1..=5 {
    ///     bus.publish("n", n)?;
    /// }
    /// assert!(bus.flush_within(Duration::from_secs(60))); // ten milliseconds, and not for ever
    /// for n in 1..=5 {
    ///     assert_eq!(*reads.recv()?.data(), n);
    /// }
    /// assert_eq!(*hangs.recv()?.data(), 1);
    /// assert_eq!(*hangs.recv()?.data(), 2);
    /// let Err(RecvError::Lost(gap)) = hangs.recv() else { panic!("three did not fit") };
    /// assert_eq!((gap.from(), gap.to(), gap.count()), (3, 5, 3));
    /// assert_eq!(gap.reason(), GapReason::BlockTimeout);
    /// # Ok(())
    /// # }
    /// ```
    Block,
}

/// Why events were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum GapReason {
    /// The ring was full, by events or by bytes.
    Overflow = 0,
    /// The bus was closed with a time limit, and the ring had no room when the time was up.
    Closed = 1,
    /// The ring of an [`Overflow::Block`] subscriber was full for longer than the bus waits for it.
    BlockTimeout = 2,
}

impl GapReason {
    /// How many reasons there are.
    pub(crate) const COUNT: usize = 3;

    /// All of them, each at its code.
    #[cfg(feature = "metrics")]
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Overflow, Self::Closed, Self::BlockTimeout];

    /// What metrics call it.
    #[cfg(feature = "metrics")]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Closed => "closed",
            Self::BlockTimeout => "block_timeout",
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Overflow,
            1 => Self::Closed,
            2 => Self::BlockTimeout,
            other => unreachable!("reason {other} is not written by anybody"),
        }
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overflow => "the ring was full",
            Self::Closed => "the bus was closed before there was room",
            Self::BlockTimeout => "the ring was full for longer than its longest wait",
        })
    }
}

/// The longest wait that a [`Overflow::Block`] subscriber can be given: 30 days. Without any, it is waited for as long as
/// it takes.
pub const BLOCK_TIMEOUT_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long a block waits for a subscriber: whole milliseconds, in four bytes, since every subscription has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LongestWait {
    /// 0 to those of [`BLOCK_TIMEOUT_MAX`], or [`FOR_EVER_MS`].
    ms: u32,
}

/// Stands for as long as it takes.
const FOR_EVER_MS: u32 = u32::MAX;

const _: () = assert!(BLOCK_TIMEOUT_MAX.as_millis() < FOR_EVER_MS as u128);

impl LongestWait {
    pub(crate) const FOR_EVER: Self = Self { ms: FOR_EVER_MS };

    /// Rounds up, so that nobody is waited for shorter than was asked. `None`: out of range.
    pub(crate) fn new(wait: Duration) -> Option<Self> {
        let ms = wait.as_nanos().div_ceil(1_000_000);
        (wait <= BLOCK_TIMEOUT_MAX).then_some(Self { ms: ms as u32 })
    }

    pub(crate) fn is_zero(self) -> bool {
        self.ms == 0
    }

    /// `None`: as long as it takes.
    pub(crate) fn limit(self) -> Option<Duration> {
        (self.ms != FOR_EVER_MS).then(|| Duration::from_millis(self.ms.into()))
    }
}

/// A run of lost events, told once, in its place: after every event that came before it and before every event
/// that came after it. ([`Overflow::Conflate`] keeps another order, and says what its gaps mean.)
///
/// The events between `from` and `to` that the subscription's patterns matched are lost, `count` of them; others in
/// that range of ids were never meant for it. See [`Overflow`] for an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gap {
    from: u64,
    to: u64,
    count: u64,
    reason: GapReason,
}

impl Gap {
    /// Id of the first lost event.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// Id of the last lost event, at least `from`.
    pub fn to(&self) -> u64 {
        self.to
    }

    /// How many events were lost, at least 1.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Why. A run with several reasons says the first.
    pub fn reason(&self) -> GapReason {
        self.reason
    }

    pub(crate) fn of_run(run: LossRun) -> Self {
        let LossRun {
            first_id: from,
            last_id: to,
            count,
            reason,
        } = run;
        Self {
            from,
            to,
            count,
            reason: GapReason::from_code(reason),
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            count,
            reason,
        } = self;
        write!(f, "lost {count} event(s), ids {from} to {to}: {reason}")
    }
}
