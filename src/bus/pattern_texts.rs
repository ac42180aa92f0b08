//! The patterns of a subscription, stored as their texts.
//!
//! The patterns of a subscription are needed again when they change, when the program reads them,
//! and when the subscription ends. There is one list for each subscription, so the lists must be
//! small. The parsed pattern `t.7.x` takes 173 bytes in five or more allocations; here it takes 7
//! bytes in the one allocation for all patterns (2026-11-22). Parsing a text again takes about a
//! microsecond. It cannot fail, because the text was parsed before.
//!
//! A change of such a list reads and copies all of it. So a subscription with many patterns has a
//! [`TextTable`] instead, where a pattern takes about ten bytes more.

use super::text_table::TextTable;
use crate::pattern::{Pattern, Syntax};

/// The most patterns in one list.
const LIST_MAX: usize = 16;

/// The patterns of a subscription.
pub(super) enum PatternTexts {
    Few(TextList),
    /// More than [`LIST_MAX`] patterns, or fewer if some were removed; never none.
    Many(Box<TextTable>),
}

impl PatternTexts {
    /// The patterns must differ.
    pub(super) fn new(patterns: &[Pattern]) -> Self {
        if patterns.len() <= LIST_MAX {
            return Self::Few(TextList::new(patterns));
        }
        let mut table = TextTable::new();
        for pattern in patterns {
            table.push(pattern);
        }
        Self::Many(Box::new(table))
    }

    /// Adds a pattern. There must be no equal one.
    pub(super) fn push(&mut self, pattern: &Pattern) {
        if let Self::Few(list) = self {
            if list.each().count() < LIST_MAX {
                return list.push(pattern);
            }
            let mut table = TextTable::new();
            for pattern in list.parse() {
                table.push(&pattern);
            }
            *self = Self::Many(Box::new(table));
        }
        if let Self::Many(table) = self {
            table.push(pattern);
        }
    }

    /// Removes the pattern that is equal to this one, in whatever spelling. The patterns must
    /// contain it.
    pub(super) fn remove(&mut self, pattern: &Pattern) {
        match self {
            Self::Few(list) => list.remove(pattern),
            Self::Many(table) => {
                let was_there = table.remove(pattern);
                debug_assert!(was_there, "it was in the index");
                if table.len() == 0 {
                    *self = Self::Few(TextList::default());
                }
            }
        }
    }

    /// Returns all patterns, in the order in which they were added.
    pub(super) fn parse(&self) -> Vec<Pattern> {
        match self {
            Self::Few(list) => list.parse(),
            Self::Many(table) => table.parse(),
        }
    }
}

/// An entry for each text: its length, the mark of its syntax, and the text, as in
/// `5:t.7.x4:a.**3/a/#`. The length says where a text ends, because a pattern may contain any
/// character.
#[derive(Default)]
pub(super) struct TextList(Box<str>);

impl TextList {
    fn new(patterns: &[Pattern]) -> Self {
        let mut texts = String::new();
        for pattern in patterns {
            push_entry(&mut texts, pattern);
        }
        Self(texts.into_boxed_str())
    }

    fn push(&mut self, pattern: &Pattern) {
        let mut texts = std::mem::take(&mut self.0).into_string();
        push_entry(&mut texts, pattern);
        self.0 = texts.into_boxed_str();
    }

    fn remove(&mut self, pattern: &Pattern) {
        // Most texts are identical or in canonical form. Only other texts have to be parsed.
        let alike = |text: &str| text == pattern.as_str() || text == pattern.canonical();
        let found = self.find(pattern.syntax(), alike).or_else(|| {
            self.find(pattern.syntax(), |text| {
                Pattern::parse_again(text, pattern.syntax()) == *pattern
            })
        });
        let (from, to) = found.expect("the list contains the pattern");
        let mut texts = std::mem::take(&mut self.0).into_string();
        texts.replace_range(from..to, "");
        self.0 = texts.into_boxed_str();
    }

    fn parse(&self) -> Vec<Pattern> {
        let texts = self.each();
        texts
            .map(|text| Pattern::parse_again(text.text, text.syntax))
            .collect()
    }

