//! A bounded ring with many producers and one consumer: the shared lane behind `Bus::publish`.
//!
//! After Vyukov's bounded queue: a producer claims a place by a CAS on the tail, writes, and stamps the slot.
//! There is one consumer, so a slot that is not free at the claimed place means *full*, not "wait for
//! another popper": `try_push` finishes whatever other threads do.
//!
//! | word | holds |
//! | --- | --- |
//! | tail | places claimed so far, `CLOSED` |
//! | stamp of slot `i` | `n`: free for place `n`; `n + 1`: place `n` is written; each with `WAKE_REQUESTED` |
//!
//! The sleeping protocol stands in the **stamp**: before it sleeps, the consumer sets `WAKE_REQUESTED` in the stamp of
//! the very slot that it waits for, and the producer that stamps this slot learns of it in the same swap. The
//! flag cannot stand in the tail: a place is claimed before it is written, so a consumer could request_wake
//! between the two and nobody would look at the flag again.
//!
//! Closing is a flag in the tail: a claim comes before it or fails, and what was claimed will be written.

#![allow(
    unsafe_code,
    reason = "slots move by hand; one of the rooms that ARCHITECTURE.md names"
)]

use crossbeam::utils::CachePadded;
use std::mem::MaybeUninit;

use super::spsc::Readiness;
use super::{CLOSED, WAKE_REQUESTED, count, word};
use crate::sync::{Arc, AtomicU64, Ordering, UnsafeCell};

/// A ring of `capacity` items, rounded up to a power of two from 2 to 2^31.
///
/// At least 2: with a single slot, "written for place n" and "free for place n + 1" would be one stamp.
pub(crate) fn ring<T>(capacity: usize) -> (Producers<T>, Consumer<T>) {
    assert!(
        (1..=1 << 31).contains(&capacity),
        "capacity {capacity} is not in 1..=2^31"
    );
    let len = capacity.next_power_of_two().max(2);
    let slots = (0..len as u64).map(|place| Slot {
        stamp: AtomicU64::new(word(place)),
        value: UnsafeCell::new(MaybeUninit::uninit()),
    });
    let shared = Arc::new(Shared {
        tail: CachePadded::new(AtomicU64::new(0)),
        slots: slots.collect(),
    });
    (
        Producers {
            shared: shared.clone(),
        },
        Consumer { shared, popped: 0 },
    )
}

/// The sides that push: shared by reference.
pub(crate) struct Producers<T> {
    shared: Arc<Shared<T>>,
}

/// The side that pops.
pub(crate) struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// Items taken out; each slot is free for its next place as soon as its item is out.
    popped: u64,
}

/// Why `try_push` gave the item back.
#[cfg(any(test, fuzzing))]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PushError<T> {
    /// No slot is free.
    Full(T),
    /// The ring is closed.
    Closed(T),
}

impl<T> Producers<T> {
    /// Publishes an item. `Ok(true)`: the consumer has requested a wake-up.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn try_push(&self, item: T) -> Result<bool, PushError<T>> {
        match self.try_claim() {
            Ok(claim) => Ok(claim.write(item)),
            Err(NoPlace::Full) => Err(PushError::Full(item)),
            Err(NoPlace::Closed) => Err(PushError::Closed(item)),
        }
    }

    /// Claims the next place. The caller writes to it at once: the consumer waits for that.
    #[inline]
    pub(crate) fn try_claim(&self) -> Result<Claim<'_, T>, NoPlace> {
        let shared = &*self.shared;
        // Relaxed: the stamp, not the tail, hands the slot over; the CAS below checks the claim.
        let mut tail = shared.tail.load(Ordering::Relaxed);
        loop {
            if tail & CLOSED != 0 {
                return Err(NoPlace::Closed);
            }
            let place = count(tail);
            let slot = shared.slot(place);
            // Acquire, partner `Consumer::pop`: the last item is out of the slot.
            let free = count(slot.stamp.load(Ordering::Acquire)) == place;
            if !free {
                // Relaxed: only asks whether our view of the tail is old.
                let newer = shared.tail.load(Ordering::Relaxed);
                if newer == tail {
                    return Err(NoPlace::Full);
                }
                tail = newer;
                continue;
            }
            // AcqRel, partner `Consumer::is_finished`: a claim comes before the close or fails.
            match shared.tail.compare_exchange_weak(
                tail,
                word(place + 1),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(Claim { slot, place }),
                Err(newer) => tail = newer,
            }
        }
    }
}

/// A place that was claimed and is not written yet.
#[must_use = "the consumer waits for every place that was claimed"]
pub(crate) struct Claim<'a, T> {
    /// That of `place`.
    slot: &'a Slot<T>,
    place: u64,
}

