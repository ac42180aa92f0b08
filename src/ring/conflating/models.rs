//! Models of the conflating ring. How to run and read them: [`crate::sync::explore`].

use super::*;
use crate::park::{park, register_thread, wake_registered};
use crate::ring::support::Drops;
use crate::sync::explore::{Steps, explore};
use crate::sync::{AtomicU64, AtomicWaker, thread};

/// An item whose accesses loom checks: the producer writes it, the side that gets it reads it, and
/// its drop fails if an access of another thread does not happen before.
struct Item {
    slot: usize,
    /// The number of the item among those put into this slot, from 1.
    number: AtomicU64,
    superseded: AtomicU64,
    drops: Drops,
}

impl Drop for Item {
    fn drop(&mut self) {
        self.number.with_mut(|number| *number = 0);
        self.superseded.with_mut(|superseded| *superseded = 0);
        self.drops.add_one();
    }
}

impl Item {
    /// Slot, number, and how many items it replaced.
    fn contents(&self) -> (usize, u64, u64) {
        (
            self.slot,
            self.number.load(Ordering::Relaxed),
            self.superseded.load(Ordering::Relaxed),
        )
    }
}

const SLOTS: usize = 2;

/// A producer with its slots and its counts, as a shard keeps them.
struct Putting {
    ring: Producer<Box<Item>>,
    slots: [Slot<Box<Item>>; SLOTS],
    /// By slot: items put, and how many the last one replaced.
    put: [(u64, u64); SLOTS],
    replaced: u64,
    evicted: u64,
    /// The evicted items, and those that they had replaced.
    represented: u64,
    drops: Drops,
    steps: Steps,
}

fn ring_with_slots(capacity: usize) -> (Putting, Consumer<Box<Item>>) {
    let (producer, consumer) = ring(capacity);
    let putting = Putting {
        ring: producer,
        slots: [Slot::new(0), Slot::new(1)],
        put: [(0, 0); SLOTS],
        replaced: 0,
        evicted: 0,
        represented: 0,
        drops: Drops::default(),
        steps: Steps::new(),
    };
    (putting, consumer)
}

impl Putting {
    fn put(&mut self, slot: usize) {
        let (items, superseded) = &mut self.put[slot];
        *items += 1;
        let item = Box::new(Item {
            slot,
            number: AtomicU64::new(*items),
            superseded: AtomicU64::new(u64::MAX),
            drops: self.drops.clone(),
        });
        let before = *superseded;
        let steps = &self.steps;
        let replaced = self.ring.put(&self.slots[slot], item, |item, replaces| {
            *superseded = if replaces { before + 1 } else { 0 };
            item.superseded.store(*superseded, Ordering::Relaxed);
            steps.step();
        });
        if let Some(replaced) = replaced {
            // Reading the item must not race with another thread.
            assert_eq!(replaced.contents(), (slot, *items - 1, before));
            self.replaced += 1;
        }
    }

    /// `true`: the consumer has requested a wake-up.
    fn commit(&mut self) -> bool {
        self.steps.step();
        self.ring.commit() == Ok(true)
    }

    fn evict(&mut self, left: u64) {
        self.steps.step();
        let id = |slot: u32| self.put[slot as usize].0;
        self.ring.evict(left, id, |slot, item| {
            let (slot_of_item, _, superseded) = item.contents();
            assert_eq!(slot_of_item, slot as usize);
            self.evicted += 1;
            self.represented += superseded + 1;
        });
    }

    fn items_put(&self) -> u64 {
        self.put.iter().map(|(items, _)| items).sum()
    }
}

/// What the consumer has popped.
#[derive(Default)]
struct Received {
    /// By slot: the number of the last item.
    last: [u64; SLOTS],
    items: u64,
    /// The items, and those that they had replaced.
    represented: u64,
    lost: u64,
    /// Nothing is evicted, so each item has replaced all since the previous one of its slot.
    exact: bool,
}

impl Received {
    fn pop(&mut self, consumer: &mut Consumer<Box<Item>>) -> bool {
        let Some(popped) = consumer.pop() else {
            return false;
        };
        let (slot, number, superseded) = popped.item.contents();
        let before = std::mem::replace(&mut self.last[slot], number);
        assert!(before + superseded < number, "{number} after {before}");
        assert!(!self.exact || before + superseded + 1 == number);
        self.items += 1;
        self.represented += superseded + 1;
        self.lost += popped.lost.map_or(0, |run| run.count);
        true
    }

    /// Everything was popped: every item went to exactly one side, and is accounted for exactly
    /// once.
    fn end(&self, putting: &Putting) {
        let put = putting.items_put();
        assert_eq!(self.items + putting.replaced + putting.evicted, put);
        assert_eq!(self.represented + putting.represented, put);
        assert_eq!(self.lost, putting.evicted);
        assert_eq!(putting.drops.count(), put);
        assert!(putting.slots.iter().all(Slot::is_empty));
    }
}

