//! The index as a whole: the cases of the patterns, all small patterns, random operations, hostile
//! ones, and what is left at the end.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::fuzzing::check_ops;
use super::*;
use crate::pattern::tests::{cases, pattern_text, small_patterns, small_topics, suite, topic_text};
use crate::pattern::{Pattern, Syntax, Topic};

/// Sets of a cache in tests.
const CACHE_SETS: usize = if cfg!(miri) { 4 } else { 512 };

/// The length, in segments, of the longest patterns and topics in tests that try all of them.
const SEGMENTS_MAX: u32 = if cfg!(miri) { 1 } else { 3 };

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn found<V: Copy + Ord>(index: &PatternIndex<V>, on: &str) -> Vec<V> {
    let mut values = Vec::new();
    index.matches(&topic(on), &mut values);
    values
}

/// Each case alone and all together, with and without a cache.
#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn conformance_of_index_and_cache() {
    let cases: Vec<_> = suite::cases("segments")
        .into_iter()
        .filter(|case| case.refusal.is_none())
        .collect();
    let numbered = (0u32..)
        .zip(&cases)
        .map(|(n, case)| (pattern(&case.pattern), n));
    let together = PatternIndex::from_iter(numbered);
    let mut cache = MatchCache::with_sets(CACHE_SETS);
    for (n, case) in (0u32..).zip(&cases) {
        let alone = PatternIndex::from_iter([(pattern(&case.pattern), n)]);
        for (text, verdict) in case.verdicts() {
            let alone_found = !found(&alone, text).is_empty();
            assert_eq!(alone_found, verdict, "{text} of {case}");
            let together_found = found(&together, text).contains(&n);
            assert_eq!(together_found, verdict, "{text} of {case}");
            for index in [&alone, &together, &together] {
                let cached = cache.lookup(index, &topic(text)).contains(&n);
                assert_eq!(cached, verdict, "{text} of {case}");
            }
        }
    }
}

/// All patterns of up to 3 segments in one index, with all topics of up to 4 segments.
#[test]
fn every_small_pattern_is_found_if_it_matches() {
    let patterns = small_patterns(SEGMENTS_MAX);
    let patterns: Vec<_> = patterns.iter().map(|text| pattern(text)).collect();
    let mut index = PatternIndex::from_iter(patterns.iter().cloned().zip(0u32..));
    let mut cache = MatchCache::with_sets(CACHE_SETS);
    let mut check = |index: &PatternIndex<u32>, from: usize| {
        for topic in small_topics(SEGMENTS_MAX + 1) {
            let hits = (0u32..)
                .zip(&patterns)
                .skip(from)
                .filter(|(_, p)| p.matches(&topic));
            let expected: Vec<u32> = hits.map(|(n, _)| n).collect();
            assert_eq!(cache.lookup(index, &topic), expected, "{topic}");
            assert_eq!(found(index, topic.as_str()), expected, "{topic}");
        }
    };
    check(&index, 0);
    // The same after half of them were removed.
    let half = patterns.len() / 2;
    for (n, pattern) in (0u32..).zip(&patterns[..half]) {
        assert!(index.remove(pattern, &n), "{pattern}");
    }
    check(&index, half);
    for (n, pattern) in (0u32..).zip(&patterns).skip(half) {
        assert!(index.remove(pattern, &n), "{pattern}");
    }
    assert!(index.has_no_remains());
}

#[test]
fn a_value_is_found_once_even_if_several_patterns_match() {
    let mut index = PatternIndex::new();
    for text in [
        "a.b",
        "{a,a.b,?}.b",
        "**",
        "**.b",
        "*.{b,?}",
        "[ab].b",
        "a.*",
        "a.**",
        "a.b.**",
    ] {
        assert!(index.insert(&pattern(text), 5), "{text}");
        assert!(!index.insert(&pattern(text), 5), "{text}");
    }
    assert_eq!(index.len(), 9);
    assert_eq!(found(&index, "a.b"), [5]);
}

