//! What changed of late: how whoever kept an answer finds out whether it still holds.
//!
//! An index has a lineage and a sequence number. Two indexes with both in common hold the same
//! pairs; of the same lineage, the one with the higher number came from the other by as many
//! changes. The last [`CHANGES_KEPT`] of these are kept, so an answer that is not older than that
//! holds if none of the patterns that came or went since matches its topic.

use crate::pattern::{Pattern, Route, Segment, Topic, hash_text};
use crate::sync::{Ordering, unmodelled::AtomicU64};

/// How many changes an index remembers.
///
/// Of what a cache holds, what was not asked for during so many changes is computed again.
///
/// ```
/// assert_eq!(fanout::index::CHANGES_KEPT, 256);
/// ```
pub const CHANGES_KEPT: usize = 256;

#[derive(Clone)]
pub(super) struct Journal {
    lineage: u64,
    /// Changes in this lineage.
    sequence: u64,
    /// The last ones, [`CHANGES_KEPT`] at most; change n stands in place n modulo that.
    recent: Vec<Change>,
}

#[derive(Clone)]
struct Change {
    /// What came or went.
    pattern: Pattern,
    sieve: Sieve,
}

impl Journal {
    /// A new lineage.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Journal {
            // Relaxed: all that is asked is that no two get the same.
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

    /// A pair with this pattern came or went.
    pub(super) fn note(&mut self, pattern: &Pattern) {
        let change = Change {
            pattern: pattern.clone(),
            sieve: Sieve::of(pattern),
        };
        let at = (self.sequence % CHANGES_KEPT as u64) as usize;
        match self.recent.get_mut(at) {
            Some(oldest) => *oldest = change,
            None => self.recent.push(change),
        }
        self.sequence += 1;
    }

    /// Whether what was found for the topic in this lineage at that sequence number is so still.
    /// False if that is not known, also of a later number.
    #[inline]
    pub(super) fn is_as_at(&self, sequence: u64, topic: &Topic, print: Print) -> bool {
        let Some(changes) = self.sequence.checked_sub(sequence) else {
            return false;
        };
        if changes > self.recent.len() as u64 {
            return false;
        }
        (sequence..self.sequence).all(|n| {
            let change = &self.recent[(n % CHANGES_KEPT as u64) as usize];
            !change.sieve.lets_pass(print) || !change.pattern.matches(topic)
        })
    }
}

/// Segments that a [`Print`] tells of.
const PRINT_SEGMENTS: usize = 4;
/// Bits for each.
const PRINT_BITS: usize = 16;

/// A glance at a topic: for each of its first segments some bits of its hash, never all 0; 0 where
/// there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Print(u64);

impl Print {
    pub(super) fn of(topic: &Topic) -> Self {
        let segments = topic.segments().take(PRINT_SEGMENTS).enumerate();
        Print(segments.fold(0, |bits, (at, text)| {
            bits | bits_of(text) << (at * PRINT_BITS)
        }))
    }
}

fn bits_of(text: &str) -> u64 {
    (hash_text(text) & ((1 << PRINT_BITS) - 1)).max(1)
}

/// A glance at a pattern: what the prints of all topics have in common that it matches.
#[derive(Clone, Copy)]
struct Sieve {
    mask: u64,
    bits: u64,
}

impl Sieve {
    fn of(pattern: &Pattern) -> Self {
        let sieves = pattern.routes().iter().map(Sieve::of_route);
        let common = sieves.reduce(|one, other| Sieve {
            mask: one.mask & other.mask & !(one.bits ^ other.bits),
            bits: one.bits,
        });
        common.expect("a pattern has a route")
    }

    fn of_route(route: &Route) -> Self {
        const ONE: u64 = (1 << PRINT_BITS) - 1;
        let mut sieve = Sieve { mask: 0, bits: 0 };
        let segments = route.segments();
        for (at, segment) in segments.iter().take(PRINT_SEGMENTS).enumerate() {
            match segment {
                Segment::Literal(text) => {
                    sieve.mask |= ONE << (at * PRINT_BITS);
                    sieve.bits |= bits_of(text) << (at * PRINT_BITS);
                }
                Segment::Any | Segment::Glob(_) => {}
                // From here on, segments have no certain place.
                Segment::Many => return sieve,
            }
        }
        if segments.len() < PRINT_SEGMENTS && route.tail().is_none() {
            sieve.mask |= ONE << (segments.len() * PRINT_BITS);
        }
        sieve
    }

    #[inline]
    fn lets_pass(self, print: Print) -> bool {
        (self.bits ^ print.0) & self.mask == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::tests::{small_patterns, small_topics};

    #[test]
    fn a_sieve_lets_all_pass_that_matches_and_not_much_else() {
        let topics: Vec<_> = small_topics(4)
            .into_iter()
            .map(|t| (Print::of(&t), t))
            .collect();
        let (mut passed, mut matched) = (0, 0);
        for text in small_patterns(3) {
            let pattern = Pattern::parse(&text).unwrap();
            let sieve = Sieve::of(&pattern);
            for (print, topic) in &topics {
                let matches = pattern.matches(topic);
                assert!(!matches || sieve.lets_pass(*print), "{pattern} {topic}");
                passed += u32::from(sieve.lets_pass(*print));
                matched += u32::from(matches);
            }
        }
        assert!(
            matched > 0 && passed < 8 * matched,
            "{passed} passed, {matched} match"
        );
        let sieve = Sieve::of(&Pattern::parse("a.*.c").unwrap());
        for (text, passes) in [
            ("a.b.c", true),
            ("a.b.d", false),
            ("b.b.c", false),
            ("a.b", false),
            ("a.b.c.d", false),
        ] {
            assert_eq!(
                sieve.lets_pass(Print::of(&Topic::new(text).unwrap())),
                passes,
                "{text}"
            );
        }
    }

    #[test]
    fn the_last_changes_are_known_and_none_before() {
        let mut journal = Journal::new();
        let (asked, other) = (Topic::new("a.b").unwrap(), Topic::new("x").unwrap());
        let (mine, theirs) = (
            Pattern::parse("a.*").unwrap(),
            Pattern::parse("*.c").unwrap(),
        );
        journal.note(&mine);
        for n in 0..CHANGES_KEPT as u64 {
            assert!(journal.is_as_at(1, &asked, Print::of(&asked)), "{n}");
            assert_eq!(
                journal.is_as_at(0, &other, Print::of(&other)),
                n < CHANGES_KEPT as u64
            );
            assert!(!journal.is_as_at(0, &asked, Print::of(&asked)));
            assert!(
                !journal.is_as_at(n + 2, &asked, Print::of(&asked)),
                "a later one"
            );
            journal.note(&theirs);
        }
        assert!(journal.is_as_at(1, &asked, Print::of(&asked)));
        assert!(
            !journal.is_as_at(0, &other, Print::of(&other)),
            "one too many"
        );
        assert_eq!(journal.recent.len(), CHANGES_KEPT);
    }
}
