//! How many lanes the sequencer looks at.

use std::time::SystemTime;

use super::super::block::EnvelopeTable;
use super::super::engine::{Engine, EngineConfig, Lanes, engine};
use super::super::lane::{LaneProducer, Pending};
use super::super::sequencer::{ACTIVE_LANES_MIN, EMPTY_ROUNDS_MAX};
use super::super::{Dispatch, Weigh};
use crate::contain::UserValue;
use crate::sync::{Arc, Ordering, thread};

fn engine_of(dispatch: Dispatch) -> (Arc<Engine>, Lanes<u64>) {
    let (engine, lanes) = engine(EngineConfig {
        dispatch,
        dispatchers: 1,
        lane_capacity: 64,
        clock: UserValue::new(Box::new(|| SystemTime::UNIX_EPOCH)),
        weigh: Weigh::Nothing,
        match_cache: true,
    });
    (Arc::new(engine), lanes)
}

fn publish(engine: &Engine, lane: &mut LaneProducer<u64>, table: &mut EnvelopeTable) {
    let lanes = &engine.shared.lanes;
    assert!(lane.has_room(lanes));
    let pending = Pending {
        envelope: table.envelope("a", None, None).expect("a topic"),
        data: 1,
        receipt: None,
        #[cfg(feature = "latency")]
        stamp_ns: 0,
    };
    lane.vacant().expect("there is room").stage(pending);
    engine.accepted(lane.commit(lanes).expect("open"));
}

fn looks(engine: &Engine) -> u64 {
    engine.shared.lane_looks.load(Ordering::Relaxed)
}

/// The looks per event of a publisher beside 10,000 idle ones: a constant, in every mode.
#[test]
fn an_event_costs_few_looks_at_lanes() {
    const IDLE: usize = 10_000;
    const EVENTS: u64 = 1000;
    for dispatch in [
        Dispatch::Adaptive,
        Dispatch::Pool,
        Dispatch::Inline,
        Dispatch::Manual,
    ] {
        let (engine, lanes) = engine_of(dispatch);
        let pool = (dispatch != Dispatch::Manual).then(|| {
            let engine = engine.clone();
            thread::spawn(move || engine.run_pool_thread(0))
        });
        let mut table = EnvelopeTable::new();
        let mut idle: Vec<_> = (0..IDLE).map(|_| lanes.own_lane(64)).collect();
        let mut used = idle.split_off(IDLE / 2);
        for lane in &mut used {
            publish(&engine, lane, &mut table);
        }
        let mut one_event = |lane: &mut LaneProducer<u64>| {
            publish(&engine, lane, &mut table);
            assert!(engine.flush(None, &|| false));
        };
        let mut lane = lanes.own_lane(64);
        // The lanes that have had an event are parked after some rounds.
        (0..=2 * EMPTY_ROUNDS_MAX).for_each(|_| one_event(&mut lane));
        let before = looks(&engine);
        (0..EVENTS).for_each(|_| one_event(&mut lane));
        let same = (looks(&engine) - before) / EVENTS;
        // Each event through another lane, which was parked, or is new.
        let before = looks(&engine);
        used[..EVENTS as usize].iter_mut().for_each(&mut one_event);
        idle[..EVENTS as usize].iter_mut().for_each(&mut one_event);
        let others = (looks(&engine) - before) / (2 * EVENTS);
        println!("{dispatch:?}: {same} and {others} looks per event");
        // A flush and a pool thread make some rounds before they wait or sleep.
        let per_event = 20 * (ACTIVE_LANES_MIN as u64 + 2 * u64::from(EMPTY_ROUNDS_MAX));
        assert!(same <= per_event && others <= per_event, "{same}, {others}");
        engine.begin_close();
        if let Some(pool) = pool {
            pool.join().expect("no panic");
        }
        assert!(engine.is_finished());
        drop((idle, used, lane));
    }
}
