//! Blocks: up to 64 events, immutable once sequenced, reference-counted as a whole.
//!
//! A reference to a block and a 64-bit mask name up to 64 deliveries. So one reference count, one slot of a ring
//! and one wake-up carry them all, and a payload is never copied or counted.
//!
//! | state | who may touch it |
//! | --- | --- |
//! | being laid: [`BlockWriter`] | the sequencer, or who lays a [shadow](mod@shadow), alone |
//! | sequenced: [`BlockRef`]s | everybody, for reading |
//! | last reference gone | its dropper, alone: drops the events, then gives the memory to the [`pool`] |
//!
//! A lone event must not hold 64 places, so blocks come in [three sizes](CLASSES). Payloads are dropped with
//! the last reference, never kept until the memory is used again.
//!
//! Topics, names and sources are in [`envelope`]s, which are counted per block and not per event.

#![allow(
    unsafe_code,
    reason = "lends events by hand; one of the rooms that ARCHITECTURE.md names"
)]

mod envelope;
mod event;
mod pool;
mod shadow;
#[cfg(all(test, not(loom)))]
mod tests;

use crossbeam::utils::CachePadded;
use std::mem::{ManuallyDrop, MaybeUninit, size_of};
use std::ptr::NonNull;

pub(crate) use envelope::{EnvelopeRef, EnvelopeTable};
pub use event::{Event, SharedEvent};
pub(crate) use pool::BlockSource;
use pool::Pool;
use shadow::Shadow;
pub(crate) use shadow::{Leaving, Waiting, shadow};

#[cfg(feature = "latency")]
use super::latency::Stamps;
use crate::contain::contain;
use crate::pattern::Topic;
use crate::ring::evicting::Pointer;
use crate::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// Events per block, at most: as many as a mask has bits.
pub(crate) const BLOCK_EVENTS_MAX: usize = 64;

/// The sizes of blocks, in events.
pub(crate) const CLASSES: [usize; 3] = [1, 8, BLOCK_EVENTS_MAX];

/// Events of one topic (and name, and source) in a block.
pub(crate) struct Group {
    envelope: EnvelopeRef,
    /// Which events, at least one. The block owns one reference to the envelope for each.
    pub(crate) mask: u64,
}

impl Group {
    pub(crate) fn topic(&self) -> &Topic {
        self.envelope.topic()
    }
}

/// The memory of a block. Reached through [`BlockWriter`] and [`BlockRef`] alone.
///
/// Aligned so that six low bits of its address are free: see [`mod@shadow`].
#[repr(align(64))]
pub(crate) struct Block<T> {
    /// References handed out, 0 in the pool.
    /// On a line of its own: it is written by every subscriber, and the body is read by every subscriber.
    references: CachePadded<AtomicUsize>,
    body: UnsafeCell<Body<T>>,
    /// Index into [`CLASSES`].
    class: u8,
    pool: Arc<Pool<T>>,
    /// The next free block, while this one is in the pool.
    next: UnsafeCell<*mut Block<T>>,
}

struct Body<T> {
    first_id: u64,
    /// Nanoseconds since the Unix epoch.
    created_at_ns: u64,
    /// Bytes that the block pins: its own memory and what its payloads were weighed at.
    weight: usize,
    /// How many of `events` are initialised, 1 to the class's size once sequenced.
    len: usize,
    events: Box<[MaybeUninit<Event<T>>]>,
    /// Runs of events with one envelope, in order; the same topic may come again.
    groups: Vec<Group>,
    /// When the sampled ones were published.
    #[cfg(feature = "latency")]
    stamps: Stamps,
    /// Whose events these are, if they are borrowed.
    shadow: Shadow<T>,
}

// SAFETY: while there are references the body is only read, by `&Event<T>` (hence `T: Sync`); the last
// reference may go, and drop the payloads, on any thread (hence `T: Send`). The writer and the pool have
// the block to themselves, and hand it over by Release and Acquire.
unsafe impl<T: Send + Sync> Send for Block<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Block<T> {}

