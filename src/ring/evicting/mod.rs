//! A ring whose producer makes room: it evicts the oldest items, whatever the consumer does.
//!
//! Both sides take from the front, so an item at the front has to change its owner in one atomic
//! step. **The head is one word**, and the side that moves it over an item owns that item.
//!
//! ```text
//! head word = position of the front item | LOSS | parts cut off the front item
//! ```
//!
//! | side | step | means |
//! | --- | --- | --- |
//! | consumer | `claim`: CAS head from `(n, parts cut)` to `(n + 1, none)` | the consumer owns item n, without the parts cut |
//! | producer | `evict`: CAS head from `(n, parts cut)` to `(m, more parts cut)` | items n to m - 1, and those parts of item m, are evicted |
//!
//! An item consists of 1 to 64 parts: the events of one slot. The producer may evict the oldest
//! parts of an item and leave the others: they are *cut off*. Positions only rise, so the word
//! never returns to an old value, and a CAS that succeeds moves the head over exactly what its
//! caller has read. The caller reads the slot *before* its CAS. All fields of a slot are atomics,
//! since the producer may write a new item into the slot while a consumer whose CAS will fail still
//! reads it.
//!
//! **What was lost in front of an item** is reported together with the item. The producer writes
//! the run of evicted items into the slot that becomes the front, then moves the head with `LOSS`
//! set. The number of parts cut is in the word itself. A claim clears both. So a run that the
//! producer finds at the front is one that no claim has reported, and the producer extends it:
//! between two claims there is one run, and its count is exact.
//!
//! **The last item stays.** The producer evicts only when everything is committed, and never the
//! item published last. So the ring does not become empty by eviction.
//!
//! **Progress.** The producer never waits. A claim fails only if the producer has evicted the item
//! in the nanoseconds between the consumer's read and its CAS; the consumer then tries again. So
//! one of the two sides always makes progress, and a consumer finishes if the producer stands
//! still: the ring is lock-free.
//!
//! **Memory** is allocated by the first push. A ring that is full below its capacity is copied to a
//! buffer of twice the length, as in the deque of [Chase and Lev][c]. A consumer may still be
//! reading the old buffer, so old buffers are kept until the ring is dropped. Together they are at
//! most as long as the current one.
//!
//! [c]: https://dl.acm.org/doi/10.1145/1073970.1073974 "D. Chase, Y. Lev, Dynamic Circular Work-Stealing Deque, SPAA 2005"

#![allow(
    unsafe_code,
    reason = "items change owners as raw pointers; ARCHITECTURE.md lists this module"
)]

#[cfg(test)]
mod invariants;
#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::{self, NonNull};

use crate::ring::gap::LossRun;
use crate::ring::tail::{Closed, Readiness, TailState, TailWord};
use crate::sync::{Arc, AtomicPtr, AtomicU64, CACHE_LINE, Ordering};

/// A type that fits into one pointer.
///
/// # Safety
///
/// `from_raw` returns the value that was given to `into_raw`. If `Self: Send`, the pointer may be
/// turned back on another thread.
pub(crate) unsafe trait Pointer {
    fn into_raw(self) -> NonNull<()>;

    /// # Safety
    ///
    /// The pointer comes from `into_raw`, and is turned back once.
    unsafe fn from_raw(raw: NonNull<()>) -> Self;
}

// SAFETY: `Box::leak` and `Box::from_raw` are inverse to each other; a `Box` is not tied to a
// thread.
#[cfg(any(test, fuzzing))]
unsafe impl<T> Pointer for Box<T> {
    fn into_raw(self) -> NonNull<()> {
        NonNull::from(Box::leak(self)).cast()
    }

    unsafe fn from_raw(raw: NonNull<()>) -> Self {
        // SAFETY: from `into_raw`, and once, as the caller promises.
        unsafe { Box::from_raw(raw.cast().as_ptr()) }
    }
}

