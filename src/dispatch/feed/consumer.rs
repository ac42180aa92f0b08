//! The subscriber's end of a feed.

use super::claim::Claim;
use super::{End, FeedShared, Listener, bounded, conflated, newest};
use crate::dispatch::block::{AnyBlock, BlockRef, Event};
#[cfg(feature = "latency")]
use crate::dispatch::latency::Recorder;
use crate::dispatch::loss::Gap;
use crate::pattern::Topic;
use crate::sync::{Arc, AtomicU64, AtomicWaker, Ordering};

/// What a subscriber finds.
///
/// It fits into a register; a gap would not, so `FeedConsumer` keeps it. With the gap inside, the
/// value was written in pieces and read as a whole for each event, which stalls the processor: 64
/// tasks on one core received 47 million events per second, and 76 million without it (2026-11-27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// `take` returns an event.
    Event,
    /// Events were lost here: `gap` returns them.
    Gap,
    /// Nothing yet.
    Empty,
    /// Everything was read, and nothing more will come.
    Closed,
    /// The subscription was cancelled, or the bus broke.
    Ended(End),
    /// The ring was full under `Disconnect`, and everything in it was read. `gap` returns the loss
    /// that ended the subscription.
    Disconnected,
}

/// The subscriber's end of a feed.
pub(crate) struct FeedConsumer {
    queue: ReadEnd,
    shared: Arc<FeedShared>,
    /// The block of the claimed slot. Kept until the next claim, since the program may still read
    /// its last event.
    block: Option<AnyBlock>,
    /// Events of the claimed slot that were not taken yet.
    mask: u64,
    state: State,
    /// The gap that `check` found last. In a box, since most subscribers lose nothing; the box is
    /// used again, so that only the first loss allocates.
    gap: Option<Box<Gap>>,
    /// Where the latencies of sampled events are recorded.
    #[cfg(feature = "latency")]
    recorder: Option<Arc<Recorder>>,
}

/// Which end was reported to the program. No other end is reported later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing yet.
    Open,
    Closed,
    /// Cancelled or disconnected.
    Ended,
}

/// The subscriber's end of the queue; the policy decides its kind.
pub(super) enum ReadEnd {
    Bounded(bounded::ReadEnd),
    Newest(newest::ReadEnd),
    Conflated(conflated::ReadEnd),
}

impl FeedConsumer {
    pub(super) fn new(queue: ReadEnd, shared: Arc<FeedShared>) -> Self {
        Self {
            queue,
            shared,
            block: None,
            mask: 0,
            state: State::Open,
            gap: None,
            #[cfg(feature = "latency")]
            recorder: None,
        }
    }

    /// Records the latencies of sampled events from now on.
    #[cfg(feature = "latency")]
    pub(crate) fn with_recorder(mut self, recorder: Arc<Recorder>) -> Self {
        self.recorder = Some(recorder);
        self
    }

    pub(crate) fn shared(&self) -> &Arc<FeedShared> {
        &self.shared
    }

