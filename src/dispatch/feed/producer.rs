//! The shard's end of a feed.

use super::{End, FeedShared, bounded, conflated, newest};
use crate::dispatch::block::{AnyBlock, RefBatch};
use crate::dispatch::loss::{BlockTimeout, GapReason};
use crate::sync::{Arc, Ordering};

/// The shard's end of a feed.
pub(crate) struct FeedProducer {
    queue: WriteEnd,
    shared: Arc<FeedShared>,
    /// Set between a push or a loss and the commit that follows.
    dirty: bool,
}

/// The shard's end of the queue; the policy decides its kind.
pub(super) enum WriteEnd {
    Bounded(bounded::WriteEnd),
    Newest(newest::WriteEnd),
    Conflated(conflated::WriteEnd),
}

impl FeedProducer {
    pub(super) fn new(queue: WriteEnd, shared: Arc<FeedShared>) -> Self {
        Self {
            queue,
            shared,
            dirty: false,
        }
    }

    /// Sets how long blocks wait for a `Block` subscriber at most. Has no effect under other
    /// policies.
    pub(crate) fn with_block_timeout(mut self, timeout: BlockTimeout) -> Self {
        if let WriteEnd::Bounded(queue) = &mut self.queue {
            queue.block_timeout = timeout;
        }
        self
    }

    pub(crate) fn block_timeout(&self) -> BlockTimeout {
        match &self.queue {
            WriteEnd::Bounded(queue) => queue.block_timeout,
            WriteEnd::Newest(_) | WriteEnd::Conflated(_) => BlockTimeout::NONE,
        }
    }

    /// The subscription begins with this id.
    pub(crate) fn begin(&self, first_id: u64) {
        // Release, partner `FeedShared::stats`.
        self.shared
            .writer
            .first_id
            .store(first_id, Ordering::Release);
    }

    /// Counts the events of the mask, which matched and are offered next. `false`: the subscription
    /// ended before this block, and the caller must offer nothing.
    pub(crate) fn matched(&mut self, block: &AnyBlock, mask: u64) -> bool {
        debug_assert!(mask != 0, "no event matched");
        if self.shared.end() != End::None {
            self.shared.note_last_id(block.first_id() - 1);
            return false;
        }
        self.shared.writer.gauges.matched(block.created_at_ns());
        self.shared.count_matched(u64::from(mask.count_ones()));
        true
    }

    /// Pushes the events of the mask that have room; the policy decides what happens to the others.
    /// Returns the events that the caller must offer again when there is room. What was pushed may
    /// stay invisible until `commit`.
    #[inline]
    pub(crate) fn offer(&mut self, block: &AnyBlock, refs: &mut RefBatch<'_>, mask: u64) -> u64 {
        debug_assert!(mask != 0, "there is nothing to offer");
        let rest = match &mut self.queue {
            WriteEnd::Bounded(queue) => queue.offer(&self.shared, block, refs, mask),
            WriteEnd::Newest(queue) => {
                queue.offer(&self.shared, block, refs, mask);
                0
            }
            WriteEnd::Conflated(queue) => {
                queue.offer(&self.shared, block, refs, mask);
                0
            }
        };
        debug_assert_eq!(rest & !mask, 0, "only what was offered is returned");
        rest
    }

    /// Gives up what `offer` returned: it is lost. `false`: nothing was lost, because there is room
    /// by now, and the caller must offer it again.
    #[must_use]
    pub(crate) fn give_up(&mut self, block: &AnyBlock, rest: u64, reason: GapReason) -> bool {
        let (queue, shared) = self.bounded_queue();
        queue.try_lose(shared, block, rest, reason)
    }

    /// A block has waited for the subscriber as long as its block timeout allows. From now on,
    /// offered events that find no room are lost, until the subscriber claims something.
    #[cold]
    pub(crate) fn stop_waiting(&mut self) {
        let (queue, shared) = self.bounded_queue();
        queue.stop_waiting(shared);
    }

    /// Whether the subscriber may arrive at the latch without room for this many events of a block.
    pub(crate) fn may_arrive_early_for(&self, events: u32) -> bool {
        let capacity = self.shared.status.capacity;
        events > capacity - capacity / 2
    }

    /// Publishes what was pushed or lost. Wakes the subscriber if it has requested a wake-up.
    #[inline]
    pub(crate) fn commit(&mut self) {
        self.dirty = false;
        let wake_requested = match &mut self.queue {
            WriteEnd::Bounded(queue) => queue.commit(),
            WriteEnd::Newest(queue) => queue.commit(),
            WriteEnd::Conflated(queue) => queue.commit(),
        };
        if wake_requested {
            self.shared.listener.notify();
        }
    }

    /// Notes that `commit` has something to do. `true`: it was not noted yet, so the caller must
    /// see to it that `commit` is called.
    pub(crate) fn mark_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, true)
    }

    /// Makes the subscriber arrive at the latch when its ring has room for this many events of a
    /// block or is half empty, whichever comes first; or, for a block that is too heavy, when the
    /// ring is empty. `true`: that is so already, and the subscriber will not arrive for it.
    pub(crate) fn request_wake(&mut self, weight: usize, events: u32) -> bool {
        let (queue, shared) = self.bounded_queue();
        queue.request_wake(shared, weight, events)
    }

    /// Withdraws the request of `request_wake`. `true`: the subscriber will not arrive for it.
    pub(crate) fn take_wake_request(&mut self) -> bool {
        match &mut self.queue {
            WriteEnd::Bounded(queue) => queue.take_wake_request(),
            WriteEnd::Newest(_) | WriteEnd::Conflated(_) => false,
        }
    }

    /// The bus is closed, and `last_id` was its last event: nothing more comes.
    pub(crate) fn close(mut self, last_id: u64) {
        self.commit();
        self.shared.note_last_id(last_id);
        let wake_requested = match &self.queue {
            WriteEnd::Bounded(queue) => queue.close(),
            WriteEnd::Newest(queue) => queue.close(),
            WriteEnd::Conflated(queue) => queue.close(),
        };
        if wake_requested {
            self.shared.listener.notify();
        }
    }

    /// The subscription was cancelled. It covers the ids up to `last_id`.
    pub(crate) fn detach(mut self, last_id: u64) {
        self.commit();
        self.shared.note_last_id(last_id);
    }

    /// A thread of the bus panicked.
    pub(crate) fn mark_broken(&self) {
        self.shared.finish(End::Broken);
    }

    /// Whether this feed's subscription has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.end() != End::None
    }

    /// The queue of a policy that may return a rest from `offer`.
    fn bounded_queue(&mut self) -> (&mut bounded::WriteEnd, &FeedShared) {
        match &mut self.queue {
            WriteEnd::Bounded(queue) => (queue, &self.shared),
            WriteEnd::Newest(_) | WriteEnd::Conflated(_) => {
                unreachable!("`offer` never returns a rest under this policy")
            }
        }
    }
}

impl Drop for FeedProducer {
    fn drop(&mut self) {
        self.shared.status.writer_dropped.set();
    }
}
