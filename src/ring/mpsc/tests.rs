use std::panic::catch_unwind;

use super::*;
use crate::park::{park, register_thread, wake_registered};
use crate::ring::support::STRESS_ITEMS;
use crate::sync::{AtomicWaker, thread};

#[test]
fn a_capacity_is_rounded_up_to_a_power_of_two() {
    for (capacity, len) in [(1, 2), (2, 2), (3, 4), (4, 4), (5, 8)] {
        let (producers, mut consumer) = ring(capacity);
        for _lap in 0..5 {
            (0..len).for_each(|item| assert_eq!(producers.try_push(item), Ok(false)));
            assert_eq!(producers.try_push(77), Err(PushError::Full(77)));
            assert_eq!(consumer.ready(), len);
            (0..len).for_each(|item| assert_eq!(consumer.pop(), Some(item)));
            assert_eq!(consumer.pop(), None);
        }
    }
}

#[test]
fn a_batch_takes_what_room_there_is() {
    let (producers, mut consumer) = ring(8);
    for lap in 0..5 {
        let mut items: VecDeque<_> = (0..20).collect();
        assert_eq!(producers.try_push_batch(&mut items), Ok(false));
        assert_eq!((items.front(), items.len()), (Some(&8), 12), "lap {lap}");
        assert_eq!(producers.try_push_batch(&mut items), Err(ClaimError::Full));
        assert_eq!(producers.try_push(77), Err(PushError::Full(77)));
        assert_eq!((consumer.pop(), consumer.pop()), (Some(0), Some(1)));
        assert_eq!(producers.try_push_batch(&mut items), Ok(false));
        assert_eq!(items.front(), Some(&10), "there was room for two");
        (2..10).for_each(|item| assert_eq!(consumer.pop(), Some(item)));
        assert_eq!(consumer.pop(), None);
    }
    consumer.close();
    let mut items = VecDeque::from([1, 2]);
    assert_eq!(
        producers.try_push_batch(&mut items),
        Err(ClaimError::Closed)
    );
    assert_eq!(items, [1, 2]);
}

#[test]
fn a_batch_reports_a_wake_request_for_any_of_its_items() {
    let (producers, mut consumer) = ring(4);
    assert_eq!(producers.try_push(0), Ok(false));
    assert_eq!(consumer.pop(), Some(0));
    assert_eq!(consumer.request_wake(), Readiness::Empty);
    let mut items = VecDeque::from([1, 2]);
    assert_eq!(producers.try_push_batch(&mut items), Ok(true));
    let mut items = VecDeque::from([3]);
    assert_eq!(producers.try_push_batch(&mut items), Ok(false));
    (1..4).for_each(|item| assert_eq!(consumer.pop(), Some(item)));
}

#[test]
fn capacities_out_of_range_are_refused() {
    for capacity in [0, (1 << 31) + 1] {
        assert!(catch_unwind(|| ring::<u8>(capacity)).is_err());
    }
}

#[test]
fn a_closed_ring_hands_items_back() {
    let (producers, mut consumer) = ring(4);
    assert_eq!(producers.try_push(1), Ok(false));
    consumer.close();
    assert_eq!(producers.try_push(2), Err(PushError::Closed(2)));
    assert!(!consumer.is_finished());
    assert_eq!(consumer.pop(), Some(1));
    assert!(consumer.is_finished());
    assert_eq!(
        consumer.request_wake(),
        Readiness::Ready,
        "nothing will come, so the consumer must not sleep"
    );
}

#[test]
fn a_wake_request_is_reported_by_one_push() {
    let (producers, mut consumer) = ring(4);
    assert_eq!(consumer.request_wake(), Readiness::Empty);
    assert_eq!(producers.try_push(1), Ok(true));
    assert_eq!(producers.try_push(2), Ok(false));
    assert_eq!(consumer.request_wake(), Readiness::Ready);
    assert_eq!((consumer.pop(), consumer.pop()), (Some(1), Some(2)));
    assert_eq!(
        producers.try_push(3),
        Ok(false),
        "the flag was in the stamp of item 1"
    );
}

/// Every item of every producer arrives once, those of one producer in order. Two of the producers
/// push batches.
#[test]
fn stress_mpsc() {
    let items = STRESS_ITEMS / 8;
    for capacity in [1, 3, 64] {
        let waker = AtomicWaker::new();
        let (producers, mut consumer) = ring(capacity);
        thread::scope(|scope| {
            let pushing = [0, 1, 2, 3].map(|producer| {
                let (producers, waker) = (&producers, &waker);
                scope.spawn(move || {
                    let batch_len = [1, 1, 2, 5][producer];
                    let mut batch = VecDeque::new();
                    for value in 0..items {
                        batch.push_back(Box::new((producer, value)));
                        if batch.len() == batch_len || value + 1 == items {
                            push_all(producers, &mut batch, waker);
                        }
                    }
                })
            });
            let mut next = [0; 4];
            while next.iter().any(|next| *next < items) {
                if let Some(item) = consumer.pop() {
                    let (producer, value) = *item;
                    assert_eq!(next[producer], value);
                    next[producer] += 1;
                } else {
                    register_thread(&waker);
                    if consumer.request_wake() == Readiness::Empty {
                        park(None);
                    }
                }
            }
            assert_eq!(consumer.pop(), None);
            pushing.into_iter().for_each(|p| p.join().unwrap());
        });
    }
}

/// Pushes a single item, or a batch. Yields while there is no room.
fn push_all<T>(producers: &Producers<T>, items: &mut VecDeque<T>, waker: &AtomicWaker) {
    while !items.is_empty() {
        let pushed = if items.len() > 1 {
            producers.try_push_batch(items)
        } else {
            match producers.try_push(items.pop_front().expect("there is one")) {
                Ok(wake_requested) => Ok(wake_requested),
                Err(PushError::Full(back)) => {
                    items.push_front(back);
                    Err(ClaimError::Full)
                }
                Err(PushError::Closed(_)) => Err(ClaimError::Closed),
            }
        };
        match pushed {
            Ok(true) => wake_registered(waker),
            Ok(false) => {}
            Err(ClaimError::Full) => thread::yield_now(),
            Err(ClaimError::Closed) => panic!("no thread closes the ring"),
        }
    }
}

#[test]
fn the_consumer_can_be_sent_and_the_producers_shared() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Producers<std::cell::Cell<u8>>>();
    sent::<Consumer<std::cell::Cell<u8>>>();
}
