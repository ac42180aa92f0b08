//! The globs and tails below a node, found by the plain text that they begin or end with.
//!
//! Ten thousand patterns `orders.A1234*` put as many globs below one node. They are grouped by their plain
//! beginning, or by their plain end where they have no beginning; the node knows the lengths of these texts, and a
//! segment is looked up once for each length. Only globs with the same text are asked one by one, and so are all that
//! have none (`*x*`, `?`). Tails are grouped by what they begin with, and compared with the rest of the topic.

use super::names::{Matcher, Symbol};
use super::sorted::Sorted;
use super::table::{Entry, Mixer, Table, keyed_hash};
use super::text::Text;

/// The matchers of all nodes of a trie.
#[derive(Clone)]
pub(super) struct Matchers {
    groups: Table<Group>,
    spans: Table<Spans>,
}

/// Those of a node with the same text in the same place.
#[derive(Clone)]
struct Group {
    hash: u64,
    node: u32,
    place: Place,
    text: Text,
    /// Never empty.
    edges: Sorted<Edge>,
}

/// A matcher, and the edge that it guards.
#[derive(Clone)]
struct Edge {
    symbol: Symbol,
    matcher: Matcher,
}

/// Where a matcher has its plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// A glob, at the beginning of the segment.
    Head,
    /// A glob, at the end of the segment.
    End,
    /// A tail, at the beginning of the rest of the topic.
    Rest,
}

/// The places and lengths of a node's groups: never empty.
#[derive(Clone)]
struct Spans {
    node: u32,
    list: Vec<Span>,
}

#[derive(Clone)]
struct Span {
    place: Place,
    /// In bytes: 0 to the length of a topic.
    len: u16,
    /// Groups of this kind, at least 1.
    groups: u32,
}

impl Entry for Group {
    fn hash(&self, _: Mixer) -> u64 {
        self.hash
    }
}

impl Entry for Spans {
    fn hash(&self, mixer: Mixer) -> u64 {
        mixer.mix(0, self.node)
    }
}

impl PartialEq for Edge {
    fn eq(&self, other: &Self) -> bool {
        self.symbol == other.symbol
    }
}

impl Eq for Edge {}

impl PartialOrd for Edge {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Edge {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.symbol.cmp(&other.symbol)
    }
}

impl Matchers {
    pub(super) fn new() -> Self {
        Matchers {
            groups: Table::new(),
            spans: Table::new(),
        }
    }

    /// Adds a matcher below a node; the node has none of this symbol.
    pub(super) fn add(&mut self, node: u32, symbol: Symbol, matcher: &Matcher) {
        let (place, text) = anchor(matcher);
        let hash = keyed_hash((node, place, text));
        let edge = Edge {
            symbol,
            matcher: matcher.clone(),
        };
        if let Some(group) = self.groups.find_mut(hash, is(node, place, text)) {
            group.edges.insert(edge);
            return;
        }
        let mut edges = Sorted::default();
        edges.insert(edge);
        self.groups.insert(Group {
            hash,
            node,
            place,
            text: Text::new(text),
            edges,
        });
        self.count_group(node, place, text.len() as u16);
    }

    /// Takes a matcher away from a node. True if it was the node's last.
    pub(super) fn remove(&mut self, node: u32, symbol: Symbol, matcher: &Matcher) -> bool {
        let (place, text) = anchor(matcher);
        let hash = keyed_hash((node, place, text));
        let group = self.groups.find_mut(hash, is(node, place, text));
        let edges = &mut group.expect("the matcher is there").edges;
        edges.remove(&Edge {
            symbol,
            matcher: matcher.clone(),
        });
        if !edges.is_empty() {
            return false;
        }
        self.groups.remove(hash, is(node, place, text));
        self.discount_group(node, place, text.len() as u16)
    }

    /// Calls `found` with the symbol of each matcher below the node that accepts what the topic goes on with, and with
    /// whether the matcher is a tail, which takes all of it. `rest` begins with `segment`.
    pub(super) fn each_that_matches(
        &self,
        node: u32,
        segment: &str,
        rest: &str,
        mut found: impl FnMut(Symbol, bool),
    ) {
        let hash = self.spans.mixer().mix(0, node);
        let Some(spans) = self.spans.find(hash, |spans| spans.node == node) else {
            return;
        };
        for span in &spans.list {
            let Some(text) = span.of(segment, rest) else {
                continue;
            };
            let hash = keyed_hash((node, span.place, text));
            let Some(group) = self.groups.find(hash, is(node, span.place, text)) else {
                continue;
            };
            for edge in group.edges.slices().flatten() {
                match &edge.matcher {
                    Matcher::Glob(glob) if glob.matches(segment) => found(edge.symbol, false),
                    Matcher::Tail(tail) if tail.matches(rest) => found(edge.symbol, true),
                    _ => {}
                }
            }
        }
    }

    pub(super) fn unshare(&mut self) {
        self.groups.unshare();
        self.spans.unshare();
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.spans.is_empty()
    }

    fn count_group(&mut self, node: u32, place: Place, len: u16) {
        let one = Span {
            place,
            len,
            groups: 1,
        };
        let hash = self.spans.mixer().mix(0, node);
        let Some(spans) = self.spans.find_mut(hash, |spans| spans.node == node) else {
            let list = vec![one];
            return self.spans.insert(Spans { node, list });
        };
        match spans.list.iter_mut().find(|span| span.is(place, len)) {
            Some(span) => span.groups += 1,
            None => {
                spans.list.reserve_exact(1);
                spans.list.push(one);
            }
        }
    }

    /// True if no group is left.
    fn discount_group(&mut self, node: u32, place: Place, len: u16) -> bool {
        let hash = self.spans.mixer().mix(0, node);
        let spans = self.spans.find_mut(hash, |spans| spans.node == node);
        let list = &mut spans.expect("the node has a group").list;
        let at = list.iter().position(|span| span.is(place, len));
        let at = at.expect("the node has such a group");
        list[at].groups -= 1;
        if list[at].groups == 0 {
            list.remove(at);
        }
        let is_last = list.is_empty();
        if is_last {
            self.spans.remove(hash, |spans| spans.node == node);
        }
        is_last
    }
}

impl Span {
    fn is(&self, place: Place, len: u16) -> bool {
        (self.place, self.len) == (place, len)
    }

    /// The part of the topic that a group's text is compared with.
    fn of<'a>(&self, segment: &'a str, rest: &'a str) -> Option<&'a [u8]> {
        let len = usize::from(self.len);
        match self.place {
            Place::Head => segment.as_bytes().get(..len),
            Place::End => segment.as_bytes().get(segment.len().checked_sub(len)?..),
            Place::Rest => rest.as_bytes().get(..len),
        }
    }
}

/// The plain text that a matcher is found by, and its place.
fn anchor(matcher: &Matcher) -> (Place, &[u8]) {
    match matcher {
        Matcher::Tail(tail) => (Place::Rest, tail.head()),
        Matcher::Glob(glob) if glob.head().is_empty() => (Place::End, glob.end().as_bytes()),
        Matcher::Glob(glob) => (Place::Head, glob.head().as_bytes()),
    }
}

fn is(node: u32, place: Place, text: &[u8]) -> impl Fn(&Group) -> bool {
    move |group| group.node == node && group.place == place && group.text.as_bytes() == text
}
