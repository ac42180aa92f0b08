//! Models of the ring with many producers. How to run and read them: [`crate::sync::explore`].

use super::*;
use crate::park::{park, register_thread, wake_registered};
use crate::ring::support::Drops;
use crate::sync::explore::{Steps, explore};
use crate::sync::{AtomicWaker, thread};

/// Two producers: no item is lost or arrives twice, and the items of each producer keep their
/// order.
#[test]
fn loom_mpsc_two_producers() {
    explore("mpsc: two producers", || {
        let drops = Drops::default();
        let steps = Steps::new();
        let (producers, mut consumer) = ring(2);
        let producers = Arc::new(producers);
        let pushing: Vec<_> = (0..2)
            .map(|producer| {
                let (producers, drops, steps) = (producers.clone(), drops.clone(), steps.clone());
                thread::spawn(move || {
                    let values = [producer * 10, producer * 10 + 1];
                    let accepted = |&value: &u64| {
                        steps.step();
                        producers.try_push(drops.item(value)).is_ok()
                    };
                    values.into_iter().filter(accepted).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut received = Vec::new();
        for _ in 0..2 {
            steps.step();
            received.extend(consumer.pop().map(|item| item.value));
        }
        let accepted: Vec<Vec<u64>> = pushing.into_iter().map(|p| p.join().unwrap()).collect();
        received.extend(std::iter::from_fn(|| consumer.pop().map(|item| item.value)));
        for (producer, accepted) in accepted.iter().enumerate() {
            let of_this = received
                .iter()
                .copied()
                .filter(|value| value / 10 == producer as u64);
            assert_eq!(&of_this.collect::<Vec<_>>(), accepted);
        }
        assert_eq!(received.len(), accepted.iter().map(Vec::len).sum::<usize>());
        assert!(received.len() >= 2, "there was room for two");
        drop((producers, consumer));
        assert_eq!(drops.count(), 4);
    });
}

/// A batch against another producer: the items of a batch that is taken at once have no other item
/// between them, none is lost, and the consumer that requests a wake-up gets it.
#[test]
fn loom_mpsc_batch_against_push() {
    explore("mpsc: a batch against a push", || {
        let waker = Arc::new(AtomicWaker::new());
        let (producers, mut consumer) = ring(4);
        let producers = Arc::new(producers);
        let single = {
            let (producers, waker) = (producers.clone(), waker.clone());
            thread::spawn(move || {
                if producers.try_push(9).expect("there is room for all") {
                    wake_registered(&waker);
                }
            })
        };
        let batch = {
            let waker = waker.clone();
            thread::spawn(move || {
                let mut items = VecDeque::from([1, 2]);
                if producers
                    .try_push_batch(&mut items)
                    .expect("there is room for all")
                {
                    wake_registered(&waker);
                }
                assert!(items.is_empty());
            })
        };
        let mut received = Vec::new();
        while received.len() < 3 {
            match consumer.pop() {
                Some(item) => received.push(item),
                None => {
                    register_thread(&waker);
                    if consumer.request_wake() == Readiness::Empty {
                        park(None);
                    }
                }
            }
        }
        assert!(
            received == [1, 2, 9] || received == [9, 1, 2],
            "{received:?}"
        );
        single.join().unwrap();
        batch.join().unwrap();
    });
}

/// A batch against the close, with room for a part of it: what is taken is popped, and the rest
/// stays with the caller.
#[test]
fn loom_mpsc_batch_against_close() {
    explore("mpsc: a batch against the close", || {
        let (producers, mut consumer) = ring(2);
        assert_eq!(producers.try_push(0), Ok(false));
        let pushing = thread::spawn(move || {
            let mut items = VecDeque::from([1, 2]);
            let answer = producers.try_push_batch(&mut items);
            assert_ne!(answer, Err(ClaimError::Full), "there is room for one");
            items.len()
        });
        let mut received = Vec::new();
        received.extend(consumer.pop());
        consumer.close();
        while !consumer.is_finished() {
            match consumer.pop() {
                Some(item) => received.push(item),
                None => thread::yield_now(), // claimed, and not written yet
            }
        }
        let left = pushing.join().unwrap();
        assert!(received.into_iter().eq(0..3 - left as i32));
    });
}

/// The items left in the ring are dropped with it, once, also when slots were used before.
#[test]
fn loom_mpsc_drop() {
    explore("mpsc: dropped with items in it", || {
        let drops = Drops::default();
        let steps = Steps::new();
        let (producers, mut consumer) = ring(2);
        let pushing = {
            let (drops, steps) = (drops.clone(), steps.clone());
            thread::spawn(move || {
                for value in 0..3 {
                    steps.step();
                    drop(producers.try_push(drops.item(value)));
                }
            })
        };
        steps.step();
        drop(consumer.pop());
        steps.step();
        drop(consumer);
        pushing.join().unwrap();
        assert_eq!(drops.count(), 3);
    });
}

/// A claim comes before the close, and its item is popped; or it fails, and its item is handed
/// back.
#[test]
fn loom_mpsc_close_against_claim() {
    explore("mpsc: close against claim", || {
        let (producers, mut consumer) = ring(2);
        let producers = Arc::new(producers);
        let pushing: Vec<_> = (1..=2)
            .map(|value| {
                let producers = producers.clone();
                thread::spawn(move || match producers.try_push(value) {
                    Ok(wake_requested) => {
                        assert!(!wake_requested);
                        true
                    }
                    Err(PushError::Closed(back)) => {
                        assert_eq!(back, value);
                        false
                    }
                    Err(PushError::Full(_)) => panic!("there is room for both"),
                })
            })
            .collect();
        consumer.close();
        let mut received = Vec::new();
        while !consumer.is_finished() {
            match consumer.pop() {
                Some(value) => received.push(value),
                None => thread::yield_now(), // claimed, and not written yet
            }
        }
        let accepted: Vec<bool> = pushing.into_iter().map(|p| p.join().unwrap()).collect();
        assert_eq!(consumer.pop(), None, "nothing comes after the end");
        for (value, accepted) in (1..=2).zip(accepted) {
            assert_eq!(received.contains(&value), accepted);
        }
    });
}

/// The consumer requests a wake-up while two producers write their positions in any order: no
/// wake-up is lost.
#[test]
fn loom_mpsc_request_wake_against_write() {
    explore("mpsc: request_wake against write", || {
        let waker = Arc::new(AtomicWaker::new());
        let (producers, mut consumer) = ring(2);
        let producers = Arc::new(producers);
        let pushing: Vec<_> = (1..=2)
            .map(|value| {
                let (producers, waker) = (producers.clone(), waker.clone());
                thread::spawn(move || {
                    if producers.try_push(value) == Ok(true) {
                        wake_registered(&waker);
                    }
                })
            })
            .collect();
        let mut sum = 0;
        while sum < 3 {
            match consumer.pop() {
                Some(value) => sum += value,
                None => {
                    register_thread(&waker);
                    if consumer.request_wake() == Readiness::Empty {
                        park(None);
                    }
                }
            }
        }
        pushing.into_iter().for_each(|p| p.join().unwrap());
    });
}
