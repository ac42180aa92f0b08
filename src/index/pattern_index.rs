//! [`PatternIndex`]: a trie and the last changes of it, which clones share until one of them
//! changes.

use std::fmt;
use std::sync::Arc;

use super::change_log::ChangeLog;
use super::table;
use super::trie::{Tag, Trie};
use super::walk::{self, Scratch};
use crate::pattern::{Pattern, Syntax, Topic};

/// A set of (pattern, value) pairs that finds the values whose patterns match a topic.
///
/// Values are small and are copied: use identifiers, or indices of something else.
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
    /// Whether changes continue the lineage of the [`ChangeLog`]. A clone begins a lineage of its
    /// own with its first change, so two indexes of one lineage never change differently.
    owns_lineage: bool,
}

/// The part that clones share until one of them changes.
#[derive(Clone)]
struct Core<V> {
    trie: Trie<V>,
    /// How many pairs there are.
    len: usize,
    changes: ChangeLog,
}

impl<V> PatternIndex<V> {
    /// An empty index.
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
                changes: ChangeLog::new(),
            }),
            owns_lineage: true,
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
    /// Adds a pair. Returns false and changes nothing if the index has the value under an equal
    /// pattern.
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
            // A pair is at the ends of all routes of its pattern or of none.
            if !core.trie.insert(route, value, tag) {
                debug_assert_eq!(n, 0, "{pattern} is at the end of some of its routes only");
                return false;
            }
        }
        core.len += 1;
        core.changes.record(pattern);
        true
    }

    /// Removes a pair. Returns false and changes nothing if the index does not have the value under
    /// an equal pattern. The value remains under all other patterns.
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
                debug_assert_eq!(n, 0, "{pattern} is at the end of some of its routes only");
                return false;
            }
        }
        debug_assert!(core.len > 0, "a pair was removed from an empty index");
        core.len -= 1;
        core.changes.record(pattern);
        true
    }

    /// Appends the values that have a pattern which matches `topic`, each once, in ascending order.
    /// Keeps the values that are in `out` already.
    ///
    /// This allocates for the walk; [`matches_with`](Self::matches_with) does not.
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

    /// Like [`matches`](Self::matches), but does not allocate once `scratch` and `out` are large
    /// enough.
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

    /// The last changes.
    pub(super) fn changes(&self) -> &ChangeLog {
        &self.core.changes
    }

    /// The core for a change: not shared with other indexes, and in a lineage of this index.
    fn edit(&mut self) -> &mut Core<V> {
        let core = Arc::make_mut(&mut self.core);
        if !self.owns_lineage {
            self.owns_lineage = true;
            core.changes = ChangeLog::new();
        }
        core
    }
}

#[cfg(any(test, fuzzing))]
impl<V> PatternIndex<V> {
    /// Whether the index is empty and keeps nothing of what was removed.
    pub(super) fn has_no_remains(&self) -> bool {
        self.is_empty() && self.core.trie.is_empty()
    }
}

// For the sides of a shared index.
impl<V: Copy + Ord> PatternIndex<V> {
    /// A clone in the same lineage. The caller must make the same changes in both.
    pub(super) fn clone_in_lineage(&self) -> Self {
        PatternIndex {
            core: Arc::clone(&self.core),
            owns_lineage: self.owns_lineage,
        }
    }

    pub(super) fn begin_lineage(&mut self) {
        self.edit().changes = ChangeLog::new();
    }

    /// Copies all memory that is shared with other indexes.
    pub(super) fn unshare(&mut self) {
        self.edit().trie.unshare();
    }
}

/// The tag that distinguishes the pattern from others that share its nodes.
fn tag(pattern: &Pattern) -> Tag {
    match pattern.routes() {
        // Redis: a class may have several canonical texts, so several patterns may have this route.
        [_] if pattern.syntax() != Syntax::Redis || !pattern.canonical().contains('[') => {
            Tag::of_route(pattern.syntax())
        }
        _ => Tag::of_several(table::keyed_hash(pattern)),
    }
}

/// A clone costs one reference count and shares all memory until one of the two changes.
impl<V> Clone for PatternIndex<V> {
    fn clone(&self) -> Self {
        PatternIndex {
            core: Arc::clone(&self.core),
            owns_lineage: false,
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

/// Adds many pairs. Those that the index has already change nothing.
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
