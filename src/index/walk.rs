//! Which nodes a topic reaches: all at once, segment by segment.
//!
//! The frontier is the set of nodes that the segments read so far lead to. A node is reached by one
//! way only, except through `**`: the node behind a `**` stays in the frontier once it is in, since
//! `**` takes segment after segment, and its parent can lead to it again. So the frontier is kept
//! in two lists: nodes of this step, in which none can be twice, and nodes behind a `**`, a set
//! that only grows. The work for a segment is thus bounded by the nodes of the index, however the
//! pattern is made: `**.a.**.a.**.a` has four nodes behind a `**` and never more.
//!
//! For each segment, all look-ups are noted first, then begun, then finished: where the index is
//! larger than the caches, the memory for one is waited for together with that for the others.

use std::fmt;

use super::interner::Symbol;
use super::trie::{ANY, MANY, NO_NODE, Node, Trie, root};
use crate::pattern::{Guard, Topic};

/// The lists of a walk, kept by a caller between walks so that they need not be allocated again.
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
    /// The nodes of this step, and after [`Scratch::advance`] those of the next, none twice.
    step: Vec<Node<V>>,
    /// The nodes behind a `**`; those before `many_sorted` in order of their number, none twice.
    many: Vec<Node<V>>,
    many_sorted: usize,
    /// The nodes behind a tail, none twice.
    ends: Vec<Node<V>>,
    /// What is to be looked up.
    wanted: Vec<Wanted>,
}

/// A child that is to be looked up.
#[derive(Clone, Copy)]
struct Wanted {
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
            wanted: Vec::new(),
        }
    }
}

impl<V> fmt::Debug for Scratch<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

/// Appends the values of all routes of the trie that match, each once, in ascending order.
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
    /// Begins at the roots of the routes that admit the topic.
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
        self.unite_many();
    }

    /// Takes one segment, which `rest` begins with. False if nothing is left that could match.
    fn advance(&mut self, trie: &Trie<V>, segment: &str, rest: &str) -> bool {
        self.wanted.clear();
        let symbol = trie.names().literal(segment);
        let wanted = |parent, symbol| Wanted {
            parent,
            symbol,
            hash: trie.hash_of_child(parent, symbol),
        };
        for node in self.step.iter().chain(&self.many) {
            if let Some(symbol) = symbol
                && node.ways.has_literals()
            {
                self.wanted.push(wanted(node.number(), symbol));
            }
            if node.ways.has_any() {
                self.wanted.push(wanted(node.number(), ANY));
            }
            if node.ways.has_matchers() {
                let parent = node.number();
                let found = |symbol, is_tail| {
                    if is_tail {
                        self.ends.extend(trie.child(parent, symbol));
                    } else {
                        self.wanted.push(wanted(parent, symbol));
                    }
                };
                trie.matchers()
                    .each_that_matches(parent, segment, rest, found);
            }
        }
        self.step.clear();
        if self.wanted.len() > 1 {
            let touched = self.wanted.iter().filter(|wanted| trie.touch(wanted.hash));
            std::hint::black_box(touched.count());
        }
        for at in 0..self.wanted.len() {
            let wanted = self.wanted[at];
            if let Some(child) = trie.child_of_hash(wanted.parent, wanted.symbol, wanted.hash) {
                self.reach(trie, *child);
            }
        }
        debug_assert!(all_differ(&self.step), "a node is reached in one way");
        self.unite_many();
        !self.step.is_empty() || !self.many.is_empty()
    }

    /// Puts a node into the next step, with the one behind its `**`, which may match nothing.
    ///
    /// Behind a `**` there is no other: routes have no two in a row.
    fn reach(&mut self, trie: &Trie<V>, node: Node<V>) {
        if node.ways.has_many() {
            let many = trie.child(node.number(), MANY);
            debug_assert!(many.is_some_and(|many| !many.ways.has_many()));
            self.many.extend(many);
        }
        self.step.push(node);
    }

    /// Brings what was added behind a `**` into order, and out what was there before.
    fn unite_many(&mut self) {
        if self.many.len() > self.many_sorted {
            if self.many.len() > 1 {
                self.many.sort_unstable_by_key(Node::number);
                self.many.dedup_by_key(|node| node.number());
            }
            self.many_sorted = self.many.len();
        }
    }

    /// Appends the values of the nodes of the frontier, each once, in ascending order.
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

/// Sorts what `out` has from `start` on and keeps one of each.
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
