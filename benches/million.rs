//! A million subscriptions of four segments, half of them with a wildcard: their cost, and the cost
//! of a change.
//!
//! The first segment is one of 100, the others are one of 1,000 each. Of four wildcards, three are
//! a `*` at a random position, and one is a `**` at the end. Topics are made from the
//! subscriptions, with random texts for their wildcards, so each topic matches something. Times are
//! medians of five runs. They are processor time where the system reports it. Memory is the number
//! of bytes that were requested from the allocator.
//!
//! This does not use criterion, because most measurements change the index permanently, and because
//! one of them is paired: a reader with and without a writer. Run `cargo bench --bench million`, or
//! `cargo bench --bench million -- 100000` for another number of subscriptions. Without `--bench`,
//! as under `cargo test`, it runs once with 10,000 subscriptions.

#[path = "../tests/counting_allocator/mod.rs"]
mod counting_allocator;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use counting_allocator::live_bytes;
use fanout::index::{MatchCache, Scratch, SharedIndex};
use fanout::{Pattern, Topic};

/// The number of topics that are looked up again and again.
const HOT_TOPICS: usize = 1_000;
/// The number of changes per second that the writer makes.
const CHURN_PER_S: u32 = 10_000;
const RUNS: usize = 5;
/// The number of times that all topics are looked up in a run, because the clock has ticks of
/// milliseconds.
const WALK_ROUNDS: usize = 5;

/// The size and the duration of the measurements.
struct Effort {
    subscriptions: usize,
    /// The number of single changes and look-ups in a timed run.
    steps: usize,
    pairs: usize,
    run: Duration,
}

impl Effort {
    fn chosen() -> Self {
        let measured = std::env::args().any(|argument| argument == "--bench");
        let size = std::env::args().find_map(|argument| argument.parse().ok());
        if measured {
            Effort {
                subscriptions: size.unwrap_or(1_000_000),
                steps: 100_000,
                pairs: 9,
                run: Duration::from_millis(500),
            }
        } else {
            Effort {
                subscriptions: size.unwrap_or(10_000),
                steps: 1_000,
                pairs: 1,
                run: Duration::from_millis(20),
            }
        }
    }
}

fn main() {
    let effort = Effort::chosen();
    let mut draw = Draw(0x9E37_79B9_7F4A_7C15);
    let subscriptions: Vec<Subscription> = (0..effort.subscriptions as u32)
        .map(|n| (draw.pattern(), n))
        .collect();
    let newcomers: Vec<Subscription> = (0..effort.steps as u32)
        .map(|n| (draw.pattern(), u32::MAX - n))
        .collect();
    let topics: Vec<Topic> = (0..effort.steps)
        .map(|_| draw.topic_of(&subscriptions))
        .collect();
    let hot = &topics[..HOT_TOPICS.min(topics.len())];

    let pairs = subscriptions.clone();
    let before = live_bytes();
    let index = SharedIndex::new();
    let start = Stopwatch::start();
    index.extend(pairs);
    report("bulk insert", start.elapsed(), effort.subscriptions);
    // The next change completes what the bulk insertion has postponed.
    assert!(index.insert(&newcomers[0].0, newcomers[0].1));
    report("  and one insert", start.elapsed(), effort.subscriptions);
    index.remove(&newcomers[0].0, &newcomers[0].1);
    let bytes = live_bytes() - before;
    println!(
        "memory: {:.1} bytes per subscription",
        bytes as f64 / effort.subscriptions as f64
    );

    changes(&index, &newcomers);
    look_ups(&index, &topics, hot);
    changes_with_cache(&index, &newcomers, hot);
    next_match(&index, hot);
    with_a_writer(&effort, &index, &newcomers, hot, Reading::Cached);
    with_a_writer(&effort, &index, &newcomers, &topics, Reading::Walking);
}

type Subscription = (Pattern, u32);

/// Single changes. Each is visible to readers before the next begins.
fn changes(index: &SharedIndex<u32>, newcomers: &[Subscription]) {
    let (mut inserts, mut removes) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let start = Stopwatch::start();
        for (pattern, value) in newcomers {
            assert!(index.insert(pattern, *value));
        }
        inserts.push(start.elapsed());
        let start = Stopwatch::start();
        for (pattern, value) in newcomers {
            assert!(index.remove(pattern, value));
        }
        removes.push(start.elapsed());
    }
    report("first single inserts", inserts[0], newcomers.len());
    report("single insert", median(inserts), newcomers.len());
    report("single remove", median(removes), newcomers.len());
}

