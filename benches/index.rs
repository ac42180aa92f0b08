//! The index with 1,000, 10,000 and 100,000 patterns: the cost of a change, and of a look-up.
//!
//! The patterns are a mix: see `pattern_of`. `insert` and `remove` are measured with a clone taken
//! after each change, so the next change copies what it changes. Look-ups are those of the index
//! alone, without the cache that a bus has in front of it. `crowd` has 100,000 globs below one
//! node, in a shared index as a bus has it.
//!
//! `many` prints a table: the times of a bus with 8,000, 16,000 and 32,000 patterns, once with all
//! of them on one subscription, once with as many subscriptions. The last column is the ratio of
//! the times for 32,000 and 8,000 patterns: about 4 where the cost of a pattern does not depend on
//! their number, 16 where it is proportional to it. `cargo bench --bench index -- many` prints
//! nothing else.

use std::hint::black_box;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanout::index::{Scratch, SharedIndex};
use fanout::{Bus, Dispatch, Pattern, PatternIndex, Subscriber, Syntax, Topic};

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
type GlobSet = (&'static str, Syntax, fn(usize) -> String, &'static str);

/// Globs below one node, each with a number in the middle. Their beginnings and ends do not
/// distinguish them.
const GLOB_SETS: [GlobSet; 6] = [
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
    for (name, syntax, text_of, topic) in GLOB_SETS {
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

/// The numbers of patterns in the table `many`.
const MANY: [usize; 3] = [8_000, 16_000, 32_000];

/// A name, a language, and the n-th pattern of a family that the index treats in its own way.
type Family = (&'static str, Syntax, fn(usize) -> String);

const FAMILIES: [Family; 14] = [
    ("exact", Syntax::Segments, |n| format!("t.{n}.x")),
    ("any", Syntax::Segments, |n| format!("t.{n}.*")),
    ("many", Syntax::Segments, |n| format!("t.{n}.**")),
    ("suffix", Syntax::Segments, |n| format!("**.{n}")),
    ("glob_head", Syntax::Segments, |n| format!("t.k{n}-*")),
    ("glob_end", Syntax::Segments, |n| format!("t.*-{n}")),
    ("glob_inner", Syntax::Segments, |n| format!("t.*-{n}-*")),
    ("scanned", Syntax::Segments, |n| {
        format!("t.{}*", classes(n))
    }),
    ("class", Syntax::Segments, |n| format!("t.[ab]{n}")),
    ("braces", Syntax::Segments, |n| format!("t.{{a,b}}{n}")),
    ("braces_shared", Syntax::Segments, |n| {
        format!("t.{{all,b{n}}}")
    }),
    ("mqtt", Syntax::Mqtt, |n| format!("t/{n}/#")),
    ("path", Syntax::Path, |n| format!("t.*-{n}-*")),
    ("redis", Syntax::Redis, |n| format!("t:*:{n}:[a-z]*")),
];

/// A different glob without plain text for each number.
fn classes(mut n: usize) -> String {
    let mut text = String::new();
    while n > 0 {
        text.push_str(["[ab]", "[cd]", "[ef]", "[gh]", "[ij]", "?", "[kl]", "[mn]"][n % 8]);
        n /= 8;
    }
    text + "[xy]"
}

fn family(family: &Family, size: usize) -> Vec<Pattern> {
    let (_, syntax, text_of) = family;
    let pattern = |n| Pattern::parse_as(&text_of(n), *syntax).expect("a pattern");
    (0..size).map(pattern).collect()
}

/// The time that the processor has spent on this thread, where the system says it (Linux); else the
/// time. So other programs do not disturb the table.
fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = statistics
        .split(' ')
        .next()
        .and_then(|nanos| nanos.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn timed<R>(work: impl FnOnce() -> R) -> Duration {
    let start = now();
    black_box(work());
    now() - start
}

/// A row of the table.
fn row(name: &str, times: [Duration; MANY.len()]) {
    let [first, .., last] = times.map(|time| time.as_secs_f64());
    let each = last / MANY[MANY.len() - 1] as f64;
    let times = times.map(|time| format!("{:>9.2} ms", time.as_secs_f64() * 1e3));
    let times = times.join(" ");
    println!(
        "{name:<34} {times} {:>8.2} us each {:>7.1}",
        each * 1e6,
        last / first
    );
}

fn open(bus: &Bus<u32>, patterns: &[Pattern]) -> Subscriber<u32> {
    bus.subscription(patterns).capacity(1).open().expect("open")
}

/// All patterns on one subscription.
fn one_subscription(bus: &Bus<u32>) {
    for (name, syntax, text_of) in FAMILIES {
        let patterns = MANY.map(|size| family(&(name, syntax, text_of), size));
        let patterns = patterns.each_ref();
        let subs = patterns.map(|patterns| {
            let start = now();
            let sub = open(bus, patterns);
            (sub, now() - start)
        });
        row(
            &format!("{name}: open"),
            subs.each_ref().map(|&(_, time)| time),
        );
        drop(subs);
        row(
            &format!("{name}: cancel"),
            patterns.map(|patterns| {
                let sub = open(bus, patterns);
                timed(|| assert!(sub.handle().cancel()))
            }),
        );
        row(
            &format!("{name}: patterns"),
            patterns.map(|patterns| {
                let sub = open(bus, patterns);
                let handle = sub.handle();
                timed(|| handle.patterns())
            }),
        );
        row(
            &format!("{name}: resubscribe"),
            patterns.map(|patterns| {
                let sub = open(bus, patterns);
                timed(|| sub.resubscribe())
            }),
        );
        row(
            &format!("{name}: drop the subscriber"),
            patterns.map(|patterns| {
                let sub = open(bus, patterns);
                timed(|| drop(sub))
            }),
        );
        row(
            &format!("{name}: add all at once"),
            patterns.map(|patterns| {
                let sub = open(bus, &patterns[..1]);
                let handle = sub.handle();
                timed(|| handle.add(patterns))
            }),
        );
        row(
            &format!("{name}: remove all at once"),
            patterns.map(|patterns| {
                let sub = open(bus, patterns);
                let handle = sub.handle();
                timed(|| handle.remove(patterns))
            }),
        );
        row(
            &format!("{name}: add one by one"),
            patterns.map(|patterns| {
                let sub = open(bus, &patterns[..1]);
                let handle = sub.handle();
                timed(|| {
                    for pattern in &patterns[1..] {
                        assert_eq!(handle.add(pattern), Ok(true));
                    }
                })
            }),
        );
        row(
            &format!("{name}: remove one by one"),
            patterns.map(|patterns| {
                let sub = open(bus, patterns);
                let handle = sub.handle();
                timed(|| {
                    for pattern in patterns {
                        assert_eq!(handle.remove(pattern), Ok(true));
                    }
                })
            }),
        );
    }
    // One of many, because with 32,000 such removals an older version took a quarter of an hour.
    row(
        "class: remove 100 spelled differently",
        MANY.map(|size| {
            let sub = open(bus, &family(&FAMILIES[8], size));
            let handle = sub.handle();
            timed(|| {
                for n in (0..size).step_by(size / 100) {
                    assert_eq!(handle.remove(format!("t.[ba]{n}")), Ok(true));
                }
            })
        }),
    );
}

/// As many subscriptions as patterns.
fn many_subscriptions(bus: &Bus<u32>) {
    for (name, syntax, text_of) in FAMILIES.into_iter().chain([
        (
            "equal patterns",
            Syntax::Segments,
            (|_| "t.x".to_owned()) as fn(usize) -> String,
        ),
        ("equal globs", Syntax::Segments, |_| "t.*-x-*".to_owned()),
        ("equal braces", Syntax::Segments, |_| "t.{x,y}".to_owned()),
    ]) {
        let opened = MANY.map(|size| {
            let patterns = family(&(name, syntax, text_of), size);
            let start = now();
            let subs: Vec<_> = patterns
                .iter()
                .map(|p| open(bus, std::slice::from_ref(p)))
                .collect();
            let opening = now() - start;
            let listing = timed(|| bus.subscriptions());
            let cancelling = timed(|| subs.iter().all(|sub| sub.handle().cancel()));
            (opening, listing, cancelling)
        });
        row(
            &format!("{name}: open each"),
            opened.map(|(time, _, _)| time),
        );
        row(
            &format!("{name}: subscriptions"),
            opened.map(|(_, time, _)| time),
        );
        row(
            &format!("{name}: cancel each"),
            opened.map(|(_, _, time)| time),
        );
    }
}

/// The longest time that another thread's `subscribe` took meanwhile.
fn longest_wait(bus: &Bus<u32>, work: impl FnOnce()) -> Duration {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                drop(bus.subscribe("other").expect("open"));
                longest = longest.max(start.elapsed());
                std::thread::sleep(Duration::from_micros(50));
            }
            longest
        });
        std::thread::sleep(Duration::from_millis(2));
        work();
        done.store(true, Ordering::Relaxed);
        other.join().expect("it does not panic")
    })
}

