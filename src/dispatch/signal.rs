//! Waking the pool, and waiting for a set of full rings.

use std::time::Instant;

use crate::park::{park, register_thread, wake_registered};
use crate::sync::{Arc, AtomicU64, AtomicUsize, AtomicWaker, Ordering};

/// Threads of a dispatcher pool, at most: as many as a word of sleepers has bits.
pub const DISPATCHERS_MAX: usize = 64;

/// Who of the pool sleeps.
///
/// A pool thread sets its bit, looks for work once more, and only then sleeps. Whoever makes work calls
/// afterwards; both touch one word, so either the caller sees the bit or the thread sees the work. (A
/// publisher need not call for each event: its lane tells it when to, see [`spsc`](crate::ring::spsc).)
pub(crate) struct Signal {
    /// Bit i: thread i sleeps or is about to.
    sleepers: AtomicU64,
    wakers: Box<[AtomicWaker]>,
}

impl Signal {
    /// For a pool of this many threads, 0 to [`DISPATCHERS_MAX`].
    pub(crate) fn new(threads: usize) -> Self {
        assert!(threads <= DISPATCHERS_MAX);
        Self {
            sleepers: AtomicU64::new(0),
            wakers: (0..threads).map(|_| AtomicWaker::new()).collect(),
        }
    }

    /// Pool thread `index` is about to sleep. It looks for work after this, and then sleeps.
    pub(crate) fn prepare_sleep(&self, index: usize) {
        // AcqRel, partner `wake_one`.
        self.sleepers.fetch_or(1 << index, Ordering::AcqRel);
    }

    /// Pool thread `index` sleeps no more, called or not.
    pub(crate) fn cancel_sleep(&self, index: usize) {
        // AcqRel, partner `wake_one`.
        self.sleepers.fetch_and(!(1 << index), Ordering::AcqRel);
    }

    /// Sleeps until pool thread `index` is called; it has lain down before.
    pub(crate) fn sleep(&self, index: usize) {
        self.sleep_until(index, None);
    }

    /// Sleeps until pool thread `index` is called, or until the deadline; it has lain down before.
    pub(crate) fn sleep_until(&self, index: usize, deadline: Option<Instant>) {
        loop {
            // Anew each time: a caller that took the bit of our last sleep may come late, and take this waker.
            register_thread(&self.wakers[index]);
            // Acquire, partner `wake_one`.
            if self.sleepers.load(Ordering::Acquire) & (1 << index) == 0 {
                return;
            }
            if !park(deadline) {
                // A caller that took our bit meanwhile counts on us, and we are up.
                self.cancel_sleep(index);
                return;
            }
        }
    }

    /// Wakes one sleeper, if there is one.
    #[inline]
    pub(crate) fn wake_one(&self) {
        // A read-modify-write that changes nothing, so that it and `prepare_sleep` have an order: either we see the
        // bit, or the thread's look for work sees what we did before the call.
        let mut sleepers = self.sleepers.fetch_or(0, Ordering::AcqRel);
        while sleepers != 0 {
            let index = sleepers.trailing_zeros();
            // AcqRel: one caller takes the bit, and the thread sees what the caller did before.
            let old = self.sleepers.fetch_and(!(1 << index), Ordering::AcqRel);
            if old & (1 << index) != 0 {
                wake_registered(&self.wakers[index as usize]);
                return;
            }
            sleepers = old;
        }
    }

    /// Wakes them all.
    pub(crate) fn wake_all(&self) {
        // AcqRel, partner `prepare_sleep`: as in `wake_one`.
        let sleepers = self.sleepers.swap(0, Ordering::AcqRel);
        for (index, waker) in self.wakers.iter().enumerate() {
            if sleepers & (1 << index) != 0 {
                wake_registered(waker);
            }
        }
    }
}

/// How many full rings a stalled shard still waits for: it goes on when the last of them has room, not at each, unless
/// the shard says otherwise.
pub(crate) struct Latch {
    /// Rings that have yet to arrive, and 1 for the shard while it is still counting.
    missing: AtomicUsize,
    signal: Arc<Signal>,
}

impl Latch {
    pub(crate) fn new(signal: Arc<Signal>) -> Self {
        Self {
            missing: AtomicUsize::new(0),
            signal,
        }
    }

    /// The shard begins to wait for the first `rings` rings, and is itself one that has to arrive.
    pub(crate) fn arm(&self, rings: usize) {
        // Release, partner `arrive`: set before any ring is told to arrive.
        self.missing.store(rings + 1, Ordering::Release);
    }

    /// One has arrived. `true`: it was the last.
    pub(crate) fn arrive(&self) -> bool {
        // AcqRel, partner itself: the last sees what all the others did.
        self.missing.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// A reader made the room that it was asked for.
    pub(crate) fn arrive_and_wake(&self) {
        if self.arrive() {
            self.signal.wake_one();
        }
    }

    /// Whether all have arrived.
    pub(crate) fn is_open(&self) -> bool {
        // Acquire, partner `arrive`. Signed: a ring whose shard went on without it, or did not wait for all of them, may
        // arrive late, and only makes the shard look early.
        self.missing.load(Ordering::Acquire) as isize <= 0
    }
}
