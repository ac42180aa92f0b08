//! A hash table in chunks: grows and shrinks without a long stop, and two copies share the chunks
//! that neither changed.
//!
//! The table is a list of chunks; the low half of an entry's hash chooses the chunk, the high half
//! the place in it.
//!
//! * **Among chunks**, linear hashing: when there are more than [`CHUNK_ENTRIES`] entries to a
//!   chunk, one chunk (the next in turn, not the fullest) is divided in two; so an insertion never
//!   moves more than two chunks' entries.
//! * **Within a chunk**, linear probing in the order of the hash: an entry stands at the place that
//!   its hash says, or behind, and no entry stands before one of a lower hash. So a search for what
//!   is not there ends as soon as one for what is there, at the first entry of a higher hash, and a
//!   chunk is made larger by one pass over it.
//! * The slots of a chunk are counted ([`Arc`]): a clone of the table copies the list, and a change
//!   makes the slots that it changes its own. The list itself has all else that a search needs to
//!   know of a chunk, so of the memory that is too large for a cache a search reads one place.
//!
//! The hash is keyed (whoever chooses the texts cannot see it), so chunks fill evenly. Where it is
//! not so, with thousands of entries of one hash, they stand in one row in one chunk and a search
//! looks at all of them: slower, and still right.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, LazyLock};

/// Entries to a chunk, on average over the table at most; a single chunk has up to twice as many,
/// and a few more by chance.
///
/// Of 64, 128, 256 and 512, this had the shortest walks by a little; and what a copied chunk costs,
/// rises with it.
pub(super) const CHUNK_ENTRIES: usize = 256;

/// Slots that a chunk gets behind its homes when the last of them are taken.
const SLOTS_BEHIND: usize = 4;

/// A table has fewer chunks again when there are fewer entries to a chunk than this on average.
const CHUNK_ENTRIES_MIN: usize = CHUNK_ENTRIES / 4;

/// What a table holds.
pub(super) trait Entry: Clone {
    /// How many eighths of the homes of a chunk may be taken, 6 or 7: with fewer, a search passes
    /// fewer entries.
    const FULL: u32 = 7;

    /// The same for as long as it is in the table, and for whatever is equal to it.
    fn hash(&self, mixer: Mixer) -> u64;
}

/// A keyed hash of anything that can be hashed: for texts and patterns, which come from outside.
pub(super) fn keyed_hash(value: impl Hash) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEY.hash_one(value)
}

/// A keyed hash of two small numbers that are given out here, and that nobody outside ever sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixer {
    key: u64,
    /// Odd.
    factor: u64,
}

impl Mixer {
    fn new() -> Self {
        static MIXER: LazyLock<Mixer> = LazyLock::new(|| Mixer {
            key: keyed_hash(0),
            factor: keyed_hash(1) | 1,
        });
        *MIXER
    }

    #[inline]
    pub(super) fn mix(self, high: u32, low: u32) -> u64 {
        let both = (u64::from(high) << 32) | u64::from(low);
        let folded = fold(both ^ self.key, self.factor);
        // Once more: the factor may have long runs of equal bits.
        fold(folded ^ self.factor, 0x9E37_79B9_7F4A_7C15)
    }

    /// A keyed hash of two small numbers and a text of 1 to 8 bytes, quicker than [`keyed_hash`].
    #[inline]
    pub(super) fn mix_gram(self, high: u32, kind: u8, gram: &[u8]) -> u64 {
        debug_assert!((1..=8).contains(&gram.len()), "{gram:?}");
        let word = gram
            .iter()
            .fold(0, |word, &byte| word << 8 | u64::from(byte));
        let kind = u32::from(kind) << 8 | gram.len() as u32;
        let keyed = fold(word ^ self.key, self.factor) ^ self.mix(high, kind);
        fold(keyed, 0x9E37_79B9_7F4A_7C15)
    }
}

/// The halves of the product, one over the other.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[derive(Clone)]
pub(super) struct Table<T> {
    chunks: Vec<Chunk<T>>,
    /// The bits of a hash that choose a chunk: as many as the number of chunks needs, rounded up.
    mask: usize,
    len: usize,
    mixer: Mixer,
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Table {
            chunks: Vec::new(),
            mask: 0,
            len: 0,
            mixer: Mixer::new(),
        }
    }

    pub(super) fn mixer(&self) -> Mixer {
        self.mixer
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0 && self.chunks.is_empty()
    }

    /// Which chunk has the entries of this hash. Means nothing if there is no chunk.
    #[inline]
    fn chunk_of(&self, hash: u64) -> usize {
        let index = hash as u32 as usize & self.mask;
        if index < self.chunks.len() {
            index
        } else {
            index & (self.mask >> 1)
        }
    }
}

