//! Who subscribes to what: who writes to the shards' indexes, behind a lock that no event ever takes.

use std::collections::BTreeMap;
use std::time::Instant;

use super::error::{ChangeError, SubscribeError};
use super::label::Labels;
use super::pattern_texts::PatternTexts;
use super::stats::{SubscriptionStats, Unread};
use super::subscription::Ends;
use super::totals::Totals;
use crate::dispatch::engine::Engine;
use crate::dispatch::feed::FeedShared;
#[cfg(feature = "latency")]
use crate::dispatch::latency::Recorder;
use crate::dispatch::loss::GapReason;
use crate::dispatch::shard::{Change, ChangeKind};
use crate::handlers::pool::HandlerControl;
use crate::handlers::task::Counters;
use crate::index::Batch;
use crate::pattern::Pattern;
use crate::sync::{Arc, Mutex};

/// What is known of a subscription, also after it ended.
pub(super) struct Record {
    /// From 1, in the order of opening.
    pub(super) number: u64,
    shard: u32,
    slot: u32,
    pub(super) feed: Arc<FeedShared>,
    pub(super) handler: Option<Arc<dyn HandlerControl>>,
    /// Changed under the registry's lock alone; a lock of its own, so that reading needs no registry.
    pub(super) patterns: Mutex<PatternTexts>,
    pub(super) info: SubscriptionInfo,
}

/// What was said of a subscription when it was opened.
pub(super) struct SubscriptionInfo {
    pub(super) labels: Labels,
    #[cfg(feature = "latency")]
    pub(super) recorder: Option<Arc<Recorder>>,
}

impl Record {
    /// Waits until its handler has come so far in its queue, or to its end. `false`: not in time.
    pub(super) fn wait_until_handled(&self, pushed: u64, deadline: Option<Instant>) -> bool {
        let Some(handler) = &self.handler else {
            return true;
        };
        handler.wait_for(deadline, &mut || self.feed.has_passed(pushed))
    }

    pub(super) fn shard(&self) -> usize {
        self.shard as usize
    }
}

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

    /// Takes a subscription out; the caller has ended its feed. `true`: it was open, and the caller has the shard
    /// attended to.
    pub(super) fn cancel<T>(&mut self, engine: &Engine<T>, record: &Record) -> bool {
        let Some(ended) = self.records.remove(&record.number) else {
            return false;
        };
        self.totals.end(ended);
        let slots_of_shard = &mut self.shards[record.shard()];
        let patterns = std::mem::take(&mut *record.patterns.lock());
        let slot = record.slot;
        slots_of_shard.subscriptions -= 1;
        publish(
            engine,
            record.shard(),
            ChangeKind::Detach { slot },
            |batch| {
                for pattern in patterns.parse() {
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
        self.check_open(record)?;
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
        self.check_open(record)?;
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

    /// Those with a handler.
    pub(super) fn handlers(&self) -> Vec<Arc<Record>> {
        let handlers = self.records.values().filter(|r| r.handler.is_some());
        handlers.cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Subscriptions ever opened.
    pub(super) fn opened(&self) -> u64 {
        self.next_number - 1
    }

    /// The open subscriptions, oldest first.
    pub(super) fn each(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values()
    }

    /// What the open subscriptions have not read, and what they lost to a close.
    pub(super) fn unread(&self) -> Unread {
        let mut sum = Unread::default();
        for record in self.records.values() {
            let stats = record.feed.stats();
            sum.unread += stats.unread();
            sum.lost_at_close += stats.lost[GapReason::Closed as usize];
        }
        sum
    }

    fn check_open(&self, record: &Record) -> Result<(), ChangeError> {
        if self.records.contains_key(&record.number) {
            Ok(())
        } else {
            Err(ChangeError::Ended)
        }
    }
}

impl Record {
    pub(super) fn stats(&self) -> SubscriptionStats {
        let mut stats = self.feed.stats().public(&self.feed.limits());
        if let Some(counters) = self.counters() {
            stats.add_handler(counters);
        }
        stats
    }

    /// Those of its handler, if it has one that ever failed.
    pub(super) fn counters(&self) -> Option<&Counters> {
        self.handler.as_ref()?.extras().counters()
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
