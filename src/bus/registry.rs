//! The list of subscriptions. Only the registry writes to the indexes of the shards. It is behind a
//! lock that no thread takes to publish, dispatch or receive.

use std::collections::BTreeMap;

use super::error::{ChangeError, SubscribeError};
use super::interest::DisconnectableFeeds;
use super::pattern_texts::PatternTexts;
use super::record::{Record, SubscriptionInfo};
use super::stats::CloseSums;
use super::totals::Totals;
use crate::dispatch::engine::Engine;
use crate::dispatch::feed::{FeedProducer, FeedShared};
use crate::dispatch::loss::{GapReason, Overflow};
use crate::dispatch::routes::RouteBatch;
use crate::dispatch::shard::{Change, ChangeKind};
use crate::handlers::pool::HandlerControl;
use crate::pattern::Pattern;
use crate::sync::{Arc, Mutex};

/// The subscriptions of a bus, and the sums over those that have ended.
pub(super) struct Registry {
    records: BTreeMap<u64, Arc<Record>>,
    /// From 1.
    next_number: u64,
    shards: Vec<ShardSlots>,
    /// By shard.
    disconnectable: Arc<[DisconnectableFeeds]>,
    pub(super) totals: Totals,
    closed: bool,
}

/// The slots of a shard.
struct ShardSlots {
    /// The free slots below `slots`, each once.
    free_slots: Vec<u32>,
    /// The largest number of slots that were used at the same time.
    slots: u32,
    subscriptions: usize,
}

/// A new feed, for a subscription that is being opened.
pub(super) struct OpenedFeed {
    /// The shard's end of its ring.
    pub(super) producer: FeedProducer,
    pub(super) shared: Arc<FeedShared>,
    pub(super) handler: Option<Arc<dyn HandlerControl>>,
}

impl Registry {
    pub(super) fn new(shards: usize) -> Self {
        let slots_of_shard = || ShardSlots {
            free_slots: Vec::new(),
            slots: 0,
            subscriptions: 0,
        };
        Self {
            records: BTreeMap::new(),
            next_number: 1,
            shards: (0..shards).map(|_| slots_of_shard()).collect(),
            disconnectable: (0..shards).map(|_| DisconnectableFeeds::new()).collect(),
            totals: Totals::new(),
            closed: false,
        }
    }

    /// The feeds that may be disconnected, by shard. They can be read without the registry's lock.
    pub(super) fn disconnectable(&self) -> Arc<[DisconnectableFeeds]> {
        self.disconnectable.clone()
    }

    /// Opens a subscription in the shard that has the fewest. Events that are dispatched after this
    /// has returned are matched against its patterns.
    pub(super) fn open(
        &mut self,
        engine: &Engine,
        patterns: &[Pattern],
        info: SubscriptionInfo,
        make: impl FnOnce(usize, u64) -> Result<OpenedFeed, SubscribeError>,
    ) -> Result<Arc<Record>, SubscribeError> {
        if engine.is_broken() {
            return Err(SubscribeError::Broken);
        }
        if self.closed {
            return Err(SubscribeError::Closed);
        }
        let shard = (0..self.shards.len())
            .min_by_key(|&shard| self.shards[shard].subscriptions)
            .expect("a bus has at least one shard");
        let number = self.next_number;
        let OpenedFeed {
            producer,
            shared,
            handler,
        } = make(shard, number)?;
        let slots_of_shard = &mut self.shards[shard];
        let slot = slots_of_shard.take_slot();
        slots_of_shard.subscriptions += 1;
        if shared.limits().overflow == Overflow::Disconnect {
            self.disconnectable[shard].set(slot, shared.clone());
        }
        let kind = ChangeKind::Attach {
            slot,
            feed: Box::new(producer),
        };
        publish(engine, shard, kind, |batch| {
            for pattern in patterns {
                batch.insert(pattern, slot);
            }
        });
        self.next_number += 1;
        let record = Arc::new(Record {
            number,
            shard: shard as u32,
            slot,
            feed: shared,
            handler,
            patterns: Mutex::new(PatternTexts::new(patterns)),
            info,
        });
        let before = self.records.insert(number, record.clone());
        debug_assert!(before.is_none(), "a number is used once");
        Ok(record)
    }

