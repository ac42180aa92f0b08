//! Receiving by the slot: what came in one place of the ring, taken as a whole.
//!
//! A batch has the one reference to its block that the slot had: to take it counts nothing, and to
//! drop it gives the block back once, however many events it carries. The slot itself is free as
//! soon as the batch is taken, so a batch that is kept for long holds up nobody: it costs the
//! memory of its block, which no longer counts for
//! [`capacity`](super::SubscriptionBuilder::capacity) and
//! [`pin_bytes`](super::SubscriptionBuilder::pin_bytes).

use crate::dispatch::block::{BlockRef, Event, SharedEvent};

/// The events of one slot of the ring, 1 to 64, in id order. It keeps their block alive, and may
/// travel between threads.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::builder().dispatch(fanout::Dispatch::Manual).build()?;
/// let mut sub = bus.subscribe("a")?;
/// (1..=3).try_for_each(|n| bus.publish("a", n))?;
/// bus.drive();
/// let batch = sub.next_batch()?;
/// assert_eq!(batch.len(), 3);
/// let sum: u32 = batch.iter().map(|event| event.data()).sum(); // in place
/// let kept: Vec<_> = batch.into_iter().collect(); // owned, and counted one by one
/// assert_eq!((sum, kept[2].id()), (6, 3));
/// # Ok(())
/// # }
/// ```
pub struct Batch<T> {
    block: BlockRef<T>,
    /// At least one bit, within the block's length.
    mask: u64,
}

impl<T> Batch<T> {
    pub(super) fn new(block: BlockRef<T>, mask: u64) -> Self {
        Self { block, mask }
    }

    /// The events, in place.
    pub fn iter(&self) -> BatchIter<'_, T> {
        BatchIter {
            events: self.block.events(),
            mask: self.mask,
        }
    }

    /// How many events, 1 to 64.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.mask.count_ones() as usize
    }
}

impl<'a, T> IntoIterator for &'a Batch<T> {
    type Item = &'a Event<T>;
    type IntoIter = BatchIter<'a, T>;

    fn into_iter(self) -> BatchIter<'a, T> {
        self.iter()
    }
}

/// Events to keep. Each costs a change of the block's reference count, here and when it is dropped;
/// [`iter`](Batch::iter) costs none.
impl<T> IntoIterator for Batch<T> {
    type Item = SharedEvent<T>;
    type IntoIter = BatchIntoIter<T>;

    fn into_iter(self) -> BatchIntoIter<T> {
        BatchIntoIter { batch: self }
    }
}

impl<T> std::fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Iterates over the events of a [`Batch`], in place.
pub struct BatchIter<'a, T> {
    events: &'a [Event<T>],
    mask: u64,
}

impl<'a, T> Iterator for BatchIter<'a, T> {
    type Item = &'a Event<T>;

    #[inline]
    fn next(&mut self) -> Option<&'a Event<T>> {
        take_lowest(&mut self.mask).map(|index| &self.events[index])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.mask.count_ones() as usize;
        (left, Some(left))
    }
}

impl<T> ExactSizeIterator for BatchIter<'_, T> {}

impl<T> std::iter::FusedIterator for BatchIter<'_, T> {}

impl<T> std::fmt::Debug for BatchIter<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchIter")
            .field("left", &self.len())
            .finish_non_exhaustive()
    }
}

/// Iterates over the events of a [`Batch`], to be kept.
pub struct BatchIntoIter<T> {
    /// What is left of it: here, no bit may be set.
    batch: Batch<T>,
}

impl<T> Iterator for BatchIntoIter<T> {
    type Item = SharedEvent<T>;

    fn next(&mut self) -> Option<SharedEvent<T>> {
        let index = take_lowest(&mut self.batch.mask)?;
        Some(self.batch.block.events()[index].share())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.batch.len(), Some(self.batch.len()))
    }
}

impl<T> ExactSizeIterator for BatchIntoIter<T> {}

impl<T> std::iter::FusedIterator for BatchIntoIter<T> {}

impl<T> std::fmt::Debug for BatchIntoIter<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchIntoIter")
            .field("left", &self.len())
            .finish_non_exhaustive()
    }
}

/// The index of the lowest bit that is set, which is cleared.
#[inline]
fn take_lowest(mask: &mut u64) -> Option<usize> {
    if *mask == 0 {
        return None;
    }
    let index = mask.trailing_zeros() as usize;
    *mask &= *mask - 1;
    Some(index)
}
