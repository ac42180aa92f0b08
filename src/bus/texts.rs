//! The patterns of a subscription, as their texts.
//!
//! They are needed again when they change, when somebody asks, and at the end, but there are as many as there are
//! subscriptions: `t.7.x` parsed is 173 bytes in five or more pieces, and here 7 in the one that holds them all
//! (2026-11-22). What was parsed before is parsed again in about a microsecond, and cannot be refused.

use crate::pattern::Pattern;

/// Each text with its length in front of it, as in `5:t.7.x4:a.**`: a pattern may hold any character.
#[derive(Default)]
pub(super) struct Texts(String);

impl Texts {
    pub(super) fn new(patterns: &[Pattern]) -> Self {
        let mut texts = Self::default();
        patterns.iter().for_each(|pattern| texts.push(pattern));
        texts.0.shrink_to_fit();
        texts
    }

    pub(super) fn push(&mut self, pattern: &Pattern) {
        let text = pattern.as_str();
        self.0.push_str(&text.len().to_string());
        self.0.push(':');
        self.0.push_str(text);
    }

    /// Takes the equal pattern out, however it was written; it is there.
    pub(super) fn remove(&mut self, pattern: &Pattern) {
        // Most are written alike, or in canonical form; only else they are parsed.
        let alike = |text: &str| text == pattern.as_str() || text == pattern.canonical();
        let found = self
            .find(alike)
            .or_else(|| self.find(|text| Pattern::parse_again(text) == *pattern));
        let (from, to) = found.expect("the index knows it");
        self.0.replace_range(from..to, "");
    }

    /// All of them, in the order in which they were added.
    pub(super) fn parse(&self) -> Vec<Pattern> {
        let texts = self.each();
        texts
            .map(|(_, _, text)| Pattern::parse_again(text))
            .collect()
    }

    /// Where the first that is wanted begins and ends.
    fn find(&self, wanted: impl Fn(&str) -> bool) -> Option<(usize, usize)> {
        let mut texts = self.each();
        let (from, to, _) = texts.find(|(_, _, text)| wanted(text))?;
        Some((from, to))
    }

    /// Where each begins and ends, and the text.
    fn each(&self) -> impl Iterator<Item = (usize, usize, &str)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let from = at;
            let (len, rest) = self.0[from..].split_once(':')?;
            let text = &rest[..len.parse().expect("written by `push`")];
            at += len.len() + 1 + text.len();
            Some((from, at, text))
        })
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
        let mut texts = Texts::new(&patterns);
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
