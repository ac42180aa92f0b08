//! The trie: a node for each prefix of a route, with the values of the routes that end there.
//!
//! Nodes are shared between indexes and never change while they are: a change makes the path from
//! the root its own ([`Arc::make_mut`]) and leaves the rest shared. A node stays as long as a route
//! ends in it or below it, so nothing is left of a route that was removed.

use std::sync::Arc;

use super::list;
use super::map::{Key, Map};
use crate::pattern::{Glob, Segment};

/// Which pattern brought a value to a node.
///
/// A pattern of one route is told by the place of the node itself: [`Tag::ROUTE`]. One of several
/// shares nodes with others and is told by the keyed hash of its canonical text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag(pub(super) u64);

impl Tag {
    pub(super) const ROUTE: Tag = Tag(0);
}

#[derive(Clone, Debug)]
pub(super) struct Node<V> {
    /// Values of the routes that end here, under [`Tag::ROUTE`]; sorted, no two equal.
    values: Box<[V]>,
    /// Values of the routes that end here, under other tags; sorted, no two equal, never an empty list. One pointer wide:
    /// most have none.
    tagged: Option<Tagged<V>>,
    /// What follows as plain text.
    literals: Map<Arc<Node<V>>>,
    /// What follows as wildcards; never an empty one.
    wild: Option<Arc<Wild<V>>>,
}

/// A list, one pointer wide.
type Tagged<V> = Box<Box<[(V, Tag)]>>;

/// What follows a node as wildcards.
#[derive(Clone, Debug)]
pub(super) struct Wild<V> {
    pub(super) any: Option<Arc<Node<V>>>,
    pub(super) many: Option<Arc<Node<V>>>,
    /// No two globs are equal.
    pub(super) globs: Vec<(Arc<Glob>, Arc<Node<V>>)>,
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Node {
            values: Box::default(),
            tagged: None,
            literals: Map::default(),
            wild: None,
        }
    }
}

impl<V> Default for Wild<V> {
    fn default() -> Self {
        Wild {
            any: None,
            many: None,
            globs: Vec::new(),
        }
    }
}

impl<V> Node<V> {
    /// Whether a route ends here.
    pub(super) fn has_values(&self) -> bool {
        !self.values.is_empty() || self.tagged.is_some()
    }

    pub(super) fn wild(&self) -> Option<&Arc<Wild<V>>> {
        self.wild.as_ref()
    }
}

impl<V: Copy + Ord> Node<V> {
    pub(super) fn literal(&self, key: &Key<'_>) -> Option<&Arc<Node<V>>> {
        self.literals.get(key)
    }

    /// Appends the values of the routes that end here. Returns whether they may be out of order or
    /// hold one twice.
    pub(super) fn append_values(&self, out: &mut Vec<V>) -> bool {
        out.extend_from_slice(&self.values);
        let Some(tagged) = &self.tagged else {
            return false;
        };
        out.extend(tagged.iter().map(|&(value, _)| value));
        true
    }

    /// Whether the route `segments`, seen from here, has that value under that tag.
    pub(super) fn contains(&self, segments: &[Segment], value: V, tag: Tag) -> bool {
        let end = segments
            .iter()
            .try_fold(self, |node, segment| node.child(segment));
        end.is_some_and(|end| {
            if tag == Tag::ROUTE {
                end.values.binary_search(&value).is_ok()
            } else {
                let tagged = end.tagged.as_ref();
                tagged.is_some_and(|tagged| tagged.binary_search(&(value, tag)).is_ok())
            }
        })
    }

    /// Adds a value at the end of the route `segments`; it must not be there under that tag.
    pub(super) fn insert(&mut self, segments: &[Segment], value: V, tag: Tag) {
        let end = segments.iter().fold(self, Node::child_or_insert);
        if tag == Tag::ROUTE {
            let at = end.values.partition_point(|other| *other < value);
            list::insert(&mut end.values, at, value);
        } else {
            let tagged = end.tagged.get_or_insert_default();
            let at = tagged.partition_point(|other| *other < (value, tag));
            list::insert(tagged, at, (value, tag));
        }
    }