/// Slots of a ring's first buffer. Few in a model, so that its rings grow and use slots again.
const FIRST_SLOTS: usize = if cfg!(loom) { 2 } else { 16 };

/// A ring for up to `capacity` items, 1 to 2^31. There is room for one more, which the producer may
/// push before it evicts.
pub(crate) fn ring<P: Pointer>(capacity: usize) -> (Producer<P>, Consumer<P>) {
    ring_with_first_slots(FIRST_SLOTS, capacity)
}

/// A ring whose first buffer has `first_slots` slots: a power of two, up to 2^31.
pub(in crate::ring) fn ring_with_first_slots<P: Pointer>(
    first_slots: usize,
    capacity: usize,
) -> (Producer<P>, Consumer<P>) {
    assert!(
        (1..=1 << 31).contains(&capacity),
        "capacity {capacity} is not in 1..=2^31"
    );
    debug_assert!(first_slots.is_power_of_two() && first_slots <= 1 << 31);
    let () = Shared::<P>::ON_TWO_CACHE_LINES;
    let shared = Arc::new(Shared {
        tail: TailWord::new(),
        buffer: AtomicPtr::new(ptr::null_mut()),
        _padding: [0; 6],
        head: AtomicU64::new(0),
        _marker: PhantomData,
    });
    let producer = Producer {
        shared: shared.clone(),
        staged: 0,
        committed: 0,
        removed: 0,
        staged_size: Size::default(),
        capacity: capacity as u32,
        first_slots: first_slots as u32,
    };
    let consumer = Consumer {
        shared,
        committed: 0,
        position: 0,
    };
    (producer, consumer)
}

/// The size of a number of items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) parts: u64,
    pub(crate) bytes: u64,
}

/// Which parts an item has, as its user pushed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartSet {
    /// Bit i is set for part i. At least one is.
    pub(crate) mask: u64,
    /// What the user needs to compute the id of a part from its bit.
    pub(crate) base: u64,
}

impl PartSet {
    /// 1 to 64.
    fn len(self) -> u32 {
        self.mask.count_ones()
    }
}

/// The side that pushes and evicts.
pub(crate) struct Producer<P: Pointer> {
    shared: Arc<Shared<P>>,
    /// Items written: `committed ..= removed + capacity + 1`.
    staged: u64,
    /// Items published: the counter of the tail word, which only this side changes.
    committed: u64,
    /// Items claimed or evicted, as last seen: never more than the position of the head word.
    removed: u64,
    /// The size of all items that were ever staged; its bytes wrap around.
    staged_size: Size,
    /// 1 to 2^31 items.
    capacity: u32,
    /// Slots of the first buffer, unless the capacity is less: a power of two, up to 2^31.
    first_slots: u32,
}

/// The side that claims.
pub(crate) struct Consumer<P: Pointer> {
    shared: Arc<Shared<P>>,
    /// Items published, as last seen: never more than the counter of the tail word.
    committed: u64,
    /// Items claimed or evicted, as last seen: never more than the position of the head word. May
    /// be more than `committed`, if items were evicted that this side has not seen published.
    position: u64,
}

/// The words that both sides write lie a cache line apart.
#[repr(C)]
struct Shared<P: Pointer> {
    tail: TailWord,
    /// Null before the first push. Written by the producer.
    buffer: AtomicPtr<Buffer>,
    _padding: [u64; 6],
    /// A [`Head`].
    head: AtomicU64,
    /// It owns items, which the types of the slots do not say.
    _marker: PhantomData<P>,
}

impl<P: Pointer> Shared<P> {
    const ON_TWO_CACHE_LINES: () =
        assert!(offset_of!(Self, head) - offset_of!(Self, tail) >= CACHE_LINE);
}

// SAFETY: the side that moves the head over an item owns it; the head is written by Release and
// read by Acquire, and the fields of slots are atomics. So sharing a ring only moves `P`s between
// threads.
unsafe impl<P: Pointer + Send> Sync for Shared<P> {}
// SAFETY: as above.
unsafe impl<P: Pointer + Send> Send for Shared<P> {}

