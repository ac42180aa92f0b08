//! Loom models of the path of an event, each in the file that is named like the one whose protocol
//! it checks; this file has what they share. How to run and read them: [`crate::sync::explore`].

mod block;
mod conflated;
mod engine;
mod feed;
mod feed_end;
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
use super::loss::{LongestWait, Overflow};
use super::shard::{Change, ChangeKind, ShardShared};
use super::signal::{Latch, Signal};
use crate::index::{Batch, SharedIndex};
use crate::park::{park, register_thread};
use crate::pattern::Pattern;
use crate::sync::{Arc, AtomicU64, Ordering, Queue};

/// A payload that loom watches: reading it and dropping it must not race. Counts its drops, outside of the model.
struct Payload {
    watched: AtomicU64,
    drops: Drops,
}

#[derive(Clone, Default)]
struct Drops(Plain<PlainUsize>);

impl Drops {
    fn payload(&self) -> Payload {
        Payload {
            watched: AtomicU64::new(1),
            drops: self.clone(),
        }
    }

    fn count(&self) -> usize {
        self.0.load(PlainOrdering::Relaxed)
    }
}

impl Payload {
    fn read(&self) {
        assert_eq!(self.watched.load(Ordering::Relaxed), 1);
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        // Fails if a read of another thread does not come before.
        self.watched.with_mut(|watched| *watched = 0);
        self.drops.0.fetch_add(1, PlainOrdering::Relaxed);
    }
}

/// Lays blocks without a sequencer.
struct Layer {
    source: BlockSource<Payload>,
    table: EnvelopeTable,
    next_id: u64,
    drops: Drops,
}

impl Layer {
    fn new() -> Self {
        Self {
            source: BlockSource::new(),
            table: EnvelopeTable::new(),
            next_id: 1,
            drops: Drops::default(),
        }
    }

    /// A block with an event on each topic.
    fn block(&mut self, topics: &[&str]) -> BlockRef<Payload> {
        let mut writer = self.source.block(topics.len(), self.next_id, 0);
        for topic in topics {
            let envelope = self.table.envelope(topic, None, None).expect("a topic");
            writer.push(envelope, self.drops.payload(), 0);
            self.next_id += 1;
        }
        writer.finish()
    }
}

fn limits(capacity: usize, overflow: Overflow) -> Limits {
    Limits {
        capacity,
        pin_bytes: usize::MAX,
        overflow,
    }
}

fn shared(signal: &Arc<Signal>) -> Arc<ShardShared<Payload>> {
    Arc::new(ShardShared {
        routes: SharedIndex::new(),
        changes: Queue::new(),
        delivered_id: AtomicU64::new(0),
        latch: Arc::new(Latch::new(signal.clone())),
    })
}

/// What the registry does: the change first, then the index that goes with it.
struct Book {
    shared: Arc<ShardShared<Payload>>,
}

impl Book {
    fn new(shared: &Arc<ShardShared<Payload>>) -> Self {
        Self {
            shared: shared.clone(),
        }
    }

    fn open(&mut self, pattern: &str, slot: u32, limits: Limits) -> FeedConsumer<Payload> {
        self.open_waiting(pattern, slot, limits, LongestWait::FOR_EVER)
    }

    fn open_waiting(
        &mut self,
        pattern: &str,
        slot: u32,
        limits: Limits,
        longest_wait: LongestWait,
    ) -> FeedConsumer<Payload> {
        let (producer, consumer) = feed(limits, self.shared.latch.clone(), Listener::waker());
        let producer = producer.with_longest_wait(longest_wait);
        let kind = ChangeKind::Attach {
            slot,
            feed: Box::new(producer),
        };
        self.publish(kind, |batch| {
            batch.insert(&Pattern::parse(pattern).expect("a pattern"), slot);
        });
        consumer
    }

    fn cancel(&mut self, pattern: &str, slot: u32, consumer: &FeedConsumer<Payload>) {
        consumer.shared().finish(End::Cancelled);
        self.publish(ChangeKind::Detach { slot }, |batch| {
            batch.remove(&Pattern::parse(pattern).expect("a pattern"), &slot);
        });
    }

    fn publish(&mut self, kind: ChangeKind<Payload>, change: impl FnOnce(&mut Batch<'_, u32>)) {
        self.shared.routes.batch(|batch| {
            change(batch);
            let version = batch.version();
            self.shared.changes.push(Change { version, kind });
        });
    }
}

/// What a reader was told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    ids: Vec<u64>,
    lost: u64,
    /// Everything up to here, received or lost.
    last: u64,
    /// The last that came was a gap.
    in_gap: bool,
}

impl Told {
    /// Takes one thing, and checks that it comes in its place.
    fn look(&mut self, consumer: &mut FeedConsumer<Payload>) -> Found {
        let found = consumer.check();
        match found {
            Found::Event => {
                let event = consumer.take();
                event.data().read();
                assert!(event.id() > self.last, "{} after {}", event.id(), self.last);
                self.last = event.id();
                self.in_gap = false;
                self.ids.push(self.last);
            }
            Found::Gap(gap) => {
                assert!(gap.from() > self.last, "{gap} after {}", self.last);
                assert!(!self.in_gap, "{gap}: a run is told once");
                self.in_gap = true;
                // A run of losses has nothing in between that was received, since the events here all match.
                assert_eq!(gap.count(), gap.to() - gap.from() + 1);
                self.last = gap.to();
                self.lost += gap.count();
            }
            _ => {}
        }
        found
    }

    /// Reads, asleep when there is nothing, until nothing more comes.
    fn read_all(&mut self, consumer: &mut FeedConsumer<Payload>) -> Found {
        loop {
            match self.look(consumer) {
                Found::Event | Found::Gap(_) => {}
                Found::Empty => {
                    sleep(consumer);
                }
                found => return found,
            }
        }
    }
}

/// Sleeps until there is something to look at, or for no reason.
fn sleep(consumer: &mut FeedConsumer<Payload>) {
    register_thread(consumer.waker());
    if consumer.request_wake() {
        park(None);
    }
}

/// The producer's half of a feed without a shard.
fn offer(producer: &mut FeedProducer<Payload>, block: &BlockRef<Payload>) {
    let mask = (1 << block.events().len()) - 1;
    if producer.matched(block, mask) {
        let mut refs = block.ref_batch(1);
        assert_eq!(
            producer.offer(block, &mut refs, mask),
            0,
            "nothing is held back"
        );
        producer.commit();
    }
}

fn assert_accounts(told: &Told, consumer: &FeedConsumer<Payload>, offered: u64) {
    assert_eq!(told.ids.len() as u64 + told.lost, offered);
    assert_eq!(told.last, offered, "the last one was told of, too");
    let stats = consumer.shared().stats();
    assert_eq!(
        (stats.matched, stats.received),
        (offered, told.ids.len() as u64)
    );
    assert_eq!(stats.lost.iter().sum::<u64>(), told.lost);
    assert_eq!((stats.first_id, stats.last_id), (Some(1), Some(offered)));
}

fn wait_for(slot: &ReceiptSlot) -> Option<Receipt> {
    loop {
        if let Some(answer) = slot.look() {
            return answer;
        }
        register_thread(&slot.waker);
        if slot.look().is_none() {
            park(None);
        }
    }
}

/// Longer than nothing: in a model, it is over when somebody has slept until then.
fn some_time() -> LongestWait {
    LongestWait::new(Duration::from_millis(1)).expect("in range")
}
