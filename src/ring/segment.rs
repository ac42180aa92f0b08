//! The memory of a ring that grows: a list of segments, each twice as long as the one before it.
//!
//! ```text
//! SegmentList --first--> Segment of 16 --16--> Segment of 32 --97--> Segment of 64
//!                        items 0 to 15         items 16 to 96        items from 97 on
//! ```
//!
//! The position of an item is counted from the creation of the ring. It decides in which segment
//! the item lies; within the segment, the slot is the position modulo the segment's length. The
//! producer writes each link once, before it publishes the first item behind the link. When the
//! consumer comes to that item, it enters the next segment and frees the one that it has left,
//! which no thread uses any more.
//!
//! | side | step | when |
//! | --- | --- | --- |
//! | producer | [`Link::set`], once per link | before it commits the item at that position |
//! | consumer | [`Link::next`] | after it has seen that item committed |
//! | consumer | frees a segment, and makes the next one the first of the list | when it enters the next one |
//! | producer | [`Segment::previous`] | to unstage the first item of a segment: the item is not committed, so the consumer is still in an earlier segment |
//! | the last side | frees the list | when both sides are dropped |

#![allow(
    unsafe_code,
    reason = "slots are moved by hand; ARCHITECTURE.md lists this module"
)]

use std::mem::MaybeUninit;
use std::ptr;

use crate::sync::{AtomicU64, Ordering, UnsafeCell};

pub(super) type Slot<T> = UnsafeCell<MaybeUninit<T>>;

/// A segment has at most 2^31 slots, and the first at least one, so a ring has at most 32 of them.
pub(super) const SEGMENTS_MAX: u32 = 32;

/// Slots for the items from one position up to another.
pub(super) struct Segment<T> {
    /// 1 to [`SEGMENTS_MAX`].
    number: u32,
    /// A power of two of them, 1 to 2^31.
    slots: Box<[Slot<T>]>,
    /// Position of the first item.
    pub(super) start: u64,
    /// To the next segment.
    pub(super) link: Link<T>,
    /// The previous segment, null for the first. It dangles once the consumer is in this one.
    pub(super) previous: *mut Segment<T>,
}

impl<T> Segment<T> {
    /// A segment on the heap, with `len` slots, for the items from `start` on.
    pub(super) fn allocate(
        number: u32,
        len: usize,
        start: u64,
        previous: *mut Segment<T>,
    ) -> *mut Segment<T> {
        debug_assert!((1..=SEGMENTS_MAX).contains(&number), "segment {number}");
        debug_assert!(len.is_power_of_two() && len <= 1 << 31, "{len} slots");
        // Allocated in place: an item may be larger than the stack of the thread.
        #[cfg(not(loom))]
        // SAFETY: a cell of a `MaybeUninit` is valid whatever is in it.
        let slots = unsafe { Box::new_uninit_slice(len).assume_init() };
        #[cfg(loom)]
        let slots = (0..len)
            .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
            .collect();
        Box::into_raw(Box::new(Segment {
            number,
            slots,
            start,
            link: Link::new(),
            previous,
        }))
    }

    /// Frees a segment. Items in it are not dropped.
    ///
    /// # Safety
    ///
    /// The segment comes from `allocate`, and no thread uses it any more.
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

/// Where the slots of a segment are. Each side keeps a copy, so that a push and a pop touch nothing
/// but the slot.
pub(super) struct Slots<T> {
    /// Null before the first segment.
    first: *const Slot<T>,
    /// The number of slots minus one: 0 to 2^31 - 1.
    mask: u32,
    /// The segment's number, 1 to [`SEGMENTS_MAX`]; 0 before the first segment.
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

