//! A ring whose producer makes room: it evicts the oldest, whatever the consumer does.
//!
//! Both sides take from the front, so what is at the front has to change hands in one atomic step. It does: **the head
//! is one word**, and whoever moves it has what it moved over.
//!
//! ```text
//! head word = items gone from the front | LOST | parts cut off the item that is now at the front
//! ```
//!
//! | who | step | means |
//! | --- | --- | --- |
//! | consumer | `claim`: CAS head `(n, parts cut)` to `(n + 1, none)` | item n is the consumer's, without the parts cut |
//! | producer | `evict`: CAS head `(n, parts cut)` to `(m, more parts cut)` | items n to m - 1, and those parts of item m, are gone |
//!
//! An item consists of 1 to 64 parts: the events of a slot, of which the producer may evict the oldest and leave the rest.
//! Positions only rise, so the word never comes back to an old value, and a CAS that succeeds moves what its caller has
//! read. What the caller read, it read *before*: from atomics, since a cell may be written anew while a consumer that
//! is about to fail still reads it.
//!
//! **What was lost in front of an item** is told with the item. The producer writes the run of evicted items into the cell
//! that comes to be the front, then moves the head with `LOST` set; cut parts are in the word itself. A claim leaves
//! neither. So the producer finds in front what no claim has told of, and goes on with that run: there is one between two
//! claims, and it is exact.
//!
//! **Nothing published is lost for nothing**: the producer evicts only behind a publication, and never the item
//! published last. So the front of a ring that was filled is a published item.
//!
//! **Progress.** The producer never waits. A claim fails only when the producer has evicted, in the nanoseconds between the
//! consumer's read and its CAS, what the consumer was about to claim; it is then tried again. So one of both always
//! gets on, and a consumer beside a producer that stands still finishes: it is lock-free.
//!
//! **Memory** comes with the first push. A ring that is full below its bound is copied to one twice as long, as in the deque
//! of [Chase and Lev][c]; a consumer may still be reading the old one, so it is kept until the end: as much again at most.
//!
//! [c]: https://dl.acm.org/doi/10.1145/1073970.1073974 "D. Chase, Y. Lev, Dynamic Circular Work-Stealing Deque, SPAA 2005"

#![allow(
    unsafe_code,
    reason = "items change hands as raw pointers; one of the rooms that ARCHITECTURE.md names"
)]

#[cfg(test)]
mod law;
#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::{self, NonNull};

use crate::ring::gap::Run;
use crate::ring::tail::{Closed, Published, Tail};
use crate::sync::{Arc, AtomicPtr, AtomicU64, CACHE_LINE, Ordering};

/// What an item owns, as one pointer.
///
/// # Safety
///
/// `from_raw` of what `into_raw` gave is the same value; it may be sent to another thread if `Self: Send`.
pub(crate) unsafe trait Pointer {
    fn into_raw(self) -> NonNull<()>;

    /// # Safety
    ///
    /// The pointer is from `into_raw`, and each is turned back once.
    unsafe fn from_raw(raw: NonNull<()>) -> Self;
}

// SAFETY: as the documentation of `Box` says.
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

/// Cells of a ring's first memory. Few in a model, whose rings are to grow, and to come round.
const FIRST_CELLS: usize = if cfg!(loom) { 2 } else { 16 };

/// A ring for up to `capacity` items, 1 to 2^31. One more fits, until the producer has evicted.
pub(crate) fn ring<P: Pointer>(capacity: usize) -> (Producer<P>, Consumer<P>) {
    ring_from(FIRST_CELLS, capacity)
}

/// A ring that begins with so many cells, a power of two.
pub(in crate::ring) fn ring_from<P: Pointer>(
    first_cells: usize,
    capacity: usize,
) -> (Producer<P>, Consumer<P>) {
    assert!(
        (1..=1 << 31).contains(&capacity),
        "capacity {capacity} is not in 1..=2^31"
    );
    let () = Shared::<P>::APART;
    let shared = Arc::new(Shared {
        tail: Tail::new(),
        memory: AtomicPtr::new(ptr::null_mut()),
        apart: [0; 6],
        head: AtomicU64::new(0),
        owns: PhantomData,
    });
    let producer = Producer {
        shared: shared.clone(),
        staged: 0,
        committed: 0,
        gone: 0,
        offset: Amount::default(),
        capacity: capacity as u32,
        first_cells: first_cells as u32,
    };
    let consumer = Consumer {
        shared,
        committed: 0,
        position: 0,
    };
    (producer, consumer)
}

