//! The index with 1,000, 10,000 and 100,000 patterns: the cost of a change, and of a look-up.
//!
//! The patterns are a mix: see `pattern_of`. `insert` and `remove` are measured with a clone taken
//! after each change, so the next change copies what it changes. Look-ups are those of the index
//! alone, without the cache that a bus has in front of it. `crowd` has 100,000 globs below one
//! node, in a shared index as a bus has it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanout::index::{Scratch, SharedIndex};
use fanout::{Pattern, PatternIndex, Syntax, Topic};

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

/// The number of changes in a timed run.
const CHANGES: usize = 256;

/// Half of the patterns are exact, and each of the others has a wildcard. They are divided among
/// 1,000 accounts.
fn pattern_of(n: usize) -> Pattern {
    let (account, kind) = (n % 1_000, n / 1_000);
    let text = match n % 8 {
        0 => format!("accounts.{account}.*.k{kind}"),
        1 => format!("accounts.{account}.k{kind}.**"),
        2 => format!("accounts.{account}.k{kind}*"),
        3 => format!("accounts.{account}.{{k{kind},x{kind}}}.paid"),
        _ => format!("accounts.{account}.k{kind}.paid"),
    };
    Pattern::parse(&text).expect("a pattern")
}

fn index_of(size: usize) -> PatternIndex<u32> {
    (0..size).map(|n| (pattern_of(n), n as u32)).collect()
}

/// Patterns that no index has yet, for accounts that exist in all of them.
fn newcomers(size: usize) -> Vec<Pattern> {
    (0..CHANGES)
        .map(|n| pattern_of(size.next_multiple_of(1_000) + n * 997))
        .collect()
}

/// Adds all patterns, with a clone taken after each.
fn insert_all(index: &mut PatternIndex<u32>, newcomers: &[Pattern]) -> Duration {
    let mut snapshot = index.clone();
    let start = Instant::now();
    for (n, pattern) in newcomers.iter().enumerate() {
        assert!(index.insert(pattern, u32::MAX - n as u32));
        snapshot = index.clone();
    }
    let elapsed = start.elapsed();
    black_box(snapshot);
    elapsed
}

/// Removes all patterns, with a clone taken after each.
fn remove_all(index: &mut PatternIndex<u32>, newcomers: &[Pattern]) -> Duration {
    let mut snapshot = index.clone();
    let start = Instant::now();
    for (n, pattern) in newcomers.iter().enumerate() {
        assert!(index.remove(pattern, &(u32::MAX - n as u32)));
        snapshot = index.clone();
    }
    let elapsed = start.elapsed();
    black_box(snapshot);
    elapsed
}

fn changes(c: &mut Criterion) {
    let mut group = c.benchmark_group("index");
    group.throughput(Throughput::Elements(CHANGES as u64));
    for size in SIZES {
        let mut index = index_of(size);
        let newcomers = newcomers(size);
        group.bench_function(BenchmarkId::new("insert", size), |b| {
            b.iter_custom(|runs| {
                let mut sum = Duration::ZERO;
                for _ in 0..runs {
                    sum += insert_all(&mut index, &newcomers);
                    remove_all(&mut index, &newcomers);
                }
                sum
            });
        });
        group.bench_function(BenchmarkId::new("remove", size), |b| {
            b.iter_custom(|runs| {
                let mut sum = Duration::ZERO;
                for _ in 0..runs {
                    insert_all(&mut index, &newcomers);
                    sum += remove_all(&mut index, &newcomers);
                }
                sum
            });
        });
    }
    group.finish();
}

fn lookups(c: &mut Criterion) {
    let mut group = c.benchmark_group("index");
    for size in SIZES {
        let index = index_of(size);
        let kinds = size / 1_000;
        let wanted: Vec<Topic> = (0..1_000)
            .map(|account| format!("accounts.{account}.k{}.paid", (account * 7) % kinds))
            .map(|text| Topic::new(text).expect("a topic"))
            .collect();
        let unwanted: Vec<Topic> = (0..1_000)
            .map(|account| format!("accounts.{account}.none.paid"))
            .map(|text| Topic::new(text).expect("a topic"))
            .collect();
        let (mut scratch, mut found) = (Scratch::default(), Vec::new());
        for (name, topics) in [("match", &wanted), ("match_nothing", &unwanted)] {
            group.throughput(Throughput::Elements(topics.len() as u64));
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| {
                    for topic in topics {
                        found.clear();
                        index.matches_with(black_box(topic), &mut scratch, &mut found);
                        black_box(&found);
                    }
                });
            });
        }
    }
    group.finish();
}

/// A name, a language, the n-th glob, and a topic that matches one of the globs.
type Crowd = (&'static str, Syntax, fn(usize) -> String, &'static str);

/// Globs below one node, each with a number in the middle. Their beginnings and ends do not
/// distinguish them.
const CROWDS: [Crowd; 6] = [
    (
        "segments",
        Syntax::Segments,
        |n| format!("user.*-{n}-*.login"),
        "user.web-4711-eu.login",
    ),
    (
        "segments_with_head",
        Syntax::Segments,
        |n| format!("user.web-*-{n}-*.login"),
        "user.web-eu-4711-x.login",
    ),
    (
        "segments_few_letters",
        Syntax::Segments,
        |n| {
            let [a, b, c] = [n % 47, n / 47 % 47, n / 47 / 47].map(letter);
            format!("user.*{a}*{b}*{c}*.login")
        },
        "user.Ab-cd0-efghi-klm.login",
    ),
    (
        "path",
        Syntax::Path,
        |n| format!("user.*-{n}-*.login"),
        "user.web-4711-eu.login",
    ),
    (
        "redis",
        Syntax::Redis,
        |n| format!("user.*-{n}-*.login"),
        "user.web-4711-eu.login",
    ),
    (
        "redis_whole",
        Syntax::Redis,
        |n| format!("*:{n}:[a-z]*"),
        "user:4711:login",
    ),
];

/// One of 47 letters and digits.
fn letter(n: usize) -> char {
    char::from(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJK"[n])
}

/// 100,000 globs below one node: a look-up, and insertions and removals of further globs.
fn crowds(c: &mut Criterion) {
    let mut group = c.benchmark_group("index/crowd");
    let size = 100_000;
    for (name, syntax, text_of, topic) in CROWDS {
        let pattern = |n| Pattern::parse_as(&text_of(n), syntax).expect("a pattern");
        let index = SharedIndex::new();
        index.extend((0..size).map(|n| (pattern(n), n as u32)));
        let topic = Topic::new(topic).expect("a topic");
        let (mut scratch, mut found) = (Scratch::default(), Vec::new());
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("match", name), |b| {
            b.iter(|| {
                found.clear();
                let index = index.load();
                index.matches_with(black_box(&topic), &mut scratch, &mut found);
                assert!(!found.is_empty());
            });
        });
        let newcomers: Vec<Pattern> = (size..size + CHANGES).map(pattern).collect();
        group.throughput(Throughput::Elements(2 * CHANGES as u64));
        group.bench_function(BenchmarkId::new("insert_and_remove", name), |b| {
            b.iter(|| {
                for (pattern, value) in newcomers.iter().zip(size as u32..) {
                    assert!(index.insert(pattern, value));
                }
                for (pattern, value) in newcomers.iter().zip(size as u32..) {
                    assert!(index.remove(pattern, &value));
                }
            });
        });
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group!(name = index; config = config(); targets = changes, lookups, crowds);
criterion_main!(index);
