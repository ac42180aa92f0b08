//! The topics, the patterns, and what each subscription should receive.
//!
//! A topic is `e.r<region>.k<kind>.d<device>`. Which topics a pattern matches is computed here with
//! plain numbers, independently of the pattern language of fanout. So the check of a run also
//! checks the matching.

use crate::tick::Tick;

/// The number of values of each of the three parts of a topic.
struct Sizes {
    regions: usize,
    kinds: usize,
    devices: usize,
}

/// 10,000 topics.
const SIZES: Sizes = Sizes {
    regions: 10,
    kinds: 10,
    devices: 100,
};

/// The numbers of patterns of each shape: 1,000 patterns with about ten matches per event.
const PATTERNS: [(Shape, usize); 6] = [
    (Shape::Exact, 300),
    (Shape::AnyDevice, 300),
    (Shape::AnyKind, 200),
    (Shape::DevicePrefix, 100),
    (Shape::Region, 60),
    (Shape::TwoRegions, 40),
];

/// A pattern of a certain shape.
#[derive(Clone, Copy)]
enum Shape {
    /// `e.r1.k2.d3`
    Exact,
    /// `e.r1.k2.*`
    AnyDevice,
    /// `e.r1.*.d3`
    AnyKind,
    /// `e.r1.k2.d3*`, which also matches the devices 30 to 39
    DevicePrefix,
    /// `e.r1.**`
    Region,
    /// `e.{r1,r2}.k2.*`
    TwoRegions,
}

/// The topic with this number, by its three parts.
#[derive(Clone, Copy)]
struct Parts {
    region: usize,
    kind: usize,
    device: usize,
}

impl Parts {
    fn of(number: usize, sizes: &Sizes) -> Self {
        Self {
            region: number % sizes.regions,
            kind: number / sizes.regions % sizes.kinds,
            device: number / (sizes.regions * sizes.kinds) % sizes.devices,
        }
    }
}

impl Shape {
    /// The pattern of this shape that is made from the parts of a topic.
    fn pattern(self, of: Parts, sizes: &Sizes) -> String {
        let Parts {
            region,
            kind,
            device,
        } = of;
        match self {
            Self::Exact => format!("e.r{region}.k{kind}.d{device}"),
            Self::AnyDevice => format!("e.r{region}.k{kind}.*"),
            Self::AnyKind => format!("e.r{region}.*.d{device}"),
            Self::DevicePrefix => format!("e.r{region}.k{kind}.d{device}*"),
            Self::Region => format!("e.r{region}.**"),
            Self::TwoRegions => {
                let next = (region + 1) % sizes.regions;
                format!("e.{{r{region},r{next}}}.k{kind}.*")
            }
        }
    }

    /// Whether this pattern matches a topic.
    fn matches(self, of: Parts, topic: Parts, sizes: &Sizes) -> bool {
        let same_region = topic.region == of.region;
        let same_kind = topic.kind == of.kind;
        match self {
            Self::Exact => same_region && same_kind && topic.device == of.device,
            Self::AnyDevice => same_region && same_kind,
            Self::AnyKind => same_region && topic.device == of.device,
            Self::DevicePrefix => {
                let prefix = of.device.to_string();
                same_region && same_kind && topic.device.to_string().starts_with(&prefix)
            }
            Self::Region => same_region,
            Self::TwoRegions => {
                same_kind && (same_region || topic.region == (of.region + 1) % sizes.regions)
            }
        }
    }
}

/// The work of a run.
pub struct Work {
    topics: Vec<String>,
    patterns: Vec<String>,
    /// For each topic, the numbers of the subscriptions that match it.
    matching: Vec<Vec<u32>>,
}

/// What a subscription should receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub events: u64,
    /// The sum of the payloads, modulo 2^64.
    pub sum: u64,
}

impl Work {
    /// 1,000 subscriptions and 10,000 topics.
    pub fn new() -> Self {
        Self::of(&SIZES, &PATTERNS)
    }

    /// A few subscriptions and topics, for tests.
    #[cfg(test)]
    pub fn small() -> Self {
        let sizes = Sizes {
            regions: 3,
            kinds: 2,
            devices: 12,
        };
        Self::of(&sizes, &PATTERNS.map(|(shape, _)| (shape, 2)))
    }

