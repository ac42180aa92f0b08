//! The texts of very many patterns, in a hash table that takes little memory.
//!
//! The table has buckets, and a bucket is one allocation with the entries of some twenty patterns.
//! The low bits of a pattern's hash choose its bucket. A change of one pattern reads and moves the
//! entries of its bucket and of no other. The table grows by linear hashing: when the buckets have
//! more than [`BUCKET_ENTRIES`] entries on average, the next bucket in turn is divided in two. So
//! no change has to move all entries. (Litwin, "Linear Hashing: A New Tool for File and Table
//! Addressing", 1980; [`index`](crate::index) has a table of the same kind, for entries of one
//! size.)
//!
//! The hash is keyed, so patterns cannot be chosen to be in the same bucket.

use crate::index::keyed_hash;
use crate::pattern::{Pattern, Syntax};

/// The largest average number of entries in a bucket. A single bucket has up to twice as many, and
/// by chance a few more.
const BUCKET_ENTRIES: usize = 24;

/// The table gets fewer buckets when the average number of entries is smaller than this.
const BUCKET_ENTRIES_MIN: usize = BUCKET_ENTRIES / 4;

/// The bytes of a hash in an entry.
const HASH_BYTES: usize = size_of::<u32>();

/// The texts of patterns, of which no two are equal.
pub(super) struct TextTable {
    /// The entries, one behind the other: see [`append`]. At least one bucket.
    buckets: Vec<Vec<u8>>,
    /// The number of entries.
    len: usize,
    /// The place of the next pattern in the order in which patterns are added.
    next_place: u64,
}

/// An entry of a bucket.
struct Entry<'a> {
    hash: u32,
    /// The entry's place in the order in which patterns were added.
    place: u64,
    syntax: Syntax,
    text: &'a str,
}

