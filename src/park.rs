//! Sleeping and waking.
//!
//! Everybody who waits is a [`Waker`]: a task brings its own, a thread uses [`thread_waker`]. Who waits alone
//! (a subscriber for events, a publisher for room in its lane, a pool thread for work) registers it in an
//! `AtomicWaker`; who waits in company uses a [`WaitSet`]. The order is always the same:
//!
//! | sleeper | waker |
//! | --- | --- |
//! | 1. registers its waker | 1. changes what is waited for |
//! | 2. sets the flag, by a read-modify-write | 2. takes the flag, by a read-modify-write on the same word |
//! | 3. looks once more; ready: go on | 3. was it set: takes the waker and wakes |
//! | 4. sleeps, and on waking begins anew | |
//!
//! Both second steps touch one atomic, so one comes first: if the waker's, the sleeper's look in 3 sees the change;
//! if the sleeper's, the waker sees the flag and finds the waker of 1. A wake that comes too late or for
//! nothing costs a look.
//!
//! A waker is foreign code and may panic: [`wake`] contains that.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize as PlainUsize, Ordering as PlainOrdering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::contain::contain;
use crate::sync::{AtomicU64, AtomicWaker, Mutex, Ordering, spin_loop, thread};

/// Wakes, and survives a waker that panics.
pub(crate) fn wake(waker: Waker) {
    // What it was to wake may sleep on: there is nothing that the engine could do about that.
    contain("a waker", || waker.wake());
}

/// Wakes whoever is registered, and survives a waker that panics.
pub(crate) fn wake_registered(waker: &AtomicWaker) {
    if let Some(waker) = take_registered(waker) {
        wake(waker);
    }
}

/// Forgets whoever is registered: nobody waits any more. Survives a waker that panics when it is dropped.
pub(crate) fn forget_registered(waker: &AtomicWaker) {
    let waker = take_registered(waker);
    contain("a waker's drop", || drop(waker));
}

fn take_registered(waker: &AtomicWaker) -> Option<Waker> {
    #[cfg(not(loom))]
    return waker.take();
    #[cfg(loom)]
    return waker.take_waker();
}

/// Registers the calling thread to be woken.
pub(crate) fn register_thread(waker: &AtomicWaker) {
    #[cfg(not(loom))]
    with_thread_waker(|thread| waker.register(thread));
    #[cfg(loom)]
    waker.register(thread_waker());
}

/// A waker that unparks the calling thread. Made once per thread.
pub(crate) fn thread_waker() -> Waker {
    #[cfg(not(loom))]
    return with_thread_waker(Waker::clone);
    #[cfg(loom)]
    return new_thread_waker();
}

#[cfg(not(loom))]
fn with_thread_waker<R>(f: impl FnOnce(&Waker) -> R) -> R {
    thread_local!(static WAKER: Waker = new_thread_waker());
    let mut f = Some(f);
    let done = WAKER.try_with(|waker| (f.take().expect("called once"))(waker));
    // The thread is on its way out and its locals are gone: a waker for this one time.
    done.unwrap_or_else(|_| (f.take().expect("not called yet"))(&new_thread_waker()))
}

fn new_thread_waker() -> Waker {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
        fn wake_by_ref(self: &std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    Waker::from(std::sync::Arc::new(Unpark(thread::current())))
}

/// Sleeps until woken, until the deadline, or for no reason. `false`: the deadline has passed.
pub(crate) fn park(deadline: Option<Instant>) -> bool {
    #[cfg(not(loom))]
    if let Some(deadline) = deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        thread::park_timeout(left);
        return true;
    }
    #[cfg(loom)]
    if let Some(deadline) = deadline {
        crate::sync::clock::sleep_until(deadline);
        return false;
    }
    thread::park();
    true
}

/// `now + wait`, or no deadline where the sum is beyond what the clock can say.
pub(crate) fn deadline_after(wait: Duration) -> Option<Instant> {
    Instant::now().checked_add(wait)
}

/// Waiters in company: publishers for room in the shared lane, callers of flush and close.
///
/// Not for a path that must not lock: waiting takes a short lock, and so does waking, when somebody waits.
pub(crate) struct WaitSet {
    /// How many wakers stand in the list; also the word on which sleeper and waker meet.
    waiting: AtomicU64,
    wakers: Mutex<Wakers>,
}

