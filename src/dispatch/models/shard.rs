//! Shards: waiting for room, giving up, and the order of subscribing and dispatching.

use super::super::block::BlockRef;
use super::super::feed::{End, Found};
use super::super::loss::Overflow;
use super::super::role::Role;
use super::super::shard::{Shard, ShardShared};
use super::super::signal::Signal;
use super::{Book, Layer, Payload, Told, assert_accounts, limits, shared, some_time};
use crate::ring::spsc;
use crate::sync::explore::{Steps, explore, explore_bounded};
use crate::sync::{Arc, Ordering, thread};

/// A shard on a thread of its own, as a pool thread runs it: asleep when it is idle or waits for room.
fn run_shard(mut shard: Shard<Payload>, signal: &Signal) {
    loop {
        let mut round = shard.round(false);
        if !round.progress && !round.more && !round.finished {
            signal.prepare_sleep(0);
            round = shard.round(false);
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

/// A shard with these blocks before it, and nothing to come.
fn shard_with(
    blocks: Vec<BlockRef<Payload>>,
    shared: &Arc<ShardShared<Payload>>,
) -> Shard<Payload> {
    let (mut output, input) = spsc::ring(blocks.len());
    for block in blocks {
        assert!(output.push(block).is_ok());
    }
    assert_eq!(output.commit(), Ok(false));
    Shard::new(input, shared.clone())
}

/// A `Block` subscriber with room for one, and a shard that waits for it: nothing is lost, and nobody sleeps for ever.
#[test]
fn loom_stalled_shard_against_reader() {
    explore("stalled: shard against reader", || {
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut consumer = Book::new(&shared).open("a", 0, limits(1, Overflow::Block));
        let blocks = vec![layer.block(&["a", "a"])];
        let shard = shard_with(blocks, &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        let mut told = Told::default();
        assert_eq!(told.read_all(&mut consumer), Found::Closed);
        assert_eq!((told.ids, told.lost), (vec![1, 2], 0));
        dispatching.join().unwrap();
        assert_eq!(shared.delivered_id.load(Ordering::Relaxed), 2);
        drop(consumer);
        assert_eq!(layer.drops.count(), 2);
    });
}

/// The same with a longest wait, which is over at whatever moment the shard comes to sleep: all is received or lost, in its
/// place, and the last event, too, whether it is waited for again or not.
#[test]
fn loom_stalled_shard_gives_up_against_reader() {
    explore_bounded("stalled: giving up against reader", 2, || {
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut book = Book::new(&shared);
        let mut consumer = book.open_waiting("a", 0, limits(1, Overflow::Block), some_time());
        let blocks = vec![layer.block(&["a", "a"]), layer.block(&["a"])];
        let shard = shard_with(blocks, &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        let mut told = Told::default();
        assert_eq!(told.read_all(&mut consumer), Found::Closed);
        dispatching.join().unwrap();
        assert_accounts(&told, &consumer, 3);
        assert_eq!(shared.delivered_id.load(Ordering::Relaxed), 3);
        drop((book, shared, consumer));
        assert_eq!(layer.drops.count(), 3);
    });
}

/// Two have no room, and only one of them is given up, or neither: the other loses nothing, and nobody sleeps for ever.
#[test]
fn loom_stalled_shard_gives_up_one_of_two() {
    explore_bounded("stalled: giving up one of two", 2, || {
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut book = Book::new(&shared);
        let hangs = book.open_waiting("a", 0, limits(1, Overflow::Block), some_time());
        let mut reads = book.open("a", 1, limits(1, Overflow::Block));
        let shard = shard_with(vec![layer.block(&["a", "a"])], &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        let mut told = Told::default();
        assert_eq!(told.read_all(&mut reads), Found::Closed);
        assert_eq!((told.ids, told.lost), (vec![1, 2], 0));
        dispatching.join().unwrap();
        let stats = hangs.shared().stats();
        assert_eq!((stats.matched, stats.lost.iter().sum()), (2, 1_u64));
    });
}

/// The same, and the subscriber goes away after the first event: the shard goes on without it.
#[test]
fn loom_stalled_shard_against_drop() {
    explore("stalled: shard against the reader's end", || {
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut book = Book::new(&shared);
        let mut consumer = book.open("a", 0, limits(1, Overflow::Block));
        let shard = shard_with(vec![layer.block(&["a"]), layer.block(&["a"])], &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        let mut told = Told::default();
        told.look(&mut consumer);
        drop(consumer);
        dispatching.join().unwrap();
        drop((book, shared));
        assert_eq!(layer.drops.count(), 2);
    });
}

/// Cancelled by a handle while the shard waits for room: carried out by whoever holds the shard.
#[test]
fn loom_stalled_shard_against_cancel() {
    explore("stalled: shard against cancel", || {
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(1));
        let shared = shared(&signal);
        let mut book = Book::new(&shared);
        let mut consumer = book.open("a", 0, limits(1, Overflow::Block));
        let shard = shard_with(vec![layer.block(&["a"]), layer.block(&["a"])], &shared);
        let dispatching = {
            let signal = signal.clone();
            thread::spawn(move || run_shard(shard, &signal))
        };
        book.cancel("a", 0, &consumer);
        signal.wake_one(); // as `Engine::apply_changes` does
        let mut told = Told::default();
        assert_eq!(told.read_all(&mut consumer), Found::Ended(End::Cancelled));
        dispatching.join().unwrap();
        drop((book, shared, consumer));
        assert_eq!(layer.drops.count(), 2);
    });
}

/// What is published after `subscribe` returned is delivered; what was published after `cancel` is not; and a slot
/// that is used again never delivers to the wrong feed.
#[test]
fn loom_subscribe_against_dispatch() {
    explore("subscribe and cancel against dispatch", || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let signal = Arc::new(Signal::new(0));
        let shared = shared(&signal);
        let (mut output, input) = spsc::ring(4);
        let mut publish = |topics: &[&str], steps: &Steps| {
            assert!(output.push(layer.block(topics)).is_ok());
            steps.step();
            assert_eq!(output.commit(), Ok(false));
        };
        let role = Arc::new(Role::new(Shard::new(input, shared.clone())));
        let dispatching = {
            let (role, steps) = (role.clone(), steps.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    steps.step();
                    let mut shard = role.try_hold().expect("nobody else holds it");
                    shard.round(false);
                    assert!(!shard.release());
                }
            })
        };
        let mut book = Book::new(&shared);
        let limits = limits(4, Overflow::DropNewest);
        publish(&["a"], &steps);
        let first = book.open("a", 0, limits);
        publish(&["a"], &steps); // id 2
        book.cancel("a", 0, &first);
        publish(&["b"], &steps); // id 3, before the second one opened: it may go to it or not
        let mut second = book.open("b", 0, limits);
        publish(&["a", "b"], &steps); // ids 4 and 5
        dispatching.join().unwrap();

        let mut shard = role.try_hold().expect("nobody holds it");
        shard.round(false);
        assert!(!shard.release());
        let mut told = Told::default();
        while told.look(&mut second) != Found::Empty {}
        let first_id = second.shared().stats().first_id.expect("it began");
        let own: Vec<u64> = [3, 5].into_iter().filter(|id| *id >= first_id).collect();
        assert_eq!(
            told.ids, own,
            "all of its own from its first id on, and nothing else"
        );
        assert!(own.contains(&5), "published after it was open");
        // Id 2 was published after it opened; if it was dispatched before the cancel, it was matched.
        let stats = first.shared().stats();
        assert!(stats.matched <= 2, "ids 1 and 2 at most");
        assert!(stats.first_id.is_some_and(|first_id| first_id <= 4));
        assert_eq!(
            stats.matched > 0,
            stats.last_id > stats.first_id.map(|id| id - 1)
        );
    });
}
