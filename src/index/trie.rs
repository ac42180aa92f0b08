//! The trie: a node for each beginning of a route, with the values of the routes that end there.
//!
//! All nodes are in one table. A node is found by the number of its parent and the symbol of the
//! part that leads to it. So a step takes one look-up, and a node takes 24 bytes (with values of
//! four bytes) wherever it is in the trie. What few nodes have is in other tables: several values,
//! and [matchers](super::matchers).
//!
//! There is one root for the routes that are open to all topics, and one for those with a
//! [guard](Guard). A node exists as long as a route ends in it or below it. Then its number is
//! assigned again.

use std::num::NonZeroU32;

use super::interner::{IDS_MAX, IdPool, Interner, Matcher, Part, Symbol};
use super::matchers::Matchers;
use super::sorted::Sorted;
use super::table::{Entry, Mixer, Table};
use crate::pattern::{Guard, Route, Segment, Syntax};

/// Distinguishes the patterns that bring a value to a node.
///
/// A pattern with one route is determined by the node and its language, because patterns in two
/// languages are different even if they mean the same. A pattern with several routes shares its
/// nodes with other patterns; its tag is a keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag(u64);

impl Tag {
    /// The tag of a pattern of the native language with one route.
    const NATIVE: Tag = Tag(Syntax::Segments as u64);

    pub(super) fn of_route(syntax: Syntax) -> Self {
        Tag(syntax as u64)
    }

    pub(super) fn of_several(hash: u64) -> Self {
        Tag(hash.max(u64::from(u8::MAX) + 1))
    }
}

/// The parent of the roots.
pub(super) const NO_NODE: u32 = 0;
/// The symbol that leads to the root of the routes with this guard.
pub(super) const fn root(guard: Guard) -> Symbol {
    match guard {
        Guard::Open => 1,
        Guard::NoDollar => 2,
    }
}
/// The symbol that leads over one segment, whatever it is.
pub(super) const ANY: Symbol = 3;
/// The symbol that leads over any number of segments.
pub(super) const MANY: Symbol = 4;

/// Routes and their values.
#[derive(Clone)]
pub(super) struct Trie<V> {
    nodes: Table<Node<V>>,
    /// The values of the nodes that have several.
    sets: Table<Set<V>>,
    interner: Interner,
    matchers: Matchers,
    numbers: IdPool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Node<V> {
    /// The parent of this node, and the symbol that leads from there to here. No two nodes agree in
    /// both.
    parent: u32,
    symbol: Symbol,
    number: NonZeroU32,
    pub(super) children: ChildKinds,
    values: Values<V>,
}

/// The kinds of children that a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ChildKinds(u32);

/// The values of the routes that end in a node.
#[derive(Clone, Copy, Debug)]
enum Values<V> {
    None,
    /// One value, with the tag of its language.
    One(u8, V),
    /// The values are in the table of sets, under the number of the node.
    Set,
}

impl<V> Values<V> {
    /// A single value; `None` if its tag does not fit into a node.
    fn one(value: V, tag: Tag) -> Option<Self> {
        let language = u8::try_from(tag.0).ok()?;
        Some(Values::One(language, value))
    }
}

/// The values of a node that has several, or has one whose tag does not fit into a node.
#[derive(Clone)]
struct Set<V> {
    node: u32,
    /// The values with [`Tag::NATIVE`].
    plain: Sorted<V>,
    /// The values with other tags.
    tagged: Sorted<(V, Tag)>,
}

/// The key of a node in the table.
#[derive(Clone, Copy)]
struct Key {
    parent: u32,
    symbol: Symbol,
}

impl<V: Copy> Entry for Node<V> {
    /// With 7 eighths, walks took 1.03 times as long (November 2026, medians of eight runs in turn,
    /// a million subscriptions). With 5, an idle subscription with two nodes takes more than a
    /// kibibyte.
    const LOAD_EIGHTHS: u32 = 6;

    #[inline]
    fn hash(&self, mixer: Mixer) -> u64 {
        mixer.mix(self.parent, self.symbol)
    }
}

impl<V: Clone> Entry for Set<V> {
    fn hash(&self, mixer: Mixer) -> u64 {
        mixer.mix(0, self.node)
    }
}

impl<V> Trie<V> {
    pub(super) fn new() -> Self {
        Trie {
            nodes: Table::new(),
            sets: Table::new(),
            interner: Interner::new(),
            matchers: Matchers::new(),
            numbers: IdPool::from(1),
        }
    }

