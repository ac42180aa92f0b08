//! A shard: owns some of the subscribers' rings, and the index of their patterns.
//!
//! * **In**: blocks of sequenced events, one reference each, in the shard's input ring; and
//!   [`Change`]s, when subscriptions are opened and end.
//! * **Out**: for each subscriber with a matching event, the block with the mask of the events that
//!   it gets, in its ring; and one wake-up per round.
//! * **Called by**: [`Engine`](super::engine::Engine) in `engine.rs`, from whichever thread holds
//!   the shard's role: [`Shard::round`].
//! * **Next file**: `feed/mod.rs`, the ring of one subscriber; its other end is in
//!   `bus/subscriber.rs`.
//!
//! For each block, the shard loads the index, finds the subscribers of each distinct topic, and
//! gives each subscriber the block with its mask. It loads the index after it took the block, so an
//! event that is published after `subscribe` returned is matched by an index that has the
//! subscriber.
//!
//! Other threads open and end subscriptions. They queue a [`Change`] with the version of the index
//! that goes with it, and publish that index *afterwards*. The shard applies the changes up to the
//! version of the index that it has loaded. So its rings and its index always agree, and a slot can
//! be used again without harm.
//!
//! **Stalls**: a [`Block`](super::loss::Overflow::Block) subscriber without room stops the shard in
//! the middle of a block. All other subscribers have got the block by then. The shard remembers
//! which subscribers still have to get which events (its [`Stall`]), requests room from them, and
//! releases its role; no thread waits.
//!
//! **Block timeouts**: some of the blocked subscribers may have one. It counts from the moment when
//! the block began to wait. The clock is read then, and in each round of the stall; never while no
//! blocked subscriber has a block timeout. [`RoundResult::deadline`] says when the earliest is
//! over, so that some thread runs the shard again at that time: see
//! [`Engine::run_pool_thread`](super::engine::Engine::run_pool_thread). The subscriber is then
//! offered the events once more, and what has no room is lost to it. Until it claims something, it
//! is not waited for again: what has no room is lost at once.
//!
//! # Failure modes
//!
//! * **A subscriber without room** loses events, or ends, as its overflow policy says; under
//!   `Block` it stalls the shard, whose input fills up; then the sequencer stops, and the lanes
//!   fill up.
//! * **A subscriber ends while it stalls the shard**: [`Shard::detach`] takes it out of the stall.
//! * **Closing**: when the input is drained, all rings are closed behind their last events.
//! * **Closing by force**: what has no room is lost, with the reason `Closed`.
//! * **A payload's drop panics** while a ring is closed or detached: that is contained.
//! * **Anything else panics**: the engine breaks the bus, and [`Shard::break_feeds`] ends all
//!   feeds.

use std::time::Instant;

use super::block::AnyBlock;
use super::feed::FeedProducer;
use super::loss::GapReason;
use super::routes::{Matched, Matcher, NotMatched, Routes};
use super::sequencer::RoundResult;
use super::signal::Latch;
use crate::contain::contain;
use crate::ring::spsc;
use crate::sync::{Arc, AtomicU64, Ordering, Queue, now};

/// The most blocks that wait for a shard.
pub(crate) const INPUT_BLOCKS: usize = 64;

/// The most blocks that a round takes before it wakes the subscribers.
const ROUND_BLOCKS: usize = 16;

/// What a round does at most.
#[derive(Clone, Copy)]
pub(crate) struct RoundBounds {
    /// Blocks that it takes.
    pub(crate) blocks: usize,
    /// Subscribers that it gives a block to. A block that matches more is left to another round.
    /// (The subscribers of a topic that is not in the cache are looked up nevertheless.)
    pub(crate) subscribers: usize,
}

impl RoundBounds {
    pub(crate) const FULL: Self = Self {
        blocks: ROUND_BLOCKS,
        subscribers: usize::MAX,
    };

    /// For a publisher that dispatches a lone event.
    pub(crate) const LONE_EVENT: Self = Self {
        blocks: 1,
        subscribers: 64,
    };
}

