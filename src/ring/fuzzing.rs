//! What the fuzz target checks, here so that the tests replay its corpus through the same code.

use std::collections::VecDeque;
use std::rc::Rc;

use super::gap::{GapCell, Run};
use super::mpsc::{self, PushError};
use super::spsc::{self, Closed, Doze};

/// The rings and the gap cell do what a `VecDeque` and an `Option` do, under any sequence of operations.
///
/// The first byte chooses the structure and, for a ring, its capacity and whether it has to grow; each further byte
/// is an operation.
///
/// # Panics
///
/// If one of them does not, or if an item is dropped twice or not at all.
pub fn check_ops(data: &[u8]) {
    const OPS_MAX: usize = 4096;
    let Some((&first, ops)) = data.split_first() else {
        return;
    };
    let ops = &ops[..ops.len().min(OPS_MAX)];
    let capacity = usize::from(first / 4) % 10 + 1;
    match first % 4 {
        0 => check_spsc(1, capacity, ops),
        1 => check_spsc(16, capacity, ops),
        2 => check_mpsc(capacity, ops),
        _ => check_gap(ops),
    }
}

/// An item that counts how many of it there are.
#[derive(Debug)]
struct Item(
    u64,
    #[expect(dead_code, reason = "held to be counted")] Rc<()>,
);

/// Makes items with rising numbers, and knows how many are alive.
struct Items {
    next: u64,
    alive: Rc<()>,
}

impl Items {
    fn new() -> Self {
        Self {
            next: 0,
            alive: Rc::new(()),
        }
    }

    fn item(&mut self) -> Item {
        self.next += 1;
        Item(self.next, self.alive.clone())
    }

    fn assert_alive(&self, expected: usize) {
        assert_eq!(Rc::strong_count(&self.alive) - 1, expected, "items alive");
    }
}

/// The judge of the single-producer ring.
#[derive(Default)]
struct Spsc {
    published: VecDeque<u64>,
    staged: VecDeque<u64>,
    /// Popped, and their slots not given back yet.
    held: usize,
    pushed: u64,
    popped: u64,
    closed: bool,
    consumer_asleep: bool,
    producer_asleep: bool,
}

fn check_spsc(first_slots: usize, capacity: usize, ops: &[u8]) {
    let mut items = Items::new();
    let (mut producer, mut consumer) = spsc::ring_from(first_slots, capacity);
    let mut judge = Spsc::default();
    for &op in ops {
        let used = judge.published.len() + judge.staged.len() + judge.held;
        match op % 16 {
            0..=3 => {
                let item = items.item();
                let number = item.0;
                match producer.push(item) {
                    Ok(()) => {
                        assert!(used < capacity, "{used} of {capacity}");
                        judge.staged.push_back(number);
                        judge.pushed += 1;
                    }
                    Err(back) => assert_eq!((back.0, used), (number, capacity)),
                }
            }
            4 => {
                let number = judge.staged.pop_back();
                judge.pushed -= u64::from(number.is_some());
                assert_eq!(producer.unstage().map(|item| item.0), number);
            }
            5..=6 => {
                if judge.closed {
                    assert_eq!(producer.commit(), Err(Closed));
                } else {
                    assert_eq!(producer.commit(), Ok(judge.consumer_asleep));
                    judge.consumer_asleep = false;
                    judge.published.append(&mut judge.staged);
                }
            }
            7..=9 => {
                let number = judge.published.pop_front();
                assert_eq!(consumer.pop().map(|item| item.0), number);
                judge.held += usize::from(number.is_some());
                judge.popped += u64::from(number.is_some());
            }
            10 => {
                assert_eq!(consumer.release(), judge.producer_asleep);
                judge.held = 0;
            }
            11 => {
                let ready = !judge.published.is_empty() || judge.closed;
                let expected = if ready { Doze::Ready } else { Doze::Asleep };
                assert_eq!(consumer.doze(), expected);
                judge.consumer_asleep = true;
            }
            12 => {
                producer.doze();
                judge.producer_asleep = true;
            }
            13 => {
                let asleep = std::mem::take(&mut judge.producer_asleep);
                let flag = if op & 16 == 0 {
                    consumer.rouse()
                } else {
                    producer.rouse()
                };
                assert_eq!(flag, asleep);
            }
            14 => {
                assert_eq!(producer.room(), capacity - used);
                assert_eq!(consumer.refresh(), judge.published.len());
                assert_eq!(producer.staged_position(), judge.pushed);
                assert_eq!(consumer.position(), judge.popped);
                let finished = judge.closed && judge.published.is_empty();
                assert_eq!(consumer.is_finished(), finished);
            }
            _ if op & 0x70 == 0 => {
                if op & 0x80 == 0 {
                    assert_eq!(producer.close(), judge.consumer_asleep);
                } else {
                    consumer.close();
                }
                judge.closed = true;
            }
            _ => {}
        }
        items.assert_alive(judge.staged.len() + judge.published.len());
    }
    if ops.len().is_multiple_of(2) {
        drop(producer);
        items.assert_alive(judge.published.len());
        assert_eq!(consumer.is_finished(), judge.published.is_empty());
        drop(consumer);
    } else {
        drop(consumer);
        items.assert_alive(judge.staged.len());
        // What is published now is dropped with the ring.
        if producer.commit().is_err() {
            assert!(judge.closed);
        }
        drop(producer);
    }
    items.assert_alive(0);
}