    pub(super) fn interner(&self) -> &Interner {
        &self.interner
    }

    pub(super) fn matchers(&self) -> &Matchers {
        &self.matchers
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
            && self.sets.is_empty()
            && self.interner.is_empty()
            && self.matchers.is_empty()
            && self.numbers.all_are_free()
    }
}

impl<V: Copy + Ord> Trie<V> {
    /// The child of `parent` that `symbol` leads to.
    #[inline]
    pub(super) fn child(&self, parent: u32, symbol: Symbol) -> Option<&Node<V>> {
        self.child_of_hash(parent, symbol, self.hash_of_child(parent, symbol))
    }

    /// The hash for a look-up in two steps: [`prefetch`](Self::prefetch), then
    /// [`child_of_hash`](Self::child_of_hash).
    #[inline]
    pub(super) fn hash_of_child(&self, parent: u32, symbol: Symbol) -> u64 {
        self.nodes.mixer().mix(parent, symbol)
    }

    /// Reads the memory of a child, if there is one, so that it is in the cache.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) -> bool {
        self.nodes.prefetch(hash)
    }

    #[inline]
    pub(super) fn child_of_hash(&self, parent: u32, symbol: Symbol, hash: u64) -> Option<&Node<V>> {
        self.nodes
            .find(hash, |node| node.parent == parent && node.symbol == symbol)
    }

    /// Appends the values of the routes that end in this node. Returns whether they may be out of
    /// order or contain a value twice.
    pub(super) fn append_values(&self, node: &Node<V>, out: &mut Vec<V>) -> bool {
        match node.values {
            Values::None => false,
            Values::One(_, value) => {
                out.push(value);
                false
            }
            Values::Set => {
                let set = self.set(node.number.get());
                set.plain
                    .slices()
                    .for_each(|slice| out.extend_from_slice(slice));
                let tagged = set.tagged.slices().flatten();
                out.extend(tagged.map(|&(value, _)| value));
                !set.tagged.is_empty()
            }
        }
    }

    /// Adds a value at the end of the route. Returns false and changes nothing if it is there with
    /// this tag.
    pub(super) fn insert(&mut self, route: &Route, value: V, tag: Tag) -> bool {
        let mut key = Key {
            parent: NO_NODE,
            symbol: root(route.guard()),
        };
        let mut number = match self.child(key.parent, key.symbol) {
            Some(node) => node.number.get(),
            None => self.add_node(key, Values::None),
        };
        let mut steps = Step::all_of(route).peekable();
        while let Some(step) = steps.next() {
            let is_last = steps.peek().is_none();
            (key, number) = match self.step(number, &step) {
                Some(next) => next,
                None => {
                    // A new last node gets its value at once, which saves a look-up of the node.
                    if is_last && let Some(values) = Values::one(value, tag) {
                        self.add_step(key, number, &step, values);
                        return true;
                    }
                    self.add_step(key, number, &step, Values::None)
                }
            };
        }
        self.add_value(key, number, value, tag)
    }

    /// Removes a value from the end of the route. Returns false and changes nothing if it is not
    /// there with this tag.
    pub(super) fn remove(&mut self, route: &Route, value: V, tag: Tag) -> bool {
        let mut key = Key {
            parent: NO_NODE,
            symbol: root(route.guard()),
        };
        let Some(node) = self.child(key.parent, key.symbol) else {
            return false;
        };
        let mut number = node.number.get();
        let mut steps = Vec::with_capacity(route.segments().len() + 1);
        for step in Step::all_of(route) {
            let Some(next) = self.step(number, &step) else {
                return false;
            };
            steps.push((key, step));
            (key, number) = next;
        }
        if !self.take_value(key, number, value, tag) {
            return false;
        }
        while self.remove_if_bare(key) {
            let Some((above, step)) = steps.pop() else {
                break;
            };
            self.forget_step(above, key, &step);
            key = above;
        }
        true
    }

    /// Copies all memory that is shared with other tries.
    pub(super) fn unshare(&mut self) {
        self.nodes.unshare();
        self.sets.unshare();
        self.interner.unshare();
        self.matchers.unshare();
    }

    fn set(&self, node: u32) -> &Set<V> {
        let hash = self.sets.mixer().mix(0, node);
        let set = self.sets.find(hash, |set| set.node == node);
        set.expect("a node with this flag has a set")
    }

    fn set_mut(&mut self, node: u32) -> &mut Set<V> {
        let hash = self.sets.mixer().mix(0, node);
        let set = self.sets.find_mut(hash, |set| set.node == node);
        set.expect("a node with this flag has a set")
    }

