//! A shard: owns some of the subscribers' rings, and the index of their patterns.
//!
//! For each block it loads the index (after it took the block, so that an event published after `subscribe` returned
//! is matched by an index that knows the subscriber), finds the subscribers of each distinct topic, and gives each
//! the block with the mask of the events that it wants. Subscribers are woken once, at the end of the round.
//!
//! Subscribing and cancelling happen on other threads. They publish a new index with a higher version, and queue a
//! [`Change`] with that version *before*; the shard carries out the changes up to the version of the index that it has
//! loaded, so its rings and its index always agree, and a slot can be used again without harm.
//!
//! **Stalled**: a [`Block`](super::loss::Overflow::Block) subscriber without room stops the shard in the middle
//! of a block. Everybody else has got the block by then. The shard remembers who is missing what, asks
//! for room and lets go of its role; no thread waits.
//!
//! **The longest wait**: some of those that are missing something may have one, from the moment when the block began to wait.
//! The clock is read then, and in each round that finds them still missing it; never where nobody with a longest wait is
//! in the way. [`Round::deadline`] says when it is over, so that somebody comes by at that time: see
//! [`Engine::run_pool_thread`](super::engine::Engine::run_pool_thread). Then the subscriber is offered what is missing once
//! more, and what does not fit is lost to it. Until it claims something, so is all that has no room: it is not waited for.

use std::time::Instant;

use super::block::BlockRef;
use super::feed::FeedProducer;
use super::loss::GapReason;
use super::sequencer::Round;
use super::signal::Latch;
use crate::contain::contain;
use crate::index::{MatchCache, PatternIndex, Scratch, SharedIndex};
use crate::pattern::Topic;
use crate::ring::spsc;
use crate::sync::{Arc, AtomicU64, Ordering, Queue, now};

/// Blocks that wait for a shard at most.
pub(crate) const INPUT_BLOCKS: usize = 64;

/// Blocks that a round takes at most, before it wakes the subscribers.
const ROUND_BLOCKS: usize = 16;

/// What subscribing and cancelling ask of a shard.
pub(crate) struct Change<T> {
    /// The version of the index that goes with it.
    pub(crate) version: u64,
    pub(crate) kind: ChangeKind<T>,
}

pub(crate) enum ChangeKind<T> {
    /// A new subscription.
    Attach {
        slot: u32,
        feed: Box<FeedProducer<T>>,
    },
    /// A subscription ended; its slot may be used again with a higher version.
    Detach { slot: u32 },
}

/// What a shard shares with everybody else.
pub(crate) struct ShardShared<T> {
    /// The patterns of its subscriptions. Values are the slots of their rings.
    pub(crate) routes: SharedIndex<u32>,
    pub(crate) changes: Queue<Change<T>>,
    /// Id of the event up to which everything has been delivered to rings, or given up.
    pub(crate) delivered_id: AtomicU64,
    pub(crate) latch: Arc<Latch>,
}

/// The state behind a shard's role.
pub(crate) struct Shard<T> {
    input: spsc::Consumer<BlockRef<T>>,
    shared: Arc<ShardShared<T>>,
    /// A change whose index is not loaded yet.
    held_back: Option<Change<T>>,
    /// Version up to which the changes have been carried out.
    version: u64,
    feeds: Vec<Option<Box<FeedProducer<T>>>>,
    /// By slot: the events of the block in hand that the subscription wants. All 0 between blocks.
    masks: Vec<u64>,
    /// Slots whose masks are not 0.
    touched: Vec<u32>,
    /// Slots that have something to commit.
    dirty: Vec<u32>,
    finder: Finder,
    stall: Option<Stall<T>>,
    /// Always empty: the memory of the last stall's list, for the next one.
    spare_missing: Vec<Missing>,
    /// Id of the last event of the last block taken.
    dispatched_id: u64,
    closed: bool,
}

/// Finds the slots of a topic: with a cache in front of the index, or without.
enum Finder {
    Caching(MatchCache<u32>),
    Walking {
        scratch: Scratch<u32>,
        found: Vec<u32>,
    },
}

