//! Who wants a topic: an index from patterns to values.
//!
//! A [`PatternIndex`] is a set of (pattern, value) pairs that answers which values have a pattern
//! that matches a topic, each value once. It is a trie over segments, with a child for each plain
//! text and children for the wildcards; a pattern with braces takes a place for each different
//! expansion. Patterns of all languages live in it side by side.
//!
//! | for | take |
//! | --- | --- |
//! | one thread, or an index that does not change any more | [`PatternIndex`] |
//! | threads that look up while others change | [`SharedIndex`] |
//! | topics that come again and again | a [`MatchCache`] for each reader, in front of either |
//!
//! # Cost
//!
//! | operation | steps |
//! | --- | --- |
//! | [`matches`](PatternIndex::matches) | for each segment of the topic: one look-up of its text, then for each node that the segments before it lead to a look-up by number, and one for each length of the plain beginnings (or ends) of the node's globs; never a recursion, and no node twice in a step, so `**.a.**.a.**.a` is cheap; then a sort of the values found, if they come from several nodes |
//! | [`insert`](PatternIndex::insert), [`remove`](PatternIndex::remove) | for each expansion of the pattern, one look-up for each segment; at most a few hundred entries of a table, or of a node with very many values, are moved |
//! | [`clone`](PatternIndex::clone) | one; the first change afterwards copies a list of one word for each 256 nodes or so, and each change what it touches, in chunks of 10 KiB or so (more where many nodes have a hundred values each), until nothing is shared |
//! | [`SharedIndex::load`] | one, and never a wait |
//! | a change of a [`SharedIndex`] | that of the [`PatternIndex`], twice; one more for each thread that ever loaded it |
//! | [`MatchCache::lookup`] | one; one more for each change since the topic was asked for last, up to [`CHANGES_KEPT`] |
//!
//! A node takes 24 bytes (values of four bytes, room in the table excluded), a different text up to
//! 40 and what it is longer than 22 bytes; a [`SharedIndex`] takes twice as much, and three times
//! while a reader is in the way of changes. What was removed leaves nothing behind but the numbers
//! that it had, four bytes each, until all is removed, and the patterns of the last changes,
//! [`CHANGES_KEPT`] of them, and in a [`SharedIndex`] those that a side still lacks.
//!
//! # The bad days
//!
//! * **A reader holds a snapshot for ever.** Nobody waits for it. The next change but one begins a
//!   third side, which costs what the first change of a clone does; the snapshot keeps alive what
//!   the index was.
//! * **A writer panics**, in a batch or in the order of the values: readers see nothing of the
//!   batch; the next change begins another standby. A [`PatternIndex`] that was being changed
//!   itself may hold half of a pattern's expansions afterwards.
//! * **Out of memory**: the process ends, as Rust's collections have it end.
//! * **A flood of topics**: a walk leaves nothing behind; a cache is bounded, and keeps what is
//!   asked for repeatedly.
//! * **Texts chosen to collide**: all hashes are keyed, so nobody who cannot see the key can choose
//!   them; if they collided all the same, a look-up would compare those that do, one by one, and
//!   its answer be right.
//! * **More than 536,870,911 nodes**, or different texts: the change that needs one more panics.
//!
//! # Sources of the ideas
//!
//! Tries over the words of a topic are how brokers with AMQP topic exchanges match bindings; the
//! subscription list of NATS adds a cache in front, which a wildcard subscription empties: that the
//! changes themselves are compared with the topic is ours. Two sides that change places are from
//! Ramalhete and Correia, "Left-Right: A Concurrency Control Technique with Wait-Free Population
//! Oblivious Reads" (2015), which has the writer wait for readers, where ours leaves them the side
//! that they hold; dividing one part of a table at a time is from Litwin, "Linear Hashing: A New
//! Tool for File and Table Addressing" (1980); entries in the order of their hash are from Amble
//! and Knuth, "Ordered Hash Tables" (1974).
//!
//! Measured on one million subscriptions of four tokens, half of them with a wildcard (`cargo bench
//! --bench million`), against a persistent trie that was published as a whole and copied the path
//! to each change, which this one took the place of: a change visible to readers in half the time,
//! a walk in half the time, in half the memory (2026-11-22).

mod cache;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod interner;
mod journal;
mod matchers;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod naive;
mod shared;
mod sorted;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod trie;
mod walk;

