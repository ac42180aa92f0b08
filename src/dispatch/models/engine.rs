//! The engine: which thread runs what, and which thread is woken for it.

use std::time::SystemTime;

use super::super::block::EnvelopeTable;
use super::super::engine::{Engine, EngineConfig, Lanes};
use super::super::feed::FeedConsumer;
use super::super::lane::{LaneProducer, Pending, ReceiptSlot, receipt};
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
    weighing_engine_of(dispatch, dispatchers, Weigh::Nothing)
}

fn weighing_engine_of(
    dispatch: Dispatch,
    dispatchers: usize,
    weigh: Weigh<Payload>,
) -> (Arc<Engine>, Lanes<Payload>) {
    let (engine, lanes) = super::super::engine::engine(EngineConfig {
        dispatch,
        dispatchers,
        lane_capacity: 2,
        clock: UserValue::new(Box::new(|| SystemTime::UNIX_EPOCH)),
        weigh,
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

/// Publishes through a lane that has room.
fn publish_to_own(engine: &Engine, lane: &mut LaneProducer<Payload>, pending: Pending<Payload>) {
    let lanes = &engine.shared.lanes;
    assert!(lane.has_room(lanes));
    lane.vacant().expect("there is room").stage(pending);
    engine.accepted(lane.commit(lanes).expect("open"));
}

/// A publisher pushes to its own lane while the pool thread goes to sleep, and then the bus closes:
/// the event is sequenced, and the thread ends.
fn push_against_sleeping_sequencer(dispatch: Dispatch) {
    let drops = Drops::default();
    let (engine, lanes) = engine(dispatch);
    let pool = spawn_pool_thread(&engine);
    let mut lane = lanes.own_lane(1);
    let (pending, slot) = pending(&drops);
    publish_to_own(&engine, &mut lane, pending);
    assert_eq!(wait_for_receipt(&slot).map(|receipt| receipt.id()), Some(1));
    engine.begin_close();
    pool.join().unwrap();
    assert!(engine.is_finished());
    drop((engine, lanes, lane));
    assert_eq!(drops.count(), 1);
}

fn spawn_pool_thread(engine: &Arc<Engine>) -> thread::JoinHandle<()> {
    let engine = engine.clone();
    thread::spawn(move || engine.run_pool_thread(0))
}

#[test]
fn loom_lane_push_against_sleeping_sequencer() {
    explore("lane: push against a sequencer that goes to sleep", || {
        push_against_sleeping_sequencer(Dispatch::Pool);
    });
}

/// The publisher may dispatch the event itself, while the pool thread goes to sleep. (It holds with
/// two preemptions, too: 1,732,896 schedules, 2026-11-27.)
#[test]
fn loom_adaptive_push_against_sleeping_sequencer() {
    explore(
        "adaptive: push against a sequencer that goes to sleep",
        || {
            push_against_sleeping_sequencer(Dispatch::Adaptive);
        },
    );
}

/// Two publishers may both dispatch, while the pool thread sleeps or goes to sleep. Each has its
/// event sequenced.
#[test]
fn loom_adaptive_publishers() {
    explore_bounded("adaptive: two publishers", 1, || {
        let drops = Drops::default();
        let (engine, lanes) = engine(Dispatch::Adaptive);
        let pool = spawn_pool_thread(&engine);
        let other = {
            let (engine, mut lane) = (engine.clone(), lanes.own_lane(1));
            let (pending, slot) = pending(&drops);
            thread::spawn(move || {
                publish_to_own(&engine, &mut lane, pending);
                wait_for_receipt(&slot).map(|receipt| receipt.id())
            })
        };
        let (pending, slot) = pending(&drops);
        let wake_requested = lanes.shared.try_push(pending).ok().expect("there is room");
        engine.accepted(wake_requested);
        let id = wait_for_receipt(&slot).map(|receipt| receipt.id());
        let other_id = other.join().unwrap();
        assert!(matches!(
            (id, other_id),
            (Some(1), Some(2)) | (Some(2), Some(1))
        ));
        engine.begin_close();
        pool.join().unwrap();
        drop((engine, lanes));
        assert_eq!(drops.count(), 2);
    });
}

/// A thread that drives for a moment (for a flush, for example) holds the sequencer at the pool
/// thread's last look before it sleeps: the wake-ups from the lanes are requested nevertheless.
#[test]
fn loom_drive_against_last_look() {
    explore("pool: another thread drives at the last look", || {
        let drops = Drops::default();
        let (engine, lanes) = engine(Dispatch::Pool);
        let pool = spawn_pool_thread(&engine);
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
        1,
        || {
            let drops = Drops::default();
            let (engine, lanes, stuck) = engine_with_stuck_subscriber(Dispatch::Inline, 1);
            let pool = spawn_pool_thread(&engine);
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
    explore_bounded("flush against another driver", 2, || {
        let drops = Drops::default();
        let (engine, lanes) = engine(Dispatch::Manual);
        let driving = {
            let engine = engine.clone();
            thread::spawn(move || engine.drive())
        };
        let mut lane = lanes.own_lane(1);
        let (pending, slot) = pending(&drops);
        publish_to_own(&engine, &mut lane, pending);
        assert!(engine.flush(None, &|| false));
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
        assert!(engine.flush(None, &|| false));
        assert_eq!(stuck.shared().stats().lost.iter().sum::<u64>(), 1);
        driving.join().unwrap();
        drop((engine, lanes, stuck));
        assert_eq!(drops.count(), 2);
    });
}

/// A publisher pushes again to a lane that the pool thread may be about to park, or has parked: the
/// event is sequenced. Then the publisher is dropped, which the sequencer notices.
#[test]
fn loom_parked_lane_push_against_sleeping_sequencer() {
    explore_bounded("lane: push to a lane that is being parked", 2, || {
        let drops = Drops::default();
        let (engine, lanes) = engine(Dispatch::Pool);
        let pool = spawn_pool_thread(&engine);
        let mut lane = lanes.own_lane(2);
        for id in 1..=2 {
            let (pending, slot) = pending(&drops);
            publish_to_own(&engine, &mut lane, pending);
            assert_eq!(
                wait_for_receipt(&slot).map(|receipt| receipt.id()),
                Some(id)
            );
        }
        engine.lane_closed(lane.close(&engine.shared.lanes));
        engine.begin_close();
        pool.join().unwrap();
        drop((engine, lanes, lane));
        assert_eq!(drops.count(), 2);
    });
}

/// A lane is parked by one thread that drives, while its publisher pushes and flushes: the flush
/// covers the event.
#[test]
fn loom_parked_lane_flush_against_drive() {
    explore_bounded("lane: flush of a lane that is being parked", 2, || {
        let drops = Drops::default();
        let (engine, lanes) = engine(Dispatch::Manual);
        let mut lane = lanes.own_lane(2);
        publish_to_own(&engine, &mut lane, pending(&drops).0);
        let driving = {
            let engine = engine.clone();
            thread::spawn(move || engine.drive())
        };
        let (pending, slot) = pending(&drops);
        publish_to_own(&engine, &mut lane, pending);
        assert!(engine.flush(None, &|| false));
        assert!(matches!(slot.try_get(), Some(Some(_))), "it is sequenced");
        driving.join().unwrap();
        drop((engine, lanes, lane));
        assert_eq!(drops.count(), 2);
    });
}

/// A new publisher publishes while the bus closes: its event is sequenced, or refused.
#[test]
fn loom_new_lane_against_close() {
    explore_bounded("lane: the first event against a close", 2, || {
        let drops = Drops::default();
        let (engine, lanes) = engine(Dispatch::Manual);
        let mut lane = lanes.own_lane(1);
        let closing = {
            let engine = engine.clone();
            thread::spawn(move || {
                engine.begin_close();
                engine.drive();
            })
        };
        let (pending, slot) = pending(&drops);
        let shared = &engine.shared.lanes;
        assert!(lane.has_room(shared));
        lane.vacant().expect("there is room").stage(pending);
        let accepted = lane.commit(shared);
        if let Ok(wake_requested) = accepted {
            engine.accepted(wake_requested);
        }
        closing.join().unwrap();
        engine.drive();
        assert!(engine.is_finished());
        let sequenced = matches!(slot.try_get(), Some(Some(_)));
        assert_eq!(accepted.is_ok(), sequenced);
        drop((engine, lanes, lane));
        assert_eq!(drops.count(), 1);
    });
}

/// Two threads publish to the shared lane while the weigher panics: what was accepted is counted
/// once both have ended, although no thread makes passes any more.
#[test]
fn loom_break_against_publish() {
    explore_bounded(
        "break: a publisher against the discarding thread",
        2,
        || {
            let drops = Drops::default();
            let weigh = Weigh::By(UserValue::new(Box::new(|_: &Payload| {
                std::panic::resume_unwind(Box::new("the weigher panics"))
            })));
            let (engine, lanes) = weighing_engine_of(Dispatch::Manual, 1, weigh);
            let lanes = Arc::new(lanes);
            let try_publish = |engine: &Engine, lanes: &Lanes<Payload>, drops: &Drops| match lanes
                .shared
                .try_push(pending(drops).0)
            {
                Ok(wake_requested) => {
                    engine.accepted(wake_requested);
                    1
                }
                Err(_) => 0,
            };
            let publishing = {
                let (engine, lanes, drops) = (engine.clone(), lanes.clone(), drops.clone());
                thread::spawn(move || try_publish(&engine, &lanes, &drops))
            };
            let mut accepted = try_publish(&engine, &lanes, &drops);
            engine.drive();
            accepted += publishing.join().unwrap();
            if !engine.is_broken() {
                engine.drive(); // the other thread's event was the first, and not written yet
            }
            assert!(engine.is_broken() && engine.is_finished());
            assert_eq!(engine.shared.last_id.load(Ordering::Relaxed), 0);
            assert_eq!(engine.shared.unsequenced.load(Ordering::Relaxed), accepted);
            drop((engine, lanes));
            assert_eq!(drops.count(), 2);
        },
    );
}

/// A pool thread holds the shard while a subscription is opened, and the bus closes: the feed is
/// closed, too, also if that thread finds that the engine has finished.
#[test]
fn loom_close_against_an_opened_subscription() {
    explore("close: against a subscription that was just opened", || {
        let (engine, _lanes) = engine(Dispatch::Pool);
        let pool = spawn_pool_thread(&engine);
        let mut registry = TestRegistry::new(engine.shard_shared(0));
        let consumer = registry.open("a", 0, limits(1, Overflow::DropNewest));
        engine.apply_shard_changes(0);
        engine.begin_close();
        assert!(engine.finish_close(None, &|| false));
        pool.join().unwrap();
        assert!(consumer.shared().is_closed(), "its ring is closed");
    });
}
