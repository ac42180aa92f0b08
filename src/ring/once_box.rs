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
