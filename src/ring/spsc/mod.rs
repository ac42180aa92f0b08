//! A bounded ring with one producer and one consumer, after [rtrb] and [FastForward], with one
//! difference: **the counter of each side also carries the flags of the other side**.
//!
//! ```text
//! tail word = items published | CLOSED | WAKE_REQUESTED     the producer counts, by one CAS
//! head word = items released           | WAKE_REQUESTED     the consumer counts, by one add
//! ```
//!
//! Before it sleeps, the consumer sets `WAKE_REQUESTED` in the *tail* word. The producer's next
//! [`commit`](Producer::commit) publishes its items, clears the flag and returns whether it was
//! set, in one compare-and-swap. So no commit can fall between the consumer's last look and its
//! sleep: both change one atomic, and one change comes first. The same holds for a producer that
//! waits for room, with the *head* word. Closing sets a flag of the tail word, so an item is either
//! published before the close, or handed back.
//!
//! | side | step | race that it closes |
//! | --- | --- | --- |
//! | producer | `commit`: CAS tail from `n, flags` to `n + k, no flag` | it fails if `CLOSED` is set: nothing was published |
//! | consumer | `request_wake`: `fetch_or(WAKE_REQUESTED)` on tail, reads the counter returned | it sees an earlier commit; a later commit sees the flag |
//! | consumer | `release`: `fetch_add` on head, reads the flag returned | it sees an earlier request of the producer, and wakes it |
//! | producer | `request_wake`: `fetch_or(WAKE_REQUESTED)` on head, reads the counter returned | it sees an earlier release; a later release sees the flag |
//! | either | `close`: `fetch_or(CLOSED)` on tail | see `commit` |
//!
//! The price is one locked instruction per commit: 5 ns on the 2-core machine of 2026-11-21.
//! Through a ring of 1,024 items of 96 bytes, a plain store ran at 130 M items/s and the CAS at 110
//! M/s. A store with a `SeqCst` fence, which a separate flag would need, ran at 108 M/s.
//!
//! # Growth
//!
//! A ring allocates [`FIRST_SLOTS`] slots at the first push. A ring that is full below its capacity
//! adds a segment of twice as many: see [`segment`](super::segment). A ring never shrinks, so it
//! allocates nothing in a steady state. The ring of a reader that keeps up stays small, and stays
//! in the cache: if 1,024 subscribers had slots for their whole capacities, these would be a
//! working set of many megabytes, and each push would be a cache miss. Growth takes no further
//! synchronisation:
//!
//! | side | step | why the other side sees it in time |
//! | --- | --- | --- |
//! | producer | `grow`: links the new segment to the old one, then counts it in `grown` | before it commits an item in the new segment |
//! | consumer | whenever it reads the tail: if `grown` has changed, it notes where its segment ends | it sees the link together with the item behind it |
//! | consumer | `pop` at that position: enters the next segment, frees the old one | the producer does not go back there: it unstages no item that is committed |
//!
//! [rtrb]: https://docs.rs/rtrb
//! [FastForward]: https://doi.org/10.1145/1345206.1345215 "J. Giacomoni, T. Moseley, M. Vachharajani, FastForward for Efficient Pipeline Parallelism, PPoPP 2008"

#![allow(
    unsafe_code,
    reason = "slots are moved by hand; ARCHITECTURE.md lists this module"
)]

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr;

use crate::ring::segment::{NO_POSITION, SEGMENTS_MAX, Segment, SegmentList, Slots};
use crate::ring::tail::TailWord;
pub(crate) use crate::ring::tail::{Closed, Readiness};
use crate::ring::{Consume, FLAG_BITS, Front, WAKE_REQUESTED, count};
use crate::sync::{Arc, AtomicU32, AtomicU64, CACHE_LINE, Ordering};

/// Slots of a ring's first segment.
const FIRST_SLOTS: usize = 16;

/// A ring for up to `capacity` items, 1 to 2^31.
pub(crate) fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    ring_with_first_slots(FIRST_SLOTS, capacity)
}

