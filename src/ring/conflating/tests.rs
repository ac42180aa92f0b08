use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::park::{park, register_thread, wake_registered};
use crate::ring::support::{Drops, STRESS_ITEMS};
use crate::sync::{AtomicU64, AtomicWaker, thread};

/// How many random sequences of steps are tried, and the longest of them.
const CASES_AND_STEPS: (u32, usize) = if cfg!(miri) { (5, 40) } else { (1000, 200) };

/// An item that says what it replaced, as an event of a shadow does, and counts its drop.
struct Item {
    slot: usize,
    /// The number of the item among those put into this slot, from 1.
    number: u64,
    superseded: AtomicU64,
    drops: Drops,
}

impl Drop for Item {
    fn drop(&mut self) {
        self.drops.add_one();
    }
}

/// Number, and how many items it replaced.
type Contents = (u64, u64);

impl Item {
    fn contents(&self) -> Contents {
        (self.number, self.superseded.load(Ordering::Relaxed))
    }
}

/// A producer with its slots and its counts, as a shard keeps them.
struct Putting {
    ring: Producer<Box<Item>>,
    slots: Vec<Slot<Box<Item>>>,
    /// By slot: items put, and how many the last one replaced.
    put: Vec<(u64, u64)>,
    replaced: u64,
    drops: Drops,
}

fn ring_with_slots(slots: usize, capacity: usize) -> (Putting, Consumer<Box<Item>>) {
    let (producer, consumer) = ring(capacity);
    let putting = Putting {
        ring: producer,
        slots: (0..slots as u32).map(Slot::new).collect(),
        put: vec![(0, 0); slots],
        replaced: 0,
        drops: Drops::default(),
    };
    (putting, consumer)
}

impl Putting {
    /// Puts the next item into a slot. Returns what it replaced.
    fn put(&mut self, slot: usize) -> Option<Contents> {
        let (items, superseded) = &mut self.put[slot];
        *items += 1;
        let item = Box::new(Item {
            slot,
            number: *items,
            superseded: AtomicU64::new(u64::MAX),
            drops: self.drops.clone(),
        });
        let before = *superseded;
        let mut mark = |item: &Item, replaces| {
            *superseded = if replaces { before + 1 } else { 0 };
            item.superseded.store(*superseded, Ordering::Relaxed);
        };
        let replaced = self.ring.put(&self.slots[slot], item, |item, replaces| {
            mark(item, replaces)
        })?;
        self.replaced += 1;
        Some(replaced.contents())
    }

    /// Returns which slots were evicted, and what was in them.
    fn evict(&mut self, left: u64) -> Vec<(u32, Contents)> {
        let mut evicted = Vec::new();
        let id = |slot: u32| self.put[slot as usize].0;
        let count = self.ring.evict(left, id, |slot, item| {
            evicted.push((slot, item.contents()));
        });
        assert_eq!(count, evicted.len() as u64);
        evicted
    }
}

/// The naive model of a ring: a list of slots, with what is in them.
#[derive(Default)]
struct Naive {
    slots: Vec<Option<Contents>>,
    /// By slot: items put.
    put: Vec<u64>,
    /// The filled slots, of which the first `committed` are committed.
    order: VecDeque<usize>,
    committed: usize,
    /// What was evicted and not reported yet.
    lost: Option<Lost>,
    removed: u64,
}

/// Lowest id, highest id, and count.
type Lost = (u64, u64, u64);

impl Naive {
    fn put(&mut self, slot: usize) -> Option<Contents> {
        self.put[slot] += 1;
        let item = &mut self.slots[slot];
        let replaced = *item;
        *item = Some((
            self.put[slot],
            replaced.map_or(0, |(_, superseded)| superseded + 1),
        ));
        if replaced.is_none() {
            self.order.push_back(slot);
        }
        replaced
    }

