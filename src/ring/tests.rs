use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;

use super::evicting::{self, Amount, Parts};
use super::evicting_law::{Drops, Told, at_most, ids, parts};
use super::fuzzing::check_ops;
use super::gap::{GapCell, Run};
use super::mpsc::{self, PushError};
use super::spsc::{self, Closed, Doze};
use crate::park::{park, register_thread, wake_registered};
use crate::sync::{Arc, AtomicU64, AtomicUsize, AtomicWaker, Ordering, thread};

fn full<T>(result: Result<(), T>) -> bool {
    result.is_err()
}

#[test]
fn a_capacity_is_what_was_asked_for() {
    for capacity in 1..=9 {
        let (mut producer, mut consumer) = spsc::ring(capacity);
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
    for (capacity, len) in [(1, 2), (2, 2), (3, 4), (4, 4), (5, 8)] {
        let (producers, mut consumer) = mpsc::ring(capacity);
        for _lap in 0..5 {
            (0..len).for_each(|item| assert_eq!(producers.try_push(item), Ok(false)));
            assert_eq!(producers.try_push(77), Err(PushError::Full(77)));
            assert_eq!(consumer.ready(), len);
            (0..len).for_each(|item| assert_eq!(consumer.pop(), Some(item)));
            assert_eq!(consumer.pop(), None);
        }
    }
}

/// Whatever was popped before, in whatever segment: the ring takes as much as it says, and keeps it in order.
#[test]
fn a_ring_grows_to_its_capacity_from_anywhere() {
    for first_slots in [1, 2, 16] {
        for capacity in [1, 2, 3, 7, 16, 17, 100] {
            let (mut producer, mut consumer) = spsc::ring_from(first_slots, capacity);
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
        let (mut producer, mut consumer) = spsc::ring_from(first_slots, 64);
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
        assert!(catch_unwind(|| spsc::ring::<u8>(capacity)).is_err());
        assert!(catch_unwind(|| mpsc::ring::<u8>(capacity)).is_err());
    }
    drop(spsc::ring::<u8>(1 << 31)); // allocates nothing before the first push
}

#[test]
fn what_is_staged_is_not_seen_before_the_commit() {
    let (mut producer, mut consumer) = spsc::ring(4);
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
    let (mut producer, mut consumer) = spsc::ring(4);
    assert_eq!((producer.push(1), producer.commit()), (Ok(()), Ok(false)));
    assert_eq!(producer.push(2), Ok(()));
    consumer.close();
    assert_eq!(producer.commit(), Err(Closed));
    assert_eq!(producer.commit(), Err(Closed), "for ever");
    assert_eq!(producer.unstage(), Some(2));
    assert!(!consumer.is_finished());
    assert_eq!(consumer.pop(), Some(1));
    assert!(consumer.is_finished());

    let (producers, mut consumer) = mpsc::ring(4);
    assert_eq!(producers.try_push(1), Ok(false));
    consumer.close();
    assert_eq!(producers.try_push(2), Err(PushError::Closed(2)));
    assert!(!consumer.is_finished());
    assert_eq!(consumer.pop(), Some(1));
    assert!(consumer.is_finished());
    assert_eq!(consumer.doze(), Doze::Ready, "nothing to sleep for");
}

#[test]
fn the_one_who_publishes_learns_of_the_sleeper_once() {
    let (mut producer, mut consumer) = spsc::ring(4);
    assert_eq!(consumer.doze(), Doze::Asleep);
    assert_eq!((producer.push(1), producer.commit()), (Ok(()), Ok(true)));
    assert_eq!((producer.push(2), producer.commit()), (Ok(()), Ok(false)));
    assert_eq!(consumer.doze(), Doze::Ready);
    assert!(producer.close(), "the wish of the doze still stood");

    let (producers, mut consumer) = mpsc::ring(4);
    assert_eq!(consumer.doze(), Doze::Asleep);
    assert_eq!(producers.try_push(1), Ok(true));
    assert_eq!(producers.try_push(2), Ok(false));
    assert_eq!(consumer.doze(), Doze::Ready);
    assert_eq!((consumer.pop(), consumer.pop()), (Some(1), Some(2)));
    assert_eq!(
        producers.try_push(3),
        Ok(false),
        "the wish went with item 1"
    );
}

#[test]
fn the_one_who_gives_back_learns_of_the_sleeper_until_it_takes_the_wish() {
    let (mut producer, mut consumer) = spsc::ring::<u8>(2);
    assert!(!consumer.release());
    producer.doze();
    assert!(consumer.release() && consumer.release());
    assert!(consumer.rouse() && !consumer.rouse());
    assert!(!consumer.release());
    producer.doze();
    assert!(producer.rouse(), "taken back");
    assert!(!consumer.rouse());
}

/// Counts its drops, and panics in the one it is told to.
struct Bomb<'a> {
    drops: &'a AtomicUsize,
    armed: bool,
}

impl Drop for Bomb<'_> {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
        assert!(!self.armed, "as told");
    }
}