impl Finder {
    fn find(&mut self, index: &PatternIndex<u32>, topic: &Topic) -> &[u32] {
        match self {
            Self::Caching(cache) => cache.lookup(index, topic),
            Self::Walking { scratch, found } => {
                found.clear();
                index.matches_with(topic, scratch, found);
                found
            }
        }
    }
}

/// A block that some `Block` subscribers have no room for. All other subscribers have got it.
struct Stall<T> {
    block: BlockRef<T>,
    /// The subscribers that still have to get events of the block. Never empty between two steps.
    missing: Vec<Missing>,
    /// The earliest of their deadlines.
    deadline: Option<Instant>,
}

/// A subscriber that has no room.
struct Missing {
    slot: u32,
    /// The events of the stalled block that it still has to get: never 0 between two steps.
    rest: u64,
    /// The shard waits for this subscriber until then; `None`: for as long as it takes.
    deadline: Option<Instant>,
}

impl<T> Stall<T> {
    fn note_deadline(&mut self) {
        let deadlines = self.missing.iter().filter_map(|missing| missing.deadline);
        self.deadline = deadlines.min();
    }
}

impl<T> Shard<T> {
    pub(crate) fn new(input: spsc::Consumer<BlockRef<T>>, shared: Arc<ShardShared<T>>) -> Self {
        Self {
            input,
            shared,
            held_back: None,
            version: 0,
            feeds: Vec::new(),
            masks: Vec::new(),
            touched: Vec::new(),
            dirty: Vec::new(),
            finder: Finder::Caching(MatchCache::new()),
            stall: None,
            spare_missing: Vec::new(),
            dispatched_id: 0,
            closed: false,
        }
    }

    /// Without a cache in front of the index.
    pub(crate) fn walking(mut self) -> Self {
        self.finder = Finder::Walking {
            scratch: Scratch::default(),
            found: Vec::new(),
        };
        self
    }

    /// One round. `insist`: a stalled block is tried again even if not all rings have said that they have room.
    pub(crate) fn round(&mut self, insist: bool) -> Round {
        self.apply_pending_changes();
        let was_stalled = self.stall.is_some();
        let mut progress = self.give_up_late();
        if self.resume(insist || progress) {
            progress |= self.take_blocks() || was_stalled;
        }
        progress |= self.commit();
        let finished = self.stall.is_none() && self.input.is_finished();
        if finished && !self.closed {
            self.close_feeds();
        }
        let more = match self.stall {
            None => self.input.refresh() > 0,
            // The room that we asked for was made before we had asked for all of it: nobody will call.
            Some(_) => self.shared.latch.is_open(),
        };
        Round {
            progress,
            more,
            finished,
            deadline: self.deadline(),
        }
    }

    /// Carries out the changes that belong to the index as it is now. `true`: it was stalled, and may be able to go on.
    pub(crate) fn apply_pending_changes(&mut self) -> bool {
        let was_stalled = self.stall.is_some();
        let version = self.shared.routes.load().version();
        if version != self.version {
            self.apply_changes_up_to(version);
        }
        was_stalled
    }

    /// The time to close is up: gives up what rings have no room for, and all that waits.
    pub(crate) fn force(&mut self) {
        self.apply_pending_changes();
        while !self.closed {
            self.give_up_missing();
            self.round(true);
        }
    }

    /// Gives up what is missing, but for what has room.
    fn give_up_missing(&mut self) {
        loop {
            // A reader reports room only when there is as much as the shard asked for: some may have been free for long.
            self.offer_missing(None);
            let Some(mut stall) = self.stall.take() else {
                return;
            };
            stall.missing.retain(|missing| {
                let Some(feed) = &mut self.feeds[missing.slot as usize] else {
                    return false;
                };
                let lost = feed.give_up(&stall.block, missing.rest, GapReason::Closed);
                if feed.mark_dirty() {
                    self.dirty.push(missing.slot);
                }
                // Not lost: its ring was emptied at this very moment, so there is room.
                !lost
            });
            self.keep_unless_finished(stall);
            if self.stall.is_none() {
                return;
            }
        }
    }

