//! Shadows: events of another block, each with a number of its own, how many events it replaced.
//!
//! A subscriber under `Conflate` sees its own story of the events: which one came in place of how many others. The events
//! are shared with everybody, so the number cannot be theirs. A shadow is a block whose events borrow their payloads
//! from the block that they were sequenced in, which it keeps alive; to its readers it is a block like any other.
//!
//! Its events wait one by one, each in a place of its own, as [`Waiting`]. Together they hold one reference to the shadow, so
//! that an event that is replaced costs one subtraction at most, and the last that goes knows that it is the last: from
//! then on the subscriber's queue pins neither block.
//!
//! | event | who | counts |
//! | --- | --- | --- |
//! | laid | the shard, before anybody knows of it | `waiting` = events, `references` = 1 |
//! | its number written | the shard, before it shows the event | |
//! | taken | the subscriber | `references` + 1, then `waiting` - 1 |
//! | replaced | the shard | `waiting` - 1, or for several at once |
//! | evicted | the shard | `waiting` - 1 |
//! | the last of either kind | | `references` - 1 |

#![allow(
    unsafe_code,
    reason = "counts by hand; one of the rooms that ARCHITECTURE.md names"
)]

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::{Block, BlockRef, BlockSource, Body};
use crate::ring::evicting::Pointer;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// What a block knows of being a shadow. Empty for others.
pub(super) struct Shadow<T> {
    /// Where the payloads are.
    pub(super) origin: Option<BlockRef<T>>,
    /// How many events each of this block's replaced; as many as there are events, while it is a shadow. Keeps its memory
    /// in the pool.
    pub(super) superseded: Vec<AtomicU64>,
    /// Events that wait.
    waiting: AtomicU32,
}

impl<T> Shadow<T> {
    pub(super) fn none() -> Self {
        Self {
            origin: None,
            superseded: Vec::new(),
            waiting: AtomicU32::new(0),
        }
    }

    pub(super) fn clear(&mut self) {
        self.origin = None;
    }
}

/// Lays a shadow of the events in `mask`, in their order. They wait from now on; what is not taken out is let go.
/// `weight_max`: it says no more than that, whatever its events were weighed at.
pub(crate) fn shadow<T>(
    source: &mut BlockSource<T>,
    origin: BlockRef<T>,
    mask: u64,
    weight_max: usize,
) -> WaitingEvents<T> {
    let events = mask.count_ones();
    let created_at_ns = origin.created_at_ns();
    let mut writer = source.block(events as usize, origin.first_id(), created_at_ns);
    let block = writer.block;
    let mut weight = 0;
    writer.with_body(|body| {
        body.shadow.superseded.clear();
        // For as many as the block can hold, and so once.
        body.shadow.superseded.reserve_exact(body.events.len());
        let (mut len, mut rest) = (0, mask);
        while rest != 0 {
            let index = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            #[cfg(feature = "latency")]
            if let Some(stamp) = origin.stamps().at(index as u32) {
                body.stamps.push(len, stamp);
            }
            body.events[len].write(origin.events()[index].borrowed_in(block));
            body.shadow.superseded.push(AtomicU64::new(0));
            len += 1;
        }
        body.weight = body.weight.saturating_add(origin.weight()).min(weight_max);
        weight = body.weight;
        body.shadow.origin = Some(origin);
        body.shadow.waiting = AtomicU32::new(events);
        // Last: what has events and no origin is taken for a block with payloads of its own.
        body.len = len;
    });
    WaitingEvents {
        block: ManuallyDrop::new(writer.finish()),
        next: 0,
        end: events,
        weight,
    }
}

/// The events of a shadow, to be put into their places.
pub(crate) struct WaitingEvents<T> {
    /// Counted for all that wait; so gone, perhaps, with the last that was taken out.
    block: ManuallyDrop<BlockRef<T>>,
    /// 0 to `end`.
    next: u32,
    /// 1 to 64.
    end: u32,
    weight: usize,
}

impl<T> Iterator for WaitingEvents<T> {
    type Item = Waiting<T>;

    fn next(&mut self) -> Option<Waiting<T>> {
        let index = self.next;
        (index < self.end).then(|| {
            self.next += 1;
            Waiting {
                block: self.block.block,
                index,
            }
        })
    }
}

impl<T> Drop for WaitingEvents<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl<T> WaitingEvents<T> {
    /// Bytes that they pin together, until the last has gone.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }
}

/// One event of a shadow, where it waits.
pub(crate) struct Waiting<T> {
    block: NonNull<Block<T>>,
    /// 0 to 63, less than the block's length.
    index: u32,
}

