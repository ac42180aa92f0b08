//! An index that one thread changes while others read it.
//!
//! There are two complete indexes, or sides. One is published, and readers load it without waiting.
//! A change is made in place in the other, the standby, which then changes places with the first;
//! the operations are kept, and made in the new standby before its next change. So nothing is
//! copied for a change, and what readers hold does not change.
//!
//! A reader that still holds the standby when the next change comes is not waited for. There is a
//! third side then, from that time on: as long as one reader holds one side, the other two change
//! places. (With two sides and a copy for each change that met a reader, one who read all the time
//! lost nine tenths of its speed to 10,000 changes per second; with three, little: `cargo bench
//! --bench million`, 2026-11-22.) If readers hold all sides for longer than an instant, the one
//! that is furthest behind is left to them. Whatever begins anew begins as a copy of the published
//! index that shares its memory with it, chunk by chunk, until it changes.
//!
//! What is left to readers is freed by the writer, at some later change: no reader ever pays for
//! that.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;

use super::PatternIndex;
use crate::pattern::Pattern;
use crate::sync::{Arc, Loaded, Mutex, Published, spin_loop};

/// Sides that are not published, at most.
const STANDBYS_MAX: usize = 2;

/// How often a writer looks whether one of them has become free, before it gives one up: a few
/// microseconds, which is what readers take for a walk or two.
const PATIENCE_LOOKS: usize = if cfg!(loom) { 0 } else { 64 };

/// Operations of one batch that are made again in the standby; with more, and with more than a
/// quarter of the index, the standby becomes a copy of what was published. Also how far a third
/// side may fall behind.
const REPLAYED_MIN: usize = 1024;

/// A [`PatternIndex`] for many threads: readers load snapshots and never wait, writers take turns.
///
/// A change is visible to every [`load`](Self::load) that begins after it returned. It takes twice
/// the memory of a [`PatternIndex`]; that is the price for changes that copy nothing.
///
/// ```
/// use fanout::{Pattern, Topic, index::SharedIndex};
///
/// let rights = SharedIndex::new();
/// rights.extend([(Pattern::parse("orders.**")?, "alice"), (Pattern::parse("**")?, "root")]);
///
/// let may_read = |who, topic: &Topic| {
///     let mut found = Vec::new();
///     rights.load().matches(topic, &mut found);
///     found.contains(&who)
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
}

/// One of the two indexes.
struct Side<V> {
    /// Rises by one with every publication.
    version: u64,
    index: PatternIndex<V>,
}

struct Writer<V> {
    /// What was published before, oldest first: [`STANDBYS_MAX`] at most; none if they were never
    /// needed, or lost by a panic.
    standbys: VecDeque<Standby<V>>,
    /// The last operations, those that some standby lacks.
    log: VecDeque<Operation<V>>,
    /// Operations ever made.
    made: u64,
    /// Sides that were left to readers, until these are done with them.
    left: Vec<Arc<Side<V>>>,
}

/// A side that is not published.
struct Standby<V> {
    side: Arc<Side<V>>,
    /// The first so many operations are made in it.
    made: u64,
}

#[derive(Clone)]
struct Operation<V> {
    inserts: bool,
    pattern: Pattern,
    value: V,
}

impl<V: Copy + Ord> SharedIndex<V> {
    /// An index with nothing in it.
    ///
    /// ```
    /// assert!(fanout::index::SharedIndex::<u32>::new().load().is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        SharedIndex::from(PatternIndex::new())
    }

    /// The index as it is now, and as it stays for whoever holds it. Never waits.
    ///
    /// Meant to be held for a look-up or a few: while one is held for longer, changes go on, but
    /// the memory that they change has to be copied, once for each snapshot. To keep an index,
    /// clone it out of the snapshot.
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

    /// Adds many pairs; readers see none of them or all.
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

    /// Makes several changes; readers see none of them or all. If `changes` panics, nothing is
    /// changed.
    ///
    /// Other writers wait meanwhile; `changes` must not change this index in any other way, which
    /// would wait for ever.
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
    pub fn batch<R>(&self, changes: impl FnOnce(&mut Batch<'_, V>) -> R) -> R {
        let writer = &mut *self.writer.lock();
        // Out of the writer's hands: if something panics, it is gone, and nobody ever sees half a
        // batch.
        let mut standby = writer.take_standby(&self.published);
        let mut batch = Batch {
            side: Arc::get_mut(&mut standby).expect("nobody else has the standby"),
            done: Vec::new(),
            is_long: false,
            is_wanted: false,
        };
        let result = changes(&mut batch);
        let Batch {
            done,
            is_long,
            is_wanted,
            ..
        } = batch;
        let made = writer.made;
        if !is_wanted {
            let side = standby;
            writer.standbys.push_back(Standby { side, made });
            return result;
        }
        let side = self.published.swap(standby);
        writer.standbys.push_back(Standby { side, made });
        if is_long {
            writer.begin_anew(&self.published);
        } else {
            writer.made += done.len() as u64;
            writer.log.extend(done);
        }
        result
    }
}

