//! A persistent map from texts to values: a clone shares all, a change copies one path.
//!
//! A hash array mapped trie with buckets at its leaves: up to [`BUCKET_ENTRIES_MAX`] entries live
//! in one bucket and are found by looking at them, without hashing; only what outgrows a bucket is
//! divided by five bits of the keyed hash at a time. So the many small maps of an index cost one
//! allocation each, and a map of a million entries is four levels deep.

use std::cell::OnceCell;
use std::sync::Arc;

use super::list;
use crate::pattern::hash_text;

/// How many entries a bucket holds before it is divided.
///
/// Comparing eight short texts takes about as long as hashing one (2026, x86-64).
const BUCKET_ENTRIES_MAX: usize = 8;
/// Bits of the hash that choose among the children of a branch.
const BRANCH_BITS: u32 = 5;

/// A text that is looked up, with its hash once it was needed.
pub(super) struct Key<'a> {
    text: &'a str,
    hash: OnceCell<u64>,
}

impl<'a> Key<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Key {
            text,
            hash: OnceCell::new(),
        }
    }

    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| hash_text(self.text))
    }
}

/// The map; `T` should be cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Map<T> {
    Bucket(Box<[Entry<T>]>),
    Branch {
        /// Bit i is set if there is a child for the five bits i; the children stand in that order.
        present: u32,
        children: Box<[Arc<Map<T>>]>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Entry<T> {
    key: Text,
    value: T,
}

/// A key. Most are short: they take no memory elsewhere, and looking at them goes nowhere else.
#[derive(Clone, Debug)]
enum Text {
    Short {
        /// Bytes of the text, 0 to [`SHORT_MAX`].
        len: u8,
        bytes: [u8; SHORT_MAX],
    },
    Long(Arc<str>),
}

/// As many as fit into three words, with the length and the kind.
const SHORT_MAX: usize = 22;

impl Text {
    fn new(text: &str) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match bytes.get_mut(..text.len()) {
            Some(short) => {
                short.copy_from_slice(text.as_bytes());
                let len = text.len() as u8;
                Self::Short { len, bytes }
            }
            None => Self::Long(text.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(text) => text.as_bytes(),
        }
    }

    fn is(&self, key: &Key<'_>) -> bool {
        self.as_bytes() == key.text.as_bytes()
    }

    fn hash(&self) -> u64 {
        match self {
            Self::Short { .. } => {
                hash_text(str::from_utf8(self.as_bytes()).expect("it was a text"))
            }
            Self::Long(text) => hash_text(text),
        }
    }
}

impl<T> Default for Map<T> {
    fn default() -> Self {
        Map::Bucket(Box::default())
    }
}

impl<T: Clone> Map<T> {
    /// Only a root can be empty.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Map::Bucket(entries) if entries.is_empty())
    }

    pub(super) fn get(&self, key: &Key<'_>) -> Option<&T> {
        let mut map = self;
        let mut level = 0;
        loop {
            match map {
                Map::Bucket(entries) => {
                    let entry = entries.iter().find(|entry| entry.key.is(key))?;
                    return Some(&entry.value);
                }
                Map::Branch { present, children } => {
                    let (bit, at) = place(*present, key.hash(), level);
                    if present & bit == 0 {
                        return None;
                    }
                    map = &children[at];
                    level += 1;
                }
            }
        }
    }

    /// The value of `key`, made if there is none, for a change.
    pub(super) fn get_or_insert_with(&mut self, key: &Key<'_>, make: impl FnOnce() -> T) -> &mut T {
        self.get_or_insert_at(key, 0, make)
    }

    /// The value of `key`, for a change.
    pub(super) fn get_mut(&mut self, key: &Key<'_>) -> Option<&mut T> {
        let mut map = self;
        let mut level = 0;
        loop {
            match map {
                Map::Bucket(entries) => {
                    let entry = entries.iter_mut().find(|entry| entry.key.is(key))?;
                    return Some(&mut entry.value);
                }
                Map::Branch { present, children } => {
                    let (bit, at) = place(*present, key.hash(), level);
                    if *present & bit == 0 {
                        return None;
                    }
                    map = Arc::make_mut(&mut children[at]);
                    level += 1;
                }
            }
        }
    }

    /// Takes `key` out; it must be there.
    pub(super) fn remove(&mut self, key: &Key<'_>) {
        self.remove_at(key, 0);
    }

    fn get_or_insert_at(&mut self, key: &Key<'_>, level: u32, make: impl FnOnce() -> T) -> &mut T {
        if let Map::Bucket(entries) = self
            && entries.len() >= BUCKET_ENTRIES_MAX
            && level * BRANCH_BITS < u64::BITS // texts of one hash share a bucket of any size
            && !entries.iter().any(|entry| entry.key.is(key))
        {
            *self = divide(std::mem::take(entries), level);
        }
        match self {
            Map::Bucket(entries) => {
                let found = entries.iter().position(|entry| entry.key.is(key));
                let at = found.unwrap_or_else(|| {
                    let new = Entry {
                        key: Text::new(key.text),
                        value: make(),
                    };
                    list::insert(entries, entries.len(), new);
                    entries.len() - 1
                });
                &mut entries[at].value
            }
            Map::Branch { present, children } => {
                let (bit, at) = place(*present, key.hash(), level);
                if *present & bit == 0 {
                    *present |= bit;
                    list::insert(children, at, Arc::default());
                }
                Arc::make_mut(&mut children[at]).get_or_insert_at(key, level + 1, make)
            }
        }
    }

    fn remove_at(&mut self, key: &Key<'_>, level: u32) {
        match self {
            Map::Bucket(entries) => {
                let at = entries.iter().position(|entry| entry.key.is(key));
                list::remove(entries, at.expect("the key is there"));
            }
            Map::Branch { present, children } => {
                let (bit, at) = place(*present, key.hash(), level);
                debug_assert!(*present & bit != 0, "{} is not there", key.text);
                let child = Arc::make_mut(&mut children[at]);
                child.remove_at(key, level + 1);
                if child.is_empty() {
                    list::remove(children, at);
                    *present &= !bit;
                }
                // A branch with one bucket is that bucket: no chain outlives its entries.
                if let [only] = &mut **children
                    && matches!(**only, Map::Bucket(_))
                    && let Map::Bucket(entries) = Arc::make_mut(only)
                {
                    *self = Map::Bucket(std::mem::take(entries));
                }
            }
        }
    }
}

