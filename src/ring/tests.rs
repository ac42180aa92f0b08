use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;

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

#[test]
fn the_corpus_passes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/ring_ops");
    let files: Vec<_> = std::fs::read_dir(path).expect(path).collect();
    assert!(
        !files.is_empty() && files.len() < 100,
        "{} files",
        files.len()
    );
    for file in files {
        check_ops(&std::fs::read(file.unwrap().path()).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_operations_agree_with_the_judges(data in prop::collection::vec(any::<u8>(), 1..300)) {
        check_ops(&data);
    }
}
