//! Envelopes: the topic, name and source of events, shared by all events that have the same ones.
//!
//! The text of a topic must not be copied for each event. A change of a reference count for each
//! event, on a cache line that publisher and subscribers share, would cost more than the rest of
//! the path together. So references are taken in bulk ([weighted reference counting][w]): a
//! publisher keeps a [stock](EnvelopeTable) of references and hands them out without a change of
//! the count, and a block releases those of a whole run of events in one subtraction.
//!
//! # Failure modes
//!
//! * A publisher uses more topics than its table has room for: the table replaces its oldest
//!   entries. Each replacement costs an allocation. Nothing is lost.
//! * Topics, names and sources are long: the table forgets what it has when that is more than
//!   [`TABLE_BYTES_MAX`], and does not keep a single envelope of more than
//!   [`TABLE_ENVELOPE_BYTES_MAX`].
//!
//! [w]: https://dl.acm.org/doi/10.5555/646880.710450
//!     "D. I. Bevan, Distributed Garbage Collection Using Reference Counting, PARLE 1987"

#![allow(
    unsafe_code,
    reason = "counts references by hand; ARCHITECTURE.md lists this module"
)]

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::dispatch::topic_arg::AsTopic;
use crate::pattern::{Topic, TopicError};
use crate::sync::{AtomicUsize, Ordering};

/// Topic, name and source.
pub(crate) struct Envelope {
    /// Of all tables, publishers and blocks; at least 1 while the envelope exists.
    references: AtomicUsize,
    /// Bytes of memory, with those of the texts.
    bytes: usize,
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

    /// Bytes of memory, with those of the texts.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// One counted reference.
pub(crate) struct EnvelopeRef(NonNull<Envelope>);

// SAFETY: a counted reference to an `Envelope`, which is Send and Sync, and immutable but for its
// count.
unsafe impl Send for EnvelopeRef {}
// SAFETY: as above.
unsafe impl Sync for EnvelopeRef {}

impl EnvelopeRef {
    fn new(topic: Topic, name: Option<&str>, source: Option<&str>, references: usize) -> Self {
        let texts = [Some(topic.as_str()), name, source];
        let texts = texts.into_iter().flatten().map(str::len);
        let envelope = Envelope {
            references: AtomicUsize::new(references),
            bytes: size_of::<Envelope>() + Topic::OWN_BYTES + texts.sum::<usize>(),
            topic,
            name: name.map(Box::from),
            source: source.map(Box::from),
        };
        Self(NonNull::from(Box::leak(Box::new(envelope))))
    }

    /// How many references exist, those that tables have in stock included.
    #[cfg(all(test, not(loom)))]
    pub(super) fn references(&self) -> usize {
        self.references.load(Ordering::Relaxed)
    }

    /// A copy that is not counted, for an event whose block owns a counted reference.
    pub(super) fn uncounted(&self) -> UncountedEnvelope {
        UncountedEnvelope(ManuallyDrop::new(Self(self.0)))
    }

    /// Releases this reference and `n - 1` others that the caller owns and never uses again.
    pub(super) fn release(self, n: usize) {
        let counted = ManuallyDrop::new(self);
        // AcqRel, partner itself: the uses through all other references come before the last
        // release frees the envelope.
        let before = counted.references.fetch_sub(n, Ordering::AcqRel);
        debug_assert!(n >= 1 && before >= n, "{n} of {before} references released");
        if before == n {
            // SAFETY: allocated by `Box` in `new`, and no reference is left.
            drop(unsafe { Box::from_raw(counted.0.as_ptr()) });
        }
    }
}

impl Deref for EnvelopeRef {
    type Target = Envelope;

    #[inline]
    fn deref(&self) -> &Envelope {
        // SAFETY: a counted envelope lives as long as its references.
        unsafe { self.0.as_ref() }
    }
}

impl PartialEq for EnvelopeRef {
    /// Whether both refer to the same envelope in memory.
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Drop for EnvelopeRef {
    fn drop(&mut self) {
        Self(self.0).release(1);
    }
}

/// A reference that is not counted: an event's, whose block owns a counted one.
pub(super) struct UncountedEnvelope(ManuallyDrop<EnvelopeRef>);

impl UncountedEnvelope {
    /// A copy, for an event in a shadow: the shadow keeps the block alive that counts the envelope.
    pub(super) fn copy(&self) -> Self {
        Self(ManuallyDrop::new(EnvelopeRef(self.0.0)))
    }
}

impl Deref for UncountedEnvelope {
    type Target = Envelope;

