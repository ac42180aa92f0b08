//! The conflating ring under every schedule. How to run and read them: [`crate::sync::explore`].

#![allow(
    unsafe_code,
    reason = "items for models, as raw pointers; one of the rooms that ARCHITECTURE.md names"
)]

use std::ptr::NonNull;

use super::{Consumer, Producer, Slot, ring};
use crate::park::{park, register_thread, wake_registered};
use crate::ring::evicting::Pointer;
use crate::sync::explore::{Steps, explore};
use crate::sync::unmodelled::AtomicU64 as Number;
use crate::sync::{Arc, AtomicU64, AtomicWaker, Ordering, thread};

/// What loom watches: its number and what it replaced are written by the sender, read by whoever has it, and gone with it.
struct Letter(Box<Text>);

struct Text {
    place: usize,
    /// Of all items put into this box: from 1.
    number: AtomicU64,
    superseded: AtomicU64,
    drops: Arc<Number>,
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
        // Fails if what another thread did with it does not come before.
        self.number.with_mut(|number| *number = 0);
        self.superseded.with_mut(|superseded| *superseded = 0);
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

impl Letter {
    /// Its box, its number there, and how many it says that it replaced.
    fn says(&self) -> (usize, u64, u64) {
        let Text {
            place,
            number,
            superseded,
            ..
        } = &*self.0;
        (
            *place,
            number.load(Ordering::Relaxed),
            superseded.load(Ordering::Relaxed),
        )
    }
}

const BOXES: usize = 2;

/// The sending side, which keeps count as a shard does.
struct Office {
    sender: Producer<Letter>,
    boxes: [Slot<Letter>; BOXES],
    /// By box: items put, and what the last one says that it replaced.
    put: [(u64, u64); BOXES],
    replaced: u64,
    evicted: u64,
    /// Of those that were evicted: themselves, and what they had replaced.
    stood_for: u64,
    drops: Arc<Number>,
    steps: Steps,
}

fn office(capacity: usize) -> (Office, Consumer<Letter>) {
    let (sender, receiver) = ring(capacity);
    let office = Office {
        sender,
        boxes: [Slot::new(0), Slot::new(1)],
        put: [(0, 0); BOXES],
        replaced: 0,
        evicted: 0,
        stood_for: 0,
        drops: Arc::new(Number::new(0)),
        steps: Steps::new(),
    };
    (office, receiver)
}

impl Office {
    fn put(&mut self, place: usize) {
        let (items, superseded) = &mut self.put[place];
        *items += 1;
        let item = Letter(Box::new(Text {
            place,
            number: AtomicU64::new(*items),
            superseded: AtomicU64::new(u64::MAX),
            drops: self.drops.clone(),
        }));
        let before = *superseded;
        let steps = &self.steps;
        let replaced = self.sender.put(&self.boxes[place], item, |item, replaces| {
            *superseded = if replaces { before + 1 } else { 0 };
            item.0.superseded.store(*superseded, Ordering::Relaxed);
            steps.step();
        });
        if let Some(replaced) = replaced {
            // Reading what we took back must not race with anybody.
            assert_eq!(replaced.says(), (place, *items - 1, before));
            self.replaced += 1;
        }
    }

    /// `true`: the consumer has requested a wake-up.
    fn commit(&mut self) -> bool {
        self.steps.step();
        self.sender.commit() == Ok(true)
    }

    fn evict(&mut self, left: u64) {
        self.steps.step();
        let name = |number: u32| self.put[number as usize].0;
        self.sender.evict(left, name, |number, item| {
            let (place, _, superseded) = item.says();
            assert_eq!(place, number as usize);
            self.evicted += 1;
            self.stood_for += superseded + 1;
        });
    }

    fn put_in_all(&self) -> u64 {
        self.put.iter().map(|(items, _)| items).sum()
    }
}

/// What the receiver had.
#[derive(Default)]
struct Had {
    last: [u64; BOXES],
    taken: u64,
    stood_for: u64,
    lost: u64,
    /// Nothing is evicted: then each item says exactly how many came before it.
    exact: bool,
}

impl Had {
    fn take(&mut self, receiver: &mut Consumer<Letter>) -> bool {
        let Some(taken) = receiver.take() else {
            return false;
        };
        let (place, number, superseded) = taken.item.says();
        let before = std::mem::replace(&mut self.last[place], number);
        assert!(before + superseded < number, "{number} after {before}");
        assert!(!self.exact || before + superseded + 1 == number);
        self.taken += 1;
        self.stood_for += superseded + 1;
        self.lost += taken.lost.map_or(0, |run| run.count);
        true
    }

