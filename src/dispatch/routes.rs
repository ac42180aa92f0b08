//! The routes of a shard: which of its subscriptions match a topic.
//!
//! * **In**: patterns with the slots of subscriptions, from the threads that open, change and end
//!   subscriptions; and topics, from the shard.
//! * **Out**: for each block, the masks of the events that each slot gets.
//!
//! Nothing here depends on the type of the payload, and nothing here is generic, although the index
//! is. A generic function is compiled again in every program that uses it with a type of its own,
//! and so is everything that it calls and that is generic; the code that drops a value is generic,
//! too. So the index and the cache are behind trait objects, whose functions are compiled once,
//! with this crate. Otherwise they would be a third of what a program compiles. It costs one
//! indirect call for each distinct topic of a block.

use std::cell::Cell;

use super::block::Group;
use crate::index::{Bulk, IndexBatch, MatchCache, PatternIndex, Scratch, SharedIndex};
use crate::pattern::{Pattern, Topic};

/// The patterns of a shard's subscriptions, for all threads. The values are the slots of their
/// rings.
pub(crate) struct Routes(Box<dyn Erased>);

/// Hides the type of the index, and so the code that drops it.
trait Erased: Send + Sync {
    fn index(&self) -> &SharedIndex<u32>;
}

impl Erased for SharedIndex<u32> {
    fn index(&self) -> &SharedIndex<u32> {
        self
    }
}

impl Routes {
    #[inline(never)]
    pub(crate) fn new() -> Self {
        Self(Box::new(SharedIndex::new()))
    }

    /// The version of the index that is published now: it rises with every change.
    #[inline(never)]
    pub(crate) fn version(&self) -> u64 {
        self.0.index().load().version()
    }

    /// Calls `f` with the slots of a topic. It takes no lock and uses no cache, so any thread may
    /// call it.
    #[inline(never)]
    pub(crate) fn with_matches(&self, topic: &Topic, f: &mut dyn FnMut(&[u32])) {
        thread_local!(static LISTS: Cell<Uncached> = Cell::default());
        // Taken out while they are in use. A thread that is ending has no thread-locals any more,
        // and makes new lists.
        let mut lists = LISTS.try_with(Cell::take).unwrap_or_default();
        f(lists.find(&self.0.index().load(), topic));
        let _ = LISTS.try_with(|place| place.set(lists));
    }

    /// Makes several changes that become visible together.
    pub(crate) fn batch<R>(&self, change: impl FnOnce(&mut RouteBatch<'_, '_>) -> R) -> R {
        let mut change = Some(change);
        let mut result = None;
        self.batch_dyn(&mut |batch| {
            let change = change.take().expect("called once");
            result = Some(change(batch));
        });
        result.expect("called once")
    }

    /// Makes very many changes, and delays other writers for an instant only: see
    /// [`SharedIndex::bulk`]. Only one thread at a time may change a slot.
    pub(crate) fn bulk<R>(&self, change: impl FnOnce(&mut RouteBulk<'_, '_>) -> R) -> R {
        let mut change = Some(change);
        let mut result = None;
        self.bulk_dyn(&mut |bulk| {
            let change = change.take().expect("called once");
            result = Some(change(bulk));
        });
        result.expect("called once")
    }

    #[inline(never)]
    fn bulk_dyn(&self, change: &mut dyn FnMut(&mut RouteBulk<'_, '_>)) {
        self.0.index().bulk(|bulk| change(&mut RouteBulk(bulk)));
    }

    #[inline(never)]
    fn batch_dyn(&self, change: &mut dyn FnMut(&mut RouteBatch<'_, '_>)) {
        self.0.index().batch(|batch| change(&mut RouteBatch(batch)));
    }
}

/// Changes of the routes that become visible together.
pub(crate) struct RouteBatch<'a, 'b>(&'a mut IndexBatch<'b, u32>);

impl RouteBatch<'_, '_> {
    /// `false`: the slot had the pattern.
    #[inline(never)]
    pub(crate) fn insert(&mut self, pattern: &Pattern, slot: u32) -> bool {
        self.0.insert(pattern, slot)
    }

    /// `false`: the slot did not have the pattern.
    #[inline(never)]
    pub(crate) fn remove(&mut self, pattern: &Pattern, slot: &u32) -> bool {
        self.0.remove(pattern, slot)
    }

    /// The version that the index will have.
    #[inline(never)]
    pub(crate) fn version(&mut self) -> u64 {
        self.0.version()
    }
}

