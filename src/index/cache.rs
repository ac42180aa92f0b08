//! What the last topics matched, in front of the index.
//!
//! An entry remembers the two branches of the index that it was computed from: the one below the
//! topic's first segment, and the one of all patterns that begin with a wildcard. Branches are
//! shared between snapshots until something below them changes, so to compare their addresses is
//! to know whether the entry still holds, and a change elsewhere (`b.*`, for the topic `a.x`)
//! costs it one look-up. What is compared is kept alive as an empty shell (a weak count), so no
//! new branch can have an old address.
//!
//! The cache is bounded in entries and in values, and topics without a match take their places like
//! all others. A place is taken from entries that were not used again since they came, before those
//! that were: a flood of topics that come once each does not wash out the others.

use std::sync::{Arc, Weak};

use super::node::{Node, Wild};
use super::{PatternIndex, Scratch, map::Key};
use crate::pattern::Topic;

/// How many topics a cache remembers.
pub(crate) const CACHE_ENTRIES: usize = 4096;

/// How many values of one topic are kept: longer lists are computed each time.
pub(crate) const ENTRY_VALUES_MAX: usize = 1 << 16;

/// How many values are kept in all (4 MiB); what would pass it finds the cache emptied.
pub(crate) const CACHE_VALUES_MAX: usize = 1 << 20;

/// Places in a set. Of 1,000 topics more than eight share a set of eight in about one set of 5,000;
/// with sets of four that is one of 300, and those would compute again and again.
const WAYS: usize = 8;

/// A bounded cache for one reader of an index.
pub(crate) struct MatchCache {
    /// A power of two of them; the low bits of a topic's hash choose one.
    sets: Box<[Set]>,
    /// Capacity of the lists of all entries, in values: 0 to [`CACHE_VALUES_MAX`] and a little.
    values_kept: usize,
    snapshot: Snapshot,
    scratch: Scratch<u32>,
    /// What was computed last.
    found: Vec<u32>,
}

/// The last index that was asked.
struct Snapshot {
    root: Weak<Node<u32>>,
    /// Rises by one with each other index.
    generation: u64,
    wild: Option<Weak<Wild<u32>>>,
    /// Rises by one with each other wild branch.
    wild_generation: u64,
}

#[derive(Default)]
struct Set {
    /// High bits of the hash of each entry, to look at one entry alone; any for an empty entry.
    tags: [u32; WAYS],
    /// Bit i is set if entry i was used again since it came, or since the hand passed.
    used: u8,
    /// Where the search for a place begins: 0 to WAYS - 1.
    hand: usize,
    entries: [Entry; WAYS],
}

#[derive(Default)]
struct Entry {
    /// `None` for an empty place.
    topic: Option<Topic>,
    /// The generation of the snapshot in which it was last known to hold.
    generation: u64,
    wild_generation: u64,
    literal: Option<Weak<Node<u32>>>,
    values: Vec<u32>,
}

impl MatchCache {
    /// An empty cache with [`CACHE_ENTRIES`] places.
    pub(crate) fn new() -> Self {
        MatchCache::with_sets(CACHE_ENTRIES / WAYS)
    }

