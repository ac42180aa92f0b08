//! Receiving slot by slot: a [`Batch`] has all events of one slot of the ring.
//!
//! A batch takes over the reference to the block that the slot had. So receiving a batch changes no
//! reference count, and dropping a batch releases the block once, however many events the batch
//! has. The slot is free as soon as the subscriber has received the batch. A batch that the program
//! keeps delays no other thread. It keeps the memory of its block, which no longer counts towards
//! [`capacity`](super::SubscriptionBuilder::capacity) and
//! [`pin_bytes`](super::SubscriptionBuilder::pin_bytes).

use crate::dispatch::block::{BlockRef, Event, SharedEvent};

/// The events of one slot of a subscriber's ring, 1 to 64 events in the order of their ids.
/// [`Subscriber::next_batch`](super::Subscriber::next_batch) returns it. A batch keeps the block of
/// its events alive, and can be sent to other threads.
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
    /// The events of the batch: bit `n` is event `n` of the block. At least one bit is set, and
    /// none beyond the length of the block.
    mask: u64,
}

impl<T> Batch<T> {
    pub(super) fn new(block: BlockRef<T>, mask: u64) -> Self {
        debug_assert!(mask != 0 && 63 - mask.leading_zeros() < block.events().len() as u32);
        Self { block, mask }
    }

    /// Returns an iterator that borrows the events.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// bus.publish("a", 7)?;
    /// let batch = sub.next_batch()?;
    /// assert_eq!(batch.iter().map(|event| event.id()).collect::<Vec<_>>(), [1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&self) -> BatchIter<'_, T> {
        BatchIter {
            events: self.block.events(),
            mask: self.mask,
        }
    }

    /// Returns the number of events, 1 to 64.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let mut sub = bus.subscribe("a")?;
    /// bus.publish("a", 7)?;
    /// assert_eq!(sub.next_batch()?.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
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

/// Iterates over owned events. Each event increments the reference count of the block, and
/// decrements it when the event is dropped. [`iter`](Batch::iter) does not change the reference
/// count.
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

/// An iterator that borrows the events of a [`Batch`]: see [`Batch::iter`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::new();
/// let mut sub = bus.subscribe("a")?;
/// bus.publish("a", 7)?;
/// for event in &sub.next_batch()? {
///     assert_eq!(*event.data(), 7);
/// }
/// # Ok(())
/// # }
/// ```
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

/// An iterator over owned events of a [`Batch`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::new();
/// let mut sub = bus.subscribe("a")?;
/// bus.publish("a", 7)?;
/// let kept: Vec<fanout::SharedEvent<u32>> = sub.next_batch()?.into_iter().collect();
/// assert_eq!(*kept[0].data(), 7);
/// # Ok(())
/// # }
/// ```
pub struct BatchIntoIter<T> {
    /// The events that are left. Here the mask may be 0, unlike in any other batch.
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

/// Clears the lowest set bit of the mask, and returns its index.
#[inline]
fn take_lowest(mask: &mut u64) -> Option<usize> {
    if *mask == 0 {
        return None;
    }
    let index = mask.trailing_zeros() as usize;
    *mask &= *mask - 1;
    Some(index)
}
