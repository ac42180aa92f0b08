//! A bounded ring with one producer and one consumer, after rtrb and FastForward, with one twist:
//! **each side's counter carries the other side's flags**.
//!
//! ```text
//! tail word = items pushed so far   | CLOSED | WAKE_REQUESTED     written by the producer, by one CAS
//! head word = items released so far         | WAKE_REQUESTED     written by the consumer, by one add
//! ```
//!
//! Before it sleeps, the consumer sets `WAKE_REQUESTED` in the *tail* word; the producer's next
//! [`commit`](Producer::commit) publishes its items, clears the flag and learns that it was set, in one
//! compare-and-swap. So a push can never fall between a sleeper's last look and its sleep: on one atomic,
//! there is no "between". The same holds for room, with the *head* word. Closing is a flag of the same
//! word, so an item is either published before the close or handed back.
//!
//! | who | step | race that it closes |
//! | --- | --- | --- |
//! | producer | `commit`: CAS tail `n, f` to `n + k, no flag` | fails if `CLOSED`: nothing was published |
//! | consumer | `request_wake`: `fetch_or(WAKE_REQUESTED)` on tail, look at the counter returned | a commit before it is seen, one after it sees the flag |
//! | consumer | `release`: `fetch_add` on head, look at the flag returned | a producer that requested a wake-up before it is woken |
//! | producer | `request_wake`: `fetch_or(WAKE_REQUESTED)` on head, look at the counter returned | a release after it sees the flag |
//! | anybody | `close`: `fetch_or(CLOSED)` on tail | see `commit` |
//!
//! The price is a locked instruction per commit: 5 ns on the 2-core machine of 2026-11-21, where a plain
//! store ran at 130 M/s and the CAS at 110 M/s through a ring of 1,024 items of 96 bytes, and a store
//! with a `SeqCst` fence, which is what a separate flag needs, at 108 M/s.
//!
//! Slots come with the first push, [`FIRST_SLOTS`] of them, and a ring that is full below its capacity takes twice as
//! many: see [`segment`](super::segment). A ring never shrinks, so in a steady state nothing is allocated, and a
//! ring whose reader keeps up stays in the cache: with 1,024 subscribers, slots for their capacities would be
//! a working set of many megabytes, and a miss for each push. The consumer needs no step of its own to hear of a new
//! segment, and the producer none to see it used:
//!
//! | who | step | why it is seen in time |
//! | --- | --- | --- |
//! | producer | `grow`: links the new segment to the old one, counts it in `grown` | before it commits an item in it |
//! | consumer | whenever it sees a new tail: has `grown` changed? then it notes where its segment ends | the item behind that end came with the tail |
//! | consumer | `pop` at that end: moves over, frees the old segment | the producer unstages no item that is committed, so it does not go back there |

#![allow(
    unsafe_code,
    reason = "slots move by hand; one of the rooms that ARCHITECTURE.md names"
)]

use std::mem::offset_of;
use std::ptr;

use super::segment::{Chain, NOWHERE, Segment, Slots};
use super::tail::Tail;
pub(crate) use super::tail::{Closed, Readiness};
use super::{FLAG_BITS, WAKE_REQUESTED, count};
use crate::sync::{Arc, AtomicU32, AtomicU64, CACHE_LINE, Ordering};

/// Slots of a ring's first segment.
pub(super) const FIRST_SLOTS: usize = 16;

/// A ring of `capacity` items, 1 to 2^31.
pub(crate) fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    ring_from(FIRST_SLOTS, capacity)
}

/// A ring that begins with so many slots, a power of two.
pub(super) fn ring_from<T>(first_slots: usize, capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(
        (1..=1 << 31).contains(&capacity),
        "capacity {capacity} is not in 1..=2^31"
    );
    let shared = Arc::new(Shared {
        tail: Tail::new(),
        grown: AtomicU32::new(0),
        first_slots: first_slots as u32,
        chain: Chain::new(),
        capacity: capacity as u64,
        apart: [0; 3],
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
        segment_end: NOWHERE,
        slots: Slots::none(),
        segment: ptr::null_mut(),
    };
    (producer, consumer)
}

/// The side that pushes.
pub(crate) struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// Items written, `committed ..= committed + capacity`.
    staged: u64,
    /// Items published; the counter of the tail word, which nobody else moves.
    committed: u64,
    /// Items released, as last seen: never more than the truth.
    released: u64,
    /// Up to here `staged` may rise without a further look; at most `released + capacity`, and to
    /// the end of `segment`.
    limit: u64,
    /// Those of `segment`.
    slots: Slots<T>,
    /// Where the next item goes; null before the first.
    segment: *mut Segment<T>,
}