#[test]
fn patterns_that_share_nodes_are_removed_one_by_one() {
    let mut index = PatternIndex::new();
    for text in ["a", "{a,b}", "{b,a}", "{a,c}", "b"] {
        assert!(index.insert(&pattern(text), 1));
    }
    assert!(
        !index.remove(&pattern("{a,b,c}"), &1),
        "its nodes have the value, but not from it"
    );
    for (text, on_a, on_b, on_c) in [
        ("{a,b}", true, true, true),
        ("a", true, true, true),
        ("b", true, true, true),
        ("{a,c}", true, true, false),
        ("{b,a}", false, false, false),
    ] {
        assert!(index.remove(&pattern(text), &1), "{text}");
        assert!(!index.remove(&pattern(text), &1), "{text}");
        let on = |topic| !found(&index, topic).is_empty();
        assert_eq!((on("a"), on("b"), on("c")), (on_a, on_b, on_c), "{text}");
    }
    assert!(index.has_no_remains());
}

#[test]
fn a_clone_does_not_see_later_changes() {
    let mut index = PatternIndex::from_iter([(pattern("a.*"), 1), (pattern("**"), 2)]);
    let before = index.clone();
    index.insert(&pattern("a.b"), 3);
    index.remove(&pattern("**"), &2);
    assert_eq!((found(&before, "a.b"), before.len()), (vec![1, 2], 2));
    assert_eq!((found(&index, "a.b"), index.len()), (vec![1, 3], 2));
}

#[test]
fn the_deepest_patterns_can_be_removed() {
    let (segments, tails) = if cfg!(miri) { (5, 1) } else { (511, 198) };
    let deep = "a.".repeat(segments) + "a";
    let braces = format!("{}a", "{?,[ab],*}.".repeat(3) + &"**.b.".repeat(tails));
    let mut index = PatternIndex::new();
    for text in [&deep, &braces] {
        index.insert(&pattern(text), 1);
    }
    assert_eq!(found(&index, &deep), [1]);
    for text in [&deep, &braces] {
        assert!(index.remove(&pattern(text), &1));
    }
    assert!(index.has_no_remains());
}

