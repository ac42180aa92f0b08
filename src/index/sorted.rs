//! Sorted lists in chunks: to change a list of 100,000 items, a few hundred of them are moved.

use std::cmp::Ordering;
use std::sync::Arc;

/// How many items a chunk has at most. A larger one is divided in two. A list that is not longer
/// than this is not divided into chunks.
///
/// Small under Miri, which is slow.
const CHUNK_ITEMS_MAX: usize = if cfg!(miri) { 16 } else { 256 };

/// A sorted list of items of which no two are equal.
#[derive(Clone, Debug)]
pub(super) enum Sorted<T> {
    /// One item, which needs no other memory. Most lists of an index have one item.
    One(T),
    /// No item, or at least two.
    Short(Vec<T>),
    /// At least two chunks, none of them empty. The items of each are less than those of the next.
    Long(Vec<Arc<Vec<T>>>),
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Sorted::Short(Vec::new())
    }
}

impl<T> Sorted<T> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Sorted::Short(items) if items.is_empty())
    }

    /// The number of items: exact for a short list, and within a factor of four for a long one.
    pub(super) fn len_estimate(&self) -> usize {
        match self {
            Sorted::One(_) => 1,
            Sorted::Short(items) => items.len(),
            Sorted::Long(chunks) => chunks.len() * (CHUNK_ITEMS_MAX / 2),
        }
    }

    /// The item, if there is only one.
    pub(super) fn only(&self) -> Option<&T> {
        match self {
            Sorted::One(item) => Some(item),
            Sorted::Short(_) | Sorted::Long(_) => None,
        }
    }

    /// The items in ascending order, in slices.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[T]> {
        let (short, long) = match self {
            Sorted::One(item) => (Some(std::slice::from_ref(item)), &[][..]),
            Sorted::Short(items) => (Some(&**items), &[][..]),
            Sorted::Long(chunks) => (None, &**chunks),
        };
        short.into_iter().chain(long.iter().map(|chunk| &***chunk))
    }
}

impl<T: Clone + Ord> Sorted<T> {
    pub(super) fn contains(&self, item: &T) -> bool {
        match self {
            Sorted::One(only) => only == item,
            Sorted::Short(items) => items.binary_search(item).is_ok(),
            Sorted::Long(chunks) => {
                let chunk = &chunks[chunk_of(chunks, item)];
                chunk.binary_search(item).is_ok()
            }
        }
    }

    /// Adds an item. Returns false and changes nothing if the list has an equal one.
    pub(super) fn insert(&mut self, item: T) -> bool {
        match self {
            Sorted::One(only) => {
                let pair = match item.cmp(only) {
                    Ordering::Equal => return false,
                    Ordering::Less => vec![item, only.clone()],
                    Ordering::Greater => vec![only.clone(), item],
                };
                *self = Sorted::Short(pair);
            }
            Sorted::Short(items) if items.is_empty() => *self = Sorted::One(item),
            Sorted::Short(items) => {
                let Err(at) = items.binary_search(&item) else {
                    return false;
                };
                if items.len() == items.capacity() {
                    items.reserve_exact(items.len() / 4 + 1);
                }
                items.insert(at, item);
                if items.len() > CHUNK_ITEMS_MAX {
                    let upper = items.split_off(items.len() / 2);
                    let lower = std::mem::take(items);
                    *self = Sorted::Long(vec![Arc::new(lower), Arc::new(upper)]);
                }
            }
            Sorted::Long(chunks) => {
                let index = chunk_of(chunks, &item);
                let Err(at) = chunks[index].binary_search(&item) else {
                    return false;
                };
                let chunk = Arc::make_mut(&mut chunks[index]);
                chunk.insert(at, item);
                if chunk.len() > CHUNK_ITEMS_MAX {
                    let upper = chunk.split_off(chunk.len() / 2);
                    chunks.insert(index + 1, Arc::new(upper));
                }
            }
        }
        true
    }

    /// Removes an item. Returns false and changes nothing if the list does not have it.
    pub(super) fn remove(&mut self, item: &T) -> bool {
        match self {
            Sorted::One(only) => {
                if only != item {
                    return false;
                }
                *self = Sorted::default();
            }
            Sorted::Short(items) => {
                let Ok(at) = items.binary_search(item) else {
                    return false;
                };
                items.remove(at);
                if items.len() == 1
                    && let Some(only) = items.pop()
                {
                    *self = Sorted::One(only);
                } else if items.len() * 2 < items.capacity() {
                    items.shrink_to(items.len() + items.len() / 4);
                }
            }
            Sorted::Long(chunks) => {
                let index = chunk_of(chunks, item);
                let Ok(at) = chunks[index].binary_search(item) else {
                    return false;
                };
                Arc::make_mut(&mut chunks[index]).remove(at);
                merge(chunks, index);
                if let [last] = &mut chunks[..] {
                    let items = std::mem::take(Arc::make_mut(last));
                    debug_assert!(
                        items.len() > 1,
                        "chunks are merged before they are so small"
                    );
                    *self = Sorted::Short(items);
                }
            }
        }
        true
    }
}

