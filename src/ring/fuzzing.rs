//! What the fuzz target checks. It is here so that the tests replay the corpus through the same
//! code.

use std::collections::VecDeque;
use std::rc::Rc;

use super::evicting::{self, PartSet, Size};
use super::gap::{GapCell, LossRun};
use super::mpsc::{self, PushError};
use super::spsc::{self, Closed, Readiness};

/// The rings and the gap cell do what a `VecDeque` and an `Option` do, under any sequence of
/// operations.
///
/// The first byte chooses the structure and, for a ring, its capacity and whether it has to grow;
/// each further byte is an operation, which for the evicting ring also uses the byte behind it as
/// an operand.
///
/// # Panics
///
/// If one of them behaves differently, or if an item is dropped twice or not at all.
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
        _ if first < 128 => check_gap(ops),
        _ => {
            let first_slots = [1, 2, 4, 16][usize::from(first / 4 % 4)];
            let capacity = [1, 2, 3, 5, 8, 63, 64, 65][usize::from(first / 16 % 8)];
            check_evicting(first_slots, capacity, ops);
        }
    }
}

/// An item. The references to its `Rc` count how many items are alive.
#[derive(Debug)]
struct Item(
    u64,
    #[expect(dead_code, reason = "held to be counted")] Rc<()>,
);

/// Makes items with rising numbers, and counts those that are alive.
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

/// The reference model of the single-producer ring.
#[derive(Default)]
struct Spsc {
    published: VecDeque<u64>,
    staged: VecDeque<u64>,
    /// Items popped whose slots are not given back yet.
    held: usize,
    pushed: u64,
    popped: u64,
    closed: bool,
    consumer_asleep: bool,
    producer_asleep: bool,
}

