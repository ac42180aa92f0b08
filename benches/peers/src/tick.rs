//! The event, who makes it, and who checks it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Added to the sequence number to make the payload words; any distinct values do.
const SALT: [u64; 6] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
];

/// What the words of the event (0, 0) add up to.
const SALT_SUM: u64 = {
    let mut sum = 0_u64;
    let mut at = 0;
    while at < SALT.len() {
        sum = sum.wrapping_add(SALT[at]);
        at += 1;
    }
    sum
};

/// One event: 64 bytes, moved by value, no heap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tick {
    publisher: u32,
    /// Nanoseconds when it was published, modulo 2^32; 0 where latency is not measured.
    sent: u32,
    sequence: u64,
    words: [u64; 6],
}

const _: () = assert!(size_of::<Tick>() == 64);

impl Tick {
    /// The event with this number of this publisher.
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

    /// What the words must add up to, known without them.
    #[inline]
    fn expected_sum(publisher: u32, sequence: u64) -> u64 {
        Self::base(publisher, sequence)
            .wrapping_mul(SALT.len() as u64)
            .wrapping_add(SALT_SUM)
    }

    /// What the words do add up to: reads all of them.
    #[inline]
    fn sum(&self) -> u64 {
        self.words
            .iter()
            .fold(0, |sum, word| sum.wrapping_add(*word))
    }
}

/// What one publisher has to publish, in order.
pub struct Ticks {
    publisher: u32,
    next: u64,
    end: u64,
    pace: Option<Pace>,
}

/// Slow publishing, for latency: each event is stamped with the time at which it is handed out.
#[derive(Clone, Copy)]
pub struct Pace {
    /// The pause before each event.
    pub every: Duration,
    /// What the stamps count from.
    pub epoch: Instant,
}

impl Ticks {
    /// `count` events of this publisher, as fast as they are asked for or at the given pace.
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
            std::thread::sleep(pace.every);
            tick.sent = stamp(pace.epoch);
        }
        Some(tick)
    }
}

/// Nanoseconds since `epoch`, modulo 2^32: differences are right up to four seconds.
fn stamp(epoch: Instant) -> u32 {
    (epoch.elapsed().as_nanos() & u128::from(u32::MAX)) as u32
}

/// Checks what one subscriber receives: per publisher each number once and in order, each payload
/// as it was made, nothing missing and nothing too much. Panics at the first thing that is wrong.
pub struct Checker {
    next: Vec<u64>,
    received: u64,
    expected: u64,
    sum: u64,
    finished: Option<Instant>,
    latency: Option<(Instant, Histogram<u64>)>,
}

impl Checker {
    /// For a subscriber that shall get `expected` events, the same number from each publisher.
    pub fn new(publishers: u32, expected: u64, pace: Option<Pace>) -> Self {
        // Room to spare: the counters of two subscribers never share a cache line.
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

    /// Takes one event: the same work, to the instruction, for every system.
    #[inline]
    pub fn accept(&mut self, tick: &Tick) {
        if let Some((epoch, histogram)) = &mut self.latency {
            let nanos = stamp(*epoch).wrapping_sub(tick.sent);
            histogram
                .record(u64::from(nanos))
                .expect("four seconds are in range");
        }
        let Some(next) = self.next.get_mut(tick.publisher as usize) else {
            wrong(tick, "of a publisher that does not exist", 0)
        };
        if tick.sequence != *next {
            wrong(tick, "out of order, expected number", *next);
        }
        *next += 1;
        let sum = tick.sum();
        if sum != Tick::expected_sum(tick.publisher, tick.sequence) {
            wrong(tick, "damaged, its words add up to", sum);
        }
        self.sum = self.sum.wrapping_add(sum);
        self.received += 1;
        if self.received == self.expected {
            self.finished = Some(Instant::now());
        }
    }

    /// After the end of the stream: was it all, and no more? Answers when the last event came, and
    /// the latencies where they were measured.
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
        assert_eq!(self.sum, sum, "checksum over the payload of all events");
        let finished = self.finished.expect("the last event stamps the time");
        (finished, self.latency.map(|(_, histogram)| histogram))
    }
}

/// An empty histogram of nanoseconds up to four seconds, three digits.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, u64::from(u32::MAX), 3).expect("a valid range")
}

#[cold]
#[inline(never)]
fn wrong(tick: &Tick, what: &str, value: u64) -> ! {
    panic!("event is {what} {value}: {tick:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checker() -> Checker {
        Checker::new(2, 4, None)
    }

    #[test]
    fn accepts_what_was_published_in_any_interleaving() {
        let mut check = checker();
        for (publisher, sequence) in [(1, 0), (0, 0), (0, 1), (1, 1)] {
            check.accept(&Tick::new(publisher, sequence));
        }
        check.finish();
    }

    #[test]
    #[should_panic(expected = "out of order, expected number 0")]
    fn refuses_a_gap() {
        checker().accept(&Tick::new(0, 1));
    }

    #[test]
    #[should_panic(expected = "out of order, expected number 1")]
    fn refuses_a_duplicate() {
        let mut check = checker();
        check.accept(&Tick::new(0, 0));
        check.accept(&Tick::new(0, 0));
    }

    #[test]
    #[should_panic(expected = "damaged")]
    fn refuses_a_torn_payload() {
        let mut tick = Tick::new(0, 0);
        tick.words[5] = Tick::new(0, 1).words[5];
        checker().accept(&tick);
    }

    #[test]
    #[should_panic(expected = "does not exist")]
    fn refuses_a_foreign_publisher() {
        checker().accept(&Tick::new(2, 0));
    }

    #[test]
    #[should_panic(expected = "events received and expected")]
    fn refuses_an_early_end() {
        let mut check = checker();
        check.accept(&Tick::new(0, 0));
        check.finish();
    }

    #[test]
    #[should_panic(expected = "events received and expected")]
    fn refuses_one_too_many() {
        let mut check = checker();
        for (publisher, sequence) in [(1, 0), (0, 0), (0, 1), (1, 1), (1, 2)] {
            check.accept(&Tick::new(publisher, sequence));
        }
        check.finish();
    }
}
