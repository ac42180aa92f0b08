//! The native language as a whole: the cases of `tests/testdata/patterns`, all small patterns,
//! random ones, and hostile ones.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::pattern::fuzzing::{EveryMatcher, check_match_as, check_parse};

#[path = "../../tests/suite/mod.rs"]
pub(crate) mod suite;

#[test]
fn conformance_of_matcher_and_naive_implementation() {
    for case in suite::cases("segments") {
        let text = &*case.pattern;
        check_parse(text.as_bytes());
        if case.refusal.is_some() {
            assert_eq!(naive::matches(text, "a"), None, "naive, {case}");
            continue;
        }
        let pattern = Pattern::parse(text).expect(text);
        let every_matcher = EveryMatcher::new(&pattern);
        for (topic, verdict) in case.verdicts() {
            let checked = Topic::new(topic).expect(topic);
            assert_eq!(
                every_matcher.matches(&checked),
                verdict,
                "{topic} of {case}"
            );
            let naive = naive::matches(text, topic);
            assert_eq!(naive, Some(verdict), "naive, {topic} of {case}");
            check_parse(topic.as_bytes());
        }
    }
}

#[test]
fn conformance_of_refusals() {
    let mut seen = HashSet::new();
    for case in suite::cases("segments") {
        let Some(suite::Refusal {
            rule: Some(rule),
            offset,
            alternative,
        }) = &case.refusal
        else {
            continue;
        };
        let error = Pattern::parse(&case.pattern).expect_err(&case.pattern);
        assert_eq!(format!("{:?}", error.rule()), *rule, "{error}");
        assert_eq!(Some(error.offset()), *offset, "{error}");
        assert_eq!(error.alternative(), *alternative, "{error}");
        seen.insert(error.rule());
    }
    assert_eq!(
        seen.len(),
        21,
        "all rules of this language but TooLong: {seen:?}"
    );
}

#[test]
fn conformance_of_canonical_forms() {
    for case in suite::cases("segments") {
        let Some(canonical) = &case.canonical else {
            continue;
        };
        let text = &*case.pattern;
        let pattern = Pattern::parse(text).expect(text);
        assert_eq!(pattern.to_string(), *canonical, "{text}");
        assert_eq!(pattern.as_str(), text);
        assert_eq!(pattern, Pattern::parse(canonical).unwrap(), "{text}");
    }
}

#[test]
fn length_at_the_bound_and_one_past() {
    for text in [
        "a.".repeat(511) + "ab",
        "é".repeat(512),
        "*".to_owned() + &"?".repeat(1023),
    ] {
        assert_eq!(text.len(), PATTERN_BYTES_MAX);
        check_parse(text.as_bytes());
        assert!(Pattern::parse(&text).is_ok());
        let error = Pattern::parse(&(text + "b")).unwrap_err();
        assert_eq!(
            (error.rule(), error.offset()),
            (PatternRule::TooLong, PATTERN_BYTES_MAX)
        );
        assert!(
            error.to_string().len() < 200,
            "the input is shortened: {error}"
        );
    }
    let split = "é".repeat(511) + "a" + "é";
    assert_eq!(
        Pattern::parse(&split).unwrap_err().offset(),
        PATTERN_BYTES_MAX - 1
    );
}

#[test]
fn expansions_at_the_bound_and_one_past() {
    let braces = |n: usize| format!("{{{}}}", vec!["a"; n].join(","));
    for text in [braces(64), braces(8) + &braces(8), "{a,b}".repeat(6)] {
        assert!(Pattern::parse(&text).is_ok());
    }
    for text in [braces(65), braces(13) + &braces(5), "{a,b}".repeat(7)] {
        let error = Pattern::parse(&text).unwrap_err();
        assert_eq!(error.rule(), PatternRule::TooManyExpansions, "{error}");
        assert_eq!(naive::matches(&text, "a"), None);
    }
}

#[test]
fn exact_matches_its_topic_even_at_the_bound() {
    for text in [
        "*".repeat(1024),
        "a.*.{b,c}.[d].\\,?".to_owned(),
        "-]!^,".to_owned(),
    ] {
        let topic = Topic::new(&text).unwrap();
        let pattern = Pattern::exact(&topic);
        assert!(pattern.matches(&topic));
        assert_eq!(pattern.as_str(), pattern.to_string());
        assert!(!pattern.matches(&Topic::new("a").unwrap()));
        if pattern.as_str().len() <= PATTERN_BYTES_MAX {
            assert_eq!(Pattern::parse(pattern.as_str()).unwrap(), pattern);
            assert_eq!(Pattern::parse(&Pattern::escape(&text)).unwrap(), pattern);
        }
    }
}