use std::fmt;
use std::sync::Arc;

pub use self::cache::{
    CACHE_TOPICS, CACHE_VALUES_MAX, MatchCache, TOPIC_VALUES_MAX, UNMATCHED_TOPICS_MAX,
};
pub use self::journal::CHANGES_KEPT;
use self::journal::Journal;
pub use self::shared::{Batch, SharedIndex, Snapshot};
use self::trie::{Tag, Trie};
pub use self::walk::Scratch;
use crate::pattern::{Pattern, Syntax, Topic};

/// A set of (pattern, value) pairs that finds the values whose patterns match a topic.
///
/// Values are small and copied: identifiers, or indices of something else.
///
/// ```
/// use fanout::{Pattern, PatternIndex, Topic};
///
/// let mut index = PatternIndex::new();
/// index.insert(&Pattern::parse("orders.*")?, 1);
/// index.insert(&Pattern::parse("orders.{eu,us}")?, 2);
/// index.insert(&Pattern::parse("**")?, 2);
///
/// let mut values = Vec::new();
/// index.matches(&Topic::new("orders.eu")?, &mut values);
/// assert_eq!(values, [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PatternIndex<V> {
    core: Arc<Core<V>>,
    /// Whether the journal's lineage goes on here. It does not in a clone, which begins one of its
    /// own with its first change: so no two indexes ever change differently in one lineage.
    has_lineage: bool,
}

/// What clones share until one of them changes.
#[derive(Clone)]
struct Core<V> {
    trie: Trie<V>,
    /// Pairs in the set.
    len: usize,
    journal: Journal,
}

impl<V> PatternIndex<V> {
    /// An index with nothing in it.
    ///
    /// ```
    /// let index = fanout::PatternIndex::<u32>::new();
    /// assert!(index.is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        PatternIndex {
            core: Arc::new(Core {
                trie: Trie::new(),
                len: 0,
                journal: Journal::new(),
            }),
            has_lineage: true,
        }
    }

    /// How many pairs there are.
    ///
    /// ```
    /// use fanout::{Pattern, PatternIndex};
    ///
    /// let mut index = PatternIndex::new();
    /// index.extend([(Pattern::parse("{a,b}.*")?, 1), (Pattern::parse("a.*")?, 1)]);
    /// assert_eq!(index.len(), 2);
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.len
    }

    /// Whether there are no pairs.
    ///
    /// ```
    /// assert!(fanout::PatternIndex::<u32>::default().is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<V: Copy + Ord> PatternIndex<V> {
    /// Adds a pair. False, and nothing changes, if the value is there under an equal pattern.
    ///
    /// ```
    /// use fanout::{Pattern, PatternIndex};
    ///
    /// let mut index = PatternIndex::new();
    /// assert!(index.insert(&Pattern::parse("*")?, 7));
    /// assert!(!index.insert(&Pattern::parse("**")?, 7)); // equal: both are everything
    /// assert!(index.insert(&Pattern::parse("a.*")?, 7));
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    pub fn insert(&mut self, pattern: &Pattern, value: V) -> bool {
        let tag = tag(pattern);
        let core = self.edit();
        for (n, route) in pattern.routes().iter().enumerate() {
            // A pair is at the end of all routes of its pattern, or of none.
            if !core.trie.insert(route, value, tag) {
                debug_assert_eq!(n, 0);
                return false;
            }
        }
        core.len += 1;
        core.journal.note(pattern);
        true
    }

    /// Removes a pair. False, and nothing changes, if the value is not there under an equal
    /// pattern. The value stays under all other patterns, whatever these match.
    ///
    /// ```
    /// use fanout::{Pattern, PatternIndex, Topic};
    ///
    /// let mut index = PatternIndex::new();
    /// let (one, both) = (Pattern::parse("a")?, Pattern::parse("{a,b}")?);
    /// index.insert(&one, 7);
    /// assert!(!index.remove(&both, &7));
    /// index.insert(&both, 7);
    /// assert!(index.remove(&both, &7));
    ///
    /// let mut values = Vec::new();
    /// index.matches(&Topic::new("a")?, &mut values);
    /// assert_eq!(values, [7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove(&mut self, pattern: &Pattern, value: &V) -> bool {
        let tag = tag(pattern);
        let core = self.edit();
        for (n, route) in pattern.routes().iter().enumerate() {
            if !core.trie.remove(route, *value, tag) {
                debug_assert_eq!(n, 0);
                return false;
            }
        }
        core.len -= 1;
        core.journal.note(pattern);
        true
    }

    /// Appends the values that have a pattern which matches `topic`: each once, in ascending
    /// order. What `out` held before stays as it is.
    ///
    /// This allocates a little for the walk; [`matches_with`](Self::matches_with) does not.
    ///
    /// ```
    /// use fanout::{Pattern, PatternIndex, Topic};
    ///
    /// let index = PatternIndex::from_iter([(Pattern::parse("a.**")?, 'x')]);
    /// let mut values = Vec::new();
    /// index.matches(&Topic::new("a.b.c")?, &mut values);
    /// assert_eq!(values, ['x']);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn matches(&self, topic: &Topic, out: &mut Vec<V>) {
        self.matches_with(topic, &mut Scratch::default(), out);
    }

    /// Does what [`matches`](Self::matches) does, and does not allocate once `scratch` and `out`
    /// have grown to what is needed.
    ///
    /// ```
    /// use fanout::{Pattern, PatternIndex, Topic, index::Scratch};
    ///
    /// let index = PatternIndex::from_iter([(Pattern::parse("**.a")?, 1)]);
    /// let (mut scratch, mut values) = (Scratch::default(), Vec::new());
    /// index.matches_with(&Topic::new("x.a")?, &mut scratch, &mut values);
    /// assert_eq!(values, [1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn matches_with(&self, topic: &Topic, scratch: &mut Scratch<V>, out: &mut Vec<V>) {
        walk::walk(&self.core.trie, topic, scratch, out);
    }

    /// What is about to change: this index's own, in a lineage of its own.
    fn edit(&mut self) -> &mut Core<V> {
        let core = Arc::make_mut(&mut self.core);
        if !self.has_lineage {
            self.has_lineage = true;
            core.journal = Journal::new();
        }
        core
    }
}

