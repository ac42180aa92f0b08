//! The open run of losses at the end of a subscriber's ring.
//!
//! Losses happen while the ring is full, so they cannot be pushed into it. They accumulate in one
//! cell. When the producer has room again, it takes the run back, and pushes it in front of the
//! next item. If the consumer has read everything in front of the run earlier, it takes the run
//! itself. Exactly one of them gets it.
//!
//! ```text
//! state word = version | EMPTY, OPEN or BUSY
//!
//! EMPTY --producer: writes the fields, stores OPEN (version + 1)-------> OPEN
//! OPEN  --producer: CAS to BUSY, extends the fields, stores OPEN (+ 1)--> OPEN
//! OPEN  --producer: reads the fields, CAS to EMPTY (+ 1): took it back--> EMPTY
//! OPEN  --consumer: reads the fields, CAS to EMPTY (+ 1): took it-------> EMPTY
//! ```
//!
//! The fields are atomics. A consumer that reads them while the producer extends the run reads a
//! mixture, which is not undefined behaviour, and its CAS then fails, since the producer changes
//! the state before it changes the fields (as in a [sequence lock][seqlock]). A consumer that finds
//! `BUSY` treats the cell as if the run were not there yet; the producer notifies it afterwards.
//! Neither side waits for the other.
//!
//! A run is reported once. When the consumer took it, the ring was empty. So a producer that finds
//! the run taken has room for the item that it was about to lose.
//!
//! [seqlock]: https://doi.org/10.1145/2247684.2247688 "H.-J. Boehm, Can Seqlocks Get Along with Programming Language Memory Models?, MSPC 2012"

use super::{count, word};
use crate::sync::{AtomicU64, Ordering};

const EMPTY: u64 = 0b00;
const OPEN: u64 = 0b01;
const BUSY: u64 = 0b10;
const TAG: u64 = 0b11;

/// A run of losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LossRun {
    /// Id of the first lost event.
    pub(crate) first_id: u64,
    /// Id of the last lost event, at least `first_id`.
    pub(crate) last_id: u64,
    /// How many events were lost: 1 to 2^56 - 1.
    pub(crate) count: u64,
    /// A code for the reason, whose meaning the user of the ring defines.
    pub(crate) reason: u8,
}

impl LossRun {
    /// Slots that a run takes in a ring.
    pub(crate) const WORDS: usize = 3;

    const REASON_BITS: u32 = u8::BITS;

    /// The run as words, to be pushed into a ring.
    pub(crate) fn to_words(self) -> [u64; Self::WORDS] {
        debug_assert!(self.count < 1 << (64 - Self::REASON_BITS));
        let count_and_reason = self.count << Self::REASON_BITS | u64::from(self.reason);
        [self.first_id, self.last_id, count_and_reason]
    }

    /// The run of which `to_words` made these words.
    pub(crate) fn from_words([first_id, last_id, count_and_reason]: [u64; Self::WORDS]) -> Self {
        Self {
            first_id,
            last_id,
            count: count_and_reason >> Self::REASON_BITS,
            reason: (count_and_reason & u64::from(u8::MAX)) as u8,
        }
    }
}

/// The cell. One thread at a time may call the producer's methods, and one the consumer's.
pub(crate) struct GapCell {
    /// Bits 2 to 63: the version, which rises with every change; bits 0 and 1: `EMPTY`, `OPEN` or
    /// `BUSY`.
    state: AtomicU64,
    /// The position of the ring at which the run stands: behind the last item that was pushed.
    position: AtomicU64,
    /// The fields of the [`LossRun`].
    first_id: AtomicU64,
    last_id: AtomicU64,
    count: AtomicU64,
    reason: AtomicU64,
}

