//! The engine: which thread runs what, and which thread is woken for it.

use std::time::SystemTime;

use super::super::block::EnvelopeTable;
use super::super::engine::{Engine, EngineConfig, Lanes};
use super::super::feed::FeedConsumer;
use super::super::lane::{Pending, ReceiptSlot, receipt};
use super::super::loss::Overflow;
use super::super::{Dispatch, Weigh};
use super::{Drops, Payload, TestRegistry, limits, short_timeout, wait_for_receipt};
use crate::contain::UserValue;
use crate::sync::explore::{explore, explore_bounded};
use crate::sync::{Arc, Ordering, thread};

fn engine(dispatch: Dispatch) -> (Arc<Engine>, Lanes<Payload>) {
    engine_of(dispatch, 1)
}

fn engine_of(dispatch: Dispatch, dispatchers: usize) -> (Arc<Engine>, Lanes<Payload>) {
    let (engine, lanes) = super::super::engine::engine(EngineConfig {
        dispatch,
        dispatchers,
        lane_capacity: 2,
        clock: UserValue::new(Box::new(|| SystemTime::UNIX_EPOCH)),
        weigh: Weigh::Nothing,
        match_cache: true,
    });
    (Arc::new(engine), lanes)
}

fn pending(drops: &Drops) -> (Pending<Payload>, Arc<ReceiptSlot>) {
    let envelope = EnvelopeTable::new()
        .envelope("a", None, None)
        .expect("a topic");
    let (sender, slot) = receipt();
    (
        Pending {
            #[cfg(feature = "latency")]
            stamp_ns: 0,
            envelope,
            data: drops.payload(),
            receipt: Some(sender),
        },
        slot,
    )
}

/// A publisher pushes to its own lane while the pool thread goes to sleep, and then the bus closes:
/// the event is sequenced, and the thread ends.
#[test]
fn loom_lane_push_against_sleeping_sequencer() {
    explore("lane: push against a sequencer that goes to sleep", || {
        let drops = Drops::default();
        let (engine, lanes) = engine(Dispatch::Pool);
        let pool = {
            let engine = engine.clone();
            thread::spawn(move || engine.run_pool_thread(0))
        };
        let (mut lane, _shared) = lanes.own_lane(1);
        let (pending, slot) = pending(&drops);
        assert!(lane.push(pending).is_ok());
        engine.accepted(lane.commit().expect("open"));
        assert_eq!(wait_for_receipt(&slot).map(|receipt| receipt.id()), Some(1));
        engine.begin_close();
        pool.join().unwrap();
        assert!(engine.is_finished());
        drop((engine, lanes, lane));
        assert_eq!(drops.count(), 1);
    });
}

/// A thread that drives for a moment (for a flush, for example) holds the sequencer at the pool
/// thread's last look before it sleeps: the wake-ups from the lanes are requested all the same.
#[test]
fn loom_drive_against_last_look() {
    explore("pool: another thread drives at the last look", || {
        let drops = Drops::default();
        let (engine, lanes) = engine(Dispatch::Pool);
        let pool = {
            let engine = engine.clone();
            thread::spawn(move || engine.run_pool_thread(0))
        };
        engine.drive();
        let (pending, slot) = pending(&drops);
        let wake_requested = lanes.shared.try_push(pending).ok().expect("there is room");
        engine.accepted(wake_requested);
        assert_eq!(wait_for_receipt(&slot).map(|receipt| receipt.id()), Some(1));
        engine.begin_close();
        pool.join().unwrap();
        drop((engine, lanes));
        assert_eq!(drops.count(), 1);
    });
}

/// An engine with a `Block` subscriber of capacity 1 that has a block timeout and never reads.
fn engine_with_stuck_subscriber(
    dispatch: Dispatch,
    dispatchers: usize,
) -> (Arc<Engine>, Lanes<Payload>, FeedConsumer) {
    let (engine, lanes) = engine_of(dispatch, dispatchers);
    let mut registry = TestRegistry::new(engine.shard_shared(0));
    let stuck = registry.open_with_timeout("a", 0, limits(1, Overflow::Block), short_timeout());
    (engine, lanes, stuck)
}

