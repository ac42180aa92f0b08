//! A ring of slots, each of which is replaced in place: a new item for a slot that waits replaces
//! the item in it, and the slot keeps its place in the order.
//!
//! ```text
//! order:   slot 3, slot 0, slot 7   an evicting ring of the filled slots, in the order of filling
//! slot 0:  item                     replaced in place, by one compare-and-swap
//! ```
//!
//! | side | step | means |
//! | --- | --- | --- |
//! | producer | `put` into a filled slot: CAS its item | the item is replaced; the slot keeps its place |
//! | producer | `put` into an empty slot: fills it, pushes it to the end of the order | the consumer sees it with the next `commit` |
//! | consumer | `pop`: claims the first slot of the order, then swaps its item for null | it gets the item that was put in last |
//! | producer | `evict`: takes the first slot out of the order, then its item | that item is lost |
//!
//! A slot is in the order once, from when it is filled until it is claimed or evicted. The side
//! that takes it out of the order empties it, even if it only drops the item. The slot stays filled
//! until then, so that side always finds an item in it. If a `put` comes between the claim and the
//! swap, it replaces the item just in time. If it comes after the swap, its CAS fails, and it fills
//! the slot as an empty one. So only the producer fills slots, and exactly one side empties each
//! filling of a slot.
//!
//! An item has to be marked with whether it replaces another one, and the consumer may take it as
//! soon as it is in the slot. So before each attempt `put` calls a function of its caller that
//! marks the item.

#![allow(
    unsafe_code,
    reason = "items change owners as raw pointers; ARCHITECTURE.md lists this module"
)]

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

use crate::ring::evicting::{self, PartSet, Pointer, Size};
use crate::ring::gap::LossRun;
use crate::ring::tail::{Closed, Readiness};
use crate::sync::{Arc, AtomicPtr, Ordering};

/// A ring with up to `capacity` filled slots, 1 to 2^31. One more may be filled until the producer
/// has evicted.
pub(crate) fn ring<P: Pointer>(capacity: usize) -> (Producer<P>, Consumer<P>) {
    let (producer, consumer) = evicting::ring(capacity);
    (Producer { order: producer }, Consumer { order: consumer })
}

/// A slot, as the producer refers to it.
pub(crate) struct Slot<P: Pointer> {
    shared: Arc<SlotShared<P>>,
    /// The user's number for it. The ring passes it to the closures of [`Producer::evict`].
    number: u32,
}

/// A slot in the order, which holds an item. If it is dropped, the item is dropped, too.
struct FilledSlot<P: Pointer>(Arc<SlotShared<P>>);

struct SlotShared<P: Pointer> {
    /// Null: the slot is empty.
    item: AtomicPtr<()>,
    /// It owns an item, which an `AtomicPtr` does not say.
    _marker: PhantomData<P>,
}

// SAFETY: the side that swaps an item out owns it; items are stored by Release, or before the
// commit of their slot, and read by Acquire. So sharing a slot only moves `P`s between threads.
unsafe impl<P: Pointer + Send> Sync for SlotShared<P> {}
// SAFETY: as above.
unsafe impl<P: Pointer + Send> Send for SlotShared<P> {}

// SAFETY: `Arc::into_raw` and `Arc::from_raw` are inverse to each other. An `Arc` may be turned
// back on another thread if `FilledSlot` is `Send`.
unsafe impl<P: Pointer> Pointer for FilledSlot<P> {
    fn into_raw(self) -> NonNull<()> {
        let raw = Arc::into_raw(self.into_shared()).cast_mut();
        NonNull::new(raw.cast()).expect("an `Arc` is not null")
    }

    unsafe fn from_raw(raw: NonNull<()>) -> Self {
        // SAFETY: from `into_raw`, and once, as the caller promises.
        Self(unsafe { Arc::from_raw(raw.cast().as_ptr()) })
    }
}

/// The side that puts items into slots.
pub(crate) struct Producer<P: Pointer> {
    order: evicting::Producer<FilledSlot<P>>,
}

/// The side that takes items out of slots.
pub(crate) struct Consumer<P: Pointer> {
    order: evicting::Consumer<FilledSlot<P>>,
}

/// A slot that the consumer has taken out of the order, and not emptied yet.
pub(crate) struct Claimed<P: Pointer>(evicting::Claimed<FilledSlot<P>>);

/// What the consumer has popped.
pub(crate) struct Popped<P> {
    pub(crate) item: P,
    /// The items that were evicted in front of it since the last one was claimed.
    pub(crate) lost: Option<LossRun>,
}

impl<P: Pointer> Producer<P> {
    /// Puts an item into a slot of this ring.
    ///
    /// Returns the item that it replaced. `None`: the slot was empty, and is in the order from now
    /// on; the next `commit` publishes it. There must be room: before the call, at most `capacity`
    /// slots are in the order.
    ///
    /// `mark` is called before the consumer can take the item, with whether it will replace another
    /// one. If it is called with `true`, and the consumer then empties the slot first, it is called
    /// once more, with `false`.
    pub(crate) fn put(
        &mut self,
        slot: &Slot<P>,
        mut item: P,
        mut mark: impl FnMut(&P, bool),
    ) -> Option<P> {
        let shared = &slot.shared;
        // Acquire, partner `SlotShared::take_item`: an empty slot was taken out of the order
        // before, so there is room for it.
        let old = shared.item.load(Ordering::Acquire);
        if !old.is_null() {
            mark(&item, true);
            let new = item.into_raw();
            // Release the new item to the consumer. On success, the old item is one that this side
            // has put there. On failure, Acquire, as above. Partner: `SlotShared::take_item`.
            match shared.item.compare_exchange(
                old,
                new.as_ptr(),
                Ordering::Release,
                Ordering::Acquire,
            ) {
                // SAFETY: `into_raw` made this pointer, and this side swapped it out.
                Ok(old) => return NonNull::new(old).map(|old| unsafe { P::from_raw(old) }),
                // SAFETY: `into_raw` made this pointer, and no other thread has seen it.
                Err(_) => item = unsafe { P::from_raw(new) },
            }
        }
        mark(&item, false);
        debug_assert!(
            shared.item.load(Ordering::Relaxed).is_null(),
            "only this side fills the slot"
        );
        // A store suffices, since the slot is empty, and only this side fills it. Relaxed: the
        // consumer does not know the slot before the commit, which publishes the item.
        shared
            .item
            .store(item.into_raw().as_ptr(), Ordering::Relaxed);
        let parts = PartSet {
            mask: 1,
            base: u64::from(slot.number),
        };
        self.order.push(FilledSlot(shared.clone()), parts, 0);
        None
    }

