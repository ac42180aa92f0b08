//! Wakes a task when its time comes: a task cannot sleep until then, so a thread does.
//!
//! For the one who reads from a manual bus that is closing, as a task, and waits for the end of a
//! longest wait: nobody else may be left to come by.

use std::io;
use std::sync::Weak;
use std::task::Waker;
use std::time::Instant;

use crate::park::wake_registered;
use crate::sync::{Arc, AtomicWaker};

/// A thread that sleeps until a task is to be woken. Dropped, it wakes nobody, and the thread ends.
pub(super) struct WakeTimer {
    at: Instant,
    /// Whom it wakes. Gone while it is dropped.
    waker: Option<Arc<AtomicWaker>>,
    thread: std::thread::Thread,
}

impl WakeTimer {
    pub(super) fn set(at: Instant, waker: &Waker) -> io::Result<Self> {
        let registered = Arc::new(AtomicWaker::new());
        registered.register(waker);
        let theirs = Arc::downgrade(&registered);
        let thread = std::thread::Builder::new()
            .name("fanout-timer".into())
            .spawn(move || sleep(at, &theirs))?;
        Ok(Self {
            at,
            waker: Some(registered),
            thread: thread.thread().clone(),
        })
    }

    /// Has this waker woken, and no longer the one before. `false`: it is an timer for another
    /// time, or it has rung.
    pub(super) fn is_for(&self, at: Instant, waker: &Waker) -> bool {
        if let Some(registered) = &self.waker {
            registered.register(waker);
        }
        // After it was registered: an timer that rang before may not have seen it.
        self.at == at && Instant::now() < at
    }
}

fn sleep(at: Instant, waker: &Weak<AtomicWaker>) {
    while waker.strong_count() > 0 {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        std::thread::park_timeout(left);
    }
    if let Some(waker) = waker.upgrade() {
        wake_registered(&waker);
    }
}

impl Drop for WakeTimer {
    fn drop(&mut self) {
        self.waker = None;
        self.thread.unpark();
    }
}