    /// The bus broke: subscribers read what is in their rings, and are then told.
    pub(crate) fn break_feeds(&mut self) {
        self.apply_changes_up_to(u64::MAX);
        self.stall = None;
        self.feeds
            .iter()
            .flatten()
            .for_each(|feed| feed.mark_broken());
    }

    fn take_blocks(&mut self) -> bool {
        let mut taken = 0;
        while taken < ROUND_BLOCKS && self.stall.is_none() {
            let Some(block) = self.input.pop() else { break };
            taken += 1;
            self.dispatch(block);
        }
        if taken > 0 {
            self.input.release();
        }
        taken > 0
    }

    fn dispatch(&mut self, block: BlockRef<T>) {
        let routes = self.shared.routes.load();
        if routes.version() != self.version {
            self.apply_changes_up_to(routes.version());
        }
        self.match_block(&routes, &block);
        // Before a subscriber can stall us: whoever subscribes meanwhile would have to copy what it changes.
        drop(routes);
        self.dispatched_id = block.last_id();
        self.push_block(block);
    }

    /// Fills `masks` and `touched`: the work is per distinct topic and subscriber, not per event.
    fn match_block(&mut self, index: &PatternIndex<u32>, block: &BlockRef<T>) {
        for group in block.groups() {
            for &slot in self.finder.find(index, group.topic()) {
                let mask = &mut self.masks[slot as usize];
                if *mask == 0 {
                    self.touched.push(slot);
                }
                *mask |= group.mask;
            }
        }
    }

    fn push_block(&mut self, block: BlockRef<T>) {
        let mut missing = std::mem::take(&mut self.spare_missing);
        debug_assert!(missing.is_empty());
        let mut refs = block.ref_batch(self.touched.len());
        for &slot in &self.touched {
            let mask = std::mem::take(&mut self.masks[slot as usize]);
            let Some(feed) = &mut self.feeds[slot as usize] else {
                continue;
            };
            if !feed.matched(&block, mask) {
                continue;
            }
            let rest = feed.offer(&block, &mut refs, mask);
            if rest != 0 {
                missing.push(Missing {
                    slot,
                    rest,
                    deadline: None,
                });
            }
            if feed.mark_dirty() {
                self.dirty.push(slot);
            }
        }
        self.touched.clear();
        drop(refs);
        if missing.is_empty() {
            self.spare_missing = missing;
        } else {
            self.begin_stall(block, missing);
        }
    }

    /// The block begins to wait for room, and asks for it.
    fn begin_stall(&mut self, block: BlockRef<T>, mut missing: Vec<Missing>) {
        let mut began_at = None;
        for missing in &mut missing {
            let feed = self.feeds[missing.slot as usize].as_ref();
            let limit = feed.and_then(|feed| feed.longest_wait().limit());
            missing.deadline =
                limit.and_then(|limit| began_at.get_or_insert_with(now).checked_add(limit));
        }
        let mut stall = Stall {
            block,
            missing,
            deadline: None,
        };
        stall.note_deadline();
        self.stall = Some(stall);
        self.ask_for_room();
    }

    /// Puts a stall back, unless every subscriber has got its events of the block.
    fn keep_unless_finished(&mut self, mut stall: Stall<T>) {
        if stall.missing.is_empty() {
            self.spare_missing = stall.missing;
        } else {
            stall.note_deadline();
            self.stall = Some(stall);
        }
    }

    /// The earliest deadline of a stalled block.
    fn deadline(&self) -> Option<Instant> {
        self.stall.as_ref()?.deadline
    }

    /// Gives up waiting for those that were waited for as long as they may. `true`: there were some.
    fn give_up_late(&mut self) -> bool {
        let Some(deadline) = self.deadline() else {
            return false;
        };
        let now = now();
        let late = deadline <= now;
        if late {
            self.offer_missing(Some(now));
        }
        late
    }

    /// Tries to finish a stalled block. `true`: no block is stalled any more.
    fn resume(&mut self, insist: bool) -> bool {
        if self.stall.is_none() {
            return true;
        }
        if !insist && !self.shared.latch.is_open() {
            return false;
        }
        loop {
            self.offer_missing(None);
            if self.stall.is_none() {
                return true;
            }
            // What was pushed must be visible, or the readers never make the room that we ask for.
            self.commit();
            if !self.ask_for_room() {
                return false;
            }
        }
    }