impl<V: Copy + Ord> Writer<V> {
    fn new() -> Self {
        Writer {
            standbys: VecDeque::new(),
            log: VecDeque::new(),
            made: 0,
            left: Vec::new(),
        }
    }

    /// An index that holds what the published one does, and that nobody else has; with the version
    /// that comes next.
    fn take_standby(&mut self, published: &Published<Side<V>>) -> Arc<Side<V>> {
        self.give_up_the_late();
        self.free_the_left();
        let published = published.load();
        let mut side = match self.free_standby() {
            Some(Standby { mut side, made }) => {
                let own = Arc::get_mut(&mut side).expect("it is free");
                let lacking = (self.made - made) as usize;
                for operation in self.log.range(self.log.len() - lacking..) {
                    operation.make(&mut own.index);
                }
                side
            }
            None => Arc::new(published.twin()),
        };
        let oldest = self.standbys.iter().map(|standby| standby.made).min();
        // What is published now will be a standby next, and lacks nothing that was made so far.
        let wanted = (self.made - oldest.unwrap_or(self.made)) as usize;
        self.log.drain(..self.log.len() - wanted);
        Arc::get_mut(&mut side).expect("it is free or new").version = published.version + 1;
        side
    }

    /// A standby that no reader holds, the one that lacks least if there are several. `None`: one
    /// is to be made.
    fn free_standby(&mut self) -> Option<Standby<V>> {
        for look in 0..=PATIENCE_LOOKS {
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
            if look < PATIENCE_LOOKS {
                spin_loop();
            }
        }
        let oldest = self.standbys.pop_front();
        self.left.extend(oldest.map(|standby| standby.side));
        None
    }

    /// Gives up a third side that has not been needed for long: the operations that it lacks need
    /// not be kept then.
    fn give_up_the_late(&mut self) {
        while self.standbys.len() > 1 && self.made - self.standbys[0].made > REPLAYED_MIN as u64 {
            let late = self.standbys.pop_front();
            self.left.extend(late.map(|standby| standby.side));
        }
    }

    /// Frees what was left to readers who are done with it.
    fn free_the_left(&mut self) {
        self.left.retain_mut(|side| Arc::get_mut(side).is_none());
    }

    /// After so much that it is not made again: all but what is published is given up, and a copy
    /// is made at once.
    fn begin_anew(&mut self, published: &Published<Side<V>>) {
        self.left
            .extend(self.standbys.drain(..).map(|standby| standby.side));
        self.free_the_left();
        self.log = VecDeque::new();
        self.standbys.push_back(Standby {
            side: Arc::new(published.load().copy()),
            made: self.made,
        });
    }
}

impl<V: Copy + Ord> Operation<V> {
    fn make(&self, index: &mut PatternIndex<V>) {
        if self.inserts {
            index.insert(&self.pattern, self.value);
        } else {
            index.remove(&self.pattern, &self.value);
        }
    }
}

impl<V: Copy + Ord> Side<V> {
    /// The same, sharing all memory.
    fn twin(&self) -> Self {
        Side {
            version: self.version,
            index: self.index.twin(),
        }
    }

    /// The same, sharing no memory that a change would have to copy.
    fn copy(&self) -> Self {
        let mut side = self.twin();
        side.index.unshare();
        side
    }
}

/// Several changes that become visible at once: see [`SharedIndex::batch`].
///
/// ```
/// use fanout::{Pattern, index::{Batch, SharedIndex}};
///
/// fn rename(batch: &mut Batch<'_, u32>, from: &Pattern, to: &Pattern) -> bool {
///     batch.remove(from, &1) && batch.insert(to, 1)
/// }
/// let index = SharedIndex::new();
/// let (a, b) = (Pattern::parse("a")?, Pattern::parse("b")?);
/// index.insert(&a, 1);
/// assert!(index.batch(|batch| rename(batch, &a, &b)));
/// # Ok::<(), fanout::PatternError>(())
/// ```
pub struct Batch<'a, V> {
    side: &'a mut Side<V>,
    /// What was done, in order; nothing if it is long.
    done: Vec<Operation<V>>,
    is_long: bool,
    /// Whether there is something to publish.
    is_wanted: bool,
}

