//! The shard's end of a feed.

use super::{End, FeedShared, bounded, conflated, newest};
use crate::dispatch::block::{BlockRef, Shares};
use crate::dispatch::loss::{BlockTimeout, GapReason};
use crate::sync::{Arc, Ordering};

/// The shard's end.
pub(crate) struct FeedProducer<T> {
    pub(super) queue: WriteEnd<T>,
    pub(super) shared: Arc<FeedShared>,
    /// Pushed to or lost from since the last commit.
    pub(super) dirty: bool,
}

/// What the policy asks for.
pub(super) enum WriteEnd<T> {
    Bounded(bounded::WriteEnd<T>),
    Newest(newest::WriteEnd<T>),
    Conflated(conflated::WriteEnd<T>),
}

impl<T> FeedProducer<T> {
    /// Blocks wait for a `Block` subscriber for so long at most.
    pub(crate) fn waiting_for(mut self, longest_wait: BlockTimeout) -> Self {
        if let WriteEnd::Bounded(queue) = &mut self.queue {
            queue.longest_wait = longest_wait;
        }
        self
    }

    pub(crate) fn longest_wait(&self) -> BlockTimeout {
        match &self.queue {
            WriteEnd::Bounded(queue) => queue.longest_wait,
            WriteEnd::Newest(_) | WriteEnd::Conflated(_) => BlockTimeout::NONE,
        }
    }

    /// The subscription begins with this id.
    pub(crate) fn begin(&self, first_id: u64) {
        self.shared
            .writer
            .first_id
            .store(first_id, Ordering::Release);
    }

    /// Events of the block matched and are about to be offered. `false`: the subscription ended before this block,
    /// offer nothing.
    pub(crate) fn matched(&mut self, block: &BlockRef<T>, mask: u64) -> bool {
        if self.shared.end() != End::None {
            self.shared.note_last_id(block.first_id() - 1);
            return false;
        }
        self.shared.writer.gauges.matched(block.created_at_ns());
        let matched = &self.shared.writer.matched;
        // Relaxed load: only we write it. Release: `stats`.
        let before = matched.load(Ordering::Relaxed);
        matched.store(before + u64::from(mask.count_ones()), Ordering::Release);
        true
    }

    /// Pushes the events of the mask, as far as there is room, and does with the rest as the policy says. What
    /// is returned must be offered again when there is room. Nothing has to be visible before `commit`.
    #[inline]
    pub(crate) fn offer(
        &mut self,
        block: &BlockRef<T>,
        shares: &mut Shares<'_, T>,
        mask: u64,
    ) -> u64 {
        match &mut self.queue {
            WriteEnd::Bounded(queue) => queue.offer(&self.shared, block, shares, mask),
            WriteEnd::Newest(queue) => {
                queue.offer(&self.shared, block, shares, mask);
                0
            }
            WriteEnd::Conflated(queue) => {
                queue.offer(&self.shared, block, shares, mask);
                0
            }
        }
    }

    /// Gives up what `offer` returned. `false`: there is room by now, offer it again.
    #[must_use]
    pub(crate) fn give_up(&mut self, block: &BlockRef<T>, rest: u64, reason: GapReason) -> bool {
        let queue = self.waiting_queue();
        queue.0.lose(queue.1, block, rest, reason)
    }

    /// A block has waited for the subscriber for as long as it may: what is offered from now on and finds no room is lost,
    /// until the subscriber claims something.
    #[cold]
    pub(crate) fn stop_waiting(&mut self) {
        let queue = self.waiting_queue();
        queue.0.stop_waiting(queue.1);
    }

    /// Whether the subscriber may arrive without room for so many events of a block.
    pub(crate) fn may_arrive_early_for(&self, events: u32) -> bool {
        let capacity = self.shared.status.capacity;
        events > capacity - capacity / 2
    }

    /// Makes everything visible. Wakes the subscriber if it sleeps.
    #[inline]
    pub(crate) fn commit(&mut self) {
        self.dirty = false;
        let wake_requested = match &mut self.queue {
            WriteEnd::Bounded(queue) => queue.commit(),
            WriteEnd::Newest(queue) => queue.commit(),
            WriteEnd::Conflated(queue) => queue.commit(),
        };
        if wake_requested {
            self.shared.listener.wake();
        }
    }

    /// Whether `commit` has something to do; set by the caller that put it on its list.
    pub(crate) fn mark_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, true)
    }

    /// Asks the subscriber to arrive at the latch when its ring has room for so many events of a block, or is half empty,
    /// whichever is first; or, for a block of a weight that is too heavy, when it is empty. `true`: it is so already, and
    /// nobody will arrive for it.
    pub(crate) fn request_wake(&mut self, weight: usize, events: u32) -> bool {
        let queue = self.waiting_queue();
        queue.0.request_wake(queue.1, weight, events)
    }

    /// Takes back the wish of `request_wake`. `true`: nobody will arrive for it.
    pub(crate) fn take_wake_request(&mut self) -> bool {
        match &mut self.queue {
            WriteEnd::Bounded(queue) => queue.take_wake_request(),
            WriteEnd::Newest(_) | WriteEnd::Conflated(_) => false,
        }
    }

    /// Nothing more comes: the bus is closed, and `last_id` was the last event.
    pub(crate) fn close(mut self, last_id: u64) {
        self.commit();
        self.shared.note_last_id(last_id);
        let wake_requested = match &self.queue {
            WriteEnd::Bounded(queue) => queue.close(),
            WriteEnd::Newest(queue) => queue.close(),
            WriteEnd::Conflated(queue) => queue.close(),
        };
        if wake_requested {
            self.shared.listener.wake();
        }
    }

    /// The subscription was cancelled; it covers the ids up to `last_id`.
    pub(crate) fn detach(mut self, last_id: u64) {
        self.commit();
        self.shared.note_last_id(last_id);
    }

    /// The bus broke.
    pub(crate) fn mark_broken(&self) {
        self.shared.finish(End::Broken);
    }

    /// Whether this feed's subscription has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.end() != End::None
    }

    /// The queue of a subscriber that may have to be waited for.
    fn waiting_queue(&mut self) -> (&mut bounded::WriteEnd<T>, &FeedShared) {
        match &mut self.queue {
            WriteEnd::Bounded(queue) => (queue, &self.shared),
            WriteEnd::Newest(_) | WriteEnd::Conflated(_) => {
                unreachable!("it never returned anything from `offer`")
            }
        }
    }
}

impl<T> Drop for FeedProducer<T> {
    fn drop(&mut self) {
        self.shared.status.writer_gone.leave();
    }
}
