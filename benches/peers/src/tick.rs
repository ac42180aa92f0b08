//! The event, the iterator that makes it, and the checker that verifies it.

use std::hint;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// These values are added to the sequence number to make the payload words. Any distinct values
/// are suitable.
const SALT: [u64; 6] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
];

/// The sum of the payload words of the event with publisher 0 and sequence number 0.
const SALT_SUM: u64 = {
    let mut sum = 0_u64;
    let mut index = 0;
    while index < SALT.len() {
        sum = sum.wrapping_add(SALT[index]);
        index += 1;
    }
    sum
};

/// One event: 64 bytes that are moved by value, without heap memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tick {
    publisher: u64,
    sequence: u64,
    words: [u64; 6],
}

const _: () = assert!(size_of::<Tick>() == 64);

impl Tick {
    /// The event of this publisher with this sequence number.
    #[inline]
    pub fn new(publisher: u32, sequence: u64) -> Self {
        let base = Self::base(publisher, sequence);
        Self {
            publisher: publisher.into(),
            sequence,
            words: SALT.map(|salt| salt.wrapping_add(base)),
        }
    }

    #[inline]
    fn base(publisher: u32, sequence: u64) -> u64 {
        sequence ^ (u64::from(publisher) << 48)
    }

    /// The position of the event among those of its publisher, from 0.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The sum that the payload words should have, computed without reading them.
    #[inline]
    pub fn expected_sum(publisher: u32, sequence: u64) -> u64 {
        Self::base(publisher, sequence)
            .wrapping_mul(SALT.len() as u64)
            .wrapping_add(SALT_SUM)
    }

    /// The sum of the payload words. It reads all of them.
    #[inline]
    pub fn sum(&self) -> u64 {
        self.words
            .iter()
            .fold(0, |sum, word| sum.wrapping_add(*word))
    }
}

/// The events of one publisher, in order.
pub struct Ticks {
    publisher: u32,
    next: u64,
    end: u64,
    arrivals: Option<Arrivals>,
}

impl Ticks {
    /// Makes `count` events of this publisher. Without planned arrivals, the iterator never waits.
    pub fn new(publisher: u32, count: u64, arrivals: Option<Arrivals>) -> Self {
        Self {
            publisher,
            next: 0,
            end: count,
            arrivals,
        }
    }
}

impl Iterator for Ticks {
    type Item = Tick;

    #[inline]
    fn next(&mut self) -> Option<Tick> {
        if self.next == self.end {
            return None;
        }
        let tick = Tick::new(self.publisher, self.next);
        if let Some(arrivals) = &self.arrivals {
            wait_until(arrivals.planned(&tick));
        }
        self.next += 1;
        Some(tick)
    }
}

/// The plan of an open loop: each event has a time at which it is due, and this time does not
/// depend on how fast the events before were delivered.
///
/// Latency is measured from the planned time, not from the time of the call that publishes. So if
/// the publisher is held up, the time for which the later events wait is counted too. (A
/// measurement that leaves this time out suffers from "coordinated omission", as Gil Tene calls
/// it.)
#[derive(Clone)]
pub struct Arrivals {
    /// The events of all publishers together, per second.
    per_second: u32,
    publishers: u32,
    start: Arc<OnceLock<Instant>>,
}

/// The time between the start of a run and the first planned event, in which all publishers leave
/// the start barrier.
const LEAD: Duration = Duration::from_millis(1);

impl Arrivals {
    /// A plan that has not started. The publishers take turns.
    pub fn new(per_second: u32, publishers: u32) -> Self {
        Self {
            per_second,
            publishers,
            start: Arc::default(),
        }
    }

    /// Starts the plan. Call this once, before the publishers leave the start barrier.
    pub fn begin(&self, now: Instant) {
        self.start
            .set(now + LEAD)
            .expect("a plan of arrivals starts once");
    }

    /// The time at which the event is due.
    fn planned(&self, tick: &Tick) -> Instant {
        let start = self.start.get().expect("the plan has started");
        let number = tick.sequence * u64::from(self.publishers) + tick.publisher;
        *start + Duration::from_nanos(number * 1_000_000_000 / u64::from(self.per_second))
    }
}

/// A publisher sleeps if the next event is due later than this, and spins otherwise.
const SLEEP_MIN: Duration = Duration::from_micros(250);

/// A publisher wakes up this time before the next event is due, because a sleep may take longer
/// than requested.
const SLEEP_SLACK: Duration = Duration::from_micros(150);

fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if left > SLEEP_MIN {
        thread::sleep(left - SLEEP_SLACK);
    }
    while Instant::now() < due {
        hint::spin_loop();
    }
}

/// Checks the events that one subscriber receives: each sequence number of each publisher arrives
/// once and in order, each payload is intact, and no event is missing or extra. It panics at the
/// first error.
pub struct Checker {
    next: Vec<u64>,
    received: u64,
    expected: u64,
    sum: u64,
    finished: Option<Instant>,
    latency: Option<(Arrivals, Histogram<u64>)>,
}

impl Checker {
    /// A checker for a subscriber that should receive `expected` events, the same number from each
    /// publisher.
    pub fn new(publishers: u32, expected: u64, arrivals: Option<Arrivals>) -> Self {
        // At least 128 bytes, so that the counters of two subscribers do not share a cache line.
        let mut next = Vec::with_capacity(16.max(publishers as usize));
        next.resize(publishers as usize, 0);
        Self {
            next,
            received: 0,
            expected,
            sum: 0,
            finished: None,
            latency: arrivals.map(|arrivals| (arrivals, latencies())),
        }
    }