    fn remove_first(&mut self) -> (usize, Contents) {
        let slot = self.order.pop_front().expect("the order is not empty");
        self.committed -= 1;
        self.removed += 1;
        (slot, self.slots[slot].take().expect("it is filled"))
    }

    fn pop(&mut self) -> Option<(Contents, Option<Lost>)> {
        (self.committed > 0).then(|| (self.remove_first().1, self.lost.take()))
    }

    fn evict(&mut self, left: u64) -> Vec<(u32, Contents)> {
        let mut evicted = Vec::new();
        while self.order.len() as u64 > left.max(1) {
            let (slot, contents) = self.remove_first();
            let id = contents.0;
            let (first_id, last_id, count) = self.lost.unwrap_or((id, id, 0));
            self.lost = Some((first_id.min(id), last_id.max(id), count + 1));
            evicted.push((slot as u32, contents));
        }
        evicted
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(usize),
    Commit,
    Pop,
    Evict(u64),
}

const SLOTS: usize = 5;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..SLOTS).prop_map(Step::Put),
        2 => Just(Step::Commit),
        3 => Just(Step::Pop),
        1 => (0..=SLOTS as u64).prop_map(Step::Evict),
    ];
    prop::collection::vec(step, 1..CASES_AND_STEPS.1)
}

fn check(steps: &[Step], producer_first: bool) {
    let (mut putting, mut consumer) = ring_with_slots(SLOTS, SLOTS);
    let drops = putting.drops.clone();
    let mut naive = Naive {
        slots: vec![None; SLOTS],
        put: vec![0; SLOTS],
        ..Naive::default()
    };
    for step in steps {
        match *step {
            Step::Put(slot) => assert_eq!(putting.put(slot), naive.put(slot)),
            Step::Commit => {
                assert_eq!(putting.ring.commit(), Ok(false));
                naive.committed = naive.order.len();
            }
            Step::Pop => {
                let popped = consumer.pop().map(|popped| {
                    let lost = popped
                        .lost
                        .map(|run| (run.first_id, run.last_id, run.count));
                    (popped.item.contents(), lost)
                });
                assert_eq!(popped, naive.pop());
            }
            Step::Evict(left) => {
                assert_eq!(putting.ring.commit(), Ok(false));
                naive.committed = naive.order.len();
                assert_eq!(putting.evict(left), naive.evict(left));
            }
        }
        let staged = naive.order.len() != naive.committed;
        assert_eq!(putting.ring.has_staged(), staged);
        assert_eq!(putting.ring.waiting(), naive.order.len() as u64);
        assert_eq!(putting.ring.removed(), naive.removed);
        for (slot, item) in putting.slots.iter().zip(&naive.slots) {
            assert_eq!(slot.is_empty(), item.is_none());
        }
        let (put, inside) = (naive.put.iter().sum::<u64>(), naive.order.len() as u64);
        assert_eq!(drops.count(), put - inside);
    }
    let put: u64 = naive.put.iter().sum();
    let inside = naive.order.len() as u64;
    if producer_first {
        drop(putting);
        let committed = naive.committed as u64;
        assert_eq!(
            drops.count(),
            put - committed,
            "what was committed can still be popped"
        );
        while let Some((expected, _)) = naive.pop() {
            let popped = consumer.pop().map(|popped| popped.item.contents());
            assert_eq!(popped, Some(expected));
        }
        assert!(consumer.pop().is_none() && consumer.is_finished());
        drop(consumer);
    } else {
        drop(consumer);
        let left = inside - naive.committed as u64;
        assert_eq!(
            drops.count(),
            put - left,
            "the drop of the consumer empties the committed slots"
        );
        let filled = putting.slots.iter().filter(|slot| !slot.is_empty());
        assert_eq!(filled.count() as u64, left);
        drop(putting);
    }
    assert_eq!(drops.count(), put, "each once");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES_AND_STEPS.0,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn a_ring_agrees_with_a_list(steps in steps(), producer_first: bool) {
        check(&steps, producer_first);
    }
}

