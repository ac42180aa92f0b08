//! The recent changes of an index: a cache finds out with them whether an answer is still right.
//!
//! An index has a lineage and a sequence number. Two indexes that agree in both have the same
//! pairs. Of two indexes of one lineage, the one with the higher number results from the other by
//! as many changes. The last [`CHANGES_KEPT`] changes are kept. So an answer that is not older than
//! these is still right if none of the patterns that were inserted or removed since matches its
//! topic.

use crate::pattern::{Pattern, Route, Segment, Topic, hash_text};
use crate::sync::{Ordering, unmodelled::AtomicU64};

/// How many of its last changes an index keeps.
///
/// If there were more changes since a cache last looked up a topic, it computes the answer again.
///
/// ```
/// assert_eq!(fanout::index::CHANGES_KEPT, 256);
/// ```
pub const CHANGES_KEPT: usize = 256;

#[derive(Clone)]
pub(super) struct ChangeLog {
    lineage: u64,
    /// How many changes were made in this lineage.
    sequence: u64,
    /// The last changes, [`CHANGES_KEPT`] at most. Change n is at index n modulo `CHANGES_KEPT`.
    recent: Vec<Change>,
}

#[derive(Clone)]
struct Change {
    /// The pattern of the pair that was inserted or removed.
    pattern: Pattern,
    mask: FingerprintMask,
}

impl ChangeLog {
    /// An empty log in a new lineage.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        ChangeLog {
            // Relaxed: it is enough that no two logs get the same number.
            lineage: NEXT.fetch_add(1, Ordering::Relaxed),
            sequence: 0,
            recent: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn lineage(&self) -> u64 {
        self.lineage
    }

    #[inline]
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Records that a pair with this pattern was inserted or removed.
    pub(super) fn record(&mut self, pattern: &Pattern) {
        debug_assert!(self.recent.len() as u64 <= self.sequence);
        let change = Change {
            pattern: pattern.clone(),
            mask: FingerprintMask::of(pattern),
        };
        let at = (self.sequence % CHANGES_KEPT as u64) as usize;
        match self.recent.get_mut(at) {
            Some(oldest) => *oldest = change,
            None => self.recent.push(change),
        }
        self.sequence += 1;
    }

    /// Whether the values of the topic are the same as they were in this lineage at that sequence
    /// number. False also if that is not known, and for a later number.
    #[inline]
    pub(super) fn is_unchanged_since(
        &self,
        sequence: u64,
        topic: &Topic,
        fingerprint: Fingerprint,
    ) -> bool {
        let Some(changes) = self.sequence.checked_sub(sequence) else {
            return false;
        };
        if changes > self.recent.len() as u64 {
            return false;
        }
        (sequence..self.sequence).all(|n| {
            let change = &self.recent[(n % CHANGES_KEPT as u64) as usize];
            !change.mask.may_match(fingerprint) || !change.pattern.matches(topic)
        })
    }
}

/// How many segments of a topic its [`Fingerprint`] has bits for.
const FINGERPRINT_SEGMENTS: usize = 4;
/// How many bits it has for each.
const SEGMENT_BITS: usize = 16;

/// Some bits of the hash of each of a topic's first segments. The bits of a segment are not all 0;
/// where the topic has no segment, they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(topic: &Topic) -> Self {
        let segments = topic.segments().take(FINGERPRINT_SEGMENTS).enumerate();
        Fingerprint(segments.fold(0, |bits, (at, text)| {
            bits | bits_of(text) << (at * SEGMENT_BITS)
        }))
    }
}

fn bits_of(text: &str) -> u64 {
    (hash_text(text) & ((1 << SEGMENT_BITS) - 1)).max(1)
}

/// The bits that the fingerprints of all topics which a pattern matches have in common.
#[derive(Clone, Copy)]
struct FingerprintMask {
    /// Which bits these are.
    mask: u64,
    /// Their values; the other bits do not matter.
    bits: u64,
}

impl FingerprintMask {
    fn of(pattern: &Pattern) -> Self {
        let masks = pattern.routes().iter().map(FingerprintMask::of_route);
        let common = masks.reduce(|one, other| FingerprintMask {
            mask: one.mask & other.mask & !(one.bits ^ other.bits),
            bits: one.bits,
        });
        common.expect("a pattern has a route")
    }

