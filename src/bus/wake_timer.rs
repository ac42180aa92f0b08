//! A timer that wakes a task at a given time. Without a runtime, a task cannot sleep until a time,
//! so a thread does.
//!
//! It is needed under manual dispatch: a task waits for a flush or a close, or for events of a bus
//! that is closing, and the bus waits for the end of a block timeout. There may be no other thread
//! that runs the shard at that time.

use std::io;
use std::sync::Weak;
use std::task::Waker;
use std::time::Instant;

use crate::park::{register_task, wake_registered, wake_to_poll_again};
use crate::sync::{Arc, AtomicWaker};

/// A thread that sleeps until it wakes a task. When the timer is dropped, the thread ends and wakes
/// nothing.
pub(super) struct WakeTimer {
    at: Instant,
    /// The waker of the task. `None` while the timer is dropped.
    waker: Option<Arc<AtomicWaker>>,
    thread: std::thread::Thread,
}

impl WakeTimer {
    /// Makes sure that a timer wakes the task at that time. If the system cannot start a thread,
    /// the task is woken at once, so that it polls until then.
    #[cold]
    pub(super) fn set(timer: &mut Option<Self>, at: Instant, waker: &Waker) {
        if timer.as_ref().is_some_and(|timer| timer.is_for(at, waker)) {
            return;
        }
        *timer = Self::start(at, waker).ok();
        if timer.is_none() {
            wake_to_poll_again(waker);
        }
    }

    fn start(at: Instant, waker: &Waker) -> io::Result<Self> {
        let registered = Arc::new(AtomicWaker::new());
        register_task(&registered, waker);
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

    /// Registers this waker in place of the previous one. Returns `false` if the timer is for
    /// another time, or its time is over.
    fn is_for(&self, at: Instant, waker: &Waker) -> bool {
        if let Some(registered) = &self.waker {
            register_task(registered, waker);
        }
        // This check comes after the waker was registered: a thread that woke the task before that
        // has not seen the new waker.
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
