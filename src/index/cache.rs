//! The answers of an index to the last topics, kept in front of it.
//!
//! An entry stores the state of the index for which its answer is right (see
//! [`change_log`](super::change_log)). When the index has changed since, the patterns that were
//! inserted or removed are compared with the topic. If none of them matches it, the answer is right
//! for the new state, too. So a change costs each unrelated topic one comparison, whether the
//! pattern has wildcards or not, and only the answers for related topics are computed again.
//!
//! The cache is bounded in topics and in values, and topics without a match take half of the ways
//! at most. An entry that was not used again since it was made is replaced before those that were:
//! so a flood of topics that occur once each does not evict the others. (If their lists are so long
//! that there are too many values, it does: then whole sets are dropped in turn.)

use std::fmt;

use super::change_log::Fingerprint;
use super::pattern_index::PatternIndex;
use super::walk::Scratch;
use crate::pattern::Topic;

/// The capacity of a [`MatchCache`], in topics. A cache allocates room for eight topics at a time,
/// about 700 bytes, when one of them is used.
///
/// With 4,096 topics, a bus with 10,000 topics in use and 1,000 handlers computed most look-ups
/// anew, and delivered 0.7 million events per second (2026-11-27).
///
/// ```
/// assert_eq!(fanout::index::CACHE_TOPICS, 32_768);
/// ```
pub const CACHE_TOPICS: usize = 1 << 15;

/// How many of the topics of a [`MatchCache`] may have no match.
///
/// ```
/// use fanout::index::{CACHE_TOPICS, UNMATCHED_TOPICS_MAX};
///
/// assert_eq!(UNMATCHED_TOPICS_MAX, CACHE_TOPICS / 2);
/// ```
pub const UNMATCHED_TOPICS_MAX: usize = CACHE_TOPICS / WAYS * UNMATCHED_WAYS_MAX;

/// The longest list of values for one topic that a [`MatchCache`] keeps. Longer lists are computed
/// each time.
///
/// ```
/// assert_eq!(fanout::index::TOPIC_VALUES_MAX, 65_536);
/// ```
pub const TOPIC_VALUES_MAX: usize = 1 << 16;

/// How many values a [`MatchCache`] keeps for all topics together. If a list would exceed this,
/// other topics are dropped first, eight at a time.
///
/// ```
/// assert_eq!(fanout::index::CACHE_VALUES_MAX, 1_048_576);
/// ```
pub const CACHE_VALUES_MAX: usize = 1 << 20;

/// Entries in a set. With sets of eight and 1,000 topics in use, about one set of 5,000 has more
/// topics than entries. With sets of four, that is one set of 300, and its topics would be computed
/// again and again.
const WAYS: usize = 8;
/// How many entries of a set topics without a match may take.
const UNMATCHED_WAYS_MAX: usize = WAYS / 2;

/// A bounded cache in front of a [`PatternIndex`], for one reader.
///
/// It may be used with different indexes, and with older states of an index: its answers are always
/// those of the index that it is given. It is useful where one index is searched for the same
/// topics again and again while it changes.
///
/// ```
/// use fanout::{Pattern, Topic, index::{MatchCache, SharedIndex}};
///
/// let index = SharedIndex::new();
/// index.extend([(Pattern::parse("orders.*")?, 1), (Pattern::parse("**")?, 2)]);
/// let mut cache = MatchCache::new();
/// let topic = Topic::new("orders.eu")?;
/// assert_eq!(cache.lookup(&index.load(), &topic), [1, 2]);
/// index.remove(&Pattern::parse("**")?, &2);
/// assert_eq!(cache.lookup(&index.load(), &topic), [1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MatchCache<V> {
    /// The number of sets is a power of two. The low bits of a topic's hash choose one. A set is
    /// allocated with its first topic.
    sets: Box<[Option<Box<Set<V>>>]>,
    /// The capacity of the lists of all entries, in values: 0 to [`CACHE_VALUES_MAX`], and a little
    /// more.
    values_kept: usize,
    /// The set that is dropped next if there are too many values.
    next_dropped: usize,
    scratch: Scratch<V>,
    /// The answer that was computed last.
    found: Vec<V>,
}