/// A change that subscribing or cancelling requests from a shard.
pub(crate) struct Change {
    /// The version of the index that goes with it.
    pub(crate) version: u64,
    pub(crate) kind: ChangeKind,
}

pub(crate) enum ChangeKind {
    /// A new subscription.
    Attach { slot: u32, feed: Box<FeedProducer> },
    /// A subscription has ended. Its slot may be used again by a change with a higher version.
    Detach { slot: u32 },
}

/// What a shard shares with other threads.
pub(crate) struct ShardShared {
    pub(crate) routes: Routes,
    /// In the order of their versions.
    pub(crate) changes: Queue<Change>,
    /// Id of the event up to which everything has been delivered to the rings, or given up.
    pub(crate) delivered_id: AtomicU64,
    pub(crate) latch: Arc<Latch>,
}

/// The state behind a shard's role.
pub(crate) struct Shard {
    input: spsc::Consumer<AnyBlock>,
    shared: Arc<ShardShared>,
    /// A change whose index has not been loaded yet.
    deferred_change: Option<Change>,
    /// Version of the index up to which the changes have been applied.
    version: u64,
    /// By slot.
    feeds: Vec<Option<Box<FeedProducer>>>,
    matched: Matched,
    /// The slots of feeds that have something to commit.
    dirty: Vec<u32>,
    matcher: Matcher,
    stall: Option<Stall>,
    /// Always empty: keeps the memory of the last stall's list for the next stall.
    spare_blocked: Vec<Blocked>,
    /// A block that was taken, and that matches more subscribers than a round was allowed to give
    /// it to.
    wide_block: Option<AnyBlock>,
    /// Id of the last event of the last block dispatched; 0: none yet.
    dispatched_id: u64,
    closed: bool,
}

/// A block that some `Block` subscribers have no room for. All other subscribers have got it.
struct Stall {
    block: AnyBlock,
    /// The subscribers that still have to get events of the block. Never empty while this is in
    /// `Shard::stall`.
    blocked: Vec<Blocked>,
    /// The earliest of their deadlines.
    deadline: Option<Instant>,
}

/// A subscriber that has no room.
struct Blocked {
    slot: u32,
    /// The events of the stalled block that it still has to get. Never 0 while the stall is in
    /// `Shard::stall`.
    rest: u64,
    /// The shard waits for this subscriber until then; `None`: without a limit.
    deadline: Option<Instant>,
}

impl Stall {
    fn update_deadline(&mut self) {
        let deadlines = self.blocked.iter().filter_map(|blocked| blocked.deadline);
        self.deadline = deadlines.min();
    }
}

impl Shard {
    pub(crate) fn new(input: spsc::Consumer<AnyBlock>, shared: Arc<ShardShared>) -> Self {
        Self {
            input,
            shared,
            deferred_change: None,
            version: 0,
            feeds: Vec::new(),
            matched: Matched::default(),
            dirty: Vec::new(),
            matcher: Matcher::cached(),
            stall: None,
            spare_blocked: Vec::new(),
            wide_block: None,
            dispatched_id: 0,
            closed: false,
        }
    }

    /// Without a cache in front of the index.
    pub(crate) fn without_cache(mut self) -> Self {
        self.matcher = Matcher::uncached();
        self
    }

    /// One round. `ignore_latch`: a stalled block is tried again even if not all rings have
    /// reported that they have room.
    pub(crate) fn round(&mut self, ignore_latch: bool, bounds: RoundBounds) -> RoundResult {
        self.apply_pending_changes();
        let was_stalled = self.stall.is_some();
        let mut progress = self.give_up_expired();
        if self.resume(ignore_latch || progress) {
            progress |= self.take_blocks(bounds) || was_stalled;
        }
        progress |= self.commit();
        let finished =
            self.stall.is_none() && self.wide_block.is_none() && self.input.is_finished();
        if finished && !self.closed {
            self.close_feeds();
        }
        let more = match self.stall {
            None => self.wide_block.is_some() || self.input.refresh() > 0,
            // If it is open, the rings made room before the shard had requested it from all of
            // them, and no reader will wake a thread for it.
            Some(_) => self.shared.latch.is_open(),
        };
        RoundResult {
            progress,
            more,
            finished,
            deadline: self.deadline(),
            failed: false,
        }
    }