#[test]
#[cfg_attr(miri, ignore = "measures time")]
fn hostile_patterns_are_cheap() {
    let words = ["a"; 96].join(".");
    let mut index = PatternIndex::new();
    for n in 1..60u32 {
        index.insert(&pattern(&format!("{}b", "**.a.".repeat(n as usize))), n);
        index.insert(
            &pattern(&format!("{}b", "*.**.[ab]*.".repeat(n as usize))),
            n,
        );
    }
    index.insert(&pattern("**.a.**.a.**.a"), 77);
    let start = Instant::now();
    assert_eq!(found(&index, &words), [77]);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn values_may_be_of_other_types() {
    let index = PatternIndex::from_iter([(pattern("a"), "x"), (pattern("?"), "w")]);
    assert_eq!(found(&index, "a"), ["w", "x"]);
    assert_eq!(format!("{index:?}"), "PatternIndex { len: 2, .. }");
}

#[test]
fn types_can_be_shared_or_sent() {
    fn shared<T: Send + Sync + Clone>() {}
    fn sent<T: Send>() {}
    shared::<Topic>();
    shared::<Pattern>();
    shared::<PatternIndex<u32>>();
    fn read_and_written<T: Send + Sync>() {}
    read_and_written::<SharedIndex<u32>>();
    sent::<MatchCache<u32>>();
    sent::<Scratch<u32>>();
}

/// The wildcards, guards and tails of each language in one index, with and without a cache.
#[test]
fn patterns_of_all_languages_share_an_index() {
    let texts = [
        "a.*.b", "a.>", "a.#", "#.b", "a/+", "+/b", "#", "$SYS/#", "$SYS/+", "a/", "a..b", "a*",
        "*", "a.?", "a.[ab]*", "a.b*b", "\u{e9}*", "*b", "a.b", "", "[^a]*", "a.b.c*d",
    ];
    let syntaxes = [
        Syntax::Segments,
        Syntax::Nats,
        Syntax::Amqp,
        Syntax::Mqtt,
        Syntax::Path,
        Syntax::Redis,
    ];
    let patterns: Vec<Pattern> = texts
        .iter()
        .flat_map(|text| {
            syntaxes
                .iter()
                .filter_map(|&syntax| Pattern::parse_as(text, syntax).ok())
        })
        .collect();
    assert!(patterns.len() > 60, "{} patterns", patterns.len());
    let mut topics = small_topics(SEGMENTS_MAX);
    topics.extend(
        [
            "$SYS", "$SYS.a", "$SYS.a.b", "$a.b", "a.$b", "é.x", "éa", "a.bab", "a.b.b", "a.b.cxd",
            "a/b.c", "+.b",
        ]
        .map(topic),
    );
    let mut index = PatternIndex::from_iter(patterns.iter().cloned().zip(0u32..));
    let mut cache = MatchCache::with_sets(CACHE_SETS);
    for keep in [patterns.len(), patterns.len() / 2, 0] {
        for (n, pattern) in patterns.iter().enumerate().skip(keep) {
            index.remove(pattern, &(n as u32));
        }
        for topic in &topics {
            let hits = (0u32..)
                .zip(&patterns[..keep])
                .filter(|(_, p)| p.matches(topic));
            let expected: Vec<u32> = hits.map(|(n, _)| n).collect();
            assert_eq!(found(&index, topic.as_str()), expected, "{topic}");
            assert_eq!(cache.lookup(&index, topic), expected, "{topic}");
        }
    }
    assert!(index.has_no_remains());
}

/// A node with 100,000 globs, or tails, or values: a look-up tries those that may match, and a
/// change moves a few.
#[test]
#[cfg_attr(miri, ignore = "measures time")]
fn a_crowded_node_is_cheap_to_match_and_to_change() {
    const COUNT: u32 = 100_000;
    type Form = (fn(u32) -> String, Syntax, &'static str);
    let forms: [Form; 7] = [
        (
            |n| format!("user.*-{n}-*.login"),
            Syntax::Segments,
            "user.web-7-eu.login",
        ),
        (
            |n| format!("user.*-{n}-*.login"),
            Syntax::Path,
            "user.web-7-eu.login",
        ),
        (
            |n| format!("*:user-{n}:[a-z]*"),
            Syntax::Redis,
            "x:user-7:login",
        ),
        (
            |n| format!("orders.A{n:06}*"),
            Syntax::Segments,
            "orders.A000007-x",
        ),
        (
            |n| format!("orders.*-{n:06}"),
            Syntax::Segments,
            "orders.x-000007",
        ),
        (
            |n| format!("user:{n:06}:*"),
            Syntax::Redis,
            "user:000007:login",
        ),
        (
            |_| "orders.created".to_owned(),
            Syntax::Segments,
            "orders.paid",
        ),
    ];
    for (form, syntax, asked) in forms {
        let pattern_of = |n| Pattern::parse_as(&form(n), syntax).unwrap();
        let index = SharedIndex::new();
        index.extend((0..COUNT).map(|n| (pattern_of(n), n)));
        let expected: &[u32] = if asked == "orders.paid" { &[] } else { &[7] };
        let (mut scratch, mut values) = (Scratch::default(), Vec::new());
        let asked = topic(asked);
        let start = Instant::now();
        for n in 0..1_000 {
            assert!(index.remove(&pattern_of(n + 10), &(n + 10)));
            values.clear();
            index.load().matches_with(&asked, &mut scratch, &mut values);
            assert_eq!(values, expected);
        }
        // Trying or copying all of them would take a hundred times as long.
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{asked}: {:?}",
            start.elapsed()
        );
    }
}

/// As many texts as there are in a large index, which agree in their beginning and their length.
#[test]
fn many_similar_texts_are_distinguished() {
    let count = if cfg!(miri) { 50 } else { 20_000 };
    let text = |n: u32| format!("{}{n:05}.x", "a".repeat(60));
    let index = PatternIndex::from_iter((0..count).map(|n| (pattern(&text(n)), n)));
    for n in (0..count).step_by(97) {
        assert_eq!(found(&index, &text(n)), [n]);
    }
    assert!(found(&index, &text(count)).is_empty());
}

/// Globs whose texts are so few and so similar that buckets are crowded.
fn crowding_glob() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => Just("*".to_owned()),
        4 => "[ab-]{1,3}",
        1 => "(ab-){3,4}",
        1 => Just("?".to_owned()),
        1 => Just("[ab]".to_owned()),
        1 => Just("é".to_owned()),
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.concat())
}

/// Like [`crowding_glob`], with one segment or two.
fn crowding_text() -> impl Strategy<Value = String> {
    prop_oneof![
        crowding_glob(),
        crowding_glob().prop_map(|glob| format!("x.{glob}")),
        (crowding_glob(), crowding_glob()).prop_map(|(one, two)| format!("{one}.{two}")),
    ]
}