    /// The values that `index` has for `topic`: each once, in ascending order.
    ///
    /// Does not allocate once the lists have grown to what is needed.
    pub(crate) fn lookup<'a>(&'a mut self, index: &PatternIndex<u32>, topic: &Topic) -> &'a [u32] {
        self.snapshot.notice(index);
        let set = self.set_of(topic);
        let Some(way) = self.sets[set].find(topic) else {
            let way = self.sets[set].choose_place();
            return self.compute(index, topic, set, way);
        };
        let entry = &mut self.sets[set].entries[way];
        if entry.generation != self.snapshot.generation {
            if !self.snapshot.still_holds(entry, index, topic) {
                return self.compute(index, topic, set, way);
            }
            entry.generation = self.snapshot.generation;
        }
        self.sets[set].used |= 1 << way;
        &self.sets[set].entries[way].values
    }

    /// A cache of that many sets, a power of two.
    pub(super) fn with_sets(sets: usize) -> Self {
        assert!(sets.is_power_of_two(), "{sets} sets");
        MatchCache {
            sets: std::iter::repeat_with(Set::default).take(sets).collect(),
            values_kept: 0,
            snapshot: Snapshot {
                root: Weak::new(),
                generation: 0,
                wild: None,
                wild_generation: 0,
            },
            scratch: Scratch::default(),
            found: Vec::new(),
        }
    }

    /// The set for the topic, chosen by the low bits of its hash.
    fn set_of(&self, topic: &Topic) -> usize {
        topic.hash64() as usize & (self.sets.len() - 1)
    }

    /// Asks the index and keeps the answer in that place, if it is not too long.
    fn compute(
        &mut self,
        index: &PatternIndex<u32>,
        topic: &Topic,
        set: usize,
        way: usize,
    ) -> &[u32] {
        self.found.clear();
        index.matches_with(topic, &mut self.scratch, &mut self.found);
        if self.found.len() > ENTRY_VALUES_MAX {
            self.sets[set].entries[way].topic = None;
            return &self.found;
        }
        let room = self.sets[set].entries[way].values.capacity();
        if self.values_kept + self.found.len().saturating_sub(room) > CACHE_VALUES_MAX {
            self.sets.iter_mut().for_each(|set| *set = Set::default());
            self.values_kept = 0;
        }
        let set = &mut self.sets[set];
        set.tags[way] = tag(topic);
        set.used &= !(1 << way);
        let entry = &mut set.entries[way];
        self.values_kept -= entry.values.capacity();
        self.snapshot.fill(entry, index, topic, &self.found);
        self.values_kept += entry.values.capacity();
        &self.found
    }
}

impl Snapshot {
    /// Makes `index` the snapshot that entries are checked against.
    fn notice(&mut self, index: &PatternIndex<u32>) {
        if Weak::as_ptr(&self.root) == Arc::as_ptr(&index.root) {
            return;
        }
        self.root = Arc::downgrade(&index.root);
        self.generation += 1;
        if !is_same(self.wild.as_ref(), index.root.wild()) {
            self.wild = index.root.wild().map(Arc::downgrade);
            self.wild_generation += 1;
        }
    }

    /// Whether an entry of another snapshot holds in this one too.
    fn still_holds(&self, entry: &Entry, index: &PatternIndex<u32>, topic: &Topic) -> bool {
        entry.wild_generation == self.wild_generation
            && is_same(entry.literal.as_ref(), literal_branch(index, topic))
    }

    fn fill(&self, entry: &mut Entry, index: &PatternIndex<u32>, topic: &Topic, values: &[u32]) {
        entry.topic = Some(topic.clone());
        entry.generation = self.generation;
        entry.wild_generation = self.wild_generation;
        entry.literal = literal_branch(index, topic).map(Arc::downgrade);
        entry.values.clear();
        entry.values.reserve_exact(values.len());
        entry.values.extend_from_slice(values);
    }
}

impl Set {
    /// The place of `topic`.
    fn find(&self, topic: &Topic) -> Option<usize> {
        let tag = tag(topic);
        (0..WAYS)
            .find(|&way| self.tags[way] == tag && self.entries[way].topic.as_ref() == Some(topic))
    }

    /// A place for another topic: an empty one, or the next that was not used again.
    fn choose_place(&mut self) -> usize {
        if let Some(way) = self.entries.iter().position(|entry| entry.topic.is_none()) {
            return way;
        }
        while self.used & (1 << self.hand) != 0 {
            self.used &= !(1 << self.hand);
            self.hand = (self.hand + 1) % WAYS;
        }
        let way = self.hand;
        self.hand = (self.hand + 1) % WAYS;
        way
    }
}

fn tag(topic: &Topic) -> u32 {
    (topic.hash64() >> 32) as u32
}

/// The branch of the patterns that begin with the first segment of the topic as plain text.
fn literal_branch<'a>(index: &'a PatternIndex<u32>, topic: &Topic) -> Option<&'a Arc<Node<u32>>> {
    let first = topic.segments().next()?;
    index.root.literal(&Key::new(first))
}

