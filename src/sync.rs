//! Atomics, cells, locks, threads, and the clock for deadlines. The rest of the crate uses them
//! through this module, so that a model checker sees all of them.
//!
//! In a normal build they come from `std`, `parking_lot`, `arc-swap` and `crossbeam`. Under `--cfg
//! loom` the same names come from [loom](https://docs.rs/loom), or are replacements built from
//! loom's types for code that loom cannot model: [`Published`] replaces arc-swap, [`Queue`]
//! replaces crossbeam's `SegQueue`. A replacement has the same contract and a simple
//! implementation, so a model checks the protocol around it. The ordinary tests and ThreadSanitizer
//! check the real types.
//!
//! Two files are our own: `atomic_waker.rs` and `parker.rs`. Each has its own models, and is
//! replaced in the other models, which have fewer schedules that way.

#[cfg(not(loom))]
pub(crate) use normal::*;

/// An atomic for numbers that no protocol relies on, such as statistics. It is always that of
/// `std`, so that a model does not explore its schedules.
pub(crate) mod unmodelled {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
}

#[cfg(loom)]
pub(crate) use model::*;

#[cfg(any(not(loom), test))]
mod atomic_waker;
#[cfg(all(test, loom))]
pub(crate) mod explore;
#[cfg(any(not(loom), test))]
pub(crate) mod parker;

/// The size of a cache line in bytes: the unit that moves between the caches of two cores.
pub(crate) const CACHE_LINE: usize = 64;

#[cfg(not(loom))]
mod normal {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
    pub(crate) use std::thread;
    pub(crate) use std::thread_local;
    use std::time::Instant;

    pub(crate) use parking_lot::Mutex;

    pub(crate) use super::atomic_waker::AtomicWaker;

    /// `std::cell::UnsafeCell` with loom's interface.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }

    /// The time, for deadlines that a thread sleeps until.
    pub(crate) fn now() -> Instant {
        Instant::now()
    }

    /// A value that writers replace as a whole, and that readers load without waiting (arc-swap).
    pub(crate) struct Published<T>(arc_swap::ArcSwap<T>);

    impl<T> Published<T> {
        pub(crate) fn new(value: Arc<T>) -> Self {
            Self(arc_swap::ArcSwap::new(value))
        }

        /// Returns the value. Everything that happened before the `swap` that published it is
        /// visible.
        #[inline]
        pub(crate) fn load(&self) -> Loaded<T> {
            self.0.load()
        }

        /// Publishes a value, and returns the previous one, which readers may still have loaded.
        pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
            self.0.swap(value)
        }
    }

    /// A guard that dereferences to the value that [`Published::load`] has found.
    pub(crate) type Loaded<T> = arc_swap::Guard<Arc<T>>;

    /// Like [`Published`], for an optional value.
    pub(crate) struct PublishedOption<T>(arc_swap::ArcSwapOption<T>);

    impl<T> PublishedOption<T> {
        pub(crate) fn new() -> Self {
            Self(arc_swap::ArcSwapOption::empty())
        }

        pub(crate) fn load(&self) -> arc_swap::Guard<Option<Arc<T>>> {
            self.0.load()
        }

        pub(crate) fn store(&self, value: Option<Arc<T>>) {
            self.0.store(value);
        }
    }

    /// An unbounded queue for rare operations (crossbeam's `SegQueue`). A push never waits.
    pub(crate) struct Queue<T>(crossbeam::queue::SegQueue<T>);

    impl<T> Queue<T> {
        pub(crate) fn new() -> Self {
            Self(crossbeam::queue::SegQueue::new())
        }

        pub(crate) fn push(&self, value: T) {
            self.0.push(value);
        }

        #[inline]
        pub(crate) fn pop(&self) -> Option<T> {
            self.0.pop()
        }
    }
}

#[cfg(loom)]
mod model {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
    /// loom's macro, which does not support `const` initialisers.
    macro_rules! thread_local_in_model {
        (static $name:ident: $type:ty = const { $value:expr }) => {
            loom::thread_local!(static $name: $type = $value);
        };
    }
    pub(crate) use thread_local_in_model as thread_local;

    pub(crate) use clock::now;

    pub(crate) mod clock {
        //! loom does not model time. In a model, the time changes only when a thread sleeps until a
        //! deadline: then it becomes the time of that deadline.

        use std::cell::Cell;
        use std::time::Instant;

        // This belongs to the thread that runs the model, so all threads of the model share it. It
        // is not a thread-local of loom, because the threads of the model do not communicate
        // through it.
        std::thread_local!(static NOW: Cell<Instant> = Cell::new(Instant::now()));

        pub(crate) fn now() -> Instant {
            NOW.get()
        }

        pub(crate) fn sleep_until(deadline: Instant) {
            NOW.set(deadline.max(NOW.get()));
            loom::thread::yield_now();
        }
    }

    pub(crate) mod thread {
        //! loom's threads, with another token to park on, because loom's token is lost if the
        //! thread acquires a lock before it parks. This token also has spurious wake-ups, one for
        //! each thread and schedule.

        use std::sync::Arc;

        use loom::sync::Notify;
        pub(crate) use loom::thread::yield_now;

        #[cfg(test)]
        pub(crate) use loom::thread::{JoinHandle, spawn};

        loom::thread_local!(static CURRENT: Thread = Thread(Arc::new(Notify::new())));

        #[derive(Clone)]
        pub(crate) struct Thread(Arc<Notify>);

        impl Thread {
            pub(crate) fn unpark(&self) {
                self.0.notify();
            }
        }

        pub(crate) fn current() -> Thread {
            CURRENT.with(Thread::clone)
        }

        pub(crate) fn park() {
            current().0.wait();
        }
    }

    /// loom's own place for a waker, with the interface of ours.
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            Self(loom::future::AtomicWaker::new())
        }

        pub(crate) fn register(&self, waker: &std::task::Waker) {
            self.0.register_by_ref(waker);
        }

        pub(crate) fn take(&self) -> Option<std::task::Waker> {
            self.0.take_waker()
        }
    }

    /// loom's mutex with the interface of `parking_lot`.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("a model panicked with the lock held")
        }
    }

    /// Replaces arc-swap: the same contract, with a lock.
    pub(crate) struct Published<T>(Mutex<Arc<T>>);

    impl<T> Published<T> {
        pub(crate) fn new(value: Arc<T>) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn load(&self) -> Arc<T> {
            self.0.lock().clone()
        }

        pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
            std::mem::replace(&mut *self.0.lock(), value)
        }
    }

    pub(crate) type Loaded<T> = Arc<T>;

    /// Replaces crossbeam's `SegQueue`.
    pub(crate) struct Queue<T>(Mutex<std::collections::VecDeque<T>>);

    impl<T> Queue<T> {
        pub(crate) fn new() -> Self {
            Self(Mutex::new(std::collections::VecDeque::new()))
        }

        pub(crate) fn push(&self, value: T) {
            self.0.lock().push_back(value);
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.0.lock().pop_front()
        }
    }
}