#[test]
fn equality_and_hash_follow_the_canonical_form() {
    let set: HashSet<Pattern> = ["*", "**", "**.**"]
        .map(|text| text.parse().unwrap())
        .into_iter()
        .collect();
    assert_eq!(set.len(), 1);
    assert_ne!(Pattern::parse("?*").unwrap(), Pattern::parse("*").unwrap());
    assert_eq!(
        Pattern::parse("{*,*}").unwrap(),
        Pattern::parse("?*").unwrap()
    );
    assert!(Pattern::parse("a").unwrap() < Pattern::parse("b").unwrap());
    assert_eq!(Pattern::try_from("a.*").unwrap().to_string(), "a.*");
}

#[test]
fn texts_and_topics_are_converted() {
    let pattern = Pattern::parse("a.*").unwrap();
    let text = "a.*".to_owned();
    assert_eq!(Pattern::try_from("a.*"), Ok(pattern.clone()));
    assert_eq!(Pattern::try_from(&text), Ok(pattern.clone()));
    assert_eq!(Pattern::try_from(text), Ok(pattern.clone()));
    assert!(Pattern::try_from("a..b".to_owned()).is_err());
    assert_eq!(Pattern::from(&pattern), pattern);
    let topic = Topic::new("a.*").unwrap();
    for exact in [Pattern::from(&topic), Pattern::from(topic.clone())] {
        assert_eq!(exact, Pattern::exact(&topic));
        assert_ne!(exact, pattern);
    }
    assert_eq!(Topic::try_from(&"a.*".to_owned()), Ok(topic));
}

/// All patterns of up to 3 segments from a small set, with all topics of up to 4 such segments.
#[test]
fn every_small_pattern_matches_as_the_naive_implementation_does() {
    let topics = small_topics(4);
    for pattern in small_patterns(3) {
        let parsed = Pattern::parse(&pattern).expect(&pattern);
        let parsed = EveryMatcher::new(&parsed);
        for topic in &topics {
            let verdict = naive::matches(&pattern, topic.as_str());
            assert_eq!(Some(parsed.matches(topic)), verdict, "{pattern} on {topic}");
        }
        check_parse(pattern.as_bytes());
    }
}

/// Every 211th pattern of 4 and 5 segments, in lexicographic order, with all topics of up to 5
/// segments. 211 and the number of segments, 10, are coprime, so all segments occur at each
/// position.
#[test]
fn longer_patterns_match_as_the_naive_implementation_does() {
    compare_longer_patterns(211);
}

/// The same for all of them: 40 million pairs.
#[test]
#[ignore = "takes minutes: cargo test --release --lib every_longer -- --ignored"]
fn every_longer_pattern_matches_as_the_naive_implementation_does() {
    compare_longer_patterns(1);
}

fn compare_longer_patterns(step: usize) {
    let topics = small_topics(5);
    let patterns = small_patterns(5);
    assert_eq!((topics.len(), patterns.len()), (363, 111_110));
    for pattern in patterns.iter().skip(1_110).step_by(step) {
        let parsed = Pattern::parse(pattern).expect(pattern);
        for topic in &topics {
            let verdict = naive::matches(pattern, topic.as_str());
            assert_eq!(Some(parsed.matches(topic)), verdict, "{pattern} on {topic}");
        }
        check_parse(pattern.as_bytes());
    }
}

/// Patterns of 1 to `segments` segments from a set that has at least one segment of each kind.
pub(crate) fn small_patterns(segments: u32) -> Vec<String> {
    words(
        &["a", "b", "ab", "*", "**", "a*", "*b", "?", "[ab]", "{a,b}"],
        segments,
    )
}

pub(crate) fn small_topics(segments: u32) -> Vec<Topic> {
    words(&["a", "b", "ab"], segments)
        .iter()
        .map(|text| Topic::new(text).unwrap())
        .collect()
}

/// Every sequence of 1 to `length` of the parts, joined by dots.
pub(crate) fn words(parts: &[&str], length: u32) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut longest = vec![String::new()];
    for _ in 0..length {
        let longer = |word: &String| {
            let dot = if word.is_empty() { "" } else { "." };
            parts
                .iter()
                .map(|part| format!("{word}{dot}{part}"))
                .collect::<Vec<_>>()
        };
        longest = longest.iter().flat_map(longer).collect();
        all.extend_from_slice(&longest);
    }
    all
}

