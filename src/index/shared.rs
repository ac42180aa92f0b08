//! An index that one thread changes while others read it.
//!
//! There are two complete indexes, or sides. One is published, and readers load it without waiting.
//! A change is made in place in the other one, the standby, which is then published instead of the
//! first. The operations are kept, and applied to the new standby before its next change. So a
//! change copies nothing, and what readers hold does not change.
//!
//! The writer does not wait for a reader that still holds the standby when the next change comes.
//! Instead it makes a third side: as long as one reader holds one side, the other two take turns.
//! (With two sides, and a copy for each change that met a reader, a reader that read all the time
//! lost nine tenths of its speed to 10,000 changes per second. With three sides it lost little:
//! `cargo bench --bench million`, 2026-11-22.) If readers hold all sides for longer than an
//! instant, the writer abandons the side that is furthest behind. A new side begins as a clone of
//! the published index: it shares the memory with it, chunk by chunk, until it changes.
//!
//! A bulk change, such as the opening of a subscription with tens of thousands of patterns, would
//! keep other writers waiting for long. So it is prepared in a clone of the published index, while
//! others change the index. Then the operations of the others are applied to the clone, the last
//! of them under the lock, and it is published. The other sides are abandoned.
//!
//! The writer frees abandoned sides, at some later change, when no reader holds them any more. So a
//! reader never frees an index.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;

use super::pattern_index::PatternIndex;
use crate::pattern::Pattern;
use crate::sync::{Arc, Loaded, Mutex, Published, spin_loop};

/// How many sides that are not published there may be.
const STANDBYS_MAX: usize = 2;

/// How often a writer checks whether one of them is free before it abandons one. This takes a few
/// microseconds, as long as a reader needs for a walk or two.
const FREE_SPINS: usize = if cfg!(loom) { 0 } else { 64 };

/// How many operations of one batch are applied again to the standby. If there are more, and more
/// than a quarter of the index, the standby becomes a copy of the published index. Also how far a
/// third side may lag behind.
///
/// Small under Miri, which is slow.
const REPLAYED_MIN: usize = if cfg!(miri) { 16 } else { 1024 };

/// How often a [`Bulk`] change makes the changes of other writers before it takes the lock under
/// which it makes the last of them.
const CATCH_UPS_MAX: usize = 4;

/// So few changes of other writers are made under the lock.
const CATCH_UP_FEW: usize = 16;

/// How many operations of other writers are kept for a [`Bulk`] change. If there are more, because
/// its thread does not run, it begins again with a new copy.
const BULK_LAG_MAX: u64 = if cfg!(miri) {
    16
} else if cfg!(test) {
    64
} else {
    1 << 16
};

/// A [`PatternIndex`] for many threads: readers load snapshots and never wait, writers wait for
/// each other.
///
/// A change is visible to each [`load`](Self::load) that begins after the change returned. The
/// index needs twice the memory of a [`PatternIndex`], so that changes copy nothing.
///
/// ```
/// use fanout::{Pattern, Topic, index::SharedIndex};
///
/// let rights = SharedIndex::new();
/// rights.extend([(Pattern::parse("orders.**")?, "alice"), (Pattern::parse("**")?, "root")]);
///
/// let may_read = |user, topic: &Topic| {
///     let mut found = Vec::new();
///     rights.load().matches(topic, &mut found);
///     found.contains(&user)
/// };
/// let topic = Topic::new("orders.eu.created")?;
/// assert!(may_read("alice", &topic));
/// rights.remove(&Pattern::parse("orders.**")?, &"alice");
/// assert!(!may_read("alice", &topic));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedIndex<V> {
    published: Published<Side<V>>,
    writer: Mutex<Writer<V>>,
    /// Held by the thread that makes a [`bulk`](Self::bulk) change.
    bulk: Mutex<()>,
}

/// One of the complete indexes.
struct Side<V> {
    /// Rises by one with each publication; 0 for the initial index.
    version: u64,
    index: PatternIndex<V>,
}

struct Writer<V> {
    /// The sides that were published before, oldest first: [`STANDBYS_MAX`] at most. Empty if none
    /// was needed yet, or after a panic.
    standbys: VecDeque<Standby<V>>,
    /// The last operations: those that some standby lacks.
    log: VecDeque<Operation<V>>,
    /// How many operations were ever applied to the published side.
    applied: u64,
    /// While a bulk change is prepared: how many operations were applied to its copy. The log has
    /// the others. `None` also if there were more than [`BULK_LAG_MAX`].
    bulk: Option<u64>,
    /// Sides that were abandoned while readers held them.
    abandoned: Vec<Arc<Side<V>>>,
}

