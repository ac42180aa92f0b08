//! Manual dispatch is deterministic: events are dispatched only in `drive`, exactly as a simple
//! [model](crate::model) says.

use fanout::{Dispatch, Overflow, TryRecvError};
use proptest::prelude::*;

use crate::model::{self, Step, TOPICS, check};
use crate::support::{bus, ids, manual};

#[test]
fn events_are_dispatched_only_in_drive() {
    let bus = manual();
    let mut sub = bus.subscribe("a").expect("open");
    let mut publisher = bus.publisher();
    assert!(!bus.drive(), "nothing to do");
    publisher.publish("a", 1).expect("open");
    bus.publish("a", 2).expect("open");
    assert_eq!(sub.try_recv().err(), Some(TryRecvError::Empty));
    assert_eq!((bus.stats().sequenced, sub.stats().matched), (0, 0));
    assert!(bus.drive());
    assert!(!bus.drive());
    assert_eq!((bus.stats().sequenced, sub.stats().matched), (2, 2));
    assert_eq!(ids(&mut sub), [1, 2]);
}

#[test]
fn the_same_calls_give_the_same_order() {
    let run = || {
        let bus = bus(|b| b.dispatch(Dispatch::Manual).dispatchers(3));
        let mut sub = bus.subscribe("**").expect("open");
        let mut publishers: Vec<_> = (0..5).map(|_| bus.publisher()).collect();
        for n in 0..500 {
            publishers[n * n % 5].publish("a.b", n).expect("open");
            bus.publish("a", n).expect("open");
            if n % 37 == 0 {
                bus.drive();
            }
        }
        bus.drive();
        crate::support::payloads(&mut sub)
    };
    assert_eq!(run(), run());
}

const POLICIES: [Overflow; 7] = [
    Overflow::DropNewest,
    Overflow::DropNewest,
    Overflow::DropOldest,
    Overflow::Disconnect,
    Overflow::Disconnect,
    Overflow::Conflate,
    Overflow::Block,
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn does_what_the_model_does(
        shards in prop_oneof![2 => Just(1_usize), 1 => Just(3_usize)],
        steps in model::steps(&POLICIES),
    ) {
        check(shards, &steps);
    }
}

/// Publishes single events, each in its own block, until no more blocks fit in front of a stalled
/// shard, and then reads slowly.
#[test]
fn single_events_behind_a_full_ring_match_the_model() {
    for capacity in [1, 2, 5] {
        let mut steps = vec![
            Step::Subscribe {
                pattern: 0,
                capacity,
                pin: 0,
                overflow: Overflow::Block,
                longest_wait: None,
            },
            Step::Subscribe {
                pattern: 0,
                capacity: 1000,
                pin: 0,
                overflow: Overflow::DropNewest,
                longest_wait: None,
            },
        ];
        for round in 0..100 {
            steps.push(Step::Publish {
                topic: round % TOPICS.len(),
                times: 1,
            });
            steps.push(Step::Drive);
        }
        for _ in 0..40 {
            steps.push(Step::Batch { sub: 0 });
            steps.push(Step::Batch { sub: 1 });
            steps.push(Step::Drive);
        }
        check(1, &steps);
    }
}
