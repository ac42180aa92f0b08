//! The memory of a ring that grows: segments, each twice as long as the one before it.
//!
//! ```text
//! Chain --first--> Segment of 16 --at 16--> Segment of 32 --at 97--> Segment of 64
//!                  items 0 to 15            items 16 to 96           items from 97 on
//! ```
//!
//! An item lies in the segment that its position, counted from the ring's birth, falls into, at the position modulo
//! the segment's length. The producer writes a link once, before it publishes the first item behind it. The consumer,
//! when it comes to that item, moves over, and frees what it left: nobody else looks back by then.
//!
//! | who | touches | when |
//! | --- | --- | --- |
//! | producer | [`Link::set`], once per link | before it commits the item at that position |
//! | consumer | [`Link::next`] | after it has seen that item committed |
//! | consumer | frees a segment, and enters the next as the chain's first | when it moves over |
//! | producer | [`Segment::before`] | to unstage the first item of a segment: it is not committed, so the consumer is still in front of it |
//! | whoever is left | frees the chain | when both sides are gone |

#![allow(
    unsafe_code,
    reason = "slots move by hand; one of the rooms that ARCHITECTURE.md names"
)]

use std::mem::MaybeUninit;
use std::ptr;

use crate::sync::{AtomicU64, Ordering, UnsafeCell};

pub(super) type Slot<T> = UnsafeCell<MaybeUninit<T>>;

/// Slots for the items from one position to another.
pub(super) struct Segment<T> {
    /// From 1.
    number: u32,
    /// A power of two, up to 2^31.
    slots: Box<[Slot<T>]>,
    /// Position of its first item.
    pub(super) start: u64,
    /// To the segment behind it.
    pub(super) link: Link<T>,
    /// The segment in front of it, null for the first; it dangles once the consumer is here.
    pub(super) before: *mut Segment<T>,
}

impl<T> Segment<T> {
    /// A segment on the heap, for `len` items from `start` on.
    pub(super) fn allocate(
        number: u32,
        len: usize,
        start: u64,
        before: *mut Segment<T>,
    ) -> *mut Segment<T> {
        debug_assert!(len.is_power_of_two());
        let slots = (0..len)
            .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
            .collect();
        Box::into_raw(Box::new(Segment {
            number,
            slots,
            start,
            link: Link::new(),
            before,
        }))
    }

    /// Frees it; items in it are not dropped.
    ///
    /// # Safety
    ///
    /// It comes from `allocate`, and nobody uses it any more.
    pub(super) unsafe fn free(segment: *mut Segment<T>) {
        // SAFETY: as the caller promises.
        drop(unsafe { Box::from_raw(segment) });
    }

    pub(super) fn len(&self) -> u64 {
        self.slots.len() as u64
    }

    pub(super) fn slots(&self) -> Slots<T> {
        Slots {
            first: self.slots.as_ptr(),
            mask: (self.slots.len() - 1) as u32,
            number: self.number,
        }
    }
}

/// Where a segment's slots are: kept by each side, so that a push and a pop touch the slot alone.
pub(super) struct Slots<T> {
    /// Null: none yet.
    first: *const Slot<T>,
    mask: u32,
    /// The segment's; 0: none yet.
    pub(super) number: u32,
}

impl<T> Slots<T> {
    pub(super) fn none() -> Self {
        Self {
            first: ptr::null(),
            mask: 0,
            number: 0,
        }
    }

    /// # Safety
    ///
    /// They are those of a segment that is not freed while the slot is used.
    #[inline(always)]
    pub(super) unsafe fn at(&self, position: u64) -> &Slot<T> {
        // SAFETY: the mask keeps it within the segment, which is there.
        unsafe { &*self.first.add((position as u32 & self.mask) as usize) }
    }
}

/// Where the next segment is, and from which position on its items are.
pub(super) struct Link<T> {
    /// [`NOWHERE`] until it is set; then for good.
    at: AtomicU64,
    next: UnsafeCell<*mut Segment<T>>,
}

/// A position that no item has.
pub(super) const NOWHERE: u64 = u64::MAX;

impl<T> Link<T> {
    fn new() -> Self {
        Self {
            at: AtomicU64::new(NOWHERE),
            next: UnsafeCell::new(ptr::null_mut()),
        }
    }

    /// Position of the first item behind it, or [`NOWHERE`].
    pub(super) fn at(&self) -> u64 {
        // Relaxed: whoever is to go through it has seen an item behind it committed, by Acquire, and so sees this.
        // Seen earlier, it is only a number.
        self.at.load(Ordering::Relaxed)
    }

    /// Producer: the items from `next`'s start on are there.
    ///
    /// # Safety
    ///
    /// No item at or behind that start has been committed; the caller is the producer.
    pub(super) unsafe fn set(&self, next: *mut Segment<T>, at: u64) {
        // SAFETY: the consumer reads this after it has seen an item behind it committed, which comes after this.
        self.next.with_mut(|link| unsafe { *link = next });
        // Relaxed: goes with the commit.
        self.at.store(at, Ordering::Relaxed);
    }

    /// The segment behind it.
    ///
    /// # Safety
    ///
    /// The caller set it, or has seen an item behind it committed, or is alone with it.
    pub(super) unsafe fn next(&self) -> *mut Segment<T> {
        // SAFETY: written once, before whatever the caller has seen.
        self.next.with(|next| unsafe { *next })
    }
}

/// Owns all segments that are left.
pub(super) struct Chain<T> {
    /// To the segment that the consumer is in; before its first item, to the first one.
    pub(super) first: Link<T>,
}

impl<T> Chain<T> {
    pub(super) fn new() -> Self {
        Self { first: Link::new() }
    }

    /// Consumer: has moved over to `segment`.
    ///
    /// # Safety
    ///
    /// It has seen an item in it committed, and is the only consumer.
    pub(super) unsafe fn moved_to(&self, segment: *mut Segment<T>) {
        // SAFETY: the producer's one write, for the first segment, came before an item that was committed; from then
        // on it is the consumer's.
        self.first
            .next
            .with_mut(|first| unsafe { *first = segment });
    }

    /// Calls `f` for the slots of these positions.
    ///
    /// # Safety
    ///
    /// Both sides are gone, the first position lies in the first segment, or at its end, and all were pushed.
    pub(super) unsafe fn for_each(
        &self,
        positions: std::ops::Range<u64>,
        mut f: impl FnMut(&Slot<T>),
    ) {
        // SAFETY: nobody else is there.
        let mut segment = unsafe { self.first.next() };
        for position in positions {
            // SAFETY: a pushed item has a segment, which is in the chain; and nobody else is there.
            unsafe {
                while (*segment).link.at() == position {
                    segment = (*segment).link.next();
                }
                f((*segment).slots().at(position));
            }
        }
    }
}

impl<T> Drop for Chain<T> {
    fn drop(&mut self) {
        // SAFETY: the exclusive borrow says that nobody else is there; each segment is in one link of the chain.
        let mut segment = unsafe { self.first.next() };
        while !segment.is_null() {
            // SAFETY: as above.
            segment = unsafe {
                let next = (*segment).link.next();
                Segment::free(segment);
                next
            };
        }
    }
}
