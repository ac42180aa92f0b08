//! The queue of a subscriber that keeps what was published last: `DropOldest`.
//!
//! The shard makes room by evicting the events that have waited longest, one by one, whatever the
//! subscriber does: see [`evicting`]. What was evicted in front of an event is reported in front of
//! it. So no event is ever refused, and if a mask has more events than the capacity, the newest of
//! them are kept.
//!
//! # Failure modes
//!
//! * The subscriber does not read: the shard keeps evicting, and never waits.

use super::claim::{Claim, drain_claims};
use super::{FeedShared, first_and_last, lowest_bits};
use crate::dispatch::block::{AnyBlock, RefBatch};
use crate::dispatch::gauges::Pushed;
use crate::dispatch::loss::{Gap, GapReason};
use crate::ring::evicting::{self, Claimed, PartSet, Size};
use crate::ring::gap::LossRun;
use crate::ring::spsc::Readiness;

pub(super) fn queue(capacity: usize) -> (WriteEnd, ReadEnd) {
    let (producer, consumer) = evicting::ring(capacity);
    let write = WriteEnd {
        ring: producer,
        wake_requested: false,
    };
    (write, ReadEnd { ring: consumer })
}

/// The shard's end.
pub(super) struct WriteEnd {
    ring: evicting::Producer<AnyBlock>,
    /// A commit in the middle of a round found that the subscriber had requested a wake-up.
    wake_requested: bool,
}

impl WriteEnd {
    /// Pushes the events of the mask, and evicts the oldest events if the ring is beyond its
    /// bounds.
    #[inline]
    pub(super) fn offer(
        &mut self,
        shared: &FeedShared,
        block: &AnyBlock,
        refs: &mut RefBatch<'_>,
        mask: u64,
    ) {
        let parts = PartSet {
            mask,
            base: block.first_id(),
        };
        self.ring.push(refs.take(), parts, block.weight() as u64);
        let bound = Size {
            parts: u64::from(shared.status.capacity),
            bytes: shared.status.pin_bytes as u64,
        };
        let waiting = self.ring.waiting();
        let events = u64::from(mask.count_ones());
        shared.writer.gauges.pushed(&Pushed {
            events,
            bytes: block.weight() as u64,
            alone: waiting.parts == events,
            created_at_ns: block.created_at_ns(),
        });
        let fits = waiting.parts <= bound.parts && waiting.bytes <= bound.bytes;
        let waiting = if fits {
            waiting
        } else {
            self.evict(shared, bound);
            self.ring.waiting()
        };
        debug_assert!(waiting.parts <= bound.parts, "evicted to the event");
        shared.writer.gauges.waits(waiting.parts);
    }

    /// Publishes what was pushed. `true`: the subscriber has requested a wake-up.
    #[inline]
    pub(super) fn commit(&mut self) -> bool {
        let wake_requested = std::mem::take(&mut self.wake_requested);
        wake_requested | (self.ring.has_staged() && self.ring.commit() == Ok(true))
    }

    /// Nothing more comes. `true`: the subscriber has requested a wake-up.
    pub(super) fn close(&self) -> bool {
        self.ring.close()
    }

    fn evict(&mut self, shared: &FeedShared, bound: Size) {
        // The ring can evict only when every slot is published.
        self.wake_requested |= self.ring.commit() == Ok(true);
        let mut bytes = 0_u64;
        let evicted = self.ring.evict(bound, ids, |block, _| {
            bytes = bytes.wrapping_add(block.weight() as u64);
        });
        shared.count_lost(evicted, GapReason::Overflow);
        shared.count_removed(evicted, bytes);
    }
}

/// Ids of the first and the last event of a slot.
fn ids(parts: PartSet) -> (u64, u64) {
    first_and_last(parts.base, parts.mask)
}

/// The subscriber's end.
pub(super) struct ReadEnd {
    ring: evicting::Consumer<AnyBlock>,
}

impl ReadEnd {
    /// Claims the next slot.
    #[inline]
    pub(super) fn claim(&mut self, shared: &FeedShared) -> Claim {
        match self.ring.claim() {
            Some(claimed) => {
                let gap_before = lost_before(&claimed).map(Gap::of_run);
                let mask = claimed.parts.mask & !lowest_bits(claimed.parts.mask, claimed.cut);
                debug_assert!(mask != 0, "a slot that was evicted whole was claimed");
                let block = claimed.item;
                shared.count_removed(u64::from(mask.count_ones()), block.weight() as u64);
                Claim::Events {
                    block,
                    mask,
                    gap_before,
                }
            }
            None if self.ring.is_finished() => Claim::Finished,
            None => Claim::Empty,
        }
    }

    /// Requests a wake-up, and checks once more. `false`: there is something to read already.
    pub(super) fn request_wake(&mut self) -> bool {
        self.ring.request_wake() == Readiness::Empty
    }

    /// Drops what is left, and returns what had been lost right in front of it.
    pub(super) fn drain(&mut self, shared: &FeedShared) -> Option<Gap> {
        drain_claims(|| self.claim(shared))
    }
}

/// What was evicted in front of the first event of a slot that is left: whole slots, and the oldest
/// events of this slot.
fn lost_before(claimed: &Claimed<AnyBlock>) -> Option<LossRun> {
    if claimed.cut == 0 {
        return claimed.lost;
    }
    let (from, to) = ids(PartSet {
        mask: lowest_bits(claimed.parts.mask, claimed.cut),
        ..claimed.parts
    });
    let cut = u64::from(claimed.cut);
    Some(LossRun {
        first_id: claimed.lost.map_or(from, |lost| lost.first_id),
        last_id: to,
        count: claimed.lost.map_or(0, |lost| lost.count) + cut,
        reason: GapReason::Overflow as u8,
    })
}
