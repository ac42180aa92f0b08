use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::park::{park, register_thread, wake_registered};
use crate::ring::support::{Counted, DropCounter, STRESS_ITEMS};
use crate::sync::{AtomicWaker, thread};

/// Capacities, for tests that fill a ring many times.
const CAPACITIES: &[usize] = if cfg!(miri) {
    &[1, 3, 17]
} else {
    &[1, 2, 3, 7, 16, 17, 100]
};

#[test]
fn a_ring_takes_as_many_items_as_its_capacity() {
    for capacity in 1..=9 {
        let (mut producer, mut consumer) = ring(capacity);
        for lap in 0..5 {
            assert_eq!(producer.room(), capacity);
            for item in 0..capacity {
                assert_eq!(producer.push(lap * 100 + item), Ok(()));
            }
            assert_eq!(producer.push(77), Err(77), "one more than {capacity}");
            assert_eq!(producer.commit(), Ok(false));
            for item in 0..capacity {
                assert_eq!(consumer.pop(), Some(lap * 100 + item));
            }
            assert_eq!(consumer.pop(), None);
            assert_eq!(producer.room(), 0, "popped, but not released");
            assert!(!consumer.release());
        }
    }
}

/// At whatever position, and in whatever segment, the ring becomes full: it takes as many items as
/// its capacity says, and keeps their order.
#[test]
fn a_ring_grows_to_its_capacity_from_any_position() {
    for first_slots in [1, 2, 16] {
        for &capacity in CAPACITIES {
            let (mut producer, mut consumer) = ring_with_first_slots(first_slots, capacity);
            let (mut pushed, mut popped) = (0, 0);
            // The number of items in the ring rises and falls, each time to a higher peak.
            for peak in (1..=capacity).chain([capacity; 3]) {
                while pushed - popped < peak {
                    assert_eq!(producer.push(pushed), Ok(()));
                    pushed += 1;
                }
                assert_eq!(producer.room(), capacity - peak);
                assert_eq!(producer.push(77).is_err(), peak == capacity);
                if peak < capacity {
                    assert_eq!(producer.unstage(), Some(77));
                }
                producer.commit().expect("open");
                for _ in 0..peak.div_ceil(2) {
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
fn items_staged_in_new_segments_are_taken_back_or_dropped() {
    for first_slots in [1, 2, 4] {
        let alive = Arc::new(());
        let (mut producer, mut consumer) = ring_with_first_slots(first_slots, 64);
        for round in 0..3 {
            for _ in 0..5 {
                assert!(producer.push(alive.clone()).is_ok());
            }
            producer.commit().expect("open");
            for _ in 0..40 {
                assert!(producer.push(alive.clone()).is_ok());
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
            assert!(producer.push(alive.clone()).is_ok());
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
fn what_is_staged_is_not_visible_before_the_commit() {
    let (mut producer, mut consumer) = ring(4);
    assert_eq!(producer.push(1), Ok(()));
    assert_eq!(consumer.pop(), None);
    assert_eq!(producer.unstage(), Some(1));
    assert_eq!(producer.unstage(), None);
    assert_eq!(producer.push(2), Ok(()));
    assert_eq!(producer.commit(), Ok(false));
    assert_eq!(producer.unstage(), None, "it is published");
    assert_eq!(consumer.pop(), Some(2));
}

#[test]
fn what_is_staged_when_the_ring_is_closed_can_be_taken_back() {
    let (mut producer, mut consumer) = ring(4);
    assert_eq!((producer.push(1), producer.commit()), (Ok(()), Ok(false)));
    assert_eq!(producer.push(2), Ok(()));
    consumer.close();
    assert_eq!(producer.commit(), Err(Closed));
    assert_eq!(producer.commit(), Err(Closed), "it stays closed");
    assert_eq!(producer.unstage(), Some(2));
    assert!(!consumer.is_finished());
    assert_eq!(consumer.pop(), Some(1));
    assert!(consumer.is_finished());
}

#[test]
fn a_wake_request_of_the_consumer_is_reported_by_one_commit() {
    let (mut producer, mut consumer) = ring(4);
    assert_eq!(consumer.request_wake(), Readiness::Empty);
    assert_eq!((producer.push(1), producer.commit()), (Ok(()), Ok(true)));
    assert_eq!((producer.push(2), producer.commit()), (Ok(()), Ok(false)));
    assert_eq!(consumer.request_wake(), Readiness::Ready);
    assert!(producer.close(), "the request was not cleared");
}

#[test]
fn a_wake_request_of_the_producer_is_reported_until_it_is_taken() {
    let (mut producer, mut consumer) = ring::<u8>(2);
    assert!(!consumer.release());
    producer.request_wake();
    assert!(consumer.release() && consumer.release());
    assert!(consumer.take_wake_request() && !consumer.take_wake_request());
    assert!(!consumer.release());
    producer.request_wake();
    assert!(producer.take_wake_request(), "the producer took it");
    assert!(!consumer.take_wake_request());
}

/// If the drop of an item panics, other items may be leaked, but none is dropped twice.
#[test]
fn a_drop_that_panics_drops_nothing_twice() {
    for panicking in 0..3 {
        for consumer_first in [true, false] {
            let counters = DropCounter::one_panics(3, panicking);
            let (mut producer, consumer) = ring(4);
            for counter in &counters {
                assert!(producer.push(Counted(counter)).is_ok());
            }
            producer.commit().expect("open");
            let drop_consumer = Box::new(|| drop(consumer)) as Box<dyn FnOnce()>;
            let drop_producer = Box::new(|| drop(producer));
            let steps = if consumer_first {
                [drop_consumer, drop_producer]
            } else {
                [drop_producer, drop_consumer]
            };
            let panics = steps.map(|f| catch_unwind(AssertUnwindSafe(f)).is_err());
            assert_eq!(panics.iter().filter(|panicked| **panicked).count(), 1);
            let dropped = DropCounter::dropped(&counters);
            assert!(dropped > panicking, "{dropped} of 3 were dropped");
        }
    }
}

/// Every item arrives, in order, although both sides sleep whenever they have to wait.
#[test]
fn stress_spsc() {
    for capacity in [1, 3, 64] {
        let for_item = AtomicWaker::new();
        let for_room = AtomicWaker::new();
        let (mut producer, mut consumer) = ring(capacity);
        let items = (STRESS_ITEMS * capacity as u64 / 64).max(20);
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
