use std::panic::{AssertUnwindSafe, catch_unwind};

use super::invariants::{Reported, at_most, ids, parts};
use super::*;
use crate::park::{park, register_thread, wake_registered};
use crate::ring::support::{Counted, DropCounter, Drops, STRESS_ITEMS};
use crate::sync::{AtomicWaker, thread};

/// Capacities, for tests that fill a ring many times.
const CAPACITIES: &[usize] = if cfg!(miri) {
    &[1, 3, 7]
} else {
    &[1, 2, 3, 7, 15, 16, 63, 64, 65]
};

/// An item of one part.
fn part(id: u64) -> PartSet {
    parts(id, 1)
}

/// First id, last id and count.
fn lost<P>(claimed: &Claimed<P>) -> Option<(u64, u64, u64)> {
    let run = claimed.lost?;
    Some((run.first_id, run.last_id, run.count))
}

#[test]
fn a_ring_takes_one_item_more_than_its_capacity_at_any_position() {
    for first_slots in [1, 2, 16] {
        for &capacity in CAPACITIES {
            let (mut producer, mut consumer) =
                ring_with_first_slots::<Box<u64>>(first_slots, capacity);
            let (mut pushed, mut removed) = (0, 0);
            // In each lap one more is claimed, so the ring becomes full at another position.
            for lap in 0..2 * capacity.next_power_of_two() as u64 {
                for _ in 0..lap.min(pushed - removed) {
                    assert_eq!(consumer.claim().map(|c| *c.item), Some(removed));
                    removed += 1;
                }
                while pushed - removed <= capacity as u64 {
                    producer.push(Box::new(pushed), part(pushed), 0);
                    pushed += 1;
                }
                assert_eq!(producer.commit(), Ok(false));
                assert_eq!(producer.waiting().parts, capacity as u64 + 1);
                let evicted = producer.evict(at_most(capacity as u64), ids, |item, parts| {
                    assert_eq!((*item, parts), (removed, part(removed)));
                });
                assert_eq!(evicted, 1);
                removed += 1;
                let claimed = consumer.claim().expect("the ring is not empty");
                assert_eq!(*claimed.item, removed);
                assert_eq!(lost(&claimed), Some((removed - 1, removed - 1, 1)));
                removed += 1;
            }
        }
    }
}

#[test]
fn a_push_without_room_is_refused_and_drops_nothing_twice() {
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
fn the_item_published_last_is_not_evicted() {
    let (mut producer, mut consumer) = ring(4);
    let bound = Size { parts: 1, bytes: 0 };
    for (base, len) in [(1, 3), (4, 64), (68, 5)] {
        producer.push(Box::new(base), parts(base, len), 10);
        assert_eq!(producer.commit(), Ok(false));
    }
    let on_evicted = |_: Box<u64>, _| {};
    assert_eq!(producer.evict(bound, ids, on_evicted), 3 + 64 + 4);
    assert_eq!(producer.evict(bound, ids, on_evicted), 0);
    let one_part = Size {
        parts: 1,
        bytes: 10,
    };
    assert_eq!(producer.waiting(), one_part);
    // It is evicted when another one is the last, and the run in front of it is extended by it.
    producer.push(Box::new(73), part(73), 0);
    assert_eq!(producer.commit(), Ok(false));
    assert_eq!(producer.evict(bound, ids, on_evicted), 1);
    let claimed = consumer.claim().expect("the last one");
    assert_eq!((*claimed.item, claimed.cut), (73, 0));
    assert_eq!(lost(&claimed), Some((1, 72, 72)));
    assert!(consumer.claim().is_none() && !consumer.is_finished());
    assert!(!producer.close() && consumer.is_finished());
}

/// The sum of the items' bytes would overflow, and wrap around to a small number.
#[test]
fn items_of_the_greatest_possible_weight_are_evicted() {
    for (light, heavy) in [
        (10, u64::MAX),
        (1 << 63, 1 << 63),
        (u64::MAX, u64::MAX),
        (u64::MAX, 1),
    ] {
        let (mut producer, mut consumer) = ring(8);
        let bound = Size {
            parts: 8,
            bytes: 1000,
        };
        for (id, bytes) in [(1, light), (2, heavy)] {
            producer.push(Box::new(id), part(id), bytes);
            assert_eq!(producer.commit(), Ok(false));
            producer.evict(bound, ids, |_, _| {});
        }
        let claimed = consumer.claim().expect("the last one");
        assert_eq!(*claimed.item, 2, "{light} and {heavy}");
        assert_eq!(claimed.lost.map(|run| run.count), Some(1));
    }
}

// SAFETY: a reference and a pointer of the same value are converted into each other. `Counted` is
// not tied to a thread.
unsafe impl Pointer for Counted<'_> {
    fn into_raw(self) -> NonNull<()> {
        NonNull::from(std::mem::ManuallyDrop::new(self).0).cast()
    }

    unsafe fn from_raw(raw: NonNull<()>) -> Self {
        // SAFETY: from `into_raw`, as the caller promises. The lifetime is that of the ring's item
        // type.
        Self(unsafe { raw.cast().as_ref() })
    }
}

/// If the drop of an item panics, on either side, other items may be leaked, but none is dropped
/// twice.
#[test]
fn a_drop_that_panics_drops_nothing_twice() {
    for panicking in 0..4 {
        for order in 0..3 {
            let counters = DropCounter::one_panics(4, panicking);
            let (mut producer, consumer) = ring(4);
            for (index, counter) in counters.iter().enumerate() {
                producer.push(Counted(counter), part(index as u64), 0);
                // The last one is only staged.
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
            assert!(DropCounter::dropped(&counters) >= 1);
        }
    }
}

/// An item that is written to when it is dropped, without synchronisation: so a race detector
/// reports an access by another thread that does not happen before the drop.
struct Unsynchronised {
    id: u64,
    touched: std::cell::Cell<u64>,
    drops: Drops,
}

impl Drop for Unsynchronised {
    fn drop(&mut self) {
        assert_eq!(self.touched.replace(u64::MAX), self.id);
        self.drops.add_one();
    }
}

/// Every part of every item is received once, or reported as lost, in order, by a reader that is
/// now fast, now slow and now asleep. Every item is dropped once.
#[test]
fn stress_evicting() {
    let items = STRESS_ITEMS / 4;
    for (capacity, pause) in [(1, 0), (2, 1), (7, 10), (64, 100), (65, 1000)] {
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
                    let item = Unsynchronised {
                        id: next_id,
                        touched: next_id.into(),
                        drops: drops.clone(),
                    };
                    producer.push(Box::new(item), parts(next_id, len), u64::from(len));
                    next_id += u64::from(len);
                    let tight = number / 16 % 8 == 0;
                    let bound = Size {
                        parts: capacity as u64,
                        bytes: if tight { 40 } else { u64::MAX },
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
            let mut reported = Reported::default();
            let mut claims = 0_u64;
            loop {
                if let Some(claimed) = consumer.claim() {
                    reported.claim(&claimed);
                    assert_eq!(claimed.item.id, claimed.parts.base);
                    claims += 1;
                    (0..claims % (pause + 1)).for_each(|_| std::hint::spin_loop());
                } else if consumer.is_finished() {
                    break;
                } else {
                    register_thread(&waker);
                    if consumer.request_wake() == Readiness::Empty {
                        park(None);
                    }
                }
            }
            let (pushed, evicted) = pushing.join().unwrap();
            reported.end(pushed, evicted);
        });
        assert_eq!(drops.count(), items);
    }
}