impl<V: Copy + Ord> Batch<'_, V> {
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
            self.note(true, pattern, value);
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
            self.note(false, pattern, *value);
        }
        was_there
    }

    /// The version with which the changes become visible; it does so even if there are none.
    pub(crate) fn version(&mut self) -> u64 {
        self.is_wanted = true;
        self.side.version
    }

    fn note(&mut self, inserts: bool, pattern: &Pattern, value: V) {
        self.is_wanted = true;
        if self.is_long {
            return;
        }
        self.done.push(Operation {
            inserts,
            pattern: pattern.clone(),
            value,
        });
        if self.done.len() > REPLAYED_MIN.max(self.side.index.len() / 4) {
            self.done = Vec::new();
            self.is_long = true;
        }
    }
}

impl<V> fmt::Debug for Batch<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("index", &self.side.index)
            .finish_non_exhaustive()
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
    /// Rises by one with every publication; 0 is what the index began with.
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

/// Shares what the index holds.
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

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn found(index: &PatternIndex<u32>, on: &str) -> Vec<u32> {
        let mut values = Vec::new();
        index.matches(&Topic::new(on).unwrap(), &mut values);
        values
    }

    #[test]
    fn a_snapshot_stays_as_it_was_and_holds_nobody_up() {
        let index = SharedIndex::new();
        let mut snapshots = Vec::new();
        for n in 0..2_000 {
            assert!(index.insert(&pattern(&format!("a.{n}")), n));
            if n % 100 == 0 {
                snapshots.push((n, index.load()));
            }
        }
        for (n, snapshot) in &snapshots {
            assert_eq!(snapshot.len() as u32, n + 1);
            assert_eq!(found(snapshot, &format!("a.{n}")), [*n]);
            assert!(found(snapshot, &format!("a.{}", n + 1)).is_empty());
        }
        assert_eq!(index.load().len(), 2_000);
    }

    #[test]
    fn one_reader_costs_a_third_side_until_it_is_late() {
        let index = SharedIndex::new();
        let sides = || {
            let writer = index.writer.lock();
            (writer.standbys.len(), writer.left.len(), writer.log.len())
        };
        let change = |n: u32| assert!(index.insert(&pattern("a"), n));
        (0..10).for_each(change);
        assert_eq!(sides(), (1, 0, 1), "nobody reads, and two are enough");
        let held = index.load();
        (10..20).for_each(change);
        assert_eq!(
            sides(),
            (2, 0, 10),
            "what the one that is held lacks is kept"
        );
        // The last operation that it may lack, and one more.
        let late = 10 + REPLAYED_MIN as u32 + 1;
        (20..late).for_each(change);
        assert_eq!(sides(), (2, 0, REPLAYED_MIN + 1));
        change(late);
        assert_eq!(sides(), (1, 1, 1), "it is left to its reader");
        assert_eq!(held.len(), 10);
        drop(held);
        change(late + 1);
        assert_eq!(sides(), (1, 0, 1), "and freed");
    }

    #[test]
    fn readers_of_all_sides_are_not_waited_for() {
        let index = SharedIndex::new();
        let mut held = Vec::new();
        for n in 0..10 {
            assert!(index.insert(&pattern("a"), n));
            held.push(index.load());
        }
        assert_eq!(index.writer.lock().left.len(), 10 - 1 - STANDBYS_MAX);
        for (n, snapshot) in (0..).zip(&held) {
            assert_eq!(found(snapshot, "a"), (0..=n).collect::<Vec<_>>());
        }
        held.clear();
        assert!(index.insert(&pattern("a"), 10));
        assert!(index.writer.lock().left.is_empty());
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
    fn the_version_rises_with_what_is_published_alone() {
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

    /// One operation less than the bound, at it, and one more.
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

    #[test]
    fn a_clone_of_a_snapshot_goes_its_own_way() {
        let index = SharedIndex::new();
        let mut cache = MatchCache::new();
        let topic = Topic::new("a").unwrap();
        index.insert(&pattern("a"), 1);
        let mut clone = index.load().clone();
        // The memory that they had in common is the clone's alone before it changes.
        index.insert(&pattern("b"), 2);
        index.insert(&pattern("a"), 3);
        clone.insert(&pattern("c"), 2);
        clone.insert(&pattern("a"), 4);
        assert_eq!(cache.lookup(&index.load(), &topic), [1, 3]);
        assert_eq!(cache.lookup(&clone, &topic), [1, 4]);
        assert_eq!(cache.lookup(&index.load(), &topic), [1, 3]);
    }

    /// What a writer does in one batch is seen whole, in whatever moment, with and without cache.
    #[test]
    fn readers_see_whole_batches() {
        let index = SharedIndex::new();
        let (one, all) = (pattern("a.*"), pattern("**"));
        index.insert(&one, 0);
        let done = AtomicBool::new(false);
        let read = || {
            let topic = Topic::new("a.b").unwrap();
            let mut cache = MatchCache::new();
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
            for n in 0..20_000 {
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