/// What is counted of items, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) parts: u64,
    /// Of all items staged: wrapping.
    pub(crate) bytes: u64,
}

/// The side that pushes and evicts.
pub(crate) struct Producer<P: Pointer> {
    shared: Arc<Shared<P>>,
    /// Items written.
    staged: u64,
    /// Items published, the counter of the tail word.
    committed: u64,
    /// Items gone from the front, as last seen: never more than the truth.
    gone: u64,
    /// Of all items staged.
    offset: Amount,
    capacity: u32,
    first_cells: u32,
}

/// The side that claims.
pub(crate) struct Consumer<P: Pointer> {
    shared: Arc<Shared<P>>,
    /// Items published, as last seen: never more than the truth.
    committed: u64,
    /// Items gone from the front, as last seen: never more than the truth.
    position: u64,
}

/// What the two sides share. The words that both write lie a cache line apart.
#[repr(C)]
struct Shared<P: Pointer> {
    tail: Tail,
    /// Null before the first push.
    memory: AtomicPtr<Memory>,
    apart: [u64; 6],
    head: AtomicU64,
    owns: PhantomData<P>,
}

impl<P: Pointer> Shared<P> {
    const APART: () = assert!(offset_of!(Self, head) - offset_of!(Self, tail) >= CACHE_LINE);
}

// SAFETY: items are reached by pointers that change hands with the head word, by Release and Acquire; cells are atomics. So
// sharing moves `P`s.
unsafe impl<P: Pointer + Send> Sync for Shared<P> {}
// SAFETY: as above.
unsafe impl<P: Pointer + Send> Send for Shared<P> {}

/// Cells, a power of two of them, and those that they were copied from.
struct Memory {
    cells: Box<[Cell]>,
    before: *mut Memory,
}

/// Written by the producer alone.
struct Cell {
    item: AtomicPtr<()>,
    /// Two words of the user's: which parts, and where they begin, say.
    mask: AtomicU64,
    base: AtomicU64,
    /// Of all items staged before this one.
    parts_before: AtomicU64,
    bytes_before: AtomicU64,
    /// The run of items evicted in front of this one, if the head word says so.
    lost_from: AtomicU64,
    lost_to: AtomicU64,
    lost_count: AtomicU64,
}

/// The head word, taken apart.
#[derive(Clone, Copy)]
struct Head(u64);

/// Items were evicted in front of the one at the front, and its cell says which.
const LOST: u64 = 1 << 6;
/// Parts cut off the item at the front, 0 to 63.
const CUT: u64 = LOST - 1;
const POSITION_SHIFT: u32 = 7;

impl Head {
    fn new(position: u64, lost: bool, cut: u32) -> Self {
        let lost = if lost { LOST } else { 0 };
        Self(position << POSITION_SHIFT | lost | u64::from(cut))
    }

    fn position(self) -> u64 {
        self.0 >> POSITION_SHIFT
    }

    fn has_lost(self) -> bool {
        self.0 & LOST != 0
    }

    fn cut(self) -> u32 {
        (self.0 & CUT) as u32
    }
}

/// An item, as its user pushed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Bit i set: part i; at least one.
    pub(crate) mask: u64,
    /// What the user needs to name a part by its bit.
    pub(crate) base: u64,
}

/// What the consumer has claimed.
pub(crate) struct Claimed<P> {
    pub(crate) item: P,
    pub(crate) parts: Parts,
    /// So many of its lowest parts were evicted.
    pub(crate) cut: u32,
    /// What was evicted in front of it, since the last claim.
    pub(crate) lost: Option<Run>,
}

impl<P: Pointer> Producer<P> {
    /// Stages an item that weighs so many bytes: it is in its cell, and not yet visible.
    ///
    /// There must be room: no more than the ring's capacity may be staged and not evicted.
    pub(crate) fn push(&mut self, item: P, parts: Parts, bytes: u64) {
        self.make_room();
        // SAFETY: there is memory now.
        let cell = unsafe { self.memory() }.cell(self.staged);
        // Relaxed, as the next ones: the commit publishes them; a consumer that reads the cell's last item still fails.
        cell.item.store(item.into_raw().as_ptr(), Ordering::Relaxed);
        cell.mask.store(parts.mask, Ordering::Relaxed);
        cell.base.store(parts.base, Ordering::Relaxed);
        cell.parts_before
            .store(self.offset.parts, Ordering::Relaxed);
        cell.bytes_before
            .store(self.offset.bytes, Ordering::Relaxed);
        self.offset.parts += u64::from(parts.mask.count_ones());
        // No more than so much, or the sum of all that waits would come round: a weigher may say that each item weighs all
        // there is.
        let bytes = bytes.min(u64::MAX / (u64::from(self.capacity) + 1));
        self.offset.bytes = self.offset.bytes.wrapping_add(bytes);
        self.staged += 1;
    }

