//! The cost of the worst patterns: to match, to parse, and in memory.
//!
//! Each pattern that is known to be slow with some matcher, at full length and shorter, is matched
//! with each topic that is known to be slow with it. The most expensive patterns are reported, each
//! with its most expensive topic. A time is the fastest of several, because other programs can only
//! make it longer. Fails if a match takes longer than [`MATCH_MAX`].
//!
//! This does not use criterion, because there are hundreds of pairs and one number matters. Run
//! `cargo bench --bench hostile`. Without `--bench`, as under `cargo test`, each pair is matched
//! once, and only the answers are checked.

#[path = "../tests/counting_allocator/mod.rs"]
mod counting_allocator;

use std::hint::black_box;
use std::time::{Duration, Instant};

use counting_allocator::live_bytes;
use fanout::pattern::{PATTERN_BYTES_MAX, TOPIC_BYTES_MAX};
use fanout::{Pattern, Topic};

/// The longest time that a match may take, for any pattern and a topic of at most 128 segments.
const MATCH_MAX: Duration = Duration::from_micros(200);

/// The number of patterns that are reported.
const REPORTED: usize = 20;

fn main() {
    let runs = if std::env::args().any(|argument| argument == "--bench") {
        15
    } else {
        1
    };
    let topics = topics();
    let mut rows = Vec::new();
    for (name, text) in patterns() {
        let before = live_bytes();
        let pattern = Pattern::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let bytes = (live_bytes() - before).unsigned_abs();
        let parse = fastest(runs, || drop(black_box(Pattern::parse(black_box(&text)))));
        let (took, on) = topics
            .iter()
            .map(|(on, topic)| {
                let took = fastest(runs, || {
                    black_box(black_box(&pattern).matches(black_box(topic)));
                });
                (took, on)
            })
            .max()
            .expect("there are topics");
        rows.push(Row {
            took,
            parse,
            bytes,
            name,
            on,
        });
    }
    let longest_parse = rows.iter().map(|row| row.parse).max();
    let most_bytes = rows.iter().map(|row| row.bytes).max();
    rows.sort_by_key(|row| std::cmp::Reverse(row.took));
    println!("{:>9} {:>9} {:>9}  pattern", "match", "parse", "bytes");
    for row in &rows[..REPORTED] {
        let Row {
            took,
            parse,
            bytes,
            name,
            on,
        } = row;
        println!("{took:>9.1?} {parse:>9.1?} {bytes:>9}  {name}, on {on}");
    }
    println!(
        "of {} patterns on {} topics: slowest match {:.1?}, parse {:.1?}, {} bytes",
        rows.len(),
        topics.len(),
        rows[0].took,
        longest_parse.unwrap_or_default(),
        most_bytes.unwrap_or_default(),
    );
    let worst = rows[0].took;
    assert!(runs == 1 || worst <= MATCH_MAX, "more than {MATCH_MAX:?}");
}

/// A pattern, and its cost with its most expensive topic.
struct Row<'a> {
    took: Duration,
    parse: Duration,
    /// The size of the compiled pattern, in bytes.
    bytes: usize,
    name: String,
    on: &'a str,
}

/// The fastest of several runs.
fn fastest(runs: usize, mut run: impl FnMut()) -> Duration {
    let timed = (0..runs).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed()
    });
    timed.min().expect("at least one run")
}

