//! Numbers for the parts of patterns, so that a step in the trie is found by two numbers and
//! compares no text.
//!
//! Each different plain text, glob and tail that is in use has a [`Symbol`]. So a walk looks each
//! segment of its topic up once, however many nodes it follows it from, and a text that no pattern
//! has is known to lead nowhere.

use std::sync::Arc;

use super::table::{Entry, Mixer, Table, keyed_hash};
use super::text::Text;
use crate::pattern::{Glob, Tail, hash_text};

/// The number of a part of a pattern; another part may have it when this one is in use no more.
pub(super) type Symbol = u32;

/// The first symbol that is given out; those below have a meaning of their own.
pub(super) const FIRST_NAME: Symbol = 16;

/// How many numbers can be in use at once, for nodes and for symbols: 536,870,911.
pub(super) const NUMBERS_MAX: u32 = (1 << 29) - 1;

/// What a symbol stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name<'a> {
    Literal(&'a str),
    Matcher(&'a Matcher),
}

/// What is asked instead of compared: a glob over a segment, or over the rest of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Matcher {
    Glob(Arc<Glob>),
    Tail(Arc<Tail>),
}

/// Which parts of patterns have which symbols.
#[derive(Clone)]
pub(super) struct Names {
    literals: Table<Named<Text>>,
    matchers: Table<Named<Matcher>>,
    symbols: Numbers,
}

#[derive(Clone)]
struct Named<T> {
    hash: u64,
    name: T,
    symbol: Symbol,
    /// Edges that bear it, at least 1.
    uses: u32,
}

impl<T: Clone> Entry for Named<T> {
    #[inline]
    fn hash(&self, _: Mixer) -> u64 {
        self.hash
    }
}

impl Names {
    pub(super) fn new() -> Self {
        Names {
            literals: Table::new(),
            matchers: Table::new(),
            symbols: Numbers::from(FIRST_NAME),
        }
    }

    /// The symbol of a segment as plain text.
    #[inline]
    pub(super) fn literal(&self, text: &str) -> Option<Symbol> {
        let found = self.literals.find(hash_text(text), is_text(text));
        found.map(|named| named.symbol)
    }

    pub(super) fn symbol(&self, name: Name<'_>) -> Option<Symbol> {
        match name {
            Name::Literal(text) => self.literal(text),
            Name::Matcher(matcher) => {
                let found = self.matchers.find(keyed_hash(matcher), is_matcher(matcher));
                found.map(|named| named.symbol)
            }
        }
    }

    /// The symbol, for one more edge.
    pub(super) fn acquire(&mut self, name: Name<'_>) -> Symbol {
        let symbols = &mut self.symbols;
        match name {
            Name::Literal(text) => {
                let name = || Text::new(text.as_bytes());
                acquire(
                    &mut self.literals,
                    hash_text(text),
                    is_text(text),
                    name,
                    symbols,
                )
            }
            Name::Matcher(matcher) => {
                let (hash, is) = (keyed_hash(matcher), is_matcher(matcher));
                acquire(&mut self.matchers, hash, is, || matcher.clone(), symbols)
            }
        }
    }

    /// One edge less.
    pub(super) fn release(&mut self, name: Name<'_>) {
        let symbols = &mut self.symbols;
        match name {
            Name::Literal(text) => {
                release(&mut self.literals, hash_text(text), is_text(text), symbols)
            }
            Name::Matcher(matcher) => {
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

fn is_text(text: &str) -> impl Fn(&Named<Text>) -> bool {
    move |named| named.name.as_bytes() == text.as_bytes()
}

fn is_matcher(matcher: &Matcher) -> impl Fn(&Named<Matcher>) -> bool {
    move |named| named.name == *matcher
}

fn acquire<T: Clone>(
    table: &mut Table<Named<T>>,
    hash: u64,
    is: impl Fn(&Named<T>) -> bool,
    name: impl FnOnce() -> T,
    symbols: &mut Numbers,
) -> Symbol {
    if let Some(named) = table.find_mut(hash, is) {
        named.uses += 1;
        return named.symbol;
    }
    let symbol = symbols.take();
    table.insert(Named {
        hash,
        name: name(),
        symbol,
        uses: 1,
    });
    symbol
}

fn release<T: Clone>(
    table: &mut Table<Named<T>>,
    hash: u64,
    is: impl Fn(&Named<T>) -> bool,
    symbols: &mut Numbers,
) {
    let named = table.find_mut(hash, &is).expect("the name is in use");
    named.uses -= 1;
    if named.uses == 0 {
        symbols.give_back(named.symbol);
        table.remove(hash, is);
    }
}

/// Numbers that are given out, and again when they came back.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    /// The first that was never given out.
    next: u32,
    first: u32,
    free: Vec<u32>,
}

impl Numbers {
    pub(super) fn from(first: u32) -> Self {
        Numbers {
            next: first,
            first,
            free: Vec::new(),
        }
    }

    /// A number that nobody has.
    ///
    /// # Panics
    ///
    /// If [`NUMBERS_MAX`] are in use.
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let number = self.next;
            assert!(
                number <= NUMBERS_MAX,
                "an index has {NUMBERS_MAX} nodes at most"
            );
            self.next += 1;
            number
        })
    }

    pub(super) fn give_back(&mut self, number: u32) {
        self.free.push(number);
        if self.free.len() as u32 == self.next - self.first {
            *self = Numbers::from(self.first);
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn all_are_back(&self) -> bool {
        self.next == self.first && self.free.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_symbol_while_it_is_in_use() {
        let mut names = Names::new();
        let a = names.acquire(Name::Literal("a"));
        let b = names.acquire(Name::Literal("b"));
        assert_eq!(
            (names.acquire(Name::Literal("a")), names.literal("a")),
            (a, Some(a))
        );
        assert_ne!(a, b);
        names.release(Name::Literal("a"));
        assert_eq!(names.literal("a"), Some(a));
        names.release(Name::Literal("a"));
        assert_eq!(names.literal("a"), None);
        assert_eq!(
            names.acquire(Name::Literal("c")),
            a,
            "numbers are used again"
        );
        names.release(Name::Literal("b"));
        names.release(Name::Literal("c"));
        assert!(names.is_empty());
    }

    #[test]
    fn the_last_number_is_given_out_and_no_other() {
        let mut numbers = Numbers::from(NUMBERS_MAX);
        assert_eq!(numbers.take(), NUMBERS_MAX);
        let more = std::panic::catch_unwind(move || numbers.take());
        assert!(more.is_err());
    }
}
