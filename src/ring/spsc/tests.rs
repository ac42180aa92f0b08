use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::park::{park, register_thread, wake_registered};
use crate::ring::support::{Bomb, STRESS_ITEMS};
use crate::sync::{Arc, AtomicUsize, AtomicWaker, Ordering, thread};

fn full<T>(result: Result<(), T>) -> bool {
    result.is_err()
}

#[test]
fn a_capacity_is_what_was_asked_for() {
    for capacity in 1..=9 {
        let (mut producer, mut consumer) = ring(capacity);
        for lap in 0..5 {
            assert_eq!(producer.room(), capacity);
            for item in 0..capacity {
                assert_eq!(producer.push(lap * 100 + item), Ok(()));
            }
            assert!(full(producer.push(77)), "one past {capacity}");
            assert_eq!(producer.commit(), Ok(false));
            for item in 0..capacity {
                assert_eq!(consumer.pop(), Some(lap * 100 + item));
            }
            assert_eq!(consumer.pop(), None);
            assert_eq!(producer.room(), 0, "popped is not given back");
            assert!(!consumer.release());
        }
    }
}

/// Whatever was popped before, in whatever segment: the ring takes as much as it says, and keeps it in order.
#[test]
fn a_ring_grows_to_its_capacity_from_anywhere() {
    for first_slots in [1, 2, 16] {
        for capacity in [1, 2, 3, 7, 16, 17, 100] {
            let (mut producer, mut consumer) = ring_from(first_slots, capacity);
            let (mut pushed, mut popped) = (0, 0);
            // The fill rises and falls, a little higher each time.
            for fill in (1..=capacity).chain([capacity; 3]) {
                while pushed - popped < fill {
                    assert_eq!(producer.push(pushed), Ok(()));
                    pushed += 1;
                }
                assert_eq!(producer.room(), capacity - fill);
                assert_eq!(full(producer.push(77)), fill == capacity);
                if fill < capacity {
                    assert_eq!(producer.unstage(), Some(77));
                }
                producer.commit().expect("open");
                for _ in 0..fill.div_ceil(2) {
                    assert_eq!(consumer.pop(), Some(popped));
                    popped += 1;
                }
                consumer.release();
            }
            drop(producer);
            assert_eq!(consumer.refresh(), pushed - popped);
            (popped..pushed).for_each(|item| assert_eq!(consumer.pop(), Some(item)));
            assert!(consumer.is_finished());
        }
    }
}

#[test]
fn what_is_staged_in_new_segments_is_taken_back_and_dropped() {
    for first_slots in [1, 2, 4] {
        let alive = Arc::new(());
        let (mut producer, mut consumer) = ring_from(first_slots, 64);
        for round in 0..3 {
            for _ in 0..5 {
                assert!(!full(producer.push(alive.clone())));
            }
            producer.commit().expect("open");
            for _ in 0..40 {
                assert!(!full(producer.push(alive.clone())));
            }
            for left in (0..40).rev() {
                assert!(producer.unstage().is_some());
                assert_eq!(Arc::strong_count(&alive), 1 + 5 + left);
            }
            assert!(producer.unstage().is_none());
            for _ in 0..5 {
                assert!(consumer.pop().is_some());
            }
            assert!(consumer.pop().is_none(), "round {round}");
            consumer.release();
        }
        for _ in 0..40 {
            assert!(!full(producer.push(alive.clone())));
        }
        drop(producer);
        assert_eq!(Arc::strong_count(&alive), 1, "staged and never published");
        assert!(consumer.is_finished());
    }
}

#[test]
fn capacities_out_of_range_are_refused() {
    for capacity in [0, (1 << 31) + 1] {
        assert!(catch_unwind(|| ring::<u8>(capacity)).is_err());
    }
    drop(ring::<u8>(1 << 31)); // allocates nothing before the first push
}

#[test]
fn what_is_staged_is_not_seen_before_the_commit() {
    let (mut producer, mut consumer) = ring(4);
    assert_eq!(producer.push(1), Ok(()));
    assert_eq!(consumer.pop(), None);
    assert_eq!(producer.unstage(), Some(1));
    assert_eq!(producer.unstage(), None);
    assert_eq!(producer.push(2), Ok(()));
    assert_eq!(producer.commit(), Ok(false));
    assert_eq!(producer.unstage(), None, "it is out");
    assert_eq!(consumer.pop(), Some(2));
}