    fn of_route(route: &Route) -> Self {
        const ONE: u64 = (1 << SEGMENT_BITS) - 1;
        let mut common = FingerprintMask { mask: 0, bits: 0 };
        let segments = route.segments();
        for (at, segment) in segments.iter().take(FINGERPRINT_SEGMENTS).enumerate() {
            match segment {
                Segment::Literal(text) => {
                    common.mask |= ONE << (at * SEGMENT_BITS);
                    common.bits |= bits_of(text) << (at * SEGMENT_BITS);
                }
                Segment::Any | Segment::Glob(_) => {}
                // From here on, the position of a segment is not known.
                Segment::Many => return common,
            }
        }
        if segments.len() < FINGERPRINT_SEGMENTS && route.tail().is_none() {
            common.mask |= ONE << (segments.len() * SEGMENT_BITS);
        }
        common
    }

    #[inline]
    fn may_match(self, fingerprint: Fingerprint) -> bool {
        (self.bits ^ fingerprint.0) & self.mask == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::tests::{small_patterns, small_topics};

    /// The length, in segments, of the longest patterns: all of them are tried, and Miri is slow.
    const SEGMENTS_MAX: u32 = if cfg!(miri) { 1 } else { 3 };

    /// One change in `CHECKED_STEP` is checked.
    const CHECKED_STEP: u64 = if cfg!(miri) { 32 } else { 1 };

    #[test]
    fn a_mask_excludes_most_topics_and_none_that_match() {
        let topics: Vec<_> = small_topics(SEGMENTS_MAX + 1)
            .into_iter()
            .map(|t| (Fingerprint::of(&t), t))
            .collect();
        let (mut passed, mut matched) = (0, 0);
        for text in small_patterns(SEGMENTS_MAX) {
            let pattern = Pattern::parse(&text).unwrap();
            let mask = FingerprintMask::of(&pattern);
            for (fingerprint, topic) in &topics {
                let matches = pattern.matches(topic);
                assert!(
                    !matches || mask.may_match(*fingerprint),
                    "{pattern} {topic}"
                );
                passed += u32::from(mask.may_match(*fingerprint));
                matched += u32::from(matches);
            }
        }
        assert!(
            matched > 0 && passed < 8 * matched,
            "{passed} passed, {matched} match"
        );
        let mask = FingerprintMask::of(&Pattern::parse("a.*.c").unwrap());
        for (text, passes) in [
            ("a.b.c", true),
            ("a.b.d", false),
            ("b.b.c", false),
            ("a.b", false),
            ("a.b.c.d", false),
        ] {
            assert_eq!(
                mask.may_match(Fingerprint::of(&Topic::new(text).unwrap())),
                passes,
                "{text}"
            );
        }
    }

    #[test]
    fn the_last_changes_are_kept_and_no_others() {
        let mut changes = ChangeLog::new();
        let (asked, other) = (Topic::new("a.b").unwrap(), Topic::new("x").unwrap());
        let (related, unrelated) = (
            Pattern::parse("a.*").unwrap(),
            Pattern::parse("*.c").unwrap(),
        );
        changes.record(&related);
        for n in 0..CHANGES_KEPT as u64 {
            if !n.is_multiple_of(CHECKED_STEP) {
                changes.record(&unrelated);
                continue;
            }
            assert!(
                changes.is_unchanged_since(1, &asked, Fingerprint::of(&asked)),
                "{n}"
            );
            assert_eq!(
                changes.is_unchanged_since(0, &other, Fingerprint::of(&other)),
                n < CHANGES_KEPT as u64
            );
            assert!(!changes.is_unchanged_since(0, &asked, Fingerprint::of(&asked)));
            assert!(
                !changes.is_unchanged_since(n + 2, &asked, Fingerprint::of(&asked)),
                "a later number"
            );
            changes.record(&unrelated);
        }
        assert!(changes.is_unchanged_since(1, &asked, Fingerprint::of(&asked)));
        assert!(
            !changes.is_unchanged_since(0, &other, Fingerprint::of(&other)),
            "one change too many"
        );
        assert_eq!(changes.recent.len(), CHANGES_KEPT);
    }
}