    fn node_mut(&mut self, key: Key) -> &mut Node<V> {
        let hash = self.nodes.mixer().mix(key.parent, key.symbol);
        let node = self.nodes.find_mut(hash, |node| node.is_at(key));
        node.expect("the node is there")
    }

    /// The child that the step leads to, if there is one.
    fn step(&self, parent: u32, step: &Step<'_>) -> Option<(Key, u32)> {
        let symbol = match step {
            Step::Any => ANY,
            Step::Many => MANY,
            Step::Literal(text) => self.interner.literal(text)?,
            Step::Matcher(matcher) => self.interner.symbol(Part::Matcher(matcher))?,
        };
        let node = self.child(parent, symbol)?;
        Some((node.key(), node.number.get()))
    }

    /// Adds a child that the step leads to, below the node of this key and number.
    fn add_step(
        &mut self,
        above: Key,
        parent: u32,
        step: &Step<'_>,
        values: Values<V>,
    ) -> (Key, u32) {
        let symbol = match step {
            Step::Any => ANY,
            Step::Many => MANY,
            Step::Literal(text) => self.interner.acquire(Part::Literal(text)),
            Step::Matcher(matcher) => {
                let symbol = self.interner.acquire(Part::Matcher(matcher));
                self.matchers.add(parent, symbol, matcher);
                symbol
            }
        };
        self.node_mut(above).children.add(step);
        let key = Key { parent, symbol };
        (key, self.add_node(key, values))
    }

    fn add_node(&mut self, key: Key, values: Values<V>) -> u32 {
        let number = self.numbers.assign();
        self.nodes.insert(Node {
            parent: key.parent,
            symbol: key.symbol,
            number: NonZeroU32::new(number).expect("numbers begin at 1"),
            children: ChildKinds::default(),
            values,
        });
        number
    }

    /// Removes the node if no route ends in it or below it. Returns whether it did.
    fn remove_if_bare(&mut self, key: Key) -> bool {
        let hash = self.nodes.mixer().mix(key.parent, key.symbol);
        let node = self.nodes.find(hash, |node| node.is_at(key));
        let node = node.expect("the node is there");
        if node.children != ChildKinds::default() || !matches!(node.values, Values::None) {
            return false;
        }
        self.numbers.release(node.number.get());
        self.nodes.remove(hash, |node| node.is_at(key));
        true
    }

    /// Updates the rest of the trie after the node at `key` was removed.
    fn forget_step(&mut self, above: Key, key: Key, step: &Step<'_>) {
        let was_last = match step {
            Step::Any | Step::Many => true,
            Step::Literal(text) => {
                self.interner.release(Part::Literal(text));
                true
            }
            Step::Matcher(matcher) => {
                self.interner.release(Part::Matcher(matcher));
                self.matchers.remove(key.parent, key.symbol, matcher)
            }
        };
        if was_last {
            self.node_mut(above).children.remove(step);
        }
    }

    fn add_value(&mut self, key: Key, number: u32, value: V, tag: Tag) -> bool {
        let node = self.node_mut(key);
        let before = match (node.values, Values::one(value, tag)) {
            (Values::Set, _) => return self.set_mut(number).insert(value, tag),
            (Values::None, Some(values)) => {
                node.values = values;
                return true;
            }
            (Values::None, None) => None,
            (Values::One(language, other), _) => Some((other, Tag(language.into()))),
        };
        if before == Some((value, tag)) {
            return false;
        }
        node.values = Values::Set;
        let mut set = Set {
            node: number,
            plain: Sorted::default(),
            tagged: Sorted::default(),
        };
        for (value, tag) in before.into_iter().chain([(value, tag)]) {
            set.insert(value, tag);
        }
        self.sets.insert(set);
        true
    }

    fn take_value(&mut self, key: Key, number: u32, value: V, tag: Tag) -> bool {
        let node = self.node_mut(key);
        match node.values {
            Values::None => false,
            Values::One(language, other) => {
                let is_there = (other, Tag(language.into())) == (value, tag);
                if is_there {
                    node.values = Values::None;
                }
                is_there
            }
            Values::Set => {
                let set = self.set_mut(number);
                let was_there = set.remove(value, tag);
                if let Some(left) = set.as_values() {
                    let hash = self.sets.mixer().mix(0, number);
                    self.sets.remove(hash, |set| set.node == number);
                    self.node_mut(key).values = left;
                }
                was_there
            }
        }
    }
}

