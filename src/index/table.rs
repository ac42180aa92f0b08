//! A hash table in chunks. It grows and shrinks without a long pause, and copies share the chunks
//! that neither changed.
//!
//! The table is a list of chunks. The low half of an entry's hash chooses the chunk, the high half
//! chooses the slot in it.
//!
//! * **Chunks** are chosen by linear hashing: when there are more than [`CHUNK_ENTRIES`] entries to
//!   a chunk on average, the next chunk in turn (not the fullest) is divided in two. So an
//!   insertion moves the entries of two chunks at most.
//! * **Slots** are chosen by linear probing in the order of the hash: an entry is in the slot that
//!   its hash names or behind it, and no entry is before one with a lower hash. So a search for a
//!   missing entry is as short as one for an entry that is there: it ends at the first higher hash.
//!   A chunk is made larger in one pass.
//! * The slots of a chunk are reference-counted ([`Arc`]): a clone of the table copies the list of
//!   chunks, and a change copies the slots that it changes if they are shared. Everything else that
//!   a search needs of a chunk is in the list, so a search reads one place in memory that
//!   is too large for the caches.
//!
//! The hash is keyed, and those who choose the texts cannot see the key. So chunks fill evenly. If
//! thousands of entries nevertheless had the same hash, they would be in one row in one chunk, and
//! a search would compare all of them: the result would be right, but late.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, LazyLock};

/// The largest average number of entries in a chunk. A single chunk has up to twice as many, and by
/// chance a few more.
///
/// Of 64, 128, 256 and 512, walks were fastest with this one, by little. The cost of copying a
/// chunk is proportional to it.
///
/// Small under Miri, which is slow.
pub(super) const CHUNK_ENTRIES: usize = if cfg!(miri) { 16 } else { 256 };

/// How many slots are added behind the homes of a chunk when the last slot is taken.
const SLOTS_BEHIND: usize = 4;

/// A table gets fewer chunks when the average number of entries in a chunk is smaller than this.
const CHUNK_ENTRIES_MIN: usize = CHUNK_ENTRIES / 4;

/// An entry of a table.
pub(super) trait Entry: Clone {
    /// How many eighths of the homes of a chunk may be taken: 6 or 7. With 6, a search passes fewer
    /// entries.
    const LOAD_EIGHTHS: u32 = 7;

    /// The hash of the entry. It must not change while the entry is in the table, and equal entries
    /// must have the same hash.
    fn hash(&self, mixer: Mixer) -> u64;
}

/// A keyed hash of any value: for texts and patterns, which come from outside.
pub(crate) fn keyed_hash(value: impl Hash) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEY.hash_one(value)
}

/// Keyed hashes of numbers that are assigned in this module and are not visible outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixer {
    key: u64,
    /// An odd number.
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
        // A second round, because the factor may have long runs of equal bits.
        fold(folded ^ self.factor, 0x9E37_79B9_7F4A_7C15)
    }

    /// A keyed hash of two small numbers and a text of 1 to 8 bytes. It is faster than
    /// [`keyed_hash`].
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

/// Both halves of the product, combined by exclusive or.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[derive(Clone)]
pub(super) struct Table<T> {
    chunks: Vec<Chunk<T>>,
    /// The bits of a hash that choose a chunk: the number of chunks, rounded up to a power of two,
    /// less one.
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