struct Set<V> {
    /// The high bits of the hash of each entry's topic, so that one entry is compared at most. Any
    /// value for an empty entry.
    tags: [u32; WAYS],
    /// Bit i is set if entry i was used again since it was made or since the clock hand passed it.
    used: u8,
    /// The clock hand, at which the search for an entry to replace begins: 0 to WAYS - 1.
    hand: usize,
    entries: [Entry<V>; WAYS],
}

struct Entry<V> {
    /// `None` for an empty entry.
    topic: Option<Topic>,
    /// The last state of the index for which the answer is known to be right.
    lineage: u64,
    sequence: u64,
    fingerprint: Fingerprint,
    values: Vec<V>,
}

impl<V: Copy + Ord> MatchCache<V> {
    /// An empty cache with room for [`CACHE_TOPICS`] topics.
    ///
    /// ```
    /// use fanout::{PatternIndex, Topic, index::MatchCache};
    ///
    /// let mut cache = MatchCache::<u32>::new();
    /// assert!(cache.lookup(&PatternIndex::new(), &Topic::new("a")?).is_empty());
    /// # Ok::<(), fanout::TopicError>(())
    /// ```
    #[must_use]
    pub fn new() -> Self {
        MatchCache::with_sets(CACHE_TOPICS / WAYS)
    }

    /// The values that `index` has for `topic`, each once, in ascending order.
    ///
    /// Does not allocate once there is room for the topic, and its list is large enough.
    ///
    /// ```
    /// use fanout::{Pattern, PatternIndex, Topic, index::MatchCache};
    ///
    /// let index = PatternIndex::from_iter([(Pattern::parse("a.*")?, 'x')]);
    /// let mut cache = MatchCache::new();
    /// for _ in 0..2 {
    ///     assert_eq!(cache.lookup(&index, &Topic::new("a.b")?), ['x']);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn lookup<'a>(&'a mut self, index: &PatternIndex<V>, topic: &Topic) -> &'a [V] {
        let number = self.set_of(topic);
        let found = self.sets[number].as_mut().and_then(|set| {
            let way = set.find(topic)?;
            let entry = &mut set.entries[way];
            Some((
                way,
                entry.is_current(index) || entry.revalidate(index, topic),
            ))
        });
        let Some((way, true)) = found else {
            return self.compute(index, topic, number, found.map(|(way, _)| way));
        };
        let set = self.sets[number].as_mut().expect("the topic is in it");
        set.used |= 1 << way;
        &set.entries[way].values
    }

    /// A cache of `sets` sets, which must be a power of two.
    pub(super) fn with_sets(sets: usize) -> Self {
        assert!(sets.is_power_of_two(), "{sets} sets");
        MatchCache {
            sets: std::iter::repeat_with(|| None).take(sets).collect(),
            values_kept: 0,
            next_dropped: 0,
            scratch: Scratch::default(),
            found: Vec::new(),
        }
    }

    /// The set for the topic.
    #[inline]
    fn set_of(&self, topic: &Topic) -> usize {
        topic.hash64() as usize & (self.sets.len() - 1)
    }

    /// Looks the topic up in the index, and keeps the answer in set `number` if it is not too long.
    /// `way` is the topic's entry, if it has one that is out of date.
    #[cold]
    fn compute(
        &mut self,
        index: &PatternIndex<V>,
        topic: &Topic,
        number: usize,
        way: Option<usize>,
    ) -> &[V] {
        self.found.clear();
        index.matches_with(topic, &mut self.scratch, &mut self.found);
        let mut set = self.sets[number].take().unwrap_or_else(Set::boxed);
        if let Some(way) = way {
            set.entries[way].topic = None;
        }
        if self.found.len() > TOPIC_VALUES_MAX {
            self.sets[number] = Some(set);
            return &self.found;
        }
        let way = set.choose_way(way, self.found.is_empty());
        let capacity = set.entries[way].capacity();
        self.make_room(self.found.len().saturating_sub(capacity));
        set.tags[way] = tag(topic);
        set.used &= !(1 << way);
        let entry = &mut set.entries[way];
        debug_assert!(self.values_kept >= entry.capacity());
        self.values_kept -= entry.capacity();
        entry.fill(index, topic, &self.found);
        self.values_kept += entry.capacity();
        self.sets[number] = Some(set);
        &self.found
    }

    /// Drops sets until there is room for so many more values. The set that is being filled is not
    /// in its place, and so is not dropped.
    fn make_room(&mut self, values: usize) {
        const {
            assert!((WAYS + 1) * TOPIC_VALUES_MAX <= CACHE_VALUES_MAX);
        }
        while self.values_kept + values > CACHE_VALUES_MAX {
            if let Some(set) = self.sets[self.next_dropped].take() {
                let dropped: usize = set.entries.iter().map(Entry::capacity).sum();
                debug_assert!(dropped <= self.values_kept);
                self.values_kept -= dropped;
            }
            self.next_dropped = (self.next_dropped + 1) % self.sets.len();
        }
    }
}

