//! Models of the ring with one producer and one consumer. How to run and read them:
//! [`crate::sync::explore`].

use super::*;
use crate::park::{park, register_thread, wake_registered};
use crate::ring::support::Drops;
use crate::sync::explore::{Steps, explore};
use crate::sync::{AtomicWaker, thread};

/// Push and commit against pop and release: what was accepted arrives, in order, and every item is
/// dropped once. A ring that begins with fewer slots than its capacity grows meanwhile.
fn spsc_in_order(first_slots: usize, capacity: usize) {
    const ITEMS: u64 = 4;
    explore(
        &format!("spsc ring of {first_slots} to {capacity}"),
        move || {
            let drops = Drops::default();
            let steps = Steps::new();
            let (mut producer, mut consumer) = ring_with_first_slots(first_slots, capacity);
            let pushing = {
                let (drops, steps) = (drops.clone(), steps.clone());
                thread::spawn(move || {
                    let mut accepted = Vec::new();
                    for value in 0..ITEMS {
                        steps.step();
                        if producer.push(drops.item(value)).is_ok() {
                            accepted.push(value);
                        }
                        // Items 1 and 2 are published by one commit.
                        if value != 1 {
                            assert_eq!(producer.commit(), Ok(false));
                        }
                    }
                    accepted
                })
            };
            let mut received = Vec::new();
            for _ in 0..2 {
                steps.step();
                received.extend(consumer.pop().map(|item| item.value));
                steps.step();
                consumer.release();
            }
            let accepted = pushing.join().unwrap();
            received.extend(std::iter::from_fn(|| consumer.pop().map(|item| item.value)));
            assert_eq!(received, accepted);
            assert!(consumer.is_finished());
            drop(consumer);
            assert_eq!(drops.count(), ITEMS);
        },
    );
}

#[test]
fn loom_spsc_capacity_1() {
    spsc_in_order(1, 1);
}

#[test]
fn loom_spsc_capacity_2() {
    spsc_in_order(2, 2);
}

#[test]
fn loom_spsc_capacity_3() {
    spsc_in_order(4, 3);
}

#[test]
fn loom_spsc_growing_capacity_2() {
    spsc_in_order(1, 2);
}

#[test]
fn loom_spsc_growing_capacity_3() {
    spsc_in_order(1, 3);
}

#[test]
fn loom_spsc_growing_capacity_4() {
    spsc_in_order(2, 4);
}

/// The producer takes items back from a new segment and from the previous one, while the consumer
/// follows.
#[test]
fn loom_spsc_unstage_across_growth() {
    explore("spsc: unstage across two segments", || {
        let drops = Drops::default();
        let steps = Steps::new();
        let (mut producer, mut consumer) = ring_with_first_slots(1, 4);
        let pushing = {
            let (drops, steps) = (drops.clone(), steps.clone());
            thread::spawn(move || {
                let mut accepted = vec![0];
                assert!(producer.push(drops.item(0)).is_ok());
                steps.step();
                assert_eq!(producer.commit(), Ok(false));
                // Up to two segments further, and back.
                let staged = (1..=3)
                    .take_while(|value| {
                        steps.step();
                        producer.push(drops.item(10 * value)).is_ok()
                    })
                    .count();
                assert_eq!(staged, 3, "there is room for four");
                for value in (1..=3).rev() {
                    let item = producer.unstage().expect("staged above");
                    assert_eq!(item.value, 10 * value);
                }
                assert!(producer.unstage().is_none(), "the first is published");
                for value in 1..=3 {
                    steps.step();
                    if producer.push(drops.item(value)).is_ok() {
                        accepted.push(value);
                    }
                    if value != 2 {
                        assert_eq!(producer.commit(), Ok(false));
                    }
                }
                accepted
            })
        };
        let mut received = Vec::new();
        for _ in 0..2 {
            steps.step();
            received.extend(consumer.pop().map(|item| item.value));
            steps.step();
            consumer.release();
        }
        let accepted = pushing.join().unwrap();
        received.extend(std::iter::from_fn(|| consumer.pop().map(|item| item.value)));
        assert_eq!(received, accepted);
        drop(consumer);
        assert_eq!(drops.count(), 7);
    });
}

#[test]
fn loom_spsc_producer_drop() {
    producer_drop(2);
}

/// An item that is staged and never published lies in a segment that the consumer never enters.
#[test]
fn loom_spsc_producer_drop_in_growth() {
    producer_drop(1);
}