/// A ring whose first segment has `first_slots` slots: a power of two, up to 2^31.
pub(in crate::ring) fn ring_with_first_slots<T>(
    first_slots: usize,
    capacity: usize,
) -> (Producer<T>, Consumer<T>) {
    assert!(
        (1..=1 << 31).contains(&capacity),
        "capacity {capacity} is not in 1..=2^31"
    );
    debug_assert!(first_slots.is_power_of_two() && first_slots <= 1 << 31);
    let shared = Arc::new(Shared {
        tail: TailWord::new(),
        grown: AtomicU32::new(0),
        first_slots: first_slots as u32,
        segments: SegmentList::new(),
        capacity: capacity as u64,
        _padding: [0; 3],
        head: AtomicU64::new(0),
    });
    let producer = Producer {
        shared: shared.clone(),
        staged: 0,
        committed: 0,
        released: 0,
        limit: 0,
        slots: Slots::none(),
        segment: ptr::null_mut(),
    };
    let consumer = Consumer {
        shared,
        popped: 0,
        released: 0,
        committed: 0,
        segment_end: NO_POSITION,
        slots: Slots::none(),
        segment: ptr::null_mut(),
    };
    (producer, consumer)
}

/// The side that pushes.
pub(crate) struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// Items written: `committed ..= released + capacity`.
    staged: u64,
    /// Items published: the counter of the tail word, which only this side changes.
    committed: u64,
    /// Items released, as last seen: never more than the counter of the head word.
    released: u64,
    /// `staged` may rise up to here without a further look: `staged ..= released + capacity`, and
    /// not beyond the end of `segment`.
    limit: u64,
    /// The slots of `segment`.
    slots: Slots<T>,
    /// The segment of the next item, or the one before it; null before the first push.
    segment: *mut Segment<T>,
}

/// The side that pops.
pub(crate) struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// Items moved out: `released ..= committed`.
    popped: u64,
    /// Items whose slots were given back: the counter of the head word, which only this side
    /// changes.
    released: u64,
    /// Items published, as last seen: never more than the counter of the tail word, and at most
    /// `released + capacity`.
    committed: u64,
    /// Position behind the last item of `segment`, if the next segment was seen; else
    /// [`NO_POSITION`].
    segment_end: u64,
    /// The slots of `segment`.
    slots: Slots<T>,
    /// The segment of the item popped last; null before the first pop.
    segment: *mut Segment<T>,
}

// SAFETY: the pointers are to segments, which both sides share as `Shared` says.
unsafe impl<T: Send> Send for Producer<T> {}
// SAFETY: as above; the methods that take `&self` touch no slot and no segment.
unsafe impl<T: Send> Sync for Producer<T> {}
// SAFETY: as for `Producer`.
unsafe impl<T: Send> Send for Consumer<T> {}
// SAFETY: as for `Producer`.
unsafe impl<T: Send> Sync for Consumer<T> {}

impl<T> Producer<T> {
    /// Stages an item: writes it into its slot, where the consumer does not see it yet. Hands the
    /// item back if the ring is full.
    #[inline]
    pub(crate) fn push(&mut self, item: T) -> Result<(), T> {
        match self.vacant() {
            Some(vacant) => {
                vacant.stage(item);
                Ok(())
            }
            None => Err(item),
        }
    }