#[test]
fn hostile_patterns_are_cheap() {
    let many_words = Topic::new(["a"; 96].join(".")).unwrap();
    let one_long = Topic::new("a".repeat(TOPIC_BYTES_MAX)).unwrap();
    let deep = Topic::new("a.".repeat(511) + "a").unwrap();
    let hostile = [
        "**.a.**.a.**.a.**.a.**.b".to_owned(),
        format!("{}b", "**.a.".repeat(200)),
        format!("{}b", "**.*a*.".repeat(140)),
        format!("{}b", "*a".repeat(511)),
        format!("*{}b*", "a".repeat(510)),
        format!("*{}b*", "a?".repeat(500)),
        format!("*{}b*", "[!b]".repeat(255)),
        format!("*{}b*", "[a-z]?".repeat(160)),
        format!("{}{}b", "{a,aa}".repeat(6), "*a".repeat(400)),
    ];
    for pattern in hostile.iter().filter_map(|text| Pattern::parse(text).ok()) {
        for topic in [&many_words, &one_long, &deep] {
            let start = Instant::now();
            assert!(!pattern.matches(topic));
            // Much longer than a match takes, and much shorter than backtracking would take.
            assert!(
                start.elapsed() < Duration::from_secs(1),
                "{pattern} on {topic}"
            );
        }
    }
}

#[test]
fn matching_is_left_to_right_once_per_piece() {
    // In each, an inner piece must take its leftmost position, and must not take the last piece's.
    for (pattern, topic, verdict) in [
        ("*ab*ab", "abab", true),
        ("*ab*ab", "xabxab", true),
        ("*ab*ab", "ab", false),
        ("a*a", "a", false),
        ("a*?a", "aa", false),
        ("*?b*", "bb", true),
        ("*[ab]?*c", "abc", true),
        ("é*é", "ééé", true),
    ] {
        let parsed = Pattern::parse(pattern).unwrap();
        assert_eq!(
            parsed.matches(&Topic::new(topic).unwrap()),
            verdict,
            "{pattern} on {topic}"
        );
    }
}

/// The settings of a property test with `cases` cases (few under Miri, which is slow), which writes
/// no files for cases that failed.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) {
            cases.div_ceil(1000)
        } else {
            cases
        },
        failure_persistence: None,
        ..Default::default()
    }
}

/// A text of the parts of the language, which is mostly a valid pattern.
pub(crate) fn pattern_text() -> impl Strategy<Value = String> {
    let plain = "[ab]{1,2}|[abé£,!^\\]-]";
    let class = "\\[[!^]?(a|b|[a-b]-[b-c]|[+,]-9|\\\\[\\]^:-]|[\\[{},:=!^é]){1,4}\\]";
    let atom = prop_oneof![
        6 => plain.prop_map(|text| text),
        2 => Just("*".to_owned()),
        2 => Just("?".to_owned()),
        2 => class.prop_map(|text| text),
        1 => "\\\\[*?{},a\\\\\\[]".prop_map(|text| text),
    ];
    let glob = prop::collection::vec(atom, 1..4).prop_map(|atoms| atoms.concat());
    let segment = prop_oneof![4 => glob, 1 => Just("**".to_owned())].boxed();
    let path = |segments: std::ops::Range<usize>| {
        prop::collection::vec(segment.clone(), segments).prop_map(|segments| segments.join("."))
    };
    let braces = prop::collection::vec(path(0..3), 2..4)
        .prop_map(|alternatives| format!("{{{}}}", alternatives.join(",")));
    let part = prop_oneof![
        6 => path(1..3),
        2 => braces,
        3 => Just(".".to_owned()),
    ];
    prop_oneof![
        1 => path(1..6),
        1 => prop::collection::vec(part, 1..6).prop_map(|parts| parts.concat()),
    ]
}

pub(crate) fn topic_text() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]{1,3}|[+\\-/9é{},!^:=*?\\\\\\]\\[a]{1,2}", 1..6)
        .prop_map(|segments| segments.join("."))
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn random_patterns_match_as_the_naive_implementation_does(
        pattern in pattern_text(),
        topics in prop::collection::vec(topic_text(), 8),
    ) {
        check_parse(pattern.as_bytes());
        let lines = format!("{pattern}\n{}", topics.join("\n"));
        check_match_as(lines.as_bytes(), Syntax::Segments);
    }

    #[test]
    fn random_texts_are_parsed_as_the_naive_implementation_does(
        pattern in "[ab.*?{},\\[\\]\\\\^!:-]{1,12}",
        topics in prop::collection::vec(topic_text(), 4),
    ) {
        check_parse(pattern.as_bytes());
        let lines = format!("{pattern}\n{}", topics.join("\n"));
        check_match_as(lines.as_bytes(), Syntax::Segments);
    }
}