/// Slots, and the buffer that was in use before.
struct Buffer {
    /// A power of two of them, 1 to 2^32.
    slots: Box<[Slot]>,
    /// Null for the first buffer.
    previous: *mut Buffer,
}

/// Written by the producer alone.
struct Slot {
    item: AtomicPtr<()>,
    /// The fields of its [`PartSet`].
    mask: AtomicU64,
    base: AtomicU64,
    /// The size of all items that were staged before this one; its bytes wrap around.
    parts_before: AtomicU64,
    bytes_before: AtomicU64,
    /// The run of items evicted in front of this one. Valid only if the head word is at this item
    /// and has `LOSS` set.
    lost_first_id: AtomicU64,
    lost_last_id: AtomicU64,
    lost_count: AtomicU64,
}

/// The head word. Bits 7 to 63: position of the front item, 0 to 2^57 - 1; bit 6: `LOSS`; bits 0 to
/// 5: parts cut off the front item.
#[derive(Clone, Copy, PartialEq)]
struct Head(u64);

/// Items were evicted in front of the front item, and its slot says which.
const LOSS: u64 = 1 << 6;
/// The number of parts cut off the front item, 0 to 63: an item at the front has at least one left.
const CUT: u64 = LOSS - 1;
const POSITION_SHIFT: u32 = 7;

impl Head {
    fn new(position: u64, loss: bool, cut: u32) -> Self {
        debug_assert!(position <= u64::MAX >> POSITION_SHIFT);
        debug_assert!(u64::from(cut) <= CUT);
        let loss = if loss { LOSS } else { 0 };
        Self(position << POSITION_SHIFT | loss | u64::from(cut))
    }

    fn position(self) -> u64 {
        self.0 >> POSITION_SHIFT
    }

    fn has_loss(self) -> bool {
        self.0 & LOSS != 0
    }

    fn cut(self) -> u32 {
        (self.0 & CUT) as u32
    }
}

/// What the consumer has claimed.
pub(crate) struct Claimed<P> {
    pub(crate) item: P,
    /// The parts of the item, including those cut off.
    pub(crate) parts: PartSet,
    /// How many of the item's lowest parts were evicted: 0 to 63, fewer than it has.
    pub(crate) cut: u32,
    /// The items that were evicted in front of it since the last claim.
    pub(crate) lost: Option<LossRun>,
}

impl<P: Pointer> Producer<P> {
    /// Stages an item of `bytes` bytes: writes it into its slot, where the consumer does not see it
    /// yet.
    ///
    /// There must be room: before the call, at most `capacity` items are in the ring.
    ///
    /// # Panics
    ///
    /// If there is no slot left. (In debug builds, whenever the ring has no room.)
    pub(crate) fn push(&mut self, item: P, parts: PartSet, bytes: u64) {
        debug_assert!(parts.mask != 0, "an item has a part");
        debug_assert!(self.has_room());
        self.make_room();
        // SAFETY: `make_room` has ensured that there is a buffer.
        let slot = unsafe { self.buffer() }.slot(self.staged);
        // Relaxed, as the stores below: the commit publishes them. A consumer that reads the slot
        // for the item that was in it before fails in its CAS.
        slot.item.store(item.into_raw().as_ptr(), Ordering::Relaxed);
        slot.mask.store(parts.mask, Ordering::Relaxed);
        slot.base.store(parts.base, Ordering::Relaxed);
        slot.parts_before
            .store(self.staged_size.parts, Ordering::Relaxed);
        slot.bytes_before
            .store(self.staged_size.bytes, Ordering::Relaxed);
        self.staged_size.parts += u64::from(parts.len());
        // A weigher may say that each item has `u64::MAX` bytes. This bound keeps the sum of all
        // items in the ring below that.
        let bytes = bytes.min(u64::MAX / (u64::from(self.capacity) + 1));
        self.staged_size.bytes = self.staged_size.bytes.wrapping_add(bytes);
        self.staged += 1;
    }