    /// Whether there is room for an item. `true` stays true until an item is staged.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        self.staged != self.limit || self.make_room()
    }

    /// Whether there is room for an item that needs no further look. `false` before the first push.
    #[inline(always)]
    pub(crate) fn has_known_room(&self) -> bool {
        self.staged != self.limit
    }

    /// Items that are published and not released. Always reads the head word.
    pub(crate) fn unreleased(&mut self) -> u64 {
        self.room();
        self.committed - self.released
    }

    /// The slot for the next item. `None`: the ring is full.
    #[inline]
    pub(crate) fn vacant(&mut self) -> Option<Vacant<'_, T>> {
        self.has_room().then_some(Vacant(self))
    }

    /// Takes back the item staged last, unless everything is published.
    pub(crate) fn unstage(&mut self) -> Option<T> {
        if self.staged == self.committed {
            return None;
        }
        debug_assert!(self.committed < self.staged);
        self.staged -= 1;
        // SAFETY: an item was staged, so there is a segment. The item is not committed, so the
        // consumer has left neither this segment nor, if the item is there, the previous one.
        unsafe {
            let segment = &*self.segment;
            if self.staged < segment.start {
                self.enter(segment.previous);
            }
        }
        // SAFETY: `push` wrote the item, and it was never committed, so the slot is initialised and
        // only this side uses it. `staged` has gone down, so the item is not read again.
        Some(unsafe {
            self.slots
                .slot(self.staged)
                .with_mut(|slot| (*slot).assume_init_read())
        })
    }

    /// Publishes all staged items, possibly none, and clears `WAKE_REQUESTED` in the tail word.
    /// `Ok(true)`: that flag was set, so the caller has to wake the consumer.
    #[inline]
    pub(crate) fn commit(&mut self) -> Result<bool, Closed> {
        let wake_requested = self.shared.tail.commit(self.committed, self.staged)?;
        self.committed = self.staged;
        Ok(wake_requested)
    }

    /// How many items can be pushed now. Always reads the head word.
    #[inline]
    pub(crate) fn room(&mut self) -> usize {
        // Acquire: the consumer is done with the slots. Partner: `Consumer::release`.
        self.released = count(self.shared.head.load(Ordering::Acquire));
        debug_assert!(self.released <= self.committed);
        let used = self.staged - self.released;
        debug_assert!(used <= self.shared.capacity);
        (self.shared.capacity - used) as usize
    }

    /// The position behind the item staged last, counted from the creation of the ring.
    pub(crate) fn staged_position(&self) -> u64 {
        self.staged
    }

    /// Sets `WAKE_REQUESTED` in the head word, which [`Consumer::release`] reports from now on.
    ///
    /// The caller then looks once more at the variable that the consumer writes before its release,
    /// and sleeps only if there is still nothing.
    pub(crate) fn request_wake(&mut self) {
        // AcqRel, partner `Consumer::release`: an earlier release is seen here, a later one sees
        // the flag.
        self.released = count(self.shared.head.fetch_or(WAKE_REQUESTED, Ordering::AcqRel));
    }

    /// Clears `WAKE_REQUESTED` in the head word. `true`: it was set, so the consumer will not wake
    /// this side because of it.
    pub(crate) fn take_wake_request(&mut self) -> bool {
        self.shared.take_producer_wake_request()
    }

    /// Sets `CLOSED`, after which nothing more is published. `true`: the consumer has requested a
    /// wake-up, so the caller has to wake it.
    pub(crate) fn close(&self) -> bool {
        self.shared.tail.close()
    }

    /// Drops what is staged and not committed. It is not a part of `drop`, which would then reserve
    /// stack for a large item even if nothing is staged.
    #[cold]
    #[inline(never)]
    fn drop_staged(&mut self) {
        while let Some(item) = self.unstage() {
            drop(item);
        }
    }

    /// Raises `limit` above `staged`, in the next segment if it has to. `false`: the ring is full.
    #[cold]
    fn make_room(&mut self) -> bool {
        if self.staged - self.released == self.shared.capacity && self.room() == 0 {
            return false;
        }
        // SAFETY: the consumer has not left this segment: either an item in it, or the item behind
        // it, is not committed.
        if let Some(segment) = unsafe { self.segment.as_ref() } {
            if segment.link.next_start() == self.staged {
                // All items of the next segment were unstaged: it exists already.
                // SAFETY: this side has set the link. `staged` is the first position behind it, and
                // not committed, so the consumer has not left the next segment either.
                unsafe { self.enter(segment.link.next()) };
            }
            self.raise_limit();
            if self.limit == self.staged {
                self.room();
                self.raise_limit();
            }
        }
        if self.limit == self.staged {
            self.grow();
        }
        true
    }

    /// Sets `limit` as high as `released` allows.
    fn raise_limit(&mut self) {
        // SAFETY: every caller is in a segment that the consumer has not left.
        let segment = unsafe { &*self.segment };
        // A slot is free again when the item that was in it is released. The items in front of
        // `start` were in other segments.
        let free_up_to = self.released.max(segment.start) + segment.len();
        self.limit = free_up_to
            .min(self.released + self.shared.capacity)
            .min(segment.link.next_start());
        debug_assert!(self.staged <= self.limit);
    }

    /// Continues in another segment, the next or the previous one.
    ///
    /// # Safety
    ///
    /// The segment is in the list, and the item at `staged` belongs to it.
    unsafe fn enter(&mut self, segment: *mut Segment<T>) {
        self.segment = segment;
        // SAFETY: the item at `staged` is not committed, so the consumer has not left its segment.
        self.slots = unsafe { (*segment).slots() };
        self.raise_limit();
    }

    /// Continues in a new segment, twice as long as the previous one.
    fn grow(&mut self) {
        let shared = &*self.shared;
        let len_max = shared.capacity.next_power_of_two() as usize;
        // SAFETY: as in `make_room`.
        let (len, link) = match unsafe { self.segment.as_ref() } {
            None => (
                (shared.first_slots as usize).min(len_max),
                &shared.segments.first,
            ),
            Some(last) => (2 * last.len() as usize, &last.link),
        };
        let number = self.slots.number + 1;
        debug_assert!(number <= SEGMENTS_MAX);
        debug_assert!(
            len <= len_max,
            "a segment of {len_max} slots has room for the capacity"
        );
        let next = Segment::allocate(number, len, self.staged, self.segment);
        // SAFETY: this is the producer, and `staged` is not committed.
        unsafe { link.set(next, self.staged) };
        // Relaxed: the commit publishes it.
        shared.grown.store(number, Ordering::Relaxed);
        // SAFETY: the segment was linked just now, and starts at `staged`.
        unsafe { self.enter(next) };
    }
}

