//! Shards: waiting for room, giving up, and the order of subscribing and dispatching.

use super::super::block::BlockRef;
use super::super::feed::{End, Found};
use super::super::loss::Overflow;
use super::super::role::Role;
use super::super::shard::{RoundBounds, Shard, ShardShared};
use super::super::signal::Signal;
use super::{
    BlockMaker, Payload, ReadLog, TestRegistry, assert_accounts, limits, shared, short_timeout,
};
use crate::ring::spsc;
use crate::sync::explore::{Steps, explore, explore_bounded};
use crate::sync::{Arc, Ordering, thread};

/// Runs a shard until it has finished, as a pool thread does: asleep while it is idle or waits for
/// room.
fn run_shard(mut shard: Shard, signal: &Signal) {
    loop {
        let mut round = shard.round(false, RoundBounds::FULL);
        if !round.progress && !round.more && !round.finished {
            signal.prepare_sleep(0);
            round = shard.round(false, RoundBounds::FULL);
            if !round.progress && !round.more && !round.finished {
                signal.sleep_until(0, round.deadline);
            } else {
                signal.cancel_sleep(0);
            }
        }
        if round.finished {
            return;
        }
    }
}

/// A shard whose input has these blocks and is closed behind them.
fn shard_with(blocks: Vec<BlockRef<Payload>>, shared: &Arc<ShardShared>) -> Shard {
    let (mut output, input) = spsc::ring(blocks.len());
    for block in blocks {
        assert!(output.push(block.into_any()).is_ok());
    }
    assert_eq!(output.commit(), Ok(false));
    Shard::new(input, shared.clone())
}

