//! How a subscriber learns that there is something to read.
//!
//! A feed has one listener, which is chosen when it is made. The shard notifies it once per round,
//! and only if the consumer has requested it; the rings keep that flag.
//!
//! # Failure modes
//!
//! * A waker is user code and may panic: [`wake_registered`] contains that.

use std::sync::Weak;

use crate::park::wake_registered;
use crate::sync::AtomicWaker;

/// What is notified when there is something to read.
pub(crate) enum Listener {
    /// A thread or a task that waits for events.
    Waker(AtomicWaker),
    /// An owner of the consumer that is scheduled to read. Weak, because it owns the consumer.
    Callback(Weak<dyn ReaderCallback>),
}

/// Schedules a read of the ring, on another thread. Must neither wait nor panic.
pub(crate) trait ReaderCallback: Send + Sync {
    fn schedule_read(self: std::sync::Arc<Self>);
}

impl Listener {
    pub(crate) fn waker() -> Self {
        Self::Waker(AtomicWaker::new())
    }

    /// There is something to read, or the feed has ended.
    pub(super) fn notify(&self) {
        match self {
            Self::Waker(waker) => wake_registered(waker),
            Self::Callback(reader) => {
                if let Some(reader) = reader.upgrade() {
                    reader.schedule_read();
                }
            }
        }
    }

    /// Wakes a thread or a task that waits, though there is nothing to read.
    pub(super) fn wake_waiting(&self) {
        if let Self::Waker(waker) = self {
            wake_registered(waker);
        }
    }
}
