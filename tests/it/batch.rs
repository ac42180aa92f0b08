//! Batches: one slot at a time, released as a whole, without delaying other threads.

use fanout::{Batch, Event, Overflow, RecvTimeoutError, SharedEvent, TryRecvError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{FOR_EVER, OnDrop, bus, in_every_mode, manual};
use crate::tasks::now_or_never;

fn ids<T>(batch: &Batch<T>) -> Vec<u64> {
    batch.iter().map(Event::id).collect()
}

/// All four methods, also after some events of a slot: each returns the rest of the slot, and each
/// event once.
#[test]
fn a_batch_is_the_rest_of_a_slot() {
    let bus = manual();
    let mut sub = bus.subscribe("a").expect("open");
    assert_eq!(sub.try_next_batch().err(), Some(TryRecvError::Empty));
    let late = sub.next_batch_timeout(Duration::ZERO).err();
    assert_eq!(late, Some(RecvTimeoutError::Timeout));
    for round in 0..4 {
        for n in 0..5 {
            // The subscription matches only some events of each block.
            bus.publish(if n == 2 { "other" } else { "a" }, n)
                .expect("open");
        }
        bus.drive();
        let first = round * 5 + 1;
        assert_eq!(sub.recv().map(Event::id), Ok(first));
        let batch = match round {
            0 => sub.next_batch().expect("there"),
            1 => sub.try_next_batch().expect("there"),
            2 => sub.next_batch_timeout(FOR_EVER).expect("there"),
            _ => now_or_never(sub.next_batch_async())
                .expect("there")
                .expect("open"),
        };
        assert_eq!(ids(&batch), [first + 1, first + 3, first + 4]);
        assert_eq!((batch.len(), batch.iter().len()), (3, 3));
        let owned: Vec<u64> = batch.into_iter().map(|event| event.id()).collect();
        assert_eq!(owned, [first + 1, first + 3, first + 4]);
        assert_eq!(sub.try_next_batch().err(), Some(TryRecvError::Empty));
    }
    assert_eq!((sub.stats().received, sub.stats().unread), (16, 0));
}

/// The program keeps many batches of a small ring: neither their events nor their bytes count any
/// more.
#[test]
fn a_batch_that_is_kept_delays_no_thread() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).lane_capacity(4).pin_bytes(1));
        let sub = bus.subscription("a").capacity(2).overflow(Overflow::Block);
        let mut sub = sub.open().expect("open");
        let mut held = Vec::new();
        for n in 0..500 {
            bus.publish("a", n).expect("open");
            assert!(
                bus.flush_within(FOR_EVER),
                "there is room while batches are held"
            );
            held.push(sub.next_batch().expect("open"));
        }
        let held = thread::spawn(move || held.iter().flat_map(ids).collect::<Vec<_>>());
        assert_eq!(
            held.join().expect("no panic"),
            (1..=500).collect::<Vec<_>>()
        );
    });
}

/// Payloads are dropped with the last owner of any event of the block, and not before.
#[test]
fn a_block_is_released_with_its_last_owner() {
    let bus = manual();
    let mut sub = bus.subscribe("a").expect("open");
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = || dropped.load(Ordering::SeqCst);
    let mut burst = || {
        (0..10).for_each(|_| bus.publish("a", OnDrop::counts(&dropped)).expect("open"));
        bus.drive();
        sub.next_batch().expect("open")
    };
    drop(burst());
    assert_eq!(count(), 10, "released as a whole");

    let batch = burst();
    let first = batch.iter().next().expect("there").share();
    drop(batch);
    assert_eq!(count(), 10);
    drop(first);
    assert_eq!(count(), 20);

    let mut events = burst().into_iter();
    let kept: Vec<SharedEvent<_>> = events.by_ref().take(3).collect();
    assert_eq!((kept.len(), events.len()), (3, 7));
    drop(events); // the other events were never taken
    assert_eq!((kept[2].id(), count()), (23, 20));
    drop(kept);
    assert_eq!(count(), 30);
}
