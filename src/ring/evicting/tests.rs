use std::panic::{AssertUnwindSafe, catch_unwind};

use super::law::{Told, at_most, ids, parts};
use super::*;
use crate::park::{park, register_thread, wake_registered};
use crate::ring::support::{Bomb, Drops, STRESS_ITEMS};
use crate::sync::{AtomicUsize, AtomicWaker, thread};

fn part(id: u64) -> Parts {
    parts(id, 1)
}

#[test]
fn an_evicting_ring_takes_one_more_than_its_capacity_from_anywhere() {
    for first_cells in [1, 2, 16] {
        for capacity in [1, 2, 3, 7, 15, 16, 63, 64, 65] {
            let (mut producer, mut consumer) = ring_from::<Box<u64>>(first_cells, capacity);
            let (mut pushed, mut gone) = (0, 0);
            // What lies in front moves the place where it is full, by one more each time.
            for lap in 0..2 * capacity.next_power_of_two() as u64 {
                for _ in 0..lap.min(pushed - gone) {
                    assert_eq!(consumer.claim().map(|c| *c.item), Some(gone));
                    gone += 1;
                }
                while pushed - gone <= capacity as u64 {
                    producer.push(Box::new(pushed), part(pushed), 0);
                    pushed += 1;
                }
                assert_eq!(producer.commit(), Ok(false));
                assert_eq!(producer.waiting().parts, capacity as u64 + 1);
                let evicted = producer.evict(at_most(capacity as u64), ids, |item, parts| {
                    assert_eq!((*item, parts), (gone, part(gone)));
                });
                assert_eq!(evicted, 1);
                gone += 1;
                let claimed = consumer.claim().expect("there is something");
                let lost = claimed.lost.map(|run| (run.from, run.to, run.count));
                assert_eq!((*claimed.item, lost), (gone, Some((gone - 1, gone - 1, 1))));
                gone += 1;
            }
        }
    }
}

