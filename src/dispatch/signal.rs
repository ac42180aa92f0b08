//! Waking the threads that dispatch ([`Signal`]), and waiting for a set of full rings ([`Latch`]).

use std::time::{Duration, Instant};

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
/// # A suspended thread
///
/// The system may suspend a pool thread for long, also one that was just chosen to be woken, or one
/// that is awake and has not looked yet. Others must do its work. So the last thread of a pool of
/// several is its *watcher*:
///
/// | | the watcher |
/// | --- | --- |
/// | all threads sleep | sleeps, too, without a timeout |
/// | the first thread becomes awake | is woken by the thread that changes the first bit, and looks for work |
/// | another thread is awake, or was chosen to be woken | sleeps for [`WATCH_PERIOD`] at most, and looks for work |
///
/// The word of the bits decides which of these holds, so no state is missed. What it costs: a
/// second wake-up when the pool becomes busy, and a look in every period while it is busy. A thread
/// that is suspended while it holds a role is beyond this: only that thread can continue the role.
/// So are a suspended watcher together with another suspended thread, and a pool of one.
///
/// Under manual dispatch there are no pool threads. Then the threads and tasks that flush or close
/// take their place: `wake_one` wakes all that wait, and each drives the bus when it looks again.
pub(crate) struct Signal {
    /// The threads and tasks that wait for progress.
    pub(crate) progress: WaitSet,
    /// Bit i, for i below the number of threads: thread i sleeps, or is about to.
    sleepers: AtomicU64,
    wakers: Box<[AtomicWaker]>,
    /// The bits of all threads, if the last of them is the watcher; else 0.
    watched: u64,
}

/// The longest sleep of the watcher while another thread of its pool does not sleep.
pub(crate) const WATCH_PERIOD: Duration = Duration::from_millis(20);

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
            watched: 0,
        }
    }

    /// As `new`. If there are several threads, the last one is the watcher.
    pub(crate) fn with_watcher(threads: usize) -> Self {
        let watched = if threads >= 2 {
            u64::MAX >> (u64::BITS as usize - threads)
        } else {
            0
        };
        Self {
            watched,
            ..Self::new(threads)
        }
    }

    /// Pool thread `index` is about to sleep. It looks for work after this call, and then calls
    /// `sleep` or `cancel_sleep`. Returns whether it is the watcher, and has to look again after
    /// [`WATCH_PERIOD`].
    pub(crate) fn prepare_sleep(&self, index: usize) -> bool {
        debug_assert!(index < self.wakers.len());
        // AcqRel, partner the `fetch_or` in `wake_one` and the `swap` in `wake_all`: if
        // theirs came first, the caller's look sees the work that was made before it.
        let others = self.sleepers.fetch_or(1 << index, Ordering::AcqRel);
        self.is_watcher(index) && others | 1 << index != self.watched
    }

    fn is_watcher(&self, index: usize) -> bool {
        self.watched != 0 && index + 1 == self.wakers.len()
    }

    /// The bit of a thread was cleared, which had this index. `old`: the bits before. Wakes the
    /// watcher if all threads slept, since it may sleep without a timeout.
    #[inline]
    fn wake_watcher(&self, index: usize, old: u64) {
        if old == self.watched && old != 0 && !self.is_watcher(index) {
            self.wake(self.wakers.len() - 1);
        }
    }

    /// Wakes that pool thread, unless it does not sleep, or another thread wakes it. Returns the
    /// bits before.
    fn wake(&self, index: usize) -> u64 {
        // AcqRel, partner the load in `sleep_until` and the `fetch_and` in `cancel_sleep`: the
        // thread sees what the caller did before. Only one caller clears the bit.
        let old = self.sleepers.fetch_and(!(1 << index), Ordering::AcqRel);
        if old & (1 << index) != 0 {
            wake_registered(&self.wakers[index]);
        }
        old
    }

    /// Pool thread `index` no longer sleeps, whether or not it was woken.
    pub(crate) fn cancel_sleep(&self, index: usize) {
        debug_assert!(index < self.wakers.len());
        // AcqRel, partner the `fetch_and` in `wake` and the `swap` in `wake_all`: if one of them
        // has cleared the bit, the caller's next look sees the work that it was woken for.
        let old = self.sleepers.fetch_and(!(1 << index), Ordering::AcqRel);
        self.wake_watcher(index, old);
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
            // Acquire, partner the `fetch_and` in `wake` and the `swap` in `wake_all`: what was
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

    /// Whether all pool threads sleep or are about to: an estimate.
    #[inline]
    pub(crate) fn all_sleep(&self) -> bool {
        // Relaxed: an estimate.
        self.sleepers.load(Ordering::Relaxed).count_ones() as usize == self.wakers.len()
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
            // The watcher has the last bit, so it is chosen last.
            let index = sleepers.trailing_zeros() as usize;
            let old = self.wake(index);
            if old & (1 << index) != 0 {
                self.wake_watcher(index, old);
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

/// Counts the full rings that a stalled shard still waits for. The shard continues when the last of
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
    /// to arrive itself, after it has requested room from all rings.
    pub(crate) fn arm(&self, rings: usize) {
        debug_assert!(rings > 0 && rings < isize::MAX as usize, "{rings} rings");
        // Release, partner `arrive`: the count is set before any ring can arrive.
        self.outstanding.store(rings + 1, Ordering::Release);
    }

    /// A ring, or the shard itself, has arrived. `true`: it was the last one that is waited for.
    pub(crate) fn arrive(&self) -> bool {
        // AcqRel, partner itself in the other arrivals: the last one sees what all others did.
        self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// A ring has the room that was requested: its reader arrives, and wakes a pool thread if it
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn sleepers(signal: &Signal) -> u64 {
        signal.sleepers.load(Ordering::Relaxed)
    }

    /// The first wake-up of a pool wakes the watcher, too. Later ones do not, until all sleep.
    #[test]
    fn the_watcher_is_woken_when_the_pool_becomes_busy() {
        let signal = Signal::with_watcher(3);
        assert!(!signal.prepare_sleep(0));
        assert!(signal.prepare_sleep(2), "thread 1 is awake");
        assert!(!signal.prepare_sleep(1));
        assert_eq!(sleepers(&signal), 0b111);
        signal.wake_one();
        assert_eq!(sleepers(&signal), 0b010, "the first and the watcher");
        assert!(
            signal.prepare_sleep(2),
            "thread 0 was chosen, and has not come"
        );
        signal.wake_one();
        assert_eq!(sleepers(&signal), 0b100);
        signal.wake_one();
        assert_eq!(sleepers(&signal), 0, "the watcher is chosen last");
        assert!(!signal.prepare_sleep(0));
        assert!(!signal.prepare_sleep(1));
        assert!(!signal.prepare_sleep(2), "all sleep");
        // A thread that finds work at its last look is awake, too.
        signal.cancel_sleep(1);
        assert_eq!(sleepers(&signal), 0b001);
    }

    #[test]
    fn a_pool_of_one_has_no_watcher() {
        for signal in [Signal::with_watcher(1), Signal::new(1)] {
            assert!(!signal.prepare_sleep(0));
            signal.wake_one();
            assert_eq!(sleepers(&signal), 0);
        }
        assert_eq!(Signal::with_watcher(64).watched, u64::MAX);
    }
}
