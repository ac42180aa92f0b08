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

    /// Any thread, once the producer has written its last: that run, taken or not. What tells the
    /// caller that it was the last carries the fields.
    pub(crate) fn last_run(&self) -> Run {
        self.read()
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