/// A side that is not published.
struct Standby<V> {
    side: Arc<Side<V>>,
    /// How many operations were applied to it.
    applied: u64,
}

#[derive(Clone)]
struct Operation<V> {
    inserts: bool,
    pattern: Pattern,
    value: V,
}

impl<V: Copy + Ord> SharedIndex<V> {
    /// An empty index.
    ///
    /// ```
    /// assert!(fanout::index::SharedIndex::<u32>::new().load().is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        SharedIndex::from(PatternIndex::new())
    }

    /// The index as it is now. The snapshot does not change. Never waits.
    ///
    /// A snapshot is meant to be held for a few look-ups. While one is held for longer, changes
    /// continue, but the memory that they change has to be copied, once for each snapshot. To keep
    /// an index, clone it out of the snapshot.
    ///
    /// ```
    /// use fanout::{Pattern, PatternIndex, index::SharedIndex};
    ///
    /// let index = SharedIndex::new();
    /// let before: PatternIndex<u32> = index.load().clone();
    /// index.insert(&Pattern::parse("a")?, 1);
    /// assert_eq!((before.len(), index.load().len()), (0, 1));
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    #[inline]
    pub fn load(&self) -> Snapshot<V> {
        Snapshot(self.published.load())
    }

    /// Adds a pair, as [`PatternIndex::insert`] does.
    ///
    /// ```
    /// use fanout::{Pattern, index::SharedIndex};
    ///
    /// let index = SharedIndex::new();
    /// assert!(index.insert(&Pattern::parse("a.*")?, 7));
    /// assert!(!index.insert(&Pattern::parse("a.*")?, 7));
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    pub fn insert(&self, pattern: &Pattern, value: V) -> bool {
        self.batch(|batch| batch.insert(pattern, value))
    }

    /// Removes a pair, as [`PatternIndex::remove`] does.
    ///
    /// ```
    /// use fanout::{Pattern, index::SharedIndex};
    ///
    /// let index = SharedIndex::new();
    /// index.insert(&Pattern::parse("a.*")?, 7);
    /// assert!(index.remove(&Pattern::parse("a.*")?, &7));
    /// assert!(index.load().is_empty());
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    pub fn remove(&self, pattern: &Pattern, value: &V) -> bool {
        self.batch(|batch| batch.remove(pattern, value))
    }

    /// Adds many pairs. Readers see none of them or all. The iterator runs inside the change, so it
    /// must not change the same index: that would wait for itself.
    ///
    /// ```
    /// use fanout::{Pattern, index::SharedIndex};
    ///
    /// let index = SharedIndex::new();
    /// index.extend([(Pattern::parse("a")?, 1), (Pattern::parse("b")?, 2)]);
    /// assert_eq!(index.load().len(), 2);
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    pub fn extend(&self, pairs: impl IntoIterator<Item = (Pattern, V)>) {
        self.batch(|batch| {
            for (pattern, value) in pairs {
                batch.insert(&pattern, value);
            }
        });
    }

    /// Makes several changes. Readers see none of them or all. If `changes` panics, nothing is
    /// changed.
    ///
    /// Other writers wait meanwhile. `changes` must not change this index in any other way: that
    /// would deadlock.
    ///
    /// ```
    /// use fanout::{Pattern, index::SharedIndex};
    ///
    /// let index = SharedIndex::new();
    /// index.insert(&Pattern::parse("jobs.old.*")?, 7);
    /// index.batch(|batch| {
    ///     batch.remove(&Pattern::parse("jobs.old.*")?, &7);
    ///     batch.insert(&Pattern::parse("jobs.new.*")?, 7);
    ///     Ok::<(), fanout::PatternError>(())
    /// })?;
    /// assert_eq!(index.load().len(), 1);
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    pub fn batch<R>(&self, changes: impl FnOnce(&mut IndexBatch<'_, V>) -> R) -> R {
        let writer = &mut *self.writer.lock();
        // The standby is no longer in the list: if `changes` panics, it is dropped, so a half-made
        // batch is never published.
        let mut standby = writer.take_standby(&self.published);
        let mut batch = IndexBatch {
            side: Arc::get_mut(&mut standby).expect("no one else holds the standby"),
            done: Vec::new(),
            is_long: false,
            may_be_long: writer.bulk.is_none(),
            must_publish: false,
        };
        let result = changes(&mut batch);
        let IndexBatch {
            done,
            is_long,
            must_publish,
            ..
        } = batch;
        let applied = writer.applied;
        if !must_publish {
            let side = standby;
            writer.standbys.push_back(Standby { side, applied });
            return result;
        }
        let side = self.published.swap(standby);
        writer.standbys.push_back(Standby { side, applied });
        debug_assert!(writer.standbys.len() <= STANDBYS_MAX);
        if is_long {
            writer.replace_standbys(&self.published);
        } else {
            writer.applied += done.len() as u64;
            writer.log.extend(done);
        }
        result
    }

    /// Makes very many changes that become visible together, and keeps other writers waiting for
    /// an instant only.
    ///
    /// `changes` makes them in a copy of the index, which shares the memory that it does not
    /// change. Other writers continue meanwhile; only another bulk change waits. Then `changes`
    /// calls [`Bulk::publish`]; if it does not, or if it panics, nothing is changed.
    ///
    /// Meanwhile no other writer may insert or remove a pair that `changes` inserts or removes, and
    /// `changes` must not make another bulk change of this index: that would deadlock.
    pub(crate) fn bulk<R>(&self, changes: impl FnOnce(&mut Bulk<'_, V>) -> R) -> R {
        let _alone = self.bulk.lock();
        let mut writer = self.writer.lock();
        let applied = writer.applied;
        writer.bulk = Some(applied);
        let index = self.published.load().index.clone_in_lineage();
        drop(writer);
        changes(&mut Bulk {
            shared: self,
            index,
            applied,
            done: Vec::new(),
            unused_sides: Vec::new(),
            unused_log: VecDeque::new(),
        })
    }
}

impl<V: Copy + Ord> Writer<V> {
    fn new() -> Self {
        Writer {
            standbys: VecDeque::new(),
            log: VecDeque::new(),
            applied: 0,
            bulk: None,
            abandoned: Vec::new(),
        }
    }

    /// The operations that were applied to the published side after the first `applied` ones.
    fn operations_since(&self, applied: u64) -> impl Iterator<Item = &Operation<V>> {
        debug_assert!(applied <= self.applied, "{applied} of {}", self.applied);
        let lacking = (self.applied - applied) as usize;
        debug_assert!(lacking <= self.log.len(), "the log has what a side lacks");
        self.log.range(self.log.len() - lacking..)
    }

    /// A side with the content of the published one and with the next version, which no one else
    /// holds.
    fn take_standby(&mut self, published: &Published<Side<V>>) -> Arc<Side<V>> {
        self.abandon_lagging();
        self.free_abandoned();
        let published = published.load();
        let mut side = match self.free_standby() {
            Some(Standby { mut side, applied }) => {
                let own = Arc::get_mut(&mut side).expect("it is free");
                for operation in self.operations_since(applied) {
                    operation.apply(&mut own.index);
                }
                side
            }
            None => Arc::new(published.clone_in_lineage()),
        };
        let is_late = |applied| self.applied - applied > BULK_LAG_MAX;
        self.bulk = self.bulk.filter(|&applied| !is_late(applied));
        let standbys = self.standbys.iter().map(|standby| standby.applied);
        let oldest = standbys.chain(self.bulk).min();
        // The published side will be the next standby, and lacks nothing that was applied so far.
        let needed = (self.applied - oldest.unwrap_or(self.applied)) as usize;
        self.log.drain(..self.log.len() - needed);
        Arc::get_mut(&mut side).expect("it is free or new").version = published.version + 1;
        side
    }

    /// A standby that no reader holds; if there are several, the one that lacks the fewest
    /// operations. `None` if a new one must be made.
    fn free_standby(&mut self) -> Option<Standby<V>> {
        for look in 0..=FREE_SPINS {
            let free = |standby: &mut Standby<V>| Arc::get_mut(&mut standby.side).is_some();
            if let Some(at) = (0..self.standbys.len())
                .rev()
                .find(|&at| free(&mut self.standbys[at]))
            {
                return self.standbys.remove(at);
            }
            if self.standbys.len() < STANDBYS_MAX {
                return None;
            }
            if look < FREE_SPINS {
                spin_loop();
            }
        }
        let oldest = self.standbys.pop_front();
        self.abandoned.extend(oldest.map(|standby| standby.side));
        None
    }

    /// Abandons a third side that has not been needed for long, so that the operations that it
    /// lacks need not be kept.
    fn abandon_lagging(&mut self) {
        while self.standbys.len() > 1
            && self.applied - self.standbys[0].applied > REPLAYED_MIN as u64
        {
            let lagging = self.standbys.pop_front();
            self.abandoned.extend(lagging.map(|standby| standby.side));
        }
    }

    /// Frees the abandoned sides that no reader holds any more.
    fn free_abandoned(&mut self) {
        self.abandoned
            .retain_mut(|side| Arc::get_mut(side).is_none());
    }

    /// Replaces all standbys by a copy of the published side, after more operations than are
    /// applied again.
    fn replace_standbys(&mut self, published: &Published<Side<V>>) {
        debug_assert!(self.bulk.is_none(), "a bulk change needs the log");
        self.abandoned
            .extend(self.standbys.drain(..).map(|standby| standby.side));
        self.free_abandoned();
        self.log = VecDeque::new();
        self.standbys.push_back(Standby {
            side: Arc::new(published.load().deep_clone()),
            applied: self.applied,
        });
    }
}

impl<V: Copy + Ord> Operation<V> {
    fn apply(&self, index: &mut PatternIndex<V>) {
        if self.inserts {
            index.insert(&self.pattern, self.value);
        } else {
            index.remove(&self.pattern, &self.value);
        }
    }
}

impl<V: Copy + Ord> Side<V> {
    /// A side with the same content, which shares all memory.
    fn clone_in_lineage(&self) -> Self {
        Side {
            version: self.version,
            index: self.index.clone_in_lineage(),
        }
    }

    /// A side with the same content, which shares no memory that a change would have to copy.
    fn deep_clone(&self) -> Self {
        let mut side = self.clone_in_lineage();
        side.index.unshare();
        side
    }
}

/// Several changes that become visible at once: see [`SharedIndex::batch`].
///
/// ```
/// use fanout::{Pattern, index::{IndexBatch, SharedIndex}};
///
/// fn rename(batch: &mut IndexBatch<'_, u32>, from: &Pattern, to: &Pattern) -> bool {
///     batch.remove(from, &1) && batch.insert(to, 1)
/// }
/// let index = SharedIndex::new();
/// let (a, b) = (Pattern::parse("a")?, Pattern::parse("b")?);
/// index.insert(&a, 1);
/// assert!(index.batch(|batch| rename(batch, &a, &b)));
/// # Ok::<(), fanout::PatternError>(())
/// ```
pub struct IndexBatch<'a, V> {
    side: &'a mut Side<V>,
    /// The operations in their order; empty if the batch is long.
    done: Vec<Operation<V>>,
    is_long: bool,
    /// Whether the batch may become long. While a bulk change is prepared, it needs all operations.
    may_be_long: bool,
    /// Whether the side must be published, because it changed or because its version was requested.
    must_publish: bool,
}

