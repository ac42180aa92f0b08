//! How long events take from the call that publishes them to the call that receives them. Events
//! are sampled, and only on a bus with `sample_latency`.
//!
//! Every `n`-th event of a lane is stamped when `publish` is called. The stamp travels beside the
//! event, in the lane and then in its block, where only stamped events take memory for it. When the
//! subscriber's end of the feed hands the event out, it measures the time, and adds it to a
//! histogram of the subscription. It does not wait for the histogram's lock: while another thread
//! takes a snapshot, the sample is dropped, and counted as missed.
//!
//! `BusBuilder::sample_latency` says what sampling costs.

use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::sync::unmodelled::AtomicU64;
use crate::sync::{Mutex, Ordering};

/// The longest latency that percentiles can distinguish from longer ones: an hour. `max` is exact
/// beyond it.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// Decimal digits of percentiles: exact to 1 %, at the cost of 36 KiB per subscription that has
/// received a sample.
const DIGITS: u8 = 2;

/// Which events are stamped, and by which clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampling {
    /// One event in `every` events of a lane is stamped. At least 1.
    every: u64,
    /// When the bus was built.
    base: Instant,
}

impl Sampling {
    pub(crate) fn new(every: u32) -> Self {
        assert!(every > 0, "the builder refuses 0");
        Self {
            every: u64::from(every),
            base: Instant::now(),
        }
    }

    /// The stamp for the event that is about to be published at this position of its lane. 0: not
    /// sampled.
    #[inline]
    pub(crate) fn stamp(&self, place: u64) -> u64 {
        if place.is_multiple_of(self.every) {
            self.now_ns()
        } else {
            0
        }
    }

    /// Nanoseconds since the bus was built, plus 1, so that it is never 0.
    fn now_ns(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).map_or(u64::MAX, |ns| ns.saturating_add(1))
    }
}

/// The stamps of a block.
#[derive(Default)]
pub(crate) struct Stamps {
    /// The events that have one.
    mask: u64,
    /// One for each bit of the mask, in order. Keeps its memory while the block is in its pool.
    ns: Vec<u64>,
}

impl Stamps {
    /// Stamps event `index`, 0 to 63. Indices rise from call to call.
    pub(crate) fn push(&mut self, index: usize, stamp_ns: u64) {
        debug_assert!(self.mask >> index == 0 && stamp_ns != 0);
        self.mask |= 1 << index;
        self.ns.push(stamp_ns);
        debug_assert_eq!(self.mask.count_ones() as usize, self.ns.len());
    }

    pub(crate) fn clear(&mut self) {
        self.mask = 0;
        self.ns.clear();
    }

    pub(crate) fn mask(&self) -> u64 {
        self.mask
    }

    /// The stamp of event `index`.
    pub(crate) fn at(&self, index: u32) -> Option<u64> {
        self.of(1 << index).next()
    }

    /// The stamps of the events in `mask`, in order.
    fn of(&self, mask: u64) -> impl Iterator<Item = u64> {
        let mut rest = self.mask & mask;
        std::iter::from_fn(move || {
            let index = (rest != 0).then(|| rest.trailing_zeros())?;
            rest &= rest - 1;
            let before = self.mask & ((1 << index) - 1);
            Some(self.ns[before.count_ones() as usize])
        })
    }
}

/// A subscription's samples. The subscriber records them; any thread may read them.
pub(crate) struct Recorder {
    sampling: Sampling,
    /// Allocated with the first sample.
    samples: Mutex<Option<Box<Samples>>>,
    /// Samples dropped because the lock was held. Only the subscriber writes it.
    missed: AtomicU64,
}

/// A histogram of samples.
#[derive(Clone)]
pub(crate) struct Samples {
    histogram: Histogram<u64>,
    min_ns: u64,
    max_ns: u64,
    missed: u64,
}

impl Recorder {
    pub(crate) fn new(sampling: Sampling) -> Self {
        Self {
            sampling,
            samples: Mutex::new(None),
            missed: AtomicU64::new(0),
        }
    }

    /// The events in `mask` are handed out now. Only the subscriber may call this.
    #[inline(never)]
    pub(crate) fn record(&self, stamps: &Stamps, mask: u64) {
        let now_ns = self.sampling.now_ns();
        let Some(mut samples) = self.samples.try_lock() else {
            // Relaxed: only the subscriber writes it, and it orders nothing.
            let missed = self.missed.load(Ordering::Relaxed);
            let dropped = u64::from((stamps.mask() & mask).count_ones());
            self.missed.store(missed + dropped, Ordering::Relaxed);
            return;
        };
        let samples = samples.get_or_insert_with(Samples::new);
        stamps
            .of(mask)
            .for_each(|stamp_ns| samples.add(now_ns.saturating_sub(stamp_ns)));
    }

    /// Adds what was recorded to `sum`.
    pub(crate) fn add_to(&self, sum: &mut Option<Box<Samples>>) {
        // Relaxed: a statistic.
        let missed = self.missed.load(Ordering::Relaxed);
        let samples = self.samples.lock();
        if samples.is_none() && missed == 0 {
            return;
        }
        let sum = sum.get_or_insert_with(Samples::new);
        sum.missed += missed;
        if let Some(samples) = &*samples {
            sum.merge(samples);
        }
    }
}

