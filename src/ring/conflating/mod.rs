//! Boxes that hold one item each: what is put into a box replaces what is in it, and keeps its place.
//!
//! ```text
//! order:  box 3, box 0, box 7        an evicting ring of the boxes that are full, in the order in which they were filled
//! box 0:  item                     replaced in place, by one compare-and-swap
//! ```
//!
//! | who | step | means |
//! | --- | --- | --- |
//! | sender | `put` on a full box: CAS its item | replaced; the box keeps its place |
//! | sender | `put` on an empty box: fills it, pushes it behind the others | the receiver finds it with the next `commit` |
//! | receiver | `take`: claims the first box, then swaps its item for none | what was put last |
//! | sender | `evict`: takes the first box out of the order, then its item | lost |
//!
//! A box stands in the order once, from when it is filled until it is claimed or evicted. In between, and until the
//! receiver has swapped, it is full: so that swap always finds a item. Whoever takes it out of the order empties it, also
//! when all that is done with it is to drop it. If `put` comes between the claim and the swap, the
//! item is replaced in the last moment; if it comes after the swap, its CAS fails, and the box is filled anew. Only the
//! sender fills, and only what was claimed or evicted is emptied, by exactly one side.
//!
//! What a item has to say about what it replaced, it must say before it can be taken: so `put` asks its caller to mark it
//! for either case in turn.

#![allow(
    unsafe_code,
    reason = "items change hands as raw pointers; one of the rooms that ARCHITECTURE.md names"
)]

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

use crate::ring::evicting::{self, Amount, Parts, Pointer};
use crate::ring::gap::Run;
use crate::ring::tail::Closed;
use crate::sync::{Arc, AtomicPtr, Ordering};

/// A mailbox with up to `boxes` full boxes.
pub(crate) fn ring<P: Pointer>(boxes: usize) -> (Producer<P>, Consumer<P>) {
    let (producer, consumer) = evicting::ring(boxes);
    (Producer { order: producer }, Consumer { order: consumer })
}

/// A box, as the sender has it.
pub(crate) struct Slot<P: Pointer> {
    place: Arc<SlotShared<P>>,
    /// What the sender calls it.
    number: u32,
}

/// A box in the order. Dropped, it is emptied.
struct Full<P: Pointer>(Arc<SlotShared<P>>);

struct SlotShared<P: Pointer> {
    /// Null: empty.
    item: AtomicPtr<()>,
    owns: PhantomData<P>,
}

// SAFETY: a item is reached by its pointer, which changes hands by Release and Acquire: sharing a box moves `P`s.
unsafe impl<P: Pointer + Send> Sync for SlotShared<P> {}
// SAFETY: as above.
unsafe impl<P: Pointer + Send> Send for SlotShared<P> {}

// SAFETY: a counted pointer, turned into a raw one and back by `Arc` itself.
unsafe impl<P: Pointer> Pointer for Full<P> {
    fn into_raw(self) -> NonNull<()> {
        let raw = Arc::into_raw(self.into_place()).cast_mut();
        NonNull::new(raw.cast()).expect("an `Arc` is not null")
    }

    unsafe fn from_raw(raw: NonNull<()>) -> Self {
        // SAFETY: from `into_raw`, and once, as the caller promises.
        Self(unsafe { Arc::from_raw(raw.cast().as_ptr()) })
    }
}

/// The side that puts items into boxes.
pub(crate) struct Producer<P: Pointer> {
    order: evicting::Producer<Full<P>>,
}

/// The side that takes them.
pub(crate) struct Consumer<P: Pointer> {
    order: evicting::Consumer<Full<P>>,
}

/// A box that has left the order.
pub(crate) struct Claimed<P: Pointer>(evicting::Claimed<Full<P>>);

/// What the receiver has taken.
pub(crate) struct Taken<P> {
    pub(crate) item: P,
    /// What was evicted in front of it, since the last one.
    pub(crate) lost: Option<Run>,
}

impl<P: Pointer> Producer<P> {
    /// Puts a item into a box of this mailbox. `mark` is told whether it replaces one, before the receiver can see it; if it was told so
    /// and the receiver was quicker, it is told once more. Returns what was replaced; `None`: the box was empty, and
    /// stands in the order from the next `commit` on.
    pub(crate) fn put(
        &mut self,
        into: &Slot<P>,
        mut item: P,
        mut mark: impl FnMut(&P, bool),
    ) -> Option<P> {
        let place = &into.place;
        // Acquire, partner `SlotShared::empty`: an empty box has left the order, so there is room for it.
        let old = place.item.load(Ordering::Acquire);
        if !old.is_null() {
            mark(&item, true);
            let new = item.into_raw();
            // Release the new item to the receiver; what comes out we put there ourselves. If it fails, Acquire: as above.
            // Partner: `SlotShared::empty`.
            match place.item.compare_exchange(
                old,
                new.as_ptr(),
                Ordering::Release,
                Ordering::Acquire,
            ) {
                // SAFETY: put there by `into_raw`, and swapped out by us.
                Ok(old) => return NonNull::new(old).map(|old| unsafe { P::from_raw(old) }),
                // SAFETY: the same pointer, which nobody has seen.
                Err(_) => item = unsafe { P::from_raw(new) },
            }
        }
        mark(&item, false);
        // A store: the box is empty, and only we fill it. Relaxed: nobody finds it before the commit, which publishes it.
        place
            .item
            .store(item.into_raw().as_ptr(), Ordering::Relaxed);
        let parts = Parts {
            mask: 1,
            base: u64::from(into.number),
        };
        self.order.push(Full(place.clone()), parts, 0);
        None
    }

