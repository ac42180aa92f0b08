//! Roles: the mark that a failed attempt leaves, and the hand-over of the state.

use super::super::role::Role;
use crate::ring::mpsc;
use crate::sync::explore::{Steps, explore};
use crate::sync::{Arc, thread};

/// A thread that pushes and finds the role held leaves a mark, and the holder looks again: nothing
/// stays in the lane.
#[test]
fn loom_role_release_against_push() {
    explore("role: release against push", || {
        let (producers, lane) = mpsc::ring(2);
        let producers = Arc::new(producers);
        let role = Arc::new(Role::new((lane, 0)));
        let push = |value: u64| {
            let (producers, role) = (producers.clone(), role.clone());
            move || {
                producers.try_push(value).expect("there is room");
                while let Some(mut held) = role.try_acquire() {
                    let (lane, sum) = &mut *held;
                    *sum += std::iter::from_fn(|| lane.pop()).sum::<u64>();
                    if !held.release() {
                        break;
                    }
                }
            }
        };
        let pushing = thread::spawn(push(1));
        push(2)();
        pushing.join().unwrap();
        let held = role.try_acquire().expect("free");
        assert_eq!(held.1, 3, "nothing stayed in the lane");
    });
}

/// Every holder sees the state as the last holder left it.
#[test]
fn loom_role_hand_over() {
    explore("role: hand-over between three", || {
        let steps = Steps::new();
        let role = Arc::new(Role::new([0_u64; 2]));
        let turns = |times| {
            let (role, steps) = (role.clone(), steps.clone());
            move || {
                let mut held = 0;
                for _ in 0..times {
                    steps.step();
                    if let Some(mut state) = role.try_acquire() {
                        assert_eq!(state[0], state[1]);
                        state[0] += 1;
                        steps.step();
                        state[1] += 1;
                        held += 1;
                        // A failed attempt has queued no work, so a mark needs no second look.
                        let _marked = state.release();
                    }
                }
                held
            }
        };
        let others = [thread::spawn(turns(1)), thread::spawn(turns(1))];
        let mut held = turns(2)();
        for other in others {
            held += other.join().unwrap();
        }
        let state = role.try_acquire().expect("free");
        assert_eq!(*state, [held, held]);
        assert!(held >= 1);
    });
}
