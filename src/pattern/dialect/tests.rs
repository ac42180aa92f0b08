//! The languages, compared with their naive implementations: all short patterns, random ones, and
//! what each language refuses.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::pattern::fuzzing::{check_match_as, check_parse_as};
use crate::pattern::tests::cases;
use crate::pattern::{PATTERN_BYTES_MAX, Pattern, PatternRule, Syntax, Topic, naive};

const DIALECTS: [Syntax; 5] = [
    Syntax::Nats,
    Syntax::Amqp,
    Syntax::Mqtt,
    Syntax::Path,
    Syntax::Redis,
];

fn parse(text: &str, syntax: Syntax) -> Pattern {
    Pattern::parse_as(text, syntax).unwrap_or_else(|error| panic!("{error}"))
}

/// Every text of up to `length` of the parts.
fn texts(parts: &[&str], length: u32) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut shorter = 0;
    for _ in 0..length {
        let longest = all.len();
        for at in shorter..longest {
            all.extend(
                parts
                    .iter()
                    .map(|part| format!("{}{part}", all[at]))
                    .collect::<Vec<_>>(),
            );
        }
        shorter = longest;
    }
    all
}

fn topics(parts: &[&str], length: u32) -> Vec<Topic> {
    let texts = texts(parts, length);
    texts
        .iter()
        .filter_map(|text| Topic::new(text).ok())
        .collect()
}

/// Compares with the naive implementation on each pattern and topic. Returns how many comparisons
/// that were.
fn compare(patterns: &[String], topics: &[Topic], syntax: Syntax) -> usize {
    let mut compared = 0;
    for text in patterns {
        check_parse_as(text, syntax);
        let parsed = Pattern::parse_as(text, syntax).ok();
        for topic in topics {
            let verdict = parsed.as_ref().map(|parsed| parsed.matches(topic));
            let expected = naive::matches_as(text, topic.as_str(), syntax);
            assert_eq!(verdict, expected, "{syntax} {text:?} on {topic:?}");
            compared += 1;
        }
    }
    compared
}

/// The parts of classes, escapes and stars, and one character of each other kind.
const GLOB_PARTS: [&str; 12] = ["a", "b", ".", "*", "?", "[", "]", "^", "-", "\\", "/", "é"];
const GLOB_TOPIC_PARTS: [&str; 7] = ["a", "b", ".", "/", "]", "-", "é"];

#[test]
fn every_short_glob_matches_as_the_naive_implementation_does() {
    for syntax in [Syntax::Path, Syntax::Redis] {
        let (patterns, some) = (texts(&GLOB_PARTS, 4), topics(&GLOB_TOPIC_PARTS, 3));
        assert_eq!(patterns.len(), 12 + 144 + 1728 + 20736 + 1);
        assert!(compare(&patterns, &some, syntax) > 3_000_000);
        // Every 13th longer one. 13 and 12 are coprime, so all parts occur at each position.
        let longer: Vec<String> = texts(&GLOB_PARTS, 5).into_iter().step_by(13).collect();
        assert!(compare(&longer, &topics(&GLOB_TOPIC_PARTS, 2), syntax) > 500_000);
    }
}

/// Classes can be written in many ways, so they get longer texts: all of up to five of the
/// characters that have a meaning in them, closed or not.
#[test]
fn every_class_has_a_canonical_form() {
    for syntax in [Syntax::Path, Syntax::Redis] {
        for text in texts(&["^", "-", "]", "\\", ",", "."], 5) {
            check_parse_as(&format!("[{text}"), syntax);
            check_parse_as(&format!("[{text}]"), syntax);
        }
    }
}

#[test]
#[ignore = "takes minutes; run it in release when the globs change"]
fn every_glob_of_six_characters_matches_as_the_naive_implementation_does() {
    for syntax in [Syntax::Redis, Syntax::Path] {
        let compared = compare(
            &texts(&GLOB_PARTS, 6),
            &topics(&GLOB_TOPIC_PARTS, 3),
            syntax,
        );
        println!("{syntax}: {compared} comparisons");
    }
}

/// The parts of the languages on segments.
const SEGMENT_PARTS: [(Syntax, [&str; 6]); 3] = [
    (Syntax::Nats, ["a", "$", ".", "*", ">", " "]),
    (Syntax::Amqp, ["a", "$", ".", "*", "#", " "]),
    (Syntax::Mqtt, ["a", "$", ".", "+", "#", "/"]),
];

#[test]
fn every_short_pattern_of_segments_matches_as_the_naive_implementation_does() {
    for (syntax, parts) in SEGMENT_PARTS {
        let topics = topics(&["a", "$", ".", "*", "+"], 5);
        assert!(compare(&texts(&parts, 5), &topics, syntax) > 5_000_000);
    }
}