impl<V: Copy + Ord> Set<V> {
    /// Adds a value. Returns false and changes nothing if it is there with this tag.
    fn insert(&mut self, value: V, tag: Tag) -> bool {
        match tag {
            Tag::NATIVE => self.plain.insert(value),
            tag => self.tagged.insert((value, tag)),
        }
    }

    /// Removes a value. Returns false and changes nothing if it is not there with this tag.
    fn remove(&mut self, value: V, tag: Tag) -> bool {
        match tag {
            Tag::NATIVE => self.plain.remove(&value),
            tag => self.tagged.remove(&(value, tag)),
        }
    }

    /// The form in which the node itself has these values, if they are so few.
    fn as_values(&self) -> Option<Values<V>> {
        match (self.plain.is_empty(), self.tagged.is_empty()) {
            (true, true) => Some(Values::None),
            (false, true) => self
                .plain
                .only()
                .map(|&value| Values::One(Tag::NATIVE.0 as u8, value)),
            (true, false) => {
                let &(value, tag) = self.tagged.only()?;
                let language = u8::try_from(tag.0).ok()?;
                Some(Values::One(language, value))
            }
            (false, false) => None,
        }
    }
}

impl<V> Node<V> {
    /// The number of the node: 1 to [`IDS_MAX`].
    #[inline]
    pub(super) fn number(&self) -> u32 {
        self.number.get()
    }

    #[inline]
    pub(super) fn has_values(&self) -> bool {
        !matches!(self.values, Values::None)
    }

    #[inline]
    fn key(&self) -> Key {
        Key {
            parent: self.parent,
            symbol: self.symbol,
        }
    }

    #[inline]
    fn is_at(&self, key: Key) -> bool {
        self.parent == key.parent && self.symbol == key.symbol
    }
}

/// The part of a route that leads from one node to the next.
enum Step<'a> {
    Literal(&'a str),
    Any,
    Many,
    Matcher(Matcher),
}

impl<'a> Step<'a> {
    /// The parts of a route: at least one.
    fn all_of(route: &'a Route) -> impl Iterator<Item = Self> {
        let tail = route.tail();
        let tail = tail.map(|tail| Step::Matcher(Matcher::Tail(tail.clone())));
        route.segments().iter().map(Step::of).chain(tail)
    }

    fn of(segment: &'a Segment) -> Self {
        match segment {
            Segment::Literal(text) => Step::Literal(text),
            Segment::Any => Step::Any,
            Segment::Many => Step::Many,
            Segment::Glob(glob) => Step::Matcher(Matcher::Glob(glob.clone())),
        }
    }
}

impl ChildKinds {
    /// How many children literals lead to: 0 to the number of nodes.
    const LITERALS: u32 = IDS_MAX;
    const ANY: u32 = 1 << 29;
    const MANY: u32 = 1 << 30;
    const MATCHERS: u32 = 1 << 31;

    #[inline]
    pub(super) fn has_literals(self) -> bool {
        self.0 & Self::LITERALS != 0
    }

    #[inline]
    pub(super) fn has_any(self) -> bool {
        self.0 & Self::ANY != 0
    }

    #[inline]
    pub(super) fn has_many(self) -> bool {
        self.0 & Self::MANY != 0
    }

    #[inline]
    pub(super) fn has_matchers(self) -> bool {
        self.0 & Self::MATCHERS != 0
    }

    fn add(&mut self, step: &Step<'_>) {
        debug_assert!(self.0 & Self::LITERALS < IDS_MAX, "there are fewer nodes");
        match step {
            Step::Literal(_) => self.0 += 1,
            Step::Any => self.0 |= Self::ANY,
            Step::Many => self.0 |= Self::MANY,
            Step::Matcher(_) => self.0 |= Self::MATCHERS,
        }
    }

    /// Removes one literal, or all children of another kind.
    fn remove(&mut self, step: &Step<'_>) {
        debug_assert!(
            !matches!(step, Step::Literal(_)) || self.has_literals(),
            "there is a literal to remove"
        );
        match step {
            Step::Literal(_) => self.0 -= 1,
            Step::Any => self.0 &= !Self::ANY,
            Step::Many => self.0 &= !Self::MANY,
            Step::Matcher(_) => self.0 &= !Self::MATCHERS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_four_byte_values_takes_24_bytes() {
        assert_eq!(size_of::<Option<Node<u32>>>(), 24);
    }
}