impl<T> Block<T> {
    fn allocate(class: u8, pool: Arc<Pool<T>>) -> NonNull<Self> {
        let events = CLASSES[class as usize];
        let body = Body {
            first_id: 0,
            created_at_ns: 0,
            weight: 0,
            len: 0,
            events: (0..events).map(|_| MaybeUninit::uninit()).collect(),
            groups: Vec::with_capacity(events),
            #[cfg(feature = "latency")]
            stamps: Stamps::default(),
            shadow: Shadow::none(),
        };
        NonNull::from(Box::leak(Box::new(Self {
            references: CachePadded::new(AtomicUsize::new(0)),
            body: UnsafeCell::new(body),
            class,
            pool,
            next: UnsafeCell::new(std::ptr::null_mut()),
        })))
    }

    /// Bytes of memory of a block of this class, without what its payloads own.
    const fn bytes(class: usize) -> usize {
        size_of::<Self>() + CLASSES[class] * (size_of::<Event<T>>() + size_of::<Group>())
    }
}

impl<T> Body<T> {
    #[inline]
    fn events(&self) -> &[Event<T>] {
        // SAFETY: the first `len` events are initialised.
        unsafe { self.events[..self.len].assume_init_ref() }
    }

    /// Drops the events and lets their envelopes go. A payload whose drop panics takes nobody along.
    fn clear(&mut self) {
        #[cfg(feature = "latency")]
        self.stamps.clear();
        let len = std::mem::take(&mut self.len);
        if self.shadow.origin.is_some() {
            self.shadow.clear();
        } else if std::mem::needs_drop::<T>() {
            for event in &mut self.events[..len] {
                contain("a payload's drop", || {
                    // SAFETY: laid by `push`, with its payload, and never looked at again: `len` is 0 already.
                    unsafe { event.assume_init_mut().drop_data() };
                });
            }
        }
        for group in self.groups.drain(..) {
            group.envelope.release(group.mask.count_ones() as usize);
        }
    }
}

/// A block that is being laid.
pub(crate) struct BlockWriter<T> {
    block: NonNull<Block<T>>,
}

impl<T> BlockWriter<T> {
    /// Lays the next event. There must be a place.
    #[inline]
    pub(crate) fn push(&mut self, envelope: EnvelopeRef, data: T, weight: usize) {
        let block = self.block;
        self.with_body(|body| {
            let index = body.len;
            let id = body.first_id + index as u64;
            body.events[index].write(Event::new(id, block, envelope.lend(), data));
            body.len += 1;
            body.weight = body.weight.saturating_add(weight);
            match body.groups.last_mut() {
                Some(group) if group.envelope == envelope => {
                    group.mask |= 1 << index;
                    // The group's reference stands for as many as its mask has bits; this one is counted there.
                    std::mem::forget(envelope);
                }
                _ => body.groups.push(Group {
                    envelope,
                    mask: 1 << index,
                }),
            }
        });
    }

    /// Notes when the event laid last was published.
    #[cfg(feature = "latency")]
    pub(crate) fn stamp(&mut self, stamp_ns: u64) {
        self.with_body(|body| body.stamps.push(body.len - 1, stamp_ns));
    }

    /// Whether there is no place left.
    pub(crate) fn is_full(&self) -> bool {
        let body = self.body();
        body.len == body.events.len()
    }

    /// The block, sequenced, with one reference to it.
    pub(crate) fn finish(self) -> BlockRef<T> {
        let block = self.block;
        std::mem::forget(self);
        let reference = BlockRef { block };
        // Relaxed: nobody else knows the block; whatever carries the reference away publishes it.
        reference.block().references.store(1, Ordering::Relaxed);
        reference
    }

    fn body(&self) -> &Body<T> {
        // SAFETY: the block is ours alone until `finish`.
        unsafe { self.block.as_ref().body.with(|body| &*body) }
    }

    #[inline(always)]
    fn with_body(&mut self, f: impl FnOnce(&mut Body<T>)) {
        // SAFETY: the block is ours alone until `finish`, and `self` is borrowed exclusively.
        unsafe { self.block.as_ref().body.with_mut(|body| f(&mut *body)) }
    }
}

impl<T> Drop for BlockWriter<T> {
    /// Only a panic gets here: the events laid so far are dropped.
    fn drop(&mut self) {
        // SAFETY: the block is ours alone.
        unsafe { Pool::recycle(self.block) };
    }
}

/// A counted reference to a sequenced block.
pub(crate) struct BlockRef<T> {
    block: NonNull<Block<T>>,
}

