//! The rings and the waiting protocols under every schedule. How to run and read them: [`crate::sync::explore`].

use std::sync::Arc as Plain;
use std::sync::atomic::{AtomicUsize as PlainUsize, Ordering as PlainOrdering};

use super::gap::{GapCell, Run};
use super::mpsc::{self, PushError};
use super::spsc::{self, Closed, Readiness};
use crate::park::{WaitSet, park, register_thread, wake_registered};
use crate::sync::explore::{Steps, explore, explore_bounded};
use crate::sync::{Arc, AtomicUsize, AtomicWaker, Ordering, thread};

/// Counts what is dropped, outside of the model.
#[derive(Clone, Default)]
struct Drops(Plain<PlainUsize>);

impl Drops {
    fn item(&self, value: u64) -> Item {
        Item(value, self.clone())
    }

    fn count(&self) -> usize {
        self.0.load(PlainOrdering::Relaxed)
    }
}

struct Item(u64, Drops);

impl Drop for Item {
    fn drop(&mut self) {
        self.1.0.fetch_add(1, PlainOrdering::Relaxed);
    }
}

/// Push and commit against pop and release: what was accepted comes, in order, and every item is dropped once. A
/// ring that begins with fewer slots than its capacity grows meanwhile.
fn spsc_in_order(first_slots: usize, capacity: usize) {
    const ITEMS: u64 = 4;
    explore(
        &format!("spsc ring of {first_slots} to {capacity}"),
        move || {
            let drops = Drops::default();
            let steps = Steps::new();
            let (mut producer, mut consumer) = spsc::ring_from(first_slots, capacity);
            let pushing = {
                let (drops, steps) = (drops.clone(), steps.clone());
                thread::spawn(move || {
                    let mut accepted = Vec::new();
                    for value in 0..ITEMS {
                        steps.step();
                        if producer.push(drops.item(value)).is_ok() {
                            accepted.push(value);
                        }
                        // Two items are published in one step, sometimes.
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
                received.extend(consumer.pop().map(|item| item.0));
                steps.step();
                consumer.release();
            }
            let accepted = pushing.join().unwrap();
            received.extend(std::iter::from_fn(|| consumer.pop().map(|item| item.0)));
            assert_eq!(received, accepted);
            assert!(consumer.is_finished());
            drop(consumer);
            assert_eq!(drops.count() as u64, ITEMS);
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

/// What is taken back from a new segment, and from the one before, against a consumer that follows.
#[test]
fn loom_spsc_unstage_across_growth() {
    explore("spsc: unstaged across two segments", || {
        let drops = Drops::default();
        let steps = Steps::new();
        let (mut producer, mut consumer) = spsc::ring_from(1, 4);
        let pushing = {
            let (drops, steps) = (drops.clone(), steps.clone());
            thread::spawn(move || {
                let mut accepted = vec![0];
                assert!(producer.push(drops.item(0)).is_ok());
                steps.step();
                assert_eq!(producer.commit(), Ok(false));
                // Up to two segments further, and back to where we were.
                let staged = (1..=3)
                    .take_while(|value| {
                        steps.step();
                        producer.push(drops.item(10 * value)).is_ok()
                    })
                    .count();
                assert_eq!(staged, 3, "there is room for four");
                for value in (1..=3).rev() {
                    let item = producer.unstage().expect("staged above");
                    assert_eq!(item.0, 10 * value);
                }
                assert!(producer.unstage().is_none(), "the first is out");
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
            received.extend(consumer.pop().map(|item| item.0));
            steps.step();
            consumer.release();
        }
        let accepted = pushing.join().unwrap();
        received.extend(std::iter::from_fn(|| consumer.pop().map(|item| item.0)));
        assert_eq!(received, accepted);
        drop(consumer);
        assert_eq!(drops.count(), 7);
    });
}

#[test]
fn loom_spsc_producer_drop() {
    producer_drop(2);
}

/// What is staged and never published lies in a segment that the consumer never comes to.
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
            let (mut producer, mut consumer) = spsc::ring_from(first_slots, 2);
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
                    Some(item) => received.push(item.0),
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

/// What the ring drops in the end lies in several segments.
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
            let (mut producer, mut consumer) = spsc::ring_from(first_slots, 2);
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
        let (mut producer, mut consumer) = spsc::ring(2);
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

/// No lost wake-up, in either direction: the consumer sleeps for items, the producer for room. loom finds the deadlock.
fn spsc_both_sleep(capacity: usize, items: u64) {
    explore(
        &format!("spsc ring of {capacity}, both sides sleep"),
        move || {
            let for_item = Arc::new(AtomicWaker::new());
            let for_room = Arc::new(AtomicWaker::new());
            let (mut producer, mut consumer) = spsc::ring(capacity);
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

/// Two producers: nothing is lost or comes twice, and each one's items keep their order.
#[test]
fn loom_mpsc_two_producers() {
    explore("mpsc: two producers", || {
        let drops = Drops::default();
        let steps = Steps::new();
        let (producers, mut consumer) = mpsc::ring(2);
        let producers = Arc::new(producers);
        let pushing: Vec<_> = (0..2)
            .map(|who| {
                let (producers, drops, steps) = (producers.clone(), drops.clone(), steps.clone());
                thread::spawn(move || {
                    let values = [who * 10, who * 10 + 1];
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
            received.extend(consumer.pop().map(|item| item.0));
        }
        let accepted: Vec<Vec<u64>> = pushing.into_iter().map(|p| p.join().unwrap()).collect();
        received.extend(std::iter::from_fn(|| consumer.pop().map(|item| item.0)));
        for (who, accepted) in accepted.iter().enumerate() {
            let of_this = received
                .iter()
                .copied()
                .filter(|value| value / 10 == who as u64);
            assert_eq!(&of_this.collect::<Vec<_>>(), accepted);
        }
        assert_eq!(received.len(), accepted.iter().map(Vec::len).sum::<usize>());
        assert!(received.len() >= 2, "there was room for two");
        drop((producers, consumer));
        assert_eq!(drops.count(), 4);
    });
}

/// What is left in the ring is dropped with it, once, also in the second lap.
#[test]
fn loom_mpsc_drop() {
    explore("mpsc: dropped with items in it", || {
        let drops = Drops::default();
        let steps = Steps::new();
        let (producers, mut consumer) = mpsc::ring(2);
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

/// A claim comes before the close, and its item is popped, or fails, and its item is handed back.
#[test]
fn loom_mpsc_close_against_claim() {
    explore("mpsc: close against claim", || {
        let (producers, mut consumer) = mpsc::ring(2);
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
                None => thread::yield_now(), // claimed, and still being written
            }
        }
        let accepted: Vec<bool> = pushing.into_iter().map(|p| p.join().unwrap()).collect();
        assert_eq!(consumer.pop(), None, "finished is finished");
        for (value, accepted) in (1..=2).zip(accepted) {
            assert_eq!(received.contains(&value), accepted);
        }
    });
}

/// The consumer requests a wake-up against writes that happen out of order: no lost wake-up.
#[test]
fn loom_mpsc_doze_against_write() {
    explore("mpsc: request_wake against write", || {
        let waker = Arc::new(AtomicWaker::new());
        let (producers, mut consumer) = mpsc::ring(2);
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

/// A run is whole, and is told once: by the consumer, or taken back by the producer, or left.
#[test]
fn loom_gap_extend_against_take() {
    explore("gap: extend and take back against take", || {
        const LOSSES: u64 = 3;
        let steps = Steps::new();
        let cell = Arc::new(GapCell::new());
        let producing = {
            let (cell, steps) = (cell.clone(), steps.clone());
            thread::spawn(move || {
                let mut mine = Vec::new();
                for id in 1..=LOSSES {
                    steps.step();
                    let loss = Run {
                        from: id,
                        to: id,
                        count: 1,
                        reason: 0,
                    };
                    while !cell.extend(7, loss) {}
                    if id == 2 {
                        steps.step();
                        mine.extend(cell.take_back());
                    }
                }
                mine
            })
        };
        let mut runs = Vec::new();
        for _ in 0..2 {
            steps.step();
            runs.extend(cell.take(7));
        }
        runs.extend(producing.join().unwrap());
        assert_eq!(cell.take(6), None, "it lies further on");
        let left = cell.lies_at(7);
        assert_eq!(cell.take(7).map(|run| runs.push(run)).is_some(), left);
        runs.sort_by_key(|run| run.from);
        let mut next = 1;
        for run in runs {
            assert_eq!(run.from, next, "in one piece");
            assert_eq!(run.count, run.to - run.from + 1);
            next = run.to + 1;
        }
        assert_eq!(next, LOSSES + 1, "every loss is told");
    });
}

/// Waiters in company, two who notify for different reasons: nobody sleeps on.
#[test]
fn loom_wait_set() {
    explore_bounded("wait set", 2, || {
        let set = Arc::new(WaitSet::new());
        let flags = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let wait_for = |flag: usize| {
            let (set, flags) = (set.clone(), flags.clone());
            move || {
                let is_set = || (flags[flag].load(Ordering::Relaxed) != 0).then_some(());
                assert_eq!(set.wait_until(None, is_set), Some(()));
            }
        };
        let waiting = thread::spawn(wait_for(0));
        let notifying: Vec<_> = (0..2)
            .map(|flag| {
                let (set, flags) = (set.clone(), flags.clone());
                thread::spawn(move || {
                    flags[flag].store(1, Ordering::Relaxed);
                    set.notify();
                })
            })
            .collect();
        wait_for(1)();
        waiting.join().unwrap();
        notifying.into_iter().for_each(|n| n.join().unwrap());
    });
}