impl<T: Entry> Table<T> {
    /// The entry of this hash that `is` accepts.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&T> {
        let chunk = self.chunks.get(self.chunk_of(hash))?;
        let at = chunk.find(hash, self.mixer, is)?;
        chunk.slots[at].as_ref()
    }

    /// Reads the place where a search for this hash begins, so that the memory is on its way when
    /// the search comes.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> bool {
        let chunk = self.chunks.get(self.chunk_of(hash));
        chunk.is_some_and(|chunk| chunk.slots[chunk.home(hash)].is_some())
    }

    pub(super) fn find_mut(&mut self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&mut T> {
        let index = self.chunk_of(hash);
        let at = self.chunks.get(index)?.find(hash, self.mixer, is)?;
        Arc::make_mut(&mut self.chunks[index].slots)[at].as_mut()
    }

    /// Adds an entry; none that is equal may be there.
    pub(super) fn insert(&mut self, entry: T) {
        if self.len >= self.chunks.len() * CHUNK_ENTRIES {
            self.add_chunk();
        }
        let index = self.chunk_of(entry.hash(self.mixer));
        self.chunks[index].insert(entry, self.mixer);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, hash: u64, is: impl Fn(&T) -> bool) -> Option<T> {
        let index = self.chunk_of(hash);
        let at = self.chunks.get(index)?.find(hash, self.mixer, is)?;
        let entry = self.chunks[index].remove(at, self.mixer);
        self.len -= 1;
        if self.len < self.chunks.len() * CHUNK_ENTRIES_MIN && self.chunks.len() > 1 {
            self.drop_chunk();
        } else if self.len == 0 {
            self.chunks = Vec::new();
            self.mask = 0;
        }
        entry
    }

    /// Makes every chunk this table's own.
    pub(super) fn unshare(&mut self) {
        for chunk in &mut self.chunks {
            Arc::make_mut(&mut chunk.slots);
        }
    }

    /// Divides the next chunk in turn.
    fn add_chunk(&mut self) {
        let added = self.chunks.len();
        self.chunks.push(Chunk::new());
        self.mask = self.chunks.len().next_power_of_two() - 1;
        if added == 0 {
            return;
        }
        // Without its highest bit: the chunk that these hashes named before.
        let from = added & !(1 << added.ilog2());
        let divided = std::mem::replace(&mut self.chunks[from], Chunk::new());
        let (goes, stays): (Vec<T>, Vec<T>) = divided
            .into_entries()
            .into_iter()
            .partition(|entry| self.chunk_of(entry.hash(self.mixer)) == added);
        self.chunks[from] = Chunk::of_sorted(stays, self.mixer);
        self.chunks[added] = Chunk::of_sorted(goes, self.mixer);
    }

    /// Unites the last chunk with the one that it was divided from.
    fn drop_chunk(&mut self) {
        let last = self.chunks.pop().expect("there are two chunks at least");
        self.mask = self.chunks.len().next_power_of_two() - 1;
        for entry in last.into_entries() {
            let index = self.chunk_of(entry.hash(self.mixer));
            self.chunks[index].insert(entry, self.mixer);
        }
    }
}

/// A part of a table. A clone shares the slots.
struct Chunk<T> {
    /// The entries in ascending order of their [`order`], with gaps. At least one more than there
    /// are homes, unless there are none; entries that find no place among the homes stand behind
    /// them.
    slots: Arc<[Option<T>]>,
    /// Places that a hash can name: the first so many slots.
    homes: u32,
    /// Entries: after an insertion, at most [`Entry::FULL`] eighths of the homes.
    len: u32,
}

/// For so many entries and a tenth more.
fn homes_for<T: Entry>(entries: usize) -> usize {
    entries * 35 / (4 * T::FULL as usize) + 1
}

/// The half of the hash that orders a chunk.
#[inline]
fn order(hash: u64) -> u64 {
    hash >> 32
}

/// The place that this hash names among so many homes.
#[inline]
fn home(hash: u64, homes: u32) -> usize {
    ((order(hash) * u64::from(homes)) >> 32) as usize
}

impl<T> Clone for Chunk<T> {
    fn clone(&self) -> Self {
        Chunk {
            slots: Arc::clone(&self.slots),
            homes: self.homes,
            len: self.len,
        }
    }
}