impl<V: Copy + Ord> IndexBatch<'_, V> {
    /// Adds a pair, as [`PatternIndex::insert`] does.
    ///
    /// ```
    /// use fanout::{Pattern, index::SharedIndex};
    ///
    /// let index = SharedIndex::new();
    /// let pattern = Pattern::parse("a")?;
    /// assert!(index.batch(|batch| batch.insert(&pattern, 1) && !batch.insert(&pattern, 1)));
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    pub fn insert(&mut self, pattern: &Pattern, value: V) -> bool {
        let is_new = self.side.index.insert(pattern, value);
        if is_new {
            self.record(true, pattern, value);
        }
        is_new
    }

    /// Removes a pair, as [`PatternIndex::remove`] does.
    ///
    /// ```
    /// use fanout::{Pattern, index::SharedIndex};
    ///
    /// let index = SharedIndex::new();
    /// let pattern = Pattern::parse("a")?;
    /// assert!(index.batch(|batch| batch.insert(&pattern, 1) && batch.remove(&pattern, &1)));
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    pub fn remove(&mut self, pattern: &Pattern, value: &V) -> bool {
        let was_there = self.side.index.remove(pattern, value);
        if was_there {
            self.record(false, pattern, *value);
        }
        was_there
    }

    /// The version with which the changes become visible. The side is then published even if
    /// nothing changed.
    pub(crate) fn version(&mut self) -> u64 {
        self.must_publish = true;
        self.side.version
    }

    fn record(&mut self, inserts: bool, pattern: &Pattern, value: V) {
        self.must_publish = true;
        if self.is_long {
            return;
        }
        self.done.push(Operation {
            inserts,
            pattern: pattern.clone(),
            value,
        });
        if self.may_be_long && self.done.len() > REPLAYED_MIN.max(self.side.index.len() / 4) {
            self.done = Vec::new();
            self.is_long = true;
        }
    }
}

