//! A bounded ring with one producer and one consumer, after rtrb and FastForward, with one twist:
//! **each side's counter carries the other side's flags**.
//!
//! ```text
//! tail word = items pushed so far   | CLOSED | ASLEEP     written by the producer, by one CAS
//! head word = items released so far         | ASLEEP     written by the consumer, by one add
//! ```
//!
//! Before it sleeps, the consumer sets `ASLEEP` in the *tail* word; the producer's next
//! [`commit`](Producer::commit) publishes its items, clears the flag and learns that it was set, in one
//! compare-and-swap. So a push can never fall between a sleeper's last look and its sleep: on one atomic,
//! there is no "between". The same holds for room, with the *head* word. Closing is a flag of the same
//! word, so an item is either published before the close or handed back.
//!
//! | who | step | race that it closes |
//! | --- | --- | --- |
//! | producer | `commit`: CAS tail `n, f` to `n + k, no flag` | fails if `CLOSED`: nothing was published |
//! | consumer | `doze`: `fetch_or(ASLEEP)` on tail, look at the counter returned | a commit before it is seen, one after it sees the flag |
//! | consumer | `release`: `fetch_add` on head, look at the flag returned | a producer that dozed before it is woken |
//! | producer | `doze`: `fetch_or(ASLEEP)` on head, look at the counter returned | a release after it sees the flag |
//! | anybody | `close`: `fetch_or(CLOSED)` on tail | see `commit` |
//!
//! The price is a locked instruction per commit: 5 ns on the 2-core machine of 2026-11-21, where a plain
//! store ran at 130 M/s and the CAS at 110 M/s through a ring of 1,024 items of 96 bytes, and a store
//! with a `SeqCst` fence, which is what a separate flag needs, at 108 M/s.
//!
//! Slots are allocated at the first push: an idle ring is two cache lines and a few words.

#![allow(
    unsafe_code,
    reason = "slots move by hand; one of the rooms that ARCHITECTURE.md names"
)]

use crossbeam::utils::CachePadded;
use std::mem::MaybeUninit;

use super::{ASLEEP, CLOSED, FLAG_BITS, count, word};
use crate::sync::{Arc, AtomicU64, Ordering, UnsafeCell};

/// A ring of `capacity` items, 1 to 2^31.
pub(crate) fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(
        (1..=1 << 31).contains(&capacity),
        "capacity {capacity} is not in 1..=2^31"
    );
    let shared = Arc::new(Shared {
        tail: CachePadded::new(AtomicU64::new(0)),
        head: CachePadded::new(AtomicU64::new(0)),
        slots: UnsafeCell::new(Box::default()),
        capacity: capacity as u64,
    });
    let producer = Producer {
        shared: shared.clone(),
        staged: 0,
        committed: 0,
        released: 0,
    };
    let consumer = Consumer {
        shared,
        popped: 0,
        released: 0,
        committed: 0,
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
}

/// `commit` found the ring closed: what was staged since the last commit stays staged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// What a consumer that is about to sleep has seen, in the step that said so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Doze {
    /// There is something to do: don't sleep. The other side may still wake, once, for nothing.
    Ready,
    /// Nothing; whoever changes that will be told to wake.
    Asleep,
}

impl<T> Producer<T> {
    /// Stages an item: it is in its slot, and not yet visible. Full: the item comes back.
    #[inline]
    pub(crate) fn push(&mut self, item: T) -> Result<(), T> {
        if self.staged - self.released == self.shared.capacity && self.room() == 0 {
            return Err(item);
        }
        if self.staged == 0 {
            self.shared.allocate();
        }
        // SAFETY: `released <= staged < released + capacity`, so the slot is not committed and its last
        // item was popped and released: it is this producer's alone, and empty.
        self.shared
            .slot(self.staged)
            .with_mut(|slot| unsafe { (*slot).write(item) });
        self.staged += 1;
        Ok(())
    }

    /// Takes back the item staged last, if it is not published.
    pub(crate) fn unstage(&mut self) -> Option<T> {
        if self.staged == self.committed {
            return None;
        }
        self.staged -= 1;
        // SAFETY: staged by `push` and never committed, so it is initialised and this producer's alone;
        // `staged` went down, so nobody reads it again.
        Some(
            self.shared
                .slot(self.staged)
                .with_mut(|slot| unsafe { (*slot).assume_init_read() }),
        )
    }