// SAFETY: the right to one event of a reference-counted `Block<T>`, which is Send and Sync under these bounds.
unsafe impl<T: Send + Sync> Send for Waiting<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Waiting<T> {}

/// What was taken out of its place.
pub(crate) struct Taken<T> {
    pub(crate) block: BlockRef<T>,
    /// The bit of the one event.
    pub(crate) mask: u64,
    /// Bytes that the place no longer pins: those of the whole shadow with its last event, or 0.
    pub(crate) freed: usize,
}

impl<T> Waiting<T> {
    pub(crate) fn id(&self) -> u64 {
        self.body().events()[self.index as usize].id
    }

    /// It came in place of so many. Before it is shown to anybody.
    pub(crate) fn set_superseded(&self, count: u64) {
        // Relaxed: goes with whatever shows the event.
        self.body().shadow.superseded[self.index as usize].store(count, Ordering::Relaxed);
    }

    /// Takes the event out, to be read.
    pub(crate) fn take(self) -> Taken<T> {
        // Not counted, so not dropped: the block is alive, this event waits.
        let block = BlockRef::clone(&ManuallyDrop::new(BlockRef { block: self.block }));
        let mask = 1 << self.index;
        let freed = self.let_go();
        Taken { block, mask, freed }
    }

    /// Lets the event go, and says how many bytes its place no longer pins.
    pub(crate) fn let_go(self) -> usize {
        leave(ManuallyDrop::new(self), 1)
    }

    fn body(&self) -> &Body<T> {
        // SAFETY: this event waits, so its block is counted and alive; nobody writes to the body of a block with
        // references.
        unsafe { self.block.as_ref().body.with(|body| &*body) }
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        let Self { block, index } = *self;
        leave(ManuallyDrop::new(Self { block, index }), 1);
    }
}

/// Lets go of one event after the other; neighbours of one shadow go together, with one subtraction.
///
/// Topics that take turns replace each other's events in the order in which these came, so neighbours are the rule: with
/// 1,000 topics and a subscriber that has stopped reading, all of it takes 0.93 of the time that one subtraction for each event
/// took (2026-11-22).
pub(crate) struct Leaving<T> {
    /// One of those that have not gone yet, for all of them.
    last: Option<ManuallyDrop<Waiting<T>>>,
    /// How many these are.
    count: u32,
    freed: u64,
}

impl<T> Leaving<T> {
    pub(crate) fn none() -> Self {
        Self {
            last: None,
            count: 0,
            freed: 0,
        }
    }

    #[inline]
    pub(crate) fn let_go(&mut self, event: Waiting<T>) {
        let event = ManuallyDrop::new(event);
        if self
            .last
            .as_ref()
            .is_none_or(|last| last.block != event.block)
        {
            self.settle();
            self.last = Some(event);
        }
        self.count += 1;
    }

    /// How many bytes their places no longer pin.
    pub(crate) fn finish(mut self) -> u64 {
        self.settle();
        self.freed
    }

    fn settle(&mut self) {
        // First forgotten, then let go: whatever panics below, they are not let go twice.
        let count = std::mem::take(&mut self.count);
        if let Some(event) = self.last.take() {
            self.freed += leave(event, count) as u64;
        }
    }
}

impl<T> Drop for Leaving<T> {
    fn drop(&mut self) {
        self.settle();
    }
}

/// So many events of one shadow go, for good, and this is one of them. Says how many bytes their places no longer pin.
fn leave<T>(event: ManuallyDrop<Waiting<T>>, count: u32) -> usize {
    let body = event.body();
    let weight = body.weight;
    // AcqRel: Release our reads; Acquire, for the last, everybody's. Partner: itself.
    if body.shadow.waiting.fetch_sub(count, Ordering::AcqRel) != count {
        return 0;
    }
    // The reference that all who waited held together.
    drop(BlockRef { block: event.block });
    weight
}

/// The low bits of a block's address, which are 0: room for the index of an event.
const INDEX: usize = 63;

const _: () = assert!(align_of::<Block<()>>() > INDEX);

// SAFETY: the block's address, which is a multiple of 64, and the index below it, which is less than 64, are all there is
// to it; and it is `Send` as said above.
unsafe impl<T> Pointer for Waiting<T> {
    fn into_raw(self) -> NonNull<()> {
        let this = ManuallyDrop::new(self);
        let index = this.index as usize;
        this.block.cast().map_addr(|address| address | index)
    }

    unsafe fn from_raw(raw: NonNull<()>) -> Self {
        let index = raw.addr().get() & INDEX;
        let block = raw.as_ptr().map_addr(|address| address & !INDEX).cast();
        Self {
            // SAFETY: it was a block's address before the index was put in.
            block: unsafe { NonNull::new_unchecked(block) },
            index: index as u32,
        }
    }
}