    /// Applies the changes that belong to the current index. `true`: the shard was stalled, and may
    /// be able to continue.
    pub(crate) fn apply_pending_changes(&mut self) -> bool {
        let was_stalled = self.stall.is_some();
        let version = self.shared.routes.version();
        if version != self.version {
            self.apply_changes_up_to(version);
        }
        was_stalled
    }

    /// The time to close is over: delivers what has room in the rings, gives up the rest, and
    /// closes the rings.
    pub(crate) fn force_close(&mut self) {
        self.apply_pending_changes();
        while !self.closed {
            self.give_up_blocked();
            self.round(true, RoundBounds::FULL);
        }
    }

    /// Gives up the events that blocked subscribers still have to get, except those that have room.
    fn give_up_blocked(&mut self) {
        loop {
            // A reader arrives at the latch only when there is as much room as the shard requested,
            // so there may be some room already.
            self.offer_blocked(None);
            let Some(mut stall) = self.stall.take() else {
                return;
            };
            stall.blocked.retain(|blocked| {
                let Some(feed) = &mut self.feeds[blocked.slot as usize] else {
                    return false;
                };
                let lost = feed.give_up(&stall.block, blocked.rest, GapReason::Closed);
                if feed.mark_dirty() {
                    self.dirty.push(blocked.slot);
                }
                // Not lost: the reader has just emptied the ring, so there is room.
                !lost
            });
            self.restore_stall(stall);
            if self.stall.is_none() {
                return;
            }
        }
    }

    /// The bus broke: ends all feeds. Subscribers read what is in their rings, and then get the
    /// end.
    pub(crate) fn break_feeds(&mut self) {
        self.apply_changes_up_to(u64::MAX);
        self.stall = None;
        self.wide_block = None;
        self.feeds
            .iter()
            .flatten()
            .for_each(|feed| feed.mark_broken());
    }

    fn take_blocks(&mut self, bounds: RoundBounds) -> bool {
        let mut taken = 0;
        while taken < bounds.blocks && self.stall.is_none() {
            let block = self.wide_block.take().or_else(|| self.input.pop());
            let Some(block) = block else { break };
            taken += 1;
            if !self.dispatch(block, bounds.subscribers) {
                break;
            }
        }
        if taken > 0 {
            self.input.release();
        }
        taken > 0
    }

    /// `false`: the block matches more than `subscribers_max` subscribers, and is dispatched by
    /// another round. It is matched again then, since subscriptions may end or begin meanwhile.
    fn dispatch(&mut self, block: AnyBlock, subscribers_max: usize) -> bool {
        debug_assert_eq!(
            block.first_id(),
            self.dispatched_id + 1,
            "every block arrives, in order"
        );
        loop {
            let found = self.matcher.match_block(
                &self.shared.routes,
                self.version,
                block.groups(),
                &mut self.matched,
                subscribers_max,
            );
            match found {
                Ok(()) => break,
                Err(NotMatched::Version(version)) => self.apply_changes_up_to(version),
                Err(NotMatched::TooMany) => {
                    self.wide_block = Some(block);
                    return false;
                }
            }
        }
        self.dispatched_id = block.last_id();
        self.push_block(block);
        true
    }

    fn push_block(&mut self, block: AnyBlock) {
        let mut blocked = std::mem::take(&mut self.spare_blocked);
        debug_assert!(blocked.is_empty());
        let mut references = block.ref_batch(self.matched.slots.len());
        for &slot in &self.matched.slots {
            let mask = std::mem::take(&mut self.matched.masks[slot as usize]);
            debug_assert!(
                mask != 0 && u64::BITS - mask.leading_zeros() <= block.len() as u32,
                "mask {mask:#b} of a block of {} events",
                block.len()
            );
            let Some(feed) = &mut self.feeds[slot as usize] else {
                continue;
            };
            if !feed.matched(&block, mask) {
                continue;
            }
            let rest = feed.offer(&block, &mut references, mask);
            debug_assert_eq!(rest & !mask, 0, "what is left was offered");
            if rest != 0 {
                blocked.push(Blocked {
                    slot,
                    rest,
                    deadline: None,
                });
            }
            if feed.mark_dirty() {
                self.dirty.push(slot);
            }
        }
        self.matched.slots.clear();
        drop(references);
        if blocked.is_empty() {
            self.spare_blocked = blocked;
        } else {
            self.begin_stall(block, blocked);
        }
    }

