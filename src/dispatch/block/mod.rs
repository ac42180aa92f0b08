//! Blocks: up to 64 events, immutable once sequenced, reference-counted as a whole.
//!
//! A reference to a block and a 64-bit mask name up to 64 deliveries. So one change of a reference
//! count, one ring slot and one wake-up serve all of them, and a payload is neither copied nor
//! counted.
//!
//! | state | accessed by |
//! | --- | --- |
//! | being filled, through a [`BlockWriter`] | one thread: the sequencer's, or that of a feed |
//! | sequenced, through [`BlockRef`]s | any thread, for reading |
//! | last reference dropped | the thread that dropped it, until the [`pool`] has the memory |
//!
//! The sequencer fills blocks with the events of publishers. A `Conflate` feed fills
//! [shadows](mod@shadow) of them. The thread that drops the last reference drops the events, then
//! gives the memory to the pool.
//!
//! A lone event must not occupy the memory of 64, so blocks come in [three sizes](CLASSES).
//! Payloads are dropped with the last reference. They are not kept until the memory is reused.
//!
//! Topics, names and sources are in [`envelope`]s, which are counted per block, not per event.
//!
//! A block is not generic, and an [`AnyBlock`] refers to one with payloads of any type, so that
//! most of the path of an event is compiled once, with this crate. Writers and readers of payloads
//! have a [`BlockWriter<T>`](BlockWriter) and a [`BlockRef<T>`](BlockRef); the type is checked
//! where an `AnyBlock` becomes one of these. What has to be known of the payloads is in [`events`].
//!
//! **Large payloads.** A payload lies inside its block, so a block is as large as its payloads. The
//! memory of a block is allocated in place, and [`BlockWriter::push`] moves a payload straight into
//! it: no event ever lies on the stack as a whole.
//!
//! # Failure modes
//!
//! * The `drop` of a payload panics: the panic is contained and logged, and the other payloads of
//!   the block are dropped as usual.
//! * A program leaks events that it shares until the reference count nears its limit: the process
//!   aborts, as it does with `Arc`.
//! * A program keeps one event of a block for long: it keeps the whole block alive.

#![allow(
    unsafe_code,
    reason = "writes and lends events through raw pointers; ARCHITECTURE.md lists this module"
)]

mod envelope;
mod event;
mod events;
mod pool;
mod shadow;
#[cfg(all(test, not(loom)))]
mod tests;

use crossbeam::utils::CachePadded;
use std::any::TypeId;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, size_of};
use std::ops::Deref;
use std::ptr::NonNull;

pub(crate) use envelope::{EnvelopeRef, EnvelopeStock, EnvelopeTable};
use event::EventHead;
pub use event::{Event, SharedEvent};
use events::Events;
use pool::Pool;
pub(crate) use pool::{BlockSource, RawSource};
use shadow::Shadow;
pub(crate) use shadow::{ReleaseBatch, ShadowEvent, shadow};

#[cfg(feature = "latency")]
use super::latency::Stamps;
use crate::pattern::Topic;
use crate::ring::evicting::Pointer;
use crate::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};
use crate::time_limit;

/// Events per block, at most: as many as a mask has bits.
pub(crate) const BLOCK_EVENTS_MAX: usize = 64;

/// The size classes of blocks: how many events a block of each class has room for.
pub(crate) const CLASSES: [usize; 3] = [1, 8, BLOCK_EVENTS_MAX];

/// A run of events of one block that have the same topic, name and source.
pub(crate) struct Group {
    envelope: EnvelopeRef,
    /// The events of the run, at least one. The block owns one reference to the envelope for each.
    pub(crate) mask: u64,
}

impl Group {
    pub(crate) fn topic(&self) -> &Topic {
        self.envelope.topic()
    }
}