impl<T> Claim<'_, T> {
    /// Publishes the item. `true`: the consumer has requested a wake-up. Nothing in here can panic
    /// before the item is in its slot, so a large item is moved straight into it.
    #[inline]
    pub(crate) fn write(self, item: T) -> bool {
        let Self { slot, place } = self;
        // SAFETY: the stamp said that the slot is free for this place, and the CAS gave the place
        // to us alone. `MaybeUninit<T>` has the layout of `T`. (`MaybeUninit::write` would hold
        // another copy of a large item on the stack.)
        slot.value
            .with_mut(|value| unsafe { value.cast::<T>().write(item) });
        // AcqRel: Release the item to `Consumer::pop`; Acquire what the sleeper did before `request_wake`.
        slot.stamp.swap(word(place + 1), Ordering::AcqRel) & WAKE_REQUESTED != 0
    }
}

/// Why there is no place to claim.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// No slot is free.
    Full,
    /// The ring is closed.
    Closed,
}

impl<T> Producers<T> {
    /// Places claimed so far. A statistic: some may still be being written.
    pub(crate) fn claimed(&self) -> u64 {
        // Acquire, partner the claim: whoever claimed before something that we know of is counted.
        count(self.shared.tail.load(Ordering::Acquire))
    }
}

impl<T> Consumer<T> {
    /// Moves the next item out and frees its slot.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        let slot = self.shared.slot(self.popped);
        // Acquire, partner `Claim::write`: the item is in the slot.
        if count(slot.stamp.load(Ordering::Acquire)) != self.popped + 1 {
            return None;
        }
        // SAFETY: the stamp says that place `popped` is written, and only we pop.
        let item = slot
            .value
            .with_mut(|value| unsafe { (*value).assume_init_read() });
        let next = self.popped + self.shared.slots.len() as u64;
        // Release, partner `try_claim`: we are done with the slot.
        slot.stamp.store(word(next), Ordering::Release);
        self.popped += 1;
        Some(item)
    }

    /// Asks to be told by the `try_push` that writes the next place, and looks once more.
    pub(crate) fn request_wake(&mut self) -> Readiness {
        let stamp = &self.shared.slot(self.popped).stamp;
        // AcqRel, partner `Claim::write`: an earlier write is seen here, a later one sees the flag.
        let old = stamp.fetch_or(WAKE_REQUESTED, Ordering::AcqRel);
        if count(old) == self.popped + 1 || self.is_finished() {
            Readiness::Ready
        } else {
            Readiness::Empty
        }
    }

    /// Nothing more can be claimed. Whatever was claimed is still to be popped.
    pub(crate) fn close(&self) {
        self.shared.close();
    }

    /// Whether the ring is closed and everything that was claimed is popped.
    pub(crate) fn is_finished(&self) -> bool {
        // Acquire, partner the claim in `try_claim`: the count is final once `CLOSED` is seen.
        let tail = self.shared.tail.load(Ordering::Acquire);
        tail & CLOSED != 0 && count(tail) == self.popped
    }

    /// Places claimed and not popped; some may still be being written.
    pub(crate) fn ready(&self) -> usize {
        // Acquire, partner the claim: whoever claimed before something that we know of is counted.
        (count(self.shared.tail.load(Ordering::Acquire)) - self.popped) as usize
    }

    /// Items popped so far.
    pub(crate) fn position(&self) -> u64 {
        self.popped
    }
}

struct Slot<T> {
    stamp: AtomicU64,
    value: UnsafeCell<MaybeUninit<T>>,
}

struct Shared<T> {
    tail: CachePadded<AtomicU64>,
    slots: Box<[Slot<T>]>,
}

// SAFETY: a slot's value is touched by the producer that claimed its place, between the claim and the stamp, and
// by the one consumer, between that stamp and its own; stamps change hands by Release and Acquire. So
// sharing the ring only moves `T`s between threads.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    #[inline(always)]
    fn slot(&self, place: u64) -> &Slot<T> {
        &self.slots[place as usize & (self.slots.len() - 1)]
    }

    fn close(&self) {
        // AcqRel, partner the claim in `try_claim`.
        self.tail.fetch_or(CLOSED, Ordering::AcqRel);
    }
}

impl<T> Drop for Shared<T> {
    /// Drops what was never popped.
    fn drop(&mut self) {
        let len = self.slots.len() as u64;
        for (index, slot) in self.slots.iter().enumerate() {
            // Relaxed: the last owner is alone, the reference count saw to that. A free slot's stamp is its index
            // modulo the length, a written one's is one more.
            if count(slot.stamp.load(Ordering::Relaxed)) % len != index as u64 {
                // SAFETY: written and never popped, as said; the exclusive borrow says that nobody else is left.
                slot.value
                    .with_mut(|value| unsafe { (*value).assume_init_drop() });
            }
        }
    }
}
