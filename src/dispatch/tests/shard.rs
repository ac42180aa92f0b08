//! Shards that wait for room.

use super::super::block::{AnyBlock, BlockRef};
use super::super::feed::{FeedConsumer, Found, Limits, Listener, feed};
use super::super::loss::Overflow;
use super::super::routes::Routes;
use super::super::shard::{Change, ChangeKind, RoundBounds, Shard, ShardShared};
use super::{BlockMaker, latch, read};
use crate::pattern::Pattern;
use crate::ring::spsc;
use crate::sync::{Arc, AtomicU64, Queue};

fn shared() -> Arc<ShardShared> {
    let routes = Routes::new();
    routes.batch(|batch| batch.insert(&Pattern::parse("a").expect("a pattern"), 0));
    Arc::new(ShardShared {
        routes,
        changes: Queue::new(),
        delivered_id: AtomicU64::new(0),
        latch: latch(),
    })
}

/// A change that opens the subscription with this slot, and its reader.
fn attach(shared: &ShardShared, limits: Limits, slot: u32, version: u64) -> FeedConsumer {
    let (producer, consumer) = feed(limits, shared.latch.clone(), Listener::waker());
    let kind = ChangeKind::Attach {
        slot,
        feed: Box::new(producer),
    };
    shared.changes.push(Change { version, kind });
    consumer
}

/// A shard with one subscriber, whose input has these blocks and is closed behind them.
fn shard_of_one(
    limits: Limits,
    blocks: impl IntoIterator<Item = BlockRef<()>>,
) -> (Shard, FeedConsumer) {
    let shared = shared();
    let consumer = attach(&shared, limits, 0, 1);
    (Shard::new(closed_input(blocks), shared), consumer)
}

/// An input that has these blocks and is closed behind them.
fn closed_input(blocks: impl IntoIterator<Item = BlockRef<()>>) -> spsc::Consumer<AnyBlock> {
    let (mut output, input) = spsc::ring(64);
    for block in blocks {
        assert!(output.push(block.into_any()).is_ok());
    }
    output.commit().expect("open");
    input
}

/// A close by force: what has room by then is not lost, and what is lost is one gap.
#[test]
fn a_close_by_force_loses_only_what_has_no_room() {
    for read_first in 0..=8 {
        let mut maker = BlockMaker::new();
        let limits = Limits {
            capacity: 8,
            pin_bytes: usize::MAX,
            overflow: Overflow::Block,
        };
        let blocks = [1, 1, 1, 1, 1, 1, 1, 1, 6, 1].map(|events| maker.block(events, 0));
        let (mut shard, mut consumer) = shard_of_one(limits, blocks);
        shard.round(false, RoundBounds::FULL);
        for id in 1..=read_first {
            assert_eq!(consumer.check(), Found::Event);
            assert_eq!(consumer.take::<()>().id(), id);
        }
        shard.force_close();
        let fit = 15.min(8 + read_first);
        let gap = (fit < 15).then_some((fit + 1, 15, 15 - fit));
        let (ids, gaps, end) = read(&mut consumer);
        assert!(ids.into_iter().eq(read_first + 1..=fit), "{read_first}");
        assert_eq!((gaps, end), (gap.into_iter().collect(), Found::Closed));
    }
}

/// Two light blocks have room, the heavy one has not, and the ring is far from half full: the shard
/// releases its role and waits, instead of trying again for ever.
#[test]
fn a_shard_waits_for_a_heavy_block_without_holding_its_role() {
    let mut maker = BlockMaker::new();
    let light = maker.block(1, 0);
    let limits = Limits {
        capacity: 64,
        pin_bytes: 2 * light.weight() + 50,
        overflow: Overflow::Block,
    };
    let blocks = [light, maker.block(1, 100), maker.block(1, 0)];
    let (mut shard, mut consumer) = shard_of_one(limits, blocks);
    for _ in 0..3 {
        let round = shard.round(false, RoundBounds::FULL);
        assert!(!round.more && !round.finished);
    }
    assert_eq!(read(&mut consumer).0, [1]);
    assert!(shard.round(false, RoundBounds::FULL).progress);
    assert_eq!(read(&mut consumer).0, [2]);
    assert!(shard.round(false, RoundBounds::FULL).finished);
    assert_eq!(read(&mut consumer), (vec![3], vec![], Found::Closed));
}

/// A block that matches more subscribers than a round may give it to waits for another round. A
/// subscription that ends meanwhile gets nothing of it, and one that begins gets all of it.
#[test]
fn a_block_for_many_subscribers_waits_for_another_round() {
    let bounds = |subscribers| RoundBounds {
        blocks: 1,
        subscribers,
    };
    const LIMITS: Limits = Limits {
        capacity: 8,
        pin_bytes: usize::MAX,
        overflow: Overflow::DropNewest,
    };
    let pattern = Pattern::parse("a").expect("a pattern");
    let shared = shared();
    shared
        .routes
        .batch(|batch| (1..3).for_each(|slot| assert!(batch.insert(&pattern, slot))));
    let mut readers = [0, 1, 2].map(|slot| attach(&shared, LIMITS, slot, 2));
    let mut maker = BlockMaker::new();
    let input = closed_input([maker.block(2, 0), maker.block(1, 0)]);
    let mut shard = Shard::new(input, shared.clone());
    for _ in 0..2 {
        let round = shard.round(false, bounds(2));
        assert!(round.more && !round.finished);
        assert!(
            readers
                .iter_mut()
                .all(|reader| reader.check() == Found::Empty)
        );
    }

    shared
        .routes
        .batch(|batch| assert!(batch.remove(&pattern, &2)));
    let kind = ChangeKind::Detach { slot: 2 };
    shared.changes.push(Change { version: 3, kind });
    let round = shard.round(false, bounds(1));
    assert!(round.more && !round.finished);
    shared
        .routes
        .batch(|batch| assert!(batch.insert(&pattern, 2)));
    let mut late = attach(&shared, LIMITS, 2, 4);
    assert!(shard.round(false, bounds(3)).more, "the other block");
    assert!(shard.round(false, bounds(3)).finished);

    let [first, second, ended] = &mut readers;
    for reader in [first, second, &mut late] {
        assert_eq!(read(reader), (vec![1, 2, 3], vec![], Found::Closed));
    }
    assert_eq!(read(ended), (vec![], vec![], Found::Closed));
}