    /// Publishes what is staged. `Ok(true)`: the consumer has requested a wake-up.
    pub(crate) fn commit(&mut self) -> Result<bool, Closed> {
        let wake_requested = self.shared.tail.commit(self.committed, self.staged)?;
        self.committed = self.staged;
        Ok(wake_requested)
    }

    /// What waits, staged items included: exact at the moment of the call.
    pub(crate) fn waiting(&mut self) -> Amount {
        let head = self.head();
        self.waiting_at(head)
    }

    /// Evicts the oldest until what waits is within `bound`, or only the item published last is left: its parts are then
    /// evicted as far as the bound on parts asks for it. `name`: ids of an item's first and last part. `gone` gets each
    /// item that went whole.
    ///
    /// Everything must be committed. Returns how many parts were evicted.
    pub(crate) fn evict(
        &mut self,
        bound: Amount,
        mut name: impl FnMut(Parts) -> (u64, u64),
        mut gone: impl FnMut(P, Parts),
    ) -> u64 {
        debug_assert!(self.staged == self.committed, "evicts what is published");
        loop {
            let head = self.head();
            let Some(target) = self.target(head, bound) else {
                return 0;
            };
            // SAFETY: something waits, so there is memory, which the producer alone replaces.
            let memory = unsafe { self.memory() };
            // The consumer leaves no run in front: so this one is ours, and no claim has told of it.
            let mut run = head.has_lost().then(|| memory.cell(head.position()).lost());
            let mut evicted = 0;
            for position in head.position()..=target.position() {
                let parts = memory.parts(position);
                let begin = if position == head.position() {
                    head.cut()
                } else {
                    0
                };
                let whole = position < target.position();
                let end = if whole {
                    parts.mask.count_ones()
                } else {
                    target.cut()
                };
                evicted += u64::from(end - begin);
                if whole {
                    // With the parts of it that were cut off before, which no claim has told of.
                    let (from, to) = name(parts);
                    run = Some(extended(run, from, to, end));
                }
            }
            if let Some(run) = run
                && target.position() != head.position()
            {
                let cell = memory.cell(target.position());
                // Relaxed: the CAS below publishes them. Nobody reads them before: nothing is lost in front of this
                // cell's item yet, as far as the head says.
                cell.lost_from.store(run.from, Ordering::Relaxed);
                cell.lost_to.store(run.to, Ordering::Relaxed);
                cell.lost_count.store(run.count, Ordering::Relaxed);
            }
            // AcqRel: Release the run to whoever claims next; Acquire the consumer's last reads before we write to the
            // cells that it left. Partner: `Consumer::claim`.
            let moved = self.shared.head.compare_exchange(
                head.0,
                target.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if moved.is_err() {
                continue; // the consumer has claimed something: look again
            }
            self.gone = target.position();
            for position in head.position()..target.position() {
                let cell = memory.cell(position);
                let parts = memory.parts(position);
                // SAFETY: the CAS moved the head over this item, so it is ours; pushed by `into_raw`.
                gone(unsafe { cell.take() }, parts);
            }
            return evicted;
        }
    }

    /// Items that have left the ring, claimed or evicted.
    pub(crate) fn gone(&mut self) -> u64 {
        self.head().position()
    }

    /// Whether `commit` has something to do.
    pub(crate) fn has_staged(&self) -> bool {
        self.staged != self.committed
    }

    /// Nothing more will be published. `true`: the consumer has requested a wake-up.
    pub(crate) fn close(&self) -> bool {
        self.shared.tail.close()
    }

    fn head(&mut self) -> Head {
        // Acquire, partner `Consumer::claim`: the consumer is done with the cells in front of it.
        let head = Head(self.shared.head.load(Ordering::Acquire));
        self.gone = head.position();
        head
    }

    fn waiting_at(&self, head: Head) -> Amount {
        if head.position() == self.staged {
            return Amount::default();
        }
        // SAFETY: an item was staged, so there is memory, which the producer alone replaces.
        let cell = unsafe { self.memory() }.cell(head.position());
        let before = cell.before();
        Amount {
            parts: self.offset.parts - before.parts - u64::from(head.cut()),
            bytes: self.offset.bytes.wrapping_sub(before.bytes),
        }
    }

    /// Where the head has to be. `None`: where it is.
    fn target(&self, head: Head, bound: Amount) -> Option<Head> {
        let fits = |amount: Amount| amount.parts <= bound.parts && amount.bytes <= bound.bytes;
        let mut at = head;
        loop {
            let waiting = self.waiting_at(at);
            if waiting.parts == 0 || fits(waiting) {
                break;
            }
            // SAFETY: something waits, so there is memory, which the producer alone replaces.
            let parts = unsafe { self.memory() }.parts(at.position());
            let left = u64::from(parts.mask.count_ones() - at.cut());
            let excess = waiting.parts.saturating_sub(bound.parts);
            let last = at.position() + 1 == self.staged;
            if last || (excess < left && waiting.bytes <= bound.bytes) {
                let cut = at.cut() + excess.min(left - 1) as u32;
                at = Head::new(at.position(), at.has_lost(), cut);
                break;
            }
            at = Head::new(at.position() + 1, true, 0);
        }
        (at.0 != head.0).then_some(at)
    }

    /// Sees to it that the next cell is free.
    fn make_room(&mut self) {
        let memory = self.shared.memory.load(Ordering::Relaxed);
        // SAFETY: null, or this side's to replace, and freed at the end.
        let len = unsafe { memory.as_ref() }.map_or(0, |memory| memory.cells.len());
        if self.staged - self.gone == len as u64 {
            self.head();
            if self.staged - self.gone == len as u64 {
                self.grow(memory, len);
            }
        }
    }

    #[cold]
    fn grow(&mut self, old: *mut Memory, len: usize) {
        let len_max = (self.capacity as usize + 1).next_power_of_two();
        let new_len = if len == 0 {
            (self.first_cells as usize).min(len_max)
        } else {
            len * 2
        };
        assert!(
            new_len <= len_max,
            "no more than the capacity was pushed, and one"
        );
        let new = Memory {
            cells: (0..new_len).map(|_| Cell::empty()).collect(),
            before: old,
        };
        // SAFETY: null, or the memory up to now.
        if let Some(old) = unsafe { old.as_ref() } {
            for position in self.gone..self.staged {
                new.cell(position).copy(old.cell(position));
            }
        }
        // Release, partner `Consumer::claim`: the copies.
        self.shared
            .memory
            .store(Box::into_raw(Box::new(new)), Ordering::Release);
    }

    /// # Safety
    ///
    /// Something was pushed; the reference is not kept beyond the ring.
    unsafe fn memory<'a>(&self) -> &'a Memory {
        // SAFETY: made by the first push, and freed when both sides are gone. Relaxed: written by this side.
        unsafe { &*self.shared.memory.load(Ordering::Relaxed) }
    }
}

fn extended(run: Option<Run>, from: u64, to: u64, count: u32) -> Run {
    let count = u64::from(count);
    match run {
        None => Run {
            from,
            to,
            count,
            reason: 0,
        },
        Some(run) => Run {
            from: run.from.min(from),
            to: run.to.max(to),
            count: run.count + count,
            reason: run.reason,
        },
    }
}

impl<P: Pointer> Drop for Producer<P> {
    /// Drops what was staged and not published, and closes the ring.
    fn drop(&mut self) {
        self.close();
        for position in self.committed..self.staged {
            // SAFETY: staged, so there is memory, and the item was never published: it is ours.
            drop(unsafe { self.memory().cell(position).take::<P>() });
        }
    }
}

impl<P: Pointer> Consumer<P> {
    /// Takes what is at the front.
    pub(crate) fn claim(&mut self) -> Option<Claimed<P>> {
        loop {
            // Acquire, partner `Producer::evict`: the run in front of the item.
            let head = Head(self.shared.head.load(Ordering::Acquire));
            self.position = head.position();
            if self.position >= self.committed && !self.refresh() {
                return None;
            }
            // Acquire, partner `Producer::grow`. After the head and the tail, which say that the item is there: so this is
            // memory that has it.
            let memory = self.shared.memory.load(Ordering::Acquire);
            // SAFETY: an item is published, so there is memory; all of it is kept until both sides are gone.
            let cell = unsafe { &*memory }.cell(head.position());
            // Relaxed: acquired with the tail and the head, unless the producer has evicted the item; then the CAS fails.
            let item = cell.item.load(Ordering::Relaxed);
            let parts = cell.parts();
            let lost = head.has_lost().then(|| cell.lost());
            // AcqRel: Release our reads to the producer, which writes to the cell when it has seen the head behind it; Acquire,
            // for whoever drops the item. Partners: `Producer::head` and `Producer::evict`.
            let next = Head::new(head.position() + 1, false, 0);
            let moved = self.shared.head.compare_exchange(
                head.0,
                next.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if moved.is_ok() {
                self.position += 1;
                let item = NonNull::new(item).expect("a published item was written");
                return Some(Claimed {
                    // SAFETY: the CAS moved the head over this item, so it is ours; pushed by `into_raw`.
                    item: unsafe { P::from_raw(item) },
                    parts,
                    cut: head.cut(),
                    lost,
                });
            }
        }
    }

    /// Asks to be told by the next `commit` or `close`, and looks once more. `true`: nothing is there.
    pub(crate) fn request_wake(&mut self) -> bool {
        let tail = self.shared.tail.request_wake();
        self.saw(tail);
        self.is_empty() && !tail.is_closed()
    }

    /// Whether the ring is closed and nothing is left in it.
    pub(crate) fn is_finished(&mut self) -> bool {
        let tail = self.shared.tail.look();
        self.saw(tail);
        tail.is_closed() && self.is_empty()
    }

    /// Nothing that this side knows to be published is left.
    fn is_empty(&mut self) -> bool {
        // Relaxed: a number; whoever claims acquires.
        self.position = Head(self.shared.head.load(Ordering::Relaxed)).position();
        self.position >= self.committed
    }

    /// Looks for what was published. `true`: something waits.
    fn refresh(&mut self) -> bool {
        let tail = self.shared.tail.look();
        self.saw(tail);
        self.position < self.committed
    }

    fn saw(&mut self, tail: Published) {
        self.committed = tail.count();
    }
}

impl<P: Pointer> Drop for Consumer<P> {
    /// Drops what is published. What the producer still commits goes when the producer evicts it or goes itself.
    fn drop(&mut self) {
        while let Some(claimed) = self.claim() {
            drop(claimed);
        }
    }
}

impl<P: Pointer> Drop for Shared<P> {
    /// Drops what is published and was not claimed.
    fn drop(&mut self) {
        let committed = self.tail.count_alone();
        // Relaxed, as the next: the last owner is alone, the reference count saw to that.
        let head = Head(self.head.load(Ordering::Relaxed));
        let mut memory = self.memory.load(Ordering::Relaxed);
        for position in head.position()..committed {
            // SAFETY: an item is published, so there is memory; nobody has claimed it, and nobody else is there.
            drop(unsafe { (*memory).cell(position).take::<P>() });
        }
        while !memory.is_null() {
            // SAFETY: made by `grow`, and in the chain once; nobody else is there.
            let owned = unsafe { Box::from_raw(memory) };
            memory = owned.before;
        }
    }
}

impl Memory {
    fn cell(&self, position: u64) -> &Cell {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }

