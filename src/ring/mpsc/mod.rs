//! A bounded ring with many producers and one consumer: the shared lane behind `Bus::publish`.
//!
//! After [Vyukov's bounded queue][v]: a producer claims a position by a CAS on the tail, writes the
//! item, and stamps the slot. Since there is one consumer, a slot that is not free for the next
//! position means that the ring is *full*, and never that another consumer has to finish first. So
//! `try_push` does not wait for other threads.
//!
//! | word | holds |
//! | --- | --- |
//! | tail | positions claimed so far, `CLOSED` |
//! | stamp of a slot | `n`: free for position `n`; `n + 1`: position `n` is written; either with `WAKE_REQUESTED` |
//!
//! Before it sleeps, the consumer sets `WAKE_REQUESTED` in the **stamp** of the very slot that it
//! waits for. The producer that stamps this slot reads and clears the flag in the same swap. The
//! flag cannot be in the tail: a position is claimed before it is written, so the consumer could
//! request a wake-up between the two, and no later step would read the flag.
//!
//! Closing sets a flag in the tail: a claim comes before it or fails, and a claimed position is
//! always written.
//!
//! [v]: https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue

#![allow(
    unsafe_code,
    reason = "slots are moved by hand; ARCHITECTURE.md lists this module"
)]

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

use std::collections::VecDeque;
use std::mem::MaybeUninit;

use crossbeam::utils::CachePadded;

use crate::ring::spsc::Readiness;
use crate::ring::{CLOSED, Consume, Front, WAKE_REQUESTED, count, word};
use crate::sync::{Arc, AtomicU64, Ordering, UnsafeCell};

/// A ring for `capacity` items, 1 to 2^31, rounded up to a power of two that is at least 2.
///
/// With a single slot, "position n is written" and "free for position n + 1" would be the same
/// stamp.
pub(crate) fn ring<T>(capacity: usize) -> (Producers<T>, Consumer<T>) {
    assert!(
        (1..=1 << 31).contains(&capacity),
        "capacity {capacity} is not in 1..=2^31"
    );
    let len = capacity.next_power_of_two().max(2);
    // Allocated in place: an item may be larger than the stack of the thread.
    let mut slots = Box::new_uninit_slice(len);
    for (position, slot) in slots.iter_mut().enumerate() {
        let slot: *mut Slot<T> = slot.as_mut_ptr();
        // SAFETY: fields of the slot, which is borrowed exclusively.
        unsafe {
            (&raw mut (*slot).stamp).write(AtomicU64::new(word(position as u64)));
            // Otherwise there is nothing to write: the cell is valid whatever is in it.
            #[cfg(loom)]
            (&raw mut (*slot).value).write(UnsafeCell::new(MaybeUninit::uninit()));
        }
    }
    let shared = Arc::new(Shared {
        tail: CachePadded::new(AtomicU64::new(0)),
        // SAFETY: every slot was written above.
        slots: unsafe { slots.assume_init() },
    });
    let producers = Producers {
        shared: shared.clone(),
    };
    (producers, Consumer { shared, popped: 0 })
}

/// The side that pushes: threads share it by reference.
pub(crate) struct Producers<T> {
    shared: Arc<Shared<T>>,
}

/// The side that pops.
pub(crate) struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// Items moved out: 0 to the positions claimed. A slot is free for its next position as soon as
    /// its item is at its new place.
    popped: u64,
}

/// Why `try_push` handed the item back.
#[cfg(any(test, fuzzing))]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PushError<T> {
    /// No slot is free.
    Full(T),
    /// The ring is closed.
    Closed(T),
}

