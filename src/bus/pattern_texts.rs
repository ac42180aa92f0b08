//! The patterns of a subscription, as their texts.
//!
//! They are needed again when they change, when somebody asks, and at the end, but there are as many as there are
//! subscriptions: `t.7.x` parsed is 173 bytes in five or more pieces, and here 7 in the one that holds them all
//! (2026-11-22). What was parsed before is parsed again in about a microsecond, and cannot be refused.

use crate::pattern::{Pattern, Syntax};

/// Each text with its length and the mark of its language in front of it, as in `5:t.7.x4:a.**3/a/#`: a pattern may
/// hold any character.
#[derive(Default)]
pub(super) struct PatternTexts(String);

impl PatternTexts {
    pub(super) fn new(patterns: &[Pattern]) -> Self {
        let mut texts = Self::default();
        patterns.iter().for_each(|pattern| texts.push(pattern));
        texts.0.shrink_to_fit();
        texts
    }

    pub(super) fn push(&mut self, pattern: &Pattern) {
        let text = pattern.as_str();
        self.0.push_str(&text.len().to_string());
        self.0.push(mark(pattern.syntax()));
        self.0.push_str(text);
    }

    /// Takes the equal pattern out, however it was written; it is there.
    pub(super) fn remove(&mut self, pattern: &Pattern) {
        // Most are written alike, or in canonical form; only else they are parsed.
        let alike = |text: &str| text == pattern.as_str() || text == pattern.canonical();
        let found = self.find(pattern.syntax(), alike).or_else(|| {
            self.find(pattern.syntax(), |text| {
                Pattern::parse_again(text, pattern.syntax()) == *pattern
            })
        });
        let (from, to) = found.expect("the index knows it");
        self.0.replace_range(from..to, "");
    }

    /// All of them, in the order in which they were added.
    pub(super) fn parse(&self) -> Vec<Pattern> {
        let texts = self.each();
        texts
            .map(|text| Pattern::parse_again(text.text, text.syntax))
            .collect()
    }

    /// Where the first of that language that is wanted begins and ends.
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
            let len: usize = entry[..digits].parse().expect("written by `push`");
            let syntax = Syntax::ALL
                .into_iter()
                .find(|&syntax| entry[digits..].starts_with(mark(syntax)));
            let text = &entry[digits + 1..][..len];
            let placed = Placed {
                from,
                to: from + digits + 1 + len,
                syntax: syntax.expect("written by `push`"),
                text,
            };
            from = placed.to;
            Some(placed)
        })
    }
}

/// A text, and where its entry begins and ends.
struct Placed<'a> {
    from: usize,
    to: usize,
    syntax: Syntax,
    text: &'a str,
}

/// What stands between the length and the text: one byte, so that no language costs more than another.
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
    fn texts_come_back_as_they_were() {
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
        // Written otherwise than it was, alike, and in canonical form.
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
}