impl<V> fmt::Debug for IndexBatch<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexBatch")
            .field("index", &self.side.index)
            .finish_non_exhaustive()
    }
}

/// Very many changes that become visible at once: see [`SharedIndex::bulk`].
pub(crate) struct Bulk<'a, V: Copy + Ord> {
    shared: &'a SharedIndex<V>,
    /// The copy in which the changes are made.
    index: PatternIndex<V>,
    /// How many operations of other writers were applied to the published side when the copy
    /// had the last of them.
    applied: u64,
    /// The changes, in their order.
    done: Vec<Operation<V>>,
    /// What is freed when the change has ended, and no lock is held.
    unused_sides: Vec<Arc<Side<V>>>,
    unused_log: VecDeque<Operation<V>>,
}

impl<V: Copy + Ord> Bulk<'_, V> {
    /// Adds a pair, as [`PatternIndex::insert`] does.
    pub(crate) fn insert(&mut self, pattern: &Pattern, value: V) -> bool {
        let is_new = self.index.insert(pattern, value);
        if is_new {
            self.record(true, pattern, value);
        }
        is_new
    }

    /// Removes a pair, as [`PatternIndex::remove`] does.
    pub(crate) fn remove(&mut self, pattern: &Pattern, value: &V) -> bool {
        let was_there = self.index.remove(pattern, value);
        if was_there {
            self.record(false, pattern, *value);
        }
        was_there
    }

    fn record(&mut self, inserts: bool, pattern: &Pattern, value: V) {
        self.done.push(Operation {
            inserts,
            pattern: pattern.clone(),
            value,
        });
    }

    /// Makes the changes that other writers have made meanwhile, so that few are left for
    /// [`publish`](Self::publish).
    pub(crate) fn catch_up(&mut self) {
        for _ in 0..CATCH_UPS_MAX {
            let mut writer = self.shared.writer.lock();
            let operations: Vec<_> = if writer.bulk.is_some() {
                writer.operations_since(self.applied).cloned().collect()
            } else {
                self.copy();
                self.done.clone()
            };
            self.applied = writer.applied;
            writer.bulk = Some(self.applied);
            drop(writer);
            for operation in &operations {
                operation.apply(&mut self.index);
            }
            if operations.len() <= CATCH_UP_FEW {
                break;
            }
        }
    }

    /// Makes the changes visible. Calls `before` with the version that the index will have,
    /// immediately before that. Must be called once at most.
    pub(crate) fn publish(&mut self, before: impl FnOnce(u64)) {
        let mut writer = self.shared.writer.lock();
        if writer.bulk.is_some() {
            for operation in writer.operations_since(self.applied) {
                operation.apply(&mut self.index);
            }
        } else {
            self.copy();
            for operation in &self.done {
                operation.apply(&mut self.index);
            }
        }
        let mut index = std::mem::take(&mut self.index);
        // In the old lineage, the same number stands for a state without these changes.
        index.begin_lineage();
        let version = self.shared.published.load().version + 1;
        before(version);
        let side = Arc::new(Side { version, index });
        let side = self.shared.published.swap(side);
        // Nothing is applied to the other sides: the next change makes one that shares its memory
        // with the published side.
        let standbys = std::mem::take(&mut writer.standbys).into_iter();
        let unused = standbys.map(|standby| standby.side).chain([side]);
        writer.abandoned.extend(unused);
        let is_free = |side: &mut Arc<Side<V>>| Arc::get_mut(side).is_some();
        self.unused_sides
            .extend(writer.abandoned.extract_if(.., is_free));
        self.unused_log = std::mem::take(&mut writer.log);
        writer.bulk = None;
    }
}

