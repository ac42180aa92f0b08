//! Which subscriptions there are. The registry alone writes to the shards' indexes, behind a lock
//! that no event ever takes.

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

/// The subscriptions of a bus, and the accounts of those that have ended.
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
    /// The free ones below `slots`, each once.
    free_slots: Vec<u32>,
    /// How many were ever used at once.
    slots: u32,
    subscriptions: usize,
}

/// What a subscription is opened with.
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

    /// By shard; to be read without the registry's lock.
    pub(super) fn disconnectable(&self) -> Arc<[DisconnectableFeeds]> {
        self.disconnectable.clone()
    }

    /// Opens a subscription in the shard that has the fewest. What is dispatched after this
    /// returned is matched.
    pub(super) fn open(
        &mut self,
        engine: &Engine,
        patterns: &[Pattern],
        info: SubscriptionInfo,
        make: impl FnOnce(usize, u64) -> Result<OpenedFeed, SubscribeError>,
    ) -> Result<Arc<Record>, SubscribeError> {
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

    /// Removes a subscription whose feed the caller has ended. `true`: it was registered, and the
    /// caller has the shard apply the change.
    pub(super) fn unregister(&mut self, engine: &Engine, record: &Record) -> bool {
        let Some(ended) = self.records.remove(&record.number) else {
            return false;
        };
        self.totals.add_unregistered(ended);
        // They stay in the record: `resubscribe` needs them.
        let patterns = record.patterns.lock().parse();
        let (shard, slot) = (record.shard(), record.slot);
        publish(engine, shard, ChangeKind::Detach { slot }, |batch| {
            for pattern in patterns {
                batch.remove(&pattern, &slot);
            }
        });
        self.disconnectable[shard].clear(slot);
        // Last: no other subscription may have the slot before the shard has been told.
        self.shards[shard].give_back(slot);
        true
    }

    /// Adds patterns. `Ok(false)`: it had all of them already.
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

    /// Removes patterns. `Ok(false)`: it had none of them.
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
        // A shard disconnects without a lock: the record may be registered and have ended.
        if !record.is_open(engine) || !self.records.contains_key(&record.number) {
            return Err(ChangeError::Ended);
        }
        let routes = &engine.shard_shared(record.shard()).routes;
        let mut texts = record.patterns.lock();
        Ok(routes.batch(|batch| change(batch, &mut texts)))
    }

    /// From now on nothing is opened.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn record(&self, number: u64) -> Option<Arc<Record>> {
        self.records.get(&number).cloned()
    }

    /// All that are registered, oldest first: the open ones, and those that have ended and were not
    /// unregistered since.
    pub(super) fn records(&self) -> Vec<Arc<Record>> {
        self.each().cloned().collect()
    }

    /// Like [`records`](Self::records), without a list of its own.
    pub(super) fn each(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values()
    }

    /// Those that have not ended, oldest first.
    pub(super) fn open_records(&self, engine: &Engine) -> Vec<Arc<Record>> {
        let open = self.each().filter(|record| record.is_open(engine));
        open.cloned().collect()
    }

    /// Those whose end a thread or a task may be waiting for. The caller has begun to close the
    /// bus.
    pub(super) fn awaited(&self) -> Vec<Arc<Record>> {
        let awaited = self.each().filter(|record| record.feed.has_end_waiters());
        awaited.cloned().collect()
    }

    /// The registered ones that have a handler.
    pub(super) fn handlers(&self) -> Vec<Arc<Record>> {
        let handlers = self.each().filter(|record| record.handler.is_some());
        handlers.cloned().collect()
    }

    /// Subscriptions ever opened.
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

/// Changes a shard's index, and queues the change of its feeds that belongs to it: see
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