    /// The block begins to wait for room, and the shard requests it from the readers.
    fn begin_stall(&mut self, block: AnyBlock, mut blocked: Vec<Blocked>) {
        debug_assert!(self.stall.is_none());
        let mut began_at = None;
        for blocked in &mut blocked {
            let feed = self.feeds[blocked.slot as usize].as_ref();
            let timeout = feed.and_then(|feed| feed.block_timeout().duration());
            blocked.deadline =
                timeout.and_then(|timeout| began_at.get_or_insert_with(now).checked_add(timeout));
        }
        let mut stall = Stall {
            block,
            blocked,
            deadline: None,
        };
        stall.update_deadline();
        self.stall = Some(stall);
        self.ask_for_room();
    }

    /// Puts a stall back, unless every subscriber has got its events of the block.
    fn restore_stall(&mut self, mut stall: Stall) {
        debug_assert!(self.stall.is_none());
        debug_assert!(stall.blocked.iter().all(|blocked| blocked.rest != 0));
        if stall.blocked.is_empty() {
            self.spare_blocked = stall.blocked;
        } else {
            stall.update_deadline();
            self.stall = Some(stall);
        }
    }

    /// The earliest deadline of a stalled block.
    fn deadline(&self) -> Option<Instant> {
        self.stall.as_ref()?.deadline
    }

    /// Gives up waiting for subscribers whose block timeout is over. `true`: there were some.
    fn give_up_expired(&mut self) -> bool {
        let Some(deadline) = self.deadline() else {
            return false;
        };
        let now = now();
        let expired = deadline <= now;
        if expired {
            self.offer_blocked(Some(now));
        }
        expired
    }

    /// Tries to finish a stalled block. `true`: no block is stalled any more.
    fn resume(&mut self, ignore_latch: bool) -> bool {
        if self.stall.is_none() {
            return true;
        }
        if !ignore_latch && !self.shared.latch.is_open() {
            return false;
        }
        loop {
            self.offer_blocked(None);
            if self.stall.is_none() {
                return true;
            }
            // Committed first: the readers can only make the room that the shard requests when they
            // see what was pushed.
            self.commit();
            if !self.ask_for_room() {
                return false;
            }
        }
    }

    /// Offers blocked subscribers their events once more. Subscribers whose deadline is at or
    /// before `now` lose what has no room, and are not blocked afterwards.
    fn offer_blocked(&mut self, now: Option<Instant>) {
        let Some(mut stall) = self.stall.take() else {
            return;
        };
        let mut references = stall.block.ref_batch(stall.blocked.len());
        stall.blocked.retain_mut(|blocked| {
            let Some(feed) = &mut self.feeds[blocked.slot as usize] else {
                return false;
            };
            let expired = blocked
                .deadline
                .zip(now)
                .is_some_and(|(deadline, now)| deadline <= now);
            // The offer replaces an earlier request for room.
            feed.take_wake_request();
            let offered = blocked.rest;
            blocked.rest = feed.offer(&stall.block, &mut references, offered);
            // Repeated only if the subscriber claims something at this very moment.
            while expired && blocked.rest != 0 {
                feed.stop_waiting();
                blocked.rest = feed.offer(&stall.block, &mut references, blocked.rest);
            }
            debug_assert_eq!(blocked.rest & !offered, 0, "what is left was offered");
            if feed.mark_dirty() {
                self.dirty.push(blocked.slot);
            }
            blocked.rest != 0
        });
        drop(references);
        self.restore_stall(stall);
    }