    /// Publishes all staged items, and clears `WAKE_REQUESTED` in the tail word. `Ok(true)`: that
    /// flag was set, so the caller has to wake the consumer.
    pub(crate) fn commit(&mut self) -> Result<bool, Closed> {
        let wake_requested = self.shared.tail.commit(self.committed, self.staged)?;
        self.committed = self.staged;
        Ok(wake_requested)
    }

    /// The size of the items in the ring, including staged ones: exact at the moment of the call.
    pub(crate) fn waiting(&mut self) -> Size {
        let head = self.head();
        self.size_behind(head)
    }

    /// Evicts the oldest items and parts until the ring is within `bound`.
    ///
    /// The item published last stays. If it exceeds the bound on parts, its oldest parts are cut
    /// off, but for one. The bound on bytes evicts whole items only. Everything must be committed.
    ///
    /// `ids`: the ids of the first and the last part of an item. `on_evicted` gets each item that
    /// was evicted whole. Returns how many parts were evicted.
    pub(crate) fn evict(
        &mut self,
        bound: Size,
        mut ids: impl FnMut(PartSet) -> (u64, u64),
        mut on_evicted: impl FnMut(P, PartSet),
    ) -> u64 {
        debug_assert!(self.staged == self.committed, "everything is committed");
        loop {
            let head = self.head();
            let Some(target) = self.target(head, bound) else {
                return 0;
            };
            // SAFETY: there are items in the ring, so there is a buffer.
            let buffer = unsafe { self.buffer() };
            // A claim clears `LOSS`, so a run that is at the front was not reported, and is
            // extended.
            let mut run = head.has_loss().then(|| buffer.slot(head.position()).lost());
            let mut evicted = 0;
            for position in head.position()..=target.position() {
                let parts = buffer.parts(position);
                let begin = if position == head.position() {
                    head.cut()
                } else {
                    0
                };
                let whole = position < target.position();
                let end = if whole { parts.len() } else { target.cut() };
                evicted += u64::from(end - begin);
                if whole {
                    // With the parts that were cut off it before, which no claim has reported.
                    let (first_id, last_id) = ids(parts);
                    run = Some(extended(run, first_id, last_id, end));
                }
            }
            if let Some(run) = run
                && target.position() != head.position()
            {
                let slot = buffer.slot(target.position());
                // Relaxed: the CAS below publishes them. No other thread reads them before: as far
                // as the head word says, nothing was lost in front of this item.
                slot.lost_first_id.store(run.first_id, Ordering::Relaxed);
                slot.lost_last_id.store(run.last_id, Ordering::Relaxed);
                slot.lost_count.store(run.count, Ordering::Relaxed);
            }
            // AcqRel: Release the run to the next claim; Acquire the consumer's last reads of the
            // slots that it has left, before we write to them. Partner: `Consumer::claim`.
            let moved = self.shared.head.compare_exchange(
                head.0,
                target.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if moved.is_err() {
                continue; // the consumer has claimed an item meanwhile
            }
            self.removed = target.position();
            for position in head.position()..target.position() {
                let slot = buffer.slot(position);
                let parts = slot.parts();
                // SAFETY: the CAS moved the head over this item, so this side owns it; `push`
                // stored it.
                on_evicted(unsafe { slot.take_item() }, parts);
            }
            return evicted;
        }
    }

    /// How many items were removed from the ring so far, claimed or evicted.
    pub(crate) fn removed(&mut self) -> u64 {
        self.head().position()
    }

    /// Whether there are items that `commit` would publish.
    pub(crate) fn has_staged(&self) -> bool {
        self.staged != self.committed
    }

    /// Sets `CLOSED`, after which nothing more is published. `true`: the consumer has requested a
    /// wake-up, so the caller has to wake it.
    pub(crate) fn close(&self) -> bool {
        self.shared.tail.close()
    }

    /// Whether `push` may be called. For assertions, so it changes nothing.
    fn has_room(&self) -> bool {
        let head = Head(self.shared.head.load(Ordering::Relaxed));
        self.staged - head.position() <= self.capacity.into()
    }

    fn head(&mut self) -> Head {
        // Acquire, partner `Consumer::claim`: the consumer is done with the slots in front of the
        // head.
        let head = Head(self.shared.head.load(Ordering::Acquire));
        debug_assert!(self.removed <= head.position() && head.position() <= self.committed);
        self.removed = head.position();
        head
    }

    /// The size of the items from the head on, without the parts that it has cut off.
    fn size_behind(&self, head: Head) -> Size {
        if head.position() == self.staged {
            return Size::default();
        }
        // SAFETY: an item was staged, so there is a buffer.
        let slot = unsafe { self.buffer() }.slot(head.position());
        let before = slot.size_before();
        Size {
            parts: self.staged_size.parts - before.parts - u64::from(head.cut()),
            bytes: self.staged_size.bytes.wrapping_sub(before.bytes),
        }
    }

    /// Where the head has to be for the ring to be within the bound. `None`: where it is.
    fn target(&self, head: Head, bound: Size) -> Option<Head> {
        let mut target = head;
        loop {
            let waiting = self.size_behind(target);
            let fits = waiting.parts <= bound.parts && waiting.bytes <= bound.bytes;
            if waiting.parts == 0 || fits {
                break;
            }
            // SAFETY: there are items in the ring, so there is a buffer.
            let parts = unsafe { self.buffer() }.parts(target.position());
            debug_assert!(target.cut() < parts.len(), "a part is left");
            let left = u64::from(parts.len() - target.cut());
            let excess = waiting.parts.saturating_sub(bound.parts);
            let is_last = target.position() + 1 == self.staged;
            if is_last || (excess < left && waiting.bytes <= bound.bytes) {
                let cut = target.cut() + excess.min(left - 1) as u32;
                target = Head::new(target.position(), target.has_loss(), cut);
                break;
            }
            target = Head::new(target.position() + 1, true, 0);
        }
        (target != head).then_some(target)
    }

    /// Ensures that there is a buffer, and that its next slot is free.
    fn make_room(&mut self) {
        // Relaxed: written by this side.
        let buffer = self.shared.buffer.load(Ordering::Relaxed);
        // SAFETY: null, or made by `grow`, and freed when both sides are dropped.
        let len = unsafe { buffer.as_ref() }.map_or(0, |buffer| buffer.slots.len());
        if self.staged - self.removed == len as u64 {
            self.head();
            if self.staged - self.removed == len as u64 {
                self.grow(buffer, len);
            }
        }
    }

    #[cold]
    fn grow(&mut self, old: *mut Buffer, len: usize) {
        let len_max = (self.capacity as usize + 1).next_power_of_two();
        let new_len = if len == 0 {
            (self.first_slots as usize).min(len_max)
        } else {
            len * 2
        };
        assert!(
            new_len <= len_max,
            "more than `capacity + 1` items are in the ring"
        );
        let new = Buffer {
            slots: (0..new_len).map(|_| Slot::empty()).collect(),
            previous: old,
        };
        // SAFETY: null, or the buffer that is in use.
        if let Some(old) = unsafe { old.as_ref() } {
            for position in self.removed..self.staged {
                new.slot(position).copy_from(old.slot(position));
            }
        }
        // Release, partner `Consumer::claim`: the copies.
        self.shared
            .buffer
            .store(Box::into_raw(Box::new(new)), Ordering::Release);
    }

    /// The buffer in use.
    ///
    /// # Safety
    ///
    /// An item was pushed, and the reference is not kept longer than the ring.
    unsafe fn buffer<'a>(&self) -> &'a Buffer {
        // SAFETY: the first push has made a buffer; buffers are freed when both sides are dropped.
        // Relaxed: written by this side.
        unsafe { &*self.shared.buffer.load(Ordering::Relaxed) }
    }
}

/// The run, extended by an item behind it. Under `Conflate`, the ids do not rise from item to item.
fn extended(run: Option<LossRun>, first_id: u64, last_id: u64, count: u32) -> LossRun {
    debug_assert!(first_id <= last_id && count >= 1);
    let count = u64::from(count);
    match run {
        None => LossRun {
            first_id,
            last_id,
            count,
            reason: 0,
        },
        Some(run) => LossRun {
            first_id: run.first_id.min(first_id),
            last_id: run.last_id.max(last_id),
            count: run.count + count,
            reason: run.reason,
        },
    }
}

impl<P: Pointer> Drop for Producer<P> {
    /// Closes the ring, and drops the items that were staged and not published.
    fn drop(&mut self) {
        // Closed first, since the drop of an item may panic.
        self.close();
        for position in self.committed..self.staged {
            // SAFETY: an item was staged, so there is a buffer; the item was never published, so
            // this side owns it.
            drop(unsafe { self.buffer().slot(position).take_item::<P>() });
        }
    }
}

impl<P: Pointer> Consumer<P> {
    /// Takes the item at the front.
    pub(crate) fn claim(&mut self) -> Option<Claimed<P>> {
        loop {
            // Acquire, partner `Producer::evict`: the run in front of the item.
            let head = Head(self.shared.head.load(Ordering::Acquire));
            debug_assert!(self.position <= head.position());
            self.position = head.position();
            if self.position >= self.committed && !self.refresh() {
                return None;
            }
            // Acquire, partner `Producer::grow`: the copies. Loaded after the head and the tail,
            // which say that the item is in the ring, so the item is in this buffer.
            let buffer = self.shared.buffer.load(Ordering::Acquire);
            // SAFETY: an item is published, so there is a buffer; buffers are freed when both sides
            // are dropped.
            let slot = unsafe { &*buffer }.slot(head.position());
            // Relaxed: acquired with the tail and the head. If the producer has evicted the item
            // meanwhile, this may read what it wrote later, and the CAS fails.
            let item = slot.item.load(Ordering::Relaxed);
            let parts = slot.parts();
            let lost = head.has_loss().then(|| slot.lost());
            // AcqRel: Release our reads to the producer, which writes to the slot once it has seen
            // the head behind it; Acquire: see `Producer::evict`. Partners: `Producer::head` and
            // `Producer::evict`.
            let next = Head::new(head.position() + 1, false, 0);
            let moved = self.shared.head.compare_exchange(
                head.0,
                next.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if moved.is_ok() {
                debug_assert!(head.cut() < parts.len(), "a part is left");
                self.position += 1;
                let item = NonNull::new(item).expect("a published item was written");
                return Some(Claimed {
                    // SAFETY: the CAS moved the head over this item, so this side owns it; `push`
                    // stored it.
                    item: unsafe { P::from_raw(item) },
                    parts,
                    cut: head.cut(),
                    lost,
                });
            }
        }
    }

    /// Sets `WAKE_REQUESTED` in the tail word, which the next `commit` or `close` reports, and
    /// looks once more whether there is an item.
    pub(crate) fn request_wake(&mut self) -> Readiness {
        let tail = self.shared.tail.request_wake();
        self.note_committed(tail);
        if self.is_empty() && !tail.is_closed() {
            Readiness::Empty
        } else {
            Readiness::Ready
        }
    }

    /// Whether the ring is closed and no published item is left in it.
    pub(crate) fn is_finished(&mut self) -> bool {
        let tail = self.shared.tail.load();
        self.note_committed(tail);
        tail.is_closed() && self.is_empty()
    }

    /// Whether all items that this side has seen published are claimed or evicted.
    fn is_empty(&mut self) -> bool {
        // Relaxed: only the number is used; a claim acquires.
        self.position = Head(self.shared.head.load(Ordering::Relaxed)).position();
        self.position >= self.committed
    }

    /// Reads how many items are published. `true`: there is an item to claim.
    fn refresh(&mut self) -> bool {
        let tail = self.shared.tail.load();
        self.note_committed(tail);
        self.position < self.committed
    }

    fn note_committed(&mut self, tail: TailState) {
        debug_assert!(self.committed <= tail.count());
        self.committed = tail.count();
    }
}

impl<P: Pointer> Drop for Consumer<P> {
    /// Drops what is published. Items that the producer commits later are dropped when the producer
    /// evicts them, or with the ring.
    fn drop(&mut self) {
        while let Some(claimed) = self.claim() {
            drop(claimed);
        }
    }
}

impl<P: Pointer> Drop for Shared<P> {
    /// Drops the items that are published and were not claimed.
    fn drop(&mut self) {
        let committed = self.tail.count_exclusive();
        // Relaxed, as below: the exclusive borrow says that every other access has happened before.
        let head = Head(self.head.load(Ordering::Relaxed));
        let mut buffer = self.buffer.load(Ordering::Relaxed);
        for position in head.position()..committed {
            // SAFETY: an item is published, so there is a buffer. The item was neither claimed nor
            // evicted, and the borrow is exclusive.
            drop(unsafe { (*buffer).slot(position).take_item::<P>() });
        }
        while !buffer.is_null() {
            // SAFETY: made by `grow`, and in the list once; the borrow is exclusive.
            let owned = unsafe { Box::from_raw(buffer) };
            buffer = owned.previous;
        }
    }
}

impl Buffer {
    fn slot(&self, position: u64) -> &Slot {
        &self.slots[position as usize & (self.slots.len() - 1)]
    }