#[derive(Default)]
struct Wakers {
    registered: Vec<Waker>,
    /// Empty, with the room of earlier lists, one for each who ever woke at the same time as others: once warm, neither
    /// waiting nor waking allocates.
    spares: Vec<Vec<Waker>>,
}

/// Lists whose room a [`WaitSet`] keeps.
const SPARES_KEPT: usize = 16;

/// Wakers for which a [`WaitSet`] keeps room between two crowds.
const ROOM_KEPT: usize = 1024;

impl WaitSet {
    pub(crate) fn new() -> Self {
        Self {
            waiting: AtomicU64::new(0),
            wakers: Mutex::new(Wakers::default()),
        }
    }

    /// Registers a waker for the next `notify`. Look once more afterwards.
    pub(crate) fn register(&self, waker: Waker) {
        // Who waits with a time limit, over and over while nobody notifies, stands in the list once. Only the end of
        // the list is searched: many thousands of tasks may wait.
        const SEARCHED: usize = 64;
        let mut wakers = self.wakers.lock();
        let registered = &mut wakers.registered;
        if !registered
            .iter()
            .rev()
            .take(SEARCHED)
            .any(|known| known.will_wake(&waker))
        {
            registered.push(waker);
        }
        drop(wakers);
        // AcqRel, partner `notify`: a change made before an earlier notify is seen by our next look.
        self.waiting.fetch_add(1, Ordering::AcqRel);
    }

    /// Wakes everybody who registered before. Call it after the change.
    #[inline]
    pub(crate) fn notify(&self) {
        // A read-modify-write, so that it and `register` have an order; AcqRel, partner `register`.
        if self.waiting.fetch_add(0, Ordering::AcqRel) != 0 {
            self.wake_all();
        }
    }

    #[cold]
    fn wake_all(&self) {
        let mut called = {
            let mut wakers = self.wakers.lock();
            // Under the lock the two agree, but for a waker that is pushed and not yet counted: it may be
            // woken without having been counted, and its count then costs one look at an empty list.
            // A read-modify-write, not a store: whoever registers next must see what *every* earlier notify came
            // after, also the one that found nobody between our look and this line; a store would cut them off.
            self.waiting.swap(0, Ordering::AcqRel);
            let spare = wakers.spares.pop().unwrap_or_default();
            std::mem::replace(&mut wakers.registered, spare)
        };
        called.drain(..).for_each(wake);
        if called.capacity() <= ROOM_KEPT {
            let spares = &mut self.wakers.lock().spares;
            if spares.len() < SPARES_KEPT {
                spares.push(called);
            }
        }
    }

    /// Blocks until `ready` gives a value, or the deadline passes (`None`).
    pub(crate) fn wait_until<R>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        loop {
            if let Some(value) = ready() {
                return Some(value);
            }
            self.register(thread_waker());
            if let Some(value) = ready() {
                return Some(value);
            }
            if !park(deadline) {
                return ready();
            }
        }
    }
}

/// The part of a wait that a thread spends awake: a moment before it sleeps, or all of it.
pub(crate) enum Backoff {
    /// So many turns of each are left.
    Briefly { spins: u32, yields: u32 },
    /// For ever; how many turns it has had, wrapping.
    Spin { turns: u32 },
    /// For ever.
    Yield,
}

/// Turns of a short spin, each twice as long as the one before: about 5 microseconds in all.
const SPIN_TURNS: u32 = 7;

/// How often the processor is given away before sleeping.
const YIELD_TURNS: u32 = 2;

/// Turns of a long spin from one look at the clock to the next: reading it takes longer than a turn.
const TURNS_PER_CLOCK: u32 = 64;

impl Backoff {
    /// A short spin where every thread that takes part has a core of its own; where threads outnumber cores, never a spin,
    /// which would keep the one we wait for from running, but the processor given to whoever else is ready.
    ///
    /// `threads`: how many threads take part, the caller's estimate.
    pub(crate) fn adaptive(threads: usize) -> Self {
        let spins = if threads <= cores() { SPIN_TURNS } else { 0 };
        let yields = if cfg!(loom) { 0 } else { YIELD_TURNS };
        Self::Briefly { spins, yields }
    }