    /// Makes the readers of blocked subscribers arrive at the latch when their rings have room.
    /// `true`: there is as much room as the shard needs already.
    ///
    /// The shard continues when the last of them has arrived. There is an exception: a subscriber
    /// with a deadline may need more room than it has when its reader arrives. It must get the
    /// events that have room at once, and then make more room. Otherwise it would lose events only
    /// because the shard waits for the other subscribers.
    fn ask_for_room(&mut self) -> bool {
        let Some(stall) = &self.stall else {
            return true;
        };
        let latch = &self.shared.latch;
        let weight = stall.block.weight();
        let needs_more = |blocked: &Blocked| {
            let feed = self.feeds[blocked.slot as usize].as_ref();
            blocked.deadline.is_some()
                && feed.is_some_and(|feed| feed.may_arrive_early_for(blocked.rest.count_ones()))
        };
        if stall.blocked.iter().any(needs_more) {
            latch.arm(1);
        } else {
            latch.arm(stall.blocked.len());
        }
        for blocked in &stall.blocked {
            match &mut self.feeds[blocked.slot as usize] {
                Some(feed) => {
                    let has_room = feed.request_wake(weight, blocked.rest.count_ones());
                    // A subscriber that ended before it could see the request does not arrive.
                    if has_room || (feed.has_ended() && feed.take_wake_request()) {
                        latch.arrive();
                    }
                }
                None => {
                    latch.arrive();
                }
            }
        }
        // If the latch was armed for one arrival, that may have opened it before the shard itself
        // arrives here.
        latch.arrive() || latch.is_open()
    }

    /// Makes visible what was pushed, and wakes the subscribers. `true`: more events have been
    /// delivered to all subscribers.
    fn commit(&mut self) -> bool {
        for slot in self.dirty.drain(..) {
            if let Some(feed) = &mut self.feeds[slot as usize] {
                feed.commit();
            }
        }
        let delivered_id = &self.shared.delivered_id;
        // Relaxed: only the shard writes it.
        let delivered = delivered_id.load(Ordering::Relaxed);
        debug_assert!(
            delivered <= self.dispatched_id,
            "event {delivered} is delivered, event {} was the last dispatched",
            self.dispatched_id
        );
        if delivered == self.dispatched_id || self.stall.is_some() {
            return false;
        }
        // Release, partner the loads in `Engine::check_flush` and `Engine::is_delivered`: the
        // commits come before.
        delivered_id.store(self.dispatched_id, Ordering::Release);
        true
    }

    #[cold]
    fn apply_changes_up_to(&mut self, version: u64) {
        // A broken bus has applied all changes, whatever their version.
        debug_assert!(version >= self.version || self.version == u64::MAX);
        self.version = version;
        while let Some(change) = self
            .deferred_change
            .take()
            .or_else(|| self.shared.changes.pop())
        {
            if change.version > version {
                self.deferred_change = Some(change);
                return;
            }
            match change.kind {
                ChangeKind::Attach { slot, feed } => self.attach(slot, feed),
                ChangeKind::Detach { slot } => self.detach(slot),
            }
        }
    }

    fn attach(&mut self, slot: u32, feed: Box<FeedProducer>) {
        feed.begin(self.dispatched_id + 1);
        let index = slot as usize;
        if self.feeds.len() <= index {
            self.feeds.resize_with(index + 1, || None);
            self.matched.masks.resize(index + 1, 0);
        }
        debug_assert!(self.feeds[index].is_none(), "slot {slot} is in use");
        debug_assert_eq!(self.matched.masks[index], 0);
        if self.closed {
            feed.close(self.dispatched_id);
        } else {
            self.feeds[index] = Some(feed);
        }
    }

    fn detach(&mut self, slot: u32) {
        let Some(mut feed) = self.feeds.get_mut(slot as usize).and_then(Option::take) else {
            return;
        };
        if let Some(mut stall) = self.stall.take() {
            stall.blocked.retain(|blocked| blocked.slot != slot);
            if feed.take_wake_request() {
                self.shared.latch.arrive_and_wake();
            }
            self.restore_stall(stall);
        }
        contain("a payload's drop", || feed.detach(self.dispatched_id));
    }

    fn close_feeds(&mut self) {
        self.closed = true;
        for feed in self.feeds.iter_mut().filter_map(Option::take) {
            contain("a payload's drop", || feed.close(self.dispatched_id));
        }
    }
}
