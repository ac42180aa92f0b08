//! The naive implementation: a list of pairs whose patterns are matched one by one. The index is
//! compared with it.

use crate::pattern::{Pattern, Topic};

/// A set of (pattern, value) pairs as a list.
#[derive(Clone, Debug, Default)]
pub struct List<V> {
    pairs: Vec<(Pattern, V)>,
}

impl<V: Copy + Ord> List<V> {
    /// Adds a pair. Returns false if the list has it.
    pub fn insert(&mut self, pattern: &Pattern, value: V) -> bool {
        let is_new = !self.contains(pattern, value);
        if is_new {
            self.pairs.push((pattern.clone(), value));
        }
        is_new
    }

    /// Removes a pair. Returns false if the list does not have it.
    pub fn remove(&mut self, pattern: &Pattern, value: V) -> bool {
        let was_there = self.contains(pattern, value);
        self.pairs.retain(|(p, v)| (p, *v) != (pattern, value));
        was_there
    }

    /// The values of all patterns that match, each once, in ascending order.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> Vec<V> {
        let hits = self
            .pairs
            .iter()
            .filter(|(pattern, _)| pattern.matches(topic));
        let mut values: Vec<V> = hits.map(|(_, value)| *value).collect();
        values.sort();
        values.dedup();
        values
    }

    /// The pairs in the order in which they were added.
    #[must_use]
    pub fn pairs(&self) -> &[(Pattern, V)] {
        &self.pairs
    }

    fn contains(&self, pattern: &Pattern, value: V) -> bool {
        self.pairs.iter().any(|(p, v)| (p, *v) == (pattern, value))
    }
}