proptest! {
    #![proptest_config(cases(200))]

    /// Many globs and tails below one node or two: each is in one bucket and is found once, also
    /// after others were removed.
    #[test]
    #[cfg_attr(miri, ignore = "random texts take Miri too long")]
    fn crowded_nodes_agree_with_the_naive_index(
        texts in prop::collection::vec(crowding_text(), 1..120),
        topics in prop::collection::vec(crowded_topic_text(), 8),
        removed in prop::collection::vec(any::<bool>(), 120),
    ) {
        let topics: Vec<Topic> = topics.iter().filter_map(|text| Topic::new(text).ok()).collect();
        let patterns: Vec<Pattern> = texts
            .iter()
            .flat_map(|text| {
                let syntaxes = [Syntax::Segments, Syntax::Path, Syntax::Redis];
                syntaxes.into_iter().filter_map(|syntax| Pattern::parse_as(text, syntax).ok())
            })
            .collect();
        let (mut index, mut list) = (PatternIndex::new(), naive::List::default());
        let check = |index: &PatternIndex<u32>, list: &naive::List<u32>| {
            for topic in &topics {
                assert_eq!(found(index, topic.as_str()), list.matches(topic), "{topic}");
            }
        };
        for (pattern, value) in patterns.iter().zip(0..) {
            assert_eq!(index.insert(pattern, value), list.insert(pattern, value));
        }
        check(&index, &list);
        for ((pattern, value), removed) in patterns.iter().zip(0..).zip(removed.iter().cycle()) {
            if *removed {
                assert_eq!(index.remove(pattern, &value), list.remove(pattern, value));
            }
        }
        check(&index, &list);
        for (pattern, value) in list.pairs() {
            assert!(index.remove(pattern, value));
        }
        assert!(index.has_no_remains());
    }
}

fn crowded_topic_text() -> impl Strategy<Value = String> {
    prop_oneof!["(x\\.)?[ab-]{1,12}(\\.[ab-]{1,4})?", "(x\\.)?(é?ab-){1,9}",]
}

/// Each kind of operation, for Miri, which does not run the random ones.
#[test]
fn operations_of_all_kinds_agree_with_the_naive_index() {
    let operations = [
        "+1a.*",
        "+2a.*-1-*",
        "+3a.*-2-*",
        "+4a.*-12-*",
        "=",
        "a.x-12-y",
        "+2**.{b,c}",
        "a.b",
        "(",
        "+5R:*:[ab]*",
        "+5R:*:c*",
        "+6R:*:1:*",
        "-1a.*",
        ")",
        "x:1:a",
        "a.b",
        "!",
        "+7M:a/#",
        "a",
        "-4a.*-12-*",
        "a.x-12-y",
        "/",
        "-2**.{b,c}",
        "a.c",
        "=",
        "x:1:c",
    ];
    check_ops(operations.join("\n").as_bytes());
}

/// The prefix of a language, mostly of the native one.
fn language() -> impl Strategy<Value = &'static str> {
    prop_oneof![2 => Just(""), 1 => prop::sample::select(vec!["N:", "A:", "M:", "P:", "R:"])]
}

/// Operations as lines, with so few patterns that many operations concern the same pair.
fn operations() -> impl Strategy<Value = String> {
    let small = prop::sample::select(small_patterns(2)).boxed();
    let text = prop_oneof![3 => small, 1 => pattern_text()].boxed();
    let topics = small_topics(3)
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>();
    let line = prop_oneof![
        3 => change("+", text.clone()),
        2 => change("-", text),
        1 => prop::sample::select(vec!["=", "=", "/", "(", ")", "!"]).prop_map(str::to_owned),
        3 => prop::sample::select(topics),
        1 => topic_text(),
    ];
    prop::collection::vec(line, 1..64).prop_map(|lines| lines.join("\n"))
}

fn change(
    sign: &'static str,
    text: impl Strategy<Value = String>,
) -> impl Strategy<Value = String> {
    (0..4u8, language(), text)
        .prop_map(move |(value, language, text)| format!("{sign}{value}{language}{text}"))
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    #[cfg_attr(miri, ignore = "random texts take Miri too long")]
    fn random_operations_agree_with_the_naive_index(lines in operations()) {
        check_ops(lines.as_bytes());
    }
}