    /// Removes a subscription whose feed the caller has ended. Returns `true` if the subscription
    /// was registered; then the caller must make the shard apply the change.
    pub(super) fn unregister(&mut self, engine: &Engine, record: &Record) -> bool {
        let Some(ended) = self.records.remove(&record.number) else {
            return false;
        };
        self.totals.add_unregistered(ended);
        // The patterns stay in the record, because `resubscribe` needs them.
        let patterns = record.patterns.lock().parse();
        let (shard, slot) = (record.shard(), record.slot);
        publish(engine, shard, ChangeKind::Detach { slot }, |batch| {
            for pattern in patterns {
                batch.remove(&pattern, &slot);
            }
        });
        self.disconnectable[shard].clear(slot);
        // This comes last: no other subscription may use the slot before the change is in the queue
        // of the shard.
        self.shards[shard].give_back(slot);
        true
    }

    /// Adds patterns. Returns `Ok(false)` if the subscription had all of them already.
    pub(super) fn add(
        &self,
        engine: &Engine,
        record: &Record,
        patterns: &[Pattern],
    ) -> Result<bool, ChangeError> {
        self.change(engine, record, |batch, texts| {
            let mut changed = false;
            for pattern in patterns {
                if batch.insert(pattern, record.slot) {
                    texts.push(pattern);
                    changed = true;
                }
            }
            changed
        })
    }

    /// Removes patterns. Returns `Ok(false)` if the subscription had none of them.
    pub(super) fn remove(
        &self,
        engine: &Engine,
        record: &Record,
        patterns: &[Pattern],
    ) -> Result<bool, ChangeError> {
        self.change(engine, record, |batch, texts| {
            let mut changed = false;
            for pattern in patterns {
                if batch.remove(pattern, &record.slot) {
                    texts.remove(pattern);
                    changed = true;
                }
            }
            changed
        })
    }

    fn change(
        &self,
        engine: &Engine,
        record: &Record,
        change: impl FnOnce(&mut RouteBatch<'_, '_>, &mut PatternTexts) -> bool,
    ) -> Result<bool, ChangeError> {
        // A shard disconnects without a lock, so a record that is registered may have ended.
        if !record.is_open(engine) || !self.records.contains_key(&record.number) {
            return Err(ChangeError::Ended);
        }
        let routes = &engine.shard_shared(record.shard()).routes;
        let mut texts = record.patterns.lock();
        Ok(routes.batch(|batch| change(batch, &mut texts)))
    }

    /// No subscription can be opened from now on.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn record(&self, number: u64) -> Option<Arc<Record>> {
        self.records.get(&number).cloned()
    }

    /// All registered subscriptions, the oldest first: the open ones, and those that have ended but
    /// were not unregistered yet.
    pub(super) fn records(&self) -> Vec<Arc<Record>> {
        self.each().cloned().collect()
    }

    /// Like [`records`](Self::records), but allocates no list.
    pub(super) fn each(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values()
    }

    /// The subscriptions that have not ended, the oldest first.
    pub(super) fn open_records(&self, engine: &Engine) -> Vec<Arc<Record>> {
        let open = self.each().filter(|record| record.is_open(engine));
        open.cloned().collect()
    }

    /// The subscriptions whose end a thread or a task may be waiting for. The caller has begun to
    /// close the bus.
    pub(super) fn awaited(&self) -> Vec<Arc<Record>> {
        let awaited = self
            .each()
            .filter(|record| record.feed.end_state().has_waiters());
        awaited.cloned().collect()
    }

    /// The registered subscriptions that have a handler.
    pub(super) fn handlers(&self) -> Vec<Arc<Record>> {
        let handlers = self.each().filter(|record| record.handler.is_some());
        handlers.cloned().collect()
    }

    /// The number of subscriptions that were opened so far.
    pub(super) fn opened(&self) -> u64 {
        self.next_number - 1
    }

    /// Sums for the report of a close.
    pub(super) fn close_sums(&self) -> CloseSums {
        let mut sums = CloseSums::default();
        for record in self.each() {
            let stats = record.feed.stats();
            sums.unread += stats.unread();
            sums.lost += stats.lost[GapReason::Closed as usize];
        }
        sums
    }
}

impl ShardSlots {
    fn take_slot(&mut self) -> u32 {
        self.free_slots.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        })
    }

    fn give_back(&mut self, slot: u32) {
        debug_assert!(slot < self.slots && self.subscriptions > 0);
        self.subscriptions -= 1;
        self.free_slots.push(slot);
        debug_assert_eq!(
            self.free_slots.len() + self.subscriptions,
            self.slots as usize
        );
    }
}

/// Changes the index of a shard, and queues the corresponding change of its feeds: see
/// [`shard`](crate::dispatch::shard).
fn publish(
    engine: &Engine,
    shard: usize,
    kind: ChangeKind,
    change: impl FnOnce(&mut RouteBatch<'_, '_>),
) {
    let shared = engine.shard_shared(shard);
    shared.routes.batch(|batch| {
        change(batch);
        let version = batch.version();
        shared.changes.push(Change { version, kind });
    });
}