impl<V: Copy + Ord> Bulk<'_, V> {
    /// Begins again with a new copy, because the log lacks operations.
    fn copy(&mut self) {
        self.index = self.shared.published.load().index.clone_in_lineage();
    }
}

impl<V: Copy + Ord> Drop for Bulk<'_, V> {
    fn drop(&mut self) {
        self.shared.writer.lock().bulk = None;
    }
}

/// A [`PatternIndex`] as it was when it was [loaded](SharedIndex::load).
///
/// ```
/// use fanout::{Pattern, Topic, index::SharedIndex};
///
/// let index = SharedIndex::new();
/// let pattern = Pattern::parse("a.*")?;
/// index.insert(&pattern, 1);
/// let snapshot = index.load();
/// index.remove(&pattern, &1);
///
/// let mut found = Vec::new();
/// snapshot.matches(&Topic::new("a.b")?, &mut found);
/// assert_eq!(found, [1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Snapshot<V>(Loaded<Side<V>>);

impl<V> Snapshot<V> {
    /// Rises by one with each publication; 0 for the initial index.
    pub(crate) fn version(&self) -> u64 {
        self.0.version
    }
}

impl<V> Deref for Snapshot<V> {
    type Target = PatternIndex<V>;

    #[inline]
    fn deref(&self) -> &PatternIndex<V> {
        &self.0.index
    }
}

impl<V> fmt::Debug for Snapshot<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snapshot").field(&self.0.index).finish()
    }
}

