#![allow(
    unsafe_code,
    reason = "items for tests, as raw pointers; one of the rooms that ARCHITECTURE.md names"
)]

use std::collections::VecDeque;
use std::ptr::NonNull;

use proptest::prelude::*;

use super::{Consumer, Producer, Slot, ring};
use crate::park::{park, register_thread, wake_registered};
use crate::ring::evicting::Pointer;
use crate::sync::{Arc, AtomicU64, AtomicWaker, Ordering, thread};

/// What the other side of a raw pointer can drop once and no more.
struct Letter(Box<Text>);

struct Text {
    place: usize,
    /// Of all items put into this box: from 1.
    number: u64,
    superseded: AtomicU64,
    drops: Arc<AtomicU64>,
}

// SAFETY: as the documentation of `Box` says.
unsafe impl Pointer for Letter {
    fn into_raw(self) -> NonNull<()> {
        NonNull::from(Box::leak(self.0)).cast()
    }

    unsafe fn from_raw(raw: NonNull<()>) -> Self {
        // SAFETY: from `into_raw`, and once, as the caller promises.
        Self(unsafe { Box::from_raw(raw.cast().as_ptr()) })
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

impl Letter {
    /// Its number, and how many it says that it replaced.
    fn says(&self) -> (u64, u64) {
        (self.0.number, self.0.superseded.load(Ordering::Relaxed))
    }
}

/// A sender that keeps count as a shard does.
struct Office {
    sender: Producer<Letter>,
    boxes: Vec<Slot<Letter>>,
    /// By box: items put, and what the last one says that it replaced.
    put: Vec<(u64, u64)>,
    replaced: u64,
    drops: Arc<AtomicU64>,
}

fn office(boxes: usize, capacity: usize) -> (Office, Consumer<Letter>) {
    let (sender, receiver) = ring(capacity);
    let office = Office {
        sender,
        boxes: (0..boxes as u32).map(Slot::new).collect(),
        put: vec![(0, 0); boxes],
        replaced: 0,
        drops: Arc::new(AtomicU64::new(0)),
    };
    (office, receiver)
}

impl Office {
    /// Puts the next item into a box. Returns what it replaced.
    fn put(&mut self, number: usize) -> Option<(u64, u64)> {
        let (items, superseded) = &mut self.put[number];
        *items += 1;
        let item = Letter(Box::new(Text {
            place: number,
            number: *items,
            superseded: AtomicU64::new(u64::MAX),
            drops: self.drops.clone(),
        }));
        let before = *superseded;
        let mark = |item: &Letter, replaces| {
            *superseded = if replaces { before + 1 } else { 0 };
            item.0.superseded.store(*superseded, Ordering::Relaxed);
        };
        let replaced = self.sender.put(&self.boxes[number], item, mark)?;
        self.replaced += 1;
        Some(replaced.says())
    }

    /// Returns which boxes were evicted, with what was in them.
    fn evict(&mut self, left: u64) -> Vec<(u32, (u64, u64))> {
        let mut gone = Vec::new();
        let name = |number: u32| self.put[number as usize].0;
        let evicted = self.sender.evict(left, name, |number, item| {
            gone.push((number, item.says()));
        });
        assert_eq!(evicted, gone.len() as u64);
        gone
    }
}

/// The same, as a list of boxes and what is in them.
#[derive(Default)]
struct Plain {
    boxes: Vec<Option<(u64, u64)>>,
    put: Vec<u64>,
    /// The boxes that are full, of which so many are committed.
    order: VecDeque<usize>,
    committed: usize,
    /// What was evicted and not told yet.
    lost: Option<Lost>,
    gone: u64,
}

/// Lowest and highest, and how many.
type Lost = (u64, u64, u64);

impl Plain {
    fn put(&mut self, number: usize) -> Option<(u64, u64)> {
        self.put[number] += 1;
        let item = &mut self.boxes[number];
        let replaced = *item;
        *item = Some((
            self.put[number],
            replaced.map_or(0, |(_, superseded)| superseded + 1),
        ));
        if replaced.is_none() {
            self.order.push_back(number);
        }
        replaced
    }

    fn leave(&mut self) -> (usize, (u64, u64)) {
        let number = self.order.pop_front().expect("something waits");
        self.committed -= 1;
        self.gone += 1;
        (number, self.boxes[number].take().expect("full"))
    }

    fn take(&mut self) -> Option<((u64, u64), Option<Lost>)> {
        (self.committed > 0).then(|| (self.leave().1, self.lost.take()))
    }

    fn evict(&mut self, left: u64) -> Vec<(u32, (u64, u64))> {
        let mut evicted = Vec::new();
        while self.order.len() as u64 > left.max(1) {
            let (number, item) = self.leave();
            let id = item.0;
            let (from, to, count) = self.lost.unwrap_or((id, id, 0));
            self.lost = Some((from.min(id), to.max(id), count + 1));
            evicted.push((number as u32, item));
        }
        evicted
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(usize),
    Commit,
    Take,
    Evict(u64),
}

const BOXES: usize = 5;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..BOXES).prop_map(Step::Put),
        2 => Just(Step::Commit),
        3 => Just(Step::Take),
        1 => (0..=BOXES as u64).prop_map(Step::Evict),
    ];
    prop::collection::vec(step, 1..200)
}

