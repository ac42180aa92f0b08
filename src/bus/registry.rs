//! The list of subscriptions. Only this file writes to the indexes of the shards. The list is
//! behind a lock that no thread takes to publish, dispatch or receive.
//!
//! A thread holds that lock for some microseconds, also if it opens, changes or ends a subscription
//! with tens of thousands of patterns: then it prepares the change of the index before it takes
//! the lock (see [`SharedIndex::bulk`](crate::index::SharedIndex)).
//!
//! The locks, in the order in which a thread takes them: that of the patterns of a subscription
//! ([`Record::patterns`]), that of a bulk change of an index, that of the registry, that of the
//! writers of an index. The patterns of a registered subscription change, and the subscription is
//! unregistered, only under the first.

use std::collections::BTreeMap;
use std::ops::DerefMut;

use super::error::{ChangeError, SubscribeError};
use super::interest::DisconnectableFeeds;
use super::pattern_texts::PatternTexts;
use super::record::{Record, SubscriptionInfo};
use super::stats::CloseSums;
use super::totals::Totals;
use crate::dispatch::engine::Engine;
use crate::dispatch::feed::{FeedProducer, FeedShared};
use crate::dispatch::loss::{GapReason, Overflow};
use crate::dispatch::routes::{RouteBatch, RouteBulk, Routes};
use crate::dispatch::shard::{Change, ChangeKind, ShardShared};
use crate::handlers::pool::HandlerControl;
use crate::pattern::Pattern;
use crate::sync::{Arc, Mutex};

