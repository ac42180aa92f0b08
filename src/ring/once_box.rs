//! A value that is made when it is first needed, where most of its kind never are.
//!
//! One word until then: a subscription pays for what it uses.

#![allow(
    unsafe_code,
    reason = "memory that one side makes and both use; one of the rooms that ARCHITECTURE.md names"
)]

use std::marker::PhantomData;
use std::ptr;

use crate::sync::{AtomicPtr, Ordering};

pub(crate) struct OnceBox<T> {
    /// Null until it is made; then for good.
    value: AtomicPtr<T>,
    owns: PhantomData<T>,
}

// SAFETY: the value is made by one thread, lent to all, and dropped by any: as a `T` in a lock that is never taken back.
unsafe impl<T: Send + Sync> Sync for OnceBox<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for OnceBox<T> {}

impl<T> OnceBox<T> {
    pub(crate) fn new() -> Self {
        Self {
            value: AtomicPtr::new(ptr::null_mut()),
            owns: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        // Acquire: what is in there. Partner: `init`.
        let value = self.value.load(Ordering::Acquire);
        // SAFETY: null, or made by `init`, and freed by `drop` alone.
        unsafe { value.as_ref() }
    }

    #[inline]
    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.get().unwrap_or_else(|| self.init(make()))
    }

    #[cold]
    fn init(&self, value: T) -> &T {
        let made = Box::into_raw(Box::new(value));
        // Release what is in there, or, if it fails, Acquire what somebody else has made. Partners: `get`, and itself.
        let set = self.value.compare_exchange(
            ptr::null_mut(),
            made,
            Ordering::Release,
            Ordering::Acquire,
        );
        let value = match set {
            Ok(_) => made,
            Err(other) => {
                // SAFETY: just made, and nobody has seen it.
                drop(unsafe { Box::from_raw(made) });
                other
            }
        };
        // SAFETY: as in `get`, and not null.
        unsafe { &*value }
    }
}

impl<T> Drop for OnceBox<T> {
    fn drop(&mut self) {
        // Relaxed: the exclusive borrow says that nobody else is there.
        let value = self.value.load(Ordering::Relaxed);
        if !value.is_null() {
            // SAFETY: made by `init`, and nobody else is there.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::explore::explore;
    use crate::sync::unmodelled;
    use crate::sync::{Arc, AtomicU64, thread};

    /// What loom watches: its fields are written by the thread that makes it, and its drop fails if
    /// another thread may still read them.
    struct Value {
        number: AtomicU64,
        same_number: AtomicU64,
        drops: Arc<unmodelled::AtomicU64>,
    }

    impl Drop for Value {
        fn drop(&mut self) {
            self.number.with_mut(|number| *number = 0);
            self.same_number.with_mut(|number| *number = 0);
            self.drops.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Two threads make the value while a third looks: all get the same value, complete, and the other
    /// one is dropped.
    #[test]
    fn loom_once_box() {
        explore("once box: made twice against looked at", || {
            let shared = Arc::new(OnceBox::new());
            let made = Arc::new(unmodelled::AtomicU64::new(0));
            let dropped = Arc::new(unmodelled::AtomicU64::new(0));
            let value = {
                let (made, drops) = (made.clone(), dropped.clone());
                move |number| {
                    made.fetch_add(1, Ordering::Relaxed);
                    Value {
                        number: AtomicU64::new(number),
                        same_number: AtomicU64::new(number),
                        drops: drops.clone(),
                    }
                }
            };
            let read = |value: &Value| {
                let number = value.number.load(Ordering::Relaxed);
                assert_eq!(value.same_number.load(Ordering::Relaxed), number);
                assert!((1..=2).contains(&number), "{number}");
                number
            };
            let making: Vec<_> = (1..=2)
                .map(|number| {
                    let (shared, value) = (shared.clone(), value.clone());
                    thread::spawn(move || read(shared.get_or_init(|| value(number))))
                })
                .collect();
            let seen = shared.get().map(read);
            let made_by: Vec<_> = making.into_iter().map(|m| m.join().unwrap()).collect();
            assert_eq!(made_by[0], made_by[1]);
            assert!(seen.is_none_or(|seen| seen == made_by[0]));
            drop(shared);
            let made = made.load(Ordering::Relaxed);
            assert_eq!(made, dropped.load(Ordering::Relaxed));
        });
    }
}