/// An item whose drop panics may take others along, undropped, but none is dropped twice.
#[test]
fn a_drop_that_panics_drops_nothing_twice() {
    for armed in 0..3 {
        for consumer_first in [true, false] {
            let drops = AtomicUsize::new(0);
            let (mut producer, consumer) = spsc::ring(4);
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

fn part(id: u64) -> Parts {
    parts(id, 1)
}

#[test]
fn an_evicting_ring_takes_one_more_than_its_capacity_from_anywhere() {
    for first_cells in [1, 2, 16] {
        for capacity in [1, 2, 3, 7, 15, 16, 63, 64, 65] {
            let (mut producer, mut consumer) =
                evicting::ring_from::<Box<u64>>(first_cells, capacity);
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
        let (mut producer, consumer) = evicting::ring(capacity);
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
    let (mut producer, mut consumer) = evicting::ring(4);
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
        let (mut producer, mut consumer) = evicting::ring(8);
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
            let (mut producer, consumer) = evicting::ring(4);
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

const LOSS: Run = Run {
    from: 5,
    to: 6,
    count: 2,
    reason: 1,
};

#[test]
fn a_run_survives_its_journey_in_words() {
    for run in [
        LOSS,
        Run {
            from: 1,
            to: u64::MAX,
            count: (1 << 56) - 1,
            reason: u8::MAX,
        },
    ] {
        assert_eq!(Run::of_words(run.to_words()), run);
    }
}

#[test]
fn a_run_grows_and_keeps_its_place_and_its_first_reason() {
    let cell = GapCell::new();
    assert_eq!(cell.take_back(), None);
    assert_eq!(cell.take(0), None);
    assert!(cell.extend(3, LOSS));
    let later = Run {
        from: 9,
        to: 9,
        count: 1,
        reason: 0,
    };
    assert!(cell.extend(3, later));
    assert!(!cell.lies_at(2) && cell.lies_at(3));
    assert_eq!(cell.take(2), None);
    let whole = Run {
        to: 9,
        count: 3,
        ..LOSS
    };
    assert_eq!(cell.take(3), Some(whole));
    assert_eq!(cell.take(3), None, "told once");
    assert!(!cell.add(later), "it was taken");
    assert!(cell.extend(4, later));
    assert_eq!(cell.take_back(), Some(later));
    assert!(!cell.lies_at(4));
}

const STRESS_ITEMS: u64 = if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};

/// Every item comes, in order, with both sides asleep whenever they have to wait.
#[test]
fn stress_spsc() {
    for capacity in [1, 3, 64] {
        let for_item = Arc::new(AtomicWaker::new());
        let for_room = Arc::new(AtomicWaker::new());
        let (mut producer, mut consumer) = spsc::ring(capacity);
        let items = STRESS_ITEMS * capacity as u64 / 64;
        thread::scope(|scope| {
            let pushing = scope.spawn(|| {
                for value in 0..items {
                    while producer.room() == 0 {
                        register_thread(&for_room);
                        producer.doze();
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
                    if consumer.release() && consumer.rouse() {
                        wake_registered(&for_room);
                    }
                } else if consumer.is_finished() {
                    break;
                } else {
                    register_thread(&for_item);
                    if consumer.doze() == Doze::Asleep {
                        park(None);
                    }
                }
            }
            assert_eq!(next, items);
            pushing.join().unwrap();
        });
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
        let (mut producer, mut consumer) = evicting::ring(capacity);
        thread::scope(|scope| {
            let pushing = scope.spawn(|| {
                let (mut next_id, mut evicted, mut asleep) = (1, 0, false);
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
                        asleep |= producer.commit() == Ok(true);
                        evicted += producer.evict(bound, ids, |item, parts| {
                            assert_eq!(item.id, parts.base);
                        });
                    }
                    if number % 3 == 0 || number + 1 == items {
                        asleep |= producer.commit() == Ok(true);
                        if std::mem::take(&mut asleep) {
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
                    if consumer.doze() {
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

/// Every item of every producer comes once, each producer's in order.
#[test]
fn stress_mpsc() {
    let items = STRESS_ITEMS / 8;
    for capacity in [1, 3, 64] {
        let waker = AtomicWaker::new();
        let (producers, mut consumer) = mpsc::ring(capacity);
        thread::scope(|scope| {
            let pushing = [0, 1, 2, 3].map(|who| {
                let (producers, waker) = (&producers, &waker);
                scope.spawn(move || {
                    for value in 0..items {
                        let mut item = Box::new((who, value));
                        loop {
                            match producers.try_push(item) {
                                Ok(true) => break wake_registered(waker),
                                Ok(false) => break,
                                Err(PushError::Full(back)) => item = back,
                                Err(PushError::Closed(_)) => panic!("nobody closed"),
                            }
                            thread::yield_now();
                        }
                    }
                })
            });
            let mut next = [0; 4];
            while next.iter().any(|next| *next < items) {
                if let Some(item) = consumer.pop() {
                    let (who, value) = *item;
                    assert_eq!(next[who as usize], value);
                    next[who as usize] += 1;
                } else {
                    register_thread(&waker);
                    if consumer.doze() == Doze::Asleep {
                        park(None);
                    }
                }
            }
            assert_eq!(consumer.pop(), None);
            pushing.into_iter().for_each(|p| p.join().unwrap());
        });
    }
}

/// Every loss is told once, in whole runs that follow each other.
#[test]
fn stress_gap() {
    let cell = GapCell::new();
    let taken_back = AtomicU64::new(0);
    let ended = AtomicU64::new(0);
    thread::scope(|scope| {
        let losing = scope.spawn(|| {
            for id in 1..=STRESS_ITEMS {
                let loss = Run {
                    from: id,
                    to: id,
                    count: 1,
                    reason: 0,
                };
                while !cell.extend(0, loss) {}
                if id % 7 == 0 {
                    let run = cell.take_back();
                    taken_back.fetch_add(run.map_or(0, |run| run.count), Ordering::Relaxed);
                }
            }
            ended.store(1, Ordering::Release);
        });
        let mut taken = 0;
        let mut last = 0;
        loop {
            let ended = ended.load(Ordering::Acquire) != 0;
            match cell.take(0) {
                Some(run) => {
                    assert!(run.from > last, "{run:?} after {last}");
                    assert_eq!(run.count, run.to - run.from + 1, "{run:?}");
                    (last, taken) = (run.to, taken + run.count);
                }
                None if ended => break,
                None => {}
            }
        }
        losing.join().unwrap();
        assert_eq!(taken + taken_back.load(Ordering::Relaxed), STRESS_ITEMS);
    });
}

#[test]
fn rings_can_be_sent_and_producers_shared() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    sent::<spsc::Producer<std::cell::Cell<u8>>>();
    sent::<spsc::Consumer<std::cell::Cell<u8>>>();
    shared::<mpsc::Producers<std::cell::Cell<u8>>>();
    sent::<mpsc::Consumer<std::cell::Cell<u8>>>();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_operations_agree_with_the_judges(data in prop::collection::vec(any::<u8>(), 1..300)) {
        check_ops(&data);
    }
    #[test]
    fn the_evicting_ring_agrees_with_its_judge(
        kind in 0..32_u8,
        data in prop::collection::vec(any::<u8>(), 1..400),
    ) {
        let ops = [&[128 | kind << 2 | 3], &data[..]].concat();
        check_ops(&ops);
    }
}
