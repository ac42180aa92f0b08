//! Threads and tasks that wait for the end of a subscription.
//!
//! Most subscriptions have no such waiter, so the list is made when the first one registers. A
//! waiter has a place in the list, which it gives back when it no longer waits: a future that is
//! dropped leaves no waker behind.
//!
//! **No wake-up is missed.** The waiter and the thread that ends the feed meet at the word that
//! says how the feed ended, and both access it by a read-modify-write:
//!
//! | waiter | thread that ends the feed |
//! | --- | --- |
//! | 1. puts its waker into the list | 1. writes the end |
//! | 2. reads the end | 2. takes the list and wakes |
//! | 3. no end: waits | |
//!
//! Either the waiter's second step sees the end, or the other thread's second step sees the waker.
//! The same holds for an end that is not written here (the bus closes): the thread that closes
//! sets its flag, then touches this word, and the waiter reads the flag after its second step.
//!
//! **A shard never waits for this lock.** It only tries to take it. If another thread has the lock,
//! that thread reads the end after it has released the lock, and then wakes the waiters itself.

use std::task::Waker;

use super::{End, FeedShared};
use crate::dispatch::loss::Gap;
use crate::park::wake;
use crate::sync::{Mutex, Ordering};

/// The wakers of those who wait for one feed to end.
pub(super) struct EndWaiters {
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    /// `None`: the place is free.
    wakers: Vec<Option<Waker>>,
    /// The free places, each once.
    free: Vec<usize>,
}

impl EndWaiters {
    fn new() -> Self {
        Self {
            places: Mutex::new(Places::default()),
        }
    }
}

impl Places {
    /// Puts the waker into that place, or, without a place, into a free one. Returns the place, and
    /// the waker that was there before.
    fn put(&mut self, place: Option<usize>, waker: Waker) -> (usize, Option<Waker>) {
        let place = place.or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.wakers.push(None);
            self.wakers.len() - 1
        });
        // The list was taken since the waiter got its place: the feed has ended, so the waiter
        // looks again and finds that. It may go without a waker.
        let slot = self.wakers.get_mut(place);
        (place, slot.and_then(|slot| slot.replace(waker)))
    }

    fn remove(&mut self, place: usize) -> Option<Waker> {
        let waker = self.wakers.get_mut(place)?.take()?;
        self.free.push(place);
        debug_assert!(self.free.len() <= self.wakers.len());
        Some(waker)
    }

    fn take_all(&mut self) -> Vec<Option<Waker>> {
        self.free.clear();
        std::mem::take(&mut self.wakers)
    }
}

impl FeedShared {
    /// Has `waker` woken when the feed ends, in the place that the waiter has already, or in a new
    /// one; returns the place. The caller looks once more afterwards whether it has ended.
    ///
    /// The place is given back with [`forget_end_waiter`](Self::forget_end_waiter).
    pub(crate) fn register_end_waiter(&self, place: Option<usize>, waker: &Waker) -> usize {
        let waiters = self.end_waiters.get_or_init(EndWaiters::new);
        // A waker is user code: it is cloned and dropped without the lock.
        let waker = waker.clone();
        let mut places = waiters.places.lock();
        self.step_of_a_model();
        let (place, before) = places.put(place, waker);
        drop(places);
        drop(before);
        self.wake_end_waiters_if_ended();
        place
    }

    /// The waiter no longer waits, and gives its place back.
    pub(crate) fn forget_end_waiter(&self, place: usize) {
        let Some(waiters) = self.end_waiters.get() else {
            return;
        };
        let mut places = waiters.places.lock();
        self.step_of_a_model();
        let waker = places.remove(place);
        drop(places);
        drop(waker);
        self.wake_end_waiters_if_ended();
    }

    /// Wakes those who wait for the end, though it is not written here: the bus closes. The caller
    /// has set its flag.
    pub(crate) fn wake_end_waiters(&self) {
        self.order_end();
        if let Some(waiters) = self.end_waiters.get() {
            let wakers = waiters.places.lock().take_all();
            wakers.into_iter().flatten().for_each(wake);
        }
    }

    /// Whether `wake_end_waiters` has something to do. The caller has set its flag.
    pub(crate) fn has_end_waiters(&self) -> bool {
        self.order_end();
        self.end_waiters.get().is_some()
    }

    /// The end was just written: wakes those who wait for it, without waiting for the lock.
    pub(super) fn end_was_written(&self) {
        let Some(waiters) = self.end_waiters.get() else {
            return;
        };
        let Some(mut places) = waiters.places.try_lock() else {
            return; // the holder of the lock reads the end after it has released it
        };
        let wakers = places.take_all();
        drop(places);
        wakers.into_iter().flatten().for_each(wake);
    }

    /// After the lock was released: whoever wrote the end meanwhile has not waited for it.
    fn wake_end_waiters_if_ended(&self) {
        if self.order_end() != End::None {
            self.end_was_written();
        }
    }

    /// Reads the end by a read-modify-write that changes nothing, so that this step and the one
    /// that writes the end have an order.
    fn order_end(&self) -> End {
        // AcqRel, partner `finish`, and this line on other threads: what came before it there is
        // visible behind it here, or the other way round.
        End::from_word(self.status.end.fetch_or(0, Ordering::AcqRel))
    }

    /// A place inside the lock where a model may change threads: loom changes them at atomics
    /// alone.
    #[inline(always)]
    fn step_of_a_model(&self) {
        #[cfg(loom)]
        self.status.end.load(Ordering::Relaxed);
    }

    /// What a feed that has ended as [`End::Disconnected`] had no room for.
    pub(crate) fn disconnected_by(&self) -> Option<Gap> {
        if self.end() != End::Disconnected {
            return None;
        }
        let losses = self.losses.get()?;
        Some(Gap::of_run(losses.gap.last_run()))
    }

    /// Whether the shard has closed the ring of a feed that has not ended in another way.
    pub(crate) fn is_closed(&self) -> bool {
        // In this order: what ends it otherwise is written before the shard lets it go.
        self.status.writer_gone.has_left() && matches!(self.end(), End::None | End::Closed)
    }
}
