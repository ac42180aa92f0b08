//! The open run of losses at the end of a subscriber's ring.
//!
//! Losses happen when the ring is full, so they cannot be pushed into it. They gather here, in one cell, until
//! either the producer has room again and takes the run back, to push it in front of the next item, or
//! the consumer has read everything in front of the run and takes it. Exactly one of them gets it.
//!
//! ```text
//! state word = version | EMPTY, OPEN or BUSY
//!
//! EMPTY --producer writes the fields, stores OPEN (v+1)--> OPEN
//! OPEN  --producer CAS BUSY, extends the fields, stores OPEN (v+1)--> OPEN
//! OPEN  --producer CAS EMPTY (v+1): takes the run back--> EMPTY
//! OPEN  --consumer reads the fields, CAS EMPTY (v+1): takes the run--> EMPTY
//! ```
//!
//! The fields are atomics, so a consumer that reads while the producer extends reads nonsense, not undefined
//! behaviour, and its CAS then fails: every change of the fields changes the version first. A consumer that
//! finds BUSY treats the cell as not yet there; the producer notifies it afterwards. Nobody waits for
//! anybody, and a run is reported once: when the consumer took it, the ring was empty, so a producer that finds it taken
//! has room for what it was about to lose.

use super::{count, word};
use crate::sync::{AtomicU64, Ordering};

const EMPTY: u64 = 0b00;
const OPEN: u64 = 0b01;
const BUSY: u64 = 0b10;
const TAG: u64 = 0b11;

/// A run of losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Id of the first lost event.
    pub(crate) from: u64,
    /// Id of the last lost event, at least `from`.
    pub(crate) to: u64,
    /// How many were lost, at least 1.
    pub(crate) count: u64,
    /// Why; the meaning is the user's.
    pub(crate) reason: u8,
}

impl Run {
    pub(crate) const WORDS: usize = 3;

    /// To travel in a ring.
    pub(crate) fn to_words(self) -> [u64; Self::WORDS] {
        debug_assert!(self.count < 1 << (64 - Self::REASON_BITS));
        let count_and_reason = self.count << Self::REASON_BITS | u64::from(self.reason);
        [self.from, self.to, count_and_reason]
    }

    /// What `to_words` made.
    pub(crate) fn of_words([from, to, count_and_reason]: [u64; Self::WORDS]) -> Self {
        Self {
            from,
            to,
            count: count_and_reason >> Self::REASON_BITS,
            reason: (count_and_reason & u64::from(u8::MAX)) as u8,
        }
    }

    const REASON_BITS: u32 = u8::BITS;
}

/// The cell. One thread at a time may call the producer's methods, one the consumer's.
pub(crate) struct GapCell {
    state: AtomicU64,
    /// The ring's position behind which the run lies.
    position: AtomicU64,
    from: AtomicU64,
    to: AtomicU64,
    count: AtomicU64,
    reason: AtomicU64,
}

