//! Shadows: blocks whose events borrow the payloads of another block, each with its own counter.
//!
//! Under `Conflate`, each subscriber has its own number of events that an event replaced. All
//! subscribers share the events, so the number cannot be part of them. A shadow is a block whose
//! events borrow their payloads from the block that they were sequenced in, the origin. The shadow
//! keeps its origin alive. To its readers it is a block like any other.
//!
//! The events of a shadow are queued one by one, each in the slot of its topic, as
//! [`ShadowEvent`]s. Together they own one reference to the shadow: an event that is replaced costs
//! one subtraction at most. The release of the last one returns the weight of the shadow, and from
//! then on the queue pins neither block.
//!
//! | step | by | change of the counters |
//! | --- | --- | --- |
//! | the shadow is made | the shard | `queued` = events, `references` = 1 |
//! | the number of an event is written, before the event is published | the shard | |
//! | an event is taken | the subscriber | `references` + 1, then `queued` - 1 |
//! | an event is replaced | the shard | `queued` - 1, or for several events at once |
//! | an event is evicted | the shard | `queued` - 1 |
//! | the last event was taken, replaced or evicted | its thread | `references` - 1 |

#![allow(
    unsafe_code,
    reason = "counts references by hand; ARCHITECTURE.md lists this module"
)]

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::{AnyBlock, Block, Body, RawSource};
use crate::ring::evicting::Pointer;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The part of a block that makes it a shadow. Empty in other blocks.
pub(super) struct Shadow {
    /// The block that has the payloads. Never a shadow itself.
    pub(super) origin: Option<AnyBlock>,
    /// How many events each event of this block replaced. As long as the block while it is a
    /// shadow. Keeps its memory in the pool.
    pub(super) superseded: Vec<AtomicU64>,
    /// Events in the queue of the subscriber, 0 to 64.
    queued: AtomicU32,
}

impl Shadow {
    pub(super) fn none() -> Self {
        Self {
            origin: None,
            superseded: Vec::new(),
            queued: AtomicU32::new(0),
        }
    }

    pub(super) fn clear(&mut self) {
        self.origin = None;
    }
}

/// Makes a shadow of the events in `mask`, in their order. The mask is not empty.
///
/// Its weight is at most `weight_max`, whatever its events were weighed at.
pub(crate) fn shadow(
    source: &mut RawSource,
    origin: AnyBlock,
    mask: u64,
    weight_max: usize,
) -> ShadowEvents {
    debug_assert!(mask != 0, "a shadow of no events");
    debug_assert!(!origin.body().is_shadow(), "a shadow of a shadow");
    // The events of a shadow read their payloads as those of the origin.
    assert!(
        source.payload_type() == origin.body().events.payload_type(),
        "a shadow of a block with payloads of another type"
    );
    let count = mask.count_ones();
    let mut writer = source.block(count as usize, origin.first_id(), origin.created_at_ns());
    let block = writer.block;
    let body = writer.body_mut();
    body.shadow.superseded.clear();
    // Room for as many as the block can hold, so that it is allocated once.
    body.shadow.superseded.reserve_exact(body.events.room());
    let (mut len, mut rest) = (0, mask);
    while rest != 0 {
        let index = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        #[cfg(feature = "latency")]
        if let Some(stamp) = origin.stamps().at(index as u32) {
            body.stamps.push(len, stamp);
        }
        // SAFETY: the shadow is being filled, so that nothing else accesses its slots.
        unsafe {
            origin
                .body()
                .head(index)
                .write_shadow(body.events.head(len), block);
        }
        body.shadow.superseded.push(AtomicU64::new(0));
        len += 1;
    }
    debug_assert_eq!(len, count as usize);
    let weight = body.weight.saturating_add(origin.weight()).min(weight_max);
    body.weight = weight;
    body.shadow.origin = Some(origin);
    body.shadow.queued = AtomicU32::new(count);
    // Last: a block with events and without an origin would count as one that has payloads.
    body.len = len;
    ShadowEvents {
        block: ManuallyDrop::new(writer.finish()),
        next: 0,
        end: count,
        weight,
    }
}

/// The events of a new shadow, to be queued one by one. Those that are left are released on drop.
pub(crate) struct ShadowEvents {
    /// The reference that all queued events own together. It may dangle once all events were handed
    /// out.
    block: ManuallyDrop<AnyBlock>,
    /// Index of the next event to hand out: 0 to `end`.
    next: u32,
    /// 1 to 64.
    end: u32,
    weight: usize,
}

impl Iterator for ShadowEvents {
    type Item = ShadowEvent;

    fn next(&mut self) -> Option<ShadowEvent> {
        let index = self.next;
        (index < self.end).then(|| {
            self.next += 1;
            ShadowEvent {
                block: self.block.block,
                index,
            }
        })
    }
}

