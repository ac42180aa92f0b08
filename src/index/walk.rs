//! Which nodes a topic reaches: all at once, segment by segment.
//!
//! The frontier is the set of nodes that the segments read so far lead to. A node is reached by one
//! way only, except through `**`: the node behind a `**` stays in the frontier once it is in, since
//! `**` takes segment after segment, and its parent can lead to it again. So the frontier is kept in
//! two lists: nodes of this step, in which none can be twice, and nodes behind a `**`, a set that
//! only grows. The work for a segment is thus bounded by the nodes of the index, however the
//! pattern is made: `**.a.**.a.**.a` has four nodes behind a `**` and never more.

use std::ptr;

use super::map::Key;
use super::node::{Node, Wild};
use crate::pattern::Segments;

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
#[derive(Debug)]
pub struct Scratch<V: 'static> {
    /// Empty between walks, here for its allocation; the same for the others.
    step: Vec<&'static Node<V>>,
    next: Vec<&'static Node<V>>,
    many: Vec<&'static Node<V>>,
}

impl<V: 'static> Default for Scratch<V> {
    fn default() -> Self {
        Scratch {
            step: Vec::new(),
            next: Vec::new(),
            many: Vec::new(),
        }
    }
}

/// Appends the values of all routes below `root` that match, each once, in ascending order.
pub(super) fn walk<V: Copy + Ord + 'static>(
    root: &Node<V>,
    segments: Segments<'_>,
    scratch: &mut Scratch<V>,
    out: &mut Vec<V>,
) {
    let mut frontier = Frontier {
        step: recycle(std::mem::take(&mut scratch.step)),
        next: recycle(std::mem::take(&mut scratch.next)),
        many: recycle(std::mem::take(&mut scratch.many)),
        many_sorted: 0,
    };
    frontier.enter(root);
    for segment in segments {
        if !frontier.advance(segment) {
            break;
        }
    }
    frontier.append_values(out);
    scratch.step = recycle(frontier.step);
    scratch.next = recycle(frontier.next);
    scratch.many = recycle(frontier.many);
}

struct Frontier<'a, V> {
    /// The nodes of this step, and after [`Frontier::advance`] those of the next, none twice.
    step: Vec<&'a Node<V>>,
    /// The nodes of the step that is being made.
    next: Vec<&'a Node<V>>,
    /// The nodes behind a `**`; those before `many_sorted` in order of their address, none twice.
    many: Vec<&'a Node<V>>,
    many_sorted: usize,
}

impl<'a, V: Copy + Ord> Frontier<'a, V> {
    /// Takes one segment. False if nothing is left that could match.
    fn advance(&mut self, segment: &str) -> bool {
        let key = Key::new(segment);
        for at in 0..self.step.len() {
            self.leave(self.step[at], segment, &key);
        }
        for at in 0..self.many_sorted {
            self.leave(self.many[at], segment, &key);
        }
        self.step.clear();
        std::mem::swap(&mut self.step, &mut self.next);
        self.unite_many();
        !self.step.is_empty() || !self.many.is_empty()
    }

    /// Puts a node into the first step.
    fn enter(&mut self, root: &'a Node<V>) {
        self.reach(root);
        std::mem::swap(&mut self.step, &mut self.next);
        self.unite_many();
    }

    /// Follows all ways out of a node that take this segment.
    fn leave(&mut self, node: &'a Node<V>, segment: &str, key: &Key<'_>) {
        if let Some(child) = node.literal(key) {
            self.reach(child);
        }
        let Some(wild) = node.wild() else { return };
        let Wild { any, globs, .. } = &**wild;
        if let Some(child) = any {
            self.reach(child);
        }
        for (glob, child) in globs {
            if glob.matches(segment) {
                self.reach(child);
            }
        }
    }

    /// Puts a node into the next step, with the one behind its `**`, which may match nothing.
    ///
    /// Behind a `**` there is no other: routes have no two in a row.
    fn reach(&mut self, node: &'a Node<V>) {
        self.next.push(node);
        if let Some(many) = node.wild().and_then(|wild| wild.many.as_deref()) {
            debug_assert!(many.wild().is_none_or(|wild| wild.many.is_none()));
            self.many.push(many);
        }
    }

    /// Brings what was added behind a `**` into order, and out what was there before.
    fn unite_many(&mut self) {
        if self.many.len() > self.many_sorted {
            self.many.sort_unstable_by_key(|&node| ptr::from_ref(node));
            self.many.dedup_by_key(|node| ptr::from_ref(*node));
            self.many_sorted = self.many.len();
        }
    }

    /// Appends the values of the nodes of the frontier, each once, in ascending order.
    fn append_values(&self, out: &mut Vec<V>) {
        let start = out.len();
        let mut nodes = 0;
        let mut unordered = false;
        for node in self
            .step
            .iter()
            .chain(&self.many)
            .filter(|node| node.has_values())
        {
            nodes += 1;
            unordered |= node.append_values(out);
        }
        if unordered || nodes > 1 {
            sort_and_dedup(out, start);
        }
    }
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

/// An empty list with the allocation of another, whose references may live longer or shorter.
///
/// Collecting a vector's own iterator keeps its allocation, so this is free; it cannot be a cast
/// without `unsafe`. The test of allocations would show if it were not so any more.
fn recycle<'b, V>(mut list: Vec<&Node<V>>) -> Vec<&'b Node<V>> {
    list.clear();
    list.into_iter()
        .map(|_| unreachable!("the list is empty"))
        .collect()
}
