//! A pool thread that the system suspends. The tests do what the thread did before, and then
//! nothing: no thread of the test has its number.

use std::time::SystemTime;

use super::super::block::EnvelopeTable;
use super::super::engine::{Engine, EngineConfig, Lanes, engine};
use super::super::lane::{LaneProducer, Pending, ReceiptSlot, receipt};
use super::super::{Dispatch, Weigh};
use crate::contain::UserValue;
use crate::park::{park, register_thread};
use crate::sync::{Arc, thread};

/// A pool of two threads, neither of which runs.
fn pool_of_two() -> (Engine, Lanes<()>) {
    engine(EngineConfig {
        dispatch: Dispatch::Pool,
        dispatchers: 2,
        lane_capacity: 16,
        clock: UserValue::new(Box::new(|| SystemTime::UNIX_EPOCH)),
        weigh: Weigh::Nothing,
        match_cache: true,
    })
}

fn pending() -> (Pending<()>, Arc<ReceiptSlot>) {
    let envelope = EnvelopeTable::new().envelope("a", None, None);
    let (sender, slot) = receipt();
    let pending = Pending {
        envelope: envelope.expect("a topic"),
        data: (),
        receipt: Some(sender),
        #[cfg(feature = "latency")]
        stamp_ns: 0,
    };
    (pending, slot)
}

/// Publishes an event, and returns whether the sequencer has to be woken.
fn push(engine: &Engine, lane: &mut LaneProducer<()>, pending: Pending<()>) -> bool {
    let lanes = &engine.shared.lanes;
    assert!(lane.has_room(lanes));
    lane.vacant().expect("there is room").stage(pending);
    lane.commit(lanes).expect("open")
}

fn wait_for(slot: &ReceiptSlot) {
    while slot.try_get().is_none() {
        register_thread(&slot.waker);
        if slot.try_get().is_none() {
            park(None);
        }
    }
}

/// Runs pool thread 1 alone while `f` runs.
fn with_second_thread(engine: &Engine, f: impl FnOnce()) {
    thread::scope(|scope| {
        scope.spawn(|| engine.run_pool_thread(1));
        f();
        engine.begin_close();
        engine.signal.wake_all();
    });
}

/// Every event chooses thread 0, which sleeps and never comes. Thread 1 does its work.
#[test]
fn a_thread_that_was_chosen_and_does_not_come_is_replaced() {
    let (engine, lanes) = pool_of_two();
    let mut lane = lanes.own_lane(16);
    with_second_thread(&engine, || {
        for _ in 0..5 {
            // It has come once more, and is suspended when it has been chosen again.
            engine.signal.prepare_sleep(0);
            thread::sleep(std::time::Duration::from_millis(5));
            let (pending, slot) = pending();
            let wake_requested = push(&engine, &mut lane, pending);
            engine.accepted(wake_requested);
            wait_for(&slot);
        }
    });
}

/// Thread 0 is awake, and suspended before it looks. The event wakes no other thread.
#[test]
fn a_thread_that_is_awake_and_does_not_look_is_replaced() {
    let (engine, lanes) = pool_of_two();
    let mut lane = lanes.own_lane(16);
    with_second_thread(&engine, || {
        for _ in 0..5 {
            thread::sleep(std::time::Duration::from_millis(5));
            let (pending, slot) = pending();
            push(&engine, &mut lane, pending);
            wait_for(&slot);
        }
    });
}
