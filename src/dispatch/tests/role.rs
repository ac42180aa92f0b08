//! Roles.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::role::Role;
use crate::sync::thread;

#[test]
fn a_role_is_held_by_one_and_remembers_who_came_by() {
    let role = Role::new(1);
    let mut held = role.try_hold().expect("free");
    *held += 1;
    assert!(role.try_hold().is_none() && role.try_hold().is_none());
    assert!(held.release(), "somebody came by");
    let held = role.try_hold().expect("free again");
    assert_eq!(*held, 2);
    assert!(!held.release(), "nobody since");
}

#[test]
fn a_panic_lets_go_of_a_role() {
    let role = Role::new(());
    let panics = catch_unwind(AssertUnwindSafe(|| {
        let _held = role.try_hold().expect("free");
        panic!("as told");
    }));
    assert!(panics.is_err());
    assert!(role.try_hold().is_some());
}

#[test]
fn a_role_needs_no_more_than_a_state_that_can_be_sent() {
    fn shared<T: Send + Sync>() {}
    shared::<Role<std::cell::Cell<u8>>>();
}

#[test]
fn stress_role() {
    const TURNS: u64 = 20_000;
    let role = Role::new((0_u64, 0_u64));
    thread::scope(|scope| {
        let turning = [(); 4].map(|()| {
            scope.spawn(|| {
                for _ in 0..TURNS {
                    let mut held = loop {
                        match role.try_hold() {
                            Some(held) => break held,
                            None => thread::yield_now(),
                        }
                    };
                    assert_eq!(held.0, held.1);
                    held.0 += 1;
                    held.1 += 1;
                    let _marked = held.release();
                }
            })
        });
        turning.into_iter().for_each(|t| t.join().unwrap());
    });
    assert_eq!(*role.try_hold().expect("free"), (4 * TURNS, 4 * TURNS));
}