    /// None of it.
    pub(crate) fn none() -> Self {
        Self::Briefly {
            spins: 0,
            yields: 0,
        }
    }

    /// All of it, keeping the processor.
    pub(crate) fn spin() -> Self {
        Self::Spin { turns: 0 }
    }

    /// All of it, giving the processor away at every turn.
    pub(crate) fn yielding() -> Self {
        Self::Yield
    }

    /// Waits a little; `false`: enough, sleep.
    pub(crate) fn snooze(&mut self) -> bool {
        match self {
            Self::Briefly { spins, .. } if *spins > 0 => {
                for _ in 0..(1u32 << (SPIN_TURNS - *spins)) * 4 {
                    spin_loop();
                }
                *spins -= 1;
                true
            }
            Self::Briefly { yields, .. } if *yields > 0 => {
                thread::yield_now();
                *yields -= 1;
                true
            }
            Self::Briefly { .. } => false,
            Self::Spin { turns } => {
                spin_loop();
                *turns = turns.wrapping_add(1);
                true
            }
            Self::Yield => {
                thread::yield_now();
                true
            }
        }
    }

    /// Whether the deadline has passed, for who does not come to sleep. A clock is not read at every turn of a spin;
    /// giving the processor away costs more than to read it, and may take long.
    pub(crate) fn is_past(&self, deadline: Option<Instant>) -> bool {
        let look = match self {
            Self::Briefly { .. } => false, // soon over, and `park` looks
            Self::Spin { turns } => turns.is_multiple_of(TURNS_PER_CLOCK),
            Self::Yield => true,
        };
        look && deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// Processors this process may use, asked once.
fn cores() -> usize {
    if cfg!(loom) {
        return 0; // a model has no use for spinning
    }
    static CORES: PlainUsize = PlainUsize::new(0);
    let known = CORES.load(PlainOrdering::Relaxed);
    if known != 0 {
        return known;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    CORES.store(cores, PlainOrdering::Relaxed);
    cores
}

crate::sync::thread_local!(static DISPATCHING: Cell<bool> = const { Cell::new(false) });

/// Marks the calling thread as dispatching while it lives: what runs inside (a payload's `drop`, a waker, a
/// clock) may publish, but must not wait for this very thread.
pub(crate) struct NonBlockingScope {
    outer: bool,
}

impl NonBlockingScope {
    pub(crate) fn enter() -> Self {
        Self {
            outer: DISPATCHING.with(|dispatching| dispatching.replace(true)),
        }
    }

    /// Whether waiting on the calling thread would be waiting for itself.
    pub(crate) fn is_active() -> bool {
        DISPATCHING.try_with(Cell::get).unwrap_or(false)
    }
}

impl Drop for NonBlockingScope {
    fn drop(&mut self) {
        DISPATCHING.with(|dispatching| dispatching.set(self.outer));
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::explore::explore_bounded;
    use crate::sync::{Arc, AtomicUsize, thread};

    /// Waiters in company, two who notify for different reasons: nobody sleeps on.
    #[test]
    fn loom_wait_set() {
        explore_bounded("wait set", 2, || {
            let set = Arc::new(WaitSet::new());
            let flags = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            let wait_for = |flag: usize| {
                let (set, flags) = (set.clone(), flags.clone());
                move || {
                    let is_set = || (flags[flag].load(Ordering::Relaxed) != 0).then_some(());
                    assert_eq!(set.wait_until(None, is_set), Some(()));
                }
            };
            let waiting = thread::spawn(wait_for(0));
            let notifying: Vec<_> = (0..2)
                .map(|flag| {
                    let (set, flags) = (set.clone(), flags.clone());
                    thread::spawn(move || {
                        flags[flag].store(1, Ordering::Relaxed);
                        set.notify();
                    })
                })
                .collect();
            wait_for(1)();
            waiting.join().unwrap();
            notifying.into_iter().for_each(|n| n.join().unwrap());
        });
    }
}
