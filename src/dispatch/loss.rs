//! Overflow policies: what happens to an event that finds a subscriber's ring full, and how the
//! loss is reported.

use std::fmt;
use std::time::Duration;

use crate::limits::BLOCK_TIMEOUT_MAX;
use crate::ring::gap::LossRun;

/// What happens to an event for which a subscriber's ring has no room.
///
/// Whatever is lost is counted, and reported in the stream of events to the subscriber that lost
/// it, as a [`Gap`]. Other subscribers and the publishers notice nothing, except under
/// [`Block`](Self::Block).
///
/// A ring has slots. A slot holds up to 64 events of one block. The subscriber *claims* a slot: it
/// takes the slot out of the ring, and then reads its events one by one or as a batch. Only
/// claiming makes room in the ring; reading the other events of a claimed slot does not.
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
/// let Err(RecvError::Lost(gap)) = sub.recv() else { panic!("three events had no room") };
/// assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (3, 5, 3));
/// assert_eq!(Overflow::default().to_string(), "drop-newest");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The new event is lost to this subscriber. The default.
    #[default]
    DropNewest,
    /// The oldest events in the ring are lost to this subscriber, and make room for the new ones.
    /// The [`Gap`] is in front of the oldest event that is left. This policy is for a subscriber
    /// that needs the newest events when it reads.
    ///
    /// No more events are dropped than the new ones need. The events of a slot that the subscriber
    /// has claimed (up to 64) are not dropped any more, so it may read up to 63 events beyond its
    /// capacity. If more events match at once than the capacity, the newest of them are kept.
    DropOldest,
    /// The subscription ends with the first event that has no room. The subscriber reads the events
    /// in its ring, and then gets [`RecvError::Disconnected`](crate::RecvError::Disconnected) for
    /// ever, with the [`Gap`] that caused it. For a subscriber that cannot use a stream with a hole
    /// and would rather subscribe again.
    Disconnect,
    /// The ring holds at most one event per topic: a new event replaces the unread one of the same
    /// topic, and [`superseded`](crate::Event::superseded) says how many events it replaced. A
    /// subscriber that wakes up sees each topic once, in its latest state: for quotes, positions,
    /// gauges.
    ///
    /// A replaced event is counted as superseded, not as lost. Topics are received in the order in
    /// which they entered the ring; ids rise per topic, not over all topics. The capacity counts
    /// topics: when a new topic has no room, the topic that has waited longest loses its event. The
    /// [`Gap`] is in front of the next event; its ids are the lowest and the highest lost, and
    /// events between them may have been received.
    Conflate,
    /// The bus waits until the subscriber has room, so nothing is lost, and a subscriber that does
    /// not read delays every other subscriber and the publishers. This policy requires
    /// [`BusBuilder::blocking`](crate::BusBuilder::blocking).
    ///
    /// The bus continues when the ring has room for all events of the waiting block that the
    /// subscriber still has to get (up to 64), or for half the capacity if that is less. If the
    /// block is too heavy for [`pin_bytes`](crate::SubscriptionBuilder::pin_bytes), the bus
    /// continues when the ring is empty.
    ///
    /// The bus waits without a limit unless there is a block timeout, for the subscription
    /// ([`SubscriptionBuilder::block_timeout`](crate::SubscriptionBuilder::block_timeout)) or for
    /// all subscriptions of the bus
    /// ([`BusBuilder::block_timeout`](crate::BusBuilder::block_timeout)):
    ///
    /// * When a block of events (up to 64) has waited that long for a subscriber, the events of the
    ///   block that have no room are lost to it, with the reason [`GapReason::BlockTimeout`]. The
    ///   events that had room stay in the ring.
    /// * From then on, an event that has no room is lost at once, as part of the same [`Gap`],
    ///   until the subscriber claims a slot. So a subscriber that hangs delays the bus once, and
    ///   not once per block.
    /// * After that the bus waits for the subscriber again, for the block timeout at most. If
    ///   events are lost then, they are a new [`Gap`] if an event entered the ring in between, as
    ///   when events 3 to 5 were lost, 6 entered, and 7 was lost. If none entered, because the
    ///   bytes were the bound, they belong to the same gap.
    /// * So a subscriber that reads, but more slowly than the publishers publish, delays the bus
    ///   again and again. With a block timeout of 10 milliseconds, each wait takes at most 10
    ///   milliseconds.
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
    /// assert!(bus.flush_within(Duration::from_secs(60))); // after ten milliseconds
    /// for n in 1..=5 {
    ///     assert_eq!(*reads.recv()?.data(), n);
    /// }
    /// assert_eq!(*hangs.recv()?.data(), 1);
    /// assert_eq!(*hangs.recv()?.data(), 2);
    /// let Err(RecvError::Lost(gap)) = hangs.recv() else { panic!("three events had no room") };
    /// assert_eq!((gap.first_id(), gap.last_id(), gap.count()), (3, 5, 3));
    /// assert_eq!(gap.reason(), GapReason::BlockTimeout);
    /// # Ok(())
    /// # }
    /// ```
    Block,
}