impl TextTable {
    pub(super) fn new() -> Self {
        Self {
            buckets: vec![Vec::new()],
            len: 0,
            next_place: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a pattern. The table must not have an equal one.
    pub(super) fn push(&mut self, pattern: &Pattern) {
        let entry = Entry {
            hash: hash_of(pattern),
            place: self.next_place,
            syntax: pattern.syntax(),
            text: pattern.as_str(),
        };
        self.next_place += 1;
        let bucket = self.bucket_of(entry.hash);
        append(&mut self.buckets[bucket], &entry);
        self.len += 1;
        if self.len > self.buckets.len() * BUCKET_ENTRIES {
            self.add_bucket();
        }
    }

    /// Removes the pattern that is equal to this one, in whatever spelling. Returns `false` if
    /// there is none.
    pub(super) fn remove(&mut self, pattern: &Pattern) -> bool {
        let hash = hash_of(pattern);
        let is_equal = |entry: &Entry<'_>| {
            // Entries with the same hash are almost always equal. Most texts are identical or in
            // canonical form, so that they need not be parsed.
            entry.hash == hash
                && entry.syntax == pattern.syntax()
                && (entry.text == pattern.as_str()
                    || entry.text == pattern.canonical()
                    || Pattern::parse_again(entry.text, entry.syntax) == *pattern)
        };
        let index = self.bucket_of(hash);
        let bucket = &mut self.buckets[index];
        let mut rest = &bucket[..];
        let range = loop {
            let from = bucket.len() - rest.len();
            let Some(entry) = take_entry(&mut rest) else {
                return false;
            };
            if is_equal(&entry) {
                break from..bucket.len() - rest.len();
            }
        };
        count_moved(bucket.len() - range.start);
        bucket.drain(range);
        if bucket.len() < bucket.capacity() / 2 {
            bucket.shrink_to(bucket.len() + bucket.len() / 4);
        }
        self.len -= 1;
        if self.len < self.buckets.len() * BUCKET_ENTRIES_MIN && self.buckets.len() > 1 {
            self.drop_bucket();
        }
        true
    }

    /// Returns all patterns, in the order in which they were added.
    pub(super) fn parse(&self) -> Vec<Pattern> {
        let mut all = Vec::with_capacity(self.len);
        for bucket in &self.buckets {
            let mut rest = &bucket[..];
            all.extend(std::iter::from_fn(|| take_entry(&mut rest)));
        }
        debug_assert_eq!(all.len(), self.len);
        all.sort_unstable_by_key(|entry| entry.place);
        let parse = |entry: Entry<'_>| Pattern::parse_again(entry.text, entry.syntax);
        all.into_iter().map(parse).collect()
    }

    fn bucket_of(&self, hash: u32) -> usize {
        let mask = self.buckets.len().next_power_of_two() - 1;
        let index = hash as usize & mask;
        if index < self.buckets.len() {
            index
        } else {
            // This bucket does not exist yet: its entries are in the one that will be divided.
            index & (mask >> 1)
        }
    }

    /// Divides the next bucket in turn.
    fn add_bucket(&mut self) {
        let added = self.buckets.len();
        self.buckets.push(Vec::new());
        // Without its highest bit, this is the index of the bucket that had these hashes before.
        let from = added & !(1 << added.ilog2());
        let divided = std::mem::take(&mut self.buckets[from]);
        count_moved(divided.len());
        self.distribute(&divided);
    }

    /// Merges the last bucket with the one that it was divided from.
    fn drop_bucket(&mut self) {
        let last = self.buckets.pop().expect("there are two buckets at least");
        count_moved(last.len());
        self.distribute(&last);
    }

    fn distribute(&mut self, mut entries: &[u8]) {
        while let Some(entry) = take_entry(&mut entries) {
            let bucket = self.bucket_of(entry.hash);
            append(&mut self.buckets[bucket], &entry);
        }
    }
}

fn hash_of(pattern: &Pattern) -> u32 {
    keyed_hash(pattern) as u32
}

/// Appends an entry: its hash, its place, the length of the text, the syntax, and the text. The
/// place and the length are written in as many bytes as they need.
fn append(bucket: &mut Vec<u8>, entry: &Entry<'_>) {
    let bytes = HASH_BYTES + 2 * VARINT_BYTES_MAX + 1 + entry.text.len();
    if bucket.capacity() - bucket.len() < bytes {
        bucket.reserve_exact(bytes + bucket.len() / 4);
    }
    bucket.extend_from_slice(&entry.hash.to_le_bytes());
    append_varint(bucket, entry.place);
    append_varint(bucket, entry.text.len() as u64);
    bucket.push(entry.syntax as u8);
    bucket.extend_from_slice(entry.text.as_bytes());
}

/// Reads the first entry, and removes it from the slice.
fn take_entry<'a>(entries: &mut &'a [u8]) -> Option<Entry<'a>> {
    if entries.is_empty() {
        return None;
    }
    count_moved(1);
    let (hash, rest) = entries.split_at(HASH_BYTES);
    let mut rest = rest;
    let place = take_varint(&mut rest);
    let len = take_varint(&mut rest) as usize;
    let (text, behind) = rest[1..].split_at(len);
    let entry = Entry {
        hash: u32::from_le_bytes(hash.try_into().expect("of this length")),
        place,
        syntax: Syntax::ALL
            .into_iter()
            .find(|&syntax| syntax as u8 == rest[0])
            .expect("written by `append`"),
        text: std::str::from_utf8(text).expect("written by `append`"),
    };
    *entries = behind;
    Some(entry)
}

/// The most bytes that a number of 64 bits takes.
const VARINT_BYTES_MAX: usize = 10;

/// Appends seven bits in each byte, the lowest first. The highest bit says that another follows.
fn append_varint(bucket: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bucket.push(number as u8 | 0x80);
        number >>= 7;
    }
    bucket.push(number as u8);
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("written by `append_varint`");
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