fn check(steps: &[Step], sender_first: bool) {
    let (mut office, mut receiver) = office(BOXES, BOXES);
    let drops = office.drops.clone();
    let mut plain = Plain {
        boxes: vec![None; BOXES],
        put: vec![0; BOXES],
        ..Plain::default()
    };
    for step in steps {
        match *step {
            Step::Put(number) => assert_eq!(office.put(number), plain.put(number)),
            Step::Commit => {
                assert_eq!(office.sender.commit(), Ok(false));
                plain.committed = plain.order.len();
            }
            Step::Take => {
                let taken = receiver.take().map(|taken| {
                    let lost = taken.lost.map(|run| (run.from, run.to, run.count));
                    (taken.item.says(), lost)
                });
                assert_eq!(taken, plain.take());
            }
            Step::Evict(left) => {
                assert_eq!(office.sender.commit(), Ok(false));
                plain.committed = plain.order.len();
                assert_eq!(office.evict(left), plain.evict(left));
            }
        }
        let staged = plain.order.len() != plain.committed;
        assert_eq!(office.sender.has_staged(), staged);
        assert_eq!(office.sender.waiting(), plain.order.len() as u64);
        assert_eq!(office.sender.gone(), plain.gone);
        for (place, item) in office.boxes.iter().zip(&plain.boxes) {
            assert_eq!(place.is_empty(), item.is_none());
        }
        let (put, inside) = (plain.put.iter().sum::<u64>(), plain.order.len() as u64);
        assert_eq!(drops.load(Ordering::Relaxed), put - inside);
    }
    let put: u64 = plain.put.iter().sum();
    let inside = plain.order.len() as u64;
    if sender_first {
        drop(office);
        let committed = plain.committed as u64;
        assert_eq!(
            drops.load(Ordering::Relaxed),
            put - committed,
            "what was committed is left to be read"
        );
        while let Some(expected) = plain.take() {
            assert_eq!(
                receiver.take().map(|taken| taken.item.says()),
                Some(expected.0)
            );
        }
        assert!(receiver.take().is_none() && receiver.is_finished());
        drop(receiver);
    } else {
        drop(receiver);
        let left = inside - plain.committed as u64;
        assert_eq!(
            drops.load(Ordering::Relaxed),
            put - left,
            "whoever goes empties the boxes"
        );
        let full = office.boxes.iter().filter(|place| !place.is_empty());
        assert_eq!(full.count() as u64, left);
        drop(office);
    }
    assert_eq!(drops.load(Ordering::Relaxed), put, "each once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_mailbox_agrees_with_a_list(steps in steps(), sender_first: bool) {
        check(&steps, sender_first);
    }
}