/// An empty slot of a [`Producer`], for its next item: `staged` is below `limit`.
pub(crate) struct Vacant<'a, T>(&'a mut Producer<T>);

impl<T> Vacant<'_, T> {
    /// Stages an item, as [`push`](Producer::push) does. This cannot panic, so the compiler can
    /// move a large item straight into its slot.
    #[inline]
    pub(crate) fn stage(self, item: T) {
        let producer = self.0;
        debug_assert!(producer.staged < producer.limit);
        // SAFETY: `staged < limit`, so the slot is not committed, and the item that was in it
        // before was popped and released: the slot is empty, and only this side uses it. The
        // consumer has not left this segment, since the item is not committed. `MaybeUninit<T>` has
        // the layout of `T`. (`MaybeUninit::write` would keep another copy on the stack.)
        unsafe {
            producer
                .slots
                .slot(producer.staged)
                .with_mut(|slot| slot.cast::<T>().write(item))
        };
        producer.staged += 1;
    }
}

impl<T> Drop for Producer<T> {
    /// Closes the ring, and drops the items that were staged and not published.
    fn drop(&mut self) {
        // Closed first, since the drop of an item may panic.
        self.close();
        if self.staged != self.committed {
            self.drop_staged();
        }
    }
}

impl<T> Consumer<T> {
    /// Moves the next item out. The next `release` gives its slot back.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        Some(self.front()?.pop_into(|item| item))
    }

    /// Gives the slots of the popped items back. `true`: the producer has set `WAKE_REQUESTED` in
    /// the head word. The flag stays set until [`take_wake_request`](Self::take_wake_request)
    /// clears it, so that the consumer may let more room accumulate before it wakes the producer.
    #[inline]
    pub(crate) fn release(&mut self) -> bool {
        debug_assert!(self.released <= self.popped && self.popped <= self.committed);
        let freed = self.popped - self.released;
        self.released = self.popped;
        // Release: this side is done with the slots, and everything that it wrote before is
        // visible; Acquire: what the producer wrote before it requested a wake-up is visible.
        // Partners: `Producer::room` and `Producer::request_wake`.
        let old = self
            .shared
            .head
            .fetch_add(freed << FLAG_BITS, Ordering::AcqRel);
        debug_assert_eq!(count(old) + freed, self.released);
        old & WAKE_REQUESTED != 0
    }

    /// Clears `WAKE_REQUESTED` in the head word. `true`: it was set, so the caller has to wake the
    /// producer.
    pub(crate) fn take_wake_request(&mut self) -> bool {
        self.shared.take_producer_wake_request()
    }

    /// How many items can be popped now. Always reads the tail word.
    #[inline]
    pub(crate) fn refresh(&mut self) -> usize {
        let tail = self.shared.tail.load();
        self.note_committed(tail.count());
        (self.committed - self.popped) as usize
    }

    /// How many items can be popped now, and whether the ring is closed, so that no more follow.
    /// Always reads the tail word.
    #[inline]
    pub(crate) fn look(&mut self) -> (usize, bool) {
        let tail = self.shared.tail.load();
        self.note_committed(tail.count());
        ((self.committed - self.popped) as usize, tail.is_closed())
    }

    /// Sets `WAKE_REQUESTED` in the tail word, which the next `commit` or `close` reports, and
    /// looks once more whether there is an item.
    pub(crate) fn request_wake(&mut self) -> Readiness {
        let tail = self.shared.tail.request_wake();
        self.note_committed(tail.count());
        if self.committed != self.popped || tail.is_closed() {
            Readiness::Ready
        } else {
            Readiness::Empty
        }
    }

    /// Whether the ring is closed and everything in it was popped.
    pub(crate) fn is_finished(&mut self) -> bool {
        let tail = self.shared.tail.load();
        self.note_committed(tail.count());
        tail.is_closed() && self.committed == self.popped
    }

    /// Sets `CLOSED`, after which nothing more is published. What is published can still be popped.
    pub(crate) fn close(&self) {
        self.shared.tail.close();
    }

    /// The position of the next item to pop, counted from the creation of the ring.
    pub(crate) fn position(&self) -> u64 {
        self.popped
    }

    /// Notes how many items are published, as read from the tail word by Acquire.
    #[inline(always)]
    fn note_committed(&mut self, committed: u64) {
        debug_assert!(self.committed <= committed);
        debug_assert!(committed - self.released <= self.shared.capacity);
        self.committed = committed;
        // Relaxed: the producer counts a segment before it commits an item in it, and the load of
        // the tail acquired that commit.
        if self.shared.grown.load(Ordering::Relaxed) != self.slots.number {
            self.find_segment_end();
        }
    }

    #[cold]
    fn find_segment_end(&mut self) {
        // SAFETY: only this side frees the segment that it is in.
        let segment = unsafe { self.segment.as_ref() };
        let link = segment.map_or(&self.shared.segments.first, |segment| &segment.link);
        self.segment_end = link.next_start();
    }

    /// Leaves the current segment, all of whose items are popped, and frees it.
    #[cold]
    fn enter_next_segment(&mut self) {
        debug_assert!(self.popped == self.segment_end && self.popped < self.committed);
        let old = self.segment;
        // SAFETY: `popped == segment_end < committed`: the first item behind the link is committed.
        let next = unsafe {
            let link = match old.as_ref() {
                None => &self.shared.segments.first,
                Some(segment) => &segment.link,
            };
            let next = link.next();
            self.shared.segments.set_first(next);
            next
        };
        self.segment = next;
        // SAFETY: the segment is linked, and only this side frees it.
        self.slots = unsafe { (*next).slots() };
        self.segment_end = NO_POSITION;
        self.note_committed(self.committed); // the new segment may have ended already
        if !old.is_null() {
            // SAFETY: all items of the old segment are popped. The producer does not go back to it,
            // since it has committed an item behind it.
            unsafe { Segment::free(old) };
        }
    }
}

