//! The invariants of an [`evicting`](super) ring, which hold whatever its two sides do, for its
//! tests and models.

use super::{Claimed, PartSet, Size};

/// An item of `len` parts, 1 to 64, with consecutive ids.
pub(super) fn parts(first_id: u64, len: u32) -> PartSet {
    PartSet {
        mask: u64::MAX >> (64 - len),
        base: first_id,
    }
}

/// The ids of the first and the last part of such an item.
pub(super) fn ids(parts: PartSet) -> (u64, u64) {
    let len = u64::from(parts.mask.count_ones());
    (parts.base, parts.base + len - 1)
}

/// A bound on parts alone.
pub(super) fn at_most(parts: u64) -> Size {
    Size {
        parts,
        bytes: u64::MAX,
    }
}

/// What the claims of a ring have reported, if the ids of the parts pushed are 1, 2, 3 and so on:
/// every part once, in order, as received or as lost.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// All parts up to this id were reported.
    last_id: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
}

impl Reported {
    /// Checks that the run in front of the item, the parts cut off it and the parts left follow
    /// each other, and what was reported before, without a hole.
    pub(super) fn claim<P>(&mut self, claimed: &Claimed<P>) {
        if let Some(run) = claimed.lost {
            assert_eq!(run.first_id, self.last_id + 1, "{run:?} after {self:?}");
            assert_eq!(run.count, run.last_id - run.first_id + 1, "{run:?}");
            self.last_id = run.last_id;
            self.lost += run.count;
        }
        let (first_id, last_id) = ids(claimed.parts);
        assert_eq!(first_id, self.last_id + 1, "item {first_id} after {self:?}");
        let left = last_id - first_id + 1 - u64::from(claimed.cut);
        assert!(left > 0, "an item that is claimed has a part left");
        self.lost += u64::from(claimed.cut);
        self.received += left;
        self.last_id = last_id;
    }

    /// Checks that all is reported, after `pushed` parts were pushed and `evicted` of them evicted.
    pub(super) fn end(&self, pushed: u64, evicted: u64) {
        assert_eq!(self.last_id, pushed, "the last part is never lost");
        assert_eq!((self.received + self.lost, self.lost), (pushed, evicted));
    }
}
