//! Envelopes: what is written on the outside of an event, shared by all events that have it in common.
//!
//! A topic's text must not be copied per event, and a reference count per event, on a line that publisher and
//! subscribers share, would cost more than the rest of the path together. So references are taken
//! in bulk ([weighted reference counting][w]): a publisher keeps a [stash](EnvelopeTable) of references
//! and hands them out without touching the count; a block gives a whole run back in one subtraction.
//!
//! [w]: https://dl.acm.org/doi/10.5555/646880.710450 "D. I. Bevan, Distributed Garbage Collection Using Reference Counting, PARLE 1987"

#![allow(
    unsafe_code,
    reason = "counts by hand; one of the rooms that ARCHITECTURE.md names"
)]

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::dispatch::topic_arg::AsTopic;
use crate::pattern::{Topic, TopicError};
use crate::sync::{AtomicUsize, Ordering};

/// Topic, name and source.
pub(crate) struct Envelope {
    references: AtomicUsize,
    topic: Topic,
    name: Option<Box<str>>,
    source: Option<Box<str>>,
}

impl Envelope {
    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }
}

/// One counted reference.
pub(crate) struct EnvelopeRef(NonNull<Envelope>);

// SAFETY: a counted pointer to an immutable `Envelope`, which is Send and Sync.
unsafe impl Send for EnvelopeRef {}
// SAFETY: as above.
unsafe impl Sync for EnvelopeRef {}

impl EnvelopeRef {
    fn new(topic: Topic, name: Option<&str>, source: Option<&str>, references: usize) -> Self {
        let envelope = Envelope {
            references: AtomicUsize::new(references),
            topic,
            name: name.map(Box::from),
            source: source.map(Box::from),
        };
        Self(NonNull::from(Box::leak(Box::new(envelope))))
    }

    /// How many references there are, those in stock included.
    #[cfg(all(test, not(loom)))]
    pub(super) fn references(&self) -> usize {
        self.references.load(Ordering::Relaxed)
    }

    /// An uncounted copy, for an event whose block counts it.
    pub(super) fn lend(&self) -> Lent {
        Lent(ManuallyDrop::new(Self(self.0)))
    }

    /// Gives back this reference as the last of `n` that the caller owns.
    pub(super) fn release(self, n: usize) {
        let counted = ManuallyDrop::new(self);
        // AcqRel, partner itself: everybody's use comes before the last one's free.
        if counted.references.fetch_sub(n, Ordering::AcqRel) == n {
            // SAFETY: allocated by `Box` in `new`, and no reference is left.
            drop(unsafe { Box::from_raw(counted.0.as_ptr()) });
        }
    }
}

impl Deref for EnvelopeRef {
    type Target = Envelope;

    #[inline]
    fn deref(&self) -> &Envelope {
        // SAFETY: counted, so alive.
        unsafe { self.0.as_ref() }
    }
}

impl PartialEq for EnvelopeRef {
    /// Whether both are the very same envelope.
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Drop for EnvelopeRef {
    fn drop(&mut self) {
        Self(self.0).release(1);
    }
}

/// A reference that somebody else counts: an event's, counted by its block.
pub(super) struct Lent(ManuallyDrop<EnvelopeRef>);

impl Lent {
    /// The same, for another event whose block keeps this one's alive.
    pub(super) fn again(&self) -> Self {
        Self(ManuallyDrop::new(EnvelopeRef(self.0.0)))
    }
}

impl Deref for Lent {
    type Target = Envelope;

    #[inline]
    fn deref(&self) -> &Envelope {
        &self.0
    }
}

/// References that a table takes for an envelope at once, from the second time on.
const STASH: usize = 1024;

/// Sets of a table, a power of two.
const TABLE_SETS: usize = 256;

/// Envelopes of a set. With one per place, and 64 places, two of 6 topics push each other out for ever in one of 5
/// programs; with eight, 40 topics do in one of 100.
const SET_WAYS: usize = 8;

/// The envelopes that one publisher used last, by topic, name and source, with references in stock: a table of sets,
/// chosen by the topic's keyed hash. What finds its set full pushes out the one that came first, which costs an
/// allocation and is never wrong.
///
/// A set's memory comes with its first topic, so that few topics cost little, and 1,000 have their places: with 16 sets,
/// publishing and dispatching events on 1,000 topics in turns ran at 8 million per second, with 256 at 25 (2026-11-22).
pub(crate) struct EnvelopeTable {
    sets: Box<[Option<Box<Set>>]>,
}

#[derive(Default)]
struct Set {
    /// Of the topic of each stash, to look at one stash alone; any for an empty place.
    hashes: [u64; SET_WAYS],
    stashes: [Option<Stash>; SET_WAYS],
    /// The place to fill next: 0 to SET_WAYS - 1.
    hand: usize,
}

struct Stash {
    envelope: ManuallyDrop<EnvelopeRef>,
    /// References that this stash owns, at least 1: the last keeps the envelope alive.
    left: usize,
    /// References to take when only one is left, 1 to [`STASH`].
    refill: usize,
}

impl EnvelopeTable {
    pub(crate) fn new() -> Self {
        Self {
            sets: (0..TABLE_SETS).map(|_| None).collect(),
        }
    }

    /// A reference to the envelope with this on it.
    #[inline]
    pub(crate) fn envelope<K: AsTopic + ?Sized>(
        &mut self,
        topic: &K,
        name: Option<&str>,
        source: Option<&str>,
    ) -> Result<EnvelopeRef, TopicError> {
        let hash = topic.hash64();
        let set = self.sets[hash as usize % TABLE_SETS].get_or_insert_default();
        for (known, stash) in set.hashes.iter().zip(&mut set.stashes) {
            if *known == hash
                && let Some(stash) = stash
                && topic.is(stash.envelope.topic())
                && stash.envelope.name() == name
                && stash.envelope.source() == source
            {
                return Ok(stash.take());
            }
        }
        Ok(set.admit(hash, topic.to_topic()?, name, source))
    }
}

impl Set {
    #[cold]
    fn admit(
        &mut self,
        hash: u64,
        topic: Topic,
        name: Option<&str>,
        source: Option<&str>,
    ) -> EnvelopeRef {
        // The first use takes just two references: a topic that is published once is no stranger.
        let envelope = EnvelopeRef::new(topic, name, source, 2);
        self.hashes[self.hand] = hash;
        let stash = self.stashes[self.hand].insert(Stash {
            envelope: ManuallyDrop::new(envelope),
            left: 2,
            refill: 1,
        });
        self.hand = (self.hand + 1) % SET_WAYS;
        stash.take()
    }
}

impl Stash {
    #[inline]
    fn take(&mut self) -> EnvelopeRef {
        if self.left == 1 {
            self.refill = (self.refill * 2).min(STASH);
            // Relaxed: we own a reference, so the count cannot reach zero meanwhile.
            self.envelope
                .references
                .fetch_add(self.refill, Ordering::Relaxed);
            self.left += self.refill;
        }
        self.left -= 1;
        EnvelopeRef(self.envelope.0)
    }
}

impl Drop for Stash {
    fn drop(&mut self) {
        EnvelopeRef(self.envelope.0).release(self.left);
    }
}