    fn parts(&self, position: u64) -> Parts {
        self.cell(position).parts()
    }
}

impl Cell {
    fn empty() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            item: AtomicPtr::new(ptr::null_mut()),
            mask: zero(),
            base: zero(),
            parts_before: zero(),
            bytes_before: zero(),
            lost_from: zero(),
            lost_to: zero(),
            lost_count: zero(),
        }
    }

    // Relaxed, all of them: see where they are called.

    fn parts(&self) -> Parts {
        Parts {
            mask: self.mask.load(Ordering::Relaxed),
            base: self.base.load(Ordering::Relaxed),
        }
    }

    fn before(&self) -> Amount {
        Amount {
            parts: self.parts_before.load(Ordering::Relaxed),
            bytes: self.bytes_before.load(Ordering::Relaxed),
        }
    }

    fn lost(&self) -> Run {
        Run {
            from: self.lost_from.load(Ordering::Relaxed),
            to: self.lost_to.load(Ordering::Relaxed),
            count: self.lost_count.load(Ordering::Relaxed),
            reason: 0,
        }
    }

    fn copy(&self, of: &Self) {
        let word = |to: &AtomicU64, from: &AtomicU64| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        self.item
            .store(of.item.load(Ordering::Relaxed), Ordering::Relaxed);
        word(&self.mask, &of.mask);
        word(&self.base, &of.base);
        word(&self.parts_before, &of.parts_before);
        word(&self.bytes_before, &of.bytes_before);
        word(&self.lost_from, &of.lost_from);
        word(&self.lost_to, &of.lost_to);
        word(&self.lost_count, &of.lost_count);
    }

    /// # Safety
    ///
    /// The item is the caller's, and not taken again.
    unsafe fn take<P: Pointer>(&self) -> P {
        let item = NonNull::new(self.item.load(Ordering::Relaxed)).expect("pushed before");
        // SAFETY: as the caller promises.
        unsafe { P::from_raw(item) }
    }
}
