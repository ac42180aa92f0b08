//! Character classes: a set of characters as sorted ranges.

use std::fmt::{self, Write};

/// What a class matches one character against.
///
/// Never asked about a dot: segments have none. So whether the dot is in the set is open, and the
/// normal form closes the gap wherever both neighbours of the dot are in (`[+-9]` stays one range).
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Class {
    /// Whether it matches the characters outside of `ranges`.
    negated: bool,
    /// First and last character of each range: sorted, with gaps between them, at least one. No
    /// end is a dot.
    ranges: Box<[(char, char)]>,
}

impl Class {
    /// The class of the `items` as written, each with `first <= last`, in any order, overlapping
    /// or not.
    pub(super) fn new(negated: bool, mut items: Vec<(char, char)>) -> Self {
        items.sort_unstable();
        items.dedup_by(|item, before| {
            let continues = touches(before.1, item.0);
            if continues {
                before.1 = before.1.max(item.1);
            }
            continues
        });
        Class {
            negated,
            ranges: items.into(),
        }
    }

    /// Whether `c`, no dot, is matched.
    pub(crate) fn matches(&self, c: char) -> bool {
        let at = self.ranges.partition_point(|&(_, last)| last < c);
        self.ranges.get(at).is_some_and(|&(first, _)| first <= c) != self.negated
    }

    /// Whether no character of any topic is matched.
    ///
    /// Only a negated class can be that void: both ends of a range are characters that topics have.
    pub(super) fn is_void(&self) -> bool {
        // All scalar values but the controls, and the dot, over which ranges are closed.
        let all = [(' ', '~'), ('\u{a0}', '\u{d7ff}'), ('\u{e000}', char::MAX)];
        let covers = |(low, high)| self.ranges.iter().any(|&(a, b)| a <= low && high <= b);
        self.negated && all.into_iter().all(covers)
    }

    /// First and last character of each range that is matched, or left out if it is negated.
    pub(super) fn ranges(&self) -> &[(char, char)] {
        &self.ranges
    }

    /// The one character that is matched, if there is one alone.
    pub(super) fn single(&self) -> Option<char> {
        match *self.ranges {
            [(first, last)] if first == last && !self.negated => Some(first),
            _ => None,
        }
    }

    /// Writes the canonical text: items in order, `^` for the negation, each run of characters in the shorter of its
    /// spellings. It is never longer than the text that was parsed.
    pub(super) fn write(&self, out: &mut impl Write) -> fmt::Result {
        let mut items: Vec<Item> = self.ranges.iter().flat_map(spell).collect();
        out.write_str(if self.negated { "[^" } else { "[" })?;
        let escape_first = !self.negated && !put_harmless_first(&mut items);
        for (at, item) in items.iter().enumerate() {
            let next = items.get(at + 1);
            item.write(out, next, at == 0 && escape_first)?;
        }
        out.write_char(']')
    }
}

/// Whether a range that begins with `first` continues one that ends with `last`.
fn touches(last: char, first: char) -> bool {
    first <= last || first as u32 == last as u32 + 1 || (last, first) == ('-', '/')
}

/// The canonical text.
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

/// One item of a class as it is written.
#[derive(Clone, Copy)]
enum Item {
    One(char),
    Range(char, char),
}

impl Item {
    fn first(self) -> char {
        match self {
            Item::One(c) | Item::Range(c, _) => c,
        }
    }

    /// Whether it would be read as something else right behind a bare `[`.
    fn follows_bracket_badly(self) -> bool {
        matches!(self.first(), ':' | '=')
    }

    fn ends_with_bracket(self) -> bool {
        matches!(self, Item::One('[') | Item::Range(_, '['))
    }

    fn write(self, f: &mut impl Write, next: Option<&Item>, escape_first: bool) -> fmt::Result {
        let followed_badly = next.is_some_and(|next| next.follows_bracket_badly());
        let escape_last = self.ends_with_bracket() && followed_badly;
        match self {
            Item::One(c) => write_member(f, c, escape_first || escape_last),
            Item::Range(first, last) => {
                write_member(f, first, escape_first)?;
                f.write_char('-')?;
                write_member(f, last, escape_last)
            }
        }
    }
}