/// The side that pops.
pub(crate) struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// Items taken out, `released ..= committed`.
    popped: u64,
    /// Items whose slots were given back; the counter of the head word, which nobody else moves.
    released: u64,
    /// Items published, as last seen: never more than the truth.
    committed: u64,
    /// Where the items of `segment` end, if that is not beyond `committed`.
    segment_end: u64,
    /// Those of `segment`.
    slots: Slots<T>,
    /// Where the last item was; null before the first.
    segment: *mut Segment<T>,
}

// SAFETY: the pointers are to segments, which are shared as `Shared` says.
unsafe impl<T: Send> Send for Producer<T> {}
// SAFETY: as above; what a shared reference can do touches no slot.
unsafe impl<T: Send> Sync for Producer<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Consumer<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Consumer<T> {}

impl<T> Producer<T> {
    /// Stages an item: it is in its slot, and not yet visible. Full: the item comes back.
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

    /// Whether there is room for an item. `true` holds until something is staged.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        self.staged != self.limit || self.make_room()
    }

    /// The slot for the next item. `None`: the ring is full.
    #[inline]
    pub(crate) fn vacant(&mut self) -> Option<Vacant<'_, T>> {
        self.has_room().then_some(Vacant(self))
    }

    /// Takes back the item staged last, if it is not published.
    pub(crate) fn unstage(&mut self) -> Option<T> {
        if self.staged == self.committed {
            return None;
        }
        self.staged -= 1;
        // SAFETY: an item was staged, so there is a segment; the consumer has passed neither it nor the one before it, if
        // that has the item, since it has not passed the item.
        unsafe {
            let segment = &*self.segment;
            if self.staged < segment.start {
                self.enter(segment.before);
            }
        }
        // SAFETY: staged by `push` and never committed, so it is initialised and this producer's alone;
        // `staged` went down, so nobody reads it again.
        Some(unsafe {
            self.slots
                .at(self.staged)
                .with_mut(|slot| (*slot).assume_init_read())
        })
    }

    /// Publishes what is staged, possibly nothing. `Ok(true)`: the consumer has requested a wake-up.
    #[inline]
    pub(crate) fn commit(&mut self) -> Result<bool, Closed> {
        let wake_requested = self.shared.tail.commit(self.committed, self.staged)?;
        self.committed = self.staged;
        Ok(wake_requested)
    }

    /// Items that can be pushed now, looked up afresh.
    #[inline]
    pub(crate) fn room(&mut self) -> usize {
        // Acquire: the consumer is done with the slots. Partner: `Consumer::release`.
        self.released = count(self.shared.head.load(Ordering::Acquire));
        (self.shared.capacity - (self.staged - self.released)) as usize
    }

    /// The place behind the last staged item, counted from the ring's birth.
    pub(crate) fn staged_position(&self) -> u64 {
        self.staged
    }

    /// Asks to be told by `Consumer::release`. What the caller sees after this call, through any variable
    /// that the consumer wrote before its release, decides whether to sleep.
    pub(crate) fn request_wake(&mut self) {
        // AcqRel, partner `Consumer::release`: an earlier release is seen here, a later one sees the flag.
        self.released = count(self.shared.head.fetch_or(WAKE_REQUESTED, Ordering::AcqRel));
    }

    /// Takes back the wish of `request_wake`. `true`: the flag was still there, so nobody will wake for it.
    pub(crate) fn take_wake_request(&mut self) -> bool {
        self.shared.take_producer_wake_request()
    }

    /// Nothing more will be published. `true`: the consumer has requested a wake-up.
    pub(crate) fn close(&self) -> bool {
        self.shared.tail.close()
    }

    /// Apart from `drop`, which would hold a large item on the stack even where there is none.
    #[cold]
    #[inline(never)]
    fn drop_staged(&mut self) {
        while let Some(item) = self.unstage() {
            drop(item);
        }
    }

    /// Raises `limit` above `staged`, by another segment if need be. `false`: the ring is full.
    #[cold]
    fn make_room(&mut self) -> bool {
        if self.staged - self.released == self.shared.capacity && self.room() == 0 {
            return false;
        }
        // SAFETY: the consumer has not passed this segment: an item that it holds, or the one behind it, is not committed.
        if let Some(segment) = unsafe { self.segment.as_ref() } {
            if segment.link.at() == self.staged {
                // What lay behind it was unstaged: we were there before.
                // SAFETY: we set the link; nothing behind it is committed, so the next segment is there, too.
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

    /// Sets `limit` to what is known.
    fn raise_limit(&mut self) {
        // SAFETY: the callers are in a segment that the consumer has not passed.
        let segment = unsafe { &*self.segment };
        // A slot is used again when its last item was released; those in front of `start` were elsewhere.
        let free_up_to = self.released.max(segment.start) + segment.len();
        self.limit = free_up_to
            .min(self.released + self.shared.capacity)
            .min(segment.link.at());
    }

    /// Goes on, forward or back, in a segment.
    ///
    /// # Safety
    ///
    /// It is the one of `staged`, and linked.
    unsafe fn enter(&mut self, segment: *mut Segment<T>) {
        self.segment = segment;
        // SAFETY: `staged` is not committed, so the consumer has not passed it.
        self.slots = unsafe { (*segment).slots() };
        self.raise_limit();
    }

    /// Goes on in a new segment, twice as long as the one before.
    fn grow(&mut self) {
        let shared = &*self.shared;
        let len_max = shared.capacity.next_power_of_two() as usize;
        // SAFETY: as in `make_room`.
        let (len, link) = match unsafe { self.segment.as_ref() } {
            None => (
                (shared.first_slots as usize).min(len_max),
                &shared.chain.first,
            ),
            Some(last) => (2 * last.len() as usize, &last.link),
        };
        let number = self.slots.number + 1;
        debug_assert!(
            len <= len_max,
            "a segment of {len_max} holds all there can be"
        );
        let next = Segment::allocate(number, len, self.staged, self.segment);
        // SAFETY: `staged` is not committed.
        unsafe { link.set(next, self.staged) };
        // Relaxed: goes with the commit.
        shared.grown.store(number, Ordering::Relaxed);
        // SAFETY: just linked.
        unsafe { self.enter(next) };
    }
}

/// An empty slot of a [`Producer`]: `staged` is below `limit`.
pub(crate) struct Vacant<'a, T>(&'a mut Producer<T>);

impl<T> Vacant<'_, T> {
    /// Stages an item, as [`push`](Producer::push) does. Nothing in here can panic, so a large item
    /// is moved straight into its slot.
    #[inline]
    pub(crate) fn stage(self, item: T) {
        let producer = self.0;
        // SAFETY: `staged < limit`, so the slot is not committed and its last item was popped and
        // released: it is this producer's alone, and empty. The consumer has not passed this
        // segment, whose last item is yet to come. `MaybeUninit<T>` has the layout of `T`.
        // (`MaybeUninit::write` would hold another copy of a large item on the stack.)
        unsafe {
            producer
                .slots
                .at(producer.staged)
                .with_mut(|slot| slot.cast::<T>().write(item))
        };
        producer.staged += 1;
    }
}

