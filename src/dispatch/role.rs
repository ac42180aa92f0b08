//! A role: state that one thread at a time may use, behind a token that no thread ever waits for.
//!
//! The sequencer and each shard are roles. Any thread may try to acquire one. A thread that fails
//! leaves a mark, and the holder learns of the mark when it releases the role: then it looks at the
//! queues again, or makes another thread do so. So work that was queued before a failed attempt is
//! never forgotten.
//!
//! | token | `try_acquire` | `release` |
//! | --- | --- | --- |
//! | FREE | CAS to HELD: the caller holds the role | - |
//! | HELD | CAS to MARKED: the holder will look again | swap to FREE: no thread has tried |
//! | MARKED | CAS to MARKED: the holder will look again | swap to FREE: look again |
//!
//! The race that the mark closes: the holder finds the queue empty; another thread pushes to it,
//! tries to acquire the role, fails, and goes away; the holder releases the role. Either the
//! attempt comes after the release, and succeeds; or it comes before the release, which then sees
//! the mark, and everything that was queued before the mark.
//!
//! The token also keeps every ring single-producer and single-consumer, since the rings' ends are
//! in the roles' states.
//!
//! # Failure modes
//!
//! * **The holder panics**: its guard frees the role. The engine then breaks the bus, so the mark
//!   that is lost does not matter.
//! * **The holder is not scheduled**: its work waits, since no other thread can acquire the role.
//!   Publishers still publish until their lanes are full.

#![allow(
    unsafe_code,
    reason = "lends its state to the holder of the token; ARCHITECTURE.md lists this file"
)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use crate::sync::{AtomicU8, Ordering, UnsafeCell};

const FREE: u8 = 0;
const HELD: u8 = 1;
const MARKED: u8 = 2;

/// State behind a token. A thread may try to acquire the token, but never waits for it.
pub(crate) struct Role<S> {
    /// [`FREE`], [`HELD`] or [`MARKED`].
    token: AtomicU8,
    state: UnsafeCell<S>,
}

// SAFETY: the state is reached through a `RoleGuard` alone. There is at most one guard at a time,
// and the token's Release and Acquire carry the state from thread to thread. So sharing a role does
// no more than to move an `S` from thread to thread.
unsafe impl<S: Send> Sync for Role<S> {}
// SAFETY: a role owns its state, so sending it sends an `S`.
unsafe impl<S: Send> Send for Role<S> {}

impl<S> Role<S> {
    pub(crate) fn new(state: S) -> Self {
        Self {
            token: AtomicU8::new(FREE),
            state: UnsafeCell::new(state),
        }
    }

    /// Acquires the role if it is free; otherwise leaves a mark for the holder.
    #[inline]
    pub(crate) fn try_acquire(&self) -> Option<RoleGuard<'_, S>> {
        let mut seen = FREE;
        loop {
            let (new, success) = match seen {
                // Acquire, partner the swap in `free`: the last holder's changes of the state.
                FREE => (HELD, Ordering::Acquire),
                // Release, partner the swap in `free`: what the caller queued before is seen when
                // the holder looks again. A token that is marked already is written again, since
                // only a write by this caller publishes what this caller queued.
                _ => (MARKED, Ordering::Release),
            };
            match self
                .token
                .compare_exchange(seen, new, success, Ordering::Relaxed)
            {
                Ok(FREE) => {
                    return Some(RoleGuard {
                        role: self,
                        lends: PhantomData,
                    });
                }
                Ok(_) => return None,
                Err(now) => {
                    debug_assert!(now <= MARKED, "a token of {now}");
                    seen = now;
                }
            }
        }
    }

    /// Frees the token. `true`: it was marked.
    fn free(&self) -> bool {
        // AcqRel, partner both compare-exchanges in `try_acquire`: Release hands the state to the
        // next holder; Acquire makes visible what the threads that left a mark had queued.
        let token = self.token.swap(FREE, Ordering::AcqRel);
        debug_assert!(token != FREE, "the holder's token was free");
        token == MARKED
    }
}

/// The right to use the state of a role.
pub(crate) struct RoleGuard<'a, S> {
    role: &'a Role<S>,
    /// A guard gives out `&S` and `&mut S`, so it may be sent or shared only where those may.
    /// Without this field it could be shared wherever `&Role<S>` can, although `S` might not be
    /// `Sync`.
    lends: PhantomData<&'a mut S>,
}

impl<S> RoleGuard<'_, S> {
    /// Frees the role. `true`: another thread has tried to acquire it meanwhile, and relies on the
    /// caller to look again.
    #[inline]
    #[must_use = "a mark that is ignored is lost work"]
    pub(crate) fn release(self) -> bool {
        let role = self.role;
        std::mem::forget(self);
        role.free()
    }
}

impl<S> Drop for RoleGuard<'_, S> {
    /// Only a panic drops a guard. In the engine it breaks the bus, so the lost mark does not
    /// matter.
    fn drop(&mut self) {
        self.role.free();
    }
}

impl<S> Deref for RoleGuard<'_, S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        // SAFETY: only the one guard reaches the state, and it is borrowed for as long as the
        // result.
        self.role.state.with(|state| unsafe { &*state })
    }
}

impl<S> DerefMut for RoleGuard<'_, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        // SAFETY: only the one guard reaches the state, and it is borrowed exclusively for as long
        // as the result.
        self.role.state.with_mut(|state| unsafe { &mut *state })
    }
}