#[test]
#[ignore = "takes minutes; run it in release when the languages on segments change"]
fn every_pattern_of_seven_characters_matches_as_the_naive_implementation_does() {
    for (syntax, parts) in SEGMENT_PARTS {
        let topics = topics(&["a", "$", ".", "*"], 5);
        let compared = compare(&texts(&parts, 7), &topics, syntax);
        println!("{syntax}: {compared} comparisons");
    }
}

#[test]
fn the_levels_of_a_filter_are_bounded() {
    for level in ["+", "a", ""] {
        let filter = vec![level; 201].join("/");
        let offset = filter.len();
        check_parse_as(&filter, Syntax::Mqtt);
        assert!(Pattern::parse_as(&filter, Syntax::Mqtt).is_ok());
        let error = Pattern::parse_as(&(filter + "/#"), Syntax::Mqtt).expect_err(level);
        let (rule, text) = (error.rule(), error.to_string());
        assert_eq!((rule, error.offset()), (PatternRule::TooManyLevels, offset));
        assert!(text.ends_with("a filter has 201 levels at most"), "{text}");
    }
}

#[test]
fn refusals_name_rule_and_offset() {
    use PatternRule as Rule;
    for (syntax, text, rule, offset) in [
        (Syntax::Nats, "", Rule::Empty, 0),
        (Syntax::Nats, "a..b", Rule::EmptySegment, 2),
        (Syntax::Nats, ".a", Rule::EmptySegment, 0),
        (Syntax::Nats, "a.", Rule::EmptySegment, 2),
        (Syntax::Nats, "a.>.b", Rule::RestNotLast, 2),
        (Syntax::Nats, "a.b c", Rule::WhiteSpace, 3),
        (Syntax::Nats, "\t", Rule::WhiteSpace, 0),
        (Syntax::Nats, "a\r\n", Rule::WhiteSpace, 1),
        (Syntax::Nats, "a\x0c", Rule::WhiteSpace, 1),
        (Syntax::Mqtt, "", Rule::Empty, 0),
        (Syntax::Mqtt, "a/b+", Rule::GluedWildcard, 3),
        (Syntax::Mqtt, "+a", Rule::GluedWildcard, 0),
        (Syntax::Mqtt, "##", Rule::GluedWildcard, 0),
        (Syntax::Mqtt, "a/#/b", Rule::RestNotLast, 2),
        (Syntax::Mqtt, "#/", Rule::RestNotLast, 0),
        (Syntax::Mqtt, "$share/g/a", Rule::SharedSubscription, 0),
        (Syntax::Mqtt, "$share", Rule::SharedSubscription, 0),
        (Syntax::Mqtt, "a\0", Rule::Control, 1),
        (Syntax::Mqtt, "a\u{85}", Rule::Control, 1),
        (Syntax::Mqtt, "aé\u{fdd0}", Rule::Noncharacter, 3),
        (Syntax::Mqtt, "\u{1ffff}", Rule::Noncharacter, 0),
        (Syntax::Path, "a[", Rule::UnclosedClass, 1),
        (Syntax::Path, "a[^", Rule::UnclosedClass, 1),
        (Syntax::Path, "a[b", Rule::UnclosedClass, 1),
        (Syntax::Path, "a[b-", Rule::UnclosedClass, 1),
        (Syntax::Path, "[]", Rule::EmptyClass, 0),
        (Syntax::Path, "x[^]", Rule::EmptyClass, 1),
        (Syntax::Path, "[]a]", Rule::LeadingBracket, 1),
        (Syntax::Path, "[-]", Rule::BareDash, 1),
        (Syntax::Path, "[a-]", Rule::BareDash, 2),
        (Syntax::Path, "[a--]", Rule::BareDash, 2),
        (Syntax::Path, "[x-\\", Rule::TrailingBackslash, 3),
        (Syntax::Path, "[a-b-c]", Rule::ChainedRange, 4),
        (Syntax::Path, "a*\\", Rule::TrailingBackslash, 2),
    ] {
        let error = Pattern::parse_as(text, syntax).expect_err(text);
        assert_eq!((error.rule(), error.offset()), (rule, offset), "{error}");
        assert_eq!(error.syntax(), syntax);
        assert!(
            error
                .to_string()
                .starts_with(&format!("{syntax} pattern `")),
            "{error}"
        );
        assert_eq!(naive::matches_as(text, "a", syntax), None, "{text}");
    }
}