impl<V: Copy + Ord> Entry<V> {
    /// The capacity of the list, in values. Values without a size need no memory.
    fn capacity(&self) -> usize {
        if size_of::<V>() == 0 {
            0
        } else {
            self.values.capacity()
        }
    }

    /// Whether the answer is known to be right for this state of the index.
    #[inline]
    fn is_current(&self, index: &PatternIndex<V>) -> bool {
        let changes = index.changes();
        self.sequence == changes.sequence() && self.lineage == changes.lineage()
    }

    /// Whether the answer, which may be from another state, is right for this state of the index.
    /// If so, the entry is marked as known to be right for it.
    #[inline]
    fn revalidate(&mut self, index: &PatternIndex<V>, topic: &Topic) -> bool {
        let changes = index.changes();
        let holds = self.lineage == changes.lineage()
            && changes.is_unchanged_since(self.sequence, topic, self.fingerprint);
        if holds {
            self.sequence = changes.sequence();
        }
        holds
    }

    fn fill(&mut self, index: &PatternIndex<V>, topic: &Topic, values: &[V]) {
        self.topic = Some(topic.clone());
        self.lineage = index.changes().lineage();
        self.sequence = index.changes().sequence();
        self.fingerprint = Fingerprint::of(topic);
        self.values.clear();
        self.values.reserve_exact(values.len());
        self.values.extend_from_slice(values);
    }
}

impl<V> Set<V> {
    fn boxed() -> Box<Self> {
        Box::new(Set {
            tags: [0; WAYS],
            used: 0,
            hand: 0,
            entries: std::array::from_fn(|_| Entry {
                topic: None,
                lineage: 0,
                sequence: 0,
                fingerprint: Fingerprint::default(),
                values: Vec::new(),
            }),
        })
    }

    /// The entry of `topic`.
    #[inline]
    fn find(&self, topic: &Topic) -> Option<usize> {
        let tag = tag(topic);
        (0..WAYS)
            .find(|&way| self.tags[way] == tag && self.entries[way].topic.as_ref() == Some(topic))
    }

    /// The entry to use for an answer: the one that the topic had, or an empty one, or the next
    /// that was not used again. For a topic without a match it is an entry of such a topic, if
    /// these have as many entries as they may have.
    fn choose_way(&mut self, before: Option<usize>, is_unmatched: bool) -> usize {
        let mut candidates = u8::MAX;
        if is_unmatched {
            let unmatched = self.unmatched();
            if unmatched.count_ones() as usize >= UNMATCHED_WAYS_MAX {
                candidates = unmatched;
            }
        }
        let is_candidate = |way: &usize| candidates & (1 << way) != 0;
        let is_empty = |way: &usize| self.entries[*way].topic.is_none();
        if let Some(way) = before
            .into_iter()
            .chain(0..WAYS)
            .find(|way| is_candidate(way) && is_empty(way))
        {
            return way;
        }
        loop {
            let way = self.hand;
            debug_assert!(way < WAYS);
            self.hand = (self.hand + 1) % WAYS;
            if is_candidate(&way) {
                if self.used & (1 << way) == 0 {
                    return way;
                }
                self.used &= !(1 << way);
            }
        }
    }