/// If a change has more routes of patterns than this, it is a bulk change of the index. The change
/// of 1,024 routes takes about a millisecond.
const BATCH_ROUTES_MAX: usize = if cfg!(test) { 16 } else { 1024 };

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

    /// An error: no subscription can be opened.
    fn check_open(&self, engine: &Engine) -> Result<(), SubscribeError> {
        if engine.is_broken() {
            return Err(SubscribeError::Broken);
        }
        if self.closed {
            return Err(SubscribeError::Closed);
        }
        Ok(())
    }

    /// The shard that has the fewest subscriptions.
    fn next_shard(&self) -> usize {
        (0..self.shards.len())
            .min_by_key(|&shard| self.shards[shard].subscriptions)
            .expect("a bus has at least one shard")
    }

    /// Enters a subscription whose slot is taken. `publish` queues the change of the shard's feeds,
    /// and makes the patterns visible.
    fn enter(
        &mut self,
        (shard, slot): (usize, u32),
        feed: OpenedFeed,
        patterns: PatternTexts,
        info: SubscriptionInfo,
        publish: impl FnOnce(ChangeKind),
    ) -> Arc<Record> {
        let OpenedFeed {
            producer,
            shared,
            handler,
        } = feed;
        if shared.limits().overflow == Overflow::Disconnect {
            self.disconnectable[shard].set(slot, shared.clone());
        }
        publish(ChangeKind::Attach {
            slot,
            feed: Box::new(producer),
        });
        let number = self.next_number;
        self.next_number += 1;
        let record = Arc::new(Record {
            number,
            shard: shard as u32,
            slot,
            feed: shared,
            handler,
            patterns: Mutex::new(patterns),
            info,
        });
        let before = self.records.insert(number, record.clone());
        debug_assert!(before.is_none(), "a number is used once");
        record
    }

    /// Removes a subscription. `publish` queues the change of the shard's feeds, and makes the
    /// removal of the patterns visible.
    fn erase(&mut self, record: &Record, publish: impl FnOnce(ChangeKind)) {
        let ended = self.records.remove(&record.number);
        self.totals.add_unregistered(ended.expect("registered"));
        let (shard, slot) = (record.shard(), record.slot);
        publish(ChangeKind::Detach { slot });
        self.disconnectable[shard].clear(slot);
        // This comes last: no other subscription may use the slot before the change is in the queue
        // of the shard.
        self.shards[shard].give_back(slot);
    }

    fn is_registered(&self, record: &Record) -> bool {
        self.records.contains_key(&record.number)
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
    /// A slot for one more subscription.
    fn take_slot(&mut self) -> u32 {
        self.subscriptions += 1;
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

/// Opens a subscription in the shard that has the fewest. Events that are dispatched after this has
/// returned are matched against its patterns, which must differ. `make` runs under the registry's
/// lock.
pub(super) fn open(
    registry: &Mutex<Registry>,
    engine: &Engine,
    patterns: &[Pattern],
    info: SubscriptionInfo,
    make: impl FnOnce(usize, u64) -> Result<OpenedFeed, SubscribeError>,
) -> Result<Arc<Record>, SubscribeError> {
    let texts = PatternTexts::new(patterns);
    if !are_very_many(patterns) {
        let registry = &mut *registry.lock();
        registry.check_open(engine)?;
        let shard = registry.next_shard();
        let feed = make(shard, registry.next_number)?;
        let slot = registry.shards[shard].take_slot();
        let publish = |kind| {
            publish(engine, shard, kind, |batch| {
                for pattern in patterns {
                    batch.insert(pattern, slot);
                }
            });
        };
        return Ok(registry.enter((shard, slot), feed, texts, info, publish));
    }
    let mut locked = registry.lock();
    locked.check_open(engine)?;
    let shard = locked.next_shard();
    let slot = locked.shards[shard].take_slot();
    drop(locked);
    let shared = engine.shard_shared(shard);
    shared.routes.bulk(|bulk| {
        for pattern in patterns {
            bulk.insert(pattern, slot);
        }
        bulk.catch_up();
        let registry = &mut *registry.lock();
        // The bus may have been closed meanwhile.
        let feed = registry.check_open(engine);
        let feed = feed.and_then(|()| make(shard, registry.next_number));
        let feed = feed.inspect_err(|_| registry.shards[shard].give_back(slot))?;
        let publish = |kind| publish_bulk(shared, bulk, kind);
        Ok(registry.enter((shard, slot), feed, texts, info, publish))
    })
}

/// Removes a subscription whose feed the caller has ended. Returns `true` if the subscription was
/// registered; then the caller must make the shard apply the change.
pub(super) fn unregister(registry: &Mutex<Registry>, engine: &Engine, record: &Record) -> bool {
    // The patterns stay in the record, because `resubscribe` needs them. While they are locked,
    // no other thread unregisters the subscription.
    let texts = record.patterns.lock();
    if !registry.lock().is_registered(record) {
        return false;
    }
    let patterns = texts.parse();
    let (shard, slot) = (record.shard(), record.slot);
    if !are_very_many(&patterns) {
        registry.lock().erase(record, |kind| {
            publish(engine, shard, kind, |batch| {
                for pattern in &patterns {
                    batch.remove(pattern, &slot);
                }
            });
        });
        return true;
    }
    let shared = engine.shard_shared(shard);
    shared.routes.bulk(|bulk| {
        for pattern in &patterns {
            bulk.remove(pattern, &slot);
        }
        bulk.catch_up();
        let publish = |kind| publish_bulk(shared, bulk, kind);
        registry.lock().erase(record, publish);
    });
    true
}

/// Adds patterns. Returns `Ok(false)` if the subscription had all of them already.
pub(super) fn add(
    registry: &Mutex<Registry>,
    engine: &Engine,
    record: &Record,
    patterns: &[Pattern],
) -> Result<bool, ChangeError> {
    change(registry, engine, record, patterns, &ADDITION)
}

/// Removes patterns. Returns `Ok(false)` if the subscription had none of them.
pub(super) fn remove(
    registry: &Mutex<Registry>,
    engine: &Engine,
    record: &Record,
    patterns: &[Pattern],
) -> Result<bool, ChangeError> {
    change(registry, engine, record, patterns, &REMOVAL)
}

/// How one pattern is changed, in the index and in the list of the subscription. The index answers
/// `false` if nothing changed.
struct PatternChange {
    in_batch: fn(&mut RouteBatch<'_, '_>, &Pattern, u32) -> bool,
    in_bulk: fn(&mut RouteBulk<'_, '_>, &Pattern, u32) -> bool,
    in_texts: fn(&mut PatternTexts, &Pattern),
}

const ADDITION: PatternChange = PatternChange {
    in_batch: |batch, pattern, slot| batch.insert(pattern, slot),
    in_bulk: |bulk, pattern, slot| bulk.insert(pattern, slot),
    in_texts: PatternTexts::push,
};

const REMOVAL: PatternChange = PatternChange {
    in_batch: |batch, pattern, slot| batch.remove(pattern, &slot),
    in_bulk: |bulk, pattern, slot| bulk.remove(pattern, &slot),
    in_texts: PatternTexts::remove,
};

/// Changes patterns. Returns `Ok(false)` if nothing changed.
fn change(
    registry: &Mutex<Registry>,
    engine: &Engine,
    record: &Record,
    patterns: &[Pattern],
    how: &PatternChange,
) -> Result<bool, ChangeError> {
    let (mut texts, routes) = begin_change(registry, engine, record)?;
    let mut changed = false;
    if are_very_many(patterns) {
        let affected: Vec<&Pattern> = routes.bulk(|bulk| {
            let is_changed = |pattern: &&Pattern| (how.in_bulk)(bulk, pattern, record.slot);
            let affected: Vec<&Pattern> = patterns.iter().filter(is_changed).collect();
            if !affected.is_empty() {
                bulk.catch_up();
                bulk.publish(&mut |_| ());
            }
            affected
        });
        for pattern in affected {
            (how.in_texts)(&mut texts, pattern);
            changed = true;
        }
    } else {
        routes.batch(|batch| {
            for pattern in patterns {
                if (how.in_batch)(batch, pattern, record.slot) {
                    (how.in_texts)(&mut texts, pattern);
                    changed = true;
                }
            }
        });
    }
    Ok(changed)
}

/// Locks the patterns of a subscription for a change, and returns them with the routes of its
/// shard. The registry's lock is not held meanwhile.
fn begin_change<'a>(
    registry: &Mutex<Registry>,
    engine: &'a Engine,
    record: &'a Record,
) -> Result<(impl DerefMut<Target = PatternTexts> + 'a, &'a Routes), ChangeError> {
    // While the patterns are locked, no other thread unregisters the subscription.
    let texts = record.patterns.lock();
    // A shard disconnects without a lock, so a record that is registered may have ended.
    if !record.is_open(engine) || !registry.lock().is_registered(record) {
        return Err(ChangeError::Ended);
    }
    Ok((texts, &engine.shard_shared(record.shard()).routes))
}

/// Whether a change of these patterns takes so long that it must not delay other threads.
fn are_very_many(patterns: &[Pattern]) -> bool {
    let routes = patterns.iter().map(|pattern| pattern.routes().len());
    routes.sum::<usize>() > BATCH_ROUTES_MAX
}

/// Queues a change of a shard's feeds, and publishes the changes of its index that were prepared.
fn publish_bulk(shared: &ShardShared, bulk: &mut RouteBulk<'_, '_>, kind: ChangeKind) {
    let mut kind = Some(kind);
    bulk.publish(&mut |version| {
        let kind = kind.take().expect("called once");
        shared.changes.push(Change { version, kind });
    });
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
