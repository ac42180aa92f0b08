//! Symbols: numbers for the parts of patterns, so that a step in the trie compares two numbers and
//! no text.
//!
//! Each plain text, glob and tail that is in use has a [`Symbol`]. So a walk looks up each segment
//! of its topic once, from however many nodes it continues, and finds out at once whether no
//! pattern has the text.

use std::sync::Arc;

use super::table::{Entry, Mixer, Table, keyed_hash};
use super::text::Text;
use crate::pattern::{Glob, Tail, hash_text};

/// The number of a part of a pattern. When the part is no longer in use, another part may get it.
pub(super) type Symbol = u32;

/// The first symbol that is assigned. Lower ones have a fixed meaning.
pub(super) const FIRST_SYMBOL: Symbol = 16;

/// The largest number of a node or symbol: 536,870,911. It is also the number of nodes or symbols
/// that can be in use at the same time.
pub(super) const IDS_MAX: u32 = (1 << 29) - 1;

/// A part of a pattern that has a symbol.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    Literal(&'a str),
    Matcher(&'a Matcher),
}

/// A part that matches texts and is not compared with them: a glob over a segment, or a tail over
/// the rest of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Matcher {
    Glob(Arc<Glob>),
    Tail(Arc<Tail>),
}

/// The symbols of the parts that are in use.
#[derive(Clone)]
pub(super) struct Interner {
    literals: Table<Interned<Text>>,
    matchers: Table<Interned<Matcher>>,
    symbols: IdPool,
}

#[derive(Clone)]
struct Interned<T> {
    hash: u64,
    part: T,
    symbol: Symbol,
    /// How many edges of the trie have it: at least 1.
    uses: u32,
}

impl<T: Clone> Entry for Interned<T> {
    #[inline]
    fn hash(&self, _: Mixer) -> u64 {
        self.hash
    }
}

impl Interner {
    pub(super) fn new() -> Self {
        Interner {
            literals: Table::new(),
            matchers: Table::new(),
            symbols: IdPool::from(FIRST_SYMBOL),
        }
    }

    /// The symbol of a segment as plain text, if a pattern has it.
    #[inline]
    pub(super) fn literal(&self, text: &str) -> Option<Symbol> {
        let found = self.literals.find(hash_text(text), is_text(text));
        found.map(|interned| interned.symbol)
    }

    /// The symbol of a part, if it is in use.
    pub(super) fn symbol(&self, part: Part<'_>) -> Option<Symbol> {
        match part {
            Part::Literal(text) => self.literal(text),
            Part::Matcher(matcher) => {
                let found = self.matchers.find(keyed_hash(matcher), is_matcher(matcher));
                found.map(|interned| interned.symbol)
            }
        }
    }

    /// The symbol of the part, which is used by one more edge.
    pub(super) fn acquire(&mut self, part: Part<'_>) -> Symbol {
        let symbols = &mut self.symbols;
        match part {
            Part::Literal(text) => {
                let part = || Text::new(text.as_bytes());
                acquire(
                    &mut self.literals,
                    hash_text(text),
                    is_text(text),
                    part,
                    symbols,
                )
            }
            Part::Matcher(matcher) => {
                let (hash, is) = (keyed_hash(matcher), is_matcher(matcher));
                acquire(&mut self.matchers, hash, is, || matcher.clone(), symbols)
            }
        }
    }

    /// Notes that one edge less uses the part.
    pub(super) fn release(&mut self, part: Part<'_>) {
        let symbols = &mut self.symbols;
        match part {
            Part::Literal(text) => {
                release(&mut self.literals, hash_text(text), is_text(text), symbols)
            }
            Part::Matcher(matcher) => {
                let (hash, is) = (keyed_hash(matcher), is_matcher(matcher));
                release(&mut self.matchers, hash, is, symbols);
            }
        }
    }

    pub(super) fn unshare(&mut self) {
        self.literals.unshare();
        self.matchers.unshare();
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.matchers.is_empty() && self.symbols.free.is_empty()
    }
}

fn is_text(text: &str) -> impl Fn(&Interned<Text>) -> bool {
    move |interned| interned.part.as_bytes() == text.as_bytes()
}

fn is_matcher(matcher: &Matcher) -> impl Fn(&Interned<Matcher>) -> bool {
    move |interned| interned.part == *matcher
}

fn acquire<T: Clone>(
    table: &mut Table<Interned<T>>,
    hash: u64,
    is: impl Fn(&Interned<T>) -> bool,
    part: impl FnOnce() -> T,
    symbols: &mut IdPool,
) -> Symbol {
    if let Some(interned) = table.find_mut(hash, is) {
        interned.uses += 1;
        return interned.symbol;
    }
    let symbol = symbols.assign();
    table.insert(Interned {
        hash,
        part: part(),
        symbol,
        uses: 1,
    });
    symbol
}

fn release<T: Clone>(
    table: &mut Table<Interned<T>>,
    hash: u64,
    is: impl Fn(&Interned<T>) -> bool,
    symbols: &mut IdPool,
) {
    let interned = table.find_mut(hash, &is).expect("the part is in use");
    debug_assert!(interned.uses > 0, "a part without uses is removed");
    interned.uses -= 1;
    if interned.uses == 0 {
        symbols.release(interned.symbol);
        table.remove(hash, is);
    }
}

/// Numbers that are assigned, and assigned again after they were released.
#[derive(Clone, Debug)]
pub(super) struct IdPool {
    /// The lowest number that was never assigned.
    next: u32,
    first: u32,
    free: Vec<u32>,
}

impl IdPool {
    pub(super) fn from(first: u32) -> Self {
        IdPool {
            next: first,
            first,
            free: Vec::new(),
        }
    }

    /// A number that is not in use.
    ///
    /// # Panics
    ///
    /// If [`IDS_MAX`] are in use.
    pub(super) fn assign(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let number = self.next;
            assert!(
                number <= IDS_MAX,
                "an index cannot have more than {IDS_MAX} nodes or texts"
            );
            self.next += 1;
            number
        })
    }

    pub(super) fn release(&mut self, number: u32) {
        debug_assert!(
            (self.first..self.next).contains(&number),
            "{number} was not assigned"
        );
        self.free.push(number);
        if self.free.len() as u32 == self.next - self.first {
            *self = IdPool::from(self.first);
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn all_are_free(&self) -> bool {
        self.next == self.first && self.free.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_keeps_its_symbol_while_it_is_in_use() {
        let mut interner = Interner::new();
        let a = interner.acquire(Part::Literal("a"));
        let b = interner.acquire(Part::Literal("b"));
        assert_eq!(
            (interner.acquire(Part::Literal("a")), interner.literal("a")),
            (a, Some(a))
        );
        assert_ne!(a, b);
        interner.release(Part::Literal("a"));
        assert_eq!(interner.literal("a"), Some(a));
        interner.release(Part::Literal("a"));
        assert_eq!(interner.literal("a"), None);
        assert_eq!(
            interner.acquire(Part::Literal("c")),
            a,
            "numbers are used again"
        );
        interner.release(Part::Literal("b"));
        interner.release(Part::Literal("c"));
        assert!(interner.is_empty());
    }

    #[test]
    fn the_highest_number_is_assigned_and_no_higher_one() {
        let mut numbers = IdPool::from(IDS_MAX);
        assert_eq!(numbers.assign(), IDS_MAX);
        let more = std::panic::catch_unwind(move || numbers.assign());
        assert!(more.is_err());
    }
}
