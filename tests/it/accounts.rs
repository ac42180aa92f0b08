//! Compares the items that one subscription received with the events that should have matched: the
//! delivery law, for every policy, exactly.

use fanout::{Event, Gap, GapReason, Overflow, RecvError, SubscriptionStats};

pub(crate) enum StreamItem {
    /// An event, and the number of events that it replaced.
    Id(u32, u32),
    Lost(Gap),
}

impl StreamItem {
    pub(crate) fn of<T>(event: &Event<T>) -> Self {
        Self::Id(event.id() as u32, event.superseded() as u32)
    }
}

/// The data of a subscription that has ended.
pub(crate) struct Account<'a> {
    pub(crate) seen: &'a [StreamItem],
    /// The policy is `Block`, without a block timeout.
    pub(crate) waited_for: bool,
    /// `None`: the subscriber was dropped before it received the end.
    pub(crate) ending: Option<RecvError>,
    pub(crate) stats: SubscriptionStats,
}

/// The sums of an account.
#[derive(Default)]
struct Sums {
    received: u64,
    lost: u64,
    /// Neither received nor reported as lost.
    unreported: u64,
}

impl Account<'_> {
    /// The ids that the subscription covers, out of `events` events.
    pub(crate) fn ids(&self, events: usize) -> std::ops::RangeInclusive<u64> {
        let (Some(first), Some(last)) = (self.stats.first_id, self.stats.last_id) else {
            panic!("it has ended, and the shard has run: {:?}", self.stats);
        };
        assert!(1 <= first && last < first + events as u64 && last <= events as u64);
        first..=last
    }

    /// `matched` has the ids that match. `topic` returns the number of an event's topic, which is
    /// less than `topics`.
    pub(crate) fn check(
        &self,
        matched: impl Iterator<Item = u64>,
        topic: impl Fn(u64) -> usize,
        topics: usize,
    ) {
        let stats = &self.stats;
        let Sums {
            received,
            lost,
            unreported,
        } = if stats.overflow == Overflow::Conflate {
            self.check_by_topic(matched, topic, topics)
        } else {
            assert_eq!(stats.superseded, 0);
            self.check_in_order(matched)
        };
        assert_eq!(stats.matched, received + lost + unreported, "{stats:?}");
        assert_eq!(
            stats.matched,
            stats.received + stats.lost + stats.superseded + stats.unread,
            "{stats:?}"
        );
        assert_eq!(stats.received, received);
        assert_eq!(stats.lost, stats.lost_by(self.reason()), "{stats:?}");
        assert!(stats.lost == 0 || !self.waited_for, "{stats:?}");
        assert!(stats.lost >= lost, "{stats:?}");
        match self.ending {
            Some(RecvError::Closed | RecvError::Disconnected(_)) => assert_eq!(
                (unreported, stats.lost, stats.unread),
                (stats.superseded, lost, 0),
                "{stats:?}"
            ),
            Some(RecvError::Cancelled) | None => {
                assert!(unreported >= stats.superseded, "{stats:?}");
            }
            Some(other) => panic!("{other}"),
        }
    }

    /// The reason of the losses.
    fn reason(&self) -> GapReason {
        match self.stats.overflow {
            Overflow::Block => GapReason::BlockTimeout,
            _ => GapReason::Overflow,
        }
    }

    /// Every event that matched is received, or is in a gap that is reported in its place, up to
    /// the end of the subscription.
    fn check_in_order(&self, mut matched: impl Iterator<Item = u64>) -> Sums {
        let mut sums = Sums::default();
        for (n, seen) in self.seen.iter().enumerate() {
            match seen {
                StreamItem::Id(id, superseded) => {
                    let next = matched.next();
                    assert_eq!(next, Some(u64::from(*id)), "the next that matches");
                    assert_eq!(*superseded, 0);
                    sums.received += 1;
                }
                StreamItem::Lost(gap) => {
                    // For a disconnected subscription this gap is the end, unless the subscription
                    // was cancelled before: then the gap comes before the cancel.
                    assert!(
                        self.stats.overflow != Overflow::Disconnect || self.is_cancel_behind(n)
                    );
                    sums.lost += self.check_gap(gap, &mut matched);
                }
            }
        }
        if let Some(RecvError::Disconnected(gap)) = &self.ending {
            assert_eq!(self.stats.overflow, Overflow::Disconnect);
            sums.lost += self.check_gap(gap, &mut matched);
        }
        sums.unreported = matched.count() as u64;
        sums
    }

    /// Whether item number `n` is the last one before a cancel.
    fn is_cancel_behind(&self, n: usize) -> bool {
        n + 1 == self.seen.len() && self.ending == Some(RecvError::Cancelled)
    }

    /// A gap begins at its place in the stream, and counts exactly the events that matched. Returns
    /// the count.
    fn check_gap(&self, gap: &Gap, matched: &mut impl Iterator<Item = u64>) -> u64 {
        assert_eq!(
            matched.next(),
            Some(gap.first_id()),
            "a gap begins at its place in the stream"
        );
        let mut last = gap.first_id();
        for _ in 1..gap.count() {
            last = matched.next().expect("a gap counts what matched");
        }
        assert_eq!(gap.last_id(), last);
        assert_eq!(gap.reason(), self.reason());
        gap.count()
    }

    /// Each event of a topic that matched is received, or lost, or superseded by the next event of
    /// the topic that is received or lost. Topics are received in the order in which they began to
    /// wait, which is the order of their first unreceived events.
    fn check_by_topic(
        &self,
        matched: impl Iterator<Item = u64>,
        topic: impl Fn(u64) -> usize,
        topics: usize,
    ) -> Sums {
        let stats = &self.stats;
        let mut by_topic = vec![Vec::new(); topics];
        matched.for_each(|id| by_topic[topic(id)].push(id));
        // `next` is, for each topic, the first event that is not accounted for. `missing` has the
        // events that no received event has replaced.
        let mut next = vec![0; topics];
        let mut missing = Vec::new();
        let mut runs_missing = 0;
        let (mut sums, mut superseded, mut began) = (Sums::default(), 0, 0);
        let mut gaps = Vec::new();
        for seen in self.seen {
            match seen {
                StreamItem::Id(id, replaced) => {
                    let id = u64::from(*id);
                    let ids = &by_topic[topic(id)];
                    let next = &mut next[topic(id)];
                    let place = ids.binary_search(&id).expect("it matches");
                    let first = place.checked_sub(*replaced as usize);
                    let first = first.filter(|first| first >= next);
                    let first = first.expect("what it replaced came behind what was seen before");
                    missing.extend_from_slice(&ids[*next..first]);
                    runs_missing += u64::from(*next < first);
                    *next = place + 1;
                    assert!(began < ids[first], "in the order in which they began");
                    began = ids[first];
                    superseded += u64::from(*replaced);
                    sums.received += 1;
                }
                StreamItem::Lost(gap) => {
                    assert!(
                        began < gap.first_id(),
                        "lost events waited behind received ones"
                    );
                    assert_eq!(gap.reason(), GapReason::Overflow);
                    sums.lost += gap.count();
                    gaps.push(*gap);
                }
            }
        }
        let between = missing.len() as u64;
        for (ids, next) in by_topic.iter().zip(next) {
            missing.extend_from_slice(&ids[next..]);
        }
        missing.sort_unstable();
        for gap in gaps {
            let place = |id| missing.binary_search(&id).expect("a lost event is missing");
            let room = place(gap.last_id()) + 1 - place(gap.first_id());
            assert!((1..=room as u64).contains(&gap.count()), "{gap}");
        }
        // Each run of missing events of a topic in front of a received event ends with a lost
        // event.
        assert!(runs_missing <= stats.lost && (stats.lost > 0 || between == 0));
        assert!(stats.superseded >= superseded, "{stats:?}");
        if self.ending == Some(RecvError::Closed) {
            let lost = missing.len() as u64;
            assert_eq!(
                lost,
                stats.lost + stats.superseded - superseded,
                "{stats:?}"
            );
        }
        sums.unreported = superseded + missing.len() as u64 - sums.lost;
        sums
    }
}