/// The memory of a block. Accessed only through [`BlockWriter`] and [`BlockRef`].
///
/// Aligned so that the six low bits of its address are 0: [shadows](mod@shadow) use them.
#[repr(align(64))]
pub(crate) struct Block {
    /// References handed out, 0 to `isize::MAX`; 0 in the pool and while the block is being filled.
    /// On a cache line of its own: every subscriber writes it, and every subscriber reads the body.
    references: CachePadded<AtomicUsize>,
    body: UnsafeCell<Body>,
    /// Index into [`CLASSES`].
    class: u8,
    pool: Arc<Pool>,
    /// The next free block, while this one is in the pool.
    next: UnsafeCell<*mut Block>,
}

struct Body {
    first_id: u64,
    /// Nanoseconds since the Unix epoch.
    created_at_ns: u64,
    /// Bytes that the block pins: its own memory, its envelopes, and what its payloads were weighed
    /// at. An envelope counts for each of its runs.
    weight: usize,
    /// How many of `events` are initialised: 0 to the room of the class, at least 1 once sequenced.
    len: usize,
    /// As long as the class says.
    events: Events,
    /// Runs of events with the same envelope, in order. An envelope may occur in several runs.
    /// Empty in a shadow.
    groups: Vec<Group>,
    /// When the sampled events were published.
    #[cfg(feature = "latency")]
    stamps: Stamps,
    /// The block that the events are borrowed from, if this block is a shadow.
    shadow: Shadow,
}

// SAFETY: the payloads are `Send` and `Sync`, since `EventType::of` takes no others. While
// there are references the body is only read, by `&Event<T>` (hence `T: Sync`). Any thread may drop
// the last reference and with it the payloads (hence `T: Send`). The writer and the pool access a
// block exclusively, and hand it over by Release and Acquire.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    fn allocate(class: u8, pool: Arc<Pool>) -> NonNull<Self> {
        let room = CLASSES[class as usize];
        let body = Body {
            first_id: 0,
            created_at_ns: 0,
            weight: 0,
            len: 0,
            events: Events::allocate(pool.event_type, room),
            groups: Vec::with_capacity(room),
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

    /// Bytes of memory of a block of this class, without what its payloads own elsewhere.
    fn bytes(class: usize, event_size: usize) -> usize {
        size_of::<Self>() + CLASSES[class] * (event_size + size_of::<Group>())
    }
}

/// The mask of the first `len` events of a block, 1 to [`BLOCK_EVENTS_MAX`] of them.
fn mask_of_first(len: usize) -> u64 {
    debug_assert!((1..=BLOCK_EVENTS_MAX).contains(&len));
    u64::MAX >> (BLOCK_EVENTS_MAX - len)
}

impl Body {
    /// # Safety
    ///
    /// `T` is the type of the payloads.
    #[inline]
    unsafe fn events<T>(&self) -> &[Event<T>] {
        debug_assert!(self.len <= self.events.room());
        // SAFETY: the first `len` events are initialised, and borrowed together with the body.
        unsafe { std::slice::from_raw_parts(self.events.start().as_ptr(), self.len) }
    }

    /// What an event has beside its payload.
    fn head(&self, index: usize) -> &EventHead {
        assert!(index < self.len, "a block of {} events", self.len);
        // SAFETY: the first `len` events are initialised, and borrowed together with the body.
        unsafe { self.events.head(index).as_ref() }
    }

    fn is_shadow(&self) -> bool {
        self.shadow.origin.is_some()
    }

    /// Drops the events and releases their envelopes. Contains a panic in the `drop` of a payload.
    /// Returns `false` if the time of the calling thread was over first. Another call then
    /// continues.
    fn clear(&mut self) -> bool {
        #[cfg(feature = "latency")]
        self.stamps.clear();
        if self.is_shadow() {
            debug_assert!(self.groups.is_empty(), "the origin counts the envelopes");
            self.len = 0;
            self.shadow.clear();
        } else if time_limit::is_set() && self.events.need_drop() {
            while self.len > 0 {
                if time_limit::is_over() {
                    return false;
                }
                self.len -= 1;
                // SAFETY: `push` wrote the event with its payload, and it is beyond `len` already,
                // so that nothing accesses it again.
                unsafe { self.events.drop_payloads(self.len..self.len + 1) };
            }
        } else {
            let len = std::mem::take(&mut self.len);
            // SAFETY: as above.
            unsafe { self.events.drop_payloads(0..len) };
        }
        for group in self.groups.drain(..) {
            group.envelope.release(group.mask.count_ones() as usize);
        }
        true
    }