    /// Publishes what is staged, possibly nothing. `Ok(true)`: the consumer is asleep, wake it.
    #[inline]
    pub(crate) fn commit(&mut self) -> Result<bool, Closed> {
        let new = word(self.staged);
        let mut current = word(self.committed);
        loop {
            // Release: the items go with the counter; Acquire: what the sleeper did before it dozed.
            // Partners: `Consumer::refresh` and `Consumer::doze`.
            match self.shared.tail.compare_exchange(
                current,
                new,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(old) => {
                    self.committed = self.staged;
                    return Ok(old & ASLEEP != 0);
                }
                Err(actual) if actual & CLOSED != 0 => return Err(Closed),
                Err(actual) => current = actual,
            }
        }
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
    pub(crate) fn doze(&mut self) {
        // AcqRel, partner `Consumer::release`: an earlier release is seen here, a later one sees the flag.
        self.released = count(self.shared.head.fetch_or(ASLEEP, Ordering::AcqRel));
    }

    /// Takes back the wish of `doze`. `true`: the flag was still there, so nobody will wake for it.
    pub(crate) fn rouse(&mut self) -> bool {
        self.shared.rouse_producer()
    }

    /// Nothing more will be published. `true`: the consumer is asleep, wake it.
    pub(crate) fn close(&self) -> bool {
        self.shared.close()
    }
}

impl<T> Drop for Producer<T> {
    /// Drops what was staged and not published, and closes the ring.
    fn drop(&mut self) {
        // First, since the drop of an item may panic.
        self.close();
        while let Some(item) = self.unstage() {
            drop(item);
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
        // SAFETY: `popped < committed`: published by Release, seen by Acquire in `refresh`, and not popped
        // before; `popped` goes up, so nobody reads it again.
        let item = self
            .shared
            .slot(self.popped)
            .with_mut(|slot| unsafe { (*slot).assume_init_read() });
        self.popped += 1;
        Some(item)
    }

    /// Gives the slots of popped items back. `true`: the producer asked to be told; the wish stands until
    /// [`rouse`](Consumer::rouse) takes it, so that the consumer may let more room gather first.
    #[inline]
    pub(crate) fn release(&mut self) -> bool {
        let freed = self.popped - self.released;
        self.released = self.popped;
        // Release: we are done with the slots, and with whatever we wrote before; Acquire: what the
        // producer wrote before it dozed. Partners: `Producer::room` and `Producer::doze`.
        let old = self
            .shared
            .head
            .fetch_add(freed << FLAG_BITS, Ordering::AcqRel);
        old & ASLEEP != 0
    }

    /// Takes the producer's wish to be woken. `true`: it is the caller's to wake it.
    pub(crate) fn rouse(&mut self) -> bool {
        self.shared.rouse_producer()
    }

    /// Items that can be popped, looked up afresh.
    #[inline]
    pub(crate) fn refresh(&mut self) -> usize {
        // Acquire: the items are in their slots. Partner: `Producer::commit`.
        self.committed = count(self.shared.tail.load(Ordering::Acquire));
        (self.committed - self.popped) as usize
    }

    /// Asks to be told by the next `commit` or `close`, and looks once more.
    pub(crate) fn doze(&mut self) -> Doze {
        // AcqRel, partner `Producer::commit`: an earlier commit is seen here, a later one sees the flag.
        let old = self.shared.tail.fetch_or(ASLEEP, Ordering::AcqRel);
        self.committed = count(old);
        if self.committed != self.popped || old & CLOSED != 0 {
            Doze::Ready
        } else {
            Doze::Asleep
        }
    }

    /// Whether the ring is closed and everything in it was popped.
    pub(crate) fn is_finished(&mut self) -> bool {
        // Acquire: all that was published before the close. Partner: `Shared::close`.
        let tail = self.shared.tail.load(Ordering::Acquire);
        self.committed = count(tail);
        tail & CLOSED != 0 && self.committed == self.popped
    }

    /// Nothing more will be published; what is published stays to be popped.
    pub(crate) fn close(&self) {
        self.shared.close();
    }

    /// The place of the next item to pop, counted from the ring's birth.
    pub(crate) fn position(&self) -> u64 {
        self.popped
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

type Slot<T> = UnsafeCell<MaybeUninit<T>>;

struct Shared<T> {
    tail: CachePadded<AtomicU64>,
    head: CachePadded<AtomicU64>,
    /// Empty until the producer's first push; then `capacity` rounded up to a power of two, for good.
    slots: UnsafeCell<Box<[Slot<T>]>>,
    /// 1 to 2^31 items.
    capacity: u64,
}

// SAFETY: a slot is touched by one side at a time: the producer owns the slots of
// `released .. released + capacity` that are not committed, the consumer those that are committed and
// not released; both counters change hands by Release and Acquire. So sharing only moves `T`s.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    /// Makes the slots. Called by the producer alone, before its first commit.
    #[cold]
    fn allocate(&self) {
        let len = self.capacity.next_power_of_two() as usize;
        let slots = (0..len)
            .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
            .collect();
        // SAFETY: nothing was ever committed, so the consumer has looked at no slot, and will only after
        // it acquired a commit that comes after this.
        self.slots.with_mut(|all| unsafe { *all = slots });
    }

    #[inline(always)]
    fn slot(&self, index: u64) -> &Slot<T> {
        self.slots.with(|all| {
            // SAFETY: written once, in `allocate`, before the first commit; both callers come after it:
            // the producer in program order, the consumer through `committed`.
            let all = unsafe { &*all };
            &all[index as usize & (all.len() - 1)]
        })
    }

    fn close(&self) -> bool {
        // AcqRel: partners `Consumer::is_finished` and `Consumer::doze`.
        self.tail.fetch_or(CLOSED, Ordering::AcqRel) & ASLEEP != 0
    }

    fn rouse_producer(&self) -> bool {
        // AcqRel: exactly one side sees the flag go; it also sees what the other wrote before.
        // Partner: the other side's `rouse`.
        self.head.fetch_and(!ASLEEP, Ordering::AcqRel) & ASLEEP != 0
    }
}

impl<T> Drop for Shared<T> {
    /// Drops what was published after the consumer had gone.
    fn drop(&mut self) {
        // Relaxed: the last owner is alone, the reference count saw to that.
        let tail = count(self.tail.load(Ordering::Relaxed));
        let head = count(self.head.load(Ordering::Relaxed));
        for index in head..tail {
            // SAFETY: committed and never popped: a dropped consumer released all that it had popped. The
            // exclusive borrow says that both sides are gone.
            self.slot(index)
                .with_mut(|slot| unsafe { (*slot).assume_init_drop() });
        }
    }
}
