//! Loom models of the path of an event, each in the file that is named like the one whose protocol
//! it checks; the models of feeds are in `feed/models`. This file has what they share. How to run
//! and read them: [`crate::sync::explore`].

mod block;
mod engine;
mod handler;
mod lane;
mod role;
mod shard;
mod signal;

use std::sync::Arc as Plain;
use std::sync::atomic::{AtomicUsize as PlainUsize, Ordering as PlainOrdering};
use std::time::Duration;

use super::block::{BlockRef, BlockSource, EnvelopeTable};
use super::feed::{End, FeedConsumer, FeedProducer, Found, Limits, Listener, feed};
use super::lane::{Receipt, ReceiptSlot};
use super::loss::{BlockTimeout, Overflow};
use super::routes::{RouteBatch, Routes};
use super::shard::{Change, ChangeKind, ShardShared};
use super::signal::{Latch, Signal};
use crate::park::{park, register_thread};
use crate::pattern::Pattern;
use crate::sync::explore::Steps;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, AtomicU64, Ordering, Queue};

/// A payload that loom watches: reading it and dropping it must not race. Its drops are counted
/// outside of the model.
pub(super) struct Payload {
    watched: AtomicU64,
    drops: Drops,
}

#[derive(Clone, Default)]
pub(super) struct Drops(Plain<PlainUsize>);

impl Drops {
    fn payload(&self) -> Payload {
        Payload {
            watched: AtomicU64::new(1),
            drops: self.clone(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(PlainOrdering::Relaxed)
    }
}

impl Payload {
    pub(super) fn read(&self) {
        assert_eq!(self.watched.load(Ordering::Relaxed), 1);
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        // Fails unless the reads of all other threads happen before.
        self.watched.with_mut(|watched| *watched = 0);
        self.drops.0.fetch_add(1, PlainOrdering::Relaxed);
    }
}

/// Makes blocks without a sequencer.
pub(super) struct BlockMaker {
    source: BlockSource<Payload>,
    table: EnvelopeTable,
    pub(super) next_id: u64,
    pub(super) drops: Drops,
}

impl BlockMaker {
    pub(super) fn new() -> Self {
        Self {
            source: BlockSource::new(),
            table: EnvelopeTable::new(),
            next_id: 1,
            drops: Drops::default(),
        }
    }

    /// A block with one event on each of the topics.
    pub(super) fn block(&mut self, topics: &[&str]) -> BlockRef<Payload> {
        let mut writer = self.source.block(topics.len(), self.next_id, 0);
        for topic in topics {
            let envelope = self.table.envelope(topic, None, None).expect("a topic");
            writer.push(envelope, self.drops.payload(), 0);
            self.next_id += 1;
        }
        writer.finish()
    }
}

pub(super) fn limits(capacity: usize, overflow: Overflow) -> Limits {
    Limits {
        capacity,
        pin_bytes: usize::MAX,
        overflow,
    }
}

/// The two ends of a feed that no shard owns.
pub(super) fn feed_of(capacity: usize, overflow: Overflow) -> (FeedProducer, FeedConsumer) {
    let latch = Arc::new(Latch::new(Arc::new(Signal::new(0))));
    feed(limits(capacity, overflow), latch, Listener::waker())
}

/// What a shard shares, for a pool with this signal.
fn shared(signal: &Arc<Signal>) -> Arc<ShardShared> {
    Arc::new(ShardShared {
        routes: Routes::new(),
        changes: Queue::new(),
        delivered_id: AtomicU64::new(0),
        latch: Arc::new(Latch::new(signal.clone())),
    })
}

/// Does what the bus's registry does: it queues a change, and then publishes the index that goes
/// with it.
struct TestRegistry {
    shared: Arc<ShardShared>,
}

impl TestRegistry {
    fn new(shared: &Arc<ShardShared>) -> Self {
        Self {
            shared: shared.clone(),
        }
    }

    fn open(&mut self, pattern: &str, slot: u32, limits: Limits) -> FeedConsumer {
        self.open_with_timeout(pattern, slot, limits, BlockTimeout::NONE)
    }

    fn open_with_timeout(
        &mut self,
        pattern: &str,
        slot: u32,
        limits: Limits,
        timeout: BlockTimeout,
    ) -> FeedConsumer {
        let (producer, consumer) = feed(limits, self.shared.latch.clone(), Listener::waker());
        let producer = producer.with_block_timeout(timeout);
        let kind = ChangeKind::Attach {
            slot,
            feed: Box::new(producer),
        };
        self.publish(kind, |batch| {
            batch.insert(&Pattern::parse(pattern).expect("a pattern"), slot);
        });
        consumer
    }

    fn cancel(&mut self, pattern: &str, slot: u32, consumer: &FeedConsumer) {
        consumer.shared().finish(End::Cancelled);
        self.publish(ChangeKind::Detach { slot }, |batch| {
            batch.remove(&Pattern::parse(pattern).expect("a pattern"), &slot);
        });
    }

    fn publish(&mut self, kind: ChangeKind, change: impl FnOnce(&mut RouteBatch<'_, '_>)) {
        self.shared.routes.batch(|batch| {
            change(batch);
            let version = batch.version();
            self.shared.changes.push(Change { version, kind });
        });
    }
}

/// What a reader has received from a feed. Each finding is checked when it is read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ReadLog {
    pub(super) ids: Vec<u64>,
    pub(super) lost: u64,
    /// Id of the last event that was received or lost.
    pub(super) last: u64,
    /// Whether the last thing was a gap.
    pub(super) in_gap: bool,
}

impl ReadLog {
    /// Reads once, and checks that what was found is in its place.
    pub(super) fn read_one(&mut self, consumer: &mut FeedConsumer) -> Found {
        let found = consumer.check();
        match found {
            Found::Event => {
                let event = consumer.take::<Payload>();
                event.data().read();
                assert!(event.id() > self.last, "{} after {}", event.id(), self.last);
                self.last = event.id();
                self.in_gap = false;
                self.ids.push(self.last);
            }
            Found::Gap => {
                let gap = consumer.gap();
                assert!(gap.first_id() > self.last, "{gap} after {}", self.last);
                assert!(!self.in_gap, "{gap}: a run is reported once");
                self.in_gap = true;
                // All events match here, so every event of the gap's range is lost.
                assert_eq!(gap.count(), gap.last_id() - gap.first_id() + 1);
                self.last = gap.last_id();
                self.lost += gap.count();
            }
            _ => {}
        }
        found
    }