fn publish(engine: &Engine, lanes: &Lanes<Payload>, drops: &Drops) {
    let (pending, _slot) = pending(drops);
    let wake_requested = lanes.shared.try_push(pending);
    engine.accepted(wake_requested.ok().expect("there is room"));
}

/// Waits until the pool has delivered event `id`, without driving.
fn await_delivery(engine: &Engine, id: u64) {
    let delivered_id = &engine.shard_shared(0).delivered_id;
    let delivered = || (delivered_id.load(Ordering::Acquire) == id).then_some(());
    engine.signal.progress.wait_until(None, delivered);
}

/// The publishing thread stalls the shard and returns: the pool thread, which may be about to sleep
/// without a deadline, learns of the new one.
#[test]
fn loom_deadline_of_another_thread() {
    explore_bounded(
        "deadline: the publishing thread stalls the shard",
        2,
        || {
            let drops = Drops::default();
            let (engine, lanes, stuck) = engine_with_stuck_subscriber(Dispatch::Inline, 1);
            let pool = {
                let engine = engine.clone();
                thread::spawn(move || engine.run_pool_thread(0))
            };
            publish(&engine, &lanes, &drops);
            publish(&engine, &lanes, &drops);
            await_delivery(&engine, 2);
            assert_eq!(stuck.shared().stats().lost.iter().sum::<u64>(), 1);
            engine.begin_close();
            pool.join().unwrap();
            drop((engine, lanes, stuck));
            assert_eq!(drops.count(), 2);
        },
    );
}

/// One of two pool threads may find the shard held by the other at its last look: one of them
/// sleeps until the deadline.
#[test]
fn loom_deadline_of_two_pool_threads() {
    explore_bounded("deadline: two pool threads go to sleep", 1, || {
        let drops = Drops::default();
        let (engine, lanes, stuck) = engine_with_stuck_subscriber(Dispatch::Pool, 2);
        publish(&engine, &lanes, &drops);
        publish(&engine, &lanes, &drops);
        engine.drive(); // stalls the shard, before any pool thread runs
        let pool = [0, 1].map(|index| {
            let engine = engine.clone();
            thread::spawn(move || engine.run_pool_thread(index))
        });
        await_delivery(&engine, 2);
        assert_eq!(stuck.shared().stats().lost.iter().sum::<u64>(), 1);
        engine.begin_close();
        pool.into_iter().for_each(|thread| thread.join().unwrap());
        drop((engine, lanes, stuck));
        assert_eq!(drops.count(), 2);
    });
}

/// A flush while another thread holds roles: it returns, and everything that was accepted before is
/// delivered, also from a new lane.
#[test]
fn loom_flush_against_drive() {
    explore("flush against another driver", || {
        let drops = Drops::default();
        let (engine, lanes) = engine(Dispatch::Manual);
        let driving = {
            let engine = engine.clone();
            thread::spawn(move || engine.drive())
        };
        let (mut lane, _shared) = lanes.own_lane(1);
        let (pending, slot) = pending(&drops);
        assert!(lane.push(pending).is_ok());
        engine.accepted(lane.commit().expect("open"));
        assert!(engine.flush(None));
        assert!(
            matches!(slot.try_get(), Some(Some(_))),
            "accepted before the flush, so sequenced"
        );
        assert_eq!(
            engine.shard_shared(0).delivered_id.load(Ordering::Relaxed),
            1
        );
        driving.join().unwrap();
        drop((engine, lanes, lane));
        assert_eq!(drops.count(), 1);
    });
}

/// On a manual bus, another thread may stall the shard while the flush looks, and return. The flush
/// learns of the deadline, whichever role it found held.
#[test]
fn loom_deadline_flush_against_drive() {
    explore_bounded("deadline: a flush against another driver", 2, || {
        let drops = Drops::default();
        let (engine, lanes, stuck) = engine_with_stuck_subscriber(Dispatch::Manual, 1);
        publish(&engine, &lanes, &drops);
        publish(&engine, &lanes, &drops);
        let driving = {
            let engine = engine.clone();
            thread::spawn(move || engine.drive())
        };
        assert!(engine.flush(None));
        assert_eq!(stuck.shared().stats().lost.iter().sum::<u64>(), 1);
        driving.join().unwrap();
        drop((engine, lanes, stuck));
        assert_eq!(drops.count(), 2);
    });
}