    fn parts(&self, position: u64) -> PartSet {
        self.slot(position).parts()
    }
}

impl Slot {
    fn empty() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            item: AtomicPtr::new(ptr::null_mut()),
            mask: zero(),
            base: zero(),
            parts_before: zero(),
            bytes_before: zero(),
            lost_first_id: zero(),
            lost_last_id: zero(),
            lost_count: zero(),
        }
    }

    // Relaxed, in all of these methods: the callers say what orders their loads.

    fn parts(&self) -> PartSet {
        PartSet {
            mask: self.mask.load(Ordering::Relaxed),
            base: self.base.load(Ordering::Relaxed),
        }
    }

    fn size_before(&self) -> Size {
        Size {
            parts: self.parts_before.load(Ordering::Relaxed),
            bytes: self.bytes_before.load(Ordering::Relaxed),
        }
    }

    fn lost(&self) -> LossRun {
        LossRun {
            first_id: self.lost_first_id.load(Ordering::Relaxed),
            last_id: self.lost_last_id.load(Ordering::Relaxed),
            count: self.lost_count.load(Ordering::Relaxed),
            reason: 0,
        }
    }

    fn copy_from(&self, other: &Self) {
        let copy = |to: &AtomicU64, from: &AtomicU64| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        self.item
            .store(other.item.load(Ordering::Relaxed), Ordering::Relaxed);
        copy(&self.mask, &other.mask);
        copy(&self.base, &other.base);
        copy(&self.parts_before, &other.parts_before);
        copy(&self.bytes_before, &other.bytes_before);
        copy(&self.lost_first_id, &other.lost_first_id);
        copy(&self.lost_last_id, &other.lost_last_id);
        copy(&self.lost_count, &other.lost_count);
    }

    /// # Safety
    ///
    /// The caller owns the item, and takes it once.
    unsafe fn take_item<P: Pointer>(&self) -> P {
        let item = NonNull::new(self.item.load(Ordering::Relaxed)).expect("pushed before");
        // SAFETY: as the caller promises.
        unsafe { P::from_raw(item) }
    }
}