/// The name and the text of each pattern. The texts are as long as patterns may be.
fn patterns() -> Vec<(String, String)> {
    let mut patterns = Vec::new();
    let mut add = |name: &str, text: String| {
        assert!(
            text.len() <= PATTERN_BYTES_MAX,
            "{name}: {} bytes",
            text.len()
        );
        patterns.push((name.to_owned(), text));
    };
    for bytes in [1024, 512, 256, 128, 96] {
        let mut add = |name: &str, text: String| add(&format!("{name}, {bytes} bytes"), text);
        let fill = |before: &str, unit: &str, after: &str| fill_to(bytes, before, unit, after);
        // Wildcards for whole segments, and an end that fails late.
        for unit in [
            "**.a.",
            "**.*a*.",
            "**.?.",
            "*.",
            "a.",
            "?*a.",
            "**.a?*a.",
            "**.*[a-b]a*.",
            "**.a.a.a.a.a.a.a.a.",
        ] {
            add(&format!("{unit} repeated"), fill("", unit, "b"));
            add(&format!("**.({unit})b.**"), fill("**.", unit, "b.**"));
            for braces in ["{a,b}.", "{a,**}.", "{,a}"] {
                let before = braces.repeat(6) + if braces.ends_with('.') { "" } else { "a." };
                add(&format!("six {braces} ({unit})"), fill(&before, unit, "b"));
            }
        }
        // Wildcards within a segment.
        for unit in [
            "*a", "*ab", "*aab", "a?", "?", "[!b]", "[a-z]?", "*[!b]?", "*?a",
        ] {
            for [before, after] in [["", "b"], ["*", "b*"], ["**.*", "b*.**"]] {
                let before = match unit.starts_with('*') {
                    // Two stars in a row would have another meaning.
                    true => before.strip_suffix('*').unwrap_or(before),
                    false => before,
                };
                add(
                    &format!("{before}({unit}){after}"),
                    fill(before, unit, after),
                );
            }
            let six = "{a,aa}".repeat(6);
            add(
                &format!("six {{a,aa}}*b({unit})"),
                fill(&(six + "*b"), unit, "*b"),
            );
            let six = "{a,b}".repeat(6);
            add(&format!("six {{a,b}}({unit})"), fill(&six, unit, "*b"));
            let six = "**.{a,?}*".to_owned() + &"{a,?}".repeat(5);
            add(
                &format!("**. and six {{a,?}}({unit})"),
                fill(&six, unit, "*b"),
            );
            let part = fill_to(bytes / 8, "", unit, "a") + "{a,b}";
            add(
                &format!("six ({unit}){{a,b}}"),
                format!("**.{}*b", part.repeat(6)),
            );
            let part = fill_to(bytes / 8, "", unit, "a") + "{a,b}";
            add(
                &format!("six ({unit}){{a,b}}, no **"),
                format!("{}*b", part.repeat(6)),
            );
        }
    }
    let alternatives = |alternative: &str| {
        let all: Vec<String> = (0..64)
            .map(|n| {
                format!(
                    "{alternative}{}",
                    char::from_u32(0x30 + n)
                        .filter(|c| c.is_alphanumeric())
                        .unwrap_or('b')
                )
            })
            .collect();
        format!("{{{}}}", all.join(","))
    };
    add("64 alternatives", alternatives("a.**.a."));
    add("64 alternatives, globs", alternatives("*a?*[ab]*a"));
    add(
        "64 alternatives between **",
        format!("**.{}.**.b", alternatives("*a?a*")),
    );
    add(
        "64 alternatives, far behind",
        fill_to(
            PATTERN_BYTES_MAX,
            "**.*",
            "a?",
            &format!("*.{}", alternatives("*a")),
        ),
    );
    add(
        "64 alternatives, ** in each",
        format!("**.{}.**.b", alternatives("a.**.")),
    );
    let wide: String = (0..250)
        .map(|n| char::from_u32(0x100 + 2 * n).expect("a scalar value"))
        .collect();
    add("wide class", format!("*[{wide}]*[^{wide}]*b"));
    add(
        "wide class between **",
        format!("**.*[{wide}]?*.**.*[^{wide}]?b*.**"),
    );
    add(
        "distinct characters",
        wide.chars().map(|c| format!("*{c}")).collect::<String>() + "*b",
    );
    patterns
}

/// The unit, repeated as often as it fits between the two.
fn fill_to(bytes: usize, before: &str, unit: &str, after: &str) -> String {
    let room = bytes - before.len() - after.len();
    format!("{before}{}{after}", unit.repeat(room / unit.len()))
}

/// The name and the text of each topic, which has 1 to 128 segments.
fn topics() -> Vec<(String, Topic)> {
    let mut topics = Vec::new();
    let mut add = |name: &str, text: String| {
        assert!(text.split('.').count() <= 128, "{name}");
        topics.push((name.to_owned(), Topic::new(text).expect("a topic")));
    };
    let short = ["a"; 127].join(".");
    let room = TOPIC_BYTES_MAX - short.len() - 1;
    for unit in ["a", "ab", "ac", "é", "aaab", "ā"] {
        let long = unit.repeat(room / unit.len());
        let eight = unit.repeat(7 / unit.len());
        add(&format!("128 of {eight}"), [&*eight; 128].join("."));
        add(
            &format!("one long of {unit}, then 127"),
            format!("{long}.{short}"),
        );
        add(
            &format!("127, then one long of {unit}"),
            format!("{short}.{long}"),
        );
        add(
            &format!("one of {unit}"),
            unit.repeat(TOPIC_BYTES_MAX / unit.len()),
        );
        let two = unit.repeat(511 / unit.len());
        add(&format!("two of {unit}"), format!("{two}.{two}"));
    }
    add("128 of a", ["a"; 128].join("."));
    add("96 of a, then b", ["a"; 96].join(".") + ".b");
    topics
}