/// Shares all memory with the index.
///
/// ```
/// use fanout::{Pattern, PatternIndex, index::SharedIndex};
///
/// let index: PatternIndex<u32> = PatternIndex::from_iter([(Pattern::parse("a")?, 1)]);
/// assert_eq!(SharedIndex::from(index).load().len(), 1);
/// # Ok::<(), fanout::PatternError>(())
/// ```
impl<V: Copy + Ord> From<PatternIndex<V>> for SharedIndex<V> {
    fn from(mut index: PatternIndex<V>) -> Self {
        index.begin_lineage();
        SharedIndex {
            published: Published::new(Arc::new(Side { version: 0, index })),
            writer: Mutex::new(Writer::new()),
            bulk: Mutex::new(()),
        }
    }
}

impl<V: Copy + Ord> Default for SharedIndex<V> {
    fn default() -> Self {
        SharedIndex::new()
    }
}

impl<V> fmt::Debug for SharedIndex<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = self.published.load();
        f.debug_struct("SharedIndex")
            .field("index", &side.index)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::index::MatchCache;
    use crate::pattern::Topic;
    use crate::sync::{AtomicBool, Ordering, thread};

    /// How many changes and batches some tests make: Miri is thousands of times slower.
    const CHANGES: u32 = if cfg!(miri) { 10 } else { 2_000 };
    const BATCHES: u32 = if cfg!(miri) { 10 } else { 20_000 };

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn found(index: &PatternIndex<u32>, on: &str) -> Vec<u32> {
        let mut values = Vec::new();
        index.matches(&Topic::new(on).unwrap(), &mut values);
        values
    }

    #[test]
    fn a_snapshot_does_not_change_and_does_not_delay_writers() {
        let index = SharedIndex::new();
        let mut snapshots = Vec::new();
        for n in 0..CHANGES {
            assert!(index.insert(&pattern(&format!("a.{n}")), n));
            if n % (CHANGES / 10) == 0 {
                snapshots.push((n, index.load()));
            }
        }
        for (n, snapshot) in &snapshots {
            assert_eq!(snapshot.len() as u32, n + 1);
            assert_eq!(found(snapshot, &format!("a.{n}")), [*n]);
            assert!(found(snapshot, &format!("a.{}", n + 1)).is_empty());
        }
        assert_eq!(index.load().len() as u32, CHANGES);
    }

    #[test]
    fn one_reader_costs_a_third_side_until_that_lags_behind() {
        let index = SharedIndex::new();
        let sides = || {
            let writer = index.writer.lock();
            (
                writer.standbys.len(),
                writer.abandoned.len(),
                writer.log.len(),
            )
        };
        let change = |n: u32| assert!(index.insert(&pattern("a"), n));
        (0..10).for_each(change);
        assert_eq!(sides(), (1, 0, 1), "no thread reads, and two are enough");
        let held = index.load();
        (10..20).for_each(change);
        assert_eq!(
            sides(),
            (2, 0, 10),
            "what the one that is held lacks is kept"
        );
        // The last operation that the side may lack, then one more.
        let late = 10 + REPLAYED_MIN as u32 + 1;
        (20..late).for_each(change);
        assert_eq!(sides(), (2, 0, REPLAYED_MIN + 1));
        change(late);
        assert_eq!(sides(), (1, 1, 1), "it is abandoned to its reader");
        assert_eq!(held.len(), 10);
        drop(held);
        change(late + 1);
        assert_eq!(sides(), (1, 0, 1), "and freed");
    }

    #[test]
    fn a_writer_does_not_wait_for_readers_of_all_sides() {
        let index = SharedIndex::new();
        let mut held = Vec::new();
        for n in 0..10 {
            assert!(index.insert(&pattern("a"), n));
            held.push(index.load());
        }
        assert_eq!(index.writer.lock().abandoned.len(), 10 - 1 - STANDBYS_MAX);
        for (n, snapshot) in (0..).zip(&held) {
            assert_eq!(found(snapshot, "a"), (0..=n).collect::<Vec<_>>());
        }
        held.clear();
        assert!(index.insert(&pattern("a"), 10));
        assert!(index.writer.lock().abandoned.is_empty());
        assert_eq!(found(&index.load(), "a"), (0..=10).collect::<Vec<_>>());
    }

    #[test]
    fn a_batch_that_panics_changes_nothing() {
        let index = SharedIndex::new();
        index.insert(&pattern("a"), 1);
        for _ in 0..3 {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                index.batch(|batch| {
                    batch.insert(&pattern("a"), 2);
                    batch.remove(&pattern("a"), &1);
                    panic!("on purpose");
                })
            }));
            assert!(panicked.is_err());
            assert_eq!(found(&index.load(), "a"), [1]);
        }
        assert!(index.insert(&pattern("a"), 2) && index.remove(&pattern("a"), &1));
        assert_eq!(found(&index.load(), "a"), [2]);
    }

    #[test]
    fn the_version_rises_with_publications_only() {
        let index = SharedIndex::new();
        assert!(index.insert(&pattern("a"), 1));
        assert!(!index.insert(&pattern("a"), 1));
        assert!(!index.remove(&pattern("b"), &1));
        assert_eq!(index.load().version(), 1);
        assert_eq!(index.batch(|batch| batch.version()), 2);
        assert_eq!(index.load().version(), 2);
        assert!(index.remove(&pattern("a"), &1));
        assert_eq!(index.load().version(), 3);
    }

    /// One operation below the limit, at the limit, and one more.
    #[test]
    fn long_batches_reach_both_sides() {
        for count in [REPLAYED_MIN - 1, REPLAYED_MIN, REPLAYED_MIN + 1] {
            let count = count as u32;
            let index = SharedIndex::new();
            index.insert(&pattern("first"), 0);
            index.extend((0..count).map(|n| (pattern(&format!("a.{n}")), n)));
            let is_copied = index.writer.lock().log.is_empty();
            assert_eq!(is_copied, count as usize > REPLAYED_MIN);
            for last in [1, 2] {
                index.insert(&pattern("last"), last);
                let snapshot = index.load();
                assert_eq!(snapshot.len() as u32, count + 1 + last);
                assert!((0..count).all(|n| found(&snapshot, &format!("a.{n}")) == [n]));
            }
        }
    }

    /// Other writers change the index while a bulk change is prepared, and after it was published.
    #[test]
    fn a_bulk_change_and_the_changes_of_others_reach_all_sides() {
        for (count, others) in [(1, 0), (3, 2), (CHANGES / 10, CATCH_UP_FEW as u32 + 2)] {
            let index = SharedIndex::new();
            let (bulk, other) = (
                |n: u32| pattern(&format!("bulk.{n}")),
                |n: u32| pattern(&format!("other.{n}")),
            );
            (0..others).for_each(|n| assert!(index.insert(&other(n), n)));
            let before = index.load();
            let change = |inserts: bool| {
                index.bulk(|changes| {
                    for n in 0..count {
                        let changed = if inserts {
                            changes.insert(&bulk(n), n)
                        } else {
                            changes.remove(&bulk(n), &n)
                        };
                        assert!(changed);
                        // Would deadlock if the lock of the writers were held.
                        if n < others {
                            assert!(index.remove(&other(n), &n) && index.insert(&other(n), n + 1));
                        }
                    }
                    changes.catch_up();
                    if others > 0 {
                        assert!(index.insert(&other(others), 0));
                    }
                    let next = index.load().version() + 1;
                    assert_eq!(found(&index.load(), "bulk.0").is_empty(), inserts);
                    changes.publish(|version| assert_eq!(version, next));
                    assert_eq!(index.load().version(), next);
                });
            };
            let check = |bulk_count: u32| {
                // On both sides, and on a third.
                let mut held = Vec::new();
                for n in 0..4 {
                    assert!(index.insert(&pattern("last"), n));
                    let snapshot = index.load();
                    assert_eq!(found(&snapshot, "last"), (0..=n).collect::<Vec<_>>());
                    for n in 0..count {
                        let expected = (0..bulk_count).contains(&n).then_some(n);
                        assert_eq!(
                            found(&snapshot, &format!("bulk.{n}")),
                            Vec::from_iter(expected)
                        );
                    }
                    held.push(snapshot);
                }
                (0..4).for_each(|n| assert!(index.remove(&pattern("last"), &n)));
            };
            change(true);
            check(count);
            assert_eq!(
                index.load().len() as u32,
                count + others + u32::from(others > 0)
            );
            assert_eq!(before.len() as u32, others);
            for n in 0..others.min(count) {
                assert!(index.remove(&other(n), &(n + 1)) && index.insert(&other(n), n));
            }
            if others > 0 {
                assert!(index.remove(&other(others), &0));
            }
            change(false);
            check(0);
            assert_eq!(index.writer.lock().bulk, None);
        }
    }

    #[test]
    fn a_bulk_change_that_is_not_published_or_panics_changes_nothing() {
        let index = SharedIndex::new();
        index.insert(&pattern("a"), 1);
        index.bulk(|changes| assert!(changes.remove(&pattern("a"), &1)));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            index.bulk(|changes| {
                assert!(changes.remove(&pattern("a"), &1));
                panic!("on purpose");
            })
        }));
        assert!(panicked.is_err());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            index.bulk(|changes| {
                assert!(changes.remove(&pattern("a"), &1));
                changes.publish(|_| panic!("on purpose"));
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(index.load().version(), 1);
        for n in 2..5 {
            assert!(index.insert(&pattern("a"), n));
            assert_eq!(found(&index.load(), "a"), (1..=n).collect::<Vec<_>>());
        }
        assert_eq!(
            index.writer.lock().log.len(),
            1,
            "no operation is kept for it"
        );
    }

    /// A cache that has an answer from before a bulk change, or from the time of its preparation,
    /// computes it again.
    #[test]
    fn a_cache_notices_a_bulk_change() {
        let index = SharedIndex::new();
        let mut cache = MatchCache::with_sets(1);
        let topic = Topic::new("a").unwrap();
        index.insert(&pattern("a"), 1);
        index.insert(&pattern("b"), 1);
        assert_eq!(cache.lookup(&index.load(), &topic), [1]);
        index.bulk(|changes| {
            assert!(changes.insert(&pattern("a"), 2));
            assert!(index.insert(&pattern("c"), 3));
            assert!(index.insert(&pattern("d"), 3));
            assert_eq!(cache.lookup(&index.load(), &topic), [1]);
            changes.publish(|_| ());
        });
        assert_eq!(cache.lookup(&index.load(), &topic), [1, 2]);
        assert!(index.insert(&pattern("e"), 3));
        assert_eq!(cache.lookup(&index.load(), &topic), [1, 2]);
    }

    /// The operations that are kept for a bulk change are bounded, and it is complete nevertheless.
    #[test]
    fn a_bulk_change_that_lags_far_behind_begins_again() {
        for catches_up in [true, false] {
            let index = SharedIndex::new();
            index.insert(&pattern("a"), 0);
            index.bulk(|changes| {
                assert!(changes.insert(&pattern("a"), 1));
                assert!(changes.remove(&pattern("a"), &0));
                for n in 2..3 * BULK_LAG_MAX as u32 {
                    assert!(index.insert(&pattern("a"), n));
                    let kept = index.writer.lock().log.len() as u64;
                    assert!(kept <= BULK_LAG_MAX + 1, "{kept}");
                }
                assert_eq!(index.writer.lock().bulk, None);
                if catches_up {
                    changes.catch_up();
                    assert!(index.writer.lock().bulk.is_some());
                }
                changes.publish(|_| ());
            });
            let all: Vec<_> = (1..3 * BULK_LAG_MAX as u32).collect();
            assert_eq!(found(&index.load(), "a"), all);
        }
    }

    /// A long batch of another writer, while a bulk change is prepared, is applied to it.
    #[test]
    fn a_long_batch_during_a_bulk_change_is_not_lost() {
        let index = SharedIndex::new();
        index.insert(&pattern("a"), 0);
        index.bulk(|changes| {
            assert!(changes.insert(&pattern("a"), 1));
            index.extend((2..3 + REPLAYED_MIN as u32).map(|n| (pattern("a"), n)));
            changes.publish(|_| ());
        });
        let all: Vec<_> = (0..3 + REPLAYED_MIN as u32).collect();
        assert_eq!(found(&index.load(), "a"), all);
    }

    #[test]
    fn a_clone_of_a_snapshot_changes_independently() {
        let index = SharedIndex::new();
        let mut cache = MatchCache::with_sets(1);
        let topic = Topic::new("a").unwrap();
        index.insert(&pattern("a"), 1);
        let mut clone = index.load().clone();
        // The memory that they shared belongs to the clone alone before the clone changes.
        index.insert(&pattern("b"), 2);
        index.insert(&pattern("a"), 3);
        clone.insert(&pattern("c"), 2);
        clone.insert(&pattern("a"), 4);
        assert_eq!(cache.lookup(&index.load(), &topic), [1, 3]);
        assert_eq!(cache.lookup(&clone, &topic), [1, 4]);
        assert_eq!(cache.lookup(&index.load(), &topic), [1, 3]);
    }

    /// Readers see whole batches only, at any moment, with and without a cache.
    #[test]
    fn readers_see_whole_batches() {
        let index = SharedIndex::new();
        let (one, all) = (pattern("a.*"), pattern("**"));
        index.insert(&one, 0);
        let done = AtomicBool::new(false);
        let read = || {
            let topic = Topic::new("a.b").unwrap();
            let mut cache = MatchCache::with_sets(1);
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let snapshot = index.load();
                let values = found(&snapshot, "a.b");
                assert_eq!(values.len(), 1, "{values:?}");
                assert_eq!(cache.lookup(&snapshot, &topic), values);
                assert!(values[0] >= last, "{} after {last}", values[0]);
                last = values[0];
            }
        };
        thread::scope(|scope| {
            scope.spawn(read);
            scope.spawn(read);
            for n in 0..BATCHES {
                let (before, after) = if n % 2 == 0 {
                    (&one, &all)
                } else {
                    (&all, &one)
                };
                index.batch(|batch| {
                    assert!(batch.remove(before, &n));
                    assert!(batch.insert(after, n + 1));
                });
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