#[test]
fn length_at_the_bound_and_one_past() {
    for syntax in DIALECTS {
        let text = "a".repeat(PATTERN_BYTES_MAX);
        assert!(parse(&text, syntax).matches(&Topic::new(&text).unwrap()));
        let error = Pattern::parse_as(&(text + "a"), syntax).unwrap_err();
        assert_eq!(error.rule(), PatternRule::TooLong, "{error}");
        assert_eq!(error.offset(), PATTERN_BYTES_MAX);
    }
}

#[test]
fn canonical_forms() {
    for (syntax, text, canonical) in [
        (Syntax::Nats, "*.a*.>", "*.a*.>"),
        (Syntax::Amqp, "#.*.a.#.#.*.#", "*.#.a.*.#"),
        (Syntax::Amqp, "", ""),
        (Syntax::Mqtt, "+//a.b/#", "+//a.b/#"),
        (Syntax::Path, "", "*"),
        (Syntax::Path, "***", "**"),
        (Syntax::Path, "a***b\\c\\*", "a*bc\\*"),
        (
            Syntax::Path,
            "[cba][z-x][^z-x][b][\\^][^^]",
            "[a-c][b-a][^b-a]b^[^^]",
        ),
        (Syntax::Path, "[\\^a\\-]]", "[\\-^a]]"),
        (Syntax::Redis, "a***b\\c\\*", "a*bc\\*"),
        (Syntax::Redis, "[cba][z-x][b][^^][^]", "[a-c][x-z]b[^^]?"),
        (Syntax::Redis, "[a^][^-a][-,a]", "[a^][^-a][-,a]"),
        (Syntax::Redis, "[\\--a]", "[-a]"),
        (Syntax::Redis, "[ab", "[ab"),
        (Syntax::Redis, "[a^-\\]", "[a^-\\]"),
        (Syntax::Redis, "[_^]", "[_^]"),
        (Syntax::Redis, "[\\\\^-\\]", "[\\\\\\]^]"),
        (Syntax::Redis, "[_^`]", "[`-^]"),
        (Syntax::Redis, "[[\\]-a]", "[-[\\]a]"),
        (Syntax::Redis, "a\\", "a\\"),
        (Syntax::Redis, "[\\\\]", "\\"),
        (Syntax::Redis, "[é-z]", "[é-z]"),
    ] {
        check_parse_as(text, syntax);
        assert_eq!(
            parse(text, syntax).to_string(),
            canonical,
            "{syntax} {text}"
        );
    }
}

/// Each is described in the documentation of its language.
#[test]
fn documented_details() {
    for (syntax, text, topic, verdict) in [
        (Syntax::Nats, "a*.>>", "a*.>>", true),
        (Syntax::Nats, "a*.>>", "ab.c", false),
        (Syntax::Nats, "a.>", "a", false),
        (Syntax::Amqp, "#.a.#", "a", true),
        (Syntax::Amqp, "a.", "a", false),
        (Syntax::Mqtt, "a/#", "a", true),
        (Syntax::Mqtt, "a.b", "a.b", false),
        (Syntax::Mqtt, "#", "$SYS.x", false),
        (Syntax::Mqtt, "+/x", "$SYS.x", false),
        (Syntax::Mqtt, "$SYS/+", "$SYS.x", true),
        (Syntax::Mqtt, "a/+", "a.$x", true),
        (Syntax::Path, "?", "é", true),
        (Syntax::Path, "*[^é]", "é", true),
        (Syntax::Path, "*[/b]*c", "b/c", false),
        (Syntax::Path, "*", "a/b", true),
        (Syntax::Path, "", "a/b", true),
        (Syntax::Path, "**", "a/b", false),
        (Syntax::Path, "**", "a.b", true),
        (Syntax::Path, "a.*", "a.b.c", true),
        (Syntax::Path, "[^a]", "/", true),
        (Syntax::Redis, "?", "é", false),
        (Syntax::Redis, "??", "é", true),
        (Syntax::Redis, "[é][é]", "é", true),
        (Syntax::Redis, "[]", "]", false),
        (Syntax::Redis, "[^]", "]", true),
        (Syntax::Redis, "[ab", "b", true),
        (Syntax::Redis, "a\\", "a\\", true),
        (Syntax::Redis, "[a\\", "\\", true),
        (Syntax::Redis, "[a-]", "^", true),
        (Syntax::Redis, "[\\a-c]", "b", false),
        (Syntax::Redis, "[c-a]", "b", true),
        (Syntax::Redis, "[é-z]", "z", true),
        (Syntax::Redis, "[é-z]", "~", false),
        (Syntax::Redis, "", "a", false),
        (Syntax::Redis, "a.*", "a.b.c", true),
        (Syntax::Redis, "a.*", "a", false),
    ] {
        let found = parse(text, syntax).matches(&Topic::new(topic).unwrap());
        assert_eq!(found, verdict, "{syntax} {text} on {topic}");
        assert_eq!(naive::matches_as(text, topic, syntax), Some(verdict));
    }
}

