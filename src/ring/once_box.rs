//! A value that is created when it is first needed, for fields that most owners never need.
//!
//! Until then it takes one word: a subscription pays only for what it uses. Like the
//! `race::OnceBox` of [once_cell], and unlike `std`'s `OnceLock`, it never blocks: of two threads
//! that create the value at the same time, the second drops its own and uses that of the first.
//!
//! [once_cell]: https://docs.rs/once_cell/latest/once_cell/race/struct.OnceBox.html

#![allow(
    unsafe_code,
    reason = "one thread allocates the value and all use it; ARCHITECTURE.md lists this module"
)]

use std::marker::PhantomData;
use std::ptr;

use crate::sync::{AtomicPtr, Ordering};

pub(crate) struct OnceBox<T> {
    /// Null until the value is created, which happens once.
    value: AtomicPtr<T>,
    /// It owns a `T`, which an `AtomicPtr` does not say.
    _marker: PhantomData<T>,
}

// SAFETY: one thread creates the value, all threads share it, and any of them may drop it, as with
// a `OnceLock<T>`.
unsafe impl<T: Send + Sync> Sync for OnceBox<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for OnceBox<T> {}

impl<T> OnceBox<T> {
    /// Without a value.
    pub(crate) fn new() -> Self {
        Self {
            value: AtomicPtr::new(ptr::null_mut()),
            _marker: PhantomData,
        }
    }

    /// The value, if it was created.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        // Acquire: the contents of the value. Partner: `set`.
        let value = self.value.load(Ordering::Acquire);
        // SAFETY: null, or a pointer that `set` has stored, which only `drop` frees.
        unsafe { value.as_ref() }
    }

    /// The value; if it was not created, it is now.
    #[inline]
    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        self.get().unwrap_or_else(|| self.set(init()))
    }

    /// Stores this value, unless another thread has stored one meanwhile. Returns the one stored.
    #[cold]
    fn set(&self, value: T) -> &T {
        let new = Box::into_raw(Box::new(value));
        // Release the contents of our value; on failure, Acquire those of the other one. Partners:
        // `get`, and `set` itself.
        let outcome =
            self.value
                .compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Acquire);
        let value = match outcome {
            Ok(_) => new,
            Err(other) => {
                // SAFETY: allocated above, and no other thread has seen it.
                drop(unsafe { Box::from_raw(new) });
                other
            }
        };
        // SAFETY: as in `get`, and not null.
        unsafe { &*value }
    }
}

impl<T> Drop for OnceBox<T> {
    fn drop(&mut self) {
        // Relaxed: the exclusive borrow says that every other access has happened before.
        let value = self.value.load(Ordering::Relaxed);
        if !value.is_null() {
            // SAFETY: allocated by `set`, and the borrow is exclusive.
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

    /// A value whose fields are written by the thread that creates it. Its drop fails if a read of
    /// another thread does not happen before.
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

    /// Two threads create the value while a third looks: all get the same, complete value, and the
    /// other value is dropped.
    #[test]
    fn loom_once_box() {
        explore("once box: created twice against get", || {
            let shared = Arc::new(OnceBox::new());
            let created = Arc::new(unmodelled::AtomicU64::new(0));
            let dropped = Arc::new(unmodelled::AtomicU64::new(0));
            let value = {
                let (created, drops) = (created.clone(), dropped.clone());
                move |number| {
                    created.fetch_add(1, Ordering::Relaxed);
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
            let creating: Vec<_> = (1..=2)
                .map(|number| {
                    let (shared, value) = (shared.clone(), value.clone());
                    thread::spawn(move || read(shared.get_or_init(|| value(number))))
                })
                .collect();
            let seen = shared.get().map(read);
            let numbers: Vec<_> = creating.into_iter().map(|c| c.join().unwrap()).collect();
            assert_eq!(numbers[0], numbers[1]);
            assert!(seen.is_none_or(|seen| seen == numbers[0]));
            drop(shared);
            let created = created.load(Ordering::Relaxed);
            assert_eq!(created, dropped.load(Ordering::Relaxed));
        });
    }
}