fn look_ups(index: &SharedIndex<u32>, topics: &[Topic], hot: &[Topic]) {
    let snapshot = index.load();
    let (mut scratch, mut found) = (Scratch::default(), Vec::new());
    let mut values = 0;
    let walks = (0..RUNS).map(|_| {
        let start = Stopwatch::start();
        for topic in topics.iter().cycle().take(WALK_ROUNDS * topics.len()) {
            found.clear();
            snapshot.matches_with(topic, &mut scratch, &mut found);
            values += found.len();
            assert!(!found.is_empty());
        }
        start.elapsed()
    });
    let walked = WALK_ROUNDS * topics.len();
    report("match without cache", median(walks.collect()), walked);
    println!(
        "  {:.2} values per topic",
        values as f64 / (RUNS * walked) as f64
    );

    let mut cache = MatchCache::new();
    // There are enough look-ups for a clock with ticks of milliseconds.
    let rounds = 100 * topics.len().div_ceil(hot.len());
    for _ in 0..2 {
        ask_all(&mut cache, &snapshot, hot);
    }
    let runs = (0..RUNS).map(|_| {
        let start = Stopwatch::start();
        for _ in 0..rounds {
            ask_all(&mut cache, &snapshot, hot);
        }
        start.elapsed()
    });
    report("cached match", median(runs.collect()), rounds * hot.len());
    let runs = (0..RUNS).map(|_| {
        let start = Stopwatch::start();
        for _ in 0..rounds {
            for topic in hot {
                black_box(cache.lookup(&index.load(), topic));
            }
        }
        start.elapsed()
    });
    report(
        "  with a snapshot each",
        median(runs.collect()),
        rounds * hot.len(),
    );
}

/// Insertions and removals with a cached look-up after each.
fn changes_with_cache(index: &SharedIndex<u32>, newcomers: &[Subscription], hot: &[Topic]) {
    let mut cache = MatchCache::new();
    ask_all(&mut cache, &index.load(), hot);
    let runs = (0..RUNS).map(|_| {
        let start = Stopwatch::start();
        for ((pattern, value), topic) in newcomers.iter().zip(hot.iter().cycle()) {
            assert!(index.insert(pattern, *value));
            black_box(cache.lookup(&index.load(), topic));
            assert!(index.remove(pattern, value));
            black_box(cache.lookup(&index.load(), topic));
        }
        start.elapsed()
    });
    report(
        "insert and remove with the cache in use",
        median(runs.collect()),
        newcomers.len(),
    );
}

/// The time of the next look-up of each topic after a change that affects none of them.
fn next_match(index: &SharedIndex<u32>, hot: &[Topic]) {
    let mut cache = MatchCache::new();
    for _ in 0..2 {
        ask_all(&mut cache, &index.load(), hot);
    }
    let unrelated = Pattern::parse("*.unrelated.*.**").expect("a pattern");
    let timed = |index: &SharedIndex<u32>, cache: &mut MatchCache<u32>| {
        let snapshot = index.load();
        let start = Instant::now();
        ask_all(cache, &snapshot, hot);
        start.elapsed()
    };
    let (mut untouched, mut touched) = (Vec::new(), Vec::new());
    for n in 0..101 {
        untouched.push(timed(index, &mut cache));
        assert!(index.insert(&unrelated, n));
        touched.push(timed(index, &mut cache));
        assert!(index.remove(&unrelated, &n));
        timed(index, &mut cache);
    }
    report(
        "next cached match with no change",
        median(untouched),
        hot.len(),
    );
    report(
        "  after an unrelated wildcard subscription",
        median(touched),
        hot.len(),
    );
}

#[derive(Clone, Copy, Debug)]
enum Reading {
    Cached,
    Walking,
}

