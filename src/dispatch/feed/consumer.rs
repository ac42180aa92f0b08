//! The subscriber's end of a feed.

use super::{Claim, End, FeedShared, Listener, bounded, conflated, newest};
use crate::dispatch::block::{BlockRef, Event};
#[cfg(feature = "latency")]
use crate::dispatch::latency::Recorder;
use crate::dispatch::loss::Gap;
use crate::sync::{Arc, AtomicU64, AtomicWaker, Ordering};

/// What a subscriber finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// `take` will give an event.
    Event,
    /// This was lost here.
    Gap(Gap),
    /// Nothing yet.
    Empty,
    /// Everything was read, and nothing more will come.
    Closed,
    /// It was cancelled, or the bus broke.
    Ended(End),
    /// Its ring was full once too often, and everything in it was read.
    Disconnected(Gap),
}

/// The subscriber's end.
pub(crate) struct FeedConsumer<T> {
    pub(super) queue: ReadEnd<T>,
    pub(super) shared: Arc<FeedShared>,
    /// The claimed slot; kept until the next look, since the program may still read its last event.
    pub(super) block: Option<BlockRef<T>>,
    /// Events of the claimed slot that were not taken yet.
    pub(super) mask: u64,
    pub(super) reported: Reported,
    /// Where the latencies of sampled events go.
    #[cfg(feature = "latency")]
    pub(super) recorder: Option<Arc<Recorder>>,
    /// The sampled events of the claimed slot; 0 without a recorder.
    #[cfg(feature = "latency")]
    pub(super) sampled: u64,
}

/// What the program knows of the end: it is not told anything else later.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reported {
    Going,
    Closed,
    /// Cancelled or disconnected.
    Ended,
}

/// What the policy asks for.
pub(super) enum ReadEnd<T> {
    Bounded(bounded::ReadEnd<T>),
    Newest(newest::ReadEnd<T>),
    Conflated(conflated::ReadEnd<T>),
}

impl<T> FeedConsumer<T> {
    pub(crate) fn shared(&self) -> &Arc<FeedShared> {
        &self.shared
    }

