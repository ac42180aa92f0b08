//! Models of the evicting ring. How to run and read them: [`crate::sync::explore`].

use super::invariants::{Reported, at_most, ids, parts};
use super::{Consumer, Producer, Size, ring_with_first_slots};
use crate::park::{park, register_thread, wake_registered};
use crate::ring::support::Drops;
use crate::ring::tail::Readiness;
use crate::sync::explore::{Steps, explore, explore_bounded};
use crate::sync::{Arc, AtomicU64, AtomicWaker, Ordering, thread};

/// An item whose accesses loom checks: the side that gets it must see what was written, and must be
/// done with it before it is dropped.
struct Item {
    first_id: AtomicU64,
    drops: Drops,
}

impl Item {
    fn new(first_id: u64, drops: &Drops) -> Box<Self> {
        let mut item = Self {
            first_id: AtomicU64::new(0),
            drops: drops.clone(),
        };
        // Written here and not by `new`: loom does not check whether `new` happens before a read.
        item.first_id.with_mut(|id| *id = first_id);
        Box::new(item)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.first_id.with_mut(|id| *id = 0);
        self.drops.add_one();
    }
}

/// The side that pushes.
struct Pushing {
    ring: Producer<Box<Item>>,
    drops: Drops,
    steps: Steps,
    next_id: u64,
    pushed: u64,
    evicted: u64,
}

impl Pushing {
    fn push(&mut self, len: u32) {
        let item = Item::new(self.next_id, &self.drops);
        self.ring
            .push(item, parts(self.next_id, len), u64::from(len));
        self.next_id += u64::from(len);
        self.pushed += 1;
    }

    fn commit(&mut self) -> bool {
        self.steps.step();
        self.ring.commit().expect("no other thread closes it")
    }

    /// Evicts until the ring is within the bound.
    fn evict(&mut self, bound: Size) {
        self.steps.step();
        self.evicted += self.ring.evict(bound, ids, |item, parts| {
            assert_eq!(item.first_id.load(Ordering::Relaxed), parts.base);
        });
    }

    /// Pushes, commits and evicts, as a feed does.
    fn offer(&mut self, len: u32, bound: u64) -> bool {
        self.push(len);
        let wake_requested = self.commit();
        self.evict(at_most(bound));
        wake_requested
    }
}

/// The side that claims.
struct Claiming {
    ring: Consumer<Box<Item>>,
    reported: Reported,
    steps: Steps,
    claims: u64,
}

impl Claiming {
    /// Takes the front item, and checks that nothing is missing in front of it.
    fn claim(&mut self) -> bool {
        self.steps.step();
        let Some(claimed) = self.ring.claim() else {
            return false;
        };
        let first_id = claimed.item.first_id.load(Ordering::Relaxed);
        assert_eq!(first_id, claimed.parts.base, "the parts belong to the item");
        self.reported.claim(&claimed);
        self.claims += 1;
        true
    }
}

fn ring(first_slots: usize, capacity: usize) -> (Pushing, Claiming) {
    let (producer, consumer) = ring_with_first_slots(first_slots, capacity);
    let steps = Steps::new();
    let pushing = Pushing {
        ring: producer,
        drops: Drops::default(),
        steps: steps.clone(),
        next_id: 1,
        pushed: 0,
        evicted: 0,
    };
    let claiming = Claiming {
        ring: consumer,
        reported: Reported::default(),
        steps,
        claims: 0,
    };
    (pushing, claiming)
}

/// `push` runs against some claims: each item goes to one side, which drops it, and every loss is
/// reported in order. Then the consumer reads what is left.
fn against_claims(
    name: &str,
    (first_slots, capacity): (usize, usize),
    claims: usize,
    push: impl Fn(&mut Pushing) + Copy + Send + Sync + 'static,
) {
    explore(name, move || {
        let (mut pushing, mut claiming) = ring(first_slots, capacity);
        let drops = pushing.drops.clone();
        let pushing = thread::spawn(move || {
            push(&mut pushing);
            pushing
        });
        for _ in 0..claims {
            claiming.claim();
        }
        let pushing = pushing.join().unwrap();
        while claiming.claim() {}
        assert!(!claiming.ring.is_finished());
        claiming.reported.end(pushing.next_id - 1, pushing.evicted);
        assert_eq!(drops.count(), pushing.pushed);
    });
}

/// At most one item waits: each push evicts the item in front, unless it is claimed. Slots are used
/// again.
#[test]
fn loom_evicting_evict_against_claim() {
    against_claims("evicting ring of 1", (2, 1), 2, |pushing| {
        for _ in 0..3 {
            pushing.offer(1, 1);
        }
    });
}

/// Up to three items wait. Items that are evicted, two at once or one after the other, are one run.
#[test]
fn loom_evicting_runs_against_claim() {
    against_claims("evicting ring of 3, runs", (4, 3), 2, |pushing| {
        for _ in 0..3 {
            pushing.push(1);
        }
        pushing.commit();
        pushing.evict(at_most(1));
        pushing.offer(1, 1);
    });
}

/// Parts of an item are cut off while the consumer claims that item.
#[test]
fn loom_evicting_cut_against_claim() {
    against_claims("evicting ring of 4, parts", (4, 4), 2, |pushing| {
        pushing.offer(3, 4);
        pushing.offer(2, 4);
        pushing.offer(2, 3);
    });
}

/// Parts of an item are cut off, then the item is evicted, and parts of the next item are cut off.
#[test]
fn loom_evicting_cut_and_whole_against_claim() {
    against_claims(
        "evicting ring of 2, parts and items",
        (4, 2),
        2,
        |pushing| {
            pushing.offer(3, 2);
            pushing.offer(1, 2);
            pushing.offer(2, 2);
        },
    );
}