/// The look-ups of a reader per second of processor time with a writer, divided by those without.
fn with_a_writer(
    effort: &Effort,
    index: &SharedIndex<u32>,
    newcomers: &[Subscription],
    topics: &[Topic],
    reading: Reading,
) {
    let changes = AtomicU64::new(0);
    let mut ratios: Vec<f64> = (0..effort.pairs)
        .map(|n| {
            // The order alternates.
            let first = read(index, topics, reading, effort.run, |stop| {
                churn(index, newcomers, stop, n % 2 == 0, &changes);
            });
            let second = read(index, topics, reading, effort.run, |stop| {
                churn(index, newcomers, stop, n % 2 != 0, &changes);
            });
            if n % 2 == 0 {
                first / second
            } else {
                second / first
            }
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let seconds = effort.run.as_secs_f64() * effort.pairs as f64;
    println!(
        "{reading:?} reader beside {CHURN_PER_S} changes/s: {:.3} ({:.3} to {:.3}); {} made",
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1],
        (changes.into_inner() as f64 / seconds) as u64,
    );
}

/// Look-ups per second of the reader's processor time, with a snapshot for every 64 look-ups, as a
/// bus takes one for each block.
fn read(
    index: &SharedIndex<u32>,
    topics: &[Topic],
    reading: Reading,
    run: Duration,
    beside: impl FnOnce(&AtomicBool) + Send,
) -> f64 {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| beside(&stop));
        let mut cache = MatchCache::new();
        let (mut scratch, mut found) = (Scratch::default(), Vec::new());
        let mut done = 0;
        let start = Instant::now();
        let own = Stopwatch::start();
        let mut blocks = topics.chunks(64).cycle();
        while start.elapsed() < run {
            for block in blocks.by_ref().take(16) {
                let snapshot = index.load();
                for topic in block {
                    match reading {
                        Reading::Cached => {
                            black_box(cache.lookup(&snapshot, topic));
                        }
                        Reading::Walking => {
                            found.clear();
                            snapshot.matches_with(topic, &mut scratch, &mut found);
                            black_box(&found);
                        }
                    }
                }
                done += block.len();
            }
        }
        let elapsed = own.elapsed();
        stop.store(true, Ordering::Relaxed);
        done as f64 / elapsed.as_secs_f64()
    })
}

/// Inserts and removes at an even rate until `stop` is set. Without work, it only sleeps at that
/// rate.
fn churn(
    index: &SharedIndex<u32>,
    newcomers: &[Subscription],
    stop: &AtomicBool,
    works: bool,
    changes: &AtomicU64,
) {
    let start = Instant::now();
    let mut made = 0;
    'all: for (pattern, value) in newcomers.iter().cycle() {
        for inserts in [true, false] {
            // A sleep takes 50 us and more, so all changes that are due are made at once.
            while start.elapsed() * CHURN_PER_S < Duration::from_secs(1) * made {
                if stop.load(Ordering::Relaxed) && inserts {
                    break 'all;
                }
                thread::sleep(Duration::from_micros(200));
            }
            made += 1;
            if works {
                let changed = if inserts {
                    index.insert(pattern, *value)
                } else {
                    index.remove(pattern, value)
                };
                assert!(changed);
            }
        }
    }
    if works {
        changes.fetch_add(u64::from(made), Ordering::Relaxed);
    }
}

fn ask_all(cache: &mut MatchCache<u32>, index: &fanout::PatternIndex<u32>, topics: &[Topic]) {
    for topic in topics {
        black_box(cache.lookup(index, topic));
    }
}

fn median(mut runs: Vec<Duration>) -> Duration {
    runs.sort();
    runs[runs.len() / 2]
}

fn report(what: &str, elapsed: Duration, steps: usize) {
    println!("{what}: {:.1} ns", elapsed.as_nanos() as f64 / steps as f64);
}

/// The processor time of this thread where the system reports it, with a precision of a few
/// milliseconds. It does not contain the time that other programs take on a busy machine.
struct Stopwatch {
    begun: Instant,
    processor_ns: Option<u64>,
}

impl Stopwatch {
    fn start() -> Self {
        Stopwatch {
            begun: Instant::now(),
            processor_ns: processor_ns(),
        }
    }

    fn elapsed(&self) -> Duration {
        match self.processor_ns.zip(processor_ns()) {
            Some((before, now)) => Duration::from_nanos(now - before),
            None => self.begun.elapsed(),
        }
    }
}

fn processor_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Random numbers (Marsaglia's xorshift), the same in each run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % bound
    }

    fn token(&mut self, place: usize) -> String {
        match place {
            0 => format!("zone{}", self.below(100)),
            1 => format!("acct{}", self.below(1_000)),
            2 => format!("kind{}", self.below(1_000)),
            _ => format!("step{}", self.below(1_000)),
        }
    }

    fn pattern(&mut self) -> Pattern {
        let mut tokens: Vec<String> = (0..4).map(|place| self.token(place)).collect();
        match self.below(8) {
            0 => tokens[3] = "**".into(),
            1..=3 => tokens[self.below(4) as usize] = "*".into(),
            _ => {}
        }
        Pattern::parse(&tokens.join(".")).expect("a pattern")
    }

    fn topic_of(&mut self, subscriptions: &[Subscription]) -> Topic {
        let pattern = &subscriptions[self.below(subscriptions.len() as u64) as usize].0;
        let tokens: Vec<String> = pattern
            .as_str()
            .split('.')
            .enumerate()
            .map(|(place, token)| match token {
                "*" | "**" => self.token(place),
                token => token.to_owned(),
            })
            .collect();
        Topic::new(tokens.join(".")).expect("a topic")
    }
}
