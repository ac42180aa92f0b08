//! How a feed ends, and the threads and tasks that wait for its end.
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

use crate::park::wake;
use crate::ring::once_box::OnceBox;
use crate::sync::{AtomicU8, Mutex, Ordering};

/// Why no more events come. The first call that ends a feed decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum End {
    /// It has not ended, or only because the ring was closed.
    None = 0,
    /// Cancelled, or the subscriber was dropped.
    Cancelled = 1,
    /// A thread of the bus panicked.
    Broken = 2,
    /// The ring was full, under `Disconnect`.
    Disconnected = 3,
    /// The bus was closed, which was reported to the subscriber behind the last event.
    Closed = 4,
}

impl End {
    #[inline]
    fn from_word(word: u8) -> Self {
        match word {
            0 => Self::None,
            1 => Self::Cancelled,
            2 => Self::Broken,
            3 => Self::Disconnected,
            _ => Self::Closed,
        }
    }
}

/// The word that says how a feed ended, and the wakers of the threads and tasks that wait for it.
pub(crate) struct EndState {
    /// An [`End`].
    word: AtomicU8,
    waiters: OnceBox<Mutex<Places>>,
}

#[derive(Default)]
struct Places {
    /// `None`: the place is free.
    wakers: Vec<Option<Waker>>,
    /// The free places, each once.
    free: Vec<usize>,
}

impl EndState {
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU8::new(End::None as u8),
            waiters: OnceBox::new(),
        }
    }

    #[inline]
    pub(super) fn get(&self) -> End {
        // Acquire, partner `write`.
        End::from_word(self.word.load(Ordering::Acquire))
    }

    /// Writes the end, unless there is one. `true`: this call has written it, and the caller wakes
    /// the waiters, with [`was_written`](Self::was_written).
    pub(super) fn write(&self, end: End) -> bool {
        debug_assert!(end != End::None);
        // AcqRel, partners `get` and `order`.
        self.word
            .compare_exchange(
                End::None as u8,
                end as u8,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Writes that the bus was closed and everything was read, unless there is an end. `false`: the
    /// feed has ended in another way. No thread is woken: those that wait for the end learned of
    /// the close before.
    pub(super) fn write_closed(&self) -> bool {
        // AcqRel, partner `write`.
        let before = self.word.compare_exchange(
            End::None as u8,
            End::Closed as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        matches!(before.map_err(End::from_word), Ok(_) | Err(End::Closed))
    }

    /// The end was just written: wakes the waiters, without waiting for the lock.
    pub(super) fn was_written(&self) {
        let Some(waiters) = self.waiters.get() else {
            return;
        };
        let Some(mut places) = waiters.try_lock() else {
            return; // the holder of the lock reads the end after it has released it
        };
        let wakers = places.take_all();
        drop(places);
        wakers.into_iter().flatten().for_each(wake);
    }

    /// Has `waker` woken when the feed ends, in the place that the waiter has already, or in a new
    /// one; returns the place. The caller looks once more afterwards whether it has ended.
    ///
    /// The place is given back with [`forget`](Self::forget).
    pub(crate) fn register(&self, place: Option<usize>, waker: &Waker) -> usize {
        let waiters = self.waiters.get_or_init(|| Mutex::new(Places::default()));
        // A waker is user code: it is cloned and dropped without the lock.
        let waker = waker.clone();
        let mut places = waiters.lock();
        self.step_of_a_model();
        let (place, before) = places.put(place, waker);
        drop(places);
        drop(before);
        self.wake_if_written();
        place
    }

    /// The waiter no longer waits, and gives its place back.
    pub(crate) fn forget(&self, place: usize) {
        let Some(waiters) = self.waiters.get() else {
            return;
        };
        let mut places = waiters.lock();
        self.step_of_a_model();
        let waker = places.remove(place);
        drop(places);
        drop(waker);
        self.wake_if_written();
    }

    /// Wakes the waiters although no end is written here, because the bus closes. The caller has
    /// set its flag.
    pub(crate) fn wake_waiters(&self) {
        self.order();
        if let Some(waiters) = self.waiters.get() {
            let wakers = waiters.lock().take_all();
            wakers.into_iter().flatten().for_each(wake);
        }
    }

    /// Whether `wake_waiters` has something to do. The caller has set its flag.
    pub(crate) fn has_waiters(&self) -> bool {
        self.order();
        self.waiters.get().is_some()
    }

    /// After the lock was released: the thread that wrote the end meanwhile did not wait for it.
    fn wake_if_written(&self) {
        if self.order() != End::None {
            self.was_written();
        }
    }

    /// Reads the end by a read-modify-write that changes nothing, so that this step and the one
    /// that writes the end have an order.
    fn order(&self) -> End {
        // AcqRel, partners `write`, and this line on other threads: of two such steps, the later
        // one sees what came before the earlier one.
        End::from_word(self.word.fetch_or(0, Ordering::AcqRel))
    }

    /// A point inside the lock at which loom may switch threads: it does so only at atomics.
    #[inline(always)]
    fn step_of_a_model(&self) {
        #[cfg(loom)]
        self.word.load(Ordering::Relaxed);
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
        // If there is no such slot, the list was taken since the waiter got its place. Then the
        // feed has ended, and the waiter finds that when it looks again, so it needs no waker.
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