    /// Asserts, in debug builds, what a block that is about to be sequenced must satisfy.
    fn debug_check(&self) {
        debug_assert!(
            self.len >= 1 && self.len <= self.events.room(),
            "a sequenced block of {} events with room for {}",
            self.len,
            self.events.room()
        );
        if cfg!(debug_assertions) && !self.is_shadow() {
            let mut covered = 0;
            for group in &self.groups {
                assert!(group.mask != 0, "a group is never empty");
                assert_eq!(covered & group.mask, 0, "an event is in one group");
                covered |= group.mask;
            }
            assert_eq!(
                covered,
                mask_of_first(self.len),
                "every event is in a group"
            );
        }
    }
}

/// A block that is being filled with payloads of type `T`.
pub(crate) struct BlockWriter<T> {
    raw: RawWriter,
    /// Invariant in `T`: with a `T` here, a writer of `&'static str` would also be a writer of a
    /// `&str` that lives for a shorter time.
    payloads: PhantomData<fn(T) -> T>,
}

/// A block that is being filled.
struct RawWriter {
    block: NonNull<Block>,
}

// SAFETY: the writer alone accesses a `Block`, which is Send.
unsafe impl Send for RawWriter {}

impl<T> BlockWriter<T> {
    /// Appends an event. The payload is moved once, into the block.
    ///
    /// # Panics
    ///
    /// If the block [is full](Self::is_full).
    #[inline(always)]
    pub(crate) fn push(&mut self, envelope: EnvelopeRef, data: T, weight: usize) {
        let block = self.raw.block;
        let body = self.raw.body_mut();
        let index = body.len;
        let id = body.first_id + index as u64;
        // SAFETY: the events are of this type, since the source of the block is; and the slot is
        // borrowed together with the body.
        let slot = unsafe { body.events.slot(index) };
        Event::write(slot, id, block, envelope.uncounted(), data);
        body.len += 1;
        body.weight = body.weight.saturating_add(weight);
        match body.groups.last_mut() {
            Some(group) if group.envelope == envelope => {
                group.mask |= 1 << index;
                // The group owns as many references as its mask has bits: this one is counted
                // there.
                std::mem::forget(envelope);
            }
            _ => {
                body.weight = body.weight.saturating_add(envelope.bytes());
                body.groups.push(Group {
                    envelope,
                    mask: 1 << index,
                });
            }
        }
    }

    /// Records when the event that was appended last was published.
    #[cfg(feature = "latency")]
    pub(crate) fn stamp(&mut self, stamp_ns: u64) {
        let body = self.raw.body_mut();
        debug_assert!(body.len > 0, "there is no event to stamp");
        body.stamps.push(body.len - 1, stamp_ns);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.raw.body().len == 0
    }

    /// Whether there is no room for another event.
    pub(crate) fn is_full(&self) -> bool {
        let body = self.raw.body();
        body.len == body.events.room()
    }

    /// Returns the sequenced block, with one reference to it. It must have at least one event.
    pub(crate) fn finish(self) -> BlockRef<T> {
        BlockRef {
            block: self.raw.finish(),
            payloads: PhantomData,
        }
    }
}

impl RawWriter {
    fn finish(self) -> AnyBlock {
        self.body().debug_check();
        let block = self.block;
        std::mem::forget(self);
        let reference = AnyBlock { block };
        // Relaxed: no other thread has a reference to the block. The operation that passes the
        // reference on publishes it.
        reference.block().references.store(1, Ordering::Relaxed);
        reference
    }