#[test]
fn a_close_hands_back_what_comes_after_it() {
    let (mut producer, mut consumer) = ring(4);
    assert_eq!((producer.push(1), producer.commit()), (Ok(()), Ok(false)));
    assert_eq!(producer.push(2), Ok(()));
    consumer.close();
    assert_eq!(producer.commit(), Err(Closed));
    assert_eq!(producer.commit(), Err(Closed), "for ever");
    assert_eq!(producer.unstage(), Some(2));
    assert!(!consumer.is_finished());
    assert_eq!(consumer.pop(), Some(1));
    assert!(consumer.is_finished());
}

#[test]
fn the_one_who_publishes_learns_of_the_sleeper_once() {
    let (mut producer, mut consumer) = ring(4);
    assert_eq!(consumer.request_wake(), Readiness::Empty);
    assert_eq!((producer.push(1), producer.commit()), (Ok(()), Ok(true)));
    assert_eq!((producer.push(2), producer.commit()), (Ok(()), Ok(false)));
    assert_eq!(consumer.request_wake(), Readiness::Ready);
    assert!(producer.close(), "the wish of the request_wake still stood");
}

#[test]
fn the_one_who_gives_back_learns_of_the_sleeper_until_it_takes_the_wish() {
    let (mut producer, mut consumer) = ring::<u8>(2);
    assert!(!consumer.release());
    producer.request_wake();
    assert!(consumer.release() && consumer.release());
    assert!(consumer.take_wake_request() && !consumer.take_wake_request());
    assert!(!consumer.release());
    producer.request_wake();
    assert!(producer.take_wake_request(), "taken back");
    assert!(!consumer.take_wake_request());
}

/// An item whose drop panics may take others along, undropped, but none is dropped twice.
#[test]
fn a_drop_that_panics_drops_nothing_twice() {
    for armed in 0..3 {
        for consumer_first in [true, false] {
            let drops = AtomicUsize::new(0);
            let (mut producer, consumer) = ring(4);
            for index in 0..3 {
                let armed = index == armed;
                let drops = &drops;
                assert!(!full(producer.push(Bomb { drops, armed })));
            }
            producer.commit().expect("open");
            type Drop<'a> = Box<dyn FnOnce() + 'a>;
            let both: [Drop<'_>; 2] = if consumer_first {
                [Box::new(|| drop(consumer)), Box::new(|| drop(producer))]
            } else {
                [Box::new(|| drop(producer)), Box::new(|| drop(consumer))]
            };
            let panics = both.map(|f| catch_unwind(AssertUnwindSafe(f)).is_err());
            assert_eq!(panics.iter().filter(|panicked| **panicked).count(), 1);
            let drops = drops.load(Ordering::Relaxed);
            assert!((armed + 1..=3).contains(&drops), "{drops} drops of 3");
        }
    }
}

/// Every item comes, in order, with both sides asleep whenever they have to wait.
#[test]
fn stress_spsc() {
    for capacity in [1, 3, 64] {
        let for_item = Arc::new(AtomicWaker::new());
        let for_room = Arc::new(AtomicWaker::new());
        let (mut producer, mut consumer) = ring(capacity);
        let items = STRESS_ITEMS * capacity as u64 / 64;
        thread::scope(|scope| {
            let pushing = scope.spawn(|| {
                for value in 0..items {
                    while producer.room() == 0 {
                        register_thread(&for_room);
                        producer.request_wake();
                        if producer.room() == 0 {
                            park(None);
                        }
                    }
                    producer.push(Box::new(value)).expect("there is room");
                    let last = value + 1 == items;
                    if (value % 3 != 0 || producer.room() == 0 || last)
                        && producer.commit() == Ok(true)
                    {
                        wake_registered(&for_item);
                    }
                }
                if producer.close() {
                    wake_registered(&for_item);
                }
            });
            let mut next = 0;
            loop {
                if let Some(value) = consumer.pop() {
                    assert_eq!(*value, next);
                    next += 1;
                    if consumer.release() && consumer.take_wake_request() {
                        wake_registered(&for_room);
                    }
                } else if consumer.is_finished() {
                    break;
                } else {
                    register_thread(&for_item);
                    if consumer.request_wake() == Readiness::Empty {
                        park(None);
                    }
                }
            }
            assert_eq!(next, items);
            pushing.join().unwrap();
        });
    }
}

#[test]
fn both_sides_can_be_sent() {
    fn sent<T: Send>() {}
    sent::<Producer<std::cell::Cell<u8>>>();
    sent::<Consumer<std::cell::Cell<u8>>>();
}
