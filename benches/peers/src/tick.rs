//! The event, the iterator that makes it, and the checker that verifies it.

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
    publisher: u32,
    /// The time of publishing, in nanoseconds modulo 2^32. It is 0 if latency is not measured.
    sent: u32,
    sequence: u64,
    words: [u64; 6],
}

const _: () = assert!(size_of::<Tick>() == 64);

impl Tick {
    /// The event of this publisher with this sequence number.
    #[inline]
    fn new(publisher: u32, sequence: u64) -> Self {
        let base = Self::base(publisher, sequence);
        Self {
            publisher,
            sent: 0,
            sequence,
            words: SALT.map(|salt| salt.wrapping_add(base)),
        }
    }

    #[inline]
    fn base(publisher: u32, sequence: u64) -> u64 {
        sequence ^ (u64::from(publisher) << 48)
    }

    /// The sum that the payload words should have, computed without reading them.
    #[inline]
    fn expected_sum(publisher: u32, sequence: u64) -> u64 {
        Self::base(publisher, sequence)
            .wrapping_mul(SALT.len() as u64)
            .wrapping_add(SALT_SUM)
    }

    /// The sum of the payload words. It reads all of them.
    #[inline]
    fn sum(&self) -> u64 {
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
    pace: Option<Pace>,
}

/// The slow pace at which events are published if latency is measured. The iterator stamps each
/// event with the time at which it returns the event.
#[derive(Clone, Copy)]
pub struct Pace {
    /// The pause before each event.
    pub pause: Duration,
    /// The instant from which the time stamps count.
    pub epoch: Instant,
}

impl Ticks {
    /// Makes `count` events of this publisher. Without a pace, there is no pause between them.
    pub fn new(publisher: u32, count: u64, pace: Option<Pace>) -> Self {
        Self {
            publisher,
            next: 0,
            end: count,
            pace,
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
        let mut tick = Tick::new(self.publisher, self.next);
        self.next += 1;
        if let Some(pace) = self.pace {
            std::thread::sleep(pace.pause);
            tick.sent = stamp(pace.epoch);
        }
        Some(tick)
    }
}

/// The nanoseconds since `epoch`, modulo 2^32. Differences are correct up to four seconds.
fn stamp(epoch: Instant) -> u32 {
    (epoch.elapsed().as_nanos() & u128::from(u32::MAX)) as u32
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
    latency: Option<(Instant, Histogram<u64>)>,
}

impl Checker {
    /// A checker for a subscriber that should receive `expected` events, the same number from each
    /// publisher.
    pub fn new(publishers: u32, expected: u64, pace: Option<Pace>) -> Self {
        // At least 128 bytes, so that the counters of two subscribers do not share a cache line.
        let mut next = Vec::with_capacity(16.max(publishers as usize));
        next.resize(publishers as usize, 0);
        Self {
            next,
            received: 0,
            expected,
            sum: 0,
            finished: None,
            latency: pace.map(|pace| (pace.epoch, latencies())),
        }
    }

    /// Checks one event. The same code runs for every system.
    #[inline]
    pub fn accept(&mut self, tick: &Tick) {
        if let Some((epoch, histogram)) = &mut self.latency {
            let nanos = stamp(*epoch).wrapping_sub(tick.sent);
            histogram
                .record(u64::from(nanos))
                .expect("up to four seconds are in the range");
        }
        let Some(next) = self.next.get_mut(tick.publisher as usize) else {
            fail(
                tick,
                "from a publisher that does not exist, number",
                tick.publisher.into(),
            )
        };
        if tick.sequence != *next {
            fail(tick, "out of order: the expected number is", *next);
        }
        *next += 1;
        let sum = tick.sum();
        if sum != Tick::expected_sum(tick.publisher, tick.sequence) {
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

/// An empty histogram with a range of 1 ns to four seconds and a precision of three digits.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, u64::from(u32::MAX), 3).expect("the range is valid")
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