    fn body(&self) -> &Body {
        // SAFETY: until `finish` the writer alone accesses the block.
        unsafe { self.block.as_ref().body.with(|body| &*body) }
    }

    #[inline(always)]
    fn body_mut(&mut self) -> &mut Body {
        // SAFETY: until `finish` the writer alone accesses the block, and the writer is borrowed
        // exclusively for as long as the result.
        unsafe { self.block.as_ref().body.with_mut(|body| &mut *body) }
    }
}

impl Drop for RawWriter {
    /// Reached when the block is not sequenced, since user code or a round has panicked: drops the
    /// events that were appended.
    fn drop(&mut self) {
        // SAFETY: allocated by `Block::allocate`, and until `finish` the writer alone accesses it.
        unsafe { Pool::recycle(self.block) };
    }
}

/// A counted reference to a sequenced block whose payloads are of type `T`.
pub(crate) struct BlockRef<T> {
    block: AnyBlock,
    /// Shares payloads as an `Arc<T>` does: covariant, `Send` and `Sync` if `T` is both, `Unpin`.
    payloads: PhantomData<std::sync::Arc<T>>,
}

impl<T> BlockRef<T> {
    /// The events, 1 to [`BLOCK_EVENTS_MAX`].
    #[inline]
    pub(crate) fn events(&self) -> &[Event<T>] {
        // SAFETY: a `BlockRef<T>` is made of a block with payloads of type `T`. It is covariant, so
        // `T` may be a supertype by now, which has the same layout; the events are only read.
        unsafe { self.block.body().events() }
    }

    /// The same reference, for code that is the same for all types of payloads.
    pub(crate) fn into_any(self) -> AnyBlock {
        self.block
    }
}

impl<T> Clone for BlockRef<T> {
    fn clone(&self) -> Self {
        Self {
            block: self.block.clone(),
            payloads: PhantomData,
        }
    }
}

impl<T> Deref for BlockRef<T> {
    type Target = AnyBlock;

    fn deref(&self) -> &AnyBlock {
        &self.block
    }
}

/// A counted reference to a sequenced block whose payloads are of any type.
///
/// Most of the path of an event does nothing with a payload. What is written in terms of this type
/// is compiled once, with this crate, and not again for each type of payload.
pub(crate) struct AnyBlock {
    block: NonNull<Block>,
}

// SAFETY: a counted reference to a `Block`, which is Send and Sync.
unsafe impl Send for AnyBlock {}
// SAFETY: as above.
unsafe impl Sync for AnyBlock {}

