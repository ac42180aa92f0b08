//! Unit tests of the path of an event, each in the file that is named like the one that it checks;
//! this file has what they share.

mod feed;
mod loss;
mod role;
mod shard;

use super::block::{BlockRef, BlockSource, EnvelopeTable};
use super::feed::{FeedConsumer, FeedProducer, Found, Limits, Listener, feed};
use super::loss::Overflow;
use super::signal::{Latch, Signal};
use crate::sync::Arc;

/// Lays blocks of events that weigh what they are told.
struct Layer {
    source: BlockSource<()>,
    table: EnvelopeTable,
    next_id: u64,
}

impl Layer {
    fn new() -> Self {
        Self {
            source: BlockSource::new(),
            table: EnvelopeTable::new(),
            next_id: 1,
        }
    }

    fn block(&mut self, events: usize, weight: usize) -> BlockRef<()> {
        let mut writer = self.source.block(events, self.next_id, 0);
        for _ in 0..events {
            let envelope = self.table.envelope("a", None, None).expect("a topic");
            writer.push(envelope, (), weight);
            self.next_id += 1;
        }
        writer.finish()
    }
}

fn latch() -> Arc<Latch> {
    Arc::new(Latch::new(Arc::new(Signal::new(0))))
}

fn ring(
    capacity: usize,
    pin_bytes: usize,
    overflow: Overflow,
) -> (FeedProducer<()>, FeedConsumer<()>) {
    let limits = Limits {
        capacity,
        pin_bytes,
        overflow,
    };
    feed(limits, latch(), Listener::waker())
}

fn all_of(block: &BlockRef<()>) -> u64 {
    u64::MAX >> (64 - block.events().len())
}

/// Offers the block whole, and returns what is held back.
fn offer(producer: &mut FeedProducer<()>, block: &BlockRef<()>) -> u64 {
    let mask = all_of(block);
    assert!(producer.matched(block, mask));
    let rest = offer_again(producer, block, mask);
    producer.commit();
    rest
}

fn offer_again(producer: &mut FeedProducer<()>, block: &BlockRef<()>, mask: u64) -> u64 {
    let mut refs = block.ref_batch(1);
    producer.offer(block, &mut refs, mask)
}

/// Reads until there is nothing: ids of events, and gaps as (from, to, count).
fn read(consumer: &mut FeedConsumer<()>) -> (Vec<u64>, Vec<(u64, u64, u64)>, Found) {
    let (mut ids, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match consumer.check() {
            Found::Event => ids.push(consumer.take().id()),
            Found::Gap(gap) => {
                let after = ids.last().copied().unwrap_or(0);
                assert!(gap.from() > after, "{gap} after {after}");
                gaps.push((gap.from(), gap.to(), gap.count()));
            }
            end => return (ids, gaps, end),
        }
    }
}
