//! What the tests and the models of several rings need: items that count their drops.

use std::sync::Arc;

use crate::sync::Ordering;
use crate::sync::unmodelled::AtomicU64;

/// Items that a stress test pushes.
#[cfg(not(loom))]
pub(super) const STRESS_ITEMS: u64 = if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};

/// Counts what is dropped, outside of a model.
#[derive(Clone, Default)]
pub(super) struct Drops(Arc<AtomicU64>);

impl Drops {
    pub(super) fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[cfg(loom)]
    pub(super) fn item(&self, value: u64) -> Item {
        Item(value, self.clone())
    }
}

/// An item of a model.
#[cfg(loom)]
pub(super) struct Item(pub(super) u64, Drops);

#[cfg(loom)]
impl Drop for Item {
    fn drop(&mut self) {
        self.1.one();
    }
}

/// Counts its drops, and panics in the one it is told to.
#[cfg(not(loom))]
pub(super) struct Bomb<'a> {
    pub(super) drops: &'a crate::sync::AtomicUsize,
    pub(super) armed: bool,
}

#[cfg(not(loom))]
impl Drop for Bomb<'_> {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
        assert!(!self.armed, "as told");
    }
}