/// The index of the chunk that has the item, or would have it.
fn chunk_of<T: Ord>(chunks: &[Arc<Vec<T>>], item: &T) -> usize {
    let behind = chunks.partition_point(|chunk| chunk[0] <= *item);
    behind.saturating_sub(1)
}

/// Merges a chunk that has become small with the next one, or the previous one, if both together
/// fill half a chunk or if one of them is empty.
fn merge<T: Clone>(chunks: &mut Vec<Arc<Vec<T>>>, index: usize) {
    let first = if index + 1 < chunks.len() {
        index
    } else {
        index - 1
    };
    let lens = [first, first + 1].map(|at| chunks[at].len());
    if lens.contains(&0) || lens.iter().sum::<usize>() <= CHUNK_ITEMS_MAX / 2 {
        let second = chunks.remove(first + 1);
        Arc::make_mut(&mut chunks[first]).extend(Arc::unwrap_or_clone(second));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn items(sorted: &Sorted<u32>) -> Vec<u32> {
        sorted.slices().flatten().copied().collect()
    }

    #[test]
    fn items_stay_in_order() {
        for most in [3, CHUNK_ITEMS_MAX as u32, 5 * CHUNK_ITEMS_MAX as u32] {
            let (mut sorted, mut expected) = (Sorted::default(), BTreeSet::new());
            for n in 0..most {
                let item = n.wrapping_mul(0x9E37_79B1) % (2 * most);
                assert_eq!(sorted.insert(item), expected.insert(item));
                assert!(!sorted.insert(item));
            }
            assert_eq!(items(&sorted), expected.iter().copied().collect::<Vec<_>>());
            let before = (sorted.clone(), items(&sorted));
            for n in 0..2 * most {
                let item = n.wrapping_mul(7) % (2 * most);
                assert_eq!(sorted.remove(&item), expected.remove(&item), "{item}");
                assert!(!sorted.remove(&item));
            }
            for item in expected {
                assert!(sorted.remove(&item));
            }
            assert!(sorted.is_empty());
            assert_eq!(items(&before.0), before.1);
        }
    }

    /// Also if the neighbour is too large for a merge.
    #[test]
    fn no_chunk_is_ever_empty() {
        let count = CHUNK_ITEMS_MAX as u32;
        let step = if cfg!(miri) { 7 } else { 1 };
        for emptied in (0..6 * count / 2).step_by(step) {
            let mut sorted = Sorted::default();
            (0..3 * count).for_each(|n| assert!(sorted.insert(2 * n)));
            // As many successive items as a chunk has, first to last.
            for n in emptied..(emptied + count).min(3 * count) {
                assert!(sorted.remove(&(2 * n)), "{n} of {emptied}");
                assert!(
                    sorted.slices().all(|slice| !slice.is_empty()),
                    "{n} of {emptied}"
                );
            }
            assert!(sorted.insert(2 * emptied + 1) && sorted.remove(&(2 * emptied + 1)));
            assert!(items(&sorted).is_sorted());
        }
        let mut sorted = Sorted::default();
        (0..=count).for_each(|n| assert!(sorted.insert(n)));
        (0..count / 2).for_each(|n| assert!(sorted.remove(&n)));
        assert!(sorted.insert(5));
    }

    #[test]
    fn chunks_are_bounded_and_not_many_more_than_needed() {
        let mut sorted = Sorted::default();
        let count = CHUNK_ITEMS_MAX as u32;
        (0..count).for_each(|n| assert!(sorted.insert(n)));
        assert!(matches!(sorted, Sorted::Short(_)));
        (count..40 * count).for_each(|n| assert!(sorted.insert(n)));
        assert!(sorted.slices().all(|slice| slice.len() <= CHUNK_ITEMS_MAX));
        (0..39 * count).for_each(|n| assert!(sorted.remove(&n)));
        assert!(
            sorted.slices().count() <= 8,
            "{} chunks",
            sorted.slices().count()
        );
        (39 * count..40 * count - 1).for_each(|n| assert!(sorted.remove(&n)));
        assert_eq!(sorted.only(), Some(&(40 * count - 1)));
    }
}