/// Very many changes of the routes that become visible together.
pub(crate) struct RouteBulk<'a, 'b>(&'a mut Bulk<'b, u32>);

impl RouteBulk<'_, '_> {
    /// `false`: the slot had the pattern.
    #[inline(never)]
    pub(crate) fn insert(&mut self, pattern: &Pattern, slot: u32) -> bool {
        self.0.insert(pattern, slot)
    }

    /// `false`: the slot did not have the pattern.
    #[inline(never)]
    pub(crate) fn remove(&mut self, pattern: &Pattern, slot: &u32) -> bool {
        self.0.remove(pattern, slot)
    }

    /// Makes the changes that other writers have made meanwhile.
    #[inline(never)]
    pub(crate) fn catch_up(&mut self) {
        self.0.catch_up();
    }

    /// Makes the changes visible, after a call of `before` with the version that the index will
    /// have. Must be called once at most.
    #[inline(never)]
    pub(crate) fn publish(&mut self, before: &mut dyn FnMut(u64)) {
        self.0.publish(before);
    }
}

/// What one block matches. Kept by the shard from block to block, for its memory.
#[derive(Default)]
pub(crate) struct Matched {
    /// By slot: the events of the current block that match. All 0 between blocks.
    pub(crate) masks: Vec<u64>,
    /// The slots whose masks are not 0. Empty between blocks.
    pub(crate) slots: Vec<u32>,
}

/// Why [`Matcher::match_block`] has not matched a block.
#[derive(Debug)]
pub(crate) enum NotMatched {
    /// The index that is published now has this version, which is another one. The shard applies
    /// its changes up to it, and calls the function again.
    Version(u64),
    /// The block matches more slots than the caller allows.
    TooMany,
}

impl Matched {
    /// Forgets what the current block matches.
    pub(crate) fn clear(&mut self) {
        for slot in self.slots.drain(..) {
            self.masks[slot as usize] = 0;
        }
    }
}

/// Finds the slots of topics, with or without a cache in front of the index.
pub(crate) struct Matcher(Box<dyn Find>);

/// Hides the type of what is behind it, and so the code that drops it.
trait Find: Send {
    fn find(&mut self, index: &PatternIndex<u32>, topic: &Topic) -> &[u32];
}

impl Find for MatchCache<u32> {
    fn find(&mut self, index: &PatternIndex<u32>, topic: &Topic) -> &[u32] {
        self.lookup(index, topic)
    }
}

#[derive(Default)]
struct Uncached {
    scratch: Scratch<u32>,
    found: Vec<u32>,
}

impl Find for Uncached {
    fn find(&mut self, index: &PatternIndex<u32>, topic: &Topic) -> &[u32] {
        self.found.clear();
        index.matches_with(topic, &mut self.scratch, &mut self.found);
        &self.found
    }
}

impl Matcher {
    #[inline(never)]
    pub(crate) fn cached() -> Self {
        Self(Box::new(MatchCache::new()))
    }

    #[inline(never)]
    pub(crate) fn uncached() -> Self {
        Self(Box::new(Uncached::default()))
    }

    /// Loads the index, and finds the slots for the topics of a block. The work is per distinct
    /// topic and subscriber, not per event.
    ///
    /// After an error, nothing is in `matched`.
    #[inline(never)]
    pub(crate) fn match_block(
        &mut self,
        routes: &Routes,
        version: u64,
        groups: &[Group],
        matched: &mut Matched,
        slots_max: usize,
    ) -> Result<(), NotMatched> {
        debug_assert!(matched.slots.is_empty());
        // Checks the first 64 masks only, since there may be many subscribers.
        debug_assert!(matched.masks.iter().take(64).all(|&mask| mask == 0));
        // Dropped when this returns, and so before a subscriber can stall the shard: while the
        // snapshot lives, a thread that subscribes would have to copy what it changes.
        let index = routes.0.index().load();
        if index.version() != version {
            return Err(NotMatched::Version(index.version()));
        }
        for group in groups {
            for &slot in self.0.find(&index, group.topic()) {
                let mask = &mut matched.masks[slot as usize];
                if *mask == 0 {
                    if matched.slots.len() == slots_max {
                        matched.clear();
                        return Err(NotMatched::TooMany);
                    }
                    matched.slots.push(slot);
                }
                *mask |= group.mask;
            }
        }
        Ok(())
    }
}