fn write_member(f: &mut impl Write, c: char, escape: bool) -> fmt::Result {
    if escape || needs_escape(c) {
        f.write_char('\\')?;
    }
    f.write_char(c)
}

fn needs_escape(c: char) -> bool {
    matches!(c, ']' | '\\' | '-')
}

/// A run of characters as a range, or one by one where that is not longer.
fn spell(&(first, last): &(char, char)) -> impl Iterator<Item = Item> {
    let bytes = |c: char| c.len_utf8() + usize::from(needs_escape(c));
    let range_bytes = bytes(first) + 1 + bytes(last);
    let singles = (first..=last).filter(|&c| c != '.');
    // Not all of them need a look: each has a byte at least.
    let singles_bytes: usize = singles.clone().take(range_bytes + 1).map(bytes).sum();
    let is_range = singles_bytes > range_bytes;
    let range = is_range.then_some(Item::Range(first, last));
    let singles = (!is_range).then(|| singles.map(Item::One));
    range.into_iter().chain(singles.into_iter().flatten())
}

/// Moves an item to the front that is not read as a negation or a POSIX class there. False if
/// there is none.
fn put_harmless_first(items: &mut [Item]) -> bool {
    let harmless = |item: &Item| !matches!(item.first(), '^' | '!' | ':' | '=');
    let best = items
        .iter()
        .position(|item| harmless(item) && !item.ends_with_bracket());
    if let Some(at) = best {
        items[..=at].rotate_right(1);
        return true;
    }
    let Some(at) = items.iter().position(harmless) else {
        return false;
    };
    items[..=at].rotate_right(1);
    // What leads ends with a bare `[`: what follows must not make that a POSIX class.
    if let Some(at) = items[1..]
        .iter()
        .position(|item| !item.follows_bracket_badly())
    {
        items[1..=at + 1].rotate_right(1);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(negated: bool, items: &[(char, char)]) -> Class {
        Class::new(negated, items.to_vec())
    }

    #[test]
    fn items_are_sorted_and_merged() {
        let one = class(false, &[('x', 'z'), ('a', 'c'), ('b', 'd'), ('e', 'e')]);
        assert_eq!(one, class(false, &[('a', 'e'), ('x', 'z')]));
        assert!(['a', 'e', 'y'].into_iter().all(|c| one.matches(c)));
        assert!(
            !['`', 'f', 'w', '{', 'é']
                .into_iter()
                .any(|c| one.matches(c))
        );
        assert_eq!(one.to_string(), "[a-exyz]");
        assert_eq!(class(true, &[('a', 'a')]).to_string(), "[^a]");
    }

    #[test]
    fn the_gap_at_the_dot_is_closed() {
        let whole = class(false, &[('+', '9')]);
        assert_eq!(class(false, &[('+', '-'), ('/', '9')]), whole);
        assert_eq!(whole.to_string(), "[+-9]");
        assert_eq!(
            class(false, &[('-', '-'), ('/', '/')]).to_string(),
            "[\\-/]"
        );
    }

    #[test]
    fn a_negation_of_everything_is_void() {
        assert!(class(true, &[(' ', char::MAX)]).is_void());
        assert!(class(true, &[(' ', '-'), ('/', '~'), ('\u{a0}', char::MAX)]).is_void());
        assert!(!class(true, &[(' ', '-'), ('/', '}'), ('\u{a0}', char::MAX)]).is_void());
        assert!(!class(false, &[(' ', char::MAX)]).is_void());
    }

    #[test]
    fn what_would_be_misread_goes_behind_or_is_escaped() {
        let print = |text: &str| {
            class(false, &text.chars().map(|c| (c, c)).collect::<Vec<_>>()).to_string()
        };
        assert_eq!(print("!a"), "[a!]");
        assert_eq!(print("^:"), "[\\:^]");
        assert_eq!(print("[:"), "[\\[:]");
        assert_eq!(print("[:^"), "[[^:]");
        assert_eq!(print("[:a"), "[a:[]");
        assert_eq!(print("!\"#$"), "[\\!-$]");
        assert_eq!(print("WXYZ[=~"), "[~=W-[]");
        assert_eq!(print("WXYZ[="), "[W-\\[=]");
        assert_eq!(print("WXYZ[=^!"), "[W-[!=^]");
        assert_eq!(print("]\\-"), "[\\-\\\\\\]]");
    }
}