impl<T> Chunk<T> {
    fn new() -> Self {
        Chunk {
            slots: Arc::default(),
            homes: 0,
            len: 0,
        }
    }

    /// The place that this hash names: 0 to `homes`.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        home(hash, self.homes)
    }
}

impl<T: Entry> Chunk<T> {
    fn of_sorted(entries: Vec<T>, mixer: Mixer) -> Self {
        let mut chunk = Chunk::new();
        chunk.lay_out(homes_for::<T>(entries.len()), entries, mixer);
        chunk
    }

    #[inline]
    fn find(&self, hash: u64, mixer: Mixer, is: impl Fn(&T) -> bool) -> Option<usize> {
        let home = self.home(hash);
        for (at, slot) in self.slots[home..].iter().enumerate() {
            let entry = slot.as_ref()?;
            if is(entry) {
                return Some(home + at);
            }
            if order(entry.hash(mixer)) > order(hash) {
                return None;
            }
        }
        None
    }

    fn insert(&mut self, entry: T, mixer: Mixer) {
        if (self.len + 1) * 8 > self.homes * T::FULL {
            let homes = self.homes as usize;
            self.resize(homes + homes / 4 + 2, mixer);
        }
        let hash = entry.hash(mixer);
        let stands_before = |slot: &Option<T>| {
            let other = slot.as_ref();
            other.is_some_and(|other| order(other.hash(mixer)) <= order(hash))
        };
        let home = self.home(hash);
        let behind = self.slots[home..]
            .iter()
            .position(|slot| !stands_before(slot));
        let at = home + behind.unwrap_or(self.slots.len() - home);
        let gap = self.slots[at..].iter().position(Option::is_none);
        let gap = at + gap.unwrap_or(self.slots.len() - at);
        if gap == self.slots.len() {
            let mut slots = self.take_slots();
            slots.reserve_exact(SLOTS_BEHIND);
            slots.extend(std::iter::repeat_with(|| None).take(SLOTS_BEHIND));
            self.slots = slots.into();
        }
        let slots = Arc::make_mut(&mut self.slots);
        slots[at..=gap].rotate_right(1);
        slots[at] = Some(entry);
        self.len += 1;
    }

    fn remove(&mut self, mut at: usize, mixer: Mixer) -> Option<T> {
        let homes = self.homes;
        let slots = Arc::make_mut(&mut self.slots);
        let entry = slots[at].take();
        self.len -= 1;
        // What stands behind its place may come one nearer to it.
        while let Some(Some(next)) = slots.get(at + 1)
            && home(next.hash(mixer), homes) <= at
        {
            slots.swap(at, at + 1);
            at += 1;
        }
        if self.len * 2 < self.homes && homes_for::<T>(self.len as usize) < self.homes as usize {
            let len = self.len as usize;
            self.resize(homes_for::<T>(len), mixer);
        }
        entry
    }

    fn resize(&mut self, homes: usize, mixer: Mixer) {
        let entries = self.take_slots().into_iter().flatten();
        self.lay_out(homes, entries, mixer);
    }

    /// Puts the entries, in ascending order, into so many homes.
    fn lay_out(&mut self, homes: usize, entries: impl IntoIterator<Item = T>, mixer: Mixer) {
        self.homes = homes as u32;
        self.len = 0;
        // One more, so that the place of the highest hash is always there to be looked at.
        let mut slots = Vec::with_capacity(homes + 1 + SLOTS_BEHIND);
        for entry in entries {
            let home = self.home(entry.hash(mixer));
            while slots.len() < home {
                slots.push(None);
            }
            slots.push(Some(entry));
            self.len += 1;
        }
        while slots.len() <= homes {
            slots.push(None);
        }
        self.slots = slots.into();
    }

    fn into_entries(mut self) -> Vec<T> {
        self.take_slots().into_iter().flatten().collect()
    }

    /// The slots, copied if they are shared; none are left.
    fn take_slots(&mut self) -> Vec<Option<T>> {
        let mut slots = std::mem::take(&mut self.slots);
        match Arc::get_mut(&mut slots) {
            Some(own) => own.iter_mut().map(Option::take).collect(),
            None => slots.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// An entry with a hash of its own choice.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Chosen {
        hash: u64,
        id: u32,
    }

    impl Entry for Chosen {
        fn hash(&self, _: Mixer) -> u64 {
            self.hash
        }
    }

    /// Random numbers (Marsaglia's xorshift).
    struct Draw(u64);

    impl Draw {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
        }
    }