impl AnyBlock {
    /// The events, 1 to [`BLOCK_EVENTS_MAX`].
    ///
    /// # Panics
    ///
    /// If the payloads are not of type `T`.
    #[inline]
    pub(crate) fn events<T: 'static>(&self) -> &[Event<T>] {
        let body = self.body();
        assert_payloads::<T>(&body.events);
        // SAFETY: checked.
        unsafe { body.events() }
    }

    /// The same reference, for code that reads the payloads.
    ///
    /// # Panics
    ///
    /// If they are not of type `T`.
    #[inline]
    pub(crate) fn typed<T: 'static>(self) -> BlockRef<T> {
        assert_payloads::<T>(&self.body().events);
        BlockRef {
            block: self,
            payloads: PhantomData,
        }
    }

    /// How many events it has, 1 to [`BLOCK_EVENTS_MAX`].
    pub(crate) fn len(&self) -> usize {
        self.body().len
    }

    /// Id and topic of the event with this index.
    ///
    /// # Panics
    ///
    /// If there is no such event.
    pub(crate) fn id_and_topic(&self, index: usize) -> (u64, &Topic) {
        let head = self.body().head(index);
        (head.id, head.envelope.topic())
    }

    /// Id of the first event. The ids of the others follow without holes, except in a shadow.
    pub(crate) fn first_id(&self) -> u64 {
        self.body().first_id
    }

    /// Id of the last event; not for shadows.
    pub(crate) fn last_id(&self) -> u64 {
        let body = self.body();
        debug_assert!(!body.is_shadow(), "the ids of a shadow have holes");
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

    /// When the sampled events of the block were published.
    #[cfg(feature = "latency")]
    pub(crate) fn stamps(&self) -> &Stamps {
        &self.body().stamps
    }

    /// The block's events by topic, name and source.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.body().groups
    }

    /// Takes `n` references in one step. Those that are not used are released in one step, too.
    pub(crate) fn ref_batch(&self, n: usize) -> RefBatch<'_> {
        // Relaxed: this reference keeps the count above zero meanwhile.
        let before = self.block().references.fetch_add(n, Ordering::Relaxed);
        debug_assert!(before >= 1 && before <= isize::MAX as usize);
        RefBatch {
            block: self,
            left: n,
        }
    }

    #[inline(always)]
    fn block(&self) -> &Block {
        // SAFETY: a counted block lives as long as its references.
        unsafe { self.block.as_ref() }
    }

    #[inline(always)]
    fn body(&self) -> &Body {
        // SAFETY: no thread writes to the body of a block that has references.
        self.block().body.with(|body| unsafe { &*body })
    }

    /// # Safety
    ///
    /// The caller owns `n` references, at least 1, and never uses them again.
    unsafe fn release(block: NonNull<Block>, n: usize) {
        // SAFETY: the caller's references keep the block alive until they are subtracted.
        let references = unsafe { &block.as_ref().references };
        // AcqRel: Release our reads of the events; Acquire, for the last reference, the reads of
        // all others. Partner: itself. (ThreadSanitizer does not see fences, so there is none for
        // the last reference alone.)
        let before = references.fetch_sub(n, Ordering::AcqRel);
        debug_assert!(n >= 1 && before >= n, "{n} of {before} references released");
        if before == n {
            // SAFETY: the last reference was released, so no other thread accesses the block.
            unsafe { Pool::recycle(block) };
        }
    }
}

#[inline]
fn assert_payloads<T: 'static>(events: &Events) {
    assert!(
        events.payload_type() == TypeId::of::<T>(),
        "a block with payloads of another type"
    );
}

impl Clone for AnyBlock {
    fn clone(&self) -> Self {
        // Relaxed: as in `ref_batch`.
        let before = self.block().references.fetch_add(1, Ordering::Relaxed);
        debug_assert!(before >= 1, "a block without references was shared");
        // A program may leak the events that it shares. The count must not overflow to zero, so the
        // limit is that of `Arc`.
        if before > isize::MAX as usize {
            std::process::abort();
        }
        Self { block: self.block }
    }
}

impl Drop for AnyBlock {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this value owns one reference, and is not used again.
        unsafe { Self::release(self.block, 1) };
    }
}

// SAFETY: a reference consists of the pointer to its block and nothing else, so `from_raw` restores
// it. It may be sent under the bounds of its `Send`.
unsafe impl Pointer for AnyBlock {
    fn into_raw(self) -> NonNull<()> {
        ManuallyDrop::new(self).block.cast()
    }

    unsafe fn from_raw(raw: NonNull<()>) -> Self {
        Self { block: raw.cast() }
    }
}

/// References to a block that were taken by one atomic addition, for a whole fan-out.
pub(crate) struct RefBatch<'a> {
    block: &'a AnyBlock,
    /// References that are counted and not handed out.
    left: usize,
}

impl RefBatch<'_> {
    /// Hands out one reference. Beyond the number that was taken, each costs an addition of its
    /// own.
    pub(crate) fn take(&mut self) -> AnyBlock {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                AnyBlock {
                    block: self.block.block,
                }
            }
            None => self.block.clone(),
        }
    }
}

impl Drop for RefBatch<'_> {
    fn drop(&mut self) {
        if self.left > 0 {
            // SAFETY: `left` references were counted for this batch and not handed out.
            unsafe { AnyBlock::release(self.block.block, self.left) };
        }
    }
}