fn producer_drop(first_slots: usize) {
    explore(
        &format!("spsc ring of {first_slots}: the producer is dropped"),
        move || {
            let drops = Drops::default();
            let steps = Steps::new();
            let (mut producer, mut consumer) = ring_with_first_slots(first_slots, 2);
            let pushing = {
                let (drops, steps) = (drops.clone(), steps.clone());
                thread::spawn(move || {
                    assert!(producer.push(drops.item(1)).is_ok());
                    steps.step();
                    assert_eq!(producer.commit(), Ok(false));
                    steps.step();
                    // Staged and never published.
                    producer.push(drops.item(2)).is_ok()
                })
            };
            let mut received = Vec::new();
            while !consumer.is_finished() {
                steps.step();
                match consumer.pop() {
                    Some(item) => received.push(item.value),
                    None => thread::yield_now(),
                }
            }
            assert_eq!(received, [1]);
            assert!(pushing.join().unwrap());
            drop(consumer);
            assert_eq!(drops.count(), 2);
        },
    );
}

#[test]
fn loom_spsc_consumer_drop() {
    consumer_drop(2);
}

/// The items that are dropped with the ring lie in several segments.
#[test]
fn loom_spsc_consumer_drop_in_growth() {
    consumer_drop(1);
}

fn consumer_drop(first_slots: usize) {
    explore(
        &format!("spsc ring of {first_slots}: the consumer is dropped"),
        move || {
            let drops = Drops::default();
            let steps = Steps::new();
            let (mut producer, mut consumer) = ring_with_first_slots(first_slots, 2);
            let pushing = {
                let (drops, steps) = (drops.clone(), steps.clone());
                thread::spawn(move || {
                    for value in 0..3 {
                        steps.step();
                        drop(producer.push(drops.item(value)));
                        assert_eq!(producer.commit(), Ok(false));
                    }
                })
            };
            steps.step();
            drop(consumer.pop());
            steps.step();
            drop(consumer);
            pushing.join().unwrap();
            assert_eq!(drops.count(), 3);
        },
    );
}

#[test]
fn loom_spsc_close_against_commit() {
    explore("spsc: close against commit", || {
        let (mut producer, mut consumer) = ring(2);
        let pushing = thread::spawn(move || {
            let mut published = Vec::new();
            for value in 1..=2 {
                assert_eq!(producer.push(value), Ok(()));
                match producer.commit() {
                    Ok(wake_requested) => {
                        assert!(!wake_requested);
                        published.push(value);
                    }
                    Err(Closed) => assert_eq!(producer.unstage(), Some(value)),
                }
            }
            published
        });
        let mut received = Vec::new();
        received.extend(consumer.pop());
        consumer.close();
        received.extend(std::iter::from_fn(|| consumer.pop()));
        assert!(consumer.is_finished(), "nothing is published after a close");
        assert_eq!(pushing.join().unwrap(), received);
        assert_eq!(consumer.pop(), None);
    });
}

/// No wake-up is lost, in either direction: the consumer waits for items, the producer for room. If
/// one were lost, loom would report a deadlock.
fn spsc_both_sleep(capacity: usize, items: u64) {
    explore(
        &format!("spsc ring of {capacity}, both sides sleep"),
        move || {
            let for_item = Arc::new(AtomicWaker::new());
            let for_room = Arc::new(AtomicWaker::new());
            let (mut producer, mut consumer) = ring(capacity);
            let pushing = {
                let (for_item, for_room) = (for_item.clone(), for_room.clone());
                thread::spawn(move || {
                    for value in 0..items {
                        while producer.room() == 0 {
                            register_thread(&for_room);
                            producer.request_wake();
                            if producer.room() == 0 {
                                park(None);
                            }
                        }
                        assert_eq!(producer.push(value), Ok(()));
                        if producer.commit() == Ok(true) {
                            wake_registered(&for_item);
                        }
                    }
                    if producer.close() {
                        wake_registered(&for_item);
                    }
                })
            };
            let mut received = Vec::new();
            loop {
                if let Some(value) = consumer.pop() {
                    received.push(value);
                    if consumer.release() && consumer.take_wake_request() {
                        wake_registered(&for_room);
                    }
                    continue;
                }
                if consumer.is_finished() {
                    break;
                }
                register_thread(&for_item);
                if consumer.request_wake() == Readiness::Empty {
                    park(None);
                }
            }
            assert_eq!(received, (0..items).collect::<Vec<_>>());
            pushing.join().unwrap();
        },
    );
}

#[test]
fn loom_spsc_both_sleep_capacity_1() {
    spsc_both_sleep(1, 2);
}

#[test]
fn loom_spsc_both_sleep_capacity_2() {
    spsc_both_sleep(2, 3);
}
