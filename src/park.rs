//! Sleeping and waking.
//!
//! A thread or task that waits has a [`Waker`]: a task has its own, a thread uses [`thread_waker`].
//! If only one can wait for a change (a subscriber for events, a publisher for room in its lane, a
//! pool thread for work), it registers the waker in an `AtomicWaker`. If several can wait for the
//! same change, they use a [`WaitSet`]. The order of steps is always the same:
//!
//! | sleeper | waker |
//! | --- | --- |
//! | 1. registers its waker | 1. makes the change that the sleeper waits for |
//! | 2. sets the flag, by a read-modify-write | 2. clears the flag, by a read-modify-write on the same word |
//! | 3. looks once more; if it finds the change, it does not sleep | 3. if the flag was set: takes the waker and wakes it |
//! | 4. sleeps; when it wakes up, it starts again | |
//!
//! Both second steps are on one atomic, so one of them comes first. If step 2 of the waking side
//! comes first, the sleeper sees the change in step 3. If step 2 of the sleeper comes first, the
//! waking side sees the flag, and finds the waker that was registered in step 1. A late or
//! unnecessary wake-up costs one look.
//!
//! A thread sleeps on a token of this library (see [`parker`](crate::sync::parker)). It does not
//! use the token of `std::thread::park`, which belongs to the program.
//!
//! A waker is user code and may panic: [`wake`] contains the panic.

mod wait_set;

use std::cell::Cell;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::contain::contain;
#[cfg(not(loom))]
use crate::sync::parker::Parker;
use crate::sync::unmodelled::AtomicUsize as UnmodelledUsize;
use crate::sync::{AtomicWaker, Ordering, spin_loop, thread};
use crate::time_limit::{self, Kind};

pub(crate) use self::wait_set::{Registration, WaitSet};

/// Wakes the task or thread. If the waker panics, the panic is contained.
///
/// If the time of the calling thread is over, another thread wakes a task: see [`time_limit`]. A
/// thread that sleeps in this library is woken at once, since its waker is no user code.
pub(crate) fn wake(waker: Waker) {
    if time_limit::is_over() && !is_thread_waker(&waker) {
        return time_limit::hand_over(Kind::Wake, move || wake_here(waker));
    }
    wake_here(waker);
}

/// Whether this is a waker of [`thread_waker`].
#[cfg(not(loom))]
fn is_thread_waker(waker: &Waker) -> bool {
    with_thread_waker(|own| own.vtable() == waker.vtable())
}

#[cfg(loom)]
fn is_thread_waker(_: &Waker) -> bool {
    true
}

fn wake_here(waker: Waker) {
    let _scope = NonBlockingScope::enter();
    // After a panic, the task may continue to sleep. The engine cannot do anything about that.
    contain("a waker", || waker.wake());
}

/// Wakes the task that is being polled, so that it is polled again. If the waker panics, the panic
/// is contained: what the poll has changed so far stays complete.
pub(crate) fn wake_to_poll_again(waker: &Waker) {
    let _scope = NonBlockingScope::enter();
    contain("a waker", || waker.wake_by_ref());
}

/// Wakes the registered waker, if there is one. If the waker panics, the panic is contained.
pub(crate) fn wake_registered(waker: &AtomicWaker) {
    if let Some(waker) = waker.take() {
        wake(waker);
    }
}

/// Removes the registered waker. If its drop panics, the panic is contained.
pub(crate) fn forget_registered(waker: &AtomicWaker) {
    drop_waker(waker.take());
}

/// Drops a waker. If its drop panics, the panic is contained.
pub(crate) fn drop_waker(waker: Option<Waker>) {
    let _scope = NonBlockingScope::enter();
    contain("a waker's drop", || drop(waker));
}

/// Registers the waker of a task. Its `clone`, its `drop` and its `wake` are user code, so they
/// must not wait. A panic of the `clone` is the caller's.
pub(crate) fn register_task(place: &AtomicWaker, waker: &Waker) {
    let _scope = NonBlockingScope::enter();
    place.register(waker);
}

/// Clones the waker of a task: user code, which must not wait. A panic is the caller's.
pub(crate) fn clone_waker(waker: &Waker) -> Waker {
    let _scope = NonBlockingScope::enter();
    waker.clone()
}

/// Registers the calling thread to be woken.
pub(crate) fn register_thread(waker: &AtomicWaker) {
    #[cfg(not(loom))]
    with_thread_waker(|thread| waker.register(thread));
    #[cfg(loom)]
    waker.register(&thread_waker());
}

/// A waker that ends a [`park`] of the calling thread.
pub(crate) fn thread_waker() -> Waker {
    #[cfg(not(loom))]
    return with_thread_waker(Waker::clone);
    #[cfg(loom)]
    return std_thread_waker();
}