#[cfg(test)]
std::thread_local! {
    /// How many bytes of buckets were moved, and how many entries were read, in this thread.
    pub(super) static MOVED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts work for the tests.
#[inline]
fn count_moved(_steps: usize) {
    #[cfg(test)]
    MOVED.set(MOVED.get() + _steps);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The number of patterns in the tests: few under Miri, which is slow.
    const PATTERNS: usize = if cfg!(miri) { 200 } else { 20_000 };

    fn pattern(n: usize) -> Pattern {
        match n % 3 {
            0 => Pattern::parse_as(&format!("t/{n}/#"), Syntax::Mqtt),
            1 => Pattern::parse(&format!("t.[ab]{n}")),
            _ => Pattern::parse(&format!("t.{n}.**")),
        }
        .expect("a pattern")
    }

    fn texts(table: &TextTable) -> Vec<String> {
        let patterns = table.parse();
        patterns.iter().map(|p| p.as_str().to_owned()).collect()
    }

    #[test]
    fn patterns_stay_in_the_order_in_which_they_were_added() {
        let mut table = TextTable::new();
        let mut expected = Vec::new();
        for n in 0..PATTERNS {
            table.push(&pattern(n));
            expected.push(n);
        }
        // Removed from all places, and added again at the end.
        for n in (0..PATTERNS).step_by(3) {
            assert!(table.remove(&pattern(n)));
            assert!(!table.remove(&pattern(n)));
        }
        expected.retain(|n| n % 3 != 0);
        for n in (0..PATTERNS).step_by(6) {
            table.push(&pattern(n));
            expected.push(n);
        }
        let written = |n: &usize| pattern(*n).as_str().to_owned();
        assert_eq!(
            texts(&table),
            expected.iter().map(written).collect::<Vec<_>>()
        );
        assert_eq!(table.len(), expected.len());
        for n in expected {
            assert!(table.remove(&pattern(n)));
        }
        assert_eq!((table.len(), table.buckets.len()), (0, 1));
    }

    #[test]
    fn another_spelling_is_found() {
        let mut table = TextTable::new();
        for n in 0..100 {
            table.push(&Pattern::parse(&format!("t.[ba]{n}")).expect("a pattern"));
        }
        assert_eq!(texts(&table)[7], "t.[ba]7", "the spelling is kept");
        for n in 0..100 {
            let other = Pattern::parse(&format!("t.[aab]{n}")).expect("a pattern");
            assert!(table.remove(&other), "{n}");
        }
        assert_eq!(table.len(), 0);
    }

    /// Any single change moves the entries of two buckets at most, however many patterns there are.
    #[test]
    fn a_change_moves_two_buckets_at_most() {
        let longest = 4 * BUCKET_ENTRIES * (pattern(PATTERNS).as_str().len() + 10) * 2;
        let mut table = TextTable::new();
        let mut check = |change: &mut dyn FnMut(&mut TextTable), n: usize| {
            let before = MOVED.get();
            change(&mut table);
            let moved = MOVED.get() - before;
            assert!(moved <= longest, "{moved} steps at {n}");
        };
        for n in 0..PATTERNS {
            check(&mut |table| table.push(&pattern(n)), n);
        }
        for n in 0..PATTERNS {
            check(&mut |table| assert!(table.remove(&pattern(n))), n);
        }
    }

    #[test]
    fn a_pattern_takes_little_more_than_its_text() {
        let mut table = TextTable::new();
        for n in 0..PATTERNS {
            table.push(&pattern(n));
        }
        let texts: usize = (0..PATTERNS).map(|n| pattern(n).as_str().len()).sum();
        let buckets = table.buckets.iter();
        let bytes: usize = buckets
            .map(|bucket| bucket.capacity() + size_of::<Vec<u8>>())
            .sum();
        assert!(
            bytes < texts + 24 * PATTERNS,
            "{} per pattern",
            (bytes - texts) / PATTERNS
        );
    }

    #[test]
    fn numbers_of_any_size_are_read_again() {
        for number in [
            0,
            1,
            0x7F,
            0x80,
            0x3FFF,
            0x4000,
            u64::from(u32::MAX),
            u64::MAX,
        ] {
            let mut bytes = Vec::new();
            append_varint(&mut bytes, number);
            assert!(bytes.len() <= VARINT_BYTES_MAX);
            let mut rest = &bytes[..];
            assert_eq!(take_varint(&mut rest), number);
            assert!(rest.is_empty());
        }
    }
}