    fn check(table: &Table<Chosen>, expected: &BTreeSet<Chosen>) {
        assert_eq!(table.len, expected.len());
        for entry in expected {
            assert_eq!(table.find(entry.hash, |other| other == entry), Some(entry));
            table.touch(entry.hash);
        }
        let mut entries = 0;
        for chunk in &table.chunks {
            let here: Vec<_> = chunk.slots.iter().flatten().collect();
            assert!(here.is_sorted_by_key(|entry| order(entry.hash)));
            assert_eq!(here.len(), chunk.len as usize);
            entries += here.len();
        }
        assert_eq!(entries, expected.len());
        assert!(table.chunks.len() <= expected.len() / CHUNK_ENTRIES_MIN + 1);
    }

    /// Random insertions and removals, with hashes that `hash` makes of random numbers.
    fn come_and_go(hash: impl Fn(u64) -> u64, most: usize) {
        let (mut table, mut expected) = (Table::new(), BTreeSet::new());
        let mut draw = Draw(1);
        let mut kept = None;
        for n in 0..6 * most as u32 {
            // Up, down, up and down to nothing.
            let inserts = draw.next() % 100 < [80, 20, 90, 0][(n as usize * 4 / (6 * most)).min(3)];
            if inserts {
                let entry = Chosen {
                    hash: hash(draw.next()),
                    id: n,
                };
                table.insert(entry);
                expected.insert(entry);
            } else if let Some(&entry) = expected
                .range(
                    Chosen {
                        hash: hash(draw.next()),
                        id: 0,
                    }..,
                )
                .next()
                .or(expected.first())
            {
                assert_eq!(
                    table.remove(entry.hash, |other| *other == entry),
                    Some(entry)
                );
                assert_eq!(table.remove(entry.hash, |other| *other == entry), None);
                expected.remove(&entry);
            }
            if (n as usize).is_multiple_of(most / 4) {
                check(&table, &expected);
                if let Some((table, expected)) = kept.replace((table.clone(), expected.clone())) {
                    check(&table, &expected);
                }
            }
        }
        for entry in std::mem::take(&mut expected) {
            assert_eq!(
                table.remove(entry.hash, |other| *other == entry),
                Some(entry)
            );
        }
        assert!(table.is_empty());
    }

    #[test]
    fn random_hashes() {
        come_and_go(|random| random, 8 * CHUNK_ENTRIES);
    }

    #[test]
    fn hashes_that_collide() {
        come_and_go(|_| u64::MAX, 2 * CHUNK_ENTRIES);
        come_and_go(|random| (random % 3) << 32, 2 * CHUNK_ENTRIES);
        come_and_go(|random| (u64::MAX << 32) | (random % 7), 2 * CHUNK_ENTRIES);
        come_and_go(|random| random << 32, 2 * CHUNK_ENTRIES);
        come_and_go(|random| random & 0xFFFF_FFFF, 2 * CHUNK_ENTRIES);
    }

    #[test]
    fn an_insertion_moves_two_chunks_at_most() {
        let mut table = Table::new();
        let mut draw = Draw(7);
        for id in 0..20_000 {
            let slots = |chunk: &Chunk<Chosen>| Arc::as_ptr(&chunk.slots);
            let before: Vec<_> = table.chunks.iter().map(slots).collect();
            let shared = table.clone();
            table.insert(Chosen {
                hash: draw.next(),
                id,
            });
            let same = before
                .iter()
                .zip(&table.chunks)
                .filter(|(a, b)| std::ptr::addr_eq(**a, slots(b)));
            assert!(same.count() + 2 >= before.len(), "at {id}");
            drop(shared);
        }
        let fullest = table.chunks.iter().map(|chunk| chunk.len).max();
        assert!(fullest < Some(3 * CHUNK_ENTRIES as u32), "{fullest:?}");
    }

    #[test]
    fn a_chunk_that_is_shared_is_copied_once() {
        let mut table = Table::new();
        table.insert(Chosen { hash: 1, id: 1 });
        let before = table.clone();
        table.find_mut(1, |_| true).expect("it is there").id = 2;
        assert_eq!(before.find(1, |_| true).map(|entry| entry.id), Some(1));
        let mut own = table.clone();
        own.unshare();
        assert!(!Arc::ptr_eq(&own.chunks[0].slots, &table.chunks[0].slots));
        assert_eq!(own.find(1, |_| true), table.find(1, |_| true));
    }
}