impl Drop for ShadowEvents {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl ShadowEvents {
    /// Bytes that the events pin together, until the last one is released.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }
}

/// One event of a shadow, in the queue of its subscriber. Released on drop.
pub(crate) struct ShadowEvent {
    block: NonNull<Block>,
    /// 0 to 63, less than the number of events in the block.
    index: u32,
}

// SAFETY: the right to one event of a reference-counted `Block`, which is Send and Sync.
unsafe impl Send for ShadowEvent {}
// SAFETY: as above.
unsafe impl Sync for ShadowEvent {}

/// An event that was taken out of the queue.
pub(crate) struct Taken {
    pub(crate) block: AnyBlock,
    /// One bit: the event.
    pub(crate) mask: u64,
    /// Bytes that the queue no longer pins: the weight of the shadow with its last event, otherwise
    /// 0.
    pub(crate) freed: usize,
}

impl ShadowEvent {
    pub(crate) fn id(&self) -> u64 {
        self.body().head(self.index as usize).id
    }

    /// Sets how many events this one replaced. Only before the event is published.
    pub(crate) fn set_superseded(&self, count: u64) {
        // Relaxed: published together with the event.
        self.body().shadow.superseded[self.index as usize].store(count, Ordering::Relaxed);
    }

    /// Takes the event out of the queue, to be read.
    pub(crate) fn take(self) -> Taken {
        // Owns no reference, so it must not be dropped. This event is queued, so the block is
        // alive.
        let uncounted = ManuallyDrop::new(AnyBlock { block: self.block });
        let block = AnyBlock::clone(&uncounted);
        let mask = 1 << self.index;
        let freed = self.release();
        Taken { block, mask, freed }
    }

    /// Drops the event, and returns how many bytes the queue no longer pins.
    pub(crate) fn release(self) -> usize {
        release_events(ManuallyDrop::new(self), 1)
    }

    fn body(&self) -> &Body {
        // SAFETY: this event is queued, so its block is counted and alive, and no thread writes to
        // the body of a block that has references.
        unsafe { self.block.as_ref().body.with(|body| &*body) }
    }
}

impl Drop for ShadowEvent {
    fn drop(&mut self) {
        let Self { block, index } = *self;
        release_events(ManuallyDrop::new(Self { block, index }), 1);
    }
}

/// Releases events one after the other. Neighbours of one shadow are released by one subtraction.
///
/// Topics that are published in turns are replaced in the same order, so neighbours are frequent.
/// With 1,000 topics and a subscriber that has stopped reading, the whole path takes 0.93 of the
/// time that one subtraction for each event took (2026-11-22).
pub(crate) struct ReleaseBatch {
    /// One of the `count` events of one shadow that are not released yet, for all of them. `None`
    /// if `count` is 0.
    last: Option<ManuallyDrop<ShadowEvent>>,
    /// 0 to 64.
    count: u32,
    freed: u64,
}

impl ReleaseBatch {
    pub(crate) fn new() -> Self {
        Self {
            last: None,
            count: 0,
            freed: 0,
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, event: ShadowEvent) {
        let event = ManuallyDrop::new(event);
        if self
            .last
            .as_ref()
            .is_none_or(|last| last.block != event.block)
        {
            self.flush();
            self.last = Some(event);
        }
        self.count += 1;
    }

    /// Releases the rest, and returns how many bytes the queue no longer pins.
    pub(crate) fn finish(mut self) -> u64 {
        self.flush();
        self.freed
    }

    fn flush(&mut self) {
        debug_assert_eq!(self.last.is_some(), self.count > 0);
        // Both are reset before the release: even if that panics, no event is released twice.
        let count = std::mem::take(&mut self.count);
        if let Some(event) = self.last.take() {
            self.freed += release_events(event, count) as u64;
        }
    }
}

impl Drop for ReleaseBatch {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Releases `count` events of one shadow permanently; `event` is one of them. Returns how many
/// bytes the queue no longer pins.
fn release_events(event: ManuallyDrop<ShadowEvent>, count: u32) -> usize {
    let body = event.body();
    let weight = body.weight;
    // AcqRel: Release our reads; Acquire, for the last event, the reads of all others. Partner:
    // itself.
    let before = body.shadow.queued.fetch_sub(count, Ordering::AcqRel);
    debug_assert!(
        count >= 1 && before >= count,
        "{count} of {before} events released"
    );
    if before != count {
        return 0;
    }
    // The reference that all queued events owned together.
    drop(AnyBlock { block: event.block });
    weight
}

/// The low bits of a block's address, which are 0: room for the index of an event.
const INDEX_BITS: usize = 63;

const _: () = assert!(align_of::<Block>() > INDEX_BITS);

// SAFETY: the event consists of the address of its block, which is a multiple of 64, and of an
// index less than 64, which `into_raw` puts into the low bits of the address. So `from_raw`
// restores both. It may be sent under the bounds of its `Send`.
unsafe impl Pointer for ShadowEvent {
    fn into_raw(self) -> NonNull<()> {
        let this = ManuallyDrop::new(self);
        let index = this.index as usize;
        debug_assert!(index <= INDEX_BITS && this.block.addr().get() & INDEX_BITS == 0);
        this.block.cast().map_addr(|address| address | index)
    }

    unsafe fn from_raw(raw: NonNull<()>) -> Self {
        let index = raw.addr().get() & INDEX_BITS;
        let block = raw
            .as_ptr()
            .map_addr(|address| address & !INDEX_BITS)
            .cast();
        Self {
            // SAFETY: it was the address of a block before `into_raw` put the index into it.
            block: unsafe { NonNull::new_unchecked(block) },
            index: index as u32,
        }
    }
}