fn check_mpsc(capacity: usize, ops: &[u8]) {
    let len = capacity.next_power_of_two().max(2);
    let mut items = Items::new();
    let (producers, mut consumer) = mpsc::ring(capacity);
    let mut judge = VecDeque::new();
    let mut popped = 0;
    let mut closed = false;
    // The consumer asked to be told of the item at its place.
    let mut asleep = false;
    for &op in ops {
        match op % 8 {
            0..=2 => {
                let item = items.item();
                let number = item.0;
                match producers.try_push(item) {
                    Ok(told) => {
                        assert!(!closed && judge.len() < len);
                        assert_eq!(told, asleep && judge.is_empty());
                        asleep &= !told;
                        judge.push_back(number);
                    }
                    Err(PushError::Full(back)) => {
                        assert_eq!((back.0, judge.len(), closed), (number, len, false));
                    }
                    Err(PushError::Closed(back)) => assert_eq!((back.0, closed), (number, true)),
                }
            }
            3..=5 => {
                let number = judge.pop_front();
                assert_eq!(consumer.pop().map(|item| item.0), number);
                popped += u64::from(number.is_some());
            }
            6 => {
                let ready = !judge.is_empty() || closed;
                let expected = if ready { Doze::Ready } else { Doze::Asleep };
                assert_eq!(consumer.doze(), expected);
                // With an item there, the wish goes with that item.
                asleep = judge.is_empty();
            }
            _ if op & 0xf0 == 0xf0 => {
                consumer.close();
                closed = true;
            }
            _ => {
                assert_eq!(consumer.ready(), judge.len());
                assert_eq!(consumer.position(), popped);
                assert_eq!(consumer.is_finished(), closed && judge.is_empty());
            }
        }
        items.assert_alive(judge.len());
    }
    if ops.len().is_multiple_of(2) {
        drop(producers);
        drop(consumer);
    } else {
        drop(consumer);
        drop(producers);
    }
    items.assert_alive(0);
}

fn check_gap(ops: &[u8]) {
    let cell = GapCell::new();
    let mut judge: Option<(u64, Run)> = None;
    let mut id = 0;
    for &op in ops {
        let position = u64::from(op / 16 % 4);
        let lies_here = judge.filter(|(at, _)| *at == position).map(|(_, run)| run);
        match op % 4 {
            0 => {
                id += 1;
                let loss = Run {
                    from: id,
                    to: id + position,
                    count: 1 + position,
                    reason: op / 4 % 2,
                };
                id = loss.to;
                assert!(cell.extend(position, loss), "nobody took it meanwhile");
                let (_, run) = judge.get_or_insert((position, Run { count: 0, ..loss }));
                (run.to, run.count) = (loss.to, run.count + loss.count);
            }
            1 => assert_eq!(cell.take_back(), judge.take().map(|(_, run)| run)),
            2 => {
                assert_eq!(cell.take(position), lies_here);
                judge = judge.filter(|(at, _)| *at != position);
            }
            _ => assert_eq!(cell.lies_at(position), lies_here.is_some()),
        }
    }
}
