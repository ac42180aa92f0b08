//! The ring that evicts under every schedule. How to run and read the models: [`crate::sync::explore`].

use super::law::{Told, at_most, ids, parts};
use super::{Amount, Consumer, Producer, ring_from};
use crate::park::{park, register_thread, wake_registered};
use crate::ring::support::Drops;
use crate::sync::explore::{Steps, explore, explore_bounded};
use crate::sync::{Arc, AtomicU64, AtomicWaker, Ordering, thread};

/// An item that loom watches: whoever gets it must see it written, and be done with it before it is dropped.
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
        // Not by `new`: loom does not ask whether that came before.
        item.first_id.with_mut(|id| *id = first_id);
        Box::new(item)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.first_id.with_mut(|id| *id = 0);
        self.drops.one();
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
        self.ring.commit().expect("nobody else closes it")
    }

    /// Evicts down to so much, if it is more.
    fn evict(&mut self, bound: Amount) {
        self.steps.step();
        self.evicted += self.ring.evict(bound, ids, |item, parts| {
            assert_eq!(item.first_id.load(Ordering::Relaxed), parts.base);
        });
    }

    /// As a feed does.
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
    told: Told,
    steps: Steps,
    claims: u64,
}

impl Claiming {
    /// Takes what is at the front, and checks that it comes in its place.
    fn claim(&mut self) -> bool {
        self.steps.step();
        let Some(claimed) = self.ring.claim() else {
            return false;
        };
        let first_id = claimed.item.first_id.load(Ordering::Relaxed);
        assert_eq!(
            first_id, claimed.parts.base,
            "the item that its parts are of"
        );
        self.told.claim(&claimed);
        self.claims += 1;
        true
    }
}

fn ring(first_cells: usize, capacity: usize) -> (Pushing, Claiming) {
    let (producer, consumer) = ring_from(first_cells, capacity);
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
        told: Told::default(),
        steps,
        claims: 0,
    };
    (pushing, claiming)
}

/// `push` against some claims: each item goes to one side, is dropped there, and what was lost is told in its place. Then the
/// consumer reads what is left.
fn against_claims(
    name: &str,
    (first_cells, capacity): (usize, usize),
    claims: usize,
    push: impl Fn(&mut Pushing) + Copy + Send + Sync + 'static,
) {
    explore(name, move || {
        let (mut pushing, mut claiming) = ring(first_cells, capacity);
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
        claiming.told.end(pushing.next_id - 1, pushing.evicted);
        assert_eq!(drops.count(), pushing.pushed);
    });
}

/// One item waits at most: each push evicts the one in front, unless it is claimed. The cells come round.
#[test]
fn loom_evicting_evict_against_claim() {
    against_claims("evicting ring of 1", (2, 1), 2, |pushing| {
        for _ in 0..3 {
            pushing.offer(1, 1);
        }
    });
}

/// Up to two wait: the run of the evicted is one, whether it is two items at once or one after the other.
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

/// The parts of an item go one by one while the consumer claims that item.
#[test]
fn loom_evicting_cut_against_claim() {
    against_claims("evicting ring of 4, parts", (4, 4), 2, |pushing| {
        pushing.offer(3, 4);
        pushing.offer(2, 4);
        pushing.offer(2, 3);
    });
}

/// An item is cut, and then goes whole, and the next is cut.
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

/// By bytes items go whole, whatever their parts; the last one stays, although it is too heavy.
#[test]
fn loom_evicting_bytes_against_claim() {
    against_claims("evicting ring of 8, bytes", (4, 8), 2, |pushing| {
        let bound = Amount { parts: 8, bytes: 1 };
        for _ in 0..3 {
            pushing.push(2);
            pushing.commit();
            pushing.evict(bound);
        }
    });
}

/// The ring is copied to one twice as long while the consumer reads the old one.
#[test]
fn loom_evicting_growth_against_claim() {
    against_claims("evicting ring of 1 to 4 cells", (1, 3), 2, |pushing| {
        for _ in 0..3 {
            pushing.push(1);
            pushing.commit();
        }
    });
}

/// The same, and what is copied is evicted, or cut, in between: what was lost is told from the new cells.
#[test]
fn loom_evicting_growth_and_evict_against_claim() {
    against_claims(
        "evicting ring of 1 to 4 cells, full",
        (1, 2),
        2,
        |pushing| {
            pushing.offer(1, 2);
            pushing.offer(2, 2);
            pushing.offer(1, 2);
        },
    );
}

/// The front has a run in front of it when it is copied.
#[test]
fn loom_evicting_growth_behind_a_run() {
    against_claims(
        "evicting ring of 2 to 4 cells, behind a run",
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

/// The cell that the consumer reads is written anew, twice, before its CAS.
#[test]
fn loom_evicting_laps_against_claim() {
    against_claims("evicting ring of 1, two laps", (2, 1), 1, |pushing| {
        for _ in 0..5 {
            pushing.offer(1, 1);
        }
    });
}

/// The consumer sleeps when there is nothing, and reads to the end: no wake-up is lost, also of a commit in the midst of a
/// round, whose answer is kept until the end of the round.
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
            if claiming.ring.request_wake() {
                park(None);
            }
        }
        assert!(!claiming.claim(), "finished is finished");
        let pushing = pushing.join().unwrap();
        claiming.told.end(pushing.next_id - 1, pushing.evicted);
        assert_eq!(drops.count(), pushing.pushed);
    });
}

#[test]
fn loom_evicting_doze_against_commit() {
    sleeps("evicting ring of 1, a consumer that sleeps", 1, &[1, 1], 1);
}

#[test]
fn loom_evicting_doze_against_rounds() {
    sleeps("evicting ring of 2, woken once a round", 2, &[1, 2, 1], 2);
}

/// Whoever looks for the end finds it behind the last item, and not before.
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
        assert!(!claiming.claim(), "finished is finished");
        claiming.told.end(2, pushing.join().unwrap());
        drop(claiming);
        assert_eq!(drops.count(), 3);
    });
}

/// The consumer goes while the producer pushes and evicts; what is then left goes with the ring.
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

/// The producer goes with items published and staged, and the consumer some time after.
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
        // Whoever is last drops the rest.
        drop(claiming);
        pushing.join().unwrap();
        assert_eq!(drops.count(), 3);
    });
}