    /// Everything was taken: every item put went to exactly one side, and is told of exactly once.
    fn end(&self, office: &Office) {
        let put = office.put_in_all();
        assert_eq!(self.taken + office.replaced + office.evicted, put);
        assert_eq!(self.stood_for + office.stood_for, put);
        assert_eq!(self.lost, office.evicted);
        assert_eq!(office.drops.load(Ordering::Relaxed), put);
        assert!(office.boxes.iter().all(Slot::is_empty));
    }
}

/// What the sender does while the receiver takes `times`, after what is there before.
fn sending(
    name: &str,
    capacity: usize,
    before: &'static [usize],
    times: usize,
    exact: bool,
    send: fn(&mut Office),
) {
    explore(name, move || {
        let (mut office, mut receiver) = office(capacity);
        let steps = office.steps.clone();
        before.iter().for_each(|&place| office.put(place));
        assert!(!office.commit());
        let sending = thread::spawn(move || {
            send(&mut office);
            office.commit();
            office
        });
        let mut had = Had {
            exact,
            ..Had::default()
        };
        for _ in 0..times {
            steps.step();
            had.take(&mut receiver);
        }
        let office = sending.join().unwrap();
        while had.take(&mut receiver) {}
        had.end(&office);
    });
}

/// One box: its item is replaced, in the last moment perhaps, or was taken, and the box is filled anew.
#[test]
fn loom_mailbox_replace_against_take() {
    sending(
        "mailbox: replace against take",
        1,
        &[0],
        2,
        true,
        |office| {
            office.put(0);
            office.commit();
            office.put(0);
        },
    );
}

/// Two boxes: what is claimed and not yet emptied is replaced while another is filled behind it.
#[test]
fn loom_mailbox_two_boxes() {
    sending("mailbox: two boxes", 2, &[0, 1], 2, true, |office| {
        office.put(0);
        office.put(1);
        office.commit();
        office.put(0);
    });
}

/// The sender takes the first box out of the order, or the receiver does; and the box is filled again at once.
#[test]
fn loom_mailbox_evict_against_take() {
    sending(
        "mailbox: evict against take",
        2,
        &[0, 1],
        2,
        false,
        |office| {
            office.evict(1);
            office.put(0);
            office.commit();
            office.evict(1);
        },
    );
}

/// What was replaced is evicted, and what was evicted is put again: three at once in a mailbox for one.
#[test]
fn loom_mailbox_replace_and_evict_against_take() {
    sending(
        "mailbox: replace and evict against take",
        1,
        &[0],
        2,
        false,
        |office| {
            office.put(0);
            office.put(1);
            office.commit();
            office.evict(1);
            office.put(0);
            office.commit();
            office.evict(1);
        },
    );
}

/// The receiver goes, with items in its boxes: nobody keeps them, and the sender goes on as before.
#[test]
fn loom_mailbox_receiver_drop() {
    explore("mailbox: the receiver is dropped", || {
        let (mut office, mut receiver) = office(2);
        let steps = office.steps.clone();
        office.put(0);
        office.put(1);
        assert!(!office.commit());
        let sending = thread::spawn(move || {
            office.put(1);
            office.put(0);
            office
        });
        steps.step();
        drop(receiver.take());
        steps.step();
        drop(receiver);
        let mut office = sending.join().unwrap();
        let left = office.sender.waiting();
        let drops = office.drops.clone();
        assert_eq!(drops.load(Ordering::Relaxed), 4 - left);
        let full = office.boxes.iter().filter(|place| !place.is_empty());
        assert_eq!(full.count() as u64, left, "those that are staged");
        drop(office);
        assert_eq!(drops.load(Ordering::Relaxed), 4);
    });
}

/// The sender goes, with items that are committed and others that are not.
#[test]
fn loom_mailbox_sender_drop() {
    explore("mailbox: the sender is dropped", || {
        let (mut office, mut receiver) = office(2);
        let (drops, steps) = (office.drops.clone(), office.steps.clone());
        let sending = thread::spawn(move || {
            office.put(0);
            office.commit();
            office.put(0);
            office.put(1);
            office.steps.step();
        });
        let mut had = Had::default();
        while !receiver.is_finished() {
            steps.step();
            if !had.take(&mut receiver) {
                thread::yield_now();
            }
        }
        sending.join().unwrap();
        // The second took the place of the first, or came after it and was never published.
        assert_eq!(had.taken, 1);
        assert!((1..=2).contains(&had.stood_for));
        drop(receiver);
        assert_eq!(drops.load(Ordering::Relaxed), 3);
    });
}

/// The receiver sleeps when nothing is there, and is woken for boxes: not for items, which are there already.
#[test]
fn loom_mailbox_sleep() {
    explore("mailbox: a receiver that sleeps", || {
        let (mut office, mut receiver) = office(1);
        let waker = Arc::new(AtomicWaker::new());
        let sending = {
            let waker = waker.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    office.put(0);
                    if office.sender.has_staged() && office.commit() {
                        wake_registered(&waker);
                    }
                }
                if office.sender.close() {
                    wake_registered(&waker);
                }
                office
            })
        };
        let mut had = Had {
            exact: true,
            ..Had::default()
        };
        while !receiver.is_finished() {
            if !had.take(&mut receiver) {
                register_thread(&waker);
                if receiver.request_wake() {
                    park(None);
                }
            }
        }
        let office = sending.join().unwrap();
        had.end(&office);
    });
}