    /// How many slots are in the order, including those that are not committed.
    pub(crate) fn waiting(&mut self) -> u64 {
        self.order.waiting().parts
    }

    /// How many slots were taken out of the order so far, by a claim or an eviction.
    pub(crate) fn removed(&mut self) -> u64 {
        self.order.removed()
    }

    /// Publishes the slots that were filled, and clears `WAKE_REQUESTED` in the tail word of the
    /// order. `Ok(true)`: that flag was set, so the caller has to wake the consumer.
    pub(crate) fn commit(&mut self) -> Result<bool, Closed> {
        self.order.commit()
    }

    /// Whether there are slots that `commit` would publish.
    pub(crate) fn has_staged(&self) -> bool {
        self.order.has_staged()
    }

    /// Takes the oldest slots out of the order until at most `left` are in it; the last one stays.
    /// Everything must be committed.
    ///
    /// `id`: the id of the item that was last put into the slot with this number. `on_evicted` gets
    /// the items. Returns how many slots were evicted.
    pub(crate) fn evict(
        &mut self,
        left: u64,
        mut id: impl FnMut(u32) -> u64,
        mut on_evicted: impl FnMut(u32, P),
    ) -> u64 {
        debug_assert!(!self.has_staged(), "everything is committed");
        let bound = Size {
            parts: left,
            bytes: u64::MAX,
        };
        let ids = |parts: PartSet| {
            let id = id(parts.base as u32);
            (id, id)
        };
        self.order.evict(bound, ids, |filled, parts| {
            on_evicted(parts.base as u32, filled.take_item());
        })
    }

    /// Sets `CLOSED`, after which nothing more is published. `true`: the consumer has requested a
    /// wake-up, so the caller has to wake it.
    pub(crate) fn close(&self) -> bool {
        self.order.close()
    }
}

impl<P: Pointer> Consumer<P> {
    /// Takes the item out of the first slot.
    pub(crate) fn pop(&mut self) -> Option<Popped<P>> {
        self.claim().map(Claimed::take_item)
    }

    /// The first half of `pop`: takes the first slot out of the order.
    pub(crate) fn claim(&mut self) -> Option<Claimed<P>> {
        self.order.claim().map(Claimed)
    }

    /// Sets `WAKE_REQUESTED` in the tail word of the order, which the next `commit` or `close`
    /// reports, and looks once more whether there is a slot. Replacing an item in a slot reports
    /// nothing.
    pub(crate) fn request_wake(&mut self) -> Readiness {
        self.order.request_wake()
    }

    /// Whether the ring is closed and no published slot is left in it.
    pub(crate) fn is_finished(&mut self) -> bool {
        self.order.is_finished()
    }
}

impl<P: Pointer> Claimed<P> {
    /// The second half of `pop`: takes the item out of the slot, which the producer may have
    /// replaced since the claim.
    pub(crate) fn take_item(self) -> Popped<P> {
        let evicting::Claimed { item, lost, .. } = self.0;
        Popped {
            item: item.take_item(),
            lost,
        }
    }
}

impl<P: Pointer> Slot<P> {
    /// An empty slot, to be used with one ring.
    pub(crate) fn new(number: u32) -> Self {
        let shared = SlotShared {
            item: AtomicPtr::new(ptr::null_mut()),
            _marker: PhantomData,
        };
        Self {
            shared: Arc::new(shared),
            number,
        }
    }

    /// Whether the slot is empty. If so, it stays empty until the next [`put`](Producer::put).
    pub(crate) fn is_empty(&self) -> bool {
        // Acquire, partner `SlotShared::take_item`: the side that has emptied the slot is done with
        // it.
        self.shared.item.load(Ordering::Acquire).is_null()
    }
}

impl<P: Pointer> FilledSlot<P> {
    /// Takes the item out.
    fn take_item(self) -> P {
        // The slot is not dropped, since its `drop` would empty the slot once more, and the
        // producer may have filled it again by then.
        let item = self.into_shared().take_item();
        item.expect("a slot in the order holds an item")
    }

    fn into_shared(self) -> Arc<SlotShared<P>> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, and not used any more.
        unsafe { ptr::read(&this.0) }
    }
}

impl<P: Pointer> Drop for FilledSlot<P> {
    fn drop(&mut self) {
        drop(self.0.take_item());
    }
}

impl<P: Pointer> SlotShared<P> {
    /// For the side that has taken the slot out of the order: takes the item out.
    fn take_item(&self) -> Option<P> {
        // AcqRel: Acquire the item; Release the slot to the producer, which fills it again.
        // Partner: `Producer::put`.
        let item = self.item.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: `into_raw` made this pointer, and this side swapped it out.
        NonNull::new(item).map(|item| unsafe { P::from_raw(item) })
    }
}