    #[inline]
    fn deref(&self) -> &Envelope {
        &self.0
    }
}

/// References that a table takes for one envelope at once, at most.
const REFILL_MAX: usize = 1024;

/// Sets of a table, a power of two. Few under Miri, which would need minutes to fill them.
const TABLE_SETS: usize = if cfg!(miri) { 4 } else { 256 };

/// Entries of a set. With sets of one entry, and 64 of them, two of 6 topics replace each other
/// again and again in one of 5 programs. With sets of eight, that happens to 40 topics in one of
/// 100 programs.
const SET_WAYS: usize = 8;

/// The memory of the envelopes in a table, 512 KiB at most. The table of a thread lives as long as
/// the thread, also when the bus was dropped. There is room for 2,048 envelopes with short texts.
pub(crate) const TABLE_BYTES_MAX: usize = 512 << 10;

/// The memory of an envelope that a table keeps, 32 KiB at most.
pub(crate) const TABLE_ENVELOPE_BYTES_MAX: usize = 32 << 10;

/// The envelopes that one publisher used last, by topic, name and source, with references in stock.
///
/// The table is set-associative: the keyed hash of the topic selects a set. In a full set, a new
/// entry replaces the one that was made first. That costs an allocation, and is never incorrect.
///
/// The memory of a set is allocated with its first topic, so that few topics cost little, and 1,000
/// topics have room: with 16 sets, publishing and dispatching events on 1,000 topics in turns ran
/// at 8 million events per second, with 256 sets at 25 million (2026-11-22).
pub(crate) struct EnvelopeTable {
    sets: Box<[Option<Box<Set>>]>,
    /// Memory of the envelopes, 0 to [`TABLE_BYTES_MAX`].
    bytes: usize,
}

#[derive(Default)]
struct Set {
    /// Topic hashes of the entries, so that a look-up compares one entry at most as a rule. Any
    /// value for an empty entry.
    hashes: [u64; SET_WAYS],
    entries: [Option<EnvelopeStock>; SET_WAYS],
    /// Index of the entry to replace next: 0 to `SET_WAYS - 1`.
    next: usize,
}

/// An envelope with references in stock.
pub(crate) struct EnvelopeStock {
    envelope: ManuallyDrop<EnvelopeRef>,
    /// References that this stock owns, 1 to [`REFILL_MAX`] + 1. The last one keeps the envelope
    /// alive.
    left: usize,
    /// References that were taken last, 1 to [`REFILL_MAX`]; the next time it is twice as many.
    refill: usize,
}

impl EnvelopeTable {
    pub(crate) fn new() -> Self {
        Self {
            sets: (0..TABLE_SETS).map(|_| None).collect(),
            bytes: 0,
        }
    }

    /// A reference to the envelope with this topic, name and source.
    ///
    /// The error is in a box, so that the result fits into registers. With the error in its place,
    /// `Bus::publish` wrote the result as words of 8 bytes and at once read it as 16 bytes at
    /// another offset, which no store buffer can forward: 25 ns instead of 15 ns per event
    /// (2026-11-27).
    #[inline]
    pub(crate) fn envelope<K: AsTopic + ?Sized>(
        &mut self,
        topic: &K,
        name: Option<&str>,
        source: Option<&str>,
    ) -> Result<EnvelopeRef, Box<TopicError>> {
        let hash = topic.hash64();
        let set = self.sets[hash as usize % TABLE_SETS].get_or_insert_default();
        for (known, entry) in set.hashes.iter().zip(&mut set.entries) {
            if *known == hash
                && let Some(entry) = entry
                && topic.is(entry.envelope.topic())
                && entry.envelope.name() == name
                && entry.envelope.source() == source
            {
                return Ok(entry.take());
            }
        }
        Ok(self.insert(hash, topic.to_topic()?, name, source))
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same, from the entries.
    #[cfg(all(test, not(loom)))]
    pub(super) fn bytes_counted(&self) -> usize {
        let entries = self.sets.iter().flatten().flat_map(|set| &set.entries);
        entries.flatten().map(|entry| entry.envelope.bytes()).sum()
    }

    #[cold]
    fn insert(
        &mut self,
        hash: u64,
        topic: Topic,
        name: Option<&str>,
        source: Option<&str>,
    ) -> EnvelopeRef {
        let envelope = EnvelopeRef::new(topic, name, source, 1);
        let bytes = envelope.bytes();
        if bytes > TABLE_ENVELOPE_BYTES_MAX {
            return envelope;
        }
        if self.bytes + bytes > TABLE_BYTES_MAX {
            *self = Self::new();
        }
        let set = self.sets[hash as usize % TABLE_SETS].get_or_insert_default();
        self.bytes -= set.replace(hash, &envelope);
        self.bytes += bytes;
        envelope
    }
}

impl Set {
    /// Keeps an envelope in place of the oldest. Returns the memory of that one, or 0.
    fn replace(&mut self, hash: u64, envelope: &EnvelopeRef) -> usize {
        // Two references in all, the caller's and this one: many topics are published once.
        // Relaxed: the caller's reference keeps the count above zero meanwhile.
        envelope.references.fetch_add(1, Ordering::Relaxed);
        let entry = EnvelopeStock::new(EnvelopeRef(envelope.0));
        self.hashes[self.next] = hash;
        let replaced = self.entries[self.next].replace(entry);
        self.next = (self.next + 1) % SET_WAYS;
        replaced.map_or(0, |entry| entry.envelope.bytes())
    }
}

impl EnvelopeStock {
    /// A stock of one reference.
    pub(crate) fn new(envelope: EnvelopeRef) -> Self {
        Self {
            envelope: ManuallyDrop::new(envelope),
            left: 1,
            refill: 1,
        }
    }

    /// Takes a reference. The count changes only if the stock has to be refilled.
    #[inline]
    pub(crate) fn take(&mut self) -> EnvelopeRef {
        debug_assert!((1..=REFILL_MAX + 1).contains(&self.left));
        if self.left == 1 {
            self.refill = (self.refill * 2).min(REFILL_MAX);
            // Relaxed: the reference that this stock owns keeps the count above zero meanwhile.
            self.envelope
                .references
                .fetch_add(self.refill, Ordering::Relaxed);
            self.left += self.refill;
        }
        self.left -= 1;
        EnvelopeRef(self.envelope.0)
    }
}

impl Drop for EnvelopeStock {
    fn drop(&mut self) {
        EnvelopeRef(self.envelope.0).release(self.left);
    }
}