// SAFETY: a reference-counted `Block<T>`, which is Send and Sync under the same bounds.
unsafe impl<T: Send + Sync> Send for BlockRef<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for BlockRef<T> {}

impl<T> BlockRef<T> {
    /// The events, 1 to [`BLOCK_EVENTS_MAX`].
    pub(crate) fn events(&self) -> &[Event<T>] {
        self.body().events()
    }

    /// Id of event 0; the others follow without a hole.
    pub(crate) fn first_id(&self) -> u64 {
        self.body().first_id
    }

    /// Id of the last event.
    pub(crate) fn last_id(&self) -> u64 {
        let body = self.body();
        body.first_id + body.len as u64 - 1
    }

    /// When it was sequenced, in nanoseconds since the Unix epoch.
    pub(crate) fn created_at_ns(&self) -> u64 {
        self.body().created_at_ns
    }

    /// Bytes that the block pins, weighed when it was sequenced.
    pub(crate) fn weight(&self) -> usize {
        self.body().weight
    }

    /// When the sampled ones of its events were published.
    #[cfg(feature = "latency")]
    pub(crate) fn stamps(&self) -> &Stamps {
        &self.body().stamps
    }

    /// The block's events by topic.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.body().groups
    }

    /// Takes `n` references at once; those not taken out are given back.
    pub(crate) fn shares(&self, n: usize) -> Shares<'_, T> {
        // Relaxed: we have a reference, so the count cannot reach zero meanwhile.
        self.block().references.fetch_add(n, Ordering::Relaxed);
        Shares {
            block: self,
            left: n,
        }
    }

    #[inline(always)]
    fn block(&self) -> &Block<T> {
        // SAFETY: a counted block lives as long as its references.
        unsafe { self.block.as_ref() }
    }

    #[inline(always)]
    fn body(&self) -> &Body<T> {
        // SAFETY: nobody writes to the body of a block with references.
        self.block().body.with(|body| unsafe { &*body })
    }

    /// # Safety
    ///
    /// The caller owns `n` references and never uses them again.
    unsafe fn release(block: NonNull<Block<T>>, n: usize) {
        // SAFETY: the caller's references keep it alive up to this line.
        let counted = unsafe { &block.as_ref().references };
        // AcqRel: Release our reads of the events; Acquire, for the last, everybody's. Partner: itself. (Not a
        // fence for the last one alone: ThreadSanitizer does not see fences.)
        if counted.fetch_sub(n, Ordering::AcqRel) == n {
            // SAFETY: the last reference is gone, so the block is ours alone.
            unsafe { Pool::recycle(block) };
        }
    }
}

impl<T> Clone for BlockRef<T> {
    fn clone(&self) -> Self {
        // Relaxed: as in `shares`.
        let before = self.block().references.fetch_add(1, Ordering::Relaxed);
        // A program may forget the events that it shares; as with `Arc`, the count must not come round to zero.
        if before > isize::MAX as usize {
            std::process::abort();
        }
        Self { block: self.block }
    }
}

impl<T> Drop for BlockRef<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: one reference is ours, and this is its end.
        unsafe { Self::release(self.block, 1) };
    }
}

// SAFETY: a reference is a pointer to its block, which is all there is to it, and it is `Send` as said above.
unsafe impl<T> Pointer for BlockRef<T> {
    fn into_raw(self) -> NonNull<()> {
        ManuallyDrop::new(self).block.cast()
    }

    unsafe fn from_raw(raw: NonNull<()>) -> Self {
        Self { block: raw.cast() }
    }
}

/// References taken in bulk: one atomic addition for a whole fan-out.
pub(crate) struct Shares<'a, T> {
    block: &'a BlockRef<T>,
    left: usize,
}

impl<T> Shares<'_, T> {
    /// One of the references; past the number that was taken, one more.
    pub(crate) fn take(&mut self) -> BlockRef<T> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                BlockRef {
                    block: self.block.block,
                }
            }
            None => self.block.clone(),
        }
    }
}

impl<T> Drop for Shares<'_, T> {
    fn drop(&mut self) {
        if self.left > 0 {
            // SAFETY: `left` references were counted for us and never handed out.
            unsafe { BlockRef::release(self.block.block, self.left) };
        }
    }
}