fn is_same<T>(before: Option<&Weak<T>>, now: Option<&Arc<T>>) -> bool {
    before.map(Weak::as_ptr) == now.map(Arc::as_ptr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn topic(text: &str) -> Topic {
        Topic::new(text).unwrap()
    }

    /// Whether the cache has an entry for the topic that holds in the index.
    fn holds(cache: &mut MatchCache, index: &PatternIndex<u32>, topic: &Topic) -> bool {
        cache.snapshot.notice(index);
        let set = &cache.sets[cache.set_of(topic)];
        let entry = set.find(topic).map(|way| &set.entries[way]);
        entry.is_some_and(|entry| {
            entry.generation == cache.snapshot.generation
                || cache.snapshot.still_holds(entry, index, topic)
        })
    }

    #[test]
    fn an_unrelated_change_keeps_an_entry_and_a_related_one_does_not() {
        let mut index = PatternIndex::new();
        index.insert(&pattern("a.*"), 1);
        index.insert(&pattern("*.x"), 2);
        let mut cache = MatchCache::new();
        let asked = topic("a.x");
        let steps: [(&str, bool, &[u32]); 8] = [
            ("b.*", true, &[1, 2]),
            ("b.x.**", true, &[1, 2]),
            ("c", true, &[1, 2]),
            ("a.y", false, &[1, 2]),
            ("a.x", false, &[1, 2, 9]),
            ("*.y", false, &[1, 2, 9]),
            ("{b,c}.d", true, &[1, 2, 9]),
            ("{b,a}.x", false, &[1, 2, 9]),
        ];
        cache.lookup(&index.clone(), &asked);
        for (text, kept, values) in steps {
            let before = index.clone();
            index.insert(&pattern(text), 9);
            assert_eq!(holds(&mut cache, &index, &asked), kept, "{text}");
            assert_eq!(cache.lookup(&index, &asked), values, "{text}");
            // The same for the way back, and for a snapshot that nobody else holds.
            drop(before);
            index.remove(&pattern(text), &9);
            assert_eq!(holds(&mut cache, &index, &asked), kept, "{text}");
            index.insert(&pattern(text), 9);
            cache.lookup(&index, &asked);
        }
    }

    #[test]
    fn a_refused_change_keeps_everything() {
        let mut index = PatternIndex::from_iter([(pattern("a"), 1)]);
        let mut cache = MatchCache::new();
        cache.lookup(&index, &topic("a"));
        assert!(!index.insert(&pattern("a"), 1));
        assert!(!index.remove(&pattern("a"), &2));
        assert_eq!(cache.snapshot.root.as_ptr(), Arc::as_ptr(&index.root));
    }

    #[test]
    fn a_first_pattern_below_a_new_literal_is_seen() {
        let mut index = PatternIndex::new();
        let mut cache = MatchCache::new();
        assert!(cache.lookup(&index, &topic("a.b")).is_empty());
        assert!(
            holds(&mut cache, &index, &topic("a.b")),
            "empty answers are kept too"
        );
        index.insert(&pattern("a.b"), 1);
        assert_eq!(cache.lookup(&index, &topic("a.b")), [1]);
        index.remove(&pattern("a.b"), &1);
        assert!(cache.lookup(&index, &topic("a.b")).is_empty());
    }

    #[test]
    fn entries_and_values_are_bounded() {
        let mut index = PatternIndex::new();
        index.extend((0..1000).map(|value| (pattern("**"), value)));
        let mut cache = MatchCache::new();
        for n in 0..3 * CACHE_ENTRIES {
            assert_eq!(cache.lookup(&index, &topic(&n.to_string())).len(), 1000);
            let kept = cache.sets.iter().flat_map(|set| &set.entries);
            if n % 500 == 0 {
                let kept: usize = kept.map(|entry| entry.values.capacity()).sum();
                assert!(
                    kept == cache.values_kept && kept <= CACHE_VALUES_MAX,
                    "{kept}"
                );
            }
        }
        index.extend((1000..=ENTRY_VALUES_MAX as u32).map(|value| (pattern("a"), value)));
        assert_eq!(
            cache.lookup(&index, &topic("a")).len(),
            ENTRY_VALUES_MAX + 1
        );
        assert!(
            !holds(&mut cache, &index, &topic("a")),
            "one value too many"
        );
        index.remove(&pattern("a"), &2000);
        assert_eq!(cache.lookup(&index, &topic("a")).len(), ENTRY_VALUES_MAX);
        assert!(holds(&mut cache, &index, &topic("a")));
    }

    #[test]
    fn a_flood_of_other_topics_leaves_what_is_in_use() {
        let index = PatternIndex::from_iter([(pattern("**"), 1)]);
        let mut cache = MatchCache::with_sets(1);
        let hot = topic("hot");
        cache.lookup(&index, &hot);
        for n in 0..100 {
            cache.lookup(&index, &hot);
            cache.lookup(&index, &topic(&n.to_string()));
            assert!(holds(&mut cache, &index, &hot), "after {n}");
        }
    }
}