impl GapCell {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU64::new(EMPTY),
            position: AtomicU64::new(0),
            first_id: AtomicU64::new(0),
            last_id: AtomicU64::new(0),
            count: AtomicU64::new(0),
            reason: AtomicU64::new(0),
        }
    }

    /// Producer: adds a loss to the open run or, if there is none, opens one at `position`. A run
    /// keeps the reason of its first loss.
    ///
    /// `false`: nothing was written, because the consumer took the open run just now. So the ring
    /// is empty, and has room for what was about to be lost.
    pub(crate) fn open_or_extend(&self, position: u64, loss: LossRun) -> bool {
        // Acquire, partner the consumer's `transfer`: its reads of the fields come before our
        // writes.
        let state = self.state.load(Ordering::Acquire);
        let version = count(state);
        if state & TAG != EMPTY {
            return self.extend(state, loss);
        }
        self.write(position, loss);
        // Release, partner `take`: the fields belong to this version.
        self.state
            .store(word(version + 1) | OPEN, Ordering::Release);
        true
    }

    /// Producer, which has opened a run and has not taken it back: adds a loss to this run.
    ///
    /// `false`: nothing was written, because the consumer has taken the run. As with
    /// [`open_or_extend`](Self::open_or_extend), the ring has room. A producer that opened a new
    /// run here would open it behind an empty ring, and one run would be reported as two.
    pub(crate) fn extend_open(&self, loss: LossRun) -> bool {
        // Acquire: as in `open_or_extend`; and what the consumer had read when it took the run.
        let state = self.state.load(Ordering::Acquire);
        state & TAG != EMPTY && self.extend(state, loss)
    }

    /// Adds a loss to the run that was open in this state. `false`: the consumer has taken the run.
    fn extend(&self, state: u64, loss: LossRun) -> bool {
        let version = count(state);
        if !self.transfer(state, word(version) | BUSY) {
            return false;
        }
        let run = self.read();
        debug_assert!(run.last_id < loss.first_id, "{loss:?} behind {run:?}");
        let position = self.position.load(Ordering::Relaxed);
        self.write(
            position,
            LossRun {
                last_id: loss.last_id,
                count: run.count + loss.count,
                ..run
            },
        );
        // Release, partner `take`: the fields belong to this version.
        self.state
            .store(word(version + 1) | OPEN, Ordering::Release);
        true
    }

    /// Producer: takes the open run back. `None`: there is none, or the consumer has taken it.
    pub(crate) fn take_back(&self) -> Option<LossRun> {
        // Acquire: as in `open_or_extend`.
        let state = self.state.load(Ordering::Acquire);
        debug_assert!(state & TAG != BUSY, "only this side writes BUSY");
        if state & TAG == EMPTY {
            return None;
        }
        let run = self.read();
        self.transfer(state, word(count(state) + 1) | EMPTY)
            .then_some(run)
    }

    /// Consumer, which has read its ring up to `position`: takes the run that stands there, if any.
    pub(crate) fn take(&self, position: u64) -> Option<LossRun> {
        // Acquire, partner the stores of OPEN: the fields of this version.
        let state = self.state.load(Ordering::Acquire);
        if state & TAG != OPEN || self.position.load(Ordering::Relaxed) != position {
            return None;
        }
        let run = self.read();
        self.transfer(state, word(count(state) + 1) | EMPTY)
            .then_some(run)
    }

    /// Consumer, once the producer will not change the cell any more: the run at this position,
    /// which stays in the cell.
    pub(crate) fn peek(&self, position: u64) -> Option<LossRun> {
        self.is_open_at(position).then(|| self.read())
    }

    /// Any thread, once the producer has written its last run: that run, taken or not. The load by
    /// which the caller knows that it was the last also makes the fields visible.
    pub(crate) fn last_run(&self) -> LossRun {
        self.read()
    }

    /// Consumer: whether `take` would find a run at this position.
    pub(crate) fn is_open_at(&self, position: u64) -> bool {
        // Acquire: as in `take`.
        let state = self.state.load(Ordering::Acquire);
        state & TAG == OPEN && self.position.load(Ordering::Relaxed) == position
    }

    /// Changes the state, unless the other side has changed it.
    fn transfer(&self, from: u64, to: u64) -> bool {
        // AcqRel: the reads of the fields by the side that succeeds stay before this, and the next
        // writes of the other side come after it. So a run that was read under this version was
        // whole. Partner: the other side's `transfer`.
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn read(&self) -> LossRun {
        LossRun {
            first_id: self.first_id.load(Ordering::Relaxed),
            last_id: self.last_id.load(Ordering::Relaxed),
            count: self.count.load(Ordering::Relaxed),
            reason: self.reason.load(Ordering::Relaxed) as u8,
        }
    }

    fn write(&self, position: u64, run: LossRun) {
        debug_assert!(
            run.first_id <= run.last_id && run.count >= 1,
            "a run has events: {run:?}"
        );
        self.position.store(position, Ordering::Relaxed);
        self.first_id.store(run.first_id, Ordering::Relaxed);
        self.last_id.store(run.last_id, Ordering::Relaxed);
        self.count.store(run.count, Ordering::Relaxed);
        self.reason.store(u64::from(run.reason), Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ring::support::STRESS_ITEMS;
    use crate::sync::thread;

    const LOSS: LossRun = LossRun {
        first_id: 5,
        last_id: 6,
        count: 2,
        reason: 1,
    };

    #[test]
    fn a_run_is_the_same_after_a_round_trip_through_words() {
        for run in [
            LOSS,
            LossRun {
                first_id: 1,
                last_id: u64::MAX,
                count: (1 << 56) - 1,
                reason: u8::MAX,
            },
        ] {
            assert_eq!(LossRun::from_words(run.to_words()), run);
        }
    }

    #[test]
    fn a_run_that_is_extended_keeps_its_position_and_its_first_reason() {
        let cell = GapCell::new();
        assert_eq!(cell.take_back(), None);
        assert_eq!(cell.take(0), None);
        assert!(cell.open_or_extend(3, LOSS));
        let later = LossRun {
            first_id: 9,
            last_id: 9,
            count: 1,
            reason: 0,
        };
        assert!(cell.open_or_extend(3, later));
        assert!(!cell.is_open_at(2) && cell.is_open_at(3));
        assert_eq!(cell.take(2), None);
        let whole = LossRun {
            last_id: 9,
            count: 3,
            ..LOSS
        };
        assert_eq!(cell.take(3), Some(whole));
        assert_eq!(cell.take(3), None, "reported once");
        assert!(!cell.extend_open(later), "it was taken");
        assert!(cell.open_or_extend(4, later));
        assert_eq!(cell.take_back(), Some(later));
        assert!(!cell.is_open_at(4));
    }

    /// Every loss is reported once, in whole runs that follow each other.
    #[test]
    fn stress_gap() {
        let cell = GapCell::new();
        let taken_back = AtomicU64::new(0);
        let ended = AtomicU64::new(0);
        thread::scope(|scope| {
            let losing = scope.spawn(|| {
                for id in 1..=STRESS_ITEMS {
                    let loss = LossRun {
                        first_id: id,
                        last_id: id,
                        count: 1,
                        reason: 0,
                    };
                    while !cell.open_or_extend(0, loss) {}
                    if id % 7 == 0 {
                        let run = cell.take_back();
                        taken_back.fetch_add(run.map_or(0, |run| run.count), Ordering::Relaxed);
                    }
                }
                ended.store(1, Ordering::Release);
            });
            let mut taken = 0;
            let mut last_id = 0;
            loop {
                let ended = ended.load(Ordering::Acquire) != 0;
                match cell.take(0) {
                    Some(run) => {
                        assert!(run.first_id > last_id, "{run:?} after {last_id}");
                        assert_eq!(run.count, run.last_id - run.first_id + 1, "{run:?}");
                        (last_id, taken) = (run.last_id, taken + run.count);
                    }
                    None if ended => break,
                    None => {}
                }
            }
            losing.join().unwrap();
            assert_eq!(taken + taken_back.load(Ordering::Relaxed), STRESS_ITEMS);
        });
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::explore::{Steps, explore};
    use crate::sync::{Arc, thread};

    /// A run is whole, and is reported once: the consumer takes it, or the producer takes it back,
    /// or it is left in the cell.
    #[test]
    fn loom_gap_extend_against_take() {
        explore("gap: extend and take back against take", || {
            const LOSSES: u64 = 3;
            let steps = Steps::new();
            let cell = Arc::new(GapCell::new());
            let losing = {
                let (cell, steps) = (cell.clone(), steps.clone());
                thread::spawn(move || {
                    let mut taken_back = Vec::new();
                    for id in 1..=LOSSES {
                        steps.step();
                        let loss = LossRun {
                            first_id: id,
                            last_id: id,
                            count: 1,
                            reason: 0,
                        };
                        while !cell.open_or_extend(7, loss) {}
                        if id == 2 {
                            steps.step();
                            taken_back.extend(cell.take_back());
                        }
                    }
                    taken_back
                })
            };
            let mut runs = Vec::new();
            for _ in 0..2 {
                steps.step();
                runs.extend(cell.take(7));
            }
            runs.extend(losing.join().unwrap());
            assert_eq!(cell.take(6), None, "the run is at another position");
            let left = cell.is_open_at(7);
            assert_eq!(cell.take(7).map(|run| runs.push(run)).is_some(), left);
            runs.sort_by_key(|run| run.first_id);
            let mut next_id = 1;
            for run in runs {
                assert_eq!(run.first_id, next_id, "no id is missing");
                assert_eq!(run.count, run.last_id - run.first_id + 1);
                next_id = run.last_id + 1;
            }
            assert_eq!(next_id, LOSSES + 1, "every loss is reported");
        });
    }
}