fn check_spsc(first_slots: usize, capacity: usize, ops: &[u8]) {
    let mut items = Items::new();
    let (mut producer, mut consumer) = spsc::ring_with_first_slots(first_slots, capacity);
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
                let expected = if ready {
                    Readiness::Ready
                } else {
                    Readiness::Empty
                };
                assert_eq!(consumer.request_wake(), expected);
                judge.consumer_asleep = true;
            }
            12 => {
                producer.request_wake();
                judge.producer_asleep = true;
            }
            13 => {
                let wake_requested = std::mem::take(&mut judge.producer_asleep);
                let flag = if op & 16 == 0 {
                    consumer.take_wake_request()
                } else {
                    producer.take_wake_request()
                };
                assert_eq!(flag, wake_requested);
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
    // The consumer has requested a wake-up for the item at its position.
    let mut wake_requested = false;
    for &op in ops {
        match op % 8 {
            0..=2 => {
                let item = items.item();
                let number = item.0;
                match producers.try_push(item) {
                    Ok(reported) => {
                        assert!(!closed && judge.len() < len);
                        assert_eq!(reported, wake_requested && judge.is_empty());
                        wake_requested &= !reported;
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
                let expected = if ready {
                    Readiness::Ready
                } else {
                    Readiness::Empty
                };
                assert_eq!(consumer.request_wake(), expected);
                // If an item is there, the request is in the stamp of its slot, and `pop` clears
                // it.
                wake_requested = judge.is_empty();
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

/// The reference model of the evicting ring: an item is a list of its parts.
#[derive(Default)]
struct Evicting {
    /// Published ones first.
    items: VecDeque<Waiting>,
    staged: usize,
    /// Evicted since the last claim.
    lost: Option<LossRun>,
    closed: bool,
    wake_requested: bool,
}

struct Waiting {
    number: u64,
    parts: PartSet,
    /// Ids of the parts that were not cut off.
    ids: VecDeque<u64>,
    /// Ids of the parts that were cut off, lowest first.
    cut: Vec<u64>,
    bytes: u64,
}

impl Evicting {
    fn waiting(&self) -> Size {
        Size {
            parts: self.items.iter().map(|item| item.ids.len() as u64).sum(),
            bytes: self.items.iter().map(|item| item.bytes).sum(),
        }
    }

    /// Evicts part by part, or whole items if there are too many bytes. Returns how many parts were
    /// evicted, and the items that were evicted whole.
    fn evict(&mut self, bound: Size) -> (u64, Vec<Waiting>) {
        let before = self.waiting().parts;
        let mut gone = Vec::new();
        loop {
            let waiting = self.waiting();
            let is_too_heavy = waiting.bytes > bound.bytes;
            let is_last = self.items.len() == 1;
            let Some(oldest) = self.items.front_mut() else {
                break;
            };
            let goes_whole = !is_last && (is_too_heavy || oldest.ids.len() == 1);
            if !is_too_heavy && waiting.parts <= bound.parts {
                break;
            } else if goes_whole {
                oldest.cut.extend(oldest.ids.drain(..));
                for &id in &oldest.cut {
                    extend(&mut self.lost, id);
                }
                gone.extend(self.items.pop_front());
            } else if waiting.parts > bound.parts && oldest.ids.len() > 1 {
                oldest.cut.extend(oldest.ids.pop_front());
            } else {
                break;
            }
        }
        (before - self.waiting().parts, gone)
    }
}

fn extend(lost: &mut Option<LossRun>, id: u64) {
    let run = lost.get_or_insert(LossRun {
        first_id: id,
        last_id: id,
        count: 0,
        reason: 0,
    });
    (run.last_id, run.count) = (id, run.count + 1);
}

/// 1 to 64 parts: few, many, in a row or not.
fn mask_of(byte: u8, number: u64) -> u64 {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(byte);
    let len = u32::from(byte % 64);
    match byte / 64 {
        0 => 1 << len,
        1 => u64::MAX >> len,
        2 => u64::MAX << len,
        _ => spread | 1 << len,
    }
}

fn ids_of(parts: PartSet) -> impl DoubleEndedIterator<Item = u64> {
    let bits = (0..64).filter(move |bit| parts.mask & (1 << bit) != 0);
    bits.map(move |bit| parts.base + bit)
}

fn check_evicting(first_slots: usize, capacity: usize, ops: &[u8]) {
    let mut items = Items::new();
    let (mut producer, mut consumer) =
        evicting::ring_with_first_slots::<Box<Item>>(first_slots, capacity);
    let mut judge = Evicting::default();
    let name = |parts| {
        let mut ids = ids_of(parts);
        let first = ids.next().expect("a part");
        (first, ids.next_back().unwrap_or(first))
    };
    let operands = ops.iter().skip(1).chain([&0]);
    for (&op, &operand) in ops.iter().zip(operands) {
        match op % 8 {
            // One item more than the capacity may be pushed, as by a feed, which then evicts at
            // once.
            0..=2 if judge.items.len() <= capacity => {
                let item = items.item();
                let number = item.0;
                let parts = PartSet {
                    mask: mask_of(operand, number),
                    base: number * 64,
                };
                let bytes = [0, 1, 7, 100][usize::from(op / 8 % 4)];
                producer.push(Box::new(item), parts, bytes);
                judge.items.push_back(Waiting {
                    number,
                    parts,
                    ids: ids_of(parts).collect(),
                    cut: Vec::new(),
                    bytes,
                });
                judge.staged += 1;
            }
            3 if !judge.closed => {
                assert_eq!(producer.commit(), Ok(judge.wake_requested));
                (judge.staged, judge.wake_requested) = (0, false);
            }
            4 if judge.staged == 0 => {
                let bound = Size {
                    parts: u64::from(operand) % (2 * capacity as u64) + 1,
                    bytes: [u64::MAX, 200, 7, 0][usize::from(op / 8 % 4)],
                };
                let (parts, gone) = judge.evict(bound);
                let mut gone = gone.into_iter();
                let evicted = producer.evict(bound, name, |item, parts| {
                    let expected = gone.next().expect("the model evicts it, too");
                    assert_eq!((item.0, parts), (expected.number, expected.parts));
                });
                assert!(gone.next().is_none(), "every item that the model evicts");
                assert_eq!(evicted, parts);
            }
            5 | 6 => {
                let expected = if judge.items.len() > judge.staged {
                    judge.items.pop_front()
                } else {
                    None
                };
                let claimed = consumer.claim();
                assert_eq!(claimed.is_some(), expected.is_some());
                if let (Some(claimed), Some(expected)) = (claimed, expected) {
                    assert_eq!(claimed.item.0, expected.number);
                    assert_eq!(claimed.parts, expected.parts);
                    assert_eq!(claimed.cut as usize, expected.cut.len());
                    assert_eq!(claimed.lost, judge.lost.take());
                }
            }
            7 if op & 0xf8 == 0xf8 => {
                assert_eq!(producer.close(), judge.wake_requested);
                judge.closed = true;
            }
            7 if op & 8 == 0 => {
                let is_empty = judge.items.len() == judge.staged;
                let expected = if is_empty && !judge.closed {
                    Readiness::Empty
                } else {
                    Readiness::Ready
                };
                assert_eq!(consumer.request_wake(), expected);
                judge.wake_requested = true;
            }
            7 => {
                let is_empty = judge.items.len() == judge.staged;
                assert_eq!(consumer.is_finished(), is_empty && judge.closed);
            }
            _ => {}
        }
        assert_eq!(producer.waiting(), judge.waiting());
        items.assert_alive(judge.items.len());
    }
    if ops.len().is_multiple_of(2) {
        drop(producer);
        items.assert_alive(judge.items.len() - judge.staged);
        drop(consumer);
    } else {
        drop(consumer);
        items.assert_alive(judge.staged);
        // What is published now is dropped with the ring.
        assert_eq!(producer.commit().is_err(), judge.closed);
        drop(producer);
    }
    items.assert_alive(0);
}

fn check_gap(ops: &[u8]) {
    let cell = GapCell::new();
    let mut judge: Option<(u64, LossRun)> = None;
    let mut id = 0;
    for &op in ops {
        let position = u64::from(op / 16 % 4);
        let lies_here = judge.filter(|(at, _)| *at == position).map(|(_, run)| run);
        match op % 4 {
            0 => {
                id += 1;
                let loss = LossRun {
                    first_id: id,
                    last_id: id + position,
                    count: 1 + position,
                    reason: op / 4 % 2,
                };
                id = loss.last_id;
                assert!(
                    cell.open_or_extend(position, loss),
                    "no consumer took it meanwhile"
                );
                let (_, run) = judge.get_or_insert((position, LossRun { count: 0, ..loss }));
                (run.last_id, run.count) = (loss.last_id, run.count + loss.count);
            }
            1 => assert_eq!(cell.take_back(), judge.take().map(|(_, run)| run)),
            2 => {
                assert_eq!(cell.take(position), lies_here);
                judge = judge.filter(|(at, _)| *at != position);
            }
            _ => assert_eq!(cell.is_open_at(position), lies_here.is_some()),
        }
    }
}