/// The token that a thread sleeps on. It is created once for each thread that waits.
#[cfg(not(loom))]
struct ThreadParker {
    parker: std::sync::Arc<Parker>,
    waker: Waker,
}

#[cfg(not(loom))]
thread_local!(static THREAD_PARKER: ThreadParker = ThreadParker::new());

#[cfg(not(loom))]
impl ThreadParker {
    fn new() -> Self {
        let parker = std::sync::Arc::new(Parker::new());
        let waker = Waker::from(parker.clone());
        Self { parker, waker }
    }
}

#[cfg(not(loom))]
impl Wake for Parker {
    fn wake(self: std::sync::Arc<Self>) {
        self.unpark();
    }

    fn wake_by_ref(self: &std::sync::Arc<Self>) {
        self.unpark();
    }
}

#[cfg(not(loom))]
fn with_thread_waker<R>(f: impl FnOnce(&Waker) -> R) -> R {
    let mut f = Some(f);
    let done = THREAD_PARKER.try_with(|thread| (f.take().expect("called once"))(&thread.waker));
    // The thread is about to end, and its thread-locals are destroyed: `park` then uses std's
    // token.
    done.unwrap_or_else(|_| (f.take().expect("not called yet"))(&std_thread_waker()))
}

/// A waker that unparks the calling thread: loom's in a model, else std's.
fn std_thread_waker() -> Waker {
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

/// Sleeps until [`thread_waker`] is woken, or until the deadline. It may also return without a
/// reason. Returns `false` if the deadline has passed.
#[cfg(not(loom))]
pub(crate) fn park(deadline: Option<Instant>) -> bool {
    let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return false;
    }
    if THREAD_PARKER
        .try_with(|thread| thread.parker.park(timeout))
        .is_err()
    {
        // As in `with_thread_waker`.
        match timeout {
            Some(timeout) => thread::park_timeout(timeout),
            None => thread::park(),
        }
    }
    true
}

/// The same for a model, in which time passes only here.
#[cfg(loom)]
pub(crate) fn park(deadline: Option<Instant>) -> bool {
    if let Some(deadline) = deadline {
        crate::sync::clock::sleep_until(deadline);
        return false;
    }
    thread::park();
    true
}

/// Returns `now + wait`, or `None`, which means no deadline, if the clock cannot represent that
/// time.
pub(crate) fn deadline_after(wait: Duration) -> Option<Instant> {
    Instant::now().checked_add(wait)
}

/// How a thread waits before it sleeps, or instead of sleeping: by spinning and by yielding the
/// processor.
pub(crate) enum Backoff {
    /// A short wait: first spins, then yields.
    Briefly {
        /// The number of spins that are left, 0 to [`SPIN_TURNS`].
        spins: u32,
        /// The number of yields that are left, 0 to [`YIELD_TURNS`].
        yields: u32,
    },
    /// Spins for ever. `turns` counts the spins, and wraps around.
    Spin { turns: u32 },
    /// Yields for ever.
    Yield,
}

/// Turns of a short spin, each twice as long as the one before: about 5 microseconds in total.
const SPIN_TURNS: u32 = 7;

/// The number of times that a short wait yields the processor.
const YIELD_TURNS: u32 = 2;

/// Turns of an endless spin between two reads of the clock, because a read takes longer than a
/// turn.
const TURNS_PER_CLOCK: u32 = 64;

impl Backoff {
    /// A short spin if every thread that uses the bus has its own core. If there are more threads
    /// than cores, a spin could prevent the thread that it waits for from running, so the wait only
    /// yields.
    ///
    /// `threads` is the caller's estimate of the number of threads that use the bus.
    pub(crate) fn adaptive(threads: usize) -> Self {
        let spins = if threads <= cores() { SPIN_TURNS } else { 0 };
        let yields = if cfg!(loom) { 0 } else { YIELD_TURNS };
        Self::Briefly { spins, yields }
    }

    /// No wait: the thread sleeps at once.
    pub(crate) fn none() -> Self {
        Self::Briefly {
            spins: 0,
            yields: 0,
        }
    }

    /// An endless spin: the thread never sleeps.
    pub(crate) fn spin() -> Self {
        Self::Spin { turns: 0 }
    }

    /// The thread never sleeps, and yields the processor at every turn.
    pub(crate) fn yielding() -> Self {
        Self::Yield
    }