impl<T> Producers<T> {
    /// Publishes an item: `try_claim` and `Claim::write` in one step.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn try_push(&self, item: T) -> Result<bool, PushError<T>> {
        match self.try_claim() {
            Ok(claim) => Ok(claim.write(item)),
            Err(ClaimError::Full) => Err(PushError::Full(item)),
            Err(ClaimError::Closed) => Err(PushError::Closed(item)),
        }
    }

    /// Claims the next position. The caller must write to it at once: the consumer cannot pass a
    /// position that is claimed and not written.
    #[inline]
    pub(crate) fn try_claim(&self) -> Result<Claim<'_, T>, ClaimError> {
        let shared = &*self.shared;
        // Relaxed: the stamp, not the tail, hands the slot over, and the CAS checks the claim.
        let mut tail = shared.tail.load(Ordering::Relaxed);
        loop {
            if tail & CLOSED != 0 {
                return Err(ClaimError::Closed);
            }
            let position = count(tail);
            let slot = shared.slot(position);
            // Acquire, partner `Occupied::pop_into`: the previous item is moved out of the slot.
            let free = count(slot.stamp.load(Ordering::Acquire)) == position;
            if !free {
                // Relaxed: this only checks whether our copy of the tail is outdated.
                let newer = shared.tail.load(Ordering::Relaxed);
                if newer == tail {
                    return Err(ClaimError::Full);
                }
                tail = newer;
                continue;
            }
            // AcqRel, partners `Consumer::close` and `Consumer::is_finished`: a claim comes before
            // the close or fails.
            match shared.tail.compare_exchange_weak(
                tail,
                word(position + 1),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(Claim { slot, position }),
                Err(newer) => tail = newer,
            }
        }
    }

    /// Publishes items from the front of `items`: at least one, and up to as many as there is room
    /// for. The caller repeats this for the rest. `Ok(true)`: the consumer had requested a wake-up
    /// for one of them, so the caller has to wake it. `items` must not be empty.
    ///
    /// The places are claimed together, and written at once: to take an item from a `VecDeque`
    /// cannot panic.
    pub(crate) fn try_push_batch(&self, items: &mut VecDeque<T>) -> Result<bool, ClaimError> {
        debug_assert!(!items.is_empty());
        let (first, claimed) = self.claim_range(items.len())?;
        debug_assert!(1 <= claimed && claimed <= items.len() as u64);
        let mut wake_requested = false;
        for (item, position) in items.drain(..claimed as usize).zip(first..) {
            let slot = self.shared.slot(position);
            wake_requested |= Claim { slot, position }.write(item);
        }
        Ok(wake_requested)
    }

    /// Claims up to `wanted` positions in a row. Returns the first one, and their number, at least
    /// 1. The caller must write to all of them at once.
    ///
    /// `try_claim` is the same for one position. With this loop in its place, `Bus::publish` took 7
    /// instructions more, 2 % (2026-11-27).
    fn claim_range(&self, wanted: usize) -> Result<(u64, u64), ClaimError> {
        let shared = &*self.shared;
        // Relaxed: as in `try_claim`.
        let mut tail = shared.tail.load(Ordering::Relaxed);
        loop {
            if tail & CLOSED != 0 {
                return Err(ClaimError::Closed);
            }
            let first = count(tail);
            let mut claimed = wanted.min(shared.slots.len()) as u64;
            // The consumer frees the slots in their order. So if the slot of the last position is
            // free, those before it are, too. Acquire, partner `Occupied::pop_into`: the items that
            // were in these slots are moved out.
            let is_free = |position: u64| {
                count(shared.slot(position).stamp.load(Ordering::Acquire)) == position
            };
            while claimed > 0 && !is_free(first + claimed - 1) {
                claimed /= 2;
            }
            if claimed == 0 {
                // Relaxed: this only checks whether our copy of the tail is outdated.
                let newer = shared.tail.load(Ordering::Relaxed);
                if newer == tail {
                    return Err(ClaimError::Full);
                }
                tail = newer;
                continue;
            }
            // AcqRel, partners `Consumer::close` and `Consumer::is_finished`, as in `try_claim`.
            match shared.tail.compare_exchange_weak(
                tail,
                word(first + claimed),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok((first, claimed)),
                Err(newer) => tail = newer,
            }
        }
    }

    /// Positions claimed so far. Some of them may not be written yet.
    pub(crate) fn claimed(&self) -> u64 {
        // Acquire, partner the claim in `try_claim`: a claim that happened before something that
        // the caller has seen is counted.
        count(self.shared.tail.load(Ordering::Acquire))
    }
}

/// A position that is claimed and not written yet.
#[must_use = "the consumer cannot pass a position that is claimed and not written"]
pub(crate) struct Claim<'a, T> {
    /// The slot of `position`.
    slot: &'a Slot<T>,
    position: u64,
}

impl<T> Claim<'_, T> {
    /// Publishes the item. `true`: `WAKE_REQUESTED` was set in the slot's stamp, and is cleared, so
    /// the caller has to wake the consumer. This cannot panic before the item is in its slot, so
    /// the compiler can move a large item straight into it.
    #[inline]
    pub(crate) fn write(self, item: T) -> bool {
        let Self { slot, position } = self;
        // SAFETY: the stamp said that the slot is free for this position, and the CAS gave the
        // position to this caller only. `MaybeUninit<T>` has the layout of `T`.
        // (`MaybeUninit::write` would keep another copy on the stack.)
        slot.value
            .with_mut(|value| unsafe { value.cast::<T>().write(item) });
        // AcqRel: Release the item to `Consumer::front`; Acquire what the consumer did before
        // `request_wake`.
        let old = slot.stamp.swap(word(position + 1), Ordering::AcqRel);
        debug_assert_eq!(count(old), position, "the slot was free for this position");
        old & WAKE_REQUESTED != 0
    }
}

/// Why no position can be claimed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClaimError {
    /// No slot is free.
    Full,
    /// The ring is closed.
    Closed,
}