    fn of(sizes: &Sizes, counts: &[(Shape, usize)]) -> Self {
        let all = sizes.regions * sizes.kinds * sizes.devices;
        let parts: Vec<Parts> = (0..all).map(|number| Parts::of(number, sizes)).collect();
        let mut patterns = Vec::new();
        let mut matching = vec![Vec::new(); all];
        let shapes = counts
            .iter()
            .flat_map(|(shape, count)| std::iter::repeat_n(*shape, *count));
        for (number, shape) in (0_u32..).zip(shapes) {
            let of = parts[step(number.into(), all)];
            patterns.push(shape.pattern(of, sizes));
            for (topic, matching) in parts.iter().zip(&mut matching) {
                if shape.matches(of, *topic, sizes) {
                    matching.push(number);
                }
            }
        }
        Self {
            topics: parts
                .iter()
                .map(|topic| Shape::Exact.pattern(*topic, sizes))
                .collect(),
            patterns,
            matching,
        }
    }

    /// The texts of all topics.
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// The texts of the patterns, one for each subscription.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// The number of subscriptions.
    pub fn subscriptions(&self) -> usize {
        self.patterns.len()
    }

    /// The numbers of the subscriptions that match the topic with this number.
    pub fn matching(&self, topic: usize) -> &[u32] {
        &self.matching[topic]
    }

    /// The number of the topic of an event.
    #[inline]
    pub fn topic_of(&self, event: u64) -> usize {
        step(event, self.topics.len())
    }

    /// The average number of matches per event, over all topics.
    pub fn matches_per_event(&self) -> f64 {
        let all: usize = self.matching.iter().map(Vec::len).sum();
        all as f64 / self.topics.len() as f64
    }

    /// What each subscription should receive of the first `events` events.
    pub fn expected(&self, events: u64) -> Vec<Expected> {
        let mut expected = vec![Expected::default(); self.subscriptions()];
        for event in 0..events {
            let sum = Tick::expected_sum(0, event);
            for subscription in self.matching(self.topic_of(event)) {
                let expected = &mut expected[*subscription as usize];
                expected.events += 1;
                expected.sum = expected.sum.wrapping_add(sum);
            }
        }
        expected
    }
}

/// Goes through the numbers below `len` in an order that looks random. Each number occurs equally
/// often, because this prime number is no divisor of `len`.
fn step(number: u64, len: usize) -> usize {
    const STEP: u64 = 7_919;
    (number * STEP % len as u64) as usize
}

#[cfg(test)]
mod tests {
    use fanout::{Pattern, Topic};

    use super::*;

    #[test]
    fn there_are_about_ten_matches_per_event() {
        let work = Work::new();
        assert_eq!(work.topics().len(), 10_000);
        assert_eq!(work.subscriptions(), 1_000);
        let matches = work.matches_per_event();
        assert!((9.0..11.0).contains(&matches), "{matches}");
    }

    #[test]
    fn the_numbers_agree_with_the_patterns() {
        let work = Work::small();
        for (number, text) in work.topics().iter().enumerate() {
            let topic: Topic = text.parse().unwrap();
            let matching: Vec<u32> = (0_u32..)
                .zip(work.patterns())
                .filter(|(_, pattern)| pattern.parse::<Pattern>().unwrap().matches(&topic))
                .map(|(number, _)| number)
                .collect();
            assert_eq!(work.matching(number), matching, "{text}");
        }
    }

    #[test]
    fn every_topic_occurs_equally_often() {
        let work = Work::new();
        let mut counts = vec![0; work.topics().len()];
        for event in 0..20_000 {
            counts[work.topic_of(event)] += 1;
        }
        assert!(counts.iter().all(|count| *count == 2));
    }

    #[test]
    fn the_expected_events_are_those_of_all_matching_topics() {
        let work = Work::small();
        let expected = work.expected(work.topics().len() as u64);
        let all: u64 = expected.iter().map(|expected| expected.events).sum();
        let matching: usize = work.matching.iter().map(Vec::len).sum();
        assert_eq!(all, matching as u64);
    }
}