/// The bound on bytes evicts whole items, whatever their parts. The last one stays, although it is
/// too heavy.
#[test]
fn loom_evicting_bytes_against_claim() {
    against_claims("evicting ring of 8, bytes", (4, 8), 2, |pushing| {
        let bound = Size { parts: 8, bytes: 1 };
        for _ in 0..3 {
            pushing.push(2);
            pushing.commit();
            pushing.evict(bound);
        }
    });
}

/// The ring is copied to a buffer of twice the length while the consumer reads the old one.
#[test]
fn loom_evicting_growth_against_claim() {
    against_claims("evicting ring of 1 to 4 slots", (1, 3), 2, |pushing| {
        for _ in 0..3 {
            pushing.push(1);
            pushing.commit();
        }
    });
}

/// The same, and copied items are evicted, or parts of them are cut off, in between: the consumer
/// reads the losses from the new slots.
#[test]
fn loom_evicting_growth_and_evict_against_claim() {
    against_claims(
        "evicting ring of 1 to 4 slots, full",
        (1, 2),
        2,
        |pushing| {
            pushing.offer(1, 2);
            pushing.offer(2, 2);
            pushing.offer(1, 2);
        },
    );
}

/// There is a run in front of the front item when that is copied.
#[test]
fn loom_evicting_growth_behind_a_run() {
    against_claims(
        "evicting ring of 2 to 4 slots, behind a run",
        (2, 3),
        2,
        |pushing| {
            pushing.offer(1, 3);
            pushing.offer(1, 1);
            pushing.offer(1, 3);
            pushing.offer(1, 3);
        },
    );
}

/// The slot that the consumer reads is written again, twice, before its CAS.
#[test]
fn loom_evicting_laps_against_claim() {
    against_claims("evicting ring of 1, two laps", (2, 1), 1, |pushing| {
        for _ in 0..5 {
            pushing.offer(1, 1);
        }
    });
}

/// The consumer sleeps when there is nothing, and reads to the end. No wake-up is lost, also if a
/// commit in the middle of a round reports the request, and the producer wakes at the end of the
/// round.
fn sleeps(name: &str, capacity: usize, lens: &'static [u32], rounds: usize) {
    explore_bounded(name, 2, move || {
        let waker = Arc::new(AtomicWaker::new());
        let (mut pushing, mut claiming) = ring(2, capacity);
        let drops = pushing.drops.clone();
        let pushing = {
            let waker = waker.clone();
            thread::spawn(move || {
                let mut wake_requested = false;
                for (number, &len) in lens.iter().enumerate() {
                    wake_requested |= pushing.offer(len, capacity as u64);
                    if number % rounds == rounds - 1 && std::mem::take(&mut wake_requested) {
                        wake_registered(&waker);
                    }
                }
                wake_requested |= pushing.ring.close();
                if wake_requested {
                    wake_registered(&waker);
                }
                pushing
            })
        };
        loop {
            if claiming.claim() {
                continue;
            }
            if claiming.ring.is_finished() {
                break;
            }
            register_thread(&waker);
            if claiming.ring.request_wake() == Readiness::Empty {
                park(None);
            }
        }
        assert!(!claiming.claim(), "nothing comes after the end");
        let pushing = pushing.join().unwrap();
        claiming.reported.end(pushing.next_id - 1, pushing.evicted);
        assert_eq!(drops.count(), pushing.pushed);
    });
}

#[test]
fn loom_evicting_request_wake_against_commit() {
    sleeps("evicting ring of 1, a consumer that sleeps", 1, &[1, 1], 1);
}

#[test]
fn loom_evicting_request_wake_against_rounds() {
    sleeps("evicting ring of 2, woken once a round", 2, &[1, 2, 1], 2);
}

/// The consumer sees the end of the ring behind the last item, and not earlier.
#[test]
fn loom_evicting_close_against_claim() {
    explore("evicting ring: close against claim", || {
        let (mut pushing, mut claiming) = ring(2, 1);
        let drops = pushing.drops.clone();
        let pushing = thread::spawn(move || {
            pushing.offer(1, 1);
            pushing.offer(1, 1);
            // Staged and never published.
            pushing.push(1);
            pushing.steps.step();
            pushing.evicted
        });
        while !claiming.ring.is_finished() {
            if !claiming.claim() {
                thread::yield_now();
            }
        }
        assert!(!claiming.claim(), "nothing comes after the end");
        claiming.reported.end(2, pushing.join().unwrap());
        drop(claiming);
        assert_eq!(drops.count(), 3);
    });
}

/// The consumer is dropped while the producer pushes and evicts. What is left then is dropped with
/// the ring.
#[test]
fn loom_evicting_consumer_drop() {
    explore("evicting ring: the consumer is dropped", || {
        let (mut pushing, mut claiming) = ring(1, 2);
        let drops = pushing.drops.clone();
        let pushing = thread::spawn(move || {
            for _ in 0..4 {
                pushing.offer(1, 2);
            }
        });
        claiming.claim();
        claiming.steps.step();
        drop(claiming);
        pushing.join().unwrap();
        assert_eq!(drops.count(), 4);
    });
}

/// The producer is dropped with items published and staged, and the consumer before or after it.
#[test]
fn loom_evicting_both_drop() {
    explore("evicting ring: both are dropped", || {
        let (mut pushing, mut claiming) = ring(1, 3);
        let drops = pushing.drops.clone();
        pushing.offer(1, 3);
        let pushing = thread::spawn(move || {
            pushing.push(1);
            pushing.commit();
            pushing.push(1);
            pushing.steps.step();
        });
        claiming.claim();
        claiming.steps.step();
        // The last side to be dropped drops the rest.
        drop(claiming);
        pushing.join().unwrap();
        assert_eq!(drops.count(), 3);
    });
}
