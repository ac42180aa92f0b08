//! What must hold of an [`evicting`](super) ring whatever its two sides do: for its tests and its models.

use super::{Amount, Claimed, Parts};

/// An item of so many parts. The ids of its parts follow each other, and those of the item pushed before.
pub(super) fn parts(first_id: u64, len: u32) -> Parts {
    Parts {
        mask: u64::MAX >> (64 - len),
        base: first_id,
    }
}

/// The ids of its first and its last part.
pub(super) fn ids(parts: Parts) -> (u64, u64) {
    let len = u64::from(parts.mask.count_ones());
    (parts.base, parts.base + len - 1)
}

pub(super) fn at_most(parts: u64) -> Amount {
    Amount {
        parts,
        bytes: u64::MAX,
    }
}

/// What the claims of a ring told: every part from id 1 on, once, as received or as lost, in its place.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Up to this id.
    last_id: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
}

impl Told {
    /// The run in front of the item, the parts cut off it and the parts left follow each other without a hole.
    pub(super) fn claim<P>(&mut self, claimed: &Claimed<P>) {
        if let Some(run) = claimed.lost {
            assert_eq!(run.from, self.last_id + 1, "{run:?} after {self:?}");
            assert_eq!(run.count, run.to - run.from + 1, "{run:?}");
            self.last_id = run.to;
            self.lost += run.count;
        }
        let (first_id, last_id) = ids(claimed.parts);
        assert_eq!(first_id, self.last_id + 1, "item {first_id} after {self:?}");
        let left = last_id - first_id + 1 - u64::from(claimed.cut);
        assert!(left > 0, "an item that is left has a part that is left");
        self.lost += u64::from(claimed.cut);
        self.received += left;
        self.last_id = last_id;
    }

    /// Nothing is left: so many parts were pushed, and so many evicted.
    pub(super) fn end(&self, pushed: u64, evicted: u64) {
        assert_eq!(self.last_id, pushed, "the last one is never lost");
        assert_eq!((self.received + self.lost, self.lost), (pushed, evicted));
    }
}