impl GapCell {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU64::new(EMPTY),
            position: AtomicU64::new(0),
            from: AtomicU64::new(0),
            to: AtomicU64::new(0),
            count: AtomicU64::new(0),
            reason: AtomicU64::new(0),
        }
    }

    /// Producer: adds a loss to the open run if there is one, else opens one behind `position`. The run keeps
    /// its first loss's reason.
    ///
    /// `false`: nothing was written, because the consumer has just taken the open run; so the ring is
    /// empty, and there is room for what was about to be lost.
    pub(crate) fn extend(&self, position: u64, loss: Run) -> bool {
        // Acquire, partner the consumer's `transfer`: its reads of the fields come before our writes.
        let state = self.state.load(Ordering::Acquire);
        let version = count(state);
        if state & TAG != EMPTY {
            return self.add_to(state, loss);
        }
        self.write(position, loss);
        // Release, partner `take`: the fields belong to this version.
        self.state
            .store(word(version + 1) | OPEN, Ordering::Release);
        true
    }

    /// Producer, who has opened a run and not taken it back: adds a loss to it.
    ///
    /// `false`: nothing was written, because the consumer has taken the run; as with `extend`, there is room. A producer
    /// that called `extend` here would open a run behind an empty ring, and what was one run would be told as two.
    pub(crate) fn add(&self, loss: Run) -> bool {
        // Acquire: as in `extend`; and what the consumer had read when it took the run.
        let state = self.state.load(Ordering::Acquire);
        state & TAG != EMPTY && self.add_to(state, loss)
    }

    fn add_to(&self, state: u64, loss: Run) -> bool {
        let version = count(state);
        if !self.transfer(state, word(version) | BUSY) {
            return false;
        }
        let run = self.read();
        let position = self.position.load(Ordering::Relaxed);
        self.write(
            position,
            Run {
                to: loss.to,
                count: run.count + loss.count,
                ..run
            },
        );
        // Release, partner `take`: the fields belong to this version.
        self.state
            .store(word(version + 1) | OPEN, Ordering::Release);
        true
    }

    /// Producer: takes the open run back, unless there is none or the consumer took it.
    pub(crate) fn take_back(&self) -> Option<Run> {
        // Acquire: as in `extend`.
        let state = self.state.load(Ordering::Acquire);
        if state & TAG == EMPTY {
            return None;
        }
        let run = self.read();
        self.transfer(state, word(count(state) + 1) | EMPTY)
            .then_some(run)
    }

    /// Consumer, with its ring read up to `position`: takes the run that lies there, if there is one.
    pub(crate) fn take(&self, position: u64) -> Option<Run> {
        // Acquire, partner the stores of OPEN: the fields of this version.
        let state = self.state.load(Ordering::Acquire);
        if state & TAG != OPEN || self.position.load(Ordering::Relaxed) != position {
            return None;
        }
        let run = self.read();
        self.transfer(state, word(count(state) + 1) | EMPTY)
            .then_some(run)
    }

    /// Consumer, where the producer has left a run for good: reads it as often as it likes.
    pub(crate) fn peek(&self, position: u64) -> Option<Run> {
        self.lies_at(position).then(|| self.read())
    }

    /// Consumer: whether `take` would find something.
    pub(crate) fn lies_at(&self, position: u64) -> bool {
        // Acquire: as in `take`.
        let state = self.state.load(Ordering::Acquire);
        state & TAG == OPEN && self.position.load(Ordering::Relaxed) == position
    }

    /// AcqRel: the winner's reads stay before it, and the loser's next writes after it; so a run that was read
    /// under this version was whole. Partner: itself, on the other side.
    fn transfer(&self, from: u64, to: u64) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn read(&self) -> Run {
        Run {
            from: self.from.load(Ordering::Relaxed),
            to: self.to.load(Ordering::Relaxed),
            count: self.count.load(Ordering::Relaxed),
            reason: self.reason.load(Ordering::Relaxed) as u8,
        }
    }

    fn write(&self, position: u64, run: Run) {
        self.position.store(position, Ordering::Relaxed);
        self.from.store(run.from, Ordering::Relaxed);
        self.to.store(run.to, Ordering::Relaxed);
        self.count.store(run.count, Ordering::Relaxed);
        self.reason.store(u64::from(run.reason), Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ring::support::STRESS_ITEMS;
    use crate::sync::thread;

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
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::explore::{Steps, explore};
    use crate::sync::{Arc, thread};

    /// A run is whole, and is told once: by the consumer, or taken back by the producer, or left.
    #[test]
    fn loom_gap_extend_against_take() {
        explore("gap: extend and take back against take", || {
            const LOSSES: u64 = 3;
            let steps = Steps::new();
            let cell = Arc::new(GapCell::new());
            let producing = {
                let (cell, steps) = (cell.clone(), steps.clone());
                thread::spawn(move || {
                    let mut mine = Vec::new();
                    for id in 1..=LOSSES {
                        steps.step();
                        let loss = Run {
                            from: id,
                            to: id,
                            count: 1,
                            reason: 0,
                        };
                        while !cell.extend(7, loss) {}
                        if id == 2 {
                            steps.step();
                            mine.extend(cell.take_back());
                        }
                    }
                    mine
                })
            };
            let mut runs = Vec::new();
            for _ in 0..2 {
                steps.step();
                runs.extend(cell.take(7));
            }
            runs.extend(producing.join().unwrap());
            assert_eq!(cell.take(6), None, "it lies further on");
            let left = cell.lies_at(7);
            assert_eq!(cell.take(7).map(|run| runs.push(run)).is_some(), left);
            runs.sort_by_key(|run| run.from);
            let mut next = 1;
            for run in runs {
                assert_eq!(run.from, next, "in one piece");
                assert_eq!(run.count, run.to - run.from + 1);
                next = run.to + 1;
            }
            assert_eq!(next, LOSSES + 1, "every loss is told");
        });
    }
}
