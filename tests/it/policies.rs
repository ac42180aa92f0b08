//! Full rings under each overflow policy, against a simple [model](crate::model): with every
//! capacity that is near the size of a block, in events and in bytes.

use fanout::Overflow;
use proptest::prelude::*;
use std::time::Duration;

use crate::model::{self, CAPACITIES, PINS, Step, check};

macro_rules! does_what_the_model_does {
    ($($name:ident: $overflow:ident;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig {
                cases: 1000,
                failure_persistence: None,
                ..ProptestConfig::default()
            })]

            $(
                #[test]
                fn $name(steps in model::steps(&[Overflow::$overflow])) {
                    check(1, &steps);
                }
            )*
        }
    };
}

does_what_the_model_does! {
    drop_newest: DropNewest;
    drop_oldest: DropOldest;
    disconnect: Disconnect;
    conflate: Conflate;
    block: Block;
}

/// Policies, each with its block timeout.
const POLICIES: [(Overflow, Option<Duration>); 6] = [
    (Overflow::DropNewest, None),
    (Overflow::DropOldest, None),
    (Overflow::Disconnect, None),
    (Overflow::Conflate, None),
    (Overflow::Block, None),
    (Overflow::Block, Some(Duration::ZERO)),
];

/// A burst for each capacity, so that the bounds of blocks and rings meet in every way.
#[test]
fn bursts_against_capacities() {
    for policy in POLICIES {
        for capacity in CAPACITIES {
            for burst in [1, 2, 62, 63, 64, 65, 127, 128, 129, 500] {
                for read in [1, 2, 63, 64, 65] {
                    check(1, &rounds(policy, capacity, 0, burst, read));
                }
            }
        }
    }
}

/// The same with bounds in bytes that are always or sometimes the tighter bound.
#[test]
fn bursts_against_bytes() {
    for policy in POLICIES {
        for pin in 1..PINS {
            for burst in [1, 2, 3, 8, 9, 64, 65, 200] {
                for read in [1, 8, 65] {
                    check(1, &rounds(policy, 1000, pin, burst, read));
                    check(1, &rounds(policy, 100, pin, burst, read));
                }
            }
        }
    }
}

fn rounds(
    (overflow, longest_wait): (Overflow, Option<Duration>),
    capacity: usize,
    pin: usize,
    burst: usize,
    read: usize,
) -> Vec<Step> {
    let mut steps = vec![
        Step::Subscribe {
            pattern: 0,
            capacity,
            pin,
            overflow,
            longest_wait,
        },
        Step::Subscribe {
            pattern: 2,
            capacity: 3,
            pin: 0,
            overflow: Overflow::DropNewest,
            longest_wait: None,
        },
    ];
    for round in 0..4 {
        steps.extend([
            Step::Publish {
                topic: round,
                times: burst,
            },
            Step::Drive,
            Step::Receive {
                sub: 0,
                times: read,
            },
            Step::Drive,
            Step::Receive { sub: 1, times: 2 },
        ]);
    }
    steps
}