/// A `Block` subscriber with room for one event, and a shard that waits for it: nothing is lost,
/// and no thread sleeps for ever. (With three preemptions, 1,292,856 schedules hold, too. They take
/// a seventh of the time of all models: 2026-11-27.)
#[test]
fn loom_stalled_shard_against_reader() {
    explore_bounded("stalled: shard against reader", 2, || {
        let mut maker = BlockMaker::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut consumer = TestRegistry::new(&shared).open("a", 0, limits(1, Overflow::Block));
        let blocks = vec![maker.block(&["a", "a"])];
        let shard = shard_with(blocks, &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        let mut log = ReadLog::default();
        assert_eq!(log.read_all(&mut consumer), Found::Closed);
        assert_eq!((log.ids, log.lost), (vec![1, 2], 0));
        dispatching.join().unwrap();
        assert_eq!(shared.delivered_id.load(Ordering::Relaxed), 2);
        drop(consumer);
        assert_eq!(maker.drops.count(), 2);
    });
}

/// The same with a block timeout, which is over at whatever moment the shard sleeps: every event is
/// received, or reported as lost in its place; the last event, too, whether or not the shard waits
/// for the subscriber again.
#[test]
fn loom_stalled_shard_gives_up_against_reader() {
    explore_bounded("stalled: giving up against reader", 2, || {
        let mut maker = BlockMaker::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut registry = TestRegistry::new(&shared);
        let mut consumer =
            registry.open_with_timeout("a", 0, limits(1, Overflow::Block), short_timeout());
        let blocks = vec![maker.block(&["a", "a"]), maker.block(&["a"])];
        let shard = shard_with(blocks, &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        let mut log = ReadLog::default();
        assert_eq!(log.read_all(&mut consumer), Found::Closed);
        dispatching.join().unwrap();
        assert_accounts(&log, &consumer, 3);
        assert_eq!(shared.delivered_id.load(Ordering::Relaxed), 3);
        drop((registry, shared, consumer));
        assert_eq!(maker.drops.count(), 3);
    });
}

/// Two subscribers have no room, and only one of them has a block timeout: the other loses nothing,
/// and no thread sleeps for ever.
#[test]
fn loom_stalled_shard_gives_up_one_of_two() {
    explore_bounded("stalled: giving up one of two", 2, || {
        let mut maker = BlockMaker::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut registry = TestRegistry::new(&shared);
        let stuck = registry.open_with_timeout("a", 0, limits(1, Overflow::Block), short_timeout());
        let mut reads = registry.open("a", 1, limits(1, Overflow::Block));
        let shard = shard_with(vec![maker.block(&["a", "a"])], &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        let mut log = ReadLog::default();
        assert_eq!(log.read_all(&mut reads), Found::Closed);
        assert_eq!((log.ids, log.lost), (vec![1, 2], 0));
        dispatching.join().unwrap();
        let stats = stuck.shared().stats();
        assert_eq!((stats.matched, stats.lost.iter().sum()), (2, 1_u64));
    });
}

/// The subscriber is dropped after it has read once: the shard continues without it.
#[test]
fn loom_stalled_shard_against_drop() {
    explore("stalled: shard against the reader's drop", || {
        let mut maker = BlockMaker::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut registry = TestRegistry::new(&shared);
        let mut consumer = registry.open("a", 0, limits(1, Overflow::Block));
        let shard = shard_with(vec![maker.block(&["a"]), maker.block(&["a"])], &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        let mut log = ReadLog::default();
        log.read_one(&mut consumer);
        drop(consumer);
        dispatching.join().unwrap();
        drop((registry, shared));
        assert_eq!(maker.drops.count(), 2);
    });
}

/// Cancelled by another thread while the shard waits for room: the holder of the shard applies it.
#[test]
fn loom_stalled_shard_against_cancel() {
    explore("stalled: shard against cancel", || {
        let mut maker = BlockMaker::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut registry = TestRegistry::new(&shared);
        let mut consumer = registry.open("a", 0, limits(1, Overflow::Block));
        let shard = shard_with(vec![maker.block(&["a"]), maker.block(&["a"])], &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        registry.cancel("a", 0, &consumer);
        signal.wake_one(); // as `Engine::apply_shard_changes` does
        let mut log = ReadLog::default();
        assert_eq!(log.read_all(&mut consumer), Found::Ended(End::Cancelled));
        dispatching.join().unwrap();
        drop((registry, shared, consumer));
        assert_eq!(maker.drops.count(), 2);
    });
}

/// An event that is published after `subscribe` returned is delivered; one that is published after
/// `cancel` returned is not; and a slot that is used again never delivers to the wrong feed.
#[test]
fn loom_subscribe_against_dispatch() {
    explore("subscribe and cancel against dispatch", || {
        let steps = Steps::new();
        let mut maker = BlockMaker::new();
        let signal = Arc::new(Signal::new(0));
        let shared = shared(&signal);
        let (mut output, input) = spsc::ring(4);
        let mut publish = |topics: &[&str], steps: &Steps| {
            assert!(output.push(maker.block(topics).into_any()).is_ok());
            steps.step();
            assert_eq!(output.commit(), Ok(false));
        };
        let role = Arc::new(Role::new(Shard::new(input, shared.clone())));
        let dispatching = {
            let (role, steps) = (role.clone(), steps.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    steps.step();
                    let mut shard = role.try_acquire().expect("free");
                    shard.round(false, RoundBounds::FULL);
                    assert!(!shard.release());
                }
            })
        };
        let mut registry = TestRegistry::new(&shared);
        let limits = limits(4, Overflow::DropNewest);
        publish(&["a"], &steps);
        let first = registry.open("a", 0, limits);
        publish(&["a"], &steps); // id 2
        registry.cancel("a", 0, &first);
        publish(&["b"], &steps); // id 3, before `second` is open, which may get it or not
        let mut second = registry.open("b", 0, limits);
        publish(&["a", "b"], &steps); // ids 4 and 5
        dispatching.join().unwrap();

        let mut shard = role.try_acquire().expect("free");
        shard.round(false, RoundBounds::FULL);
        assert!(!shard.release());
        let mut log = ReadLog::default();
        while log.read_one(&mut second) != Found::Empty {}
        let first_id = second.shared().stats().first_id.expect("it began");
        let own: Vec<u64> = [3, 5].into_iter().filter(|id| *id >= first_id).collect();
        assert_eq!(
            log.ids, own,
            "every event that matches from its first id on, and no other"
        );
        assert!(own.contains(&5), "published after it was open");
        // Id 2 was published after `first` was open. If it was dispatched before the cancel, it
        // matched.
        let stats = first.shared().stats();
        assert!(stats.matched <= 2, "ids 1 and 2 at most");
        assert!(stats.first_id.is_some_and(|first_id| first_id <= 4));
        assert_eq!(
            stats.matched > 0,
            stats.last_id > stats.first_id.map(|id| id - 1)
        );
    });
}