    /// Whether something other than the closing of the ring has ended it.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.end() != End::None
    }

    /// Looks for the next thing to tell. Finishes whatever other threads do.
    #[inline]
    pub(crate) fn check(&mut self) -> Found {
        let end = self.shared.end();
        if end == End::Cancelled {
            return self.cancelled();
        }
        if self.mask != 0 {
            return Found::Event;
        }
        match self.claim() {
            Found::Empty if end != End::None => self.ended(end),
            found => found,
        }
    }

    /// The event that `look` found.
    #[inline]
    pub(crate) fn take(&mut self) -> &Event<T> {
        let index = self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        #[cfg(feature = "latency")]
        self.record(1 << index);
        self.count_received(1);
        let block = self.block.as_ref().expect("a mask has a block");
        &block.events()[index]
    }

    /// All the rest of the slot that `look` found an event in.
    pub(crate) fn take_slot(&mut self) -> (BlockRef<T>, u64) {
        let mask = std::mem::take(&mut self.mask);
        #[cfg(feature = "latency")]
        self.record(mask);
        self.count_received(u64::from(mask.count_ones()));
        (self.block.take().expect("a mask has a block"), mask)
    }

    /// Which events of the slot that `look` found an event in were not taken yet.
    pub(crate) fn mask(&self) -> u64 {
        self.mask
    }

    /// Number `index` of that slot's block.
    pub(crate) fn event(&self, index: u32) -> Option<&Event<T>> {
        self.block.as_ref()?.events().get(index as usize)
    }

    /// The events of that slot, to be taken one by one.
    #[inline]
    pub(crate) fn slot(&mut self) -> SlotEvents<'_, T> {
        let block = self.block.as_ref().expect("a mask has a block");
        let received = &self.shared.reader.received;
        SlotEvents {
            events: block.events(),
            left: self.mask,
            mask: &mut self.mask,
            // Relaxed: only this side writes it.
            count: received.load(Ordering::Relaxed),
            received,
        }
    }

    /// Events received.
    pub(crate) fn received(&self) -> u64 {
        // Relaxed: only this side writes it.
        self.shared.reader.received.load(Ordering::Relaxed)
    }

    pub(crate) fn set_received(&self, received: u64) {
        // Release, partner `FeedShared::stats`.
        self.shared
            .reader
            .received
            .store(received, Ordering::Release);
    }

    /// The events of that slot are handed out now, one by one.
    #[inline]
    pub(crate) fn hands_out(&self) {
        #[cfg(feature = "latency")]
        self.record(self.mask);
    }

    /// Latencies of sampled events go there from now on.
    #[cfg(feature = "latency")]
    pub(crate) fn recording_into(mut self, recorder: Arc<Recorder>) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// These events of the claimed slot are handed out now.
    #[cfg(feature = "latency")]
    #[inline(always)]
    fn record(&self, mask: u64) {
        if self.sampled & mask == 0 {
            return;
        }
        if let (Some(recorder), Some(block)) = (&self.recorder, &self.block) {
            recorder.record(block.stamps(), mask);
        }
    }

    /// The waker to register before `request_wake`.
    pub(crate) fn waker(&self) -> &AtomicWaker {
        match &self.shared.listener {
            Listener::Waker(waker) => waker,
            Listener::Callback(_) => unreachable!("who is called does not wait"),
        }
    }

    /// Asks to be woken, and looks once more. `false`: there is something.
    pub(crate) fn request_wake(&mut self) -> bool {
        let empty = match &mut self.queue {
            ReadEnd::Bounded(queue) => queue.request_wake(&self.shared),
            ReadEnd::Newest(queue) => queue.request_wake(),
            ReadEnd::Conflated(queue) => queue.request_wake(),
        };
        empty && self.shared.end() == End::None
    }

    #[inline]
    fn count_received(&mut self, n: u64) {
        let received = &self.shared.reader.received;
        // Relaxed load: only we write it. Release, partner `FeedShared::stats`.
        received.store(received.load(Ordering::Relaxed) + n, Ordering::Release);
    }

    fn claim(&mut self) -> Found {
        self.block = None;
        let claim = match &mut self.queue {
            ReadEnd::Bounded(queue) => queue.claim(&self.shared),
            ReadEnd::Newest(queue) => queue.claim(&self.shared),
            ReadEnd::Conflated(queue) => queue.claim(&self.shared),
        };
        match claim {
            Claim::Events {
                block,
                mask,
                behind,
            } => {
                self.claimed(block, mask);
                behind.map_or(Found::Event, |gap| self.report(gap))
            }
            Claim::Gap(gap) => self.report(gap),
            Claim::Empty => Found::Empty,
            Claim::Finished => self.finished(),
        }
    }

    fn claimed(&mut self, block: BlockRef<T>, mask: u64) {
        self.shared.reader.gauges.claimed(block.created_at_ns());
        self.mask = mask;
        #[cfg(feature = "latency")]
        if self.recorder.is_some() {
            self.sampled = block.stamps().mask() & mask;
        }
        self.block = Some(block);
    }

    #[cold]
    fn finished(&mut self) -> Found {
        // The shard closes the ring of a subscription that has ended, too, and that may all have happened since `look` asked
        // for the end, or long ago. The end is visible now that the close is.
        if self.shared.finish_closed() {
            self.reported = Reported::Closed;
            return Found::Closed;
        }
        match self.shared.end() {
            End::Cancelled => self.cancelled(),
            end => self.ended(end),
        }
    }

    /// What had been lost right where it was cancelled is told first.
    #[cold]
    fn cancelled(&mut self) -> Found {
        let between = self.mask != 0;
        let gap = self.release_all();
        if self.reported == Reported::Closed {
            return Found::Closed;
        }
        // What the shard has lost since may lie behind events that were let go here.
        let first = std::mem::replace(&mut self.reported, Reported::Ended) == Reported::Going;
        match gap {
            Some(gap) if first && !between => self.report(gap),
            _ => Found::Ended(End::Cancelled),
        }
    }

    /// Everything was read.
    #[cold]
    fn ended(&mut self, end: End) -> Found {
        let gap = match &self.queue {
            ReadEnd::Bounded(queue) if end == End::Disconnected => {
                queue.disconnected_by(&self.shared)
            }
            _ => None,
        };
        let Some(gap) = gap else {
            return Found::Ended(end);
        };
        if std::mem::replace(&mut self.reported, Reported::Ended) == Reported::Going {
            self.shared.reader.gauges.report_lost(gap.count());
        }
        Found::Disconnected(gap)
    }

    fn report(&self, gap: Gap) -> Found {
        self.shared.reader.gauges.report_lost(gap.count());
        Found::Gap(gap)
    }

    /// Drops what is left, lets a shard that waits for room go on, and says what had been lost right in front of it.
    #[cold]
    fn release_all(&mut self) -> Option<Gap> {
        self.block = None;
        self.mask = 0;
        match &mut self.queue {
            ReadEnd::Bounded(queue) => queue.release_all(&self.shared),
            ReadEnd::Newest(queue) => queue.release_all(&self.shared),
            ReadEnd::Conflated(queue) => queue.release_all(&self.shared),
        }
    }
}

/// A claimed slot, event by event; what is not taken stays. It keeps its counts in registers: a handler's loop is short.
pub(crate) struct SlotEvents<'a, T> {
    events: &'a [Event<T>],
    /// Not taken yet.
    left: u64,
    /// Where that is noted in the end.
    mask: &'a mut u64,
    /// Events received.
    count: u64,
    received: &'a AtomicU64,
}

impl<'a, T> SlotEvents<'a, T> {
    /// Takes the next event. It counts as received with [`count`](Self::count).
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<&'a Event<T>> {
        let index = self.left.trailing_zeros() as usize;
        self.left &= self.left.wrapping_sub(1);
        // With nothing left, the index is past the end.
        self.events.get(index)
    }

    /// Counts an event as received, and says how many there are now.
    #[inline(always)]
    pub(crate) fn count(&mut self) -> u64 {
        self.count += 1;
        // Release, partner `FeedShared::stats`.
        self.received.store(self.count, Ordering::Release);
        self.count
    }
}

impl<T> Drop for SlotEvents<'_, T> {
    /// Also when a handler panics.
    #[inline(always)]
    fn drop(&mut self) {
        *self.mask = self.left;
    }
}

impl<T> Drop for FeedConsumer<T> {
    fn drop(&mut self) {
        self.shared.finish(End::Cancelled);
        self.release_all();
        self.shared.status.reader_gone.leave();
    }
}