    /// The position where the entry of the first wanted text in that syntax begins, and the
    /// position where it ends.
    fn find(&self, syntax: Syntax, wanted: impl Fn(&str) -> bool) -> Option<(usize, usize)> {
        let mut texts = self.each();
        let found = texts.find(|placed| placed.syntax == syntax && wanted(placed.text))?;
        Some((found.from, found.to))
    }

    fn each(&self) -> impl Iterator<Item = Placed<'_>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let entry = &self.0[from..];
            let digits = entry.find(|c: char| !c.is_ascii_digit())?;
            let len: usize = entry[..digits].parse().expect("written by `push_entry`");
            let syntax = Syntax::ALL
                .into_iter()
                .find(|&syntax| entry[digits..].starts_with(mark(syntax)));
            let text = &entry[digits + 1..][..len];
            let placed = Placed {
                from,
                to: from + digits + 1 + len,
                syntax: syntax.expect("written by `push_entry`"),
                text,
            };
            from = placed.to;
            Some(placed)
        })
    }
}

/// A text, and the positions where its entry begins and ends.
struct Placed<'a> {
    from: usize,
    to: usize,
    syntax: Syntax,
    text: &'a str,
}

fn push_entry(texts: &mut String, pattern: &Pattern) {
    let text = pattern.as_str();
    texts.push_str(&text.len().to_string());
    texts.push(mark(pattern.syntax()));
    texts.push_str(text);
}

/// The character between the length and the text. It is one byte long for every syntax.
fn mark(syntax: Syntax) -> char {
    match syntax {
        Syntax::Segments => ':',
        Syntax::Nats => '>',
        Syntax::Amqp => '#',
        Syntax::Mqtt => '/',
        Syntax::Path => '?',
        Syntax::Redis => '*',
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::pattern::{TOPIC_BYTES_MAX, Topic};

    #[test]
    fn texts_are_returned_unchanged() {
        let long = Topic::new("*".repeat(TOPIC_BYTES_MAX)).expect("as long as a topic may be");
        let mut patterns = vec![
            Pattern::parse("a.[!ba]").expect("valid"),
            Pattern::exact(&long),
            Pattern::parse("5:x.{y,é:}").expect("valid"),
            Pattern::parse("*").expect("valid"),
        ];
        let mut texts = PatternTexts::new(&patterns);
        let written = |patterns: &[Pattern]| -> Vec<String> {
            patterns.iter().map(|p| p.as_str().to_owned()).collect()
        };
        assert_eq!(written(&texts.parse()), written(&patterns));
        // Written in another way, in the same way, and in canonical form.
        for (other, at) in [("a.[^ab]", 0), ("5:x.{y,é:}", 1), ("**", 1)] {
            texts.remove(&Pattern::parse(other).expect("valid"));
            patterns.remove(at);
            assert_eq!(written(&texts.parse()), written(&patterns));
        }
        texts.remove(&Pattern::exact(&long));
        assert!(texts.parse().is_empty());
        texts.push(&Pattern::parse("b").expect("valid"));
        assert_eq!(texts.parse()[0].as_str(), "b");
    }

    #[test]
    fn few_become_many_and_are_all_kept() {
        let pattern = |n: usize| Pattern::parse(&format!("t.[ba]{n}")).expect("valid");
        let check = |texts: &PatternTexts, expected: std::ops::Range<usize>| {
            let expected: Vec<_> = expected.map(|n| format!("t.[ba]{n}")).collect();
            let patterns = texts.parse();
            let texts: Vec<_> = patterns.iter().map(Pattern::as_str).collect();
            assert_eq!(texts, expected);
        };
        for count in [LIST_MAX, LIST_MAX + 1, 3 * LIST_MAX] {
            let at_once: Vec<_> = (0..count).map(pattern).collect();
            let mut texts = PatternTexts::new(&at_once);
            check(&texts, 0..count);
            let mut one_by_one = PatternTexts::new(&[]);
            for (n, pattern) in at_once.iter().enumerate() {
                one_by_one.push(pattern);
                check(&one_by_one, 0..n + 1);
            }
            for n in 0..count {
                check(&texts, n..count);
                texts.remove(&Pattern::parse(&format!("t.[ab]{n}")).expect("valid"));
            }
            assert!(matches!(&texts, PatternTexts::Few(list) if list.0.is_empty()));
        }
        assert_eq!(size_of::<PatternTexts>(), 16, "as large as the list alone");
    }
}