#[test]
fn patterns_of_two_dialects_are_never_equal() {
    for one in Syntax::ALL {
        for other in Syntax::ALL {
            assert_eq!(parse("a", one) == parse("a", other), one == other);
            assert_eq!(parse("a", one).cmp(&parse("a", other)), one.cmp(&other));
        }
    }
}

#[test]
fn hostile_globs_are_cheap() {
    let topics = [
        "a".repeat(1024),
        "é".repeat(512),
        "a.".repeat(511) + "a",
        "ab".repeat(512),
        "z".repeat(1024),
    ];
    let hostile = [
        format!("{}b.b", "*a".repeat(510)),
        format!("*{}b*", "a".repeat(510)),
        format!("*{}b*", "a?".repeat(255)),
        format!("*{}b*", "?a".repeat(255)),
        format!("{}*c", "*?".repeat(510)),
        format!("*{}b*c", "[^b]".repeat(127)),
        format!("*{}c", "[a-é]".repeat(170)),
        format!("*[{}]c*", "a-c".repeat(338)),
        format!("*{}x*", "é".repeat(255)),
        format!("{}x", "*é".repeat(340)),
    ];
    for syntax in [Syntax::Path, Syntax::Redis] {
        for text in &hostile {
            let pattern = parse(text, syntax);
            for topic in &topics {
                let topic = Topic::new(topic).unwrap();
                let start = Instant::now();
                let verdict = pattern.matches(&topic);
                let elapsed = start.elapsed();
                let expected = naive::matches_as(text, topic.as_str(), syntax);
                assert_eq!(Some(verdict), expected, "{pattern} on {topic}");
                // Much longer than a match takes, and much shorter than backtracking would take.
                assert!(elapsed < Duration::from_secs(1), "{pattern} on {topic}");
                println!("{elapsed:?} {syntax} {:.12} on {:.4}", text, topic.as_str());
            }
        }
    }
}

/// Texts in which the wildcards, separators and special cases of the language are common.
fn text(syntax: Syntax) -> BoxedStrategy<String> {
    let part = match syntax {
        Syntax::Segments | Syntax::Nats => "[ab]{1,2}|\\*|>|\\$|\\.",
        Syntax::Amqp => "[ab]{1,2}|\\*|#|\\$|\\.",
        Syntax::Mqtt => "[ab]{1,2}|/\\+|/#|\\+/|\\$|/|\\.",
        _ => "[ab.]{1,3}|\\*|\\?|/|é|\\\\|\\\\[*?\\[\\\\a-c]|\\[\\^?[a-c.\\]\\\\^/é-]{0,4}\\]?",
    };
    let parts = prop::collection::vec(part, 1..10);
    parts.prop_map(|parts| parts.concat()).boxed()
}

fn text_of_any() -> impl Strategy<Value = (Syntax, String)> {
    prop::sample::select(&DIALECTS[..]).prop_flat_map(|syntax| (Just(syntax), text(syntax)))
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn random_patterns_match_as_the_naive_implementation_does(
        (syntax, pattern) in text_of_any(),
        topics in prop::collection::vec("\\$?[ab]{1,2}([./][ab$]{1,2}|[]^é-]){0,5}", 8),
    ) {
        check_parse_as(&pattern, syntax);
        check_match_as(format!("{pattern}\n{}", topics.join("\n")).as_bytes(), syntax);
    }
}

/// The canonical text of a class depends on the neighbours of each item and on the ranges that they
/// would make.
#[test]
fn the_canonical_text_of_a_class_has_its_meaning_and_is_not_longer() {
    let check = |class: &[u8]| {
        let class = std::str::from_utf8(class).expect("ASCII");
        for text in [format!("x[{class}]y"), format!("x[^{class}]y")] {
            check_parse_as(&text, Syntax::Redis);
            check_parse_as(&text, Syntax::Path);
        }
    };
    for first in b' '..=b'~' {
        for second in b' '..=b'~' {
            check(&[first, second]);
            check(&[first, b'-', second]);
        }
    }
    let special = b"Z[\\]^_`ab+,-.";
    for first in special {
        for second in special {
            for third in special {
                check(&[*first, *second, *third]);
                check(&[*first, b'-', *second, *third]);
                check(&[*third, *first, b'-', *second]);
                for fourth in special {
                    check(&[*first, *second, *third, *fourth]);
                }
            }
        }
    }
}