/// Two real threads: every item goes to exactly one side, per box the numbers rise, and each says exactly how many came
/// before it since the last that was not replaced.
#[test]
fn stress_mailbox() {
    const LETTERS: u64 = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    for (boxes, capacity, pace) in [(1, 1, 1), (2, 2, 3), (3, 2, 1), (8, 8, 40), (20, 5, 7)] {
        let evicts = boxes > capacity;
        let waker = AtomicWaker::new();
        let (mut office, mut receiver) = office(boxes, capacity);
        let drops = office.drops.clone();
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let (mut evicted, mut stood_for) = (0, 0);
                for n in 0..LETTERS {
                    let number = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize % boxes;
                    office.put(number);
                    let mut wake_requested = false;
                    if office.sender.waiting() > capacity as u64 {
                        wake_requested |= office.sender.commit() == Ok(true);
                        for (_, (_, superseded)) in office.evict(capacity as u64) {
                            evicted += 1;
                            stood_for += superseded + 1;
                        }
                    }
                    if n % pace == 0 || wake_requested {
                        wake_requested |= office.sender.commit() == Ok(true);
                    }
                    if wake_requested {
                        wake_registered(&waker);
                    }
                    if n % 64 == 0 {
                        thread::yield_now();
                    }
                }
                let wake_requested = office.sender.commit() == Ok(true);
                if office.sender.close() || wake_requested {
                    wake_registered(&waker);
                }
                (office.replaced, evicted, stood_for)
            });
            let (mut taken, mut stood_for, mut lost) = (0, 0, 0);
            let mut last = vec![0; boxes];
            loop {
                if let Some(item) = receiver.take() {
                    let (number, superseded) = item.item.says();
                    lost += item.lost.map_or(0, |run| run.count);
                    taken += 1;
                    stood_for += superseded + 1;
                    let before = std::mem::replace(&mut last[item.item.0.place], number);
                    assert!(before + superseded < number);
                    assert!(evicts || before + superseded + 1 == number);
                    (0..taken % 50).for_each(|_| std::hint::spin_loop());
                } else if receiver.is_finished() {
                    break;
                } else {
                    register_thread(&waker);
                    if receiver.request_wake() {
                        park(None);
                    }
                }
            }
            let (replaced, evicted, evicted_for) = sending.join().unwrap();
            assert_eq!(lost, evicted, "all that was evicted is told");
            assert_eq!(taken + evicted + replaced, LETTERS);
            assert_eq!(stood_for + evicted_for, LETTERS, "to the item");
            assert!(evicts || evicted == 0);
        });
        drop(receiver);
        assert_eq!(drops.load(Ordering::Relaxed), LETTERS);
    }
}

#[test]
fn a_mailbox_can_be_sent() {
    fn sent<T: Send>() {}
    sent::<Producer<Letter>>();
    sent::<Consumer<Letter>>();
    sent::<Slot<Letter>>();
}

#[test]
fn who_sleeps_is_told_of_a_box_and_not_of_a_replaced_letter() {
    let (mut office, mut receiver) = office(2, 2);
    assert!(receiver.request_wake(), "nothing is there");
    assert_eq!(office.put(0), None);
    assert_eq!(office.put(0), Some((1, 0)));
    assert_eq!(office.sender.commit(), Ok(true));
    assert_eq!(office.put(0), Some((2, 1)));
    assert!(!office.sender.has_staged(), "it keeps its place");
    assert!(!receiver.request_wake());
    assert_eq!(receiver.take().map(|taken| taken.item.says()), Some((3, 2)));
    assert_eq!(office.put(0), None);
    assert!(receiver.take().is_none(), "not committed");
    assert!(
        office.sender.close(),
        "the wish of the request_wake still stood"
    );
    assert!(receiver.is_finished());
}