/// The bit of the child for `hash` in a branch of that level, and its index among the children.
fn place(present: u32, hash: u64, level: u32) -> (u32, usize) {
    let bit = 1 << ((hash >> (level * BRANCH_BITS)) & 31);
    (bit, (present & (bit - 1)).count_ones() as usize)
}

/// A branch of that level with these entries in its buckets.
fn divide<T: Clone>(entries: Box<[Entry<T>]>, level: u32) -> Map<T> {
    let mut buckets: [Vec<Entry<T>>; 32] = Default::default();
    for entry in entries {
        let hash = entry.key.hash();
        buckets[((hash >> (level * BRANCH_BITS)) & 31) as usize].push(entry);
    }
    let mut present = 0;
    let mut children = Vec::new();
    for (index, bucket) in buckets
        .into_iter()
        .enumerate()
        .filter(|(_, bucket)| !bucket.is_empty())
    {
        present |= 1 << index;
        children.push(Arc::new(Map::Bucket(bucket.into())));
    }
    let children = children.into();
    Map::Branch { present, children }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_clone_keeps_what_it_had() {
        let mut map = Map::default();
        for n in 0..10_000 {
            *map.get_or_insert_with(&Key::new(&n.to_string()), || n) += 1;
        }
        let before = map.clone();
        for n in 0..10_000 {
            if n % 3 > 0 {
                map.remove(&Key::new(&n.to_string()));
            } else {
                *map.get_mut(&Key::new(&n.to_string())).unwrap() += 1;
            }
        }
        for n in 0..10_000 {
            let text = n.to_string();
            assert_eq!(before.get(&Key::new(&text)), Some(&(n + 1)));
            assert_eq!(map.get(&Key::new(&text)), (n % 3 == 0).then_some(&(n + 2)));
        }
        for n in (0..10_000).step_by(3) {
            map.remove(&Key::new(&n.to_string()));
        }
        assert!(
            map.is_empty() && matches!(map, Map::Bucket(_)),
            "chains are gone too"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn behaves_like_a_hash_map(ops in prop::collection::vec((0..3u8, 0..40u32), 0..200)) {
            let mut map = Map::default();
            let mut judge = HashMap::new();
            for (op, n) in ops {
                let text = n.to_string();
                let key = Key::new(&text);
                match op {
                    0 | 1 => {
                        *map.get_or_insert_with(&key, || 0) += 1;
                        *judge.entry(n).or_insert(0) += 1;
                    }
                    _ if judge.remove(&n).is_some() => map.remove(&key),
                    _ => prop_assert_eq!(map.get_mut(&key), None),
                }
                for n in 0..40u32 {
                    prop_assert_eq!(map.get(&Key::new(&n.to_string())), judge.get(&n));
                }
                prop_assert_eq!(map.is_empty(), judge.is_empty());
            }
        }
    }
}
