//! What the fuzz target checks, here so that the tests replay its corpus through the same code.

use super::cache::MatchCache;
use super::naive::List;
use super::{PatternIndex, Scratch};
use crate::pattern::{Pattern, Topic};

/// Index, cache and snapshots agree with the list under any sequence of operations.
///
/// One operation to a line: `+` or `-`, a value and a pattern inserts or removes; `=` publishes a
/// snapshot; anything else is a topic to match.
///
/// # Panics
///
/// If they do not agree, or if something is left when all pairs were removed.
pub fn check_ops(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut run = Run::new();
    for line in text.split('\n').take(64) {
        match line.as_bytes() {
            [op @ (b'+' | b'-'), value, ..] if value.is_ascii() => {
                if let Ok(pattern) = Pattern::parse(&line[2..]) {
                    run.change(*op == b'+', &pattern, u32::from(*value) % 8);
                }
            }
            [b'='] => run.publish(),
            _ => {
                if let Ok(topic) = Topic::new(line) {
                    run.check(&topic);
                }
            }
        }
    }
    run.remove_all();
}

struct Run {
    index: PatternIndex<u32>,
    list: List<u32>,
    /// A clone of an earlier index, and what it should answer.
    published: (PatternIndex<u32>, List<u32>),
    scratch: Scratch<u32>,
    /// So small that entries are thrown out.
    cache: MatchCache,
    published_cache: MatchCache,
}

impl Run {
    fn new() -> Self {
        Run {
            index: PatternIndex::new(),
            list: List::default(),
            published: (PatternIndex::new(), List::default()),
            scratch: Scratch::default(),
            cache: MatchCache::with_sets(1),
            published_cache: MatchCache::with_sets(2),
        }
    }

    fn change(&mut self, inserts: bool, pattern: &Pattern, value: u32) {
        if inserts {
            let is_new = self.list.insert(pattern, value);
            assert_eq!(
                self.index.insert(pattern, value),
                is_new,
                "{pattern} {value}"
            );
        } else {
            let was_there = self.list.remove(pattern, value);
            assert_eq!(
                self.index.remove(pattern, &value),
                was_there,
                "{pattern} {value}"
            );
        }
        assert_eq!(self.index.len(), self.list.pairs().len());
    }

    fn publish(&mut self) {
        self.published = (self.index.clone(), self.list.clone());
    }

    fn check(&mut self, topic: &Topic) {
        let expected = self.list.matches(topic);
        let mut found = vec![77];
        self.index
            .matches_with(topic, &mut self.scratch, &mut found);
        assert_eq!(found[0], 77, "what was there stays");
        assert_eq!(found[1..], expected, "{topic}: {:?}", self.list);
        assert_eq!(
            self.cache.lookup(&self.index, topic),
            expected,
            "{topic}: {:?}",
            self.list
        );

        let (index, list) = &self.published;
        let expected = list.matches(topic);
        assert_eq!(
            self.published_cache.lookup(index, topic),
            expected,
            "{topic}: {list:?}"
        );
        // A cache may be asked about one snapshot and another in turn.
        assert_eq!(
            self.cache.lookup(index, topic),
            expected,
            "{topic}: {list:?}"
        );
    }

    fn remove_all(mut self) {
        for (pattern, value) in self.list.pairs() {
            assert!(self.index.remove(pattern, value), "{pattern} {value}");
        }
        assert!(
            self.index.is_empty() && self.index.root.is_empty(),
            "{:?}",
            self.index.root
        );
    }
}