impl fmt::Display for Overflow {
    /// The name that the command line has for it: `drop-newest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::DropNewest => "drop-newest",
            Self::DropOldest => "drop-oldest",
            Self::Disconnect => "disconnect",
            Self::Conflate => "conflate",
            Self::Block => "block",
        })
    }
}

/// Why events were lost.
///
/// ```
/// let reason = fanout::GapReason::Overflow;
/// assert_eq!(reason.to_string(), "the ring was full");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum GapReason {
    /// The ring was full, by events or by bytes.
    Overflow = 0,
    /// The bus was closed with a time limit, and the ring was still full when the time was over.
    Closed = 1,
    /// The ring of an [`Overflow::Block`] subscriber was full for longer than its block timeout.
    BlockTimeout = 2,
}

impl GapReason {
    /// How many reasons there are.
    pub(crate) const COUNT: usize = 3;

    /// All of them, each at the index that is its code.
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Overflow, Self::Closed, Self::BlockTimeout];

    /// Its name in metrics.
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
            other => unreachable!("no loss is recorded with the reason code {other}"),
        }
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overflow => "the ring was full",
            Self::Closed => "the bus was closed before there was room",
            Self::BlockTimeout => "the ring was full for longer than the block timeout",
        })
    }
}

/// How long a block waits for a subscriber: whole milliseconds, in four bytes, because every
/// subscription has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockTimeout {
    /// 0 to the milliseconds of [`BLOCK_TIMEOUT_MAX`], or [`NO_TIMEOUT_MS`].
    ms: u32,
}

/// Stands for a wait without a limit.
const NO_TIMEOUT_MS: u32 = u32::MAX;

const _: () = assert!(BLOCK_TIMEOUT_MAX.as_millis() < NO_TIMEOUT_MS as u128);

impl BlockTimeout {
    /// The block waits without a limit.
    pub(crate) const NONE: Self = Self { ms: NO_TIMEOUT_MS };

    /// Rounds up, so that the block waits at least as long as was requested. `None`: out of range.
    pub(crate) fn new(timeout: Duration) -> Option<Self> {
        let ms = timeout.as_nanos().div_ceil(1_000_000);
        (timeout <= BLOCK_TIMEOUT_MAX).then_some(Self { ms: ms as u32 })
    }

    pub(crate) fn is_zero(self) -> bool {
        self.ms == 0
    }

    /// `None`: without a limit.
    pub(crate) fn duration(self) -> Option<Duration> {
        (self.ms != NO_TIMEOUT_MS).then(|| Duration::from_millis(self.ms.into()))
    }
}

/// A run of lost events.
///
/// It is reported once, in its place: after every event that came before it, and before every event
/// that came after it. ([`Overflow::Conflate`] keeps another order, and says what its gaps mean.)
///
/// All events from `first_id` to `last_id` that match the subscription's patterns are lost, `count`
/// of them. The other ids of that range belong to events that do not match.
///
/// ```
/// use fanout::{Bus, GapReason, RecvError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::<u32>::builder().dispatch(fanout::Dispatch::Manual).build()?;
/// let mut sub = bus.subscription("a").capacity(1).open()?;
/// for topic in ["a", "a", "b", "a"] {
///     bus.publish(topic, 0)?;
/// }
/// bus.drive();
/// assert_eq!(sub.recv()?.id(), 1);
/// let Err(RecvError::Lost(gap)) = sub.recv() else { panic!("two events had no room") };
/// assert_eq!((gap.first_id(), gap.last_id()), (2, 4));
/// assert_eq!(gap.count(), 2, "event 3 does not match");
/// assert_eq!(gap.reason(), GapReason::Overflow);
/// assert_eq!(gap.to_string(), "lost 2 events, ids 2 to 4: the ring was full");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gap {
    first_id: u64,
    last_id: u64,
    count: u64,
    reason: GapReason,
}

impl Gap {
    /// Id of the first lost event, at least 1.
    pub fn first_id(&self) -> u64 {
        self.first_id
    }

    /// Id of the last lost event, at least `first_id`.
    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    /// How many events were lost, 1 to `last_id - first_id + 1`.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Why the events were lost. If they were lost for several reasons, the first of them.
    pub fn reason(&self) -> GapReason {
        self.reason
    }

    pub(crate) fn of_run(run: LossRun) -> Self {
        let LossRun {
            first_id,
            last_id,
            count,
            reason,
        } = run;
        debug_assert!(
            first_id <= last_id && (1..=last_id - first_id + 1).contains(&count),
            "{count} lost events with ids {first_id} to {last_id}"
        );
        Self {
            first_id,
            last_id,
            count,
            reason: GapReason::from_code(reason),
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            first_id,
            last_id,
            count,
            reason,
        } = self;
        if first_id == last_id {
            return write!(f, "lost 1 event, id {first_id}: {reason}");
        }
        write!(
            f,
            "lost {count} events, ids {first_id} to {last_id}: {reason}"
        )
    }
}