impl<T> Drop for Producer<T> {
    /// Drops what was staged and not published, and closes the ring.
    fn drop(&mut self) {
        // First, since the drop of an item may panic.
        self.close();
        if self.staged != self.committed {
            self.drop_staged();
        }
    }
}

impl<T> Consumer<T> {
    /// Moves the next item out. Its slot is given back by the next `release`.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.popped == self.committed && self.refresh() == 0 {
            return None;
        }
        if self.popped == self.segment_end {
            self.move_over();
        }
        // SAFETY: `popped < committed`: published by Release, seen by Acquire in `saw`, and not popped before; `popped`
        // goes up, so nobody reads it again. `segment` has it, and is freed by nobody but us while we are there.
        let item = unsafe {
            self.slots
                .at(self.popped)
                .with_mut(|slot| (*slot).assume_init_read())
        };
        self.popped += 1;
        Some(item)
    }

    /// Gives the slots of popped items back. `true`: the producer asked to be told; the wish stands until
    /// [`take_wake_request`](Consumer::take_wake_request) takes it, so that the consumer may let more room gather first.
    #[inline]
    pub(crate) fn release(&mut self) -> bool {
        let freed = self.popped - self.released;
        self.released = self.popped;
        // Release: we are done with the slots, and with whatever we wrote before; Acquire: what the
        // producer wrote before it requested a wake-up. Partners: `Producer::room` and `Producer::request_wake`.
        let old = self
            .shared
            .head
            .fetch_add(freed << FLAG_BITS, Ordering::AcqRel);
        old & WAKE_REQUESTED != 0
    }

    /// Takes the producer's wish to be woken. `true`: it is the caller's to wake it.
    pub(crate) fn take_wake_request(&mut self) -> bool {
        self.shared.take_producer_wake_request()
    }

    /// Items that can be popped, looked up afresh.
    #[inline]
    pub(crate) fn refresh(&mut self) -> usize {
        let tail = self.shared.tail.look();
        self.saw(tail.count());
        (self.committed - self.popped) as usize
    }

    /// Asks to be told by the next `commit` or `close`, and looks once more.
    pub(crate) fn request_wake(&mut self) -> Readiness {
        let tail = self.shared.tail.request_wake();
        self.saw(tail.count());
        if self.committed != self.popped || tail.is_closed() {
            Readiness::Ready
        } else {
            Readiness::Empty
        }
    }

    /// Whether the ring is closed and everything in it was popped.
    pub(crate) fn is_finished(&mut self) -> bool {
        let tail = self.shared.tail.look();
        self.saw(tail.count());
        tail.is_closed() && self.committed == self.popped
    }

    /// Nothing more will be published; what is published stays to be popped.
    pub(crate) fn close(&self) {
        self.shared.tail.close();
    }

    /// The place of the next item to pop, counted from the ring's birth.
    pub(crate) fn position(&self) -> u64 {
        self.popped
    }

    /// Notes how many items are published, which the caller has acquired.
    #[inline(always)]
    fn saw(&mut self, committed: u64) {
        self.committed = committed;
        // Relaxed: the count of a segment comes with the commit of an item in it.
        if self.shared.grown.load(Ordering::Relaxed) != self.slots.number {
            self.find_segment_end();
        }
    }

    #[cold]
    fn find_segment_end(&mut self) {
        // SAFETY: nobody but us frees the segment that we are in.
        let segment = unsafe { self.segment.as_ref() };
        let link = segment.map_or(&self.shared.chain.first, |segment| &segment.link);
        self.segment_end = link.at();
    }

    /// The next item is in the next segment.
    #[cold]
    fn move_over(&mut self) {
        let old = self.segment;
        // SAFETY: `popped == segment_end < committed`: an item behind the link is committed.
        let next = unsafe {
            let link = match old.as_ref() {
                None => &self.shared.chain.first,
                Some(segment) => &segment.link,
            };
            let next = link.next();
            self.shared.chain.moved_to(next);
            next
        };
        self.segment = next;
        // SAFETY: linked, and nobody but us frees it.
        self.slots = unsafe { (*next).slots() };
        self.segment_end = NOWHERE;
        self.saw(self.committed); // it may end already
        if !old.is_null() {
            // SAFETY: all its items were popped, and the producer, who has committed an item behind it, does not go back.
            unsafe { Segment::free(old) };
        }
    }
}

