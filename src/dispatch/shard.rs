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
//! [`Engine::run_pool_thread`](super::Engine::run_pool_thread). Then the subscriber is offered what is missing once
//! more, and what does not fit is lost to it. Until it claims something, so is all that has no room: it is not waited for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::block::BlockRef;
use super::feed::FeedProducer;
use super::loss::GapReason;
use super::sequencer::Round;
use super::signal::Latch;
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
pub(crate) struct ShardWires<T> {
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
    wires: Arc<ShardWires<T>>,
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
    /// The block that some subscribers have no room for.
    stalled: Option<BlockRef<T>>,
    /// Who. Empty unless stalled.
    missing: Vec<Missing>,
    /// The earliest deadline of theirs. Means nothing unless stalled.
    deadline: Option<Instant>,
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

/// A subscriber that has no room.
struct Missing {
    slot: u32,
    /// Which events of the stalled block it still has to get.
    rest: u64,
    /// Until when it is waited for.
    deadline: Option<Instant>,
}

impl<T> Shard<T> {
    pub(crate) fn new(input: spsc::Consumer<BlockRef<T>>, wires: Arc<ShardWires<T>>) -> Self {
        Self {
            input,
            wires,
            held_back: None,
            version: 0,
            feeds: Vec::new(),
            masks: Vec::new(),
            touched: Vec::new(),
            dirty: Vec::new(),
            finder: Finder::Caching(MatchCache::new()),
            stalled: None,
            missing: Vec::new(),
            deadline: None,
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
        self.settle();
        let was_stalled = self.stalled.is_some();
        let mut progress = self.give_up_late();
        if self.resume(insist || progress) {
            progress |= self.take_blocks() || was_stalled;
        }
        progress |= self.commit();
        let finished = self.stalled.is_none() && self.input.is_finished();
        if finished && !self.closed {
            self.close_feeds();
        }
        let more = match self.stalled {
            None => self.input.refresh() > 0,
            // The room that we asked for was made before we had asked for all of it: nobody will call.
            Some(_) => self.wires.latch.is_open(),
        };
        Round {
            progress,
            more,
            finished,
            deadline: self.deadline.filter(|_| self.stalled.is_some()),
        }
    }

    /// Carries out the changes that belong to the index as it is now. `true`: it was stalled, and may be able to go on.
    pub(crate) fn settle(&mut self) -> bool {
        let was_stalled = self.stalled.is_some();
        let version = self.wires.routes.load().version();
        if version != self.version {
            self.carry_out(version);
        }
        was_stalled
    }

    /// The time to close is up: gives up what rings have no room for, and all that waits.
    pub(crate) fn force(&mut self) {
        self.settle();
        while !self.closed {
            self.give_up_missing();
            self.round(true);
        }
    }

    /// Gives up what is missing, but for what has room.
    fn give_up_missing(&mut self) {
        loop {
            // A reader says that there is room when there is as much as it was asked for: some may have been there for long.
            self.offer_missing(None);
            let Some(block) = self.stalled.take() else {
                return;
            };
            self.missing.retain(|missing| {
                let Some(feed) = &mut self.feeds[missing.slot as usize] else {
                    return false;
                };
                let lost = feed.give_up(&block, missing.rest, GapReason::Closed);
                if feed.mark_dirty() {
                    self.dirty.push(missing.slot);
                }
                !lost
            });
            if self.missing.is_empty() {
                return;
            }
            // Read to the end at this very moment: there is room.
            self.stalled = Some(block);
        }
    }

    /// The bus broke: subscribers read what is in their rings, and are then told.
    pub(crate) fn break_feeds(&mut self) {
        self.carry_out(u64::MAX);
        self.stalled = None;
        self.missing.clear();
        self.feeds
            .iter()
            .flatten()
            .for_each(|feed| feed.break_off());
    }

    fn take_blocks(&mut self) -> bool {
        let mut taken = 0;
        while taken < ROUND_BLOCKS && self.stalled.is_none() {
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
        let routes = self.wires.routes.load();
        if routes.version() != self.version {
            self.carry_out(routes.version());
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
        let mut shares = block.shares(self.touched.len());
        for &slot in &self.touched {
            let mask = std::mem::take(&mut self.masks[slot as usize]);
            let Some(feed) = &mut self.feeds[slot as usize] else {
                continue;
            };
            if !feed.matched(&block, mask) {
                continue;
            }
            let rest = feed.offer(&block, &mut shares, mask);
            if rest != 0 {
                self.missing.push(Missing {
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
        drop(shares);
        if !self.missing.is_empty() {
            self.stalled = Some(block);
            self.set_deadlines();
            self.ask_for_room();
        }
    }

    /// The block begins to wait.
    fn set_deadlines(&mut self) {
        let mut began_at = None;
        for missing in &mut self.missing {
            let feed = self.feeds[missing.slot as usize].as_ref();
            let limit = feed.and_then(|feed| feed.longest_wait().limit());
            missing.deadline =
                limit.and_then(|limit| began_at.get_or_insert_with(now).checked_add(limit));
        }
        self.note_deadline();
    }

    fn note_deadline(&mut self) {
        let deadlines = self.missing.iter().filter_map(|missing| missing.deadline);
        self.deadline = deadlines.min();
    }

    /// Gives up waiting for those that were waited for as long as they may. `true`: there were some.
    fn give_up_late(&mut self) -> bool {
        let Some(deadline) = self.deadline.filter(|_| self.stalled.is_some()) else {
            return false;
        };
        let now = now();
        let late = deadline <= now;
        if late {
            self.offer_missing(Some(now));
        }
        late
    }

    /// Tries to get a stalled block out of the way. `true`: the way is free.
    fn resume(&mut self, insist: bool) -> bool {
        if self.stalled.is_none() {
            return true;
        }
        if !insist && !self.wires.latch.is_open() {
            return false;
        }
        loop {
            self.offer_missing(None);
            if self.stalled.is_none() {
                return true;
            }
            // What was pushed must be seen, or the room that we ask for never comes.
            self.commit();
            if !self.ask_for_room() {
                return false;
            }
        }
    }

    /// Offers what is missing once more. Nobody whose deadline has passed `now` is missing anything afterwards.
    fn offer_missing(&mut self, now: Option<Instant>) {
        let Some(block) = self.stalled.take() else {
            return;
        };
        let mut shares = block.shares(self.missing.len());
        self.missing.retain_mut(|missing| {
            let Some(feed) = &mut self.feeds[missing.slot as usize] else {
                return false;
            };
            let late = missing
                .deadline
                .zip(now)
                .is_some_and(|(deadline, now)| deadline <= now);
            // An earlier wish for room is settled by trying again.
            feed.rouse();
            missing.rest = feed.offer(&block, &mut shares, missing.rest);
            // Again only if the subscriber claims something at this very moment: as often as there is something.
            while late && missing.rest != 0 {
                feed.stop_waiting();
                missing.rest = feed.offer(&block, &mut shares, missing.rest);
            }
            if feed.mark_dirty() {
                self.dirty.push(missing.slot);
            }
            missing.rest != 0
        });
        drop(shares);
        self.note_deadline();
        if !self.missing.is_empty() {
            self.stalled = Some(block);
        }
    }

    /// Asks the rings that have no room to say when they have. `true`: they have it all already.
    ///
    /// The shard goes on when the last of them has. But if one with a deadline needs more room than it has when it says so,
    /// it must get what fits at once, and make more: what it loses in the end must not be for the sake of the others.
    fn ask_for_room(&mut self) -> bool {
        let latch = &self.wires.latch;
        let weight = self.stalled.as_ref().map_or(0, BlockRef::weight);
        let needs_more = |missing: &Missing| {
            let feed = self.feeds[missing.slot as usize].as_ref();
            missing.deadline.is_some()
                && feed.is_some_and(|feed| feed.may_arrive_early_for(missing.rest.count_ones()))
        };
        if self.missing.iter().any(needs_more) {
            latch.close(1);
        } else {
            latch.close(self.missing.len());
        }
        for missing in &self.missing {
            match &mut self.feeds[missing.slot as usize] {
                Some(feed) => {
                    let has_room = feed.doze(weight, missing.rest.count_ones());
                    // A subscriber that ended before it could see the wish does not arrive.
                    if has_room || (feed.has_ended() && feed.rouse()) {
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
        let delivered_id = &self.wires.delivered_id;
        // Relaxed: only the shard writes it.
        let rises = delivered_id.load(Ordering::Relaxed) < self.dispatched_id;
        if !rises || self.stalled.is_some() {
            return false;
        }
        // Release, partner those who wait for it: the commits come before.
        delivered_id.store(self.dispatched_id, Ordering::Release);
        true
    }

    #[cold]
    fn carry_out(&mut self, version: u64) {
        self.version = version;
        while let Some(change) = self.held_back.take().or_else(|| self.wires.changes.pop()) {
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
        if self.stalled.is_some() {
            self.missing.retain(|missing| missing.slot != slot);
            self.note_deadline();
            if feed.rouse() {
                self.wires.latch.arrive_and_call();
            }
            if self.missing.is_empty() {
                self.stalled = None;
            }
        }
        contain(|| feed.detach(self.dispatched_id));
    }

    fn close_feeds(&mut self) {
        self.closed = true;
        for feed in self.feeds.iter_mut().filter_map(Option::take) {
            contain(|| feed.close(self.dispatched_id));
        }
    }
}

/// Runs what may drop a stranger's payload.
fn contain(f: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(f)).is_err() {
        tracing::error!("a payload's drop panicked; what it owned may be leaked");
    }
}