#[test]
fn a_push_beyond_all_room_is_refused_and_drops_nothing_twice() {
    for capacity in [1, 3, 15, 63] {
        let alive = Arc::new(());
        let (mut producer, consumer) = ring(capacity);
        for id in 0..=capacity as u64 {
            producer.push(Box::new(alive.clone()), part(id), 0);
        }
        let one_more = || producer.push(Box::new(alive.clone()), part(99), 0);
        assert!(catch_unwind(AssertUnwindSafe(one_more)).is_err());
        assert_eq!(producer.commit(), Ok(false));
        assert_eq!(Arc::strong_count(&alive), 1 + capacity + 1);
        drop(producer);
        assert_eq!(Arc::strong_count(&alive), 1 + capacity + 1);
        drop(consumer);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

#[test]
fn an_evicting_ring_keeps_the_item_published_last() {
    let (mut producer, mut consumer) = ring(4);
    let nothing = Amount { parts: 1, bytes: 0 };
    for (base, len) in [(1, 3), (4, 64), (68, 5)] {
        producer.push(Box::new(base), parts(base, len), 10);
        assert_eq!(producer.commit(), Ok(false));
    }
    let gone = |_: Box<u64>, _| {};
    assert_eq!(producer.evict(nothing, ids, gone), 3 + 64 + 4);
    assert_eq!(producer.evict(nothing, ids, gone), 0);
    assert_eq!(
        producer.waiting(),
        Amount {
            parts: 1,
            bytes: 10
        }
    );
    // Nor is it evicted when it has been cut: the run in front of it goes on.
    producer.push(Box::new(73), part(73), 0);
    assert_eq!(producer.commit(), Ok(false));
    assert_eq!(producer.evict(nothing, ids, gone), 1);
    let claimed = consumer.claim().expect("the last");
    let lost = claimed.lost.map(|run| (run.from, run.to, run.count));
    assert_eq!(
        (*claimed.item, claimed.cut, lost),
        (73, 0, Some((1, 72, 72)))
    );
    assert!(consumer.claim().is_none() && !consumer.is_finished());
    assert!(!producer.close() && consumer.is_finished());
}

/// Their sum is beyond all numbers, and comes round to a small one.
#[test]
fn items_that_weigh_all_there_is_are_evicted_all_the_same() {
    for (light, heavy) in [
        (10, u64::MAX),
        (1 << 63, 1 << 63),
        (u64::MAX, u64::MAX),
        (u64::MAX, 1),
    ] {
        let (mut producer, mut consumer) = ring(8);
        let bound = Amount {
            parts: 8,
            bytes: 1000,
        };
        for (id, bytes) in [(1, light), (2, heavy)] {
            producer.push(Box::new(id), part(id), bytes);
            assert_eq!(producer.commit(), Ok(false));
            producer.evict(bound, ids, |_, _| {});
        }
        let claimed = consumer.claim().expect("the last");
        assert_eq!(*claimed.item, 2, "{light} and {heavy}");
        assert_eq!(claimed.lost.map(|run| run.count), Some(1));
    }
}

/// Whoever drops it, the item whose drop panics may take others along, undropped, but none is dropped twice.
#[test]
fn a_drop_that_panics_in_an_evicting_ring_drops_nothing_twice() {
    for armed in 0..4 {
        for order in 0..3 {
            let drops = AtomicUsize::new(0);
            let (mut producer, consumer) = ring(4);
            for index in 0..4 {
                let (drops, armed) = (&drops, index == armed);
                producer.push(Box::new(Bomb { drops, armed }), part(index), 0);
                // The last one is staged.
                assert!(index == 3 || producer.commit() == Ok(false));
            }
            type Step<'a> = Box<dyn FnOnce() + 'a>;
            let steps: [Step<'_>; 2] = match order {
                0 => [Box::new(|| drop(consumer)), Box::new(|| drop(producer))],
                1 => [Box::new(|| drop(producer)), Box::new(|| drop(consumer))],
                _ => {
                    let evict = move || {
                        let mut producer = producer;
                        assert_eq!(producer.commit(), Ok(false));
                        producer.evict(at_most(1), ids, |item, _| drop(item));
                    };
                    [Box::new(evict), Box::new(|| drop(consumer))]
                }
            };
            let panics = steps.map(|f| catch_unwind(AssertUnwindSafe(f)).is_err());
            assert_eq!(panics.iter().filter(|panicked| **panicked).count(), 1);
            let drops = drops.load(Ordering::Relaxed);
            assert!((1..=4).contains(&drops), "{drops} drops of 4");
        }
    }
}

/// Says that it is dropped, and that nobody else does anything with it at that moment.
struct Noted {
    id: u64,
    drops: Drops,
    touched: std::cell::Cell<u64>,
}

impl Drop for Noted {
    fn drop(&mut self) {
        assert_eq!(self.touched.replace(u64::MAX), self.id);
        self.drops.one();
    }
}

/// Every part of every item is received once or told as lost, in its place, with a reader that is now fast, now slow and now
/// asleep; and every item is dropped once.
#[test]
fn stress_evicting() {
    let items = STRESS_ITEMS / 4;
    for (capacity, rest) in [(1, 0), (2, 1), (7, 10), (64, 100), (65, 1000)] {
        let drops = Drops::default();
        let waker = AtomicWaker::new();
        let (mut producer, mut consumer) = ring(capacity);
        thread::scope(|scope| {
            let pushing = scope.spawn(|| {
                let (mut next_id, mut evicted, mut wake_requested) = (1, 0, false);
                for number in 0..items {
                    let len = match number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 {
                        0 => 64,
                        n @ 1..4 => 5 * n as u32,
                        _ => 1,
                    };
                    let item = Noted {
                        id: next_id,
                        drops: drops.clone(),
                        touched: next_id.into(),
                    };
                    producer.push(Box::new(item), parts(next_id, len), u64::from(len));
                    next_id += u64::from(len);
                    let heavy = number % 1000 < 100;
                    let bound = Amount {
                        parts: capacity as u64,
                        bytes: if heavy { 40 } else { u64::MAX },
                    };
                    let waiting = producer.waiting();
                    if waiting.parts > bound.parts || waiting.bytes > bound.bytes {
                        wake_requested |= producer.commit() == Ok(true);
                        evicted += producer.evict(bound, ids, |item, parts| {
                            assert_eq!(item.id, parts.base);
                        });
                    }
                    if number % 3 == 0 || number + 1 == items {
                        wake_requested |= producer.commit() == Ok(true);
                        if std::mem::take(&mut wake_requested) {
                            wake_registered(&waker);
                        }
                    }
                    if number % 64 == 0 {
                        thread::yield_now();
                    }
                }
                if producer.close() {
                    wake_registered(&waker);
                }
                (next_id - 1, evicted)
            });
            let mut told = Told::default();
            let mut claims = 0_u64;
            loop {
                if let Some(claimed) = consumer.claim() {
                    told.claim(&claimed);
                    assert_eq!(claimed.item.id, claimed.parts.base);
                    claims += 1;
                    (0..claims % (rest + 1)).for_each(|_| std::hint::spin_loop());
                } else if consumer.is_finished() {
                    break;
                } else {
                    register_thread(&waker);
                    if consumer.request_wake() {
                        park(None);
                    }
                }
            }
            let (pushed, evicted) = pushing.join().unwrap();
            told.end(pushed, evicted);
        });
        assert_eq!(drops.count(), items);
    }
}