#[cfg(any(test, fuzzing))]
impl<V> PatternIndex<V> {
    /// Whether nothing is left of what was removed.
    fn is_bare(&self) -> bool {
        self.is_empty() && self.core.trie.is_empty()
    }
}

// What a shared index makes its two sides of.
impl<V: Copy + Ord> PatternIndex<V> {
    /// A clone in the same lineage: for somebody who makes the same changes in both.
    fn twin(&self) -> Self {
        PatternIndex {
            core: Arc::clone(&self.core),
            has_lineage: self.has_lineage,
        }
    }

    fn begin_lineage(&mut self) {
        self.edit().journal = Journal::new();
    }

    /// Makes all memory this index's own.
    fn unshare(&mut self) {
        self.edit().trie.unshare();
    }
}

/// How the pattern is told from others that share its nodes.
fn tag(pattern: &Pattern) -> Tag {
    match pattern.routes() {
        // A class of Redis may have several canonical texts, and so several patterns may have that
        // route.
        [_] if pattern.syntax() != Syntax::Redis || !pattern.canonical().contains('[') => {
            Tag::of_route(pattern.syntax())
        }
        _ => Tag::of_several(table::keyed_hash(pattern)),
    }
}

/// Shares everything; one reference count.
impl<V> Clone for PatternIndex<V> {
    fn clone(&self) -> Self {
        PatternIndex {
            core: Arc::clone(&self.core),
            has_lineage: false,
        }
    }
}

impl<V> Default for PatternIndex<V> {
    fn default() -> Self {
        PatternIndex::new()
    }
}

impl<V> fmt::Debug for PatternIndex<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatternIndex")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Adds many pairs; those that are there already change nothing.
impl<V: Copy + Ord> Extend<(Pattern, V)> for PatternIndex<V> {
    fn extend<I: IntoIterator<Item = (Pattern, V)>>(&mut self, pairs: I) {
        for (pattern, value) in pairs {
            self.insert(&pattern, value);
        }
    }
}

impl<V: Copy + Ord> FromIterator<(Pattern, V)> for PatternIndex<V> {
    fn from_iter<I: IntoIterator<Item = (Pattern, V)>>(pairs: I) -> Self {
        let mut index = PatternIndex::new();
        index.extend(pairs);
        index
    }
}