impl<T> Consumer<T> {
    /// Moves the next item out and frees its slot.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        Some(self.front()?.pop_into(|item| item))
    }

    /// Sets `WAKE_REQUESTED` in the stamp of the next slot, which the `try_push` that writes this
    /// slot reports, and looks once more whether there is an item.
    ///
    /// [`close`](Self::close), which only this side calls, neither reads nor clears the flag.
    pub(crate) fn request_wake(&mut self) -> Readiness {
        let stamp = &self.shared.slot(self.popped).stamp;
        // AcqRel, partner `Claim::write`: an earlier write is seen here, a later one sees the
        // flag.
        let old = stamp.fetch_or(WAKE_REQUESTED, Ordering::AcqRel);
        if count(old) == self.popped + 1 || self.is_finished() {
            Readiness::Ready
        } else {
            Readiness::Empty
        }
    }

    /// Sets `CLOSED`, after which no position is claimed. What was claimed can still be popped.
    pub(crate) fn close(&self) {
        // AcqRel, partner the claim in `try_claim`.
        self.shared.tail.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Whether the ring is closed and everything that was claimed is popped.
    pub(crate) fn is_finished(&self) -> bool {
        // Acquire, partner the claim in `try_claim`: the count is final once `CLOSED` is seen.
        let tail = self.shared.tail.load(Ordering::Acquire);
        tail & CLOSED != 0 && count(tail) == self.popped
    }

    /// Positions claimed and not popped. Some of them may not be written yet.
    pub(crate) fn ready(&self) -> usize {
        // Acquire, partner the claim in `try_claim`: as in `Producers::claimed`.
        let claimed = count(self.shared.tail.load(Ordering::Acquire));
        debug_assert!(self.popped <= claimed);
        let ready = (claimed - self.popped) as usize;
        debug_assert!(ready <= self.shared.slots.len());
        ready
    }

    /// The position of the next item to pop: how many were popped so far.
    pub(crate) fn position(&self) -> u64 {
        self.popped
    }
}

impl<T> Consume<T> for Consumer<T> {
    type Front<'a>
        = Occupied<'a, T>
    where
        T: 'a;

    #[inline]
    fn front(&mut self) -> Option<Occupied<'_, T>> {
        let slot = self.shared.slot(self.popped);
        // Acquire, partner `Claim::write`: the item is in the slot.
        let stamp = count(slot.stamp.load(Ordering::Acquire));
        debug_assert!(stamp == self.popped || stamp == self.popped + 1, "{stamp}");
        (stamp == self.popped + 1).then_some(Occupied {
            slot,
            popped: &mut self.popped,
            len: self.shared.slots.len() as u64,
        })
    }
}

/// The slot of the next item of a [`Consumer`], which is written.
pub(crate) struct Occupied<'a, T> {
    /// The slot of the position `popped`.
    slot: &'a Slot<T>,
    popped: &'a mut u64,
    /// Slots of the ring.
    len: u64,
}

impl<T> Front<T> for Occupied<'_, T> {
    #[inline(always)]
    fn item(&self) -> &T {
        // SAFETY: the stamp says that position `popped` is written, and the one consumer, which is
        // borrowed, does not pop it meanwhile.
        self.slot
            .value
            .with(|value| unsafe { (*value).assume_init_ref() })
    }

    #[inline(always)]
    fn pop_into<R>(self, f: impl FnOnce(T) -> R) -> R {
        /// Frees the slot, also if `f` panics: the item was moved out.
        struct FreeOnDrop<'a, T>(Occupied<'a, T>);

        impl<T> Drop for FreeOnDrop<'_, T> {
            #[inline(always)]
            fn drop(&mut self) {
                let Occupied { slot, popped, len } = &mut self.0;
                // Release, partner `try_claim`: this side is done with the slot.
                slot.stamp.store(word(**popped + *len), Ordering::Release);
                **popped += 1;
            }
        }

        // SAFETY: the stamp says that position `popped` is written, and only this side pops. The
        // stamp changes below, also on a panic, so the item is not read again.
        let item = self
            .slot
            .value
            .with_mut(|value| unsafe { (*value).assume_init_read() });
        let _freed = FreeOnDrop(self);
        f(item)
    }
}

struct Slot<T> {
    /// Bits 2 to 63: see the table above; bit 0: `WAKE_REQUESTED`.
    stamp: AtomicU64,
    value: UnsafeCell<MaybeUninit<T>>,
}

struct Shared<T> {
    /// Bits 2 to 63: positions claimed; bit 1: `CLOSED`.
    tail: CachePadded<AtomicU64>,
    /// A power of two of them, 2 to 2^31.
    slots: Box<[Slot<T>]>,
}

// SAFETY: a value is used by the producer that has claimed its position, between the claim and the
// stamp, and by the one consumer, between that stamp and its own. Stamps are written by Release and
// read by Acquire. So sharing the ring only moves `T`s between threads.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    #[inline(always)]
    fn slot(&self, position: u64) -> &Slot<T> {
        &self.slots[position as usize & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    /// Drops the items that were never popped.
    fn drop(&mut self) {
        let len = self.slots.len() as u64;
        for (index, slot) in self.slots.iter().enumerate() {
            // Relaxed: the exclusive borrow says that every other access has happened before.
            // Modulo the length, the stamp of a free slot is its index, that of a written slot one
            // more.
            if count(slot.stamp.load(Ordering::Relaxed)) % len != index as u64 {
                // SAFETY: the slot was written and not popped; the borrow is exclusive.
                slot.value
                    .with_mut(|value| unsafe { (*value).assume_init_drop() });
            }
        }
    }
}
