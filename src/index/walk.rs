//! The walk: finds all nodes that a topic leads to, segment by segment.
//!
//! The frontier is the set of nodes that the segments read so far lead to. Only one way leads to a
//! node, except through `**`: the node behind a `**` remains in the frontier, because `**` reads
//! segment after segment, and its parent can lead to it again. So the frontier is kept in two
//! lists: the nodes of this step, in which no node can be twice, and the nodes behind a `**`, a set
//! that only grows. The work for a segment is bounded by the number of nodes of the index, whatever
//! the patterns are: `**.a.**.a.**.a` has three nodes behind a `**`, and the frontier never has
//! more of them.
//!
//! For each segment, all look-ups are collected, then prefetched, then made. If the index is larger
//! than the caches, the waiting times for memory overlap.

use std::fmt;

use super::interner::Symbol;
use super::trie::{ANY, MANY, NO_NODE, Node, Trie, root};
use crate::pattern::{Guard, Topic};

/// The lists of a walk. A caller keeps them, so that they need not be allocated again.
///
/// ```
/// use fanout::{Pattern, PatternIndex, Topic, index::Scratch};
///
/// let mut index = PatternIndex::new();
/// index.insert(&Pattern::parse("a.*")?, 1);
/// let (mut scratch, mut found) = (Scratch::default(), Vec::new());
/// for topic in ["a.x", "a.y", "b.z"] {
///     index.matches_with(&Topic::new(topic)?, &mut scratch, &mut found);
/// }
/// assert_eq!(found, [1, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Scratch<V> {
    /// The nodes of this step, and after [`Scratch::advance`] those of the next. No node is there
    /// twice.
    step: Vec<Node<V>>,
    /// The nodes behind a `**`. Those before `many_sorted` are in order of their number, and no
    /// node is there twice.
    many: Vec<Node<V>>,
    many_sorted: usize,
    /// The nodes behind a tail. No node is there twice.
    ends: Vec<Node<V>>,
    /// The look-ups for the next step.
    lookups: Vec<Lookup>,
}

/// A look-up of a child.
#[derive(Clone, Copy)]
struct Lookup {
    parent: u32,
    symbol: Symbol,
    hash: u64,
}

impl<V> Default for Scratch<V> {
    fn default() -> Self {
        Scratch {
            step: Vec::new(),
            many: Vec::new(),
            many_sorted: 0,
            ends: Vec::new(),
            lookups: Vec::new(),
        }
    }
}

impl<V> fmt::Debug for Scratch<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

/// Appends the values of all routes that match the topic, each once, in ascending order.
pub(super) fn walk<V: Copy + Ord>(
    trie: &Trie<V>,
    topic: &Topic,
    scratch: &mut Scratch<V>,
    out: &mut Vec<V>,
) {
    scratch.enter(trie, topic.as_str());
    let mut rest = topic.as_str();
    for segment in topic.segments() {
        if !scratch.advance(trie, segment, rest) {
            break;
        }
        rest = rest.get(segment.len() + 1..).unwrap_or_default();
    }
    scratch.append_values(trie, out);
}

impl<V: Copy + Ord> Scratch<V> {
    /// Begins at the roots of the routes whose guard admits the topic.
    fn enter(&mut self, trie: &Trie<V>, topic: &str) {
        self.step.clear();
        self.many.clear();
        self.many_sorted = 0;
        self.ends.clear();
        for guard in [Guard::Open, Guard::NoDollar] {
            if guard.admits(topic)
                && let Some(root) = trie.child(NO_NODE, root(guard))
            {
                self.reach(trie, *root);
            }
        }
        self.merge_many();
    }

    /// Reads one segment, with which `rest` begins. Returns false if no node is left that could
    /// lead to a match.
    fn advance(&mut self, trie: &Trie<V>, segment: &str, rest: &str) -> bool {
        self.lookups.clear();
        let symbol = trie.interner().literal(segment);
        let lookup = |parent, symbol| Lookup {
            parent,
            symbol,
            hash: trie.hash_of_child(parent, symbol),
        };
        for node in self.step.iter().chain(&self.many) {
            if let Some(symbol) = symbol
                && node.children.has_literals()
            {
                self.lookups.push(lookup(node.number(), symbol));
            }
            if node.children.has_any() {
                self.lookups.push(lookup(node.number(), ANY));
            }
            if node.children.has_matchers() {
                let parent = node.number();
                let found = |symbol, is_tail| {
                    if is_tail {
                        self.ends.extend(trie.child(parent, symbol));
                    } else {
                        self.lookups.push(lookup(parent, symbol));
                    }
                };
                trie.matchers()
                    .each_that_matches(parent, segment, rest, found);
            }
        }
        self.step.clear();
        if self.lookups.len() > 1 {
            let prefetched = self
                .lookups
                .iter()
                .filter(|lookup| trie.prefetch(lookup.hash));
            std::hint::black_box(prefetched.count());
        }
        for at in 0..self.lookups.len() {
            let Lookup {
                parent,
                symbol,
                hash,
            } = self.lookups[at];
            if let Some(child) = trie.child_of_hash(parent, symbol, hash) {
                self.reach(trie, *child);
            }
        }
        debug_assert!(all_differ(&self.step), "one way leads to a node");
        self.merge_many();
        !self.step.is_empty() || !self.many.is_empty()
    }

    /// Adds a node to the next step, and the node behind its `**`, because that may match no
    /// segment.
    ///
    /// There is no `**` behind a `**`, because routes do not have two in a row.
    fn reach(&mut self, trie: &Trie<V>, node: Node<V>) {
        if node.children.has_many() {
            let many = trie.child(node.number(), MANY);
            debug_assert!(many.is_some_and(|many| !many.children.has_many()));
            self.many.extend(many);
        }
        self.step.push(node);
    }

    /// Sorts the nodes that were added behind a `**`, and removes those that were there before.
    fn merge_many(&mut self) {
        if self.many.len() > self.many_sorted {
            if self.many.len() > 1 {
                self.many.sort_unstable_by_key(Node::number);
                self.many.dedup_by_key(|node| node.number());
            }
            self.many_sorted = self.many.len();
        }
    }

    /// Appends the values of the nodes in the frontier, each once, in ascending order.
    fn append_values(&self, trie: &Trie<V>, out: &mut Vec<V>) {
        let start = out.len();
        let mut nodes = 0;
        let mut unordered = false;
        for node in self.step.iter().chain(&self.many).chain(&self.ends) {
            if node.has_values() {
                nodes += 1;
                unordered |= trie.append_values(node, out);
            }
        }
        if unordered || nodes > 1 {
            sort_and_dedup(out, start);
        }
    }
}

fn all_differ<V>(nodes: &[Node<V>]) -> bool {
    let mut numbers: Vec<u32> = nodes.iter().map(Node::number).collect();
    numbers.sort_unstable();
    numbers.windows(2).all(|pair| pair[0] != pair[1])
}

/// Sorts the values of `out` from `start` on, and removes duplicates.
fn sort_and_dedup<V: Copy + Ord>(out: &mut Vec<V>, start: usize) {
    out[start..].sort_unstable();
    let mut kept = start;
    for at in start..out.len() {
        if at == start || out[at] != out[kept - 1] {
            out[kept] = out[at];
            kept += 1;
        }
    }
    out.truncate(kept);
}