    /// Whether anything other than the closing of the ring has ended the feed.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.end() != End::None
    }

    /// Looks for what to report next. It never waits for other threads.
    ///
    /// If the claimed slot has another event, it is found without a call, since this runs for each
    /// event.
    #[inline(always)]
    pub(crate) fn check(&mut self) -> Found {
        if self.mask != 0 && self.shared.end() != End::Cancelled {
            return Found::Event;
        }
        self.check_next_slot()
    }

    #[inline(never)]
    fn check_next_slot(&mut self) -> Found {
        let end = self.shared.end();
        if end == End::Cancelled {
            return self.cancelled();
        }
        match self.claim() {
            Found::Empty if end != End::None => self.ended(end),
            found => found,
        }
    }

    /// The event that `check` found.
    #[inline]
    pub(crate) fn take<T: 'static>(&mut self) -> &Event<T> {
        debug_assert!(self.mask != 0, "`check` found an event");
        let index = self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        #[cfg(feature = "latency")]
        self.record(1 << index);
        self.count_received(1);
        let block = self.block.as_ref().expect("a mask has a block");
        &block.events()[index]
    }

    /// The gap that `check` found.
    #[cold]
    pub(crate) fn gap(&self) -> Gap {
        **self.gap.as_ref().expect("`check` found a gap")
    }

    fn set_gap(&mut self, gap: Gap) {
        match &mut self.gap {
            Some(known) => **known = gap,
            none => *none = Some(Box::new(gap)),
        }
    }

    /// All events that are left in the slot in which `check` found an event.
    pub(crate) fn take_slot<T: 'static>(&mut self) -> (BlockRef<T>, u64) {
        debug_assert!(self.mask != 0, "`check` found an event");
        let mask = std::mem::take(&mut self.mask);
        #[cfg(feature = "latency")]
        self.record(mask);
        self.count_received(u64::from(mask.count_ones()));
        let block = self.block.take().expect("a mask has a block");
        (block.typed(), mask)
    }

    /// Which events of the slot in which `check` found an event were not taken yet.
    pub(crate) fn mask(&self) -> u64 {
        self.mask
    }

    /// Id and topic of the event with this index in the block of that slot.
    pub(crate) fn id_and_topic(&self, index: u32) -> Option<(u64, &Topic)> {
        Some(self.block.as_ref()?.id_and_topic(index as usize))
    }

    /// The events of that slot, to be taken one by one.
    #[inline]
    pub(crate) fn slot<T: 'static>(&mut self) -> SlotEvents<'_, T> {
        let block = self.block.as_ref().expect("a mask has a block");
        let received = &self.shared.reader.received;
        SlotEvents {
            events: block.events(),
            left: self.mask,
            mask: &mut self.mask,
            // Relaxed: only this end writes it.
            count: received.load(Ordering::Relaxed),
            received,
        }
    }

    /// Events received.
    pub(crate) fn received(&self) -> u64 {
        // Relaxed: only this end writes it.
        self.shared.reader.received.load(Ordering::Relaxed)
    }

    pub(crate) fn set_received(&self, received: u64) {
        debug_assert!(
            received >= self.received(),
            "what was received stays received"
        );
        // Release, partner `FeedShared::stats`.
        self.shared
            .reader
            .received
            .store(received, Ordering::Release);
    }

    /// Records the latencies of the events of that slot that were not taken yet: they are handed
    /// out now. Has no effect without a recorder.
    #[inline]
    pub(crate) fn record_latencies(&self) {
        #[cfg(feature = "latency")]
        self.record(self.mask);
    }

    /// Records the latencies of these events of the claimed slot.
    #[cfg(feature = "latency")]
    #[inline(always)]
    fn record(&self, mask: u64) {
        if let (Some(recorder), Some(block)) = (&self.recorder, &self.block)
            && block.stamps().mask() & mask != 0
        {
            recorder.record(block.stamps(), mask);
        }
    }

    /// The waker to register before `request_wake`.
    pub(crate) fn waker(&self) -> &AtomicWaker {
        match &self.shared.listener {
            Listener::Waker(waker) => waker,
            Listener::Callback(_) => unreachable!("a feed with a callback is not waited for"),
        }
    }

    /// Requests a wake-up by the shard, and checks once more. `false`: there is something to read
    /// already.
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
        // Relaxed load: only this end writes it. Release, partner `FeedShared::stats`.
        received.store(received.load(Ordering::Relaxed) + n, Ordering::Release);
    }

    fn claim(&mut self) -> Found {
        debug_assert_eq!(self.mask, 0, "a slot is read before the next is claimed");
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
                gap_before,
            } => {
                self.claimed(block, mask);
                gap_before.map_or(Found::Event, |gap| self.report(gap))
            }
            Claim::Gap(gap) => self.report(gap),
            Claim::Empty => Found::Empty,
            Claim::Finished => self.finished(),
        }
    }

    fn claimed(&mut self, block: AnyBlock, mask: u64) {
        debug_assert!(mask != 0, "a slot has an event");
        debug_assert!((63 - mask.leading_zeros() as usize) < block.len());
        self.shared.reader.gauges.claimed(block.created_at_ns());
        self.mask = mask;
        self.block = Some(block);
    }

    #[cold]
    fn finished(&mut self) -> Found {
        // The shard also closes the ring of a subscription that has ended, and both may have
        // happened since `check` looked for the end, or long ago. The end is visible now, because
        // the close is.
        if self.shared.finish_closed() {
            if self.state == State::Open {
                self.shared.debug_check_all_read();
            }
            self.state = State::Closed;
            return Found::Closed;
        }
        match self.shared.end() {
            End::Cancelled => self.cancelled(),
            end => self.ended(end),
        }
    }

    /// A gap right where the subscription was cancelled is reported first.
    #[cold]
    fn cancelled(&mut self) -> Found {
        let inside_slot = self.mask != 0;
        let gap = self.drain();
        if self.state == State::Closed {
            return Found::Closed;
        }
        // A gap that is found later may lie behind events that were dropped here.
        match gap {
            Some(gap) if self.state == State::Open && !inside_slot => {
                let found = self.report(gap);
                self.state = State::Ended;
                found
            }
            _ => {
                self.state = State::Ended;
                Found::Ended(End::Cancelled)
            }
        }
    }

    /// The feed has ended, and everything in it was read.
    #[cold]
    fn ended(&mut self, end: End) -> Found {
        let gap = match &self.queue {
            ReadEnd::Bounded(queue) if end == End::Disconnected => {
                queue.disconnect_gap(&self.shared)
            }
            _ => None,
        };
        let Some(gap) = gap else {
            return Found::Ended(end);
        };
        // The loss is counted as reported once, however often the program receives.
        if std::mem::replace(&mut self.state, State::Ended) == State::Open {
            self.shared.reader.gauges.report_lost(gap.count());
        }
        self.set_gap(gap);
        Found::Disconnected
    }

    #[cold]
    fn report(&mut self, gap: Gap) -> Found {
        debug_assert_eq!(self.state, State::Open, "no loss is reported after the end");
        self.shared.reader.gauges.report_lost(gap.count());
        self.set_gap(gap);
        Found::Gap
    }

    /// Drops what is left, opens the latch for a shard that waits for room, and returns what had
    /// been lost right in front of it.
    #[cold]
    fn drain(&mut self) -> Option<Gap> {
        self.block = None;
        self.mask = 0;
        match &mut self.queue {
            ReadEnd::Bounded(queue) => queue.drain(&self.shared),
            ReadEnd::Newest(queue) => queue.drain(&self.shared),
            ReadEnd::Conflated(queue) => queue.drain(&self.shared),
        }
    }
}