    /// The slot of an item.
    ///
    /// # Safety
    ///
    /// The slots are those of a segment, not [`none`](Self::none), and the segment is not freed
    /// while the slot is in use.
    #[inline(always)]
    pub(super) unsafe fn slot(&self, position: u64) -> &Slot<T> {
        debug_assert!(!self.first.is_null(), "there is a segment");
        // SAFETY: the mask keeps the index below the number of slots, and the segment is alive.
        unsafe { &*self.first.add((position as u32 & self.mask) as usize) }
    }
}

/// Where the next segment is, and at which position it starts.
pub(super) struct Link<T> {
    /// Position of the first item of the next segment. [`NO_POSITION`] until the link is set, which
    /// happens once.
    next_start: AtomicU64,
    next: UnsafeCell<*mut Segment<T>>,
}

/// A position that no item has.
pub(super) const NO_POSITION: u64 = u64::MAX;

impl<T> Link<T> {
    fn new() -> Self {
        Self {
            next_start: AtomicU64::new(NO_POSITION),
            next: UnsafeCell::new(ptr::null_mut()),
        }
    }

    /// Position of the first item behind the link, or [`NO_POSITION`].
    pub(super) fn next_start(&self) -> u64 {
        // Relaxed: a side that goes through the link has seen an item behind it committed, by
        // Acquire, and therefore sees this store. A side that sees it earlier does not follow the
        // link yet.
        self.next_start.load(Ordering::Relaxed)
    }

    /// Producer: links the segment `next`, whose items start at `next_start`.
    ///
    /// # Safety
    ///
    /// The caller is the producer, and no item at or behind `next_start` has been committed.
    pub(super) unsafe fn set(&self, next: *mut Segment<T>, next_start: u64) {
        debug_assert_eq!(self.next_start(), NO_POSITION, "a link is set once");
        // SAFETY: the consumer reads this after it has seen an item behind the link committed, and
        // that commit comes after this write.
        self.next.with_mut(|link| unsafe { *link = next });
        // Relaxed: the commit publishes it.
        self.next_start.store(next_start, Ordering::Relaxed);
    }

    /// The segment behind the link.
    ///
    /// # Safety
    ///
    /// The caller has set the link, or has seen an item behind it committed, or has exclusive
    /// access.
    pub(super) unsafe fn next(&self) -> *mut Segment<T> {
        // SAFETY: the one write happens before what the caller has seen, done or borrowed.
        self.next.with(|next| unsafe { *next })
    }
}

/// Owns all segments that are not freed yet.
pub(super) struct SegmentList<T> {
    /// To the segment that the consumer is in; before it has popped anything, to the first one.
    pub(super) first: Link<T>,
}

impl<T> SegmentList<T> {
    pub(super) fn new() -> Self {
        Self { first: Link::new() }
    }

    /// Consumer: it has entered `segment`.
    ///
    /// # Safety
    ///
    /// The caller is the only consumer, and has seen an item of the segment committed.
    pub(super) unsafe fn set_first(&self, segment: *mut Segment<T>) {
        // SAFETY: the producer writes this pointer once, for the first segment, before it commits
        // an item of that segment. After that commit, only the consumer uses it.
        self.first
            .next
            .with_mut(|first| unsafe { *first = segment });
    }

    /// Calls `f` for the slots of these positions.
    ///
    /// # Safety
    ///
    /// Both sides are dropped. The first position lies in the first segment of the list, or
    /// directly behind it, and an item was pushed at each position.
    pub(super) unsafe fn for_each(
        &mut self,
        positions: std::ops::Range<u64>,
        mut f: impl FnMut(&Slot<T>),
    ) {
        // SAFETY: the borrow is exclusive.
        let mut segment = unsafe { self.first.next() };
        for position in positions {
            // SAFETY: the borrow is exclusive. A pushed item has a segment, which is in the list.
            unsafe {
                while (*segment).link.next_start() == position {
                    segment = (*segment).link.next();
                }
                f((*segment).slots().slot(position));
            }
        }
    }
}

impl<T> Drop for SegmentList<T> {
    fn drop(&mut self) {
        // SAFETY: the borrow is exclusive.
        let mut segment = unsafe { self.first.next() };
        while !segment.is_null() {
            // SAFETY: the borrow is exclusive, and each segment is in one link of the list.
            segment = unsafe {
                let next = (*segment).link.next();
                Segment::free(segment);
                next
            };
        }
    }
}
