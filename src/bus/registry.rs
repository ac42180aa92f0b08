//! Who subscribes to what: who writes to the shards' indexes, behind a lock that no event ever
//! takes.

use std::collections::BTreeMap;

use super::error::{ChangeError, SubscribeError};
use super::pattern_texts::PatternTexts;
use super::record::{Record, SubscriptionInfo};
use super::stats::Unread;
use super::subscription::Ends;
use super::totals::Totals;
use crate::dispatch::engine::Engine;
use crate::dispatch::loss::GapReason;
use crate::dispatch::shard::{Change, ChangeKind};
use crate::index::Batch;
use crate::pattern::Pattern;
use crate::sync::{Arc, Mutex};

pub(super) struct Registry {
    records: BTreeMap<u64, Arc<Record>>,
    next_number: u64,
    shards: Vec<ShardSlots>,
    pub(super) totals: Totals,
    closed: bool,
}

/// The slots of a shard.
struct ShardSlots {
    free_slots: Vec<u32>,
    slots: u32,
    subscriptions: usize,
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
            totals: Totals::new(),
            closed: false,
        }
    }

    /// Opens a subscription in the emptiest shard; what is dispatched from now on is matched.
    pub(super) fn open<T>(
        &mut self,
        engine: &Engine<T>,
        patterns: &[Pattern],
        info: SubscriptionInfo,
        make: impl FnOnce(usize, u64) -> Result<Ends<T>, SubscribeError>,
    ) -> Result<Arc<Record>, SubscribeError> {
        if self.closed {
            return Err(SubscribeError::Closed);
        }
        let shard = (0..self.shards.len())
            .min_by_key(|&shard| self.shards[shard].subscriptions)
            .expect("a bus has at least one shard");
        let number = self.next_number;
        let (producer, feed, handler) = make(shard, number)?;
        let slots_of_shard = &mut self.shards[shard];
        let slot = slots_of_shard.take_slot();
        slots_of_shard.subscriptions += 1;
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
            feed,
            handler,
            patterns: Mutex::new(PatternTexts::new(patterns)),
            info,
        });
        self.records.insert(number, record.clone());
        Ok(record)
    }

    /// Takes a subscription out; the caller has ended its feed. `true`: it was open, and the caller
    /// has the shard attended to.
    pub(super) fn cancel<T>(&mut self, engine: &Engine<T>, record: &Record) -> bool {
        let Some(ended) = self.records.remove(&record.number) else {
            return false;
        };
        self.totals.end(ended);
        let slots_of_shard = &mut self.shards[record.shard()];
        // They stay in the record: `resubscribe` wants them.
        let patterns = record.patterns.lock().parse();
        let slot = record.slot;
        slots_of_shard.subscriptions -= 1;
        publish(
            engine,
            record.shard(),
            ChangeKind::Detach { slot },
            |batch| {
                for pattern in patterns {
                    batch.remove(&pattern, &slot);
                }
            },
        );
        // Only now: nobody else may have it before the shard has been told.
        self.shards[record.shard()].free_slots.push(slot);
        true
    }

    /// Adds a pattern. `Ok(false)`: it was there already.
    pub(super) fn add<T>(
        &self,
        engine: &Engine<T>,
        record: &Record,
        pattern: &Pattern,
    ) -> Result<bool, ChangeError> {
        self.check_open(engine, record)?;
        let routes = &engine.shard_shared(record.shard()).routes;
        let is_new = routes.insert(pattern, record.slot);
        if is_new {
            record.patterns.lock().push(pattern);
        }
        Ok(is_new)
    }

    /// Removes a pattern. `Ok(false)`: it was not there.
    pub(super) fn remove<T>(
        &self,
        engine: &Engine<T>,
        record: &Record,
        pattern: &Pattern,
    ) -> Result<bool, ChangeError> {
        self.check_open(engine, record)?;
        let routes = &engine.shard_shared(record.shard()).routes;
        let was_there = routes.remove(pattern, &record.slot);
        if was_there {
            record.patterns.lock().remove(pattern);
        }
        Ok(was_there)
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

    pub(super) fn records(&self) -> Vec<Arc<Record>> {
        self.records.values().cloned().collect()
    }

    /// Those that have not ended, oldest first.
    pub(super) fn open_records<T>(&self, engine: &Engine<T>) -> Vec<Arc<Record>> {
        let open = self.records.values().filter(|r| r.is_open(engine));
        open.cloned().collect()
    }

    /// Those whose end somebody may be waiting for. The caller has had the bus close.
    pub(super) fn awaited(&self) -> Vec<Arc<Record>> {
        let records = self.records.values();
        records
            .filter(|record| record.feed.has_end_waiters())
            .cloned()
            .collect()
    }

    /// Those with a handler.
    pub(super) fn handlers(&self) -> Vec<Arc<Record>> {
        let handlers = self.records.values().filter(|r| r.handler.is_some());
        handlers.cloned().collect()
    }

    /// Subscriptions ever opened.
    pub(super) fn opened(&self) -> u64 {
        self.next_number - 1
    }

    /// All that are registered, oldest first: the open ones, and some of those that have ended.
    pub(super) fn each(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values()
    }

    /// What the registered subscriptions have not read, and what they lost to a close.
    pub(super) fn unread(&self) -> Unread {
        let mut sum = Unread::default();
        for record in self.records.values() {
            let stats = record.feed.stats();
            sum.unread += stats.unread();
            sum.lost_at_close += stats.lost[GapReason::Closed as usize];
        }
        sum
    }

    fn check_open<T>(&self, engine: &Engine<T>, record: &Record) -> Result<(), ChangeError> {
        // The shard, which disconnects, takes no lock: the record may still be here.
        if record.is_open(engine) && self.records.contains_key(&record.number) {
            Ok(())
        } else {
            Err(ChangeError::Ended)
        }
    }
}

impl ShardSlots {
    fn take_slot(&mut self) -> u32 {
        self.free_slots.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        })
    }
}

/// Changes a shard's index, and has it carry out the change that goes with it: see
/// [`shard`](crate::dispatch::shard).
fn publish<T>(
    engine: &Engine<T>,
    shard: usize,
    kind: ChangeKind<T>,
    change: impl FnOnce(&mut Batch<'_, u32>),
) {
    let shared = engine.shard_shared(shard);
    shared.routes.batch(|batch| {
        change(batch);
        let version = batch.version();
        shared.changes.push(Change { version, kind });
    });
}
