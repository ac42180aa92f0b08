//! Waking the threads that dispatch ([`Signal`]), and waiting for a set of full rings ([`Latch`]).

use std::time::Instant;

use crate::limits::DISPATCHERS_MAX;
use crate::park::{WaitSet, park, register_thread, wake_registered};
use crate::sync::{Arc, AtomicU64, AtomicUsize, AtomicWaker, Ordering};

/// Says which threads of a pool sleep, and wakes them.
///
/// | pool thread | thread that has made work |
/// | --- | --- |
/// | 1. `prepare_sleep`: sets its bit | 1. makes the work visible |
/// | 2. looks for work once more | 2. `wake_one`: reads the bits with a read-modify-write |
/// | 3. none: `sleep`; some: `cancel_sleep` | 3. clears a bit that is set, and wakes that thread |
///
/// Step 1 of the pool thread and step 2 of the other thread are read-modify-writes of one word, so
/// one of them comes first. If it is the pool thread's, the other thread sees the bit and wakes the
/// pool thread. Otherwise the pool thread finds the work in its step 2. (A publisher need not call
/// `wake_one` for each event: its lane says when, see [`spsc`](crate::ring::spsc).)
///
/// Under manual dispatch there are no pool threads. Then the threads and tasks that flush or close
/// take their place: `wake_one` wakes all that wait, and each drives the bus when it looks again.
pub(crate) struct Signal {
    /// The threads and tasks that wait for progress.
    pub(crate) progress: WaitSet,
    /// Bit i, for i below the number of threads: thread i sleeps, or is about to.
    sleepers: AtomicU64,
    wakers: Box<[AtomicWaker]>,
}

impl Signal {
    /// For a pool of `threads` threads, 0 to [`DISPATCHERS_MAX`].
    pub(crate) fn new(threads: usize) -> Self {
        assert!(
            threads <= DISPATCHERS_MAX,
            "{threads} threads, but a word has {DISPATCHERS_MAX} bits"
        );
        Self {
            progress: WaitSet::new(),
            sleepers: AtomicU64::new(0),
            wakers: (0..threads).map(|_| AtomicWaker::new()).collect(),
        }
    }

    /// Pool thread `index` is about to sleep. It looks for work after this call, and then calls
    /// `sleep` or `cancel_sleep`.
    pub(crate) fn prepare_sleep(&self, index: usize) {
        debug_assert!(index < self.wakers.len());
        // AcqRel, partner the `fetch_or` in `wake_one` and the `swap` in `wake_all`: if one of
        // these came first, the caller sees, when it looks, the work that was made before.
        self.sleepers.fetch_or(1 << index, Ordering::AcqRel);
    }

    /// Pool thread `index` no longer sleeps, whether or not it was woken.
    pub(crate) fn cancel_sleep(&self, index: usize) {
        debug_assert!(index < self.wakers.len());
        // AcqRel, partner the `fetch_and` in `wake_one` and the `swap` in `wake_all`: if one of
        // them has cleared the bit, the caller's next look sees the work that it was woken for.
        self.sleepers.fetch_and(!(1 << index), Ordering::AcqRel);
    }

    /// Sleeps until pool thread `index` is woken. It has called `prepare_sleep`.
    pub(crate) fn sleep(&self, index: usize) {
        self.sleep_until(index, None);
    }

    /// Sleeps until pool thread `index` is woken, or until the deadline. It has called
    /// `prepare_sleep`.
    pub(crate) fn sleep_until(&self, index: usize, deadline: Option<Instant>) {
        loop {
            // Registered anew in each turn: a thread that cleared the bit of an earlier sleep may
            // be slow, and take the waker of this sleep.
            register_thread(&self.wakers[index]);
            // Acquire, partner the `fetch_and` in `wake_one` and the `swap` in `wake_all`: what was
            // done before the wake-up is visible.
            if self.sleepers.load(Ordering::Acquire) & (1 << index) == 0 {
                return;
            }
            if !park(deadline) {
                // A thread that has cleared the bit meanwhile relies on this thread, which is
                // awake.
                self.cancel_sleep(index);
                return;
            }
        }
    }

    /// Wakes one pool thread that sleeps, if there is one. Without a pool it wakes all that wait
    /// for progress.
    #[inline]
    pub(crate) fn wake_one(&self) {
        if self.wakers.is_empty() {
            self.progress.notify();
            return;
        }
        // AcqRel, partner `prepare_sleep`. It changes nothing, but as a read-modify-write it has a
        // place in the order of all changes of the word, which a load does not have.
        let mut sleepers = self.sleepers.fetch_or(0, Ordering::AcqRel);
        debug_assert!(self.is_in_range(sleepers));
        while sleepers != 0 {
            let index = sleepers.trailing_zeros();
            // AcqRel, partner the load in `sleep_until` and the `fetch_and` in `cancel_sleep`: the
            // thread sees what the caller did before. Only one caller clears the bit.
            let old = self.sleepers.fetch_and(!(1 << index), Ordering::AcqRel);
            if old & (1 << index) != 0 {
                wake_registered(&self.wakers[index as usize]);
                return;
            }
            sleepers = old;
        }
    }

    /// Wakes all threads that sleep.
    pub(crate) fn wake_all(&self) {
        // AcqRel, partner `prepare_sleep`, the load in `sleep_until` and `cancel_sleep`: as in
        // `wake_one`.
        let sleepers = self.sleepers.swap(0, Ordering::AcqRel);
        debug_assert!(self.is_in_range(sleepers));
        for (index, waker) in self.wakers.iter().enumerate() {
            if sleepers & (1 << index) != 0 {
                wake_registered(waker);
            }
        }
    }

    /// Whether only bits of threads of this pool are set.
    fn is_in_range(&self, sleepers: u64) -> bool {
        u64::BITS - sleepers.leading_zeros() <= self.wakers.len() as u32
    }
}

/// Counts the full rings that a stalled shard still waits for. The shard goes on when the last of
/// them has room, not at each of them; it may also be armed for fewer arrivals.
pub(crate) struct Latch {
    /// Rings that have yet to arrive, and 1 for the shard while it still counts. As an `isize`, it
    /// may be negative, by the number of rings at most: see `is_open`.
    outstanding: AtomicUsize,
    signal: Arc<Signal>,
}

impl Latch {
    pub(crate) fn new(signal: Arc<Signal>) -> Self {
        Self {
            outstanding: AtomicUsize::new(0),
            signal,
        }
    }

    /// The shard begins to wait for the first `rings` rings that arrive, at least 1. The shard has
    /// to arrive itself, after it has asked all rings.
    pub(crate) fn arm(&self, rings: usize) {
        debug_assert!(rings > 0 && rings < isize::MAX as usize, "{rings} rings");
        // Release, partner `arrive`: the count is set before any ring is asked to arrive.
        self.outstanding.store(rings + 1, Ordering::Release);
    }

    /// A ring, or the shard itself, has arrived. `true`: it was the last one that is waited for.
    pub(crate) fn arrive(&self) -> bool {
        // AcqRel, partner itself in the other arrivals: the last one sees what all others did.
        self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// A ring has the room that it was asked for: its reader arrives, and wakes a pool thread if it
    /// is the last.
    pub(crate) fn arrive_and_wake(&self) {
        if self.arrive() {
            self.signal.wake_one();
        }
    }

    /// Whether all have arrived.
    pub(crate) fn is_open(&self) -> bool {
        // Acquire, partner `arrive`. Compared as a signed number: a ring may arrive although the
        // shard went on without it, or did not wait for all rings. That only makes the shard look
        // early.
        self.outstanding.load(Ordering::Acquire) as isize <= 0
    }
}