    /// Checks one event. The same code runs for every system.
    #[inline]
    pub fn accept(&mut self, tick: &Tick) {
        if let Some((arrivals, histogram)) = &mut self.latency {
            let late = Instant::now().saturating_duration_since(arrivals.planned(tick));
            histogram.saturating_record(late.as_nanos() as u64);
        }
        let Some(next) = self.next.get_mut(tick.publisher as usize) else {
            fail(
                tick,
                "from a publisher that does not exist, number",
                tick.publisher,
            )
        };
        if tick.sequence != *next {
            fail(tick, "out of order: the expected number is", *next);
        }
        *next += 1;
        let sum = tick.sum();
        if sum != Tick::expected_sum(tick.publisher as u32, tick.sequence) {
            fail(tick, "damaged: the sum of its words is", sum);
        }
        self.sum = self.sum.wrapping_add(sum);
        self.received += 1;
        if self.received == self.expected {
            self.finished = Some(Instant::now());
        }
    }

    /// Checks the counts and the checksum after the end of the stream. It returns the time of the
    /// last event, and the latencies if they were measured.
    pub fn finish(self) -> (Instant, Option<Histogram<u64>>) {
        assert_eq!(self.received, self.expected, "events received and expected");
        let each = self.expected / self.next.len() as u64;
        assert!(
            self.next.iter().all(|next| *next == each),
            "events per publisher: {:?}, expected {each}",
            self.next
        );
        let mut sum = 0_u64;
        for publisher in 0..self.next.len() as u32 {
            for sequence in 0..each {
                sum = sum.wrapping_add(Tick::expected_sum(publisher, sequence));
            }
        }
        assert_eq!(self.sum, sum, "checksum of the payload of all events");
        let finished = self.finished.expect("the last event set the time");
        (finished, self.latency.map(|(_, histogram)| histogram))
    }
}

/// The longest latency that a histogram distinguishes, in nanoseconds: a minute. A longer one
/// counts as a minute.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// The precision of a histogram, in decimal digits.
const LATENCY_DIGITS: u8 = 3;

/// An empty histogram of latencies in nanoseconds.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, LATENCY_DIGITS).expect("the range is valid")
}

#[cold]
#[inline(never)]
fn fail(tick: &Tick, error: &str, value: u64) -> ! {
    panic!("an event is {error} {value}: {tick:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checker() -> Checker {
        Checker::new(2, 4, None)
    }

    #[test]
    fn publishers_take_turns_in_the_plan_of_arrivals() {
        let arrivals = Arrivals::new(1_000, 2);
        arrivals.begin(Instant::now());
        let first = arrivals.planned(&Tick::new(0, 0));
        let after = |publisher, sequence| {
            (arrivals.planned(&Tick::new(publisher, sequence)) - first).as_millis()
        };
        assert_eq!((after(1, 0), after(0, 1), after(1, 1)), (1, 2, 3));
    }

    #[test]
    fn latency_counts_from_the_planned_time() {
        let arrivals = Arrivals::new(1_000_000, 1);
        arrivals.begin(Instant::now());
        let mut checker = Checker::new(1, 2, Some(arrivals.clone()));
        // The reader is late, so both events waited, although nothing held up the publisher.
        thread::sleep(LEAD + Duration::from_millis(5));
        for tick in Ticks::new(0, 2, Some(arrivals)) {
            checker.accept(&tick);
        }
        let (_, latencies) = checker.finish();
        assert!(latencies.unwrap().min() >= 4_900_000);
    }

    #[test]
    fn any_interleaving_of_publishers_is_accepted() {
        let mut checker = checker();
        for (publisher, sequence) in [(1, 0), (0, 0), (0, 1), (1, 1)] {
            checker.accept(&Tick::new(publisher, sequence));
        }
        checker.finish();
    }

    #[test]
    #[should_panic(expected = "out of order: the expected number is 0")]
    fn a_gap_is_detected() {
        checker().accept(&Tick::new(0, 1));
    }

    #[test]
    #[should_panic(expected = "out of order: the expected number is 1")]
    fn a_duplicate_is_detected() {
        let mut checker = checker();
        checker.accept(&Tick::new(0, 0));
        checker.accept(&Tick::new(0, 0));
    }

    #[test]
    #[should_panic(expected = "damaged")]
    fn a_torn_payload_is_detected() {
        let mut tick = Tick::new(0, 0);
        tick.words[5] = Tick::new(0, 1).words[5];
        checker().accept(&tick);
    }

    #[test]
    #[should_panic(expected = "does not exist")]
    fn an_unknown_publisher_is_detected() {
        checker().accept(&Tick::new(2, 0));
    }

    #[test]
    #[should_panic(expected = "events received and expected")]
    fn an_early_end_is_detected() {
        let mut checker = checker();
        checker.accept(&Tick::new(0, 0));
        checker.finish();
    }

    #[test]
    #[should_panic(expected = "events received and expected")]
    fn an_extra_event_is_detected() {
        let mut checker = checker();
        for (publisher, sequence) in [(1, 0), (0, 0), (0, 1), (1, 1), (1, 2)] {
            checker.accept(&Tick::new(publisher, sequence));
        }
        checker.finish();
    }
}
