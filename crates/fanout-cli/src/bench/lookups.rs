//! Look-ups: which of 10,000 patterns match a topic, with and without a cache.

use fanout::index::{MatchCache, Scratch};
use fanout::{Pattern, PatternIndex, Topic};
use std::time::{Duration, Instant};

use super::case::Cache;
use super::measurement::Round;
use crate::interrupt::Interrupt;

/// The number of groups of patterns. Each has a topic, and the patterns of `GROUP`.
const GROUPS: usize = 1_000;

/// The patterns of a group, with the number of the group in place of `N`.
const GROUP: [&str; 10] = [
    "shop.N.orders.new",
    "shop.N.orders.paid",
    "shop.N.*.new",
    "shop.N.**",
    "*.N.orders.new",
    "shop.N.ord*.new",
    "shop.N.{orders,invoices}.new",
    "shop.N.invoices.*",
    "shop.N.returns",
    "stock.N.**",
];

/// The topic of a group.
const TOPIC: &str = "shop.N.orders.new";

/// How many patterns of its group a topic matches.
const MATCHES: u64 = 6;

/// The number of topics that are looked up: all of them are in the cache, if there is one.
const TOPICS: usize = 256;

/// Measures one round.
pub(crate) fn round(
    cache: Cache,
    duration: Duration,
    interrupt: &Interrupt,
) -> Result<Round, String> {
    let (index, topics) = index()?;
    match cache {
        Cache::Cold => {
            let (mut scratch, mut found) = (Scratch::default(), Vec::new());
            look_up_until(&topics, duration, interrupt, |topic| {
                found.clear();
                index.matches_with(topic, &mut scratch, &mut found);
                found.len()
            })
        }
        Cache::Warm => {
            let mut cache = MatchCache::new();
            // The cache keeps a topic that it sees for the second time.
            for topic in topics.iter().chain(&topics) {
                cache.lookup(&index, topic);
            }
            look_up_until(&topics, duration, interrupt, |topic| {
                cache.lookup(&index, topic).len()
            })
        }
    }
}

fn index() -> Result<(PatternIndex<u32>, Vec<Topic>), String> {
    let mut index = PatternIndex::new();
    let mut topics = Vec::new();
    for number in 0..GROUPS {
        let text = |text: &str| text.replace('N', &number.to_string());
        for (kind, pattern) in GROUP.iter().enumerate() {
            let pattern = Pattern::parse(&text(pattern)).map_err(|error| error.to_string())?;
            index.insert(&pattern, (number * GROUP.len() + kind) as u32);
        }
        if topics.len() < TOPICS {
            topics.push(Topic::new(text(TOPIC)).map_err(|error| error.to_string())?);
        }
    }
    Ok((index, topics))
}

/// Looks up all topics again and again, until the time is over. `look_up` returns the number of
/// values that it has found.
fn look_up_until(
    topics: &[Topic],
    duration: Duration,
    interrupt: &Interrupt,
    mut look_up: impl FnMut(&Topic) -> usize,
) -> Result<Round, String> {
    let started_at = Instant::now();
    let (mut lookups, mut found) = (0, 0);
    let elapsed = loop {
        for topic in topics {
            found += look_up(topic) as u64;
        }
        lookups += topics.len() as u64;
        let elapsed = started_at.elapsed();
        if elapsed >= duration || interrupt.is_stopped() {
            break elapsed;
        }
    };
    if found != lookups * MATCHES {
        return Err(format!(
            "{lookups} look-ups found {found} values, and {MATCHES} match each topic"
        ));
    }
    let mut round = Round::new(elapsed, lookups);
    round.deliveries = found;
    Ok(round)
}