    /// Reads until the end, asleep while there is nothing.
    pub(super) fn read_all(&mut self, consumer: &mut FeedConsumer) -> Found {
        loop {
            match self.read_one(consumer) {
                Found::Event | Found::Gap => {}
                Found::Empty => {
                    sleep(consumer);
                }
                found => return found,
            }
        }
    }
}

/// Sleeps until there may be something to read.
pub(super) fn sleep(consumer: &mut FeedConsumer) {
    register_thread(consumer.waker());
    if consumer.request_wake() {
        park(None);
    }
}

/// Does what a shard does with a block of which every event matches, for a feed that has room or
/// may lose events.
pub(super) fn offer(producer: &mut FeedProducer, block: &BlockRef<Payload>) {
    let mask = (1 << block.events().len()) - 1;
    if producer.matched(block, mask) {
        let mut references = block.ref_batch(1);
        assert_eq!(
            producer.offer(block, &mut references, mask),
            0,
            "the feed never makes the shard wait"
        );
        producer.commit();
    }
}

/// A thread that offers blocks, one in each step, and then closes the feed. `offered`: the id of
/// their last event.
pub(super) fn offer_and_close(
    steps: &Steps,
    mut producer: FeedProducer,
    blocks: Vec<BlockRef<Payload>>,
    offered: u64,
) -> JoinHandle<()> {
    let steps = steps.clone();
    thread::spawn(move || {
        producer.begin(1);
        for block in blocks {
            steps.step();
            offer(&mut producer, &block);
        }
        producer.close(offered);
    })
}

/// Checks the counters of a feed whose every event matched, after all of it was read.
pub(super) fn assert_accounts(log: &ReadLog, consumer: &FeedConsumer, offered: u64) {
    assert_eq!(log.ids.len() as u64 + log.lost, offered);
    assert_eq!(
        log.last, offered,
        "the last event was received or reported as lost, too"
    );
    let stats = consumer.shared().stats();
    assert_eq!(
        (stats.matched, stats.received),
        (offered, log.ids.len() as u64)
    );
    assert_eq!(stats.lost.iter().sum::<u64>(), log.lost);
    assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(offered)));
}

/// Waits as a publisher does. `None`: the event will never be sequenced.
fn wait_for_receipt(slot: &ReceiptSlot) -> Option<Receipt> {
    loop {
        if let Some(answer) = slot.try_get() {
            return answer;
        }
        register_thread(&slot.waker);
        if slot.try_get().is_none() {
            park(None);
        }
    }
}

/// A block timeout above zero. In a model it is over when a thread has slept until then.
fn short_timeout() -> BlockTimeout {
    BlockTimeout::new(Duration::from_millis(1)).expect("in range")
}