    /// The index of the chunk for this hash. Must not be used if there is no chunk.
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
    /// The entry of this hash that `is` accepts, if there is one.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&T> {
        let chunk = self.chunks.get(self.chunk_of(hash))?;
        let at = chunk.find(hash, self.mixer, is)?;
        chunk.slots[at].as_ref()
    }

    /// Reads the slot where a search for this hash begins, so that the processor has its memory in
    /// the cache when the search comes.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) -> bool {
        let chunk = self.chunks.get(self.chunk_of(hash));
        chunk.is_some_and(|chunk| chunk.slots[chunk.home(hash)].is_some())
    }

    pub(super) fn find_mut(&mut self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&mut T> {
        let index = self.chunk_of(hash);
        let at = self.chunks.get(index)?.find(hash, self.mixer, is)?;
        Arc::make_mut(&mut self.chunks[index].slots)[at].as_mut()
    }

    /// Adds an entry. The table must not have an equal one.
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

    /// Copies all chunks that are shared with other tables.
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
        // Without its highest bit, this is the index of the chunk that had these hashes before.
        let from = added & !(1 << added.ilog2());
        let divided = std::mem::replace(&mut self.chunks[from], Chunk::new());
        let (goes, stays): (Vec<T>, Vec<T>) = divided
            .into_entries()
            .into_iter()
            .partition(|entry| self.chunk_of(entry.hash(self.mixer)) == added);
        self.chunks[from] = Chunk::of_sorted(stays, self.mixer);
        self.chunks[added] = Chunk::of_sorted(goes, self.mixer);
    }

    /// Merges the last chunk with the one that it was divided from.
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
    /// The entries in ascending order of their [`order`], with gaps. There is at least one slot
    /// more than there are homes, unless there are none. Entries for which there is no slot among
    /// the homes are behind them.
    slots: Arc<[Option<T>]>,
    /// How many slots a hash can name: these are the first ones.
    homes: u32,
    /// How many entries there are. After an insertion, at most [`Entry::LOAD_EIGHTHS`] eighths of
    /// the homes are taken.
    len: u32,
}

/// The number of homes for this many entries and a tenth more.
fn homes_for<T: Entry>(entries: usize) -> usize {
    entries * 35 / (4 * T::LOAD_EIGHTHS as usize) + 1
}

/// The half of the hash by which entries are ordered within a chunk.
#[inline]
fn order(hash: u64) -> u64 {
    hash >> 32
}

/// The slot of this hash in a table of `homes` homes.
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

    /// The slot that this hash names: 0 to `homes`.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        home(hash, self.homes)
    }
}

impl<T: Entry> Chunk<T> {
    fn of_sorted(entries: Vec<T>, mixer: Mixer) -> Self {
        let mut chunk = Chunk::new();
        chunk.rebuild(homes_for::<T>(entries.len()), entries, mixer);
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
        if (self.len + 1) * 8 > self.homes * T::LOAD_EIGHTHS {
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
        // Entries that are behind the slot that their hash names move one slot towards it.
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
        self.rebuild(homes, entries, mixer);
    }

    /// Puts the entries, which must be in ascending order, into new slots with `homes` homes.
    fn rebuild(&mut self, homes: usize, entries: impl IntoIterator<Item = T>, mixer: Mixer) {
        self.homes = homes as u32;
        self.len = 0;
        // One more than there are homes, so that the slot that the highest hash names exists.
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

    /// Removes the slots from the chunk. They are copied if they are shared.
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

    /// Entries in tests: Miri is thousands of times slower.
    const ENTRIES: usize = if cfg!(miri) { 20 } else { 80 } * CHUNK_ENTRIES;

    /// An entry with any hash.
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
            table.prefetch(entry.hash);
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

    /// Random insertions and removals. `hash` makes the hashes of random numbers.
    fn insert_and_remove(hash: impl Fn(u64) -> u64, most: usize) {
        let (mut table, mut expected) = (Table::new(), BTreeSet::new());
        let mut draw = Draw(1);
        let mut kept = None;
        for n in 0..6 * most as u32 {
            // The table grows, shrinks, grows, and shrinks until it is empty.
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
        insert_and_remove(|random| random, ENTRIES / 10);
    }

    #[test]
    fn colliding_hashes() {
        insert_and_remove(|_| u64::MAX, ENTRIES / 40);
        insert_and_remove(|random| (random % 3) << 32, ENTRIES / 40);
        insert_and_remove(|random| (u64::MAX << 32) | (random % 7), ENTRIES / 40);
        insert_and_remove(|random| random << 32, ENTRIES / 40);
        insert_and_remove(|random| random & 0xFFFF_FFFF, ENTRIES / 40);
    }

    #[test]
    fn an_insertion_moves_two_chunks_at_most() {
        let mut table = Table::new();
        let mut draw = Draw(7);
        for id in 0..ENTRIES as u32 {
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
