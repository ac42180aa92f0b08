//! Roles.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::role::Role;
use crate::sync::thread;

#[test]
fn a_role_has_one_holder_and_remembers_failed_attempts() {
    let role = Role::new(1);
    let mut held = role.try_acquire().expect("free");
    *held += 1;
    assert!(role.try_acquire().is_none() && role.try_acquire().is_none());
    assert!(held.release(), "another attempt failed");
    let held = role.try_acquire().expect("free again");
    assert_eq!(*held, 2);
    assert!(!held.release(), "no attempt since");
}

#[test]
fn a_panic_frees_a_role() {
    let role = Role::new(());
    let panics = catch_unwind(AssertUnwindSafe(|| {
        let _held = role.try_acquire().expect("free");
        panic!("on purpose");
    }));
    assert!(panics.is_err());
    assert!(role.try_acquire().is_some());
}

#[test]
fn a_role_needs_only_a_state_that_can_be_sent() {
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
                        match role.try_acquire() {
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
    assert_eq!(*role.try_acquire().expect("free"), (4 * TURNS, 4 * TURNS));
}
