//! The check of the fuzz target, which uses private parts of the index.

use super::cache::MatchCache;
use super::naive::List;
use super::pattern_index::PatternIndex;
use super::shared::{IndexBatch, SharedIndex, Snapshot};
use super::walk::Scratch;
use crate::pattern::{Pattern, Syntax, Topic};

/// How many lines are used.
const LINES_MAX: usize = 96;
/// How many states are kept.
const KEPT_MAX: usize = 4;

/// Checks that index, shared index, caches, clones and snapshots agree with the naive
/// implementation under any sequence of operations.
///
/// The input has one operation to a line:
///
/// - `+` or `-`, a value and a pattern: inserts or removes a pair. A letter (`N`, `A`, `M`, `P` or
///   `R`) and a `:` before the pattern choose its language.
/// - `(` and `)`: the operations between them are one batch.
/// - `=`: keeps the current state, as a clone and as a snapshot. `/`: drops the oldest kept state.
/// - `!`: replaces the index by a clone of it.
/// - Any other line is a topic to look up.
///
/// # Panics
///
/// If they disagree, or if something remains when all pairs have been removed.
pub fn check_ops(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut run = Run::new();
    for line in text.split('\n').take(LINES_MAX) {
        match line.as_bytes() {
            [op @ (b'+' | b'-'), value, ..] if value.is_ascii() => {
                if let Some(pattern) = pattern(&line[2..]) {
                    run.change(*op == b'+', pattern, u32::from(*value) % 8);
                }
            }
            [b'('] => run.begin_batch(),
            [b')'] => run.end_batch(),
            [b'='] => run.keep(),
            [b'/'] => drop(run.kept.pop()),
            [b'!'] => run.index = run.index.clone(),
            _ => {
                if let Ok(topic) = Topic::new(line) {
                    run.check(&topic);
                }
            }
        }
    }
    run.remove_all();
}

/// In the corpus, no native pattern begins with an upper-case letter and a colon.
fn pattern(text: &str) -> Option<Pattern> {
    let syntax = match text.as_bytes() {
        [b'N', b':', ..] => Syntax::Nats,
        [b'A', b':', ..] => Syntax::Amqp,
        [b'M', b':', ..] => Syntax::Mqtt,
        [b'P', b':', ..] => Syntax::Path,
        [b'R', b':', ..] => Syntax::Redis,
        _ => return Pattern::parse(text).ok(),
    };
    Pattern::parse_as(&text[2..], syntax).ok()
}

struct Run {
    index: PatternIndex<u32>,
    shared: SharedIndex<u32>,
    /// The changes of the current batch, which the shared index gets at its end; `None` outside of
    /// batches.
    batch: Option<Vec<(bool, Pattern, u32)>>,
    list: List<u32>,
    /// The expected content of the shared index: that of `list` before the current batch.
    shared_list: List<u32>,
    /// The newest first.
    kept: Vec<Kept>,
    scratch: Scratch<u32>,
    /// So small that entries are evicted.
    cache: MatchCache<u32>,
    shared_cache: MatchCache<u32>,
}

/// A kept state.
struct Kept {
    clone: PatternIndex<u32>,
    list: List<u32>,
    snapshot: Snapshot<u32>,
    snapshot_list: List<u32>,
}

impl Run {
    fn new() -> Self {
        Run {
            index: PatternIndex::new(),
            shared: SharedIndex::new(),
            batch: None,
            list: List::default(),
            shared_list: List::default(),
            kept: Vec::new(),
            scratch: Scratch::default(),
            cache: MatchCache::with_sets(1),
            shared_cache: MatchCache::with_sets(2),
        }
    }

    fn change(&mut self, inserts: bool, pattern: Pattern, value: u32) {
        let (changes, changed) = if inserts {
            let is_new = self.list.insert(&pattern, value);
            (is_new, self.index.insert(&pattern, value))
        } else {
            let was_there = self.list.remove(&pattern, value);
            (was_there, self.index.remove(&pattern, &value))
        };
        assert_eq!(changed, changes, "{pattern} {value}");
        assert_eq!(self.index.len(), self.list.pairs().len());
        if let Some(batch) = &mut self.batch {
            batch.push((inserts, pattern, value));
            return;
        }
        let changed = if inserts {
            self.shared.insert(&pattern, value)
        } else {
            self.shared.remove(&pattern, &value)
        };
        assert_eq!(changed, changes, "{pattern} {value}");
        self.shared_list = self.list.clone();
    }

    fn begin_batch(&mut self) {
        self.batch.get_or_insert_default();
    }

    fn end_batch(&mut self) {
        let Some(changes) = self.batch.take() else {
            return;
        };
        let make = |batch: &mut IndexBatch<'_, u32>| {
            for (inserts, pattern, value) in &changes {
                if *inserts {
                    batch.insert(pattern, *value);
                } else {
                    batch.remove(pattern, value);
                }
            }
        };
        self.shared.batch(make);
        assert_eq!(self.shared.load().len(), self.list.pairs().len());
        self.shared_list = self.list.clone();
    }

    fn keep(&mut self) {
        let kept = Kept {
            clone: self.index.clone(),
            list: self.list.clone(),
            snapshot: self.shared.load(),
            snapshot_list: self.shared_list.clone(),
        };
        self.kept.insert(0, kept);
        self.kept.truncate(KEPT_MAX);
    }

    fn check(&mut self, topic: &Topic) {
        let expected = self.list.matches(topic);
        let mut found = vec![77];
        self.index
            .matches_with(topic, &mut self.scratch, &mut found);
        assert_eq!(found[0], 77, "values in the list are kept");
        assert_eq!(found[1..], expected, "{topic}: {:?}", self.list);
        let cached = self.cache.lookup(&self.index, topic);
        assert_eq!(cached, expected, "{topic}: {:?}", self.list);

        let list = &self.shared_list;
        let expected = list.matches(topic);
        let snapshot = self.shared.load();
        found.clear();
        snapshot.matches_with(topic, &mut self.scratch, &mut found);
        assert_eq!(found, expected, "{topic}: {list:?}");
        let cached = self.shared_cache.lookup(&snapshot, topic);
        assert_eq!(cached, expected, "{topic}: {list:?}");

        for kept in &self.kept {
            for (index, list) in [
                (&kept.clone, &kept.list),
                (&kept.snapshot, &kept.snapshot_list),
            ] {
                let expected = list.matches(topic);
                found.clear();
                index.matches_with(topic, &mut self.scratch, &mut found);
                assert_eq!(found, expected, "{topic}: {list:?}");
                // A cache may be used with different states in turn.
                for cache in [&mut self.cache, &mut self.shared_cache] {
                    assert_eq!(cache.lookup(index, topic), expected, "{topic}: {list:?}");
                }
            }
        }
    }

    fn remove_all(mut self) {
        self.end_batch();
        for (pattern, value) in self.list.pairs() {
            assert!(self.index.remove(pattern, value), "{pattern} {value}");
            assert!(self.shared.remove(pattern, value), "{pattern} {value}");
        }
        assert!(self.index.has_no_remains(), "something remains");
        assert!(self.shared.load().has_no_remains(), "something remains");
    }
}
