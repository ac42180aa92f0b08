//! A role: state that one thread at a time may use, and a token that nobody waits for.
//!
//! The sequencer and each shard are roles. Any thread may try to hold one. Who fails leaves a mark, and
//! the holder learns of the mark when it lets go: then it looks again (or sees to it that
//! somebody does). So work that was left in a queue before a failed try is never forgotten.
//!
//! | token | try_hold | release |
//! | --- | --- | --- |
//! | FREE | CAS to HELD: you hold it | - |
//! | HELD | CAS to MARKED: the holder will look again | swap to FREE: nobody came by |
//! | MARKED | stays MARKED | swap to FREE: look again |
//!
//! The race that the mark closes: the holder finds the queue empty; another thread fills it, tries, fails,
//! leaves; the holder lets go. With the mark, either the try comes after the release and succeeds, or
//! before it, and the release sees the mark and everything that was queued before it.
//!
//! The hand-over of the token is also what keeps every ring single-producer and single-consumer: the
//! rings' ends live in the role's state.

#![allow(
    unsafe_code,
    reason = "hands out its state by token; one of the rooms that ARCHITECTURE.md names"
)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use crate::sync::{AtomicU8, Ordering, UnsafeCell};

const FREE: u8 = 0;
const HELD: u8 = 1;
const MARKED: u8 = 2;

/// State behind a try-only token.
pub(crate) struct Role<S> {
    token: AtomicU8,
    state: UnsafeCell<S>,
}

// SAFETY: the state is reached through `Held` alone, of which there is one at a time, and the token's
// Release and Acquire carry it from thread to thread: so sharing a role only ever moves an `S`.
unsafe impl<S: Send> Sync for Role<S> {}
// SAFETY: as above.
unsafe impl<S: Send> Send for Role<S> {}

impl<S> Role<S> {
    pub(crate) fn new(state: S) -> Self {
        Self {
            token: AtomicU8::new(FREE),
            state: UnsafeCell::new(state),
        }
    }

    /// Takes the role if it is free; else leaves a mark for the holder.
    #[inline]
    pub(crate) fn try_hold(&self) -> Option<Held<'_, S>> {
        let mut seen = FREE;
        loop {
            let (new, success) = match seen {
                // Acquire, partner `release`: the last holder's changes of the state.
                FREE => (HELD, Ordering::Acquire),
                // Release, partner `release`: what we queued before is seen by the holder's next look. A marked
                // token is marked again, since only a write of ours makes that promise.
                _ => (MARKED, Ordering::Release),
            };
            match self
                .token
                .compare_exchange(seen, new, success, Ordering::Relaxed)
            {
                Ok(FREE) => {
                    return Some(Held {
                        role: self,
                        lends: PhantomData,
                    });
                }
                Ok(_) => return None,
                Err(now) => seen = now,
            }
        }
    }
}

/// The one who holds the role.
pub(crate) struct Held<'a, S> {
    role: &'a Role<S>,
    /// Gives out `&S` and `&mut S`, so it may be shared and sent only where those may: a `Role<S>` may be shared
    /// even if `S` may not.
    lends: PhantomData<&'a mut S>,
}

impl<S> Held<'_, S> {
    /// Lets go. `true`: somebody came by meanwhile, and counts on the caller to look again.
    #[inline]
    #[must_use = "a mark that is not followed up is lost work"]
    pub(crate) fn release(self) -> bool {
        let role = self.role;
        std::mem::forget(self);
        role.free()
    }
}

impl<S> Role<S> {
    /// AcqRel: Release the state to the next holder; Acquire what those who left a mark had queued.
    /// Partner: `try_hold`.
    fn free(&self) -> bool {
        self.token.swap(FREE, Ordering::AcqRel) == MARKED
    }
}

impl<S> Drop for Held<'_, S> {
    /// Only a panic gets here: it breaks the bus, so a lost mark does not matter any more.
    fn drop(&mut self) {
        self.role.free();
    }
}

impl<S> Deref for Held<'_, S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        // SAFETY: there is one `Held` at a time, so nobody else refers to the state; the borrow is ours.
        self.role.state.with(|state| unsafe { &*state })
    }
}

impl<S> DerefMut for Held<'_, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        // SAFETY: as above, and `self` is borrowed exclusively.
        self.role.state.with_mut(|state| unsafe { &mut *state })
    }
}