fn waits(bus: &Bus<u32>) {
    println!("The longest that another thread's `subscribe` took meanwhile:");
    for (name, syntax, text_of) in [FAMILIES[0], FAMILIES[6], FAMILIES[9]] {
        let patterns = MANY.map(|size| family(&(name, syntax, text_of), size));
        let patterns = patterns.each_ref();
        let wait = |work: fn(&Bus<u32>, Subscriber<u32>, &[Pattern])| {
            patterns.map(|patterns| {
                let sub = open(bus, patterns);
                longest_wait(bus, || work(bus, sub, patterns))
            })
        };
        row(
            &format!("{name}: while nothing is done"),
            wait(|_, _, _| std::thread::sleep(Duration::from_millis(100))),
        );
        row(
            &format!("{name}: while all are opened"),
            wait(|bus, _, patterns| drop(open(bus, patterns))),
        );
        row(
            &format!("{name}: while all are removed"),
            wait(|_, sub, patterns| assert_eq!(sub.handle().remove(patterns), Ok(true))),
        );
        row(
            &format!("{name}: while it is cancelled"),
            wait(|_, sub, _| assert!(sub.handle().cancel())),
        );
        row(
            &format!("{name}: while 1,000 are removed"),
            wait(|_, sub, patterns| {
                for pattern in &patterns[..1_000] {
                    assert_eq!(sub.handle().remove(pattern), Ok(true));
                }
            }),
        );
    }
}

/// The table. Criterion would repeat each row too often.
fn many(_: &mut Criterion) {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let is_test = std::env::args().any(|arg| arg == "--test");
    if is_test || filter.is_some_and(|filter| filter != "many") {
        return;
    }
    let bus = Bus::builder().dispatch(Dispatch::Manual).build();
    let bus = bus.expect("the settings are valid");
    println!(
        "{:<34} {:>12} {:>12} {:>12} {:>16} {:>7}",
        "", MANY[0], MANY[1], MANY[2], "", "ratio"
    );
    one_subscription(&bus);
    many_subscriptions(&bus);
    waits(&bus);
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group!(name = index; config = config(); targets = many, changes, lookups, crowds);
criterion_main!(index);