impl Samples {
    fn new() -> Box<Self> {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS);
        Box::new(Self {
            histogram: histogram.expect("the bounds are in range"),
            min_ns: u64::MAX,
            max_ns: 0,
            missed: 0,
        })
    }

    fn add(&mut self, latency_ns: u64) {
        self.histogram.saturating_record(latency_ns);
        self.min_ns = self.min_ns.min(latency_ns);
        self.max_ns = self.max_ns.max(latency_ns);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let added = self.histogram.add(&other.histogram);
        added.expect("all histograms have the same bounds");
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.missed += other.missed;
    }
}

/// How long sampled events took from the call that published them to the call that received them.
/// See [`BusBuilder::sample_latency`](crate::BusBuilder::sample_latency).
///
/// `min` and `max` are exact. The percentiles are exact to 1 %, and tell latencies of up to an hour
/// apart. All times are zero if `count` is 0.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::builder().sample_latency(1).build()?; // every event
/// let mut sub = bus.subscribe("a")?;
/// bus.publish("a", 7)?;
/// sub.recv()?;
/// let latency = sub.latency();
/// assert_eq!((latency.count, latency.missed), (1, 0));
/// assert!(latency.min <= latency.p50 && latency.p50 <= latency.max);
/// println!("{latency}"); // "1 samples: min 9.1µs, p50 9.1µs, .."
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LatencyStats {
    /// The number of samples.
    pub count: u64,
    /// Samples that were dropped because a snapshot was being taken at that moment.
    pub missed: u64,
    /// The shortest latency.
    pub min: Duration,
    /// 50 % of the samples took no longer.
    pub p50: Duration,
    /// 90 % of the samples took no longer.
    pub p90: Duration,
    /// 99 % of the samples took no longer.
    pub p99: Duration,
    /// 99.9 % of the samples took no longer.
    pub p99_9: Duration,
    /// The longest latency.
    pub max: Duration,
}

impl fmt::Display for LatencyStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            count,
            missed,
            min,
            p50,
            p90,
            p99,
            p99_9,
            max,
        } = self;
        write!(
            f,
            "{count} samples: min {min:?}, p50 {p50:?}, p90 {p90:?}, p99 {p99:?}, \
             p99.9 {p99_9:?}, max {max:?}"
        )?;
        if *missed > 0 {
            write!(f, "; {missed} missed")?;
        }
        Ok(())
    }
}

impl LatencyStats {
    pub(crate) fn of(samples: Option<&Samples>) -> Self {
        let Some(samples) = samples else {
            return Self::default();
        };
        let count = samples.histogram.len();
        if count == 0 {
            return Self {
                missed: samples.missed,
                ..Self::default()
            };
        }
        // A histogram gives the upper end of a bucket, which may be longer than the longest sample.
        let at = |percentile| {
            let ns = samples.histogram.value_at_percentile(percentile);
            Duration::from_nanos(ns.clamp(samples.min_ns, samples.max_ns))
        };
        Self {
            count,
            missed: samples.missed,
            min: Duration::from_nanos(samples.min_ns),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            max: Duration::from_nanos(samples.max_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_in_every_n_is_stamped() {
        let stamped = |every| {
            let sampling = Sampling::new(every);
            (0..100).filter(|&place| sampling.stamp(place) != 0).count()
        };
        assert_eq!([1, 2, 64, 100, 101].map(stamped), [100, 50, 2, 1, 1]);
    }

    #[test]
    fn stamps_are_found_by_their_events() {
        let mut stamps = Stamps::default();
        for (index, ns) in [(0, 10), (5, 15), (63, 73)] {
            stamps.push(index, ns);
        }
        let of = |mask| stamps.of(mask).collect::<Vec<_>>();
        assert_eq!(of(u64::MAX), [10, 15, 73]);
        assert_eq!(of(1 << 5 | 1 << 6), [15]);
        assert_eq!(of(1 << 63), [73]);
        assert!(of(0b10).is_empty());
    }

    #[test]
    fn a_snapshot_has_what_was_recorded() {
        let mut samples = Samples::new();
        assert_eq!(LatencyStats::of(Some(&samples)), LatencyStats::default());
        (1..=1000).for_each(|us| samples.add(us * 1000));
        samples.add(2 * LATENCY_NS_MAX);
        let stats = LatencyStats::of(Some(&samples));
        assert_eq!((stats.count, stats.min), (1001, Duration::from_micros(1)));
        assert_eq!(stats.max, Duration::from_nanos(2 * LATENCY_NS_MAX));
        let text = stats.to_string();
        assert!(text.starts_with("1001 samples: min 1µs, p50 "), "{text}");
        assert!(text.ends_with(", max 7200s"), "{text}");
        for (percentile, us) in [(stats.p50, 500.0), (stats.p90, 900.0), (stats.p99, 990.0)] {
            let error = percentile.as_secs_f64() * 1e6 / us;
            assert!((0.99..1.02).contains(&error), "{stats:?}");
        }
    }

    #[test]
    fn a_sample_is_dropped_and_counted_while_the_lock_is_held() {
        let recorder = Recorder::new(Sampling::new(1));
        let mut stamps = Stamps::default();
        stamps.push(0, 1);
        stamps.push(1, 1);
        recorder.record(&stamps, 0b01);
        let held = recorder.samples.lock();
        recorder.record(&stamps, 0b11);
        drop(held);
        let mut sum = None;
        recorder.add_to(&mut sum);
        let stats = LatencyStats::of(sum.as_deref());
        assert_eq!((stats.count, stats.missed), (1, 2));
    }
}