    /// Full boxes in the order, those included that are not committed.
    pub(crate) fn waiting(&mut self) -> u64 {
        self.order.waiting().parts
    }

    /// Boxes that ever left the order, claimed or evicted: the first so many that were filled.
    pub(crate) fn gone(&mut self) -> u64 {
        self.order.gone()
    }

    /// Publishes the boxes that were filled. `Ok(true)`: the consumer has requested a wake-up.
    pub(crate) fn commit(&mut self) -> Result<bool, Closed> {
        self.order.commit()
    }

    /// Whether `commit` has something to do.
    pub(crate) fn has_staged(&self) -> bool {
        self.order.has_staged()
    }

    /// Takes the oldest boxes out of the order until at most `left` are in it, but not the last. `name`: what the item that
    /// was put last into the box with this number is called. `gone` gets the items. Everything must be committed.
    pub(crate) fn evict(
        &mut self,
        left: u64,
        mut name: impl FnMut(u32) -> u64,
        mut gone: impl FnMut(u32, P),
    ) -> u64 {
        let bound = Amount {
            parts: left,
            bytes: u64::MAX,
        };
        let name = |parts: Parts| {
            let name = name(parts.base as u32);
            (name, name)
        };
        self.order.evict(bound, name, |full, parts| {
            gone(parts.base as u32, full.open());
        })
    }

    /// Nothing more will come. `true`: the consumer has requested a wake-up.
    pub(crate) fn close(&self) -> bool {
        self.order.close()
    }
}

impl<P: Pointer> Consumer<P> {
    /// Takes the item out of the first box.
    pub(crate) fn take(&mut self) -> Option<Taken<P>> {
        self.claim().map(Self::open)
    }

    /// The first half of `take`: the first box leaves the order.
    pub(crate) fn claim(&mut self) -> Option<Claimed<P>> {
        self.order.claim().map(Claimed)
    }

    /// The other half: its item leaves the box, which may be a later one by then.
    pub(crate) fn open(claimed: Claimed<P>) -> Taken<P> {
        let evicting::Claimed { item, lost, .. } = claimed.0;
        Taken {
            item: item.open(),
            lost,
        }
    }

    /// Asks to be told by the next `commit` or `close`, and looks once more. `true`: nothing is there.
    pub(crate) fn request_wake(&mut self) -> bool {
        self.order.request_wake()
    }

    /// Whether the mailbox is closed and nothing is left in it.
    pub(crate) fn is_finished(&mut self) -> bool {
        self.order.is_finished()
    }
}

impl<P: Pointer> Slot<P> {
    /// An empty box. It is to be used with one mailbox.
    pub(crate) fn new(number: u32) -> Self {
        let place = SlotShared {
            item: AtomicPtr::new(ptr::null_mut()),
            owns: PhantomData,
        };
        Self {
            place: Arc::new(place),
            number,
        }
    }

    /// Whether it has no item; it stays so until the next [`put`](Producer::put).
    pub(crate) fn is_empty(&self) -> bool {
        // Acquire, partner `SlotShared::empty`: whoever emptied it is done with it.
        self.place.item.load(Ordering::Acquire).is_null()
    }
}

impl<P: Pointer> Full<P> {
    /// Takes the item out. Nothing is left to be dropped, since the sender may have filled the box anew by then.
    fn open(self) -> P {
        let item = self.into_place().empty();
        item.expect("a box in the order is full")
    }

    fn into_place(self) -> Arc<SlotShared<P>> {
        let this = ManuallyDrop::new(self);
        // SAFETY: moved out of what is not dropped.
        unsafe { ptr::read(&this.0) }
    }
}

impl<P: Pointer> Drop for Full<P> {
    fn drop(&mut self) {
        drop(self.0.empty());
    }
}

impl<P: Pointer> SlotShared<P> {
    /// For whoever has taken the box out of the order.
    fn empty(&self) -> Option<P> {
        // AcqRel: Acquire the item; Release the box to the sender, who fills it anew. Partner: `Producer::put`.
        let item = self.item.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: put there by `into_raw`, and swapped out by us.
        NonNull::new(item).map(|item| unsafe { P::from_raw(item) })
    }
}