    /// Bit i is set if entry i is of a topic without a match.
    fn unmatched(&self) -> u8 {
        let is_unmatched = |way: &usize| {
            let entry = &self.entries[*way];
            entry.topic.is_some() && entry.values.is_empty()
        };
        (0..WAYS)
            .filter(is_unmatched)
            .fold(0, |bits, way| bits | 1 << way)
    }
}

#[inline]
fn tag(topic: &Topic) -> u32 {
    (topic.hash64() >> 32) as u32
}

impl<V: Copy + Ord> Default for MatchCache<V> {
    fn default() -> Self {
        MatchCache::new()
    }
}

impl<V> fmt::Debug for MatchCache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MatchCache")
            .field("values_kept", &self.values_kept)
            .finish_non_exhaustive()
    }
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

    /// Whether the cache has an answer for the topic that is right for the index.
    fn holds(cache: &mut MatchCache<u32>, index: &PatternIndex<u32>, topic: &Topic) -> bool {
        let number = cache.set_of(topic);
        let Some(set) = &mut cache.sets[number] else {
            return false;
        };
        set.find(topic).is_some_and(|way| {
            let entry = &mut set.entries[way];
            entry.is_current(index) || entry.revalidate(index, topic)
        })
    }

    /// The number of topics without a match in the first set.
    fn unmatched<V>(cache: &MatchCache<V>) -> u32 {
        let set = cache.sets[0].as_ref();
        set.map_or(0, |set| set.unmatched().count_ones())
    }

    #[test]
    fn values_without_a_size_are_values() {
        let index = PatternIndex::from_iter([(pattern("a.*"), ())]);
        let mut cache = MatchCache::with_sets(8);
        for _ in 0..2 {
            assert_eq!(cache.lookup(&index, &topic("a.b")), [()]);
            assert!(cache.lookup(&index, &topic("b")).is_empty());
        }
    }

    #[test]
    fn an_unrelated_change_keeps_an_entry_and_a_related_one_does_not() {
        let mut index = PatternIndex::new();
        index.insert(&pattern("a.*"), 1);
        index.insert(&pattern("*.x"), 2);
        let mut cache = MatchCache::with_sets(8);
        let asked = topic("a.x");
        let steps: [(&str, bool, &[u32]); 10] = [
            ("b.*", true, &[1, 2]),
            ("b.x.**", true, &[1, 2]),
            ("c", true, &[1, 2]),
            ("a.y", true, &[1, 2]),
            ("a.x", false, &[1, 2, 9]),
            ("*.y", true, &[1, 2, 9]),
            ("*.[x-z].**", false, &[1, 2, 9]),
            ("**.y", true, &[1, 2, 9]),
            ("{b,c}.d", true, &[1, 2, 9]),
            ("{b,a}.x", false, &[1, 2, 9]),
        ];
        cache.lookup(&index, &asked);
        for (text, kept, values) in steps {
            let before = index.clone();
            index.insert(&pattern(text), 9);
            assert_eq!(holds(&mut cache, &index, &asked), kept, "{text}");
            assert_eq!(cache.lookup(&index, &asked), values, "{text}");
            // The same when the pattern is removed, and when no one else holds the index.
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
        let mut cache = MatchCache::with_sets(8);
        cache.lookup(&index, &topic("a"));
        assert!(!index.insert(&pattern("a"), 1));
        assert!(!index.remove(&pattern("a"), &2));
        let set = &cache.sets[cache.set_of(&topic("a"))];
        let set = set.as_ref().expect("it was asked for");
        let way = set.find(&topic("a")).expect("it was asked for");
        assert!(set.entries[way].is_current(&index));
    }

    /// Two clones that changed differently have made the same number of changes.
    #[test]
    fn an_entry_of_another_lineage_does_not_hold() {
        let mut one = PatternIndex::from_iter([(pattern("a"), 1)]);
        let mut cache = MatchCache::with_sets(8);
        let mut other = one.clone();
        assert_eq!(cache.lookup(&other, &topic("a")), [1]);
        assert!(
            holds(&mut cache, &one, &topic("a")),
            "a clone is the same until it changes"
        );
        one.insert(&pattern("a"), 2);
        other.insert(&pattern("a"), 3);
        let mut third = other.clone();
        third.insert(&pattern("b"), 4);
        for _ in 0..2 {
            assert_eq!(cache.lookup(&one, &topic("a")), [1, 2]);
            assert_eq!(cache.lookup(&other, &topic("a")), [1, 3]);
            assert_eq!(cache.lookup(&third, &topic("a")), [1, 3]);
        }
        // The original may be dropped, so that its memory belongs to the clone alone.
        let mut heir = one.clone();
        cache.lookup(&one, &topic("a"));
        drop(one);
        heir.insert(&pattern("x"), 9);
        heir.remove(&pattern("a"), &1);
        assert_eq!(cache.lookup(&heir, &topic("a")), [2]);
    }

    #[test]
    fn an_older_state_of_the_index_is_answered_as_it_was() {
        let mut index = PatternIndex::new();
        let mut cache = MatchCache::with_sets(8);
        let mut states = vec![index.clone()];
        for n in 0..4 {
            index.insert(&pattern("a"), n);
            states.push(index.clone());
        }
        for n in [0, 1, 2, 3, 4, 3, 2, 1, 0, 4] {
            let state = &states[n as usize];
            let expected: Vec<u32> = (0..n).collect();
            assert_eq!(cache.lookup(state, &topic("a")), expected);
        }
    }

    #[test]
    fn topics_without_a_match_take_half_of_the_places() {
        let mut index = PatternIndex::from_iter([(pattern("hot.*"), 1)]);
        let mut cache = MatchCache::with_sets(1);
        let hot: Vec<Topic> = (0..WAYS).map(|n| topic(&format!("hot.{n}"))).collect();
        hot.iter()
            .for_each(|hot| assert_eq!(cache.lookup(&index, hot), [1]));
        for n in 0..100 {
            assert!(
                cache
                    .lookup(&index, &topic(&format!("cold.{n}")))
                    .is_empty()
            );
        }
        assert_eq!(unmatched(&cache) as usize, UNMATCHED_WAYS_MAX);
        // The same if topics that had a match have none any more.
        let kept: Vec<&Topic> = hot
            .iter()
            .filter(|hot| holds(&mut cache, &index, hot))
            .collect();
        assert_eq!(kept.len(), WAYS - UNMATCHED_WAYS_MAX);
        index.remove(&pattern("hot.*"), &1);
        for hot in kept {
            assert!(cache.lookup(&index, hot).is_empty());
            assert_eq!(unmatched(&cache) as usize, UNMATCHED_WAYS_MAX);
        }
    }

    #[test]
    fn a_first_pattern_below_a_new_literal_is_seen() {
        let mut index = PatternIndex::new();
        let mut cache = MatchCache::with_sets(8);
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
    #[cfg_attr(miri, ignore = "needs a million values, and Miri is slow")]
    fn entries_and_values_are_bounded() {
        let mut index = PatternIndex::new();
        index.extend((0..1000).map(|value| (pattern("**"), value)));
        let mut cache = MatchCache::new();
        for n in 0..3 * CACHE_VALUES_MAX / 1000 {
            assert_eq!(cache.lookup(&index, &topic(&n.to_string())).len(), 1000);
            let kept = cache.sets.iter().flatten().flat_map(|set| &set.entries);
            if n % 100 == 0 {
                let kept: usize = kept.map(|entry| entry.values.capacity()).sum();
                assert!(
                    kept == cache.values_kept && kept <= CACHE_VALUES_MAX,
                    "{kept}"
                );
            }
        }
        index.extend((1000..=TOPIC_VALUES_MAX as u32).map(|value| (pattern("a"), value)));
        assert_eq!(
            cache.lookup(&index, &topic("a")).len(),
            TOPIC_VALUES_MAX + 1
        );
        assert!(
            !holds(&mut cache, &index, &topic("a")),
            "one value too many"
        );
        index.remove(&pattern("a"), &2000);
        assert_eq!(cache.lookup(&index, &topic("a")).len(), TOPIC_VALUES_MAX);
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