    /// Takes a value from the end of the route `segments`; it must be there under that tag.
    ///
    /// Recurses once for each segment, of which a route has 512 at most.
    pub(super) fn remove(&mut self, segments: &[Segment], value: V, tag: Tag) {
        match segments {
            [] if tag == Tag::ROUTE => {
                let at = self.values.binary_search(&value);
                list::remove(&mut self.values, at.expect("the route is there"));
            }
            [] => {
                let tagged = self.tagged.as_mut().expect("the route is there");
                let at = tagged.binary_search(&(value, tag));
                list::remove(tagged, at.expect("the route is there"));
                if tagged.is_empty() {
                    self.tagged = None;
                }
            }
            [Segment::Literal(text), rest @ ..] => {
                let key = Key::new(text);
                let child = self.literals.get_mut(&key).expect("the route is there");
                if remove_below(child, rest, value, tag) {
                    self.literals.remove(&key);
                }
            }
            [wildcard, rest @ ..] => {
                let wild = Arc::make_mut(self.wild.as_mut().expect("the route is there"));
                wild.remove(wildcard, rest, value, tag);
                if wild.is_empty() {
                    self.wild = None;
                }
            }
        }
    }

    /// Whether no route ends here or below.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_values() && self.literals.is_empty() && self.wild.is_none()
    }

    fn child(&self, segment: &Segment) -> Option<&Node<V>> {
        let wild = self.wild.as_ref();
        let child = match segment {
            Segment::Literal(text) => self.literals.get(&Key::new(text)),
            Segment::Any => wild?.any.as_ref(),
            Segment::Many => wild?.many.as_ref(),
            Segment::Glob(glob) => wild?.globs.iter().find(|(g, _)| g == glob).map(|(_, n)| n),
        };
        child.map(Arc::as_ref)
    }

    fn child_or_insert(&mut self, segment: &Segment) -> &mut Node<V> {
        let child = match segment {
            Segment::Literal(text) => self
                .literals
                .get_or_insert_with(&Key::new(text), Arc::default),
            wildcard => Arc::make_mut(self.wild.get_or_insert_default()).child_or_insert(wildcard),
        };
        Arc::make_mut(child)
    }
}

impl<V: Copy + Ord> Wild<V> {
    fn is_empty(&self) -> bool {
        self.any.is_none() && self.many.is_none() && self.globs.is_empty()
    }

    fn child_or_insert(&mut self, wildcard: &Segment) -> &mut Arc<Node<V>> {
        match wildcard {
            Segment::Literal(_) => unreachable!("no wildcard"),
            Segment::Any => self.any.get_or_insert_default(),
            Segment::Many => self.many.get_or_insert_default(),
            Segment::Glob(glob) => {
                let found = self.globs.iter().position(|(other, _)| other == glob);
                let at = found.unwrap_or_else(|| {
                    self.globs.push((Arc::clone(glob), Arc::default()));
                    self.globs.len() - 1
                });
                &mut self.globs[at].1
            }
        }
    }

    fn remove(&mut self, wildcard: &Segment, rest: &[Segment], value: V, tag: Tag) {
        let one = match wildcard {
            Segment::Literal(_) => unreachable!("no wildcard"),
            Segment::Any => &mut self.any,
            Segment::Many => &mut self.many,
            Segment::Glob(glob) => {
                let at = self.globs.iter().position(|(other, _)| other == glob);
                let at = at.expect("the route is there");
                if remove_below(&mut self.globs[at].1, rest, value, tag) {
                    self.globs.remove(at);
                }
                return;
            }
        };
        if remove_below(one.as_mut().expect("the route is there"), rest, value, tag) {
            *one = None;
        }
    }
}

/// Takes a value from below `child` and says whether nothing is left there.
fn remove_below<V: Copy + Ord>(
    child: &mut Arc<Node<V>>,
    rest: &[Segment],
    value: V,
    tag: Tag,
) -> bool {
    let child = Arc::make_mut(child);
    child.remove(rest, value, tag);
    child.is_empty()
}
