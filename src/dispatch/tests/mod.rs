//! Unit tests of the path of an event, each in the file that is named like the one that it checks;
//! the tests of feeds are in `feed/tests`. This file has what they share.

mod lane;
mod loss;
mod role;
mod shard;
mod suspended;

use super::block::{BlockRef, BlockSource, EnvelopeTable};
use super::feed::{FeedConsumer, FeedProducer, Found, Limits, Listener, feed};
use super::loss::Overflow;
use super::signal::{Latch, Signal};
use crate::sync::Arc;

/// Makes blocks without a sequencer, of events with a given weight.
pub(super) struct BlockMaker {
    source: BlockSource<()>,
    table: EnvelopeTable,
    pub(super) next_id: u64,
}

impl BlockMaker {
    pub(super) fn new() -> Self {
        Self {
            source: BlockSource::new(),
            table: EnvelopeTable::new(),
            next_id: 1,
        }
    }

    pub(super) fn block(&mut self, events: usize, weight: usize) -> BlockRef<()> {
        let mut writer = self.source.block(events, self.next_id, 0);
        for _ in 0..events {
            let envelope = self.table.envelope("a", None, None).expect("a topic");
            writer.push(envelope, (), weight);
            self.next_id += 1;
        }
        writer.finish()
    }
}

/// A latch whose signal wakes no thread.
fn latch() -> Arc<Latch> {
    Arc::new(Latch::new(Arc::new(Signal::new(0))))
}

pub(super) fn ring(
    capacity: usize,
    pin_bytes: usize,
    overflow: Overflow,
) -> (FeedProducer, FeedConsumer) {
    let limits = Limits {
        capacity,
        pin_bytes,
        overflow,
    };
    feed(limits, latch(), Listener::waker())
}

pub(super) fn all_of(block: &BlockRef<()>) -> u64 {
    u64::MAX >> (64 - block.events().len())
}

/// Offers all events of the block and commits. Returns those that the shard has to offer again.
pub(super) fn offer(producer: &mut FeedProducer, block: &BlockRef<()>) -> u64 {
    let mask = all_of(block);
    assert!(producer.matched(block, mask));
    let rest = offer_again(producer, block, mask);
    producer.commit();
    rest
}

pub(super) fn offer_again(producer: &mut FeedProducer, block: &BlockRef<()>, mask: u64) -> u64 {
    let mut references = block.ref_batch(1);
    producer.offer(block, &mut references, mask)
}

/// Reads until there is nothing: the ids of events, gaps as (first id, last id, count), and why it
/// ended.
pub(super) fn read(consumer: &mut FeedConsumer) -> (Vec<u64>, Vec<(u64, u64, u64)>, Found) {
    let (mut ids, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match consumer.check() {
            Found::Event => ids.push(consumer.take::<()>().id()),
            Found::Gap => {
                let gap = consumer.gap();
                let after = ids.last().copied().unwrap_or(0);
                assert!(gap.first_id() > after, "{gap} after {after}");
                gaps.push((gap.first_id(), gap.last_id(), gap.count()));
            }
            end => return (ids, gaps, end),
        }
    }
}
