//! How a feed ends, and the threads and tasks that wait for its end.
//!
//! Most subscriptions have no such waiter, so the [`WaitSet`] is made when the first one registers.
//! A thread that ends a feed, which may be a shard, never waits for its lock.
//!
//! **No wake-up is missed.** The waiter and the thread that ends the feed meet at the word that
//! says how the feed ended, and both access it by a read-modify-write:
//!
//! | waiter | thread that ends the feed |
//! | --- | --- |
//! | 1. makes the set if there is none, and registers | 1. writes the end |
//! | 2. touches the word | 2. notifies the set if there is one |
//! | 3. reads the end; no end: waits | |
//!
//! Either the waiter's third step sees the end, or the other thread's second step sees the set, and
//! the set's own protocol wakes the waiter. The same holds for an end that is not written here (the
//! bus closes): the thread that closes sets its flag, then touches this word, and the waiter reads
//! the flag after its second step.

use std::task::Waker;

use crate::park::{Registration, WaitSet};
use crate::ring::once_box::OnceBox;
use crate::sync::{AtomicU8, Ordering};

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
    waiters: OnceBox<WaitSet>,
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
        if let Some(waiters) = self.waiters.get() {
            waiters.notify();
        }
    }

    /// Has `waker` woken when the feed ends. The caller looks once more afterwards whether it has
    /// ended. The registration is given back with [`forget`](Self::forget).
    pub(crate) fn register(&self, registration: &mut Registration, waker: &Waker) {
        let waiters = self.waiters.get_or_init(WaitSet::new);
        waiters.register(registration, waker);
        self.order();
    }

    /// The waiter no longer waits.
    pub(crate) fn forget(&self, registration: &mut Registration) {
        if let Some(waiters) = self.waiters.get() {
            waiters.forget(registration);
        }
    }

    /// Wakes the waiters although no end is written here, because the bus closes. The caller has
    /// set its flag.
    pub(crate) fn wake_waiters(&self) {
        self.order();
        self.was_written();
    }

    /// Whether `wake_waiters` has something to do. The caller has set its flag.
    pub(crate) fn has_waiters(&self) -> bool {
        self.order();
        self.waiters.get().is_some()
    }

    /// A read-modify-write that changes nothing, so that this step and the one that writes the end
    /// have an order.
    fn order(&self) {
        // AcqRel, partners `write`, and this line on other threads: of two such steps, the later
        // one sees what came before the earlier one.
        self.word.fetch_or(0, Ordering::AcqRel);
    }
}