impl<T> Consume<T> for Consumer<T> {
    type Front<'a>
        = Occupied<'a, T>
    where
        T: 'a;

    #[inline]
    fn front(&mut self) -> Option<Occupied<'_, T>> {
        if self.popped == self.committed && self.refresh() == 0 {
            return None;
        }
        debug_assert!(self.popped < self.committed);
        if self.popped == self.segment_end {
            self.enter_next_segment();
        }
        Some(Occupied {
            consumer: self,
            lends: PhantomData,
        })
    }
}

/// The slot of the next item of a [`Consumer`]: `popped` is below `committed`, and lies in the
/// segment.
pub(crate) struct Occupied<'a, T> {
    consumer: &'a mut Consumer<T>,
    /// It lends the item, so it may be shared only where a `T` may.
    lends: PhantomData<&'a mut T>,
}

impl<T> Front<T> for Occupied<'_, T> {
    #[inline(always)]
    fn item(&self) -> &T {
        let consumer = &*self.consumer;
        // SAFETY: `popped < committed`: the item was published by Release and seen by Acquire. It
        // lies in `segment`, which only this side frees, and it is borrowed together with this
        // side, so that it is not popped meanwhile.
        unsafe {
            consumer
                .slots
                .slot(consumer.popped)
                .with(|slot| (*slot).assume_init_ref())
        }
    }

    /// The next `release` gives the slot back.
    #[inline(always)]
    fn pop_into<R>(self, f: impl FnOnce(T) -> R) -> R {
        /// Counts the item as popped, also if `f` panics: it was moved out.
        struct CountOnDrop<'a>(&'a mut u64);

        impl Drop for CountOnDrop<'_> {
            #[inline(always)]
            fn drop(&mut self) {
                *self.0 += 1;
            }
        }

        let consumer = self.consumer;
        // SAFETY: as in `item`. It was not popped before, and `popped` rises below, also on a
        // panic, so it is not read again.
        let item = unsafe {
            consumer
                .slots
                .slot(consumer.popped)
                .with_mut(|slot| (*slot).assume_init_read())
        };
        let _counted = CountOnDrop(&mut consumer.popped);
        f(item)
    }
}

