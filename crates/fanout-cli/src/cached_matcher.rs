//! Verdicts for many questions.
//!
//! Parsing a pattern takes longer than matching a topic, so parsed patterns are cached, in bounded
//! memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use fanout::{Pattern, Syntax};

/// The capacity of each of the two halves of the cache of a [`CachedMatcher`], in patterns.
///
/// Parsing a pattern takes a fraction of a microsecond. This many patterns stay in the caches of
/// the processor. With 65,536 patterns in a half, finding a pattern and freeing it later took twice
/// as long as parsing it again, although parsing took half a microsecond at that time (November
/// 2026, 300,000 questions with 300,000 different patterns).
const PATTERNS_REMEMBERED_MAX: usize = 1 << 12;

/// The number of places for the marks of patterns that a [`CachedMatcher`] has seen, and the number
/// of marks in each place.
///
/// Cached patterns are scattered in memory, and caching a pattern that occurs only once is wasted
/// work. A million questions with different patterns took 1.4 times as long when each pattern was
/// cached at its first occurrence, and 1.7 times as long with classes and braces (November 2026).
const MARK_PLACES: usize = 1 << 13;
const MARKS: usize = 4;

/// Returns verdicts, and caches patterns.
///
/// The cache is bounded and has two halves. When the young half is full, it becomes the old half,
/// and the previous old half is dropped. A pattern that is found in the old half moves to the young
/// half. So a pattern is found again if the number of other patterns in between is less than the
/// capacity of a half.
///
/// A pattern is cached at its second occurrence. At the first one, it leaves a mark of a few bits.
/// Another pattern may have the same mark, and is then cached at its first occurrence. If more than
/// [`MARKS`] patterns share a place, some of them may be parsed each time: about one in 600 if
/// 4,096 patterns occur in turn. The marks are the doorkeeper of TinyLFU (Einziger, Friedman and
/// Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", 2017).
pub(crate) struct CachedMatcher {
    syntax: Syntax,
    /// Some bits of the hash of each text, at the place that other bits of the hash select. The
    /// latest mark is the first one; 0 is no mark.
    seen: Box<[[u16; MARKS]]>,
    hasher: RandomState,
    young: Memory,
    old: Memory,
    /// The text of the last pattern, because several questions in a row often have the same
    /// pattern.
    last_text: Vec<u8>,
    /// The parsed `last_text`; `None` if it is not valid.
    last: Option<Pattern>,
}

/// Patterns by their text; `None` if the text is not valid.
type Memory = HashMap<Box<[u8]>, Option<Pattern>>;

impl CachedMatcher {
    pub(crate) fn new(syntax: Syntax) -> Self {
        CachedMatcher {
            syntax,
            seen: vec![[0; MARKS]; MARK_PLACES].into(),
            hasher: RandomState::new(),
            young: Memory::new(),
            old: Memory::new(),
            last_text: Vec::new(),
            last: read(b"", syntax),
        }
    }

    /// `1`, `0`, `E` or `T`, as `fanout match --help` documents them.
    pub(crate) fn verdict(&mut self, pattern: &[u8], topic: &[u8]) -> u8 {
        if self.last_text != pattern {
            self.last = self.recall(pattern);
            self.last_text.clear();
            self.last_text.extend_from_slice(pattern);
        }
        let Some(pattern) = &self.last else {
            return b'E';
        };
        let verdict = std::str::from_utf8(topic)
            .ok()
            .map(|topic| pattern.matches_text(topic));
        match verdict {
            Some(Ok(true)) => b'1',
            Some(Ok(false)) => b'0',
            _ => b'T',
        }
    }

    /// Returns the parsed text. It is cached from now on if it occurred before.
    fn recall(&mut self, text: &[u8]) -> Option<Pattern> {
        if let Some(pattern) = self.young.get(text) {
            return pattern.clone();
        }
        let pattern = match self.old.remove(text) {
            Some(pattern) => pattern,
            None => {
                let pattern = read(text, self.syntax);
                if !self.has_seen(text) {
                    return pattern;
                }
                pattern
            }
        };
        debug_assert!(self.young.len() <= PATTERNS_REMEMBERED_MAX);
        if self.young.len() == PATTERNS_REMEMBERED_MAX {
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
        }
        self.young.insert(text.into(), pattern.clone());
        pattern
    }

    /// Returns whether this text has a mark, so that it probably occurred before, and gives it one.
    fn has_seen(&mut self, text: &[u8]) -> bool {
        let hash = self.hasher.hash_one(text);
        let marks = &mut self.seen[hash as usize % MARK_PLACES];
        let mark = (hash >> 48) as u16 | 1;
        if marks.contains(&mark) {
            return true;
        }
        marks.rotate_right(1);
        marks[0] = mark;
        false
    }
}

fn read(pattern: &[u8], syntax: Syntax) -> Option<Pattern> {
    let pattern = std::str::from_utf8(pattern).ok()?;
    Pattern::parse_as(pattern, syntax).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judge_forgets_the_last_pattern_when_another_comes() {
        let mut matcher = CachedMatcher::new(Syntax::Segments);
        for (pattern, topic, verdict) in [
            (&b""[..], &b"a"[..], b'E'),
            (b"a.*", b"a.b", b'1'),
            (b"a.*", b"b.b", b'0'),
            (b"a..*", b"a.b", b'E'),
            (b"a.*", b"a..b", b'T'),
            (b"\xff", b"a.b", b'E'),
            (b"a.*", b"a.b", b'1'),
        ] {
            assert_eq!(
                matcher.verdict(pattern, topic),
                verdict,
                "{pattern:?} {topic:?}"
            );
        }
    }

    #[test]
    fn a_pattern_that_comes_once_is_not_remembered() {
        let mut matcher = CachedMatcher::new(Syntax::Segments);
        const MANY: usize = 1000;
        let look_up_each = |matcher: &mut CachedMatcher| {
            for number in 0..MANY {
                let (text, topic) = (format!("{number}.*"), format!("{number}.x"));
                assert_eq!(matcher.verdict(text.as_bytes(), topic.as_bytes()), b'1');
            }
        };
        look_up_each(&mut matcher);
        // Except for those that have the same mark as another pattern.
        let remembered = matcher.young.len();
        assert!(remembered < MANY / 20, "{remembered}");
        look_up_each(&mut matcher);
        // Except for those of which too many share a place.
        let remembered = matcher.young.len();
        assert!(
            (MANY * 19 / 20..=MANY).contains(&remembered),
            "{remembered}"
        );
    }

    #[test]
    fn memory_is_bounded_and_patterns_that_come_again_stay() {
        let mut matcher = CachedMatcher::new(Syntax::Segments);
        let most = PATTERNS_REMEMBERED_MAX;
        for number in 0..3 * most {
            let (text, topic) = (format!("{number}.*"), format!("{number}.x"));
            for _ in 0..2 {
                assert_eq!(matcher.verdict(text.as_bytes(), topic.as_bytes()), b'1');
                matcher.verdict(b"", b"in between");
            }
            assert_eq!(matcher.verdict(b"a.*", b"a.x"), b'1');
            assert_eq!(matcher.verdict(b"a..b", b"a.x"), b'E');
            assert!(matcher.young.len() <= most && matcher.old.len() <= most);
        }
        let remembered = |matcher: &CachedMatcher, text: &[u8]| {
            matcher.young.contains_key(text) || matcher.old.contains_key(text)
        };
        assert!(remembered(&matcher, b"a.*") && remembered(&matcher, b"a..b"));
        assert!(!remembered(&matcher, b"0.*"));
        assert!(!matcher.old.is_empty(), "both halves were in use");
    }
}