/// Two threads: every item goes to exactly one side, the numbers of each slot rise, and each item
/// says exactly how many it replaced.
#[test]
fn stress_conflating() {
    for (slots, capacity, pace) in [(1, 1, 1), (2, 2, 3), (3, 2, 1), (8, 8, 40), (20, 5, 7)] {
        let evicts = slots > capacity;
        let waker = AtomicWaker::new();
        let (mut putting, mut consumer) = ring_with_slots(slots, capacity);
        let drops = putting.drops.clone();
        thread::scope(|scope| {
            let pushing = scope.spawn(|| {
                let (mut evicted, mut represented) = (0, 0);
                for n in 0..STRESS_ITEMS {
                    let slot = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize % slots;
                    putting.put(slot);
                    let mut wake_requested = false;
                    if putting.ring.waiting() > capacity as u64 {
                        wake_requested |= putting.ring.commit() == Ok(true);
                        for (_, (_, superseded)) in putting.evict(capacity as u64) {
                            evicted += 1;
                            represented += superseded + 1;
                        }
                    }
                    if n % pace == 0 || wake_requested {
                        wake_requested |= putting.ring.commit() == Ok(true);
                    }
                    if wake_requested {
                        wake_registered(&waker);
                    }
                    if n % 64 == 0 {
                        thread::yield_now();
                    }
                }
                let wake_requested = putting.ring.commit() == Ok(true);
                if putting.ring.close() || wake_requested {
                    wake_registered(&waker);
                }
                (putting.replaced, evicted, represented)
            });
            let (mut popped, mut represented, mut lost) = (0, 0, 0);
            let mut last = vec![0; slots];
            loop {
                if let Some(Popped { item, lost: run }) = consumer.pop() {
                    let (number, superseded) = item.contents();
                    lost += run.map_or(0, |run| run.count);
                    popped += 1;
                    represented += superseded + 1;
                    let before = std::mem::replace(&mut last[item.slot], number);
                    assert!(before + superseded < number);
                    assert!(evicts || before + superseded + 1 == number);
                    (0..popped % 50).for_each(|_| std::hint::spin_loop());
                } else if consumer.is_finished() {
                    break;
                } else {
                    register_thread(&waker);
                    if consumer.request_wake() == Readiness::Empty {
                        park(None);
                    }
                }
            }
            let (replaced, evicted, represented_by_evicted) = pushing.join().unwrap();
            assert_eq!(lost, evicted, "every eviction is reported");
            assert_eq!(popped + evicted + replaced, STRESS_ITEMS);
            assert_eq!(represented + represented_by_evicted, STRESS_ITEMS);
            assert!(evicts || evicted == 0);
        });
        drop(consumer);
        assert_eq!(drops.count(), STRESS_ITEMS);
    }
}

#[test]
fn both_sides_can_be_sent() {
    fn sent<T: Send>() {}
    sent::<Producer<Box<Item>>>();
    sent::<Consumer<Box<Item>>>();
    sent::<Slot<Box<Item>>>();
}

#[test]
fn a_wake_request_is_reported_for_a_filled_slot_and_not_for_a_replaced_item() {
    let (mut putting, mut consumer) = ring_with_slots(2, 2);
    assert_eq!(consumer.request_wake(), Readiness::Empty);
    assert_eq!(putting.put(0), None);
    assert_eq!(putting.put(0), Some((1, 0)));
    assert_eq!(putting.ring.commit(), Ok(true));
    assert_eq!(putting.put(0), Some((2, 1)));
    assert!(!putting.ring.has_staged(), "the slot keeps its place");
    assert_eq!(consumer.request_wake(), Readiness::Ready);
    let popped = consumer.pop().map(|popped| popped.item.contents());
    assert_eq!(popped, Some((3, 2)));
    assert_eq!(putting.put(0), None);
    assert!(consumer.pop().is_none(), "not committed");
    assert!(putting.ring.close(), "the request was not cleared");
    assert!(consumer.is_finished());
}