    /// Waits for one turn. Returns `false` if the wait is over and the thread should sleep.
    pub(crate) fn snooze(&mut self) -> bool {
        match self {
            Self::Briefly { spins, .. } if *spins > 0 => {
                debug_assert!(*spins <= SPIN_TURNS);
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

    /// Whether the deadline has passed, for a thread that does not sleep. A spin does not read the
    /// clock at every turn. A yield does, since it costs more than a read, and may take long.
    pub(crate) fn is_past(&self, deadline: Option<Instant>) -> bool {
        let look = match self {
            Self::Briefly { .. } => false, // such a wait is over soon, and `park` checks
            Self::Spin { turns } => turns.is_multiple_of(TURNS_PER_CLOCK),
            Self::Yield => true,
        };
        look && deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// The number of processors that this process may use. It is read from the system once.
fn cores() -> usize {
    if cfg!(loom) {
        return 0; // spinning is of no use in a model
    }
    /// 0 means that the number is not known yet.
    static CORES: UnmodelledUsize = UnmodelledUsize::new(0);
    let known = CORES.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    CORES.store(cores, Ordering::Relaxed);
    cores
}

crate::sync::thread_local!(static SCOPE: Cell<Scope> = const { Cell::new(Scope::Program) });

/// What code the calling thread runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// Code of the program, which may wait.
    Program,
    /// A handler or a callback.
    Callback,
    /// A round of the sequencer or of a shard, and the user code inside it: the drop of a payload,
    /// a waker, a clock.
    Dispatch,
}

/// Marks the calling thread as one that must not wait for the bus while the value is alive. User
/// code that runs inside may publish and receive, but must not wait for this same thread.
pub(crate) struct NonBlockingScope {
    outer: Scope,
    /// The limit of the call that runs the user code, which is no limit for what that code calls:
    /// it may close another bus, for example.
    _no_limit: Option<time_limit::Suspended>,
}

impl NonBlockingScope {
    /// For a handler or a callback.
    pub(crate) fn enter() -> Self {
        Self::enter_at_least(Scope::Callback, Some(time_limit::suspend()))
    }

    /// For a turn of a handler. The time limit of the calling thread holds for what the library
    /// does in the turn, such as to drop the events that were handled. The turn suspends the limit
    /// around the handler itself.
    pub(crate) fn enter_turn() -> Self {
        Self::enter_at_least(Scope::Callback, None)
    }

    /// For a thread that holds the role of the sequencer or of a shard.
    pub(crate) fn enter_dispatch() -> Self {
        Self::enter_at_least(Scope::Dispatch, None)
    }

    /// Whether the calling thread is inside such a scope, so that a wait could be a deadlock.
    pub(crate) fn is_active() -> bool {
        Self::scope() != Scope::Program
    }

    /// Whether the calling thread is dispatching: it may be the only one that can deliver events.
    pub(crate) fn is_dispatching() -> bool {
        Self::scope() == Scope::Dispatch
    }

    fn enter_at_least(scope: Scope, no_limit: Option<time_limit::Suspended>) -> Self {
        let outer = SCOPE.with(|current| {
            let outer = current.get();
            current.set(outer.max(scope));
            outer
        });
        Self {
            outer,
            _no_limit: no_limit,
        }
    }

    fn scope() -> Scope {
        SCOPE.try_with(Cell::get).unwrap_or(Scope::Program)
    }
}

impl Drop for NonBlockingScope {
    fn drop(&mut self) {
        SCOPE.with(|scope| scope.set(self.outer));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::AtomicBool;

    /// Waits in the destructor of a thread-local, which runs before or after that of
    /// `THREAD_PARKER`.
    struct WaitsInDrop(Option<std::sync::Arc<(AtomicWaker, AtomicBool)>>);

    impl Drop for WaitsInDrop {
        fn drop(&mut self) {
            let Some(shared) = self.0.take() else { return };
            let (waker, ready) = &*shared;
            loop {
                register_thread(waker);
                if ready.load(Ordering::Acquire) {
                    break;
                }
                park(None);
            }
        }
    }

    #[test]
    fn a_thread_that_waits_while_it_ends_is_woken() {
        std::thread_local! {
            static LAST_WAIT: Cell<WaitsInDrop> = const { Cell::new(WaitsInDrop(None)) };
        }
        for parker_first in [true, false] {
            let shared = std::sync::Arc::new((AtomicWaker::new(), AtomicBool::new(false)));
            let theirs = shared.clone();
            let ending = thread::spawn(move || {
                if parker_first {
                    drop(thread_waker());
                }
                drop(LAST_WAIT.replace(WaitsInDrop(Some(theirs))));
                drop(thread_waker());
            });
            thread::sleep(Duration::from_millis(20));
            shared.1.store(true, Ordering::Release);
            wake_registered(&shared.0);
            ending.join().unwrap();
        }
    }
}