    /// Offers what is missing once more. Subscribers whose deadline is at or before `now` are missing nothing
    /// afterwards.
    fn offer_missing(&mut self, now: Option<Instant>) {
        let Some(mut stall) = self.stall.take() else {
            return;
        };
        let mut refs = stall.block.ref_batch(stall.missing.len());
        stall.missing.retain_mut(|missing| {
            let Some(feed) = &mut self.feeds[missing.slot as usize] else {
                return false;
            };
            let late = missing
                .deadline
                .zip(now)
                .is_some_and(|(deadline, now)| deadline <= now);
            // Offering again settles an earlier request for room.
            feed.take_wake_request();
            missing.rest = feed.offer(&stall.block, &mut refs, missing.rest);
            // Again only if the subscriber claims something at this very moment: as often as it does.
            while late && missing.rest != 0 {
                feed.stop_waiting();
                missing.rest = feed.offer(&stall.block, &mut refs, missing.rest);
            }
            if feed.mark_dirty() {
                self.dirty.push(missing.slot);
            }
            missing.rest != 0
        });
        drop(refs);
        self.keep_unless_finished(stall);
    }

    /// Asks the rings that have no room to report when they have. `true`: all of them have room already.
    ///
    /// The shard goes on when the last of them has. But if one with a deadline needs more room than it has when it reports,
    /// it must get what fits at once, and make more: it must not lose events only because the shard waits for others.
    fn ask_for_room(&mut self) -> bool {
        let Some(stall) = &self.stall else {
            return true;
        };
        let latch = &self.shared.latch;
        let weight = stall.block.weight();
        let needs_more = |missing: &Missing| {
            let feed = self.feeds[missing.slot as usize].as_ref();
            missing.deadline.is_some()
                && feed.is_some_and(|feed| feed.may_arrive_early_for(missing.rest.count_ones()))
        };
        if stall.missing.iter().any(needs_more) {
            latch.arm(1);
        } else {
            latch.arm(stall.missing.len());
        }
        for missing in &stall.missing {
            match &mut self.feeds[missing.slot as usize] {
                Some(feed) => {
                    let has_room = feed.request_wake(weight, missing.rest.count_ones());
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
        // Where the first was enough, others may have arrived, too.
        latch.arrive() || latch.is_open()
    }

    /// Makes visible what was pushed, and wakes. `true`: more has been delivered to everybody.
    fn commit(&mut self) -> bool {
        for slot in self.dirty.drain(..) {
            if let Some(feed) = &mut self.feeds[slot as usize] {
                feed.commit();
            }
        }
        let delivered_id = &self.shared.delivered_id;
        // Relaxed: only the shard writes it.
        let rises = delivered_id.load(Ordering::Relaxed) < self.dispatched_id;
        if !rises || self.stall.is_some() {
            return false;
        }
        // Release, partner those who wait for it: the commits come before.
        delivered_id.store(self.dispatched_id, Ordering::Release);
        true
    }

    #[cold]
    fn apply_changes_up_to(&mut self, version: u64) {
        self.version = version;
        while let Some(change) = self.held_back.take().or_else(|| self.shared.changes.pop()) {
            if change.version > version {
                self.held_back = Some(change);
                return;
            }
            match change.kind {
                ChangeKind::Attach { slot, feed } => self.attach(slot, feed),
                ChangeKind::Detach { slot } => self.detach(slot),
            }
        }
    }

    fn attach(&mut self, slot: u32, feed: Box<FeedProducer<T>>) {
        feed.begin(self.dispatched_id + 1);
        let index = slot as usize;
        if self.feeds.len() <= index {
            self.feeds.resize_with(index + 1, || None);
            self.masks.resize(index + 1, 0);
        }
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
            stall.missing.retain(|missing| missing.slot != slot);
            if feed.take_wake_request() {
                self.shared.latch.arrive_and_wake();
            }
            self.keep_unless_finished(stall);
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
