//! Character classes: a set of characters as sorted ranges.

use std::fmt::{self, Write};

/// The set of characters that a class matches.
///
/// No segment contains a dot, so it does not matter whether the dot is in the set. The normal form
/// includes it where both of its neighbours are in the set: `[+-9]` is one range.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Class {
    /// Whether the class matches the characters outside of `ranges`.
    negated: bool,
    /// First and last character of each range, sorted. There is at least one range, there is a gap
    /// between two, and none begins or ends with a dot.
    ranges: Box<[(char, char)]>,
}

impl Class {
    /// The class of these ranges, each with `first <= last`, which may overlap and be in any order.
    pub(super) fn new(negated: bool, mut items: Vec<(char, char)>) -> Self {
        items.sort_unstable();
        items.dedup_by(|item, before| {
            let continues = touches(before.1, item.0);
            if continues {
                before.1 = before.1.max(item.1);
            }
            continues
        });
        debug_assert!(!items.is_empty(), "a class has an item");
        debug_assert!(items.iter().all(|(first, last)| first <= last));
        Class {
            negated,
            ranges: items.into(),
        }
    }

    /// Whether `c`, which must not be a dot, is in the set.
    pub(crate) fn matches(&self, c: char) -> bool {
        let at = self.ranges.partition_point(|&(_, last)| last < c);
        self.ranges.get(at).is_some_and(|&(first, _)| first <= c) != self.negated
    }

    /// Whether the set contains no character that a topic can have.
    ///
    /// Only a negated class can be void, because topics can have both ends of each range.
    pub(super) fn is_void(&self) -> bool {
        // All scalar values but the control characters; the dot does not matter.
        let all = [(' ', '~'), ('\u{a0}', '\u{d7ff}'), ('\u{e000}', char::MAX)];
        let covers = |(low, high)| self.ranges.iter().any(|&(a, b)| a <= low && high <= b);
        self.negated && all.into_iter().all(covers)
    }

    /// First and last character of each range as it is written, whether the class is negated or
    /// not.
    pub(super) fn ranges(&self) -> &[(char, char)] {
        &self.ranges
    }

    /// The character in the set, if there is exactly one.
    pub(super) fn single(&self) -> Option<char> {
        match *self.ranges {
            [(first, last)] if first == last && !self.negated => Some(first),
            _ => None,
        }
    }

    /// Writes the canonical text: items in order, `^` for the negation, and each run of characters
    /// in the shorter one of its spellings. It is never longer than the text that was parsed.
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

/// Whether a range that begins with `first` continues a range that ends with `last`.
fn touches(last: char, first: char) -> bool {
    first <= last || first as u32 == last as u32 + 1 || (last, first) == ('-', '/')
}

/// Prints the canonical text.
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

    /// Whether the item would have another meaning right behind a `[` that is not escaped.
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

/// The items of a run of characters: one range, or single characters where that is not longer.
fn spell(&(first, last): &(char, char)) -> impl Iterator<Item = Item> {
    let bytes = |c: char| c.len_utf8() + usize::from(needs_escape(c));
    let range_bytes = bytes(first) + 1 + bytes(last);
    let singles = (first..=last).filter(|&c| c != '.');
    // Each character has at least one byte, so `range_bytes + 1` of them are enough to decide.
    let singles_bytes: usize = singles.clone().take(range_bytes + 1).map(bytes).sum();
    let is_range = singles_bytes > range_bytes;
    let range = is_range.then_some(Item::Range(first, last));
    let singles = (!is_range).then(|| singles.map(Item::One));
    range.into_iter().chain(singles.into_iter().flatten())
}

/// Moves an item to the front that does not look like a negation or a POSIX class there. False if
/// there is no such item.
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
    // The first item ends with `[`. The second must not make a POSIX class of that.
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
    fn a_range_includes_the_dot_between_its_neighbours() {
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
    fn items_with_another_meaning_in_front_are_moved_or_escaped() {
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