/// Items are put into the slots in `before`. Then the producer does `produce`, while the consumer
/// pops `times` times.
fn against_pops(
    name: &str,
    capacity: usize,
    before: &'static [usize],
    times: usize,
    exact: bool,
    produce: fn(&mut Putting),
) {
    explore(name, move || {
        let (mut putting, mut consumer) = ring_with_slots(capacity);
        let steps = putting.steps.clone();
        before.iter().for_each(|&slot| putting.put(slot));
        assert!(!putting.commit());
        let producing = thread::spawn(move || {
            produce(&mut putting);
            putting.commit();
            putting
        });
        let mut received = Received {
            exact,
            ..Received::default()
        };
        for _ in 0..times {
            steps.step();
            received.pop(&mut consumer);
        }
        let putting = producing.join().unwrap();
        while received.pop(&mut consumer) {}
        received.end(&putting);
    });
}

/// One slot: its item is replaced, perhaps between the two halves of a pop; or it was popped, and
/// the slot is filled again.
#[test]
fn loom_conflating_replace_against_pop() {
    against_pops(
        "conflating ring: replace against pop",
        1,
        &[0],
        2,
        true,
        |putting| {
            putting.put(0);
            putting.commit();
            putting.put(0);
        },
    );
}

/// Two slots: the item of a slot that is claimed and not emptied yet is replaced, while the other
/// slot is filled behind it.
#[test]
fn loom_conflating_two_slots() {
    against_pops(
        "conflating ring: two slots",
        2,
        &[0, 1],
        2,
        true,
        |putting| {
            putting.put(0);
            putting.put(1);
            putting.commit();
            putting.put(0);
        },
    );
}

/// Either side takes the first slot out of the order, and the slot is filled again at once.
#[test]
fn loom_conflating_evict_against_pop() {
    against_pops(
        "conflating ring: evict against pop",
        2,
        &[0, 1],
        2,
        false,
        |putting| {
            putting.evict(1);
            putting.put(0);
            putting.commit();
            putting.evict(1);
        },
    );
}

/// A replacement is evicted, and an evicted slot is filled again, in a ring of capacity 1.
#[test]
fn loom_conflating_replace_and_evict_against_pop() {
    against_pops(
        "conflating ring: replace and evict against pop",
        1,
        &[0],
        2,
        false,
        |putting| {
            putting.put(0);
            putting.put(1);
            putting.commit();
            putting.evict(1);
            putting.put(0);
            putting.commit();
            putting.evict(1);
        },
    );
}

/// The consumer is dropped, with items in the slots: the committed ones are dropped, and the
/// producer continues.
#[test]
fn loom_conflating_consumer_drop() {
    explore("conflating ring: the consumer is dropped", || {
        let (mut putting, mut consumer) = ring_with_slots(2);
        let steps = putting.steps.clone();
        putting.put(0);
        putting.put(1);
        assert!(!putting.commit());
        let producing = thread::spawn(move || {
            putting.put(1);
            putting.put(0);
            putting
        });
        steps.step();
        drop(consumer.pop());
        steps.step();
        drop(consumer);
        let mut putting = producing.join().unwrap();
        let left = putting.ring.waiting();
        let drops = putting.drops.clone();
        assert_eq!(drops.count(), 4 - left);
        let filled = putting.slots.iter().filter(|slot| !slot.is_empty());
        assert_eq!(filled.count() as u64, left, "the staged ones");
        drop(putting);
        assert_eq!(drops.count(), 4);
    });
}

/// The producer is dropped, with items that are committed and others that are not.
#[test]
fn loom_conflating_producer_drop() {
    explore("conflating ring: the producer is dropped", || {
        let (mut putting, mut consumer) = ring_with_slots(2);
        let (drops, steps) = (putting.drops.clone(), putting.steps.clone());
        let producing = thread::spawn(move || {
            putting.put(0);
            putting.commit();
            putting.put(0);
            putting.put(1);
            putting.steps.step();
        });
        let mut received = Received::default();
        while !consumer.is_finished() {
            steps.step();
            if !received.pop(&mut consumer) {
                thread::yield_now();
            }
        }
        producing.join().unwrap();
        // The second item replaced the first, or came after it and was never published.
        assert_eq!(received.items, 1);
        assert!((1..=2).contains(&received.represented));
        drop(consumer);
        assert_eq!(drops.count(), 3);
    });
}

/// The consumer sleeps when the ring is empty. It is woken when a slot is filled, not when an item
/// is replaced.
#[test]
fn loom_conflating_request_wake_against_put() {
    explore("conflating ring: a consumer that sleeps", || {
        let (mut putting, mut consumer) = ring_with_slots(1);
        let waker = Arc::new(AtomicWaker::new());
        let producing = {
            let waker = waker.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    putting.put(0);
                    if putting.ring.has_staged() && putting.commit() {
                        wake_registered(&waker);
                    }
                }
                if putting.ring.close() {
                    wake_registered(&waker);
                }
                putting
            })
        };
        let mut received = Received {
            exact: true,
            ..Received::default()
        };
        while !consumer.is_finished() {
            if !received.pop(&mut consumer) {
                register_thread(&waker);
                if consumer.request_wake() == Readiness::Empty {
                    park(None);
                }
            }
        }
        let putting = producing.join().unwrap();
        received.end(&putting);
    });
}