impl<T> Drop for Consumer<T> {
    /// Drops the items that are published and not popped, and gives their slots back. Items that
    /// the producer commits later are dropped with the producer.
    fn drop(&mut self) {
        while let Some(item) = self.pop() {
            // Before the drop of the item, which may panic: `Shared::drop` must not drop it again.
            self.release();
            drop(item);
        }
        self.release();
    }
}

/// The words that the two sides write all the time lie a cache line apart. The fields between them
/// hardly ever change.
///
/// Padding each of them to 128 bytes, here and in a subscriber's counters, made a subscription
/// 1,280 bytes long instead of 224, and was not faster: 1.00 times as fast with 1 to 64 subscribers
/// on two busy cores (2026-11-22).
#[repr(C)]
struct Shared<T> {
    tail: TailWord,
    /// Segments linked so far, 0 to [`SEGMENTS_MAX`]. Written by the producer; the consumer reads
    /// it whenever it reads the tail.
    grown: AtomicU32,
    /// Slots of the first segment, unless the capacity is less: a power of two, up to 2^31.
    first_slots: u32,
    segments: SegmentList<T>,
    /// 1 to 2^31 items.
    capacity: u64,
    _padding: [u64; 3],
    /// Bits 2 to 63: items released; bit 0: `WAKE_REQUESTED`, set by the producer.
    head: AtomicU64,
}

const _: () = assert!(offset_of!(Shared<u8>, head) - offset_of!(Shared<u8>, tail) >= CACHE_LINE);

// SAFETY: one side at a time uses a slot. The producer owns the slots of the items from `committed`
// up to `released + capacity`, the consumer those from `released` up to `committed`. Both counters
// are published by Release and read by Acquire. So sharing a ring only moves `T`s between threads.
// For the segments see `segment`.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    /// Clears `WAKE_REQUESTED` in the head word. `true`: it was set.
    fn take_producer_wake_request(&self) -> bool {
        // AcqRel: exactly one side clears the flag, and sees what the other one wrote before it set
        // or tried to clear the flag. Partner: the other side's `take_wake_request`.
        self.head.fetch_and(!WAKE_REQUESTED, Ordering::AcqRel) & WAKE_REQUESTED != 0
    }
}

impl<T> Drop for Shared<T> {
    /// Drops the items that were published after the consumer had been dropped.
    fn drop(&mut self) {
        let tail = self.tail.count_exclusive();
        // Relaxed: the exclusive borrow says that every other access has happened before.
        let head = count(self.head.load(Ordering::Relaxed));
        debug_assert!(head <= tail && tail - head <= self.capacity);
        // SAFETY: both sides are dropped, since they shared the ring. The items from `head` on are
        // committed and were never popped: a consumer that is dropped has released all that it
        // popped.
        unsafe {
            self.segments.for_each(head..tail, |slot| {
                slot.with_mut(|slot| (*slot).assume_init_drop());
            });
        }
    }
}
