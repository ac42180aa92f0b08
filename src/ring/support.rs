//! What the tests and the models of several rings share: items that count their drops.

use std::sync::Arc;

use crate::sync::Ordering;
use crate::sync::unmodelled::AtomicU64;

/// Items that a stress test pushes. Few under Miri, which is a thousand times slower.
#[cfg(not(loom))]
pub(super) const STRESS_ITEMS: u64 = if cfg!(miri) {
    200
} else if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};

/// Counts drops. A model does not see the counter.
#[derive(Clone, Default)]
pub(super) struct Drops(Arc<AtomicU64>);

impl Drops {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[cfg(loom)]
    pub(super) fn item(&self, value: u64) -> Item {
        Item {
            value,
            drops: self.clone(),
        }
    }
}

/// An item of a model.
#[cfg(loom)]
pub(super) struct Item {
    pub(super) value: u64,
    drops: Drops,
}

#[cfg(loom)]
impl Drop for Item {
    fn drop(&mut self) {
        self.drops.add_one();
    }
}

/// Counts how often one item is dropped.
#[cfg(not(loom))]
#[derive(Default)]
pub(super) struct DropCounter {
    count: AtomicU64,
    /// Whether the drop of the item panics.
    panics: bool,
}

#[cfg(not(loom))]
impl DropCounter {
    /// Counters for `items` items, of which the drop of one panics.
    pub(super) fn one_panics(items: usize, panicking: usize) -> Vec<Self> {
        let counter = |index| Self {
            panics: index == panicking,
            ..Self::default()
        };
        (0..items).map(counter).collect()
    }

    /// How many of the items were dropped, each once.
    pub(super) fn dropped(counters: &[Self]) -> usize {
        let counts = counters.iter().map(|c| c.count.load(Ordering::Relaxed));
        counts
            .inspect(|count| assert!(*count <= 1, "an item was dropped {count} times"))
            .sum::<u64>() as usize
    }
}

/// An item that counts its drop. It owns no memory, so Miri does not object if it is leaked.
#[cfg(not(loom))]
pub(super) struct Counted<'a>(pub(super) &'a DropCounter);

#[cfg(not(loom))]
impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        assert!(!self.0.panics, "this item panics when it is dropped");
    }
}