/// The events of a claimed slot, taken one by one. Those that are not taken stay in the slot.
///
/// It keeps its counts in registers: the loop of a handler is short, so memory accesses would show.
pub(crate) struct SlotEvents<'a, T> {
    events: &'a [Event<T>],
    /// Events that were not taken yet.
    left: u64,
    /// Where `left` is stored on drop.
    mask: &'a mut u64,
    /// Events received by the feed.
    count: u64,
    received: &'a AtomicU64,
}

impl<'a, T> SlotEvents<'a, T> {
    /// Takes the next event. It counts as received with [`count`](Self::count).
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<&'a Event<T>> {
        let index = self.left.trailing_zeros() as usize;
        self.left &= self.left.wrapping_sub(1);
        // With no event left the index is 64, which is out of range.
        self.events.get(index)
    }

    /// Counts one more event as received, and returns how many there are now.
    #[inline(always)]
    pub(crate) fn count(&mut self) -> u64 {
        self.count += 1;
        // Release, partner `FeedShared::stats`.
        self.received.store(self.count, Ordering::Release);
        self.count
    }
}

impl<T> Drop for SlotEvents<'_, T> {
    /// Runs also when a handler panics.
    #[inline(always)]
    fn drop(&mut self) {
        *self.mask = self.left;
    }
}

impl Drop for FeedConsumer {
    fn drop(&mut self) {
        self.shared.finish(End::Cancelled);
        self.drain();
        self.shared.status.reader_dropped.set();
    }
}