impl<T> Drop for Consumer<T> {
    /// Drops what is published and not popped, and gives the slots back. What the producer commits later
    /// goes when the producer does.
    fn drop(&mut self) {
        while let Some(item) = self.pop() {
            // Before the item's drop, which may panic: whoever then drops the ring must not find the item again.
            self.release();
            drop(item);
        }
        self.release();
    }
}

/// The words that the two sides write all the time lie a cache line apart, with those in between that hardly change.
/// 128 bytes for each, here and in a subscriber's counters, took 1,280 bytes for a subscription instead of 224, and
/// were no faster: 1.00 times as fast from 1 to 64 subscribers on two busy cores (2026-11-22).
#[repr(C)]
struct Shared<T> {
    tail: Tail,
    /// Segments linked, 0 to 32. Written by the producer, and read whenever the tail is.
    grown: AtomicU32,
    /// Slots of the first segment, if the capacity is not less: a power of two.
    first_slots: u32,
    chain: Chain<T>,
    /// 1 to 2^31 items.
    capacity: u64,
    apart: [u64; 3],
    head: AtomicU64,
}

const _: () = assert!(offset_of!(Shared<u8>, head) - offset_of!(Shared<u8>, tail) >= CACHE_LINE);

// SAFETY: a slot is touched by one side at a time: the producer owns the slots of
// `released .. released + capacity` that are not committed, the consumer those that are committed and
// not released; both counters change hands by Release and Acquire. So sharing only moves `T`s. Segments: see
// `segment`.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    fn take_producer_wake_request(&self) -> bool {
        // AcqRel: exactly one side sees the flag go; it also sees what the other wrote before.
        // Partner: the other side's `take_wake_request`.
        self.head.fetch_and(!WAKE_REQUESTED, Ordering::AcqRel) & WAKE_REQUESTED != 0
    }
}

impl<T> Drop for Shared<T> {
    /// Drops what was published after the consumer had gone.
    fn drop(&mut self) {
        let tail = self.tail.count_alone();
        // Relaxed: the last owner is alone, the reference count saw to that.
        let head = count(self.head.load(Ordering::Relaxed));
        // SAFETY: committed and never popped: a dropped consumer released all that it had popped. The
        // exclusive borrow says that both sides are gone.
        unsafe {
            self.chain.for_each(head..tail, |slot| {
                slot.with_mut(|slot| (*slot).assume_init_drop());
            });
        }
    }
}
